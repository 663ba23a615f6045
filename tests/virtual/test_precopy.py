# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Memory that goes before the freeze, and a program in it whose every page knows when it was last written."""

from __future__ import annotations

import pytest
from asking import Client
from faults import KILL, Trigger, ended, remove_spools
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


def test_round_by_the_api_leaves_little_for_the_freeze(road: Road) -> None:
    """The same where the memory goes in podman's archive, whose begin is sent before the freeze.

    Emulated processors take half a minute for that one round, so less is written meanwhile.
    """
    gaps = {}
    for precopy in ("never", "auto"):
        writer = Writer.start(road.source, 200, 1)
        with Client(writer.box.address, PORT) as client:
            result = moved(road, writer, precopy=precopy, transfer="stream")
            gaps[precopy] = client.longest
        rounds = result.values["precopy"]
        assert result.values["transfer"] == "stream"
        assert len(rounds) == (precopy == "auto"), result.values["precopy_reason"]
    last = result.values["bytes"] - sum(rounds)
    print(f"gap {gaps['never']:.1f} s without, {gaps['auto']:.1f} s with {rounds} and {last} bytes at last")
    assert rounds[0] > 200 * MEGABYTE and last < 0.5 * rounds[0]
    assert gaps["auto"] < gaps["never"]


def test_round_by_the_api_leaves_what_was_kept(road: Road) -> None:
    writer = Writer.start(road.source, 70, 1)
    kept = f"{writer.bundle}/pre-checkpoint"
    road.source.sh(f"mkdir {kept}")
    result = moved(road, writer, transfer="stream")
    assert result.values["precopy"] == [] and "of a checkpoint" in result.values["precopy_reason"]


def test_round_by_the_api_that_fails(road: Road) -> None:
    """The destination's service is killed while it takes the begin of an archive; the move goes on without."""
    writer = Writer.start(road.source, 100, 2)
    # Its socket starts it anew.
    kill = "systemctl kill --signal KILL podman.service"
    trigger = Trigger(writer.box, "precopy", 1.0, elsewhere=(road.destination, kill))
    process = begin(road, writer, transfer="stream")
    trigger.happened()
    result = parsed(*process.communicate(timeout=PATIENCE * 2))
    remove_spools(road.destination)
    assert result.changed, result.msg
    assert result.values["precopy"] == [] and "A round has failed" in result.values["precopy_reason"]
    arrived = road.arrived(writer.box)
    writer.is_whole()
    arrived.remove()


def test_no_more_rounds_than_allowed(road: Road) -> None:
    writer = Writer.start(road.source, 100, 1)
    result = moved(road, writer, precopy="1")
    assert len(result.values["precopy"]) == 1


@pytest.mark.parametrize(("transfer", "delay"), [("thin", 0.0), ("thin", 2.0), ("stream", 1.0), ("stream", 6.0)])
def test_module_killed_in_a_round(road: Road, transfer: str, delay: float) -> None:
    writer = Writer.start(road.source, 100, 2)
    trigger = Trigger(writer.box, "precopy", delay, action=KILL)
    process = begin(road, writer, transfer=transfer)
    trigger.happened()
    ended(process)
    assert writer.box.status == "running"
    writer.is_whole()
    result = moved(road, writer, transfer=transfer)
    assert result.values["interrupted_phase"] == "precopy"
    assert result.values["precopy"], result.values["precopy_reason"]


@pytest.mark.parametrize("transfer", ["thin", "stream"])
def test_module_killed_after_the_rounds(road: Road, transfer: str) -> None:
    """What the source goes on from is in several directories."""
    writer = Writer.start(road.source, 80, 1)
    trigger = Trigger(writer.box, "transfer", 0.0, action=KILL)
    process = begin(road, writer, transfer=transfer)
    trigger.happened()
    ended(process)
    assert writer.box.status == "exited"
    result = moved(road, writer, transfer=transfer)
    assert result.values["interrupted_phase"] == "transfer"


@pytest.mark.parametrize("transfer", ["thin", "stream"])
def test_destination_that_cannot_restore(road: Road, transfer: str) -> None:
    """It comes back from the rounds and the last dump together."""
    writer = Writer.start(road.source, 100, 2)
    road.destination.sh("mv /usr/sbin/criu /usr/sbin/criu.away; printf '#!/bin/sh\\nexit 1\\n' >/usr/sbin/criu")
    road.destination.later("mv", "/usr/sbin/criu.away", "/usr/sbin/criu")
    road.destination.sh("chmod 755 /usr/sbin/criu; mv /usr/lib/x86_64-linux-gnu/libcriu.so.2 /root/libcriu.away")
    road.destination.later("mv", "/root/libcriu.away", "/usr/lib/x86_64-linux-gnu/libcriu.so.2")
    result = parsed(*begin(road, writer, transfer=transfer).communicate(timeout=PATIENCE * 2))
    assert result.failed and result.values["location"] == "source", result.msg
    assert "runs again from the same memory" in result.msg
    writer.is_whole()
    assert not road.source.exists(f"{writer.bundle}/pre-checkpoint")
    writer.box.remove()
