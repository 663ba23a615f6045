# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""SHA-256 beside what else is done with the same bytes: it takes longer than reading and writing them."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

SMALL = 64 * 1024
"""Chunks below this are gathered: to hand one over takes as long as to compute it."""

WAITING = 8
"""Chunks that may wait; whoever brings more of them waits too, so memory stays small."""

# One thread, begun with the first chunk. hashlib lets other threads run meanwhile.
_pool = ThreadPoolExecutor(1)


class Digest:
    """Takes chunks in their order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._small = bytearray()
        self._waiting: deque[Future[None]] = deque()

    def update(self, chunk: bytes) -> None:
        """:param chunk: must not change afterwards."""
        if len(chunk) < SMALL:
            self._small += chunk
            if len(self._small) < SMALL:
                return
            chunk = b""
        self._flush()
        if chunk:
            self._submit(chunk)

    def hexdigest(self) -> str:
        self._flush()
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        if self._small:
            self._submit(bytes(self._small))
            self._small.clear()

    def _submit(self, chunk: bytes) -> None:
        if len(self._waiting) == WAITING:
            self._waiting.popleft().result()
        self._waiting.append(_pool.submit(self._hash.update, chunk))
