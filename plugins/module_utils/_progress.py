# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""How far a move is: its phases and what they take, bytes sent, and their rate where that is limited."""

from __future__ import annotations

import contextlib
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
        begun = noted = time.monotonic()
        before = self.sent
        for chunk in chunks:
            yield chunk
            self.sent += len(chunk)
            now = time.monotonic()
            if now - noted > NOTED_EVERY:
                self.journal.note(sent=self.sent)
                noted = now
            self._slow_down(self.sent - before, now - begun)

    def _slow_down(self, sent: int, elapsed: float) -> None:
        if self.bandwidth:
            ahead = sent / self.bandwidth - elapsed
            while ahead > 0:
                time.sleep(min(ahead, LONGEST_PAUSE))
                self.journal.note(sent=self.sent)
                ahead -= LONGEST_PAUSE
