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

from ansible_collections.ferry.podman.plugins.module_utils._archive import ZSTANDARD_IMPORT_ERROR, ZSTD_JOB
from ansible_collections.ferry.podman.plugins.module_utils._errors import TransportError
from ansible_collections.ferry.podman.plugins.module_utils._receive import Channel

if ZSTANDARD_IMPORT_ERROR is None:
    import zstandard

LEVELS = (1, 3)
"""What is tried. Higher ones take several times as long for a few percent of memory's bytes."""

FIXED_LEVEL = 1

MOST_THREADS = 4

SAMPLE = 2 * 1024 * 1024
"""Bytes that the compressor is tried on: some ten milliseconds for each level."""

PROBE_BLOCK = 256 * 1024
PROBE_SECONDS = 0.4
PROBE_BYTES = 48 * 1024 * 1024
"""The link is measured with so many bytes, or for so long."""

BUFFERS = 4 * 1024 * 1024
"""Bytes that pipes, ssh's window and the kernel take at once, which say nothing about the link."""

FAST = 400e6
"""Bytes per second from which on no sample is taken: zstd is no quicker than that on a core or two."""


@dataclass(frozen=True)
class Sample:
    """What a compressor did with a few blocks.

    :param speed: bytes per second that it reads.
    :param ratio: bytes that it writes for each.
    """

    level: int
    speed: float
    ratio: float

    def rate(self, link: float) -> float:
        """Bytes of memory per second that get through: the compressor works while the link sends."""
        return min(self.speed, link / self.ratio)


def choose(link: float, samples: t.Iterable[Sample]) -> int | None:
    """The quickest level, or None for none at all.

    :param link: bytes per second.
    """
    best = max(samples, key=lambda sample: sample.rate(link), default=None)
    return best.level if best is not None and best.rate(link) > link else None


def sample(block: bytes, level: int, threads: int) -> Sample:
    """Compress a block once."""
    compressor = compressor_of(level, 0)
    begun = time.monotonic()
    size = len(compressor.compress(block))
    seconds = max(time.monotonic() - begun, 1e-6)
    return Sample(level, len(block) / seconds * threads, max(size, 1) / max(len(block), 1))


def compressor_of(level: int, threads: int) -> t.Any:
    """A compressor whose frames prove their own content."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, threads=threads, write_checksum=1, **({"job_size": ZSTD_JOB} if threads else {})
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def threads_here() -> int:
    return max(1, min(MOST_THREADS, len(os.sched_getaffinity(0))))


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

    def know(self, link: float, bandwidth: int | None) -> None:
        """:param link: bytes per second as measured.
        :param bandwidth: the most that the user allows.
        """
        self._link = min(link, float(bandwidth)) if bandwidth else link

    def level(self, block: bytes) -> int | None:
        """The level for a file that begins with this block; None for no compression."""
        if self._wanted == "none" or (self._wanted == "auto" and self._link >= FAST):
            return None
        level: int | None = FIXED_LEVEL
        if self._wanted == "auto":
            threads = threads_here()
            level = choose(self._link, [sample(block[:SAMPLE], level, threads) for level in LEVELS])
        if level is not None:
            self.used = "zstd"
        return level
