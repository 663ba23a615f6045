# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module apart from the connection, so that it does not end with it, and tells meanwhile how far it is."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
import typing as t
from collections.abc import Iterator

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display

from ansible_collections.ferry.podman.plugins.plugin_utils._progress import FIRST, Reporter, find_entry

display = Display()

SWITCH = "ferry_podman_progress"
JOURNAL = "/var/lib/ferry"

NO_LIMIT = 10 * 365 * 86400
"""Seconds. The module has limits of its own; at the wrapper's it would be killed with no chance to tidy up."""

LONGEST_WAIT = 20.0
"""Seconds of silence in one command: routers forget connections that are silent for long."""

PATIENCE = 300.0
"""Seconds without the host before it is given up. The move goes on there in any case."""

PAUSE = 2.0
"""Seconds between two attempts to reach it."""

TICK = 0.2

# The host waits, not the controller: every command is a line in the host's log, and would see the end late.
# Whether it is alive is asked before whether it is over, because it writes its result before it ends.
WAIT = """
running() {{ grep -qs '^{{"started": ' {job}; }}
same() {{ [ -z {mark} ] || grep -qsF -e {mark} {journal}/*.json; }}
left={ticks}
while running && same && [ "$left" -gt 0 ]; do sleep {tick}; left=$((left - 1)); done
cat /proc/[0-9]*/cmdline 2>/dev/null | grep -qszx {process}; alive=$?
state=over; running && state=running
echo "$state $alive $(date +%s)"
grep -hs . {journal}/*.json || :
"""

Json = dict[str, t.Any]
T = t.TypeVar("T")


class ActionModule(NormalAction):
    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        task_vars = task_vars or {}
        # Ansible polls for itself if the task says async; and in check mode nothing takes long.
        if self._task.async_val or self._task.check_mode or self._connection.has_native_async:
            return t.cast(Json, super().run(tmp, task_vars))
        began = time.monotonic()
        directory = self._connection._shell.tmpdir or self._make_tmp_path()  # forgotten once the module runs
        started = self._start(task_vars)
        if not started.get("ansible_job_id"):
            return started
        job = Job(started, directory)
        result = self._follow(job, self._watch(task_vars, began), task_vars)
        with contextlib.suppress(AnsibleConnectionFailure):
            self._low_level_execute_command(f"rm -f {shlex.quote(job.file)}")
        return result

    def _watch(self, task_vars: Json, began: float) -> Watch:
        container = str(self._task.args.get("name"))
        return Watch(self._journal(), container, self._reporter(task_vars, container, began), began)

    def _start(self, task_vars: Json) -> Json:
        with self._time_limit():
            return t.cast(Json, self._execute_module(task_vars=task_vars, wrap_async=True))

    @contextlib.contextmanager
    def _time_limit(self) -> Iterator[None]:
        """The wrapper's is that of the task, where it must not stay: Ansible would wait for the end once more."""
        self._task.async_val = NO_LIMIT
        try:
            yield
        finally:
            self._task.async_val = 0

    def _journal(self) -> str:
        path = str(self._task.args.get("journal") or JOURNAL)
        return str(self._remote_expand_user(path)) if path.startswith("~") else path

    def _reporter(self, task_vars: Json, subject: str, began: float) -> Reporter | None:
        wanted = self._templar.template(task_vars.get(SWITCH, os.environ.get(SWITCH.upper(), True)))
        if self._task.no_log or not boolean(wanted, strict=False):
            return None
        return Reporter(f"[{task_vars['inventory_hostname']}] {subject}", began)

    def _follow(self, job: Job, watch: Watch, task_vars: Json) -> Json:
        while True:
            over, alive = self._patiently(watch, lambda: watch.take(self._ask(watch.question(job))))
            result = self._patiently(watch, lambda: self._result(job, task_vars)) if over else None
            if result is not None:
                return result
            if not over and not alive:
                return no_result("it or the wrapper that keeps its result was killed, or the host was started anew")

    def _patiently(self, watch: Watch, action: t.Callable[[], T]) -> T:
        """A lost connection is made anew, because the move goes on without it."""
        lost: float | None = None
        while True:
            try:
                return action()
            except AnsibleConnectionFailure:
                lost = lost or time.monotonic()
                if time.monotonic() > lost + PATIENCE:
                    raise
                watch.tell_of_loss()
                time.sleep(PAUSE)

    def _ask(self, command: str) -> list[str]:
        answer = self._low_level_execute_command(command)
        lines = str(answer["stdout"]).splitlines()
        if answer["rc"] != 0 or not lines:
            raise AnsibleConnectionFailure(f"The host cannot be asked how far the move is: {answer['stderr']}")
        return lines

    def _result(self, job: Job, task_vars: Json) -> Json | None:
        """Just what the module returned; nothing if it is not over after all."""
        options = {"jid": job.name, "_async_dir": os.path.dirname(job.file)}
        result: Json = self._execute_module(
            module_name="ansible.legacy.async_status", module_args=options, task_vars=task_vars
        )
        if not result.get("finished"):
            return None
        return result_of_module(result)


class Job:
    """A module that runs by itself.

    :param started: what Ansible's wrapper said when it began.
    :param directory: where the module is on the host.
    """

    def __init__(self, started: Json, directory: str) -> None:
        self.name: str = started["ansible_job_id"]
        self.file: str = started["results_file"]
        self._directory = os.path.basename(directory.rstrip("/"))

    @property
    def process(self) -> str:
        """Pattern of the argument that only the module and its wrapper have; does not match itself."""
        return f".*/[{self._directory[0]}]{self._directory[1:]}/AnsiballZ_[a-z_]*[.]py"


class Watch:
    """What is seen of one move."""

    def __init__(self, journal: str, container: str, reporter: Reporter | None, began: float) -> None:
        self._journal = journal
        self._container = container
        self._reporter = reporter
        self._began = began
        self._since: float | None = None
        self._mark = ""
        self._lost = False

    def question(self, job: Job) -> str:
        """The command that waits for the end, for another phase, or until a line is due."""
        # One line for sudo's log.
        return "; ".join(WAIT.strip().splitlines()).format(
            job=shlex.quote(job.file),
            mark=shlex.quote(self._mark),
            journal=shlex.quote(self._journal) if self._reporter else "/nonexistent",
            process=shlex.quote(job.process),
            ticks=max(1, round(self._seconds() / TICK)),
            tick=TICK,
        )

    def take(self, lines: list[str]) -> tuple[bool, bool]:
        """Returns whether it is over, and whether it is alive."""
        state, alive, clock = lines[0].split()
        self._lost = False
        if self._reporter is not None:
            self._report(self._reporter, lines[1:], float(clock))
        # Any other status: the host's grep cannot tell.
        return state == "over", alive != "1"

    def tell_of_loss(self) -> None:
        if self._reporter is not None and not self._lost:
            say(self._reporter.sentence("no answer from the host; the move goes on there, and it is asked again"))
        self._lost = True

    def _seconds(self) -> float:
        now = time.monotonic()
        if self._reporter is None:
            return LONGEST_WAIT
        if not self._mark:
            return min(LONGEST_WAIT, max(FIRST, (now - self._began) / 4))
        return min(LONGEST_WAIT, self._reporter.due_in(now))

    def _report(self, reporter: Reporter, journals: list[str], host_now: float) -> None:
        now = time.monotonic()
        entry = find_entry(journals, self._container, self._since_then(now, host_now))
        self._mark = entry.mark if entry is not None else ""
        line = reporter.line(entry, now, host_now) if entry is not None else None
        if line is not None:
            say(line)

    def _since_then(self, now: float, host_now: float) -> float:
        """When this run began, by the host's clock."""
        if self._since is None:
            self._since = host_now - (now - self._began) - 2  # whole seconds, on both ends
        return self._since


def say(line: str) -> None:
    """On stderr: it is never held back in a buffer, and what callbacks write for machines stays whole."""
    display.display(line, stderr=True)


def result_of_module(result: Json) -> Json:
    """Without what the wrapper and async_status added."""
    if {"cmd", "data", "stderr"} <= result.keys():  # what the module printed was no result
        return no_result("it crashed or was killed", module_stdout=result["data"], module_stderr=result["stderr"])
    added = ("ansible_job_id", "started", "finished", "results_file", "stderr", "stderr_lines")
    return {key: value for key, value in result.items() if key not in added}


def no_result(reason: str, **details: t.Any) -> Json:
    remedy = "Run it again: the next run finishes or undoes what this one has begun."
    return {"failed": True, "msg": f"The module ended without a result: {reason}. {remedy}", **details}
