# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Checkpointing containers: in place, into an archive, or into an image; and the way back when that fails."""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _criu
from ansible_collections.ferry.podman.plugins.module_utils._addresses import with_addresses
from ansible_collections.ferry.podman.plugins.module_utils._archive import (
    MOST_JSON,
    NESTED,
    Contents,
    Witness,
    inspect_file,
    previous_pages,
    rewritten,
)
from ansible_collections.ferry.podman.plugins.module_utils._encryption import Recipients
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    CheckpointFailed,
    FerryError,
    TransportError,
    described,
    facts_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import exclusive, uninterrupted
from ansible_collections.ferry.podman.plugins.module_utils._files import ArchiveFile, describe_file, write_beside
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    HostInfo,
    Json,
    LibpodClient,
    RestartPolicy,
    RestoreOptions,
    Stream,
)
from ansible_collections.ferry.podman.plugins.module_utils._logs import read_log
from ansible_collections.ferry.podman.plugins.module_utils._orphan import freeze_orphan, wait_for_runtime
from ansible_collections.ferry.podman.plugins.module_utils._rootfs import (
    collect_changes,
    host_lacks,
    list_changes,
)
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import (
    definition_kept,
    finish_stop,
    kept_safe,
)
from ansible_collections.ferry.podman.plugins.module_utils._signature import LIST, SIGNATURE, Lister, sign
from ansible_collections.ferry.podman.plugins.module_utils._volumes import volume_roots, without_copy_up

RETRY_DELAY = 0.5
"""Seconds between two tries of a dump that met a connection in flight: a handshake is over by then."""

EXTENSIONS = {"zstd": ".tar.zst", "gzip": ".tar.gz", "none": ".tar"}

ABOUT = ".about"
"""What stands behind an encrypted archive's name in that of a file that tells of which container it is."""

NO_STATISTICS = "displaying checkpointing statistics not possible"
"""What podman answers, as an error, when the checkpoint is done and CRIU left no stats-dump."""

STATE_IMPROPER = "container state improper"
"""Podman's reason for a container that does not run when the dump would begin."""

MOVE_AWAY = "Move it away, or have it checkpointed again once the container has been restored from it."

SETTLES_WITHIN = 10.0
"""Seconds in which podman takes note that a dumped process is gone; conmon tells it."""

T = t.TypeVar("T")


@dataclass(frozen=True)
class CheckpointRequest:
    """What is asked for.

    :param dest: path of the archive, or None.
    :param compression: zstd, gzip or none.
    :param retries: how many more times a dump is tried that failed for a passing reason.
    :param sign_key: path of the ssh key that the archive is signed with, or None.
    :param recipients: whom the archive is encrypted to, or None.
    """

    options: CheckpointOptions
    dest: str | None = None
    compression: str = "zstd"
    compress_level: int | None = None
    ignore_volumes: bool = False
    retries: int = 3
    sign_key: str | None = None
    recipients: Recipients | None = None


@dataclass(frozen=True)
class Checkpointer:
    """Carries one request out on one host."""

    client: LibpodClient
    host: HostInfo
    request: CheckpointRequest

    def findings(self, container: Container) -> list[_compat.Finding]:
        """Every reason against it, before anything is touched."""
        options = self.request.options
        found = _compat.checkpoint_findings(
            container,
            self.host,
            exports=self.request.dest is not None,
            creates_image=options.create_image is not None,
            pre_checkpoint=options.pre_checkpoint,
        )
        archives = self.request.dest is not None or options.create_image is not None
        if archives and container.running and not options.ignore_rootfs and not options.pre_checkpoint:
            found += self._file_findings(container)
        return found

    def _file_findings(self, container: Container) -> list[_compat.Finding]:
        try:
            changes = list_changes(self.client, container)
        except ApiError as error:
            return _compat.unlisted_findings(container, str(error))
        dropped = []
        if self.request.options.create_image is not None:
            dropped = host_lacks(self.client, container, changes.modified)
        return _compat.file_findings(container, dropped, unnamed=changes.unnamed)

    # -- the state that is asked for --------------------------------------------------------------------------

    def done_before(self, name: str, container: Container | None) -> Json | None:
        """The result, if the state that is asked for is there already; None if there is something to do.

        It is there when a checkpoint has stopped the container and, where an archive or an image is asked for,
        that holds a checkpoint of this container.
        """
        if self.request.dest is not None:
            return None if container is not None and container.running else self._archived_before(name, container)
        if container is None or not container.checkpointed:
            return None
        if self.request.options.create_image is not None:
            return self._imaged_before(container)
        return _described(container)

    def _archived_before(self, name: str, container: Container | None) -> Json | None:
        path = t.cast(str, self.request.dest)
        if not os.path.isfile(path):
            return None
        file = describe_file(path)
        found = _noted(path, file["digest"]) if file["encrypted"] else _read(path)
        same = found["id"] == container.id if container is not None else name in (found["id"], found["name"])
        if found.pop("pre_checkpoint") or not same:
            return None
        if self.request.recipients is not None and not file["encrypted"]:
            raise FerryError(f"The archive {path} is there already, and is not encrypted.", remedy=MOVE_AWAY)
        return {**file, **found, **self._signed_before(path)}

    def _signed_before(self, path: str) -> Json:
        if self.request.sign_key is None:
            return {}
        if not os.path.isfile(path + LIST) or not os.path.isfile(path + SIGNATURE):
            raise FerryError(f"The archive {path} is there already, and nobody has signed it.", remedy=MOVE_AWAY)
        return {"manifest": path + LIST}

    def _imaged_before(self, container: Container) -> Json | None:
        image = self.client.image(t.cast(str, self.request.options.create_image))
        annotations = (image or {}).get("Annotations") or {}
        if image is None or annotations.get(_compat.IMAGE_ANNOTATION + "name") != container.name:
            return None
        return {**_described(container), **_created_image(image)}

    # -- what it would be -------------------------------------------------------------------------------------

    def prediction(self, container: Container) -> Json:
        """What is known of the result beforehand, for check mode."""
        known = _described(container)
        if self.request.dest is not None:
            known = {**known, "dest": self.request.dest, "compression": self.request.compression}
            known["encrypted"] = self.request.recipients is not None
        if self.request.options.create_image is not None:
            known["created_image"] = self.request.options.create_image
        return known

    def predicted_state(self, container: Container) -> Json:
        """The container's state after the checkpoint, for the difference that is shown."""
        options = self.request.options
        stays = options.leave_running or options.pre_checkpoint
        gone = container.auto_remove and not stays
        state: Json = {"status": "running" if stays else "absent" if gone else "exited"}
        state["checkpoint"] = self.request.dest or options.create_image or "in place"
        return state

    # -- the checkpoint ---------------------------------------------------------------------------------------

    def run(self, container: Container) -> Json:
        """Checkpoint the container and return what the module returns for it.

        :raises CheckpointFailed: if it could not be; the container runs, or the message says how it was left.
        """
        with exclusive(self.client, container), uninterrupted():
            if self.request.dest is not None:
                return self._export(container, self.request.dest)
            return self._in_place(container)

    def _in_place(self, container: Container) -> Json:
        options = self.request.options
        result: Json = {}
        # Not kept_safe: podman writes the restart policy of that moment into the image, and --rm is refused.
        with way_back(self.client, container, options):
            answer = self._checkpoint(container)
            result["statistics"] = answer.get("criu_statistics") or {}
            result["runtime_checkpoint_duration"] = answer.get("runtime_checkpoint_duration")
            if options.create_image is not None:
                if not options.ignore_rootfs:
                    _compat.refuse_blockers("Keeping the image", self._file_findings(container))
                result.update(_created_image(self.client.image(options.create_image) or {}))
        return {**_described(self.client.container(container.id)), **result}

    def _checkpoint(self, container: Container) -> Json:
        options = self.request.options
        try:
            return retried(
                self.client,
                container,
                self.request.retries,
                lambda: self.client.checkpoint(container, options),
            )
        except ApiError as error:
            if NO_STATISTICS in str(error):
                return {}
            raise

    def _export(self, container: Container, dest: str) -> Json:
        request, contents = self.request, Contents()
        lister = Lister() if request.sign_key is not None else None
        encrypted = request.recipients is not None
        # The file first: a directory that is not there must not cost the container its memory.
        with ArchiveFile(dest) as file, kept_safe(self.client, container, request.options) as policy:
            with way_back(self.client, container, request.options):
                chunks = self.export(container, contents, file.scratch(secret=encrypted), policy, witness=lister)
                file.write(chunks, request.compression, request.compress_level, request.recipients)
                known = {"digest": file.digest, "compression": request.compression, "statistics": contents.statistics}
                # Both first, so that no archive waits for what belongs to it.
                self._note(dest, {**_described(container), **known})
                signed = self._sign(dest, lister)
                file.commit()
        return {**_described(container), **known, "dest": dest, "size": file.size, "encrypted": encrypted, **signed}

    def _note(self, path: str, known: Json) -> None:
        """Note beside an encrypted archive what a later run has to know of it, and cannot read in it."""
        if self.request.recipients is not None:
            noted = {key: value for key, value in known.items() if key != "checkpoint_path"}
            noted["pre_checkpoint"] = self.request.options.pre_checkpoint
            write_beside(path + ABOUT, json.dumps(noted).encode() + b"\n")

    def _sign(self, path: str, lister: Lister | None) -> Json:
        """Write a signed list of the archive's members beside it."""
        if lister is None or self.request.sign_key is None:
            return {}
        text = bytes(lister.text)
        write_beside(path + SIGNATURE, sign(text, self.request.sign_key))
        write_beside(path + LIST, text)
        return {"manifest": path + LIST}

    def export(
        self,
        container: Container,
        contents: Contents,
        spool: t.IO[bytes],
        policy: RestartPolicy,
        *,
        fix_addresses: bool = False,
        witness: Witness | None = None,
        around: t.Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        link: str | None = None,
        previous_sent: bool = False,
    ) -> Iterator[bytes]:
        """Checkpoint, and return the archive as a tar that is made as it goes: whole, or it raises.

        :param contents: filled while the archive goes by.
        :param spool: an open file that takes copies of the image's modified files.
        :param policy: the restart policy that the restored container shall have.
        :param fix_addresses: for a restore from an image, which would give it others.
        :param witness: sees the members as they are in the archive.
        :param around: is entered for each try of the dump.
        :param link: see ``rewritten``.
        :param previous_sent: see ``rewritten``.
        """
        networks = container.networks if fix_addresses else {}
        request, options = self.request, self.request.options

        def dump() -> Stream:
            with around():
                return self.client.export_checkpoint(container, options)

        stream = retried(self.client, container, request.retries, dump)
        with stream, spool:
            additions = None
            if not options.ignore_rootfs and not options.pre_checkpoint:
                additions = collect_changes(self.client, container, spool)
            yield from rewritten(
                stream,
                contents,
                additions=additions,
                volume_roots=volume_roots(self.client, container),
                change_config=lambda config: with_addresses(_restorable_config(config, policy), networks),
                ignore_volumes=request.ignore_volumes,
                witness=witness,
                link=link,
                previous_sent=previous_sent,
            )

    def export_pages(self, container: Container, contents: Contents) -> Iterator[bytes]:
        """Write the memory out while the container runs, and return the begin of an archive with it.

        :param contents: filled while it goes by.
        :raises CheckpointFailed: if it cannot be done; the container runs on.
        """
        options = replace(self.request.options, pre_checkpoint=True, with_previous=False, ignore_rootfs=True)

        def dump() -> Stream:
            return self.client.export_checkpoint(container, options)

        with retried(self.client, container, self.request.retries, dump) as stream:
            yield from previous_pages(stream, contents, NESTED)


def _read(path: str) -> Json:
    """What an archive tells of itself."""
    contents = inspect_file(path)
    subject = _compat.Subject.from_archive(contents)
    return {
        "name": subject.name,
        "id": subject.id,
        "image": subject.image,
        "image_id": subject.image_id,
        "statistics": contents.statistics,
        "pre_checkpoint": contents.is_pre_checkpoint,
    }


def _noted(path: str, digest: str) -> Json:
    """What was noted of an encrypted archive when it was made; whoever makes one cannot read it any more.

    :raises FerryError: if nothing was, or of another one.
    """
    noted: t.Any = None
    with contextlib.suppress(OSError, ValueError), open(path + ABOUT, "rb") as file:
        noted = json.loads(file.read(MOST_JSON))
    if not isinstance(noted, dict) or noted.get("digest") != digest:
        raise FerryError(
            f"The archive {path} is there already and encrypted, and {path}{ABOUT} does not tell of which container "
            "it is.",
            remedy="Move it away.",
        )
    keys = ("name", "id", "image", "image_id", "compression", "statistics", "pre_checkpoint")
    return {key: noted.get(key) for key in keys}


def _restorable_config(config: Json, policy: RestartPolicy) -> Json:
    changes: Json = {"restart_policy": policy.name, "restart_retries": policy.retries}
    if config.get("namedVolumes"):
        changes["namedVolumes"] = without_copy_up(config["namedVolumes"])
    return {**config, **changes}


def retried(client: LibpodClient, container: Container, retries: int, dump: t.Callable[[], T]) -> T:
    """Dump, and try again where a client was just connecting, which CRIU refuses.

    :raises CheckpointFailed: with the lines of CRIU's log that matter.
    """
    for attempt in range(retries + 1):
        try:
            return dump()
        except ApiError as error:
            if NO_STATISTICS in str(error):
                raise
            log = read_log(client, container, "dump.log")
            if attempt == retries or not _criu.is_transient(log):
                reason = (
                    f" CRIU says: {' | '.join(log)}" if log else f" CRIU's reason is in {container.bundle}/dump.log."
                )
                tries = f" ({attempt + 1} tries)" if attempt else ""
                raise CheckpointFailed(f"{error}{reason}{tries}", criu_log=log, **error.facts) from error
        time.sleep(RETRY_DELAY)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def way_back(client: LibpodClient, container: Container, options: CheckpointOptions) -> Iterator[None]:
    """Have the container run again from the same memory when what is inside fails.

    :raises CheckpointFailed: the failure, and how the container is now.
    """
    try:
        yield
    except Exception as error:
        outcome = bring_back(client, container, options, error)
        raise CheckpointFailed(f"{described(error)} {outcome}", **facts_of(error)) from error


def bring_back(client: LibpodClient, container: Container, options: CheckpointOptions, error: Exception) -> str:
    """Restore in place what was stopped by a checkpoint, and say how the container is now; never raises.

    :param error: what went wrong. Where that is the container's state, somebody else had stopped it before.
    """
    end = time.monotonic() + SETTLES_WITHIN
    while True:
        try:
            return _brought_back(client, container, options, error)
        except FerryError as second:
            # A service that was killed is started anew when its socket is used, or by hand.
            if not isinstance(second, TransportError) or time.monotonic() > end:
                return (
                    f"The container {container.name} could not be brought back: {second} Its checkpoint lies in "
                    f"{container.bundle}/checkpoint. {how_to_restore(container, options)}"
                )
        time.sleep(RETRY_DELAY)


def how_to_restore(container: Container, options: CheckpointOptions) -> str:
    """The call that has it run again, and puts its restart policy right."""
    flags = {"tcp_established": options.tcp_established, "file_locks": options.file_locks}
    words = "".join(f" {name}=true" for name, is_set in flags.items() if is_set)
    return f"To have it run again: podman_restore with name={container.name}{words}."


def _brought_back(client: LibpodClient, container: Container, options: CheckpointOptions, error: Exception) -> str:
    wait_for_runtime(client, container)
    end = time.monotonic() + SETTLES_WITHIN
    while True:
        now = client.find_container(container.id)
        if now is None:
            return f"The container {container.name} is gone."
        if now.running and now.started_at != container.started_at and not now.restored:
            return (
                f"Somebody has started the container {container.name} afresh meanwhile. The memory from before lies in "
                f"{container.bundle}/checkpoint."
            )
        if now.running and client.is_alive(now):
            return f"The container {container.name} still runs."
        if not now.running and STATE_IMPROPER in described(error):
            return f"The container {container.name} was not stopped by this run, and is {now.status}."
        try:
            restore = RestoreOptions(tcp_established=options.tcp_established, file_locks=options.file_locks)
            finish_stop(client, now)
            freeze_orphan(client, now, options.runtime_flags)
            with definition_kept(client, container):
                client.restore(container.id, restore, f"Bringing container {container.name} back")
            return f"The container {container.name} runs again from the same memory."
        except ApiError as refusal:
            # podman has noticed a moment late that the process is gone.
            if STATE_IMPROPER not in str(refusal) or time.monotonic() > end:
                raise
        time.sleep(0.1)


def _described(container: Container) -> Json:
    return {
        "name": container.name,
        "id": container.id,
        "image": container.image,
        "image_id": container.image_id,
        "checkpoint_path": container.checkpoint_path,
    }


def _created_image(image: Json) -> Json:
    return {
        "created_image": next(iter(image.get("RepoTags") or []), None),
        "created_image_id": image.get("Id"),
        "size": image.get("Size"),
        "digest": image.get("Digest"),
    }
