# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""CRIU on a machine whose root lacks CAP_SYS_RESOURCE: a preloaded library answers what the kernel refuses.

The lab's own affair: on machines with the capability, nothing of this is used.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from . import paths
from .run import run

CAP_SYS_RESOURCE = 24
SOURCE = paths.FILES / "criu-shim.c"
INSIDE = "usr/local/lib/ferry-lab"

WRAPPER = f"""#!/bin/sh
# This machine's root lacks CAP_SYS_RESOURCE; see criu-shim.c in the lab's files.
export LD_PRELOAD=/{INSIDE}/criu-shim.so
exec /{INSIDE}/criu "$@"
"""


def needed() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return not int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1
    return True


def build() -> Path:
    """The compiled shim, from the cache where it is."""
    name = f"criu-shim-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    library = paths.cache() / name
    if not library.exists():
        part = library.with_suffix(".part")
        run(
            ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(part), str(SOURCE), "-ldl"],
            "compiling the shim for CRIU",
        )
        part.rename(library)
    return library


def install(upper: Path) -> None:
    """Put the wrapper in the place of a host's criu."""
    run(["install", "-D", "-m", "0755", str(build()), str(upper / INSIDE / "criu-shim.so")], "installing the shim")
    wrapper = upper / "usr/sbin/criu"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(WRAPPER)
    os.chmod(wrapper, 0o755)
