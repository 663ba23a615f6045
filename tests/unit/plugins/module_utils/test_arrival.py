# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import json
import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._arrival import Arrival, ended_with
from ansible_collections.ferry.podman.plugins.module_utils._errors import OutcomeUnknown, RestoredAndEnded, StartedAnew

ID, IMAGE_ID = "1f" * 32, "2e" * 32
BEGUN = 1_795_000_000.0
INSPECT = f"GET /containers/{ID}/json"
NAMED = "GET /containers/web/json"


def events(*actions: str) -> list[dict]:
    died = {"Action": "died", "Actor": {"Attributes": {"containerExitCode": "3"}}}
    return [died if action == "died" else {"Action": action} for action in actions]


@pytest.mark.parametrize(
    ("actions", "code"),
    [
        ((), None),
        (("create", "restore"), None),
        (("create", "restore", "remove"), None),
        (("create", "restore", "died", "remove"), 3),
        # Moved away before, and not come back.
        (("create", "restore", "checkpoint", "died", "remove"), None),
        # Moved away, come back, and ended.
        (("create", "start", "checkpoint", "remove", "create", "restore", "died", "remove"), 3),
        (("create", "start", "died", "remove", "create", "restore"), None),
        # Older events are forgotten.
        (("restore", "died"), 3),
    ],
)
def test_events_tell_whether_it_ended_by_itself(actions, code) -> None:
    assert ended_with(events(*actions)) == code


@pytest.fixture
def arrival(client, libpod):
    libpod.on(INSPECT, 404)
    libpod.on(NAMED, 404)
    libpod.on("POST /containers/create", {"Id": "fence"})
    libpod.on("GET /events", libpod.text(200, ""))
    return Arrival(client, ID, "web", IMAGE_ID, lambda late: False, lambda: BEGUN)


@pytest.fixture
def fence(inspect_json):
    return inspect_json("created", Id="f" * 64, Config={"Labels": {"ferry.fence": ID}})


def test_container_that_runs_has_arrived(arrival, libpod, inspect_json) -> None:
    libpod.on(INSPECT, inspect_json())
    assert arrival.settle(0).id == ID
    assert "POST /containers/create" not in libpod.seen


def test_fence_that_stands_already_is_enough(arrival, libpod, fence) -> None:
    libpod.on(NAMED, fence)
    assert arrival.settle(0) is None
    assert "POST /containers/create" not in libpod.seen


def test_container_that_comes_between_is_seen(arrival, libpod, inspect_json) -> None:
    libpod.on(INSPECT, 404, inspect_json())
    assert arrival.settle(0).id == ID


def test_container_of_rm_that_ended_is_seen_in_the_events(arrival, libpod, fence) -> None:
    lines = '{"Action":"create"}\n{"Action":"died","Actor":{"Attributes":{"containerExitCode":"3"}}}\n'
    libpod.on("GET /events", libpod.text(200, lines))
    libpod.on(NAMED, 404, fence)
    libpod.on("DELETE /containers/web", [])
    with pytest.raises(RestoredAndEnded, match="ended with 3, and it was removed"):
        arrival.settle(0)
    assert "DELETE /containers/web" in libpod.seen


def test_name_of_somebody_else_is_no_fence(arrival, libpod, inspect_json) -> None:
    libpod.on(NAMED, inspect_json(Id="0a" * 32))
    libpod.on("POST /containers/create", libpod.error(500, "name in use"))
    with pytest.raises(OutcomeUnknown, match="name in use"):
        arrival.settle(0)


def test_destination_is_asked_again_for_a_while(arrival, libpod, inspect_json) -> None:
    libpod.on(INSPECT, libpod.hang_up, libpod.hang_up, inspect_json())
    assert arrival.settle(5).id == ID


@pytest.mark.parametrize(("unpacks", "until", "lifted"), [(False, 9e9, True), (True, 9e9, False), (None, 9e9, False)])
def test_fence_is_lifted_when_nothing_can_come(arrival, libpod, fence, unpacks, until, lifted) -> None:
    arrival.unpacks = lambda late: unpacks
    libpod.on(NAMED, fence)
    libpod.on("DELETE /containers/web", [])
    assert arrival.lift(0, until) == lifted
    assert ("DELETE /containers/web" in libpod.seen) == lifted


@pytest.mark.parametrize(("unpacks", "lifted"), [(None, True), (False, True), (True, False)])
def test_time_lifts_the_fence_where_nobody_knows_better(arrival, libpod, fence, unpacks, lifted) -> None:
    asked = []
    arrival.unpacks = lambda late: asked.append(late) or unpacks
    libpod.on(NAMED, fence)
    libpod.on("DELETE /containers/web", [])
    assert arrival.lift(0, time.time() - 1) == lifted
    assert asked == [True]


@pytest.mark.parametrize(("later", "moved_on"), [(-0.5, False), (0.5, True)])
def test_one_that_was_checkpointed_there_since_may_have_moved_on(arrival, libpod, fence, later, moved_on) -> None:
    """The same events before the move began are of an older stay."""
    at = {"time": int(BEGUN + later), "timeNano": int((BEGUN + later) * 1e9)}
    stay = [{"Action": action, **at} for action in ("create", "restore", "checkpoint", "died", "remove")]
    libpod.on("GET /events", libpod.text(200, "\n".join(map(json.dumps, stay))))
    libpod.on(NAMED, 404, fence)
    libpod.on("DELETE /containers/web", [])
    if not moved_on:
        assert arrival.settle(0) is None
        arrival.require_not_moved_on()
        return
    with pytest.raises(OutcomeUnknown, match="may have moved on"):
        arrival.settle(0)
    assert "DELETE /containers/web" in libpod.seen
    with pytest.raises(OutcomeUnknown, match="may have moved on"):
        arrival.require_not_moved_on()


def test_one_that_is_frozen_there_is_left_alone(arrival, libpod, inspect_json) -> None:
    libpod.on(INSPECT, inspect_json("exited", State={"Checkpointed": True}))
    with pytest.raises(OutcomeUnknown, match="was checkpointed there since"):
        arrival.settle(0)
    assert not [call for call in libpod.seen if call.startswith("DELETE")]


def test_one_that_was_started_anew_has_not_arrived(arrival, libpod, inspect_json) -> None:
    libpod.on(INSPECT, inspect_json(State={"Restored": False}))
    with pytest.raises(StartedAnew):
        arrival.settle(0)


def test_container_of_that_name_that_is_no_fence_stays(arrival, libpod, inspect_json) -> None:
    libpod.on(NAMED, inspect_json(Id="0a" * 32))
    assert arrival.lift(0, 0)
    assert libpod.seen == [NAMED]
