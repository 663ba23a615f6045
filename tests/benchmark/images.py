#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Time and memory of checkpoint images, beside buildah on the same work. Writes a section of docs/benchmarks.md.

The lab must be up. The container, its archives and all images are removed again, from the node and the registry.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import sys
import time
import typing as t
import uuid
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/lab")]

from document import write  # noqa: E402
from ferrylab.plan import REGISTRY_ADDRESS, REGISTRY_PORT  # noqa: E402
from helpers import LAB, Node, Result, alone_with, node_of, parsed, run, wait_until  # noqa: E402

SCRATCH = "/root/bench-images"
REGISTRY = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"
STORAGE = "/var/lib/docker-registry/docker/registry/v2"
LIMIT = 100  # MB of memory that a module may take
MEGABYTE = 1 << 20

HOLDER = """
import os, sys, time
size = int(sys.argv[1])
# Every other megabyte is random; the rest is like a table of records, of which zstd leaves about a sixth.
memory = [
    bytearray(os.urandom(1 << 20) if number % 2 else b"".join(b"%08d %s\\n" % (line, os.urandom(2).hex().encode())
        for line in range(number << 16, (number << 16) + 75000))[:1 << 20].ljust(1 << 20))
    for number in range(size)
]
print("ready", flush=True)
while True:
    time.sleep(1)
"""
"""What runs in the container."""

MEASURE = f"""#!/usr/bin/python3 -I
# Runs a program (as "python": Python, for Ansible) and notes seconds, and kilobytes of its largest process.
import json, resource, subprocess, sys, time
program = sys.argv[1:] if sys.argv[0].endswith("measure") else ["/usr/bin/python3", *sys.argv[1:]]
begin = time.monotonic()
code = subprocess.call(program)
seconds = time.monotonic() - begin
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
noted = dict(seconds=seconds, memory=usage.ru_maxrss, cpu=usage.ru_utime + usage.ru_stime)
with open("{SCRATCH}/noted", "w") as file:
    json.dump(noted, file)
sys.exit(code)
"""

BUILDAH = """
container=$(buildah from scratch)
buildah add --quiet "$container" "$1" / >/dev/null
name=$2; shift 2
for pair; do
    set -- "$@" --annotation "$pair"; shift
done
buildah config "$@" "$container"
buildah commit --quiet "$container" "$name" >/dev/null
buildah rm "$container" >/dev/null
"""
"""What checkpointctl's build does: ARCHIVE NAME KEY=VALUE..."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run.

    ``seconds``, ``cpu`` and ``memory`` (MB) are of the process on the node, ``service`` is the memory of podman's,
    ``whole`` the seconds that the user waits.
    """

    seconds: float
    cpu: float
    memory: float
    service: float
    whole: float


Samples = dict[str, list[Sample]]


class Bench:
    """The work on one node.

    :param megabytes: of the container's memory.
    """

    def __init__(self, node: Node, megabytes: int) -> None:
        self.node = node
        self.megabytes = megabytes
        self.samples: Samples = {}
        self.annotations: dict[str, str] = {}
        self.repository = f"{REGISTRY}/ferry/bench-{uuid.uuid4().hex[:8]}"
        self.sizes: dict[str, int] = {}
        (self._service,) = node.sh("pgrep -of 'podman system [s]ervice'").split()

    # -- one run

    def timed(self, what: str, work: Callable[[], object]) -> None:
        """Note one run, for which what was written before has reached the disk."""
        self.node.sh(f"sync; echo 5 >/proc/{self._service}/clear_refs")
        begin = time.monotonic()
        work()
        whole = time.monotonic() - begin
        noted = json.loads(self.node.sh(f"cat {SCRATCH}/noted"))
        service = int(self.node.sh(f"sed -n 's/VmHWM:\\s*\\([0-9]*\\).*/\\1/p' /proc/{self._service}/status"))
        sample = Sample(noted["seconds"], noted["cpu"], noted["memory"] / 1024, service / 1024, whole)
        self.samples.setdefault(what, []).append(sample)
        print(
            f"{what:34} {sample.seconds:6.2f} s, {sample.cpu:6.2f} s of CPU, {sample.memory:4.0f} MB,"
            f" service {sample.service:4.0f} MB, in all {whole:6.2f} s",
            flush=True,
        )

    def image(self, tag: str, **options: t.Any) -> Result:
        extra = {"ansible_python_interpreter": f"{SCRATCH}/python"}
        options = {"name": f"{self.repository}:{tag}", **options}
        process = self.node.start_module("checkpoint_image", extra=extra, **options)
        result = parsed(*process.communicate(timeout=300))
        if not result.changed:
            raise SystemExit(f"checkpoint_image {options}: {result.msg or 'nothing changed'}")
        return result

    def buildah(self, archive: str, tag: str) -> None:
        pairs = [f"{key}={value}" for key, value in self.annotations.items()]
        name = f"{self.repository}:{tag}"
        self.node.run(f"{SCRATCH}/measure", "sh", "-euc", BUILDAH, "sh", archive, name, *pairs, timeout=300)

    def remove(self, *tags: str) -> None:
        self.node.podman("rmi", "--force", *(f"{self.repository}:{tag}" for tag in tags))

    # -- the whole

    def prepare(self) -> None:
        """Freeze the container into both archives."""
        node = self.node
        node.sh(f"rm -rf {SCRATCH}; mkdir {SCRATCH}")
        node.run("tee", f"{SCRATCH}/measure", stdin=MEASURE)
        node.sh(f"chmod 755 {SCRATCH}/measure; ln -s measure {SCRATCH}/python")
        name = self.repository.rpartition("/")[2]
        command = ("--entrypoint", "/usr/bin/python3", "localhost/lab/keeper", "-c", HOLDER, str(self.megabytes))
        node.podman("run", "--detach", "--network", "none", "--name", name, *command)
        try:
            wait_until(lambda: "ready" in node.podman("logs", name), "the memory to be full", 120)
            for compress, path in ARCHIVES.items():
                done = node.start_module(
                    "podman_checkpoint", name=[name], dest=path, compress=compress, leave_running=True
                )
                result = parsed(*done.communicate(timeout=300))
                if result.failed:
                    raise SystemExit(f"podman_checkpoint: {result.msg}")
                self.sizes[compress] = result.one["size"]
        finally:
            node.podman("rm", "--force", "--time", "0", name)
        self._learn_annotations()

    def _learn_annotations(self) -> None:
        """buildah gets the annotations that the module gives."""
        self.image("first", src=ARCHIVES["none"])
        (found,) = json.loads(self.node.podman("image", "inspect", f"{self.repository}:first"))
        self.annotations = found["Annotations"]
        self.remove("first")

    def round(self) -> None:
        """Everything once."""
        for compress, path in ARCHIVES.items():
            self.timed(f"build {compress}", functools.partial(self.image, "single", src=path))
            self.timed(f"buildah {compress}", functools.partial(self.buildah, path, "buildah"))
            self.remove("buildah", *(["single"] if compress == "zstd" else []))
        self.timed("layered", lambda: self.image("layered", src=ARCHIVES["none"], layout="layered"))
        self.remove("layered")
        self.timed("convert", lambda: self.image("layered", image=f"{self.repository}:single", layout="layered"))
        self.remove("layered")
        dest = f"{SCRATCH}/again.tar.zst"
        self.timed("save", lambda: self.image("single", dest=dest))
        self.node.sh(f"rm {dest}")
        self.push()
        self.remove("single")

    def push(self) -> None:
        """To a registry that has nothing of it, and of which podman remembers nothing."""
        self.node.sh("rm -f /var/lib/containers/cache/blob-info-cache-*")
        self.timed("push", lambda: self.image("single", push=True, registry_tls_verify=False))
        empty_registry(self.repository)

    def finish(self) -> None:
        self.node.sh(f"rm -rf {SCRATCH}")
        left = self.node.podman("images", "--quiet", "--filter", f"reference={self.repository}").split()
        if left:
            self.node.podman("rmi", "--force", *left)


ARCHIVES = {"zstd": f"{SCRATCH}/checkpoint.tar.zst", "none": f"{SCRATCH}/checkpoint.tar"}


def empty_registry(repository: str) -> None:
    """Remove a repository with all that is in it: nobody else has blobs of random memory."""
    path = f"{STORAGE}/repositories/{repository.partition('/')[2]}"
    script = f"""
        for link in {path}/_layers/sha256/*; do
            digest=${{link##*/}}
            rm -rf {STORAGE}/blobs/sha256/$(echo $digest | cut -c 1-2)/$digest
        done
        rm -rf {path}
    """
    run(LAB, "exec", "registry", "--", "sh", "-euc", script)


# -- what is told -------------------------------------------------------------------------------------------------

ROWS = {
    "build zstd": "build: archive (zstd) to image",
    "buildah zstd": "the same by buildah",
    "build none": "build: archive (not compressed) to image",
    "buildah none": "the same by buildah",
    "layered": "build: archive (not compressed) to image, layered",
    "convert": "convert: image to layered image",
    "save": "convert: image to archive (zstd)",
    "push": "push: image to registry",
}


def median(samples: list[Sample], field: str) -> float:
    return float(statistics.median(getattr(sample, field) for sample in samples))


def table(samples: Samples) -> str:
    lines = [
        "| work | time | of it CPU | memory | with Ansible | podman's service |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for key, label in ROWS.items():
        found = samples[key]
        ours = not key.startswith("buildah")
        spread = f"{min(s.seconds for s in found):.1f} – {max(s.seconds for s in found):.1f}"
        cells = [
            f"{median(found, 'seconds'):.1f} s ({spread})",
            f"{median(found, 'cpu'):.1f} s",
            f"{max(s.memory for s in found):.0f} MB",
            f"{median(found, 'whole'):.1f} s" if ours else "",
            f"{max(s.service for s in found):.0f} MB" if ours else "",
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(samples: Samples) -> dict[str, float]:
    """How long our build takes for each second of buildah's."""
    return {
        compress: median(samples[f"build {compress}"], "seconds") / median(samples[f"buildah {compress}"], "seconds")
        for compress in ARCHIVES
    }


def machine(node: Node) -> str:
    processor = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    versions = node.sh("podman --version; buildah --version | cut -d ' ' -f 1-3; python3 --version; uname -r").split(
        "\n"
    )
    podman, buildah, python, kernel = versions[:4]
    return (
        f"{os.cpu_count()} cores ({processor}), kernel {kernel.split('-')[0]}, {podman.replace(' version', '')},"
        f" {buildah.replace(' version', '')}, {python}"
    )


def section(bench: Bench, rounds: int) -> str:
    ratio = ratios(bench.samples)
    sizes = {key: size / MEGABYTE for key, size in bench.sizes.items()}
    return f"""\
## Checkpoint images

What `ferry.podman.checkpoint_image` takes for a container with {bench.megabytes} MB of memory, half of it random.
Its archive has {sizes["none"]:.0f} MB, or {sizes["zstd"]:.0f} MB with zstd. buildah does what checkpointctl has it do:
`from scratch`, `add ARCHIVE /`, `config --annotation`, `commit`.

{table(bench.samples)}

Our build takes **{ratio["zstd"]:.2f}** times as long as buildah's of the archive with zstd, and **{ratio["none"]:.2f}**
times of the one that is not compressed.

- Times are medians of {rounds} rounds, with the least and the most. In each round everything runs once, in this order,
  after a `sync`; what it has made is removed again.
- *Time*, *CPU* and *memory* are of the process on the host: the Python that Ansible starts there, from its start to its
  end, or the shell with buildah's commands. *With Ansible* is what somebody waits who runs `ansible -m` on another
  machine. Memory is the most that one process had in any round (`ru_maxrss`, in MB of 1024 KB); files that the kernel
  caches do not count.
- For the module podman's service does a part of the work: it is in the time, not in *CPU* and *memory*. Its own memory
  is in the last column (`VmHWM`, reset before each run).
- About half a second of each run of the module is Python's start, which counts more with smaller archives.
- The registry has nothing of the image before a push, and podman does not remember any that has.

Measured on one host of [the lab](../tests/lab/README.md): {machine(bench.node)}. Do it again, in some ten minutes, with

    tests/lab/lab up --flavour mixed
    make bench-images

`make bench-images OPTIONS=--short` is over in a minute, and writes nothing here.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="node1", help="the host of the lab (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything runs (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=1000, help="memory of the container (%(default)s)")
    parser.add_argument("--short", action="store_true", help="one round with 100 MB, and nothing is written")
    options = parser.parse_args()
    rounds, megabytes = (1, 100) if options.short else (options.rounds, options.megabytes)
    with alone_with(options.node):
        bench = Bench(node_of(options.node), megabytes)
        try:
            bench.prepare()
            for _round in range(rounds):
                bench.round()
            text = section(bench, rounds)
        finally:
            bench.finish()
    print(text)
    if not options.short:
        write("checkpoint images", text)
    most = max(s.memory for key, found in bench.samples.items() if not key.startswith("buildah") for s in found)
    if most >= LIMIT:
        print(f"A module had {most:.0f} MB of memory, where less than {LIMIT} MB is promised.")
    return int(most >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
