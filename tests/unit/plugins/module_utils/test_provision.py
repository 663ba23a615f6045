# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._compat import Subject
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._provision import (
    bring_image,
    make_networks,
    network_elsewhere,
)

LAN = {
    "name": "lan",
    "id": "9" * 64,
    "driver": "macvlan",
    "network_interface": "eth0",
    "created": "2026-01-01T00:00:00Z",
    "subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}],
    "ipv6_enabled": False,
    "options": {"mode": "bridge"},
}


@pytest.fixture
def both(libpod, other_libpod, connect):
    return connect(libpod.url), connect(other_libpod.url)


def test_network_is_the_same_elsewhere_but_for_what_is_the_host_s() -> None:
    assert network_elsewhere(LAN) == {key: LAN[key] for key in LAN if key not in ("id", "created")}
    bridge = {**LAN, "driver": "bridge", "network_interface": "podman3"}
    assert "network_interface" not in network_elsewhere(bridge)


def test_networks_that_are_absent_are_made(both, libpod, other_libpod) -> None:
    for name in ("lan", "back"):
        libpod.on(f"GET /networks/{name}/json", {**LAN, "name": name})
    other_libpod.on("GET /networks/back/json", {**LAN, "name": "back"})
    other_libpod.on("POST /networks/create", {"name": "lan"})
    assert make_networks(*both, ["lan", "back"]) == ["lan"]
    assert b'"name": "lan"' in other_libpod.request("POST /networks/create").body


def test_networks_are_taken_back_if_one_cannot_be_made(both, libpod, other_libpod) -> None:
    for name in ("lan", "back"):
        libpod.on(f"GET /networks/{name}/json", {**LAN, "name": name})
    other_libpod.on("POST /networks/create", {"name": "lan"}, other_libpod.error(500, "subnet is already used"))
    other_libpod.on("DELETE /networks/lan", 204)
    with pytest.raises(FerryError, match="subnet is already used"):
        make_networks(*both, ["lan", "back"])
    assert "DELETE /networks/lan" in other_libpod.seen


def test_image_that_is_there_is_not_brought(both, other_libpod) -> None:
    subject = Subject("1", "web", "crun", "2e" * 32, "localhost/web:1")
    other_libpod.on(f"GET /images/{subject.image_id}/json", {"Id": subject.image_id})
    bring_image(*both, subject, "stream")
    assert other_libpod.seen == [f"GET /images/{subject.image_id}/json"]


PULL = "POST /images/pull"


@pytest.fixture
def subject(other_libpod) -> Subject:
    found = Subject("1", "web", "crun", "2e" * 32, "registry.example/web:1")
    absent = other_libpod.error(404, "no such image")
    other_libpod.on(f"GET /images/{found.image_id}/json", absent, {"Id": found.image_id})
    return found


@pytest.mark.parametrize("here", [404, {"Id": "0a" * 32}])
def test_image_that_has_lost_its_name_is_brought_by_its_id(both, libpod, other_libpod, subject, here) -> None:
    libpod.on("GET /images/registry.example%2Fweb%3A1/json", here)
    libpod.on(f"GET /images/{subject.image_id}/get", libpod.archive(b"image"))
    other_libpod.on("POST /images/load", {})
    bring_image(*both, subject, "stream")
    assert other_libpod.request("POST /images/load").body == b"image"


def test_image_is_pulled_by_its_name(both, other_libpod, subject) -> None:
    other_libpod.on(PULL, other_libpod.text(200, '{"id": "2e"}\n'))
    bring_image(*both, subject, "pull")
    assert other_libpod.request(PULL).query["reference"] == "registry.example/web:1"


@pytest.mark.parametrize(
    ("answer", "told"),
    [('{"error": "manifest unknown"}\n', "manifest unknown"), ("<html>", "not JSON"), ("7", "not JSON")],
)
def test_pull_that_fails_in_its_stream_is_a_failure(both, other_libpod, subject, answer, told) -> None:
    other_libpod.on(PULL, other_libpod.text(200, answer))
    with pytest.raises(FerryError, match=told):
        bring_image(*both, subject, "pull")


def test_pull_that_gives_another_image_is_a_failure(both, other_libpod, subject) -> None:
    other_libpod.on(f"GET /images/{subject.image_id}/json", other_libpod.error(404, "no such image"))
    other_libpod.on(PULL, other_libpod.text(200, '{"id": "3f"}\n'))
    with pytest.raises(FerryError, match="did not arrive with the ID 2e2e2e2e2e2e"):
        bring_image(*both, subject, "pull")
