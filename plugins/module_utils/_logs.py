# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""CRIU's own words: podman's API answers ``exit status 1``, the reason is in a log beside the container."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.ferry.podman.plugins.module_utils import _criu
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._hostfiles import HostFiles
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

MOST_LOG = 1024 * 1024
"""Bytes from the end of a log; the reason of a failure is in its last lines."""


def read_log(client: LibpodClient, container: Container, name: str) -> list[str]:
    """Return the lines that matter of dump.log or restore.log; none if there is no such log. Never raises."""
    if container.bundle is None:
        return []
    text = ""
    with contextlib.suppress(OSError, FerryError):
        if client.transport.is_local:
            text = _from_disk(container.bundle, name)
        else:
            text = _from_service(client, container, name)
    return _criu.relevant_lines(text)


def _from_disk(bundle: str, name: str) -> str:
    with open(os.path.join(bundle, name), "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - MOST_LOG))
        return log.read().decode(errors="replace")


def _from_service(client: LibpodClient, container: Container, name: str) -> str:
    with HostFiles(client, container.id, container.image_id, "log") as files:
        return (files.read(os.path.join(str(container.bundle), name), MOST_LOG) or b"").decode(errors="replace")
