# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Images as podman exports them, oci-archive or docker-archive: read into a file, every digest checked.

Nothing is unpacked and no link followed. Formats: the OCI image specification, ``image-layout.md`` and ``manifest.md``;
containers/image ``docker/internal/tarfile/writer.go``.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._archive import (
    MOST_JSON,
    Member,
    Reader,
    compression_by,
    document,
    members,
    unpacked,
)
from ansible_collections.ferry.podman.plugins.module_utils._digest import Digest
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._oci import COMPRESSED_TYPES, Json, Layer
from ansible_collections.ferry.podman.plugins.module_utils._streams import Checked, Chunks

INDEX = "index.json"
DOCKERS_MANIFEST = "manifest.json"
BLOBS = "blobs/sha256/"
DIGEST = re.compile("sha256:[0-9a-f]{64}")
MOST_MEMBERS = 20_000


@dataclass(frozen=True)
class StoredImage:
    """An image in a file.

    :param id: digest of the configuration, without ``sha256:``; where podman exports as it stores, podman's ID.
    :param annotations: of manifest, index and its entry together; the manifest's win.
    :param layers: the lowest first; compressed or not.
    """

    id: str
    config: Json
    annotations: Mapping[str, str]
    layers: list[Layer]

    @property
    def architecture(self) -> str:
        return _of_type(str, self.config, "architecture", "The image's configuration")

    @property
    def labels(self) -> Mapping[str, str]:
        found = self.config.get("config")
        return _texts(found.get("Labels") if isinstance(found, dict) else None)


def read_image(source: Reader, spool: t.IO[bytes], most: int | None = None) -> StoredImage:
    """Copy an exported image into a file, and see what it is.

    :param source: the tar of an OCI layout or a docker-archive with one image.
    :param spool: open for writing and reading; the image is in it afterwards.
    :param most: bytes that it may take.
    :raises ArchiveError: if it is none, or damaged.
    :raises OSError: if the file cannot be written.
    """
    store = _Store(spool, most)
    for number, member in enumerate(members(source)):
        if number == MOST_MEMBERS:
            raise ArchiveError(f"The image has more than {MOST_MEMBERS} members.")
        # Links are old names of layers in a docker-archive; nothing needs them.
        if member.info.isreg():
            store.take(member)
    if INDEX in store:
        return _from_layout(store)
    if DOCKERS_MANIFEST in store:
        return _from_docker(store)
    raise ArchiveError(f"This is no image: it has neither {INDEX} nor {DOCKERS_MANIFEST}.")


def open_layer(layer: Layer) -> t.IO[bytes]:
    """Read a layer decompressed; the end comes only if it has its digest.

    :raises DependencyError: if it is zstd and zstandard is missing.
    """
    name = f"The layer {layer.diff_id}"
    file = unpacked(t.cast("t.IO[bytes]", Chunks(layer.blocks())), layer.compression, name)
    return t.cast("t.IO[bytes]", Checked(file, layer.diff_id, name))


@dataclass(frozen=True)
class _Place:
    offset: int
    size: int
    digest: str


class _Store:
    """The members of an exported image, one behind the other in a file."""

    def __init__(self, file: t.IO[bytes], most: int | None) -> None:
        self._file = file
        self._most = most
        self._size = 0
        self._places: dict[str, _Place] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def take(self, member: Member) -> None:
        name, offset, digest = member.name, self._size, Digest()
        if name in self._places:
            raise ArchiveError(f"The image has {name!r} twice.")
        if self._most is not None and offset + member.info.size > self._most:
            raise ArchiveError(f"The image takes more than {self._most} bytes: {name!r} has {member.info.size}.")
        for block in member.chunks():
            self._file.write(block)
            digest.update(block)
            self._size += len(block)
        found = digest.hexdigest()
        if name.startswith(BLOBS) and name != BLOBS + found:
            raise ArchiveError(f"The image is damaged: {name} has the digest sha256:{found}.")
        self._places[name] = _Place(offset, self._size - offset, f"sha256:{found}")

    def json(self, name: str) -> t.Any:
        place = self._place(name)
        if place.size > MOST_JSON:
            raise ArchiveError(f"The image's {name} has more than {MOST_JSON} bytes.")
        return document(name, self._read(place, place.size))

    def digest(self, name: str) -> str:
        return self._place(name).digest

    def layer(self, name: str, diff_id: str) -> Layer:
        place = self._place(name)
        compression = compression_by(self._read(place, 8))
        if compression not in COMPRESSED_TYPES:
            raise ArchiveError(f"The image's layer {name} is compressed with {compression}.")
        if compression == "none" and place.digest != diff_id:
            raise ArchiveError(f"The image is damaged: its layer {name} should have the digest {diff_id}.")
        return Layer(self._file, place.digest, place.size, place.offset, compression, diff_id)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise ArchiveError(f"The image is not whole: it has no {name}.")
        return self._places[name]

    def _read(self, place: _Place, size: int) -> bytes:
        self._file.flush()
        self._file.seek(place.offset)
        return self._file.read(min(size, place.size))


def _from_layout(store: _Store) -> StoredImage:
    index = store.json(INDEX)
    entries = _of_type(list, index, "manifests", INDEX)
    if len(entries) != 1:
        raise ArchiveError(f"The {INDEX} lists {len(entries)} images where one is expected.")
    name = _blob(entries[0], INDEX)
    manifest = store.json(name)
    if not isinstance(manifest, dict) or "config" not in manifest:
        raise ArchiveError(f"The image's {name} is no manifest of an image.")
    layers = [_blob(each, name) for each in _of_type(list, manifest, "layers", name)]
    annotations: dict[str, str] = {}
    for holder in (index, entries[0], manifest):
        annotations.update(_texts(holder.get("annotations")))
    return _stored(store, _blob(manifest["config"], name), layers, annotations)


def _from_docker(store: _Store) -> StoredImage:
    listed = store.json(DOCKERS_MANIFEST)
    if not isinstance(listed, list) or len(listed) != 1:
        raise ArchiveError(f"The {DOCKERS_MANIFEST} does not list one image.")
    layers = _of_type(list, listed[0], "Layers", DOCKERS_MANIFEST)
    return _stored(store, _of_type(str, listed[0], "Config", DOCKERS_MANIFEST), [str(each) for each in layers], {})


def _stored(store: _Store, config_name: str, names: list[str], annotations: Mapping[str, str]) -> StoredImage:
    config = store.json(config_name)
    rootfs = _of_type(dict, config, "rootfs", config_name)
    diff_ids = _of_type(list, rootfs, "diff_ids", config_name)
    if len(diff_ids) != len(names):
        raise ArchiveError(f"The image has {len(names)} layers, and its {config_name} knows {len(diff_ids)}.")
    layers = [store.layer(name, _digest(each, config_name)) for name, each in zip(names, diff_ids)]
    return StoredImage(store.digest(config_name)[len("sha256:") :], config, annotations, layers)


def _blob(descriptor: t.Any, where: str) -> str:
    """The member that a descriptor points to."""
    digest = _digest(descriptor.get("digest") if isinstance(descriptor, dict) else None, where)
    return BLOBS + digest[len("sha256:") :]


def _digest(found: t.Any, where: str) -> str:
    if not isinstance(found, str) or not DIGEST.fullmatch(found):
        raise ArchiveError(f"The image's {where} has {found!r} where a digest of SHA-256 is expected.")
    return found


_T = t.TypeVar("_T")


def _of_type(kind: type[_T], found: t.Any, key: str, where: str) -> _T:
    value = found.get(key) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        raise ArchiveError(f"The image's {where} has no {key!r}, or not as it must be.")
    return value


def _texts(found: t.Any) -> dict[str, str]:
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}
