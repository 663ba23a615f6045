# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Memory that goes before the freeze, and a program in it whose every page knows when it was last written."""

from __future__ import annotations

import dataclasses
import pathlib
import socket
import subprocess
import time

import pytest
from asking import Client
from faults import KILL, Trigger, ended
from helpers import Box, Node, Result, forget_neighbour, parsed, wait_until
from road import Road

PROGRAM = (pathlib.Path(__file__).parent / "writer.py").read_text()
PORT = 7001
PATIENCE = 300.0
MEGABYTE = 1_000_000


@dataclasses.dataclass
class Writer:
    """A container that writes all the time."""

    box: Box

    @classmethod
    def start(cls, node: Node, megabytes: int, rate: float) -> Writer:
        address = node.free_address()
        command = ("--entrypoint", "python3", "localhost/lab/keeper", "-c", PROGRAM, str(megabytes), str(rate))
        name = f"it-writer-{time.monotonic_ns()}"
        ident = node.podman("run", "--detach", "--name", name, "--network", "lan", "--ip", address, *command)
        forget_neighbour(address)
        writer = cls(Box(node, name, ident, "keeper", address))
        wait_until(lambda: writer.ask(b"ready?"), "the memory to be full", PATIENCE)
        # Every page is written once more at the rate that it is written at from now on.
        return writer

    def ask(self, question: bytes, seconds: float = 2.0) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(seconds)
            try:
                client.sendto(question, (self.box.address, PORT))
                return client.recv(200)
            except OSError:
                return b""

    def is_whole(self) -> None:
        answer = wait_until(lambda: self.ask(b"check", 60), "all pages to be looked at", PATIENCE)
        assert answer.startswith(b"0 wrong of "), answer


def begin(road: Road, writer: Writer, **options: object) -> subprocess.Popen[str]:
    known = {**road._options(writer.box.name), "force": True, "timeout": 300, **options}
    return road.source.start_module("podman_migrate", **known)


def moved(road: Road, writer: Writer, **options: object) -> Result:
    result = parsed(*begin(road, writer, **options).communicate(timeout=PATIENCE * 2))
    assert result.changed, result.msg
    arrived = road.arrived(writer.box)
    assert arrived.status == "running"
    writer.is_whole()
    arrived.remove()
    return result


def test_rounds_leave_little_for_the_freeze(road: Road) -> None:
    """200 MB, of which 5 MB are written every second: with and without, side by side."""
    gaps = {}
    for precopy in ("never", "auto"):
        writer = Writer.start(road.source, 200, 5)
        with Client(writer.box.address, PORT) as client:
            result = moved(road, writer, precopy=precopy, compress="none")
            gaps[precopy] = client.longest
        rounds = result.values["precopy"]
        assert result.values["transfer"] == "thin"
        assert (len(rounds) >= 2) == (precopy == "auto"), result.values["precopy_reason"]
    assert rounds[0] > 200 * MEGABYTE and rounds[-1] < 0.7 * rounds[0]
    last = result.values["bytes"] - sum(rounds)
    print(f"gap {gaps['never']:.1f} s without, {gaps['auto']:.1f} s with rounds of {rounds} and {last} bytes at last")
    assert last < 0.5 * rounds[0]
    assert gaps["auto"] < gaps["never"]


def test_no_more_rounds_than_allowed(road: Road) -> None:
    writer = Writer.start(road.source, 100, 1)
    result = moved(road, writer, precopy="1")
    assert len(result.values["precopy"]) == 1


@pytest.mark.parametrize("delay", [0.0, 2.0])
def test_module_killed_in_a_round(road: Road, delay: float) -> None:
    writer = Writer.start(road.source, 100, 2)
    trigger = Trigger(writer.box, "precopy", delay, action=KILL)
    process = begin(road, writer)
    trigger.happened()
    ended(process)
    assert writer.box.status == "running"
    writer.is_whole()
    result = moved(road, writer)
    assert result.values["interrupted_phase"] == "precopy"


def test_module_killed_after_the_rounds(road: Road) -> None:
    """What the source goes on from is in several directories."""
    writer = Writer.start(road.source, 80, 1)
    trigger = Trigger(writer.box, "transfer", 0.0, action=KILL)
    process = begin(road, writer)
    trigger.happened()
    ended(process)
    assert writer.box.status == "exited"
    result = moved(road, writer)
    assert result.values["interrupted_phase"] == "transfer"


def test_destination_that_cannot_restore(road: Road) -> None:
    """It comes back from the rounds and the last dump together."""
    writer = Writer.start(road.source, 100, 2)
    road.destination.sh("mv /usr/sbin/criu /usr/sbin/criu.away; printf '#!/bin/sh\\nexit 1\\n' >/usr/sbin/criu")
    road.destination.later("mv", "/usr/sbin/criu.away", "/usr/sbin/criu")
    road.destination.sh("chmod 755 /usr/sbin/criu; mv /usr/lib/x86_64-linux-gnu/libcriu.so.2 /root/libcriu.away")
    road.destination.later("mv", "/root/libcriu.away", "/usr/lib/x86_64-linux-gnu/libcriu.so.2")
    result = parsed(*begin(road, writer).communicate(timeout=PATIENCE * 2))
    assert result.failed and result.values["location"] == "source", result.msg
    assert "runs again from the same memory" in result.msg
    writer.is_whole()
    writer.box.remove()
