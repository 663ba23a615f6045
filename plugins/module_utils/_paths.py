# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Which files a service's host has: from its disk, or, for another host, through its socket."""

from __future__ import annotations

import os
import re
import stat
import uuid

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._hostfiles import HostFiles
from ansible_collections.ferry.podman.plugins.module_utils._libpod import GO_MODE_DIRECTORY, LibpodClient

ABSENT, DIRECTORY, DEVICE, FILE = "absent", "directory", "device", "file"
"""What is at a path."""

MOUNTS = "/proc/self/mountinfo"

SHARED = re.compile(
    r"(nfs4?|cifs|smb3|ceph|lustre|gfs2|ocfs2|gpfs|beegfs|9p|virtiofs|fuse\.(ceph|glusterfs|sshfs|s3fs))$"
)
"""Types of file systems that several hosts can have mounted at once."""

GO_MODE_DEVICE = 1 << 26
"""The bit of a device in Go's FileMode."""


def kinds_of(client: LibpodClient, paths: set[str]) -> dict[str, str] | None:
    """What is at each path on the service's host; None if it cannot be asked, for want of any image."""
    if not paths:
        return {}
    if client.transport.is_local:
        return {path: _on_disk(path) for path in paths}
    try:
        images = client.image_ids()
        return _through_container(client, paths, images[0]) if images else None
    except FerryError:
        return None


def _on_disk(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ABSENT
    if stat.S_ISDIR(mode):
        return DIRECTORY
    return DEVICE if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else FILE


def on_shared(paths: set[str], mountinfo: str) -> set[str]:
    """Those that are on a file system of several hosts.

    :param mountinfo: the text of /proc/PID/mountinfo, see proc(5).
    """
    types = {}
    for line in mountinfo.splitlines():
        before, _dash, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 4 and after:
            types[fields[4].encode().decode("unicode_escape")] = after.split(" ", 1)[0]
    return {path for path in paths if SHARED.match(_type_of(path, types))}


def _type_of(path: str, types: dict[str, str]) -> str:
    """Of the mount that a path is on; a later mount in the same place hides the earlier one."""
    above = [mount for mount in types if os.path.commonpath([mount, path]) == mount]
    return types[max(above, key=len)] if above else ""


def shared_here(client: LibpodClient, paths: set[str]) -> set[str]:
    """The same for this machine; none where the service is on another one."""
    if not client.transport.is_local:
        return set()
    try:
        with open(MOUNTS, encoding="utf-8") as file:
            return on_shared(paths, file.read())
    except OSError:
        return set()


def _through_container(client: LibpodClient, paths: set[str], image: str) -> dict[str, str]:
    with HostFiles(client, uuid.uuid4().hex, image) as files:
        return {path: _kind(files.mode(path)) for path in sorted(paths)}


def _kind(mode: int | None) -> str:
    if mode is None:
        return ABSENT
    if mode & GO_MODE_DIRECTORY:
        return DIRECTORY
    return DEVICE if mode & GO_MODE_DEVICE else FILE
