# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Hosts that are virtual machines: their kernel tracks memory, which the machine's own may not."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "benchmark")]

from helpers import LAB, Node, alone_with, node_of, run  # noqa: E402
from road import Road  # noqa: E402

NODES = ("node1", "node2")
BOOT = 600.0
"""Seconds; an emulated processor is slow."""


@pytest.fixture(scope="session")
def pair() -> Iterator[tuple[Node, Node]]:
    """Two machines; a lab of another flavour is taken down for them."""
    up = json.loads(run(LAB, "status", "--json"))
    if up["up"] and {host["flavour"] for host in up["hosts"]} != {"guest"}:
        run(LAB, "down")
    run(LAB, "up", "--hosts", str(len(NODES)), "--flavour", "vm", timeout=BOOT)
    with alone_with(*NODES):
        yield node_of(NODES[0]), node_of(NODES[1])


@pytest.fixture
def road(pair: tuple[Node, Node]) -> Iterator[Road]:
    for node in pair:
        node.begin()
    yield Road(*pair)
    for node in pair:
        assert not (left := node.finish()), left
        assert node.sh("ls -d /run/ferry.podman/* /var/lib/containers/ferry.podman 2>/dev/null || :") == ""
