# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Which files a service's host has: from its disk, or, for another host, through its socket."""

from __future__ import annotations

import os
import stat
import uuid

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._hostfiles import HostFiles
from ansible_collections.ferry.podman.plugins.module_utils._libpod import GO_MODE_DIRECTORY, LibpodClient

ABSENT, DIRECTORY, DEVICE, FILE = "absent", "directory", "device", "file"
"""What is at a path."""

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


def _through_container(client: LibpodClient, paths: set[str], image: str) -> dict[str, str]:
    with HostFiles(client, uuid.uuid4().hex, image) as files:
        return {path: _kind(files.mode(path)) for path in sorted(paths)}


def _kind(mode: int | None) -> str:
    if mode is None:
        return ABSENT
    if mode & GO_MODE_DIRECTORY:
        return DIRECTORY
    return DEVICE if mode & GO_MODE_DEVICE else FILE
