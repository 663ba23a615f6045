#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What a move of an idle container spends outside of its downtime: Ansible, the start of the module, its looks around.

Writes a section of docs/benchmarks.md. The lab must be up, with four hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/lab")]

from document import write  # noqa: E402
from helpers import Box, Node, alone_with, inventory, node_of, parsed  # noqa: E402
from road import Road  # noqa: E402

from ansible_collections.ferry.podman.plugins.module_utils._journal import PHASES  # noqa: E402

ANSIBLE = str(ROOT / ".venv/bin/ansible")
NODES = ("node3", "node4")
PATH = "ANSIBLE_COLLECTIONS_PATH"


STEPS = {
    "Using module file": "Ansible starts, connects, and packs the module",
    '"started": true': "Ansible copies the module and begins it",
    "(0, b'over ": "the module",
    "=> {": "Ansible fetches the result",
}
"""What Ansible prints at the end of each step, with -vvv."""


@dataclasses.dataclass
class Sample:
    """Seconds.

    :param wall: of the whole command.
    :param steps: of what makes it up.
    :param phases: of the module's own, by their names.
    """

    wall: float
    downtime: float
    steps: dict[str, float]
    phases: dict[str, float]

    @classmethod
    def of(cls, road: Road, box: Box) -> Sample:
        # So little goes in the archive in any case, and an earlier state knows no other way.
        options = {**road._options(box.name), "force": True, "transfer": "stream"}
        command = [ANSIBLE, road.source.name, "-i", inventory(), "-m", "ferry.podman.podman_migrate"]
        command += ["-vvv", "-a", json.dumps(options)]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "4000"}
        begun = before = time.monotonic()
        steps: dict[str, float] = {}
        lines: list[str] = []
        with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE) as process:
            for line in process.stdout or ():
                lines.append(line)
                mark = next((mark for mark in STEPS if mark in line and STEPS[mark] not in steps), None)
                if mark is not None:
                    now = time.monotonic()
                    steps[STEPS[mark]], before = now - before, now
        wall = time.monotonic() - begun
        result = parsed("".join(lines), "")
        assert result.changed and len(steps) == len(STEPS), (steps, result.msg)
        phases = {name: took / 1000 for name, took in result.values["phases"].items()}
        return cls(wall, result.values["downtime_ms"] / 1000, steps, phases)

    @property
    def start(self) -> float:
        """Of the module, before its first phase and after its last."""
        return self.steps["the module"] - sum(self.phases.values())


@dataclasses.dataclass
class Bench:
    """:param before: where an earlier state of the collection lies, if it is to be compared with.

    :param revision: of that state.
    """

    there: Road
    back: Road
    before: str = ""
    revision: str = ""
    pings: list[float] = dataclasses.field(default_factory=list)
    moves: dict[str, list[Sample]] = dataclasses.field(default_factory=dict)

    def turn(self) -> None:
        begun = time.monotonic()
        ping = [ANSIBLE, NODES[0], "-i", inventory(), "-m", "ansible.builtin.ping"]
        subprocess.run(ping, cwd=ROOT, capture_output=True, check=True)
        self.pings.append(time.monotonic() - begun)
        box = self.there.source.start("counter")
        ways = [("before", self.before), ("now", "")] if self.before else [("now", "")]
        # Nobody is always the first to move it.
        for name, path in ways if len(self.pings) % 2 else reversed(ways):
            with collections_at(path):
                self.moves.setdefault(name, []).append(Sample.of(self.there, box))
                arrived = self.there.arrived(box)
                assert not self.back.move(arrived, force=True, transfer="stream").failed
        box.remove()


@contextlib.contextmanager
def collections_at(path: str) -> Iterator[None]:
    before = os.environ.pop(PATH, None)
    if path:
        os.environ[PATH] = path
    try:
        yield
    finally:
        os.environ.pop(PATH, None)
        if before is not None:
            os.environ[PATH] = before


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[str]:
    """A directory with collections that has an earlier state of this one; none without a revision."""
    if not revision:
        yield ""
        return
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory, "ansible_collections/ferry/podman")
        place.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(place)], input=archive, check=True)
        yield directory


def told(bench: Bench, versions: str) -> str:
    names = [name for name in ("before", "now") if name in bench.moves]
    of = {name: bench.moves[name] for name in names}

    def row(label: str, values: list[list[float]]) -> str:
        return f"| {label} | " + " | ".join(f"{statistics.median(each):.2f} s" for each in values) + " |"

    def rows_of(text: str, value: t.Callable[[Sample], float]) -> str:
        return row(text, [[value(sample) for sample in of[name]] for name in names])

    phases = [phase for phase in PHASES if phase in of["now"][0].phases]
    steps = list(STEPS.values())
    rows = [
        rows_of("the whole command", lambda sample: sample.wall),
        *(rows_of(step, lambda sample, step=step: sample.steps[step]) for step in steps),  # type: ignore[misc]
        rows_of("of the module: imports, connection to the destination, end", lambda sample: sample.start),
        *(rows_of(f"of the module: {phase}", lambda s, phase=phase: s.phases[phase]) for phase in phases),  # type: ignore[misc]
        rows_of("downtime", lambda sample: sample.downtime),
    ]
    ping = statistics.median(bench.pings)
    earlier = f", *before* with the collection of revision {bench.revision}" if bench.revision else ""
    again = f' OPTIONS="--before {bench.revision}"' if bench.revision else ""
    return f"""\
## What a move spends besides

An idle container moves from one host to another with `ansible -m ferry.podman.podman_migrate` and `transfer: stream`,
as what has so little memory does by default. Medians of
{len(bench.pings)} moves{earlier}. `ansible -m ansible.builtin.ping`, which does nothing, takes {ping:.2f} s in the same
run. A second task of a playbook finds Ansible started and connected, and `podman_evacuate` moves many containers by
one. Half a second of the phase verify is a pause, after which the process must still be there.

| | {" | ".join(names)} |
|---|{"--:|" * len(names)}
{chr(10).join(rows)}

Measured on [the lab](../tests/lab/README.md): {versions}. Do it again with

    make bench-overhead{again}
"""


def versions_of(node: Node) -> str:
    script = "podman --version; crun --version | head -1; criu --version | head -1"
    podman, crun, criu = (line.strip() for line in node.sh(script).splitlines()[:3])
    ansible = subprocess.run([ANSIBLE, "--version"], capture_output=True, text=True, check=True)
    return f"{ansible.stdout.splitlines()[0]}, {podman}, {crun}, CRIU {criu.split()[-1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often it moves (%(default)s)")
    parser.add_argument("--before", default="", metavar="REVISION", help="compare with an earlier state, in turn")
    options = parser.parse_args()
    with checked_out(options.before) as before, alone_with(*NODES):
        nodes = [node_of(name) for name in NODES]
        for node in nodes:
            node.begin()
        try:
            bench = Bench(Road(nodes[0], nodes[1]), Road(nodes[1], nodes[0]), before, options.before)
            for number in range(options.rounds):
                bench.turn()
                print(f"{number + 1} " + ", ".join(f"{key} {each[-1].wall:.2f} s" for key, each in bench.moves.items()))
            text = told(bench, versions_of(nodes[0]))
        finally:
            for node in nodes:
                node.finish()
    if options.rounds >= 5:
        write("overhead", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
