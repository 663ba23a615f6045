# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What is seen of a move while it runs, and that it does not end with whoever watches it.

To have all the time that is needed, the tests stop the module's process in the middle of its work.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from helpers import ROOT, SCRATCH, Box, Json, Node, descendants, inventory, wait_until
from road import Road

STOP_HOLDER = """
import glob, os, signal, sys, time
def phase():
    try:
        return "".join(open(path).read() for path in glob.glob("/var/lib/ferry/*.json"))
    except FileNotFoundError:
        return ""
def holder():
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link).startswith("/run/lock/ferry.podman/"):
                return int(link.split("/")[2])
        except (FileNotFoundError, ProcessLookupError):
            pass
end = time.monotonic() + 60
while time.monotonic() < end:
    found = f'"phase": "{sys.argv[1]}"' in phase() or not sys.argv[1]
    found = found and holder()
    if found:
        os.kill(found, signal.SIGSTOP)
        print(found)
        break
"""
"""Waits for the module that holds a container to come to a phase, and stops it."""

KILL_WITH_WRAPPER = """
import os, signal, sys
process = int(sys.argv[1])
while process:
    parent = int(open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[1])
    os.kill(process, signal.SIGKILL)
    process = parent if b"async_wrapper" in open(f"/proc/{parent}/cmdline", "rb").read() else 0
"""
"""Nothing is left of the module, as after a reboot."""


class Play:
    """A playbook that moves a container, while it runs."""

    def __init__(self, source: Node, directory: pathlib.Path, tasks: list[Json], *arguments: str, **environment: str):
        playbook = directory / "play.yml"
        playbook.write_text(json.dumps([{"hosts": source.name, "gather_facts": False, "tasks": tasks}]))
        self.module = 0  # its process on the host
        self._output, self._errors = directory / "stdout", directory / "stderr"
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", inventory(), str(playbook), *arguments]
        with open(self._output, "w") as output, open(self._errors, "w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def stdout(self) -> str:
        return self._output.read_text()

    @property
    def stderr(self) -> str:
        return self._errors.read_text()

    def lines(self, box: Box) -> list[str]:
        """What was said of the move."""
        start = f"[{box.node.name}] {box.name}: "
        return [line[len(start) :] for line in self.stderr.splitlines() if line.startswith(start)]

    def finish(self) -> None:
        assert self.process.wait(timeout=120) == 0, self.stdout + self.stderr

    def cut_connections(self) -> int:
        """Returns how many there were."""
        cut = 0
        for process in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if pathlib.Path(f"/proc/{process}/comm").read_text().strip() == "ssh":
                    os.kill(process, signal.SIGKILL)
                    cut += 1
        return cut

    def kill(self, number: signal.Signals) -> None:
        """The program and all that it started here: its workers are no children of a shell's job."""
        for process in [self.process.pid, *descendants(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        self.process.wait(timeout=60)


def move_task(road: Road, box: Box, **more: object) -> Json:
    return {"ferry.podman.podman_migrate": road._options(box.name), "register": "moved", **more}


@contextlib.contextmanager
def stopped(road: Road, begin: Callable[[], Play], phase: str = "") -> Iterator[Play]:
    """A move in the middle of which the module stands still; it goes on afterwards.

    :param phase: in which it is stopped; any.
    """
    stopper = road.source.popen("python3", "-c", STOP_HOLDER, phase)
    play = begin()
    holder = (stopper.communicate(timeout=90)[0] or "").strip()
    assert holder, play.stdout + play.stderr
    play.module = int(holder)
    try:
        yield play
    finally:
        road.source.run("kill", "-CONT", holder, check=False)


def test_phase_and_bytes_are_told_while_it_runs(road: Road, tmp_path: pathlib.Path) -> None:
    road.transfer = "stream"
    box = road.source.start_on_lan("keeper", command=("40",))
    memory = box.memory()
    show = {"ansible.builtin.debug": {"msg": "{{ moved | to_json }}"}}
    with stopped(road, lambda: Play(road.source, tmp_path, [move_task(road, box), show]), "transfer") as play:
        wait_until(lambda: any("of about 5" in line for line in play.lines(box)), "the bytes")
        assert play.lines(box)[-1].startswith("transfer")
    play.finish()
    memory.goes_on_in(road.arrived(box))
    assert not set("\r\x1b") & set(play.stderr)
    assert f"[{road.source.name}] {box.name}: " not in play.stdout
    assert "downtime_ms" in play.stdout
    for added in ("ansible_job_id", "finished", "started", "results_file"):
        assert added not in play.stdout
    assert road.source.sh("ls -A ~/.ansible_async") == ""


def test_lost_connection_is_made_anew(road: Road, tmp_path: pathlib.Path) -> None:
    box = road.source.start()
    with stopped(road, lambda: Play(road.source, tmp_path, [move_task(road, box)]), "freeze") as play:
        wait_until(lambda: play.lines(box), "the first line")
        wait_until(play.cut_connections, "a connection")
        wait_until(lambda: play.lines(box)[-1].startswith("no answer"), "the line about it")
    play.finish()
    road.arrived(box)


@pytest.mark.parametrize("way", ["variable", "environment"])
def test_quiet_on_request(road: Road, tmp_path: pathlib.Path, way: str) -> None:
    box = road.source.start()
    arguments = ["-e", "ferry_podman_progress=false"] if way == "variable" else []
    environment = {"FERRY_PODMAN_PROGRESS": "0"} if way == "environment" else {}
    with stopped(
        road, lambda: Play(road.source, tmp_path, [move_task(road, box)], *arguments, **environment), "freeze"
    ) as play:
        time.sleep(5)  # a line would be due after three
    play.finish()
    assert play.lines(box) == []
    road.arrived(box)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_move_goes_on_without_the_controller(
    road: Road,
    tmp_path: pathlib.Path,
    number: signal.Signals,
) -> None:
    box = road.source.start_on_lan("keeper", command=("20",))
    memory = box.memory()
    road.source.later("sh", "-c", "rm -rf ~/.ansible_async")
    with stopped(road, lambda: Play(road.source, tmp_path, [move_task(road, box)])) as play:
        play.kill(number)
        assert box.name in road.source.names()
    wait_until(lambda: box.name not in road.source.names(), "the move to end", seconds=60)
    memory.goes_on_in(road.arrived(box))
    wait_until(lambda: "downtime_ms" in road.source.sh("cat ~/.ansible_async/j*"), "the result that nobody fetched")


def test_module_that_dies_is_not_waited_for(road: Road, tmp_path: pathlib.Path) -> None:
    box = road.source.start()
    life = box.life
    task = move_task(road, box, ignore_errors=True)
    road.source.later("sh", "-c", "rm -rf /tmp/ferry-ssh-* ~/.ansible_async")
    # The other way round: what comes last is done first.
    road.source.later("pkill", "-f", "ControlPath=/tmp/ferry-ssh-")
    with stopped(road, lambda: Play(road.source, tmp_path, [task])) as play:
        road.source.run("python3", "-c", KILL_WITH_WRAPPER, str(play.module))
    play.finish()
    assert "The module ended without a result" in play.stdout
    assert box.life == life


@pytest.mark.parametrize(
    "keywords",
    [{"async": 60, "poll": 1}, {"check_mode": True}, {"no_log": True}, {"become": True}],
    ids=lambda keywords: next(iter(keywords)),
)
def test_keywords_of_the_task(road: Road, tmp_path: pathlib.Path, keywords: Json) -> None:
    box = road.source.start()
    show = {"ansible.builtin.debug": {"msg": "at the {{ moved.location }}"}}
    play = Play(road.source, tmp_path, [move_task(road, box, **keywords), show])
    play.finish()
    assert f"at the {'source' if 'check_mode' in keywords else 'destination'}" in play.stdout
    assert (box.name in road.source.names()) == ("check_mode" in keywords)


def test_options_of_the_action_group(road: Road, tmp_path: pathlib.Path) -> None:
    box = road.source.start()
    common = {"group/ferry.podman.podman": {"url": f"unix://{SCRATCH}/nowhere.sock"}}
    play = Play(road.source, tmp_path, [move_task(road, box, module_defaults=common)])
    assert play.process.wait(timeout=60) != 0
    assert f"{SCRATCH}/nowhere.sock" in play.stdout + play.stderr
    assert box.name in road.source.names()
