# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Did the container arrive? For when the answer to its restore is lost.

podman may still be unpacking the archive, so a container that is not there now may be there in a moment. What decides
it is a fence: a container of the same name, created and never started. Names are unique in podman's own database. If
the fence can be made, a restore that is still under way fails at that name; if not, the container is there already.
"""

from __future__ import annotations

import contextlib
import math
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    MovedOn,
    OutcomeUnknown,
    RestoredAndEnded,
    StartedAnew,
    TransportError,
)
from ansible_collections.ferry.podman.plugins.module_utils._health import HOST_STOPPED, require_restored
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._orphan import (
    end_command,
    end_orphan,
    is_orphaned,
)

LABEL = "ferry.fence"
NEVER_RAN = ("created", "configured", "initialized")
SECONDS_BETWEEN = 1.0
ORPHAN_ENDS_WITHIN = 10.0


@dataclass
class Arrival:
    """One container's, on the destination.

    :param id: of the container, on both hosts.
    :param image_id: of its image, which the destination has.
    :param unheard_until: until when nothing that it says there reaches a client, in seconds since the epoch.
    :param over_at: when a restore that an earlier run began must be over, in seconds since the epoch.
    :param unpacks: asks whether podman is unpacking any archive there; None if that cannot be asked. With True a
        spooled archive counts only if podman is at work on it: a killed podman leaves its own for ever.
    :param begun: asks when the move began, by the destination's clock, in seconds since the epoch.
    """

    client: LibpodClient
    id: str
    name: str
    image_id: str
    unpacks: t.Callable[[bool], bool | None]
    begun: t.Callable[[], float]
    unheard_until: float = 0.0
    over_at: float = math.inf

    def settle(self, patience: float) -> Container | None:
        """The container if it runs there; None if it does not and never will.

        :param patience: seconds in which to ask again when the destination does not answer.
        :raises RestoredAndEnded: if it ran there and has ended.
        :raises StartedAnew: if it runs there without its memory.
        :raises MovedOn: if somebody has taken a checkpoint of it there.
        :raises OutcomeUnknown: if the destination cannot be asked.
        """
        end = time.monotonic() + patience
        while True:
            try:
                return self._decided()
            except (RestoredAndEnded, StartedAnew, OutcomeUnknown):
                raise
            except FerryError as error:
                if time.monotonic() > end:
                    raise OutcomeUnknown(
                        f"The destination cannot tell whether {self.name} runs there: {error}"
                    ) from error
            time.sleep(SECONDS_BETWEEN)
            self._reconnect()

    def _reconnect(self) -> None:
        # If that fails, so does the next question, with the reason.
        with contextlib.suppress(TransportError):
            self.client.transport.reopen()

    def _decided(self) -> Container | None:
        there = self.client.find_container(self.id)
        if there is None:
            self._fence()
            # It may have come between the question and the fence.
            there = self.client.find_container(self.id)
        if there is None:
            self._see_that_it_never_ran()
            return None
        if there.checkpointed:
            raise MovedOn(f"The container {self.name} ran on the destination, and was checkpointed there since.")
        if there.status not in NEVER_RAN:
            require_restored(there)
            return there
        if there.was_restored:
            raise RestoredAndEnded(
                f"The container {self.name} was restored, and the destination has stopped since.", HOST_STOPPED
            )
        if is_orphaned(self.client, there):
            self._end_orphan(there)
        # Not by force: it must not be lost if it has come to run meanwhile.
        self.client.remove_container(there.id, force=False, volumes=False)
        return None

    def _see_that_it_never_ran(self) -> None:
        """A container of ``--rm`` is gone as soon as its process has ended; the host's events tell it."""
        events = self.client.events(self.id)
        try:
            self._require_not_moved_on(events)
        except MovedOn:
            self._drop_fence()
            raise
        code = ended_with(events)
        if code is not None:
            self._drop_fence()
            raise RestoredAndEnded(
                f"The container {self.name} was restored, its process has ended with {code}, and it was removed.", code
            )

    def require_not_moved_on(self) -> None:
        """Of one that is not there.

        :raises MovedOn: if it was there since the move began, and a checkpoint was taken of it.
        """
        self._require_not_moved_on(self.client.events(self.id))

    def _require_not_moved_on(self, events: list[Json]) -> None:
        if "checkpoint" in actions_since(events, self.begun()):
            raise MovedOn(
                f"The container {self.name} arrived on the destination, was checkpointed there since, and is gone: it "
                "may have moved on.",
                remedy="Look for it on the other hosts. Where it runs nowhere, podman_restore goes on from the "
                f"source's copy: name={self.name} tcp_established=true file_locks=true.",
            )

    def _end_orphan(self, there: Container) -> None:
        if time.time() > self.unheard_until:
            raise OutcomeUnknown(
                f"The container {self.name} runs on the destination without podman knowing of it, because the podman "
                "service was killed there. Clients may have been answered by it.",
                remedy=f"If what it did there may be lost, end it with {end_command(there)} on the destination and run "
                "this again: it goes on on the source from where it was frozen.",
            )
        end_orphan(self.client, there)
        end = time.monotonic() + ORPHAN_ENDS_WITHIN
        while is_orphaned(self.client, there):
            # A key that allows one command alone runs that instead, and says nothing.
            if time.monotonic() > end:
                raise OutcomeUnknown(
                    f"The container {self.name} runs on the destination without podman knowing of it, and could not be "
                    "ended from here.",
                    remedy=f"End it there with {end_command(there)}, and run this again.",
                )
            time.sleep(SECONDS_BETWEEN)

    def _fence(self) -> None:
        """:raises ApiError: if the name is taken by then."""
        if self._standing() is not None:
            return
        spec = {"name": self.name, "image": self.image_id, "netns": {"nsmode": "none"}, "labels": {LABEL: self.id}}
        try:
            self.client.create_container(spec)
        except ApiError as error:
            if f"in use by {self.id}" not in str(error) or not self._no_restore_can_come(self.over_at):
                raise
            # A power failure leaves files in podman's store of a container that is not in its database yet.
            self.client.remove_container(self.id, force=False)
            self.client.create_container(spec)

    def _no_restore_can_come(self, over_at: float) -> bool:
        late = time.time() > over_at
        found = self.unpacks(late)
        return found is False or (found is None and late)

    def _drop_fence(self) -> None:
        if self._standing() is not None:
            self.client.remove_container(self.name, force=False)

    def _standing(self) -> Container | None:
        there = self.client.find_container(self.name)
        return there if there is not None and there.labels.get(LABEL) == self.id else None

    def lift(self, patience: float, pending_until: float) -> bool:
        """Remove the fence once no restore can come any more; whether there is none now.

        :param patience: seconds to wait for that.
        :param pending_until: when the last restore that was begun must be over, in seconds since the epoch.
        :raises FerryError: if it cannot be removed.
        """
        end = time.monotonic() + patience
        while self._standing() is not None:
            if self._no_restore_can_come(pending_until):
                self.client.remove_container(self.name, force=False)
                return True
            if time.monotonic() > end:
                return False
            time.sleep(SECONDS_BETWEEN)
        return True


def actions_since(events: list[Json], begun: float) -> list[str]:
    """What happened to a container since then, by the clock of its host; in whole seconds where podman tells no more.

    :param begun: seconds since the epoch.
    """
    times = [float(event.get("timeNano") or 0) / 1e9 or float(event.get("time") or 0) for event in events]
    return [str(event.get("Action")) for event, at in zip(events, times) if at >= begun]


def ended_with(events: list[Json]) -> int | None:
    """The exit code of a container that ended by itself since it was last made on a host, else None.

    One that was moved away has a checkpoint among its events since then.
    """
    actions = [str(event.get("Action")) for event in events]
    last_made = len(actions) - actions[::-1].index("create") - 1 if "create" in actions else 0
    if "died" not in actions[last_made:] or "checkpoint" in actions[last_made:]:
        return None
    died = events[actions.index("died", last_made)]
    return int((died.get("Actor") or {}).get("Attributes", {}).get("containerExitCode") or 0)
