# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.modules import podman_migrate

ID, IMAGE_ID = "1f" * 32, "2e" * 32
CHECKPOINT, REMOVE = f"POST /containers/{ID}/checkpoint", f"DELETE /containers/{ID}"
IMPORT = "POST /containers/import/restore"


@pytest.fixture
def hosts(libpod, other_libpod, inspect_json, info_json, archives):
    """Two hosts; the container runs on the first one until it is restored on the second one."""

    def arrive(handler, request):
        handler.read_body(request)
        for name in ("web", ID):
            other_libpod.on(f"GET /containers/{name}/json", inspect_json())
        handler.reply(*other_libpod.json(200, {"Id": ID}))

    def leave(handler, request):
        handler.read_body(request)
        for name in ("web", ID):
            libpod.on(f"GET /containers/{name}/json", 404)
        handler.reply(*libpod.json(200, []))

    for service in (libpod, other_libpod):
        service.on("GET /info", info_json())
        service.on("GET /volumes/json", [])
        service.on("GET /containers/json", [])
    for name in ("web", ID):
        libpod.on(f"GET /containers/{name}/json", inspect_json())
    libpod.on(f"GET /containers/{ID}/changes", [])
    libpod.on(CHECKPOINT, libpod.archive(archives.checkpoint()))
    libpod.on(REMOVE, leave)
    libpod.on("DELETE /volumes/data", 204)
    other_libpod.on("GET /networks/lan/json", {"name": "lan", "driver": "bridge"})
    for name in (IMAGE_ID, "registry.example%3A5000%2Fshop%2Fweb%3A1.4"):
        other_libpod.on(f"GET /images/{name}/json", {"Id": IMAGE_ID})
    other_libpod.on(IMPORT, arrive)
    return libpod, other_libpod


@pytest.fixture
def migrate(run_module, hosts, tmp_path):
    def run(**options):
        source, destination = hosts
        where = {"url": source.url, "destination": destination.url, "journal": str(tmp_path / "journal")}
        return run_module(podman_migrate, name="web", **where, **options)

    return run


def test_container_is_moved_once(migrate, hosts) -> None:
    first = migrate(tcp="established")
    second = migrate(tcp="established")
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["location"] == second["location"] == "destination"
    assert first["container"]["id"] == second["container"]["id"] == ID
    assert first["bytes"] == len(hosts[1].request(IMPORT).body)
    assert first["findings"] == []
    assert first["diff"] == {"before": {"location": "source"}, "after": {"location": "destination"}}


def test_check_mode_touches_nothing(migrate, hosts) -> None:
    answer = migrate(check_mode=True)
    assert answer["changed"]
    assert (answer["location"], answer["tcp"], answer["container"]["name"]) == ("source", "close", "web")
    assert {request.method for host in hosts for request in host.requests} == {"GET"}


def test_refused_move_is_on_the_source(migrate, hosts) -> None:
    hosts[1].on("GET /networks/lan/json", 404)
    hosts[1].on("GET /volumes/json", [{"Name": "data"}])
    answer = migrate()
    assert answer["failed"] and not answer["changed"]
    assert answer["location"] == "source"
    assert [finding["code"] for finding in answer["findings"]] == ["volume_exists", "network_absent"]
    assert CHECKPOINT not in hosts[0].seen


def test_failed_move_says_where_the_container_is(migrate, hosts) -> None:
    hosts[1].on(IMPORT, hosts[1].die)
    answer = migrate()
    assert answer["failed"]
    assert answer["location"] == "unknown"
    assert "Nothing was started on the source" in answer["msg"]


def test_warnings_go_along(migrate, hosts) -> None:
    hosts[1].headers["Libpod-API-Version"] = "5.4.2"
    refused = migrate()
    assert refused["failed"] and "force=true goes on in spite of them" in refused["msg"]
    assert CHECKPOINT not in hosts[0].seen
    answer = migrate(force=True)
    assert "older_destination" in [finding["code"] for finding in answer["findings"]]
    assert answer["changed"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_interrupted_move_is_finished(migrate, hosts, inspect_json, check_mode) -> None:
    for name in ("web", ID):
        hosts[0].on(f"GET /containers/{name}/json", inspect_json("exited", State={"Checkpointed": True}))
        hosts[1].on(f"GET /containers/{name}/json", inspect_json())
    answer = migrate(check_mode=check_mode)
    assert answer["changed"]
    assert answer["location"] == "destination"
    assert answer["diff"]["before"] == {"location": "destination", "remains_on": "source"}
    assert (REMOVE in hosts[0].seen) == (not check_mode)
    assert [finding["code"] for finding in answer.get("findings", [])] == ([] if check_mode else ["volumes_left"])
    assert "DELETE /volumes/data" not in hosts[0].seen
    assert IMPORT not in hosts[1].seen


def test_source_that_an_interrupted_move_was_to_keep_stays(migrate, hosts, inspect_json, tmp_path) -> None:
    """The run that takes it up is not told so."""
    for name in ("web", ID):
        hosts[0].on(f"GET /containers/{name}/json", inspect_json("exited", State={"Checkpointed": True}))
        hosts[1].on(f"GET /containers/{name}/json", inspect_json())
    known = {"id": ID, "name": "web", "image_id": IMAGE_ID, "destination": hosts[1].url, "keep_source": True}
    Journal(str(tmp_path / "journal"), ID).begin(Entry(**known, phase="verify", volumes=["data"]))
    answer = migrate()
    assert not answer.get("failed"), answer
    assert (answer["location"], answer["interrupted_phase"]) == ("destination", "verify")
    assert REMOVE not in hosts[0].seen and "DELETE /volumes/data" not in hosts[0].seen
    assert not list((tmp_path / "journal").glob("*.json"))


def test_container_that_is_nowhere_is_told(migrate, hosts) -> None:
    for name in ("web", ID):
        hosts[0].on(f"GET /containers/{name}/json", 404)
    answer = migrate()
    assert answer["failed"] and "Inspecting container web failed" in answer["msg"]


def test_destination_that_is_not_there_is_told(run_module, hosts) -> None:
    answer = run_module(podman_migrate, url=hosts[0].url, destination="unix:///nonexistent", name="web")
    assert answer["failed"] and "unix:///nonexistent: no podman service listens there" in answer["msg"]
    assert CHECKPOINT not in hosts[0].seen


@pytest.mark.parametrize("transfer", ["registry", "stream"])
def test_file_of_credentials_is_read_for_a_registry_alone(migrate, hosts, transfer) -> None:
    answer = migrate(transfer=transfer, registry="r.example/ferry", registry_auth_file="/absent/auth.json")
    if transfer == "stream":
        assert answer["changed"]
        return
    assert answer["failed"] and "There is no file /absent/auth.json" in answer["msg"]
    assert hosts[0].seen == hosts[1].seen == []
