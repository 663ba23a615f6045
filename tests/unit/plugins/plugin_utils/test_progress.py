# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _journal
from ansible_collections.ferry.podman.plugins.module_utils._journal import Journal
from ansible_collections.ferry.podman.plugins.plugin_utils._progress import (
    GIB,
    MIB,
    Entry,
    Reporter,
    duration,
    find_entry,
    transfer,
)

ID = "4f1f" * 16


def journal_line(**changes: object) -> str:
    entry = _journal.Entry(id=ID, name="db", image_id="", destination="ssh://x", phase="transfer", phase_begun=1000.25)
    return json.dumps(dataclasses.asdict(dataclasses.replace(entry, **changes)))


def make_entry(phase: str = "transfer", begun: float = 1000.0, sent: int = 0, expected: int = 0) -> Entry:
    return Entry(phase, begun, sent, expected, "")


@pytest.fixture
def reporter() -> Reporter:
    return Reporter("[node1] db", 0.0)


# -- the journal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["db", ID, ID[:12]])
def test_entry_is_found_by_name_and_by_id(container: str) -> None:
    lines = ["not json", "[]", '{"name": "db"}', journal_line(name="other", id="0" * 64), journal_line(sent=5)]
    found = find_entry(lines, container, since=1000)
    assert found is not None
    assert (found.phase, found.phase_begun, found.sent) == ("transfer", 1000.25, 5)


def test_short_name_is_not_taken_for_an_id() -> None:
    assert find_entry([journal_line()], "4f", since=0) is None


def test_entry_that_a_killed_run_left_is_not_shown() -> None:
    assert find_entry([journal_line()], "db", since=1001) is None


def test_mark_is_in_what_the_journal_really_writes(tmp_path) -> None:
    journal = Journal(str(tmp_path), ID)
    journal.begin(_journal.Entry(id=ID, name="db", image_id="", destination="", phase="assess"))
    text = (tmp_path / f"{ID}.json").read_text()
    assess = find_entry(text.splitlines(), "db", since=0)
    assert assess is not None
    assert assess.mark in text
    journal.enter("freeze")
    text = (tmp_path / f"{ID}.json").read_text()
    assert assess.mark not in text
    journal.note(sent=7)
    freeze = find_entry(text.splitlines(), "db", since=0)
    assert freeze is not None
    assert freeze.mark in (tmp_path / f"{ID}.json").read_text()


# -- when a line is due ---------------------------------------------------------------------------------------------


def test_short_moves_are_not_spoken_of(reporter: Reporter) -> None:
    assert reporter.line(make_entry("freeze"), 1.0, 1001.0) is None
    assert reporter.line(make_entry("restore", 1002.0), 2.9, 1002.9) is None


def test_each_phase_is_told_once_and_then_now_and_then(reporter: Reporter) -> None:
    told = [reporter.line(make_entry("freeze"), 1.0 + second, 1000.0 + second) for second in range(14)]
    assert [line for line in told if line] == [
        "[node1] db: freeze for 2 s",
        "[node1] db: freeze for 7 s",
        "[node1] db: freeze for 12 s",
    ]
    assert reporter.line(make_entry("transfer", 1014.0, 0, GIB), 15.0, 1014.0) is not None
    assert reporter.line(make_entry("transfer", 1014.0, 0, GIB), 16.0, 1015.0) is None


def test_lines_of_a_long_phase_become_rare(reporter: Reporter) -> None:
    told = [second for second in range(3600) if reporter.line(make_entry("freeze"), second, 1000 + second)]
    assert len(told) < 110
    assert max(later - earlier for earlier, later in zip(told, told[1:])) <= 60


def test_time_until_the_next_line(reporter: Reporter) -> None:
    assert reporter.due_in(1.0) == 2.0
    assert reporter.line(make_entry("freeze"), 4.0, 1004.0)
    assert reporter.due_in(4.0) == 5.0
    assert reporter.due_in(100.0) == 0.0


# -- what it says ---------------------------------------------------------------------------------------------------


def test_rate_is_known_in_the_first_line(reporter: Reporter) -> None:
    line = reporter.line(make_entry("transfer", 1000.0, 412 * MIB, 1024 * MIB), 5.0, 1004.0)
    assert line == "[node1] db: transfer 412 of about 1024 MiB, 103 MiB/s, about 6 s left"


def test_rate_is_that_of_the_last_seconds(reporter: Reporter) -> None:
    for second in range(10):
        reporter.line(make_entry("transfer", 1000.0, 100 * MIB * second, 9000 * MIB), second, 1000 + second)
    lines = [
        reporter.line(make_entry("transfer", 1000.0, (900 + second) * MIB, 9000 * MIB), 10 + second, 1010 + second)
        for second in range(60)
    ]
    assert ", 1.0 MiB/s, about " in [line for line in lines if line][-1]


def test_stalled_transfer_promises_nothing(reporter: Reporter) -> None:
    lines = [
        reporter.line(make_entry("transfer", 1000.0, 10 * MIB, 100 * MIB), 5.0 + second, 1005.0 + second)
        for second in range(40)
    ]
    assert [line for line in lines if line][-1] == "[node1] db: transfer 10 of about 100 MiB"


def test_second_attempt_begins_its_rate_anew(reporter: Reporter) -> None:
    reporter.line(make_entry("transfer", 1000.0, 500 * MIB, 1000 * MIB), 10.0, 1010.0)
    line = reporter.line(make_entry("transfer", 1018.0, 20 * MIB, 1000 * MIB), 20.0, 1020.0)
    assert line == "[node1] db: transfer 20 of about 1000 MiB, 10 MiB/s, about 98 s left"


@pytest.mark.parametrize(
    ("sent", "expected", "rate", "text"),
    [
        (0, 0, 0.0, "0 MiB"),
        (0, 100 * MIB, 0.0, "0 of about 100 MiB"),
        (120 * MIB, 100 * MIB, 5.0 * MIB, "120 MiB, 5.0 MiB/s"),
        (GIB, 20 * GIB, 200.0 * MIB, "1.0 of about 20.0 GiB, 200 MiB/s, about 97 s left"),
        (GIB, 9 * GIB, 10.0 * MIB, "1024 of about 9216 MiB, 10 MiB/s, about 14 min left"),
    ],
)
def test_transfer(sent: int, expected: int, rate: float, text: str) -> None:
    assert transfer(sent, expected, rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_is_one_line_of_plain_text(reporter: Reporter) -> None:
    line = reporter.line(make_entry("fr\reeze\x1b[31m\nroot"), 5.0, 1000.0)
    assert line == "[node1] db: fr?eeze?[31m?root"
