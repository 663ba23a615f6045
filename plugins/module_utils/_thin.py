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
from dataclasses import dataclass, replace

from ansible_collections.ferry.podman.plugins.module_utils._archive import PREVIOUS
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
    previous_of,
    put_link,
)
from ansible_collections.ferry.podman.plugins.module_utils._precopy import (
    LEAST_ROOM,
    ROOM,
    another,
    directory_of,
    pages_in,
    pre_dump,
    reason_against,
)
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._receive import CHECKPOINT, MEMORY, Channel, Receiver, Short

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
    :param times: so many times the memory is there room for.
    :param rounds: how often memory may go before the freeze.
    :param rounds_reason: why not, for the user.
    """

    here: str
    there: str
    reason: str
    times: int = 1
    rounds: int = 0
    rounds_reason: str = ""


@dataclass(frozen=True)
class Conditions:
    """What decides whether a move can be thin.

    :param transfer: as it was asked for.
    :param memory: bytes that CRIU will write.
    :param shared: bytes of that in shared memory, which CRIU does not track.
    :param rounds: how often memory may go before the freeze, as it was asked for.
    :param tracks: asks whether the source's kernel tells what was written.
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
    shared: int = 0
    rounds: int = 0
    tracks: t.Callable[[], bool] = lambda: False


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
    no_rounds = reason_against(known.rounds, known.memory, known.shared, known.tracks)
    if not no_rounds:
        for rounds, times in ((known.rounds, ROOM), (1, LEAST_ROOM)):
            with contextlib.suppress(NotThin):
                return _placed(known, rounds, times)
        no_rounds = "There is not the room for memory that goes twice."
    return _placed(known, 0, 1, no_rounds)


def _placed(known: Conditions, rounds: int, times: int, no_rounds: str = "") -> Plan:
    """:param times: the memory that the images may take."""
    memory = known.memory * times
    here, why_here = _place(known.here, known.facts_here, size_here(memory), size_here(memory), "source")
    processes = known.memory
    sizes = size_there(memory, MEMORY, processes), size_there(memory, disk_of(known.there), processes)
    there, why_there = _place(known.there, known.facts_there, *sizes, "destination")
    reason = " ".join(filter(None, (why_here, why_there)))
    return Plan(here, there, reason or "Its memory lies in memory on both hosts.", times, rounds, no_rounds)


def size_here(memory: int) -> int:
    """Bytes that a place on the source must have left."""
    return round(memory * GROWTH) + MARGIN


def size_there(memory: int, place: str, processes: int) -> int:
    """The same on the destination, where in memory both the images and the processes have to fit at once."""
    return round((memory + (processes if place == MEMORY else 0)) * GROWTH) + MARGIN


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
    :ivar rounds: bytes of memory of each round before the freeze.
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
        self._images = memory * planned.times
        self.rounds: list[int] = []
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
        previous = previous_of(self._container) if self.plan.rounds else None
        if link is None or any(map(self._is_taken, filter(None, (link, previous)))):
            raise NotThin("A checkpoint that was kept lies in the container's directory.")
        try:
            self.may_be_there = True
            self._make_there()
            here = Receiver(self._source.transport)
            reference = self._source.host.graph_root
            here.make(self.plan.here, self._container.id, size_here(self._images), reference)
            self._channels = [self._receiver.channel() for _number in range(OPENED_BEFORE)]
            if self._pace.measures:
                self._pace.know(self._progress.bandwidth or self._measured())
        except (Short, TransportError) as error:
            self.close()
            raise NotThin(str(error)) from error

    def _is_taken(self, link: str) -> bool:
        return os.path.lexists(link) and not is_ours(link, self._container.id)

    def _make_there(self) -> None:
        size = size_there(self._images, self.plan.there, self._memory)
        self._receiver.make(self.plan.there, self._container.id, size, self._destination.host.graph_root)

    def _measured(self) -> float:
        channel = self._receiver.channel()
        try:
            channel.send(f"nowhere {MEMORY} {NOWHERE} - - -\n".encode())
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
        parent = directory_of(len(self.rounds)) if self.rounds else None
        if self._tries:
            self._receiver.begin_round(self.plan.there, self._container.id, CHECKPOINT, parent)
        self._tries += 1
        put_link(t.cast(str, link_of(self._container)), here)
        with self._sent(CHECKPOINT, t.cast(str, self._container.bundle), parent):
            yield

    @contextlib.contextmanager
    def _sent(self, directory: str, work: str, parent: str | None) -> Iterator[None]:
        """Send what is written into a directory while it is written.

        :param work: where CRIU's statistics come when it is over.
        """
        room, address = self._room, f"{self.plan.there} {self._container.id} {directory}"
        channels, self._channels = self._channels, []
        self._sender = Sender(
            os.path.join(room, directory),
            os.path.join(work, "stats-dump"),
            address,
            channels,
            self._receiver.channel,
            self._pace,
            self._progress,
            f"../{parent}" if parent else None,
        )
        self._sender.start()
        try:
            yield
        except BaseException:
            self.close()
            raise
        self._sender.written()

    @property
    def _room(self) -> str:
        return os.path.join(self.plan.here, self._container.id)

    def precopy(self, flags: list[str]) -> None:
        """Send memory in rounds while the container runs.

        :param flags: of the runtime's checkpoint command.
        :raises FerryError: if a round fails; the container runs on.
        """
        # CRIU writes a little more than what was estimated.
        room = round(self._images * GROWTH)
        while another(self.rounds, self.plan.rounds, room):
            name = directory_of(len(self.rounds) + 1)
            self.rounds.append(self._round(name, directory_of(len(self.rounds)) if self.rounds else None, flags))
        last = directory_of(len(self.rounds))
        self._receiver.begin_round(self.plan.there, self._container.id, CHECKPOINT, last)
        previous = os.path.join(self._room, PREVIOUS)
        put_link(previous, last)
        put_link(t.cast(str, previous_of(self._container)), previous)
        self._channels = [self._receiver.channel() for _number in range(OPENED_BEFORE)]

    def without_rounds(self, reason: str) -> None:
        """Begin anew after a round has failed, and do none.

        :raises NotThin: see ``prepare``.
        """
        self.close()
        self.rounds = []
        self.plan = replace(self.plan, times=1, rounds=0, rounds_reason=reason)
        self._images = self._memory
        self.prepare()

    def _round(self, name: str, parent: str | None, flags: list[str]) -> int:
        """Bytes of memory in it."""
        images, work = os.path.join(self._room, name), os.path.join(self._room, f"{name}-work")
        os.mkdir(images, 0o700)
        os.mkdir(work, 0o700)
        self._receiver.begin_round(self.plan.there, self._container.id, name, parent)
        with self._sent(name, work, parent):
            pre_dump(self._container, images, work, parent, flags)
        self.finish()
        self.close()
        return pages_in(images)

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
