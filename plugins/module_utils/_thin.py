# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A thin move: the memory goes beside the archive, straight from where CRIU writes it to where CRIU will read it."""

from __future__ import annotations

import contextlib
import os
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, HostInfo, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._overlap import Sender
from ansible_collections.ferry.podman.plugins.module_utils._pace import Pace, measured
from ansible_collections.ferry.podman.plugins.module_utils._pages import (
    disk_of,
    empty,
    images_in,
    is_ours,
    link_of,
    put_link,
)
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._receive import MEMORY, Channel, Receiver, Short

MEGABYTE = 1_000_000

WORTH = 16 * 1024 * 1024
"""Bytes of memory below which the archive is as quick."""

MARGIN = 64 * 1024 * 1024
"""Bytes that stay free wherever images lie in memory."""

GROWTH = 1.1
"""A process may have so much more memory by the time that it is frozen."""

OPENED_BEFORE = 2
"""Channels that stand before the freeze: one for the pages of most containers, and one for the rest."""

NOWHERE = "0" * 12
"""An ID for what is thrown away."""


@dataclass(frozen=True)
class Plan:
    """Where the images are to lie.

    :param here: directory for all containers on the source.
    :param there: the same on the destination.
    :param reason: why there, for the user.
    """

    here: str
    there: str
    reason: str


@dataclass(frozen=True)
class Conditions:
    """What decides whether a move can be thin.

    :param transfer: as it was asked for.
    :param memory: bytes that CRIU will write.
    :param straight: whether this is the source's host, as root, and ssh leads to the destination.
    """

    transfer: str
    memory: int
    straight: bool
    keep_source: bool
    here: HostInfo
    there: HostInfo
    facts_here: HostFacts | None
    facts_there: HostFacts | None


class NotThin(FerryError):
    """Why a move cannot be thin."""


def plan(known: Conditions) -> Plan:
    """Decide before anything is touched; the hosts are asked for the room again when it is claimed.

    :raises NotThin: with the reason, for the user.
    """
    if known.transfer not in ("auto", "thin"):
        raise NotThin(f"transfer is {known.transfer}.")
    if not known.straight:
        raise NotThin("The module does not run as root on the source, or does not reach the destination by ssh.")
    if known.keep_source:
        raise NotThin("keep_source keeps the checkpoint in podman's own directory on the source.")
    if known.facts_there is None:
        raise NotThin("The destination does not answer beyond podman's API.")
    if known.transfer == "auto" and known.memory < WORTH:
        raise NotThin(f"It has {known.memory // MEGABYTE} MB of memory, so little that the archive is as quick.")
    memory = known.memory
    here, why_here = _place(known.here, known.facts_here, size_here(memory), size_here(memory), "source")
    sizes = size_there(memory, MEMORY), size_there(memory, disk_of(known.there))
    there, why_there = _place(known.there, known.facts_there, *sizes, "destination")
    reason = " ".join(filter(None, (why_here, why_there)))
    return Plan(here, there, reason or "Its memory lies in memory on both hosts.")


def size_here(memory: int) -> int:
    """Bytes that a place on the source must have left."""
    return round(memory * GROWTH) + MARGIN


def size_there(memory: int, place: str) -> int:
    """The same on the destination, where in memory both the images and the processes have to fit at once."""
    return round(memory * GROWTH) * (2 if place == MEMORY else 1) + MARGIN


def _place(host: HostInfo, facts: HostFacts | None, memory: int, disk: int, side: str) -> tuple[str, str]:
    """:param memory: bytes of memory that it takes there, or of disk instead."""
    if facts is None or facts.memory is None:
        raise NotThin(f"The {side} does not tell how much memory it has left.")
    if facts.memory >= memory:
        return MEMORY, ""
    mount = facts.disk_of(host.graph_root)
    if mount is not None and facts.disks[mount] >= disk:
        left = f"{facts.memory // MEGABYTE} MB of {memory // MEGABYTE} MB of memory"
        return disk_of(host), f"The {side} has {left} available, so its disk is used there."
    raise NotThin(f"The {side} has neither {memory // MEGABYTE} MB of memory nor {disk // MEGABYTE} MB of disk.")


class Thin:
    """One container's memory on its way.

    :param zstd_there: whether the destination has zstd.
    :ivar may_be_there: whether the destination has been asked for anything.
    """

    def __init__(
        self,
        source: LibpodClient,
        destination: LibpodClient,
        container: Container,
        planned: Plan,
        compress: str,
        memory: int,
        progress: Progress,
        *,
        zstd_there: bool,
    ) -> None:
        self._source = source
        self._destination = destination
        self._container = container
        self.plan = planned
        self._memory = memory
        self._progress = progress
        self._receiver = Receiver(destination.transport)
        self._pace = Pace(compress, zstd_there)
        self._channels: list[Channel] = []
        self._sender: Sender | None = None
        self._tries = 0
        self.may_be_there = False

    @property
    def images_there(self) -> str:
        """What the archive's link leads to."""
        return images_in(self.plan.there, self._container.id)

    @property
    def compression(self) -> str:
        """What it came to: zstd or none."""
        return self._pace.used

    def prepare(self) -> None:
        """Have directories on both hosts and open channels before the freeze.

        :raises NotThin: if a host has not the room any more, or must not do its part.
        """
        link = link_of(self._container)
        if link is None or (os.path.lexists(link) and not is_ours(link, self._container.id)):
            raise NotThin("A checkpoint that was kept lies in the container's directory.")
        try:
            self.may_be_there = True
            self._make_there()
            here = Receiver(self._source.transport)
            reference = self._source.host.graph_root
            here.make(self.plan.here, self._container.id, size_here(self._memory), reference)
            self._channels = [self._receiver.channel() for _number in range(OPENED_BEFORE)]
            if self._pace.measures:
                self._pace.know(self._progress.bandwidth or self._measured())
        except (Short, TransportError) as error:
            self.close()
            raise NotThin(str(error)) from error

    def _make_there(self) -> None:
        size = size_there(self._memory, self.plan.there)
        self._receiver.make(self.plan.there, self._container.id, size, self._destination.host.graph_root)

    def _measured(self) -> float:
        channel = self._receiver.channel()
        try:
            channel.send(f"nowhere {MEMORY} {NOWHERE} - -\n".encode())
            return measured(channel)
        finally:
            channel.abort()

    @contextlib.contextmanager
    def dump(self) -> Iterator[None]:
        """Around each try of the dump: sends what it writes while it writes it.

        :raises OSError: if the dump cannot be led to the directory; it has not begun then.
        """
        here = images_in(self.plan.here, self._container.id)
        empty(here)
        if self._tries:
            self._make_there()
        self._tries += 1
        put_link(t.cast(str, link_of(self._container)), here)
        address = f"{self.plan.there} {self._container.id}"
        stats = os.path.join(t.cast(str, self._container.bundle), "stats-dump")
        channels, self._channels = self._channels, []
        sender = Sender(here, stats, address, channels, self._receiver.channel, self._pace, self._progress)
        self._sender = sender
        sender.start()
        try:
            yield
        except BaseException:
            self.close()
            raise
        sender.written()

    def finish(self) -> None:
        """Wait until the destination has all of it.

        :raises TransportError: if it has not.
        """
        if self._sender is not None:
            self._sender.finish()

    def close(self) -> None:
        """End every channel; never raises. The directories stay."""
        if self._sender is not None:
            self._sender.abort()
            self._sender = None
        for channel in self._channels:
            channel.abort()
        self._channels = []
