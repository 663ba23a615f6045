# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._orphan import end_command, end_orphan, is_orphaned

ID = "1f" * 32
LOOK = f"ferry-look-{ID[:12]}"


@pytest.fixture
def lost(inspect_json, libpod, client):
    """A container that podman calls created, and where conmon noted its process."""
    raw = {**inspect_json("created"), "ConmonPidFile": "/run/c/conmon.pid", "PidFile": "/run/c/pidfile"}
    libpod.on(f"GET /containers/{ID}/json", raw)
    libpod.on("POST /containers/create", {"Id": "look"})
    libpod.on(f"DELETE /containers/{LOOK}", [])
    return client.container(ID)


def noted(libpod, archives, text: bytes) -> None:
    libpod.on(f"GET /containers/{LOOK}/archive", libpod.archive(archives.pack([archives.entry("pidfile", text)])))


@pytest.mark.parametrize(("there", "orphaned"), [(200, True), (404, False)])
def test_process_that_is_noted_and_there_is_an_orphan(client, libpod, archives, lost, there, orphaned) -> None:
    noted(libpod, archives, b"4711\n")
    stat = {"X-Docker-Container-Path-Stat": base64.b64encode(b'{"mode": 0}').decode()}
    libpod.on(f"HEAD /containers/{LOOK}/archive", (there, b"", stat))
    assert is_orphaned(client, lost) == orphaned
    assert libpod.requests[-1].method == "DELETE"
    asked = [request for request in libpod.requests if request.method == "HEAD"]
    assert asked[0].query == {"path": "/host/proc/4711"}


@pytest.mark.parametrize("text", [b"", b"\n", b"not a number"])
def test_nothing_that_is_noted_is_no_orphan(client, libpod, archives, lost, text) -> None:
    noted(libpod, archives, text)
    assert not is_orphaned(client, lost)


def test_no_file_is_no_orphan(client, libpod, lost) -> None:
    libpod.on(f"GET /containers/{LOOK}/archive", 404)
    assert not is_orphaned(client, lost)


def test_service_that_cannot_be_asked_proves_nothing(client, libpod, lost) -> None:
    libpod.on("POST /containers/create", libpod.error(500, "no space left on device"))
    with pytest.raises(FerryError, match="no space left"):
        is_orphaned(client, lost)


def test_orphan_is_ended_by_its_runtime(client, lost, programs) -> None:
    arguments = programs("crun", "exit 0")
    end_orphan(client, lost)
    assert arguments.read_text().split() == ["delete", "--force", ID]


def test_orphan_that_cannot_be_ended_is_told_with_the_command(client, lost, programs) -> None:
    programs("crun", "exit 1")
    with pytest.raises(FerryError, match=f"End it there with crun delete --force {ID}"):
        end_orphan(client, lost)


@pytest.mark.parametrize("change", [{"OCIRuntime": "kata"}, {"Id": "1f; reboot"}])
def test_nothing_but_an_id_of_a_known_runtime_is_run(inspect_json, make_container, change) -> None:
    with pytest.raises(FerryError):
        end_command(make_container(**change))
