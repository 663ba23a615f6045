# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Signed lists of what an archive holds: who made it, and that nothing of it was changed since.

The list has a line ``sha256  size  name`` for each member, in the archive's order, so that it can be checked by hand:
``tar -xOf ARCHIVE NAME | sha256sum``. A link stands for its target. ``ssh-keygen -Y`` signs the list and verifies it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils._archive import VOLUME_ROOT, Member
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError

NAMESPACE = "checkpoint@ferry.podman"
"""What a signature is for: ssh keys sign other things too."""

LIST, SIGNATURE = ".manifest", ".manifest.sig"
"""What stands behind the archive's name in those of the list and of its signature."""

MOST_LIST = 32 * 1024 * 1024
PATIENCE = 60.0


class Unsigned(FerryError):
    """An archive that nobody has signed whose signature was asked for, or that was changed since."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        finding = {"code": code, "severity": "blocker", "message": message, "remedy": remedy}
        super().__init__(message, remedy=remedy, findings=[finding])


class Lister:
    """Makes the list while the members go by; see ``_archive.Witness``."""

    def __init__(self) -> None:
        self.text = bytearray()

    def seen(self, member: Member, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the content on."""
        target = os.fsencode(member.info.linkname) if member.info.issym() else b""
        digest, size = hashlib.sha256(target), len(target)
        for block in blocks:
            digest.update(block)
            size += len(block)
            yield block
        self._line(digest.hexdigest(), size, member.name)
        root = member.info.pax_headers.get(VOLUME_ROOT)
        if root is not None:
            # Owner and mode that the volume gets are as good as content.
            self._line(hashlib.sha256(root.encode()).hexdigest(), len(root.encode()), f"{member.name}:{VOLUME_ROOT}")

    def _line(self, digest: str, size: int, name: str) -> None:
        self.text += f"{digest}  {size}  ".encode() + os.fsencode(name) + b"\n"

    def finish(self) -> None:
        """Nothing comes any more."""


class Comparer(Lister):
    """Compares the members that go by with a list that was signed, and refuses the first that differs."""

    def __init__(self, signed: bytes) -> None:
        super().__init__()
        self._signed = signed
        self._offset = 0

    def _line(self, digest: str, size: int, name: str) -> None:
        line = f"{digest}  {size}  ".encode() + os.fsencode(name) + b"\n"
        if not self._signed.startswith(line, self._offset):
            raise _changed(f"The archive's {name!r} is not what was signed.")
        self._offset += len(line)

    def finish(self) -> None:
        """:raises Unsigned: if the archive has less than the list."""
        if self._offset < len(self._signed):
            missing = self._signed[self._offset :].split(b"\n", 1)[0].split(b"  ", 2)[-1]
            raise _changed(f"The archive lacks {os.fsdecode(missing)!r}, which was signed.")


def _changed(message: str) -> Unsigned:
    return Unsigned("signature_differs", message, "Get it again from where it was made.")


def sign(text: bytes, key: str) -> bytes:
    """Sign a list.

    :param key: path of a private key without a passphrase, or of a public one whose private one an agent holds.
    :raises FerryError: if ssh-keygen cannot.
    """
    done = _ssh_keygen("sign", "-f", key, "-n", NAMESPACE, stdin=text)
    if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise FerryError(
            f"The archive cannot be signed with {key}: {_said(done)}",
            remedy="Give a key that needs no passphrase, or a public key whose private one ssh-agent holds.",
        )
    return done.stdout


def signed_list(archive: str, allowed_signers: str, signer: str | None) -> tuple[bytes, str]:
    """The list beside an archive, and who has signed it.

    :param signer: who must have; by default anybody in the file.
    :raises Unsigned: if there is none, or not by one of these.
    """
    signature = archive + SIGNATURE
    text = _read(archive + LIST, archive)
    _read(signature, archive)
    if not os.path.isfile(allowed_signers):
        raise FerryError(f"There is no file {allowed_signers} with the signers that are allowed.")
    candidates = [signer] if signer is not None else _principals(signature, allowed_signers)
    said = "no allowed signer has this key."
    for candidate in candidates:
        where = ("-f", allowed_signers, "-I", candidate, "-s", signature)
        done = _ssh_keygen("verify", *where, "-n", NAMESPACE, stdin=text)
        if done.returncode == 0:
            return text, candidate
        said = _said(done)
    raise Unsigned(
        "signature_invalid",
        f"The signature of {archive} is not one of {signer or 'those in ' + allowed_signers}: {said}",
        "See who made the archive, and whether that one is to be allowed.",
    )


def _read(path: str, archive: str) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_LIST + 1)
    except OSError as error:
        raise Unsigned(
            "signature_absent",
            f"The archive {archive} is not signed: {path} cannot be read: {error.strerror}.",
            "Have it signed where it is made, with sign_key, and bring both files along.",
        ) from error
    if len(text) > MOST_LIST:
        raise ArchiveError(f"{path} is larger than {MOST_LIST} bytes.")
    return text


def _principals(signature: str, allowed_signers: str) -> list[str]:
    done = _ssh_keygen("find-principals", "-f", allowed_signers, "-s", signature)
    return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []


def _ssh_keygen(action: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    # Nobody is there to be asked for a passphrase.
    environment = {key: value for key, value in os.environ.items() if key not in ("SSH_ASKPASS", "DISPLAY")}
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", action, *arguments],
            input=stdin,
            capture_output=True,
            env={**environment, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"},
            start_new_session=True,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError as error:
        raise FerryError("The program ssh-keygen is missing on this host.", remedy="Install OpenSSH.") from error
    except subprocess.TimeoutExpired as error:
        raise FerryError(f"ssh-keygen -Y {action} has not ended within {PATIENCE:.0f} s.") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    return (
        " ".join(line.strip() for line in lines if line.strip() and not line.startswith("-----"))[:500] or "no reason."
    )
