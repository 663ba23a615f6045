# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Memory that goes before the freeze, and a program in it whose every page knows when it was last written."""

from __future__ import annotations

import pytest
from asking import Client
from faults import KILL, Trigger, ended
from helpers import parsed
from machines import PATIENCE, PORT, Writer, begin, moved
from road import Road

MEGABYTE = 1_000_000


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
