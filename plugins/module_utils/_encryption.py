# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Archives that are encrypted at rest, by the program age; ciphers, keys and the format are its own.

The encrypted side is always a file that age reads or writes by itself. So each run of it has one pipe to here, and
cannot wait for something that waits for it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import subprocess
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError

HEADERS = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
HEAD = max(map(len, HEADERS))
"""How many of a file's first bytes tell whether it is encrypted."""

PATIENCE = 60.0
"""Seconds in which age ends once there is nothing left to do."""

STALL = 300.0
"""Seconds for which age may neither take nor give a byte: disks can be slow, and plugins may wait for a touch."""

MOST_SAID = 64 * 1024
IDENTITY_REMEDY = "Give an age or ssh identity of one of those whom it is encrypted to, as decrypt_identity."


class Locked(ArchiveError):
    """An encrypted archive that cannot be read."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        finding = {"code": code, "severity": "blocker", "message": message, "remedy": remedy}
        super().__init__(message, remedy=remedy, findings=[finding])


def is_encrypted(head: bytes) -> bool:
    """By a file's first ``HEAD`` bytes."""
    return head.startswith(HEADERS)


def is_encrypted_file(path: str) -> bool:
    """:raises OSError: if it cannot be read."""
    with open(path, "rb") as file:
        return is_encrypted(file.read(HEAD))


def no_identity(path: str) -> Locked:
    return Locked("archive_encrypted", f"The archive {path} is encrypted, and no identity is given.", IDENTITY_REMEDY)


@dataclass(frozen=True)
class Recipients:
    """Those who can open what is encrypted to them.

    :param names: public keys of age or ssh.
    :param file: path of a file with one of these in each line, or None.
    """

    names: tuple[str, ...] = ()
    file: str | None = None

    @property
    def arguments(self) -> list[str]:
        found = [word for name in self.names for word in ("--recipient", name)]
        # An absolute path is never taken for standard input.
        return found if self.file is None else [*found, "--recipients-file", os.path.abspath(self.file)]

    def check(self) -> None:
        """Encrypt something to them.

        :raises FerryError: if age is missing, or cannot.
        """
        with _in_memory() as file, contextlib.closing(Encryptor(file, self)) as trial:
            trial.write(b"trial")
            trial.finish()
            if not is_encrypted(os.pread(file.fileno(), HEAD, 0)):
                raise FerryError("The program age on this host does not write age's format.")
        _Key().close()


class _Run:
    """One run of age. All that it says is kept in memory, so that it never waits for somebody to listen."""

    def __init__(
        self, command: Sequence[str], stdin: t.IO[bytes] | int, stdout: t.IO[bytes] | int, keep: Sequence[int] = ()
    ) -> None:
        self._said = _in_memory()
        try:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=stdin,
                stdout=stdout,
                stderr=self._said,
                pass_fds=keep,
                # Without a terminal it fails where it would ask for a passphrase.
                start_new_session=True,
            )
        except OSError as error:
            self._said.close()
            if isinstance(error, FileNotFoundError):
                remedy = "Install age; Debian's package has that name."
                raise FerryError(f"The program {command[0]} is missing on this host.", remedy=remedy) from error
            raise FerryError(f"{command[0]} cannot be started: {error.strerror}.") from error

    def wait_for(self, pipe: t.IO[bytes], event: int) -> None:
        """:raises FerryError: if age stands still."""
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(STALL * 1000):
            raise FerryError(f"age has stood still for {STALL:.0f} s.")

    def failure(self) -> str | None:
        """Wait for its end, and tell in one line why it failed; None if it did not."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return f"age has not ended within {PATIENCE:.0f} s"
        return None if code == 0 else _one_line(os.pread(self._said.fileno(), MOST_SAID, 0)) or f"age ended with {code}"

    def close(self) -> None:
        """End it, wherever it is."""
        # Before its pipe is closed, which it would take for the end of what is to be encrypted.
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._said.close()


def _one_line(said: bytes) -> str:
    lines = [re.sub(r"^age[a-z-]*: (error: )?", "", line) for line in said.decode(errors="replace").splitlines()]
    told = "; ".join(line.strip() for line in lines if line.strip() and not line.startswith("report unexpected"))
    return "".join(letter if letter.isprintable() else "?" for letter in told)[:300].rstrip(".")


def _in_memory() -> t.IO[bytes]:
    return t.cast("t.IO[bytes]", io.FileIO(os.memfd_create("ferry"), "r+"))


class Encryptor(io.RawIOBase):
    """What is written to it is in the file, encrypted, once ``finish`` has returned.

    Closing it before that ends age: the file is not whole then.

    :param file: an empty one, open; stays open.
    :raises FerryError: as all methods, if age is missing or fails.
    """

    def __init__(self, file: t.IO[bytes], recipients: Recipients) -> None:
        super().__init__()
        self._run = _Run(["age", "--encrypt", *recipients.arguments], subprocess.PIPE, file)
        self._pipe = t.cast("t.IO[bytes]", self._run.process.stdin)
        os.set_blocking(self._pipe.fileno(), False)

    def writable(self) -> bool:
        return True

    def write(self, data: t.Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            self._run.wait_for(self._pipe, select.POLLOUT)
            try:
                left = left[os.write(self._pipe.fileno(), left) :]
            except BrokenPipeError:
                raise self._failed(self._run.failure() or "age ended early") from None
        return size

    def finish(self) -> None:
        self._pipe.close()
        failure = self._run.failure()
        if failure is not None:
            raise self._failed(failure)

    def _failed(self, failure: str) -> FerryError:
        # What age says of a recipient it says before it writes anything.
        remedy = (
            "See to the recipients." if "recipient" in failure else "See to the recipients, and to room on the disk."
        )
        return FerryError(f"age cannot encrypt: {failure}.", remedy=remedy)

    def close(self) -> None:
        if not self.closed:
            self._run.close()
        super().close()


class Decryptor(io.RawIOBase):
    """What an encrypted file holds. Its end is only told when age has found all of it to be whole and authentic.

    :param file: descriptor of the file, which is read from its begin and keeps its place.
    :param identity: path of a file with identities of age, or with one of ssh.
    :param keep: descriptors that age needs for that.
    :raises FerryError: if age is missing.
    """

    def __init__(self, file: int, identity: str, keep: Sequence[int] = ()) -> None:
        super().__init__()
        # Opened anew, it has a place of its own; by this path it is the same file whatever its name is now.
        source = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            command = ["age", "--decrypt", "--identity", os.path.abspath(identity)]
            self._run = _Run(command, source, subprocess.PIPE, keep)
        finally:
            os.close(source)
        self._pipe = t.cast("t.IO[bytes]", self._run.process.stdout)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        """:raises Locked: if age cannot decrypt it, or not to its end."""
        if not len(buffer):
            return 0
        self._run.wait_for(self._pipe, select.POLLIN)
        size = os.readv(self._pipe.fileno(), [buffer])
        if size == 0 and (failure := self._run.failure()) is not None:
            remedy = f"{IDENTITY_REMEDY} If that is so, it is damaged; get it again."
            raise Locked("decryption_failed", f"The archive cannot be decrypted: {failure}.", remedy)
        return size

    def close(self) -> None:
        if not self.closed:
            self._run.close()
        super().close()


class _Key:
    """An identity that is nowhere but in memory."""

    def __init__(self) -> None:
        self._file = _in_memory()
        try:
            run = _Run(["age-keygen"], subprocess.DEVNULL, self._file)
            with contextlib.closing(run):
                failure = run.failure()
            found = re.search(rb"public key: (age1\w+)", os.pread(self._file.fileno(), MOST_SAID, 0))
            if failure is not None or found is None:
                raise FerryError(f"age-keygen makes no key: {failure or 'it does not tell the public one'}.")
            self.recipients = Recipients((found[1].decode(),))
        except BaseException:
            self._file.close()
            raise

    def reader(self, file: t.IO[bytes]) -> Decryptor:
        descriptor = self._file.fileno()
        return Decryptor(file.fileno(), f"/proc/self/fd/{descriptor}", [descriptor])

    def close(self) -> None:
        self._file.close()


def sealed(file: t.IO[bytes]) -> t.IO[bytes]:
    """``Sealed`` as the file that it stands for."""
    return t.cast("t.IO[bytes]", Sealed(file))


class Sealed(io.RawIOBase):
    """Scratch space on a disk that nobody can read besides this object: its key is in memory, and ends with it.

    It is written from its begin, and then read from there, as often as wanted; nothing else.

    :param file: an empty one, open; it is owned.
    """

    def __init__(self, file: t.IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._key: _Key | None = None
        self._writer: Encryptor | None = None
        self._reader: Decryptor | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: t.Any) -> int:
        if self._writer is None:
            # Not by the file's own methods, which do not know that age has moved its place.
            os.ftruncate(self._file.fileno(), 0)
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)
            self._key = self._key or _Key()
            self._writer = Encryptor(self._file, self._key.recipients)
        return self._writer.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """To the begin; what is written after that takes the place of what is there."""
        if offset or whence:
            raise io.UnsupportedOperation("Only the begin can be sought.")
        if self._writer is not None:
            self._writer.finish()
        self._rest()
        return 0

    def readinto(self, buffer: t.Any) -> int:
        if self._key is None:
            return 0
        self._reader = self._reader or self._key.reader(self._file)
        return self._reader.readinto(buffer)

    def _rest(self) -> None:
        for run in (self._writer, self._reader):
            if run is not None:
                run.close()
        self._writer = self._reader = None

    def close(self) -> None:
        if not self.closed:
            self._rest()
            if self._key is not None:
                self._key.close()
            self._file.close()
        super().close()
