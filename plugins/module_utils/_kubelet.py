# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Checkpoint archives of the kubelet, made by CRI-O or containerd, and what podman needs of them. Pure.

CRI-O (``internal/lib/checkpoint.go``) writes the members that podman does, with podman's code, but for config.dump,
which has a few of podman's keys, and its own ``bind.mounts`` and log. containerd
(``internal/cri/server/container_checkpoint_linux.go``) has in the place of ``rootfs-diff.tar`` the layer of its
snapshot: compressed, with whiteouts and no ``deleted.files``.

Both leave to the pod what podman has for each container: network, IPC and host name. Podman makes them anew.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tarfile
import typing as t
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._archive import (
    BLOCK,
    END,
    MOST_JSON,
    Contents,
    Member,
    Reader,
    compression_by,
    document,
    entry,
    members,
    renamed,
    resized,
    rewritten,
    unpacked,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._lint import (
    DELETED_FILES,
    NO_LIMITS,
    ROOTFS_DIFF,
    Limits,
    Lint,
    LintError,
)
from ansible_collections.ferry.podman.plugins.module_utils._oci import Json
from ansible_collections.ferry.podman.plugins.module_utils._overlay import ChangesOf
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks

PODMAN, CRIO, CONTAINERD = "podman", "cri-o", "containerd"

CRIOS_LOG, CONTAINERDS_LOG = "io.kubernetes.cri-o.LogPath", "container.log"
LOG = "ctr.log"
"""Podman's, in the same format."""

DOCUMENTS = ("spec.dump", "config.dump")
CONTAINERDS = ("status", "status.dump", CONTAINERDS_LOG)
CRIOS = ("bind.mounts", CRIOS_LOG)
"""Members that one engine alone writes."""

IMAGE_ID = re.compile("[0-9a-f]{64}")
_DIGEST = re.compile("@(sha256:[0-9a-f]{64})$")
_SHIM = re.compile(r"io\.containerd\.(runc|crun)\.v[0-9]+")

DEFAULTS: Json = {"shmSize": 65536000, "stopSignal": 15, "stopTimeout": 10, "logDriver": "k8s-file"}
"""Of podman's config.dump, what the kubelet's has not and podman gives to every container."""

NETWORK: Json = {"createNetNS": True, "networkMode": "bridge", "newNetworks": {"podman": {"interface_name": "eth0"}}}

SHARED = ("pid", "user")
"""Namespaces of a pod that its processes cannot leave; podman makes the others anew."""

# What CRI-O and containerd call in the spec's annotations what we call so.
_FACTS = {
    "name": ("io.kubernetes.container.name", "io.kubernetes.cri.container-name"),
    "pod_name": ("io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"),
    "pod_namespace": ("io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace"),
    "pod_uid": ("io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"),
    "pod_id": ("io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"),
}

# -- what it is -----------------------------------------------------------------------------------------------


def kind_of(names: Container[str], config: Json) -> str:
    """Who made an archive: ``podman``, ``cri-o`` or ``containerd``.

    :param names: of its members.
    :param config: its config.dump.
    """
    if "rootfsImageID" in config or "staticDir" in config:
        return PODMAN
    if any(name in names for name in CONTAINERDS):
        return CONTAINERD
    if any(name in names for name in CRIOS) or "rootfsImageRef" in config:
        return CRIO
    return PODMAN


def origin_of(names: Container[str], config: Json) -> str:
    """As ``kind_of``, also of what ``as_podman`` has made of an archive of the kubelet."""
    return kind_of(names, {key: value for key, value in config.items() if key != "rootfsImageID"})


@dataclass(frozen=True)
class Made:
    """An archive by its documents, which are as they were found.

    :param kind: see ``kind_of``.
    :param spec: empty where it was not needed to tell the kind.
    """

    kind: str
    config: Json
    spec: Json

    @property
    def image_id(self) -> str | None:
        """Of the base image, as podman knows it; None where only a digest is known."""
        found = self.config.get("rootfsImageID")
        return found if isinstance(found, str) and found else _image_id(self.config)

    @property
    def image_references(self) -> list[str]:
        """Where the base image is known by: what it is exactly, then its names."""
        keys = ("rootfsImageRef", "rootfsImageName", "rootfsImage")
        return [self.config[key] for key in keys if isinstance(self.config.get(key), str) and self.config[key]]


def look_at(source: Reader, limits: Limits = NO_LIMITS) -> Made:
    """See who made an archive. Of podman's, only the begin is read: its documents come before the memory.

    :param source: not compressed.
    :raises ArchiveError: if it is damaged, or no checkpoint of one container.
    """
    names: set[str] = set()
    found: dict[str, Json] = {}
    # Nobody has looked into it before, and it may have any number of names, or a size that never ends.
    lint = Lint(limits)
    for member in members(source):
        lint.member(member.info)
        if member.name in (*CONTAINERDS, *CRIOS):
            names.add(member.name)
        if member.name in DOCUMENTS:
            found[member.name] = _parsed(member.name, _limited(member))
        if "rootfsImageID" in found.get("config.dump", {}):
            break
    if "config.dump" not in found:
        raise ArchiveError("The archive is no checkpoint of one container: it has no config.dump.")
    config = found["config.dump"]
    return Made(kind_of(names, config), config, found.get("spec.dump", {}))


def kubelet_facts(kind: str, config: Json, spec: Json) -> dict[str, str]:
    """What an archive of the kubelet tells of itself, by the names in ``_annotations.KEYS``."""
    noted = _dict(_dict(spec).get("annotations"))
    digest = _DIGEST.search(str(config.get("rootfsImageRef")))
    facts = {
        "name": config.get("name"),
        "engine": kind,
        "raw_image": config.get("rootfsImage"),
        "image": config.get("rootfsImageName"),
        "image_id": _image_id(config),
        "image_digest": digest[1] if digest else None,
        "image_requested": config.get("rootfsImage"),
        "runtime": _runtime(config),
    }
    for fact, keys in _FACTS.items():
        facts[fact] = next((noted[key] for key in keys if key in noted), facts.get(fact))
    return {fact: value for fact, value in facts.items() if value and isinstance(value, str)}


# -- what podman gets -----------------------------------------------------------------------------------------


def readable(source: Reader, spool: t.IO[bytes], limits: Limits = NO_LIMITS) -> Iterator[bytes]:
    """An archive of containerd with its root filesystem's changes in podman's form, for ``inspect``.

    Its documents stay as they are, and come last. Nothing has been looked into. The others' changes have podman's form.

    :param source: not compressed.
    :param spool: open, for the changes.
    :raises ArchiveError: if it is damaged, or no checkpoint of one container.
    """
    return _unified(source, spool, limits, CONTAINERD, lambda spec, config: (spec, config))


def as_podman(
    source: Reader,
    contents: Contents,
    spool: t.IO[bytes],
    image_id: str | None = None,
    limits: Limits = NO_LIMITS,
    kind: str = CONTAINERD,
) -> Iterator[bytes]:
    """An archive of the kubelet as one of podman; one that is podman's already keeps its documents.

    :param source: not compressed.
    :param contents: filled while it goes by.
    :param spool: open, for the root filesystem's changes.
    :param image_id: podman's ID of the base image, where the archive has only its digest, as containerd's.
    :param kind: see ``kind_of``; what looks like a whiteout is one in an archive of containerd alone.
    :raises ArchiveError: naming what podman needs and it has not; or if it is damaged, or holds what must not be there.
    """

    def change(spec: Json, config: Json) -> tuple[Json, Json]:
        if "rootfsImageID" in config:
            return spec, config
        return podman_spec(spec), podman_config(config, spec, image_id)

    chunks = _unified(source, spool, limits, kind, change)
    return rewritten(t.cast(Reader, Chunks(chunks)), contents, limits=limits)


def podman_config(config: Json, spec: Json, image_id: str | None = None) -> Json:
    """A config.dump with the keys that podman goes by; the kubelet's stay, for its engines.

    :raises ArchiveError: if the base image, or the OCI runtime, is not known.
    """
    name, ref = config.get("rootfsImageName"), config.get("rootfsImageRef")
    found = image_id or _image_id(config)
    if not found or not name:
        raise ArchiveError(
            f"The archive does not say the ID of the base image that podman needs, only {ref or name!r}.",
            remedy="Pull that image on the host, and give its ID.",
        )
    runtime = _runtime(config)
    if runtime is None:
        raise ArchiveError(f"The archive is of the OCI runtime {config.get('runtime')!r}, which podman cannot have.")
    network = NETWORK if _namespace(spec, "network") is not None else {"networkMode": "host"}
    raw = {"RawImageName": config["rootfsImage"]} if config.get("rootfsImage") else {}
    return {**DEFAULTS, **network, **config, **raw, "rootfsImageID": found, "runtime": runtime}


def podman_spec(spec: Json) -> Json:
    """A spec.dump without the namespaces of the pod.

    :raises ArchiveError: if the container shares with its pod what podman cannot make anew.
    """
    for kind in SHARED:
        if _dict(_namespace(spec, kind)).get("path"):
            raise ArchiveError(f"The container shares the {kind} namespace of its pod, and the archive is of it alone.")
    linux = _dict(spec.get("linux"))
    namespaces = [{key: value for key, value in each.items() if key != "path"} for each in _namespaces(spec)]
    return {**spec, "linux": {**linux, "namespaces": namespaces}}


def _unified(
    source: Reader, spool: t.IO[bytes], limits: Limits, kind: str, change: Callable[[Json, Json], tuple[Json, Json]]
) -> Iterator[bytes]:
    held: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for member in members(source):
        if member.name in DOCUMENTS and member.name not in held:
            held[member.name] = (member.info, _limited(member))
        elif member.name == ROOTFS_DIFF and kind == CONTAINERD:
            yield from _changes(member, spool, limits)
        elif member.name in (CRIOS_LOG, CONTAINERDS_LOG):
            yield from entry(renamed(member.info, LOG), member.chunks())
        else:
            yield from entry(member.info, member.chunks())
    missing = [name for name in DOCUMENTS if name not in held]
    if missing:
        raise ArchiveError(f"The archive is no checkpoint of one container: it has no {', '.join(missing)}.")
    before = [_parsed(name, held[name][1]) for name in DOCUMENTS]
    for name, old, new in zip(DOCUMENTS, before, change(before[0], before[1])):
        info, text = held[name]
        if new != old:
            text = json.dumps(new, separators=(",", ":")).encode()
        yield from entry(resized(info, len(text)), [text])
    yield END


def _changes(member: Member, spool: t.IO[bytes], limits: Limits) -> Iterator[bytes]:
    """``rootfs-diff.tar`` in podman's form, and ``deleted.files`` if it has whiteouts."""
    form, chunks = ChangesOf(), member.chunks()
    head = next(chunks, b"")
    file = t.cast("t.IO[bytes]", Chunks(itertools.chain([head], chunks)))
    spool.seek(0)
    size = 0
    with unpacked(file, compression_by(head[:8]), ROOTFS_DIFF) as tar:
        for chunk in itertools.chain(form.changes(_within(limits, tar)), [END]):
            size += len(chunk)
            with _room_is_missed():
                spool.write(chunk)
    with _room_is_missed():
        spool.flush()
    yield from entry(resized(member.info, size), _spooled(spool, size))
    if form.deleted:
        info = tarfile.TarInfo(DELETED_FILES)
        info.mode = 0o600
        yield from entry(resized(info, len(form.deleted)), [form.deleted])


def _within(limits: Limits, tar: t.IO[bytes]) -> Iterator[bytes]:
    """Its blocks. All count, because not all are kept: whiteouts can have content, and zeros stand behind the end."""
    size = 0
    while block := tar.read(BLOCK):
        size += len(block)
        if limits.size is not None and size > limits.size:
            raise LintError("archive_too_large", f"The archive's {ROOTFS_DIFF!r} has more than {limits.size} bytes.")
        yield block


@contextlib.contextmanager
def _room_is_missed() -> Iterator[None]:
    """Who reads the archive would take a full disk for damage."""
    try:
        yield
    except OSError as error:
        raise FerryError(
            f"The archive's {ROOTFS_DIFF!r} cannot be unpacked: {error.strerror or error}.",
            remedy="It needs room in the directory for temporary files.",
        ) from error


def _spooled(spool: t.IO[bytes], size: int) -> Iterator[bytes]:
    spool.seek(0)
    while size:
        block = spool.read(min(size, BLOCK))
        if not block:
            raise ArchiveError(f"What was written of {ROOTFS_DIFF} is gone.")
        size -= len(block)
        yield block


def _limited(member: Member) -> bytes:
    if not member.info.isreg() or member.info.size > MOST_JSON:
        raise ArchiveError(f"The archive's {member.name} is no file, or has more than {MOST_JSON} bytes.")
    return b"".join(member.chunks())


def _parsed(name: str, text: bytes) -> Json:
    found = document(name, text)
    if not isinstance(found, dict):
        raise ArchiveError(f"The archive's {name} is not as an engine writes it.")
    return found


def _image_id(config: Json) -> str | None:
    """CRI-O's reference of an image is its ID; containerd's has the digest of its manifest."""
    ref = str(config.get("rootfsImageRef") or "")
    return ref if IMAGE_ID.fullmatch(ref) else None


def _runtime(config: Json) -> str | None:
    """The OCI runtime as podman calls it: containerd knows it by its shim."""
    name = str(config.get("runtime") or "")
    shim = _SHIM.fullmatch(name)
    if shim:
        return shim[1]
    return name if name in ("runc", "crun") else None


def _namespaces(spec: Json) -> list[Json]:
    found = _dict(spec.get("linux")).get("namespaces")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ArchiveError("The archive's spec.dump is not as an engine writes it: it has no namespaces.")
    return found


def _namespace(spec: Json, kind: str) -> Json | None:
    return next((each for each in _namespaces(spec) if each.get("type") == kind), None)


def _dict(value: t.Any) -> Json:
    return value if isinstance(value, dict) else {}
