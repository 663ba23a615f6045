# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _host
from ansible_collections.ferry.podman.plugins.module_utils._host import (
    PROBE,
    LocalHost,
    free_bytes,
    probe,
    process_facts,
)


@pytest.fixture
def host() -> LocalHost:
    def run(command: list[str]) -> tuple[int, str, str]:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return 127, "", str(error)
        return done.returncode, done.stdout, done.stderr

    return LocalHost(run)


def test_criu_that_works(host, programs) -> None:
    noted = programs("criu", 'case "$*" in --version) echo "Version: 4.1";; check) echo "Looks good.";; esac')
    assert host.criu() == {"version": "4.1.0", "check": True, "check_output": ["Looks good."], "mem_track": True}
    assert noted.read_text().split() == ["--version", "check", "check", "--feature", "mem_dirty_track"]


def test_criu_that_does_not_suit_the_kernel(host, programs) -> None:
    programs(
        "criu",
        'case "$*" in --version) echo "Version: 4.1.1" ;; *)'
        ' echo "(00.1) Warn: x"; echo "(00.2) Error (criu/cr-check.c:1): no ptrace" >&2; exit 1 ;; esac',
    )
    assert host.criu() == {
        "version": "4.1.1",
        "check": False,
        "check_output": ["Error (criu/cr-check.c:1): no ptrace"],
        "mem_track": False,
    }


def test_missing_criu(host, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    criu = host.criu()
    assert (criu["version"], criu["check"], criu["mem_track"]) == (None, False, None)


def test_free_space_is_asked_where_podman_writes(host, make_host, tmp_path) -> None:
    info = make_host(store={"graphRoot": str(tmp_path), "imageCopyTmpDir": "/nonexistent"})
    space = host.free_space(info)
    assert list(space) == ["/nonexistent", str(tmp_path)]
    assert space["/nonexistent"] is None
    assert space[str(tmp_path)] > 0


def test_places_on_one_file_system_are_told_together(host, make_host, tmp_path) -> None:
    info = make_host(store={"graphRoot": str(tmp_path), "imageCopyTmpDir": str(tmp_path / "absent")})
    (one,) = host.file_systems(info)
    assert one["paths"] == [str(tmp_path / "absent"), str(tmp_path)]
    assert one["type"] and one["free"] > 0 and str(tmp_path).startswith(one["mount"])
    info = make_host(store={"graphRoot": str(tmp_path), "imageCopyTmpDir": "/proc"})
    assert {system["mount"]: system["type"] for system in host.file_systems(info)}["/proc"] == "proc"


def test_memory_is_that_of_this_machine(host) -> None:
    assert host.memory() > 1 << 20


def test_free_bytes_are_those_of_the_file_system(tmp_path) -> None:
    free = free_bytes(str(tmp_path))
    assert free is not None
    # Others write meanwhile.
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 28
    assert free_bytes(str(tmp_path / "absent")) is None


# -- what is asked of both hosts ------------------------------------------------------------------------------

ID = "1f" * 32
ANSWER = "@now\n1\n@kernel\n6.1.0 x86_64\n@end\n"


def test_this_host_is_asked(client) -> None:
    facts = probe(client.transport)
    assert facts is not None and facts.kernel == os.uname().release


def test_other_host_is_asked_with_that_very_command(libpod, forwarded, programs) -> None:
    there = forwarded(libpod)
    noted = programs("ssh", f'case "$*" in *@now*) printf "{ANSWER}";; esac')
    facts = probe(there.transport)
    assert facts is not None and facts.kernel == "6.1.0"
    assert PROBE in noted.read_text()


@pytest.mark.parametrize("script", ["exit 1", "echo This is another command.", "exit 0"])
def test_host_that_does_not_answer_has_no_facts(libpod, forwarded, programs, script) -> None:
    there = forwarded(libpod)
    programs("ssh", script)
    assert probe(there.transport) is None


@pytest.fixture
def own_process(client, libpod, make_container, monkeypatch):
    """This process, as if it were a container's."""
    libpod.on(f"GET /containers/{ID}/top", {"Titles": ["HPID", "RSS"], "Processes": [[str(os.getpid()), "1"]]})
    read = _host._read
    monkeypatch.setattr(_host, "_read", lambda path: ID if path.endswith("/cgroup") else read(path))
    return lambda **changes: process_facts(client, make_container(**changes))


def test_processes_are_seen(own_process) -> None:
    facts = own_process()
    assert facts is not None
    assert 1_000_000 < facts.memory < 2_000_000_000
    assert facts.io_uring == () and facts.listeners == frozenset()


def test_only_own_sockets_count_on_the_network_of_the_host(own_process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        facts = own_process(HostConfig={"NetworkMode": "host"})
        assert [listener.port for listener in facts.listeners if listener.port == port] == [port]
    facts = own_process(HostConfig={"NetworkMode": "host"})
    assert port not in {listener.port for listener in facts.listeners}


def test_process_of_somebody_else_is_not_looked_at(client, libpod, make_container) -> None:
    libpod.on(f"GET /containers/{ID}/top", {"Titles": ["HPID", "RSS"], "Processes": [[str(os.getpid()), "1"]]})
    assert process_facts(client, make_container()) is None


def test_container_that_does_not_run_has_no_processes(client, libpod, make_container) -> None:
    assert process_facts(client, make_container("exited")) is None
    assert libpod.seen == []


def test_processes_of_another_host_are_not_looked_at(libpod, forwarded, make_container) -> None:
    assert process_facts(forwarded(libpod), make_container()) is None
    assert libpod.seen == []
