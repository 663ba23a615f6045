# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""One cold move: assess, prepare, freeze, transfer, restore, verify, commit, without CRIU.

The phases are those of a live move. Freeze stops the container, transfer carries the files that it has changed (as an
image that podman commits) and its volumes, and restore makes it anew from its own definition and starts it. That the
destination makes the same container of it is seen before anything is stopped, by making it once without its data.

Until the destination has been asked to start it, nothing but the source can have changed its data, and whatever fails
ends with it running there again.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._arrival import ended_with
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._coldassess import ColdAssessment, Member
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    MigrationFailed,
    NotFound,
    RestoredAndEnded,
    TransportError,
    described,
    facts_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import uninterrupted
from ansible_collections.ferry.podman.plugins.module_utils._filling import (
    Filler,
    filler_name,
    is_empty,
    read_directory,
)
from ansible_collections.ferry.podman.plugins.module_utils._journal import PHASES, Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._migration import (
    Stage,
    described_container,
    done_there,
    nothing,
    verify,
)
from ansible_collections.ferry.podman.plugins.module_utils._orphan import end_orphan, is_orphaned
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._provision import (
    bring_image,
    make_networks,
    remove_networks,
)
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN, Recipe, differences, find_made
from ansible_collections.ferry.podman.plugins.module_utils._rootfs import differs_from_image
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import drop_hold, finish_stop, hold, settle
from ansible_collections.ferry.podman.plugins.module_utils._transport import same_service

IMAGES = "localhost/ferry/"
"""Before the names of images that hold a container's changed files."""

SETTLES_WITHIN = 15.0
"""Seconds until podman has finished with a container whose process has ended."""

LIVE = ("running", "paused", "stopping")
"""States in which a container has a process."""


class ColdMove:
    """The cold move of one container, or of a pod.

    :param containers: those that move as one, in the order in which they start.
    :param pod: the pod that they make up, as inspected.
    """

    def __init__(
        self,
        source: Side,
        destination: Side,
        containers: list[Container],
        request: MoveRequest,
        journal: Journal,
        pod: Json | None = None,
        watching: t.Callable[[], None] = nothing,
    ) -> None:
        self.source = source
        self.destination = destination
        self.request = request
        self.journal = journal
        self.pod = pod
        self.watching = watching
        self.assessment = ColdAssessment(source, destination, containers, request, pod)
        self.progress = Progress(journal, request.bandwidth)
        self.ending = ColdEnding(source, destination, journal, request)
        self._key = str(pod["Id"]) if pod is not None else containers[0].id
        self.filler = Filler(destination.client, self._key, containers[0].image_id)
        self._stage = Stage.HERE

    @property
    def members(self) -> list[Member]:
        return self.assessment.members

    def assess(self, *, rehearse: bool = False) -> list[_compat.Finding]:
        """Every reason against the move; nothing has been touched."""
        del rehearse
        with self.progress.timed("assess"):
            return self.assessment.findings()

    def planned(self) -> Json:
        """What is known of the move before it begins."""
        return {**self._described([member.container for member in self.members]), "method": "cold", "findings": []}

    @property
    def phases_to_come(self) -> list[str]:
        """For check mode."""
        return [phase for phase in PHASES[1:] if phase != "precopy"]

    def _described(self, containers: list[Container]) -> Json:
        told: Json = {"container": described_container(containers[0])}
        if self.pod is not None:
            told.update(pod=str(self.pod["Name"]), containers=[described_container(each) for each in containers])
        return told

    def run(self) -> Json:
        """Move it, and return what the module returns.

        :raises FerryError: saying where the container is now.
        """
        self._prepare()
        with uninterrupted():
            made, downtime = self._carried()
            findings = self._after()
        return {
            **self._described(made),
            "downtime_ms": downtime,
            "bytes": self.progress.sent,
            "phases": self.progress.phases,
            "method": "cold",
            "findings": findings,
        }

    # -- prepare --------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Have everything on the destination that can be there before the stop, and see that it will be the same."""
        self.journal.begin(self._entry())
        try:
            with self.progress.timed("prepare"):
                self._provide()
                self._rehearse()
        except FerryError:
            if not self.ending.cleared():
                self.journal.close()
            raise

    def _entry(self) -> Entry:
        first = self.members[0].container
        return Entry(
            id=self._key,
            name=str(self.pod["Name"]) if self.pod is not None else first.name,
            pod=str(self.pod["Name"]) if self.pod is not None else "",
            image_id=first.image_id,
            destination=self.destination.client.transport.url,
            phase="prepare",
            tcp="none",
            volumes=list(self.assessment.volumes),
            made_volumes=list(self.assessment.volumes),
            keep_source=self.request.keep_source,
            expected=self.assessment.estimate.archive,
            method="cold",
            members={member.container.id: member.container.name for member in self.members},
            ran=[member.container.id for member in self.members if member.ran],
        )

    def _provide(self) -> None:
        here, there = self.source.client, self.destination.client
        for member in self.members:
            subject = _compat.Subject.from_container(member.container, self.source.host.podman)
            bring_image(here, there, subject, self.request.image_transfer)
        wanted = list(self.assessment.networks) if self.request.networks == "create" else []
        self.journal.enter("prepare", networks=make_networks(here, there, wanted))
        for name, volume in self.assessment.volumes.items():
            if name not in self.assessment.anonymous:
                there.create_volume(volume)
        if self.assessment.volumes:
            self.filler.make(self.assessment.volumes, self.assessment.anonymous)

    def _rehearse(self) -> None:
        """Make it there without its data, see whether it is the same, and remove it again.

        It must not stay: with its restart policy a boot of the destination would start it.
        """
        there = self.destination.client
        found = self._made_pod()
        made = []
        for member in self.members:
            container, fields = self._made(self.assessment.recipe(member), self._base(member))
            made.append(container)
            found += _compat.not_the_same(member.container.name, fields) if fields else []
        for container in reversed(made):
            there.remove_container(container.id, volumes=self.request.ignore_volumes)
        if self.pod is not None:
            there.remove_pod(self.pod["Name"], force=False)
        _compat.refuse_blockers(f"Moving {self._what}", found)

    @property
    def _what(self) -> str:
        return f"pod {self.pod['Name']}" if self.pod is not None else f"container {self.members[0].container.name}"

    def _made_pod(self) -> list[_compat.Finding]:
        """Make the pod, where there is one; what is not the same about it."""
        recipe, there = self.assessment.pod_recipe, self.destination.client
        if recipe is None:
            return []
        ident = there.create_pod({**recipe.request(), **self._published()})
        pod = there.pod(ident) or {}
        infra = there.container(pod["InfraContainerID"]).raw if pod.get("InfraContainerID") else None
        fields = [field for field in recipe.differences(pod, infra) if not self._published_anew(field)]
        return _compat.not_the_same(f"of the pod {pod.get('Name')}", fields) if fields else []

    def _made(self, recipe: Recipe, image: str) -> tuple[Container, list[str]]:
        """The new container, and the names of the fields in which it differs."""
        there = self.destination.client
        pod = str(self.pod["Name"]) if self.pod is not None else ""
        published = self._published() if self.pod is None else {}
        ident = there.create_container({**recipe.request(image, pod), **published})
        made = there.container(ident)
        return made, [field for field in differences(recipe, made.raw) if not self._published_anew(field)]

    def _published_anew(self, field: str) -> bool:
        return bool(self.request.publish) and "Port" in field

    def _published(self) -> Json:
        return {"portmappings": [_port(text) for text in self.request.publish]} if self.request.publish else {}

    def _base(self, member: Member) -> str:
        """Of the image there: its name where that is the same image, or the ID."""
        container = member.container
        named = self.destination.client.image(container.image) if container.image else None
        return container.image if named is not None and named["Id"] == container.image_id else container.image_id

    # -- freeze, transfer, restore, verify ------------------------------------------------------------------------

    def _carried(self) -> tuple[list[Container], int]:
        """Bring it over, or have it run on the source again; the new containers and the downtime in milliseconds."""
        try:
            for member in self.members:
                if member.ran:
                    hold(self.source.client, member.container)
            begun = time.monotonic()
            with self.progress.phase("freeze"):
                self._stop()
            with self.progress.phase("transfer"):
                images = [self._files(member) for member in self.members]
                empty = self._fill()
            made = self._restored(images, empty)
            downtime = round((time.monotonic() - begun) * 1000) if self._any_ran else 0
            self._verify(made)
            return made, downtime
        except RestoredAndEnded as error:
            raise self.ending.ended_there(error) from error
        except Exception as error:
            raise self._returned(error) from error

    @property
    def _any_ran(self) -> bool:
        return any(member.ran for member in self.members)

    def _stop(self) -> None:
        """:raises FerryError: if a container does not end, or podman does not finish with it."""
        for member in reversed(self.members):
            if member.ran:
                stop(self.source.client, member.container)
        infra = self.assessment.infra
        if infra is not None and infra.ran:
            # It has the address. Podman leaves it running when it stops a pod with a container that has never run.
            stop(self.source.client, infra.container)
        for member in [*self.members, *([infra] if infra is not None else [])]:
            settled(self.source.client, member.container)

    def _files(self, member: Member) -> str:
        """The image to make it from: its own, or, on both hosts, one more with the files that it has changed."""
        here, there = self.source.client, self.destination.client
        container = here.container(member.container.id)
        if not differs_from_image(here, container, points(member.config)):
            return self._base(member)
        repository, tag = image_name(container.name, container.id)
        image_id = here.commit(container, repository, tag)
        doing = f"Sending the files of container {container.name}"
        with here.save_image(f"{repository}:{tag}") as stream:
            there.load_image(self.progress.counted(stream.chunks()), doing)
        if there.image(image_id) is None:
            raise FerryError(f"{doing}: their image did not arrive with the ID {image_id[:12]}.")
        return f"{repository}:{tag}"

    def _fill(self) -> frozenset[str]:
        """Copy the content of the volumes; returns which are empty."""
        empty = set()
        for name, place in self.assessment.places.items():
            if is_empty(place):
                empty.add(name)
            else:
                self.filler.fill(name, self.progress.counted(read_directory(place)))
        return frozenset(empty)

    def _restored(self, images: list[str], empty: frozenset[str]) -> list[Container]:
        """Make and start them."""
        with self.progress.phase("restore", sent=self.progress.sent):
            self._stage = Stage.SENT
            found = self._made_pod()
            if found:
                raise FerryError(found[0].message)
            made = [self._made_whole(member, image, empty) for member, image in zip(self.members, images)]
            self._start_all(made)
            if self.assessment.volumes:
                self.filler.remove()
        self._stage = Stage.THERE
        return made

    def _made_whole(self, member: Member, image: str, empty: frozenset[str]) -> Container:
        container, fields = self._made(self.assessment.recipe(member, empty), image)
        if fields:
            name = member.container.name
            raise FerryError(f"The destination's podman made container {name} differently in {', '.join(fields)}.")
        return container

    def _start_all(self, made: list[Container]) -> None:
        pairs = list(zip(self.members, made))
        for member, container in pairs if self._any_ran else ():
            if member.initializes:
                self._start(member, container)
                ended_well(self.destination.client, container)
        for member, container in pairs:
            if member.ran and not member.initializes:
                self._start(member, container)

    def _start(self, member: Member, container: Container) -> None:
        there = self.destination.client
        own = {name: place for name, place in self.assessment.places.items() if name in member.container.volumes}
        if own:
            # A first start gives volumes the image's owner and mode; this is all of a start but the process.
            there.initialize(container)
            self.filler.set_roots(own)
        try:
            there.start(container)
        except TransportError:
            # Nobody knows whether podman has heard it.
            if there.transport.again_if_lost(lambda: there.container(container.id)).status not in LIVE:
                raise

    def _verify(self, made: list[Container]) -> None:
        watching = self.watching if len(made) == 1 else nothing
        with self.progress.phase("verify"):
            for member, container in zip(self.members, made):
                if member.ran:
                    verified(self.destination.client, container.id, self.request, watching)

    def _returned(self, error: Exception) -> MigrationFailed:
        if self._stage is not Stage.HERE:
            try:
                self.ending.remove_from_destination()
            except FerryError as second:
                return self.ending.nowhere_started(f"{described(error)} {second}")
        return self.ending.back_on_source(error)

    def _after(self) -> list[Json]:
        with self.progress.timed("commit"):
            self.ending.commit()
        return []


@dataclass
class ColdEnding:
    """The ways in which a cold move ends; used by the run that began it and by the one after a cut."""

    source: Side
    destination: Side
    journal: Journal
    request: MoveRequest

    @property
    def entry(self) -> Entry:
        if self.journal.entry is None:
            raise FerryError(f"The journal {self.journal.path} has not been begun.")
        return self.journal.entry

    def made(self) -> Iterator[Container]:
        """What the destination has of it, in the order in which it starts."""
        for ident, name in self.entry.members.items():
            found = find_made(self.destination.client, name, ident)
            if found is not None:
                yield found

    def remove_from_destination(self, *, force: bool = True) -> None:
        """:raises FerryError: if something cannot be removed, or the journal cannot be told before."""
        self.journal.enter("verify", returning=True)
        self.destination.client.transport.again_if_lost(lambda: self._remove_made(force))

    def _remove_made(self, force: bool) -> None:
        self._remove_containers(force)
        there, entry = self.destination.client, self.entry
        pod = there.pod(entry.pod) if entry.pod else None
        if pod is not None and (pod.get("Labels") or {}).get(ORIGIN) == entry.id:
            # What is left of it is its infra container alone, which holds nothing.
            there.remove_pod(str(pod["Id"]))

    def _remove_containers(self, force: bool) -> None:
        there = self.destination.client
        for container in reversed(list(self.made())):
            if container.status == "created" and is_orphaned(there, container):
                # The service was killed between making its process and noting so: that waits and has not run.
                end_orphan(there, container)
            # One that only prepares its pod may be running.
            prepares = container.annotations.get(ORIGIN) not in self.entry.ran
            there.remove_container(container.id, force=force or prepares, volumes=False)

    def cleared(self) -> str:
        """Remove every trace on the destination; what is left, as text. The containers must not run there."""
        entry, there = self.entry, self.destination.client
        if not same_service(entry.destination, there.transport.url):
            return ""
        try:
            there.transport.again_if_lost(lambda: self._clear(entry, there))
        except FerryError as error:
            return f" Something of the move is left on the destination: {error}"
        return ""

    def _clear(self, entry: Entry, there: LibpodClient) -> None:
        self._remove_made(force=False)
        there.remove_container(filler_name(entry.id), volumes=False)
        existing = there.volume_names() if entry.made_volumes else set()
        for name in entry.made_volumes:
            if name in existing:
                there.remove_volume(name)
        self._remove_images(there)
        self._remove_bases(there)
        remove_networks(there, entry.networks)

    def _remove_bases(self, there: LibpodClient) -> None:
        """An image that is a container's own, made by an earlier cold move, is of no use without it."""
        for ident in self.entry.members:
            container = self.source.client.find_container(ident)
            if container is not None and container.image.startswith(IMAGES):
                with contextlib.suppress(FerryError):
                    there.remove_image(container.image)

    def _remove_images(self, client: LibpodClient) -> None:
        for ident, name in self.entry.members.items():
            with contextlib.suppress(FerryError):
                client.remove_image(":".join(image_name(name, ident)))

    # -- back

    def back_on_source(self, error: Exception) -> MigrationFailed:
        """Have it run on the source again, where all of its data is."""
        problem = self.bring_back()
        outcome = problem or ("it runs again." if self.entry.ran else "it is as it was.")
        return MigrationFailed(
            f"{described(error)} On the source: {outcome}{self._cleaned_up(bool(problem))}",
            **{**facts_of(error), "location": "source"},
        )

    def bring_back(self) -> str:
        """Start what ran on the source; what could not be started, as text."""
        problems = []
        for ident in self.entry.members:
            try:
                self._start_here(ident)
            except FerryError as error:
                problems.append(f"{error} The next run of this move tries it again.")
        return " ".join(problems)

    def _start_here(self, ident: str) -> None:
        here = self.source.client
        container = here.container(ident)
        if container.status in ("stopping", "stopped"):
            # By a service that goes on with what a killed run has asked for.
            container = settled(here, container)
        if ident in self.entry.ran and container.status not in LIVE:
            start_again(here, container)
        settle(here, container)

    def _cleaned_up(self, failed: bool) -> str:
        left = self.cleared()
        self._remove_images(self.source.client)
        if left or failed:
            return left
        try:
            self.journal.close()
        except FerryError as error:
            return f" {error}"
        return ""

    def undo(self) -> None:
        """After a cut: have it run on the source, and nothing on the destination.

        :raises MigrationFailed: if it cannot be started.
        """
        name = self.entry.name
        problem = self.bring_back()
        left = self._cleaned_up(bool(problem))
        if problem:
            raise MigrationFailed(
                f"An earlier move of container {name} was cut off. {problem}{left}", location="source"
            )

    def nowhere_started(self, why: str, remedy: str | None = None) -> MigrationFailed:
        """Nobody knows whether it runs on the destination."""
        name = self.entry.name
        return MigrationFailed(
            f"{why} Nothing was started on the source, because it may run there. The source has it as it was stopped.",
            remedy=remedy
            or "Run this again when the destination answers: it finds out and goes on. If the destination is lost for "
            f"ever: remove the journal {self.journal.path}, and podman start {name} here.",
            location="unknown",
        )

    def ended_there(self, error: RestoredAndEnded) -> MigrationFailed:
        """Its process ended after the start: with 0 it has done its work, else it runs on the source again."""
        if error.exit_code == 0:
            return done_there(error)
        try:
            self.remove_from_destination()
        except FerryError as second:
            return self.nowhere_started(f"{error} {second}")
        return self.back_on_source(error)

    # -- commit

    def commit(self) -> None:
        """Remove what moved from the source, now that it runs on the destination.

        Not by force: a copy that somebody has started here meanwhile must be seen, not lost.

        :raises MigrationFailed: if something stays on the source.
        """
        here = self.source.client
        name = self.entry.name
        try:
            self.journal.enter("commit")
            for ident in reversed(list(self.entry.members)):
                container = here.find_container(ident)
                if container is not None:
                    self._remove_here(container)
            if not self.entry.keep_source:
                if self.entry.pod:
                    here.remove_pod(self.entry.id, force=False)
                self._remove_volumes(here)
            self._remove_images(here)
            self.destination.client.remove_container(filler_name(self.entry.id), volumes=False)
            self.journal.close()
        except FerryError as error:
            raise MigrationFailed(
                f"The container {name} is on the destination. Its remains on the source could not be removed: {error}",
                remedy="See with podman ps -a whether it was started there again; remove it there.",
                location="destination",
            ) from error

    def _remove_here(self, container: Container) -> None:
        here = self.source.client
        drop_hold(here, container)
        if self.entry.keep_source:
            return
        # With ignore_volumes the only content of anonymous ones is here.
        here.remove_container(container.id, force=False, volumes=False)
        if container.image.startswith(IMAGES):
            # Of an earlier cold move; one that is used stays.
            for client in (here, self.destination.client):
                with contextlib.suppress(FerryError):
                    client.remove_image(container.image)

    def _remove_volumes(self, here: LibpodClient) -> None:
        """One that another container uses stays, and so does the refusal of a later way back."""
        existing = here.volume_names() if self.entry.volumes else set()
        for name in self.entry.volumes:
            if name in existing and not any(name in container.volumes for container in here.each_container()):
                here.remove_volume(name)


def verified(client: LibpodClient, ident: str, request: MoveRequest, watching: t.Callable[[], None] = nothing) -> None:
    """See that it lives.

    :param watching: as for :func:`verify`.
    :raises RestoredAndEnded: if its process has ended.
    :raises FerryError: if its health check does not pass in time.
    """
    try:
        client.transport.again_if_lost(lambda: verify(client, ident, request, nothing, "started", watching))
    except NotFound as error:
        # One of --rm is gone as soon as its process has ended.
        code = ended_with(client.events(ident))
        if code is None:
            raise
        text = f"The container {ident[:12]} was started, its process has ended with {code}, and it was removed."
        raise RestoredAndEnded(text, code) from error


def stop(client: LibpodClient, container: Container) -> None:
    """:raises FerryError: if it still runs."""
    try:
        client.stop(container)
    except ApiError:
        # The removal of --rm is a part of it, and fails because of the hold.
        if client.container(container.id).status in LIVE:
            raise


def start_again(here: LibpodClient, container: Container) -> None:
    """Start a container of this machine with the volumes as they are.

    Some podmans give the root of an empty volume another owner and mode at each start (seen with 5.4).
    """
    places = [
        str(mount["Source"]) for mount in container.mounts if mount.get("Type") == "volume" and mount.get("Source")
    ]
    before = {place: os.stat(place) for place in places if here.transport.is_local and os.path.isdir(place)}
    if before:
        here.initialize(container)
    for place, status in before.items():
        with contextlib.suppress(OSError):
            os.chown(place, status.st_uid, status.st_gid)
            os.chmod(place, stat.S_IMODE(status.st_mode))
            os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    here.start(container)


def settled(client: LibpodClient, container: Container) -> Container:
    """Wait until podman has finished with a container that was stopped.

    :raises FerryError: if it still runs, or its files are still mounted.
    """
    end = time.monotonic() + SETTLES_WITHIN + container.stop_timeout
    while (now := client.container(container.id)).status not in ("exited", "created"):
        if time.monotonic() > end:
            raise FerryError(f"The container {container.name} is {now.status} after its stop.")
        if now.status == "stopped":
            finish_stop(client, now)
        time.sleep(0.1)
    return now


def ended_well(client: LibpodClient, container: Container) -> None:
    """Wait for the end of a container that prepares something for others of its pod.

    :raises FerryError: if it fails, or does not end within the time that an answer may take.
    """
    end = time.monotonic() + client.transport.timeout
    while (now := client.container(container.id)).status in (*LIVE, "stopped"):
        if time.monotonic() > end:
            raise FerryError(f"The container {container.name}, which prepares its pod, does not end.")
        time.sleep(0.1)
    if now.exit_code != 0:
        raise FerryError(f"The container {container.name}, which prepares its pod, ended with {now.exit_code}.")


def points(config: Json) -> list[str]:
    """Paths inside a container where something is mounted, or that podman makes."""
    keys = (("namedVolumes", "dest"), ("overlayVolumes", "dest"), ("ctrImageVolumes", "dest"), ("secrets", "Target"))
    found = [str(entry.get(place) or "") for key, place in keys for entry in config.get(key) or []]
    found += [str(mount["destination"]) for mount in (config.get("spec") or {}).get("mounts") or []]
    found.append(str(((config.get("spec") or {}).get("process") or {}).get("cwd") or ""))
    return [path for path in found if os.path.isabs(path)]


def image_name(name: str, ident: str) -> tuple[str, str]:
    """Repository and tag of the image that has a container's changed files, always the same for one move."""
    repository = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "container"
    return f"{IMAGES}{repository}", ident[:12]


def _port(text: str) -> Json:
    """``[[ip:]hostPort[-end]:]containerPort[-end][/protocol]`` as the create call takes it."""
    mapping, _slash, protocol = text.partition("/")
    host, _colon, inside = mapping.rpartition(":")
    address, _colon, outside = host.rpartition(":")
    first, _dash, last = inside.partition("-")
    given: Json = {
        "container_port": int(first),
        "host_port": int(outside.partition("-")[0] or 0),
        "range": int(last or first) - int(first) + 1,
        "protocol": protocol or "tcp",
    }
    return {**given, **({"host_ip": address.strip("[]")} if address else {})}
