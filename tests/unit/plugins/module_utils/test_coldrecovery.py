# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the next run makes of a cold move that was cut off, by what the two hosts say then."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _cold, _coldrecovery, _migration
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._coldrecovery import ColdRecovery
from ansible_collections.ferry.podman.plugins.module_utils._errors import MigrationFailed
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN

ID, NEW, IMAGE_ID = "1f" * 32, "3d" * 32, "2e" * 32
HERE, THERE = f"GET /containers/{ID}/json", "GET /containers/web/json"
START_HERE, START_THERE = f"POST /containers/{ID}/start", f"POST /containers/{NEW}/start"
REMOVE_HERE, REMOVE_THERE = f"DELETE /containers/{ID}", f"DELETE /containers/{NEW}"
FILLER = f"DELETE /containers/ferry-fill-{ID[:12]}"
BARE = {"Mounts": []}


class CutOff:
    """A cold move between two stand-in hosts that was cut off in some phase."""

    def __init__(self, source, destination, connect, info_json, directory, inspect_json) -> None:
        self.source, self.destination = source, destination
        self._directory, self._inspect_json = directory, inspect_json
        for service in (source, destination):
            service.on("GET /info", info_json())
            service.on("GET /containers/json", [])
            service.on("GET /volumes/json", [{"Name": "data"}])
            service.on("DELETE /volumes/data", 204)
        self.sides = Side.of(connect(source.url)), Side.of(connect(destination.url))
        source.on(START_HERE, self._starts_here)
        source.on(REMOVE_HERE, [])
        destination.on(REMOVE_THERE, self._goes)
        destination.on(START_THERE, 204)
        destination.on(FILLER, [])

    def _starts_here(self, handler, request) -> None:
        handler.read_body(request)
        self.source.on(HERE, self._inspect_json("running", **BARE))
        handler.reply(204)

    def _goes(self, handler, request) -> None:
        handler.read_body(request)
        self.destination.on(THERE, 404)
        handler.reply(*self.destination.json(200, []))

    def leaves(self, source, destination, code: int = 0) -> CutOff:
        """How each host has the container."""
        if source is not None:
            self.source.on(HERE, self._inspect_json(source, **BARE))
        if destination is not None:
            made = self._inspect_json(
                destination, Id=NEW, Config={"Annotations": {ORIGIN: ID}}, State={"ExitCode": code}
            )
            self.destination.on(THERE, made)
            self.destination.on(f"GET /containers/{NEW}/json", made)
        return self

    def take_up(self, phase: str, **facts):
        self.journal = Journal(str(self._directory), ID)
        given = {
            "id": ID,
            "name": "web",
            "image_id": IMAGE_ID,
            "destination": self.sides[1].client.transport.url,
            "phase": phase,
            "method": "cold",
            "members": {ID: "web"},
            "ran": [ID],
            "volumes": ["data"],
            "made_volumes": ["data"],
        }
        self.journal.begin(Entry(**{**given, **facts}))
        return ColdRecovery(*self.sides, self.journal, self.journal.load(), MoveRequest()).run()

    @property
    def ended(self) -> bool:
        return self.journal.load() is None

    def did(self, service, request: str) -> bool:
        return request in service.seen


@pytest.fixture
def info_json():
    def make() -> dict:
        return {
            "host": {"ociRuntime": {"name": "crun"}, "security": {"rootless": False}, "arch": "amd64"},
            "store": {"graphRoot": "/var/lib/containers/storage", "runRoot": "/run/containers/storage"},
        }

    return make


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coldrecovery, "STARTS_WITHIN", 0.0)
    monkeypatch.setattr(_coldrecovery, "SECONDS_BETWEEN", 0.01)
    monkeypatch.setattr(_coldrecovery, "PATIENCE", 0.05)
    monkeypatch.setattr(_migration, "LOOKED_AT_AGAIN", 0.0)
    monkeypatch.setattr(_cold, "SETTLES_WITHIN", 0.2)
    monkeypatch.setattr(_cold, "is_orphaned", lambda _client, _container: False)


@pytest.fixture
def cut_off(libpod, other_libpod, connect, info_json, tmp_path, inspect_json) -> CutOff:
    return CutOff(libpod, other_libpod, connect, info_json, tmp_path, inspect_json)


@pytest.mark.parametrize("phase", ["freeze", "transfer"])
def test_before_the_destination_was_asked_it_is_started_here(cut_off: CutOff, phase: str) -> None:
    cut_off.leaves("exited", None)
    assert cut_off.take_up(phase) is None
    assert cut_off.did(cut_off.source, START_HERE) and cut_off.ended
    assert cut_off.did(cut_off.destination, FILLER) and cut_off.did(cut_off.destination, "DELETE /volumes/data")
    assert not cut_off.did(cut_off.source, "DELETE /volumes/data")


@pytest.mark.parametrize("phase", ["prepare", "freeze"])
def test_one_that_was_not_stopped_is_left_alone(cut_off: CutOff, phase: str) -> None:
    cut_off.leaves("running", "created")
    assert cut_off.take_up(phase) is None
    assert not cut_off.did(cut_off.source, START_HERE) and cut_off.ended
    assert cut_off.did(cut_off.destination, REMOVE_THERE)


def test_one_that_did_not_run_is_not_started(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    assert cut_off.take_up("transfer", ran=[]) is None
    assert not cut_off.did(cut_off.source, START_HERE) and cut_off.ended


def test_another_container_of_that_name_is_not_touched(cut_off: CutOff, inspect_json) -> None:
    cut_off.leaves("exited", None)
    cut_off.destination.on(THERE, inspect_json("running", Id=NEW))
    assert cut_off.take_up("transfer") is None
    assert not cut_off.did(cut_off.destination, REMOVE_THERE)


@pytest.mark.parametrize("there", [None, "created", "initialized"])
def test_without_a_start_there_it_is_started_here(cut_off: CutOff, there: str | None) -> None:
    cut_off.leaves("exited", there)
    assert cut_off.take_up("restore") is None
    assert cut_off.did(cut_off.source, START_HERE) and cut_off.ended
    if there:
        removed = cut_off.destination.seen.index(REMOVE_THERE)
        assert cut_off.destination.requests[removed]
        (request,) = [each for each in cut_off.destination.requests if str(each) == REMOVE_THERE]
        # One that has come to run meanwhile must not be lost.
        assert request.query["force"] == "false"


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_one_that_runs_there_stays_there(cut_off: CutOff, phase: str) -> None:
    cut_off.leaves("exited", "running")
    arrived = cut_off.take_up(phase)
    assert arrived is not None and arrived.id == NEW and cut_off.ended
    assert not cut_off.did(cut_off.source, START_HERE)
    assert cut_off.did(cut_off.source, REMOVE_HERE) and cut_off.did(cut_off.source, "DELETE /volumes/data")
    assert not cut_off.did(cut_off.destination, "DELETE /volumes/data")
    assert not cut_off.did(cut_off.destination, REMOVE_THERE)


def test_one_that_is_to_be_kept_here_is_kept(cut_off: CutOff) -> None:
    cut_off.leaves("exited", "running")
    assert cut_off.take_up("verify", keep_source=True) is not None
    assert not cut_off.did(cut_off.source, REMOVE_HERE) and not cut_off.did(cut_off.source, "DELETE /volumes/data")


@pytest.mark.parametrize("phase", ["restore", "verify"])
def test_one_that_ended_there_is_started_nowhere(cut_off: CutOff, phase: str) -> None:
    cut_off.leaves("exited", "exited", code=3)
    with pytest.raises(MigrationFailed, match="has ended with 3. Nothing was started on the source") as failed:
        cut_off.take_up(phase)
    assert failed.value.facts["location"] == "destination"
    assert not cut_off.did(cut_off.source, START_HERE) and not cut_off.did(cut_off.destination, REMOVE_THERE)
    assert not cut_off.ended


def test_one_of_rm_that_ends_there_is_started_nowhere(cut_off: CutOff) -> None:
    cut_off.leaves("exited", "running")
    running = cut_off.destination.answers[f"GET /containers/{NEW}/json"]
    cut_off.destination.on(f"GET /containers/{NEW}/json", *running, 404)
    lines = "\n".join(json.dumps({"Action": action}) for action in ("create", "start", "died", "remove"))
    cut_off.destination.on("GET /events", cut_off.destination.text(200, lines))
    with pytest.raises(MigrationFailed, match="has ended with 0, and it was removed") as failed:
        cut_off.take_up("restore")
    assert failed.value.facts["location"] == "destination"
    assert not cut_off.did(cut_off.source, START_HERE)
    assert not cut_off.ended


def test_one_that_is_gone_from_there_is_started_nowhere(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    with pytest.raises(MigrationFailed, match="ran on the destination and is gone from there") as failed:
        cut_off.take_up("verify")
    assert failed.value.facts["location"] == "unknown"
    assert not cut_off.did(cut_off.source, START_HERE) and not cut_off.ended


def test_way_back_that_was_begun_goes_on(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    assert cut_off.take_up("verify", returning=True) is None
    assert cut_off.did(cut_off.source, START_HERE) and cut_off.ended


def test_way_back_ends_where_it_runs_there_still(cut_off: CutOff) -> None:
    cut_off.leaves("exited", "running")
    assert cut_off.take_up("verify", returning=True) is not None
    assert not cut_off.did(cut_off.source, START_HERE)


def test_destination_that_does_not_answer_starts_nothing(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    cut_off.destination.on(THERE, cut_off.destination.hang_up)
    with pytest.raises(MigrationFailed, match="cannot tell whether web runs there") as failed:
        cut_off.take_up("restore")
    assert failed.value.facts["location"] == "unknown"
    assert not cut_off.did(cut_off.source, START_HERE) and not cut_off.ended


def test_another_destination_is_refused(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    with pytest.raises(MigrationFailed, match="this run is for") as failed:
        cut_off.take_up("restore", destination="ssh://root@elsewhere/run/podman/podman.sock")
    assert failed.value.facts["location"] == "unknown"


def test_destination_that_is_another_one_is_not_needed_before_it_was_asked(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    assert cut_off.take_up("transfer", destination="ssh://root@elsewhere/run/podman/podman.sock") is None
    assert cut_off.did(cut_off.source, START_HERE) and not cut_off.did(cut_off.destination, FILLER)


def test_what_was_to_be_started_nowhere_is_whole_there(cut_off: CutOff) -> None:
    cut_off.leaves("exited", "created")
    arrived = cut_off.take_up("restore", ran=[])
    assert arrived is not None and cut_off.did(cut_off.source, REMOVE_HERE)
    assert not cut_off.did(cut_off.destination, START_THERE)


def test_source_that_cannot_start_it_keeps_the_journal(cut_off: CutOff) -> None:
    cut_off.leaves("exited", None)
    cut_off.source.on(START_HERE, cut_off.source.error(500, "address already in use"))
    with pytest.raises(MigrationFailed, match="address already in use") as failed:
        cut_off.take_up("transfer")
    assert failed.value.facts["location"] == "source" and not cut_off.ended


def test_copy_that_somebody_has_started_here_is_seen(cut_off: CutOff) -> None:
    cut_off.leaves("running", "running")
    cut_off.source.on(REMOVE_HERE, cut_off.source.error(500, "container is running"))
    with pytest.raises(MigrationFailed, match="container is running") as failed:
        cut_off.take_up("commit")
    assert failed.value.facts["location"] == "destination" and not cut_off.ended
    (request,) = [each for each in cut_off.source.requests if str(each) == REMOVE_HERE]
    assert request.query["force"] == "false"
