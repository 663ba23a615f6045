# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What podman does not keep of volumes: owner and mode of their root, and that a file of the image was deleted there.

The tar of a volume in an archive has no entry for the volume's own directory, and an import would leave it out. So it
travels as an extended header of that tar's member, which other readers pass over, and is set when the container runs.
Files of the image at the volume's path are copied into a new volume before the tar is unpacked, unless its options
say nocopy.
"""

from __future__ import annotations

import io
import os
import shlex
import stat
import tarfile
import typing as t
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

NO_COPY = "nocopy"

DEFAULT = "0:0:755"
"""Owner, group and mode that podman gives a new volume."""


def volume_roots(client: LibpodClient, container: Container) -> dict[str, str]:
    """Owner, group and octal mode of volumes' roots by name, as ``0:0:755``; of those that can be seen from here."""
    places = {mount["Name"]: mount.get("Source", "") for mount in _volume_mounts(container)}
    if not client.transport.is_local:
        return _roots_elsewhere(client, places)
    found = {}
    for name, place in places.items():
        try:
            status = os.stat(place)
        except OSError:
            continue
        found[name] = f"{status.st_uid}:{status.st_gid}:{stat.S_IMODE(status.st_mode):o}"
    return found


def _roots_elsewhere(client: LibpodClient, places: dict[str, str]) -> dict[str, str]:
    """The API does not tell; a key that may run no commands leaves it unknown."""
    if not places or client.transport.forward is None:
        return {}
    command = "stat -c %u:%g:%a -- " + " ".join(map(shlex.quote, places.values()))
    try:
        lines = client.transport.forward.run(command, "").splitlines()
    except FerryError:
        return {}
    return dict(zip(places, lines)) if len(lines) == len(places) else {}


def set_volume_roots(client: LibpodClient, container: Container, roots: dict[str, str]) -> list[str]:
    """Give the volumes of a running container their roots' owner and mode back; returns what could not be done."""
    problems = []
    for mount in _volume_mounts(container):
        root = roots.get(mount["Name"], DEFAULT)
        if root == DEFAULT:
            continue
        parent, name = os.path.split(mount["Destination"].rstrip("/"))
        try:
            client.copy_in(container, parent, _directory(name, root))
        except FerryError as error:
            problems.append(f"The root of volume {mount['Name']} should be {root} (owner, group, mode): {error}")
    return problems


def without_copy_up(named_volumes: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """The namedVolumes of a config.dump, such that podman does not first copy the image's files into new volumes."""
    changed = []
    for volume in named_volumes:
        options = [option for option in volume.get("options") or [] if option not in ("copy", NO_COPY)]
        changed.append({**volume, "options": [*options, NO_COPY]})
    return changed


def _volume_mounts(container: Container) -> Iterator[dict[str, str]]:
    for mount in container.mounts:
        if mount.get("Type") == "volume" and mount.get("Name"):
            yield mount


def root_header(status: os.stat_result) -> bytes:
    """A tar that gives the directory into which it is unpacked this owner, mode and time."""
    owner = f"{status.st_uid}:{status.st_gid}:{stat.S_IMODE(status.st_mode):o}"
    return _directory(".", owner, status.st_mtime)


def _directory(name: str, root: str, mtime: float = 0) -> bytes:
    """A tar of a directory's header alone."""
    info = tarfile.TarInfo(name)
    owner, group, mode = root.split(":")
    info.mtime = mtime
    info.type, info.uid, info.gid, info.mode = tarfile.DIRTYPE, int(owner), int(group), int(mode, 8)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    return buffer.getvalue()
