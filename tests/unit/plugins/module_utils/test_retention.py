# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils._retention import Kept, Rules, outdated

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def kept(ident: str, days: float, size: int = 10, container: str = "db") -> Kept:
    return Kept(ident, container, NOW - timedelta(days=days), size)


WEEK = [kept(str(day), day) for day in range(7)]


@pytest.mark.parametrize(
    ("rules", "going"),
    [
        (Rules(), set()),
        (Rules(keep=7), set()),
        (Rules(keep=5), {"5", "6"}),
        (Rules(keep=1), set("123456")),
        (Rules(keep=0), set("123456")),
        (Rules(older_than=timedelta(days=4)), {"5", "6"}),
        (Rules(older_than=timedelta(days=4), keep=2), set("23456")),
        (Rules(max_size=35), set("3456")),
        (Rules(max_size=30), set("3456")),
        (Rules(max_size=5), set("123456")),
    ],
)
def test_rules(rules: Rules, going: set[str]) -> None:
    assert set(outdated(WEEK, rules, NOW)) == going


def test_each_container_is_by_itself() -> None:
    both = [*WEEK[:3], kept("w", 100, container="web")]
    assert set(outdated(both, Rules(keep=2, older_than=timedelta(days=30)), NOW)) == {"2"}


def test_images_of_one_checkpoint_count_once_and_go_together() -> None:
    twice = [*WEEK[:4], kept("3b", 3), kept("0b", 0), kept("1b", 1, container="web")]
    assert set(outdated(twice, Rules(keep=3), NOW)) == {"3", "3b"}
    assert set(outdated(twice, Rules(max_size=30), NOW)) == {"2", "3", "3b"}


def test_large_one_in_between_makes_room_for_no_later_one_than_fits() -> None:
    found = outdated([kept("a", 0, 10), kept("b", 1, 100), kept("c", 2, 10)], Rules(max_size=20), NOW)
    assert set(found) == {"b"}
    assert "110 bytes" in found["b"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99), st.integers(0, 99)), max_size=30),
    st.integers(0, 5) | st.none(),
    st.integers(0, 300) | st.none(),
    st.integers(0, 50) | st.none(),
)
def test_newest_stays_and_the_rules_hold(found, keep, size, days) -> None:
    checkpoints = [kept(str(number), age, of, name) for number, (name, age, of) in enumerate(found)]
    rules = Rules(None if days is None else timedelta(days=days), keep, size)
    going = outdated(checkpoints, rules, NOW)
    for name in {one.container for one in checkpoints}:
        mine = sorted((one for one in checkpoints if one.container == name), key=lambda one: (one.created, one.id))
        staying = [one for one in mine if one.id not in going]
        times = {one.created for one in staying}
        assert staying == [one for one in mine if one.created in times], "a part of a checkpoint is gone"
        assert mine[-1] in staying
        assert keep is None or len(times) <= max(keep, 1)
        assert size is None or len(times) == 1 or sum(one.size for one in staying) <= size
        newest = max(times)
        assert days is None or all(NOW - time <= timedelta(days=days) for time in times - {newest})
