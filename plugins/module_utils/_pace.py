# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Is it quicker to compress? Decided by measuring: the link before the freeze, the compressor on the first blocks."""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._archive import ZSTANDARD_IMPORT_ERROR
from ansible_collections.ferry.podman.plugins.module_utils._errors import TransportError
from ansible_collections.ferry.podman.plugins.module_utils._receive import Channel

if ZSTANDARD_IMPORT_ERROR is None:
    import zstandard

LEVELS = (1, 3)
"""What is tried. Higher ones take several times as long for a few percent of memory's bytes."""

MOST_THREADS = 4

JOB = 1024 * 1024
"""Bytes that a thread compresses at once; each of them costs several times as much memory."""

SAMPLE = 512 * 1024
SAMPLES = 4
"""The compressor is tried on so many pieces of so many bytes: some ten milliseconds for each level."""

SAMPLED_FROM = 32 * 1024 * 1024
"""Bytes that the pieces are taken from. The first pages are a program's own tables, and unlike the rest."""

SHARED = 0.5
"""The part of a core that the compressor gets: CRIU and ssh work beside it."""

WORTH = 1.15
"""So many times as quick it must be: what was measured is never exact, and the processor is not ours alone."""

PROBE_BLOCK = 256 * 1024
PROBE_SECONDS = 0.4
PROBE_BYTES = 48 * 1024 * 1024
"""The link is measured with so many bytes, or for so long."""

BUFFERS = 4 * 1024 * 1024
"""Bytes that pipes, ssh's window and the kernel take at once, which say nothing about the link."""

FAST = 400e6
"""Bytes per second from which on no sample is taken: zstd is no quicker than that on a core or two."""


@dataclass(frozen=True)
class Setting:
    """How a compressor is to work.

    :param threads: beside the one that asks it; 0 for none.
    """

    level: int = 1
    threads: int = 0

    def compressor(self) -> t.Any:
        """One whose frames prove their own content."""
        jobs = {"job_size": JOB} if self.threads else {}
        parameters = zstandard.ZstdCompressionParameters.from_level(
            self.level, threads=self.threads, write_checksum=1, **jobs
        )
        return zstandard.ZstdCompressor(compression_params=parameters)


@dataclass(frozen=True)
class Sample:
    """What a compressor did with a few blocks on one core.

    :param speed: bytes per second that it reads.
    :param ratio: bytes that it writes for each.
    """

    level: int
    speed: float
    ratio: float

    def rate(self, link: float, threads: int = 0) -> float:
        """Bytes of memory per second that get through: the compressor works while the link sends."""
        return min(self.speed * SHARED * max(threads, 1), link / self.ratio)


def choose(link: float, samples: t.Sequence[Sample], spare: int) -> Setting | None:
    """The quickest setting, or None for no compression.

    :param link: bytes per second.
    :param spare: threads that there are processors for.
    """
    settings = [(one.rate(link, threads), Setting(one.level, threads)) for one in samples for threads in (0, spare)]
    # Of two that are as quick the one that takes less.
    best, setting = max(settings, key=lambda pair: (pair[0], -pair[1].threads, -pair[1].level))
    return setting if best > link * WORTH else None


def sample(block: bytes, level: int) -> Sample:
    """Compress a block once."""
    compressor = Setting(level).compressor()
    begun = time.monotonic()
    size = len(compressor.compress(block))
    seconds = max(time.monotonic() - begun, 1e-6)
    return Sample(level, len(block) / seconds, max(size, 1) / max(len(block), 1))


def spare_threads() -> int:
    """Processors that neither CRIU nor ssh needs, for a compressor with more than one thread; 0 if there is no use."""
    spare = min(MOST_THREADS, len(os.sched_getaffinity(0)) - 2)
    return spare if spare > 1 else 0


def measured(channel: Channel) -> float:
    """Bytes per second of a link, by a channel that throws away what it gets.

    :raises TransportError: if it does not take it.
    """
    block = os.urandom(PROBE_BLOCK)
    begun, sent, counted, mark = time.monotonic(), 0, 0, 0.0
    while sent < PROBE_BYTES and (not mark or time.monotonic() - mark < PROBE_SECONDS):
        channel.send(block)
        sent += len(block)
        if sent >= BUFFERS and not mark:
            mark = time.monotonic()
        elif mark:
            counted += len(block)
        if time.monotonic() - begun > 4 * PROBE_SECONDS:
            # So slow that the buffers are most of it.
            break
    if channel.finish() != "done":
        raise TransportError("The destination cannot measure the link.")
    now = time.monotonic()
    return sent / (now - begun) if not counted else max(counted / (now - mark), sent / (now - begun))


class Pace:
    """How one move's pages go over.

    :param wanted: auto, zstd or none.
    :param there: whether the other host has zstd.
    """

    def __init__(self, wanted: str, there: bool) -> None:
        self._wanted = wanted if there and ZSTANDARD_IMPORT_ERROR is None else "none"
        self._link = 0.0
        self.used = "none"

    @property
    def measures(self) -> bool:
        return self._wanted == "auto"

    def know(self, link: float) -> None:
        """:param link: bytes per second, as measured or as the user allows."""
        self._link = link

    @property
    def samples(self) -> bool:
        """Whether blocks have to be looked at."""
        return self._wanted == "auto" and self._link < FAST

    def setting(self, block: bytes) -> Setting | None:
        """For a file with such blocks; None for no compression."""
        setting = Setting() if self._wanted == "zstd" else None
        if self.samples:
            setting = choose(self._link, [sample(block, level) for level in LEVELS], spare_threads())
        if setting is not None:
            self.used = "zstd"
        return setting
