# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _safekeeping
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import CheckpointOptions, RestartPolicy
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import (
    definition_kept,
    find_hold,
    finish_stop,
    kept_safe,
    settle,
)

ID, IMAGE_ID = "1f" * 32, "2e" * 32
HOLD = "ferry-hold-1f1f1f1f1f1f"
INSPECT, FIND = f"GET /containers/{ID}/json", f"GET /containers/{HOLD}/json"
TAKE, RELEASE = "POST /containers/create", f"DELETE /containers/{HOLD}"
UPDATE, REMOVE = f"POST /containers/{ID}/update", f"DELETE /containers/{ID}"
ALWAYS = {"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}}
AUTO_REMOVE = {"HostConfig": {"AutoRemove": True}}


@pytest.fixture
def podman(libpod, inspect_json):
    """A service on which everything about holds succeeds, and the container is stopped."""
    libpod.on(TAKE, libpod.json(201, {"Id": "hold"}))
    libpod.on(UPDATE, libpod.json(201, {"ID": ID}))
    libpod.on(RELEASE, [])
    libpod.on(REMOVE, [])
    libpod.on(INSPECT, inspect_json("exited"))
    return libpod


def changes(service) -> list[str]:
    return [request for request in service.seen if not request.startswith("GET")]


def policies(service) -> list[str]:
    return [request.query["restartPolicy"] for request in service.requests if str(request) == UPDATE]


def left_hold(podman, inspect_json, **labels: str) -> None:
    """What an interrupted run left."""
    marks = {"ferry.holds": ID, "ferry.restart_policy": "on-failure", "ferry.restart_retries": "3", **labels}
    podman.on(FIND, inspect_json("created", Config={"Labels": marks}))


# -- who is held ----------------------------------------------------------------------------------------------


def test_container_that_podman_leaves_alone_needs_no_hold(client, podman, make_container) -> None:
    with kept_safe(client, make_container(), CheckpointOptions()) as policy:
        assert policy == RestartPolicy("no", 0)
    assert changes(podman) == []


@pytest.mark.parametrize("options", [CheckpointOptions(leave_running=True), CheckpointOptions(pre_checkpoint=True)])
@pytest.mark.parametrize("settings", [ALWAYS, AUTO_REMOVE])
def test_container_that_goes_on_needs_no_hold(client, podman, make_container, options, settings) -> None:
    with kept_safe(client, make_container(**settings), options):
        pass
    assert changes(podman) == []


def test_hold_depends_on_the_container_and_remembers_its_policy(client, podman, make_container) -> None:
    container = make_container(HostConfig={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}})
    with kept_safe(client, container, CheckpointOptions()):
        pass
    spec = json.loads(podman.request(TAKE).body)
    assert (spec["name"], spec["image"]) == (HOLD, IMAGE_ID)
    assert [value for key, value in spec.items() if key.endswith("ns")].count({"nsmode": "container", "value": ID}) == 1
    assert spec["labels"] == {
        "ferry.holds": ID,
        "ferry.restart_policy": "on-failure",
        "ferry.restart_retries": "3",
    }


# -- what happens around it -----------------------------------------------------------------------------------


def test_policy_is_suspended_and_comes_back(client, podman, make_container) -> None:
    with kept_safe(client, make_container(**ALWAYS), CheckpointOptions()) as policy:
        assert changes(podman) == [TAKE, UPDATE]
        assert policies(podman) == ["no"]
    assert policy == RestartPolicy("always", 0)
    assert changes(podman) == [TAKE, UPDATE, UPDATE, RELEASE]
    assert policies(podman) == ["no", "always"]


def test_container_of_rm_is_removed_as_podman_does(client, podman, make_container) -> None:
    with kept_safe(client, make_container(**AUTO_REMOVE), CheckpointOptions()):
        assert changes(podman) == [TAKE]
    assert changes(podman) == [TAKE, RELEASE, REMOVE]
    assert podman.request(REMOVE).query["force"] == "false"


def test_failure_that_left_it_stopped_keeps_the_hold(client, podman, make_container) -> None:
    with pytest.raises(FerryError, match="disk full"), kept_safe(client, make_container(**ALWAYS), CheckpointOptions()):
        raise FerryError("disk full")
    assert changes(podman) == [TAKE, UPDATE]


def test_failure_that_left_it_running_releases_the_hold(client, podman, make_container, inspect_json) -> None:
    podman.on(INSPECT, inspect_json())
    with pytest.raises(FerryError, match="disk full"), kept_safe(client, make_container(**ALWAYS), CheckpointOptions()):
        raise FerryError("disk full")
    assert changes(podman) == [TAKE, UPDATE, UPDATE, RELEASE]
    assert policies(podman) == ["no", "always"]


def test_failure_that_lost_it_releases_the_hold(client, podman, make_container) -> None:
    podman.on(INSPECT, 404)
    with pytest.raises(KeyError), kept_safe(client, make_container(**ALWAYS), CheckpointOptions()):
        raise KeyError
    assert changes(podman) == [TAKE, UPDATE, RELEASE]


def test_failure_is_told_even_if_the_service_is_gone(client, podman, make_container) -> None:
    podman.on(INSPECT, podman.die)
    with pytest.raises(FerryError, match="disk full"), kept_safe(client, make_container(**ALWAYS), CheckpointOptions()):
        raise FerryError("disk full")


def test_container_that_cannot_be_held_is_not_touched(client, podman, make_container) -> None:
    podman.on(TAKE, podman.error(500, "no space left on device"))
    with (
        pytest.raises(ApiError, match="no space left"),
        kept_safe(client, make_container(**ALWAYS), CheckpointOptions()),
    ):
        pytest.fail("It went on without a hold.")
    assert changes(podman) == [TAKE]


def test_policy_that_cannot_be_suspended_releases_the_hold(client, podman, make_container, inspect_json) -> None:
    podman.on(INSPECT, inspect_json())
    podman.on(UPDATE, podman.error(500, "locked"), {"ID": ID})
    with pytest.raises(ApiError, match="locked"), kept_safe(client, make_container(**ALWAYS), CheckpointOptions()):
        pytest.fail("It went on with its policy.")
    assert changes(podman)[-1] == RELEASE


def test_server_that_cannot_change_policies_only_holds(client, podman, make_container) -> None:
    podman.headers["Libpod-API-Version"] = "5.0.3"
    with kept_safe(client, make_container(**ALWAYS), CheckpointOptions()) as policy:
        pass
    assert policy == RestartPolicy("always", 0)
    assert changes(podman) == [TAKE, RELEASE]


# -- after an interrupted run ---------------------------------------------------------------------------------


def test_hold_of_an_interrupted_run_is_taken_over(client, podman, make_container, inspect_json) -> None:
    """By then the container itself says that it has no policy."""
    left_hold(podman, inspect_json)
    with kept_safe(client, make_container(), CheckpointOptions()) as policy:
        pass
    assert policy == RestartPolicy("on-failure", 3)
    assert changes(podman) == [UPDATE, UPDATE, RELEASE]
    assert policies(podman) == ["no", "on-failure"]


def test_interrupted_run_is_settled(client, podman, make_container, inspect_json) -> None:
    left_hold(podman, inspect_json)
    settle(client, make_container())
    assert changes(podman) == [UPDATE, RELEASE]
    assert policies(podman) == ["on-failure"]


def test_without_a_hold_there_is_nothing_to_settle(client, podman, make_container) -> None:
    settle(client, make_container())
    assert podman.seen == [FIND]


def test_container_of_that_name_that_holds_another_one_is_none(client, podman, make_container, inspect_json) -> None:
    left_hold(podman, inspect_json, **{"ferry.holds": "1f1f1f1f1f1f" + "0" * 52})
    assert find_hold(client, make_container()) is None


# -- a stop that was cut short --------------------------------------------------------------------------------


def test_stop_that_was_cut_short_is_finished(client, podman, make_container, info_json, programs) -> None:
    podman.on("GET /info", info_json())
    noted = programs("podman", "echo failed >&2; exit 125")
    finish_stop(client, make_container("stopped"))
    assert noted.read_text().split() == [
        "--root",
        "/var/lib/containers/storage",
        "--runroot",
        "/run/containers/storage",
        "container",
        "cleanup",
        ID,
    ]


@pytest.mark.parametrize("status", ["running", "exited", "created", "paused"])
def test_container_in_any_other_state_is_not_touched(client, podman, make_container, programs, status) -> None:
    noted = programs("podman", "exit 0")
    finish_stop(client, make_container(status))
    assert not noted.exists()
    assert podman.seen == []


def test_stop_on_another_host_is_left_to_podman(podman, forwarded, make_container, programs) -> None:
    remote, noted = forwarded(podman), programs("podman", "exit 0")
    finish_stop(remote, make_container("stopped"))
    assert not noted.exists()


def test_stop_that_cannot_be_finished_is_no_failure_of_its_own(
    client, podman, make_container, info_json, monkeypatch
) -> None:
    podman.on("GET /info", podman.error(500, "no"), info_json())
    monkeypatch.setenv("PATH", "/nonexistent")
    for _number in range(2):
        finish_stop(client, make_container("stopped"))
    assert podman.seen == ["GET /info"] * 2


@pytest.mark.parametrize("left", [None, "", '{"process": '])
def test_definition_that_a_killed_podman_has_lost_is_there_for_the_next_restore(
    client, make_container, tmp_path, left
) -> None:
    path = tmp_path / "config.json"
    container = make_container("exited", OCIConfigPath=str(path))
    path.write_text('{"process": {}}')
    path.chmod(0o640)
    with pytest.raises(FerryError), definition_kept(client, container):
        path.unlink()
        if left is not None:
            path.write_text(left)
        raise FerryError("killed")
    with definition_kept(client, container):
        assert json.loads(path.read_text()) == {"process": {}}
        assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["config.json"]


def test_definition_that_nobody_has_kept_is_podman_s_matter(client, make_container, tmp_path) -> None:
    with definition_kept(client, make_container("exited", OCIConfigPath=str(tmp_path / "config.json"))):
        assert os.listdir(tmp_path) == []
    assert os.listdir(tmp_path) == []


def test_definition_is_not_kept_on_a_full_disk(client, make_container, tmp_path, monkeypatch) -> None:
    """Podman could not write the new one then."""
    monkeypatch.setattr(_safekeeping, "ROOM", 1 << 60)
    path = tmp_path / "config.json"
    path.write_text('{"process": {}}')
    with definition_kept(client, make_container("exited", OCIConfigPath=str(path))):
        assert os.listdir(tmp_path) == ["config.json"]
