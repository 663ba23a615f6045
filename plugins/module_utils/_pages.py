# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Where CRIU's images of a container lie while they are no part of an archive: in memory, or on podman's disk.

``checkpoint`` in the container's own directory is a link to them then. podman, the runtime and CRIU follow it, and
podman exports the link alone; on removing a checkpoint it removes the link, so what it leads to is ours to remove.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import typing as t

from ansible_collections.ferry.podman.plugins.module_utils._archive import PREVIOUS
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, HostInfo, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._lint import SHARED_MEMORY
from ansible_collections.ferry.podman.plugins.module_utils._receive import MEMORY, Receiver

NAME = "ferry.podman"
LEFT_BY_EXPORT = (
    SHARED_MEMORY,
    "config.dump",
    "spec.dump",
    "network.status",
    "stats-dump",
    "dump.log",
    "volumes",
)
"""In the container's directory, where podman removes them only when it stops the container (exportCheckpoint)."""

SPARE = 256 * 1024 * 1024
"""Bytes of podman's disk that a copy leaves free: podman writes to it on the next restore."""


def disk_of(host: HostInfo) -> str:
    """The place for images on the disk that podman keeps containers on: beside its storage."""
    return os.path.join(os.path.dirname(host.graph_root.rstrip("/")), NAME)


def places_of(host: HostInfo) -> list[str]:
    """Where images can be, the better place first."""
    return [MEMORY, disk_of(host)]


def images_in(place: str, ident: str) -> str:
    return os.path.join(place, ident, "checkpoint")


def link_of(container: Container) -> str | None:
    """The path in the container's own directory that podman has its checkpoint written to."""
    return os.path.join(container.bundle, "checkpoint") if container.bundle else None


def previous_of(container: Container) -> str | None:
    """The same for the images before its checkpoint."""
    return os.path.join(container.bundle, PREVIOUS) if container.bundle else None


def is_ours(link: str | None, ident: str) -> bool:
    """Whether a path is a link to images of ours."""
    if link is None or not os.path.islink(link):
        return False
    return f"/{NAME}/{ident}/" in os.readlink(link)


def put_link(link: str, images: str) -> None:
    """Have a dump write the images there, whatever an earlier try left.

    :raises OSError: if the link cannot be made; a directory that is in its place stays.
    """
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(images, link)


def empty(images: str) -> None:
    """Remove what a failed dump has left.

    :raises OSError: if that cannot be done.
    """
    for entry in os.scandir(images):
        os.unlink(entry.path)


def remove_here(client: LibpodClient, host: HostInfo, ident: str, container: Container | None) -> None:
    """Have nothing left of images of ours on this host.

    :param container: if it is still there; it runs, or cannot go on from them.
    :raises FerryError: if something stays.
    """
    if not client.transport.is_local:
        return
    links = [link_of(container), previous_of(container)] if container is not None else []
    try:
        for link in links:
            if link is not None and is_ours(link, ident):
                os.unlink(link)
        for place in places_of(host):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(os.path.join(place, ident))
            with contextlib.suppress(OSError):
                # Others may have theirs in it, and what is mounted stays.
                os.rmdir(place)
    except OSError as error:
        raise FerryError(f"The memory of {ident[:12]} on the source could not be removed: {error}") from error


def has_checkpoint(container: Container) -> bool:
    """Whether something of a checkpoint lies in the container's directory, or of memory from before one."""
    if container.bundle is None:
        return True
    return any(os.path.lexists(os.path.join(container.bundle, name)) for name in ("checkpoint", PREVIOUS))


def state_of_previous(container: Container) -> dict[str, tuple[int, int, int]]:
    """What tells whether memory from before a checkpoint is still what it was: its files' inodes, sizes and times.

    :raises OSError: if it cannot be read.
    """
    found = ((entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(previous_of(container) or ""))
    return {name: (status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found}


def tidy_export(container: Container) -> None:
    """Remove what podman leaves beside the memory when it has written it out and the container runs on.

    On a way back it would unpack the shared memory of that moment.

    :raises FerryError: if something stays.
    """
    if not _has_dump(container):
        _remove_below(container, LEFT_BY_EXPORT)


def remove_previous(container: Container) -> None:
    """Have nothing left of memory that podman has written out before a checkpoint that did not come.

    If one has come, somebody else's too, it may need all of it. What is removed must not have been there before.

    :raises FerryError: if something stays.
    """
    if not _has_dump(container):
        # A dump that has failed leaves a link to what was before, and every later one would follow it.
        _remove_below(container, (*LEFT_BY_EXPORT, "checkpoint", PREVIOUS))


def _has_dump(container: Container) -> bool:
    # CRIU writes it at the end of a dump, and podman removes it with a checkpoint that it has restored.
    return os.path.lexists(os.path.join(container.bundle or "", "checkpoint", "inventory.img"))


def _remove_below(container: Container, names: t.Iterable[str]) -> None:
    for path in [os.path.join(container.bundle, name) for name in names] if container.bundle else []:
        try:
            with contextlib.suppress(FileNotFoundError):
                is_directory = os.path.isdir(path) and not os.path.islink(path)
                shutil.rmtree(path) if is_directory else os.unlink(path)
        except OSError as error:
            raise FerryError(f"What podman has written of {container.name} could not be removed: {error}") from error


def remove_there(client: LibpodClient, host: HostInfo, ident: str) -> None:
    """The same for another host.

    :raises FerryError: if something stays.
    """
    if client.transport.forward is not None:
        for place in places_of(host):
            Receiver(client.transport).drop(place, ident)


def keep_on_disk(client: LibpodClient, host: HostInfo, container: Container) -> str:
    """Have the only copy of a memory outlive a reboot, if it lies in memory; what to say of it, or nothing.

    The link changes from the one to the other whole copy at once, and never raises.
    """
    link, here = link_of(container), images_in(MEMORY, container.id)
    if not client.transport.is_local or link is None or not is_ours(link, container.id) or os.readlink(link) != here:
        return ""
    there = images_in(disk_of(host), container.id)
    try:
        _copy(here, there)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{link}.new")
        os.symlink(there, f"{link}.new")
        os.rename(f"{link}.new", link)
        _sync([os.path.dirname(link)])
        shutil.rmtree(os.path.dirname(here), ignore_errors=True)
    except OSError as error:
        if os.readlink(link) == here:
            shutil.rmtree(os.path.dirname(there), ignore_errors=True)
        return f" Its memory lies in {here}, which a reboot of the source loses: it could not be copied ({error})."
    return ""


def _copy(here: str, there: str) -> None:
    """A copy, with the images before, that is on the disk when this returns.

    :param here: the directory with the images of the last dump.
    :raises OSError: if it does not fit, or cannot be written.
    """
    room = os.path.dirname(there)
    shutil.rmtree(room, ignore_errors=True)
    os.makedirs(os.path.dirname(room), mode=0o700, exist_ok=True)
    files = [entry for entry in _below(os.path.dirname(here)) if entry.is_file(follow_symlinks=False)]
    if shutil.disk_usage(os.path.dirname(room)).free < sum(entry.stat().st_size for entry in files) + SPARE:
        raise OSError(errno.ENOSPC, "podman's disk has not enough room")
    shutil.copytree(os.path.dirname(here), room, symlinks=True)
    copied = [entry.path for entry in _below(room) if not entry.is_symlink()]
    _sync([*copied, room, os.path.dirname(room)])


def _below(directory: str) -> t.Iterator[os.DirEntry[str]]:
    for entry in os.scandir(directory):
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)


def _sync(paths: list[str]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
