# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Changes of a root filesystem as a layer. What a layer means is decided here by a reader of its own, as simple as the
specification, and held against what podman does with its form."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tempfile
import typing as t

import hypothesis
import pytest
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils import _overlay
from ansible_collections.ferry.podman.plugins.module_utils._archive import Member, RootfsAdditions
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._overlay import ChangesOf, Inexpressible, LayerOf

END = bytes(1024)


def layer_of(diff: bytes | None, deleted: list[str]) -> bytes:
    form = LayerOf()
    begin = b"".join(form.changes(lambda: [diff])) if diff is not None else b""
    return begin + b"".join(form.deletions(json.dumps(deleted).encode())) + END


def back(layer: bytes, deleted: list[str]) -> bytes:
    form = ChangesOf()
    diff = b"".join(form.changes([layer]))
    form.check(json.dumps(deleted).encode())
    return diff + END


def names(layer: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return tar.getnames()


def replaced(*paths: str) -> bytes:
    """Directories in the place of others, as an archive of ours has them."""
    additions = RootfsAdditions(tempfile.TemporaryFile())
    for path in paths:
        info = tarfile.TarInfo("x")
        info.type, info.mode = tarfile.DIRTYPE, 0o750
        additions.add(path, Member(info, None), again=True)
    return b"".join(additions.chunks())


# -- what a layer has -----------------------------------------------------------------------------------------


def test_layer_has_the_members_byte_by_byte_and_then_the_whiteouts(archives) -> None:
    diff = archives.pack([archives.entry("etc/new", b"x" * 700), archives.link("etc/ln", "new")])
    layer = layer_of(diff, ["/etc/old", "/gone"])
    assert layer.startswith(diff[: -len(END)])
    assert names(layer) == ["etc/new", "etc/ln", "etc/.wh.old", ".wh.gone"]
    assert back(layer, ["/etc/old", "/gone"]) == diff


def test_without_changes_there_are_whiteouts_alone() -> None:
    assert names(layer_of(None, ["/a/b"])) == ["a/.wh.b"]
    assert layer_of(None, []) == END


def test_directory_in_the_place_of_another_is_opaque(archives) -> None:
    diff = replaced("/srv/data") + archives.pack([archives.entry("srv/data/new", b"x")])
    layer = layer_of(diff, [])
    assert names(layer) == ["srv/data", "srv/data/.wh..wh..opq", "srv/data/new"]
    assert back(layer, []) == diff


def test_made_again_in_podmans_own_form_keeps_what_is_new(archives) -> None:
    # Podman's restore deletes it again; a layer can say what the container had.
    diff = archives.pack([archives.entry("d/new", b"x"), archives.directory("e"), archives.entry("f", b"")])
    layer = layer_of(diff, ["/d", "/e", "/f"])
    assert names(layer) == ["d/new", "e", "f", "d/.wh..wh..opq", "e/.wh..wh..opq"]
    assert back(layer, ["/d", "/e", "/f"]) == diff


def test_replaced_and_deleted_are_told_apart(archives) -> None:
    diff = replaced("/d") + END
    assert names(layer_of(diff, ["/d"])) == ["d", "d/.wh..wh..opq", "d/.wh..wh..opq"]
    assert back(layer_of(diff, ["/d"]), ["/d"]) == diff
    plain = archives.pack([archives.directory("d")])
    assert back(layer_of(plain, ["/d"]), ["/d"]) == plain


def test_what_is_in_a_deleted_directory_needs_no_whiteout(archives) -> None:
    # It would make the directory again.
    assert names(layer_of(None, ["/a/b", "/a", "/a/c/d", "/a"])) == [".wh.a"]
    diff = archives.pack([archives.entry("a", b"now a file")])
    assert names(layer_of(diff, ["/a/b"])) == ["a"]


def test_whiteouts_and_empty_directories_come_back_whatever_stands_last(archives) -> None:
    for entries in ([archives.directory("d")], [archives.entry("e")], [archives.entry("e"), archives.directory("d")]):
        diff = archives.pack(entries)
        assert back(layer_of(diff, ["/x"]), ["/x"]) == diff


@pytest.mark.parametrize(
    ("diff", "deleted"),
    [
        ([("a/.wh.b", tarfile.REGTYPE, "")], []),
        ([(".wh..wh..opq", tarfile.REGTYPE, "")], []),
        ([(".wh.d/x", tarfile.REGTYPE, "")], []),
        ([("a", tarfile.REGTYPE, ""), ("b", tarfile.LNKTYPE, ".wh.a")], []),
        ([], ["/a/.wh.b"]),
        ([], ["/.wh.a/b"]),
    ],
)
def test_file_with_the_name_of_a_whiteout_is_refused(archives, diff, deleted) -> None:
    packed = archives.pack([archives.entry(name, type=kind, linkname=link) for name, kind, link in diff])
    with pytest.raises(Inexpressible, match=r"\.wh\..*layout 'single'"):
        layer_of(packed, deleted)


def test_symbolic_link_may_point_at_anything(archives) -> None:
    assert names(layer_of(archives.pack([archives.link("a", ".wh.b")]), [])) == ["a"]


def test_file_that_becomes_a_directory_is_refused(archives) -> None:
    for first in (archives.entry("d", b"content"), archives.entry("d")):
        with pytest.raises(Inexpressible, match="'d/' as one thing and then as another"):
            layer_of(archives.pack([first, archives.entry("d/", type=tarfile.DIRTYPE)]), [])


@pytest.mark.parametrize("cut", [1, 511, 513, 1023, 1100, 1536, 2560])
def test_cut_short_is_damaged(archives, cut) -> None:
    diff = archives.pack([archives.entry("a", b"x" * 1000), archives.entry("b")])
    with pytest.raises(ArchiveError):
        layer_of(diff[:cut], [])
    with pytest.raises(ArchiveError):
        back(layer_of(diff, [])[:cut], [])


def test_nothing_may_stand_behind_the_end(archives) -> None:
    with pytest.raises(ArchiveError, match="behind its end"):
        layer_of(archives.pack([archives.entry("a")]) + b"x" * 512, [])


def test_too_many_paths_are_refused(archives, monkeypatch) -> None:
    monkeypatch.setattr(_overlay, "MOST_LINKS", 3)
    with pytest.raises(ArchiveError, match="more than 3 paths"):
        layer_of(archives.pack([archives.entry("a/b/c/d")]), [])


# -- layers that were not made for this list ------------------------------------------------------------------


def test_list_and_whiteouts_must_say_the_same(archives) -> None:
    layer = layer_of(archives.pack([archives.entry("a")]), ["/x", "/y"])
    for other in ([], ["/x"], ["/y", "/x"], ["/x", "/y", "/z"]):
        with pytest.raises(ArchiveError, match="do not belong together"):
            back(layer, other)
    assert back(layer, ["/x", "/y", "/a"])


def test_whiteouts_of_others_have_no_place_beside_the_list(archives) -> None:
    layer = archives.pack([archives.entry(".wh.x")])
    for deleted in (["/x"], []):
        with pytest.raises(ArchiveError, match="do not belong together"):
            back(layer, deleted)


def test_of_a_path_that_comes_again_the_last_counts(archives) -> None:
    first, last = archives.entry("d/f", b"first"), archives.entry("d/f", b"last")
    open_directory, closed = (archives.entry("d", type=tarfile.DIRTYPE, mode=mode) for mode in (0o755, 0o700))
    layer = layer_of(archives.pack([open_directory, first, archives.entry("e"), closed, last]), [])
    assert layer == archives.pack([closed, archives.entry("e"), last])
    assert back(layer, []) == layer


@pytest.mark.parametrize("kinds", [("file", "directory"), ("directory", "file"), ("directory", "replaced")])
def test_path_that_comes_again_as_something_else_is_refused(archives, kinds) -> None:
    member = {
        "file": archives.pack([archives.entry("d", b"x")])[:1024],
        "directory": archives.pack([archives.directory("d")])[:512],
        "replaced": replaced("d"),
    }
    with pytest.raises(Inexpressible, match="as one thing and then as another"):
        layer_of(b"".join(member[kind] for kind in kinds) + END, [])


def test_link_to_a_file_that_comes_again_is_refused(archives) -> None:
    # It is one to the first of them, which a layer cannot have.
    link = archives.entry("g", type=tarfile.LNKTYPE, linkname="./f")
    first, last = archives.entry("f", b"first"), archives.entry("f", b"last")
    with pytest.raises(Inexpressible, match="links to './f', and then has another one"):
        layer_of(archives.pack([first, link, last]), [])
    assert names(layer_of(archives.pack([first, last, link]), [])) == ["f", "g"]


def test_headers_of_repeats_take_little_memory(archives, monkeypatch) -> None:
    monkeypatch.setattr(_overlay, "MOST_REPEATED", 5000)
    directory = archives.entry("d", type=tarfile.DIRTYPE, pax_headers={"comment": "x" * 2000})
    layer_of(archives.pack([directory] * 9), [])
    others = [archives.entry(name, type=tarfile.DIRTYPE, pax_headers={"comment": "x" * 2000}) for name in "ef"]
    with pytest.raises(ArchiveError, match="headers are more than 5000 bytes"):
        layer_of(archives.pack([directory, *others, directory, *others]), [])


def test_as_many_repeats_as_memory_allows(archives, monkeypatch) -> None:
    monkeypatch.setattr(_overlay, "MOST_REPEATS", 2)
    several = [archives.entry(str(number)) for number in range(3)]
    layer_of(archives.pack([*several, *several[:2]]), [])
    with pytest.raises(ArchiveError, match="more than 2 paths twice"):
        layer_of(archives.pack([*several, *several]), [])


# -- another engine's layer -----------------------------------------------------------------------------------


def foreign(archives, *entries: t.Any) -> tuple[bytes, list[str]]:
    form = ChangesOf()
    diff = b"".join(form.changes([archives.pack(list(entries))]))
    return diff + END, json.loads(form.deleted or b"[]")


def test_whiteouts_of_another_engine_become_the_list(archives) -> None:
    diff, deleted = foreign(archives, archives.entry("etc/.wh.old"), archives.entry("etc/new", b"x"))
    assert deleted == ["/etc/old"]
    assert diff == archives.pack([archives.entry("etc/new", b"x")])


def test_deleted_and_made_again_is_replaced(archives) -> None:
    directory = archives.directory("d")
    diff, deleted = foreign(archives, archives.entry(".wh.d"), directory, archives.entry("d/new"))
    assert deleted == []
    assert names(diff) == ["d", "d", "d/new"]
    with tarfile.open(fileobj=io.BytesIO(diff)) as tar:
        assert [info.type for info in tar] == [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.REGTYPE]
    assert foreign(archives, archives.entry(".wh.f"), archives.entry("f", b"x"))[1] == []
    assert foreign(archives, archives.entry("f", b"x"), archives.entry(".wh.f"))[1] == []


def test_opaque_directory_of_another_engine_is_replaced(archives) -> None:
    opaque = [archives.directory("d"), archives.entry("d/.wh.x"), archives.entry("d/.wh..wh..opq")]
    diff, deleted = foreign(archives, *opaque, archives.entry("d/new"))
    assert names(diff) == ["d", "d", "d/new"]
    assert deleted == ["/d/x"]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (["d/", "d/x", "d/.wh..wh..opq"], "elsewhere than behind its directory"),
        (["d/.wh..wh..opq"], "elsewhere than behind its directory"),
        (["d/", "d/.wh..wh..opq", "d/.wh..wh..opq2"], "not of the OCI"),
        ([".wh..wh.plnk"], "not of the OCI"),
        ([".wh."], "not of the OCI"),
        (["d/", ".wh.d"], "behind it that this is deleted"),
        ([".wh.d", "d/x"], "in a directory that it says is deleted"),
    ],
)
def test_what_podman_cannot_be_told_is_refused(archives, order, why) -> None:
    kinds = {True: tarfile.DIRTYPE, False: tarfile.REGTYPE}
    with pytest.raises(Inexpressible, match=why):
        foreign(archives, *(archives.entry(name, type=kinds[name.endswith("/")]) for name in order))


def test_deleted_names_must_be_text(archives) -> None:
    with pytest.raises(Inexpressible, match="not UTF-8"):
        foreign(archives, archives.entry(".wh.\udcff"))


def test_deleted_names_have_a_limit(archives, monkeypatch) -> None:
    monkeypatch.setattr(_overlay, "MOST_DELETED", 20)
    with pytest.raises(ArchiveError, match="deleted names"):
        foreign(archives, *(archives.entry(f".wh.{number}") for number in range(10)))


def test_deleted_names_have_a_number(archives, monkeypatch) -> None:
    monkeypatch.setattr(_overlay, "MOST_GONE", 9)
    with pytest.raises(ArchiveError, match="or 9 of them"):
        foreign(archives, *(archives.entry(f".wh.{number}") for number in range(10)))


# -- any changes ----------------------------------------------------------------------------------------------

PLACES = ["a", "b", "a/b", "a/c", "a/b/d", "c/e/f", "ü", "x" * 120, "c/.whale", "\udcfe"]


@st.composite
def changes(draw) -> tuple[bytes, list[str]]:
    """A diff as podman, or we, would write it: directories before what is in them, nothing below a file."""
    out, kinds = b"", {}
    for path in sorted(draw(st.sets(st.sampled_from(PLACES)))):
        if any(kinds.get(path[:at]) == "file" for at in range(len(path)) if path[at] == "/"):
            continue
        kind = draw(st.sampled_from(["file", "empty", "directory", "replaced", "link", "hard", "pipe"]))
        kinds[path] = "directory" if kind in ("directory", "replaced") else "file"
        if kind == "replaced":
            out += replaced(path)
            continue
        info = tarfile.TarInfo(path)
        info.mode, info.uid, info.gid = draw(st.sampled_from([0o4755, 0o600])), draw(st.integers(0, 2**31)), 7
        info.pax_headers = {"mtime": "1763719200.123456789"}
        if draw(st.booleans()):
            info.pax_headers["SCHILY.xattr.user.x"] = draw(st.sampled_from(["", "v=1\n", "\udcff"]))
        data = b""
        if kind == "file":
            data = draw(st.binary(min_size=1, max_size=1200))
        elif kind == "directory":
            info.type = tarfile.DIRTYPE
        elif kind in ("link", "hard"):
            info.type, info.linkname = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[kind], "a"
        elif kind == "pipe":
            info.type = tarfile.FIFOTYPE
        info.size = len(data)
        form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
        out += info.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)
    deleted = draw(st.lists(st.sampled_from([*PLACES[:-1], "gone", "a/gone", "a/b/gone", "gone/too"]), max_size=5))
    return out + END, [f"/{path}" for path in deleted]


@hypothesis.given(changes())
def test_any_changes_come_back_byte_by_byte(given) -> None:
    diff, deleted = given
    layer = layer_of(diff, deleted)
    assert back(layer, deleted) == diff


BASE = {"a": "/", "a/c": "base", "a/gone": "base", "a/b": "/", "a/b/gone": "base", "b": "base", "gone": "/"}
BASE = {**BASE, "gone/too": "base", "c": "/", "c/e": "/", "c/e/f": "base", "c/other": "base"}
Tree = dict[str, str]


def remove(tree: Tree, path: str) -> None:
    for name in [name for name in tree if name == path or name.startswith(f"{path}/")]:
        del tree[name]


def put(tree: Tree, info: tarfile.TarInfo) -> None:
    """As containers/storage unpacks: only a directory may stay where a directory comes."""
    parts = info.name.split("/")
    for end in range(1, len(parts)):
        if tree.get("/".join(parts[:end])) != "/":
            remove(tree, "/".join(parts[:end]))
            tree["/".join(parts[:end])] = "/"
    if not (info.isdir() and tree.get(info.name) == "/"):
        remove(tree, info.name)
    tree[info.name] = "/" if info.isdir() else "new"


def restored(diff: bytes, deleted: list[str]) -> Tree:
    """What podman's restore makes of its form."""
    tree = dict(BASE)
    with tarfile.open(fileobj=io.BytesIO(diff)) as tar:
        for info in tar:
            put(tree, info)
    for path in deleted:
        remove(tree, path.lstrip("/"))
    return tree


def mounted(layer: bytes) -> Tree:
    """What an overlay shows: whiteouts are about what is below, wherever in the tar they stand."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = list(tar)
    tree, upper = dict(BASE), {}
    for info in entries:
        folder, _slash, name = info.name.rpartition("/")
        if name == ".wh..wh..opq":
            kept = tree.get(folder)
            remove(tree, folder)
            if kept == "/":
                tree[folder] = kept
        elif name.startswith(".wh."):
            remove(tree, f"{folder}/{name[4:]}".lstrip("/"))
        else:
            put(upper, info)
    for name in sorted(upper):
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE if upper[name] == "/" else tarfile.REGTYPE
        put(tree, info)
    return tree


@hypothesis.given(changes())
@hypothesis.settings(max_examples=300)
def test_layer_on_its_base_is_what_a_restore_makes(given) -> None:
    diff, deleted = given
    with tarfile.open(fileobj=io.BytesIO(diff)) as tar:
        new = set(tar.getnames())
    # What was made again is deleted by podman's restore, and is not by the layer.
    deleted = [path for path in deleted if not any(name == path[1:] or name.startswith(f"{path[1:]}/") for name in new)]
    # An implicit parent of a deleted file is in no tree that podman restores.
    assert mounted(layer_of(diff, deleted)) == restored(diff, deleted)


@hypothesis.given(st.binary(max_size=1600), st.integers(0, 2200), changes())
def test_any_damage_is_told(noise, at, given) -> None:
    diff, deleted = given
    broken = diff[:at] + noise + diff[at + len(noise) :]
    for attempt in (lambda: layer_of(broken, deleted), lambda: back(broken, deleted)):
        with contextlib.suppress(ArchiveError):
            attempt()
