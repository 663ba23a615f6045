# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import fcntl
import os
import signal
import stat

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _exclusive
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import (
    evacuating,
    exclusive,
    uninterrupted,
)

SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


def test_second_run_is_turned_away(client, make_container) -> None:
    with exclusive(client, make_container()):
        with pytest.raises(FerryError, match="Another run is .* container web right now. Nothing was touched"):
            with exclusive(client, make_container()):
                pytest.fail("Two runs had the container at once.")


def test_container_is_free_again_afterwards(client, make_container) -> None:
    for _number in range(2):
        with pytest.raises(KeyError), exclusive(client, make_container()):
            raise KeyError


def test_other_containers_are_free(client, make_container) -> None:
    with exclusive(client, make_container()), exclusive(client, make_container(Id="0a" * 32)):
        pass


def test_locks_are_for_root_alone(client, make_container) -> None:
    with exclusive(client, make_container()):
        assert stat.S_IMODE(os.stat(_exclusive.LOCKS).st_mode) == 0o700
        assert os.listdir(_exclusive.LOCKS) == ["1f" * 32]


def test_service_of_another_host_cannot_be_locked_from_here(connect, programs, make_container) -> None:
    programs("ssh", "exit 0")
    with exclusive(connect("ssh://root@node2/run/podman/podman.sock"), make_container()):
        assert not os.path.exists(_exclusive.LOCKS)


def test_all_moves_of_a_host_can_be_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = f"{_exclusive.LOCKS}/evacuation"
    with evacuating(), evacuating(), open(path) as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_waiting_for_whoever_holds_all_moves_has_an_end(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(_exclusive, "ASKED_WITHIN", 0.2)
    with evacuating():
        pass
    with open(f"{_exclusive.LOCKS}/evacuation") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FerryError, match="Somebody has held the lock .*evacuation"), evacuating():
            pytest.fail("It was not waited for.")


@pytest.fixture
def received():
    """The signals that reach this process; none of them ends it."""
    noted: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: noted.append(number)) for number in SIGNALS}
    yield noted
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_wait_until_the_container_is_whole(received, number) -> None:
    with uninterrupted():
        os.kill(os.getpid(), number)
    assert received == []
    os.kill(os.getpid(), number)
    assert received == [number]


def test_signals_are_heard_again_after_a_failure(received) -> None:
    with pytest.raises(KeyError), uninterrupted():
        raise KeyError
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]
