# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_facts import Host, Key, Profile, Room, Weight
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Options
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_placement import Ledger
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_workloads import Policy, Workload

PROFILE = Profile("amd64", "crun", (5, 8), "6.12", "4.1", "v2", "systemd", "", closes=True)
ROOMS = [Room(1000, 1000), Room(1000, 1000, 1000, spool_apart=True, spool_in_memory=True)]


def ledger(parallel: int = 1) -> Ledger:
    hosts = [Host(f"h{number}", PROFILE, room) for number, room in enumerate(ROOMS)]
    return Ledger(hosts, [0] * len(hosts), Options(parallel=parallel), {Key("port", "80/tcp", "some"): {0: 1}})


def workload(memory: int, lasting: int, archive: int, *ports: str) -> Workload:
    keys = tuple(Key("port", port, "some") for port in ports)
    policy = Policy("live", "by default")
    return Workload([], policy, Weight(memory, lasting, archive), 0, kinds=(0,), held=keys, firm=frozenset(keys))


def state(one: Ledger) -> t.Any:
    asked = workload(0, 0, 0)
    used = [one.count(Key("port", port, "some"), host) for port in ("80/tcp", "81/tcp") for host in (0, 1)]
    return (
        [(place.left, place.peak) for place in one.places],
        used,
        [index for index, _left in one.candidates(asked, ())],
    )


sizes = st.integers(0, 90)
workloads = st.builds(workload, sizes, sizes, sizes, st.sampled_from(["80/tcp", "81/tcp"]))


@given(st.lists(st.tuples(workloads, st.integers(0, 1)), max_size=8), st.integers(1, 3))
@settings(deadline=None)
def test_what_is_released_leaves_nothing_behind(moves, parallel) -> None:
    one = ledger(parallel)
    undone = []
    for load, index in moves:
        undone.append((state(one), load, index, one.take(load, index)))
    for before, load, index, peak in reversed(undone):
        one.release(load, index, peak)
        assert state(one) == before


@pytest.mark.parametrize(
    ("parallel", "expected"),
    [
        # Of memory, on disk and in the spool: the largest archive counts, whichever came when.
        (1, [(970, 970 - 2 * 50, 0), (970 - 50, 970 - 50, 1000 - 50)]),
        (2, [(970, 970 - 4 * 50, 0), (970 - 100, 970 - 100, 1000 - 100)]),
    ],
)
def test_largest_archive_counts_once(parallel, expected) -> None:
    one = ledger(parallel)
    for index in (0, 1):
        for archive in (20, 50, 40, 50):
            one.take(workload(7, 7, archive), index)
        one.take(workload(2, 2, 10), index)
    assert [place.left for place in one.places] == expected
