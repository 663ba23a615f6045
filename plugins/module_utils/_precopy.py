# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Memory that goes before the freeze, in rounds: all of it first, then what has been written since.

The runtime does a round (``checkpoint --pre-dump``) and leaves podman's state alone. CRIU finds the images before by
the link ``parent`` in each directory, so all of them lie side by side.
"""

from __future__ import annotations

import os
import re
import subprocess
import typing as t

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container
from ansible_collections.ferry.podman.plugins.module_utils._orphan import RUNTIMES

WORTH = 64 * 1024 * 1024
"""Bytes of memory below which rounds are not worth their short freezes."""

MOST_ROUNDS = 5
"""Rounds by default; each freezes the processes for a tenth of a second or two."""

SMALL = 4 * 1024 * 1024
"""Bytes of a round after which nothing is gained by another one."""

SHRINKS = 0.7
"""A round that is not so much smaller than the one before shows that memory is written as fast as it goes over."""

ROOM = 3
"""So many times the memory suffices: for all of it, a round in which all is written again, and the same once more."""

LEAST_ROOM = 2
"""That is enough for one round and the last dump."""

LIMIT = 600.0
"""Seconds for one round."""

PAGES = re.compile(r"pages-[0-9]+\.img")


def reason_against(rounds: int, memory: int, shared: int, tracks: t.Callable[[], bool]) -> str:
    """Why no memory goes before the freeze, for the user; nothing if it can.

    :param rounds: how often it may go, as it was asked for.
    :param memory: bytes that CRIU will write.
    :param shared: bytes of that in shared memory, which CRIU does not track.
    :param tracks: asks whether the source's kernel tells what was written.
    """
    if not rounds:
        return "precopy is never."
    if memory < WORTH:
        return f"It has {memory // 1_000_000} MB of memory, so little that rounds gain nothing."
    if memory - shared < max(WORTH, shared):
        return "Most of its memory is shared by processes: CRIU does not track that, and writes all of it each time."
    if not tracks():
        return "The source's kernel does not tell which memory was written (criu check --feature mem_dirty_track)."
    return ""


def directory_of(number: int) -> str:
    """:param number: of the round, from 1."""
    return f"round-{number}"


def another(sizes: t.Sequence[int], most: int, room: int) -> bool:
    """Whether one more round makes the last dump smaller.

    :param sizes: bytes of memory in the rounds so far.
    :param most: rounds that there may be.
    :param room: bytes that all of them and the last dump may take.
    """
    if len(sizes) >= most:
        return False
    if not sizes:
        return True
    # One more like the last, and then all of it in the dump, if the processes suddenly write more.
    if sizes[-1] <= SMALL or sum(sizes) + sizes[-1] + sizes[0] > room:
        return False
    return len(sizes) == 1 or sizes[-1] <= SHRINKS * sizes[-2]


def bound_of(precopy: str) -> int:
    """The most rounds that an option asks for; 0 for never.

    :raises FerryError: if it is none.
    """
    if precopy in ("auto", "never"):
        return MOST_ROUNDS if precopy == "auto" else 0
    if precopy.isdecimal() and 1 <= int(precopy) <= 100:
        return int(precopy)
    raise FerryError(f"precopy is {precopy!r}.", remedy="Write auto, never, or the most rounds, from 1 to 100.")


def pages_in(images: str) -> int:
    """Bytes of memory in a directory of images."""
    return sum(entry.stat().st_size for entry in os.scandir(images) if PAGES.fullmatch(entry.name))


def pre_dump(container: Container, images: str, work: str, parent: str | None, flags: list[str]) -> None:
    """Have the runtime write what has changed, and let the container run on.

    :param images: path of the directory for the images.
    :param work: the same for CRIU's log and statistics.
    :param parent: name of the directory beside it with the images before; None for all of the memory.
    :param flags: of the runtime's checkpoint command.
    :raises FerryError: if it fails; the container runs on.
    """
    if container.runtime not in RUNTIMES:
        raise FerryError(f"The runtime {container.runtime} is not known to do pre-dumps.")
    paths = ["--image-path", images, "--work-path", work, *(["--parent-path", f"../{parent}"] if parent else [])]
    command = [container.runtime, "checkpoint", "--pre-dump", *paths, *flags, container.id]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
            check=False,
            # Whoever ends the module must not end CRIU while it holds the processes.
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FerryError(f"The memory of {container.name} could not be written beforehand: {error}") from error
    if done.returncode != 0:
        raise FerryError(
            f"The memory of {container.name} could not be written beforehand: {done.stderr.strip()[-500:]}"
        )
