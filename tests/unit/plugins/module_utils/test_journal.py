# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import json
import os
import stat

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._journal import (
    PHASES,
    Entry,
    Journal,
    entries,
    find_entry,
)

ID = "1f" * 32


@pytest.fixture
def directory(tmp_path) -> str:
    return str(tmp_path / "ferry")


@pytest.fixture
def entry() -> Entry:
    return Entry(ID, "web", "2e" * 32, "ssh://root@node2/run/podman/podman.sock", "prepare")


@pytest.fixture
def journal(directory, entry) -> Journal:
    made = Journal(directory, ID)
    made.begin(entry)
    return made


def test_next_run_reads_what_this_one_wrote(journal, directory) -> None:
    journal.enter("freeze", tcp="close", networks=["lan"])
    found = Journal(directory, ID).load()
    assert (found.phase, found.tcp, found.networks, found.name) == ("freeze", "close", ["lan"], "web")
    assert found.begun <= found.phase_begun


def test_nobody_but_root_reads_it(journal, directory) -> None:
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(journal.path).st_mode) == 0o600


def test_there_is_none_before_and_after(journal, directory) -> None:
    assert Journal(directory, "0a" * 32).load() is None
    journal.close()
    journal.close()
    assert Journal(directory, ID).load() is None
    assert os.listdir(directory) == []


def test_half_written_file_of_a_killed_run_goes_too(journal, directory) -> None:
    with open(f"{journal.path}.new", "w", encoding="utf-8") as file:
        file.write("{")
    journal.close()
    assert os.listdir(directory) == []


def test_note_keeps_the_phase(journal, directory) -> None:
    journal.enter("transfer")
    begun = journal.entry.phase_begun
    journal.note(sent=7)
    found = Journal(directory, ID).load()
    assert (found.phase, found.phase_begun, found.sent) == ("transfer", begun, 7)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", json.dumps({"id": ID, "phase": "lunch"})])
def test_journal_that_cannot_be_read_is_not_taken_for_none(journal, directory, text) -> None:
    with open(journal.path, "w", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(FerryError, match="remove that file"):
        Journal(directory, ID).load()
    assert entries(directory) == []


@pytest.mark.parametrize("change", [{"version": 99}, {"phase": "lunch"}, {"unknown": 1}])
def test_journal_of_another_version_is_refused(journal, directory, change) -> None:
    with open(journal.path, encoding="utf-8") as file:
        written = json.load(file)
    with open(journal.path, "w", encoding="utf-8") as file:
        json.dump({**written, **change}, file)
    with pytest.raises(FerryError, match="cannot be read"):
        Journal(directory, ID).load()


def test_phase_does_not_begin_where_it_cannot_be_written(directory, entry, tmp_path) -> None:
    (tmp_path / "ferry").write_text("a file is in the way")
    with pytest.raises(FerryError, match="cannot be written"):
        Journal(directory, ID).begin(entry)


def test_note_that_cannot_be_written_ends_nothing(journal, directory) -> None:
    os.rename(directory, f"{directory}.away")
    with open(directory, "w", encoding="utf-8"):
        pass
    journal.note(sent=7)


@pytest.mark.parametrize(
    ("name", "found"), [("web", True), (ID, True), (ID[:12], True), (ID[:11], False), ("db", False), ("", False)]
)
def test_move_is_found_by_name_and_by_id(journal, directory, name, found) -> None:
    assert (find_entry(directory, name) is not None) == found


def test_no_directory_has_no_entries(tmp_path) -> None:
    assert entries(str(tmp_path / "absent")) == []


def test_every_phase_can_be_entered(journal, directory) -> None:
    for phase in PHASES:
        journal.enter(phase)
        assert Journal(directory, ID).load().phase == phase
