# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Several containers leave a host at once."""

from __future__ import annotations

import subprocess
import typing as t
from collections.abc import Iterator

import pytest
from conftest import ALIKE, borrowed
from helpers import SCRATCH, Box, Json, Node, Result, wait_until
from road import OPTIONS, PUBLIC_KEYS

THIRD = "node1"


class Roads:
    """From one host to two others, one of which is older."""

    def __init__(self, source: Node, destinations: list[Node]) -> None:
        self.source = source
        self.destinations = {node.name: node for node in destinations}
        source.sh(f"ssh-keygen -q -t ed25519 -N '' -f {SCRATCH}/id")
        key = source.sh(f"cat {SCRATCH}/id.pub").strip()
        known = ""
        for node in destinations:
            kind, text = node.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
            known += f"{node.address} {kind} {text}\n"
            node.sh(f"cp {PUBLIC_KEYS} {SCRATCH}/keys")
            node.later("cp", f"{SCRATCH}/keys", PUBLIC_KEYS)
            node.run("tee", "-a", PUBLIC_KEYS, stdin=f"{OPTIONS} {key}\n")
        source.run("tee", f"{SCRATCH}/known_hosts", stdin=known)

    def options(
        self,
        moves: dict[str, str],
        methods: dict[str, str] | None = None,
        pods: dict[str, str] | None = None,
        **options: object,
    ) -> dict:
        ways = [
            {
                "name": node.name,
                "url": f"ssh://root@{node.address}/run/podman/podman.sock",
                "identity": f"{SCRATCH}/id",
                "known_hosts": f"{SCRATCH}/known_hosts",
            }
            for node in self.destinations.values()
        ]
        more = {"method": methods or {}, "pod": pods or {}}
        listed = [
            {"name": name, "destination": to, **{key: given[name] for key, given in more.items() if name in given}}
            for name, to in moves.items()
        ]
        return {"moves": listed, "destinations": ways, "force": True, **options}

    def evacuate(self, moves: dict[str, str], **options: t.Any) -> Result:
        return self.source.module("podman_evacuate", **self.options(moves, **options))

    def begin(self, moves: dict[str, str], **options: t.Any) -> subprocess.Popen[str]:
        return self.source.start_module("podman_evacuate", **self.options(moves, **options))

    def there(self, box: Box, destination: str) -> Box:
        assert box.name not in self.source.names()
        return self.destinations[destination].box(box.name, box.image)


@pytest.fixture
def roads(lab: dict[str, Node]) -> Iterator[Roads]:
    """From one host to another of the same podman, and to an older one that cannot restore what comes from it."""
    with borrowed(lab, *ALIKE, THIRD) as (source, destination, older):
        yield Roads(source, [destination, older])


def states(result: Result) -> dict[str, str]:
    return {move["name"]: move["state"] for move in result.values["moves"]}


def counters(node: Node, number: int) -> list[Box]:
    return [node.start("counter") for _number in range(number)]


def counts_until(move: Json) -> float:
    """When it was left to be looked at again."""
    before = sum(took for phase, took in move["phases"].items() if phase not in ("verify", "commit"))
    return float(move["started"] + before / 1000)


def test_several_move_at_once_and_count_on(roads: Roads) -> None:
    boxes = counters(roads.source, 6)
    to = dict.fromkeys((box.name for box in boxes), ALIKE[1])
    planned = roads.source.module(
        "podman_evacuate", check=True, **roads.options(to, parallel=3, parallel_per_destination=3)
    )
    assert set(states(planned).values()) == {"moved"} and all(box.status == "running" for box in boxes)
    done = roads.evacuate(to, parallel=3, parallel_per_destination=3)
    assert set(states(done).values()) == {"moved"}, done.msg
    for box in boxes:
        roads.there(box, ALIKE[1]).counts_on()
    moves = done.values["moves"]
    assert [move["name"] for move in moves] == [box.name for box in boxes]
    assert all(move["downtime_ms"] > 0 and move["bytes"] > 0 for move in moves)
    overlapping = max(sum(a["started"] <= b["started"] < counts_until(a) for a in moves) for b in moves)
    assert overlapping == 3
    again = roads.evacuate(to, parallel=3)
    assert not again.changed and set(states(again).values()) == {"moved"}


def test_failure_keeps_others_from_beginning(roads: Roads) -> None:
    boxes = counters(roads.source, 3)
    names = [box.name for box in boxes]
    roads.destinations[ALIKE[1]].podman("create", "--name", names[1], "localhost/lab/counter")
    result = roads.evacuate(dict.fromkeys(names, ALIKE[1]), parallel=1)
    assert result.failed
    assert list(states(result).values()) == ["moved", "failed", "skipped"]
    assert f"{names[1]}:" in result.msg and "name_in_use" in result.msg
    roads.there(boxes[0], ALIKE[1]).counts_on()
    boxes[1].counts_on()
    boxes[2].counts_on()


HOMESICK = """
import sys, time
home = open("/where").read()
while open("/where").read() == home:
    time.sleep(0.01)
time.sleep(0.25)
sys.exit(3)
"""
"""Ends anywhere but on the source, while it is only looked at again there."""


def test_one_that_ends_while_others_have_begun_goes_on_at_home(roads: Roads) -> None:
    for node in (roads.source, *roads.destinations.values()):
        node.sh(f"echo {node.name} >{SCRATCH}/where")
    flags = ("-v", f"{SCRATCH}/where:/where:ro", "--entrypoint", "python3")
    homesick = roads.source.start("keeper", *flags, command=("-c", HOMESICK))
    boxes = counters(roads.source, 8)
    names = [homesick.name, *(box.name for box in boxes)]
    result = roads.evacuate(dict.fromkeys(names, ALIKE[1]), parallel=2, parallel_per_destination=2)
    told = states(result)
    assert result.failed and told[homesick.name] == "failed" and "ended with 3" in result.msg, result.msg
    assert result.values["moves"][0]["location"] == "source"
    assert homesick.status == "running"
    assert homesick.name not in roads.destinations[ALIKE[1]].names()
    assert list(told.values())[-1] == "skipped"
    for box in boxes:
        (roads.there(box, ALIKE[1]) if told[box.name] == "moved" else box).counts_on()
    assert roads.source.journal() == ""


def test_rollback_brings_back_what_has_moved(roads: Roads) -> None:
    boxes = counters(roads.source, 3)
    names = [box.name for box in boxes]
    roads.destinations[ALIKE[1]].podman("create", "--name", names[2], "localhost/lab/counter")
    result = roads.evacuate(dict.fromkeys(names, ALIKE[1]), parallel=2, parallel_per_destination=2, rollback=True)
    assert list(states(result).values()) == ["returned", "returned", "failed"], result.msg
    for box in boxes:
        box.counts_on()
    assert not {names[0], names[1]} & roads.destinations[ALIKE[1]].names()


def test_run_that_is_told_to_end_finishes_what_it_has_begun(roads: Roads) -> None:
    boxes = counters(roads.source, 4)
    to = dict.fromkeys((box.name for box in boxes), ALIKE[1])
    process = roads.begin(to, parallel=1, bandwidth="300K")
    wait_until(lambda: roads.source.sh("ls /var/lib/ferry/*.json 2>/dev/null || :"), "a move to begin")
    roads.source.sh("pkill -TERM -f 'AnsiballZ_podman_evacua[t]e' || pkill -TERM -f podman_evacua[t]e")
    told = process.communicate(timeout=300)
    gone = [box for box in boxes if box.name not in roads.source.names()]
    assert 1 <= len(gone) < 4, told
    for box in gone:
        roads.there(box, ALIKE[1]).counts_on()
    for box in boxes[len(gone) :]:
        box.counts_on()
