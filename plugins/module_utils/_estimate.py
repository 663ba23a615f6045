# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.


"""What a move will carry and how long it will take, before anything is touched."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import asdict, dataclass, replace

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._facts import ProcessFacts
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient

FIXED = 350
"""Milliseconds of a move that carries nothing: freeze, archive, create and restore of an idle process."""

PER_MEGABYTE = 10.0
"""Milliseconds for each megabyte of the archive, which podman writes and reads several times on both hosts."""

FIXED_THIN = 450
"""The same two of a thin move, whose memory goes host to host beside the archive while it is written."""

PER_MEGABYTE_THIN = 3.5

MOST_FILES = 200_000
"""Files of a volume that are counted; the rest of a larger one is estimated from the disk's side not at all."""

FRAME = 100_000
"""Bytes of an archive that holds next to nothing: CRIU's tables, podman's configuration, tar's blocks."""


@dataclass(frozen=True)
class Estimate:
    """An estimate, not a promise: the processes run on, and write, until they are frozen.

    The downtime is that of podman's archive path as measured on hosts of the tests with memory that cannot be
    compressed: 0.35 s and 10 ms for each megabyte. Of a thin move it is 0.45 s and 3.5 ms for each megabyte of memory.
    Slower disks take longer.

    :param memory: bytes that CRIU will write: anonymous and shared memory. Where only the API tells it is what the
        processes have in memory, pages of files included.
    :param files: bytes of the files that the container has made or changed.
    :param volumes: bytes of its volumes.
    :param archive: bytes that go from one host to the other.
    :param downtime_ms: milliseconds from the freeze until it runs again.
    """

    memory: int
    files: int
    volumes: int
    archive: int
    downtime_ms: int

    @classmethod
    def of(cls, memory: int, files: int, volumes: int, bandwidth: int | None = None) -> Estimate:
        """:param bandwidth: most bytes per second that may go over."""
        archive = memory + files + volumes + FRAME
        downtime = FIXED + archive / 1e6 * PER_MEGABYTE
        if bandwidth:
            # The whole archive is there before its first byte goes over.
            downtime = max(downtime, FIXED + archive / bandwidth * 1000)
        return cls(memory, files, volumes, archive, round(downtime))

    def beside(self, bandwidth: int | None = None) -> Estimate:
        """The same for a thin move."""
        rest = self.archive - self.memory
        downtime = FIXED_THIN + rest / 1e6 * PER_MEGABYTE + self.memory / 1e6 * PER_MEGABYTE_THIN
        if bandwidth:
            downtime = max(downtime, FIXED_THIN + self.archive / bandwidth * 1000)
        return replace(self, downtime_ms=round(downtime))

    def as_dict(self) -> Json:
        return asdict(self)


def estimate(
    client: LibpodClient,
    container: Container,
    processes: ProcessFacts | None,
    *,
    ignore_volumes: bool = False,
    bandwidth: int | None = None,
) -> Estimate:
    """Weigh a container.

    :param processes: what was seen of them on this host; None if only the API tells.
    """
    memory = files = 0
    with contextlib.suppress(FerryError):
        memory = processes.memory if processes is not None else sum(size for _pid, size in client.processes(container))
    with contextlib.suppress(FerryError):
        files = client.layer_size(container)
    volumes = 0 if ignore_volumes else _volumes(client, container)
    return Estimate.of(memory, files, volumes, bandwidth)


def _volumes(client: LibpodClient, container: Container) -> int:
    names = set(container.volumes)
    if not names:
        return 0
    if client.transport.is_local:
        mounts = [mount for mount in container.mounts if mount.get("Name") in names]
        return sum(directory_size(str(mount.get("Source", ""))) for mount in mounts)
    with contextlib.suppress(FerryError):
        return sum(size for name, size in client.volume_sizes().items() if name in names)
    return 0


def directory_size(directory: str) -> int:
    """Bytes of the files below a directory, of no more than ``MOST_FILES`` of them."""
    size = 0
    for number, status in enumerate(_statuses(directory)):
        if number >= MOST_FILES:
            break
        # A sparse file goes over whole.
        size += status.st_size
    return size


def _statuses(directory: str) -> t.Iterator[os.stat_result]:
    for place, _directories, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(place, name))
