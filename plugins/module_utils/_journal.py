# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The journal of a move: which phase it is in, on disk before the phase begins, for the run after a killed one.

One file for each container that is being moved, named after its ID. It is gone when the move is over. While the move
goes on it also tells how far it is, for whoever watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import typing as t
from dataclasses import asdict, dataclass, field, replace

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError

DIRECTORY = "/var/lib/ferry"
"""Outlives a reboot, unlike anything below /run."""

VERSION = 1
SHORT_ID = 12
PHASES = ("assess", "prepare", "precopy", "freeze", "transfer", "restore", "verify", "commit")


@dataclass(frozen=True)
class Entry:
    """What is known of a move.

    :param id: of the container.
    :param image_id: of its image.
    :param destination: URL of its libpod socket.
    :param phase: the one that has begun; one of PHASES.
    :param begun: when the move began, in seconds since the epoch.
    :param phase_begun: the same for the phase.
    :param tcp: established, close or none.
    :param volumes: names of those that move along.
    :param made_volumes: names of those that the move makes on the destination, before the freeze or in the restore.
    :param networks: names of those that were made on the destination for it.
    :param devices: of the source, on which clients reach it.
    :param addresses: its own on those devices.
    :param carried: ID of the image that has its state, where that goes through a registry; in a cold move the name of
        the image that has its changed files.
    :param returning: it is to go on on the source, and is being removed from the destination.
    :param guarded_until: until when no client can reach the container there, in seconds since the epoch; 0 for never.
    :param unheard_until: the same for what the container says to clients.
    :param sent: bytes of the archive that have gone to the destination.
    :param expected: bytes that it will have by the estimate.
    :param method: live or cold.
    :param ran: IDs of those that ran on the source before a cold move; others are not started.
    :param members: names of the containers that move as one, by their IDs, in the order in which they start.
    :param pod: name of the pod that they make up; the ID is the pod's then.
    :param previous: podman writes memory of it before the freeze, into the container's own directory.
    :param thin: its memory lies beside the archive, in a directory of its own on each host.
    """

    id: str
    name: str
    image_id: str
    destination: str
    phase: str
    begun: float = 0.0
    phase_begun: float = 0.0
    tcp: str = "established"
    volumes: list[str] = field(default_factory=list)
    made_volumes: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    keep_source: bool = False
    carried: str = ""
    returning: bool = False
    guarded_until: float = 0.0
    unheard_until: float = 0.0
    sent: int = 0
    expected: int = 0
    method: str = "live"
    ran: list[str] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)
    pod: str = ""
    previous: bool = False
    thin: bool = False
    version: int = VERSION

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """:raises ValueError: if it is not what this version writes."""
        try:
            entry = cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(str(error)) from None
        if entry.version != VERSION or entry.phase not in PHASES:
            raise ValueError(f"version {entry.version}, phase {entry.phase}")
        return entry


class Journal:
    """The file of one container.

    :param directory: is made, for root alone, if it is not there.
    """

    def __init__(self, directory: str, container_id: str) -> None:
        self._directory = directory
        self.path = os.path.join(directory, f"{container_id}.json")
        self.entry: Entry | None = None
        self._lock = threading.RLock()

    def load(self) -> Entry | None:
        """What an earlier run left.

        :raises FerryError: if it cannot be read, because then nobody knows what that run has done.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                self.entry = Entry.from_json(file.read())
        except FileNotFoundError:
            self.entry = None
        except (OSError, ValueError) as error:
            raise FerryError(
                f"The journal {self.path} of an earlier move cannot be read: {error}.",
                remedy="See with podman ps -a on both hosts where the container is; then remove that file.",
            ) from None
        return self.entry

    def begin(self, entry: Entry) -> None:
        """Write the first phase.

        :raises FerryError: if it cannot be written.
        """
        self.entry = replace(entry, begun=time.time())
        self.enter(entry.phase)

    def enter(self, phase: str, **changes: t.Any) -> None:
        """Put on disk that a phase begins; when this returns, it is there also after a power failure.

        :param changes: of other fields of the entry.
        :raises FerryError: if it cannot be written; the phase must not begin then.
        """
        with self._lock:
            self._write(replace(self._current(), phase=phase, phase_begun=time.time(), **changes), durable=True)

    def note(self, **changes: t.Any) -> None:
        """Tell how far it is. Never raises: a move must not end because of that."""
        with contextlib.suppress(FerryError), self._lock:
            self._write(replace(self._current(), **changes), durable=False)

    def close(self) -> None:
        """The move is over, either way.

        :raises FerryError: if the file cannot be removed.
        """
        with self._lock:
            self.entry = None
            try:
                # The second is there if a run was killed in the middle of writing.
                for path in (self.path, f"{self.path}.new"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
            except OSError as error:
                message = f"The journal {self.path} cannot be removed: {error}."
                raise FerryError(message, remedy="Remove it.") from None

    def _current(self) -> Entry:
        if self.entry is None:
            raise FerryError(f"The journal {self.path} has not been begun.")
        return self.entry

    def _write(self, entry: Entry, *, durable: bool) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            descriptor = os.open(f"{self.path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(entry), file)
                # Of a note too: what it replaces was on disk.
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{self.path}.new", self.path)
            if durable:
                self._sync_directory()
        except OSError as error:
            raise FerryError(
                f"The journal {self.path} cannot be written: {error}.",
                remedy="Without it a killed move could not be taken up again.",
            ) from error
        self.entry = entry

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def find_entry(directory: str, name: str) -> Entry | None:
    """The move of a container of this name, or of an ID that begins so, that is going on or was cut off."""
    by_id = len(name) >= SHORT_ID
    found = (entry for entry in entries(directory) if entry.name == name or (by_id and entry.id.startswith(name)))
    return next(found, None)


def entries(directory: str) -> list[Entry]:
    """Every move that is going on or was cut off; files that cannot be read are left out."""
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if name.endswith(".json"):
            with contextlib.suppress(FerryError):
                entry = Journal(directory, name[: -len(".json")]).load()
                found += [entry] if entry is not None else []
    return found
