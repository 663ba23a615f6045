#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A host with small containers is emptied: by the playbook, and by a shell loop of podman's own commands.

Writes a section of docs/benchmarks.md. The lab must be up, with four hosts. The containers are removed again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/lab")]

from document import write  # noqa: E402
from helpers import Node, alone_with, inventory, node_of  # noqa: E402

SOURCE, DESTINATIONS = "node2", ("node3", "node4")
SCRATCH = "/root/bench-drain"
FACT = "/etc/ansible/facts.d/ferry.fact"
MOST = 0.5  # of the loop's time, by the moves

LOOP = r"""
place=0
for name in {names}; do
    set -- {destinations}
    shift $((place % $#)); place=$((place + 1))
    podman container checkpoint --export {scratch}/$name.tar.zst --tcp-established --file-locks $name >/dev/null
    scp -q {options} {scratch}/$name.tar.zst root@$1:{scratch}/
    ssh {options} root@$1 podman container restore --import {scratch}/$name.tar.zst \
        --tcp-established --file-locks >/dev/null
    podman rm $name >/dev/null
done
"""
"""What people write: one container after the other, to each destination in turn."""


@dataclasses.dataclass
class Bench:
    """:param downtimes: milliseconds of each container that the playbook moved."""

    number: int
    parallel: int
    source: Node
    destinations: list[Node]
    loop: list[float] = dataclasses.field(default_factory=list)
    playbook: list[float] = dataclasses.field(default_factory=list)
    moves: list[float] = dataclasses.field(default_factory=list)
    downtimes: list[int] = dataclasses.field(default_factory=list)

    @property
    def nodes(self) -> list[Node]:
        return [self.source, *self.destinations]

    def prepare(self) -> None:
        """A key for the loop, which the playbook makes by itself."""
        self.clean()
        for node in self.nodes:
            node.sh(f"mkdir -p {SCRATCH}")
        self.source.sh(f"ssh-keygen -q -t ed25519 -N '' -C bench-drain -f {SCRATCH}/id")
        key = self.source.sh(f"cat {SCRATCH}/id.pub").strip()
        known = ""
        for node in self.destinations:
            node.run("tee", "-a", "/root/.ssh/authorized_keys", stdin=f"{key}\n")
            kind, text = node.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
            known += f"{node.address} {kind} {text}\n"
        self.source.run("tee", f"{SCRATCH}/known_hosts", stdin=known)

    def clean(self) -> None:
        for node in self.nodes:
            names = [name for name in node.names() if name.startswith("bench-drain-")]
            if names:
                node.podman("rm", "--force", "--time", "0", *names)
            node.sh(f"rm -rf {SCRATCH} {FACT}; sed -i '/ bench-drain$/d' /root/.ssh/authorized_keys")

    def start(self) -> list[str]:
        names = [f"bench-drain-{number}" for number in range(self.number)]
        for node in self.nodes:
            node.sh(f"rm -f {FACT} {SCRATCH}/*.tar.zst")
            left = [name for name in names if name in node.names()]
            if left:
                node.podman("rm", "--force", "--time", "0", *left)
        for name in names:
            self.source.podman("run", "--detach", "--network", "none", "--name", name, "localhost/lab/counter")
        time.sleep(1)
        return names

    def by_loop(self) -> None:
        names = self.start()
        options = f"-i {SCRATCH}/id -o UserKnownHostsFile={SCRATCH}/known_hosts -o BatchMode=yes"
        script = LOOP.format(
            names=" ".join(names),
            destinations=" ".join(node.address for node in self.destinations),
            scratch=SCRATCH,
            options=options,
        )
        begun = time.monotonic()
        self.source.run("sh", "-euc", script, timeout=600)
        self.loop.append(time.monotonic() - begun)
        self.see(names)

    def by_playbook(self) -> None:
        names = self.start()
        variables = {
            "host": SOURCE,
            "drain_destinations": list(DESTINATIONS),
            "drain_only": "bench-drain-*",
            "drain_parallel": self.parallel,
            "drain_parallel_per_destination": self.parallel,
            "drain_force": True,
            "drain_report_directory": str(ROOT / ".build/bench-drain"),
        }
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "ferry.podman.drain", "-i", inventory()]
        begun = time.monotonic()
        done = subprocess.run(
            [*command, "-e", json.dumps(variables)], cwd=ROOT, text=True, capture_output=True, timeout=600
        )
        self.playbook.append(time.monotonic() - begun)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        self.see(names)
        newest = max((ROOT / ".build/bench-drain").glob("*.json"), key=os.path.getmtime)
        report = json.loads(newest.read_text())
        moved = [entry for entry in report["containers"] if entry["outcome"] == "moved"]
        self.moves.append(max(entry["finished"] for entry in moved) - min(entry["started"] for entry in moved))
        self.downtimes += [entry["downtime_ms"] for entry in moved]

    def see(self, names: list[str]) -> None:
        """All of them run on a destination."""
        running = [name for node in self.destinations for name in node.podman("ps", "--format", "{{.Names}}").split()]
        if sorted(set(running) & set(names)) != sorted(names):
            raise SystemExit(f"Not all of {names} run on the destinations: {running}")


def timed(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s | {min(seconds):.1f} – {max(seconds):.1f}"


def section(bench: Bench) -> str:
    loop, playbook, moves = (statistics.median(each) for each in (bench.loop, bench.playbook, bench.moves))
    return f"""\
## Drain

{bench.number} small containers leave one host for two others: by `ansible-playbook ferry.podman.drain` with
{bench.parallel} at once, and by a shell loop of `podman container checkpoint --export`, `scp` and
`podman container restore --import`.

| way | time | spread |
|---|--:|--:|
| shell loop | {timed(bench.loop)} |
| playbook, from its start to its end | {timed(bench.playbook)} |
| of it, from the first move's begin to the last one's end | {timed(bench.moves)} |

The moves take **{moves / loop:.2f}** of the loop's time. The playbook around them asks, compares, plans, makes keys,
marks the host and reports. That adds {playbook - moves:.0f} s, most of it Ansible's own time for each task, however
many containers there are: with so few and so small ones the whole takes {playbook / loop:.1f} times as long as the
loop. None of that is downtime: each container stands still for {statistics.median(bench.downtimes):.0f} ms (median), at
most for {max(bench.downtimes)} ms.

Medians of {len(bench.loop)} rounds on [the lab](../tests/lab/README.md) with {os.cpu_count()} cores. In each round both
run, one after the other. Do it again with

    tests/lab/lab up --hosts 4 --flavour mixed
    make bench-drain
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often both run (%(default)s)")
    parser.add_argument("--number", type=int, default=12, help="of containers (%(default)s)")
    parser.add_argument("--parallel", type=int, default=4, help="moves at once (%(default)s)")
    parser.add_argument("--short", action="store_true", help="one round, and nothing is written")
    options = parser.parse_args()
    with alone_with(SOURCE, *DESTINATIONS):
        bench = Bench(options.number, options.parallel, node_of(SOURCE), [node_of(name) for name in DESTINATIONS])
        bench.prepare()
        try:
            for number in range(1 if options.short else options.rounds):
                bench.by_loop()
                bench.by_playbook()
                print(f"round {number}: loop {bench.loop[-1]:.1f} s, playbook {bench.playbook[-1]:.1f} s", flush=True)
        finally:
            bench.clean()
    text = section(bench)
    print(text)
    if not options.short:
        write("drain", text)
    return int(statistics.median(bench.moves) > MOST * statistics.median(bench.loop))


if __name__ == "__main__":
    sys.exit(main())
