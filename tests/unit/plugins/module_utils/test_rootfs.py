# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import socket
import tarfile

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._archive import RootfsAdditions, members
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._rootfs import (
    _from_disk,
    collect_modified,
    host_lacks,
    modified_paths,
)

MODIFIED, ADDED, DELETED = 0, 1, 2


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """The root of a container, and beside it what it must not reach."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("of the host")
    return tmp_path / "root"


def found(root: pathlib.Path, *paths: str) -> dict[str, tarfile.TarInfo]:
    return {name: member.info for name, member in _from_disk(str(root), list(paths))}


def contents(root: pathlib.Path, *paths: str) -> dict[str, bytes]:
    return {name: b"".join(member.chunks()) for name, member in _from_disk(str(root), list(paths))}


def test_file_is_read_with_its_attributes(root) -> None:
    file = root / "etc" / "app.conf"
    file.write_bytes(b"changed" * 1000)
    file.chmod(0o4751)
    os.utime(file, (1, 1_234_567_890.5))
    (info,) = found(root, "/etc/app.conf").values()
    assert (info.type, info.mode, info.size, info.mtime) == (tarfile.REGTYPE, 0o4751, 7000, 1_234_567_890.5)
    assert (info.uid, info.gid) == (os.getuid(), os.getgid())
    assert contents(root, "/etc/app.conf") == {"etc/app.conf": b"changed" * 1000}


def test_extended_attributes_go_along(root) -> None:
    file = root / "etc" / "app.conf"
    file.write_bytes(b"x")
    try:
        os.setxattr(file, "user.note", b"\x01\xff")
        os.setxattr(root / "etc", "user.note", b"directory")
    except OSError:
        pytest.skip("this file system has no extended attributes of users")
    infos = found(root, "/etc", "/etc/app.conf")
    assert infos["etc/app.conf"].pax_headers["SCHILY.xattr.user.note"] == "\x01\udcff"
    assert infos["etc"].pax_headers["SCHILY.xattr.user.note"] == "directory"


def test_directory_is_a_header(root) -> None:
    (root / "etc").chmod(0o1770)
    (info,) = found(root, "/etc").values()
    assert (info.type, info.mode, info.size) == (tarfile.DIRTYPE, 0o1770, 0)


def test_link_is_kept_as_a_link(root) -> None:
    (root / "etc" / "link").symlink_to("../../outside/secret")
    (info,) = found(root, "/etc/link").values()
    assert (info.type, info.linkname) == (tarfile.SYMTYPE, "../../outside/secret")
    assert contents(root, "/etc/link") == {"etc/link": b""}


def test_pipe_is_kept_as_a_pipe(root) -> None:
    os.mkfifo(root / "etc" / "pipe", 0o620)
    os.chmod(root / "etc" / "pipe", 0o620)
    (info,) = found(root, "/etc/pipe").values()
    assert (info.type, info.mode) == (tarfile.FIFOTYPE, 0o620)


def test_socket_is_left_out_as_podman_does(root, monkeypatch) -> None:
    monkeypatch.chdir(root / "etc")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("socket")
    (root / "etc" / "motd").write_text("x")
    assert list(found(root, "/etc/motd", "/etc/socket")) == ["etc/motd"]


@pytest.mark.parametrize("target", ["../outside", "/", "."])
def test_link_among_the_directories_leads_nowhere(root, target) -> None:
    (root / "data").symlink_to(target)
    (root / "secret").write_text("of the container")
    assert found(root, "/data/secret", "/data/etc") == {}


def test_absolute_link_to_the_host_leads_nowhere(root, tmp_path) -> None:
    (root / "data").symlink_to(tmp_path / "outside")
    assert found(root, "/data/secret") == {}


@pytest.mark.parametrize("path", ["/etc/gone", "/gone/too", "/etc/motd/below"])
def test_what_vanished_is_skipped(root, path) -> None:
    (root / "etc" / "motd").write_text("x")
    assert list(found(root, path, "/etc/motd")) == ["etc/motd"]


def test_no_descriptors_stay_open(root) -> None:
    (root / "etc" / "motd").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    contents(root, "/etc", "/etc/motd", "/etc/gone", "/gone/too")
    assert len(os.listdir("/proc/self/fd")) == before


# -- what the service says ------------------------------------------------------------------------------------


@pytest.fixture
def container(make_container):
    return make_container("exited")


def changed(libpod, container, *changes: tuple[str, int]) -> None:
    listed = [{"Path": path, "Kind": kind} for path, kind in changes]
    libpod.on(f"GET /containers/{container.id}/changes", listed)


def test_modified_paths_are_those_of_the_image_parents_first(client, libpod, container) -> None:
    changed(
        libpod,
        container,
        ("/etc/b", MODIFIED),
        ("/", MODIFIED),
        ("/etc", MODIFIED),
        ("/var/new", ADDED),
        ("/bin/old", DELETED),
    )
    assert modified_paths(client, container) == ["/etc", "/etc/b"]


def test_container_without_changes_is_not_mounted(client, libpod, container) -> None:
    changed(libpod, container, ("/var/new", ADDED))
    assert collect_modified(client, container, io.BytesIO()).names == []
    assert libpod.seen == [f"GET /containers/{container.id}/changes"]


def test_modified_files_are_read_from_the_mounted_root(client, libpod, container, root) -> None:
    (root / "etc" / "motd").write_text("hello")
    changed(libpod, container, ("/etc", MODIFIED), ("/etc/motd", MODIFIED), ("/etc/gone", MODIFIED))
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, f"{root}\n"))
    libpod.on(f"POST /containers/{container.id}/unmount", 204)
    additions = collect_modified(client, container, io.BytesIO())
    assert additions.names == ["etc", "etc/motd"]
    read = [
        (member.name, b"".join(member.chunks()))
        for member in members(io.BytesIO(b"".join(additions.chunks()) + bytes(1024)))
    ]
    assert read == [("etc", b""), ("etc/motd", b"hello")]
    assert libpod.seen[-1] == f"POST /containers/{container.id}/unmount"


def exported(archives) -> bytes:
    return archives.pack(
        [
            archives.directory("etc"),
            archives.entry("etc/motd", b"hello", uid=1000),
            archives.entry("etc/passwd", b"root"),
        ]
    )


def test_root_that_cannot_be_seen_from_here_is_read_from_an_export(client, libpod, container, archives) -> None:
    changed(libpod, container, ("/etc/motd", MODIFIED))
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, "/nonexistent/merged"))
    libpod.on(f"POST /containers/{container.id}/unmount", 204)
    libpod.on(f"GET /containers/{container.id}/export", libpod.archive(exported(archives)))
    additions = collect_modified(client, container, io.BytesIO())
    (member,) = members(io.BytesIO(b"".join(additions.chunks()) + bytes(1024)))
    assert (member.name, member.info.uid) == ("etc/motd", 1000)


def test_root_of_another_host_is_not_mounted(libpod, forwarded, container, archives) -> None:
    remote = forwarded(libpod)
    changed(libpod, container, ("/etc/motd", MODIFIED))
    libpod.on(f"GET /containers/{container.id}/export", libpod.archive(exported(archives)))
    assert collect_modified(remote, container, io.BytesIO()).names == ["etc/motd"]
    assert [request for request in libpod.seen if request.endswith("mount")] == []


def test_container_is_unmounted_after_a_failure(client, libpod, container, archives) -> None:
    changed(libpod, container, ("/etc/motd", MODIFIED))
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, "/nonexistent/merged"))
    libpod.on(f"POST /containers/{container.id}/unmount", 204)
    libpod.on(f"GET /containers/{container.id}/export", libpod.error(500, "no"))
    with pytest.raises(ApiError, match="Reading the files of container web failed: no"):
        collect_modified(client, container, io.BytesIO())
    assert libpod.seen[-1] == f"POST /containers/{container.id}/unmount"


def test_full_disk_under_the_copies_is_told(client, libpod, container, root, tmp_path, file_size_limit) -> None:
    (root / "etc" / "big").write_bytes(bytes(300_000))
    changed(libpod, container, ("/etc/big", MODIFIED))
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, str(root)))
    libpod.on(f"POST /containers/{container.id}/unmount", 204)
    file_size_limit(100_000)
    with open(tmp_path / "spool", "w+b", buffering=0) as spool:
        with pytest.raises((FerryError, OSError), match="File too large"):
            collect_modified(client, container, spool)
    assert libpod.seen[-1] == f"POST /containers/{container.id}/unmount"


def answered_stat(libpod, container, mode: int) -> None:
    stat = base64.b64encode(json.dumps({"mode": mode}).encode()).decode()
    libpod.on(f"HEAD /containers/{container.id}/archive", (200, b"", {"X-Docker-Container-Path-Stat": stat}))


def test_modified_file_that_the_host_lacks_is_dropped_by_podman(client, libpod, container, tmp_path) -> None:
    (tmp_path / "here").write_text("x")
    answered_stat(libpod, container, 0o644)
    absent, here = "/nonexistent/app.conf", str(tmp_path / "here")
    assert host_lacks(client, container, [absent, here]) == [absent]


def test_file_that_is_a_directory_on_the_host_is_dropped_by_podman(client, libpod, container, tmp_path) -> None:
    answered_stat(libpod, container, 0o644)
    assert host_lacks(client, container, [str(tmp_path)]) == [str(tmp_path)]


def test_directories_are_never_missed(client, libpod, container) -> None:
    answered_stat(libpod, container, 1 << 31 | 0o755)
    assert host_lacks(client, container, ["/nonexistent"]) == []


def test_additions_take_what_comes_from_the_disk(root) -> None:
    (root / "etc" / "motd").write_text("hello")
    (root / "etc" / "link").symlink_to("motd")
    additions = RootfsAdditions(io.BytesIO())
    for name, member in _from_disk(str(root), ["/etc", "/etc/link", "/etc/motd"]):
        additions.add(name, member)
    archive = b"".join(additions.chunks()) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert [(info.name, info.type) for info in tar] == [
            ("etc", tarfile.DIRTYPE),
            ("etc/link", tarfile.SYMTYPE),
            ("etc/motd", tarfile.REGTYPE),
        ]
    assert additions.size == len(archive) - 1024
