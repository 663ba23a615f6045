# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""An archive file that is read more than once: looked into, and then sent to podman; and is the same each time."""

from __future__ import annotations

import contextlib
import io
import os
import typing as t
from collections.abc import Iterator
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils._archive import (
    BLOCK,
    Contents,
    Reader,
    Witness,
    compression_by,
    inspect,
    named,
    rewritten,
    unpacked,
)
from ansible_collections.ferry.podman.plugins.module_utils._compat import Subject
from ansible_collections.ferry.podman.plugins.module_utils._digest import Digest
from ansible_collections.ferry.podman.plugins.module_utils._encryption import (
    HEAD,
    Decryptor,
    is_encrypted,
    no_identity,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import PODMAN, look_at
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer
from ansible_collections.ferry.podman.plugins.module_utils._signature import Comparer, signed_list

P = t.TypeVar("P", bound="_Peeked")


class Source:
    """Use it as a context manager. The file stays open: another one that takes its name is never read.

    :param identity: path of what opens it where it is encrypted.
    :raises ArchiveError: if it cannot be opened.
    """

    def __init__(self, path: str, identity: str | None = None) -> None:
        self.path = path
        self.compression = "none"  # Of an encrypted one it is only known when it has been read.
        self._identity = identity
        self._digest = ""
        with contextlib.ExitStack() as opened:
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, self._descriptor)
                self.encrypted = is_encrypted(os.pread(self._descriptor, HEAD, 0))
            except OSError as error:
                raise ArchiveError(f"The archive {path} cannot be read: {error.strerror}.") from error
            if self.encrypted and identity is None:
                raise no_identity(path)
            opened.pop_all()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._descriptor)

    def inspect(self, limits: Limits, witness: Witness | None = None) -> Contents:
        """Read it to its end, see what it holds, and note its digest.

        :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
        """
        with named(self.path), self._opened(_Digested) as (digested, archive):
            contents = inspect(archive, limits, witness)
            self._digest = digested.digest()
        return contents

    @property
    def modified(self) -> datetime:
        """When it was written."""
        return datetime.fromtimestamp(int(os.fstat(self._descriptor).st_mtime), timezone.utc)

    @contextlib.contextmanager
    def stream(self) -> Iterator[Reader]:
        """Read it from its begin, uncompressed."""
        with named(self.path), self._opened(_Peeked) as (_peeked, archive):
            yield archive

    @contextlib.contextmanager
    def again(self) -> Iterator[tuple[Reader, t.Callable[[], None]]]:
        """Read it once more. The second value must be called at the end, and raises if it has changed meanwhile."""
        with self._opened(_Digested) as (digested, archive):

            def check() -> None:
                if digested.digest() != self._digest:
                    raise ArchiveError(f"The archive {self.path} has changed while it was read.")

            yield archive, check

    @contextlib.contextmanager
    def _opened(self, kind: type[P]) -> Iterator[tuple[P, Reader]]:
        """What is in the file, decrypted; and that uncompressed."""
        with contextlib.ExitStack() as stack:
            if self._identity is not None and self.encrypted:
                decryptor = stack.enter_context(contextlib.closing(Decryptor(self._descriptor, self._identity)))
                peeked = kind(t.cast(Reader, decryptor))
            else:
                peeked = kind(_Begin(self._descriptor))
            self.compression = compression_by(peeked.begin())
            file = t.cast("t.IO[bytes]", peeked)
            yield peeked, stack.enter_context(unpacked(file, self.compression, self.path))


class _Begin:
    """A file from its begin on, wherever its descriptor stands."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def read(self, size: int = BLOCK) -> bytes:
        block = os.pread(self._descriptor, size, self._offset)
        self._offset += len(block)
        return block


class _Peeked(io.RawIOBase):
    """A file whose first bytes can be looked at before it is read."""

    def __init__(self, file: Reader) -> None:
        self._file = file
        self._begin = b""

    def readable(self) -> bool:
        return True

    def begin(self) -> bytes:
        """The first bytes, to tell the compression by; they are read once more after that."""
        while len(self._begin) < 8 and (block := self._file.read(8 - len(self._begin))):
            self._begin += block
        return self._begin

    def read(self, size: int = -1) -> bytes:
        # What is inherited would copy each block twice.
        if size < 0:
            return self.readall()
        block, self._begin = self._begin[:size], self._begin[size:]
        if len(block) < size:
            block += self._file.read(size - len(block))
        return block

    def readinto(self, buffer: t.Any) -> int:
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


class _Digested(_Peeked):
    """The digest is of all that a file holds, also of what no decompressor has asked for."""

    def __init__(self, file: Reader) -> None:
        super().__init__(file)
        self._digest = Digest()

    def read(self, size: int = -1) -> bytes:
        block = super().read(size)
        if size >= 0:
            self._digest.update(block)
        return block

    def digest(self) -> str:
        """Read the rest, and return the digest."""
        while self.read(BLOCK):
            pass
        return self._digest.hexdigest()


class Archive:
    """A checkpoint in one file, or in two: the pages that changed, and before them those of a pre-checkpoint.

    Use it as a context manager.

    :param identity: path of what opens those that are encrypted.
    :raises ArchiveError: if a file cannot be opened.
    """

    def __init__(self, path: str, previous: str | None, identity: str | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._source = self._stack.enter_context(Source(path, identity))
        self._previous: Source | None = None
        if previous is not None:
            with contextlib.ExitStack() as opened:
                opened.push(self._stack)
                self._previous = self._stack.enter_context(Source(previous, identity))
                opened.pop_all()
        self.signed_by: str | None = None

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def inspect(self, limits: Limits, allowed_signers: str | None, signer: str | None) -> Contents:
        """Read all of it once, so that nothing broken, hostile or unsigned reaches podman.

        :param allowed_signers: path of the file of those who may have signed it; None asks for no signature.
        :raises ArchiveError: if it is not whole, or holds what must not be there.
        :raises Unsigned: if nobody of these has signed it.
        """
        previous = self._previous
        if previous is not None:
            before = previous.inspect(limits, self._witness(previous.path, allowed_signers, signer))
            if not before.is_pre_checkpoint:
                raise FerryError(
                    f"{previous.path} is not a pre-checkpoint.",
                    remedy="Give the archive that was made with pre_checkpoint.",
                )
        return self._source.inspect(limits, self._witness(self._source.path, allowed_signers, signer))

    def kind(self, limits: Limits) -> str:
        """Who made it, see ``_kubelet.kind_of``; podman if that cannot be told."""
        try:
            with self._source.stream() as begin:
                return look_at(begin, limits).kind
        except ArchiveError:
            return PODMAN

    def _witness(self, path: str, allowed_signers: str | None, signer: str | None) -> Witness | None:
        if allowed_signers is None:
            return None
        text, self.signed_by = signed_list(path, allowed_signers, signer)
        return Comparer(text)

    def restore(self, restorer: Restorer, subject: Subject, new_name: str | None, limits: Limits) -> Json:
        """Send it to podman and have it restored; it must be what was read before.

        :raises RestoreFailed: and nothing of it is left.
        """
        contents = Contents()
        with contextlib.ExitStack() as stack:
            source, unchanged = stack.enter_context(self._source.again())
            before, unchanged_before = None, None
            if self._previous is not None:
                before, unchanged_before = stack.enter_context(self._previous.again())

            def whole() -> None:
                for check in filter(None, (unchanged, unchanged_before)):
                    check()

            chunks = rewritten(source, contents, previous=before, limits=limits)
            doing = f"Restoring container {new_name or subject.name}"
            return restorer.import_chunks(chunks, contents, subject, new_name, doing, whole)
