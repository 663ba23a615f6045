# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _progress
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress

ID = "1f" * 32


@pytest.fixture
def journal(tmp_path) -> Journal:
    made = Journal(str(tmp_path / "ferry"), ID)
    made.begin(Entry(ID, "web", "2e" * 32, "ssh://node2/run/podman/podman.sock", "prepare"))
    return made


def test_phase_is_in_the_journal_when_it_begins(journal) -> None:
    progress = Progress(journal)
    with progress.phase("freeze", tcp="close"):
        assert (journal.load().phase, journal.load().tcp) == ("freeze", "close")
    assert list(progress.phases) == ["freeze"]


def test_phase_that_fails_is_timed_too(journal) -> None:
    progress = Progress(journal)
    with pytest.raises(KeyError), progress.phase("freeze"):
        raise KeyError
    assert list(progress.phases) == ["freeze"]


def test_phase_that_cannot_be_noted_does_not_begin(journal, tmp_path) -> None:
    (tmp_path / "ferry").rename(tmp_path / "away")
    (tmp_path / "ferry").write_text("")
    begun = False
    with pytest.raises(FerryError), Progress(journal).phase("freeze"):
        begun = True
    assert not begun


def test_bytes_are_counted_and_noted(journal, monkeypatch) -> None:
    monkeypatch.setattr(_progress, "NOTED_EVERY", -1.0)
    progress = Progress(journal)
    assert list(progress.counted(iter([b"one", b"three"]))) == [b"one", b"three"]
    assert progress.sent == journal.load().sent == 8


def test_rate_is_held(journal) -> None:
    progress = Progress(journal, bandwidth=1000)
    begun = time.monotonic()
    assert sum(len(chunk) for chunk in progress.counted([bytes(100)] * 4)) == 400
    assert time.monotonic() - begun >= 0.4
