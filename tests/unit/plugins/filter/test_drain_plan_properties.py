# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What holds for every plan."""

from __future__ import annotations

import copy
import itertools
import pathlib
import random
import sys
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.filter.drain_plan import drain_plan
from ansible_collections.ferry.podman.plugins.plugin_utils import _plan_placement
from ansible_collections.ferry.podman.plugins.plugin_utils._plan import Planner
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import read_options

from .conftest import Json, make_container, make_finding, make_host

KINDS = ("moves", "stops", "keeps", "blocks")
HEADROOM = 0.1


@st.composite
def containers(draw: st.DrawFn, name: str, ports: int) -> Json:
    one = st.sampled_from
    labels = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "ferry.evacuate": one(["live", "cold", "stop", "keep", "block", "odd"]),
                "ferry.priority": one(["1", "-5", "x"]),
                "ferry.spread": one(["s1", "s2"]),
                "ferry.origin": one(["h0", "h1", "h3", "gone"]),
            },
        )
    )
    return make_container(
        name,
        draw(st.integers(0, 60)),
        draw(st.integers(0, 40)),
        labels=labels,
        status=draw(one(["running", "running", "running", "exited"])),
        pod=draw(one([None, None, None, "p1", "p2"])),
        ports=[f"{draw(one(['', '10.0.0.1:', '0.0.0.0:']))}{port}/tcp" for port in range(ports)],
        volumes=draw(one([[], [], ["v1"]])),
        networks=draw(one([[], [{"name": "n", "addresses": ["10.9.0.1"], "shared": True}]])),
        findings=draw(one([[], [], [make_finding("init")], [make_finding("rootless")]])),
        runtime=draw(one(["crun", "crun", "runc"])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> Json:
    """Some names are on several hosts."""
    fleet = {}
    for number in range(draw(st.integers(2, 5))):
        names = draw(st.lists(st.sampled_from([f"c{n}" for n in range(12)]), max_size=7, unique=True))
        listed = [draw(containers(name, draw(st.sampled_from([0, 0, 1, 2])))) for name in names]
        fleet[f"h{number}"] = make_host(
            *listed,
            memory=draw(st.integers(0, 300)),
            disk=draw(st.integers(0, 2000)),
            arch=draw(st.sampled_from(["amd64", "amd64", "arm64"])),
            podman_version=draw(st.sampled_from(["5.8.2", "5.4.2"])),
        )
    return fleet


options = st.fixed_dictionaries(
    {},
    optional={
        "policies": st.just({"c1*": "live", "c1": "cold", "h0/c?": "cold", "c[23]": "stop"}),
        "fallback": st.sampled_from(["block", "cold", "stop"]),
        "spread": st.sampled_from(["require", "prefer"]),
        "parallel": st.integers(1, 3),
        "prefer": st.just(["h3", "h[12]"]),
        "exclude": st.just(["h4"]),
        "drained": st.just(["h2"]),
        "force": st.booleans(),
        "only": st.just(["c1", "c2", "h0/*"]),
    },
)
goals = st.sampled_from([{"sources": ["h0"]}, {"sources": ["h0", "h1"]}, {"home": ["h0", "h1"]}])


def shuffled(value: t.Any, chance: random.Random) -> t.Any:
    """The same in another order, dictionaries and lists of containers alike."""
    if isinstance(value, dict):
        listed = [(key, shuffled(one, chance)) for key, one in value.items()]
        chance.shuffle(listed)
        return dict(listed)
    return chance.sample(value, len(value)) if isinstance(value, list) else value


@given(fleets(), goals, options, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_does_not_matter(fleet, goal, chosen, chance) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    other = {name: value for name, value in chosen.items() if name != "prefer"}
    again = drain_plan(shuffled(fleet, chance), **shuffled({**goal, **other}, chance), prefer=chosen.get("prefer"))
    assert again == plan


def test_order_in_sets_does_not_matter(monkeypatch, run_python) -> None:
    """Python's own, which differs from process to process."""
    code = f"""
import json, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from conftest import make_container, make_host
from ansible_collections.ferry.podman.plugins.filter.drain_plan import drain_plan
listed = [make_container(f"c{{n}}", n % 7, ports=[f"{{n % 5}}/tcp"], volumes=[f"v{{n}}", f"w{{n}}"]) for n in range(30)]
hosts = {{f"b{{n}}": make_host(make_container(f"x{{n}}", volumes=["v3"])) for n in range(4)}}
hosts["a"] = make_host(*listed)
print(json.dumps(drain_plan(hosts, ["a"])))
"""
    answers = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        answers.add(run_python(code))
    assert len(answers) == 1 and "in use" in answers.pop()


@given(fleets(), goals, options)
@settings(deadline=None)
def test_each_is_listed_once(fleet, goal, chosen) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    listed = [(entry["host"], entry["name"]) for kind in KINDS for entry in plan[kind]]
    assert len(listed) == len(set(listed))
    assert all(entry["reason"] and entry["policy"] for kind in KINDS for entry in plan[kind])
    if "sources" in goal:
        assert set(listed) == {(host, one["name"]) for host in goal["sources"] for one in fleet[host]["containers"]}
    assert not (plan["refused"] and (plan["moves"] or plan["stops"]))
    assert plan["refused"] == any(entry.get("code") == "no_room" for entry in plan["blocks"])


def arrivals(fleet: Json, plan: Json) -> dict[str, list[Json]]:
    """What the plan brings to each host, as it was given."""
    known = {(host, one["name"]): one for host, result in fleet.items() for one in result["containers"]}
    found: dict[str, list[Json]] = {}
    for move in plan["moves"]:
        found.setdefault(move["destination"], []).append({**known[move["host"], move["name"]], "from": move["host"]})
    return found


@given(fleets(), goals, options)
@settings(deadline=None)
def test_no_host_gets_more_than_it_has_room_for(fleet, goal, chosen) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    for host, there in arrivals(fleet, plan).items():
        facts = fleet[host]["host"]
        memory = sum(one["estimate"]["memory"] for one in there if one["status"] == "running")
        assert memory <= facts["memory_free"] * (1 - HEADROOM)
        lasting = sum(one["estimate"]["files"] for one in there)
        largest = max(one["estimate"]["archive"] for one in there)
        assert lasting + 2 * chosen.get("parallel", 1) * largest <= facts["graph_root_free"] * (1 - HEADROOM)


@given(fleets(), goals, options)
@settings(deadline=None)
def test_no_host_is_picked_that_must_not_be(fleet, goal, chosen) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    closed = {*goal.get("sources", ()), *chosen.get("drained", ()), *(["h4"] if "exclude" in chosen else [])}
    for move in plan["moves"]:
        assert move["destination"] not in closed | {move["host"]}
        assert fleet[move["destination"]]["host"]["arch"] == fleet[move["host"]]["host"]["arch"]
        assert "home" not in goal or move["destination"] in goal["home"]


@given(fleets(), goals, options)
@settings(deadline=None)
def test_nothing_is_on_a_host_twice(fleet, goal, chosen) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    for host, there in arrivals(fleet, plan).items():
        # A pod has its own ports, addresses and volumes several times.
        units = [[one] for one in fleet[host]["containers"]]
        pods: dict[tuple[str, str], list[Json]] = {}
        for one in there:
            pods.setdefault((one["from"], one["pod"] or f"/{one['name']}"), []).append(one)
        for unit in pods.values():
            for other in units:
                assert not meet(unit, other, chosen.get("spread", "require"))
            units.append(unit)


def meet(mine: list[Json], theirs: list[Json], spread: str) -> bool:
    return any(one_meets(one, other, spread) for one, other in itertools.product(mine, theirs))


def one_meets(one: Json, other: Json, spread: str) -> bool:
    if one["name"] == other["name"] or set(one["volumes"]) & set(other["volumes"]):
        return True
    if "exited" in (one["status"], other["status"]):
        return False
    group = one["labels"].get("ferry.spread")
    if spread == "require" and group and group == other["labels"].get("ferry.spread"):
        return True
    return bool(one["networks"] and other["networks"]) or any(map(ports_meet, *zip(*pairs_of(one, other))))


def pairs_of(one: Json, other: Json) -> list[tuple[str, str]]:
    return list(itertools.product(one["ports"], other["ports"])) or [("1", "2")]


def ports_meet(mine: str, theirs: str) -> bool:
    (address, _colon, port), (taken, _colon2, used) = mine.rpartition(":"), theirs.rpartition(":")
    return port == used and (address == taken or not {"", "0.0.0.0"}.isdisjoint((address, taken)))


@given(fleets(), goals, options)
@settings(deadline=None)
def test_pods_stay_together(fleet, goal, chosen) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    seen: dict[tuple[str, str], t.Any] = {}
    for kind in KINDS:
        for entry in plan[kind]:
            if entry["pod"]:
                fate = (kind, entry.get("destination"), entry.get("method"), entry.get("code"))
                assert seen.setdefault((entry["host"], entry["pod"]), fate) == fate


@given(fleets(), goals, options)
@settings(deadline=None)
def test_what_is_missing_is_enough(fleet, goal, chosen) -> None:
    plan = drain_plan(fleet, **goal, **chosen)
    more = copy.deepcopy(fleet)
    for missing in plan["missing"]:
        assert any(missing[key] for key in ("memory", "disk", "spool"))
        facts = more[missing["host"]]["host"]
        facts["memory_free"] += missing["memory"]
        # As one file system, which both are taken for.
        facts["graph_root_free"] += missing["disk"] + missing["spool"]
    assert not drain_plan(more, **goal, **chosen)["refused"]


@given(st.lists(st.integers(1, 9), max_size=6), st.lists(st.integers(0, 20), min_size=1, max_size=3))
@settings(deadline=None)
def test_a_plan_is_refused_only_if_there_is_none(sizes, rooms) -> None:
    fleet = {"source": make_host(*[make_container(f"c{number}", size) for number, size in enumerate(sizes)])}
    fleet.update({f"h{number}": make_host(memory=room) for number, room in enumerate(rooms)})
    possible = any(
        all(sum(size for size, at in zip(sizes, places) if at == host) <= room for host, room in enumerate(rooms))
        for places in itertools.product(range(len(rooms)), repeat=len(sizes))
    )
    assert drain_plan(fleet, ["source"], memory_headroom=0)["refused"] != possible


# -- growth ---------------------------------------------------------------------------------------------------


def grown_fleet(hosts: int, memory: int, disk: int = 1000) -> Json:
    """One in four is emptied; ports, groups, pods, two architectures and some full hosts are among it."""
    fleet = {}
    for number in range(hosts):
        listed = [
            make_container(
                f"c{number}-{each}",
                1 + each,
                labels={"ferry.spread": f"s{number // 2}"} if each == 0 else {},
                ports=[f"{8000 + number * 7 % 50}/tcp"] if each == 1 else [],
                pod=f"p{number}" if each in (2, 3) else None,
                networks=[{"name": "n", "addresses": [f"10.88.0.{each}"], "shared": False}],
            )
            for each in range(8)
        ]
        fleet[f"h{number:04}"] = make_host(
            *listed, memory=memory, disk=disk, arch="arm64" if number % 8 > 5 else "amd64"
        )
    return fleet


def operations(action: t.Callable[[], t.Any]) -> int:
    """How many lines of Python it takes; loops inside of C are not seen."""
    count = 0

    def trace(_frame: t.Any, event: str, _argument: t.Any) -> t.Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(("memory", "disk"), [(1000, 1000), (20, 1000), (0, 1000), (10, 1000), (1000, 10)])
def test_work_grows_with_the_fleet_and_no_faster(monkeypatch, memory, disk) -> None:
    """Whether there is plenty of room, just enough, or not enough of something."""
    # What is limited by a number is as much for the small fleet as for the large one, and hides the rest.
    for limit, value in {"STEPS": 0, "PATIENCE": 16, "SEARCHED": 0}.items():
        monkeypatch.setattr(_plan_placement, limit, value)
    counts = []
    for hosts in (32, 128):
        fleet = grown_fleet(hosts, memory, disk)
        sources = sorted(fleet)[::4]
        counts.append(operations(lambda fleet=fleet, sources=sources: drain_plan(fleet, sources)))
    assert counts[1] < counts[0] * 4 * 1.15


@pytest.mark.parametrize("hosts", [32, 256])
def test_few_hosts_are_looked_at_for_each_container(hosts) -> None:
    fleet = grown_fleet(hosts, 1000)
    planner = Planner(fleet, {}, read_options({"sources": sorted(fleet)[::4]}))
    moves = planner.plan()["moves"]
    assert len(moves) == hosts * 2
    assert planner.ledger.looked < 12 * len(moves)
