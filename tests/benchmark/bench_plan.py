#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""How long a plan takes, and how much memory: prints a Markdown table. See docs/benchmarks.md.

.venv/bin/python tests/benchmark/bench_plan.py --hosts 100 1000 --share 10 50
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
import typing as t

Json = dict[str, t.Any]

GIB = 1024**3
MIB = 1024**2


def make_fleet(hosts: int, containers: int) -> dict[str, Json]:
    """Hosts of two architectures and three kernels, with all that a plan looks at; the same in every run."""
    chance = random.Random(1)
    return {f"node{number:04}": make_host(number, containers, chance) for number in range(hosts)}


def make_host(number: int, containers: int, chance: random.Random) -> Json:
    total = 256 * GIB
    facts = {
        "can_checkpoint": True,
        "findings": [],
        "podman_version": "5.8.2",
        "arch": "arm64" if number % 4 == 3 else "amd64",
        "kernel": f"6.12.{chance.choice([40, 48, 57])}",
        "cgroup_version": "v2",
        "cgroup_manager": "systemd",
        "runtime": {"name": "crun", "version": "crun version 1.28"},
        "criu": {"version": "4.1.1", "check": True},
        "graph_root": "/var/lib/containers/storage",
        "temporary_directory": "/var/tmp",
        "file_systems": [{"type": "ext4", "free": 8 * total, "paths": ["/var/tmp", "/var/lib/containers/storage"]}],
        "memory_available": total,
    }
    return {"host": facts, "containers": [make_container(number, each, chance) for each in range(containers)]}


def make_container(host: int, number: int, chance: random.Random) -> Json:
    """One in ten is in a pod of two, one in five publishes a port, one in twenty is spread."""
    memory, files = chance.randrange(16, 2048) * MIB, chance.randrange(200) * MIB
    labels = {"ferry.priority": str(chance.randrange(3))} if number % 10 == 0 else {}
    if number % 20 == 0:
        labels["ferry.spread"] = f"group{chance.randrange(host // 2 + 1)}"
    return {
        "name": f"app{host}-{number}",
        "id": f"{host:032x}{number:032x}",
        "status": "exited" if number % 25 == 24 else "running",
        "runtime": "crun",
        "pod": f"{host:032x}{number // 20:032x}" if number % 20 < 2 else None,
        "labels": labels,
        "volumes": [f"data{host}-{number}"] if number % 3 == 0 else [],
        "ports": [f"0.0.0.0:{8000 + chance.randrange(4000)}/tcp"] if number % 5 == 0 else [],
        "networks": [{"name": "podman", "addresses": [f"10.88.{host % 256}.{number + 2}"], "shared": False}],
        "findings": [],
        "estimate": {"memory": memory, "files": files, "volumes": 0, "archive": memory + files, "downtime_ms": 900},
    }


def measure(hosts: int, containers: int, share: int) -> Json:
    """One plan in this process, whose peak memory is that of the input and the plan together."""
    from ansible_collections.ferry.podman.plugins.filter.drain_plan import drain_plan

    fleet = make_fleet(hosts, containers)
    sources = [name for number, name in enumerate(fleet) if number * share % 100 < share]
    before = peak()
    began = time.perf_counter()
    plan = drain_plan(fleet, sources)
    seconds = time.perf_counter() - began
    if plan["refused"]:
        sys.exit(plan["msg"])
    return {
        "hosts": hosts,
        "containers": hosts * containers,
        "sources": len(sources),
        "moves": len(plan["moves"]),
        "seconds": seconds,
        "input": before,
        "peak": peak(),
    }


def peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_apart(hosts: int, containers: int, share: int, repeat: int) -> Json:
    """The quickest of some runs, each in a process of its own."""
    command = [sys.executable, __file__, "--one", str(hosts), str(containers), str(share)]
    # As in .venv, which knows the collection.
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _run in range(repeat)]
    return min(runs, key=lambda run: float(run["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    parser.add_argument("--containers", type=int, default=50, help="on each host")
    parser.add_argument("--share", type=int, nargs="+", default=[10, 50], help="of the hosts to empty, in percent")
    parser.add_argument("--repeat", type=int, default=3, help="the quickest counts")
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    print(f"Measured on {os.cpu_count()} cores with Python {platform.python_version()}.\n")
    print("| hosts | containers | to empty | moves | time | for each move | peak memory | of it before the plan |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for share in options.share:
        for hosts in options.hosts:
            print(row(measure_apart(hosts, options.containers, share, options.repeat)), flush=True)


def row(run: Json) -> str:
    each = run["seconds"] / max(1, run["moves"]) * 1e6
    return (
        f"| {run['hosts']:,} | {run['containers']:,} | {run['sources']:,} | {run['moves']:,} | {run['seconds']:.2f} s "
        f"| {each:.0f} µs | {run['peak'] / MIB:.0f} MiB | {run['input'] / MIB:.0f} MiB |"
    )


if __name__ == "__main__":
    main()
