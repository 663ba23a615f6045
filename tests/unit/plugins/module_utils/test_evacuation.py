# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._evacuation import (
    Errand,
    Evacuation,
    Terms,
    allowed_failures,
    cancelled_by_signals,
)

WAIT = 10


def errands(*destinations: str) -> list[Errand]:
    return [Errand(number, f"c{number}", destination) for number, destination in enumerate(destinations)]


class Watched:
    """Moves that note how many go on at once; each waits until as many as may be have begun."""

    def __init__(self, expected: int) -> None:
        self.lock = threading.Lock()
        self.going: Counter[str] = Counter()
        self.most = 0
        self.most_of_one = 0
        self.full = threading.Event()
        self.expected = expected

    def move(self, errand: Errand, _watching: Callable) -> dict:
        with self.lock:
            self.going[errand.destination] += 1
            self.most = max(self.most, sum(self.going.values()))
            self.most_of_one = max(self.most_of_one, *self.going.values())
            if sum(self.going.values()) >= self.expected:
                self.full.set()
        assert self.full.wait(WAIT), "fewer moves go on at once than may"
        time.sleep(0.01)
        with self.lock:
            self.going[errand.destination] -= 1
        return {"changed": True}


@pytest.mark.parametrize(
    ("parallel", "each", "destinations", "most", "most_of_one"),
    [(1, 1, "aabb", 1, 1), (4, 1, "aaabbb", 2, 1), (3, 2, "aaaabbbb", 3, 2), (9, 9, "ab", 2, 1)],
)
def test_limits(parallel, each, destinations, most, most_of_one) -> None:
    watched = Watched(most)
    found = Evacuation(Terms(parallel, each), watched.move).run(errands(*destinations))
    assert (watched.most, watched.most_of_one) == (most, most_of_one)
    assert [(told["name"], told["state"]) for told in found] == [
        (f"c{number}", "moved") for number in range(len(destinations))
    ]
    assert all(told["started"] <= told["finished"] for told in found)


@pytest.mark.parametrize(("parallel", "each"), [(2, 2), (4, 1)])
def test_one_that_is_only_looked_at_holds_up_no_other(parallel, each) -> None:
    begun = {name: threading.Event() for name in ("c0", "c1", "c2")}

    def move(errand: Errand, watching: Callable) -> dict:
        begun[errand.name].set()
        watching()
        assert all(other.wait(WAIT) for other in begun.values()), "a move waits for one that is only looked at"
        return {}

    found = Evacuation(Terms(parallel, each), move).run(errands(*"aaa"))
    assert [told["state"] for told in found] == ["moved"] * 3


def test_one_after_the_other_is_over_before_the_next_begins() -> None:
    over: list[str] = []

    def move(errand: Errand, watching: Callable) -> dict:
        watching()
        time.sleep(0.05)
        assert over == [f"c{number}" for number in range(errand.place)]
        over.append(errand.name)
        return {}

    found = Evacuation(Terms(1, 1), move).run(errands(*"aba"))
    assert [told["state"] for told in found] == ["moved"] * 3


def test_failure_of_one_that_is_only_looked_at_ends_it_too() -> None:
    def move(errand: Errand, watching: Callable) -> dict:
        watching()
        if errand.place == 0:
            raise FerryError("It has ended.")
        time.sleep(0.2)
        return {}

    found = Evacuation(Terms(2, 2), move).run(errands(*("a" * 12)))
    states = [told["state"] for told in found]
    assert states[0] == "failed" and states[-1] == "skipped"


def refused(*names: str):
    def move(errand: Errand, _watching: Callable) -> dict:
        if errand.name in names:
            raise FerryError("No.", location="source")
        return {"changed": True}

    return move


@pytest.mark.parametrize(
    ("most", "states"), [(0, "failed skipped skipped skipped"), (1, "failed failed skipped skipped")]
)
def test_failures_end_it(most, states) -> None:
    found = Evacuation(Terms(max_failures=most), refused("c0", "c1")).run(errands(*"aaaa"))
    assert " ".join(told["state"] for told in found) == states
    assert (found[0]["msg"], found[0]["location"]) == ("No.", "source")
    assert f"because {most + 1} of the moves before failed" in found[-1]["msg"]


def test_failures_that_are_allowed_do_not() -> None:
    found = Evacuation(Terms(max_failures=2), refused("c0", "c1")).run(errands(*"aaaa"))
    assert [told["state"] for told in found] == ["failed", "failed", "moved", "moved"]


def test_defect_in_a_move_is_told_and_ends_nothing_else() -> None:
    def move(errand: Errand, _watching: Callable) -> dict:
        return {} if errand.name == "c1" else {}["absent"]

    found = Evacuation(Terms(max_failures=9), move).run(errands("a", "a"))
    assert [told["state"] for told in found] == ["failed", "moved"]
    assert found[0]["msg"] == "KeyError: 'absent'"


def test_none_begins_when_the_time_is_over() -> None:
    now = iter(range(100))
    evacuation = Evacuation(Terms(not_after=3), refused(), clock=lambda: float(next(now)))
    states = [told["state"] for told in evacuation.run(errands(*"aaaa"))]
    assert states == ["moved", "skipped", "skipped", "skipped"]


def test_signal_lets_what_goes_on_come_to_its_end() -> None:
    def move(errand: Errand, _watching: Callable) -> dict:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        return {}

    before = signal.getsignal(signal.SIGTERM)
    evacuation = Evacuation(Terms(), move)
    with cancelled_by_signals(evacuation):
        first, second = evacuation.run(errands("a", "a"))
    assert signal.getsignal(signal.SIGTERM) is before
    assert (first["state"], second["state"]) == ("moved", "skipped")
    assert "told to end (SIGTERM)" in second["msg"]


def test_nothing_to_do() -> None:
    assert Evacuation(Terms(), refused()).run([]) == []


@pytest.mark.parametrize(
    ("text", "total", "allowed"), [("0", 12, 0), ("3", 12, 3), ("25%", 12, 3), ("10%", 12, 1), ("100%", 4, 4)]
)
def test_allowed_failures(text, total, allowed) -> None:
    assert allowed_failures(text, total) == allowed


@pytest.mark.parametrize("text", ["", "-1", "x", "%", "101%", "1.5"])
def test_failures_that_cannot_be_counted(text) -> None:
    with pytest.raises(FerryError, match=r"a share such as 25%"):
        allowed_failures(text, 4)
