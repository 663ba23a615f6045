# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.modules import podman_evacuate

THERE = {"name": "there", "url": "unix:///run/there.sock"}


def refused(run_module, url: str, **options) -> str:
    given = {"url": url, "moves": [], "destinations": [THERE], **options}
    answer = run_module(podman_evacuate, **given)
    assert answer["failed"], answer
    return answer["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moves": [{"name": "a", "destination": "x"}]}, "moves names destinations that destinations has not: x."),
        ({"moves": [{"name": "a", "destination": "there"}] * 2}, "moves has a name twice: a."),
        ({"destinations": [THERE, THERE]}, "destinations has a name twice: there."),
        ({"parallel": 0}, "parallel is 0; it must be 1 or more."),
        ({"parallel_per_destination": 0}, "parallel_per_destination is 0"),
        ({"max_failures": "many"}, "max_failures is 'many'."),
        ({"bandwidth": "much"}, "The bandwidth 'much' is no size."),
    ],
)
def test_options_that_make_no_sense_are_refused(run_module, libpod, options, message) -> None:
    assert message in refused(run_module, libpod.url, **options)
    assert libpod.seen == []


def test_nothing_to_move(run_module, libpod) -> None:
    answer = run_module(podman_evacuate, url=libpod.url, moves=[], destinations=[])
    assert not answer["changed"] and answer["moves"] == [] and answer["stopped"] is None


def test_one_that_fails_is_told_with_its_reason(run_module, libpod, tmp_path) -> None:
    moves = [{"name": name, "destination": "there"} for name in ("web", "db")]
    destinations = [{**THERE, "url": libpod.url}]
    answer = run_module(
        podman_evacuate, url=libpod.url, moves=moves, destinations=destinations, journal=str(tmp_path), parallel=1
    )
    assert answer["failed"] and answer["msg"].startswith("1 of 2 moves failed. web: ")
    assert [move["state"] for move in answer["moves"]] == ["failed", "skipped"]
    assert answer["stopped"].startswith("Not begun, because 1 of the moves before failed")
