#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""How long a client waits while a container moves that writes to its memory, with rounds before the freeze and without.

Writes a section of docs/benchmarks.md. It needs a kernel that tracks memory, so it runs in two virtual machines; a lab
of another flavour is taken down for them.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("integration", "lab", "virtual", "benchmark")]

from asking import Client  # noqa: E402
from document import write  # noqa: E402
from helpers import Node  # noqa: E402
from machines import PORT, Writer, machines, moved  # noqa: E402
from road import Road  # noqa: E402

MEGABYTES, RATE = 200, 5
WAYS = {"never": "stop and copy", "auto": "with rounds"}


class Sample:
    """One move."""

    def __init__(self, road: Road, precopy: str) -> None:
        writer = Writer.start(road.source, MEGABYTES, RATE)
        with Client(writer.box.address, PORT) as client:
            values = moved(road, writer, precopy=precopy, compress="none").values
            self.gap = client.longest
        self.rounds: list[int] = values["precopy"]
        self.last: int = values["bytes"] - sum(self.rounds)
        self.downtime: float = values["downtime_ms"] / 1000

    def __str__(self) -> str:
        rounds = ", ".join(f"{each / 1e6:.0f}" for each in self.rounds) or "no rounds"
        return f"{self.gap:.1f} s without an answer; {rounds}; at last {self.last / 1e6:.0f} MB"


def measured(pair: tuple[Node, Node], number: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {way: [] for way in WAYS}
    for node in pair:
        node.begin()
    try:
        road = Road(*pair)
        for turn in range(number):
            for way, each in samples.items():
                each.append(Sample(road, way))
                print(f"{turn + 1} {WAYS[way]:14} {each[-1]}", flush=True)
    finally:
        for node in pair:
            node.finish()
    return samples


def told(samples: dict[str, list[Sample]], machine: str) -> str:
    gaps = {way: statistics.median(sample.gap for sample in each) for way, each in samples.items()}
    rows = "\n".join(
        f"| {WAYS[way]} | {gaps[way]:.1f} s | {min(s.gap for s in each):.1f} – {max(s.gap for s in each):.1f} s | "
        f"{statistics.median(sample.last for sample in each) / 1e6:.0f} MB | "
        f"{', '.join(f'{size / 1e6:.0f}' for size in each[-1].rounds) or '–'} |"
        for way, each in samples.items()
    )
    return f"""\
## Memory before the freeze

A container with {MEGABYTES} MB of memory writes {RATE} MB/s of it all the time, and moves between two virtual machines,
whose kernel tracks memory. A client asks it every 20 ms; the longest gap between two answers counts. Medians of
{max(map(len, samples.values()))} rounds, both ways in turn.

| way | downtime | least – most | in the freeze | rounds of the last move, MB |
|---|--:|--:|--:|---|
{rows}

Downtime with rounds ÷ stop and copy: **{gaps["auto"] / gaps["never"]:.2f}**. The processors are emulated, so everything
is many times slower than on real ones, most of all what podman and Python do at either end; only the ratio tells
something.

Measured on [the lab](../tests/lab/README.md#virtual-machines): {machine}. Do it again with

    make bench-precopy
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is gone (%(default)s)")
    options = parser.parse_args()
    with machines() as pair:
        samples = measured(pair, options.rounds)
        script = "uname -r; podman --version; crun --version | head -1; criu --version | head -1"
        kernel, podman, crun, criu = (line.strip() for line in pair[0].sh(script).splitlines()[:4])
    # Anything else than the whole is for a look, and writes nothing.
    text = told(samples, f"kernel {kernel}, {podman}, {crun}, CRIU {criu.split()[-1]}")
    if len(sys.argv) == 1:
        write("precopy", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
