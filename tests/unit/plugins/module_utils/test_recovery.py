# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import json
import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _migration, _recovery
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._errors import MigrationFailed
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._recovery import Recovery, arrived_before

ID, IMAGE_ID = "1f" * 32, "2e" * 32
INSPECT = f"GET /containers/{ID}/json"
RESTORE_HERE = f"POST /containers/{ID}/restore"
REMOVE = f"DELETE /containers/{ID}"
HOLD = f"ferry-hold-{ID[:12]}"
FROZEN = ("exited", {"State": {"Checkpointed": True}})
RUNNING = ("running", {})


class CutOff:
    """A move between two stand-in hosts that was cut off in some phase."""

    def __init__(self, source, destination, sides, directory, inspect_json) -> None:
        self.source, self.destination = source, destination
        self._sides, self._directory, self._inspect_json = sides, directory, inspect_json
        source.on(f"GET /containers/{ID}/top", {"Titles": ["PID"], "Processes": [["1"]]})
        source.on(REMOVE, [])
        source.on("GET /containers/json", [])
        source.on("DELETE /volumes/data", 204)
        source.on(RESTORE_HERE, self._restored_here)
        for service in (source, destination):
            service.on("GET /containers/web/json", 404)
            service.on("POST /containers/create", {"Id": "new"})
            service.on(INSPECT, 404)
            service.on("GET /events", service.text(200, ""))

    def _restored_here(self, handler, request) -> None:
        handler.read_body(request)
        self.source.on(INSPECT, self._inspect_json())
        handler.reply(*self.source.json(200, {"Id": ID}))

    def leaves(self, source, destination) -> CutOff:
        """How each host has the container."""
        for service, state in ((self.source, source), (self.destination, destination)):
            if state is not None:
                service.on(INSPECT, self._inspect_json(state[0], **state[1]))
        return self

    def take_up(self, phase: str, **facts):
        self.journal = Journal(str(self._directory), ID)
        url = self._sides[1].client.transport.url
        entry = Entry(**{"id": ID, "name": "web", "image_id": IMAGE_ID, "destination": url, "phase": phase, **facts})
        self.journal.begin(entry)
        return Recovery(*self._sides, self.journal, self.journal.load(), MoveRequest()).run()

    def failed(self, phase: str, **facts) -> MigrationFailed:
        with pytest.raises(MigrationFailed) as error:
            self.take_up(phase, **facts)
        return error.value

    @property
    def started_here(self) -> bool:
        return RESTORE_HERE in self.source.seen

    @property
    def removed_here(self) -> bool:
        return REMOVE in self.source.seen

    @property
    def journal_is_gone(self) -> bool:
        return not list(self._directory.glob("*.json"))


@pytest.fixture
def cut_off(libpod, other_libpod, connect, make_host, inspect_json, monkeypatch, tmp_path) -> CutOff:
    monkeypatch.setattr(_recovery, "checkpoint_evidence", lambda _client, _container: "current")
    sides = [Side(connect(service.url, 1), make_host()) for service in (libpod, other_libpod)]
    return CutOff(libpod, other_libpod, sides, tmp_path / "journal", inspect_json)


# -- before anything arrived ----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["assess", "prepare", "precopy"])
def test_what_was_never_frozen_goes_on(cut_off, phase) -> None:
    cut_off.destination.on("DELETE /networks/made", 204)
    assert cut_off.leaves(RUNNING, None).take_up(phase, networks=["made"]) is None
    assert "DELETE /networks/made" in cut_off.destination.seen
    assert not cut_off.started_here
    assert cut_off.journal_is_gone


@pytest.mark.parametrize("phase", ["freeze", "transfer"])
def test_what_was_frozen_and_not_sent_runs_on_the_source_again(cut_off, phase) -> None:
    assert cut_off.leaves(FROZEN, None).take_up(phase) is None
    assert cut_off.started_here
    assert cut_off.source.request(RESTORE_HERE).query["tcpEstablished"] == "true"
    assert cut_off.journal_is_gone


def test_destination_is_another_one_where_nothing_was_sent(cut_off) -> None:
    assert cut_off.leaves(FROZEN, None).take_up("transfer", destination="ssh://elsewhere/run/p.sock") is None
    assert cut_off.started_here


def test_connections_that_were_none_are_not_asked_for(cut_off) -> None:
    cut_off.leaves(FROZEN, None).take_up("transfer", tcp="none")
    assert "tcpEstablished" not in cut_off.source.request(RESTORE_HERE).query


def test_container_that_still_runs_is_left_alone(cut_off) -> None:
    assert cut_off.leaves(RUNNING, None).take_up("freeze") is None
    assert not cut_off.started_here
    assert cut_off.journal_is_gone


def test_container_that_cannot_be_brought_back_is_tried_again_later(cut_off) -> None:
    cut_off.source.on(RESTORE_HERE, cut_off.source.error(500, "exit status 1", "CRIU restoring failed: -1"))
    error = cut_off.leaves(FROZEN, None).failed("transfer")
    assert error.facts["location"] == "unknown"
    assert "CRIU restoring failed" in str(error)
    assert not cut_off.journal_is_gone


def test_container_that_is_gone_is_told_about(cut_off) -> None:
    assert "gone from the source" in str(cut_off.failed("transfer"))


@pytest.mark.parametrize("evidence", ["absent", "stale"])
def test_host_that_stopped_during_the_dump_is_told_about(cut_off, monkeypatch, evidence) -> None:
    """Old memory is not paired with newer files."""
    monkeypatch.setattr(_recovery, "checkpoint_evidence", lambda _client, _container: evidence)
    error = cut_off.leaves(("exited", {}), None).failed("freeze")
    assert "podman start web starts it afresh" in str(error)
    assert not cut_off.started_here
    assert cut_off.journal_is_gone


# -- it may have arrived ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_what_runs_on_the_destination_is_committed(cut_off, phase) -> None:
    assert cut_off.leaves(FROZEN, RUNNING).take_up(phase).id == ID
    assert cut_off.removed_here
    assert not cut_off.started_here
    assert cut_off.journal_is_gone


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_volumes_are_removed_that_the_first_run_has_moved(cut_off, phase) -> None:
    """What this run was told may be something else."""
    cut_off.leaves(FROZEN, RUNNING).take_up(phase, volumes=["data"])
    assert "DELETE /volumes/data" in cut_off.source.seen


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_volumes_stay_that_the_first_run_has_left_out(cut_off, phase) -> None:
    cut_off.leaves(FROZEN, RUNNING).take_up(phase, volumes=[])
    assert cut_off.source.request(REMOVE).query["volumes"] == "false"
    assert "DELETE /volumes/data" not in cut_off.source.seen


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_source_stays_that_the_first_run_was_to_keep(cut_off, phase) -> None:
    assert cut_off.leaves(FROZEN, RUNNING).take_up(phase, volumes=["data"], keep_source=True).id == ID
    assert not cut_off.removed_here
    assert "DELETE /volumes/data" not in cut_off.source.seen
    assert cut_off.journal_is_gone


def test_volumes_of_the_destination_stay_that_the_first_run_has_left_out(cut_off) -> None:
    cut_off.destination.on(REMOVE, [])
    assert cut_off.leaves(FROZEN, ("exited", {})).take_up("verify", returning=True, volumes=[]) is None
    assert cut_off.destination.request(REMOVE).query["volumes"] == "false"
    assert "DELETE /volumes/data" not in cut_off.destination.seen
    assert cut_off.started_here


@pytest.mark.parametrize("phase", ["restore", "verify"])
@pytest.mark.parametrize("returning", [False, True])
def test_what_was_started_anew_there_is_not_committed(cut_off, phase, returning) -> None:
    """Its memory is on the source alone."""
    error = cut_off.leaves(FROZEN, ("running", {"State": {"Restored": False}})).failed(phase, returning=returning)
    assert "started anew, without its memory" in str(error)
    assert error.facts["location"] == "destination"
    assert not cut_off.removed_here
    assert not cut_off.started_here
    assert not cut_off.journal_is_gone


@pytest.mark.parametrize("returning", [False, True])
@pytest.mark.parametrize("frozen_there", [False, True])
def test_what_has_moved_on_is_not_started_here(cut_off, inspect_json, returning, frozen_there) -> None:
    fence = inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})
    cut_off.destination.on("GET /containers/web/json", 404, fence)
    cut_off.destination.on("DELETE /containers/web", [])
    now = {"timeNano": int((time.time() + 60) * 1e9)}
    lines = [json.dumps({"Action": action, **now}) for action in ("create", "restore", "checkpoint", "remove")]
    cut_off.destination.on("GET /events", cut_off.destination.text(200, "\n".join(lines)))
    error = cut_off.leaves(FROZEN, FROZEN if frozen_there else None).failed("restore", returning=returning)
    assert error.facts["location"] == "unknown" and "Nothing was started on the source" in str(error)
    assert not cut_off.started_here
    assert not cut_off.journal_is_gone
    assert REMOVE not in cut_off.destination.seen


@pytest.mark.parametrize("returning", [False, True])
@pytest.mark.parametrize("frozen_there", [False, True])
def test_what_has_moved_on_and_come_back_is_the_source_s(cut_off, inspect_json, returning, frozen_there) -> None:
    """Or was restored here by hand, as the answer before had told."""
    fence = inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})
    cut_off.destination.on("GET /containers/web/json", 404, fence, 404)
    cut_off.destination.on("DELETE /containers/web", [])
    line = json.dumps({"Action": "checkpoint", "timeNano": int((time.time() + 60) * 1e9)})
    cut_off.destination.on("GET /events", cut_off.destination.text(200, line))
    there = FROZEN if frozen_there else None
    assert cut_off.leaves(RUNNING, there).take_up("restore", returning=returning) is None
    assert cut_off.journal_is_gone
    assert REMOVE not in cut_off.destination.seen and not cut_off.removed_here


@pytest.mark.parametrize("phase", ["restore", "verify"])
def test_what_an_older_podman_calls_created_after_its_host_stopped_has_run(cut_off, phase) -> None:
    there = ("created", {"State": {"RestoredAt": "2026-11-20T10:00:00Z"}})
    error = cut_off.leaves(FROZEN, there).failed(phase)
    assert "the destination has stopped since" in str(error)
    assert not cut_off.started_here
    assert REMOVE not in cut_off.destination.seen


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_source_that_has_nothing_left_is_no_hindrance(cut_off, phase) -> None:
    assert cut_off.leaves(None, RUNNING).take_up(phase).id == ID
    assert cut_off.journal_is_gone


def test_what_never_arrived_runs_on_the_source_again(cut_off, inspect_json) -> None:
    fence = inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})
    # Asked for before the fence is made, and when it is lifted.
    cut_off.destination.on("GET /containers/web/json", 404, fence, 404)
    cut_off.destination.on("DELETE /containers/web", [])
    assert cut_off.leaves(FROZEN, None).take_up("restore") is None
    assert cut_off.started_here


TAKEN = "creating container storage: the container name is already in use by {}. You have to remove that container"


def test_what_a_power_failure_left_in_the_store_makes_room(cut_off, monkeypatch) -> None:
    monkeypatch.setattr(_recovery, "unpacks", lambda *_sides, late: False)
    there = cut_off.destination
    refused = there.json(500, {"cause": "that name is already in use", "message": TAKEN.format(ID)})

    def create(handler, request) -> None:
        handler.read_body(request)
        handler.reply(*(there.json(201, {"Id": "new"}) if REMOVE in there.seen else refused))

    there.on("POST /containers/create", create)
    there.on(REMOVE, [])
    assert cut_off.leaves(FROZEN, None).take_up("restore") is None
    assert there.request(REMOVE).query["force"] == "false"
    assert cut_off.started_here


def test_restore_that_may_still_be_under_way_keeps_its_files(cut_off) -> None:
    refused = cut_off.destination.json(500, {"cause": "that name is already in use", "message": TAKEN.format(ID)})
    cut_off.destination.on("POST /containers/create", refused)
    assert cut_off.leaves(FROZEN, None).failed("restore").facts["location"] == "unknown"
    assert REMOVE not in cut_off.destination.seen


def test_what_somebody_else_has_in_the_store_stays(cut_off) -> None:
    refused = cut_off.destination.json(500, {"cause": "that name is already in use", "message": TAKEN.format("e" * 64)})
    cut_off.destination.on("POST /containers/create", refused)
    error = cut_off.leaves(FROZEN, None).failed("restore")
    assert error.facts["location"] == "unknown" and "already in use" in str(error)
    assert REMOVE not in cut_off.destination.seen
    assert not cut_off.started_here


def test_fence_goes_also_where_the_memory_was_lost_here(cut_off, inspect_json, monkeypatch) -> None:
    """It would hold the name for ever: no journal tells of it any more."""
    monkeypatch.setattr(_recovery, "unpacks", lambda *_sides, late: False)
    monkeypatch.setattr(_recovery, "checkpoint_evidence", lambda _client, _container: "absent")
    fence = inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})
    cut_off.destination.on("GET /containers/web/json", 404, fence)
    cut_off.destination.on("DELETE /containers/web", [])
    error = cut_off.leaves(("exited", {}), None).failed("restore")
    assert "before its memory had been written" in str(error)
    assert "DELETE /containers/web" in cut_off.destination.seen
    assert cut_off.journal_is_gone


def test_images_stay_while_the_runtime_works_on_them(cut_off, monkeypatch) -> None:
    removed = []
    monkeypatch.setattr(_migration, "is_at_work", lambda _client, _container: True)
    monkeypatch.setattr(_migration, "remove_here", lambda *where: removed.append(where))
    monkeypatch.setattr(_migration, "keep_on_disk", lambda *where: removed.append(where))
    error = cut_off.leaves(RUNNING, None).failed("freeze", thin=True)
    assert error.facts["location"] == "unknown"
    assert not removed
    assert not cut_off.journal_is_gone


def test_images_go_when_it_runs_on_the_source_again(cut_off, monkeypatch) -> None:
    removed = []
    monkeypatch.setattr(_migration, "remove_here", lambda _client, _host, ident, _container: removed.append(ident))
    assert cut_off.leaves(FROZEN, None).take_up("transfer", thin=True) is None
    assert removed == [ID]
    assert cut_off.journal_is_gone


def test_only_copy_of_a_memory_is_kept_where_nobody_can_tell(cut_off, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(_migration, "keep_on_disk", lambda _client, _host, container: kept.append(container.id) or "")
    refused = cut_off.destination.json(500, {"cause": "that name is already in use", "message": TAKEN.format("e" * 64)})
    cut_off.destination.on("POST /containers/create", refused)
    assert cut_off.leaves(FROZEN, None).failed("restore", thin=True).facts["location"] == "unknown"
    assert kept == [ID]
    assert not cut_off.journal_is_gone


def test_fence_stays_while_the_destination_may_be_unpacking(cut_off, inspect_json) -> None:
    fence = inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})
    cut_off.destination.on("GET /containers/web/json", 404, fence)
    assert cut_off.leaves(FROZEN, None).take_up("restore") is None
    assert "DELETE /containers/web" not in cut_off.destination.seen
    assert not cut_off.journal_is_gone


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_destination_that_does_not_answer_starts_nothing(cut_off, phase) -> None:
    cut_off.leaves(FROZEN, RUNNING)
    cut_off.destination.stop()
    with pytest.raises(Exception, match="no podman service listens there"):
        cut_off.take_up(phase)
    assert not cut_off.started_here
    assert not cut_off.removed_here
    assert not cut_off.journal_is_gone


@pytest.mark.parametrize("phase", ["restore", "verify", "commit"])
def test_another_destination_cannot_tell(cut_off, phase) -> None:
    error = cut_off.leaves(FROZEN, None).failed(phase, destination="ssh://elsewhere/run/p.sock")
    assert "may run at ssh://elsewhere/run/p.sock" in str(error)
    assert not cut_off.started_here


@pytest.mark.parametrize("phase", ["restore", "verify"])
def test_what_ran_and_ended_there_does_not_go_back_in_time(cut_off, phase) -> None:
    error = cut_off.leaves(FROZEN, ("exited", {"State": {"ExitCode": 1}})).failed(phase)
    assert "has ended with 1" in str(error)
    assert "podman_restore there, name=web" in str(error)
    assert not cut_off.started_here
    assert REMOVE not in cut_off.destination.seen


@pytest.mark.parametrize("phase", ["restore", "verify"])
@pytest.mark.parametrize("there", [None, ("exited", {"State": {"ExitCode": 1}})])
def test_what_was_restored_by_hand_on_the_source_goes_on_there(cut_off, phase, there) -> None:
    assert cut_off.leaves(RUNNING, there).take_up(phase) is None
    assert not cut_off.started_here
    assert not cut_off.removed_here


@pytest.mark.parametrize("phase", ["verify", "commit"])
def test_what_was_seen_there_and_is_gone_does_not_go_back_in_time(cut_off, phase) -> None:
    error = cut_off.leaves(FROZEN, None).failed(phase)
    assert "gone from there" in str(error)
    assert not cut_off.started_here
    assert not cut_off.removed_here


def test_copy_that_was_started_here_meanwhile_is_seen(cut_off) -> None:
    refusal = cut_off.source.error(500, "container state improper", "it is running")
    cut_off.source.on(REMOVE, refusal)
    error = cut_off.leaves(RUNNING, RUNNING).failed("commit")
    assert error.facts["location"] == "destination"
    assert "it is running" in str(error)


# -- a container that podman lost -------------------------------------------------------------------------------


def orphan(cut_off, archives) -> None:
    look = f"ferry-look-{ID[:12]}"
    cut_off.destination.on(f"DELETE /containers/{look}", [])
    pid_file = archives.pack([archives.entry("conmon.pid", b"77\n")])
    cut_off.destination.on(f"GET /containers/{look}/archive", cut_off.destination.archive(pid_file))
    stat = {"X-Docker-Container-Path-Stat": base64.b64encode(b'{"mode": 0}').decode()}
    cut_off.destination.on(f"HEAD /containers/{look}/archive", (200, b"", stat), 404)
    cut_off.leaves(FROZEN, ("created", {"ConmonPidFile": "/run/c/conmon.pid"}))
    cut_off.destination.on(INSPECT, *cut_off.destination.answers[INSPECT])


def test_process_that_podman_lost_is_not_doubled(cut_off, archives, inspect_json) -> None:
    lost = inspect_json("created")
    lost["ConmonPidFile"] = "/run/c/conmon.pid"
    orphan(cut_off, archives)
    cut_off.destination.on(INSPECT, lost)
    error = cut_off.failed("restore")
    assert "without podman knowing of it" in str(error)
    assert f"crun delete --force {ID}" in str(error)
    assert not cut_off.started_here


def test_process_that_nobody_has_heard_of_is_ended(cut_off, archives, inspect_json, programs) -> None:
    lost = inspect_json("created")
    lost["ConmonPidFile"] = "/run/c/conmon.pid"
    orphan(cut_off, archives)
    cut_off.destination.on(INSPECT, lost)
    cut_off.destination.on(REMOVE, [])
    noted = programs("crun", "exit 0")
    programs("nft", "exit 0")
    assert cut_off.take_up("restore", guarded_until=9e9, unheard_until=9e9) is None
    assert noted.read_text().split()[:3] == ["delete", "--force", ID]
    assert REMOVE in cut_off.destination.seen
    assert cut_off.started_here


# -- without a journal ------------------------------------------------------------------------------------------

CHECKPOINTED = ("exited", {"State": {"Checkpointed": True}})


@pytest.mark.parametrize(
    ("source", "destination", "arrived"),
    [
        (None, ("running", {}), True),
        (None, ("exited", {}), False),
        (None, None, False),
        (("running", {}), ("running", {}), False),
        (("exited", {}), ("running", {}), False),
        (CHECKPOINTED, ("running", {}), True),
        (CHECKPOINTED, ("exited", {}), False),
        (CHECKPOINTED, None, False),
    ],
)
def test_container_has_arrived_where_the_source_has_at_most_remains(
    libpod, other_libpod, connect, inspect_json, source, destination, arrived
) -> None:
    for service, state in ((libpod, source), (other_libpod, destination)):
        if state is not None:
            for name in ("web", ID):
                service.on(f"GET /containers/{name}/json", inspect_json(state[0], **state[1]))
    found = arrived_before(connect(libpod.url), connect(other_libpod.url), "web")
    assert (found is not None) == arrived


def test_another_container_of_that_name_has_not_arrived(libpod, other_libpod, connect, inspect_json) -> None:
    libpod.on("GET /containers/web/json", inspect_json(CHECKPOINTED[0], **CHECKPOINTED[1]))
    other_libpod.on("GET /containers/web/json", inspect_json(Id="0a" * 32))
    assert arrived_before(connect(libpod.url), connect(other_libpod.url), "web") is None
    assert other_libpod.seen == [INSPECT]
