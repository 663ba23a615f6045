# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Archives go through the modules in pieces, whatever their size."""

from __future__ import annotations

from helpers import SCRATCH, Node, wait_until

MEGABYTES = 700
MOST = 100
IMAGE_MEGABYTES = 300


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


def test_little_memory_for_images(host: Node) -> None:
    """Built, in both layouts, converted, and saved."""
    box = host.start("keeper", command=(str(IMAGE_MEGABYTES),))
    wait_until(lambda: host.podman("logs", box.name), "the memory to be full")
    names = [f"localhost/it/{box.name}:{number}" for number in range(3)]
    for name in names:
        host.later("podman", "rmi", "--force", name)
    single, layered, converted = names
    path = f"{SCRATCH}/a.tar.zst"
    assert host.checkpoint(box.name, dest=path).one["size"] > IMAGE_MEGABYTES << 20
    box.remove()

    extra = host.memory_noting()
    runs: list[dict[str, str]] = [
        {"name": single, "src": path},
        {"name": layered, "src": path, "layout": "layered"},
        {"name": converted, "image": single, "layout": "layered"},
        {"name": single, "dest": f"{SCRATCH}/b.tar.zst"},
        {"name": layered, "dest": f"{SCRATCH}/c.tar", "compress": "none"},
    ]
    for options in runs:
        done = host.module("checkpoint_image", extra=extra, **options)
        assert done.changed, done.msg
    peaks = host.memory_noted()
    assert len(peaks) == len(runs)
    assert 10 < max(peaks) < MOST, peaks
