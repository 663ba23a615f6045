# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Several moves at once, within limits: which one begins when, and when none begins any more.

A move that has begun is never cut off. What ends the whole only keeps further ones from beginning.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
import typing as t
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json

MOVED, FAILED, SKIPPED = "moved", "failed", "skipped"


@dataclass(frozen=True)
class Errand:
    """A container, and where it goes.

    :param place: in the order in which they were given.
    """

    place: int
    name: str
    destination: str


@dataclass(frozen=True)
class Terms:
    """What limits moves.

    :param parallel: how many go on at once.
    :param parallel_per_destination: to one host.
    :param max_failures: after more failures than that none begins any more.
    :param not_after: none begins after that, in seconds since the epoch.
    """

    parallel: int = 1
    parallel_per_destination: int = 1
    max_failures: int = 0
    not_after: float | None = None


@dataclass
class Evacuation:
    """One run of several moves.

    :param move: moves one, in a thread of its own; returns what there is to tell of it. It calls what it is given when
        the container runs where it should and all that is left is to look at it again: that keeps no other one from
        beginning, unless they go one after the other.
    """

    terms: Terms
    move: t.Callable[[Errand, t.Callable[[], None]], Json]
    clock: t.Callable[[], float] = time.time
    stopped: str | None = None
    """Why none begins any more."""
    _results: dict[int, Json] = field(default_factory=dict)
    _busy: Counter[str] = field(default_factory=Counter)
    """How many moves to each destination count."""
    _watched: set[int] = field(default_factory=set)
    """The places of those that do not count any more."""
    _said: queue.SimpleQueue[tuple[Errand, Json | None]] = field(default_factory=queue.SimpleQueue)
    """What their threads tell; None when one is only looked at."""
    _failures: int = 0
    _cancelled: str | None = None

    def run(self, errands: Sequence[Errand]) -> list[Json]:
        """:return: for each errand, in their order, a dictionary with ``state`` and what the move told."""
        waiting, begun = list(errands), 0
        while waiting or begun > len(self._results):
            for errand in self._beginning(waiting):
                waiting.remove(errand)
                begun += 1
                self._busy[errand.destination] += 1
                threading.Thread(target=self._run_one, args=(errand,), name=errand.name).start()
            if begun == len(self._results):
                break
            self._take()
        for errand in waiting:
            self._results[errand.place] = self._told(errand, SKIPPED, {"msg": self.stopped, "changed": False})
        return [self._results[errand.place] for errand in errands]

    def cancel(self, reason: str) -> None:
        """Let none begin any more."""
        self._cancelled = self._cancelled or reason

    def _beginning(self, waiting: list[Errand]) -> Iterator[Errand]:
        """Those that may begin now, each time after the one before has been counted."""
        for errand in list(waiting):
            self.stopped = self.stopped or self._reason_to_stop()
            if self.stopped or sum(self._busy.values()) >= self.terms.parallel:
                return
            if self._busy[errand.destination] < self.terms.parallel_per_destination:
                yield errand

    def _reason_to_stop(self) -> str | None:
        if self._cancelled:
            return self._cancelled
        if self._failures > self.terms.max_failures:
            return f"Not begun, because {self._failures} of the moves before failed."
        if self.terms.not_after is not None and self.clock() >= self.terms.not_after:
            return "Not begun, because the time for it is over."
        return None

    def _run_one(self, errand: Errand) -> None:
        begun = self.clock()

        def watching() -> None:
            # Who has them go one after the other wants each to be well before the next one.
            if self.terms.parallel > 1:
                self._said.put((errand, None))

        try:
            told = self._told(errand, MOVED, self.move(errand, watching))
        except FerryError as error:
            told = self._told(errand, FAILED, {"msg": str(error), **error.facts})
        except Exception as error:  # pylint: disable=broad-exception-caught
            # A thread that ends without a word would be waited for, for ever.
            told = self._told(errand, FAILED, {"msg": f"{type(error).__name__}: {error}"})
        self._said.put((errand, {**told, "started": begun, "finished": self.clock()}))

    def _take(self) -> None:
        errand, told = self._said.get()
        if errand.place not in self._watched:
            self._watched.add(errand.place)
            self._busy[errand.destination] -= 1
        if told is not None:
            self._failures += told["state"] == FAILED
            self._results[errand.place] = told

    @staticmethod
    def _told(errand: Errand, state: str, told: Json) -> Json:
        return {"name": errand.name, "destination": errand.destination, "state": state, **told}


@contextlib.contextmanager
def cancelled_by_signals(evacuation: Evacuation) -> Iterator[None]:
    """Have a closed terminal or a cancelled job end the run as soon as no container is on its way."""
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def note(number: int, _frame: object) -> None:
        evacuation.cancel(f"Not begun, because the run was told to end ({signal.Signals(number).name}).")

    before = [signal.signal(number, note) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


def allowed_failures(text: str, total: int) -> int:
    """A count, or a share such as 25%, of which what is no whole container does not count.

    :raises FerryError: for anything else.
    """
    digits, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    if not digits.strip().isdecimal() or (percent and int(digits) > 100):
        raise FerryError(f"max_failures is {text!r}.", remedy="Give a number, or a share such as 25%.")
    return total * int(digits) // 100 if percent else int(digits)
