# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Archives with the members, the order and the documents of CRI-O's and containerd's sources."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tarfile
import tempfile
import typing as t

import hypothesis
import pytest
import zstandard
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils import _archive
from ansible_collections.ferry.podman.plugins.module_utils._annotations import CRIO, CRIU, as_annotations
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, inspect
from ansible_collections.ferry.podman.plugins.module_utils._build import Recipe, built
from ansible_collections.ferry.podman.plugins.module_utils._criu import CORE_MAGIC
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import (
    CONTAINERD,
    as_podman,
    kind_of,
    kubelet_facts,
    look_at,
    origin_of,
    podman_config,
    podman_spec,
    readable,
)
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import CRIO as CRIOS
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import PODMAN as PODMANS
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits, LintError
from ansible_collections.ferry.podman.plugins.module_utils._source import Source
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks

Json = dict[str, t.Any]

ID = "c0" * 32
IMAGE_ID = "1a" * 32
DIGEST = "sha256:" + "d1" * 32
REF = f"docker.io/library/counter@{DIGEST}"


class Kubelet:
    """Makes archives as the kubelet's engines do."""

    def __init__(self, archives: t.Any) -> None:
        self.archives = archives

    def config(self, **changes: t.Any) -> Json:
        base = {
            "id": ID,
            "name": "k8s_counter_shop-0_default_77e2_0",
            "rootfsImage": "docker.io/library/counter:1",
            "rootfsImageRef": IMAGE_ID,
            "rootfsImageName": "docker.io/library/counter:1",
            "runtime": "crun",
            "createdTime": "2026-11-20T09:12:44.120394857Z",
            "checkpointedTime": "2026-11-20T10:00:00Z",
            "restoredTime": "0001-01-01T00:00:00Z",
            "restored": False,
        }
        return {**base, **changes}

    def spec(self, prefix: str = "io.kubernetes.", **changes: t.Any) -> Json:
        namespaces = [
            {"type": "pid"},
            {"type": "network", "path": "/var/run/netns/8b1c"},
            {"type": "ipc", "path": "/var/run/ipcns/8b1c"},
            {"type": "uts", "path": "/var/run/utsns/8b1c"},
            {"type": "mount"},
        ]
        names = {"container.name": "counter", "pod.name": "shop-0", "pod.namespace": "default", "pod.uid": "77e2"}
        annotations = {f"io.kubernetes.{key}": value for key, value in names.items()}
        base = {"ociVersion": "1.2.1", "linux": {"namespaces": namespaces}, "annotations": annotations}
        return {**base, **changes}

    def document(self, name: str, document: Json) -> t.Any:
        return self.archives.entry(name, json.dumps(document, indent=2).encode())

    def crio(self, *also: t.Any, config: Json | None = None, spec: Json | None = None) -> bytes:
        archives = self.archives
        entries = [
            archives.directory("./"),
            archives.entry("stats-dump", b"s"),
            archives.entry("dump.log", b"log"),
            archives.directory("checkpoint"),
            archives.entry("checkpoint/inventory.img", b"i"),
            archives.entry("checkpoint/pages-1.img", b"P" * 5000),
            self.document("config.dump", config or self.config()),
            self.document("spec.dump", spec or self.spec()),
            archives.entry("bind.mounts", b"[]"),
            archives.rootfs_diff(archives.entry("etc/new", b"new")),
            archives.entry("deleted.files", b'["/etc/old"]'),
            archives.entry("io.kubernetes.cri-o.LogPath", b"2026-11-20T10:00:00Z stdout F 1\n"),
        ]
        return archives.pack([*entries, *also])

    def containerd(self, layer: bytes | None = None, config: Json | None = None) -> bytes:
        archives = self.archives
        changes = [archives.directory("etc/"), archives.entry("etc/.wh.old"), archives.entry("etc/new", b"new")]
        changes += [archives.entry(".wh.srv"), archives.directory("srv/"), archives.entry("srv/new")]
        names = {"container-name": "counter", "sandbox-name": "shop-0", "sandbox-namespace": "default"}
        annotations = {f"io.kubernetes.cri.{key}": value for key, value in {**names, "sandbox-id": "5a"}.items()}
        given = {"name": "counter_shop-0_default_77e2_0", "rootfsImageRef": REF, "runtime": "io.containerd.runc.v2"}
        entries = [
            archives.directory("checkpoint/"),
            archives.entry("checkpoint/descriptors.json", b"[]"),
            archives.entry("checkpoint/inventory.img", b"i"),
            self.document("config.dump", config or self.config(**given)),
            archives.entry("container.log", b"2026-11-20T10:00:00Z stdout F 1\n"),
            archives.entry("dump.log", b"log"),
            archives.entry("rootfs-diff.tar", gzip.compress(archives.pack(changes)) if layer is None else layer),
            self.document("spec.dump", self.spec(annotations=annotations)),
            archives.entry("stats-dump", b"s"),
            archives.entry("status", b"{}"),
            archives.entry("status.dump", b"{}"),
        ]
        return archives.pack(entries)


@pytest.fixture
def kubelet(archives) -> Kubelet:
    return Kubelet(archives)


def read(archive: bytes, **options: t.Any) -> bytes:
    return b"".join(readable(io.BytesIO(archive), tempfile.TemporaryFile(), **options))


def converted(archive: bytes, image_id: str | None = None, **options: t.Any) -> tuple[bytes, Contents]:
    contents, spool = Contents(), tempfile.TemporaryFile()
    out = b"".join(as_podman(io.BytesIO(archive), contents, spool, image_id, **options))
    return out, contents


def refused(archive: bytes, image_id: str | None = None, **options: t.Any) -> str:
    sent = bytearray()
    with pytest.raises(ArchiveError) as error:
        for chunk in as_podman(io.BytesIO(archive), Contents(), tempfile.TemporaryFile(), image_id, **options):
            sent += chunk
    with pytest.raises(ArchiveError):
        inspect(io.BytesIO(bytes(sent)))
    return str(error.value)


def files(archives: t.Any, archive: bytes) -> dict[str, bytes]:
    return {info.name: data for info, data in archives.unpack(archive)}


# -- what it is -----------------------------------------------------------------------------------------------


def test_kind_is_seen(archives, kubelet) -> None:
    made = {PODMANS: archives.checkpoint(), CRIOS: kubelet.crio(), CONTAINERD: kubelet.containerd()}
    for kind, archive in made.items():
        contents = inspect(io.BytesIO(read(archive)))
        assert kind_of(archives.names(archive), contents.config) == kind


def test_kind_is_seen_without_the_telling_members() -> None:
    assert kind_of(["config.dump"], {"rootfsImageRef": IMAGE_ID}) == CRIOS
    assert kind_of(["config.dump", "status"], {"rootfsImageRef": REF}) == CONTAINERD
    assert kind_of(["config.dump"], {}) == PODMANS


def test_converted_is_podmans(archives, kubelet) -> None:
    archive, contents = converted(kubelet.crio())
    assert kind_of(archives.names(archive), contents.config) == PODMANS


def test_origin_is_seen_after_the_conversion(archives, kubelet) -> None:
    made = {PODMANS: archives.checkpoint(), CRIOS: kubelet.crio(), CONTAINERD: kubelet.containerd()}
    for kind, archive in made.items():
        _archive, contents = converted(archive, IMAGE_ID)
        assert origin_of(contents.sizes, contents.config) == kind


def test_image_of_an_image_is_of_the_same_container(archives, kubelet, protobuf, tmp_path) -> None:
    process = archives.entry("checkpoint/core-1.img", protobuf.image(CORE_MAGIC, protobuf.message((1, 1))))
    first, second = tmp_path / "theirs.tar", tmp_path / "podmans.tar"
    first.write_bytes(kubelet.crio(process))
    second.write_bytes(converted(first.read_bytes(), kind=CRIOS)[0])
    told = []
    for path in (first, second):
        os.utime(path, (0, 0))
        with Source(str(path)) as source, built(source, Recipe(directory=str(tmp_path))) as image:
            told.append((image.id, image.annotations))
    assert told[0] == told[1]
    assert told[0][1]["io.podman.annotations.checkpoint.name"] == "counter"


def test_facts_are_in_the_keys_of_each_engine(archives, kubelet) -> None:
    contents = inspect(io.BytesIO(read(kubelet.crio())))
    facts = kubelet_facts(CRIOS, contents.config, contents.documents["spec.dump"])
    written = as_annotations(facts, [CRIO, CRIU])
    assert written["io.kubernetes.cri-o.annotations.checkpoint.name"] == "counter"
    assert written["org.criu.checkpoint.pod.namespace"] == "default"
    assert written["org.criu.checkpoint.rootfsImageID"] == IMAGE_ID
    assert written["org.criu.checkpoint.engine.name"] == "cri-o"
    contents = inspect(io.BytesIO(read(kubelet.containerd())))
    facts = kubelet_facts(CONTAINERD, contents.config, contents.documents["spec.dump"])
    assert (facts["pod_name"], facts["pod_id"], facts["runtime"]) == ("shop-0", "5a", "runc")
    assert facts["image_digest"] == DIGEST
    assert "image_id" not in facts


@pytest.mark.parametrize("spec", [{}, [], {"annotations": []}, {"annotations": {"io.kubernetes.pod.name": 7}}])
def test_facts_of_odd_documents_are_left_out(spec) -> None:
    assert kubelet_facts(CRIOS, {"name": "x", "runtime": 7}, spec) == {"engine": "cri-o", "name": "x"}


# -- for reading ----------------------------------------------------------------------------------------------


def test_archive_of_podman_is_as_it_was(archives) -> None:
    also = [archives.rootfs_diff(archives.entry("a", b"x")), archives.entry("deleted.files", b'["/b"]')]
    archive = archives.checkpoint(*also)
    assert files(archives, read(archive)) == files(archives, archive)
    assert files(archives, converted(archive)[0]) == files(archives, archive)


def test_archive_of_crio_keeps_its_documents(archives, kubelet) -> None:
    before, after = (files(archives, archive) for archive in (kubelet.crio(), read(kubelet.crio())))
    before["ctr.log"] = before.pop("io.kubernetes.cri-o.LogPath")
    assert after == before


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress, bytes])
def test_layer_of_containerd_becomes_podmans(archives, kubelet, pack) -> None:
    changes = [archives.directory("etc/"), archives.entry("etc/.wh.old"), archives.entry("etc/new", b"new", uid=1000)]
    changes += [archives.entry(".wh.srv"), archives.directory("srv/"), archives.entry("srv/new")]
    found = files(archives, read(kubelet.containerd(pack(archives.pack(changes)))))
    inner = archives.unpack(found["rootfs-diff.tar"])
    assert [(info.name, info.isdir()) for info, _data in inner] == [
        ("etc", True),
        ("etc/new", False),
        ("srv", False),
        ("srv", True),
        ("srv/new", False),
    ]
    assert inner[1][0].uid == 1000
    assert json.loads(found["deleted.files"]) == ["/etc/old"]
    assert found["ctr.log"].endswith(b"F 1\n")


def test_spool_may_have_been_used_before(archives, kubelet) -> None:
    with tempfile.TemporaryFile() as spool:
        spool.write(b"of another use")
        used = b"".join(readable(io.BytesIO(kubelet.containerd()), spool))
    assert used == read(kubelet.containerd())


def test_without_whiteouts_there_is_no_list(archives, kubelet) -> None:
    layer = gzip.compress(archives.pack([archives.entry("a")]))
    assert "deleted.files" not in files(archives, read(kubelet.containerd(layer)))


def test_layer_and_list_at_once_are_refused(archives, kubelet) -> None:
    archive = archives.pack([*archives.unpack(kubelet.containerd()), archives.entry("deleted.files", b"[]")])
    with pytest.raises(LintError, match="'deleted.files' twice"):
        inspect(io.BytesIO(read(archive)))


def test_layer_that_grows_too_large_is_refused(kubelet, archives) -> None:
    bomb = gzip.compress(archives.pack([archives.entry("zeros", bytes(3_000_000))]))
    for use in (read, converted):
        with pytest.raises(LintError, match=r"'rootfs-diff.tar' has more than 1000000 bytes"):
            use(kubelet.containerd(bomb), limits=Limits(1_000_000))


def test_layer_that_is_thrown_away_counts_too(kubelet, archives) -> None:
    changes = archives.pack([archives.entry("a")])
    bombs = archives.pack([archives.entry(".wh.a", bytes(3_000_000))]), changes + bytes(3_000_000)
    for bomb in bombs:
        with pytest.raises(LintError, match=r"'rootfs-diff.tar' has more than 1000000 bytes"):
            read(kubelet.containerd(gzip.compress(bomb)), limits=Limits(1_000_000))


def test_full_disk_is_no_damage(kubelet) -> None:
    class Full(io.BytesIO):
        def write(self, _data: t.Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FerryError, match="cannot be unpacked: No space left") as error:
        inspect(t.cast(t.Any, Chunks(readable(io.BytesIO(kubelet.containerd()), Full()))))
    assert not isinstance(error.value, ArchiveError)


def test_name_of_a_whiteout_is_one_in_a_layer_alone(archives, kubelet) -> None:
    given = [entry for entry in archives.unpack(kubelet.crio()) if entry[0].name != "rootfs-diff.tar"]
    archive = archives.pack([*given, archives.rootfs_diff(archives.entry("a/.wh.b", b"x"))])
    found = files(archives, converted(archive, kind=CRIOS)[0])
    assert archives.names(found["rootfs-diff.tar"]) == ["a/.wh.b"]


def test_looking_takes_little_memory_and_time(archives, kubelet) -> None:
    assert look_at(io.BytesIO(kubelet.crio())).kind == CRIOS
    large = tarfile.TarInfo("checkpoint/pages-1.img")
    large.size = 10**15
    with pytest.raises(LintError, match="more than 1000 bytes"):
        look_at(io.BytesIO(large.tobuf()), Limits(1000))
    many = archives.pack([archives.entry(f"checkpoint/{number}") for number in range(11)])
    with pytest.raises(LintError, match="more than 10 members"):
        look_at(io.BytesIO(many), Limits(members=10))


def test_large_archive_is_refused(kubelet) -> None:
    with pytest.raises(LintError, match="more than 4000 bytes: 'checkpoint/pages-1.img'"):
        converted(kubelet.crio(), limits=Limits(4000))


@pytest.mark.parametrize("layer", [b"", b"\x1f\x8b\x08", gzip.compress(bytes(1024), mtime=0)[:-5], b"no tar" * 500])
def test_damaged_layers(kubelet, layer) -> None:
    if layer == b"":
        assert inspect(io.BytesIO(read(kubelet.containerd(layer))))
        return
    with pytest.raises(ArchiveError, match="changes of the root filesystem"):
        read(kubelet.containerd(layer))


@pytest.mark.parametrize("without", ["config.dump", "spec.dump"])
def test_document_that_is_missing_is_named(archives, kubelet, without) -> None:
    entries = [entry for entry in archives.unpack(kubelet.crio()) if entry[0].name != without]
    with pytest.raises(ArchiveError, match=f"no checkpoint of one container: it has no {without}"):
        read(archives.pack(entries))


def test_checkpoint_of_a_whole_pod_is_none_of_one_container(archives) -> None:
    with pytest.raises(ArchiveError, match="of one container: it has no spec.dump, config.dump"):
        read(archives.pack([archives.entry("pod.options", b"{}"), archives.entry("pod.dump", b"{}")]))


@pytest.mark.parametrize("text", [b"[]", b"{", b"null", b'{"a":1,"A":2}', b" " * (_archive.MOST_JSON + 1)])
def test_documents_that_are_none(archives, kubelet, text) -> None:
    entries = [entry for entry in archives.unpack(kubelet.crio()) if entry[0].name != "config.dump"]
    with pytest.raises(ArchiveError, match="config.dump"):
        read(archives.pack([*entries, archives.entry("config.dump", text)]))


def test_document_that_is_a_link_is_refused(archives, kubelet) -> None:
    entries = [entry for entry in archives.unpack(kubelet.crio()) if entry[0].name != "spec.dump"]
    with pytest.raises(ArchiveError, match=r"spec.dump is no file"):
        read(archives.pack([*entries, archives.link("spec.dump", "/etc/passwd")]))


# -- for podman -----------------------------------------------------------------------------------------------


def test_podman_finds_its_keys(kubelet) -> None:
    _archive, contents = converted(kubelet.crio())
    config = contents.config
    assert (config["id"], config["name"]) == (ID, "k8s_counter_shop-0_default_77e2_0")
    assert (config["rootfsImageID"], config["rootfsImageName"]) == (IMAGE_ID, "docker.io/library/counter:1")
    assert (config["RawImageName"], config["runtime"]) == ("docker.io/library/counter:1", "crun")
    assert config["createNetNS"] and config["newNetworks"] == {"podman": {"interface_name": "eth0"}}
    # CRI-O finds its own as before.
    assert config["rootfsImageRef"] == IMAGE_ID


def test_namespaces_of_the_pod_are_not_joined(kubelet) -> None:
    _archive, contents = converted(kubelet.crio())
    found = contents.documents["spec.dump"]["linux"]["namespaces"]
    assert found == [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]


def test_pod_on_the_hosts_network_stays_there(kubelet) -> None:
    config = podman_config(kubelet.config(), {"linux": {"namespaces": []}})
    assert config["networkMode"] == "host"
    assert config.keys().isdisjoint({"createNetNS", "newNetworks"})


def test_containerd_does_not_tell_the_image_id(archives, kubelet) -> None:
    text = refused(kubelet.containerd())
    assert REF in text and "give its ID" in text
    archive, contents = converted(kubelet.containerd(), IMAGE_ID)
    assert (contents.config["rootfsImageID"], contents.config["runtime"]) == (IMAGE_ID, "runc")
    assert "deleted.files" in archives.names(archive)


@pytest.mark.parametrize("runtime", ["kata", "io.containerd.kata.v2", "", None, 7])
def test_runtime_that_podman_cannot_have(kubelet, runtime) -> None:
    assert "OCI runtime" in refused(kubelet.crio(config=kubelet.config(runtime=runtime)))


@pytest.mark.parametrize("kind", ["pid", "user"])
def test_shared_processes_cannot_leave_the_pod(kubelet, kind) -> None:
    spec = kubelet.spec(linux={"namespaces": [{"type": kind, "path": "/proc/7/ns/x"}]})
    assert f"shares the {kind} namespace of its pod" in refused(kubelet.crio(spec=spec))


@pytest.mark.parametrize("linux", [None, [], {}, {"namespaces": {}}, {"namespaces": ["pid"]}])
def test_spec_that_makes_no_sense(kubelet, linux) -> None:
    with pytest.raises(ArchiveError, match="spec.dump is not as"):
        podman_spec({"linux": linux})


def test_what_must_not_reach_podman_does_not(archives, kubelet) -> None:
    assert "link to '/etc/shadow'" in refused(kubelet.crio(archives.link("checkpoint/x.img", "/etc/shadow")))
    log = [entry for entry in archives.unpack(kubelet.crio()) if "LogPath" not in entry[0].name]
    hostile = archives.pack([*log, archives.link("io.kubernetes.cri-o.LogPath", "/etc/shadow")])
    assert "'ctr.log' is a link" in refused(hostile)
    assert "which no checkpoint has" in refused(kubelet.crio(archives.entry("evil")))
    for name in ("config.dump", "spec.dump"):
        assert f"{name!r} twice" in refused(kubelet.crio(archives.entry(name, b"{}")))
    assert "'ctr.log' twice" in refused(kubelet.crio(archives.entry("ctr.log")))
    escape = gzip.compress(archives.pack([archives.link("a", "/etc"), archives.entry("a/passwd")]))
    assert "behind a link" in refused(kubelet.containerd(escape), IMAGE_ID)


@hypothesis.given(st.data())
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_damage_is_told(kubelet, data) -> None:
    archive = data.draw(st.sampled_from([kubelet.crio(), kubelet.containerd()]))
    at = data.draw(st.integers(0, len(archive)))
    noise = data.draw(st.binary(max_size=64))
    broken = archive[:at] + noise + (archive[at + len(noise) :] if data.draw(st.booleans()) else b"")
    try:
        out, _contents = converted(broken, IMAGE_ID)
    except ArchiveError:
        return
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert "config.dump" in tar.getnames()
