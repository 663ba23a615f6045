# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Podman's storage with the images in it, made once by each root's own podman and then copied to hosts."""

from __future__ import annotations

from pathlib import Path

from . import images, paths, recipe
from .roots import discard, root_of
from .run import contained, run_logged

LOAD_LIMIT = 300.0

# In namespaces of its own: the root gets what podman needs, and is left as it was.
LOAD = """set -eu
root=$1 store=$2 archive=$3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir "$root/run/archive"
mount --bind "$archive" "$root/run/archive"
mount --bind "$store" "$root/var/lib/containers"
chroot "$root" podman load --input /run/archive/images.tar
"""


def store_of(flavour: str) -> Path:
    return paths.images() / recipe.store_name(flavour)


def build(flavour: str) -> None:
    """Load the images with the root's podman; the directory gets its name last."""
    final = store_of(flavour)
    part = final.with_name(final.name + ".part")
    discard(part)
    part.mkdir(parents=True)
    run_logged(
        contained(["sh", "-c", LOAD, "load", str(root_of(flavour)), str(part), str(images.archive().parent)]),
        f"loading the images into the storage of {flavour}",
        paths.logs() / f"store-{flavour}.log",
        LOAD_LIMIT,
    )
    # podman's database belongs to the host that it is on: each makes its own.
    for name in ("db.sql", "libpod", "cache"):
        discard(part / "storage" / name)
    part.rename(final)
