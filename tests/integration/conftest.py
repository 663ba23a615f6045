# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""The lab, its hosts, and an end to each test that leaves them as they were.

Every test has the hosts that it uses to itself: ``alone_with`` holds a lock for each. The tests of one host go to one
process of pytest-xdist, so that not two of them wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import pathlib
import re
import subprocess
import sys
import typing as t
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from helpers import LAB, ROOT, Node, alone_with, inventory, run  # noqa: E402
from road import Road  # noqa: E402

HOSTS = {"node1": "stable", "node2": "testing"}
"""The hosts of the tests that use one, and which podman each has."""

PAIR = {"stable-to-testing": ("node6", "node7")}
"""Source and destination of most moves."""

FLEET = ("node3", "node4", "node5")
"""Three of the same podman, which are drained."""

ALIKE = ("node8", "node9")
"""Two hosts of the same podman, for ways there and back; others than those above, so that no test waits for them."""


class ByHost(LoadScopeScheduling):
    """Gives one process the tests of one host or pair: ``[stable…]``, ``[testing…]``. Others go by their file.

    The marks of --dist loadgroup do nothing with pytest 9.2 and xdist 3.8.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, rest = nodeid.partition("::")
        found = re.search(rf"\[.*?\b({'|'.join([*PAIR, *HOSTS.values()])})\b", rest)
        return found[1] if found else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> LoadScopeScheduling:
    return ByHost(config, log)


def hosts_in(text: str) -> dict[str, str]:
    """Names and addresses in the lab's inventory."""
    return dict(re.findall(r"^(\w+) ansible_host=(\S+)$", text, re.MULTILINE))


def bring_up() -> str:
    """Start the lab, or see that it is up, and prepare its hosts as a user would."""
    # More hosts than the tests use may be up for other work; they stay.
    here = run(LAB, "inventory", check=False).strip()
    names = sorted({*HOSTS, *ALIKE, *FLEET, *itertools.chain(*PAIR.values())})
    number = max(len(names), len(hosts_in(pathlib.Path(here).read_text())) if here else 0)
    with alone_with(*names):
        run(LAB, "up", "--hosts", str(number), "--flavour", "mixed", timeout=1200)
        for name in names:
            run(LAB, "service", name, "start")
        prepare(names)
    return pathlib.Path(inventory()).read_text()


def prepare(names: list[str]) -> None:
    playbook = [str(ROOT / ".venv/bin/ansible-playbook"), "ferry.podman.prepare", "-i", inventory()]
    run(*playbook, "--limit", ",".join(names), timeout=300)


def once(path: pathlib.Path) -> str:
    """Of several processes of pytest one brings the lab up; the others read what it noted."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            try:
                noted = {"inventory": bring_up()}
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                noted = {"error": str(error)}
            path.write_text(json.dumps(noted))
    noted = json.loads(path.read_text())
    if "error" in noted:
        pytest.fail(f"The lab cannot be brought up: {noted['error']}", pytrace=False)
    return noted["inventory"]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Node]:
    """The hosts by name; every host of the lab, also those that the tests here do not use."""
    base = tmp_path_factory.getbasetemp()
    hosts = once((base if worker_id == "master" else base.parent) / "lab.json")
    return {name: Node(name, address) for name, address in hosts_in(hosts).items()}


@contextlib.contextmanager
def borrowed(lab: dict[str, Node], *names: str) -> Iterator[list[Node]]:
    """Hosts of the lab for one test, which may leave containers, volumes and images, but no traces of modules."""
    nodes = [lab[name] for name in names]
    with alone_with(*names):
        for node in nodes:
            node.begin()
        try:
            yield nodes
        finally:
            traces = {node.name: found for node in nodes if (found := node.finish())}
    assert not traces, f"left behind by the modules: {traces}"


@pytest.fixture(params=HOSTS, ids=HOSTS.get)
def host(request: pytest.FixtureRequest, lab: dict[str, Node]) -> Iterator[Node]:
    """Each of the two hosts in turn."""
    with borrowed(lab, request.param) as (node,):
        yield node


@pytest.fixture(params=PAIR.values(), ids=PAIR)
def pair(request: pytest.FixtureRequest, lab: dict[str, Node]) -> Iterator[tuple[Node, Node]]:
    """Source and destination."""
    with borrowed(lab, *request.param) as (source, destination):
        yield source, destination


@pytest.fixture
def road(pair: tuple[Node, Node]) -> Iterator[Road]:
    source, destination = pair
    yield Road(source, destination)
    assert "ferry" not in destination.run("nft", "list", "tables")


@pytest.fixture
def road_back(pair: tuple[Node, Node]) -> Road:
    """To the older podman, whose runtime cannot restore what the newer one froze."""
    destination, source = pair
    return Road(source, destination)


@pytest.fixture(params=["round-trip"])
def round_trip(lab: dict[str, Node]) -> Iterator[tuple[Road, Road]]:
    """The ways there and back between two hosts of the same podman."""
    with borrowed(lab, *ALIKE) as (one, other):
        yield Road(one, other), Road(other, one)
