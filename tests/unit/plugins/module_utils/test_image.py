# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
import tempfile
import tracemalloc
import typing as t
from datetime import datetime, timezone

import hypothesis
import pytest
import zstandard
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils._annotations import KEYS, PREFIXES, config_facts, facts_in
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, inspect
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._image import (
    LAYERED,
    LAYOUT,
    ROOT,
    SINGLE,
    VERSION,
    archive_of,
    base_layers,
    image_of,
    layered,
    layout_of,
    single,
)
from ansible_collections.ferry.podman.plugins.module_utils._layout import StoredImage, open_layer, read_image
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits, LintError
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer
from ansible_collections.ferry.podman.plugins.module_utils._overlay import Inexpressible
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
COMPRESS = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


def stored(image: Image) -> StoredImage:
    return read_image(t.cast(t.Any, Chunks(image.layout())), tempfile.TemporaryFile())


def recompressed(image: Image, compression: str) -> Image:
    """The image as a registry has it."""
    layers = []
    for layer in image.layers:
        blob = COMPRESS[compression](open_layer(layer).read())
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        layers.append(Layer(io.BytesIO(blob), digest, len(blob), 0, compression, layer.diff_id))
    return Image(layers, image.architecture, image.created, image.annotations, image.labels)


def base_image() -> StoredImage:
    layers = [Layer.spooled([data], tempfile.TemporaryFile()) for data in (b"lowest" * 300, b"upper" * 300)]
    return stored(Image(layers, "amd64", NOON))


def config_of(base: StoredImage) -> dict[str, str]:
    return {"rootfsImageID": base.id}


def as_single(archive: bytes, **options: t.Any) -> Image:
    contents = Contents()
    layers = single(io.BytesIO(archive), contents, tempfile.TemporaryFile(), **options)
    return image_of(layers, SINGLE, "amd64", NOON, config_facts(contents.config))


def as_layered(archive: bytes, base: StoredImage, **options: t.Any) -> Image:
    contents = Contents()
    files = (tempfile.TemporaryFile(), tempfile.TemporaryFile(), tempfile.TemporaryFile())
    layers = layered(io.BytesIO(archive), contents, base, files, **options)
    return image_of(layers, LAYERED, "amd64", NOON, config_facts(contents.config))


def archived(image: Image | StoredImage, **options: t.Any) -> bytes:
    found = stored(image) if isinstance(image, Image) else image
    return b"".join(archive_of(found, Contents(), **options))


def names(layer: Layer) -> list[str]:
    with tarfile.open(fileobj=t.cast(t.Any, open_layer(layer)), mode="r|*") as tar:
        return [info.name for info in tar]


@pytest.fixture
def changed(archives) -> list[t.Any]:
    """Members of a container that has changed files."""
    return [
        archives.rootfs_diff(archives.entry("etc/new", b"new" * 99), archives.link("etc/ln", "new")),
        archives.entry("deleted.files", b'["/etc/old"]'),
        archives.directory("volumes"),
        archives.entry("volumes/data.tar", bytes(1024), pax_headers={"FERRY.volume.root": "0:0:755"}),
    ]


# -- the two layouts ------------------------------------------------------------------------------------------


def test_single_is_the_archive_in_one_layer(archives, changed) -> None:
    archive = archives.checkpoint(*changed)
    (layer,) = stored(as_single(archive)).layers
    assert names(layer) == archives.names(archive)
    assert layout_of(stored(as_single(archive))) == SINGLE


def test_layered_is_the_base_then_the_changes_then_the_rest(archives, changed) -> None:
    base = base_image()
    image = stored(as_layered(archives.checkpoint(*changed, config=config_of(base)), base))
    assert layout_of(image) == LAYERED
    assert [layer.diff_id for layer in base_layers(image)] == [layer.diff_id for layer in base.layers]
    changes, rest = image.layers[-2:]
    assert names(changes) == ["etc/new", "etc/ln", "etc/.wh.old"]
    found = names(rest)
    assert found[0] == ROOT and all(name.startswith(f"{ROOT}/") for name in found[1:])
    assert {f"{ROOT}/checkpoint/pages-1.img", f"{ROOT}/rootfs-diff.json", f"{ROOT}/deleted.files"} <= set(found)
    assert f"{ROOT}/rootfs-diff.tar" not in found
    assert image.labels == {LAYOUT: VERSION}
    assert image.annotations[LAYOUT] == VERSION


def test_base_layers_of_a_registry_go_in_as_they_are(archives) -> None:
    base = stored(recompressed(Image(base_image().layers, "amd64", NOON), "gzip"))
    made = as_layered(archives.checkpoint(config=config_of(base)), base)
    descriptors = [layer["digest"] for layer in json.loads(made.manifest)["layers"]]
    assert descriptors[:2] == [layer.digest for layer in base.layers]
    assert archived(made) == archived(as_single(archives.checkpoint(config=config_of(base))))


def test_same_base_and_changes_are_the_same_layers(archives, changed) -> None:
    base = base_image()
    one, two = (
        as_layered(
            archives.checkpoint(*changed, archives.entry("checkpoint/n.img", data), config=config_of(base)), base
        )
        for data in (b"1", b"2")
    )
    assert [layer.digest for layer in one.layers[:-1]] == [layer.digest for layer in two.layers[:-1]]
    assert one.id != two.id


def test_another_base_is_refused(archives) -> None:
    with pytest.raises(ArchiveError, match="was made from the image 9038"):
        as_layered(archives.checkpoint(config={"rootfsImageID": "9038"}), base_image())


@pytest.mark.parametrize("make", [as_single, lambda archive: as_layered(archive, base_image())])
def test_what_must_not_reach_podman_is_in_no_image(archives, make) -> None:
    for hostile in (archives.link("ctr.log", "/etc/shadow"), archives.entry("evil"), archives.entry("checkpoint/../x")):
        with pytest.raises(LintError):
            make(archives.checkpoint(hostile, config={"rootfsImageID": ""}))
    with pytest.raises(ArchiveError, match="not a whole checkpoint"):
        make(archives.checkpoint(without=["spec.dump"]))
    with pytest.raises(ArchiveError):
        make(archives.checkpoint()[:-1024])


@pytest.mark.parametrize("make", [as_single, lambda archive, **options: as_layered(archive, base_image(), **options)])
def test_large_archive_is_in_no_image(archives, make) -> None:
    archive = archives.checkpoint(config={"rootfsImageID": ""})
    assert make(archive, limits=Limits(30_000))
    with pytest.raises(LintError, match="more than 3000 bytes"):
        make(archive, limits=Limits(3000))


def test_name_of_a_whiteout_fits_single_alone(archives) -> None:
    archive = archives.checkpoint(archives.rootfs_diff(archives.entry("a/.wh.b")), config={"rootfsImageID": ""})
    assert archived(as_single(archive)) == archive
    with pytest.raises(Inexpressible, match=r"'a/.wh.b'.*layout 'single'"):
        as_layered(archive, base_image())


# -- annotations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [SINGLE, LAYERED])
def test_every_family_is_on_manifest_and_index(archives, layout) -> None:
    base = base_image()
    archive = archives.checkpoint(config=config_of(base))
    image = as_single(archive) if layout == SINGLE else as_layered(archive, base)
    index = json.loads(image.index())
    for holder in (json.loads(image.manifest), index, index["manifests"][0]):
        found = holder["annotations"]
        assert {found[KEYS[family]["name"]] for family in PREFIXES} == {"web"}
        assert found["io.podman.annotations.checkpoint.runtime.name"] == "crun"
        assert facts_in(found)["image_id"] == base.id


def test_families_can_be_chosen() -> None:
    image = image_of([], SINGLE, "amd64", NOON, {"name": "web"}, ["cri-o"])
    assert image.annotations == {"io.kubernetes.cri-o.annotations.checkpoint.name": "web"}


def test_image_that_lost_its_keys_gets_them_again(archives) -> None:
    base = base_image()
    whole = as_layered(archives.checkpoint(config=config_of(base)), base)
    bare = stored(Image(whole.layers, "amd64", NOON, {}, whole.labels))
    contents = Contents()
    for _chunk in archive_of(bare, contents):
        pass
    again = image_of(bare.layers, layout_of(bare), bare.architecture, NOON, config_facts(contents.config))
    assert again.manifest == whole.manifest


# -- and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("layout", [SINGLE, LAYERED])
def test_archive_comes_back(archives, changed, layout, compression) -> None:
    base = base_image()
    archive = archives.checkpoint(*changed, config=config_of(base))
    image = as_single(archive) if layout == SINGLE else as_layered(archive, base)
    assert archived(recompressed(image, compression)) == archive


def test_archive_from_one_layout_to_the_other_and_back(archives, changed) -> None:
    base = base_image()
    archive = archives.checkpoint(*changed, config=config_of(base))
    one = as_single(archive)
    two = as_layered(archived(one), base)
    three = as_single(archived(two))
    assert three.id == one.id
    assert archived(three) == archive


def test_order_of_the_members_does_not_matter(archives, changed) -> None:
    base = base_image()
    members = archives.members(*changed, config=config_of(base))
    for seed in range(5):
        random.Random(seed).shuffle(members)
        archive = archives.pack(members)
        assert archived(as_layered(archive, base)) == archive


def test_pages_of_a_pre_checkpoint_stay_linked(archives) -> None:
    also = [
        archives.directory("pre-checkpoint"),
        archives.entry("pre-checkpoint/pages-1.img", b"1"),
        archives.link("checkpoint/parent", "../pre-checkpoint"),
    ]
    archive = archives.checkpoint(*also, config={"rootfsImageID": ""})
    image = as_layered(archive, base_image())
    assert archived(image) == archive
    with tarfile.open(fileobj=open_layer(image.layers[-1]), mode="r|") as tar:
        links = {info.name: info.linkname for info in tar if info.issym()}
    assert links == {f"{ROOT}/checkpoint/parent": "../pre-checkpoint"}


def test_padding_of_the_changes_comes_back(archives) -> None:
    for data in (archives.pack([archives.entry("a", b"x")]) + bytes(9000), b"", bytes(1024)):
        archive = archives.checkpoint(archives.entry("rootfs-diff.tar", data), config={"rootfsImageID": ""})
        assert archived(as_layered(archive, base_image())) == archive


def test_root_of_the_archive_itself_is_nothing_to_keep(archives) -> None:
    archive = archives.pack([archives.directory("."), *archives.members(config={"rootfsImageID": ""})])
    image = as_layered(archive, base_image())
    assert [name for name in names(image.layers[-1]) if name.rstrip("/.") == ROOT] == [ROOT]
    assert "." not in archives.names(archived(image))


NAMES = st.sampled_from(["checkpoint/a.img", "checkpoint/ü", "artifacts/x", "volumes/v.x", "pod.dump", "ctr.log"])
DELETED = st.lists(st.sampled_from(["/a", "/a/b", "/c d", "/ü", "/.wherever", "/d"]), max_size=4)


@st.composite
def extra_members(draw) -> list[tuple[tarfile.TarInfo, bytes]]:
    found = []
    for name in draw(st.sets(NAMES)):
        info, data = tarfile.TarInfo(name), draw(st.binary(max_size=1500))
        info.size, info.mode, info.uid = len(data), draw(st.integers(0, 0o7777)), draw(st.integers(0, 2**31))
        info.mtime = draw(st.integers(0, 2**33))
        info.pax_headers = draw(st.dictionaries(st.sampled_from(["SCHILY.xattr.user.a", "FERRY.x"]), st.text()))
        found.append((info, data))
    return found


@hypothesis.given(extra_members(), DELETED, st.sets(st.sampled_from(["a", "d", "e/f", "g" * 150])))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_archive_survives_every_way(archives, extra, deleted, files) -> None:
    also = [archives.rootfs_diff(*(archives.entry(name, b"x", uid=1000) for name in sorted(files)))]
    also.append(archives.entry("deleted.files", json.dumps(deleted).encode()))
    # What passes the lint is written again in one form of header, so that is where the way begins.
    archive = archived(as_single(archives.checkpoint(*also, *extra, config={"rootfsImageID": ""})))
    base = base_image()
    assert archived(as_layered(archive, base)) == archive
    assert archived(as_single(archived(as_layered(archive, base)))) == archive


# -- images that are not ours, or not any more ----------------------------------------------------------------


def forged(image: Image, changes: bytes | None = None, rest: bytes | None = None) -> StoredImage:
    """A layered image with other content in one of its layers."""
    layers = list(image.layers)
    for place, data in ((-2, changes), (-1, rest)):
        if data is not None:
            layers[place] = Layer.spooled([data], tempfile.TemporaryFile())
    return stored(Image(layers, "amd64", NOON, {}, image.labels))


@pytest.fixture
def honest(archives, changed) -> Image:
    return as_layered(archives.checkpoint(*changed, config={"rootfsImageID": ""}), base_image())


def refused(image: StoredImage, **options: t.Any) -> str:
    """The reason, given before the archive's end has gone."""
    sent = bytearray()
    with pytest.raises(ArchiveError) as error:
        for chunk in archive_of(image, Contents(), **options):
            sent += chunk
    with pytest.raises(ArchiveError):
        inspect(io.BytesIO(bytes(sent)))
    return str(error.value)


def test_layers_that_do_not_belong_together(archives, honest) -> None:
    assert "do not belong together" in refused(forged(honest, archives.pack([archives.entry("etc/new", b"x")])))
    evil = [archives.entry("etc/.wh.old"), archives.entry("etc/.wh.passwd")]
    assert "do not belong together" in refused(forged(honest, archives.pack(evil)))


@pytest.mark.parametrize("size", ["-1", "1.5", "true", '"9"', "null", "1", "1024", "100000000000000000000"])
def test_size_of_the_changes_that_makes_no_sense(archives, honest, size) -> None:
    entry = archives.entry(f"{ROOT}/rootfs-diff.json", f'{{"size": {size}}}'.encode())
    rest = [entry, *((renamed(info), data) for info, data in archives.members())]
    assert refused(forged(honest, rest=archives.pack(rest)), limits=Limits(10**9))


def renamed(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.name = f"{ROOT}/{info.name}"
    return info


def test_members_in_other_places(archives, honest) -> None:
    outside = ["config.dump", f"{ROOT}x/config.dump", f"{ROOT}/../config.dump", "../x", "etc/passwd", ROOT]
    for name in (*outside, f"{ROOT}/rootfs-diff.tar"):
        assert "no layered checkpoint has" in refused(forged(honest, rest=archives.pack([archives.entry(name)])))
    for name in (f"{ROOT}/evil", f"{ROOT}/checkpoint"):
        with pytest.raises(LintError, match=name.split("/")[1]):
            archived(forged(honest, rest=archives.pack([archives.entry(name)])))


def test_changes_come_once(archives, honest) -> None:
    with tarfile.open(fileobj=t.cast(t.Any, open_layer(honest.layers[-1])), mode="r|") as tar:
        rest = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]
    again = [entry for entry in rest if entry[0].name.endswith(".json")]
    assert "'rootfs-diff.tar' twice" in refused(forged(honest, rest=archives.pack([*rest, *again])))


def test_changes_that_nothing_tells_of(archives, honest) -> None:
    rest = [(renamed(info), data) for info, data in archives.members()]
    assert "and no .ferry-checkpoint/rootfs-diff.json" in refused(forged(honest, rest=archives.pack(rest)))


def test_changes_are_linted_as_podman_gets_them(archives, honest) -> None:
    escape = archives.pack([archives.link("a", "/etc"), archives.entry("a/passwd", b"x")])
    text = refused(forged(honest, escape))
    assert "rootfs-diff.tar" in text and "behind a link" in text


def test_unpacked_size_has_a_limit(archives, honest) -> None:
    assert "more than 3000 bytes" in refused(stored(honest), limits=Limits(3000))
    assert "more than 3000 bytes" in refused(stored(as_single(archives.checkpoint())), limits=Limits(3000))


def test_images_of_something_else(archives) -> None:
    base = base_image()
    with pytest.raises(ArchiveError, match="2 layers, and no label"):
        layout_of(base)
    newer = stored(Image(base.layers, "amd64", NOON, {}, {LAYOUT: "layered-2"}))
    with pytest.raises(ArchiveError, match="'layered-2', which is not known"):
        layout_of(newer)
    assert "damaged" in refused(stored(Image(base.layers[:1], "amd64", NOON)))


def test_memory_stays_small_however_large_the_archive(tmp_path, archives) -> None:
    size = 48 * 1024 * 1024
    page, diff = tarfile.TarInfo("checkpoint/pages-2.img"), tarfile.TarInfo("rootfs-diff.tar")
    inner = tarfile.TarInfo("large")
    page.size = inner.size = size
    diff.size = size + 3 * 512

    def archive() -> t.Iterator[bytes]:
        yield archives.checkpoint(config={"rootfsImageID": ""})[:-1024]
        for header in (page.tobuf(), diff.tobuf() + inner.tobuf()):
            yield header
            for _part in range(size // 65536):
                yield b"x" * 65536
        yield bytes(2 * 1024)

    base = base_image()
    tracemalloc.start()
    try:
        files = (
            tempfile.TemporaryFile(dir=tmp_path),
            tempfile.TemporaryFile(dir=tmp_path),
            tempfile.TemporaryFile(dir=tmp_path),
        )
        layers = layered(t.cast(t.Any, Chunks(archive())), Contents(), base, files)
        image = stored(image_of(layers, LAYERED, "amd64", NOON, {}))
        length = sum(map(len, archive_of(image, Contents())))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length > 2 * size
    assert peak < 12 * 1024 * 1024
