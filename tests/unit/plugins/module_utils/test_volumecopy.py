# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import io
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import types

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._volumecopy import (
    Fingerprints,
    VolumeCopy,
    can_be_copied,
    delta,
    read_volume,
)

SIZE = 3 * 1024 * 1024 + 5


class Copy:
    """A directory, and what has gone of it elsewhere."""

    def __init__(self, place: pathlib.Path) -> None:
        self.here, self.there = place / "here", place / "there"
        for each in (self.here, self.there):
            each.mkdir()
        self.before = Fingerprints()

    def first(self) -> None:
        self._unpack(b"".join(self.before.taken(read_volume(str(self.here)))))

    def again(self) -> list[str]:
        """What was written again."""
        now = Fingerprints()
        for _chunk in now.taken(read_volume(str(self.here))):
            pass
        found = delta(self.before, now)
        names = b"".join(os.fsencode(name) + b"\0" for name in found.gone)
        subprocess.run(["xargs", "-0", "-r", "rm", "-rf", "--"], cwd=self.there, input=names, check=True)
        if found.again:
            self._unpack(b"".join(read_volume(str(self.here), found.again)))
        return found.again

    def _unpack(self, tar: bytes) -> None:
        command = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--numeric-owner", f"--directory={self.there}"]
        subprocess.run(command, input=tar, check=True)


def tree(top: pathlib.Path) -> dict[str, object]:
    """All that a directory has; names of one file share a number."""
    found: dict[str, object] = {}
    numbers: dict[int, int] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        number = numbers.setdefault(status.st_ino, len(numbers))
        links = None if path.is_dir() and not path.is_symlink() else (number, status.st_nlink)
        names = () if path.is_symlink() else sorted(os.listxattr(path))
        found[str(path.relative_to(top))] = (status.st_mode, status.st_mtime_ns // 1_000_000, content, links, names)
    return found


@pytest.fixture
def copy(tmp_path) -> Copy:
    made = Copy(tmp_path)
    (made.here / "large").write_bytes(os.urandom(SIZE))
    (made.here / "deep/er").mkdir(parents=True)
    (made.here / "deep/er/file").write_text("old")
    (made.here / "deep/one").write_text("shared")
    os.link(made.here / "deep/one", made.here / "other")
    (made.here / "soft").symlink_to("large")
    (made.here / "kept").mkdir()
    os.setxattr(made.here / "kept", "user.a", b"b")
    (made.here / "kept/file").write_text("kept")
    os.mkfifo(made.here / "pipe")
    return made


def rewrite_in_place(here: pathlib.Path) -> None:
    """With the size and the times that it had."""
    path, status = here / "large", (here / "large").stat()
    with open(path, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"changed")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def with_hole(path: pathlib.Path) -> None:
    path.write_text("begin")
    os.truncate(path, SIZE)


CHANGES = {
    "content alone": (rewrite_in_place, {"large"}),
    "mode": (lambda here: (here / "large").chmod(0o600), {"large"}),
    "time": (lambda here: os.utime(here / "large", (1, 1)), {"large"}),
    "new file": (lambda here: (here / "deep/er/new").write_text("new"), {"deep/er/new"}),
    "new empty directory": (lambda here: (here / "deep/empty").mkdir(), {"deep/empty"}),
    "removed file": (lambda here: (here / "deep/er/file").unlink(), set()),
    "removed directory": (lambda here: shutil.rmtree(here / "deep/er"), set()),
    "file to directory": (lambda here: [(here / "large").unlink(), (here / "large").mkdir()], {"large"}),
    "directory to file": (
        lambda here: [shutil.rmtree(here / "deep/er"), (here / "deep/er").write_text("")],
        {"deep/er"},
    ),
    "directory to link": (
        lambda here: [shutil.rmtree(here / "deep/er"), (here / "deep/er").symlink_to("/")],
        {"deep/er"},
    ),
    "link elsewhere": (lambda here: [(here / "soft").unlink(), (here / "soft").symlink_to("other")], {"soft"}),
    "link to file": (lambda here: [(here / "soft").unlink(), (here / "soft").write_text("x")], {"soft"}),
    "written by one of two names": (lambda here: (here / "other").write_text("both"), {"other", "deep/one"}),
    "second name of a file": (lambda here: os.link(here / "large", here / "second"), {"second", "large"}),
    "names that part": (lambda here: [(here / "other").unlink(), (here / "other").write_text("alone")], None),
    "renamed": (lambda here: (here / "large").rename(here / "deep/large"), {"deep/large"}),
    "renamed directory": (lambda here: (here / "deep/er").rename(here / "er"), {"er", "er/file"}),
    "odd names": (lambda here: [(here / name).write_text(name) for name in ("-rf", "a\nb", "*", "..c")], None),
    "no UTF-8": (lambda here: pathlib.Path(os.fsdecode(os.fsencode(here) + b"/\xff")).write_text("x"), None),
    "attribute of a directory": (lambda here: os.setxattr(here / "deep/er", "user.a", b"b"), {"deep/er"}),
    "attribute that is gone": (lambda here: os.removexattr(here / "kept", "user.a"), {"kept", "kept/file"}),
    "hole in an odd name": (lambda here: with_hole(here / "größe.db"), {"größe.db"}),
    "hole": (lambda here: os.truncate(here / "large", SIZE * 4), {"large"}),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_has_changed_goes_again_and_nothing_else(copy, kind) -> None:
    change, written = CHANGES[kind]
    copy.first()
    assert tree(copy.there) == tree(copy.here)
    change(copy.here)
    again = {name for name in copy.again() if not (copy.here / name).is_dir() or (written and name[2:] in written)}
    assert tree(copy.there) == tree(copy.here)
    assert written is None or {name[2:] for name in again} == written


def test_nothing_goes_again_where_nothing_has_changed(copy) -> None:
    copy.first()
    assert copy.again() == []


def test_what_was_sent_is_compared_not_sizes_and_times(copy) -> None:
    (copy.here / "deep/er/file").write_text("two")
    os.utime(copy.here / "deep/er/file", (1, 1))
    copy.first()
    (copy.here / "deep/er/file").write_text("old")
    os.utime(copy.here / "deep/er/file", (1, 1))
    assert "./deep/er/file" in copy.again()
    assert tree(copy.there) == tree(copy.here)


@pytest.mark.parametrize("seed", range(12))
def test_any_changes_arrive(copy, seed) -> None:
    chance = random.Random(seed)
    copy.first()
    for _turn in range(40):
        paths = [path for path in copy.here.rglob("*") if path.name != "pipe"]
        any_change(chance, copy.here, paths)
    copy.again()
    assert tree(copy.there) == tree(copy.here)


def any_change(chance: random.Random, top: pathlib.Path, paths: list[pathlib.Path]) -> None:
    directories = [top, *(path for path in paths if path.is_dir() and not path.is_symlink())]
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    new = chance.choice(directories) / f"{chance.randrange(6)}"
    action = chance.randrange(6)
    if action == 0 and files:
        chance.choice(files).write_text(str(chance.random()))
    elif action == 1 and not os.path.lexists(new):
        new.mkdir()
    elif action == 2 and not new.is_dir():
        new.write_text(str(chance.random()))
    elif action == 3 and files and not os.path.lexists(new):
        os.link(chance.choice(files), new)
    elif action == 4 and paths:
        gone = chance.choice(paths)
        shutil.rmtree(gone) if gone.is_dir() and not gone.is_symlink() else gone.unlink()
    elif action == 5 and paths and not os.path.lexists(new):
        moved = chance.choice(paths)
        if moved not in new.parents:
            moved.rename(new)


def test_memory_does_not_grow_with_a_file(tmp_path) -> None:
    passed = []
    (tmp_path / "large").write_bytes(bytes(range(256)) * 40_000)
    prints = Fingerprints()
    most = 0
    for chunk in prints.taken(read_volume(str(tmp_path))):
        passed.append(len(chunk))
        most = max(most, len(chunk))
    assert sum(passed) > 10_000_000
    assert most <= 1024 * 1024


@pytest.mark.parametrize("cut", [700, 1_500_000])
def test_tar_that_is_cut_short_is_told(tmp_path, cut) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    whole = b"".join(read_volume(str(tmp_path)))
    with pytest.raises(FerryError, match="cut short"):
        list(Fingerprints().taken([whole[:cut]]))


def test_what_comes_behind_the_end_is_told(tmp_path) -> None:
    whole = b"".join(read_volume(str(tmp_path)))
    with pytest.raises(FerryError, match="behind its end"):
        list(Fingerprints().taken([whole, b"x" * 512]))


def test_link_with_several_names_is_told(copy) -> None:
    """podman would make a second name of the file that it leads to."""
    assert can_be_copied({"v": {"Mountpoint": str(copy.here)}})
    os.link(copy.here / "soft", copy.here / "twice", follow_symlinks=False)
    assert not can_be_copied({"v": {"Mountpoint": str(copy.here)}})
    with pytest.raises(FerryError, match="several names"):
        copy.first()


def test_name_that_is_there_twice_is_told(tmp_path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo("./a")
            info.type, info.linkname = kind, "/etc" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info)
    with pytest.raises(FerryError, match="several"):
        list(Fingerprints().taken([buffer.getvalue()]))


def test_attribute_that_the_root_has_lost_is_told(copy) -> None:
    os.setxattr(copy.here, "user.a", b"b")
    copy.first()
    os.removexattr(copy.here, "user.a")
    with pytest.raises(FerryError, match="root of a volume"):
        copy.again()


class There:
    """A destination that has volumes, and makes them."""

    def __init__(self, *names: str, fails: str = "") -> None:
        self.names, self.fails = set(names), fails

    def volume_names(self) -> set[str]:
        return set(self.names)

    def create_volume(self, volume: dict[str, str]) -> None:
        if volume["Name"] == self.fails:
            raise ApiError("Creating it failed.", status=500, cause="volume already exists")
        self.names.add(volume["Name"])


@pytest.mark.parametrize(
    ("there", "claims"),
    [(There("b"), []), (There(fails="a"), [["a"], []]), (There(fails="b"), [["a"], ["a", "b"], ["a"]])],
)
def test_volume_of_somebody_else_is_never_claimed_for_long(there, claims, make_container) -> None:
    claimed: list[list[str]] = []
    volumes = {name: {"Name": name, "Mountpoint": "/nonexistent"} for name in ("a", "b")}
    copy = VolumeCopy(there, make_container(), volumes, None, claimed.append)
    with pytest.raises(FerryError):
        copy.prepare()
    assert claimed == claims


class Kept(There):
    """One that still has what was sent, or not."""

    transport = types.SimpleNamespace(forward=None)
    age, holds = "then", True

    def volumes(self) -> list[dict[str, str]]:
        return [{"Name": "a", "CreatedAt": self.age}, {"Name": "another", "CreatedAt": "then"}]

    def find_container(self, name: str) -> str | None:
        return name if self.holds else None


@pytest.mark.parametrize(
    ("changes", "lost"),
    [({}, None), ({"age": "now"}, "removed"), ({"holds": False}, "removed"), ({"transport": "other"}, "connection")],
)
def test_what_was_sent_must_still_be_there(changes, lost, make_container) -> None:
    there = Kept()
    copy = VolumeCopy(there, make_container(), {"a": {}}, None, lambda _names: None)
    copy._made = {"a": "then"}
    for name, value in changes.items():
        setattr(there, name, types.SimpleNamespace(forward=value) if name == "transport" else value)
    if lost is None:
        copy.require()
        return
    with pytest.raises(FerryError, match=lost):
        copy.require()


@pytest.mark.parametrize(
    ("changes", "can"),
    [
        ({}, True),
        ({"Driver": "local"}, True),
        ({"Driver": "nfs"}, False),
        ({"Options": {"type": "tmpfs"}}, False),
        ({"Mountpoint": ""}, False),
        ({"Mountpoint": "/nonexistent"}, False),
    ],
)
def test_volumes_that_stand_for_something_else_go_in_the_archive(tmp_path, changes, can) -> None:
    assert can_be_copied({"v": {"Mountpoint": str(tmp_path), **changes}}) is can
