# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._module import select_containers

NOTHING = {"name": None, "all": False, "latest": False}


@pytest.fixture
def podman(libpod, inspect_json):
    created = {"1": "2026-11-20T09:12:44.1Z", "2": "2026-11-20T09:12:45.1Z", "3": "2026-11-19T23:59:59.9Z"}
    libpod.on("GET /containers/json", [{"Id": number, "Created": when} for number, when in created.items()])
    for number, status in (("1", "running"), ("2", "exited"), ("3", "running")):
        libpod.on(f"GET /containers/{number}/json", inspect_json(status, Id=number, Name=f"c{number}"))
    return libpod


def select(client, **params) -> list[str]:
    return select_containers(client, {**NOTHING, **params}, lambda container: container.running)


def test_names_are_taken_as_they_are_once(client, podman) -> None:
    assert select(client, name=["b", "a", "b"]) == ["b", "a"]
    assert podman.seen == []


def test_no_names_are_no_containers(client, podman) -> None:
    assert select(client, name=[]) == []
    assert podman.seen == []


def test_something_must_be_selected(client, podman) -> None:
    with pytest.raises(FerryError, match="No container is selected. Give name, all or latest."):
        select(client)


def test_all_are_those_that_are_meant(client, podman) -> None:
    assert select(client, all=True) == ["c1", "c3"]


def test_one_that_is_gone_since_it_was_listed_is_none(client, podman) -> None:
    podman.on("GET /containers/3/json", 404)
    assert select(client, all=True) == ["c1"]


def test_latest_is_the_one_created_last(client, podman) -> None:
    assert select(client, latest=True) == ["2"]


def test_host_without_containers_has_no_latest(client, libpod) -> None:
    libpod.on("GET /containers/json", [])
    with pytest.raises(FerryError, match="no latest one"):
        select(client, latest=True)
    assert select(client, all=True) == []
