# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Checkpoint archives as images and back, in two layouts. Pure: streams, and files that the caller opens.

``single`` is podman's: one layer, and in it the members of the archive.

``layered`` is ours, version 1. From below:

- the layers of the base image as they are, so that a registry has them once;
- the changes of the root filesystem as a layer (``_overlay``): on top of each other these are the container's files;
- the members of the archive in ``.ferry-checkpoint/``, CRIU's images as files in ``.ferry-checkpoint/checkpoint/``. In
  the place of ``rootfs-diff.tar``, which is the layer below, there is ``rootfs-diff.json`` with its size;
  ``deleted.files`` is there as it was.

No engine takes such an image for one that it can restore itself and leaves the changes out: they look for the members
in ``/``. The configuration has the label ``ferry.checkpoint.layout``, and the manifest an annotation of that name; only
the label counts, because the image's ID covers it. The way back gives the same archive, ``rootfs-diff.tar`` byte by
byte. Only an entry for the archive's own root (``./``) is lost, and what a later member of ``rootfs-diff.tar`` with the
same path replaces.
"""

from __future__ import annotations

import json
import tarfile
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from ansible_collections.ferry.podman.plugins.module_utils._annotations import PREFIXES, as_annotations
from ansible_collections.ferry.podman.plugins.module_utils._archive import (
    END,
    RECORD,
    Contents,
    Member,
    Reader,
    document,
    entry,
    members,
    renamed,
    resized,
    rewritten,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._layout import StoredImage, open_layer
from ansible_collections.ferry.podman.plugins.module_utils._lint import (
    DELETED_FILES,
    MOST_DELETED,
    NO_LIMITS,
    ROOTFS_DIFF,
    Limits,
)
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer, LayerWriter
from ansible_collections.ferry.podman.plugins.module_utils._overlay import ChangesOf, LayerOf
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks

SINGLE, LAYERED = "single", "layered"

LAYOUT = "ferry.checkpoint.layout"
"""Label and annotation of a layered image; its value is the version of the format."""

VERSION = "layered-1"

ROOT = ".ferry-checkpoint"
CHANGES = f"{ROOT}/rootfs-diff.json"
_MOST_CHANGES = 1024

# -- archive to image -----------------------------------------------------------------------------------------


def single(source: Reader, contents: Contents, file: t.IO[bytes], limits: Limits = NO_LIMITS) -> list[Layer]:
    """The one layer of podman's layout.

    :param source: an archive, not compressed.
    :param contents: filled.
    :param file: open, for the layer.
    :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
    :raises OSError: if the file cannot be written.
    """
    return [Layer.spooled(rewritten(source, contents, limits=limits), file)]


def layered(
    source: Reader,
    contents: Contents,
    base: StoredImage,
    files: tuple[t.IO[bytes], t.IO[bytes], t.IO[bytes]],
    limits: Limits = NO_LIMITS,
) -> list[Layer]:
    """The layers of our layout.

    :param source: an archive, not compressed.
    :param contents: filled.
    :param base: the image that the container was made from.
    :param files: open, for the changes, for the rest, and for the changes as they come.
    :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman, or is of another image.
    :raises OSError: if a file cannot be written.
    """
    writer = _LayeredWriter(LayerWriter(files[0]), LayerWriter(files[1]), files[2])
    for member in members(Chunks(rewritten(source, contents, limits=limits))):
        writer.take(member)
    expected = contents.config.get("rootfsImageID")
    if expected and expected != base.id:
        raise ArchiveError(f"The container was made from the image {expected}, not from {base.id}.")
    return [*base.layers, *writer.finish()]


class _LayeredWriter:
    """Distributes the members of an archive over two layers."""

    def __init__(self, changes: LayerWriter, rest: LayerWriter, spool: t.IO[bytes]) -> None:
        self._changes = changes
        self._rest = rest
        self._spool = spool
        self._form = LayerOf()
        self._deleted = b""
        root = tarfile.TarInfo(ROOT)
        root.type, root.mode = tarfile.DIRTYPE, 0o700
        _write(self._rest, entry(root))

    def take(self, member: Member) -> None:
        info = member.info
        if member.name == ROOTFS_DIFF:
            text = json.dumps({"size": info.size}).encode()
            diff = Layer.spooled(member.chunks(), self._spool)
            _write(self._changes, self._form.changes(diff.blocks))
            _write(self._rest, entry(resized(renamed(info, CHANGES), len(text)), [text]))
        elif member.name == DELETED_FILES:
            # The lint has let it pass: it is not large.
            self._deleted = b"".join(member.chunks())
            _write(self._rest, entry(renamed(info, f"{ROOT}/{member.name}"), [self._deleted]))
        elif member.name != ".":
            _write(self._rest, entry(renamed(info, f"{ROOT}/{member.name}"), member.chunks()))

    def finish(self) -> tuple[Layer, Layer]:
        _write(self._changes, self._form.deletions(self._deleted))
        self._changes.write(END)
        self._rest.write(END)
        return self._changes.finish(), self._rest.finish()


def _write(writer: LayerWriter, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        writer.write(chunk)


def image_of(
    layers: list[Layer],
    layout: str,
    architecture: str,
    created: datetime,
    facts: Mapping[str, str],
    families: Iterable[str] = tuple(PREFIXES),
) -> Image:
    """The image of some layers, with the keys by which engines know a checkpoint.

    :param architecture: as Go calls it, such as amd64.
    :param facts: by the names in ``_annotations.KEYS``.
    """
    marks = {LAYOUT: VERSION} if layout == LAYERED else {}
    return Image(layers, architecture, created, {**as_annotations(facts, families), **marks}, marks)


# -- image to archive -----------------------------------------------------------------------------------------


def layout_of(image: StoredImage) -> str:
    """``single`` or ``layered``.

    :raises ArchiveError: if it is neither.
    """
    version = image.labels.get(LAYOUT)
    if version is None and len(image.layers) == 1:
        return SINGLE
    if version == VERSION and len(image.layers) >= 2:
        return LAYERED
    if version is None:
        raise ArchiveError(f"This is no checkpoint image: it has {len(image.layers)} layers, and no label {LAYOUT}.")
    raise ArchiveError(f"This image has the layout {version!r}, which is not known here: a newer version made it.")


def archive_of(image: StoredImage, contents: Contents, limits: Limits = NO_LIMITS) -> Iterator[bytes]:
    """The archive that an image holds, as podman wrote it.

    The last bytes come only after everything proved to be whole.

    :param contents: filled while it goes by.
    :raises ArchiveError: if it holds no whole checkpoint, or what must not reach podman, or is damaged.
    """
    with open_image(image) as source:
        yield from rewritten(source, contents, limits=limits)


def open_image(image: StoredImage) -> t.IO[bytes]:
    """Read the archive that an image holds. It has not been looked into.

    :raises ArchiveError: here or while it is read.
    """
    if layout_of(image) == LAYERED:
        return t.cast("t.IO[bytes]", Chunks(_joined(image)))
    return open_layer(image.layers[0])


def base_layers(image: StoredImage) -> list[Layer]:
    """Of a layered image, what is not the checkpoint's own."""
    return image.layers[:-2]


def _joined(image: StoredImage) -> Iterator[bytes]:
    """The archive of a layered image; it has not been looked into."""
    changes, rest = image.layers[-2:]
    form = ChangesOf()
    deleted, begun = b"", False
    for member in members(t.cast(Reader, open_layer(rest))):
        name = _name_in_archive(member)
        if member.name == CHANGES:
            begun = True
            info = resized(renamed(member.info, ROOTFS_DIFF), _size_of_changes(member))
            yield from entry(info, _padded(form.changes(_blocks(changes)), info.size))
        elif name == DELETED_FILES:
            deleted = _limited(member, MOST_DELETED)
            yield from entry(renamed(member.info, name), [deleted])
        elif name:
            yield from entry(renamed(member.info, name), member.chunks())
    if not begun and any(form.changes(_blocks(changes))):
        raise ArchiveError(f"The image has changes of the root filesystem, and no {CHANGES}.")
    form.check(deleted)
    yield END


def _name_in_archive(member: Member) -> str:
    """Empty for the directory that they are all in."""
    if member.name == ROOT and member.info.isdir():
        return ""
    top, _slash, name = member.name.partition("/")
    if top != ROOT or name in ("", ROOTFS_DIFF):
        raise ArchiveError(f"The image's last layer has {member.name!r}, which no layered checkpoint has.")
    return name


def _size_of_changes(member: Member) -> int:
    found = document(CHANGES, _limited(member, _MOST_CHANGES))
    size = found.get("size") if isinstance(found, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ArchiveError(f"The image's {CHANGES} does not say the size of {ROOTFS_DIFF}.")
    return size


def _limited(member: Member, most: int) -> bytes:
    if member.info.size > most:
        raise ArchiveError(f"The image's {member.name} has more than {most} bytes.")
    return b"".join(member.chunks())


def _blocks(layer: Layer) -> Iterator[bytes]:
    with open_layer(layer) as file:
        while block := file.read(256 * RECORD):
            yield block


def _padded(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """A tar with its end, and with the zeros that there were behind it."""
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left < 0:
        raise ArchiveError(f"The image's changes are more than the {size} bytes that {CHANGES} says.")
    while left:
        yield bytes(min(left, 256 * RECORD))
        left -= min(left, 256 * RECORD)
