# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from datetime import datetime, timezone

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._annotations import CRIO, CRIU, PODMAN, PREFIXES
from ansible_collections.ferry.podman.plugins.module_utils._build import Recipe, built
from ansible_collections.ferry.podman.plugins.module_utils._criu import CORE_MAGIC
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS, Limits
from ansible_collections.ferry.podman.plugins.module_utils._source import Source

WRITTEN = 1767225600
ALL = (PODMAN, CRIU, CRIO)


@pytest.fixture
def archive(archives, protobuf, tmp_path):
    """Writes an archive with a process for a machine, and returns its path."""

    def write(machine: int = 1, name: str = "web.tar", pack=lambda data: data, also=(), **changes) -> str:
        path = tmp_path / name
        process = archives.entry("checkpoint/core-1.img", protobuf.image(CORE_MAGIC, protobuf.message((1, machine))))
        path.write_bytes(pack(archives.checkpoint(process, *also, **changes)))
        os.utime(path, (WRITTEN, WRITTEN))
        return str(path)

    return write


def made(path, tmp_path, families=ALL, limits=NO_LIMITS):
    """The image's ID, annotations of manifest, index and its entry, and the members of its layer."""
    recipe = Recipe(families=tuple(families), limits=limits, directory=str(tmp_path))
    with Source(path) as source, built(source, recipe) as image:
        layout = b"".join(image.layout("localhost/cp:1"))
        with tarfile.open(fileobj=io.BytesIO(layout)) as tar:
            files = {info.name: tar.extractfile(info).read() for info in tar}
        index = json.loads(files["index.json"])
        (entry,) = index["manifests"]
        manifest = json.loads(files["blobs/" + entry["digest"].replace(":", "/")])
        (layer,) = manifest["layers"]
        config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
        return image.id, manifest["annotations"], index, files["blobs/" + layer["digest"].replace(":", "/")], config


def test_layer_is_the_archive(archive, archives, tmp_path) -> None:
    path = archive()
    layer = made(path, tmp_path)[3]
    with open(path, "rb") as file:
        given = archives.unpack(file.read())
    found = archives.unpack(layer)
    assert [(i.name, i.mode, i.uid, i.mtime, data) for i, data in found] == [
        (i.name, i.mode, i.uid, i.mtime, data) for i, data in given
    ]


def test_every_engine_finds_its_own_keys_on_manifest_and_index(archive, tmp_path) -> None:
    _id, manifest, index, _layer, _config = made(archive(), tmp_path)
    (entry,) = index["manifests"]
    for found in (manifest, index["annotations"], entry["annotations"]):
        assert found[PREFIXES[PODMAN] + "name"] == "web"
        assert found[PREFIXES[CRIU] + "container.name"] == "web"
        assert found[PREFIXES[CRIO] + "name"] == "web"
        assert found[PREFIXES[PODMAN] + "host.arch"] == "amd64"


@pytest.mark.parametrize("family", ALL)
def test_only_the_formats_that_are_asked_for(archive, tmp_path, family) -> None:
    manifest = made(archive(), tmp_path, families=[family])[1]
    assert manifest and all(key.startswith(PREFIXES[family]) for key in manifest)


@pytest.mark.parametrize(("machine", "arch"), [(1, "amd64"), (3, "arm64"), (5, "s390x")])
def test_architecture_is_that_of_the_processes(archive, tmp_path, machine, arch) -> None:
    _id, _manifest, _index, _layer, config = made(archive(machine), tmp_path)
    assert config["architecture"] == arch
    assert config["created"] == datetime.fromtimestamp(WRITTEN, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_architecture_that_is_not_known_is_refused(archive, tmp_path) -> None:
    with pytest.raises(ArchiveError, match="for which processor"):
        made(archive(99), tmp_path)


def test_same_archive_gives_the_same_image_however_it_is_compressed(archive, tmp_path) -> None:
    assert made(archive(), tmp_path)[0] == made(archive(name="b.tar.gz", pack=gzip.compress), tmp_path)[0]


def test_another_archive_gives_another_image(archive, archives, tmp_path) -> None:
    other = archive(name="b.tar", also=[archives.entry("checkpoint/more.img", b"x")])
    assert made(archive(), tmp_path)[0] != made(other, tmp_path)[0]


def test_pre_checkpoint_is_refused(archives, tmp_path) -> None:
    path = tmp_path / "pre.tar"
    path.write_bytes(archives.pre_checkpoint())
    with pytest.raises(ArchiveError, match="only a part of a checkpoint"):
        made(str(path), tmp_path)


def test_checkpoint_that_needs_another_one_is_refused(archive, archives, tmp_path) -> None:
    path = archive(also=[archives.link("checkpoint/parent", "../pre-checkpoint")])
    with pytest.raises(ArchiveError, match="only a part of a checkpoint"):
        made(path, tmp_path)


def test_hostile_archive_becomes_no_image(archive, archives, tmp_path) -> None:
    path = archive(also=[archives.link("checkpoint/evil.img", "/etc/shadow")])
    with pytest.raises(ArchiveError, match="evil.img"):
        made(path, tmp_path)
    with pytest.raises(ArchiveError):
        made(archive(), tmp_path, limits=Limits(size=1000))


def test_archive_that_is_cut_short_is_refused(archive, tmp_path) -> None:
    with pytest.raises(ArchiveError):
        made(archive(pack=lambda data: data[:-4000]), tmp_path)


def test_podmans_own_archive_takes_no_room(archive, tmp_path) -> None:
    path = archive()
    assert made(path, tmp_path / "absent") == made(path, tmp_path)


def test_archive_that_changes_meanwhile_is_told(archive, archives, tmp_path) -> None:
    path = archive()
    with Source(path) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        sent = image.docker_archive()
        next(sent)
        with open(path, "r+b") as file:
            data = file.read()
            offset = data.index(b"checkpoint/inventory.img\0") + 512
            file.seek(offset)
            file.write(bytes([data[offset] ^ 1]))
        with pytest.raises(ArchiveError, match=f"{path} has changed while it was read"):
            list(sent)
