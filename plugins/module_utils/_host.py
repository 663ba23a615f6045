# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What only programs on the host itself tell: CRIU's version, what its kernel can do, free space."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _criu
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo, Json

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
        "for p in criu crun runc nft; do command -v $p; done",
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
        "echo @end",
    ]
)
"""What a host is asked beyond podman's API, as one line for sh; a forced command of an ssh key may be just this.

Without quotes and backslashes: it stands in ``authorized_keys`` and as a pattern of ``case``. A command that is not
there leaves its section empty.
"""


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
