# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What becomes of a cold move that was cut off: the next run of it reads the journal, and finishes or undoes it.

Before the phase restore the destination has been asked to start nothing, so the source's data is the only one. In it,
podman on the destination tells whether the process has begun: it notes what it has prepared before it starts that.
Afterwards the process may have written data there, and there is no way back that would lose it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._cold import LIVE, ColdEnding, verified
from ansible_collections.ferry.podman.plugins.module_utils._coldassess import places_of
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    FerryError,
    MigrationFailed,
    NotFound,
    RestoredAndEnded,
)
from ansible_collections.ferry.podman.plugins.module_utils._filling import Filler
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container
from ansible_collections.ferry.podman.plugins.module_utils._migration import PATIENCE
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN
from ansible_collections.ferry.podman.plugins.module_utils._transport import same_service

NOT_BEGUN = ("created", "configured", "initialized")
"""States of a container whose process has not run since it was made."""

STARTS_WITHIN = 5.0
"""Seconds in which a start that podman has heard of shows; the run that asked for it was killed."""

SECONDS_BETWEEN = 0.5


@dataclass
class ColdRecovery:
    """One cold move that was cut off.

    :param request: of the new run; what the first one decided is in the entry.
    """

    source: Side
    destination: Side
    journal: Journal
    entry: Entry
    request: MoveRequest

    def run(self) -> Container | None:
        """Finish or undo it: the container where it is on the destination, or None if it is the source's.

        :raises MigrationFailed: if neither can be done now; the message says where the container is.
        """
        if self.entry.phase in ("prepare", "freeze", "transfer"):
            self._ending.undo()
            return None
        self._require_same_destination()
        if self.entry.phase == "commit":
            return self._committed()
        made = self._asked()
        begun = [container for container in self._to_run(made) if container.status not in NOT_BEGUN]
        if not begun:
            return self._without_a_start(made)
        ended = [container for container in begun if container.status not in LIVE]
        if ended:
            raise self._ended(ended[0])
        return self._running(made)

    def _to_run(self, made: list[Container]) -> list[Container]:
        """Those that are started; one that only prepares its pod has ended by then, and may run again."""
        return [container for container in made if container.annotations.get(ORIGIN) in self.entry.ran]

    @property
    def _ending(self) -> ColdEnding:
        return ColdEnding(self.source, self.destination, self.journal, self.request)

    def _require_same_destination(self) -> None:
        given = self.destination.client.transport.url
        if not same_service(given, self.entry.destination):
            raise self._failed(
                f"It may run at {self.entry.destination}, and this run is for {given}. Run it for the first one again: "
                "it finds out and goes on.",
                "unknown",
            )

    # -- the destination may have it --------------------------------------------------------------------------------

    def _asked(self) -> list[Container]:
        """What the destination has of it, when no start can be on its way any more.

        :raises MigrationFailed: if it does not answer.
        """
        end, shown_by = time.monotonic() + PATIENCE, time.monotonic() + STARTS_WITHIN
        while True:
            try:
                made = self.destination.client.transport.again_if_lost(lambda: list(self._ending.made()))
            except FerryError as error:
                if time.monotonic() > end:
                    why = f"The destination cannot tell whether {self.entry.name} runs there: {error}"
                    raise self._ending.nowhere_started(why) from error
            else:
                if not self._may_be_starting(made) or time.monotonic() > shown_by:
                    return made
            time.sleep(SECONDS_BETWEEN)

    def _may_be_starting(self, made: list[Container]) -> bool:
        """Whether one that is to be started is not yet."""
        return any(container.status in NOT_BEGUN for container in self._to_run(made))

    def _without_a_start(self, made: list[Container]) -> Container | None:
        whole = len(made) == len(self.entry.members)
        if not self.entry.ran and whole and not self.entry.returning:
            # Nothing was to be started: it has all that it needs.
            return self._commit(made[0])
        if self.entry.phase == "verify" and not self.entry.returning:
            raise self._failed(
                "It ran on the destination and is gone from there. Nothing was started on the source, because what it "
                f"wrote there would be lost. {self._by_hand()}",
                "unknown",
            )
        return self._undo_unless_started(made)

    def _undo_unless_started(self, made: list[Container]) -> Container | None:
        try:
            # Not by force: it must not be lost if it has come to run meanwhile.
            self._ending.remove_from_destination(force=False)
        except FerryError as error:
            now = list(self._ending.made())
            if any(container.status in LIVE for container in self._to_run(now)):
                return self._running(now)
            raise self._ending.nowhere_started(str(error)) from error
        self._ending.undo()
        return None

    def _running(self, made: list[Container]) -> Container:
        for container in self._to_run(made):
            self._verify(container)
        return self._commit(made[0])

    def _verify(self, container: Container) -> None:
        client = self.destination.client
        try:
            if container.status in NOT_BEGUN:
                self._start(container)
            verified(client, container.id, self.request)
        except RestoredAndEnded as error:
            raise self._done(str(error)) from error
        except FerryError as error:
            # It may have run there for long, and clients been answered by it: no way back.
            raise self._failed(f"It runs on the destination. {error}", "destination") from error

    def _start(self, container: Container) -> None:
        """One of a pod whose other containers run already."""
        client = self.destination.client
        found = {
            name: self.source.client.volume(name) or {} for name in self.entry.volumes if name in container.volumes
        }
        places = places_of(found)
        if places:
            client.initialize(container)
            filler = Filler(client, self.entry.id, self.entry.image_id)
            with contextlib.suppress(NotFound):
                filler.has(self.entry.volumes)
                filler.set_roots(places)
        client.start(container)

    def _ended(self, container: Container) -> MigrationFailed:
        return self._done(
            f"The container {container.name} ran on the destination and has ended with {container.exit_code}."
        )

    def _done(self, text: str) -> MigrationFailed:
        return self._failed(
            f"{text} Nothing was started on the source, because what it wrote there would be lost. {self._by_hand()}",
            "destination",
        )

    # -- commit -------------------------------------------------------------------------------------------------------

    def _committed(self) -> Container:
        made = list(self._ending.made())
        if not made:
            raise self._failed(f"It was on the destination and is gone from there. {self._by_hand()}", "unknown")
        return self._commit(made[0])

    def _commit(self, container: Container) -> Container:
        self._ending.commit()
        return container

    # -- parts --------------------------------------------------------------------------------------------------------

    def _by_hand(self) -> str:
        return (
            f"To go on there: podman start {self.entry.name} on the destination, and this again. To give that up: "
            f"remove it there, remove the journal {self.journal.path}, and podman start {self.entry.name} on the "
            "source, which has it as it was stopped."
        )

    def _failed(self, text: str, location: str) -> MigrationFailed:
        entry = self.entry
        what = f"pod {entry.pod}" if entry.pod else f"container {entry.name}"
        return MigrationFailed(
            f"An earlier move of {what} was cut off in the phase {entry.phase}. {text}", location=location
        )
