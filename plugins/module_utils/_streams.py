# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Streams around streams: chunks as something to read, and reading that proves a digest."""

from __future__ import annotations

import io
import typing as t
from collections.abc import Iterable

from ansible_collections.ferry.podman.plugins.module_utils._archive import DAMAGED
from ansible_collections.ferry.podman.plugins.module_utils._digest import Digest
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError


class Chunks(io.RawIOBase):
    """Chunks of any size as a file to read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        while not self._left:
            block = next(self._chunks, None)
            if block is None:
                return 0
            self._left = memoryview(block)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class Checked(io.RawIOBase):
    """Reads a file; where it ends, all that was read must have a digest.

    :param file: is owned.
    :param digest: ``sha256:…``
    :param name: for messages.
    """

    def __init__(self, file: t.IO[bytes], digest: str, name: str) -> None:
        self._file = file
        self._digest = digest
        self._name = name
        self._found = Digest()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        try:
            block = self._file.read(len(buffer))
        except DAMAGED as error:
            raise ArchiveError(f"{self._name} is damaged or cut short: {error}.") from error
        self._found.update(block)
        if not block and f"sha256:{self._found.hexdigest()}" != self._digest:
            raise ArchiveError(f"{self._name} is damaged: what is in it has not the digest {self._digest}.")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()
