# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Open TCP connections, and those that are just being opened."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from helpers import SCRATCH, Box, Node, wait_until

ARCHIVE = f"{SCRATCH}/a.tar.zst"
CONFIGURATION = "/etc/criu"
"""crun takes runc.conf where there is no crun.conf."""


class Client:
    """Counts in a Redis, over one connection. It is silent while nobody asks, so nothing of it is on its way."""

    def __init__(self, box: Box) -> None:
        self._socket = box.connect()
        self._socket.settimeout(30)
        self._answers = self._socket.makefile("rb")

    def count(self) -> int:
        self._socket.sendall(b"INCR count\r\n")
        return int(self._answers.readline().removeprefix(b":"))

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close without TIME_WAIT."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def test_connection_lives_on_in_place(host: Node) -> None:
    box = host.start_on_lan("redis")
    client = Client(box)
    assert client.count() == 1
    life = box.life
    refused = host.module("podman_checkpoint", name=box.name)
    assert refused.failed
    assert "CRIU says:" in refused.msg and "Connected TCP socket" in refused.msg
    assert "still runs" in refused.msg and refused.values["criu_log"]
    assert box.life == life and client.count() == 2

    host.checkpoint(box.name, tcp_established=True)
    refused = host.module("podman_restore", name=box.name)
    assert refused.failed and refused.values["criu_log"]
    assert "stays stopped and its checkpoint stays where it is" in refused.msg
    assert box.status == "exited"
    host.restore(box.name, tcp_established=True)
    assert [client.count() for _number in range(3)] == [3, 4, 5]
    client.close()


def test_connection_lives_on_from_an_archive(host: Node) -> None:
    box = host.start_on_lan("redis")
    client = Client(box)
    assert client.count() == 1
    host.checkpoint(box.name, tcp_established=True, dest=ARCHIVE)
    box.remove()
    refused = host.module("podman_restore", src=ARCHIVE)
    assert refused.failed and "Nothing of it was left behind" in refused.msg and refused.values["criu_log"]
    assert box.name not in host.names()
    host.restore(src=ARCHIVE, tcp_established=True)
    assert [client.count() for _number in range(3)] == [2, 3, 4]
    client.close()


def test_connections_are_closed(host: Node) -> None:
    box = host.start_on_lan("redis")
    client = Client(box)
    client.count()
    host.checkpoint(box.name, tcp_established=True)
    result = host.module("podman_restore", name=box.name, tcp_close=True)
    if host.podman_version < (5, 7, 0):
        assert result.failed
        assert "which ignores tcpClose; it is known since 5.7.0" in result.msg
        assert box.status == "exited"
        return
    assert not result.failed and box.status == "running"
    with pytest.raises((ConnectionError, ValueError)):
        client.count()
    assert Client(box).count() == 2


@pytest.fixture
def without_skip_in_flight(host: Node) -> Iterator[None]:
    """CRIU as it is without the role prepare."""
    host.run("mv", CONFIGURATION, f"{CONFIGURATION}.away")
    yield
    host.run("mv", f"{CONFIGURATION}.away", CONFIGURATION)


def in_the_queue(box: Box) -> socket.socket:
    """A connection that stands and that the server, which is stopped, has not accepted."""
    box.node.run("kill", "-STOP", str(box.state["Pid"]))
    return box.connect()


def test_connection_in_flight(host: Node, without_skip_in_flight: None) -> None:
    box = host.start_on_lan("redis")
    life = box.life
    with in_the_queue(box):
        failed = host.module("podman_checkpoint", name=box.name, retries=0)
        assert failed.failed and "In-flight connection" in failed.msg and "still runs" in failed.msg
        failed = host.module("podman_checkpoint", name=box.name, retries=1)
        assert failed.failed and "(2 tries)" in failed.msg
        assert box.life == life
        running = host.start_module("podman_checkpoint", name=box.name, retries=60, tcp_established=True)
        log = f"{box.userdata}/dump.log"
        host.run("rm", log)
        wait_until(lambda: host.exists(log), "the first try")
        host.run("kill", "-CONT", str(box.state["Pid"]))
        output, _errors = running.communicate(timeout=60)
        assert "CHANGED" in output, output
    host.restore(box.name, tcp_established=True)
    assert Client(box).count() == 1


def test_connection_in_flight_is_skipped(host: Node) -> None:
    """As the role prepare sets it: who is just connecting has to try again. Debian 13's crun does not read that."""
    box = host.start_on_lan("redis")
    with in_the_queue(box):
        done = host.module("podman_checkpoint", name=box.name, retries=0)
    if host.podman_version < (5, 8, 0):
        assert done.failed and "In-flight connection" in done.msg
        return
    assert not done.failed, done.msg
    host.restore(box.name)
    host.run("kill", "-CONT", str(box.state["Pid"]))
    assert Client(box).count() == 1


def test_clients_that_keep_connecting(host: Node, without_skip_in_flight: None) -> None:
    box = host.start_on_lan("redis")
    over = threading.Event()
    threads = [threading.Thread(target=connect_and_go, args=(box, over)) for _number in range(2)]
    for thread in threads:
        thread.start()
    try:
        done = host.module("podman_checkpoint", name=box.name, retries=40, tcp_established=True, leave_running=True)
        assert not done.failed, done.msg
        once = host.module("podman_checkpoint", name=box.name, retries=0, tcp_established=True, leave_running=True)
        assert not once.failed or "In-flight connection" in once.msg
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert box.state["Status"] == "running"
    assert Client(box).count() > 1


def connect_and_go(box: Box, over: threading.Event) -> None:
    """Connect four times a second: CRIU's freeze takes 0.1 s, so a denser storm would leave no gap to freeze in."""
    while not over.wait(random.uniform(0.15, 0.35)):
        with contextlib.suppress(OSError, ValueError):
            client = Client(box)
            client.count()
            client.reset()
