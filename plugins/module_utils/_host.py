# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What podman's API does not tell about a host: CRIU's version, its processor, free space, what its processes do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _criu
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._facts import (
    HostFacts,
    Listener,
    ProcessFacts,
    available_memory,
    established,
    file_system_of,
    listening,
    memory_of,
    parse_probe,
    shared_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    Container,
    HostInfo,
    Json,
    LibpodClient,
)
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

Run = t.Callable[[list[str]], tuple[int, str, str]]
"""Runs a program and returns its exit status, output and errors; 127 if there is no such program."""


PROBE = "; ".join(
    [
        "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin",
        "export PATH LC_ALL=C",
        "exec 2>/dev/null",
        "echo @now",
        "date +%s",
        "echo @kernel",
        "uname -rm",
        "echo @cpu",
        "grep -m 1 -e ^flags -e ^Features /proc/cpuinfo",
        "grep -m 1 ^model.name /proc/cpuinfo",
        "echo @memory",
        "grep -e ^MemAvailable -e ^SwapFree /proc/meminfo",
        "echo @criu",
        "criu --version",
        "echo @programs",
        "for p in criu crun runc nft zstd; do command -v $p; done",
        "echo @disks",
        "timeout 9 df -kPl | grep -v /overlay",
        "echo @tcp",
        "grep -h :0000.0A /proc/net/tcp /proc/net/tcp6",
        "echo @udp",
        "grep -h :0000.07 /proc/net/udp /proc/net/udp6",
        "echo @io_uring_disabled",
        "cat /proc/sys/kernel/io_uring_disabled",
        "echo @lsm",
        "cat /sys/kernel/security/lsm",
        "echo @profiles",
        "cat /sys/kernel/security/apparmor/profiles",
        "echo @interfaces",
        "ls /sys/class/net",
        "echo @spool",
        "stat -c %Y:%s:%n /var/tmp/restore* /var/tmp/checkpoint*",
        "echo @reading",
        "for p in $(pidof podman); do ls -l /proc/$p/fd; done | grep -c /var/tmp/restore",
        "echo @end",
    ]
)
"""What a host is asked beyond podman's API, as one line for sh; a forced command of an ssh key may be just this.

Without quotes and backslashes: it stands in ``authorized_keys`` and as a pattern of ``case``. A command that is not
there leaves its section empty.
"""

PROBE_LIMIT = 30.0
"""Seconds for its answer."""

IO_URING = "anon_inode:[io_uring]"


def probe(transport: Transport) -> HostFacts | None:
    """Ask a host; None if it cannot or must not answer, as where an ssh key allows something else alone."""
    try:
        if transport.forward is not None:
            return parse_probe(transport.forward.run(PROBE, "", PROBE_LIMIT))
        done = subprocess.run(
            ["sh", "-c", PROBE], capture_output=True, text=True, errors="replace", timeout=PROBE_LIMIT, check=False
        )
        return parse_probe(done.stdout)
    except (TransportError, OSError, subprocess.TimeoutExpired):
        return None


def process_facts(client: LibpodClient, container: Container) -> ProcessFacts | None:
    """What the processes of a running container do; None where only the API tells, as on another host."""
    if not (client.transport.is_local and container.running):
        return None
    try:
        pids = [pid for pid, _size in client.processes(container)]
    except FerryError:
        return None
    # The service may be in a container of its own, with other IDs.
    if not pids or container.id not in _read(f"/proc/{pids[0]}/cgroup"):
        return None
    rollups = [_read(f"/proc/{pid}/smaps_rollup") for pid in pids]
    tcp = [_read(f"/proc/{pids[0]}/net/{name}") for name in ("tcp", "tcp6")]
    on_host = container.raw["HostConfig"].get("NetworkMode") == "host"
    return ProcessFacts(
        memory=sum(map(memory_of, rollups)),
        shared=sum(map(shared_of, rollups)),
        io_uring=tuple(pid for pid in pids if _uses_io_uring(pid)),
        # Of the whole host, if that is the container's network.
        connections=0 if on_host else sum(map(established, tcp)),
        listeners=_own_listeners(pids) if on_host else frozenset(),
    )


def _own_listeners(pids: list[int]) -> frozenset[Listener]:
    """Sockets of these processes that others reach, in a network namespace that they share with others."""
    inodes = {target[8:-1] for pid in pids for target in _open_files(pid) if target.startswith("socket:[")}
    found: frozenset[Listener] = frozenset()
    for protocol in ("tcp", "udp"):
        for version in ("", "6"):
            lines = _read(f"/proc/{pids[0]}/net/{protocol}{version}").splitlines()
            own = [line for line in lines[1:] if line.split()[9:10] and line.split()[9] in inodes]
            found |= listening("\n".join(["", *own]), protocol)
    return found


def _uses_io_uring(pid: int) -> bool:
    # A ring stays mapped when its descriptor is closed.
    return IO_URING in _open_files(pid) or IO_URING in _read(f"/proc/{pid}/maps")


def _open_files(pid: int) -> list[str]:
    return list(_links(f"/proc/{pid}/fd"))


def _links(directory: str) -> Iterator[str]:
    # Processes end while they are looked at.
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                yield os.readlink(os.path.join(directory, name))


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def free_bytes(path: str) -> int | None:
    """Bytes that can still be written where a path is, or None if it cannot be asked."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


@dataclass(frozen=True)
class LocalHost:
    """This host; not for services that are reached over ssh."""

    run: Run

    def criu(self) -> Json:
        """CRIU's version, whether the kernel suits it, and whether it can track memory for pre-copy."""
        code, out, _err = self.run(["criu", "--version"])
        if code != 0:
            return {
                "version": None,
                "check": False,
                "check_output": ["criu is not installed"],
                "mem_track": None,
            }
        check, out_check, err_check = self.run(["criu", "check"])
        return {
            "version": _compat.criu_version(out),
            "check": check == 0,
            "check_output": _criu.relevant_lines(out_check + err_check),
            "mem_track": self.tracks_memory(),
        }

    def tracks_memory(self) -> bool:
        """Whether the kernel tells which pages were written, which pre-copy needs."""
        return self.run(["criu", "check", "--feature", "mem_dirty_track"])[0] == 0

    def free_space(self, info: HostInfo) -> Json:
        """Free bytes where podman spools archives and where it keeps containers."""
        return {path: free_bytes(path) for path in (info.temporary_directory, info.graph_root)}

    def file_systems(self, info: HostInfo) -> list[Json]:
        """The one or two that these places are on."""
        mounts = _read("/proc/self/mounts")
        found: dict[str, Json] = {}
        for path in (info.temporary_directory, info.graph_root):
            mount, kind = file_system_of(os.path.realpath(path), mounts)
            one = found.setdefault(mount, {"mount": mount, "type": kind, "free": free_bytes(mount), "paths": []})
            one["paths"].append(path)
        return [found[mount] for mount in sorted(found)]

    def memory(self) -> int | None:
        """Bytes that new processes can have."""
        return available_memory(_read("/proc/meminfo"))
