# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""One move of a running container: assess, prepare, freeze, transfer, restore, verify, commit.

Until the commit the source has the container and its checkpoint. Any failure before it ends with the container
running on the source again, unless the destination cannot be asked whether it runs there: then nothing is started.
The journal has the phase before it begins; ``_recovery`` reads it after a run that was cut off.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import tempfile
import time
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _criu
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._arrival import Arrival
from ansible_collections.ferry.podman.plugins.module_utils._assess import Assessment, MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import bring_back
from ansible_collections.ferry.podman.plugins.module_utils._earlyimport import EarlyImport
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    CheckpointFailed,
    FerryError,
    MigrationFailed,
    NotFound,
    OutcomeUnknown,
    RestoredAndEnded,
    RestoreFailed,
    StartedAnew,
    TransportError,
    described,
    facts_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import uninterrupted
from ansible_collections.ferry.podman.plugins.module_utils._guard import EXPIRES, Guard, parents_and_addresses
from ansible_collections.ferry.podman.plugins.module_utils._health import (
    RESTORED,
    passes,
    rearm,
    require_restored,
    wait_healthy,
)
from ansible_collections.ferry.podman.plugins.module_utils._host import probe
from ansible_collections.ferry.podman.plugins.module_utils._journal import PHASES, Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    Json,
    LibpodClient,
    RestartPolicy,
    RestoreOptions,
)
from ansible_collections.ferry.podman.plugins.module_utils._orphan import is_at_work, wait_for_runtime
from ansible_collections.ferry.podman.plugins.module_utils._pages import (
    has_checkpoint,
    keep_on_disk,
    remove_here,
    remove_previous,
    remove_there,
    state_of_previous,
    tidy_export,
)
from ansible_collections.ferry.podman.plugins.module_utils._precopy import PAGES
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._provision import (
    bring_image,
    make_networks,
    remove_networks,
)
from ansible_collections.ferry.podman.plugins.module_utils._registry import Reference, RegistryCarrier
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer, name_base
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import drop_hold, hold, settle
from ansible_collections.ferry.podman.plugins.module_utils._thin import NotThin, Plan, Thin
from ansible_collections.ferry.podman.plugins.module_utils._transport import same_service
from ansible_collections.ferry.podman.plugins.module_utils._volumecopy import VolumeCopy, release, take_back

PATIENCE = 30.0
"""Seconds in which a destination that does not answer is asked again whether the container arrived."""

GUARDED_TIMES = 4
"""For how many times the estimated downtime the guard stands, if nobody removes it."""

LOOKED_AT_AGAIN = 0.5
"""Seconds after which a process that was restored must still be there, where no health check tells more."""

ONE_ROUND = "One round, which podman's API does; with transfer=thin there may be more."

LEFT_OVER = 60
"""Seconds after which nothing is still written to an archive that is spooled."""

BEGUN_THERE = ("restore", "verify", "commit")
"""Phases in which podman on the destination may have seen a whole archive."""


def nothing() -> None:
    """For whoever need not be told."""


class Stage(enum.Enum):
    """Where the container may run, while it moves."""

    HERE = "source"
    SENT = "unknown"
    THERE = "destination"


class Migration:
    """The move of one container."""

    def __init__(
        self,
        source: Side,
        destination: Side,
        container: Container,
        request: MoveRequest,
        journal: Journal,
        watching: t.Callable[[], None] = nothing,
    ) -> None:
        self.source = source
        self.destination = destination
        self.container = container
        self.request = request
        self.journal = journal
        self.watching = watching
        self.assessment = Assessment(source, destination, container, request)
        self.subject = self.assessment.subject
        self.tcp = self.assessment.tcp
        self.progress = Progress(journal, request.bandwidth)
        self._contents = Contents()
        self._stage = Stage.HERE
        self.arrival = Arrival(
            destination.client,
            container.id,
            container.name,
            container.image_id,
            lambda late: unpacks(destination, journal, late=late),
            lambda: begun_there(destination, journal),
        )
        self.carrier = self._registry_carrier()
        self.thin: Thin | None = None
        self.early: EarlyImport | None = None
        self.early_pages = 0
        self._previous: dict[str, tuple[int, int, int]] = {}
        self.volumes: VolumeCopy | None = None
        self.ending = Ending(source, destination, self.arrival, journal, checkpoint_options(self.tcp), request)

    def assess(self, *, rehearse: bool = False) -> list[_compat.Finding]:
        """Every reason against the move; nothing has been touched.

        :param rehearse: send a tiny image through the registry, where one is used.
        """
        with self.progress.timed("assess"):
            findings = self.assessment.findings()
            if self.carrier is not None:
                findings += self.carrier.findings(rehearse=rehearse)
            return findings

    def planned(self) -> Json:
        """What is known of the move before it begins."""
        known = {"container": described_container(self.container), "tcp": self.tcp, "method": "live"}
        return {**known, **self._way(), "findings": []}

    @property
    def phases_to_come(self) -> list[str]:
        """For check mode."""
        planned = self.assessment.thin
        rounds = planned.rounds if isinstance(planned, Plan) else not self.assessment.no_early_pages
        before = rounds or self.assessment.volumes_first
        return [phase for phase in PHASES[1:] if before or phase != "precopy"]

    def run(self) -> Json:
        """Move it, and return what the module returns.

        :raises MigrationFailed: saying where the container is now.
        """
        self._prepare()
        self._precopy()
        with uninterrupted():
            guard = self._guard()
            try:
                arrived, downtime = self._carried(guard)
            finally:
                self._end_sending()
            findings = [*arrived.pop("findings"), *self._after(guard)]
        return {
            "container": arrived,
            "downtime_ms": downtime,
            "bytes": self.progress.sent,
            "phases": self.progress.phases,
            "tcp": self.tcp,
            "method": "live",
            **self._way(),
            "findings": findings,
        }

    def _way(self) -> Json:
        """How its state goes, and why so."""
        return {**self._way_of_memory(), "precopy_volumes": self.volumes.sent if self.volumes is not None else []}

    def _way_of_memory(self) -> Json:
        planned = self.thin.plan if self.thin is not None else self.assessment.thin
        if isinstance(planned, Plan):
            used = self.thin.compression if self.thin is not None else None
            rounds = self.thin.rounds if self.thin is not None else []
            why = planned.rounds_reason or f"At most {planned.rounds} rounds, as long as each is smaller than the last."
            known = {"transfer": "thin", "transfer_reason": planned.reason, "compression": used}
            return {**known, "precopy": rounds, "precopy_reason": why}
        wanted = self.request.transfer
        if wanted in ("auto", "thin"):
            wanted = "stream" if self.source.client.transport.is_local else "relay"
        known = {"transfer": wanted, "transfer_reason": str(planned), "compression": "none"}
        rounds = [self.early_pages] if self.early_pages else []
        return {**known, "precopy": rounds, "precopy_reason": self.assessment.no_early_pages or ONE_ROUND}

    def _prepare(self) -> None:
        """Have everything on the destination that can be there before the freeze."""
        devices, addresses = self._reached_here()
        self.journal.begin(
            Entry(
                id=self.container.id,
                name=self.container.name,
                image_id=self.container.image_id,
                destination=self.destination.client.transport.url,
                phase="prepare",
                tcp=self.tcp,
                volumes=[] if self.request.ignore_volumes else self.container.volumes,
                devices=devices,
                addresses=addresses,
                keep_source=self.request.keep_source,
                expected=self.assessment.expected,
            )
        )
        here, there = self.source.client, self.destination.client
        try:
            with self.progress.timed("prepare"):
                bring_image(here, there, self.subject, self.request.image_transfer)
                made = make_networks(here, there, self._networks_to_make())
                self.journal.enter("prepare", networks=made)
                name_base(there, self.subject, self._doing)
                self._prepare_thin()
        except FerryError:
            self._forget_prepared()
            raise

    def _forget_prepared(self) -> None:
        """Have nothing left of a move that has not frozen anything; what cannot be removed is left to the next run."""
        self._end_sending()
        with contextlib.suppress(FerryError):
            self.ending.remove_pages(self.container)
            self.ending.take_back_volumes()
            entry = self.journal.entry
            remove_networks(self.destination.client, entry.networks if entry is not None else [])
            self.journal.close()

    def _prepare_thin(self) -> None:
        """Have room and channels for the memory on both hosts, or go on without.

        :raises FerryError: if it was to be thin, or the archive does not fit either.
        """
        planned, facts = self.assessment.thin, self.destination.facts
        if not isinstance(planned, Plan):
            return
        here, there, memory = self.source.client, self.destination.client, self.assessment.estimate.memory
        zstd = facts is not None and "zstd" in facts.programs
        thin = Thin(here, there, self.container, planned, self.request.compress, memory, self.progress, zstd_there=zstd)
        self.journal.enter("prepare", thin=True)
        try:
            self._claim(thin)
        except NotThin as reason:
            self._forget_pages(thin)
            if self.request.transfer == "thin":
                _compat.refuse_blockers(self._doing, _compat.thin_findings(str(reason)))
            _compat.refuse_blockers(self._doing, self.assessment.give_up_thin(reason))
            return
        self.thin = thin

    @staticmethod
    def _claim(thin: Thin) -> None:
        """:raises NotThin: if there is not even the room for no rounds."""
        try:
            thin.prepare()
        except NotThin as reason:
            if not thin.plan.rounds:
                raise
            thin.without_rounds(str(reason))

    def _forget_pages(self, thin: Thin) -> None:
        """Nothing of them is to stay; where the other host has made nothing, it need not remove anything either."""
        removed = not thin.may_be_there
        with contextlib.suppress(FerryError):
            self.ending.remove_pages(self.container)
            removed = True
        if removed:
            self.journal.enter("prepare", thin=False)

    def _precopy(self) -> None:
        """Have most of volumes and memory on the destination before the freeze, where that is possible.

        :raises FerryError: if it fails; the container runs on, and nothing of it is left.
        """
        rounds = self.thin.plan.rounds if self.thin is not None else not self.assessment.no_early_pages
        try:
            if not rounds and not self.assessment.volumes_first:
                return
            with self.progress.phase("precopy"):
                # Memory last: it is the first to have changed again.
                self._copy_volumes()
                if self.thin is not None and self.thin.plan.rounds:
                    self._rounds(self.thin)
                if self.thin is None and not self.assessment.no_early_pages:
                    self._begin_archive()
                self._require_as_before()
        except (FerryError, OSError) as error:
            self._forget_prepared()
            raise MigrationFailed(f"{described(error)} It has not been frozen.", location="source") from error

    def _require_as_before(self) -> None:
        """:raises FerryError: if the container, or what is on the destination, is not what it was."""
        now = self.source.client.container(self.container.id)
        if not now.running or now.started_at != self.container.started_at:
            raise FerryError(f"The container {now.name} has ended or was started anew while its memory went over.")
        if self.volumes is not None:
            self.volumes.require()

    def _require_connection(self) -> None:
        """Have one again, where it was lost, before anything is frozen for it.

        :raises TransportError: if the destination does not answer.
        """
        there = self.destination.client
        there.transport.again_if_lost(there.volume_names)

    def _copy_volumes(self) -> None:
        """:raises FerryError: if it fails, and what it has left cannot be removed."""
        volumes = self.assessment.volumes_first
        if not volumes:
            return
        there = self.destination.client

        def claim(names: list[str]) -> None:
            self.journal.enter("precopy", made_volumes=names)

        copy, connection = VolumeCopy(there, self.container, volumes, self.progress, claim), there.transport.forward
        try:
            copy.prepare()
        except FerryError:
            self.ending.take_back_volumes()
            claim([])
            if there.volume_names() & volumes.keys():
                raise
            # They go in the archive, which needs them not to be there.
            if self.thin is not None and there.transport.forward is not connection:
                # Its channels went over the connection that is lost.
                self._go_on_without_rounds(self.thin, "The connection was lost while volumes went over.")
            return
        self.volumes = copy
        self.journal.note(expected=self.progress.sent + self._weight_of_archive)

    @property
    def _weight_of_archive(self) -> int:
        """Bytes that go in the freeze, about, if all of the memory does."""
        weight = self.assessment.estimate
        return weight.archive - (weight.volumes if self.volumes is not None else 0)

    def _rounds(self, thin: Thin) -> None:
        try:
            thin.precopy(checkpoint_options(self.tcp).runtime_flags)
        except (FerryError, OSError) as error:
            if self.request.precopy != "auto":
                raise
            self._require_connection()
            self._go_on_without_rounds(thin, f"A round has failed. {described(error)}")
            return
        self._previous = state_of_previous(self.container)
        rest = self._weight_of_archive - self.assessment.estimate.memory
        self.journal.note(expected=self.progress.sent + thin.rounds[-1] + rest)

    def _begin_archive(self) -> None:
        """Have podman there take the memory as it is now, as the begin of an archive."""
        checkpointer = self.assessment.checkpointer()
        if has_checkpoint(self.container):
            self.assessment.no_early_pages = f"Something of a checkpoint lies in {self.container.bundle}."
            return
        self.journal.enter("precopy", previous=True)
        early = self.early = EarlyImport(self._import_early)
        early.begin()
        try:
            pages = checkpointer.export_pages(self.container, self._contents)
            first = next(pages)  # Podman has written all of it.
            tidy_export(self.container)
            self._previous = state_of_previous(self.container)
            early.send(self.progress.counted(itertools.chain([first], pages)))
            early.drain()
        except (FerryError, OSError) as error:
            self._give_up_early(f"A round has failed. {described(error)}")
            self.ending.remove_previous()
            if self.request.precopy != "auto":
                raise
            self._require_connection()
            return
        sizes = self._contents.sizes
        self.early_pages = sum(size for name, size in sizes.items() if PAGES.fullmatch(os.path.basename(name)))
        rest = self._weight_of_archive - self.assessment.estimate.memory
        self.journal.note(expected=self.progress.sent + self.early_pages + rest)

    def _import_early(self, chunks: Iterator[bytes]) -> Json:
        return self._restorer().import_chunks(chunks, self._contents, self.subject, None, self._doing)

    def _give_up_early(self, why: str) -> None:
        if self.early is not None:
            self.early.abort()
        self.early, self.early_pages, self._contents = None, 0, Contents()
        self.assessment.no_early_pages = why

    def _go_on_without_rounds(self, thin: Thin, why: str) -> None:
        try:
            thin.without_rounds(why)
        except NotThin as reason:
            self._forget_pages(thin)
            self.thin = None
            _compat.refuse_blockers(self._doing, self.assessment.give_up_thin(reason))

    def _end_sending(self) -> None:
        if self.thin is not None:
            self.thin.close()
        if self.early is not None:
            self.early.abort()
        if self.volumes is not None:
            self.volumes.close()

    def _registry_carrier(self) -> RegistryCarrier | None:
        """Each move has a tag of its own."""
        if self.request.transfer != "registry":
            return None
        reference = Reference.parse(f"{self.request.registry}:{self.container.id[:12]}-{time.time():.0f}")
        return RegistryCarrier(self.source.client, self.destination.client, reference, self.request.access)

    def _guard(self) -> Guard:
        devices, addresses = self.assessment.guarded if self.tcp == "established" else ([], [])
        lifetime = max(EXPIRES, self.assessment.estimate.downtime_ms // 1000 * GUARDED_TIMES)
        there = self.destination.client.transport
        return Guard(there, self.container.id, devices, addresses, lifetime, self.assessment.reached_elsewhere)

    def _reached_here(self) -> tuple[list[str], list[str]]:
        """What a way back has to guard: podman tells no addresses of a container that is frozen."""
        if self.tcp == "none":
            return [], []
        networks = self.container.networks
        return parents_and_addresses(networks, {name: self.source.client.network(name) for name in networks})

    def _networks_to_make(self) -> list[str]:
        return self.subject.networks if self.request.networks == "create" else []

    # -- freeze, transfer, restore, verify ------------------------------------------------------------------------

    def _carried(self, guard: Guard) -> tuple[Json, int]:
        """Bring the container over, or have it run on the source again; its facts and the downtime in milliseconds."""
        try:
            with guard:
                policy = hold(self.source.client, self.container).policy
                self.arrival.unheard_until = guard.unheard_until
                begun = time.monotonic()
                arrived = self._restored(policy, guard)
                downtime = round((time.monotonic() - begun) * 1000)
                self._verify(guard)
            return arrived, downtime
        except RestoredAndEnded as error:
            raise self.ending.ended_there(error) from error
        except OutcomeUnknown as error:
            raise self.ending.nowhere_started(error.message, error.remedy) from error
        except Exception as error:
            if isinstance(error, StartedAnew):
                self._stage = Stage.THERE
            raise self._returned(error) from error

    def _restored(self, policy: RestartPolicy, guard: Guard) -> Json:
        """Have it run on the destination.

        :raises RestoredAndEnded: if it ran there and has ended.
        :raises StartedAnew: if it runs there without its memory.
        :raises OutcomeUnknown: if nobody can tell.
        :raises Exception: anything else; it does not run there.
        """
        contents = self._contents
        with self.progress.phase("freeze", **guard_times(guard)):
            chunks = self._frozen(policy, contents)
        try:
            if self.carrier is None:
                arrived = self._imported(chunks, contents, guard)
            else:
                arrived = self._carried_by(self.carrier, chunks, contents, guard)
        except RestoredAndEnded:
            raise
        except Exception as error:
            arrived = self._arrived_all_the_same(error)
        self._stage = Stage.THERE
        if self.volumes is not None:
            # The commit does it again.
            with contextlib.suppress(FerryError, OSError):
                self.ending.release_volumes()
        return arrived

    def _arrived_all_the_same(self, error: Exception) -> Json:
        """Settle what an error leaves open; raises it if the container does not run on the destination."""
        proven = isinstance(error, RestoreFailed) and not isinstance(error, OutcomeUnknown)
        if self._stage is Stage.HERE or proven:
            raise error
        there = self.arrival.settle(PATIENCE)
        if there is None:
            message = error.message if isinstance(error, FerryError) else described(error)
            raise FerryError(f"{message} The destination has been asked since: it does not run there.") from error
        return {**described_container(there), "statistics": {}, "findings": []}

    def _imported(self, chunks: Iterator[bytes], contents: Contents, guard: Guard) -> Json:
        """Send the archive to podman, which restores it."""
        with contextlib.ExitStack() as phases:
            phases.enter_context(self.progress.phase("transfer"))

            def whole() -> None:
                # podman acts on an archive when it has seen its end, which is sent when this returns.
                if self.thin is not None:
                    self.thin.finish()
                if self.volumes is not None:
                    self.volumes.finish()
                phases.close()
                phases.enter_context(self._restoring(guard))

            sent = self.progress.counted(chunks)
            if self.early is not None:
                self.early.send(sent)
                whole()
                return self.early.finish()
            return self._restorer().import_chunks(sent, contents, self.subject, None, self._doing, whole)

    def _carried_by(self, carrier: RegistryCarrier, chunks: Iterator[bytes], contents: Contents, guard: Guard) -> Json:
        """Send it as an image through a registry, and have podman restore that."""
        with self.progress.phase("transfer"):
            facts = self.source.facts
            criu = ".".join(map(str, facts.criu)) if facts is not None and facts.criu is not None else None
            carrier.prepare(self.progress.counted(chunks), contents, self.source.host, criu)
            self.journal.enter("transfer", carried=carrier.image_id, sent=self.progress.sent)
            carrier.push()
            image_id = carrier.pull()
        with self._restoring(guard):
            return self._restorer().restore_image(image_id, contents, self.subject, self._doing)

    @contextlib.contextmanager
    def _restoring(self, guard: Guard) -> Iterator[None]:
        """From here on podman on the destination may have the container running."""
        guard.refresh()
        self.arrival.unheard_until = guard.unheard_until
        made = self._made_volumes()
        with self.progress.phase("restore", sent=self.progress.sent, made_volumes=made, **guard_times(guard)):
            self._stage = Stage.SENT
            yield

    def _made_volumes(self) -> list[str]:
        """Those that podman will make there, or we have. What somebody else makes meanwhile is not ours to remove."""
        if self.volumes is not None:
            return sorted(self.assessment.volumes_first)
        wanted = self.subject.volumes
        return sorted(set(wanted) - self.destination.client.volume_names()) if wanted else []

    @property
    def _doing(self) -> str:
        return f"Restoring container {self.subject.name} on the destination"

    def _restorer(self) -> Restorer:
        there, request = self.destination, _compat.RestoreRequest()
        return Restorer(there.client, there.host, self._restore_options(), request, base_named=True)

    def _frozen(self, policy: RestartPolicy, contents: Contents) -> Iterator[bytes]:
        """The archive; when this returns, the container is frozen and the server has written all of it."""
        thin = self.thin
        if not (thin.rounds if thin is not None else self.early):
            return self._dumped(policy, contents)
        try:
            return self._dumped(policy, contents, with_previous=True)
        except CheckpointFailed as error:
            if not self.request.retries or not _criu.is_transient(error.facts.get("criu_log") or []):
                raise
        # Of the processes that were dumped before it failed CRIU has forgotten what they have changed.
        why = "A client was connecting during the last dump, so all of the memory went again."
        if thin is not None:
            thin.without_rounds(why)
        else:
            # What has gone stays in the archive, and nothing asks for it.
            self.assessment.no_early_pages = why
        return self._dumped(policy, contents)

    def _dumped(self, policy: RestartPolicy, contents: Contents, *, with_previous: bool = False) -> Iterator[bytes]:
        thin = self.thin
        checkpointer = self.assessment.checkpointer(
            with_previous=with_previous, without_volumes=self.volumes is not None
        )
        chunks = checkpointer.export(
            self.container,
            contents,
            self._spool(),
            policy,
            fix_addresses=self.carrier is not None,
            around=thin.dump if thin is not None else contextlib.nullcontext,
            link=thin.images_there if thin is not None else None,
            previous_sent=self.early is not None,
        )
        first = next(chunks)
        if with_previous and state_of_previous(self.container) != self._previous:
            # The kernel has told somebody else what was written since, and begun anew.
            raise FerryError(
                f"Somebody else has written out the memory of {self.container.name} between the round and the freeze.",
                remedy="Run this again when nobody else checkpoints it, or with precopy=never.",
            )
        if self.volumes is not None:
            self.volumes.compare()
        return itertools.chain([first], chunks)

    def _spool(self) -> t.IO[bytes]:
        """For copies of modified files; on a machine between the two hosts nothing of them rests on a disk."""
        if self.source.client.transport.is_local:
            return tempfile.TemporaryFile()
        return os.fdopen(os.memfd_create("ferry"), "w+b")

    def _verify(self, guard: Guard) -> None:
        """See that it lives. As long as the guard stands no client has been answered, and a way back loses nothing."""
        with self.progress.phase("verify"):
            try:
                self._verified(guard)
            except NotFound:
                # One of --rm has ended, or somebody has moved it on: neither is a reason to start it here.
                self.arrival.settle(PATIENCE)
                raise

    def _verified(self, guard: Guard) -> None:
        there, ident = self.destination.client, self.container.id
        try:
            verify(there, ident, self.request, guard.remove, watching=self.watching)
        except TransportError:
            # A lost connection says nothing about the container.
            self.arrival.settle(PATIENCE)
            verify(there, ident, self.request, guard.remove)

    def _returned(self, error: Exception) -> MigrationFailed:
        # Before anything else is written where the pages lie.
        self._end_sending()
        if self._stage is Stage.THERE:
            try:
                self.ending.remove_from_destination()
            except FerryError as second:
                return self.ending.nowhere_started(f"{described(error)} {second}")
        if self.carrier is not None:
            self.carrier.remove()
        return self.ending.back_on_source(self.container, error)

    # -- commit ---------------------------------------------------------------------------------------------------

    def _after(self, guard: Guard) -> list[Json]:
        """Commit; what is found from here on cannot change where the container is."""
        findings = _compat.guard_findings(guard.table, guard.left)
        with self.progress.timed("commit"):
            findings += self.ending.commit(self.container)
        return [finding.as_dict() for finding in findings]

    # -- options --------------------------------------------------------------------------------------------------

    def _checkpoint_options(self) -> CheckpointOptions:
        return checkpoint_options(self.tcp)

    def _restore_options(self) -> RestoreOptions:
        another_address = self.assessment.another_address
        return RestoreOptions(
            tcp_established=self.tcp == "established",
            tcp_close=self.tcp == "close",
            ignore_static_ip=another_address,
            ignore_static_mac=another_address,
            ignore_volumes=self.request.ignore_volumes or self.volumes is not None,
            publish=self.request.publish,
            file_locks=True,
        )


@dataclass
class Ending:
    """The ways in which a move ends; used by the run that began it and by the one after a cut.

    :param options: of the checkpoint, which a restore on the source must fit.
    """

    source: Side
    destination: Side
    arrival: Arrival
    journal: Journal
    options: CheckpointOptions
    request: MoveRequest

    def back_on_source(self, container: Container, error: Exception) -> MigrationFailed:
        """Have it run on the source again from the same memory, after the destination has nothing of it."""
        runs, outcome = self.bring_back(container, error)
        location = "source" if runs else "unknown"
        return MigrationFailed(
            f"{described(error)} On the source: {outcome}", **{**facts_of(error), "location": location}
        )

    def bring_back(self, container: Container, error: Exception) -> tuple[bool, str]:
        """Have it run on the source, and clean up; whether it runs there now, and how it is."""
        with self._unheard_here():
            outcome = bring_back(self.source.client, container, self.options, error)
        if is_at_work(self.source.client, container):
            # Nothing of what it writes or reads may be touched.
            return False, f"{outcome} The next run of this move tries it again."
        now = None
        with contextlib.suppress(FerryError):
            now = self.source.client.find_container(container.id)
        if now is None or not now.running:
            return False, f"{outcome}{self.kept_on_disk()} The next run of this move tries it again."
        return True, outcome + self._cleaned_up(now)

    @contextlib.contextmanager
    def _unheard_here(self) -> Iterator[None]:
        """Keep connections from being reset on the way back too; it goes without where nft cannot be run."""
        entry = self.journal.entry
        reached = (entry.devices, entry.addresses) if entry is not None else ([], [])
        guard = Guard(self.source.client.transport, self.arrival.id, *reached)
        with contextlib.suppress(TransportError):
            guard.set()
        try:
            yield
        finally:
            guard.remove()

    def _cleaned_up(self, container: Container) -> str:
        """Remove every other trace of the move; what is left, as text."""
        entry = self.journal.entry
        try:
            settle(self.source.client, container)
            self.remove_previous()
            if entry is not None and entry.thin:
                remove_here(self.source.client, self.source.host, container.id, container)
            if entry is not None and same_service(entry.destination, self.destination.client.transport.url):
                left = self.destination.client.transport.again_if_lost(lambda: self.cleaned_up_there(entry))
                if left:
                    return left
            self.remove_carried()
            self.journal.close()
        except FerryError as error:
            return f" Something of the move is left: {error}"
        return ""

    def remove_carried(self) -> None:
        """Remove the image that had the state, once nothing can be restored from it any more; the registry keeps it."""
        entry = self.journal.entry
        for side in (self.source, self.destination) if entry is not None and entry.carried else ():
            with contextlib.suppress(FerryError):
                side.client.remove_image(entry.carried if entry is not None else "")

    def remove_pages(self, container: Container | None) -> None:
        """Have no copy of the memory beside podman's own left on either host, once nothing can need it.

        :param container: on the source, if it is still there.
        :raises FerryError: if something stays.
        """
        entry = self.journal.entry
        self.remove_previous()
        if entry is None or not entry.thin:
            return
        try:
            remove_here(self.source.client, self.source.host, self.arrival.id, container)
        finally:
            if same_service(entry.destination, self.destination.client.transport.url):
                self.destination.client.transport.again_if_lost(lambda: self._remove_pages_there(entry))

    def remove_previous(self) -> None:
        """Have nothing left in the container's directory of a round by podman, when neither it nor the runtime works.

        :raises FerryError: if something stays, or that cannot be told.
        """
        entry, here = self.journal.entry, self.source.client
        # Asked anew, because podman answers when it has done with it.
        container = here.find_container(self.arrival.id) if entry is not None and entry.previous else None
        if container is not None:
            wait_for_runtime(here, container)
            remove_previous(container)

    def take_back_volumes(self) -> None:
        """Remove those that were made on the destination for a move that does not come about.

        :raises FerryError: if one cannot be removed.
        """
        entry, there = self.journal.entry, self.destination.client
        if entry is not None and entry.made_volumes and same_service(entry.destination, there.transport.url):
            there.transport.again_if_lost(lambda: take_back(there, entry.id, entry.made_volumes))

    def release_volumes(self) -> None:
        """Let go of those that were filled before it was restored there.

        :raises FerryError: if that cannot be done.
        """
        entry, there = self.journal.entry, self.destination.client
        if entry is not None and entry.made_volumes:
            known = entry.id, entry.image_id, entry.made_volumes
            there.transport.again_if_lost(lambda: release(self.source.client, there, *known))

    def _remove_pages_there(self, entry: Entry) -> None:
        if entry.thin:
            remove_there(self.destination.client, self.destination.host, self.arrival.id)

    def kept_on_disk(self) -> str:
        """Have a memory that nothing runs with outlive a reboot; what to say of it. Never raises."""
        entry = self.journal.entry
        if entry is None or not entry.thin:
            return ""
        container = None
        with contextlib.suppress(FerryError):
            container = self.source.client.find_container(self.arrival.id)
        if container is None or container.running or is_at_work(self.source.client, container):
            return ""
        return keep_on_disk(self.source.client, self.source.host, container)

    def cleaned_up_there(self, entry: Entry) -> str:
        """Remove what the destination has of a move that is undone; what is left, as text.

        :raises FerryError: if something cannot be removed.
        """
        remove_networks(self.destination.client, entry.networks)
        if entry.phase not in BEGUN_THERE:
            self._remove_pages_there(entry)
            self.take_back_volumes()
            return ""
        if not self.arrival.lift(PATIENCE, self._pending_until()):
            return (
                f" The destination may still be unpacking the archive, so a container {entry.name} that is never "
                "started holds its name there; the next run removes it."
            )
        self._remove_pages_there(entry)
        # podman makes them before the container, and leaves them when it is killed.
        self.take_back_volumes()
        return ""

    def _pages_left(self) -> list[_compat.Finding]:
        """Remove the memory's copies; that cannot fail a move that is over."""
        try:
            self.remove_pages(None)
        except FerryError as error:
            return _compat.pages_findings(self.arrival.name, str(error))
        return []

    def _pending_until(self) -> float:
        """When a restore that was sent must be over, in seconds since the epoch."""
        entry = self.journal.entry
        begun = entry.phase_begun if entry is not None else time.time()
        return begun + self.destination.client.transport.timeout

    def nowhere_started(self, why: str, remedy: str | None = None) -> MigrationFailed:
        """Nobody knows whether it runs on the destination.

        :param remedy: what can be done about just this.
        """
        name, kept = self.arrival.name, self.kept_on_disk()
        return MigrationFailed(
            f"{why} Nothing was started on the source, because it may run there. Its checkpoint is kept.{kept}",
            remedy=remedy
            or "Run this again when the destination answers: it finds out and goes on. If the destination is lost "
            f"for ever: podman_restore here, name={name} tcp_established=true file_locks=true.",
            location="unknown",
        )

    def ended_there(self, error: RestoredAndEnded) -> MigrationFailed:
        """Its process ended after the restore: with 0 it has done its work, else it runs on the source again."""
        if error.exit_code == 0:
            self.kept_on_disk()
            with contextlib.suppress(FerryError, OSError):
                self.release_volumes()
            return done_there(error)
        container = self.source.client.find_container(self.arrival.id)
        try:
            self._remove_ended()
        except FerryError as second:
            return self.nowhere_started(f"{error} {second}")
        if container is None:
            return self.nowhere_started(f"{error} The source has nothing of it.")
        return self.back_on_source(container, error)

    def _remove_ended(self) -> None:
        """Not by force, unless its restart policy has started it anew meanwhile."""
        try:
            self.remove_from_destination(force=False)
        except FerryError:
            there = self.destination.client.find_container(self.arrival.id)
            if there is None or not there.running or there.restored:
                raise
            self.remove_from_destination()

    def remove_from_destination(self, *, force: bool = True) -> None:
        """Remove a container that was restored and is not to stay, with the volumes that came along.

        :raises FerryError: if the container cannot be removed, or the journal cannot be told before.
        """
        self.journal.enter("verify", returning=True)
        there = self.destination.client
        container = there.find_container(self.arrival.id)
        if container is None:
            return
        there.remove_container(container.id, force=force, volumes=False)
        for volume in self._moved_volumes(container):
            with contextlib.suppress(FerryError):
                there.remove_volume(volume)

    def _moved_volumes(self, container: Container) -> list[str]:
        """Names of those whose content is on both hosts; by what the run knew that began the move."""
        entry = self.journal.entry
        return [name for name in container.volumes if entry is not None and name in entry.volumes]

    def commit(self, container: Container) -> list[_compat.Finding]:
        """Remove what moved from the source, now that it runs on the destination; what was found besides.

        Not by force: a copy that somebody has started here meanwhile must be seen, not lost. Without a journal nobody
        knows which volumes came along, so all stay.

        :raises MigrationFailed: if something stays on the source.
        """
        here = self.source.client
        try:
            entry, moved = self.journal.entry, self._moved_volumes(container)
            if entry is not None:
                self.journal.enter("commit")
            self.release_volumes()
            drop_hold(here, container)
            if not (self.request.keep_source or (entry is not None and entry.keep_source)):
                here.remove_container(container.id, force=False, volumes=False)
                self.remove_moved_volumes(moved)
            self.remove_carried()
            # Before the journal is closed: a run that is killed in between would leave the container paused.
            findings = [*self._pages_left(), *self.health_findings()]
            findings += _compat.kept_volumes_findings(container.name, container.volumes if entry is None else [])
            self.journal.close()
        except FerryError as error:
            raise MigrationFailed(
                f"The container {container.name} runs on the destination. Its remains on the source could not be "
                f"removed: {error}",
                remedy="See with podman ps -a whether it was started there again; remove it there.",
                location="destination",
            ) from error
        return findings

    def health_findings(self) -> list[_compat.Finding]:
        """Have podman's timer run the health check again; it cannot fail the move."""
        there = self.destination.client
        try:
            rearm(there, there.container(self.arrival.id))
        except FerryError as error:
            return _compat.health_timer_findings(self.arrival.name, str(error))
        return []

    def remove_moved_volumes(self, names: list[str]) -> None:
        """One that another container uses stays, and so does the refusal of a later way back."""
        for name in names:
            if not any(name in container.volumes for container in self.source.client.each_container()):
                self.source.client.remove_volume(name)


def verify(
    client: LibpodClient,
    ident: str,
    request: MoveRequest,
    open_guard: t.Callable[[], None],
    began: str = RESTORED,
    watching: t.Callable[[], None] = nothing,
) -> None:
    """See that a container lives where it was restored.

    :param open_guard: lets clients through.
    :param began: how it came to run there.
    :param watching: is called when clients are answered, and all that is left is to look at it again.
    :raises RestoredAndEnded: if its process has ended.
    :raises StartedAnew: if it was restored, and runs without its memory.
    :raises NotFound: if it is gone.
    :raises FerryError: if its health check does not pass in time.
    """

    def look() -> None:
        # What was started may end and be started again until its check passes.
        if began == RESTORED:
            require_restored(client.container(ident))

    there = client.container(ident)
    if request.wait_healthy and there.has_health_check and there.running:
        if not passes(client, there)[0]:
            # The check may need answers from outside.
            open_guard()
            wait_healthy(client, there, request.wait_healthy_timeout, look)
        look()
        return
    open_guard()
    watching()
    time.sleep(LOOKED_AT_AGAIN)
    require_restored(client.container(ident), began)


def done_there(error: RestoredAndEnded) -> MigrationFailed:
    """Of a process that ended with 0 on the destination."""
    return MigrationFailed(
        f"{error} It has done its work, so it is left on the destination and nothing is started on the source.",
        remedy="Remove what is left of it on the source.",
        location="destination",
    )


def guard_times(guard: Guard) -> dict[str, float]:
    """Of the journal."""
    return {"guarded_until": guard.until or 0.0, "unheard_until": guard.unheard_until}


def checkpoint_options(tcp: str) -> CheckpointOptions:
    return CheckpointOptions(tcp_established=tcp != "none", file_locks=True)


def described_container(container: Container) -> Json:
    return {"name": container.name, "id": container.id, "image": container.image, "image_id": container.image_id}


def begun_there(destination: Side, journal: Journal) -> float:
    """When the move began by the clock of that host, or by this one's where it cannot be asked."""
    begun, asked = journal.entry.begun if journal.entry is not None else 0.0, time.time()
    facts = probe(destination.client.transport)
    return begun + (facts.clock - asked if facts is not None and facts.clock else 0.0)


def unpacks(destination: Side, journal: Journal, *, late: bool = False) -> bool | None:
    """Whether podman may be unpacking an archive on that host; None if that cannot be asked.

    podman spools what it is sent as ``restore…`` and removes that at the end (pkg/api/handlers/libpod/containers.go).
    Of an image it spools nothing. A podman that is killed leaves it.

    :param late: the client has given up, so what podman neither has open nor has written to lately is left over.
    """
    if journal.entry is not None and journal.entry.carried:
        return None
    facts = probe(destination.client.transport)
    if facts is None:
        return None
    if late and facts.reads_spool:
        return True
    return any("/restore" in spooled.path and not (late and spooled.age > LEFT_OVER) for spooled in facts.spool)
