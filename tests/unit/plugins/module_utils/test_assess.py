# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._assess import Assessment, MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._estimate import Estimate
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts

ID, IMAGE_ID = "1f" * 32, "2e" * 32
INSPECT = f"GET /containers/{ID}/json"


class Both:
    """Two stand-in hosts between which nothing speaks against a move."""

    def __init__(self, source, destination, assessment_of) -> None:
        self.source, self.destination = source, destination
        self._assessment_of = assessment_of
        source.on(f"GET /containers/{ID}/changes", [])
        source.on("GET /containers/json", [])
        destination.on(f"GET /images/{IMAGE_ID}/json", {"Id": IMAGE_ID})
        destination.on("GET /networks/lan/json", {"name": "lan", "driver": "bridge", "network_interface": "podman1"})
        destination.on("GET /volumes/json", [{"Name": "older"}])
        destination.on("GET /containers/json", [])

    def assessment(self, **how) -> Assessment:
        return self._assessment_of(self.source, self.destination, **how)


@pytest.fixture
def both(libpod, other_libpod, connect, make_container, make_host) -> Both:
    def assessment_of(source, destination, container=None, podman=(5, 8, 2), **request):
        sides = [Side(connect(service.url), make_host(podman)) for service in (source, destination)]
        return Assessment(*sides, container or make_container(), MoveRequest(**{"tcp": "established", **request}))

    return Both(libpod, other_libpod, assessment_of)


def test_move_that_fits_has_no_findings(both) -> None:
    both.destination.on(INSPECT, 404)
    assert both.assessment().findings() == []
    assert {request.method for request in both.source.requests + both.destination.requests} == {"GET"}


def test_reasons_of_both_hosts_are_found_at_once(both, make_container, inspect_json) -> None:
    both.destination.on("GET /networks/lan/json", 404)
    both.destination.on("GET /volumes/json", [{"Name": "data"}])
    both.destination.on(INSPECT, inspect_json("exited"))
    findings = both.assessment(container=make_container("paused")).findings()
    assert [finding.code for finding in findings] == ["not_running", "id_in_use", "volume_exists", "network_absent"]


@pytest.mark.parametrize(
    ("tcp", "driver", "status", "code"),
    [
        ("established", "bridge", "running", "address_in_use"),
        ("close", "bridge", "running", "address_changes"),
        ("close", "macvlan", "running", "address_in_use"),
        ("established", "bridge", "exited", None),
    ],
)
def test_address_that_somebody_has_is_found(both, inspect_json, tcp, driver, status, code) -> None:
    lan = {"name": "lan", "driver": driver, "network_interface": "eth1"}
    both.destination.on("GET /networks/lan/json", lan)
    both.destination.on("GET /containers/json", [{"Id": "other"}])
    both.destination.on("GET /containers/other/json", inspect_json(status, Id="other", Name="other"))
    both.destination.on(INSPECT, 404)
    assert [finding.code for finding in both.assessment(tcp=tcp).findings()] == ([code] if code else [])


def test_volume_that_another_container_has_is_found(both, inspect_json) -> None:
    both.source.on("GET /containers/json", [{"Id": ID}, {"Id": "other"}])
    both.source.on("GET /containers/other/json", inspect_json(Id="other", Name="db"))
    both.source.on("GET /volumes/data/json", {"Name": "data", "Driver": "local", "Labels": {"a": "b"}})
    both.destination.on(INSPECT, 404)
    findings = both.assessment().findings()
    assert [finding.code for finding in findings] == ["volume_shared", "volume_labels"]
    assert "is also that of db:" in findings[0].message


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"transfer": "registry"}, "registry"),
        ({"precopy": "never"}, "never"),
        ({}, "so little"),
    ],
)
def test_why_no_memory_goes_before_the_freeze_in_an_archive(both, monkeypatch, request_, reason) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert reason in both.assessment(**request_).no_early_pages


@pytest.mark.parametrize(
    ("weight", "tracks", "reason"),
    [
        ((300, 0), True, ""),
        ((300, 300), True, ""),
        ((300, 301), True, "volumes"),
        ((300, 0), False, "mem_dirty_track"),
        ((600, 0), True, "not the room"),
    ],
)
def test_memory_goes_before_the_freeze_where_there_is_room(both, monkeypatch, weight, tracks, reason) -> None:
    memory, volumes = (size * 1_000_000 for size in weight)
    assessment = both.assessment()
    assessment.__dict__["_weight"] = Estimate.of(memory, 0, volumes)
    for side in (assessment.source, assessment.destination):
        side.__dict__["facts"] = HostFacts(disks={"/": 2_200_000_000})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(assessment, "_tracks_memory", lambda: tracks)
    found = assessment.no_early_pages
    assert reason in found if reason else not found


def test_memory_goes_before_the_freeze_only_by_root_on_the_source(both, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "as root" in both.assessment().no_early_pages


def test_missing_image_is_no_reason(both) -> None:
    both.destination.on(INSPECT, 404)
    both.destination.on(f"GET /images/{IMAGE_ID}/json", 404)
    assert both.assessment().findings() == []


def test_container_without_an_image_cannot_move(both, make_container) -> None:
    both.destination.on(INSPECT, 404)
    findings = both.assessment(container=make_container(Image="", ImageName="")).findings()
    assert [finding.code for finding in findings] == ["no_image"]
