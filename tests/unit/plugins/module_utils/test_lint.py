# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""One hostile archive for each rule, and many that nobody has thought of."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import tarfile
import tracemalloc

import hypothesis
import pytest
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils import _lint
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, inspect, members, rewritten
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._headers import Headers, Unreadable
from ansible_collections.ferry.podman.plugins.module_utils._lint import (
    DIRECTORIES,
    FILES,
    Limits,
    LintError,
    Names,
    deletions,
)


def refused(archive: bytes, limits: Limits = _lint.NO_LIMITS) -> LintError:
    """The reason, which both ways of reading give, and the second before the archive's end has gone."""
    with pytest.raises(LintError) as error:
        inspect(io.BytesIO(archive), limits)
    sent = bytearray()
    with pytest.raises(LintError, match="archive|Archive") as again:
        for chunk in rewritten(io.BytesIO(archive), Contents(), limits=limits):
            sent += chunk
    assert again.value.code == error.value.code
    with pytest.raises(ArchiveError):
        inspect(io.BytesIO(bytes(sent)))
    return error.value


def accepted(archive: bytes) -> Contents:
    return inspect(io.BytesIO(archive))


# -- members --------------------------------------------------------------------------------------------------


def test_everything_that_engines_write_passes(archives) -> None:
    documents = {"deleted.files": b'["/gone"]', "bind.mounts": b"[]"}
    empty = {name: bytes(1024) for name in FILES if name.endswith(".tar")}
    known = {info.name for info, _data in archives.members()}
    files = [archives.entry(name, {**documents, **empty}.get(name, b"")) for name in sorted(FILES - known)]
    directories = [archives.directory(name) for name in sorted(DIRECTORIES - known)]
    assert accepted(archives.checkpoint(*files, *directories, archives.directory("./"))).sizes.keys() >= FILES


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("ctr.log", "/etc/shadow"),
        ("checkpoint/pages-2.img", "/dev/mem"),
        ("checkpoint/parent", "/root"),
        ("checkpoint/parent", "../pre-checkpoint/../.."),
        ("checkpoint/x", "../pre-checkpoint"),
        ("volumes/data.tar", "../../../etc/shadow"),
        ("checkpoint", "/tmp"),
        ("artifacts", ".."),
    ],
)
def test_links_are_refused(archives, name, target) -> None:
    archive = archives.pack([*archives.members(without=[name]), archives.link(name, target)])
    error = refused(archive)
    assert error.code == "archive_link"
    assert repr(name) in str(error) and repr(target) in str(error)


def test_hard_links_are_refused(archives) -> None:
    link = archives.entry("ctr.log", type=tarfile.LNKTYPE, linkname="config.dump")
    assert refused(archives.checkpoint(link)).code == "archive_link"
    parent = archives.entry("checkpoint/parent", type=tarfile.LNKTYPE, linkname="../pre-checkpoint")
    assert refused(archives.checkpoint(parent)).code == "archive_link"


def test_link_of_criu_passes(archives) -> None:
    assert accepted(archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))).needs_previous


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE])
def test_special_members_are_refused(archives, kind) -> None:
    error = refused(archives.checkpoint(archives.entry("checkpoint/null", type=kind, devmajor=1, devminor=3)))
    assert error.code == "archive_special"
    assert "'checkpoint/null'" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../passwd", "checkpoint/../../x", "checkpoint/..", "..", "/", "//ctr.log", "./../x"),
        *("checkpoint/\n", "checkpoint/\x1b[2J", "checkpoint/" + "n" * 2000),
    ],
)
def test_names_that_lead_elsewhere_are_refused(archives, name) -> None:
    assert refused(archives.checkpoint(archives.entry(name, b"x"))).code == "archive_name"


def test_extended_header_cannot_rename_behind_the_check(archives) -> None:
    """tarfile takes the last of these for the name, Go the first."""
    records = {"path": "../../etc/cron.d/x", "GNU.sparse.name": "checkpoint/x"}
    info, data = archives.entry("checkpoint/x", b"x", pax_headers=records)
    with pytest.raises(ArchiveError, match="sparse"):
        inspect(io.BytesIO(archives.checkpoint((info, data))))


def test_name_that_goes_on_is_the_one_that_was_looked_at(archives) -> None:
    info, data = archives.entry("checkpoint/x", b"x", pax_headers={"path": "checkpoint/y"})
    sent = b"".join(rewritten(io.BytesIO(archives.checkpoint((info, data))), Contents()))
    assert "checkpoint/y" in archives.names(sent)
    assert b"path=" not in sent


@pytest.mark.parametrize("name", ["config.dump", "checkpoint", "checkpoint/inventory.img", "./spec.dump", "volumes"])
def test_duplicates_are_refused(archives, name) -> None:
    make = archives.directory if name in DIRECTORIES else lambda name: archives.entry(name, b"{}")
    error = refused(archives.checkpoint(make(name), *([make(name)] if name == "volumes" else [])))
    assert error.code == "archive_duplicate"
    assert repr(os.path.normpath(name)) in str(error)


@pytest.mark.parametrize("name", ["evil.sh", "checkpoints/x", "config.dump/x", ".ssh/authorized_keys", "rootfs"])
def test_unknown_members_are_refused(archives, name) -> None:
    error = refused(archives.checkpoint(archives.entry(name, b"x")))
    assert error.code == "archive_unknown"
    assert repr(name) in str(error)


def test_member_must_be_of_its_kind(archives) -> None:
    assert refused(archives.checkpoint(archives.directory("ctr.log"))).code == "archive_unknown"
    assert refused(archives.checkpoint(archives.entry("volumes", b"x"))).code == "archive_unknown"


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_content_where_none_can_be_is_refused(archives, kind) -> None:
    """One reader would skip it, another take it for members."""
    info, _data = archives.entry("checkpoint/x", type=kind)
    info.size = 512
    with pytest.raises(ArchiveError, match="is no file and has content"):
        inspect(io.BytesIO(archives.pack([*archives.members(), (info, bytes(512))])))


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
def test_headers_about_all_members_are_refused(archives, kind) -> None:
    data = b"20 path=config.dump\n"
    with pytest.raises(ArchiveError, match="no checkpoint has such"):
        inspect(io.BytesIO(archives.pack([archives.entry("x", data, type=kind), *archives.members()])))


def test_several_names_of_one_member_are_refused(archives) -> None:
    """tarfile and Go take another one of them."""
    extended = archives.entry("x", b"21 path=checkpoint/a\n", type=tarfile.XHDTYPE)
    long = archives.entry("x", b"checkpoint/b\0", type=tarfile.GNUTYPE_LONGNAME)
    for chain in ([extended, long], [long, extended], [extended, extended], [long, long]):
        with pytest.raises(ArchiveError, match="several names"):
            inspect(io.BytesIO(archives.pack([*chain, *archives.members()])))


# -- sizes ----------------------------------------------------------------------------------------------------


def test_size_has_a_limit(archives) -> None:
    archive = archives.checkpoint(archives.entry("checkpoint/pages-2.img", bytes(100_000)))
    error = refused(archive, Limits(size=100_000))
    assert error.code == "archive_too_large"
    assert "more than 100000 bytes: 'checkpoint/pages-2.img' alone has 100000" in str(error)
    inspect(io.BytesIO(archive), Limits(size=200_000))


def test_bomb_is_refused_by_its_header(archives) -> None:
    """Nothing of its content needs to be read, or to be there."""
    info, _data = archives.entry("checkpoint/pages-2.img")
    info.size = 1 << 50
    archive = b"".join(i.tobuf() + d + bytes(-len(d) % 512) for i, d in archives.members()) + info.tobuf()
    assert refused(archive, Limits(size=1 << 40)).code == "archive_too_large"


def test_members_have_a_limit(archives) -> None:
    archive = archives.checkpoint()
    assert refused(archive, Limits(members=5)).code == "archive_too_large"
    inspect(io.BytesIO(archive), Limits(members=8))


def test_names_have_a_limit_in_all(archives, monkeypatch) -> None:
    monkeypatch.setattr(_lint, "MOST_NAMES", 50)
    assert refused(archives.checkpoint()).code == "archive_too_large"


# -- deleted.files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [b"[]", b"null", b"[ ]", b'["/a", "/b/c"]', b'[\n  "/etc/issue"\n]\n', b'["a..b", "/..."]']
)
def test_deletions_inside_pass(archives, text) -> None:
    accepted(archives.checkpoint(archives.entry("deleted.files", text)))


@pytest.mark.parametrize(
    "path", ["/..", "../../etc/passwd", "/a/../../b", "..", "/", "", "/a/\0", "a/..", "/\\u002e\\u002e/etc"]
)
def test_deletions_outside_are_refused(archives, path) -> None:
    text = b'["/fine", "' + path.encode().replace(b"\0", b"\\u0000") + b'"]'
    error = refused(archives.checkpoint(archives.entry("deleted.files", text)))
    assert error.code == "archive_deletes"


@pytest.mark.parametrize(
    "text", [b"x", b"{}", b"[1]", b'["a"', b'["a",]', b'["a" "b"]', b'"a"', b'["a"] ["b"]', b'[["a"]]']
)
def test_deletions_that_are_no_list_are_refused(archives, text) -> None:
    assert "is no list of paths" in str(refused(archives.checkpoint(archives.entry("deleted.files", text))))


@hypothesis.given(st.lists(st.text(max_size=8), max_size=5))
def test_deletions_are_read_as_json(paths) -> None:
    for text in (json.dumps(paths), json.dumps(paths, indent=2), json.dumps(paths, ensure_ascii=False)):
        assert list(deletions(text.encode("utf-8", "surrogatepass"))) == json.loads(
            text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        )


@pytest.mark.parametrize("first", ["rootfs-diff.tar", "deleted.files"])
def test_deletion_behind_a_planted_link_is_refused(archives, first) -> None:
    entries = [archives.rootfs_diff(archives.link("out", "/etc")), archives.entry("deleted.files", b'["/out/passwd"]')]
    entries.sort(key=lambda entry: entry[0].name != first)
    assert refused(archives.checkpoint(*entries)).code == "archive_deletes"
    # The link itself may go.
    accepted(archives.checkpoint(entries[0], *[archives.entry("stats-dump")]))


def test_deletions_have_a_limit(archives, monkeypatch) -> None:
    monkeypatch.setattr(_lint, "MOST_DELETED", 10)
    assert refused(archives.checkpoint(archives.entry("deleted.files", b'["/1234567"]'))).code == "archive_deletes"


# -- tars inside ----------------------------------------------------------------------------------------------

INNER = ["rootfs-diff.tar", "volumes/data.tar", "devshm-checkpoint.tar"]
every_inner = pytest.mark.parametrize("where", INNER)


def holding(archives, where: str, data: bytes) -> bytes:
    return archives.pack([*archives.members(without=[where]), archives.entry(where, data)])


@every_inner
def test_files_of_containers_pass(archives, where) -> None:
    """As podman writes them; devices are told, for a policy to forbid."""
    xattr = {"SCHILY.xattr.security.capability": "\1\0\0\2\udcff"}
    inner = archives.pack(
        [
            archives.directory("./"),
            archives.entry("./etc/motd", b"hi" * 300, pax_headers=xattr),
            archives.link("./etc/localtime", "/usr/share/zoneinfo/UTC"),
            archives.link("./lib", "../../up"),
            archives.entry("./hard", type=tarfile.LNKTYPE, linkname="./etc/motd"),
            archives.entry("pipe", type=tarfile.FIFOTYPE),
            archives.entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            archives.entry("n" * 300, b"x"),
            archives.entry("\udcff..", b"x"),
            archives.entry("etc/motd", b"again"),
        ]
    )
    contents = accepted(holding(archives, where, inner))
    assert contents.devices == [f"{where}: 'dev/null'"]
    assert accepted(holding(archives, where, b"")).devices == []


@every_inner
@pytest.mark.parametrize(
    "entry",
    [
        ("/etc/passwd", {}),
        ("../x", {}),
        ("a/../../x", {}),
        ("x", {"type": tarfile.LNKTYPE, "linkname": "/etc/shadow"}),
        ("x", {"type": tarfile.LNKTYPE, "linkname": "../../shadow"}),
        (".", {}),
        (".", {"type": tarfile.SYMTYPE, "linkname": "/etc"}),
        ("x", {"type": b"7"}),
        ("x", {"type": b"S"}),
        ("x", {"type": b"g"}),
        ("x", {"type": b"Z"}),
    ],
    ids=str,
)
def test_tars_that_lead_out_are_refused(archives, where, entry) -> None:
    name, attributes = entry
    error = refused(holding(archives, where, archives.pack([archives.entry(name, **attributes)])))
    assert error.code == "archive_inner"
    assert repr(where) in str(error)


@every_inner
def test_member_behind_a_planted_link_is_refused(archives, where) -> None:
    """podman would follow it to the host's file."""
    link = archives.link("a/out", "/etc")
    behind = [
        [link, archives.entry("a/out/passwd", b"x")],
        [link, archives.entry("./a//out/deeper/passwd", b"x")],
        [link, archives.entry("x", type=tarfile.LNKTYPE, linkname="a/out/shadow")],
        # A hard link to a link is a link.
        [link, archives.entry("b", type=tarfile.LNKTYPE, linkname="a/out"), archives.entry("b/passwd", b"x")],
        # Nor does a link that stays inside keep what is behind it there.
        [archives.link("up", "a/b/.."), archives.entry("up/x", b"x")],
    ]
    for entries in behind:
        error = refused(holding(archives, where, archives.pack(entries)))
        assert error.code == "archive_inner"
        assert "behind a link that it has planted" in str(error)


def test_link_of_one_tar_is_none_of_another(archives) -> None:
    accepted(
        archives.checkpoint(
            archives.rootfs_diff(archives.link("data", "/srv")),
            archives.entry("volumes/a.tar", archives.pack([archives.entry("data/x", b"x")])),
        )
    )


def with_header(archives, change) -> bytes:
    """A tar whose one header was changed, with its checksum put right."""
    block = bytearray(archives.pack([archives.entry("a", bytes(512))]))
    change(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


CHANGES = {
    "prefix of a GNU header": (b"ustar  \0", b"elsewhere"),
    "prefix of an old header": (bytes(8), b"elsewhere"),
    "old header": (bytes(8), b""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_header_that_others_read_differently_is_refused(archives, change) -> None:
    def apply(block) -> None:
        block[257:265] = change[0]
        block[345 : 345 + len(change[1])] = change[1]

    assert "another form" in str(refused(holding(archives, "rootfs-diff.tar", with_header(archives, apply))))


def test_size_that_others_read_differently_is_refused(archives) -> None:
    def apply(block) -> None:
        block[124:136] = b"\0" + b"00000001000"

    assert "a size is no number" in str(refused(holding(archives, "rootfs-diff.tar", with_header(archives, apply))))


@pytest.mark.parametrize("value", [b"", b"a\0b"])
def test_name_that_others_read_differently_is_refused(archives, value) -> None:
    record = b"path=" + value + b"\n"
    extended = archives.entry("x", b"%d %s" % (len(record) + 3, record), type=tarfile.XHDTYPE)
    if len(extended[1]) < 10:
        extended = archives.entry("x", b"8 path=\n", type=tarfile.XHDTYPE)
    inner = archives.pack([extended, archives.entry("a")])
    assert "makes no sense" in str(refused(holding(archives, "rootfs-diff.tar", inner)))


def test_tar_that_is_a_compressed_one_too_is_refused(archives) -> None:
    """podman would unpack what is compressed in it, which nobody has looked at."""
    inner = archives.pack([archives.entry("\x1f\udc8b\x08etc/motd", b"x")], kind=tarfile.GNU_FORMAT)
    assert inner.startswith(b"\x1f\x8b\x08")
    assert "like a compressed file" in str(refused(holding(archives, "rootfs-diff.tar", inner)))
    assert refused(holding(archives, "volumes/data.tar", gzip.compress(inner))).code == "archive_inner"


@pytest.mark.parametrize("cut", [1, 511, 512, 513, 1024, 1025, 1536])
def test_inner_tar_that_is_cut_short_is_refused(archives, cut) -> None:
    inner = archives.pack([archives.entry("a", bytes(700))])
    assert refused(holding(archives, "rootfs-diff.tar", inner[:-cut])).code == "archive_inner"


def test_inner_tar_that_goes_on_is_refused(archives) -> None:
    inner = archives.pack([archives.entry("a")])
    assert "goes on behind its end" in str(refused(holding(archives, "rootfs-diff.tar", inner + inner)))
    accepted(holding(archives, "rootfs-diff.tar", inner + bytes(9216)))


# -- documents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b'{"id": "1", "id": "2"}', b'{"id": "1", "ID": "2"}', b'{"a": {"b": 1, "b": 2}}'])
def test_document_with_a_key_twice_is_refused(archives, text) -> None:
    """Go would take the last, whatever its case."""
    archive = archives.pack([*archives.members(without=["config.dump"]), archives.entry("config.dump", text)])
    with pytest.raises(ArchiveError, match="has a key twice"):
        accepted(archive)


def test_document_of_too_many_values_is_refused(archives) -> None:
    text = b"[" + b"[]," * 300_000 + b"[]]"
    archive = archives.pack([*archives.members(without=["network.status"]), archives.entry("network.status", text)])
    with pytest.raises(ArchiveError, match="more than 200000 values"):
        accepted(archive)


# -- many -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data in [
            ("a", tarfile.REGTYPE, b"hello"),
            ("d/", tarfile.DIRTYPE, b""),
            ("l", tarfile.SYMTYPE, b""),
            ("n" * 120, tarfile.REGTYPE, b"x" * 600),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "a" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def headers_of(data: bytes, size: int = 1 << 20) -> list | None:
    found: list = []
    headers = Headers(found.append)
    try:
        for offset in range(0, len(data), size):
            headers.feed(data[offset : offset + size])
        headers.finish()
    except Unreadable:
        return None
    return found


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 4096])
def test_headers_are_the_same_in_blocks_of_any_size(small, size) -> None:
    assert headers_of(small, size) == headers_of(small)
    assert [header.name for header in headers_of(small) or []] == [b"a", b"d/", b"l", b"n" * 120]


def overwritten(data: bytes, block: int, field: int, value: bytes) -> bytes:
    """A header that was changed, with its checksum put right."""
    header = bytearray(data[block * 512 : block * 512 + 512])
    header[field : field + len(value)] = value
    header = header[:512]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[: block * 512] + bytes(header) + data[block * 512 + 512 :]


def told_by_tarfile(data: bytes) -> list | None:
    try:
        found = [member.info for member in members(io.BytesIO(data))]
        return [(os.fsencode(info.name.rstrip("/")), os.fsencode(info.linkname), info.size) for info in found]
    except ArchiveError:
        return None


@hypothesis.settings(max_examples=400)
@hypothesis.given(
    st.integers(0, 9),
    st.sampled_from([0, 100, 124, 135, 156, 157, 257, 263, 265, 345, 500, 508]),
    st.binary(max_size=12)
    | st.sampled_from([b"00000001000\0", b"\x80" + bytes(10) + b"\2", b"5", b"x", b"L", b"ustar  \0"]),
)
def test_what_passes_is_what_another_reader_sees(small, block, field, value) -> None:
    changed = overwritten(small, block, field, value)
    found, other = headers_of(changed), told_by_tarfile(changed)
    # What only one of them refuses does not get through.
    if found is not None and other is not None:
        assert [(header.name.rstrip(b"/"), header.link, header.size) for header in found] == other


@hypothesis.settings(max_examples=200)
@hypothesis.given(st.data())
def test_hostile_tars_do_no_harm(tmp_path_factory, data) -> None:
    """What passes is unpacked the way podman does it, and nothing appears outside."""
    names = st.lists(st.sampled_from(["a", "b", "..", ".", "", "etc"]), min_size=1, max_size=4).map("/".join)
    kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
    base = tmp_path_factory.mktemp("unpacked")
    outside = base / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    targets = names | st.just(str(outside)) | st.just("../../outside") | st.just(str(outside / "secret"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, target in data.draw(st.lists(st.tuples(names, kinds, targets), max_size=6)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x"))
    inner = _lint.Inner("rootfs-diff.tar", [])
    headers = Headers(inner.member)
    try:
        headers.feed(out.getvalue())
        headers.finish()
    except (Unreadable, LintError):
        return
    unpack(out.getvalue(), base / "inside" / "root")
    assert sorted(path.name for path in base.iterdir()) == ["inside", "outside"]
    assert [path.name for path in (base / "inside").iterdir()] == ["root"]
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def unpack(tar: bytes, root: pathlib.Path) -> None:
    """As containers/storage does it: what is in the way is removed, and links on the way are followed."""
    root.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for info in archive:
            path = root / os.path.normpath(info.name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir() and not path.is_symlink() and info.isdir():
                    continue
                if path != root and os.path.lexists(path):
                    if path.is_dir() and not path.is_symlink():
                        continue
                    path.unlink()
                if info.isdir():
                    path.mkdir()
                elif info.issym():
                    path.symlink_to(info.linkname)
                elif info.islnk():
                    os.link(root / info.linkname, path, follow_symlinks=False)
                else:
                    path.write_bytes(b"x")
            except (OSError, ValueError):
                continue


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 511), st.binary(min_size=1, max_size=8)), max_size=4)
)
def test_damaged_archive_is_refused_or_passes(whole_archive, changes) -> None:
    archive = bytearray(whole_archive)
    for block, offset, value in changes:
        start = block * 512 + offset
        archive[start : start + len(value)] = value
    before = Contents()
    try:
        sent = b"".join(rewritten(io.BytesIO(bytes(archive)), before))
    except ArchiveError:
        return
    assert inspect(io.BytesIO(sent)).sizes == before.sizes


@pytest.fixture(scope="module")
def whole_archive() -> bytes:
    out = io.BytesIO()
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("etc/motd")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    documents = {
        "config.dump": b'{"id": "1", "name": "web"}',
        "spec.dump": b"{}",
        "checkpoint/inventory.img": b"x",
        "rootfs-diff.tar": inner.getvalue(),
        "deleted.files": b'["/a"]',
    }
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in documents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


# -- memory ---------------------------------------------------------------------------------------------------


def peak_of(archive: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError):
            inspect(io.BytesIO(archive))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_stays_small_for_a_chain_of_extended_headers(archives) -> None:
    records = b"".join(b"8 %03x=\n" % number for number in range(4096)) * 30
    headers = archives.entry("x", records, type=tarfile.XHDTYPE)
    assert peak_of(archives.pack([headers] * 20)) < 20_000_000


def test_memory_stays_small_for_an_extended_header_of_a_tar_inside(archives) -> None:
    inner = archives.pack([archives.entry("x", b"6 a=\n" * 150_000, type=tarfile.XHDTYPE), archives.entry("a")])
    assert peak_of(archives.checkpoint(archives.entry("rootfs-diff.tar", inner))) < 20_000_000


def test_names_are_a_set_in_little_memory() -> None:
    names = Names()
    tracemalloc.start()
    try:
        for number in range(20_000):
            names.add(b"directory/of/a/long/name/%d" % number)
            names.add(b"directory/of/a/long/name/%d" % number)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(names) == 20_000
    assert peak < 3_000_000
    assert all(b"directory/of/a/long/name/%d" % number in names for number in range(20_000))
    assert not any(b"another/%d" % number in names for number in range(20_000))
