# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._host import LocalHost, free_bytes


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


def test_free_bytes_are_those_of_the_file_system(tmp_path) -> None:
    free = free_bytes(str(tmp_path))
    assert free is not None
    # Others write meanwhile.
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 28
    assert free_bytes(str(tmp_path / "absent")) is None
