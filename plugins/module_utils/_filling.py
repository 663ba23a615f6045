# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The content of volumes, read from this machine's disk by ``tar`` and written into another host's volumes.

The API writes into containers only. So there is one for a while, created and never started, that mounts the volumes
and nothing else: whether the container that moves has them read-only, or IDs of its own, does not matter.
Podman unpacks with owners, modes, times, hard links and attributes of users and capabilities (buildah/copier);
access control lists it drops, so they are looked for before.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import BLOCK, Container, Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._volumes import NO_COPY, root_header

PLACE = "/ferry"
TAR = ("tar", "--create", "--file=-", "--numeric-owner", "--xattrs", "--xattrs-include=*")

KEPT_ATTRIBUTES = ("user.", "security.capability", "security.selinux", "security.ima", "trusted.overlay")
"""What podman keeps of extended attributes, or makes itself."""

MOST_FILES = 200_000
"""Files that are looked at for attributes."""


CHANGED = 1
"""What tar exits with when files changed, or vanished, while it read them."""


def read_directory(
    directory: str, *, only: list[str] | None = None, settled: bool = True, sparse: bool = True
) -> Iterator[bytes]:
    """A tar of all that is in a directory of this machine, and of the directory itself, as ``.``.

    :param only: names as in such a tar: these alone, and nothing that is in them.
    :param settled: nothing may change meanwhile.
    :param sparse: holes stay holes. Python's tarfile does not read all such files as GNU tar writes them.
    :raises FerryError: if something could not be read, or changed meanwhile.
    """
    with tempfile.TemporaryFile() as said, tempfile.NamedTemporaryFile() as wanted:
        command = [*TAR, *(["--sparse"] if sparse else []), f"--directory={directory}"]
        if only is None:
            command.append(".")
        else:
            wanted.write(b"".join(os.fsencode(name) + b"\0" for name in only))
            wanted.flush()
            command += ["--no-recursion", "--null", f"--files-from={wanted.name}"]
        try:
            tar = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=_environment())
        except OSError as error:
            raise FerryError(f"tar cannot be run on the source: {error}.", remedy="Install GNU tar.") from error
        try:
            yield from iter(lambda: t.cast(t.IO[bytes], tar.stdout).read(BLOCK), b"")
            code = tar.wait()
        finally:
            if tar.poll() is None:
                tar.kill()
            t.cast(t.IO[bytes], tar.stdout).close()
            tar.wait()
        if code != 0 and (settled or code != CHANGED):
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-300:]
            raise FerryError(f"tar could not read {directory}: {words or f'exit code {code}'}.")


def _environment() -> dict[str, str]:
    """What it does must not depend on the host's settings."""
    kept = {name: value for name, value in os.environ.items() if name not in ("TAR_OPTIONS", "POSIXLY_CORRECT")}
    return {**kept, "LC_ALL": "C"}


def is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def lost_attributes(directory: str) -> list[str]:
    """Paths of files whose extended attributes, access control lists among them, podman would drop."""
    found = []
    for number, path in enumerate(_paths(directory)):
        if number >= MOST_FILES:
            break
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            continue
        if any(not name.startswith(KEPT_ATTRIBUTES) for name in names):
            found.append(path)
    return found


def _paths(directory: str) -> Iterator[str]:
    yield directory
    for place, directories, names in os.walk(directory):
        for name in [*directories, *names]:
            yield os.path.join(place, name)


class Filler:
    """The container that mounts volumes to be written.

    :param key: makes its name; the ID of what moves.
    :param image_id: of any image on that host; nothing of it is run.
    """

    def __init__(self, client: LibpodClient, key: str, image_id: str) -> None:
        self._client = client
        self._image_id = image_id
        self.name = filler_name(key)
        self._places: dict[str, str] = {}

    def make(self, volumes: Iterable[str], anonymous: Iterable[str]) -> None:
        """Podman makes volumes that are not there; those without a name of their own can only be made so.

        :raises FerryError: if it cannot be made.
        """
        self.has(volumes)
        unnamed = set(anonymous)
        mounts: list[Json] = [
            {"Name": name, "Dest": place, "Options": [NO_COPY], "IsAnonymous": name in unnamed}
            for name, place in self._places.items()
        ]
        self._client.create_container(
            {
                "name": self.name,
                "image": self._image_id,
                "command": ["never"],
                "netns": {"nsmode": "none"},
                "image_volume_mode": "ignore",
                "volumes": mounts,
            }
        )

    def has(self, volumes: Iterable[str]) -> None:
        """It mounts these, made by this run or an earlier one."""
        self._places = {name: f"{PLACE}/{number}" for number, name in enumerate(sorted(volumes))}

    def fill(self, volume: str, chunks: Iterable[bytes]) -> None:
        """:raises FerryError: if not all of it has been written."""
        self._client.copy_in_chunks(self._container(), self._places[volume], chunks)

    def set_roots(self, places: Mapping[str, str]) -> None:
        """Give volumes' own directories the owner, mode and time that they have on this machine.

        Podman gives them the image's when a container starts with them for the first time.

        :param places: a directory of this machine for each volume.
        """
        for volume, place in places.items():
            self._client.copy_in(self._container(), self._places[volume], root_header(os.stat(place)))

    @property
    def exists(self) -> bool:
        return self._client.find_container(self.name) is not None

    def _container(self) -> Container:
        return self._client.container(self.name)

    def remove(self) -> None:
        self._client.remove_container(self.name, volumes=False)


def filler_name(key: str) -> str:
    return f"ferry-fill-{key[:12]}"
