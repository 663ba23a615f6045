# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What becomes of a move that was cut off: the next run of it reads the journal, and finishes or undoes it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._arrival import Arrival
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    MigrationFailed,
    MovedOn,
    OutcomeUnknown,
    RestoredAndEnded,
    StartedAnew,
)
from ansible_collections.ferry.podman.plugins.module_utils._guard import Guard
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._migration import (
    PATIENCE,
    Ending,
    begun_there,
    checkpoint_options,
    unpacks,
    verify,
)
from ansible_collections.ferry.podman.plugins.module_utils._orphan import wait_for_runtime
from ansible_collections.ferry.podman.plugins.module_utils._provision import remove_networks
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN, find_made
from ansible_collections.ferry.podman.plugins.module_utils._restore import checkpoint_evidence
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import settle
from ansible_collections.ferry.podman.plugins.module_utils._transport import same_service

UNTOUCHED = ("assess", "prepare", "precopy")
FROZEN_HERE = ("freeze", "transfer")
"""Phases in which podman on the destination has not seen the end of an archive, and so restores nothing."""

LAYER_GONE = "layer not known"


class CutOff(FerryError):
    """Stands for the failure of a run that could not tell its own."""


@dataclass
class Recovery:
    """One move that was cut off.

    :param request: of the new run; what the first one decided is in the entry.
    """

    source: Side
    destination: Side
    journal: Journal
    entry: Entry
    request: MoveRequest

    def run(self) -> Container | None:
        """Finish or undo it: the container where it runs on the destination, or None if it is the source's.

        :raises MigrationFailed: if neither can be done now; the message says where the container is.
        """
        if self.entry.phase in UNTOUCHED:
            self._forget()
            return None
        if self.entry.phase in FROZEN_HERE:
            self._undo()
            return None
        self._require_same_destination()
        if self.entry.phase == "commit":
            return self._committed()
        if self.entry.returning:
            return self._returned()
        return self._settled()

    # -- nothing had left the source ------------------------------------------------------------------------------

    def _forget(self) -> None:
        container = self.source.client.find_container(self.entry.id)
        if container is not None and container.running:
            wait_for_runtime(self.source.client, container)
            settle(self.source.client, container)
        self._ending().remove_pages(container)
        self._ending().take_back_volumes()
        if self._same_destination():
            remove_networks(self.destination.client, self.entry.networks)
        self.journal.close()

    def _undo(self) -> None:
        """Have it run on the source from what was frozen there."""
        container = self.source.client.find_container(self.entry.id)
        if container is None:
            raise self._failed("It is gone from the source, and the destination had not got it.", "unknown")
        if not container.running and checkpoint_evidence(self.source.client, container) in ("absent", "stale"):
            self._lost_in_a_reboot(container)
        runs, outcome = self._ending().bring_back(container, CutOff("The run was cut off."))
        if not runs:
            raise self._failed(outcome, "unknown")
        self._remove_guard()

    def _lost_in_a_reboot(self, container: Container) -> None:
        settle(self.source.client, container)
        self._remove_guard()
        left = ""
        if self._same_destination():
            left = self._ending().cleaned_up_there(self.entry)
        self._ending().remove_pages(container)
        if not left:
            self.journal.close()
        raise self._failed(
            "The host stopped before its memory had been written, so that is lost as with any stop. It was not "
            f"started. podman start {container.name} starts it afresh.{left}",
            "source",
        )

    # -- the destination may have it ----------------------------------------------------------------------------------

    def _same_destination(self) -> bool:
        return same_service(self.destination.client.transport.url, self.entry.destination)

    def _require_same_destination(self) -> None:
        if not self._same_destination():
            given = self.destination.client.transport.url
            raise self._failed(
                f"It may run at {self.entry.destination}, and this run is for {given}. Run it for the first one again: "
                "it finds out and goes on.",
                "unknown",
            )

    def _settled(self) -> Container | None:
        try:
            there = self._arrival().settle(PATIENCE)
        except (RestoredAndEnded, MovedOn) as error:
            if self._runs_here():
                self._undo()
                return None
            if isinstance(error, MovedOn):
                raise self._ending().nowhere_started(error.message, error.remedy) from error
            raise self._ended(error) from error
        except OutcomeUnknown as error:
            raise self._ending().nowhere_started(error.message, error.remedy) from error
        except StartedAnew as error:
            # It may have run so for long, and clients been answered by it.
            raise self._ended(error) from error
        if there is None and self._runs_here():
            self._undo()
            return None
        if there is None:
            if self.entry.phase == "verify" or self.source.client.find_container(self.entry.id) is None:
                raise self._failed(
                    "It ran on the destination and is gone from there. Nothing was started on the source, because it "
                    f"would go back to what it was before. {self._by_hand()}",
                    "unknown",
                )
            self._undo()
            return None
        return self._verified(there)

    def _runs_here(self) -> bool:
        """Whether somebody has restored it on the source by hand, as an earlier answer told."""
        container = self.source.client.find_container(self.entry.id)
        return container is not None and container.running

    def _returned(self) -> Container | None:
        """Go on with what the first run had decided, unless it has not removed it; then that has run on since."""
        there = self.destination.client.find_container(self.entry.id)
        if there is not None and there.running:
            return self._verified(there)
        try:
            if there is None:
                self._arrival().require_not_moved_on()
            elif there.checkpointed:
                raise MovedOn(f"The container {there.name} was checkpointed on the destination since.")
            else:
                self._ending().remove_from_destination(force=False)
        except MovedOn as error:
            if not self._runs_here():
                raise self._ending().nowhere_started(error.message, error.remedy) from error
        self._undo()
        return None

    def _verified(self, there: Container) -> Container:
        try:
            verify(self.destination.client, there.id, self.request, self._remove_guard)
        except (RestoredAndEnded, StartedAnew) as error:
            raise self._ended(error) from error
        except FerryError as error:
            # It may have run there for long, and clients been answered by it: no way back.
            raise self._failed(f"It runs on the destination. {error}", "destination") from error
        self._remove_guard()
        return self._commit(there)

    def _ended(self, error: RestoredAndEnded | StartedAnew) -> MigrationFailed:
        self._ending().kept_on_disk()
        with contextlib.suppress(FerryError, OSError):
            self._ending().release_volumes()
        return self._failed(
            f"{error} Nothing was started on the source, because it would go back to what it was before. "
            f"{self._by_hand()}",
            "destination",
        )

    def _committed(self) -> Container:
        there = self.destination.client.find_container(self.entry.id)
        if there is None:
            raise self._failed(f"It ran on the destination and is gone from there. {self._by_hand()}", "unknown")
        return self._commit(there)

    def _commit(self, there: Container) -> Container:
        remains = self._remains()
        if remains is not None:
            self._ending().commit(remains)
            return there
        self._ending().release_volumes()
        if not self.entry.keep_source:
            # The container is removed before its volumes.
            self._ending().remove_moved_volumes(self.entry.volumes)
        self._ending().remove_pages(None)
        self._ending().health_findings()
        self.journal.close()
        return there

    def _remains(self) -> Container | None:
        try:
            return self.source.client.find_container(self.entry.id)
        except ApiError as error:
            if not half_removed(error):
                raise
        self.source.client.remove_container(self.entry.id, volumes=False)
        return None

    def _by_hand(self) -> str:
        name = self.entry.name
        return (
            f"To go on from the source's copy, as it was when it was frozen: podman_restore there, name={name} "
            f"tcp_established=true file_locks=true. Then, or to give it up, remove the journal {self.journal.path}."
        )

    # -- parts ----------------------------------------------------------------------------------------------------

    def _failed(self, text: str, location: str) -> MigrationFailed:
        return MigrationFailed(
            f"An earlier move of container {self.entry.name} was cut off in the phase {self.entry.phase}. {text}",
            location=location,
        )

    def _remove_guard(self) -> None:
        guard = Guard(self.destination.client.transport, self.entry.id, [], [], until=self.entry.guarded_until or None)
        if self._same_destination():
            guard.remove()

    def _arrival(self) -> Arrival:
        entry = self.entry
        container = self.source.client.find_container(entry.id)
        image_id = container.image_id if container is not None else entry.image_id
        return Arrival(
            self.destination.client,
            entry.id,
            entry.name,
            image_id,
            lambda late: unpacks(self.destination, self.journal, late=late),
            lambda: begun_there(self.destination, self.journal),
            entry.unheard_until,
            entry.phase_begun + self.destination.client.transport.timeout,
        )

    def _ending(self) -> Ending:
        options = checkpoint_options(self.entry.tcp)
        return Ending(self.source, self.destination, self._arrival(), self.journal, options, self.request)


def half_removed(error: ApiError) -> bool:
    """Whether podman has lost a container's files and still knows its name: the service was killed on removing it."""
    return LAYER_GONE in str(error)


def arrived_before(source: LibpodClient, destination: LibpodClient, name: str) -> Container | None:
    """The container on the destination, if it is there and the source does not have it, or only its remains.

    Its remains are a container that an earlier move kept: one of the same ID that a checkpoint has stopped, or a
    stopped one that a running container on the destination was made of.
    """
    remains = source.find_container(name)
    if remains is None:
        container = destination.find_container(name)
        # One that did not run before a cold move is not started by it.
        return container if container is not None and (container.running or ORIGIN in container.annotations) else None
    if remains.checkpointed:
        container = destination.find_container(remains.id)
    elif not remains.running:
        container = find_made(destination, remains.name, remains.id)
    else:
        container = None
    return container if container is not None and container.running else None
