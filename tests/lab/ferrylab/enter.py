# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Running a command inside a host: in its namespaces and its cgroups."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from . import cgroups, guests, records
from .errors import LabError
from .host import PATH


def command(pid: int, argv: Sequence[str]) -> list[str]:
    """The command ends (SIGTERM) when the one who asked for it does."""
    environment = [f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}"]
    return [
        "nsenter",
        "--target",
        str(pid),
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--",
        "/usr/bin/env",
        "--ignore-environment",
        "--chdir=/root",
        *environment,
        "setpriv",
        "--pdeathsig",
        "TERM",
        "--",
        *argv,
    ]


def enter(name: str, argv: Sequence[str]) -> NoReturn:
    """Become the command; does not return."""
    record = records.load(name)
    if not record.alive():
        raise LabError(f"{name} is not running (lab start {name})")
    if record.host.virtual:
        os.execvp("ssh", guests.command(record, argv))
    cgroups.join(name, os.getpid(), leaf=True)
    os.execvp("nsenter", command(record.pid, argv))
