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
