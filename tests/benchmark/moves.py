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
import os
import pathlib
import sys
import time
import typing as t
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/lab"), str(ROOT / "tests/benchmark")]

from asking import Client  # noqa: E402
from document import write  # noqa: E402
from helpers import Node, alone_with, forget_neighbour, node_of, parsed, wait_until  # noqa: E402
from moves_text import Load, Sample, Samples, told  # noqa: E402

NODES = ("node3", "node4")
SCRATCH = "/root/bench-moves"
NAME = "bench-moves"
ADDRESS = "10.99.0.198"
PORT = 7001
WAYS = ("recipe", "plain recipe", "stream", "thin", "auto", "floor")
SIZES = (0, 100, 500, 1000, 2000)
LINKS = {"1gbit": 400, "100mbit": 100}
"""Megabytes that go over a link that is so fast."""

LINK_WAYS = ("thin none", "thin zstd", "auto")
LINK_ROUNDS = 3
VOLUME_WAYS = ("recipe", "auto never", "auto")
VOLUME_MEGABYTES = 500
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

DUMP = """
dump() {{
    for try in 1 2 3 4 5 6 7 8; do
        podman container checkpoint "$@" --tcp-established --file-locks {name} >/dev/null && return
        sleep 0.13
    done
    return 1
}}
"""
"""A client that is just connecting makes CRIU refuse; whoever runs the recipe tries it again."""

RECIPE = """
dump --export {scratch}/x.tar {compress}
scp -q {options} {scratch}/x.tar root@{there}:{scratch}/
ssh {options} root@{there} podman container restore --import {scratch}/x.tar --tcp-established --file-locks >/dev/null
podman rm {name} >/dev/null
[ -z "{volume}" ] || podman volume rm {volume} >/dev/null
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
dump
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


class Bench:
    """A container that goes back and forth."""

    def __init__(self) -> None:
        self.nodes = [node_of(name) for name in NODES]
        self.samples: Samples = {}
        self._volume = ""

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
            self._remove(node)
            node.sh(f"rm -rf {SCRATCH}; sed -i '/ bench-moves$/d' /root/.ssh/authorized_keys")
            node.sh("umount /run/bench-moves 2>/dev/null || :; tc qdisc delete dev eth0 root 2>/dev/null || :")

    # -- the container

    def _remove(self, node: Node) -> None:
        node.podman("rm", "--force", "--time", "0", "--ignore", NAME)
        node.podman("volume", "rm", "--force", NAME)

    def start(self, kind: str, megabytes: int) -> None:
        """On the host whose turn it is."""
        forget_neighbour(ADDRESS)
        for node in self.nodes:
            self._remove(node)
        self._volume = NAME if kind == "volume" else ""
        flags: tuple[str, ...] = ("--detach", "--network", "lan", "--ip", ADDRESS, "--name", NAME)
        if kind == "redis":
            self.here.podman("run", *flags, "localhost/lab/redis")
            wait_until(lambda: "PONG" in self.here.podman("exec", NAME, "redis-cli", "ping", check=False), "redis")
            self.here.podman("exec", NAME, "redis-cli", "eval", FILL, "0", str(megabytes))
            return
        flags += ("--volume", f"{NAME}:/data") if self._volume else ()
        held = 0 if self._volume else megabytes
        command = ("--entrypoint", "/usr/bin/python3", "localhost/lab/keeper", "-c", HOLDER, str(held))
        self.here.podman("run", *flags, *command)
        wait_until(lambda: "ready" in self.here.podman("logs", NAME), "the memory to be full", 120)
        if self._volume:
            fill = f"for n in $(seq {megabytes // 10}); do head -c 10000000 /dev/urandom >/data/$n; done"
            self.here.podman("exec", NAME, "sh", "-c", fill)

    # -- one move

    def measured(self, load: Load, way: str) -> Sample:
        """Move it once, and turn round."""
        self._settle()
        sent, busy = self._sent(), processors()
        with Client(ADDRESS, "redis" if load.kind == "redis" else PORT) as client:
            begun = time.monotonic()
            said, phases = self._works(way)()
            seconds = time.monotonic() - begun
            client.answered()
            downtime = client.longest
        service = max(self._service_memory(node) for node in self.nodes)
        noted = self.here.sh(f"cat {SCRATCH}/noted 2>/dev/null || :").split()
        memory = max(map(int, noted), default=0) / 1024
        sample = Sample(downtime, seconds, self._sent() - sent, processors() - busy, memory, service, said, phases)
        if way != "floor":
            self.nodes.reverse()
        if NAME not in self.here.names() or (way != "floor" and NAME in self.there.names()):
            raise SystemExit(f"{way}: the container is not where it should be.")
        self.samples.setdefault((load, way), []).append(sample)
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

    def _works(self, way: str) -> Callable[[], tuple[str, dict[str, int]]]:
        if way in ("recipe", "plain recipe"):
            return lambda: self._shell(RECIPE, compress="--compress none" if way == "plain recipe" else "")
        if way == "floor":
            return lambda: self._shell(FLOOR)
        return lambda: self._migrate(way)

    def _shell(self, script: str, **values: str) -> tuple[str, dict[str, int]]:
        options = f"-i {SCRATCH}/id -o UserKnownHostsFile={SCRATCH}/known_hosts -o BatchMode=yes"
        known = {"options": options, "scratch": SCRATCH, "name": NAME, "there": self.there.address}
        self.here.run("sh", "-euc", (DUMP + script).format(**known, volume=self._volume, **values), timeout=600)
        return "", {}

    def _migrate(self, way: str) -> tuple[str, dict[str, int]]:
        """:param way: a transfer and, behind a space, what to do about compression, or ``never`` about pre-copy."""
        transfer, _, compress = way.partition(" ")
        precopy, compress = ("never", "") if compress == "never" else ("auto", compress)
        process = self.here.start_module(
            "podman_migrate",
            extra={"ansible_python_interpreter": f"{SCRATCH}/python"},
            name=NAME,
            destination=f"ssh://root@{self.there.address}/run/podman/podman.sock",
            destination_identity=f"{SCRATCH}/id",
            destination_known_hosts=f"{SCRATCH}/known_hosts",
            transfer=transfer,
            compress=compress or ("none" if transfer == "thin" else "auto"),
            precopy=precopy,
            force=True,
        )
        result = parsed(*process.communicate(timeout=600))
        if result.failed:
            raise SystemExit(f"{way}: {result.msg}")
        values = result.values
        phases = " ".join(f"{name} {taken}" for name, taken in values["phases"].items())
        said = f"{values['transfer']} {values['compression']} {values['downtime_ms']} ms: {phases}"
        return said, values["phases"]

    # -- rounds

    def rounds(self, load: Load, ways: t.Sequence[str], number: int) -> None:
        """Each way in turn, so often."""
        self.start(load.kind, load.megabytes)
        # The first move of a container finds nothing in any cache.
        self._migrate_once()
        self.shape(load.link)
        for turn in range(number):
            for way in in_turn(ways, turn):
                print(f"{load} {turn + 1} {way:14} {self.measured(load, way)}", flush=True)
        self.shape("")
        for node in self.nodes:
            self._remove(node)

    def _migrate_once(self) -> None:
        self._migrate("stream")
        self.nodes.reverse()

    def shape(self, rate: str) -> None:
        """Have both hosts send no faster than this; empty text for no limit."""
        for node in self.nodes:
            node.sh("tc qdisc delete dev eth0 root 2>/dev/null || :")
            if rate:
                node.sh(f"tc qdisc add dev eth0 root tbf rate {rate} burst 256kb latency 50ms")


def in_turn(ways: t.Sequence[str], turn: int) -> list[str]:
    """The ways in an order of that round's own, so that each comes behind every other one about equally often.

    What comes behind a large move finds memory slow to get. The orders are rows of a Williams square.
    """
    number = len(ways)
    steps = [(step + 1) // 2 if step % 2 else -step // 2 for step in range(number)]
    order = [ways[(step + turn) % number] for step in steps]
    return order[::-1] if number % 2 and turn % 2 else order


def processors() -> float:
    """Seconds that this machine's processors have worked since its boot."""
    values = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(values[3]) + int(values[4])
    return (sum(map(int, values[:8])) - idle) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is gone (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="megabytes of memory")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), help="of " + ", ".join(WAYS))
    parser.add_argument("--kind", choices=("random", "redis", "volume"), default="random", help="of what moves")
    parser.add_argument("--link", default="", help="have the link so fast, such as 1gbit")
    parser.add_argument("--short", action="store_true", help="0 and 500 MB in two rounds")
    options = parser.parse_args()
    # Anything else than the whole is for a look, and writes nothing.
    whole = len(sys.argv) == 1
    with alone_with(*NODES):
        bench = Bench()
        bench.prepare()
        try:
            if whole:
                everything(bench, options.rounds)
            else:
                rounds, sizes = (2, [0, 500]) if options.short else (options.rounds, options.sizes)
                for size in sizes:
                    bench.rounds(Load(options.kind, size, options.link), options.ways, rounds)
        finally:
            bench.clean()
    if whole:
        text, picture = told(bench.samples, describe(bench.here))
        (ROOT / "docs/moves.svg").write_text(picture, encoding="utf-8")
        write("moves", text)
        print(text)
    return 0


def everything(bench: Bench, rounds: int) -> None:
    for size in SIZES:
        bench.rounds(Load("random", size), WAYS, rounds)
    bench.rounds(Load("redis", 500), WAYS, rounds)
    bench.rounds(Load("volume", VOLUME_MEGABYTES), VOLUME_WAYS, rounds)
    for link, size in LINKS.items():
        for kind in ("random", "redis"):
            bench.rounds(Load(kind, size, link), LINK_WAYS, LINK_ROUNDS)


def describe(node: Node) -> str:
    """The machine and the versions of what takes part."""
    model = next(line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    versions = node.sh("podman --version; crun --version | head -1; criu --version | head -1; ssh -V 2>&1").split("\n")
    podman, crun, criu, ssh = (line.strip() for line in versions[:4])
    kernel = os.uname().release.partition("-")[0]
    return (
        f"{os.cpu_count()} cores ({model.partition(':')[2].strip()}) for both hosts together, kernel {kernel}, "
        f"{podman}, {crun}, CRIU {criu.split()[-1]}, {ssh.partition(',')[0]}"
    )


if __name__ == "__main__":
    sys.exit(main())
