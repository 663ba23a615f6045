# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""A group per host in every cgroup hierarchy of the machine, v1 and v2 alike."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

TOP = "ferry-lab"
# The host's own processes live in a leaf. On v2 a group with controllers for its children holds no process itself.
# On v1 CRIU dumps all groups below that of a container's processes, and restores copies of them below the container:
# in the host's root that is everything that earlier restores left, and doubles with each one.
LEAF = "init"


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy."""

    path: Path
    unified: bool
    controllers: tuple[str, ...] = ()


def hierarchies() -> list[Hierarchy]:
    """Every hierarchy that is mounted, once."""
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _dash, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2") and before.split()[3] == "/":
            found.setdefault(
                before.split()[2], Hierarchy(Path(before.split()[4]), kind == "cgroup2", tuple(options.split(",")))
            )
    if not any(hierarchy.unified for hierarchy in found.values()):
        raise LabError(
            "no cgroup v2 hierarchy is mounted on this machine, and podman needs one: "
            "mount -t cgroup2 none /sys/fs/cgroup/unified (hybrid), or boot with cgroup v2"
        )
    return list(found.values())


def _inherit_cpuset(parent: Path) -> None:
    """A new cpuset group of v1 is empty, and takes no process, unless its parent hands its own down."""
    (parent / "cgroup.clone_children").write_text("1")
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (parent / name).read_text().strip():
            (parent / name).write_text((parent.parent / name).read_text())


def _delegate(group: Path) -> None:
    """Hand down the controllers that this group was given."""
    for controller in (group / "cgroup.controllers").read_text().split():
        (group / "cgroup.subtree_control").write_text(f"+{controller}")


def create(name: str) -> None:
    for hierarchy in hierarchies():
        top = hierarchy.path / TOP
        top.mkdir(exist_ok=True)
        if "cpuset" in hierarchy.controllers:
            _inherit_cpuset(top)
        if hierarchy.unified:
            _delegate(top)
        (top / name).mkdir(exist_ok=True)
        if "cpuset" in hierarchy.controllers:
            _inherit_cpuset(top / name)
        (top / name / LEAF).mkdir(exist_ok=True)


def join(name: str, pid: int, leaf: bool) -> None:
    """Move a process into the host's groups; leaf: below the group that is the host's cgroup root."""
    for hierarchy in hierarchies():
        group = hierarchy.path / TOP / name
        (group / LEAF if leaf else group).joinpath("cgroup.procs").write_text(str(pid))


def _groups(name: str) -> Iterator[Path]:
    """The groups of a host, or of the whole lab for an empty name; the deepest first."""
    for hierarchy in hierarchies():
        for folder, _folders, _files in os.walk(hierarchy.path / TOP / name, topdown=False):
            yield Path(folder)


def processes(name: str = "") -> set[int]:
    pids: set[int] = set()
    for group in _groups(name):
        try:
            pids.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
        except (FileNotFoundError, OSError):
            continue  # the group ended meanwhile, or is threaded
    return pids - {os.getpid()}


def _thaw(name: str) -> None:
    """A frozen process cannot die: a checkpoint may have been cut off."""
    for group in _groups(name):
        for control, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (group / control).exists():
                (group / control).write_text(value)


def kill(name: str = "", limit: float = 20.0) -> None:
    """End every process of a host (of the lab), however often they fork."""
    end = time.monotonic() + limit
    while processes(name):
        _thaw(name)
        for pid in processes(name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > end:
            raise LabError(f"waited {limit:.0f} s for the processes {sorted(processes(name))} to die, in vain")
        time.sleep(0.02)


def remove(name: str = "", limit: float = 10.0) -> None:
    """Remove the groups; the kernel may hold one for a moment after its last process."""
    end = time.monotonic() + limit
    for group in _groups(name):
        while group.is_dir():
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise LabError(f"cannot remove the cgroup {group}: {error}") from error
                time.sleep(0.02)
