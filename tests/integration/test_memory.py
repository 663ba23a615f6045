# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Archives go through the modules in pieces, whatever their size."""

from __future__ import annotations

from helpers import SCRATCH, Node

MEGABYTES = 700
MOST = 100


def test_little_memory(host: Node) -> None:
    box = host.start_on_lan("keeper", command=(str(MEGABYTES),))
    memory = box.memory()
    extra = host.memory_noting()
    done = host.checkpoint(box.name, dest=f"{SCRATCH}/a.tar", compress="zstd", compress_level=1, extra=extra)
    assert done.one["size"] > MEGABYTES << 20
    box.remove()
    host.restore(src=f"{SCRATCH}/a.tar", extra=extra)
    memory.goes_on_in(box)
    peaks = host.memory_noted()
    assert len(peaks) == 2
    assert 10 < max(peaks) < MOST, peaks
