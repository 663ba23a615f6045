# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What is said of a move while it runs: from the journal's text to lines for people. Pure; runs on the controller."""

from __future__ import annotations

import json
import typing as t
from collections import deque
from dataclasses import dataclass

FIRST = 3.0
"""Seconds of silence; most moves are over by then."""

SHORTEST, LONGEST = 5.0, 60.0
"""Seconds between two lines of one phase."""

WINDOW = 15.0
"""Seconds that the rate is an average of."""

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class Entry:
    """What the journal says of one move.

    :param mark: text that is in the file as long as the phase is the same.
    """

    phase: str
    phase_begun: float
    sent: int
    expected: int
    mark: str


def find_entry(lines: t.Iterable[str], container: str, since: float) -> Entry | None:
    """The entry of a container, given by name or ID, among the journals of all moves of a host.

    :param since: the host's time when this run began; what is older was left by one that was cut off.
    """
    for line in lines:
        entry = _entry_of(line, container)
        if entry is not None and entry.phase_begun >= since:
            return entry
    return None


def _entry_of(line: str, container: str) -> Entry | None:
    try:
        fields = json.loads(line)
        if fields["name"] != container and not (len(container) >= 12 and fields["id"].startswith(container)):
            return None  # a short name may be the begin of another's ID
        begun = float(fields["phase_begun"])
        mark = f'"phase_begun": {json.dumps(fields["phase_begun"])}'
        return Entry(str(fields["phase"]), begun, int(fields["sent"]), int(fields["expected"]), mark)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # another version's, or not a journal


class Reporter:
    """Decides when there is something to say of one move, and says it.

    :param subject: what the lines begin with.
    :param began: when the run began, by the same clock as every ``now``.
    """

    def __init__(self, subject: str, began: float) -> None:
        self._subject = subject
        self._began = began
        self._due = began + FIRST
        self._entry: Entry | None = None
        self._told_phase = ""
        self._samples: deque[tuple[float, int]] = deque()

    def due_in(self, now: float) -> float:
        return max(0.0, self._due - now)

    def line(self, entry: Entry, now: float, host_now: float) -> str | None:
        """The line that is due, or nothing.

        :param host_now: the time of the host that wrote the entry.
        """
        age = max(0.0, host_now - entry.phase_begun)
        self._take_sample(entry, now, age)
        changed = entry.phase != self._told_phase and now - self._began >= FIRST
        if not changed and now < self._due:
            return None
        self._told_phase = entry.phase
        self._due = now + self._interval(now)
        return self.sentence(f"{entry.phase}{self._details(entry, age)}")

    def sentence(self, text: str) -> str:
        """A whole line without anything that a terminal or a log would take for more than text."""
        return "".join(letter if letter.isprintable() else "?" for letter in f"{self._subject}: {text}")

    def _interval(self, now: float) -> float:
        """Grows with the move, or the log of an hour would have hundreds of lines."""
        return min(LONGEST, max(SHORTEST, (now - self._began) / 12))

    def _take_sample(self, entry: Entry, now: float, age: float) -> None:
        if self._entry is None or self._entry.phase_begun != entry.phase_begun:
            self._samples.clear()
            self._samples.append((now - age, 0))
        self._entry = entry
        self._samples.append((now, entry.sent))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()

    def _details(self, entry: Entry, age: float) -> str:
        if entry.phase == "transfer":
            return " " + transfer(entry.sent, entry.expected, self._rate())
        return f" for {duration(age)}" if age >= 2 else ""

    def _rate(self) -> float:
        """Bytes in a second; 0 if nothing is known of it."""
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        # The clock of the host is read in whole seconds.
        return max(0, after - before) / (end - begin) if end - begin >= 1 else 0.0


def transfer(sent: int, expected: int, rate: float) -> str:
    """How far the bytes are. What is expected is an estimate, and may be passed."""
    unit, name = (GIB, "GiB") if max(sent, expected) >= 10 * GIB else (MIB, "MiB")
    digits = 1 if unit == GIB else 0
    text = f"{sent / unit:.{digits}f}"
    text += f" of about {expected / unit:.{digits}f} {name}" if expected > sent else f" {name}"
    if rate > 0:
        text += f", {rate / MIB:.{0 if rate >= 10 * MIB else 1}f} MiB/s"
        text += f", about {duration((expected - sent) / rate)} left" if expected > sent else ""
    return text


def duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
