# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Makes what is not in the cache yet, as much of it at once as there is."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Callable

from . import apt, guests, images, paths, recipe, roots, stores
from .run import say


def _timed(what: str, work: Callable[[], None]) -> None:
    say(f"building {what} …")
    start = time.monotonic()
    work()
    say(f"built {what} in {time.monotonic() - start:.0f} s")


def _start_missing(pool: ThreadPoolExecutor, flavours: set[str]) -> list[Future[None]]:
    missing = [flavour for flavour in sorted(flavours) if not roots.root_of(flavour).is_dir()]
    if not missing and images.archive().exists():
        return []
    mirror = apt.find_mirror()
    jobs = [
        pool.submit(_timed, f"the root {flavour} ({recipe.suite_of(flavour)})", partial(roots.build, flavour, mirror))
        for flavour in missing
    ]
    if not images.archive().exists():
        jobs.append(pool.submit(_timed, "the images", partial(images.build, mirror)))
    return jobs


def _finish(jobs: list[Future[None]]) -> None:
    for job in jobs:
        job.result()


def prepare(flavours: set[str]) -> None:
    """Roots, images and storage for these flavours, from the cache or made now."""
    for folder in (paths.roots(), paths.images(), paths.logs()):
        folder.mkdir(parents=True, exist_ok=True)
    if "guest" in flavours:
        flavours = flavours | {"emulator"}
    with ThreadPoolExecutor(4) as pool:
        _finish(_start_missing(pool, flavours))
        flavours = flavours - {"emulator"}
        empty = [flavour for flavour in sorted(flavours) if not stores.store_of(flavour).is_dir()]
        _finish([pool.submit(_timed, f"the storage of {one}", partial(stores.build, one)) for one in empty])
    if "guest" in flavours and not guests.image().exists():
        _timed("the disk of virtual machines", guests.build)


def prune() -> None:
    """Remove what older recipes left in the cache; nothing may run from it any more."""
    current = {recipe.root_name(flavour) for flavour in ("stable", "testing", "guest", "emulator")}
    current |= {recipe.store_name(flavour) for flavour in ("stable", "testing", "guest")} | {recipe.images_name()}
    current.add(guests.image().name)
    for folder in (paths.roots(), paths.images()):
        for path in folder.glob("*"):
            if path.name not in current:
                roots.discard(path)
