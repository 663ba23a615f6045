# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import io
import json
import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _checkpoint, _migration
from ansible_collections.ferry.podman.plugins.module_utils._archive import inspect
from ansible_collections.ferry.podman.plugins.module_utils._assess import Assessment, MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, MigrationFailed
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts, Spooled
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container
from ansible_collections.ferry.podman.plugins.module_utils._migration import Migration, begun_there, unpacks

ID, IMAGE_ID = "1f" * 32, "2e" * 32
CHECKPOINT = f"POST /containers/{ID}/checkpoint"
RESTORE_HERE = f"POST /containers/{ID}/restore"
IMPORT = "POST /containers/import/restore"
INSPECT = f"GET /containers/{ID}/json"
REMOVE = f"DELETE /containers/{ID}"
CHANGES = f"GET /containers/{ID}/changes"
IMAGE = "registry.example:5000/shop/web:1.4"
IMAGE_PATH = IMAGE.replace(":", "%3A").replace("/", "%2F")
NAMED = f"GET /images/{IMAGE_PATH}/json"
HOLD = f"ferry-hold-{ID[:12]}"


class Move:
    """A move between two stand-in hosts, and what they saw of it. By default all of it goes well."""

    def __init__(self, source, destination, migration_of, inspect_json, archive) -> None:
        self.source, self.destination = source, destination
        self._migration_of = migration_of
        source.on(INSPECT, inspect_json("exited", State={"Checkpointed": True}))
        source.on(CHECKPOINT, source.archive(archive))
        source.on(CHANGES, [])
        source.on(f"GET /containers/{ID}/top", {"Titles": ["PID"], "Processes": [["1"]]})
        source.on(REMOVE, [])
        source.on("GET /containers/json", [])
        source.on("DELETE /volumes/data", 204)
        source.on(f"DELETE /containers/{HOLD}", [])
        # Restored there, and then found running, as podman does it.
        source.on(RESTORE_HERE, self._restored_here)
        self._running = inspect_json()
        for name in (IMAGE_ID, IMAGE_PATH):
            destination.on(f"GET /images/{name}/json", {"Id": IMAGE_ID})
            source.on(f"GET /images/{name}/json", {"Id": IMAGE_ID})
        destination.on("GET /networks/lan/json", {"name": "lan", "driver": "bridge", "network_interface": "podman1"})
        destination.on("GET /volumes/json", [{"Name": "older"}])
        destination.on("GET /containers/json", [])
        destination.on(IMPORT, {"Id": ID, "criu_statistics": {"restore_time": 5}})
        destination.on(INSPECT, inspect_json())
        destination.on("GET /events", destination.text(200, ""))

    def _restored_here(self, handler, request) -> None:
        handler.read_body(request)
        self.source.on(INSPECT, self._running)
        handler.reply(*self.source.json(200, {"Id": ID}))

    def migration(self, **how) -> Migration:
        return self._migration_of(self.source, self.destination, **how)

    def run(self, **how):
        migration = self.migration(**how)
        # What the assessment asks is not what these tests are about.
        assert migration.assessment.estimate
        for host in (self.source, self.destination):
            host.requests.clear()
        return migration.run()

    def failed(self, **how) -> MigrationFailed:
        with pytest.raises(MigrationFailed) as error:
            self.run(**how)
        return error.value

    @property
    def started_on_the_source(self) -> bool:
        return any(request.endswith(("/restore", "/start")) for request in self.source.seen)

    @property
    def removed_from_the_source(self) -> bool:
        return any(request.startswith("DELETE") for request in self.source.seen)


@pytest.fixture
def move(
    libpod, other_libpod, connect, make_container, make_host, inspect_json, archives, monkeypatch, tmp_path
) -> Move:
    monkeypatch.setattr(_checkpoint, "RETRY_DELAY", 0.01)

    def migration_of(source, destination, container=None, podman=(5, 8, 2), timeout=5, **request):
        sides = [Side(connect(service.url, timeout), make_host(podman)) for service in (source, destination)]
        wanted = MoveRequest(**{"tcp": "established", "retries": 1, **request})
        return Migration(*sides, container or make_container(), wanted, Journal(str(tmp_path / "journal"), ID))

    return Move(libpod, other_libpod, migration_of, inspect_json, archives.checkpoint())


# -- a move that goes well ------------------------------------------------------------------------------------


def test_container_goes_over_and_leaves(move) -> None:
    result = move.run()
    assert move.source.seen == [
        "GET /networks/lan/json",
        f"GET /containers/{HOLD}/json",
        CHECKPOINT,
        CHANGES,
        f"GET /containers/{HOLD}/json",
        REMOVE,
        "GET /containers/json",
        "DELETE /volumes/data",
    ]
    seen = move.destination.seen
    assert seen[0] == f"GET /images/{IMAGE_ID}/json"
    # The end of the archive is held back until the volumes are known, so either of the two may be seen first.
    assert sorted(seen[1:6]) == sorted([NAMED, *["GET /volumes/json"] * 3, IMPORT])
    # A move that was cut off may have left what had held the volumes.
    assert seen[6:] == [INSPECT] * 3 + [f"GET /containers/ferry-fill-{ID[:12]}/json", INSPECT]
    assert result["container"]["name"] == "web"
    assert result["container"]["statistics"] == {"restore_time": 5}
    assert list(result["phases"]) == ["prepare", "freeze", "transfer", "restore", "verify", "commit"]
    assert result["tcp"] == "established"
    assert result["findings"] == []


def test_archive_arrives_whole(move) -> None:
    result = move.run()
    upload = move.destination.request(IMPORT)
    assert upload.whole
    assert result["bytes"] == len(upload.body)
    assert inspect(io.BytesIO(upload.body)).config["name"] == "web"


def test_roots_of_volumes_go_along(move, archives, make_container, tmp_path) -> None:
    tmp_path.chmod(0o711)
    put = f"PUT /containers/{ID}/archive"
    move.source.on(CHECKPOINT, move.source.archive(archives.checkpoint(archives.entry("volumes/data.tar"))))
    move.destination.on(put, move.destination.error(500, "read-only file system"))
    volume = {"Type": "volume", "Name": "data", "Source": str(tmp_path), "Destination": "/data"}
    (finding,) = move.run(container=make_container(Mounts=[volume]))["findings"]
    assert finding["code"] == "volume_root"
    assert put in move.destination.seen


def test_connections_and_locks_are_kept(move) -> None:
    move.run()
    assert move.source.request(CHECKPOINT).query == {"tcpEstablished": "true", "fileLocks": "true", "export": "true"}
    assert move.destination.request(IMPORT).query == {
        "tcpEstablished": "true",
        "fileLocks": "true",
        "import": "true",
        "printStats": "true",
    }


@pytest.mark.parametrize(
    ("tcp", "dumped", "restored"),
    [
        ("established", "tcpEstablished", "tcpEstablished"),
        ("close", "tcpEstablished", "tcpClose"),
        ("none", None, None),
    ],
)
def test_both_ends_agree_about_connections(move, tcp, dumped, restored) -> None:
    move.run(tcp=tcp)

    def about_tcp(request) -> list:
        return [key for key in request.query if key.startswith("tcp")]

    assert about_tcp(move.source.request(CHECKPOINT)) == ([dumped] if dumped else [])
    assert about_tcp(move.destination.request(IMPORT)) == ([restored] if restored else [])


@pytest.mark.parametrize(
    ("driver", "podman", "runtime", "tcp"),
    [
        ("macvlan", (5, 8, 2), "crun", "established"),
        ("ipvlan", (5, 4, 2), "crun", "established"),
        ("bridge", (5, 8, 2), "crun", "close"),
        ("bridge", (5, 7, 0), "crun", "close"),
        ("bridge", (5, 6, 9), "crun", "established"),
        ("bridge", (5, 8, 2), "runc", "established"),
    ],
)
def test_auto_keeps_connections_where_the_address_moves_along(
    move, connect, make_container, make_host, driver, podman, runtime, tcp
) -> None:
    move.destination.on("GET /networks/lan/json", {"name": "lan", "driver": driver, "network_interface": "eth1"})
    host = make_host(podman, host={"ociRuntime": {"name": runtime}})
    destination = Side(connect(move.destination.url), host)
    source = Side(connect(move.source.url), make_host())
    assert Assessment(source, destination, make_container(), MoveRequest()).tcp == tcp
    assert Assessment(source, destination, make_container(), MoveRequest(tcp="none")).tcp == "none"


# -- memory that goes before the freeze, by podman's API ----------------------------------------------------------


@pytest.fixture
def early(move, archives, inspect_json, tmp_path) -> Move:
    """A source whose kernel tracks memory, as far as the move knows."""
    bundle = {"OCIConfigPath": str(tmp_path / "bundle/config.json")}
    (tmp_path / "bundle").mkdir()
    migration_of, pages = move._migration_of, tmp_path / "bundle/pre-checkpoint/pages-1.img"
    running = inspect_json(**bundle)
    checkpoint = archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))

    def both(handler, request) -> None:
        """What podman does for the first and for the second."""
        if "preCheckpoint" in request.query:
            pages.parent.mkdir()
            pages.write_text("pages")
            move.source.archive(archives.pre_checkpoint())(handler, request)
        else:
            move.source.on(INSPECT, inspect_json("exited", State={"Checkpointed": True}, **bundle))
            move.source.archive(checkpoint)(handler, request)

    def tracking(*services, **how) -> Migration:
        migration = migration_of(*services, container=Container(running), **how)
        migration.assessment.no_early_pages = ""
        return migration

    move._migration_of, move._running = tracking, running
    move.source.on(CHECKPOINT, both)
    move.source.on(INSPECT, running)
    return move


def test_pages_go_in_the_archive_before_the_freeze(early, archives) -> None:
    result = early.run()
    before, last = (request.query for request in early.source.requests if str(request) == CHECKPOINT)
    assert before["preCheckpoint"] == before["ignoreRootFS"] == "true" and "withPrevious" not in before
    assert last["withPrevious"] == "true" and "preCheckpoint" not in last
    (request,) = (each for each in early.destination.requests if str(each) == IMPORT)
    unpacked = {info.name: info for info, _data in archives.unpack(request.body)}
    assert unpacked["checkpoint/pre-checkpoint/pages-1.img"].size == 5000
    assert unpacked["checkpoint/parent"].linkname == "pre-checkpoint"
    assert result["precopy"] == [5000] and "One round" in result["precopy_reason"]
    assert list(result["phases"])[:3] == ["prepare", "precopy", "freeze"]


def test_pre_checkpoint_that_fails_is_done_without(early, archives, tmp_path) -> None:
    refused = early.source.error(500, "system does not support memory tracking")
    early.source.on(CHECKPOINT, refused, early.source.archive(archives.checkpoint()))
    early.source.on(INSPECT, *[early._running] * 4, {**early._running, "State": {"Status": "exited"}})
    result = early.run(retries=0)
    assert result["precopy"] == [] and "memory tracking" in result["precopy_reason"]
    whole = [each for each in early.destination.requests if str(each) == IMPORT and each.whole]
    (sent,) = whole
    assert "checkpoint/pre-checkpoint" not in inspect(io.BytesIO(sent.body)).sizes


def test_pre_checkpoint_that_was_asked_for_and_fails_ends_the_move(early, tmp_path) -> None:
    early.source.on(CHECKPOINT, early.source.error(500, "no"))
    error = early.failed(precopy="1", retries=0)
    assert error.facts["location"] == "source" and "It has not been frozen" in str(error)
    assert not list((tmp_path / "journal").iterdir()) and not early.started_on_the_source


def test_dump_that_fails_leaves_no_pages(early, archives, tmp_path) -> None:
    def fails_at_last(handler, request) -> None:
        if "preCheckpoint" in request.query:
            (tmp_path / "bundle/pre-checkpoint").mkdir()
            early.source.archive(archives.pre_checkpoint())(handler, request)
        else:
            handler.read_body(request)
            handler.reply(*early.source.error(500, "criu failed"))

    early.source.on(CHECKPOINT, fails_at_last)
    error = early.failed()
    assert error.facts["location"] == "source" and "still runs" in str(error)
    assert not (tmp_path / "bundle/pre-checkpoint").exists()
    assert not any(each.whole for each in early.destination.requests if str(each) == IMPORT)
    assert not list((tmp_path / "journal").iterdir())


def test_memory_that_somebody_else_writes_out_meanwhile_is_not_taken_for_the_round(early, archives, tmp_path) -> None:
    """The kernel has told them what was written since, and tells it nobody again."""
    pages = tmp_path / "bundle/pre-checkpoint/pages-1.img"
    (tracked,) = early.source.answers[CHECKPOINT]

    def overwritten(handler, request) -> None:
        if "withPrevious" in request.query:
            pages.write_text("other pages")
        tracked(handler, request)

    early.source.on(CHECKPOINT, overwritten)
    error = early.failed()
    assert "Somebody else has written out" in str(error)
    assert_it_runs_on_the_source_again(early, error)
    assert not any(each.whole for each in early.destination.requests if str(each) == IMPORT)


def test_pre_checkpoint_that_was_kept_stays(early, tmp_path) -> None:
    (tmp_path / "bundle/pre-checkpoint").mkdir()
    result = early.run()
    assert result["precopy"] == [] and f"checkpoint lies in {tmp_path}/bundle" in result["precopy_reason"]
    assert (tmp_path / "bundle/pre-checkpoint").exists()


# -- the image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "reference"), [([404, {"Id": IMAGE_ID}], IMAGE_PATH), ([{"Id": "0a" * 32}], IMAGE_ID)]
)
def test_missing_image_is_brought_under_its_own_id(move, named, reference) -> None:
    absent = move.destination.error(404, "no such image")
    move.destination.on(f"GET /images/{IMAGE_ID}/json", absent, {"Id": IMAGE_ID})
    move.destination.on(NAMED, *named)
    move.destination.on("POST /images/load", {"Names": [IMAGE]})
    move.source.on(f"GET /images/{reference}/get", move.source.archive(b"image"))
    move.run()
    assert move.destination.request("POST /images/load").body == b"image"
    assert f"GET /images/{reference}/get" in move.source.seen


def test_image_that_does_not_arrive_stops_the_move_before_the_freeze(move) -> None:
    for request in (f"GET /images/{IMAGE_ID}/json", NAMED):
        move.destination.on(request, move.destination.error(404, "no such image"))
    move.destination.on("POST /images/load", {"Names": [IMAGE]})
    move.source.on(f"GET /images/{IMAGE_PATH}/get", move.source.archive(b"image"))
    with pytest.raises(FerryError, match="did not arrive with the ID 2e2e2e2e2e2e. The container was not touched"):
        move.run()
    assert CHECKPOINT not in move.source.seen


# -- failures that end on the source --------------------------------------------------------------------------


def assert_it_runs_on_the_source_again(move, error) -> None:
    assert error.facts["location"] == "source"
    assert "On the source: The container web runs again from the same memory." in str(error)
    assert move.source.seen.count(RESTORE_HERE) == 1
    assert not move.removed_from_the_source


def test_failed_restore_leaves_nothing_on_the_destination(move, inspect_json) -> None:
    move.destination.on(IMPORT, move.destination.error(500, "exit status 1", "crun: CRIU restoring failed: -52"))
    volumes = [{"Type": "volume", "Name": name} for name in ("data", "older", "anonymous")]
    move.destination.on(INSPECT, inspect_json("created", Mounts=volumes))
    move.destination.on(REMOVE, [])
    move.destination.on("DELETE /volumes/data", 204)
    error = move.failed()
    assert "CRIU restoring failed: -52" in str(error)
    deleted = ["DELETE /volumes/anonymous", "DELETE /volumes/data"]
    seen = move.destination.seen
    assert sorted(seen[3:6]) == sorted([IMPORT, *["GET /volumes/json"] * 2])
    assert seen[6:10] == [INSPECT, REMOVE, *deleted]
    assert move.destination.request(REMOVE).query["force"] == "false"
    assert_it_runs_on_the_source_again(move, error)


def test_restore_takes_what_the_checkpoint_had(move) -> None:
    move.destination.on(IMPORT, move.destination.error(500, "no"))
    move.destination.on(INSPECT, 404)
    move.failed()
    assert move.source.request(RESTORE_HERE).query == {
        "tcpEstablished": "true",
        "fileLocks": "true",
        "printStats": "true",
    }


def test_service_that_ends_during_the_upload_got_nothing_to_restore(move, archives) -> None:
    large = archives.checkpoint(archives.entry("checkpoint/pages-2.img", bytes(4 << 20)))
    move.source.on(CHECKPOINT, move.source.archive(large))
    move.destination.on(IMPORT, move.destination.die_early)
    assert_it_runs_on_the_source_again(move, move.failed())


def test_answer_during_the_upload_is_a_failure(move, archives) -> None:
    large = archives.checkpoint(archives.entry("checkpoint/pages-2.img", bytes(4 << 20)))
    move.source.on(CHECKPOINT, move.source.archive(large))

    def refuse(handler, request):
        handler.rfile.readline()
        handler.reply(*move.destination.error(500, "no space left on device"))
        handler.close_connection = True

    move.destination.on(IMPORT, refuse)
    move.destination.on(INSPECT, 404)
    error = move.failed()
    assert "no space left on device" in str(error)
    assert_it_runs_on_the_source_again(move, error)


@pytest.mark.parametrize("cut", [3000, 7000, -1024, -512])
def test_archive_that_the_source_cuts_short_never_ends_on_the_destination(move, archives, cut) -> None:
    move.source.on(CHECKPOINT, move.source.archive(archives.checkpoint()[:cut]))
    move.destination.on(INSPECT, 404)
    error = move.failed()
    assert "cut short" in str(error)
    if IMPORT in move.destination.seen:
        assert not move.destination.request(IMPORT).whole
    assert_it_runs_on_the_source_again(move, error)


def test_stream_that_breaks_off_never_ends_on_the_destination(move, archives) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = archives.checkpoint(archives.entry("checkpoint/pages-2.img", bytes(4 << 20)))
    move.source.on(CHECKPOINT, move.source.raw(head + b"%x\r\n" % len(data) + data))
    move.destination.on(INSPECT, 404)
    error = move.failed()
    assert "the answer broke off" in str(error)
    assert not move.destination.request(IMPORT).whole
    assert_it_runs_on_the_source_again(move, error)


def test_full_disk_on_the_source_is_no_reason_to_stay_frozen(move, tmp_path, file_size_limit) -> None:
    (tmp_path / "big").write_bytes(bytes(300_000))
    move.source.on(CHANGES, [{"Path": "/big", "Kind": 0}])
    move.source.on(f"POST /containers/{ID}/mount", move.source.text(200, str(tmp_path)))
    move.source.on(f"POST /containers/{ID}/unmount", 204)
    file_size_limit(100_000)
    error = move.failed()
    assert "File too large" in str(error)
    assert_it_runs_on_the_source_again(move, error)


def test_failed_dump_leaves_the_container_running(move, inspect_json) -> None:
    move.source.on(CHECKPOINT, move.source.error(500, "exit status 1", "crun checkpoint failed: exit status 1"))
    move.source.on(INSPECT, inspect_json())
    error = move.failed()
    assert error.facts["location"] == "source"
    assert "On the source: The container web still runs." in str(error)
    assert not move.started_on_the_source
    assert IMPORT not in move.destination.seen


def test_dump_that_met_a_connection_in_flight_is_tried_again(move, make_container, tmp_path) -> None:
    log = "(00.012345)      1: Error (criu/sk-inet.c:191): In-flight connection (l)\n"
    (tmp_path / "dump.log").write_text(log)
    failed = move.source.error(500, "exit status 1", "crun checkpoint failed: exit status 1")
    archive = move.source.answers[CHECKPOINT]
    move.source.on(CHECKPOINT, failed, *archive)
    move.run(container=make_container(OCIConfigPath=str(tmp_path / "config.json")))
    assert move.source.seen.count(CHECKPOINT) == 2


def test_container_that_cannot_be_brought_back_is_told_about(move) -> None:
    move.destination.on(IMPORT, move.destination.error(500, "no"))
    move.destination.on(INSPECT, 404)
    move.source.on(RESTORE_HERE, move.source.error(500, "exit status 1", "CRIU restoring failed: -1"))
    error = move.failed()
    assert error.facts["location"] == "unknown"
    assert "could not be brought back: Bringing container web back failed: CRIU restoring failed: -1." in str(error)
    assert not move.removed_from_the_source


def test_source_that_is_gone_is_told_about(move) -> None:
    def answer_and_die(handler, request):
        handler.read_body(request)
        move.source.stop()
        handler.reply(*move.destination.error(500, "no"))

    move.destination.on(IMPORT, answer_and_die)
    move.destination.on(INSPECT, 404)
    error = move.failed()
    assert error.facts["location"] == "unknown"
    assert "The container web could not be brought back" in str(error)


def test_guard_that_cannot_be_set_stops_the_move_before_the_freeze(move, programs, inspect_json) -> None:
    programs("nft", "echo no such device >&2; exit 1")
    move.destination.on("GET /networks/lan/json", {"name": "lan", "driver": "macvlan", "network_interface": "eth1"})
    move.source.on(INSPECT, inspect_json())
    error = move.failed()
    assert "no such device" in str(error)
    assert error.facts["location"] == "source"
    assert "The container web still runs." in str(error)
    assert CHECKPOINT not in move.source.seen


@pytest.mark.parametrize("tcp", ["close", "none"])
def test_connections_that_end_need_no_guard(move, programs, tcp) -> None:
    noted = programs("nft", "exit 1")
    move.destination.on("GET /networks/lan/json", {"name": "lan", "driver": "macvlan", "network_interface": "eth1"})
    move.run(tcp=tcp)
    assert not noted.exists()


def test_guard_that_stays_is_a_warning(move, programs, tmp_path) -> None:
    programs("nft", f"[ ! -e {tmp_path}/set ] || {{ echo busy >&2; exit 1; }}; touch {tmp_path}/set")
    move.destination.on("GET /networks/lan/json", {"name": "lan", "driver": "macvlan", "network_interface": "eth1"})
    (finding,) = move.run()["findings"]
    assert (finding["code"], finding["severity"]) == ("guard_left", "notice")
    assert "busy" in finding["message"]


# -- failures after which it may run on the destination -------------------------------------------------------


def assert_nothing_was_started(move, error) -> None:
    assert error.facts["location"] == "unknown"
    assert "Nothing was started on the source" in str(error)
    assert not move.started_on_the_source
    assert not move.removed_from_the_source


def test_service_that_is_gone_after_the_upload_may_have_restored_it(move) -> None:
    move.destination.on(IMPORT, move.destination.die)
    error = move.failed()
    assert move.destination.request(IMPORT).whole
    assert_nothing_was_started(move, error)
    assert "podman_restore here, name=web tcp_established=true file_locks=true" in str(error)


def fenced(move) -> None:
    """The destination has nothing of the container, and takes a fence."""
    move.destination.on(INSPECT, 404)
    move.destination.on("GET /containers/web/json", move.destination.error(404, "no such container"), 404)
    move.destination.on("POST /containers/create", {"Id": "fence"})


@pytest.mark.parametrize("answer", ["hang_up", "silent"])
def test_service_that_does_not_have_it_yet_never_will_have_it(move, answer) -> None:
    """It may still be unpacking the archive, so its name is taken there before the container runs here."""
    fenced(move)
    move.destination.on(IMPORT, getattr(move.destination, answer))
    error = move.failed(timeout=1)
    assert "The destination has been asked since: it does not run there." in str(error)
    assert_it_runs_on_the_source_again(move, error)
    fence = json.loads(move.destination.request("POST /containers/create").body)
    assert (fence["name"], fence["labels"]) == ("web", {"ferry.fence": ID})


def test_name_that_is_taken_when_the_fence_comes_is_the_container_s(move, inspect_json) -> None:
    move.destination.on(IMPORT, move.destination.hang_up)
    move.destination.on(INSPECT, 404, 404, inspect_json())
    move.destination.on("POST /containers/create", move.destination.error(500, "the name is in use", "name in use"))
    assert move.run()["container"]["id"] == ID
    assert not move.started_on_the_source


def test_answer_that_is_nonsense_says_nothing_about_the_restore(move) -> None:
    fenced(move)
    move.destination.on(IMPORT, (200, b"<html>"))
    assert_it_runs_on_the_source_again(move, move.failed())


def test_service_that_is_gone_after_its_answer_has_restored_it(move) -> None:
    """Podman said that it runs there; that it cannot be looked at now changes nothing about it."""
    move.destination.on(INSPECT, move.destination.die)
    assert_nothing_was_started(move, move.failed())


def test_container_that_runs_in_spite_of_an_error_has_arrived(move) -> None:
    """For example when the statistics cannot be read afterwards."""
    move.destination.on(IMPORT, move.destination.error(500, "displaying restore statistics not possible"))
    assert move.run()["container"]["id"] == ID
    assert not move.started_on_the_source


def no_process(move) -> None:
    """podman's list is right: the container that it calls created has no process."""
    move.destination.on("POST /containers/create", {"Id": "look"})
    move.destination.on(f"DELETE /containers/ferry-look-{ID[:12]}", [])
    move.destination.on(f"GET /containers/ferry-look-{ID[:12]}/archive", 404)


def test_container_that_began_to_run_while_it_was_removed_is_left_alone(move, inspect_json) -> None:
    move.destination.on(IMPORT, move.destination.hang_up)
    move.destination.on(INSPECT, inspect_json("created"))
    running = "cannot remove container as it is running - running or paused containers cannot be removed without force"
    move.destination.on(REMOVE, move.destination.error(500, "container state improper", running))
    no_process(move)
    assert_nothing_was_started(move, move.failed())


def test_service_that_is_gone_after_its_error_may_have_restored_it(move) -> None:
    def answer_and_die(handler, request):
        handler.read_body(request)
        handler.reply(*move.destination.error(500, "no"))
        move.destination.stop()
        handler.close_connection = True

    move.destination.on(IMPORT, answer_and_die)
    assert_nothing_was_started(move, move.failed())


def test_lost_answer_is_none_the_worse_if_it_runs_there(move) -> None:
    move.destination.on(IMPORT, move.destination.hang_up)
    result = move.run()
    assert result["container"]["id"] == ID
    assert move.source.seen[-3:] == [REMOVE, "GET /containers/json", "DELETE /volumes/data"]
    assert not move.started_on_the_source


def test_lost_answer_of_a_restore_that_failed_is_a_failure(move, inspect_json) -> None:
    move.destination.on(IMPORT, move.destination.hang_up)
    move.destination.on(INSPECT, inspect_json("created"))
    move.destination.on(REMOVE, [])
    move.destination.on("DELETE /volumes/data", 204)
    no_process(move)
    error = move.failed()
    assert REMOVE in move.destination.seen
    assert "DELETE /volumes/data" in move.destination.seen
    assert_it_runs_on_the_source_again(move, error)


def test_volume_that_cannot_be_removed_does_not_hide_the_reason(move, inspect_json) -> None:
    move.destination.on(IMPORT, move.destination.error(500, "no", "CRIU restoring failed: -52"))
    move.destination.on(INSPECT, inspect_json("created"))
    move.destination.on(REMOVE, [])
    move.destination.on("DELETE /volumes/data", move.destination.error(409, "volume is being used"))
    error = move.failed()
    assert "CRIU restoring failed: -52" in str(error)
    assert "volume is being used" in str(error)
    assert_it_runs_on_the_source_again(move, error)


@pytest.fixture
def ended(move, inspect_json):
    """It was restored on the destination, and its process has ended."""
    move.destination.on(INSPECT, inspect_json("exited", State={"ExitCode": 1}))
    move.destination.on(REMOVE, [])
    move.destination.on("DELETE /volumes/data", 204)
    return move


def test_container_that_has_done_its_work_is_not_run_again(ended, inspect_json) -> None:
    ended.destination.on(INSPECT, inspect_json("exited", State={"ExitCode": 0}))
    error = ended.failed()
    assert error.facts["location"] == "destination"
    assert "It has done its work" in str(error)
    assert not ended.started_on_the_source
    assert not [request for request in ended.destination.seen if request.startswith("DELETE")]


def test_container_that_ended_at_once_runs_on_the_source_again(ended) -> None:
    error = ended.failed()
    assert "web was restored, and its process has ended with 1" in str(error)
    assert REMOVE in ended.destination.seen
    assert "DELETE /volumes/data" in ended.destination.seen
    assert ended.destination.request(REMOVE).query["force"] == "false"
    assert_it_runs_on_the_source_again(ended, error)


def test_container_that_runs_again_after_it_ended_is_left_alone(ended) -> None:
    """Its restart policy may have seen to that."""
    ended.destination.on(REMOVE, ended.destination.error(500, "container state improper", "it is running"))
    error = ended.failed()
    assert "it is running" in str(error)
    assert_nothing_was_started(ended, error)


def test_container_that_was_started_anew_after_it_ended_goes_back(ended, inspect_json) -> None:
    anew, states = inspect_json(State={"Restored": False}), []

    def remove(handler, request) -> None:
        states.append(request.query["force"])
        ended.destination.on(INSPECT, anew)
        refused = ended.destination.error(500, "container state improper", "it is running")
        handler.reply(*(refused if len(states) == 1 else ended.destination.json(200, [])))

    ended.destination.on(REMOVE, remove)
    error = ended.failed()
    assert states == ["false", "true"]
    assert_it_runs_on_the_source_again(ended, error)


@pytest.mark.parametrize("seen", ["at once", "in verify", "by its health check", "lost answer"])
def test_container_whose_policy_starts_it_anew_has_not_arrived(move, make_container, inspect_json, seen) -> None:
    """Its memory is on the source alone."""
    check = {"Config": {"Healthcheck": {"Test": ["CMD", "true"]}}} if seen == "by its health check" else {}
    restored, anew = inspect_json(**check), inspect_json(State={"Restored": False}, **check)
    answers = {
        "at once": [anew],
        "in verify": [restored, restored, anew],
        "by its health check": [restored] * 2 + [anew],
    }
    move.destination.on(INSPECT, *answers.get(seen, [anew]))
    move.destination.on(f"GET /containers/{ID}/healthcheck", {"Status": "healthy", "Log": [{"ExitCode": 0}]})
    if seen == "lost answer":
        move.destination.on(IMPORT, move.destination.hang_up)
    move.destination.on(REMOVE, [])
    move.destination.on("DELETE /volumes/data", 204)
    error = move.failed(container=make_container(**check))
    assert "started anew, without its memory" in str(error)
    assert move.destination.request(REMOVE).query["force"] == "true"
    assert_it_runs_on_the_source_again(move, error)


@pytest.mark.parametrize(
    ("last", "text", "location"),
    [("died", "has ended with 0, and it was removed", "destination"), ("checkpoint", "may have moved on", "unknown")],
)
def test_container_that_is_gone_in_verify_is_not_started_here(move, inspect_json, last, text, location) -> None:
    move.destination.on(INSPECT, inspect_json(), inspect_json(), 404)
    fence = inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})
    move.destination.on("GET /containers/web/json", 404, fence)
    move.destination.on("POST /containers/create", {"Id": "f" * 64})
    move.destination.on("DELETE /containers/web", [])
    now = {"timeNano": int((time.time() + 60) * 1e9)}
    lines = [json.dumps({"Action": action, **now}) for action in ("create", "restore", last)]
    move.destination.on("GET /events", move.destination.text(200, "\n".join(lines)))
    error = move.failed()
    assert text in str(error) and error.facts["location"] == location
    assert not move.started_on_the_source
    assert REMOVE not in move.source.seen


def test_volume_that_stays_on_the_destination_keeps_nobody_frozen(ended) -> None:
    ended.destination.on("DELETE /volumes/data", ended.destination.error(409, "volume is being used"))
    assert_it_runs_on_the_source_again(ended, ended.failed())


# -- the commit -----------------------------------------------------------------------------------------------


def test_commit_uses_no_force(move) -> None:
    move.run()
    assert move.source.request(REMOVE).query["force"] == "false"
    assert move.source.request("DELETE /volumes/data").query == {}


def test_volumes_that_were_ignored_stay_on_the_source(move) -> None:
    """Anonymous ones too, which podman would remove with their container."""
    move.run(ignore_volumes=True)
    assert move.source.request(REMOVE).query["volumes"] == "false"
    assert "DELETE /volumes/data" not in move.source.seen


def test_copy_that_was_started_on_the_source_meanwhile_is_seen(move) -> None:
    move.source.on(REMOVE, move.source.error(500, "container state improper", "cannot remove container: it is running"))
    error = move.failed()
    assert error.facts["location"] == "destination"
    assert "runs on the destination. Its remains on the source could not be removed" in str(error)
    assert "it is running" in str(error)
    assert not move.started_on_the_source
    assert "DELETE /volumes/data" not in move.source.seen


def test_volume_of_another_container_stays_on_the_source(move, inspect_json) -> None:
    move.source.on("GET /containers/json", [{"Id": "other"}])
    move.source.on("GET /containers/other/json", inspect_json(Id="other"))
    move.run()
    assert "DELETE /volumes/data" not in move.source.seen


def taken(move, inspect_json) -> None:
    """The hold is there as soon as it was made."""
    labels = {"ferry.holds": ID, "ferry.restart_policy": "always", "ferry.restart_retries": "0"}
    move.source.on("POST /containers/create", {"Id": "hold"})
    move.source.on(f"GET /containers/{HOLD}/json", 404, inspect_json("created", Config={"Labels": labels}))
    move.source.on(f"POST /containers/{ID}/update", {"ID": ID})


def test_restart_policy_is_held_back_and_goes_along(move, make_container, inspect_json) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    taken(move, inspect_json)
    move.run(container=make_container(HostConfig=policy))
    assert [request for request in move.source.seen if not request.startswith("GET")] == [
        "POST /containers/create",
        f"POST /containers/{ID}/update",
        CHECKPOINT,
        f"DELETE /containers/{HOLD}",
        REMOVE,
        "DELETE /volumes/data",
    ]
    config = inspect(io.BytesIO(move.destination.request(IMPORT).body)).config
    assert (config["restart_policy"], config["restart_retries"]) == ("on-failure", 3)


def test_hold_that_cannot_be_released_is_told_from_the_destination(move, make_container, inspect_json) -> None:
    taken(move, inspect_json)
    move.source.on(f"DELETE /containers/{HOLD}", move.source.error(500, "database is locked"))
    error = move.failed(container=make_container(HostConfig={"RestartPolicy": {"Name": "always"}}))
    assert error.facts["location"] == "destination"
    assert "database is locked" in str(error)
    assert not move.started_on_the_source


# -- the answer -----------------------------------------------------------------------------------------------


def test_error_is_json(move) -> None:
    """Its facts are what the module returns."""
    move.destination.on(IMPORT, move.destination.error(500, "no"))
    move.destination.on(INSPECT, 404)
    assert json.loads(json.dumps(move.failed().facts))["status"] == 500


# -- podman's spool -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "age", "reads", "late", "found"),
    [
        (["/var/tmp/checkpoint1"], 0, False, False, False),
        (["/var/tmp/restore1"], 9999, False, False, True),
        (["/var/tmp/restore1"], 9999, False, True, False),  # of a killed service
        (["/var/tmp/restore1"], 9999, True, True, True),  # larger than what is read within the timeout
        (["/var/tmp/restore1"], 5, False, True, True),
        ([], 0, False, True, False),
    ],
)
def test_spool_that_is_left_over_holds_nothing_up(move, monkeypatch, names, age, reads, late, found) -> None:
    spool = tuple(Spooled(name, 1, age) for name in names)
    monkeypatch.setattr(_migration, "probe", lambda _transport: HostFacts(spool=spool, reads_spool=reads))
    migration = move.migration()
    assert unpacks(migration.destination, migration.journal, late=late) == found


@pytest.mark.parametrize(("ahead", "expected"), [(0.0, 1000.0), (3600.0, 4600.0), (None, 1000.0)])
def test_clock_of_the_destination_counts(move, monkeypatch, ahead, expected) -> None:
    facts = None if ahead is None else HostFacts(clock=time.time() + ahead)
    monkeypatch.setattr(_migration, "probe", lambda _transport: facts)
    migration = move.migration()
    migration.journal.entry = Entry(ID, "web", IMAGE_ID, "unix:///x", "restore", begun=1000.0)
    assert abs(begun_there(migration.destination, migration.journal) - expected) < 5
