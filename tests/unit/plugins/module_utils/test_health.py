# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _health
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, RestoredAndEnded, StartedAnew
from ansible_collections.ferry.podman.plugins.module_utils._health import (
    HOST_STOPPED,
    passes,
    rearm,
    require_restored,
    wait_healthy,
)

ID = "1f" * 32
INSPECT = f"GET /containers/{ID}/json"
CHECK = f"GET /containers/{ID}/healthcheck"


def said(status: str, *exit_codes: int) -> dict:
    return {"Status": status, "Log": [{"ExitCode": code, "Output": f"code {code}\n"} for code in exit_codes]}


@pytest.fixture
def checked(make_container):
    return make_container(Config={"Healthcheck": {"Test": ["CMD", "true"]}})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr(_health, "SECONDS_BETWEEN", 0.01)


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        (said("healthy", 0), True),
        (said("starting", 1, 0), True),
        (said("healthy", 0, 1), False),
        (said("unhealthy", 1), False),
        ({"Status": "healthy"}, True),
        ({"Status": "starting", "Log": None}, False),
    ],
)
def test_last_run_of_the_check_counts(client, libpod, checked, answer, healthy) -> None:
    libpod.on(CHECK, answer)
    assert passes(client, checked)[0] == healthy


def test_check_that_passes_later_is_waited_for(client, libpod, checked) -> None:
    libpod.on(INSPECT, checked.raw)
    libpod.on(CHECK, said("starting", 1), libpod.error(409, "not running yet"), said("healthy", 0))
    wait_healthy(client, checked, 5)
    assert libpod.seen.count(CHECK) == 3


def test_one_that_no_other_check_is_worth_is_not_waited_for(client, libpod, checked) -> None:
    libpod.on(CHECK, libpod.error(409, "not running"))
    with pytest.raises(StopIteration):
        wait_healthy(client, checked, 60, look=iter([]).__next__)
    assert libpod.seen.count(CHECK) == 1


def test_one_that_was_started_anew_is_not_what_was_restored(make_container) -> None:
    require_restored(make_container())
    anew = make_container(State={"Restored": False})
    require_restored(anew, "started")
    with pytest.raises(StartedAnew, match="started anew, without its memory"):
        require_restored(anew)


@pytest.mark.parametrize(
    ("state", "code", "text"),
    [({"ExitCode": 0}, 0, "ended with 0"), ({"FinishedAt": "0001-01-01T00:00:00Z"}, HOST_STOPPED, "its host stopped")],
)
def test_one_whose_host_stopped_has_not_done_its_work(make_container, state, code, text) -> None:
    with pytest.raises(RestoredAndEnded, match=text) as caught:
        require_restored(make_container("exited", State=state))
    assert caught.value.exit_code == code


def test_check_that_does_not_pass_is_told_with_what_it_said(client, libpod, checked) -> None:
    libpod.on(INSPECT, checked.raw)
    libpod.on(CHECK, said("unhealthy", 7))
    with pytest.raises(FerryError, match="has not passed within 0 s: code 7"):
        wait_healthy(client, checked, 0.03)


@pytest.mark.parametrize(("version", "calls"), [("5.4.2", []), ("5.5.0", ["pause", "unpause"])])
def test_timer_is_started_by_an_unpause(client, libpod, checked, version, calls) -> None:
    libpod.headers["Libpod-API-Version"] = version
    for call in ("pause", "unpause"):
        libpod.on(f"POST /containers/{ID}/{call}", 204)
    rearm(client, checked)
    assert [request.rpartition("/")[2] for request in libpod.seen if request.startswith("POST")] == calls


def test_container_without_a_check_is_not_paused(client, libpod, make_container) -> None:
    rearm(client, make_container())
    assert libpod.seen == []


def test_container_is_not_left_paused_by_one_refusal(client, libpod, checked) -> None:
    libpod.on(f"POST /containers/{ID}/pause", 204)
    libpod.on(f"POST /containers/{ID}/unpause", libpod.error(500, "busy"), 204)
    rearm(client, checked)


def test_container_that_stays_paused_is_told(client, libpod, checked) -> None:
    libpod.on(f"POST /containers/{ID}/pause", 204)
    libpod.on(f"POST /containers/{ID}/unpause", libpod.error(500, "busy"))
    with pytest.raises(FerryError, match="podman unpause web"):
        rearm(client, checked)


def test_container_that_a_killed_run_left_paused_goes_on(client, libpod, make_container) -> None:
    libpod.on(f"POST /containers/{ID}/unpause", 204)
    rearm(client, make_container("paused", Config={"Healthcheck": {"Test": ["CMD", "true"]}}))
    assert f"POST /containers/{ID}/pause" not in libpod.seen
