# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo
from ansible_collections.ferry.podman.plugins.module_utils._receive import MEMORY
from ansible_collections.ferry.podman.plugins.module_utils._thin import (
    WORTH,
    Conditions,
    NotThin,
    plan,
    size_here,
    size_there,
)

GB = 10**9
DISK = "/srv/containers/ferry.podman"


class Host:
    graph_root = "/srv/containers/storage"


def facts(memory: int | None, disk: int = 0) -> HostFacts:
    return HostFacts(memory=memory, disks={"/": 0, "/srv": disk})


def conditions(**changes: t.Any) -> Conditions:
    host = t.cast(HostInfo, Host())
    usual = Conditions("auto", GB, True, False, host, host, facts(8 * GB), facts(8 * GB))
    return dataclasses.replace(usual, **changes)


def test_memory_is_the_better_place() -> None:
    planned = plan(conditions())
    assert (planned.here, planned.there) == (MEMORY, MEMORY)
    assert "in memory on both hosts" in planned.reason


@pytest.mark.parametrize(
    ("here", "there", "places"),
    [
        (facts(GB, 9 * GB), facts(9 * GB), (DISK, MEMORY)),
        (facts(9 * GB), facts(2 * GB, 9 * GB), (MEMORY, DISK)),
        (facts(0, 9 * GB), facts(GB, 2 * GB), (DISK, DISK)),
    ],
)
def test_disk_serves_where_memory_does_not_suffice(here: HostFacts, there: HostFacts, places: tuple[str, str]) -> None:
    planned = plan(conditions(facts_here=here, facts_there=there))
    assert (planned.here, planned.there) == places
    assert "so its disk is used" in planned.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transfer": "stream"}, "transfer is stream"),
        ({"transfer": "registry"}, "transfer is registry"),
        ({"straight": False}, "as root"),
        ({"keep_source": True}, "keep_source"),
        ({"facts_there": None}, "does not answer"),
        ({"facts_here": None}, "source does not tell"),
        ({"facts_there": facts(None)}, "destination does not tell"),
        ({"memory": WORTH - 1}, "so little"),
        ({"facts_here": facts(GB, GB)}, "source has neither"),
        ({"facts_there": facts(GB, GB)}, "destination has neither"),
    ],
)
def test_reasons_for_the_archive(changes: dict[str, t.Any], reason: str) -> None:
    with pytest.raises(NotThin, match=reason):
        plan(conditions(**changes))


def test_small_ones_go_thin_if_that_is_wanted() -> None:
    assert plan(conditions(transfer="thin", memory=1)).here == MEMORY


def test_destination_needs_room_for_the_images_and_the_processes() -> None:
    assert size_there(GB, MEMORY, GB) > 2 * GB > size_here(GB) > GB
    assert size_there(GB, DISK, GB) < 2 * GB


@pytest.mark.parametrize(
    ("changes", "rounds", "times", "reason"),
    [
        ({}, 5, 3, ""),
        ({"rounds": 0}, 0, 1, "never"),
        ({"tracks": lambda: False}, 0, 1, "mem_dirty_track"),
        ({"memory": 50_000_000}, 0, 1, "so little"),
        ({"shared": GB // 2 + 1}, 0, 1, "does not track"),
        ({"facts_here": facts(int(2.5 * GB))}, 1, 2, ""),
        ({"facts_there": facts(int(3.5 * GB))}, 1, 2, ""),
        ({"facts_there": facts(int(2.5 * GB))}, 0, 1, "not the room"),
    ],
)
def test_rounds_before_the_freeze(changes: dict[str, t.Any], rounds: int, times: int, reason: str) -> None:
    planned = plan(conditions(**{"rounds": 5, "tracks": lambda: True, **changes}))
    assert (planned.rounds, planned.times) == (rounds, times)
    assert reason in planned.rounds_reason if reason else not planned.rounds_reason
