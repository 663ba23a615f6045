# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The content of volumes goes over while the container runs, and what has changed since goes again in the freeze.

Podman's archive has each volume as a whole, which is sent, spooled, unpacked and imported while nothing runs. What has
changed is told by the content, not by times: who writes by a mapping of a file may leave none (tmpfs never does). What
is compared is what was sent then, not what the file held before or after.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
import sys
import tarfile
import threading
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._archive import BLOCK, Member, members
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._filling import (
    MOST_FILES,
    Filler,
    filler_name,
    lost_attributes,
    read_directory,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._receive import Receiver
from ansible_collections.ferry.podman.plugins.module_utils._rootfs import XATTR

WORTH = 16 * 1024 * 1024
"""Bytes of volumes below which the archive is as quick."""

PASSING = ("atime", "ctime")
"""Extended headers that say nothing of what a file holds."""

TOP = "."
NOBODY = "0" * 12
"""In the place of an ID that is not asked for."""


@dataclass
class Fingerprints:
    """What a tar holds.

    :param digests: of headers and content, by name.
    :param directories: the extended attributes of each directory, by its name.
    :param links: the first name of a file for each of its others.
    """

    digests: dict[str, bytes] = field(default_factory=dict)
    directories: dict[str, frozenset[str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    _soft: set[str] = field(default_factory=set)

    def taken(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a tar on, and note what is in it.

        :raises FerryError: if it is damaged or cut short, or holds what podman would write otherwise.
        """
        tee = _Tee(chunks)
        for member in members(tee):
            yield from self._noted(member, tee)
        yield from tee.passed()

    def _noted(self, member: Member, tee: _Tee) -> Iterator[bytes]:
        info = member.info
        # podman would make a link to the file that a link leads to (buildah/copier resolves its name).
        if info.name in self.digests or (info.islnk() and info.linkname in self._soft):
            raise FerryError(f"{info.name} of a volume has several names or states, which podman would not write so.")
        digest = hashlib.sha256(_header(info))
        for block in member.chunks():
            digest.update(block)
            yield from tee.passed()
        yield from tee.passed()
        self.digests[info.name] = digest.digest()
        if info.isdir():
            self.directories[info.name] = frozenset(key for key in info.pax_headers if key.startswith(XATTR))
        elif info.issym():
            self._soft.add(info.name)
        elif info.islnk():
            self.links[info.name] = info.linkname

    def families(self) -> list[set[str]]:
        """Names of one file each, of files that have several."""
        found: dict[str, set[str]] = {}
        for name, first in self.links.items():
            found.setdefault(first, {first}).add(name)
        return list(found.values())


class _Tee:
    """Chunks as a file, which keeps what was read until it is passed on."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self._read: list[bytes] = []

    def read(self, size: int = BLOCK) -> bytes:
        block = self._rest or next(self._chunks, b"")
        block, self._rest = block[:size], block[size:]
        if block:
            self._read.append(block)
        return block

    def passed(self) -> list[bytes]:
        passed, self._read = self._read, []
        return passed


def _header(info: tarfile.TarInfo) -> bytes:
    known = sorted((key, value) for key, value in info.pax_headers.items() if key not in PASSING)
    parts = (info.type, info.mode, info.uid, info.gid, info.size, info.mtime, info.linkname)
    return repr((*parts, info.devmajor, info.devminor, known)).encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Delta:
    """What turns an earlier state of a directory into a later one.

    :param gone: names to remove first: what is not there any more, and what is replaced.
    :param again: names to write then, directories before what is in them.
    """

    gone: list[str]
    again: list[str]


def delta(before: Fingerprints, now: Fingerprints) -> Delta:
    """Of a replaced file the old one is removed first: another name of it must not get the new content.

    :raises FerryError: if what has changed cannot be written.
    """
    changed = {name for name, digest in now.digests.items() if before.digests.get(name) != digest}
    anew = {name for name in now.directories if _is_anew(name, before, now)}
    changed |= {name for name in now.digests if not anew.isdisjoint(_parents(name))} if anew else set()
    for family in now.families():
        # Written alone, one of them would become a file of its own.
        changed |= family if family & changed else set()
    gone = before.digests.keys() - now.digests.keys()
    gone |= {name for name in changed & before.digests.keys() if _is_anew(name, before, now)}
    if TOP in gone:
        raise FerryError("The root of a volume has lost extended attributes, which podman's API cannot remove.")
    # What is written or removed in a directory changes its time.
    above = {parent for name in changed | gone for parent in _parents(name) if parent in now.directories}
    return Delta(_topmost(gone), sorted(changed | above, key=lambda name: name.split("/")))


def _is_anew(name: str, before: Fingerprints, now: Fingerprints) -> bool:
    """Whether what had this name has to go for what has it now: anything but a directory that has lost no attribute."""
    if name not in before.digests:
        return False
    was, becomes = before.directories.get(name), now.directories.get(name)
    return was is None or becomes is None or not was <= becomes


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _topmost(names: set[str]) -> list[str]:
    """Without those in a directory that is among them."""
    return sorted(name for name in names if names.isdisjoint(_parents(name)))


class VolumeCopy:
    """All volumes of one container.

    :param volumes: by name, as the source inspects them; of podman's own driver, without options.
    :param claim: notes, for good, the names of those that are the move's own on the destination.
    :ivar sent: bytes that went before the freeze, and in it.
    """

    def __init__(
        self,
        destination: LibpodClient,
        container: Container,
        volumes: Mapping[str, Json],
        progress: Progress,
        claim: t.Callable[[list[str]], None],
    ) -> None:
        self._there = destination
        self._volumes = volumes
        self._progress = progress
        self._claim = claim
        self._filler = Filler(destination, container.id, container.image_id)
        self._before: dict[str, Fingerprints] = {}
        self._pool = ThreadPoolExecutor(1)
        self._deltas: Future[dict[str, Delta]] | None = None
        self._given_up = threading.Event()
        self._made: dict[str, str] = {}
        self._connection: object = None
        self.sent: list[int] = []

    def prepare(self) -> None:
        """Have them on the destination as they are now, while the container writes to them.

        :raises FerryError: if that cannot be done; what has been made there stays.
        """
        self._make()
        self._made, self._connection = self._there_now(), self._there.transport.forward
        for name in self._volumes:
            self._remove(name, [])
        before = self._progress.sent
        for name, place in places_of(self._volumes).items():
            noted = self._before[name] = Fingerprints()
            self._filler.fill(name, self._progress.counted(noted.taken(read_volume(place))))
        self.sent = [self._progress.sent - before]

    def _make(self) -> None:
        """Each is claimed before it is made, and not where somebody else has made it."""
        existing = self._there.volume_names() & self._volumes.keys()
        if existing:
            raise FerryError(f"The destination has a volume {min(existing)} by now.")
        claimed: list[str] = []
        anonymous = [name for name, volume in self._volumes.items() if volume.get("Anonymous")]
        for name in sorted(self._volumes.keys() - set(anonymous)):
            self._claim([*claimed, name])
            try:
                self._there.create_volume(self._volumes[name])
            except ApiError:
                # It has been made by somebody else in between, or not at all.
                self._claim(claimed)
                raise
            claimed.append(name)
        self._claim([*claimed, *anonymous])
        self._filler.make(self._volumes, anonymous)

    def _there_now(self) -> dict[str, str]:
        """When each was made."""
        return {each["Name"]: each["CreatedAt"] for each in self._there.volumes() if each["Name"] in self._volumes}

    def require(self) -> None:
        """See that what has been sent is still there: somebody may have pruned it, or the host may have lost power.

        :raises FerryError: if it is not, or nobody knows.
        """
        connected = self._there.transport.forward is self._connection
        if not connected or self._there_now() != self._made or not self._filler.exists:
            raise FerryError(
                "The destination may have lost what was sent of the volumes: "
                + ("they were removed there." if connected else "the connection to it was lost."),
                remedy="Run this again, and have nothing pruned there meanwhile.",
            )

    def compare(self) -> None:
        """Begin to look for what has changed, now that nothing changes any more."""
        self._deltas = self._pool.submit(self._compared)

    def _compared(self) -> dict[str, Delta]:
        found = {}
        for name, place in places_of(self._volumes).items():
            now = Fingerprints()
            for _chunk in now.taken(read_volume(place)):
                if self._given_up.is_set():
                    raise FerryError("The move has ended.")
            found[name] = delta(self._before[name], now)
        return found

    def finish(self) -> None:
        """Have them on the destination as they are in the freeze.

        :raises FerryError: if that cannot be done; the container must not be restored there then.
        """
        self.require()
        before, places = self._progress.sent, places_of(self._volumes)
        for name, each in (self._deltas.result() if self._deltas is not None else self._compared()).items():
            if each.gone:
                self._remove(name, each.gone)
            if each.again:
                self._filler.fill(name, self._progress.counted(read_volume(places[name], each.again)))
        self.sent = [self.sent[0], self._progress.sent - before]

    def close(self) -> None:
        """Compare nothing any more; never raises."""
        self._given_up.set()
        self._pool.shutdown(wait=False)

    def _remove(self, volume: str, names: list[str]) -> None:
        """The API has no call for it; without names this only sees whether it can be done.

        :raises FerryError: if it cannot.
        """
        place = (self._there.volume(volume) or {}).get("Mountpoint")
        channel = Receiver(self._there.transport).channel()
        try:
            channel.send(f"unlink {place} {NOBODY} - - -\n".encode())
            channel.send(b"".join(os.fsencode(name) + b"\0" for name in names))
            answer = channel.finish()
        except BaseException:
            channel.abort()
            raise
        if answer != "unlinked":
            raise TransportError(f"Files of volume {volume} could not be removed on the destination: {answer}")


def read_volume(place: str, only: list[str] | None = None) -> Iterator[bytes]:
    """Who else writes there, on the host, may go on: a tar tells only of files that changed, and what of them went."""
    return read_directory(place, only=only, settled=False, sparse=False)


def places_of(volumes: Mapping[str, Json]) -> dict[str, str]:
    """Their directories on the source, by name."""
    return {name: str(volume["Mountpoint"]) for name, volume in sorted(volumes.items())}


def can_be_copied(volumes: Mapping[str, Json]) -> bool:
    """Whether all that is in volumes of this machine arrives the same when it is written through podman's API."""
    # tarfile takes names for UTF-8 (pax), and they go to tar and rm in the encoding of this machine.
    if sys.getfilesystemencoding().lower() != "utf-8":
        return False
    for volume in volumes.values():
        place = volume.get("Mountpoint")
        if volume.get("Driver", "local") != "local" or volume.get("Options") or not place or not os.path.isdir(place):
            return False
    places = list(places_of(volumes).values())
    return not _have_odd_files(places) and not any(map(lost_attributes, places))


def _have_odd_files(places: list[str]) -> bool:
    """Whether there are too many to remember, or links with several names, which podman does not write so."""
    count = 0
    for folder, directories, names in itertools.chain.from_iterable(map(os.walk, places)):
        count += len(directories) + len(names)
        if count > MOST_FILES:
            return True
        for name in [*directories, *names]:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(folder, name))
                if stat.S_ISLNK(status.st_mode) and status.st_nlink > 1:
                    return True
    return False


def release(source: LibpodClient, destination: LibpodClient, ident: str, image_id: str, names: list[str]) -> None:
    """Let go of volumes that a container was restored with: their roots as on the source, and nothing holds them.

    Podman gives the root of a volume the image's owner when a container starts with it for the first time.

    :param ident: of the container.
    :param names: of all its volumes that were copied.
    :raises FerryError: if that cannot be done.
    """
    if destination.find_container(filler_name(ident)) is None:
        return
    filler = Filler(destination, ident, image_id)
    filler.has(names)
    volumes = {name: source.volume(name) for name in names}
    places = {name: str(volume["Mountpoint"]) for name, volume in volumes.items() if volume is not None}
    try:
        filler.set_roots({name: place for name, place in places.items() if os.path.isdir(place)})
    except OSError as error:
        raise FerryError(f"The root of a volume cannot be read on the source: {error}.") from error
    filler.remove()


def take_back(destination: LibpodClient, ident: str, names: list[str]) -> None:
    """Remove volumes that were made for a move that did not come about.

    :raises FerryError: if one cannot be removed.
    """
    destination.remove_container(filler_name(ident), volumes=False)
    existing = destination.volume_names() if names else set()
    problems = []
    for name in names:
        try:
            if name in existing:
                destination.remove_volume(name)
        except FerryError as error:
            problems.append(error)
    if problems:
        raise problems[0]
