# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""How far a move is: its phases and what they take, bytes sent, and their rate where that is limited."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._journal import Journal

NOTED_EVERY = 1.0
"""Seconds between two notes of the bytes that were sent."""

LONGEST_PAUSE = 0.5
"""Seconds; a limited stream is sent in even steps, not in bursts that a client of the network would feel."""


@dataclass
class Progress:
    """What a move has cost so far.

    :param bandwidth: bytes per second at most, or None.
    :param phases: milliseconds of each phase.
    :param sent: bytes of the archive that left the source.
    """

    journal: Journal
    bandwidth: int | None = None
    phases: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _noted: float = 0.0
    _free_at: float = 0.0

    @contextlib.contextmanager
    def phase(self, name: str, **changes: t.Any) -> Iterator[None]:
        """Put the phase into the journal, and time what is inside.

        :param changes: of the journal's entry.
        :raises FerryError: if the journal cannot be written; nothing inside has begun then.
        """
        self.journal.enter(name, **changes)
        with self.timed(name):
            yield

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0) + round((time.monotonic() - begun) * 1000)

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass them on at the rate that is allowed."""
        for chunk in chunks:
            yield chunk
            self.passed(len(chunk))

    def passed(self, size: int) -> None:
        """Count bytes that have gone, and wait where that was too fast; all threads of a move share the rate."""
        now = time.monotonic()
        with self._lock:
            self.sent += size
            ahead = self._ahead(size, now)
            notes = now - self._noted > NOTED_EVERY
            if notes:
                self._noted = now
        if notes:
            self.journal.note(sent=self.sent)
        while ahead > 0:
            time.sleep(min(ahead, LONGEST_PAUSE))
            self.journal.note(sent=self.sent)
            ahead -= LONGEST_PAUSE

    def _ahead(self, size: int, now: float) -> float:
        """Seconds by which this was too early."""
        if not self.bandwidth:
            return 0.0
        self._free_at = max(self._free_at, now) + size / self.bandwidth
        return self._free_at - now
