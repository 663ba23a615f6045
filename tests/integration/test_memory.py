# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Archives go through the modules in pieces, whatever their size."""

from __future__ import annotations

from helpers import SCRATCH, Node

MEGABYTES = 700
MOST = 100

INTERPRETER = f"""#!/usr/bin/python3 -I
# Runs Python for Ansible and notes the most memory that it had, in kilobytes.
import resource, subprocess, sys
code = subprocess.call(["/usr/bin/python3", *sys.argv[1:]])
with open("{SCRATCH}/memory", "a") as file:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
sys.exit(code)
"""


def test_little_memory(host: Node) -> None:
    box = host.start_on_lan("keeper", command=(str(MEGABYTES),))
    memory = box.memory()
    host.run("tee", f"{SCRATCH}/python", stdin=INTERPRETER)
    host.run("chmod", "755", f"{SCRATCH}/python")
    extra = {"ansible_python_interpreter": f"{SCRATCH}/python"}
    done = host.checkpoint(box.name, dest=f"{SCRATCH}/a.tar", compress="zstd", compress_level=1, extra=extra)
    assert done.one["size"] > MEGABYTES << 20
    box.remove()
    host.restore(src=f"{SCRATCH}/a.tar", extra=extra)
    memory.goes_on_in(box)
    peaks = [int(line) / 1024 for line in host.sh(f"cat {SCRATCH}/memory").split()]
    assert len(peaks) == 2
    assert 10 < max(peaks) < MOST, peaks
