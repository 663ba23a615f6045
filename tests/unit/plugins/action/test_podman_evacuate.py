# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What is said of several moves at once."""

from __future__ import annotations

import json
import time

import pytest

from ansible_collections.ferry.podman.plugins.action import podman_evacuate as plugin
from ansible_collections.ferry.podman.plugins.plugin_utils._progress import Reporter

NOW = 1_800_000_000.0


def entry(name: str, phase: str, age: float, sent: int = 0) -> str:
    ident = (name.encode().hex() * 64)[:64]
    fields = {"id": ident, "name": name, "phase": phase, "phase_begun": NOW - age, "sent": sent, "expected": sent}
    return json.dumps(fields)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(plugin, "say", lines.append)
    return lines


@pytest.fixture
def watch() -> plugin.SeveralWatch:
    began = time.monotonic() - 60
    return plugin.SeveralWatch("/j", ["db", "web"], Reporter("[node1] 2 containers", began), "[node1]", began)


def ask(watch: plugin.SeveralWatch, *journals: str) -> tuple[bool, bool]:
    return watch.take([f"running 0 {NOW:.0f}", *journals])


def test_each_move_that_takes_long_has_its_lines(watch, said, monkeypatch) -> None:
    ask(watch, entry("db", "freeze", 1), entry("web", "prepare", 1), entry("other", "freeze", 1))
    assert said == []
    for reporter in watch._reporters.values():
        reporter._began -= 10
        reporter._due -= 10
    ask(watch, entry("db", "transfer", 4, 3 << 20), entry("web", "prepare", 9))
    assert [line.split(":")[0] for line in said] == ["[node1] db", "[node1] web"]
    assert "transfer 3 MiB" in said[0] and "prepare for 9 s" in said[1]


def test_short_moves_are_not_told_of(watch, said) -> None:
    for phase in ("prepare", "freeze", "transfer", "restore", "verify"):
        ask(watch, entry("db", phase, 0.1))
        ask(watch)
    assert said == []


def test_what_an_earlier_run_has_left_is_not_told_of(watch, said) -> None:
    ask(watch, entry("db", "freeze", 4000))
    assert watch._reporters == {}


def test_end_is_seen(watch, said) -> None:
    assert watch.take([f"over 0 {NOW:.0f}"]) == (True, True)
    assert watch.take([f"running 1 {NOW:.0f}"]) == (False, False)
