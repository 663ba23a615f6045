# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What a checkpoint archive may hold, whoever made it: no links, no devices, no names that lead elsewhere. Pure.

podman unpacks an archive as root, on the host's file system, and follows the links that it has planted itself; its
maintainers want archives to be trusted (podman #27977). What podman and the kubelet's engines write passes. Every
rule here is about bytes that podman is about to get; what a checkpoint *asks for* is held against a policy
(``_policy``), and where it comes from is told by a signature (``_signature``).
"""

from __future__ import annotations

import array
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils import _headers
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._headers import Header, Headers, Unreadable

ROOTFS_DIFF = "rootfs-diff.tar"
DELETED_FILES = "deleted.files"
SHARED_MEMORY = "devshm-checkpoint.tar"

FILES = frozenset(
    (
        # podman: libpod/container_internal_common.go
        *("config.dump", "spec.dump", "network.status", "stats-dump", "ctr.log", "dump.log", "restore.log"),
        *(SHARED_MEMORY, ROOTFS_DIFF, DELETED_FILES, "pod.options", "pod.dump"),
        # CRI-O and containerd: checkpointctl's lib/metadata.go
        *("bind.mounts", "status", "status.dump", "container.log", "descriptors.json", "io.kubernetes.cri-o.LogPath"),
    )
)
DIRECTORIES = frozenset(("artifacts", "checkpoint", "pre-checkpoint", "volumes"))

LINKS = {"checkpoint/parent": "../pre-checkpoint"}
"""The one link that CRIU makes: from the pages that changed to those that did not."""

MOST_NAME = 1024
MOST_NAMES = 16 * 1024 * 1024
MOST_DELETED = 8 * 1024 * 1024
MOST_LINKS = 2_000_000
SHOWN = 10

NO_PATHS = f"The archive's {DELETED_FILES} is no list of paths."
REMEDY = "Take the archive for hostile or broken unless you know how it came to this; make it anew where it is from."


class LintError(ArchiveError):
    """An archive that must not reach podman.

    :param code: stable, for playbooks to test.
    """

    def __init__(self, code: str, message: str) -> None:
        finding = {"code": code, "severity": "blocker", "message": message, "remedy": REMEDY}
        super().__init__(message, findings=[finding])
        self.code = code


@dataclass(frozen=True)
class Limits:
    """How large an archive may be when it is unpacked.

    :param size: bytes; None for no limit.
    """

    size: int | None = None
    members: int = 100_000


NO_LIMITS = Limits()


class Lint:
    """Watches one archive while it goes by. Memory stays small whatever comes.

    Nothing may reach podman's end of the line before ``finish`` has returned.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._names = Names()
        self._name_bytes = 0
        self._size = 0
        self._links = Names()
        self._deleted = b""
        self.devices: list[str] = []
        """Of the tars inside, the device nodes; the first few."""

    def member(self, info: tarfile.TarInfo) -> str:
        """Check a header and return the member's name, as podman will have it.

        :raises LintError: if it must not be there.
        """
        name = _sound_name(info.name)
        self._check_place(name, info)
        _check_kind(name, info)
        self._count(name, info)
        return name

    def _check_place(self, name: str, info: tarfile.TarInfo) -> None:
        top, below, _rest = name.partition("/")
        is_file = top in FILES and not below
        is_directory = top in DIRECTORIES or name == "."
        if not is_file and not is_directory:
            raise LintError("archive_unknown", f"The archive has a member {name!r}, which no checkpoint has.")
        if (is_file and info.isdir()) or (is_directory and not below and not info.isdir() and not info.issym()):
            raise LintError("archive_unknown", f"The archive's {name!r} is not what it is in a checkpoint.")

    def _count(self, name: str, info: tarfile.TarInfo) -> None:
        text = os.fsencode(name)
        if text in self._names:
            raise LintError("archive_duplicate", f"The archive has {name!r} twice.")
        self._names.add(text)
        self._name_bytes += len(text)
        self._size += info.size
        if len(self._names) > self._limits.members or self._name_bytes > MOST_NAMES:
            message = f"The archive has more than {len(self._names) - 1} members: it goes on with {name!r}."
            raise LintError("archive_too_large", message)
        if self._limits.size is not None and self._size > self._limits.size:
            raise LintError(
                "archive_too_large",
                f"The archive would take more than {self._limits.size} bytes: {name!r} alone has {info.size}.",
            )

    def watched(self, name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass a member's content on, and look into it where podman will.

        :raises LintError: as soon as something is found; what went on until then does no harm without its end.
        """
        if name == DELETED_FILES:
            return self._watched_deletions(blocks)
        is_tar = name in (ROOTFS_DIFF, SHARED_MEMORY) or (name.startswith("volumes/") and name.endswith(".tar"))
        return self._watched_tar(name, blocks) if is_tar else blocks

    def _watched_deletions(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        noted = bytearray()
        for block in blocks:
            noted += block
            if len(noted) > MOST_DELETED:
                raise LintError(
                    "archive_deletes", f"The archive's {DELETED_FILES} is larger than {MOST_DELETED} bytes."
                )
            yield block
        self._deleted = bytes(noted)

    def _watched_tar(self, name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        inner = Inner(name, self.devices)
        if name == ROOTFS_DIFF:
            self._links = inner.links
        headers = Headers(inner.member)
        try:
            for block in blocks:
                headers.feed(block)
                yield block
            headers.finish()
        except Unreadable as error:
            raise LintError("archive_inner", f"The archive's {name!r} is no tar to be trusted: {error}.") from error

    def finish(self) -> None:
        """Check what takes the whole archive.

        :raises LintError: if a file outside the container would be deleted.
        """
        for path in deletions(self._deleted):
            parts = path.encode("utf-8", "surrogatepass").strip(b"/").split(b"/")
            if parts == [b""] or b".." in parts or "\0" in path or _passes_link(parts, self._links):
                message = f"The archive's {DELETED_FILES} names {path!r}, which may be outside of the container."
                raise LintError("archive_deletes", message)


class Inner:
    """The members of a tar inside the archive, which podman unpacks into the container's root or a volume.

    :param where: the tar's name.
    :param devices: takes the names of device nodes.
    """

    def __init__(self, where: str, devices: list[str]) -> None:
        self._where = where
        self._devices = devices
        self.links = Names()

    def member(self, header: Header) -> None:
        """:raises LintError: if it would be written outside of where it belongs."""
        parts = self._sound(header.name, "a member")
        if not parts and header.kind != _headers.DIRECTORY:
            raise self._refused("has something else in the place of its root")
        if header.kind == _headers.SYMBOLIC_LINK:
            self._link(parts)
        elif header.kind == _headers.HARD_LINK:
            target = self._sound(header.link, "a link to")
            if _joined(target) in self.links:
                self._link(parts)
        elif header.kind in (_headers.CHARACTER, _headers.BLOCK_DEVICE):
            if len(self._devices) < SHOWN:
                self._devices.append(f"{self._where}: {_shown(header.name)}")
        elif header.kind not in (_headers.FILE, _headers.OLD_FILE, _headers.DIRECTORY, _headers.PIPE):
            raise self._refused(f"has {_shown(header.name)} of the unknown type {header.kind!r}")

    def _sound(self, name: bytes, role: str) -> list[bytes]:
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if name.startswith(b"/") or b".." in parts or not name:
            raise self._refused(f"has {role} {_shown(name)}, which leads out of it")
        if _passes_link(parts, self.links):
            raise self._refused(f"has {role} {_shown(name)}, behind a link that it has planted")
        return parts

    def _link(self, parts: list[bytes]) -> None:
        self.links.add(_joined(parts))
        if len(self.links) > MOST_LINKS:
            raise LintError("archive_too_large", f"The archive's {self._where!r} has more than {MOST_LINKS} links.")

    def _refused(self, what: str) -> LintError:
        return LintError("archive_inner", f"The archive's {self._where!r} {what}.")


class Names:
    """A set of names in 16 to 32 bytes for each, however long they are: their hashes, in open addressing."""

    def __init__(self) -> None:
        self._slots = array.array("Q", bytes(8 * 256))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: bytes) -> bool:
        value = _hash(name)
        return self._slots[self._place(value)] == value

    def add(self, name: bytes) -> None:
        value = _hash(name)
        place = self._place(value)
        if self._slots[place] == value:
            return
        self._slots[place] = value
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()

    def _place(self, value: int) -> int:
        slots, mask = self._slots, len(self._slots) - 1
        place = value & mask
        while slots[place] and slots[place] != value:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        before = self._slots
        self._slots = array.array("Q", bytes(8 * 2 * len(before)))
        for value in before:
            if value:
                self._slots[self._place(value)] = value


def _hash(name: bytes) -> int:
    # Python's own is keyed anew in every process, so nobody can prepare names that collide.
    return hash(name) & 0xFFFFFFFFFFFFFFFF or 1


def _passes_link(parts: list[bytes], links: Names) -> bool:
    """Whether what stands before the last part of a path is a link."""
    return len(links) > 0 and any(_joined(parts[:end]) in links for end in range(1, len(parts)))


def _joined(parts: list[bytes]) -> bytes:
    return b"/".join(parts)


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name))


def _sound_name(name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise LintError("archive_name", f"The archive has a member {name!r}, which leads out of it.")
    if not name or len(os.fsencode(name)) > MOST_NAME or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise LintError("archive_name", f"The archive has a member {name[:100]!r}, a name that no checkpoint has.")
    return os.path.normpath(name)


def _check_kind(name: str, info: tarfile.TarInfo) -> None:
    if (info.issym() or info.islnk()) and not (info.issym() and LINKS.get(name) == info.linkname):
        raise LintError("archive_link", f"The archive's {name!r} is a link to {info.linkname!r}.")
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE):
        raise LintError("archive_special", f"The archive's {name!r} is a device, a pipe or of another special kind.")


_SPACES = re.compile(rb"[ \t\r\n]*")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.){0,32768}"')
"""Of a path of at most 4096 bytes, which JSON may write as six characters each."""


def deletions(text: bytes) -> Iterator[str]:
    """The paths in deleted.files, one by one: the list of all might not fit into memory.

    :raises LintError: if it is no list of texts.
    """
    found = text.strip(b" \t\r\n")
    if found in (b"", b"null") or (found[:1], found[-1:], found[1:-1].strip(b" \t\r\n")) == (b"[", b"]", b""):
        return
    offset, before = 0, b"["
    while found.startswith(before, offset):
        path, offset = _path(found, _behind_spaces(found, offset + 1))
        yield path
        offset, before = _behind_spaces(found, offset), b","
    if found[offset:] != b"]":
        raise LintError("archive_deletes", NO_PATHS)


def _path(text: bytes, offset: int) -> tuple[str, int]:
    found = _TEXT.match(text, offset)
    try:
        if found is not None:
            return str(json.loads(found[0].decode("utf-8", "replace"))), found.end()
    except ValueError:
        pass
    raise LintError("archive_deletes", NO_PATHS)


def _behind_spaces(text: bytes, offset: int) -> int:
    found = _SPACES.match(text, offset)
    return found.end() if found else offset
