# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A container of a quadlet leaves its host with its unit, by a real systemd: the user manager of root."""

from __future__ import annotations

import pathlib
import signal
import subprocess
from collections.abc import Iterator

import pytest
from conftest import ALIKE, borrowed
from helpers import Json, Node, wait_until
from test_drain import Done, Fleet

FILES = "/root/.config/containers/systemd"
RUNTIME = "/run/user/0"
BOOTED = "/run/systemd/system"
PROGRAM = "n=$$(cat /data/n 2>/dev/null || echo 0); while :; do n=$$((n+1)); echo $$n >/data/n; sleep 0.1; done"
# By default a quadlet of a user waits for the network as the system's systemd sees it, and there is none here.
QUADLET = """
[Container]
ContainerName=it-unit
Image=localhost/lab/counter
Pull=never
Network=none
Volume=it-unit.volume:/data
StopTimeout=1
Entrypoint=/bin/sh
Exec=-c '{program}'
[Service]
Restart=always
[Install]
WantedBy=default.target
[Quadlet]
DefaultDependencies=false
"""
VOLUME = """
[Volume]
VolumeName=it-unit-data
[Quadlet]
DefaultDependencies=false
"""

COLD: Json = {"drain_policies": {"it-unit": "cold"}, "drain_unit_scope": "user"}


class Manager:
    """The user manager of root on a host."""

    def __init__(self, node: Node) -> None:
        self.node = node
        # It asks whether the host was booted by systemd, and goes by that directory.
        node.sh(f"mkdir -p -m 700 {RUNTIME}; mkdir -p {BOOTED}; rm -rf {FILES}")
        self._process = node.popen(
            "env", f"XDG_RUNTIME_DIR={RUNTIME}", "HOME=/root", "/usr/lib/systemd/systemd", "--user"
        )
        wait_until(lambda: self.systemctl("is-system-running") in ("running", "degraded"), "the user manager")

    def systemctl(self, *arguments: str) -> str:
        return self.node.run(
            "env", f"XDG_RUNTIME_DIR={RUNTIME}", "systemctl", "--user", *arguments, check=False
        ).strip()

    def end(self) -> None:
        self.systemctl("stop", "it-unit.service")
        self.systemctl("exit")
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self.node.sh(f"rm -rf {FILES} {RUNTIME}/systemd {BOOTED}")

    @property
    def number(self) -> int:
        """How far the container has counted, in its volume."""
        return int(self.node.podman("exec", "it-unit", "cat", "/data/n") or 0)

    @property
    def active(self) -> bool:
        return self.systemctl("is-active", "it-unit.service") == "active"

    @property
    def files(self) -> set[str]:
        return set(self.node.sh(f"ls {FILES} 2>/dev/null || :").split())


class Units(Fleet):
    def __init__(self, nodes: list[Node], directory: pathlib.Path) -> None:
        super().__init__(nodes, directory)
        self.managers = [Manager(node) for node in nodes]
        self.here, self.there = self.managers

    def start(self) -> None:
        node = self.source
        node.sh(f"mkdir -p {FILES}")
        node.run("tee", f"{FILES}/it-unit.container", stdin=QUADLET.format(program=PROGRAM))
        node.run("tee", f"{FILES}/it-unit.volume", stdin=VOLUME)
        node.sh(f"chmod 600 {FILES}/it-unit.container")
        self.here.systemctl("daemon-reload")
        self.here.systemctl("start", "it-unit.service")
        wait_until(lambda: self.here.active and "it-unit" in node.names(), "the unit to run")
        wait_until(lambda: self.here.number > 3, "the container to count")

    def leave(self, **variables: object) -> Done:
        return self.drain(**COLD, **variables)

    def leave_and_die(self, phase: str) -> None:
        """The drain is killed once this phase of the unit's move is noted, and its files are put aside."""
        process = self.begin("drain", **COLD)
        wait_until(lambda: not self.here.files and self.phases() == [phase], f"the phase {phase}", 90)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.source.sh("pkill -KILL -f '[A]nsiballZ_podman_evacuate' || :; rm -rf /tmp/ferry-*")

    def phases(self) -> list[str]:
        return [unit["phase"] for unit in self.noted().get("units", [])]

    def runs_at(self, manager: Manager, number: int) -> None:
        """On one host alone, with its files and volume, and further than before."""
        (other,) = (one for one in self.managers if one is not manager)
        assert manager.active and not other.active
        assert manager.files == {"it-unit.container", "it-unit.volume"} and other.files == set()
        assert manager.node.sh(f"stat -c %a {FILES}/it-unit.container").strip() == "600"
        assert "it-unit-data" not in other.node.volumes()
        assert not {"it-unit", "ferry-unit-it-unit"} & other.node.names()
        wait_until(lambda: manager.number > number, "the container to count on")
        assert manager.number < number + 3000


@pytest.fixture
def units(lab: dict[str, Node], tmp_path: pathlib.Path) -> Iterator[Units]:
    with borrowed(lab, *ALIKE) as nodes:
        found = Units(nodes, tmp_path / "reports")
        try:
            yield found
        finally:
            for manager in found.managers:
                manager.end()


def test_unit_leaves_with_its_files_and_comes_home(units: Units) -> None:
    units.start()
    number = units.here.number
    done = units.leave()
    assert done.code == 0, done.output
    units.runs_at(units.there, number)
    assert done.outcomes() == {"it-unit": "cold"}
    number = units.there.number
    home = units.undrain(**COLD)
    assert home.code == 0, home.output
    units.runs_at(units.here, number)


def test_unit_that_does_not_start_there_runs_here_again(units: Units) -> None:
    units.start()
    number = units.here.number
    change_there(units, "", "ExecStartPre=/bin/false")
    done = units.leave()
    assert done.code != 0
    assert "runs on" in done.output and "again" in done.output
    mend_there(units)
    units.runs_at(units.here, number)


def change_there(units: Units, container: str, service: str) -> None:
    """The unit is another one on the destination."""
    node = units.there.node
    node.sh(f"mkdir -p {FILES}/it-unit.container.d")
    text = f"[Container]\n{container}\n[Service]\n{service}\nRestart=no\n"
    node.run("tee", f"{FILES}/it-unit.container.d/bad.conf", stdin=text)


def mend_there(units: Units) -> None:
    units.there.node.sh(f"rm -r {FILES}/it-unit.container.d")


def test_unit_whose_container_ends_there_is_not_taken_for_moved(units: Units) -> None:
    """It has run there, and may have written, so what it has here is old."""
    units.start()
    number = units.here.number
    change_there(units, "Exec=-c 'sleep 0.7; echo there >/data/who; exit 3'", "")
    done = units.leave()
    assert done.code != 0 and "It may have run on" in done.output
    assert not units.here.active
    mend_there(units)
    again = units.leave()
    assert again.code == 0, again.output
    units.runs_at(units.there, number)
    assert units.there.node.podman("exec", "it-unit", "cat", "/data/who").strip() == "there"


@pytest.mark.faults
def test_unit_of_a_killed_drain_may_have_run_there(units: Units) -> None:
    units.start()
    number = units.here.number
    units.leave_and_die("arriving")
    change_there(units, "", "ExecStartPre=/bin/false")
    done = units.leave()
    assert done.code != 0 and "It may have run on" in done.output
    assert "it-unit-data" in units.there.node.volumes()
    assert not units.here.active
    mend_there(units)
    again = units.leave()
    assert again.code == 0, again.output
    units.runs_at(units.there, number)


def test_unit_is_not_started_on_volumes_that_are_gone(units: Units) -> None:
    """systemd would make them anew, and those here would be removed."""
    units.start()
    number = units.here.number
    units.leave_and_die("arriving")
    there = units.there.node
    units.there.systemctl("stop", "it-unit.service")
    there.sh("podman rm --force --time 0 --ignore it-unit ferry-unit-it-unit; podman volume rm it-unit-data")
    done = units.leave()
    assert done.code != 0 and "has lost the volumes it-unit-data" in done.output
    assert not units.there.active
    kept = units.source.sh("cat $(podman volume inspect --format '{{.Mountpoint}}' it-unit-data)/n")
    assert int(kept) >= number
    # The copy that was kept for this.
    units.source.podman("rm", "ferry-unit-it-unit")


@pytest.mark.parametrize("phase", [pytest.param("leaving", marks=pytest.mark.faults), "arriving"])
def test_unit_of_a_killed_drain_arrives_with_the_next(units: Units, phase: str) -> None:
    units.start()
    number = units.here.number
    units.leave_and_die(phase)
    done = units.leave()
    assert done.code == 0 and "cut off" in done.output, done.output
    units.runs_at(units.there, number)
    assert units.phases() == []


@pytest.mark.faults
def test_unit_of_a_killed_drain_comes_home_by_undrain(units: Units) -> None:
    """Though it has left only in part."""
    units.start()
    number = units.here.number
    units.leave_and_die("leaving")
    home = units.undrain(**COLD)
    assert home.code == 0, home.output
    units.runs_at(units.here, number)


@pytest.mark.faults
def test_file_that_another_unit_names_stays_for_it(units: Units) -> None:
    units.start()
    other = "[Container]\nImage=localhost/lab/counter\nVolume=it-unit.volume:/data\n"
    units.source.run("tee", f"{FILES}/it-other.container", stdin=other)
    units.here.systemctl("daemon-reload")
    done = units.leave()
    assert done.code == 0, done.output
    assert units.there.active
    assert units.here.files == {"it-other.container", "it-unit.volume"}
    assert units.there.files == {"it-unit.container", "it-unit.volume"}
    units.source.sh(f"echo '# changed' >>{FILES}/it-unit.volume")
    refused = units.undrain(drain_unit_scope="user")
    assert refused.code != 0 and "it-unit.volume is another one" in refused.output
    assert units.there.active and not units.here.active


def test_unit_without_a_policy_is_in_the_way(units: Units) -> None:
    units.start()
    done = units.drain()
    assert done.code != 0 and "it-unit.service" in done.output
    assert units.here.active
