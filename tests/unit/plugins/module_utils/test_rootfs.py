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
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._rootfs import (
    Changes,
    _from_disk,
    collect_changes,
    differs_from_image,
    host_lacks,
    list_changes,
)

MODIFIED, ADDED, DELETED = 0, 1, 2


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """The root of a container, and beside it what it must not reach."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("of the host")
    return tmp_path / "root"


def entries(root: pathlib.Path, *paths: str) -> list:
    return list(_from_disk(str(root), Changes(frozenset(paths), frozenset(), frozenset(), False), set()))


def found(root: pathlib.Path, *paths: str) -> dict[str, tarfile.TarInfo]:
    return {path: member.info for path, member in entries(root, *paths) if member is not None}


def contents(root: pathlib.Path, *paths: str) -> dict[str, bytes]:
    return {path: b"".join(member.chunks()) for path, member in entries(root, *paths) if member is not None}


def test_file_is_read_with_its_attributes(root) -> None:
    file = root / "etc" / "app.conf"
    file.write_bytes(b"changed" * 1000)
    file.chmod(0o4751)
    os.utime(file, (1, 1_234_567_890.5))
    (info,) = found(root, "/etc/app.conf").values()
    assert (info.type, info.mode, info.size, info.mtime) == (tarfile.REGTYPE, 0o4751, 7000, 1_234_567_890.5)
    assert (info.uid, info.gid) == (os.getuid(), os.getgid())
    assert contents(root, "/etc/app.conf") == {"/etc/app.conf": b"changed" * 1000}


def test_extended_attributes_go_along(root) -> None:
    file = root / "etc" / "app.conf"
    file.write_bytes(b"x")
    try:
        os.setxattr(file, "user.note", b"\x01\xff")
        os.setxattr(root / "etc", "user.note", b"directory")
    except OSError:
        pytest.skip("this file system has no extended attributes of users")
    infos = found(root, "/etc", "/etc/app.conf")
    assert infos["/etc/app.conf"].pax_headers["SCHILY.xattr.user.note"] == "\x01\udcff"
    assert infos["/etc"].pax_headers["SCHILY.xattr.user.note"] == "directory"


def test_directory_is_a_header(root) -> None:
    (root / "etc").chmod(0o1770)
    (info,) = found(root, "/etc").values()
    assert (info.type, info.mode, info.size) == (tarfile.DIRTYPE, 0o1770, 0)


def test_link_is_kept_as_a_link(root) -> None:
    (root / "etc" / "link").symlink_to("../../outside/secret")
    (info,) = found(root, "/etc/link").values()
    assert (info.type, info.linkname) == (tarfile.SYMTYPE, "../../outside/secret")
    assert contents(root, "/etc/link") == {"/etc/link": b""}


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
    assert list(found(root, "/etc/motd", "/etc/socket")) == ["/etc/motd"]
    # Left out, but not missed.
    assert [path for path, _member in entries(root, "/etc/motd", "/etc/socket")] == ["/etc/motd", "/etc/socket"]


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
    assert list(found(root, path, "/etc/motd")) == ["/etc/motd"]


def test_files_that_are_one_stay_one(root) -> None:
    (root / "etc" / "a").write_text("x")
    os.link(root / "etc" / "a", root / "etc" / "b")
    infos = found(root, "/etc/b", "/etc/a")
    assert infos["/etc/a"].type == tarfile.REGTYPE
    assert (infos["/etc/b"].type, infos["/etc/b"].linkname) == (tarfile.LNKTYPE, "etc/a")


def test_directories_come_before_what_is_in_them(root) -> None:
    (root / "etc" / "motd").write_text("x")
    assert [path for path, _member in entries(root, "/etc/motd", "/etc")] == ["/etc", "/etc/motd"]


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


def test_changes_are_told_apart(client, libpod, container) -> None:
    changed(libpod, container, ("/etc", MODIFIED), ("/", MODIFIED), ("/var/new", ADDED), ("/bin/old", DELETED))
    sets = (frozenset({path}) for path in ("/etc", "/var/new", "/bin/old"))
    assert list_changes(client, container) == Changes(*sets, False)


@pytest.mark.parametrize("kind", [MODIFIED, ADDED, DELETED])
def test_name_that_is_no_text_cannot_be_carried_over(client, libpod, container, kind) -> None:
    changed(libpod, container, ("/etc/caf\ufffd", kind))
    assert list_changes(client, container).unnamed
    with pytest.raises(ArchiveError, match="whose names are not UTF-8"):
        collect_changes(client, container, io.BytesIO())


@pytest.fixture
def mounted(libpod, container, root):
    """The container's root can be seen from here."""
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, f"{root}\n"))
    libpod.on(f"POST /containers/{container.id}/unmount", 204)
    libpod.on(f"GET /containers/{container.id}/json", container.raw)
    return root


def read(additions: RootfsAdditions) -> list:
    archive = io.BytesIO(b"".join(additions.chunks()) + bytes(1024))
    return [(member.name, b"".join(member.chunks())) for member in members(archive)]


def test_modified_files_are_read_from_the_mounted_root(client, libpod, container, mounted) -> None:
    (mounted / "etc" / "motd").write_text("hello")
    changed(libpod, container, ("/etc", MODIFIED), ("/etc/motd", MODIFIED), ("/etc/new", ADDED), ("/bin", DELETED))
    additions = collect_changes(client, container, io.BytesIO())
    assert (additions.paths, additions.made_again) == ({"/etc", "/etc/motd"}, set())
    assert read(additions) == [("etc", b""), ("etc/motd", b"hello")]
    assert libpod.seen[-1] == f"POST /containers/{container.id}/unmount"


def test_directory_that_was_made_again_is_there(client, libpod, container, mounted) -> None:
    changed(libpod, container, ("/etc", DELETED), ("/bin", DELETED))
    additions = collect_changes(client, container, io.BytesIO())
    assert additions.made_again == {"/etc"}


def test_directories_of_the_containers_layer_keep_their_owners(
    client, libpod, container, make_container, mounted, tmp_path
) -> None:
    """Of one whose owner alone changed podman says nothing."""
    for name in ("etc", "development", "dev/shm", "run/lock", "etc/deep"):
        (tmp_path / "upper" / name).mkdir(parents=True, exist_ok=True)
        (mounted / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "upper" / "link").symlink_to("etc")
    changed(libpod, container)
    container = make_container("exited", GraphDriver={"Data": {"UpperDir": str(tmp_path / "upper")}})
    additions = collect_changes(client, container, io.BytesIO())
    assert additions.paths == {"/etc", "/etc/deep", "/development"}


def test_modified_file_that_cannot_be_found_is_missed(client, libpod, container, mounted) -> None:
    changed(libpod, container, ("/etc/gone", MODIFIED))
    with pytest.raises(ArchiveError, match="cannot be found: /etc/gone"):
        collect_changes(client, container, io.BytesIO())


def test_file_that_a_running_container_removed_meanwhile_is_not_missed(
    client, libpod, container, mounted, inspect_json
) -> None:
    changed(libpod, container, ("/etc/gone", MODIFIED))
    libpod.on(f"GET /containers/{container.id}/json", inspect_json())
    assert collect_changes(client, container, io.BytesIO()).paths == set()


def exported(archives) -> bytes:
    return archives.pack(
        [
            archives.directory("etc"),
            archives.entry("etc/motd", b"hello", uid=1000),
            archives.entry("etc/passwd", b"root"),
        ]
    )


@pytest.fixture
def unseen(libpod, container, mounted):
    """The container's root cannot be seen from here."""
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, "/nonexistent/merged"))


def test_root_that_cannot_be_seen_from_here_is_read_from_an_export(client, libpod, container, archives, unseen) -> None:
    changed(libpod, container, ("/etc/motd", MODIFIED))
    libpod.on(f"GET /containers/{container.id}/export", libpod.archive(exported(archives)))
    additions = collect_changes(client, container, io.BytesIO())
    (member,) = members(io.BytesIO(b"".join(additions.chunks()) + bytes(1024)))
    assert (member.name, member.info.uid) == ("etc/motd", 1000)


def test_export_is_not_read_in_vain(client, libpod, container, unseen) -> None:
    changed(libpod, container, ("/var/new", ADDED))
    assert collect_changes(client, container, io.BytesIO()).paths == set()
    assert f"GET /containers/{container.id}/export" not in libpod.seen


def test_root_of_another_host_is_not_mounted(libpod, forwarded, container, archives) -> None:
    remote = forwarded(libpod)
    changed(libpod, container, ("/etc/motd", MODIFIED))
    libpod.on(f"GET /containers/{container.id}/export", libpod.archive(exported(archives)))
    assert collect_changes(remote, container, io.BytesIO()).paths == {"/etc/motd"}
    assert [request for request in libpod.seen if request.endswith("mount")] == []


def test_container_is_unmounted_after_a_failure(client, libpod, container, unseen) -> None:
    changed(libpod, container, ("/etc/motd", MODIFIED))
    libpod.on(f"GET /containers/{container.id}/export", libpod.error(500, "no"))
    with pytest.raises(ApiError, match="Reading the files of container web failed: no"):
        collect_changes(client, container, io.BytesIO())
    assert libpod.seen[-1] == f"POST /containers/{container.id}/unmount"


def test_container_is_unmounted_when_the_disk_is_full(
    client, libpod, container, mounted, tmp_path, file_size_limit
) -> None:
    (mounted / "etc" / "big").write_bytes(bytes(300_000))
    changed(libpod, container, ("/etc/big", MODIFIED))
    file_size_limit(100_000)
    with open(tmp_path / "spool", "w+b", buffering=0) as spool:
        with pytest.raises(OSError, match="File too large"):
            collect_changes(client, container, spool)
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


# -- is there anything of its own? ------------------------------------------------------------------------------


@pytest.fixture
def layered(libpod, client, tmp_path, make_container):
    """A container with a layer over one of its image, and what podman says of it."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for name in ("etc", "opt"):
        (lower / name).mkdir(parents=True)
    upper.mkdir()

    def differs(*changes: tuple[str, int], points: tuple[str, ...] = ()) -> bool:
        listed = [{"Path": path, "Kind": kind} for path, kind in changes]
        container = make_container("exited", GraphDriver={"Data": {"UpperDir": str(upper), "LowerDir": str(lower)}})
        libpod.on(f"GET /containers/{container.id}/changes", listed)
        return differs_from_image(client, container, points)

    differs.lower, differs.upper = lower, upper
    return differs


def test_nothing_changed(layered):
    assert not layered()


def test_what_podman_makes_is_no_change(layered):
    (layered.upper / "etc").mkdir()
    (layered.upper / "srv/data").mkdir(parents=True)
    changes = [
        ("/etc", 0),
        ("/etc/hosts", 1),
        ("/etc/mtab", 1),
        ("/run/.containerenv", 1),
        ("/srv", 1),
        ("/srv/data", 1),
    ]
    (layered.upper / "run").mkdir()
    (layered.lower / "run").mkdir()
    assert not layered(*changes, ("/run", 0), points=("/srv/data",))


@pytest.mark.parametrize(
    "change", [("/etc/hosts", 0), ("/etc/passwd", 0), ("/opt/new", 1), ("/opt", 2), ("/srv/other", 1), ("/x\ufffd", 1)]
)
def test_what_the_container_makes_is_one(layered, change):
    assert layered(change, points=("/srv/data",))


def test_directory_whose_mode_alone_changed_is_one(layered):
    """Podman does not even list it."""
    (layered.upper / "opt").mkdir()
    assert not layered()
    (layered.upper / "opt").chmod(0o700)
    assert layered()


def test_root_whose_mode_changed_is_one(layered):
    layered.upper.chmod(0o700)
    assert layered()


def test_layer_that_cannot_be_seen_is_one(libpod, client, make_container):
    container = make_container("exited")
    libpod.on(f"GET /containers/{container.id}/changes", [])
    assert differs_from_image(client, container, ())
