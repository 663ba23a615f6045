# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A container's changes to its root filesystem, in two forms: podman's and that of an image's layer.

Podman's is ``rootfs-diff.tar``, unpacked over the image, and ``deleted.files``, removed afterwards. In a layer a file
is gone if there is a *whiteout*, ``.wh.NAME`` beside it; all that was in a directory is gone if ``.wh..wh..opq`` is in
it (OCI image specification, ``layer.md``). What both forms have goes over byte by byte.

A directory that took the place of another one is in our archives an empty file and then the directory, because podman
removes the one for the other (``RootfsAdditions``). In a layer that is the directory and then its opaque mark.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._archive import DAMAGED, RECORD, entry
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._headers import (
    DIRECTORY,
    FILE,
    HARD_LINK,
    OLD_FILE,
    Header,
    Headers,
    Unreadable,
)
from ansible_collections.ferry.podman.plugins.module_utils._lint import (
    MOST_DELETED,
    MOST_LINKS,
    ROOTFS_DIFF,
    LintError,
    Names,
    deletions,
)
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks

WHITEOUT = b".wh."
RESERVED = b".wh..wh."
OPAQUE = b".wh..wh..opq"

FROM_LIST = "FERRY.deleted"
"""Extended header of whiteouts that repeat what deleted.files says; on the way back it is that file that counts."""

_FROM_LIST = f" {FROM_LIST}=1\n".encode()
_READ = 256 * 1024
MOST_REPEATS = 200_000
MOST_REPEATED = 32 * 1024 * 1024
"""Bytes of their paths and headers."""

MOST_GONE = 200_000

Path = tuple[bytes, ...]


class Inexpressible(ArchiveError):
    """Changes that the other form has no words for."""


# -- tars member by member ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A member of a tar as it stands there.

    :param raw: its headers.
    :param content: with its padding; gone when the next part has come.
    """

    header: Header
    raw: bytes
    content: Iterator[bytes]

    @property
    def path(self) -> Path:
        return _path(self.header.name)

    @property
    def is_directory(self) -> bool:
        return self.header.kind == DIRECTORY

    @property
    def is_empty_file(self) -> bool:
        return self.header.kind in (FILE, OLD_FILE) and self.header.size == 0


def parts(blocks: Iterable[bytes]) -> Iterator[Part]:
    """The members of a tar; the last one comes before its end has been seen.

    :raises ArchiveError: if it is cut short, or different programs would read it differently.
    """
    found: list[Header] = []
    headers, source = Headers(found.append), Chunks(blocks)
    with _explained():
        while raw := _next_headers(source, headers, found):
            header = found.pop()
            part = Part(header, raw, _content(source, headers, header.size + -header.size % RECORD))
            yield part
            for _block in part.content:
                pass
        while block := source.read(_READ):
            headers.feed(block)
        headers.finish()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise ArchiveError(f"The changes of the root filesystem are no tar to be trusted: {error}.") from error
    except DAMAGED as error:
        raise ArchiveError(f"The changes of the root filesystem are damaged or cut short: {error}.") from error


def _next_headers(source: Chunks, headers: Headers, found: list[Header]) -> bytes:
    """The records in front of a member's content; none at the end."""
    raw = bytearray()
    while not found and not headers.ended and (record := _exactly(source, RECORD)):
        headers.feed(record)
        raw += record
    return bytes(raw) if found else b""


def _exactly(source: Chunks, size: int) -> bytes:
    found = bytearray(source.read(size) or b"")
    while 0 < len(found) < size:
        more = source.read(size - len(found))
        if not more:
            raise Unreadable("it is cut short")
        found += more
    return bytes(found)


def _content(source: Chunks, headers: Headers, size: int) -> Iterator[bytes]:
    while size:
        with _explained():
            block = source.read(min(size, _READ))
            if not block:
                raise Unreadable("it is cut short")
            headers.feed(block)
        size -= len(block)
        yield block


class Seen:
    """Which paths the changes have, in little memory."""

    def __init__(self) -> None:
        self._paths = Names()
        self._files = Names()

    def add(self, part: Part) -> None:
        path = part.path
        for end in range(1, len(path) + 1):
            self._paths.add(_joined(path[:end]))
        if not part.is_directory:
            self._files.add(_joined(path))
        if len(self._paths) > MOST_LINKS:
            raise LintError("archive_too_large", f"The archive's {ROOTFS_DIFF!r} has more than {MOST_LINKS} paths.")

    def has(self, path: Path) -> bool:
        """Whether there is something at a path or below it."""
        return _joined(path) in self._paths

    def has_file(self, path: Path) -> bool:
        """Whether there is something at a path that is no directory."""
        return _joined(path) in self._files


# -- to a layer -----------------------------------------------------------------------------------------------


class LayerOf:
    """Makes a layer of podman's form: first ``changes``, if there are any, then ``deletions``.

    A layer has each path once (containers/storage refuses others), and a tar may have it again: then the later one
    counts. The end of the tar is left to the caller.
    """

    def __init__(self) -> None:
        self._seen = Seen()

    def changes(self, diff: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
        """:param diff: opens the tar at its begin; it is read twice.
        :raises Inexpressible: if a layer cannot have them.
        """
        repeats = _Repeats(diff())
        for part, replaces in _with_stand_ins(diff()):
            path = _joined(part.path)
            self._check_kind(part, replaces)
            if repeats.is_superseded(part, path):
                continue
            if part.header.kind == HARD_LINK and repeats.is_to_come(_joined(_path(part.header.link))):
                name = _shown(part.header.link)
                raise Inexpressible(f"The archive's {ROOTFS_DIFF!r} links to {name}, and then has another one.")
            self._seen.add(part)
            yield repeats.directories.get(path, part.raw) if part.is_directory else part.raw
            yield from part.content
            if replaces:
                yield _mark((*part.path, OPAQUE))

    def _check_kind(self, part: Part, replaces: bool) -> None:
        was_file = self._seen.has_file(part.path)
        was_directory = self._seen.has(part.path) and not was_file
        if (
            (part.is_directory and was_file)
            or (not part.is_directory and was_directory)
            or (replaces and was_directory)
        ):
            name = _shown(part.header.name)
            raise Inexpressible(f"The archive's {ROOTFS_DIFF!r} has {name} as one thing and then as another.")

    def deletions(self, deleted: bytes) -> Iterator[bytes]:
        """:raises Inexpressible: if a layer cannot have them."""
        for path in marks(deleted, self._seen):
            yield _mark(path, FROM_LIST)


class _Repeats:
    """Which paths a tar has more than once."""

    def __init__(self, diff: Iterable[bytes]) -> None:
        once, self._done = Names(), Names()
        self._size = 0
        self._left: dict[bytes, int] = {}
        self.directories: dict[bytes, bytes] = {}
        """Their last headers, which take the place of the first ones: a directory comes before what is in it."""
        for part, _replaces in _with_stand_ins(diff):
            path = _joined(part.path)
            if path in once:
                self._note(part, path)
            once.add(path)

    def _note(self, part: Part, path: bytes) -> None:
        if part.is_directory:
            self._size += len(part.raw) - len(self.directories.get(path, b""))
            self.directories[path] = part.raw
        else:
            self._left[path] = self._left.get(path, 1) + 1
        self._size += len(path)
        if len(self.directories) + len(self._left) > MOST_REPEATS:
            message = f"The archive's {ROOTFS_DIFF!r} has more than {MOST_REPEATS} paths twice."
            raise LintError("archive_too_large", message)
        if self._size > MOST_REPEATED:
            message = (
                f"The archive's {ROOTFS_DIFF!r} has paths twice whose headers are more than {MOST_REPEATED} bytes."
            )
            raise LintError("archive_too_large", message)

    def is_superseded(self, part: Part, path: bytes) -> bool:
        """Whether another member stands for it; asked of each member once, in their order."""
        if part.is_directory:
            known = path in self._done
            if path in self.directories:
                self._done.add(path)
            return known
        if path in self._left:
            self._left[path] -= 1
        return self.is_to_come(path)

    def is_to_come(self, path: bytes) -> bool:
        """Whether the file that stands for a path of several is still to be asked for."""
        return self._left.get(path, 0) > 0


def _with_stand_ins(diff: Iterable[bytes]) -> Iterator[tuple[Part, bool]]:
    """The members, and of each whether it is a directory in the place of another; its stand-in is left out."""
    held: Part | None = None
    for part in parts(diff):
        _check_names(part.header)
        replaces = held is not None and part.is_directory and held.raw == _stand_in(part)
        if held is not None and not replaces:
            yield held, False
        held = part if part.is_empty_file else None
        if held is None:
            yield part, replaces
    if held is not None:
        yield held, False


def marks(deleted: bytes, seen: Seen) -> Iterator[Path]:
    """The whiteouts for a ``deleted.files``, in its order.

    None hides what the same layer has: what was made again stays, though podman's restore would delete it.
    """
    gone, done = Names(), Names()
    for path in _deleted(deleted):
        gone.add(_joined(path))
    for path in _deleted(deleted):
        above = [path[:end] for end in range(1, len(path))]
        # What is above has taken it along, or is no directory any more; and a file hides what is in its place.
        needless = any(_joined(each) in gone or seen.has_file(each) for each in above) or seen.has_file(path)
        if path and not needless and _joined(path) not in done:
            done.add(_joined(path))
            yield (*path, OPAQUE) if seen.has(path) else (*path[:-1], WHITEOUT + path[-1])


def _deleted(text: bytes) -> Iterator[Path]:
    for path in deletions(text):
        found = _path(path.encode("utf-8", "surrogatepass"))
        if any(part.startswith(WHITEOUT) for part in found):
            raise _like_a_whiteout(_joined(found))
        yield found


def _check_names(header: Header) -> None:
    for name in (header.name, header.link if header.kind == HARD_LINK else b""):
        if any(part.startswith(WHITEOUT) for part in _path(name)):
            raise _like_a_whiteout(name)


def _like_a_whiteout(name: bytes) -> Inexpressible:
    return Inexpressible(
        f"The container has changed {_shown(name)}, and in a layer a name that begins with '.wh.' stands for a deleted"
        " file.",
        remedy="Take the layout 'single'.",
    )


# -- and back -------------------------------------------------------------------------------------------------


class ChangesOf:
    """Makes podman's form of a layer, of one that ``LayerOf`` has made or of another engine's."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._marks = hashlib.sha256()
        self._gone: dict[bytes, None] = {}
        self._gone_size = 0

    def changes(self, layer: Iterable[bytes]) -> Iterator[bytes]:
        """What ``rootfs-diff.tar`` has; the end of the tar is left to the caller.

        :raises Inexpressible: if podman's form cannot have them.
        """
        # A directory waits for its mark.
        held: Part | None = None
        again = False
        for part in parts(layer):
            name = (part.path or (b"",))[-1]
            if name.startswith(WHITEOUT) and _FROM_LIST in part.raw:
                self._marks.update(_joined(part.path) + b"\0")
            elif name == OPAQUE:
                if held is None or held.path != part.path[:-1]:
                    raise Inexpressible(
                        f"The layer has {_shown(part.header.name)} elsewhere than behind its directory."
                    )
                again = True
            elif name.startswith(WHITEOUT):
                self._whiteout(part.path)
            else:
                yield from _directory(held, again)
                again = self._again(part)
                held = part if part.is_directory else None
                if held is None:
                    yield part.raw
                    yield from part.content
        yield from _directory(held, again)

    def _whiteout(self, path: Path) -> None:
        target = (*path[:-1], path[-1][len(WHITEOUT) :])
        if path[-1].startswith(RESERVED) or not target[-1]:
            raise Inexpressible(f"The layer has {_shown(_joined(path))}, which is not of the OCI image specification.")
        if self._seen.has_file(target):
            return
        if self._seen.has(target):
            raise Inexpressible(f"The layer has {_shown(_joined(target))}, and behind it that this is deleted.")
        self._gone[_joined(target)] = None
        self._gone_size += len(_joined(target)) + 4
        if self._gone_size > MOST_DELETED or len(self._gone) > MOST_GONE:
            most = f"{MOST_DELETED} bytes of deleted names, or {MOST_GONE} of them"
            raise LintError("archive_deletes", f"The layer has more than {most}.")

    def _again(self, part: Part) -> bool:
        """Note a member; whether it is a directory in the place of a deleted one."""
        path = part.path
        if self._gone and any(_joined(path[:end]) in self._gone for end in range(1, len(path))):
            raise Inexpressible(f"The layer has {_shown(part.header.name)} in a directory that it says is deleted.")
        self._seen.add(part)
        if _joined(path) not in self._gone:
            return False
        # Podman deletes after it has unpacked: it would be gone.
        del self._gone[_joined(path)]
        return part.is_directory

    @property
    def deleted(self) -> bytes:
        """``deleted.files`` of another engine's layer; empty if nothing is deleted."""
        if not self._gone:
            return b""
        try:
            return json.dumps([f"/{path.decode()}" for path in self._gone], separators=(",", ":")).encode()
        except UnicodeDecodeError as error:
            raise Inexpressible("The layer deletes a file whose name is not UTF-8.") from error

    def check(self, deleted: bytes) -> None:
        """See that a layer of our own says the same as the ``deleted.files`` that came with it.

        :raises ArchiveError: if not.
        """
        expected = hashlib.sha256()
        for path in marks(deleted, self._seen):
            expected.update(_joined(path) + b"\0")
        if self._gone or expected.digest() != self._marks.digest():
            raise ArchiveError("The image's layer of changes and its deleted.files do not belong together.")


def _directory(held: Part | None, again: bool) -> Iterator[bytes]:
    if held is not None:
        if again:
            yield _stand_in(held)
        yield held.raw


def _stand_in(directory: Part) -> bytes:
    """The empty file that has podman remove what the image has in a directory's place."""
    name = directory.header.name.decode("utf-8", "surrogateescape").rstrip("/")
    return b"".join(entry(tarfile.TarInfo(name)))


def _mark(path: Path, *keys: str) -> bytes:
    info = tarfile.TarInfo(_joined(path).decode("utf-8", "surrogateescape"))
    info.pax_headers = {key: "1" for key in keys}
    return b"".join(entry(info))


def _path(name: bytes) -> Path:
    return tuple(part for part in name.split(b"/") if part not in (b"", b"."))


def _joined(path: Path) -> bytes:
    return b"/".join(path)


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name))
