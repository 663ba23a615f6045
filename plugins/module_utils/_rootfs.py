# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Changes of a container's root filesystem that podman's export does not keep.

Seen in every version (``CRCreateRootFsDiffTar`` in pkg/checkpoint/crutils/checkpoint_restore_utils.go):

- A modified file is archived only if the *host* has a file of the same path, and dropped in silence otherwise.
- Owner, mode and extended attributes of directories of the image are not kept; one whose owner alone changed is not
  even among the changes.
- A directory that was removed and made again counts as deleted. Its new files are archived, and removed again by the
  restore, which deletes last.

The API's copy call is of no use for them: it answers with root as the owner of everything.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._archive import Member, RootfsAdditions, members
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

MODIFIED, ADDED, DELETED = 0, 1, 2
REPLACEMENT = "\ufffd"
"""What JSON has in the place of bytes that are not UTF-8."""

XATTR = "SCHILY.xattr."
"""What Go's archive/tar and containers/storage call extended attributes in a tar."""

MOUNTED_OVER = ("dev", "proc", "run", "sys")
Look = tuple[int, int, int, dict[str, bytes]]
"""Type and mode, owner, group, extended attributes."""

MADE: Look = (stat.S_IFDIR | 0o755, 0, 0, {})
"""A directory that podman makes, as ``_look`` tells it."""

OWN_POINTS = (
    *(f"/{name}" for name in MOUNTED_OVER),
    *(f"/etc/{name}" for name in ("hosts", "hostname", "resolv.conf", "mtab", "localtime", "passwd", "group")),
    *(f"/dev/{name}" for name in ("mqueue", "pts", "shm", "console")),
    "/run/.containerenv",
    "/run/secrets",
    "/run/podman-init",
    "/sys/fs/cgroup",
)
"""Paths that podman and the runtime make in a root filesystem where the image has them not, to mount over them."""


@dataclass(frozen=True)
class Changes:
    """Absolute paths of the image's files that the container modified or deleted, and of those that it added."""

    modified: frozenset[str]
    added: frozenset[str]
    deleted: frozenset[str]
    unnamed: bool
    """Whether a name is not UTF-8, and so not to be known from the API."""


def list_changes(client: LibpodClient, container: Container) -> Changes:
    """:raises ApiError: if podman cannot list them."""
    changes = client.changes(container)
    by_kind = {
        kind: frozenset(change["Path"] for change in changes if change["Kind"] == kind and change["Path"] != "/")
        for kind in (MODIFIED, ADDED, DELETED)
    }
    unnamed = any(REPLACEMENT in change["Path"] for change in changes)
    return Changes(by_kind[MODIFIED], by_kind[ADDED], by_kind[DELETED], unnamed)


def collect_changes(client: LibpodClient, container: Container, spool: t.IO[bytes]) -> RootfsAdditions:
    """Read from the container what podman's archive of its root filesystem lacks.

    :param container: best a stopped one, so that nothing changes meanwhile.
    :param spool: an open file that takes the copies.
    :raises ApiError: if the container cannot be read.
    :raises ArchiveError: if a file cannot be found by its name.
    """
    additions = RootfsAdditions(spool)
    changes = list_changes(client, container)
    if changes.unnamed:
        raise ArchiveError(f"Container {container.name} changed files whose names are not UTF-8.")
    # Those that are new podman keeps as they are.
    directories = _upper_directories(client, container) - changes.added
    if not (changes.modified or changes.deleted or directories):
        return additions
    with _mounted(client, container) as root:
        if root is not None:
            entries = _from_disk(root, changes, directories)
        else:
            entries = _from_export(client, container, changes)
        seen = set()
        for path, member in entries:
            seen.add(path)
            if member is not None:
                additions.add(path, member, again=path in changes.deleted)
    missing = changes.modified - seen
    if missing and not client.container(container.id).running:
        raise ArchiveError(f"Files of container {container.name} cannot be found: {', '.join(sorted(missing)[:5])}.")
    return additions


def differs_from_image(client: LibpodClient, container: Container, points: t.Iterable[str]) -> bool:
    """Whether a stopped container has files of its own, besides those that podman makes at each start.

    :param points: paths inside it that something is mounted on, or that podman makes.
    :raises ApiError: if podman cannot list the changes.
    """
    changes = list_changes(client, container)
    all_points = {*OWN_POINTS, *(os.path.normpath(point) for point in points)}
    above = {parent for point in all_points for parent in _parents(point)}
    made = {path for path in changes.added if path in all_points or (path in above and _as_made(container, path))}
    unchanged = {path for path in changes.modified & above if not _directory_differs(container, path)}
    if (changes.modified | changes.added | changes.deleted) - made - unchanged:
        return True
    directories = _upper_directories(client, container) - changes.added
    return any(_directory_differs(container, path) for path in directories | {"/"})


def _parents(path: str) -> Iterator[str]:
    while path not in ("/", ""):
        path = os.path.dirname(path)
        yield path


def _directory_differs(container: Container, path: str) -> bool:
    """Whether a directory of the image has another owner, mode or attribute in the container; yes if in doubt."""
    upper = container.upper_directory
    lower = next((layer for layer in container.lower_directories if os.path.lexists(layer + path)), None)
    if upper is None or lower is None:
        return True
    try:
        return _look(upper + path) != _look(lower + path)
    except OSError:
        return True


def _as_made(container: Container, path: str) -> bool:
    """Whether a directory above a mount point looks as podman makes it; no if in doubt."""
    try:
        return container.upper_directory is not None and _look(container.upper_directory + path) == MADE
    except OSError:
        return False


def _look(path: str) -> Look:
    status = os.lstat(path)
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted.")]
    attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return status.st_mode, status.st_uid, status.st_gid, attributes


def _upper_directories(client: LibpodClient, container: Container) -> set[str]:
    """Directories that the container's own layer has, as far as they can be seen from here."""
    upper = container.upper_directory if client.transport.is_local else None
    found = set()
    for folder, folders, _files in os.walk(upper) if upper else ():
        base = "/" + os.path.relpath(folder, upper)
        found |= {os.path.normpath(f"{base}/{name}") for name in folders if not os.path.islink(f"{folder}/{name}")}
    return {path for path in found if path.split("/")[1] not in MOUNTED_OVER}


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


def _from_disk(root: str, changes: Changes, directories: set[str]) -> Iterator[tuple[str, Member | None]]:
    base = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    links: dict[tuple[int, int], str] = {}
    try:
        # Sorted, a directory comes before what is in it.
        for path in sorted(changes.modified | changes.deleted | directories):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), _parent(base, path) as (parent, name):
                yield path, _member(parent, name, path, links)
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


def _member(parent: int, name: str, path: str, links: dict[tuple[int, int], str]) -> Member | None:
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
    first = links.setdefault((status.st_dev, status.st_ino), path)
    if first != path and not stat.S_ISDIR(status.st_mode):
        info.type, info.linkname = tarfile.LNKTYPE, first.lstrip("/")
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


def _from_export(client: LibpodClient, container: Container, changes: Changes) -> Iterator[tuple[str, Member | None]]:
    """From a tar of the whole root filesystem: slow, and the only other way that keeps the owners."""
    wanted = changes.modified | changes.deleted
    if wanted:
        with client.export_rootfs(container) as stream:
            for member in members(stream):
                if f"/{member.name}" in wanted:
                    yield f"/{member.name}", member


def host_lacks(client: LibpodClient, container: Container, paths: t.Iterable[str]) -> list[str]:
    """Of modified paths, the files that podman's own export drops because the host has no such file.

    Where the host's files cannot be seen from here, that is every modified file.
    """
    local = client.transport.is_local
    suspects = [path for path in sorted(paths) if not (local and os.path.lexists(path) and not os.path.isdir(path))]
    return [path for path in suspects if not client.is_directory(container, path)]
