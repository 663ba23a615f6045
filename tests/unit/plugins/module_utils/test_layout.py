# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tempfile
import typing as t
from datetime import datetime, timezone

import hypothesis
import pytest
import zstandard
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils import _layout
from ansible_collections.ferry.podman.plugins.module_utils._archive import compression_by
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._layout import StoredImage, open_layer, read_image
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
COMPRESS = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
CONTENT = b"layer" * 1000


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read(archive: bytes, **options: t.Any) -> StoredImage:
    return read_image(io.BytesIO(archive), tempfile.TemporaryFile(), **options)


def contents(image: StoredImage) -> list[bytes]:
    return [open_layer(layer).read() for layer in image.layers]


class Export:
    """An image as podman exports it, every part of which a test can change."""

    def __init__(self, archives: t.Any, *layers: bytes, compression: str = "none", **annotations: str) -> None:
        self.archives = archives
        self.blobs = [COMPRESS[compression](layer) for layer in layers]
        self.config: t.Any = {
            "architecture": "arm64",
            "config": {"Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
        self.annotations = annotations
        self.manifest: t.Any = {}
        self.index: t.Any = {}

    def oci(self, *also: t.Any, without: str = "none") -> bytes:
        config = json.dumps(self.config).encode()
        layers = [{"digest": digest(blob), "size": len(blob), "mediaType": "x"} for blob in self.blobs]
        manifest = {"config": {"digest": digest(config)}, "layers": layers, "annotations": self.annotations}
        text = json.dumps({**manifest, **self.manifest}).encode()
        index = json.dumps({"manifests": [{"digest": digest(text)}], **self.index}).encode()
        named = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in (*self.blobs, config, text)}
        entries = [self.archives.entry(name, data) for name, data in {**named, "index.json": index}.items()]
        return self.archives.pack([*(entry for entry in entries if entry[0].name != without), *also])

    def docker(self, *also: t.Any) -> bytes:
        config = json.dumps(self.config).encode()
        ids = self.config["rootfs"]["diff_ids"]
        names = [f"{diff_id[7:]}.tar" for diff_id in ids]
        listed = [{"Config": f"{digest(config)[7:]}.json", "Layers": names, "RepoTags": []}]
        entries = [self.archives.entry(name, blob) for name, blob in zip(names, self.blobs)]
        entries += [self.archives.link("old/layer.tar", f"../{name}") for name in names[:1]]
        entries.append(self.archives.entry(listed[0]["Config"], config))
        entries.append(self.archives.entry("manifest.json", json.dumps(listed).encode()))
        return self.archives.pack([*entries, *also])


@pytest.fixture
def export(archives) -> t.Callable[..., Export]:
    return lambda *layers, **options: Export(archives, *layers, **options)


def refused(archive: bytes, **options: t.Any) -> str:
    with pytest.raises(ArchiveError) as error:
        contents(read(archive, **options))
    return str(error.value)


# -- what is read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESS)
def test_layers_come_as_they_were_packed(export, compression) -> None:
    made = export(CONTENT, b"", os.urandom(3_000_000), compression=compression, colour="blue")
    image = read(made.oci())
    assert [digest(content) for content in contents(image)] == made.config["rootfs"]["diff_ids"]
    assert [layer.digest for layer in image.layers] == [digest(blob) for blob in made.blobs]
    assert [b"".join(layer.blocks()) for layer in image.layers] == made.blobs
    assert {layer.compression for layer in image.layers} == {compression}
    assert image.annotations == {"colour": "blue"}
    assert (image.labels, image.architecture) == ({"a": "b"}, "arm64")


def test_docker_archive_has_no_annotations(export) -> None:
    made = export(CONTENT, b"two")
    image = read(made.docker())
    assert contents(image) == [CONTENT, b"two"]
    assert image.id == digest(json.dumps(made.config).encode())[7:]
    assert image.annotations == {}


def test_annotations_are_found_in_all_three_places(export) -> None:
    made = export(CONTENT, where="manifest")
    made.index = {"annotations": {"where": "index", "index": "yes", "odd": 7}}
    assert read(made.oci()).annotations == {"where": "manifest", "index": "yes"}


TARS = st.binary(max_size=3000).filter(lambda data: compression_by(data[:8]) == "none")


@hypothesis.given(st.lists(TARS, max_size=4, unique=True), st.dictionaries(st.text(), st.text()))
def test_what_we_write_is_read(layers, annotations) -> None:
    spooled = [Layer.spooled([layer], tempfile.TemporaryFile()) for layer in layers]
    image = Image(spooled, "amd64", NOON, annotations, {"layout": "x"})
    found = read(b"".join(image.layout("registry.example/a:b")))
    assert found.id == image.id
    assert contents(found) == layers
    assert {key: found.annotations[key] for key in annotations} == annotations
    assert found.labels == {"layout": "x"}


@pytest.mark.parametrize("compression", COMPRESS)
def test_layers_that_were_read_can_be_written_again(export, compression) -> None:
    stored = read(export(CONTENT, CONTENT, b"two", compression=compression).oci())
    again = Image(stored.layers, "arm64", NOON)
    found = read(b"".join(again.layout()))
    assert contents(found) == [CONTENT, CONTENT, b"two"]
    assert [layer.digest for layer in found.layers] == [layer.digest for layer in stored.layers]
    types = {each["mediaType"] for each in json.loads(again.manifest)["layers"]}
    suffix = "" if compression == "none" else f"+{compression}"
    assert types == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}


# -- what is refused ------------------------------------------------------------------------------------------


def test_changed_blob_is_named(export) -> None:
    name = f"blobs/sha256/{digest(CONTENT)[7:]}"
    text = refused(export(CONTENT).oci().replace(CONTENT, CONTENT.swapcase()))
    assert f"damaged: {name} has the digest sha256:" in text


def test_blob_of_another_content_than_the_configuration_says(export) -> None:
    for compression in COMPRESS:
        made = export(CONTENT, compression=compression)
        made.config["rootfs"]["diff_ids"] = [digest(b"other")]
        assert digest(b"other") in refused(made.oci())


def test_docker_archive_with_a_changed_layer(export) -> None:
    made = export(CONTENT)
    made.blobs = [CONTENT.swapcase()]
    # Also if nobody reads it: the layers of a base image go on as they are.
    with pytest.raises(ArchiveError, match=f"should have the digest {digest(CONTENT)}"):
        read(made.docker())


def test_layer_cut_short_inside_its_blob(export) -> None:
    made = export(CONTENT, compression="gzip")
    made.blobs = [made.blobs[0][:-9]]
    assert f"layer {digest(CONTENT)} is damaged or cut short" in refused(made.oci())


def test_layer_in_a_compression_that_images_have_not(export) -> None:
    made = export(CONTENT)
    made.blobs = [b"BZh91AY" + CONTENT]
    assert "compressed with bzip2" in refused(made.oci())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"manifests": []}, "lists 0 images"),
        ({"manifests": [{}, {}]}, "lists 2 images"),
        ({"manifests": {}}, "no 'manifests'"),
        ({"manifests": [{}]}, "None where a digest"),
        ({"manifests": ["x"]}, "None where a digest"),
        ({"manifests": [{"digest": "sha256:../../etc/passwd"}]}, "where a digest"),
        ({"manifests": [{"digest": f"sha256:{'0' * 64}"}]}, f"it has no blobs/sha256/{'0' * 64}"),
    ],
)
def test_index_that_makes_no_sense(export, change, why) -> None:
    made = export(CONTENT)
    made.index = change
    assert why in refused(made.oci())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"layers": None}, "no 'layers'"),
        ({"layers": []}, "0 layers, and its"),
        ({"layers": [7]}, "where a digest"),
        ({"config": 7}, "where a digest"),
    ],
)
def test_manifest_that_makes_no_sense(export, change, why) -> None:
    made = export(CONTENT)
    made.manifest = change
    assert why in refused(made.oci())


@pytest.mark.parametrize(
    "config", [[], {}, {"rootfs": []}, {"rootfs": {"diff_ids": [1]}}, {"rootfs": {"diff_ids": ["sha256:x"]}}]
)
def test_configuration_that_makes_no_sense(export, config) -> None:
    made = export(CONTENT)
    made.config = config
    assert "The image's" in refused(made.oci())


def test_what_is_no_image(archives, export) -> None:
    assert "neither index.json nor manifest.json" in refused(archives.checkpoint())
    assert "does not list one image" in refused(archives.pack([archives.entry("manifest.json", b"[]")]))
    assert "not JSON" in refused(archives.pack([archives.entry("index.json", b"{")]))
    large = archives.entry("index.json", b" " * (_layout.MOST_JSON + 1))
    assert "more than" in refused(archives.pack([large]))
    assert "twice" in refused(export(CONTENT).oci(archives.entry("index.json", b"{}")))


def test_image_that_is_too_large(archives, export, monkeypatch) -> None:
    assert "takes more than 4000 bytes: 'blobs/" in refused(export(CONTENT).oci(), most=4000)
    monkeypatch.setattr(_layout, "MOST_MEMBERS", 3)
    assert "more than 3 members" in refused(export(CONTENT).oci())


@pytest.mark.parametrize("cut", [0, 100, 5000, -1024])
def test_image_cut_short(export, cut) -> None:
    with pytest.raises(ArchiveError):
        read(export(CONTENT).oci()[:cut])


def test_links_are_not_followed(archives, export, tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    archive = export(CONTENT).oci(
        archives.link(f"blobs/sha256/{digest(CONTENT)[7:]}", str(secret)),
        without=f"blobs/sha256/{digest(CONTENT)[7:]}",
    )
    assert "it has no blobs/" in refused(archive)
