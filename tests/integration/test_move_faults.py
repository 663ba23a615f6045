# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Everything that can break while a container moves, at each phase that it can hit.

What must hold afterwards: one copy runs with all of its state, or, where that cannot be known, none is started and
the answer says why; and the same call again ends with one copy on the destination.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults import (
    KILL,
    KILL_SERVICE,
    KILL_SERVICE_THERE,
    Cargo,
    Trigger,
    clean,
    copies,
    ended,
    kill_sessions,
    remove_spools,
    socket_activated,
)
from helpers import Box, Node, Result
from road import PUBLIC_KEYS, Road

DELETE_TABLES = "nft list tables | grep -e ferry -e it_cut | while read table; do nft delete $table; done"
TIMEOUT = {"timeout": 25}
"""Seconds after which podman is taken to unpack nothing any more, where the host cannot be asked for it."""


@pytest.fixture
def road(pair: tuple[Node, Node]) -> Iterator[Road]:
    source, destination = pair
    for node in pair:
        # Of a test that failed; what is left after one that passed, it has looked for itself.
        node.later("sh", "-c", f"rm -rf /var/lib/ferry ~/.ansible_async; {DELETE_TABLES}")
    yield Road(source, destination)


def begin(road: Road, box: Box, **options: object) -> object:
    return road.source.start_module("podman_migrate", **{**road._options(box.name), **TIMEOUT, **options})


def again(road: Road, cargo: Cargo, **options: object) -> Result:
    """The same call once more ends with one copy, on the destination."""
    result = road.move(cargo.box, **{**TIMEOUT, **options})
    assert not result.failed, result.msg
    assert result.values["location"] == "destination"
    cargo.is_whole_in(road.arrived(cargo.box))
    assert cargo.volume not in road.source.volumes()
    return result


def back(cargo: Cargo, result: Result | None) -> None:
    """The move has failed, and the container runs on the source from the same memory."""
    assert result is not None
    assert result.failed
    assert result.values["location"] == "source", result.msg
    assert "runs again from the same memory" in result.msg or "still runs" in result.msg
    cargo.is_whole_in(cargo.box)
    assert copies(cargo.box) and len(copies(cargo.box)) == 1


def allow_everything(road: Road) -> None:
    """The key may run any command, as one that a user brings along."""
    road.destination.sh(f"sed -i 's/^restrict,.* ssh-ed25519/restrict,port-forwarding ssh-ed25519/' {PUBLIC_KEYS}")


# -- the module is killed -----------------------------------------------------------------------------------------

KILLS = [
    ("prepare", 0.0),
    ("prepare", 0.05),
    ("freeze", 0.0),
    ("freeze", 0.3),
    ("transfer", 0.0),
    ("transfer", 0.8),
    ("restore", 0.0),
    ("restore", 0.3),
    ("verify", 0.0),
    ("verify", 0.2),
    ("commit", 0.0),
    ("commit", 0.1),
]


@pytest.mark.parametrize(("phase", "delay"), KILLS, ids=lambda value: str(value))
@pytest.mark.parametrize("kind", ["plain", "rm", "always"])
def test_module_killed(road: Road, phase: str, delay: float, kind: str) -> None:
    flags = {"plain": (), "rm": ("--rm",), "always": ("--restart", "always")}[kind]
    cargo = Cargo(road.source, *flags)
    trigger = Trigger(cargo.box, phase, delay, action=KILL)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    ended(process)
    assert len(copies(cargo.box)) <= 1
    again(road, cargo)
    clean(road, cargo.box)


# -- podman is killed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 0.8])
def test_destination_service_killed_in_transfer(road: Road, delay: float) -> None:
    cargo = Cargo(road.source, "--restart", "always")
    trigger = Trigger(cargo.box, "transfer", delay, elsewhere=(road.destination, KILL_SERVICE_THERE))
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    result = ended(process)
    back(cargo, result)
    road.destination.service("start")
    remove_spools(road.destination)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("down", ["shortly", "long"])
def test_destination_service_killed_in_restore(road: Road, delay: float, down: str) -> None:
    """The runtime and CRIU finish without podman."""
    allow_everything(road)
    cargo = Cargo(road.source, megabytes=100)
    command = KILL_SERVICE_THERE
    trigger = Trigger(cargo.box, "restore", delay, elsewhere=(road.destination, command))
    process = begin(road, cargo.box)
    trigger.happened()
    if down == "shortly":
        road.destination.service("start")
    result = ended(process)
    assert result is not None
    print(result.msg, result.values.get("location"))
    assert len(copies(cargo.box)) <= 1
    road.destination.service("start")
    remove_spools(road.destination)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.fixture(params=["stays away", "comes back"])
def service(request: pytest.FixtureRequest, road: Road) -> Iterator[str]:
    """Whether a service of the source that is killed is started anew, as systemd does when the socket is used."""
    if request.param == "comes back":
        with socket_activated(road.source):
            yield request.param
    else:
        yield request.param


def after_source_service(road: Road, process: object, service: str) -> Result:
    result = ended(process)
    assert result is not None and result.failed
    print(result.msg, result.values.get("location"))
    if service == "stays away":
        road.source.service("start")
    remove_spools(road.source)
    return result


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("kind", ["plain", "always"])
def test_source_service_killed_in_freeze(road: Road, delay: float, service: str, kind: str) -> None:
    """CRIU finishes the dump without podman."""
    cargo = Cargo(road.source, *(("--restart", "always") if kind == "always" else ()), megabytes=100)
    trigger = Trigger(cargo.box, "freeze", delay, action=KILL_SERVICE)
    process = begin(road, cargo.box)
    trigger.happened()
    result = after_source_service(road, process, service)
    if service == "comes back":
        back(cargo, result)
    again(road, cargo)
    clean(road, cargo.box)


def test_source_service_killed_in_transfer(road: Road, service: str) -> None:
    cargo = Cargo(road.source)
    trigger = Trigger(cargo.box, "transfer", 0.5, action=KILL_SERVICE)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    result = after_source_service(road, process, service)
    if service == "comes back":
        back(cargo, result)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_source_service_killed_on_the_way_back(road: Road, service: str, delay: float) -> None:
    """It runs on the source, and podman does not know."""
    cargo = Cargo(road.source, megabytes=100)
    there = Trigger(cargo.box, "transfer", 0.5, elsewhere=(road.destination, KILL_SERVICE_THERE))
    here = Trigger(cargo.box, f"{cargo.box.userdata}/restore.log", delay, action=KILL_SERVICE)
    process = begin(road, cargo.box, bandwidth="30M")
    there.happened()
    here.happened()
    after_source_service(road, process, service)
    road.destination.service("start")
    remove_spools(road.destination)
    assert len(copies(cargo.box)) <= 1
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_source_service_killed_in_commit(road: Road, service: str, delay: float) -> None:
    cargo = Cargo(road.source)
    trigger = Trigger(cargo.box, "commit", delay, action=KILL_SERVICE)
    process = begin(road, cargo.box)
    trigger.happened()
    ended(process)
    if service == "stays away":
        road.source.service("start")
    again(road, cargo)
    clean(road, cargo.box)


# -- ssh is killed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phase", "delay"), [("transfer", 0.5), ("restore", 0.0), ("restore", 0.3), ("verify", 0.1)])
def test_ssh_session_killed(road: Road, phase: str, delay: float) -> None:
    cargo = Cargo(road.source, megabytes=100)
    trigger = Trigger(cargo.box, phase, delay, elsewhere=(road.destination, kill_sessions(road.source)))
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    result = ended(process)
    assert result is not None
    print(result.msg, result.values.get("location"))
    assert len(copies(cargo.box)) <= 1
    if phase == "transfer":
        back(cargo, result)
    again(road, cargo)
    clean(road, cargo.box)
