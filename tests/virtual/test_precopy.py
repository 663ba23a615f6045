# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Memory that goes before the freeze, and a program in it whose every page knows when it was last written."""

from __future__ import annotations

import pytest
from asking import Client
from faults import KILL, Trigger, ended, kill_sessions, remove_spools
from helpers import Json, Node, Result, parsed
from machines import PATIENCE, PORT, Writer, begin, moved
from road import Road

MEGABYTE = 1_000_000


def both_ways(road: Road, rate: float, **options: object) -> tuple[dict[str, float], dict[str, Json]]:
    """How long a client waits, and the results: 200 MB without rounds and with them, side by side.

    :param rate: megabytes that are written every second.
    """
    gaps: dict[str, float] = {}
    results: dict[str, Json] = {}
    for precopy in ("never", "auto"):
        writer = Writer.start(road.source, 200, rate)
        with Client(writer.box.address, PORT) as client:
            results[precopy] = moved(road, writer, precopy=precopy, **options).values
            gaps[precopy] = client.longest
    assert results["never"]["precopy"] == []
    rounds = results["auto"]["precopy"]
    last = results["auto"]["bytes"] - sum(rounds)
    print(f"gap {gaps['never']:.1f} s without, {gaps['auto']:.1f} s with rounds of {rounds} and {last} bytes at last")
    assert rounds, results["auto"]["precopy_reason"]
    assert rounds[0] > 200 * MEGABYTE and last < 0.5 * rounds[0]
    return gaps, results


def test_rounds_leave_little_for_the_freeze(road: Road) -> None:
    gaps, results = both_ways(road, 5, compress="none")
    assert all(values["transfer"] == "thin" for values in results.values())
    rounds = results["auto"]["precopy"]
    assert len(rounds) >= 2 and rounds[-1] < 0.7 * rounds[0]
    assert gaps["auto"] < gaps["never"]


def test_round_by_the_api_leaves_little_for_the_freeze(road: Road) -> None:
    """The same where the memory goes in podman's archive, whose begin is sent before the freeze.

    Emulated processors take half a minute for that one round, so less is written meanwhile.
    """
    gaps, results = both_ways(road, 1, transfer="stream")
    assert all(values["transfer"] == "stream" for values in results.values())
    assert len(results["auto"]["precopy"]) == 1
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


LEFT = 30 * MEGABYTE
PLACE = "/run/ferry.podman"
FILLED = {
    "thin": f"mount -o remount,size=$(($(df --output=used --block-size=1 {PLACE} | tail -1) + {LEFT})) {PLACE}",
    # What is reserved for root is free to podman.
    "stream": f"fallocate --length $(($(stat --file-system --format '%f*%S' /var/tmp) - {LEFT})) /var/tmp/it-fill"
    # Podman writes beside it, and then it gets all that is left.
    " 2>/dev/null || :",
}
"""Shell for a host: little is left where memory comes."""

EMPTIED = {"thin": f"mount -o remount,size=90% {PLACE} || :", "stream": "rm -f /var/tmp/it-fill"}


def hit_in_a_round(road: Road, writer: Writer, delay: float, node: Node, command: str, **options: object) -> Result:
    """Move it; seconds after its memory has begun to go, a command runs on a host."""
    trigger = Trigger(writer.box, "precopy", delay, elsewhere=(node, command))
    process = begin(road, writer, **options)
    trigger.happened()
    result = parsed(*process.communicate(timeout=PATIENCE * 2))
    print(result.msg, result.values.get("precopy_reason"))
    return result


def is_somewhere(road: Road, writer: Writer, result: Result) -> None:
    """It is whole on the host that the result names, and nowhere else; then it moves."""
    if not result.failed:
        arrived = road.arrived(writer.box)
        writer.is_whole()
        arrived.remove()
        return
    assert result.values["location"] == "source", result.msg
    assert writer.box.name not in road.destination.names()
    writer.is_whole()
    moved(road, writer)


@pytest.mark.parametrize(("transfer", "delay"), [("thin", 1.0), ("stream", 1.0), ("stream", 6.0)])
def test_connection_that_is_lost_in_a_round(road: Road, transfer: str, delay: float) -> None:
    writer = Writer.start(road.source, 100, 2)
    lost = kill_sessions(road.source)
    result = hit_in_a_round(road, writer, delay, road.destination, lost, transfer=transfer)
    assert not result.failed and result.values["precopy"] == [], result.msg
    is_somewhere(road, writer, result)


def test_podman_of_the_source_that_is_killed_in_its_round(road: Road) -> None:
    writer = Writer.start(road.source, 100, 2)
    kill = "systemctl kill --signal KILL podman.service"
    result = hit_in_a_round(road, writer, 1.0, road.source, kill, transfer="stream")
    remove_spools(road.source)
    is_somewhere(road, writer, result)


@pytest.mark.parametrize("transfer", ["thin", "stream"])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_disk_that_fills_in_a_round(road: Road, transfer: str, side: str) -> None:
    writer = Writer.start(road.source, 100, 2)
    node = getattr(road, side)
    node.later("sh", "-c", EMPTIED[transfer])
    result = hit_in_a_round(road, writer, 0.5, node, FILLED[transfer], transfer=transfer)
    node.sh(EMPTIED[transfer])
    is_somewhere(road, writer, result)


@pytest.mark.parametrize("transfer", ["thin", "stream"])
def test_somebody_else_writes_the_memory_out_meanwhile(road: Road, transfer: str) -> None:
    """The kernel tells what was written since the last time once, whoever asks."""
    writer = Writer.start(road.source, 100, 2)
    other = f"podman container checkpoint --pre-checkpoint {writer.box.id} || :"
    is_somewhere(road, writer, hit_in_a_round(road, writer, 1.0, road.source, other, transfer=transfer))


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
