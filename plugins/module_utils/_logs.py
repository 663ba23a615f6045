# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""CRIU's own words: podman's API answers ``exit status 1``, the reason is in a log beside the container."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.ferry.podman.plugins.module_utils import _criu
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient


def read_log(client: LibpodClient, container: Container, name: str) -> list[str]:
    """Return the lines that matter of dump.log or restore.log; none where they cannot be read from here."""
    if not client.transport.is_local or container.bundle is None:
        return []
    for directory in (container.bundle, os.path.join(container.bundle, "checkpoint")):
        with contextlib.suppress(OSError), open(os.path.join(directory, name), errors="replace") as log:
            return _criu.relevant_lines(log.read())
    return []
