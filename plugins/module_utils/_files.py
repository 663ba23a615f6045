# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Files that appear whole or not at all, and are read by root alone."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import typing as t
from collections.abc import Iterable, Iterator

from ansible_collections.ferry.podman.plugins.module_utils._archive import compression_of, compressor
from ansible_collections.ferry.podman.plugins.module_utils._encryption import (
    Encryptor,
    Recipients,
    is_encrypted_file,
    sealed,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError

PARTIAL = ".partial"


class ArchiveFile:
    """A file written beside its target, mode 0600, and moved into place when it is complete.

    :param path: the target; what is there stays untouched until the move.
    :raises FerryError: if its directory cannot be written to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.path.dirname(os.path.abspath(path))
        self.size = 0
        self.digest = ""
        prefix = f".{os.path.basename(path)}."
        try:
            _remove_abandoned(self.directory, prefix)
            descriptor, self._temporary = tempfile.mkstemp(prefix=prefix, suffix=PARTIAL, dir=self.directory)
        except OSError as error:
            raise _unwritable(path, error) from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._file = os.fdopen(descriptor, "r+b")

    def write(
        self, chunks: Iterable[bytes], compression: str, level: int | None, recipients: Recipients | None = None
    ) -> None:
        """Compress the chunks into the file, sync it, and note its size and digest.

        :param recipients: whom it is encrypted to; None for nobody.
        :raises FerryError: if the file system refuses, a full one included, or age fails.
        """
        try:
            with self._inside(recipients) as inside:
                packed = compressor(inside, compression, level)
                for chunk in chunks:
                    packed.write(chunk)
                packed.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self.size = os.fstat(self._file.fileno()).st_size
            self.digest = self._sha256()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    @contextlib.contextmanager
    def _inside(self, recipients: Recipients | None) -> Iterator[t.IO[bytes]]:
        """Where what is to be in the file is written to."""
        if recipients is None:
            yield self._file
            return
        with contextlib.closing(Encryptor(self._file, recipients)) as encryptor:
            yield t.cast("t.IO[bytes]", encryptor)
            encryptor.finish()

    def _sha256(self) -> str:
        self._file.seek(0)
        digest = hashlib.sha256()
        while block := self._file.read(1024 * 1024):
            digest.update(block)
        return f"sha256:{digest.hexdigest()}"

    def commit(self) -> None:
        """Move the file to its name, durably."""
        try:
            os.replace(self._temporary, self.path)
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def scratch(self, *, secret: bool = False) -> t.IO[bytes]:
        """An unnamed file in the same directory.

        :param secret: have nothing in it that others could read.
        """
        file = tempfile.TemporaryFile(dir=self.directory)
        return sealed(file) if secret else file

    def __enter__(self) -> ArchiveFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)
        # Closing writes what is still in the buffer, and fails once more where the disk is full.
        with contextlib.suppress(OSError):
            self._file.close()


def write_beside(path: str, text: bytes) -> None:
    """Write a small file the same way.

    :raises FerryError: if the file system refuses.
    """
    with ArchiveFile(path) as file:
        file.write([text], "none", None)
        file.commit()


def _remove_abandoned(directory: str, prefix: str) -> None:
    """Remove what killed runs left for the same target; a run that still writes holds a lock."""
    for name in os.listdir(directory):
        if not (name.startswith(prefix) and name.endswith(PARTIAL)):
            continue
        path = os.path.join(directory, name)
        with contextlib.suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)


def _unwritable(path: str, error: OSError) -> FerryError:
    return FerryError(
        f"The archive {path} cannot be written: {error.strerror or error}.",
        remedy="Give a path in an existing directory with room for the container's memory.",
    )


def describe_file(path: str) -> dict[str, t.Any]:
    """Size in bytes, digest and compression of an archive that is there already, and whether it is encrypted."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1024 * 1024):
            digest.update(block)
    return {
        "dest": path,
        "size": os.path.getsize(path),
        "digest": f"sha256:{digest.hexdigest()}",
        "compression": compression_of(path),
        "encrypted": is_encrypted_file(path),
    }
