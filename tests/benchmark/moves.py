#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""How long a client waits while a container moves: by podman's own commands, and by each way of podman_migrate.

Writes a section of docs/benchmarks.md, and docs/moves.svg. The lab must be up, with four hosts. One container for each
size of memory goes back and forth between two of them, by each way in turn, and a client on this machine asks it every
20 ms.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys
import time
import typing as t
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/lab"), str(ROOT / "tests/benchmark")]

from asking import Client  # noqa: E402
from helpers import Node, alone_with, forget_neighbour, node_of, parsed, wait_until  # noqa: E402

NODES = ("node3", "node4")
SCRATCH = "/root/bench-moves"
NAME = "bench-moves"
ADDRESS = "10.99.0.198"
PORT = 7001
LINES = ("plain recipe", "recipe", "stream", "thin", "floor")
WAYS = ("recipe", "plain recipe", "stream", "thin", "auto", "floor")
KINDS = ("random", "redis")
SIZES = (0, 100, 500, 1000, 2000)
BARS = {("thin", "recipe", 1000): 0.25, ("thin", "floor", 1000): 1.25, ("auto", "recipe", 0): 0.5}
MEGABYTE = 1_000_000

HOLDER = """
import os, socket, sys
size = int(sys.argv[1])
held = [os.urandom(1000000) for _ in range(size)]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7001))
print("ready", flush=True)
while True:
    question, client = server.recvfrom(64)
    server.sendto(question, client)
"""
"""Holds memory that nobody can compress, and answers every datagram with itself."""

FILL = """
for megabyte = 1, ARGV[1] do
    for part = 1, 100 do
        local key = megabyte * 100 + part
        redis.call("set", "user:" .. key, string.rep("{name=" .. key .. ",state=active,visits=", 280))
    end
end
"""
"""Memory as databases have it: most of it alike."""

RECIPE = """
podman container checkpoint --export {scratch}/x.tar {compress} --tcp-established --file-locks {name} >/dev/null
scp -q {options} {scratch}/x.tar root@{there}:{scratch}/
ssh {options} root@{there} podman container restore --import {scratch}/x.tar --tcp-established --file-locks >/dev/null
podman rm {name} >/dev/null
rm {scratch}/x.tar
ssh {options} root@{there} rm {scratch}/x.tar
"""

FLOOR = """
directory=$(podman inspect --format '{{{{.OCIConfigPath}}}}' {name})
link=${{directory%/config.json}}/checkpoint
mkdir -p /run/bench-moves
mountpoint -q /run/bench-moves || mount -t tmpfs -o size=90%,mode=700 bench /run/bench-moves
mkdir /run/bench-moves/images
ln -s /run/bench-moves/images $link
podman container checkpoint --tcp-established --file-locks {name} >/dev/null
podman container restore --tcp-established --file-locks {name} >/dev/null
rm -rf $link /run/bench-moves/images
"""
"""CRIU into memory and back, on one host: what no transfer can be quicker than."""

NOTING = f"""#!/usr/bin/python3 -I
# Runs Python for Ansible and notes what it took.
import json, resource, subprocess, sys
code = subprocess.call(["/usr/bin/python3", *sys.argv[1:]])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("{SCRATCH}/noted", "a") as file:
    print(usage.ru_maxrss, file=file)
sys.exit(code)
"""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One move.

    :param downtime: seconds between two answers that a client got, at most.
    :param seconds: from its begin to its end.
    :param sent: bytes that left the source.
    :param cpu: seconds of all processors of the machine.
    :param memory: megabytes of the module's process at most; 0 for podman's own commands.
    :param service: megabytes of both hosts' podman services at most.
    """

    downtime: float
    seconds: float
    sent: int
    cpu: float
    memory: float
    service: float
    said: str = ""


Samples = dict[tuple[str, int, str], list[Sample]]


class Bench:
    """A container that goes back and forth."""

    def __init__(self) -> None:
        self.nodes = [node_of(name) for name in NODES]
        self.samples: Samples = {}

    @property
    def here(self) -> Node:
        return self.nodes[0]

    @property
    def there(self) -> Node:
        return self.nodes[1]

    def prepare(self) -> None:
        self.clean()
        for node in self.nodes:
            node.sh(f"mkdir -p {SCRATCH}")
            node.sh(f"ssh-keygen -q -t ed25519 -N '' -C bench-moves -f {SCRATCH}/id")
            node.run("tee", f"{SCRATCH}/python", stdin=NOTING)
            node.sh(f"chmod 755 {SCRATCH}/python")
        for one, other in (self.nodes, self.nodes[::-1]):
            one.run("tee", "-a", "/root/.ssh/authorized_keys", stdin=other.sh(f"cat {SCRATCH}/id.pub"))
            kind, text = one.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
            other.run("tee", f"{SCRATCH}/known_hosts", stdin=f"{one.address} {kind} {text}\n")

    def clean(self) -> None:
        for node in self.nodes:
            node.podman("rm", "--force", "--time", "0", "--ignore", NAME)
            node.sh(f"rm -rf {SCRATCH}; sed -i '/ bench-moves$/d' /root/.ssh/authorized_keys")
            node.sh("umount /run/bench-moves 2>/dev/null || :; tc qdisc delete dev eth0 root 2>/dev/null || :")

    # -- the container

    def start(self, kind: str, megabytes: int) -> None:
        forget_neighbour(ADDRESS)
        for node in self.nodes:
            node.podman("rm", "--force", "--time", "0", "--ignore", NAME)
        flags = ("--detach", "--network", "lan", "--ip", ADDRESS, "--name", NAME)
        if kind == "redis":
            self.here.podman("run", *flags, "localhost/lab/redis")
            wait_until(lambda: "PONG" in self.here.podman("exec", NAME, "redis-cli", "ping", check=False), "redis")
            self.here.podman("exec", NAME, "redis-cli", "eval", FILL, "0", str(megabytes))
            return
        command = ("--entrypoint", "/usr/bin/python3", "localhost/lab/keeper", "-c", HOLDER, str(megabytes))
        self.here.podman("run", *flags, *command)
        wait_until(lambda: "ready" in self.here.podman("logs", NAME), "the memory to be full", 120)

    # -- one move

    def measured(self, kind: str, megabytes: int, way: str) -> Sample:
        """Move it once, and turn round."""
        self._settle()
        sent, busy = self._sent(), processors()
        with Client(ADDRESS, "redis" if kind == "redis" else PORT) as client:
            begun = time.monotonic()
            said = self._works(way)()
            seconds = time.monotonic() - begun
            client.answered()
            downtime = client.longest
        service = max(self._service_memory(node) for node in self.nodes)
        noted = self.here.sh(f"cat {SCRATCH}/noted 2>/dev/null || :").split()
        memory = max(map(int, noted), default=0) / 1024
        sample = Sample(downtime, seconds, self._sent() - sent, processors() - busy, memory, service, said)
        if way != "floor":
            self.nodes.reverse()
        if NAME not in self.here.names() or (way != "floor" and NAME in self.there.names()):
            raise SystemExit(f"{way}: the container is not where it should be.")
        self.samples.setdefault((kind, megabytes, way), []).append(sample)
        return sample

    def _settle(self) -> None:
        for node in self.nodes:
            node.sh(f"sync; rm -f {SCRATCH}/noted; for p in $(pgrep podman); do echo 5 >/proc/$p/clear_refs; done")
        time.sleep(0.5)

    def _sent(self) -> int:
        return sum(int(node.sh("cat /sys/class/net/eth0/statistics/tx_bytes")) for node in self.nodes)

    @staticmethod
    def _service_memory(node: Node) -> float:
        script = "for p in $(pgrep -f 'podman system [s]ervice'); do grep VmHWM /proc/$p/status; done"
        return max(int(line.split()[1]) for line in node.sh(script).splitlines()) / 1024

    def _works(self, way: str) -> Callable[[], str]:
        if way in ("recipe", "plain recipe"):
            return lambda: self._shell(RECIPE, compress="--compress none" if way == "plain recipe" else "")
        if way == "floor":
            return lambda: self._shell(FLOOR)
        return lambda: self._migrate(way)

    def _shell(self, script: str, **values: str) -> str:
        options = f"-i {SCRATCH}/id -o UserKnownHostsFile={SCRATCH}/known_hosts -o BatchMode=yes"
        known = {"options": options, "scratch": SCRATCH, "name": NAME, "there": self.there.address}
        self.here.run("sh", "-euc", script.format(**known, **values), timeout=600)
        return ""

    def _migrate(self, way: str) -> str:
        """:param way: a transfer and, behind a space, what to do about compression."""
        transfer, _, compress = way.partition(" ")
        process = self.here.start_module(
            "podman_migrate",
            extra={"ansible_python_interpreter": f"{SCRATCH}/python"},
            name=NAME,
            destination=f"ssh://root@{self.there.address}/run/podman/podman.sock",
            destination_identity=f"{SCRATCH}/id",
            destination_known_hosts=f"{SCRATCH}/known_hosts",
            transfer=transfer,
            compress=compress or ("none" if transfer == "thin" else "auto"),
            force=True,
        )
        result = parsed(*process.communicate(timeout=600))
        if result.failed:
            raise SystemExit(f"{way}: {result.msg}")
        values = result.values
        phases = " ".join(f"{name} {taken}" for name, taken in values["phases"].items())
        return f"{values['transfer']} {values['compression']} {values['downtime_ms']} ms: {phases}"

    # -- rounds

    def rounds(self, kind: str, megabytes: int, ways: t.Sequence[str], number: int) -> None:
        self.start(kind, megabytes)
        # The first move of a container finds nothing in any cache.
        self._migrate_once()
        for turn in range(number):
            for way in ways:
                sample = self.measured(kind, megabytes, way)
                print(
                    f"{kind} {megabytes:5} MB  {turn + 1} {way:14} {sample.downtime:6.2f} s of {sample.seconds:6.2f} s,"
                    f" {sample.sent / MEGABYTE:7.1f} MB, CPU {sample.cpu:5.1f} s, {sample.memory:3.0f} MB,"
                    f" service {sample.service:4.0f} MB  {sample.said}",
                    flush=True,
                )
        for node in self.nodes:
            node.podman("rm", "--force", "--time", "0", "--ignore", NAME)

    def _migrate_once(self) -> None:
        self._migrate("stream")
        self.nodes.reverse()

    def shape(self, rate: str) -> None:
        """Have both hosts send no faster than this; empty text for no limit."""
        for node in self.nodes:
            node.sh("tc qdisc delete dev eth0 root 2>/dev/null || :")
            if rate:
                node.sh(f"tc qdisc add dev eth0 root tbf rate {rate} burst 256kb latency 50ms")

    # -- figures

    def downtime(self, kind: str, megabytes: int, way: str) -> float:
        return self.median(kind, megabytes, way, "downtime")

    def median(self, kind: str, megabytes: int, way: str, what: str) -> float:
        values: list[float] = [getattr(sample, what) for sample in self.samples[kind, megabytes, way]]
        return statistics.median(values)


def processors() -> float:
    """Seconds that this machine's processors have worked since its boot."""
    values = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(values[3]) + int(values[4])
    return (sum(map(int, values[:8])) - idle) / os.sysconf("SC_CLK_TCK")


def slope(bench: Bench, way: str) -> float:
    """Milliseconds for each megabyte, by the least squares of all medians."""
    points = [
        (size, bench.downtime(kind, size, way) * 1000)
        for kind, size, one in bench.samples
        if one == way and kind == "random"
    ]
    if len(points) < 2:
        return float("nan")
    return statistics.linear_regression(*zip(*points)).slope


def table(bench: Bench, ways: t.Sequence[str], sizes: t.Sequence[int]) -> str:
    head = "| way | " + " | ".join(f"{size} MB" for size in sizes) + " | for each MB |\n"
    head += "|---|" + "--:|" * (len(sizes) + 1) + "\n"
    rows = []
    for way in ways:
        cells = [f"{bench.downtime('random', size, way):.2f} s" for size in sizes]
        rows.append(f"| {way} | {' | '.join(cells)} | {slope(bench, way):.1f} ms |")
    return head + "\n".join(rows)


def costs(bench: Bench, ways: t.Sequence[str], kind: str, size: int) -> str:
    head = "| way | downtime | spread | from begin to end | sent | CPU | module's memory | podman's memory |\n"
    head += "|---|--:|--:|--:|--:|--:|--:|--:|\n"
    rows = []
    for way in ways:
        each = [sample.downtime for sample in bench.samples[kind, size, way]]
        most = max(sample.memory for sample in bench.samples[kind, size, way])
        rows.append(
            f"| {way} | {statistics.median(each):.2f} s | {min(each):.2f} – {max(each):.2f} | "
            f"{bench.median(kind, size, way, 'seconds'):.1f} s | "
            f"{bench.median(kind, size, way, 'sent') / MEGABYTE:.0f} MB | "
            f"{bench.median(kind, size, way, 'cpu'):.1f} s | {f'{most:.0f} MB' if most else ''} | "
            f"{bench.median(kind, size, way, 'service'):.0f} MB |"
        )
    return head + "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is gone (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="megabytes of memory")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), help="of " + ", ".join(WAYS))
    parser.add_argument("--kind", choices=KINDS, help="only this one, and nothing is written")
    parser.add_argument("--link", default="", help="shape the link, such as 1gbit; nothing is written")
    parser.add_argument("--short", action="store_true", help="few sizes, two rounds; nothing is written")
    options = parser.parse_args()
    sizes = [0, 500] if options.short else options.sizes
    rounds = 2 if options.short else options.rounds
    whole = not (options.short or options.kind or options.link) and sizes == list(SIZES)
    with alone_with(*NODES):
        bench = Bench()
        bench.prepare()
        try:
            bench.shape(options.link)
            for size in sizes:
                bench.rounds(options.kind or "random", size, options.ways, rounds)
            if whole:
                bench.rounds("redis", 500, options.ways, rounds)
        finally:
            bench.clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
