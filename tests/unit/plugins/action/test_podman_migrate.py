# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the host is asked while a move runs, by a real shell; the plugin as a whole is tested on real hosts."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

from ansible_collections.ferry.podman.plugins.action import podman_migrate as plugin
from ansible_collections.ferry.podman.plugins.plugin_utils._progress import Reporter

ID = "4f1f" * 16
# Processes are looked for by it, and several runs of these tests go on at once.
JOB = f"j{random.randrange(10**11, 10**12)}"
DIRECTORY = f"/var/tmp/ansible-tmp-{random.randrange(10**9)}.5-7-{random.randrange(10**12)}"
RUNNING = json.dumps({"started": True, "finished": False, "ansible_job_id": f"{JOB}.1"})


class Host:
    """The files of a move, and the command that looks at them."""

    def __init__(self, directory: pathlib.Path, began: float) -> None:
        self.file = directory / f"{JOB}.1"
        self.file.write_text(RUNNING)
        self.journals = directory / "journal"
        self.journals.mkdir()
        self.job = plugin.Job({"ansible_job_id": f"{JOB}.1", "results_file": str(self.file)}, DIRECTORY)
        self.watch = plugin.Watch(str(self.journals), "db", Reporter("[node1] db", began), began)

    def write(self, phase: str, begun: float, sent: int = 0) -> None:
        fields = {"id": ID, "name": "db", "phase": phase, "phase_begun": begun, "sent": sent, "expected": 2 * sent}
        (self.journals / f"{ID}.json").write_text(json.dumps(fields))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(["sh", "-c", self.watch.question(self.job)], text=True, stdout=subprocess.PIPE)

    def ask(self) -> tuple[bool, bool]:
        return self.end(self.start())

    def end(self, process: subprocess.Popen[str]) -> tuple[bool, bool]:
        output = process.communicate(timeout=30)[0]
        return self.watch.take(output.splitlines())


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(plugin, "say", lines.append)
    return lines


@pytest.fixture
def host(tmp_path, said, monkeypatch) -> Host:
    # The move has run for a while: every line is due, and a question waits for a moment only.
    monkeypatch.setattr(plugin, "FIRST", 0.2)
    return Host(tmp_path, time.monotonic() - 3.5)


@pytest.fixture
def module():
    """A process with the argument that Ansible gives to the module's."""
    argument = f"{DIRECTORY}/AnsiballZ_podman_migrate.py"
    process = subprocess.Popen([sys.executable, "-c", "input()", argument], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_end_is_seen(host: Host) -> None:
    host.file.write_text('{"changed": true, "started": true}')
    assert host.ask()[0]


def test_file_that_is_gone_is_an_end(host: Host) -> None:
    host.file.unlink()
    assert host.ask()[0]


def test_end_interrupts_the_waiting(host: Host, module) -> None:
    process = host.start()
    host.file.write_text('{"changed": true}')
    assert host.end(process) == (True, True)


def test_module_that_died_is_seen(host: Host, module) -> None:
    assert host.ask() == (False, True)
    module.kill()
    module.wait()
    assert host.ask() == (False, False)


def test_phases_are_told(host: Host, said: list[str]) -> None:
    now = time.time()
    host.write("freeze", now)
    host.ask()
    assert [line.partition(" for ")[0] for line in said] == ["[node1] db: freeze"]
    process = host.start()
    host.write("transfer", now + 1, sent=50 * 1024**2)
    host.end(process)
    assert [line.split(",")[0] for line in said[1:]] == ["[node1] db: transfer 50 of about 100 MiB"]


def test_journal_of_an_earlier_run_is_not_told(host: Host, said: list[str]) -> None:
    host.write("restore", time.time() - 100)
    host.ask()
    assert said == []


def test_loss_is_told_once_for_each(host: Host, said: list[str]) -> None:
    host.watch.tell_of_loss()
    host.watch.tell_of_loss()
    assert len(said) == 1
    host.ask()
    host.watch.tell_of_loss()
    assert len(said) == 2


def test_quiet_watch_asks_only_for_the_end(tmp_path, said: list[str]) -> None:
    host = Host(tmp_path, time.monotonic() - 3.5)
    host.watch = plugin.Watch(str(host.journals), "db", None, 0.0)
    host.write("freeze", time.time())
    host.file.write_text('{"changed": true}')
    assert host.ask() == (True, False)
    host.watch.tell_of_loss()
    assert said == []


@pytest.mark.parametrize("directory", ["/var/lib/it's mine", "/tmp/$(touch x)"])
def test_names_are_quoted(tmp_path, directory: str) -> None:
    started = {"ansible_job_id": f"{JOB}.1", "results_file": f"{directory}/{JOB}.1"}
    job = plugin.Job(started, f"{directory}/{os.path.basename(DIRECTORY)}")
    question = plugin.Watch(directory, "db", Reporter("x", 0.0), 0.0).question(job)
    done = subprocess.run(["sh", "-c", question], cwd=tmp_path, text=True, capture_output=True, check=True, timeout=30)
    assert done.stdout.startswith("over ")
    assert (done.stderr, list(tmp_path.iterdir())) == ("", [])


# -- results --------------------------------------------------------------------------------------------------------


def test_nothing_of_the_wrapper_is_left_in_the_result() -> None:
    values = {"changed": True, "warnings": ["careful"], "diff": {"before": 1}, "exception": "x", "failed": False}
    added = {"ansible_job_id": f"{JOB}.1", "started": True, "finished": True, "stderr": "noise", "stderr_lines": []}
    assert plugin.result_of_module({**values, **added}) == values


def test_crash_shows_what_the_module_printed() -> None:
    result = plugin.result_of_module({"failed": True, "cmd": "x", "data": "out", "stderr": "err", "msg": "Traceback"})
    assert (result["failed"], result["module_stdout"], result["module_stderr"]) == (True, "out", "err")
    assert "without a result" in result["msg"]
