# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""One move of a running container: assess, prepare, freeze, transfer, restore, verify, commit.

Until the commit the source has the container and its checkpoint. Any failure before it ends with the container
running on the source again, unless the destination cannot be asked whether it runs there: then nothing is started.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._assess import Assessment, MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import bring_back
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    FerryError,
    MigrationFailed,
    OutcomeUnknown,
    RestoredAndEnded,
    described,
    facts_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import uninterrupted
from ansible_collections.ferry.podman.plugins.module_utils._guard import Guard
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    Json,
    LibpodClient,
    RestartPolicy,
    RestoreOptions,
)
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import kept_safe, settle


@dataclass
class Progress:
    """What a move has cost so far.

    :param phases: milliseconds of each phase.
    :param sent: bytes of the archive that left the source.
    """

    phases: dict[str, int] = field(default_factory=dict)
    sent: int = 0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round((time.monotonic() - begun) * 1000)

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.sent += len(chunk)
            yield chunk


class Migration:
    """The move of one container."""

    def __init__(self, source: Side, destination: Side, container: Container, request: MoveRequest) -> None:
        self.source = source
        self.destination = destination
        self.container = container
        self.request = request
        self.assessment = Assessment(source, destination, container, request)
        self.subject = self.assessment.subject
        self.tcp = self.assessment.tcp
        self.progress = Progress()

    # -- assess -----------------------------------------------------------------------------------------------

    def assess(self) -> list[_compat.Finding]:
        """Every reason against the move; nothing has been touched."""
        with self.progress.phase("assess"):
            return self.assessment.findings()

    def described(self) -> Json:
        """What is known of the container before it moves."""
        subject = self.subject
        return {"name": subject.name, "id": subject.id, "image": subject.image, "image_id": subject.image_id}

    # -- the move ---------------------------------------------------------------------------------------------

    def run(self) -> Json:
        """Move it, and return what the module returns.

        :raises MigrationFailed: saying where the container is now.
        """
        with self.progress.phase("prepare"):
            self._bring_image()
        with uninterrupted():
            return self._run()

    def _run(self) -> Json:
        devices, addresses = self.assessment.guarded if self.tcp == "established" else ([], [])
        guard = Guard(self.destination.client.transport, self.container.id, devices, addresses)
        arrived: Json | None = None
        try:
            with kept_safe(self.source.client, self.container, self._checkpoint_options()) as policy:
                with guard:
                    begun = time.monotonic()
                    arrived = self._carry(policy)
                    downtime = round((time.monotonic() - begun) * 1000)
            with self.progress.phase("commit"):
                self.commit()
        except FerryError as error:
            if arrived is None:
                raise
            raise self._committed_in_part(error) from error
        return {
            "container": arrived,
            "downtime_ms": downtime,
            "bytes": self.progress.sent,
            "phases": self.progress.phases,
            "tcp": self.tcp,
            "findings": arrived.pop("findings")
            + [finding.as_dict() for finding in _compat.guard_findings(guard.table, guard.left)],
        }

    def _bring_image(self) -> None:
        """Load the base image on the destination under its own ID; podman would go by its name."""
        subject, there = self.subject, self.destination.client
        if there.image(subject.image_id) is not None:
            return
        # Under a name that is another image's there, it would take that name away.
        reference = subject.image_id if there.image(subject.image) is not None else subject.image
        doing = f"Bringing the image {subject.image} to the destination"
        with self.source.client.save_image(reference) as stream:
            there.load_image(stream.chunks(), doing)
        if there.image(subject.image_id) is None:
            raise MigrationFailed(
                f"{doing}: it did not arrive with the ID {subject.image_id[:12]}.",
                remedy="The container was not touched. Bring the image with podman save and podman load.",
            )

    def _carry(self, policy: RestartPolicy) -> Json:
        """Freeze, transfer, restore and verify, or have it run on the source again."""
        subject = self.subject
        restorer = Restorer(
            self.destination.client, self.destination.host, self._restore_options(), _compat.RestoreRequest()
        )
        doing = f"Restoring container {subject.name} on the destination"
        try:
            contents = Contents()
            with self.progress.phase("freeze"):
                chunks = self._frozen(policy, contents)
            with self.progress.phase("transfer_and_restore"):
                return restorer.import_chunks(self.progress.counted(chunks), contents, subject, None, doing)
        except OutcomeUnknown as error:
            raise self._nowhere_started(str(error)) from error
        except RestoredAndEnded as error:
            if error.exit_code == 0:
                raise self._ended_there(error) from error
            self._remove_ended(error)
            raise self._returned(error) from error
        except Exception as error:
            raise self._returned(error) from error

    def _nowhere_started(self, why: str) -> MigrationFailed:
        return MigrationFailed(
            f"{why} Nothing was started on the source, because it may run there. Its checkpoint is kept.",
            remedy=f"If it does not run on the destination: podman_restore here, name={self.subject.name} "
            "tcp_established=true file_locks=true.",
            location="unknown",
        )

    def _ended_there(self, error: FerryError) -> MigrationFailed:
        return MigrationFailed(
            f"{error} It has done its work, so it is left on the destination and nothing is started on the source.",
            remedy="Remove what is left of it on the source.",
            location="destination",
        )

    def _remove_ended(self, error: FerryError) -> None:
        """What is left on the destination of a container whose process ended as soon as it ran there."""
        there = self.destination.client
        try:
            there.remove_container(self.subject.id, force=False)
        except FerryError as second:
            # Its restart policy may have started it again.
            raise self._nowhere_started(f"{error} {second}") from second
        for volume in self.subject.volumes:
            with contextlib.suppress(FerryError):
                there.remove_volume(volume)

    def _frozen(self, policy: RestartPolicy, contents: Contents) -> Iterator[bytes]:
        """The archive; when this returns, the container is frozen and the server has written all of it."""
        chunks = self.assessment.checkpointer().export(self.container, contents, tempfile.TemporaryFile(), policy)
        first = next(chunks)

        def all_of_it() -> Iterator[bytes]:
            yield first
            yield from chunks

        return all_of_it()

    def _returned(self, error: Exception) -> MigrationFailed:
        outcome = bring_back(self.source.client, self.container, self._checkpoint_options(), error)
        now = None
        with contextlib.suppress(FerryError):
            now = self.source.client.find_container(self.container.id)
        location = "source" if now is not None and now.running else "unknown"
        return MigrationFailed(
            f"{described(error)} On the source: {outcome}", **{**facts_of(error), "location": location}
        )

    def commit(self) -> None:
        """Remove what moved from the source, now that it runs on the destination.

        Not by force: a copy that somebody has started here meanwhile must be seen, not lost.

        :raises FerryError: if the container runs here, or its volumes cannot be removed.
        """
        self.source.client.remove_container(self.container.id, force=False)
        for volume in self.subject.volumes:
            self._remove_moved_volume(volume)

    def settle(self) -> None:
        """Finish a move that was ended between the restore and the commit."""
        settle(self.source.client, self.container)
        self.commit()

    def _committed_in_part(self, error: FerryError) -> MigrationFailed:
        return MigrationFailed(
            f"The container {self.subject.name} runs on the destination. Its remains on the source could not be "
            f"removed: {error}",
            remedy="See with podman ps -a whether it was started there again; remove it there.",
            location="destination",
        )

    def _remove_moved_volume(self, name: str) -> None:
        """One that another container uses stays, and so does the refusal of a later way back."""
        if any(name in container.volumes for container in self.source.client.each_container()):
            return
        self.source.client.remove_volume(name)

    # -- options ----------------------------------------------------------------------------------------------

    def _checkpoint_options(self) -> CheckpointOptions:
        return CheckpointOptions(tcp_established=self.tcp != "none", file_locks=True)

    def _restore_options(self) -> RestoreOptions:
        another_address = self.assessment.addresses_may_change and bool(self.assessment.taken_addresses())
        return RestoreOptions(
            tcp_established=self.tcp == "established",
            tcp_close=self.tcp == "close",
            ignore_static_ip=another_address,
            ignore_static_mac=another_address,
            file_locks=True,
        )


def arrived_before(source: LibpodClient, destination: LibpodClient, name: str) -> Container | None:
    """The container on the destination, if it runs there and the source does not have it, or only its remains.

    Its remains are a container of the same ID that a checkpoint has stopped: a run was ended before its commit.
    """
    remains = source.find_container(name)
    if remains is not None and not remains.checkpointed:
        return None
    container = destination.find_container(remains.id if remains is not None else name)
    return container if container is not None and container.running else None
