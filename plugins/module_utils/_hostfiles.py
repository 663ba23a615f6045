# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Files of a service's host, seen through its socket alone.

The API hands out files of containers only. So there is one for a while, created and never started, that mounts the
host's root directory read-only; podman looks its paths up on the host (``containers/storage`` mounts nothing for it).
"""

from __future__ import annotations

import contextlib

from ansible_collections.ferry.podman.plugins.module_utils._archive import members
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    NotFound,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import LibpodClient

MOST = 1024 * 1024
"""Bytes of a file that are kept, if not told otherwise: its last ones."""

ROOT = "/host"


class HostFiles:
    """Use it as a context manager: the container is removed afterwards.

    :param key: makes the container's name; the ID of the container that it is about.
    :param image_id: of any image on that host; nothing of it is run.
    :param purpose: makes the container's name, which tells an administrator what it is for.
    """

    def __init__(self, client: LibpodClient, key: str, image_id: str, purpose: str = "look") -> None:
        self._client = client
        self._image_id = image_id
        self._name = f"ferry-{purpose}-{key[:12]}"

    def __enter__(self) -> HostFiles:
        mount = {"type": "bind", "source": "/", "destination": ROOT, "options": ["ro", "rbind"]}
        spec = {"name": self._name, "image": self._image_id, "netns": {"nsmode": "none"}, "mounts": [mount]}
        try:
            self._client.create_container(spec)
        except ApiError:
            # A killed run may have left one.
            self._client.remove_container(self._name)
            self._client.create_container(spec)
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(FerryError):
            self._client.remove_container(self._name)

    def exists(self, path: str) -> bool:
        """Whether there is anything at an absolute path of the host, in /proc and /sys too."""
        return self.mode(path) is not None

    def mode(self, path: str) -> int | None:
        """Go's FileMode of what is at an absolute path of the host; None if nothing is."""
        return self._client.file_mode(self._name, ROOT + path)

    def read(self, path: str, most: int = MOST) -> bytes | None:
        """The last bytes of a regular file, or None if it is not there; those of /proc and /sys read as empty."""
        try:
            with self._client.copy_out(self._name, ROOT + path) as stream:
                text = b""
                for member in members(stream):
                    for block in member.chunks():
                        text = (text + block)[-most:]
                return text
        except NotFound:
            return None
