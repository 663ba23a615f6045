# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Hosts that are virtual machines: their kernel tracks memory, which the machine's own may not."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("virtual", "integration", "benchmark")]

from helpers import Node  # noqa: E402
from machines import machines  # noqa: E402
from road import Road  # noqa: E402


@pytest.fixture(scope="session")
def pair() -> Iterator[tuple[Node, Node]]:
    with machines() as both:
        yield both


@pytest.fixture
def road(pair: tuple[Node, Node]) -> Iterator[Road]:
    for node in pair:
        node.begin()
    yield Road(*pair)
    for node in pair:
        assert not (left := node.finish()), left
        assert node.sh("ls -d /run/ferry.podman/* /var/lib/containers/ferry.podman 2>/dev/null || :") == ""
