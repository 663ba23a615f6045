# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._oci import NAME, Image, Layer

NOON = datetime(2026, 11, 20, 13, 0, tzinfo=timezone(timedelta(hours=1)))


def layer(*chunks: bytes) -> Layer:
    return Layer.spooled(chunks, tempfile.TemporaryFile())


def image(*layers: Layer, **annotations: str) -> Image:
    return Image(list(layers), "arm64", NOON, annotations)


def unpacked(stream) -> dict[str, bytes]:
    data = b"".join(stream)
    assert len(data) % 512 == 0 and data.endswith(bytes(1024))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = list(tar)
        assert {info.mode for info in members} == {0o600}
        return {info.name: tar.extractfile(info).read() for info in members}


def blob(files: dict[str, bytes], descriptor: dict) -> bytes:
    """What a descriptor points at, which is of its size and digest."""
    found = files["blobs/" + descriptor["digest"].replace(":", "/")]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(found).hexdigest()}"
    assert descriptor["size"] == len(found)
    return found


def test_layer_knows_what_went_into_it() -> None:
    spooled = layer(b"one", b"", b"two")
    assert spooled.digest == f"sha256:{hashlib.sha256(b'onetwo').hexdigest()}"
    assert spooled.size == 6
    assert [b"".join(spooled.blocks()) for _time in range(2)] == [b"onetwo"] * 2


@pytest.mark.parametrize("contents", [[b"x" * 512], [b"y" * 700], [b""], [b"base" * 300, b"changes"]])
def test_everything_in_a_layout_is_found_from_its_index(contents: list[bytes]) -> None:
    made = image(*map(layer, contents), colour="blue")
    files = unpacked(made.layout())
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    (described,) = index["manifests"]
    manifest = json.loads(blob(files, described))
    config = json.loads(blob(files, manifest["config"]))
    assert [blob(files, each) for each in manifest["layers"]] == contents
    assert config["rootfs"] == {"type": "layers", "diff_ids": [each["digest"] for each in manifest["layers"]]}
    assert len(config["history"]) == len(contents)
    assert (config["architecture"], config["os"], config["created"]) == ("arm64", "linux", "2026-11-20T12:00:00Z")
    assert manifest["config"]["digest"] == f"sha256:{made.id}"
    assert len(files) == 4 + len(contents)


def test_layout_without_layers_is_for_who_has_them() -> None:
    made = image(layer(b"x"), colour="blue")
    whole, rest = unpacked(made.layout()), unpacked(made.layout(with_layers=False))
    (left_out,) = set(whole) - set(rest)
    assert whole[left_out] == b"x"
    assert rest.items() < whole.items()


def test_docker_archive_is_the_same_image() -> None:
    made = image(layer(b"same"), layer(b"other"), layer(b"same"), colour="blue")
    files = unpacked(made.docker_archive())
    (listed,) = json.loads(files["manifest.json"])
    assert hashlib.sha256(files[listed["Config"]]).hexdigest() == made.id
    assert [files[name] for name in listed["Layers"]] == [b"same", b"other", b"same"]
    assert listed["RepoTags"] is None
    assert len(files) == 4


def test_plain_is_what_has_no_compressed_layer() -> None:
    packed = Layer(tempfile.TemporaryFile(), "sha256:1", 1, 0, "zstd", "sha256:2")
    assert image(layer(b"x")).is_plain
    assert not image(layer(b"x"), packed).is_plain


def test_layer_is_made_anew_each_time() -> None:
    chunks = [b"one", b"", b"x" * 200_000, b"two"]
    made = Layer.made(lambda: iter(chunks), "The archive a.tar")
    assert made.digest == layer(*chunks).digest
    assert [b"".join(made.blocks()) for _time in range(2)] == [b"".join(chunks)] * 2
    chunks[-1] = b"owt"
    seen = []
    with pytest.raises(ArchiveError, match=r"The archive a\.tar has changed while it was read"):
        seen.extend(made.blocks())
    assert not seen or b"owt" not in b"".join(seen)


def test_no_block_is_empty() -> None:
    """It would be the end of a body that is sent in chunks."""
    assert all(Layer.made(lambda: iter([b"a", b"", b"b"]), "It").blocks())


def test_annotations_are_on_manifest_and_index() -> None:
    files = unpacked(image(layer(b"x"), colour="blue").layout())
    index = json.loads(files["index.json"])
    manifest = json.loads(blob(files, index["manifests"][0]))
    assert manifest["annotations"] == index["annotations"] == index["manifests"][0]["annotations"] == {"colour": "blue"}


def test_name_is_of_the_entry_alone() -> None:
    index = json.loads(image(layer(b"x"), colour="blue").index("registry.example/a:b"))
    assert index["manifests"][0]["annotations"] == {"colour": "blue", NAME: "registry.example/a:b"}
    assert index["annotations"] == {"colour": "blue"}


def test_id_is_that_of_what_is_in_it() -> None:
    assert image(layer(b"x")).id == image(layer(b"x"), colour="blue").id
    assert image(layer(b"x")).id != image(layer(b"y")).id


def test_year_has_four_digits_as_go_wants_it() -> None:
    made = Image([], "amd64", datetime(1, 1, 1, tzinfo=timezone.utc))
    assert json.loads(made.config)["created"] == "0001-01-01T00:00:00Z"
