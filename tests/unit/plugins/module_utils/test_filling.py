# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import io
import json
import os
import pathlib
import tarfile

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _filling
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._filling import Filler, is_empty, read_directory

KEY = "1f" * 32
NAME = f"ferry-fill-{KEY[:12]}"


def unpacked(chunks) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {member.name: member for member in tar}


def test_everything_in_a_directory_is_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub").mkdir(mode=0o2750)
    (tmp_path / "sub").chmod(0o2750)
    (tmp_path / "f").write_text("data")
    (tmp_path / "f").chmod(0o4711)
    os.link(tmp_path / "f", tmp_path / "hard")
    (tmp_path / "soft").symlink_to("f")
    os.mkfifo(tmp_path / "pipe")
    os.setxattr(tmp_path / "f", "user.ferry", b"kept")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(50_000_000)
    chunks = list(read_directory(str(tmp_path)))
    assert sum(map(len, chunks)) < 1_000_000
    found = unpacked(chunks)
    assert found["."].isdir() and found["./sub"].mode == 0o2750
    one, other = sorted((found["./f"], found["./hard"]), key=lambda member: member.islnk())
    assert one.mode == 0o4711 and one.size == 4 and other.islnk() and other.linkname == one.name
    assert one.pax_headers["SCHILY.xattr.user.ferry"] == "kept"
    assert found["./soft"].linkname == "f" and found["./pipe"].isfifo()
    assert found["./holes"].size == 50_000_000


def test_directory_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FerryError, match="tar could not read .*/none: tar: .*No such file"):
        list(read_directory(str(tmp_path / "none")))


def test_host_without_tar(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_filling, "TAR", ("/no/such/tar",))
    with pytest.raises(FerryError, match="tar cannot be run on the source"):
        list(read_directory(str(tmp_path)))


def test_reader_that_is_left_ends_tar(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.write(os.urandom(8_000_000))
    reader = read_directory(str(tmp_path))
    next(reader)
    reader.close()


def test_empty_directories(tmp_path: pathlib.Path) -> None:
    assert is_empty(str(tmp_path))
    (tmp_path / "f").touch()
    assert not is_empty(str(tmp_path))


def test_attributes_that_podman_drops_are_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain", "listed", "own"):
        (tmp_path / name).touch()
    attributes = {"listed": ["user.a", "system.posix_acl_access"], "own": ["user.a", "security.capability"]}
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks=True: attributes.get(os.path.basename(path), []))
    assert _filling.lost_attributes(str(tmp_path)) == [str(tmp_path / "listed")]


def test_volumes_are_mounted_where_nothing_runs(libpod, client) -> None:
    libpod.on("POST /containers/create", {"Id": "new"})
    Filler(client, KEY, "image").make(["b", "a"], ["b"])
    spec = json.loads(libpod.request("POST /containers/create").body)
    assert spec["name"] == NAME and spec["image"] == "image" and spec["image_volume_mode"] == "ignore"
    assert [(volume["Name"], volume["Dest"], volume["IsAnonymous"]) for volume in spec["volumes"]] == [
        ("a", "/ferry/0", False),
        ("b", "/ferry/1", True),
    ]
    assert all(volume["Options"] == ["nocopy"] for volume in spec["volumes"])


def test_roots_get_their_owner_mode_and_time(libpod, client, tmp_path: pathlib.Path, inspect_json) -> None:
    libpod.on("POST /containers/create", {"Id": "new"})
    libpod.on(f"GET /containers/{NAME}/json", inspect_json("created"))
    libpod.on(f"PUT /containers/{KEY}/archive", 200)
    filler = Filler(client, KEY, "image")
    filler.make(["data"], [])
    tmp_path.chmod(0o1750)
    os.utime(tmp_path, (1, 1234567890))
    filler.set_roots({"data": str(tmp_path)})
    request = libpod.request(f"PUT /containers/{KEY}/archive")
    assert request.query == {"path": "/ferry/0", "copyUIDGID": "false"}
    (root,) = unpacked([request.body]).values()
    assert (root.name, root.mode, root.mtime, root.uid) == (".", 0o1750, 1234567890, os.getuid())
