# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""OCI images, and the layouts that carry them, as tar streams: what podman loads as an oci-archive.

Layers that are made here are uncompressed; who pushes the image compresses them. Memory stays small: a layer lies in a
file.
The formats: the OCI image specification, ``config.md``, ``manifest.md`` and ``image-layout.md``.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils._digest import Digest
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError

BLOCK = 1024 * 1024
RECORD = 512

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
COMPRESSED_TYPES = {"none": LAYER_TYPE, "gzip": f"{LAYER_TYPE}+gzip", "zstd": f"{LAYER_TYPE}+zstd"}
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
NAME = "org.opencontainers.image.ref.name"
"""The annotation that names an image of a layout; podman gives the loaded image this name."""

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Layer:
    """A tar in a file, or in a part of one, or one that is made anew each time.

    :param file: open for reading; None for one that is made.
    :param digest: ``sha256:…`` of it, as it lies there.
    :param offset: where in the file it begins.
    :param compression: none, gzip or zstd; what this collection makes is not compressed.
    :param unpacked_digest: of what is in it, if it is compressed.
    :param make: gives its blocks, if there is no file.
    :param source: what it is made of, for messages.
    """

    file: t.IO[bytes] | None
    digest: str
    size: int
    offset: int = 0
    compression: str = "none"
    unpacked_digest: str | None = None
    make: Callable[[], Iterator[bytes]] | None = None
    source: str = ""

    @classmethod
    def made(cls, make: Callable[[], Iterator[bytes]], source: str) -> Layer:
        """Make a tar once for its digest, and again whenever it is read; it takes no room meanwhile."""
        digest, size = Digest(), 0
        for chunk in make():
            digest.update(chunk)
            size += len(chunk)
        return cls(None, f"sha256:{digest.hexdigest()}", size, make=make, source=source)

    @classmethod
    def spooled(cls, chunks: Iterable[bytes], file: t.IO[bytes]) -> Layer:
        """Write a tar into a file and note its digest on the way.

        :raises OSError: if the file cannot be written.
        """
        writer = LayerWriter(file)
        for chunk in chunks:
            writer.write(chunk)
        return writer.finish()

    @property
    def diff_id(self) -> str:
        """What an image's configuration knows it by, however it is compressed."""
        return self.unpacked_digest or self.digest

    @property
    def descriptor(self) -> Json:
        return {"mediaType": COMPRESSED_TYPES[self.compression], "digest": self.digest, "size": self.size}

    def blocks(self) -> Iterator[bytes]:
        """:raises ArchiveError: before the last block, if it is made and is not the same any more."""
        if self.make is not None:
            return self._unchanged(self.make())
        return self._read(t.cast("t.IO[bytes]", self.file))

    def _unchanged(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        digest, size, held = Digest(), 0, b""
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            # An empty chunk would end a body that is sent in chunks.
            if held and chunk:
                yield held
            held = chunk or held
        if (f"sha256:{digest.hexdigest()}", size) != (self.digest, self.size):
            raise ArchiveError(f"{self.source} has changed while it was read.")
        yield held

    def _read(self, file: t.IO[bytes]) -> Iterator[bytes]:
        position, end = self.offset, self.offset + self.size
        while position < end:
            # Another layer of the same file may be read in between.
            file.seek(position)
            block = file.read(min(BLOCK, end - position))
            if not block:
                raise EOFError(f"The file of the layer {self.digest} has become shorter.")
            position += len(block)
            yield block


class LayerWriter:
    """Takes a tar piece by piece.

    :param file: an open file; the tar begins at its begin.
    """

    def __init__(self, file: t.IO[bytes]) -> None:
        self._file = file
        self._digest = Digest()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """:raises OSError: if the file cannot be written."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Layer:
        self._file.flush()
        return Layer(self._file, f"sha256:{self._digest.hexdigest()}", self.size)


@dataclass(frozen=True)
class Image:
    """One image of some layers.

    :param architecture: as Go calls it, such as amd64.
    :param annotations: of the manifest, and of the index that lists it.
    :param labels: of the configuration: they stay where formats have no annotations, and are part of the ID.
    """

    layers: list[Layer]
    architecture: str
    created: datetime
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What podman knows it by, wherever it goes: the digest of the configuration, which has the layers' digests."""
        return hashlib.sha256(self.config).hexdigest()

    @property
    def config(self) -> bytes:
        # Not by strftime, which leaves out the zeros of the year 0001 that Go has for none.
        created = self.created.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
        return _packed(
            {
                "created": created,
                "architecture": self.architecture,
                "os": "linux",
                "config": {"Labels": dict(self.labels)} if self.labels else {},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": [{"created": created, "created_by": "ferry.podman"} for _layer in self.layers],
            }
        )

    @property
    def manifest(self) -> bytes:
        return _packed(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(CONFIG_TYPE, self.config),
                "layers": [layer.descriptor for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )

    def index(self, name: str | None = None) -> bytes:
        """:param name: the image's name in the layout; podman gives an image without one none either."""
        described = _descriptor(MANIFEST_TYPE, self.manifest)
        annotations = {**self.annotations, **({NAME: name} if name else {})}
        return _packed(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "manifests": [{**described, "annotations": annotations}],
                "annotations": dict(self.annotations),
            }
        )

    @property
    def is_plain(self) -> bool:
        """Whether no layer is compressed."""
        return all(layer.compression == "none" for layer in self.layers)

    def layout(self, name: str | None = None, *, with_layers: bool = True) -> Iterator[bytes]:
        """The image as the tar of an OCI layout.

        :param name: see ``index``.
        :param with_layers: or else for who has them already.
        """
        yield from _member("oci-layout", _packed({"imageLayoutVersion": "1.0.0"}))
        yield from _member("index.json", self.index(name))
        for document in (self.manifest, self.config):
            yield from _member(_blob(_digest(document)), document)
        if with_layers:
            yield from self._layers(_blob)
        yield bytes(2 * RECORD)

    def docker_archive(self) -> Iterator[bytes]:
        """The image as docker save writes it, without a name: the same ID, but no annotations."""
        config = f"{self.id}.json"
        layers = [_docker_layer(layer.digest) for layer in self.layers]
        manifest = [{"Config": config, "RepoTags": None, "Layers": layers}]
        yield from _member("manifest.json", json.dumps(manifest).encode())
        yield from _member(config, self.config)
        yield from self._layers(_docker_layer)
        yield bytes(2 * RECORD)

    def _layers(self, name_of: Callable[[str], str]) -> Iterator[bytes]:
        # Two layers can be the same, and a tar has each name once.
        for layer in {layer.digest: layer for layer in self.layers}.values():
            yield _header(name_of(layer.digest), layer.size)
            yield from layer.blocks()
            yield _padding(layer.size)


def _packed(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def _descriptor(kind: str, document: bytes) -> Json:
    return {"mediaType": kind, "digest": _digest(document), "size": len(document)}


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _docker_layer(digest: str) -> str:
    return f"{digest.partition(':')[2]}.tar"


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data
    yield _padding(len(data))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % RECORD)
