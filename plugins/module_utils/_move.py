# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What is left to do for one container that is to be on another host, and doing it: idempotent, and after a cut too."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _journal
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._cold import ColdEnding, ColdMove
from ansible_collections.ferry.podman.plugins.module_utils._coldrecovery import ColdRecovery
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import (
    exclusive,
    exclusive_as,
    uninterrupted,
)
from ansible_collections.ferry.podman.plugins.module_utils._journal import Journal
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._migration import Migration, described_container, nothing
from ansible_collections.ferry.podman.plugins.module_utils._recovery import Recovery, arrived_before, half_removed
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import LABEL as HOLD
from ansible_collections.ferry.podman.plugins.module_utils._transport import same_service


@dataclass
class Move:
    """One container on its way.

    :param name: or ID.
    :param directory: of the journal.
    :param result: what a module returns; filled as things become known, also when it fails.
    :param warn: takes findings that refuse nothing.
    :param watching: is called when it runs on the destination, and all that is left is to look at it again.
    """

    source: LibpodClient
    destination: LibpodClient
    name: str
    request: MoveRequest
    directory: str
    check_mode: bool
    result: Json
    warn: t.Callable[[list[Json]], None]
    watching: t.Callable[[], None] = nothing

    def run(self) -> None:
        """:raises FerryError: saying where the container is, as far as that is known."""
        here = self._find_here()
        with self._alone(here):
            journal = self._journal_of(here)
            entry = journal.load() if journal is not None else None
            if journal is not None and entry is not None:
                arrived = self._take_up(journal, entry)
            else:
                arrived = arrived_before(self.source, self.destination, self.name)
            if arrived is None:
                self._move()
            else:
                self._finish(arrived, kept=entry is not None and entry.keep_source)

    def _find_here(self) -> Container | None:
        """The container on the source; one that a killed podman has half removed is left to the journal's next run."""
        try:
            return self.source.find_container(self.name)
        except ApiError as error:
            entry = _journal.find_entry(self.directory, self.name)
            if entry is None or entry.phase != "commit" or not half_removed(error):
                raise
            return None

    def _alone(self, here: Container | None) -> contextlib.AbstractContextManager[None]:
        """Of what is only in the journal another run may have it in hand."""
        if here is not None:
            return exclusive(self.source, here)
        entry = _journal.find_entry(self.directory, self.name)
        if entry is None:
            return contextlib.nullcontext()
        if entry.pod:
            raise FerryError(
                f"A move of the pod {self.name} was cut off.", remedy="Name its containers with their pod."
            )
        return exclusive_as(self.source, entry.id, f"container {entry.name}")

    def _journal_of(self, here: Container | None) -> Journal | None:
        if here is not None:
            return Journal(self.directory, here.id)
        found = _journal.find_entry(self.directory, self.name)
        return Journal(self.directory, found.id) if found is not None else None

    def _take_up(self, journal: Journal, entry: _journal.Entry) -> Container | None:
        """Finish or undo a move that was cut off; the container if it runs on the destination now."""
        self.result["interrupted_phase"] = entry.phase
        if self.check_mode:
            raise FerryError(
                f"An earlier move of container {entry.name} was cut off in the phase {entry.phase}.",
                remedy="Run this without check mode: it finishes or undoes that move.",
            )
        sides = Side.of(self.source), Side.of(self.destination)
        with uninterrupted():
            recovery = ColdRecovery if entry.method == "cold" else Recovery
            try:
                arrived = recovery(*sides, journal, entry, self.request).run()
            finally:
                if journal.entry is None:
                    self._tell_of_another_destination(entry)
        if arrived is not None:
            self.result["method"] = entry.method
        self.result["changed"] = True
        if journal.entry is not None:
            raise FerryError(
                f"The container {entry.name} runs on the source again after a move that was cut off, but the "
                "destination may still be unpacking what it was sent.",
                remedy="Run this again in a few minutes.",
                location="source",
            )
        return arrived

    def _tell_of_another_destination(self, entry: _journal.Entry) -> None:
        if entry.method == "live" and not same_service(entry.destination, self.destination.transport.url):
            where = entry.name, entry.id, entry.destination, entry.made_volumes
            found = [each.as_dict() for each in _compat.elsewhere_findings(*where, thin=entry.thin)]
            self.warn(found)
            self.result.update({"findings": found} if found else {})

    def _finish(self, arrived: Container, *, kept: bool) -> None:
        """It runs on the destination already; what an earlier run left on the source is removed, unless it is kept.

        :param kept: by the run that this one has taken up.
        """
        remains = None if kept or self.request.keep_source else self._remains(arrived)
        result = self.result
        result["container"] = described_container(arrived)
        result["location"] = "destination"
        result["changed"] = result["changed"] or remains is not None
        state = {"location": "destination"}
        result["diff"] = {"before": {**state, "remains_on": "source"} if remains else state, "after": state}
        if remains is not None and not self.check_mode:
            with uninterrupted():
                findings = self._forget(remains, arrived)
            result.update({"findings": [finding.as_dict() for finding in findings]} if findings else {})

    def _remains(self, arrived: Container) -> Container | None:
        """What an earlier run has kept; a cold move has made a container with another ID of it."""
        found = self.source.find_container(arrived.id)
        origin = arrived.annotations.get(ORIGIN)
        return found if found is not None or origin is None else self.source.find_container(origin)

    def _forget(self, remains: Container, arrived: Container) -> list[_compat.Finding]:
        if remains.id == arrived.id:
            return self._live(remains).ending.commit(remains)
        sides = Side.of(self.source), Side.of(self.destination)
        journal = Journal(self.directory, remains.id)
        journal.begin(kept_entry(remains, self.destination))
        ColdEnding(*sides, journal, self.request).commit()
        return _compat.kept_volumes_findings(remains.name, remains.volumes)

    def _live(self, container: Container) -> Migration:
        sides = Side.of(self.source), Side.of(self.destination)
        return Migration(*sides, container, self.request, Journal(self.directory, container.id), self.watching)

    def _cold(self, container: Container) -> ColdMove:
        sides = Side.of(self.source), Side.of(self.destination)
        journal = Journal(self.directory, container.id)
        return ColdMove(*sides, [container], self.request, journal, watching=self.watching)

    def _migration(self) -> Migration | ColdMove:
        container = self.source.container(self.name)
        return self._cold(container) if self.request.method == "cold" else self._live(container)

    @property
    def _what(self) -> str:
        return f"container {self.name}"

    def _move(self) -> None:
        self.result["location"] = "source"
        migration = self._migration()
        found = migration.assess(rehearse=not self.check_mode)
        self.result["estimate"] = migration.assessment.estimate.as_dict()
        doing = f"Moving {self._what}"
        findings = [finding.as_dict() for finding in _compat.refuse_warnings(doing, found, force=self.request.force)]
        self.warn([finding for finding in findings if finding["severity"] == "warning"])
        findings = [*self.result.get("findings", []), *findings]
        self.result["diff"] = {"before": {"location": "source"}, "after": {"location": "destination"}}
        moved = migration.planned()
        if self.check_mode:
            moved["phases"] = migration.phases_to_come
        else:
            moved = migration.run()
            self.warn(moved["findings"])
            self.result["location"] = "destination"
        self.result.update(moved, findings=findings + moved["findings"], changed=True)


def kept_entry(remains: Container, destination: LibpodClient) -> _journal.Entry:
    """Of the end of a cold move that had kept the source, and perhaps had ignored its volumes."""
    return _journal.Entry(
        id=remains.id,
        name=remains.name,
        image_id=remains.image_id,
        destination=destination.transport.url,
        phase="commit",
        method="cold",
        members={remains.id: remains.name},
    )


@dataclass
class PodMove(Move):
    """The same for a pod, whose containers move cold and as one.

    :param name: of the pod, or its ID.
    """

    def run(self) -> None:
        """:raises FerryError: saying where the pod is, as far as that is known."""
        here = self.source.pod(self.name)
        entry = _journal.find_entry(self.directory, self.name)
        ident = str(here["Id"]) if here is not None else (entry.id if entry is not None else None)
        with exclusive_as(self.source, ident, self._what) if ident is not None else contextlib.nullcontext():
            journal = Journal(self.directory, ident) if ident is not None else None
            entry = journal.load() if journal is not None else None
            arrived = self._take_up(journal, entry) if journal is not None and entry is not None else self._there()
            if arrived is None:
                self._move()
            else:
                self._tell(arrived)

    @property
    def _what(self) -> str:
        return f"pod {self.name}"

    def _there(self) -> Container | None:
        """A container of the pod on the destination, if it was moved before."""
        if self.source.pod(self.name) is not None:
            return None
        # By its name, or by the ID that it had on the source.
        there = self.destination.pod(self.name) or self.destination.labelled_pod(f"{ORIGIN}={self.name}")
        if there is None or ORIGIN not in (there.get("Labels") or {}):
            return None
        members = members_of(self.destination, there)
        return members[0] if members else None

    def _tell(self, arrived: Container) -> None:
        self.result.update(container=described_container(arrived), pod=self.name, location="destination")
        state = {"location": "destination"}
        self.result["diff"] = {"before": state, "after": state}

    def _migration(self) -> ColdMove:
        pod = self.source.pod(self.name)
        if pod is None:
            raise FerryError(f"There is no pod {self.name} on the source.", remedy="See podman pod ps.")
        members = members_of(self.source, pod)
        if not members:
            raise FerryError(f"The pod {self.name} has no containers.", remedy="Make it on the destination.")
        sides = Side.of(self.source), Side.of(self.destination)
        return ColdMove(*sides, members, self.request, Journal(self.directory, str(pod["Id"])), pod)


def members_of(client: LibpodClient, pod: Json) -> list[Container]:
    """The containers of a pod but its infra container, each after those that it depends on."""
    found = [client.find_container(each["Id"]) for each in pod.get("Containers") or []]
    waiting = {each.id: each for each in sorted(filter(None, found), key=lambda each: each.name) if is_member(each)}
    ordered: list[Container] = []
    while waiting:
        ready = [each for each in waiting.values() if not set(each.dependencies) & set(waiting)]
        # Podman lets no two depend on each other.
        ordered += ready or list(waiting.values())
        waiting = {ident: each for ident, each in waiting.items() if each not in ordered}
    return ordered


def is_member(container: Container) -> bool:
    """Whether it is no infra container, and none that an earlier run has left to hold another one."""
    return not container.is_infra and HOLD not in container.labels
