# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""OCI images, and the layouts that carry them, as tar streams: what podman loads as an oci-archive.

Layers are uncompressed; who pushes the image compresses them. Memory stays small: a layer lies in a file.
The formats: the OCI image specification, ``config.md``, ``manifest.md`` and ``image-layout.md``.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

BLOCK = 1024 * 1024
RECORD = 512

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
NAME = "org.opencontainers.image.ref.name"
"""The annotation that names an image of a layout; podman gives the loaded image this name."""

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Layer:
    """An uncompressed tar in a file.

    :param file: open for reading.
    :param digest: ``sha256:…`` of it; the digest of what is in it as well, because it is not compressed.
    """

    file: t.IO[bytes]
    digest: str
    size: int

    @classmethod
    def spooled(cls, chunks: Iterable[bytes], file: t.IO[bytes]) -> Layer:
        """Write a tar into a file and note its digest on the way.

        :raises OSError: if the file cannot be written.
        """
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        return cls(file, f"sha256:{digest.hexdigest()}", size)

    @property
    def descriptor(self) -> Json:
        return {"mediaType": LAYER_TYPE, "digest": self.digest, "size": self.size}

    def blocks(self) -> Iterator[bytes]:
        self.file.seek(0)
        while block := self.file.read(BLOCK):
            yield block


@dataclass(frozen=True)
class Image:
    """One image of some layers.

    :param architecture: as Go calls it, such as amd64.
    :param annotations: of the manifest, and of the index that lists it.
    """

    layers: list[Layer]
    architecture: str
    created: datetime
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What podman knows it by, wherever it goes: the digest of the configuration, which has the layers' digests."""
        return hashlib.sha256(self.config).hexdigest()

    @property
    def config(self) -> bytes:
        created = self.created.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _packed(
            {
                "created": created,
                "architecture": self.architecture,
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
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

    def layout(self, name: str | None = None) -> Iterator[bytes]:
        """The image as the tar of an OCI layout.

        :param name: see ``index``.
        """
        yield from _member("oci-layout", _packed({"imageLayoutVersion": "1.0.0"}))
        yield from _member("index.json", self.index(name))
        for document in (self.manifest, self.config):
            yield from _member(_blob(_digest(document)), document)
        for layer in self.layers:
            yield _header(_blob(layer.digest), layer.size)
            yield from layer.blocks()
            yield _padding(layer.size)
        yield bytes(2 * RECORD)


def _packed(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def _descriptor(kind: str, document: bytes) -> Json:
    return {"mediaType": kind, "digest": _digest(document), "size": len(document)}


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


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
