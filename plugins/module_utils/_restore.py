# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Restoring containers: in place, from an archive, or from an image; a failure leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._annotations import facts_in
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, Reader, rewritten
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    OutcomeUnknown,
    RestoredAndEnded,
    RestoreFailed,
    StartedAnew,
    TransportError,
    described,
    facts_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import exclusive
from ansible_collections.ferry.podman.plugins.module_utils._health import require_restored
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import kind_of
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    Container,
    HostInfo,
    Json,
    LibpodClient,
    RestoreOptions,
)
from ansible_collections.ferry.podman.plugins.module_utils._logs import read_log
from ansible_collections.ferry.podman.plugins.module_utils._orphan import is_orphaned
from ansible_collections.ferry.podman.plugins.module_utils._pages import remove_here
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import (
    definition_kept,
    finish_stop,
    settle,
)
from ansible_collections.ferry.podman.plugins.module_utils._volumes import set_volume_roots

ADDRESS_TAKEN = re.compile(r"requested ip address (\S+) is already allocated to container ID ([0-9a-f]{64})")
HAS_ITS_ADDRESS = ("initialized", "running", "paused", "stopping")


def gather_facts(
    client: LibpodClient, host: HostInfo, subject: _compat.Subject, request: _compat.RestoreRequest
) -> _compat.RestoreFacts:
    """Ask the restoring host for everything that the verdict compares."""
    # The subject of an image has no ID.
    names = request.new_names or [name for name in (subject.name, subject.id) if name]
    owners = {name: client.find_container(name) for name in names}
    by_id = client.image(subject.image_id) if subject.image_id else None
    by_name = client.image(subject.image) if subject.image else None
    secrets = client.secret_names() if subject.secrets else set()
    volumes = client.volume_names() if subject.volumes else set()
    return _compat.RestoreFacts(
        host=host,
        taken={name: owner.id for name, owner in owners.items() if owner is not None},
        image_present=by_id is not None,
        image_named=by_name["Id"] if by_name and by_id is None else None,
        image_unnamed=by_id is not None and bool(subject.image) and by_name is None and name_of(subject) is None,
        existing_volumes=[name for name in subject.volumes if name in volumes],
        absent_networks=[name for name in subject.networks if client.network(name) is None],
        absent_secrets=[name for name in subject.secrets if name not in secrets],
        pod_present=request.pod is None or client.pod(request.pod) is not None,
    )


def name_of(subject: _compat.Subject) -> tuple[str, str] | None:
    """Repository and tag of the base image's name; None if it has none that an image can be given."""
    repository, colon, tag = subject.image.rpartition(":")
    return (repository, tag) if colon and repository and "/" not in tag and "@" not in repository else None


def name_base(client: LibpodClient, subject: _compat.Subject, doing: str) -> None:
    """Have the base image known by the name that the container has for it.

    Podman asks for it by that name, pulls it if it does not find it, and fails; only then it takes the one of the ID.
    A name that another image has stays that one's, and is good enough for podman. The name stays when the restore
    fails: another one may be about to ask for it.

    :raises RestoreFailed: if it cannot be had.
    """
    name = name_of(subject)
    try:
        if name is not None and client.image(subject.image) is None:
            client.tag_image(subject.image_id, *name)
    except FerryError as error:
        raise RestoreFailed(f"{_told(doing, error)} Nothing was restored.", **error.facts) from error


class Upload:
    """Chunks on their way to podman, which acts on an archive only when it has seen its end.

    :param whole: is called when all have gone and the end has not; if it raises, podman never sees the end.
    :ivar last_look: is called after that.
    """

    def __init__(self, chunks: Iterable[bytes], whole: Callable[[], None] | None = None) -> None:
        self._chunks = chunks
        self._whole = whole
        self.last_look: Callable[[], object] | None = None
        self.complete = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._whole is not None:
            self._whole()
        if self.last_look is not None:
            self.last_look()
        self.complete = True


@contextlib.contextmanager
def nothing_left_behind(
    client: LibpodClient, name: str, volumes: Iterable[str], doing: str, upload: Upload | None = None
) -> Iterator[None]:
    """Remove the half-made container and the volumes that a failed restore made.

    :param name: of a container that did not exist before; if it runs now, it is left alone.
    :param volumes: names of those that the restore makes where they are not there yet.
    :param upload: what podman acts on, if it is not there already.
    :raises RestoreFailed: with podman's reason, the lines of CRIU's log, and what was cleaned up.
    :raises OutcomeUnknown: if podman may have restored it, or may still do so, and cannot be asked.
    """
    before = client.volume_names()
    if upload is not None:
        # Those that somebody makes while an archive goes over are not the restore's.
        upload.last_look = lambda: before.update(client.volume_names())
    try:
        yield
    except Exception as error:
        if upload is not None and not upload.complete:
            raise _never_begun(doing, error) from error
        left = _look_again(client, name, doing, error)
        if left is not None and left.running:
            return
        fresh = {*volumes, *(left.volumes if left is not None else [])}
        raise _cleaned_up(client, left, fresh - before, doing, error) from error


def _never_begun(doing: str, error: Exception) -> RestoreFailed:
    told = f"{_told(doing, error)} The archive had not arrived whole, so nothing was restored."
    return RestoreFailed(told, **facts_of(error))


def _look_again(client: LibpodClient, name: str, doing: str, error: Exception) -> Container | None:
    """What became of it; podman's lock makes the inspect call wait for a restore that still goes on."""
    lost = isinstance(error, TransportError)
    try:
        left = client.find_container(name)
    except FerryError as second:
        raise _unknown(doing, error, name, f"The service cannot be asked what became of it: {second}") from error
    if left is None and lost:
        found = "The container is not there, but the service may still be unpacking it."
        raise _unknown(doing, error, name, found) from error
    if left is not None and not left.running and lost and _is_orphaned(client, left):
        raise _unknown(doing, error, name, "It runs there without podman knowing of it.") from error
    if left is not None and left.running and not lost:
        raise _unknown(doing, error, name, "The container runs all the same, and was left alone.") from error
    return left


def _is_orphaned(client: LibpodClient, container: Container) -> bool:
    try:
        return is_orphaned(client, container)
    except FerryError:
        return True  # nobody can tell, so it must be taken for running


def _unknown(doing: str, error: Exception, name: str, found: str) -> OutcomeUnknown:
    remedy = f"It may run there, or soon. Look at podman ps -a for {name} before anything else."
    return OutcomeUnknown(f"{_told(doing, error)} {found}", remedy=remedy, **facts_of(error))


def _cleaned_up(
    client: LibpodClient, left: Container | None, volumes: set[str], doing: str, error: Exception
) -> RestoreFailed:
    log: list[str] = []
    staying: list[str] = []
    if left is not None:
        log = read_log(client, left, "restore.log")
        try:
            # Not by force: if it runs after all, clients may have been answered already.
            client.remove_container(left.id, force=False)
        except FerryError as second:
            if not isinstance(error, ApiError) or not _stands_still(client, left):
                found = f"What there is of it could not be removed: {second}"
                raise _unknown(doing, error, left.name, found) from error
            # On a full disk; podman has answered that the restore failed, and nothing starts it.
            staying.append(str(second))
    staying += _not_removed(client, volumes)
    reason = f" CRIU says: {' | '.join(log)}" if log else ""
    rest = f"It does not run; this stayed of it: {' '.join(staying)}" if staying else "Nothing of it was left behind."
    facts = {**facts_of(error), "criu_log": log or None}
    return RestoreFailed(f"{_told(doing, error)}{reason} {rest}", remedy=_address_remedy(client, error), **facts)


def _address_remedy(client: LibpodClient, error: Exception) -> str | None:
    """What to do about an address that podman says a container has.

    A podman that is killed while it sets a network up keeps the address for good, even if that container is removed
    (libnetwork/netavark/ipam.go; podman issue 15708).
    """
    found = ADDRESS_TAKEN.search(str(error))
    if found is None:
        return None
    address, ident = found.groups()
    try:
        holder = client.find_container(ident)
    except FerryError:
        return None
    if holder is not None and holder.status in HAS_ITS_ADDRESS:
        return f"The container {holder.name} has the address."
    return (
        "No running container has the address: podman was killed on that host while it set up a network, and keeps "
        f"{address} until the host restarts. If no container there has the network, it is enough to remove it with "
        "podman network rm, and to make it again: networks=create of a move does that."
    )


def _stands_still(client: LibpodClient, left: Container) -> bool:
    try:
        now = client.find_container(left.id)
    except FerryError:
        return False
    return now is None or now.status in ("created", "configured", "initialized", "exited", "removing")


def _not_removed(client: LibpodClient, volumes: set[str]) -> list[str]:
    """Remove volumes, and say of which that failed: it must not hide why the restore did."""
    staying = []
    for volume in sorted(volumes):
        try:
            client.remove_volume(volume)
        except FerryError as error:
            staying.append(str(error))
    return staying


def _told(doing: str, error: Exception) -> str:
    """What was being done, once: the client's own errors say it too."""
    text = described(error)
    return text if text.startswith(doing) else f"{doing}: {text}"


@dataclass(frozen=True)
class Restorer:
    """Restores on one host with one set of options.

    :param options: its name is filled in from the new names.
    :param base_named: see ``name_base``; it has been done before.
    """

    client: LibpodClient
    host: HostInfo
    options: RestoreOptions
    request: _compat.RestoreRequest
    base_named: bool = False

    def narrowed(self, new_names: list[str] | None) -> Restorer:
        """The same for fewer new names: those that run already are not to be compared."""
        return replace(self, request=replace(self.request, new_names=new_names or []))

    def _options(self, new_name: str | None) -> RestoreOptions:
        return replace(self.options, name=new_name)

    # -- in place ---------------------------------------------------------------------------------------------

    def local_findings(self, container: Container) -> list[_compat.Finding]:
        return _compat.local_findings(container, self.host, checkpoint_evidence(self.client, container))

    def restore_local(self, container: Container) -> Json:
        """Restore from the checkpoint in the container's own directory, and undo what an interrupted run left.

        :raises RestoreFailed: the container stays stopped, with its checkpoint.
        """
        if container.running:
            settle(self.client, container)
            return self._described(self.client.container(container.id), {})
        doing = f"Restoring container {container.name}"
        try:
            with exclusive(self.client, container):
                finish_stop(self.client, container)
                with definition_kept(self.client, container):
                    answer = self.client.restore(container.id, self._options(None), doing)
        except ApiError as error:
            log = read_log(self.client, container, "restore.log")
            reason = f" CRIU says: {' | '.join(log)}" if log else ""
            raise RestoreFailed(
                f"{error}{reason} The container stays stopped and its checkpoint stays where it is.",
                remedy=_address_remedy(self.client, error),
                criu_log=log,
                **error.facts,
            ) from error
        settle(self.client, container)
        with contextlib.suppress(FerryError):
            # Of a thin move that nobody takes up any more: podman has read it, and removes the link alone.
            remove_here(self.client, self.host, container.id, container)
        return self._result(container.id, answer)

    # -- from an archive --------------------------------------------------------------------------------------

    def archive_findings(self, contents: Contents, *, has_previous: bool) -> list[_compat.Finding]:
        """Every reason against it, before podman sees a byte."""
        foreign = _compat.foreign_findings(kind_of(contents.sizes, contents.config))
        if foreign:
            return foreign
        subject = _compat.Subject.from_archive(contents)
        facts = gather_facts(self.client, self.host, subject, self.request)
        return [
            *_compat.archive_findings(contents, has_previous=has_previous),
            *_compat.architecture_findings(contents.architecture, self.host),
            *_compat.restore_findings(subject, facts, self.request),
        ]

    def restore_archive(
        self, source: Reader, subject: _compat.Subject, new_name: str | None, previous: Reader | None = None
    ) -> Json:
        """Stream an archive to podman and have it restored.

        :raises RestoreFailed: and nothing of it is left.
        """
        doing = f"Restoring container {new_name or subject.name}"
        contents = Contents()
        chunks = rewritten(source, contents, previous=previous)
        return self.import_chunks(chunks, contents, subject, new_name, doing)

    def import_chunks(
        self,
        chunks: Iterable[bytes],
        contents: Contents,
        subject: _compat.Subject,
        new_name: str | None,
        doing: str,
        whole: Callable[[], None] | None = None,
    ) -> Json:
        """Restore from a tar that is made as it goes; see ``restore_archive``.

        :param contents: filled by the time that the last chunk has gone.
        :param whole: see ``Upload``.
        """
        volumes = [] if self.options.ignore_volumes else subject.volumes
        name = new_name or subject.id
        answer: Json = {}
        upload = Upload(chunks, whole)
        if not self.base_named:
            name_base(self.client, subject, doing)
        with nothing_left_behind(self.client, name, volumes, doing, upload):
            answer = self.client.import_checkpoint(upload, self._options(new_name), doing)
        return self._arrived(name, answer, contents, doing)

    def restore_image(self, image_id: str, contents: Contents, subject: _compat.Subject, doing: str) -> Json:
        """Restore from an image that was made of an archive of this collection; see ``import_chunks``.

        :param image_id: full: a name could be that of a container, which podman looks for first.
        :param contents: of the archive in it.
        """
        volumes = [] if self.options.ignore_volumes else subject.volumes
        answer: Json = {}
        name_base(self.client, subject, doing)
        with nothing_left_behind(self.client, subject.id, volumes, doing):
            answer = self.client.restore(image_id, self._options(None), doing)
        return self._arrived(subject.id, answer, contents, doing)

    def _arrived(self, name: str, answer: Json, contents: Contents, doing: str) -> Json:
        try:
            result = self._result(answer.get("Id") or name, answer)
            roots = {} if self.options.ignore_volumes else contents.volume_roots
            problems = set_volume_roots(self.client, self.client.container(result["id"]), roots) if roots else []
            return {**result, "findings": [finding.as_dict() for finding in _compat.volume_root_findings(problems)]}
        except (RestoredAndEnded, StartedAnew):
            raise
        except Exception as error:
            # It has run, whatever went wrong since: one of --rm may have ended and be gone.
            raise _unknown(doing, error, name, "It was restored, but cannot be looked at.") from error

    def image_findings(self, image: Json, criu: str | None) -> list[_compat.Finding]:
        """What an image's annotations say against restoring it here, before it is read.

        :param criu: this host's version of CRIU, if it is known.
        """
        return _compat.image_findings(facts_in(image.get("Annotations") or {}), self.host, criu)

    def _result(self, name: str, answer: Json) -> Json:
        container = self.client.container(name)
        require_restored(container)
        return self._described(container, answer)

    @staticmethod
    def _described(container: Container, answer: Json) -> Json:
        return {
            "name": container.name,
            "id": container.id,
            "image": container.image,
            "image_id": container.image_id,
            "statistics": answer.get("criu_statistics") or {},
            "runtime_restore_duration": answer.get("runtime_restore_duration"),
        }


def image_subject(image: Json, host: HostInfo) -> _compat.Subject:
    """Read from a checkpoint image's annotations what is to be restored; networks and volumes are not in them."""
    told = facts_in(image.get("Annotations") or {})
    return _compat.Subject(
        id="",
        name=told.get("name", ""),
        runtime=host.runtime,
        image_id=told.get("image_id", ""),
        image=told.get("image", ""),
    )


def checkpoint_evidence(client: LibpodClient, container: Container) -> str | None:
    """Whether the files of the checkpoint in the container's directory are of its last run.

    :return: ``current``, ``stale``, ``absent``, or None where they cannot be looked at from here.
    """
    if not client.transport.is_local or container.bundle is None:
        return None if container.bundle else "absent"
    try:
        written = os.stat(os.path.join(container.bundle, "checkpoint", "inventory.img")).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError:
        return None
    started = _timestamp(container.started_at)
    return None if started is None else ("current" if written >= started else "stale")


def _timestamp(text: str) -> float | None:
    """Seconds since the epoch of podman's RFC 3339 with up to nine digits behind the second."""
    whole, _dot, rest = text.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    digits = rest[: len(rest) - len(zone)]
    if not rest:
        whole, zone = (whole[:-1], "Z") if whole.endswith("Z") else (whole[:-6], whole[-6:])
    try:
        base = datetime.strptime(whole + ("+0000" if zone in ("Z", "") else zone), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
    return base.astimezone(timezone.utc).timestamp() + float(f"0.{digits or 0}")
