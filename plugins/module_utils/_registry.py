# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The state of a container on its way through a registry, as an image, from one host's podman to the other's.

The image is made of our own archive and not by podman: its ``create_image`` drops modified files. It goes to podman on
the source as an OCI layout, without a name; podman pushes it, the destination's podman pulls it by digest. That its ID
is the same there proves that nothing has changed on the way: the ID is the digest of the configuration, which has the
digest of what is in the layer.
"""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import tempfile
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._annotations import as_annotations, checkpoint_facts
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo, LibpodClient, RegistryAccess
from ansible_collections.ferry.podman.plugins.module_utils._loading import load
from ansible_collections.ferry.podman.plugins.module_utils._oci import RECORD, Image, Layer

REPOSITORY = re.compile(
    r"(?P<repository>(?P<host>[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9A-Fa-f:]+\](:[0-9]+)?)(/[a-z0-9]+([._-]+[a-z0-9]+)*)+)"
)
"""Host and path."""

REFERENCE = re.compile(REPOSITORY.pattern + r":(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})")
"""Host, path and tag; a name without a host would be looked for in several registries."""

REHEARSAL = "ferry-rehearsal"
"""The tag of the image that is carried before the freeze, to see that the real one can be."""

REACHED = "reading manifest"
"""Podman's words when a registry has answered that it has no such image; without an answer it does not come so far."""


UNKNOWN_THERE = ("unauthorized", "authentication required", "denied", "invalid username")
"""Words of podman and registries when it matters who asks."""

ADVICE = {
    UNKNOWN_THERE: (
        "Say who is allowed to by registry_username and registry_password, by registry_auth_file, or by podman login "
        "on the host of the service."
    ),
    ("server gave HTTP response to HTTPS client",): (
        "{host} speaks plain HTTP; set registry_tls_verify: false to use HTTP."
    ),
    ("x509", "certificate"): (
        "Nobody whom this host trusts has signed the certificate of {host}. Put the certificate of the authority that "
        "has signed it into /etc/containers/certs.d/{host}/ca.crt on the host of the service; registry_tls_verify: "
        "false trusts everybody."
    ),
    ("manifest unknown", "not found", "unknown: unknown"): "See that it was pushed under this name.",
    ("no space left",): "Make room, where podman keeps images or at the registry, and run this again.",
}
"""Words of podman and registries, and what to do about them."""


def is_repository(text: str) -> bool:
    """Whether it is host and path; a name without a host begins with a word alone."""
    found = REPOSITORY.fullmatch(text)
    return found is not None and re.search(r"[.:\]]|^localhost$", found["host"]) is not None


@dataclass(frozen=True)
class Reference:
    """Where in a registry an image goes.

    :param repository: host and path.
    """

    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``host[:port]/path:tag``.

        :raises FerryError: for any other form.
        """
        found = REFERENCE.fullmatch(text)
        if found is None or not is_repository(found["repository"]):
            reason = "has no tag" if is_repository(text) else "does not name an image in a registry"
            raise FerryError(
                f"{text!r} {reason}.",
                remedy="Write host[:port]/path:tag, such as registry.example:5000/ferry/db:move.",
            )
        return cls(found["repository"], found["tag"])

    @property
    def host(self) -> str:
        """The registry, with its port."""
        return self.repository.split("/")[0]

    def tagged(self, tag: str) -> Reference:
        return Reference(self.repository, tag)

    def by_digest(self, digest: str) -> str:
        return f"{self.repository}@{digest}"

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass
class RegistryCarrier:
    """Carries one image; each step can be journalled before it begins.

    What is left on the hosts is removed by ``remove``, on every way out. The copy in the registry stays.

    :param directory: on the machine that this runs on, for the layer, which is not compressed there.
    :param image_id: of the image on both hosts; None before ``prepare`` knows it.
    :param digest: of its manifest in the registry, if podman tells it.
    """

    source: LibpodClient
    destination: LibpodClient
    reference: Reference
    access: RegistryAccess = field(default_factory=RegistryAccess)
    directory: str = "/var/tmp"
    image_id: str | None = None
    digest: str | None = None

    # -- before the freeze ----------------------------------------------------------------------------------------

    def findings(self, *, rehearse: bool) -> list[_compat.Finding]:
        """Whether both hosts can use the registry.

        :param rehearse: carry a tiny image, which proves all of it and leaves that image's tag in the registry. If not,
            only ask: it proves that the registry answers, and not that it takes anything.
        """
        if rehearse:
            return self._rehearsed()
        hosts = {"source": self.source, "destination": self.destination}
        return [finding for where, client in hosts.items() for finding in self._asked(where, client)]

    def _asked(self, where: str, client: LibpodClient) -> list[_compat.Finding]:
        """Ask for an image that nobody has; that it is not there is an answer."""
        absent = self.reference.tagged(f"{REHEARSAL}-{os.urandom(8).hex()}")
        try:
            client.pull_reference(str(absent), self.access, retry=0)
        except FerryError as error:
            if REACHED not in error.message:
                return _compat.registry_findings(where, str(self.reference), error.message)
        return []

    def _rehearsed(self) -> list[_compat.Finding]:
        tiny = RegistryCarrier(
            self.source, self.destination, self.reference.tagged(REHEARSAL), self.access, self.directory
        )
        where = "source"
        try:
            tiny.load([_tiny()], "amd64", dict)
            tiny.push(retry=0)
            where = "destination"
            tiny.pull(retry=0)
        except FerryError as error:
            return _compat.registry_findings(where, str(self.reference), error.message)
        finally:
            tiny.remove()
        return []

    # -- the steps ------------------------------------------------------------------------------------------------

    def prepare(self, chunks: Iterable[bytes], contents: Contents, host: HostInfo, criu: str | None = None) -> None:
        """Make an image of an archive on the source.

        :param chunks: the archive; all of them are there when this returns.
        :param contents: filled by the time that the last chunk has come.
        :param host: the source.
        :param criu: its version of CRIU, if it is known.
        :raises FerryError: if it cannot be made.
        """
        self.load(chunks, host.arch, lambda: as_annotations(checkpoint_facts(contents.config, host, criu)))

    def load(self, chunks: Iterable[bytes], architecture: str, describe: Callable[[], Mapping[str, str]]) -> None:
        """Make an image of one layer on the source.

        :param describe: gives its annotations when all chunks have come.
        """
        with private_file(self.directory) as file:
            layer = spooled(chunks, file, self.directory)
            image = Image([layer], architecture, datetime.now(timezone.utc), describe())
            self.image_id = image.id
            with explained("The disk of the source needs room for the archive four times: see podman info, graphRoot."):
                load(self.source, image, "Loading the checkpoint as an image on the source")
        if self.source.image(image.id) is None:
            raise FerryError(
                f"The checkpoint was loaded on the source as another image than {image.id[:12]}.",
                remedy="Use another transfer.",
            )

    def push(self, *, retry: int | None = None) -> None:
        """Push the image from the source.

        :raises FerryError: if it is not in the registry then.
        """
        with explained("See that the registry takes images from the source, and has room."):
            self.digest = self.source.push_image(self._id, str(self.reference), self.access, retry=retry)

    def pull(self, *, retry: int | None = None) -> str:
        """Pull what was pushed on the destination, and return the image's ID, to restore from.

        :raises FerryError: if it is not there then, or not the same.
        """
        reference = self.reference.by_digest(self.digest) if self.digest else str(self.reference)
        with explained("See that the destination may pull from the registry, and has room."):
            arrived = self.destination.pull_reference(reference, self.access, retry=retry)
        if arrived != self._id:
            self._remove(self.destination, arrived)
            raise FerryError(
                f"The destination has pulled {reference} and got the image {arrived[:12]}, not {self._id[:12]}.",
                remedy="Something else was pushed under that name meanwhile: give each move a tag of its own.",
            )
        return arrived

    @property
    def _id(self) -> str:
        if self.image_id is None:
            raise FerryError("The image has not been made yet.")
        return self.image_id

    # -- afterwards -----------------------------------------------------------------------------------------------

    def remove(self) -> list[str]:
        """Remove the image from both hosts; never raises. What could not be removed, as text.

        Not while it may still be restored from: podman copies files out of the image one by one, and takes those that
        are not there for such as were never there.
        """
        if self.image_id is None:
            return []
        problems = [self._remove(client, self.image_id) for client in (self.source, self.destination)]
        return [problem for problem in problems if problem is not None]

    @staticmethod
    def _remove(client: LibpodClient, image_id: str) -> str | None:
        try:
            client.remove_image(image_id)
        except FerryError as error:
            return str(error)
        return None


@contextlib.contextmanager
def explained(remedy: str) -> Iterator[None]:
    """Say what to do about what podman refuses."""
    try:
        yield
    except ApiError as error:
        raise FerryError(error.message, remedy=remedy, **error.facts) from error


def advice(cause: str, host: str, *, has_credentials: bool = False) -> str:
    """What to do when a registry gives or takes no image.

    :param cause: what podman said.
    :param host: the registry, with its port.
    :param has_credentials: some were sent along.
    """
    if has_credentials and any(word in cause for word in UNKNOWN_THERE):
        return (
            f"{host} refused the credentials that were given by registry_username and registry_password or by "
            "registry_auth_file: see that they are right, and that this user may push or pull there."
        )
    for words, remedy in ADVICE.items():
        if any(word in cause for word in words):
            return remedy.format(host=host)
    return (
        f"See that {host} runs and can be reached from the host of the service, and run this again; what has come half "
        "way is no image, and nothing of it is used."
    )


@contextlib.contextmanager
def advised(reference: Reference, access: RegistryAccess) -> Iterator[None]:
    """Say what to do when podman cannot push or pull this."""
    try:
        yield
    except ApiError as error:
        given = access.username is not None or access.identity_token is not None
        remedy = advice(error.cause, reference.host, has_credentials=given)
        raise FerryError(error.message, remedy=remedy, **error.facts) from error


@contextlib.contextmanager
def private_file(directory: str) -> Iterator[t.IO[bytes]]:
    """A file that nobody can open, because it has no name: what is in it is a process's memory.

    :raises FerryError: if there can be none.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ferry-", dir=directory) as private:
            file = tempfile.TemporaryFile(dir=private)
    except OSError as error:
        raise FerryError(f"No file can be made in {directory}: {error.strerror or error}.") from error
    try:
        yield file
    finally:
        # What a full disk has not taken is written once more, in vain.
        with contextlib.suppress(OSError):
            file.close()


def spooled(chunks: Iterable[bytes], file: t.IO[bytes], directory: str) -> Layer:
    """:param directory: where the file is, for the message."""
    try:
        return Layer.spooled(chunks, file)
    except OSError as error:
        raise FerryError(
            f"The archive cannot be written in {directory}: {error.strerror or error}.",
            remedy="It needs room there for the container's memory, files and volumes, uncompressed.",
        ) from error


def _tiny() -> bytes:
    """A tar with one file that no registry has yet."""
    info = tarfile.TarInfo("rehearsal")
    info.size = 32
    return info.tobuf(tarfile.PAX_FORMAT) + os.urandom(info.size) + bytes(3 * RECORD - info.size)
