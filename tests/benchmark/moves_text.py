# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the benchmark of moves has measured, as a section of a document and as a picture."""

from __future__ import annotations

import dataclasses
import statistics

from plot import plot

MEGABYTE = 1_000_000
PLOTTED = ("recipe", "plain recipe", "stream", "thin", "auto", "floor")
NAMES = {
    "recipe": "usual recipe, zstd",
    "plain recipe": "usual recipe, not compressed",
    "stream": "ours, `stream`",
    "thin": "ours, `thin`",
    "auto": "ours, as it comes",
    "floor": "floor",
    "thin none": "`compress: none`",
    "thin zstd": "`compress: zstd`",
    "auto never": "ours, `precopy: never`",
}


@dataclasses.dataclass(frozen=True)
class Load:
    """What moves, and over which link.

    :param kind: random or redis memory, or volume: files and hardly any memory.
    :param link: as tc takes a rate; empty for as fast as it goes.
    """

    kind: str
    megabytes: int
    link: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.megabytes:5} MB {self.link}"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One move.

    :param downtime: seconds between two answers that a client got, at most.
    :param seconds: from its begin to its end.
    :param sent: bytes that both hosts sent.
    :param cpu: seconds of all processors of the machine.
    :param memory: megabytes of the module's process at most; 0 for podman's own commands.
    :param service: megabytes of a host's podman service at most.
    :param said: by the module.
    :param phases: milliseconds of each, by the module.
    """

    downtime: float
    seconds: float
    sent: int
    cpu: float
    memory: float
    service: float
    said: str = ""
    phases: dict[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.downtime:6.2f} s of {self.seconds:6.2f} s, {self.sent / MEGABYTE:7.1f} MB, CPU {self.cpu:5.1f} s, "
            f"{self.memory:3.0f} MB, service {self.service:4.0f} MB  {self.said}"
        )


Samples = dict[tuple[Load, str], list[Sample]]


def told(samples: Samples, machine: str) -> tuple[str, str]:
    """The section, and the picture."""
    figures = Figures(samples)
    lines = {NAMES[way].replace("`", ""): figures.line(way) for way in PLOTTED}
    picture = plot("Downtime over memory", "megabytes of random memory", "seconds without an answer", lines)
    return figures.section(machine), picture


class Figures:
    """Medians of what was measured."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._sizes = sorted({load.megabytes for load, _way in samples if load.kind == "random" and not load.link})
        self._rounds = max(map(len, samples.values()))
        self._link_rounds = max((len(each) for (load, _way), each in samples.items() if load.link), default=0)

    def _of(self, load: Load, way: str, what: str = "downtime") -> float:
        values: list[float] = [getattr(sample, what) for sample in self._samples[load, way]]
        return statistics.median(values)

    def line(self, way: str) -> list[tuple[float, float]]:
        return [(size, self._of(Load("random", size), way)) for size in self._sizes]

    def _slope(self, way: str) -> float:
        """Milliseconds for each megabyte, by the least squares of all medians."""
        slope: float = statistics.linear_regression(*zip(*self.line(way))).slope
        return slope * 1000

    def _ratio(self, size: int, way: str, other: str) -> float:
        return self._of(Load("random", size), way) / self._of(Load("random", size), other)

    def _downtimes(self) -> str:
        ways = ("recipe", "plain recipe", "stream", "thin", "auto", "floor")
        head = "| way | " + " | ".join(f"{size} MB" for size in self._sizes) + " | for each MB |\n"
        head += "|---|" + "--:|" * (len(self._sizes) + 1) + "\n"
        return head + "\n".join(
            f"| {NAMES[way]} | {' | '.join(f'{y:.2f} s' for _x, y in self.line(way))} | {self._slope(way):.1f} ms |"
            for way in ways
        )

    def _costs(self, load: Load) -> str:
        head = "| way | downtime | least – most | all of it | sent | CPU | module | podman |\n"
        head += "|---|--:|--:|--:|--:|--:|--:|--:|\n"
        return head + "\n".join(self._cost(load, way) for way in NAMES if (load, way) in self._samples)

    def _cost(self, load: Load, way: str) -> str:
        each = [sample.downtime for sample in self._samples[load, way]]
        module = max(sample.memory for sample in self._samples[load, way])
        return (
            f"| {NAMES[way]} | {statistics.median(each):.2f} s | {min(each):.2f} – {max(each):.2f} s | "
            f"{self._of(load, way, 'seconds'):.1f} s | {self._of(load, way, 'sent') / MEGABYTE:.0f} MB | "
            f"{self._of(load, way, 'cpu'):.1f} s | {f'{module:.0f} MB' if module else ''} | "
            f"{self._of(load, way, 'service'):.0f} MB |"
        )

    def _phases(self) -> str:
        """Where the downtime goes."""
        head = "| way | MB | freeze | transfer | restore | until a client is answered | all of it | floor |\n"
        head += "|---|--:|--:|--:|--:|--:|--:|--:|\n"
        return head + "\n".join(self._phases_of(size, way) for way in ("stream", "thin") for size in self._sizes)

    def _phases_of(self, size: int, way: str) -> str:
        load = Load("random", size)
        parts = [
            statistics.median(sample.phases[phase] for sample in self._samples[load, way]) / 1000
            for phase in ("freeze", "transfer", "restore")
        ]
        whole = self._of(load, way)
        cells = [*parts, max(0.0, whole - sum(parts)), whole, self._of(load, "floor")]
        return f"| {NAMES[way]} | {size} | {' | '.join(f'{value:.2f} s' for value in cells)} |"

    def _links(self) -> str:
        ways = ("thin none", "thin zstd", "auto")
        head = "| link | memory | none | zstd | `auto` | `auto` ÷ the better one |\n|---|---|--:|--:|--:|--:|\n"
        rows = []
        for load in dict.fromkeys(load for load, _way in self._samples if load.link):
            none, zstd, auto = (self._of(load, way) for way in ways)
            rows.append(
                f"| {load.link} | {load.megabytes} MB {load.kind} | {none:.2f} s | {zstd:.2f} s | {auto:.2f} s | "
                f"{auto / min(none, zstd):.2f} |"
            )
        return head + "\n".join(rows)

    def section(self, machine: str) -> str:
        large = self._sizes[-1]
        most = max(sample.memory for (_load, _way), each in self._samples.items() for sample in each)
        return f"""\
## Moves

For how long a client outside gets no answer while a container moves. It asks every 20 ms, and the longest gap between
two answers counts. Memory is random bytes, which nobody can compress. Medians of {self._rounds} rounds; in each round
one container goes every way once, in another order. This kernel does not track memory, so none of it goes before the
freeze.

{self._downtimes()}

![Lines of downtime over memory, one for each way; the table above has the same figures.](moves.svg)

| | ratio |
|---|--:|
| 1000 MB, `thin` ÷ usual recipe | **{self._ratio(1000, "thin", "recipe"):.2f}** |
| 1000 MB, `thin` ÷ floor | {self._ratio(1000, "thin", "floor"):.2f} |
| {large} MB, `thin` ÷ usual recipe | {self._ratio(large, "thin", "recipe"):.2f} |
| idle (0 MB), as it comes ÷ usual recipe | {self._ratio(0, "auto", "recipe"):.2f} |
| most memory of the module's process, in any move | {most:.0f} MB |

- *Usual recipe*: `podman container checkpoint --export`, `scp`, `podman container restore --import`, with podman's
  own choice of zstd and with `--compress none`.
- *Ours*: `podman_migrate` with `transfer: stream`, with `transfer: thin` and `compress: none`, and with nothing said.
  That differs from the second by `compress: auto` alone: before the freeze the link is measured, with up to 48 MiB.
- *Floor*: CRIU into memory and back on one host, by podman, without archive and transfer. Nothing that crosses a
  network comes below it.

1000 MB in more detail. *Sent* is of both hosts, *CPU* of the whole machine from the command's begin to its end (Ansible
and Python take three seconds of it), *module* the most memory of the module's process, *podman* of a podman service:

{self._costs(Load("random", 1000))}

Redis with 500 MB, nearly all of it alike:

{self._costs(Load("redis", 500))}

Where the time goes, by the phases that the module returns:

{self._phases()}

What limits it:

- *An idle container.* Podman alone needs the floor. On top of that come its export and import, each about 0.1 s more
  than a checkpoint and a restore in place: it packs and unpacks an archive, and makes the container anew. The floor has
  in it that CRIU waits for a frozen cgroup in steps of 0.1 s, and takes one in about every other freeze. What is the
  collection's own, between podman's answers, is 0.02 to 0.03 s.
- *Much memory.* Both hosts share two cores here, and the pages are encrypted on one of them and decrypted on the other
  while CRIU writes: what has not gone by the end of the freeze is *transfer*. The restore needs the memory a third time
  on this one machine, next to the images of both hosts, and the floor a second time. What was free for long is slow to
  get on a virtual machine, so a large restore right behind another one can take twice as long. Two hosts with memory of
  their own have neither.

A container with a volume of 500 MB and hardly any memory; nothing writes to it meanwhile. Podman's
API has no way to leave volumes out of a checkpoint, so the freeze has them read and packed in any case:

{self._costs(Load("volume", 500))}

Slow links, by `tc tbf` on both hosts, medians of {self._link_rounds} rounds:

{self._links()}

Measured on [the lab](../tests/lab/README.md): {machine}. Do it again, in an hour, with

    tests/lab/lab up --hosts 4 --flavour mixed
    make bench

`make bench OPTIONS=--short` is over within five minutes, and writes nothing here.
"""
