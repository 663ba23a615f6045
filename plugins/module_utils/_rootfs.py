# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Files of the image that a container modified, and that podman's export leaves out.

podman asks whether a modified path exists on the *host* before it archives it, and drops it in silence if it does
not (``CRCreateRootFsDiffTar`` in pkg/checkpoint/crutils/checkpoint_restore_utils.go, every version). It also keeps
neither owner nor mode of modified directories. Both come back here. The API's copy call is of no use for it: it
answers with root as the owner of everything.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import typing as t
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils._archive import Member, RootfsAdditions, members
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

MODIFIED = 0
XATTR = "SCHILY.xattr."
"""What Go's archive/tar and containers/storage call extended attributes in a tar."""


def modified_paths(client: LibpodClient, container: Container) -> list[str]:
    """Absolute paths of the image's files and directories that differ, parents first."""
    changes = client.changes(container)
    return sorted(change["Path"] for change in changes if change["Kind"] == MODIFIED and change["Path"] != "/")


def collect_modified(client: LibpodClient, container: Container, spool: t.IO[bytes]) -> RootfsAdditions:
    """Read every modified file, and the header of every modified directory, from the container.

    :param container: best a stopped one, so that nothing changes meanwhile.
    :param spool: an open file that takes the copies.
    :raises ApiError: if the container cannot be read.
    """
    additions = RootfsAdditions(spool)
    paths = modified_paths(client, container)
    if not paths:
        return additions
    with _mounted(client, container) as root:
        entries = _from_disk(root, paths) if root else _from_export(client, container, paths)
        for name, member in entries:
            additions.add(name, member)
    return additions


@contextlib.contextmanager
def _mounted(client: LibpodClient, container: Container) -> Iterator[str | None]:
    """The container's root on this host; None where the service's mounts cannot be seen from here."""
    if not client.transport.is_local:
        yield None
        return
    root = client.mount(container)
    try:
        yield root if os.path.isdir(root) and os.listdir(root) else None
    finally:
        client.unmount(container)


def _from_disk(root: str, paths: list[str]) -> Iterator[tuple[str, Member]]:
    base = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in paths:
            # One that still runs may have removed it since; podman then has it among the deleted ones.
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                _parent(base, path) as (parent, name),
            ):
                member = _member(parent, name)
                if member is not None:
                    yield path.lstrip("/"), member
    finally:
        os.close(base)


@contextlib.contextmanager
def _parent(base: int, path: str) -> Iterator[tuple[int, str]]:
    """Open the directory of a path step by step: a link inside a container must not lead out of it."""
    *directories, name = path.strip("/").split("/")
    current = os.dup(base)
    try:
        for directory in directories:
            deeper = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = deeper
        yield current, name
    finally:
        os.close(current)


def _member(parent: int, name: str) -> Member | None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISSOCK(status.st_mode):
        # A tar has no form for it; podman leaves it out, and CRIU makes it anew.
        return None
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.mtime = (
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime,
    )
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
        return Member(info, None)
    if stat.S_ISREG(status.st_mode):
        file = open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent), "rb")
        info.size = status.st_size
        info.pax_headers = _extended_attributes(file.fileno())
        return Member(info, file)
    return Member(_special(info, status, parent, name), None)


def _special(info: tarfile.TarInfo, status: os.stat_result, parent: int, name: str) -> tarfile.TarInfo:
    """Directories, devices and named pipes: a header is all there is."""
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            info.pax_headers = _extended_attributes(descriptor)
        finally:
            os.close(descriptor)
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
    else:
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return info


def _extended_attributes(descriptor: int) -> dict[str, str]:
    found = {}
    with contextlib.suppress(OSError):
        for key in os.listxattr(descriptor):
            if not key.startswith("trusted."):
                found[XATTR + key] = os.getxattr(descriptor, key).decode("utf-8", "surrogateescape")
    return found


def _from_export(client: LibpodClient, container: Container, paths: list[str]) -> Iterator[tuple[str, Member]]:
    """From a tar of the whole root filesystem: slow, and the only other way that keeps the owners."""
    wanted = {path.lstrip("/") for path in paths}
    with client.export_rootfs(container) as stream:
        for member in members(stream):
            if member.name in wanted:
                yield member.name, member


def host_lacks(client: LibpodClient, container: Container, paths: list[str]) -> list[str]:
    """Of modified paths, the files that podman's own export drops because the host has no such file.

    Where the host's files cannot be seen from here, that is every modified file.
    """
    local = client.transport.is_local
    suspects = [path for path in paths if not (local and os.path.lexists(path) and not os.path.isdir(path))]
    return [path for path in suspects if not client.is_directory(container, path)]
