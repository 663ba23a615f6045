# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import random
import shutil
import tarfile
import tracemalloc

import hypothesis
import pytest
import zstandard
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils import _archive
from ansible_collections.ferry.podman.plugins.module_utils._archive import (
    Contents,
    Member,
    RootfsAdditions,
    compression_of,
    compressor,
    inspect,
    inspect_file,
    members,
    open_archive,
    rewritten,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, DependencyError

FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}
COMPRESSIONS = {
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "none": bytes,
}
every_format = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)


def inspected(archive: bytes) -> Contents:
    return inspect(io.BytesIO(archive))


def rewrite(archive: bytes, **options) -> bytes:
    return b"".join(rewritten(io.BytesIO(archive), Contents(), **options))


def damaged(archive: bytes) -> str:
    with pytest.raises(ArchiveError) as error:
        inspected(archive)
    return str(error.value)


# -- what an archive holds ------------------------------------------------------------------------------------


@every_format
def test_whole_archive_is_read(archives, kind) -> None:
    contents = inspected(archives.checkpoint(kind=kind))
    assert contents.config["name"] == "web"
    assert contents.documents["network.status"] == {"lan": {"interfaces": {}}}
    assert contents.size_of("checkpoint/") == len(b"inventory") + 5000
    assert not contents.is_pre_checkpoint
    assert not contents.needs_previous


def test_record_padding_behind_the_end_is_none_of_ours(archives) -> None:
    assert inspected(archives.checkpoint() + bytes(10240)).config["name"] == "web"


def test_names_may_begin_with_a_dot(archives) -> None:
    dotted = archives.members()
    for info, _data in dotted:
        info.name = f"./{info.name}"
    assert inspected(archives.pack(dotted)).config["name"] == "web"


def test_volumes_are_those_with_content_in_the_archive(archives) -> None:
    also = [
        archives.directory("volumes"),
        archives.entry("volumes/b.c.tar", bytes(1024)),
        archives.entry("volumes/a.tar", bytes(1536)),
        archives.entry("volumes/a.txt"),
    ]
    contents = inspected(archives.checkpoint(*also))
    assert contents.volumes == ["a", "b.c"]
    assert contents.size_of("volumes/") == 2560


def test_pre_checkpoint_has_pages_and_no_processes(archives) -> None:
    assert inspected(archives.pre_checkpoint()).is_pre_checkpoint
    # A checkpoint on top of it carries it along.
    both = archives.checkpoint(archives.directory("pre-checkpoint"), archives.entry("pre-checkpoint/pages-1.img", b"1"))
    assert not inspected(both).is_pre_checkpoint


def test_link_to_the_parent_asks_for_the_previous_archive(archives) -> None:
    assert inspected(archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))).needs_previous
    assert not inspected(archives.checkpoint(archives.entry("checkpoint/parent", b"x"))).needs_previous


def test_processes_have_their_names(archives, protobuf) -> None:
    tree = protobuf.image(
        0x50273030,
        protobuf.message((1, 1), (2, 0), (3, 1), (4, 1), (5, 1), (5, 9)),
        protobuf.message((1, 7), (2, 1), (3, 1), (4, 1), (5, 7)),
    )
    core = protobuf.image(0x55053847, protobuf.message((1, 1), (3, protobuf.message((1, 1), (6, b"redis-server")))))
    also = [archives.entry("checkpoint/pstree.img", tree), archives.entry("checkpoint/core-1.img", core)]
    assert inspected(archives.checkpoint(*also)).processes == [
        {"pid": 1, "ppid": 0, "threads": 2, "command": "redis-server"},
        {"pid": 7, "ppid": 1, "threads": 1, "command": None},
    ]


def test_archive_without_a_process_tree_has_no_processes(archives) -> None:
    assert inspected(archives.checkpoint()).processes == []


def test_statistics_of_the_dump_are_read(archives, protobuf) -> None:
    stats = protobuf.image(0x57093306, protobuf.message((1, protobuf.message((2, 1500)))), first=0x55105940)
    assert inspected(archives.checkpoint(archives.entry("stats-dump", stats))).statistics == {"frozen_time": 1500}
    assert inspected(archives.checkpoint()).statistics == {}


# -- what is no whole archive ---------------------------------------------------------------------------------


@every_format
def test_archive_that_ends_anywhere_before_its_end_is_refused(archives, kind) -> None:
    long_name = archives.entry("checkpoint/" + "n" * 90, b"x")
    archive = archives.checkpoint(long_name, archives.rootfs_diff(archives.entry("etc/motd", b"hi")), kind=kind)
    offsets = {*range(0, len(archive), 512), *range(1, len(archive), 701), len(archive) - 1, len(archive) - 513}
    for offset in sorted(offsets):
        with pytest.raises(ArchiveError):
            inspected(archive[:offset])
            pytest.fail(f"The first {offset} of {len(archive)} bytes were taken for a whole archive.")


@every_format
def test_archive_that_is_cut_short_never_goes_out_whole(archives, kind) -> None:
    archive = archives.checkpoint(kind=kind)
    for offset in range(0, len(archive), 512):
        sent = b""
        with pytest.raises(ArchiveError):
            for chunk in rewritten(io.BytesIO(archive[:offset]), Contents()):
                sent += chunk
        with pytest.raises(ArchiveError):
            inspected(sent)
            pytest.fail(f"After {offset} of {len(archive)} bytes a whole archive had been sent.")


def test_empty_archive_is_refused() -> None:
    assert "cut short" in damaged(b"")


def test_end_alone_is_no_checkpoint() -> None:
    damaged(bytes(1024))


def test_archive_with_half_an_end_is_refused(archives) -> None:
    archive = archives.checkpoint()
    assert "its end is incomplete" in damaged(archive[:-512])
    assert "it has no end" in damaged(archive[:-1024])


@pytest.mark.parametrize("garbage", [b"x", b"garbage" * 1000, bytes(512) + b"\1"])
def test_garbage_behind_the_end_is_refused(archives, garbage) -> None:
    assert "goes on behind its end" in damaged(archives.checkpoint() + garbage)


def test_zeros_without_end_are_refused(archives, monkeypatch) -> None:
    monkeypatch.setattr(_archive, "MOST_PADDING", 10_000)
    assert inspected(archives.checkpoint() + bytes(9000))
    assert "more than 10000 bytes of zeros" in damaged(archives.checkpoint() + bytes(10_001))


@every_format
def test_what_was_rewritten_stays_as_it_is(archives, kind) -> None:
    # Or no archive would be that of the image that was made of it.
    once = rewrite(archives.checkpoint(archives.entry("checkpoint/\udcff", b"x"), kind=kind))
    assert rewrite(once) == once


def test_two_archives_in_one_file_are_refused(archives) -> None:
    assert "goes on behind its end" in damaged(archives.checkpoint() + archives.checkpoint())


@every_format
def test_flipped_bit_in_any_header_is_refused(archives, kind) -> None:
    # Behind the last one come zeros only, as behind an end.
    archive = archives.checkpoint(archives.entry("checkpoint/last"), kind=kind)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        headers = [info.offset for info in tar]
    for header in headers:
        for byte in (0, 100, 124, 148, 156):
            flipped = bytearray(archive)
            flipped[header + byte] ^= 0x04
            with pytest.raises(ArchiveError):
                inspected(bytes(flipped))
                pytest.fail(f"A flipped bit in byte {byte} of the header at {header} was not noticed.")


@pytest.mark.parametrize("data", [b"hello", b"PK\x03\x04" + bytes(2000), b"#!/bin/sh\n" * 200])
def test_other_file_is_no_tar(data) -> None:
    damaged(data)


def test_missing_members_are_named_at_once(archives) -> None:
    archive = archives.pack([archives.entry("network.status", b"null")])
    assert damaged(archive).endswith("it has no config.dump, spec.dump, checkpoint/inventory.img.")


@pytest.mark.parametrize("missing", ["config.dump", "spec.dump", "checkpoint/inventory.img"])
def test_missing_member_is_named(archives, missing) -> None:
    assert damaged(archives.checkpoint(without=[missing])).endswith(f"it has no {missing}.")


def test_pre_checkpoint_needs_no_inventory(archives) -> None:
    archive = archives.pack(archives.members(directory="pre-checkpoint", without=["pre-checkpoint/inventory.img"]))
    assert inspected(archive).is_pre_checkpoint


@pytest.mark.parametrize("name", ["config.dump", "spec.dump"])
@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_document_must_be_a_file(archives, name, kind) -> None:
    other = archives.entry(name, type=kind, linkname="spec.dump" if kind == tarfile.SYMTYPE else "")
    assert repr(name) in damaged(archives.pack([*archives.members(without=[name]), other]))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"id": 1,}'])
@pytest.mark.parametrize("name", ["config.dump", "spec.dump", "network.status"])
def test_document_that_is_not_json_is_refused(archives, name, text) -> None:
    archive = archives.pack([*archives.members(without=[name]), archives.entry(name, text)])
    assert f"The archive's {name} is not JSON" in damaged(archive)


@pytest.mark.parametrize("config", [[], "text", 7, None])
def test_config_that_is_no_object_is_refused(archives, config) -> None:
    entry = archives.entry("config.dump", json.dumps(config).encode())
    archive = archives.pack([*archives.members(without=["config.dump"]), entry])
    assert "config.dump" in damaged(archive)


@pytest.mark.parametrize("key", ["id", "name"])
@pytest.mark.parametrize("value", [None, 7, ["web"]])
def test_config_must_say_whose_it_is(archives, key, value) -> None:
    assert f"does not say the container's {key}" in damaged(archives.checkpoint(config={key: value}))


def test_too_large_config_is_not_read_into_memory(archives, monkeypatch) -> None:
    monkeypatch.setattr(_archive, "MOST_JSON", 100)
    assert "config.dump is larger than 100 bytes" in damaged(archives.checkpoint())


def test_too_large_image_is_not_read_into_memory(archives, monkeypatch) -> None:
    monkeypatch.setattr(_archive, "MOST_IMAGE", 100)
    archive = archives.checkpoint(archives.entry("checkpoint/pstree.img", bytes(101)))
    assert "checkpoint/pstree.img is larger than 100 bytes" in damaged(archive)


def test_broken_image_of_criu_is_refused_when_it_is_asked_for(archives) -> None:
    contents = inspected(archives.checkpoint(archives.entry("checkpoint/pstree.img", b"xxxxxxxx")))
    with pytest.raises(ArchiveError, match="not such an image of CRIU"):
        _processes = contents.processes


# -- what would not pass as it came ---------------------------------------------------------------------------


def test_member_of_an_unknown_type_is_refused(archives) -> None:
    """Its content would be skipped by one reader and taken for members by another."""
    archive = archives.checkpoint(archives.entry("smuggled", bytes(1024), type=b"Z"))
    assert "smuggled" in damaged(archive)


def test_sparse_member_is_refused(archives) -> None:
    """Podman writes none; one of a few bytes may claim exabytes."""
    sparse = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    sparse["GNU.sparse.size"] = str(1 << 60)
    archive = archives.checkpoint(archives.entry("checkpoint/pages-2.img", b"x", pax_headers=sparse))
    assert "sparse" in damaged(archive)


def test_negative_size_is_refused(archives) -> None:
    archive = archives.checkpoint(archives.entry("checkpoint/pages-2.img", pax_headers={"size": "-5"}))
    damaged(archive)


def test_extended_header_has_a_limit(archives) -> None:
    archive = archives.checkpoint(archives.entry("checkpoint/x", pax_headers={"comment": "x" * (2 << 20)}))
    assert "extended header" in damaged(archive)


def test_endless_chain_of_extended_headers_is_refused(archives) -> None:
    headers = archives.entry("x", type=tarfile.XHDTYPE)[0].tobuf(tarfile.USTAR_FORMAT) * 5000
    damaged(headers + archives.checkpoint())


@pytest.mark.parametrize("mtime", ["nan", "inf", "-1e400"])
def test_impossible_time_is_refused_or_passed_on(archives, mtime) -> None:
    archive = archives.checkpoint(archives.entry("checkpoint/x", pax_headers={"mtime": mtime}))
    try:
        sent = rewrite(archive)
    except ArchiveError:
        return
    assert "checkpoint/x" in archives.names(sent)


@pytest.fixture(scope="module")
def small_archive() -> bytes:
    out = io.BytesIO()
    documents = {"config.dump": b'{"id": "1", "name": "web"}', "spec.dump": b"{}", "checkpoint/inventory.img": b"x"}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in documents.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), {"SCHILY.xattr.user.a": "b"}
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()[: 3 * 4 * 512 + 1024]


def test_archive_that_is_to_be_overwritten_is_whole(small_archive) -> None:
    assert list(inspected(small_archive).sizes) == ["config.dump", "spec.dump", "checkpoint/inventory.img"]
    assert inspected(rewrite(small_archive)).config == {"id": "1", "name": "web"}


def passes_or_raises(archive: bytes) -> None:
    """Either it is refused in a way that users understand, or what goes on to podman is the same archive."""
    before = Contents()
    try:
        sent = b"".join(rewritten(io.BytesIO(archive), before))
    except ArchiveError:
        return
    after = inspected(sent)
    assert (after.documents, after.sizes) == (before.documents, before.sizes)


@hypothesis.given(st.binary(max_size=3000))
def test_random_bytes_are_refused(data) -> None:
    damaged(data)


@hypothesis.given(st.binary(min_size=1, max_size=64), st.integers(0, 5000))
def test_overwritten_bytes_do_no_harm(small_archive, data, offset) -> None:
    passes_or_raises(small_archive[:offset] + data + small_archive[offset + len(data) :])


FIELDS = [0, 100, 108, 116, 124, 136, 156, 157, 257, 345]
RECORDS = ["path", "linkpath", "size", "uid", "mtime", "hdrcharset", "GNU.sparse.name", "GNU.sparse.size"]


@hypothesis.given(st.integers(0, 13), st.sampled_from(FIELDS), st.binary(max_size=12))
def test_overwritten_header_with_a_good_checksum_does_no_harm(small_archive, block, field, data) -> None:
    header = bytearray(small_archive[block * 512 : block * 512 + 512])
    header[field : field + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    passes_or_raises(small_archive[: block * 512] + bytes(header[:512]) + small_archive[block * 512 + 512 :])


@hypothesis.given(
    st.dictionaries(
        st.sampled_from(RECORDS)
        | st.text(st.characters(blacklist_characters="=\0", blacklist_categories=["Cs"]), min_size=1, max_size=8),
        st.text(st.characters(blacklist_categories=["Cs"]), max_size=12) | st.integers().map(str),
        min_size=1,
        max_size=3,
    )
)
def test_extended_header_of_any_content_does_no_harm(small_archive, records) -> None:
    info = tarfile.TarInfo("checkpoint/x")
    info.pax_headers = records
    passes_or_raises(info.tobuf(tarfile.PAX_FORMAT) + small_archive)


# -- rewriting ------------------------------------------------------------------------------------------------


def attributes(info: tarfile.TarInfo) -> tuple:
    xattrs = {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY.xattr.")}
    return info.name, info.type, info.mode, info.uid, info.gid, int(info.mtime), info.linkname, info.size, xattrs


@every_format
def test_nothing_changes_without_a_reason(archives, kind) -> None:
    xattrs = {"SCHILY.xattr.security.capability": "\1\0\0\2\udcff\udc80"} if kind == tarfile.PAX_FORMAT else {}
    archive = archives.checkpoint(
        archives.link("checkpoint/parent", "../pre-checkpoint"),
        archives.entry("checkpoint/core-1.img", b"core", uid=1000, gid=70000, mode=0o4755, mtime=1_234_567_890),
        archives.entry("volumes/" + "d" * 90 + "/" + "v" * 60 + ".tar", bytes(1024)),
        archives.rootfs_diff(archives.entry("bin/ping", b"ELF", pax_headers=xattrs)),
        archives.entry("artifacts/with-attributes", b"x", pax_headers=xattrs),
        kind=kind,
    )
    before, after = archives.unpack(archive), archives.unpack(rewrite(archive))
    assert [data for _info, data in after] == [data for _info, data in before]
    assert [attributes(info) for info, _data in after] == [attributes(info) for info, _data in before]


def test_names_that_are_no_text_stay(archives) -> None:
    name = "volumes/\udcff\udcfe.tar"
    archive = archives.checkpoint(archives.entry(name, bytes(1024)), kind=tarfile.GNU_FORMAT)
    assert name in archives.names(rewrite(archive))


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 255, 256, 300])
def test_long_names_stay(archives, length) -> None:
    name = ("checkpoint/" + "n" * 300)[:length]
    archive = archives.checkpoint(archives.entry(name, b"x"), kind=tarfile.GNU_FORMAT)
    assert name in archives.names(rewrite(archive))


def test_result_is_a_tar_of_whole_records(archives) -> None:
    for size in (0, 1, 511, 512, 513):
        sent = rewrite(archives.checkpoint(archives.entry("checkpoint/x", b"x" * size)))
        assert len(sent) % 512 == 0
        assert sent.endswith(bytes(1024))
        inspected(sent)


def test_contents_are_known_when_the_archive_has_gone_by(archives) -> None:
    archive = archives.checkpoint(archives.entry("volumes/data.tar", bytes(1024)))
    contents = Contents()
    for _chunk in rewritten(io.BytesIO(archive), contents):
        pass
    assert contents.config["name"] == "web"
    assert contents.volumes == ["data"]
    assert contents.sizes == inspected(archive).sizes


def test_incomplete_checkpoint_never_gets_its_end(archives) -> None:
    sent = []
    with pytest.raises(ArchiveError, match="it has no spec.dump"):
        for chunk in rewritten(io.BytesIO(archives.checkpoint(without=["spec.dump"])), Contents()):
            sent.append(chunk)
    with pytest.raises(ArchiveError):
        inspected(b"".join(sent))


def test_volumes_can_be_left_out(archives) -> None:
    volume = [archives.directory("volumes"), archives.entry("volumes/data.tar", bytes(5000))]
    archive = archives.checkpoint(*volume, archives.entry("stats-dump"))
    left = [name for name in archives.names(archive) if name not in ("volumes", "volumes/data.tar")]
    assert archives.names(rewrite(archive, ignore_volumes=True)) == left
    assert "stats-dump" in left
    assert "volumes/data.tar" in archives.names(rewrite(archive))


def test_damage_in_a_volume_that_is_left_out_is_noticed(archives) -> None:
    archive = archives.checkpoint(archives.entry("volumes/data.tar", bytes(5000)))
    with pytest.raises(ArchiveError):
        rewrite(archive[:-3000], ignore_volumes=True)


def test_config_is_changed_and_the_rest_stays(archives, config_json) -> None:
    changes = {"restart_policy": "always", "restart_retries": 3}
    contents = inspected(rewrite(archives.checkpoint(), change_config=lambda config: {**config, **changes}))
    assert contents.config == {**config_json(), **changes}
    assert list(contents.config)[:3] == ["id", "name", "rootfsImageID"]
    assert contents.documents["spec.dump"] == {"ociVersion": "1.2.1"}


def test_config_of_another_length_is_whole(archives) -> None:
    archive = archives.checkpoint(config={"name": "w" * 5000})
    entries = archives.unpack(rewrite(archive, change_config=lambda config: {**config, "x": "y" * 777}))
    ((info, data),) = [(info, data) for info, data in entries if info.name == "config.dump"]
    assert info.mode == 0o600
    assert json.loads(data)["x"] == "y" * 777


def test_contents_tell_the_config_that_came(archives) -> None:
    contents = Contents()
    for _chunk in rewritten(io.BytesIO(archives.checkpoint()), contents, change_config=lambda _config: {}):
        pass
    assert contents.config["name"] == "web"


def test_roots_of_volumes_travel_with_them(archives) -> None:
    volumes = [archives.entry(f"volumes/{name}.tar", bytes(1024)) for name in ("data", "other")]
    archive = archives.checkpoint(*volumes)
    sent = rewrite(archive, volume_roots={"data": "1000:1000:2770", "absent": "0:0:700"})
    assert inspected(sent).volume_roots == {"data": "1000:1000:2770"}
    assert inspected(rewrite(sent)).volume_roots == {"data": "1000:1000:2770"}
    assert inspected(rewrite(sent, volume_roots={"data": "0:0:700"})).volume_roots == {"data": "0:0:700"}
    assert [(info.name, data) for info, data in archives.unpack(sent)] == [
        (info.name, data) for info, data in archives.unpack(archive)
    ]


@pytest.mark.parametrize("root", ["", "0", "0:0", "a:b:c", "0:0:999", "0:0:7777777", "-1:0:700", "0:0:700:0"])
def test_root_of_a_volume_that_makes_no_sense_is_refused(archives, root) -> None:
    header = {_archive.VOLUME_ROOT: root}
    assert "volumes/data.tar" in damaged(archives.checkpoint(archives.entry("volumes/data.tar", pax_headers=header)))


def test_root_of_what_is_no_volume_is_none(archives) -> None:
    header = {_archive.VOLUME_ROOT: "0:0:700"}
    assert inspected(archives.checkpoint(archives.entry("ctr.log", pax_headers=header))).volume_roots == {}


def test_pages_of_the_previous_archive_go_along(archives) -> None:
    older = archives.pack(archives.members(config={"name": "older"}, directory="pre-checkpoint"))
    archive = archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))
    sent = rewrite(archive, previous=io.BytesIO(older))
    assert archives.names(sent) == [
        *archives.names(archive),
        "pre-checkpoint",
        "pre-checkpoint/inventory.img",
        "pre-checkpoint/pages-1.img",
    ]
    assert dict((info.name, data) for info, data in archives.unpack(sent))["pre-checkpoint/pages-1.img"] == b"P" * 5000
    assert inspected(sent).config["name"] == "web"


def test_pages_can_go_before_the_rest(archives) -> None:
    contents = _archive.Contents()
    pages = io.BytesIO(archives.pre_checkpoint())
    begin = b"".join(_archive.previous_pages(pages, contents, _archive.NESTED))
    archive = archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))
    rest = b"".join(_archive.rewritten(io.BytesIO(archive), contents, previous_sent=True))
    unpacked = {info.name: info for info, _data in archives.unpack(begin + rest)}
    assert "checkpoint/pre-checkpoint/pages-1.img" in unpacked and "checkpoint/pages-1.img" in unpacked
    assert unpacked["checkpoint/parent"].linkname == "pre-checkpoint"
    assert contents.needs_previous and contents.sizes["checkpoint/pre-checkpoint/pages-1.img"] > 0


def test_previous_pages_do_not_take_the_place_of_others(archives) -> None:
    planted = archives.checkpoint(archives.entry("pre-checkpoint/pages-1.img"))
    with pytest.raises(ArchiveError, match="Both archives have 'pre-checkpoint/pages-1.img'"):
        rewrite(planted, previous=io.BytesIO(archives.pre_checkpoint()))


@pytest.mark.parametrize("name", ["checkpoint/pre-checkpoint", "checkpoint/pre-checkpoint/pages-1.img"])
def test_nothing_takes_the_place_of_pages_that_have_gone(archives, name) -> None:
    archive = archives.checkpoint(archives.entry(name))
    with pytest.raises(ArchiveError, match=f"has '{name}', where pages"):
        rewrite(archive, previous_sent=True)


def test_previous_archive_must_be_a_pre_checkpoint(archives) -> None:
    with pytest.raises(ArchiveError, match="not a pre-checkpoint"):
        rewrite(archives.checkpoint(), previous=io.BytesIO(archives.checkpoint()))


def test_previous_archive_must_be_whole(archives) -> None:
    previous = archives.pre_checkpoint()
    for offset in range(0, len(previous), 512):
        with pytest.raises(ArchiveError):
            rewrite(archives.checkpoint(), previous=io.BytesIO(previous[:offset]))


# -- what podman left out of the root filesystem --------------------------------------------------------------


@pytest.fixture
def additions(archives):
    """Makes additions of the given entries."""

    def make(*entries, again=()) -> RootfsAdditions:
        made = RootfsAdditions(io.BytesIO())
        for info, data in entries:
            path = f"/{info.name}"
            made.add(path, Member(info, io.BytesIO(data) if info.isreg() else None), again=path in again)
        return made

    return make


def tarred(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]


def extracted(archive: bytes, directory: pathlib.Path) -> None:
    """What podman does with the two members: it unpacks the first, where nothing but directories are merged, and then
    deletes what the second names."""
    options = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    data = {info.name: data for info, data in tarred(archive)}
    with tarfile.open(fileobj=io.BytesIO(data["rootfs-diff.tar"])) as tar:
        for info in tar:
            info.uid, info.gid = os.getuid(), os.getgid()
            path = directory / info.name
            if path.is_dir() and not info.isdir():
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()
            tar.extract(info, directory, **options)
    for name in json.loads(data.get("deleted.files", b"[]")):
        path = directory / name.lstrip("/")
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_podmans_own_entry_wins_where_both_have_one(archives, additions, tmp_path) -> None:
    ours = additions(archives.entry("etc/motd", b"ours"), archives.entry("etc/app.conf", b"ours", mode=0o640))
    archive = archives.checkpoint(archives.rootfs_diff(archives.entry("etc/motd", b"podman's, longer")))
    sent = rewrite(archive, additions=ours)
    extracted(sent, tmp_path)
    assert (tmp_path / "etc/motd").read_bytes() == b"podman's, longer"
    assert (tmp_path / "etc/app.conf").read_bytes() == b"ours"
    assert (tmp_path / "etc/app.conf").stat().st_mode & 0o777 == 0o640
    assert archives.names(sent) == archives.names(archive)


def test_archive_without_changed_files_gets_a_place_for_them(archives, additions, tmp_path) -> None:
    ours = additions(archives.directory("etc"), archives.entry("etc/app.conf", b"ours"))
    archive = archives.checkpoint()
    sent = rewrite(archive, additions=ours)
    assert archives.names(sent) == [*archives.names(archive), "rootfs-diff.tar"]
    extracted(sent, tmp_path)
    assert (tmp_path / "etc/app.conf").read_bytes() == b"ours"


def test_directory_that_was_made_again_has_nothing_of_the_old_one(archives, additions, tmp_path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "of-the-image").touch()
    (tmp_path / "gone").touch()
    ours = additions(archives.entry("cache", type=tarfile.DIRTYPE, mode=0o750), again=["/cache"])
    archive = archives.checkpoint(
        archives.rootfs_diff(archives.entry("cache/new", b"new")),
        archives.entry("deleted.files", b'["/cache","/gone"]'),
    )
    sent = rewrite(archive, additions=ours)
    extracted(sent, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["cache", "new"]
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o750
    assert archives.names(sent) == archives.names(archive)


def test_file_that_was_made_again_is_not_deleted(archives, additions, tmp_path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "of-the-image").touch()
    ours = additions(archives.entry("app", b"now a file"), again=["/app"])
    sent = rewrite(archives.checkpoint(archives.entry("deleted.files", b'["/app"]')), additions=ours)
    extracted(sent, tmp_path)
    assert (tmp_path / "app").read_bytes() == b"now a file"


def test_deletions_stay_as_they_came(archives, additions) -> None:
    deleted = archives.entry("deleted.files", b'[ "/gone" ]\n')
    sent = rewrite(archives.checkpoint(deleted), additions=additions(archives.entry("a", b"a")))
    assert dict((info.name, data) for info, data in archives.unpack(sent))["deleted.files"] == b'[ "/gone" ]\n'


def test_inner_archive_is_a_whole_tar(archives, additions) -> None:
    ours = additions(archives.entry("a", b"x" * 513), archives.entry("b", b""), archives.link("c", "a"))
    for also in ([], [archives.rootfs_diff(archives.entry("d", b"d"))]):
        (inner,) = [
            data
            for info, data in archives.unpack(rewrite(archives.checkpoint(*also), additions=ours))
            if info.name == "rootfs-diff.tar"
        ]
        names = [member.name for member in members(io.BytesIO(inner))]
        assert names == (["a", "b", "c", "d"] if also else ["a", "b", "c"])


def test_size_that_the_extended_header_gave_is_given_anew(archives, additions) -> None:
    """As for more than 8 GiB of changed files."""
    info, data = archives.rootfs_diff(archives.entry("b", b"b"))
    info.pax_headers = {"size": str(len(data))}
    sent = rewrite(archives.checkpoint((info, data)), additions=additions(archives.entry("a", b"a")))
    (inner,) = [data for info, data in archives.unpack(sent) if info.name == "rootfs-diff.tar"]
    assert [member.name for member in members(io.BytesIO(inner))] == ["a", "b"]


def test_no_additions_change_nothing(archives, additions) -> None:
    archive = archives.checkpoint()
    assert archives.names(rewrite(archive, additions=additions())) == archives.names(archive)


def test_additions_go_before_the_previous_pages(archives, additions) -> None:
    sent = rewrite(
        archives.checkpoint(),
        additions=additions(archives.entry("a", b"a")),
        previous=io.BytesIO(archives.pre_checkpoint()),
    )
    assert archives.names(sent)[-3:] == ["rootfs-diff.tar", "pre-checkpoint", "pre-checkpoint/pages-1.img"]


def test_added_file_keeps_its_attributes_under_its_new_name(archives, additions) -> None:
    xattrs = {"SCHILY.xattr.user.a": "b", "path": "elsewhere/old"}
    info, data = archives.entry("old", b"x", uid=1000, mode=0o4755, pax_headers=xattrs)
    made = RootfsAdditions(io.BytesIO())
    made.add("/usr/bin/" + "n" * 120, Member(info, io.BytesIO(data)))
    (found,) = members(io.BytesIO(b"".join(made.chunks()) + bytes(1024)))
    assert found.name == "usr/bin/" + "n" * 120
    assert (found.info.uid, found.info.mode) == (1000, 0o4755)
    assert found.info.pax_headers["SCHILY.xattr.user.a"] == "b"


@pytest.mark.parametrize("found", [b"", b"shorter", b"a longer one"])
def test_file_that_changed_while_it_was_read_is_refused(archives, found) -> None:
    info, _data = archives.entry("etc/log", b"12345678")
    with pytest.raises(ArchiveError, match=f"etc/log has {len(found)} bytes where its header says 8"):
        RootfsAdditions(io.BytesIO()).add("/etc/log", Member(info, io.BytesIO(found)))


# -- compression ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compression_is_known_by_the_first_bytes(archives, tmp_path, name) -> None:
    path = tmp_path / "archive"
    path.write_bytes(COMPRESSIONS[name](archives.checkpoint()))
    assert compression_of(str(path)) == name
    assert inspect_file(str(path)).config["name"] == "web"


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name != "none"])
def test_compressed_archive_that_is_cut_short_is_refused(archives, tmp_path, name) -> None:
    packed = COMPRESSIONS[name](archives.checkpoint())
    path = tmp_path / "archive"
    # zstandard does not miss the checksum, which is all that is in the last four bytes.
    end = len(packed) - (4 if name == "zstd" else 0)
    for length in {*range(0, end, 97), *range(end - 12, end)}:
        path.write_bytes(packed[:length])
        with pytest.raises(ArchiveError):
            inspect_file(str(path))
            pytest.fail(f"The first {length} of {len(packed)} bytes were taken for all.")


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name != "none"])
def test_flipped_bit_in_a_compressed_archive_is_refused(archives, tmp_path, name) -> None:
    packed = COMPRESSIONS[name](archives.checkpoint())
    path = tmp_path / "archive"
    for offset in range(len(packed) // 2, len(packed) - 8, 23):
        flipped = bytearray(packed)
        flipped[offset] ^= 0x10
        path.write_bytes(flipped)
        with pytest.raises(ArchiveError):
            inspect_file(str(path))
            pytest.fail(f"A flipped bit in byte {offset} of {len(packed)} was not noticed.")


def test_message_names_the_file(archives, tmp_path) -> None:
    path = tmp_path / "archive.tar"
    path.write_bytes(archives.checkpoint()[:-1024])
    with pytest.raises(ArchiveError, match=f"{path}: The archive is cut short"):
        inspect_file(str(path))


def test_file_of_several_zstd_frames_is_read(archives, tmp_path) -> None:
    archive = archives.checkpoint(archives.entry("checkpoint/pages-2.img", random.Random(1).randbytes(1_000_000)))
    path = tmp_path / "archive"
    path.write_bytes(COMPRESSIONS["zstd"](archive[:500_000]) + COMPRESSIONS["zstd"](archive[500_000:]))
    assert inspect_file(str(path)).config["name"] == "web"


@pytest.mark.parametrize("path", ["/nonexistent/web.tar", "/tmp"])
def test_unreadable_file_is_told(path) -> None:
    with pytest.raises(ArchiveError, match=f"{path} cannot be read"):
        open_archive(path)


@pytest.mark.parametrize("level", [None, 1, 9])
@pytest.mark.parametrize("name", ["zstd", "gzip", "none"])
def test_what_is_compressed_can_be_read_again(tmp_path, name, level) -> None:
    path = tmp_path / "archive"
    with open(path, "wb") as file:
        packed = compressor(file, name, level)
        packed.write(b"one" * 1000)
        packed.write(b"two")
        packed.close()
        assert not file.closed
    assert compression_of(str(path)) == name
    with open_archive(str(path)) as archive:
        assert archive.read() == b"one" * 1000 + b"two"


def test_level_decides_the_size() -> None:
    data = json.dumps([{"number": number, "square": number * number} for number in range(2000)]).encode()

    def size(name: str, level: int) -> int:
        out = io.BytesIO()
        packed = compressor(out, name, level)
        packed.write(data)
        packed.close()
        return len(out.getvalue())

    assert size("zstd", 19) < size("zstd", 1)
    assert size("gzip", 9) < size("gzip", 1)


def test_zstd_has_a_checksum(tmp_path) -> None:
    out = io.BytesIO()
    packed = compressor(out, "zstd", None)
    packed.write(b"data")
    packed.close()
    assert zstandard.get_frame_parameters(out.getvalue()).has_checksum


def test_missing_zstandard_is_told_where_it_is_needed(tmp_path, monkeypatch) -> None:
    path = tmp_path / "archive"
    path.write_bytes(COMPRESSIONS["zstd"](b"x"))
    monkeypatch.setattr(_archive, "ZSTANDARD_IMPORT_ERROR", "Traceback")
    with pytest.raises(DependencyError, match="zstandard is missing to read"):
        open_archive(str(path))
    with pytest.raises(DependencyError, match="zstandard is missing to compress"):
        compressor(io.BytesIO(), "zstd", None)
    assert compressor(io.BytesIO(), "gzip", None)


# -- memory ---------------------------------------------------------------------------------------------------


def test_memory_stays_small_however_many_members_there_are(archives) -> None:
    headers = [archives.entry(f"checkpoint/{number}")[0].tobuf(tarfile.USTAR_FORMAT) for number in range(10_000)]
    archive = io.BytesIO(b"".join(headers) + archives.checkpoint())
    tracemalloc.start()
    try:
        inspect(archive)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Three blocks on their way, and no list of the members.
    assert peak < 5_000_000


def test_memory_stays_small_while_a_large_archive_goes_by(run_python) -> None:
    growth = run_python(
        """
import io, resource, tarfile
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, rewritten

class Source:
    "300 MB of pages, made when they are read."
    def __init__(self):
        head = b""
        documents = {"config.dump": b'{"id": "1", "name": "web"}', "spec.dump": b"{}", "checkpoint/inventory.img": b"i"}
        for name, data in [*documents.items(), ("checkpoint/pages-1.img", None)]:
            info = tarfile.TarInfo(name)
            info.size = 300 << 20 if data is None else len(data)
            head += info.tobuf() + (b"" if data is None else data + bytes(-len(data) % 512))
        self.blocks = iter([head, *[b"P" * (1 << 20)] * 300, bytes(1024)])
        self.rest = b""
    def read(self, size=-1):
        self.rest = self.rest or next(self.blocks, b"")
        block, self.rest = self.rest[:size], self.rest[size:]
        return block

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = sum(len(chunk) for chunk in rewritten(Source(), Contents(), change_config=lambda config: config))
assert size > 300 << 20, size
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    )
    assert int(growth) < 100 * 1024
