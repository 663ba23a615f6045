# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Where things go: what each host has left, what is in use there, and how a place is found. Pure."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_facts import Host, Key, Weight
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Options
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_workloads import Workload

LOOKAHEAD = 8
"""Of so many hosts with room the one is taken that is the least loaded afterwards."""

WIDTH = 32
"""Hosts that the search tries for one workload."""

STEPS = 20_000
"""Steps back and forth of the search; with as many workloads it only goes forth."""

SEARCHED = 200
"""With more workloads no search is made for ports and addresses alone, nor all hosts tried for those left over."""

PATIENCE = 64
"""Once a plan is refused: hosts without room that are looked at for one workload."""

Rank = tuple[t.Any, ...]
Left = tuple[int, int, int]
"""Bytes of memory, on the containers' file system, and where archives are spooled."""


class Place:
    """One destination: what it has left of what can be planned with."""

    def __init__(self, index: int, host: Host, rank: int) -> None:
        room = host.room
        self.index = index
        self.host = host
        self.rank = rank
        self.memory, self.disk, self.spool = self.initial = (room.memory, room.disk, room.spool)
        self.peak = 0
        # CRIU's images lie beside the container, and the archive where podman spools, while a container arrives.
        self._disk_growth = 1 if room.spool_apart else 2
        self._spool_growth = 1 if room.spool_apart else 0
        self._memory_lasting = 1 if room.disk_in_memory else 0
        self._memory_growth = self._memory_lasting * self._disk_growth
        self._memory_growth += 1 if room.spool_apart and room.spool_in_memory else 0

    def after(self, weight: Weight, parallel: int) -> Left:
        """What it has left with one more.

        :param parallel: as many as the largest one arrive at once.
        """
        growth = max(0, weight.archive - self.peak) * parallel
        return (
            self.memory - weight.memory - self._memory_lasting * weight.lasting - self._memory_growth * growth,
            self.disk - weight.lasting - self._disk_growth * growth,
            self.spool - self._spool_growth * growth,
        )

    def load(self, left: Left) -> float:
        """The share that is taken, of what it is taken most of."""
        return max((was - now) / was if was else (math.inf if now else 0.0) for was, now in zip(self.initial, left))

    @property
    def left(self) -> Left:
        return (self.memory, self.disk, self.spool)


class Order(t.NamedTuple):
    """How hosts are ranked.

    :param start: less than the key of any host that can take a workload.
    """

    key: t.Callable[[Place], Rank]
    start: t.Callable[[Workload], Rank]


class Ranking:
    """Hosts in the order of a key, the last item of which is their index; those of each kind by themselves.

    :param kinds: of each host. Whole kinds are passed over where most hosts do not fit.
    """

    def __init__(self, places: Sequence[Place], kinds: Sequence[int], order: Order) -> None:
        self._key, self._start = order
        self._kinds = kinds
        self._current = [self._key(place) for place in places]
        self._sorted: list[list[Rank]] = [[] for _kind in range(max(kinds, default=-1) + 1)]
        for rank in sorted(self._current):
            self._sorted[kinds[rank[-1]]].append(rank)

    def update(self, place: Place) -> None:
        ranks = self._sorted[self._kinds[place.index]]
        del ranks[bisect.bisect_left(ranks, self._current[place.index])]
        self._current[place.index] = self._key(place)
        bisect.insort(ranks, self._current[place.index])

    def indices(self, workload: Workload) -> Iterator[int]:
        """The hosts for a workload, of kinds that fit it."""
        start = self._start(workload)
        lists = [self._sorted[kind] for kind in workload.kinds]
        for rank in heapq.merge(*(itertools.islice(ranks, bisect.bisect_left(ranks, start), None) for ranks in lists)):
            yield rank[-1]


def spread_order(workloads: Sequence[Workload], parallel: int) -> Order:
    """The least loaded first, if one more came that is as these are on average; so those that are full come last."""
    count = max(1, len(workloads))
    average = Weight(
        sum(workload.weight.memory for workload in workloads) // count,
        sum(workload.weight.lasting for workload in workloads) // count,
        sum(workload.weight.archive for workload in workloads) // count,
    )
    return Order(
        key=lambda place: (place.rank, place.load(place.after(average, parallel)), -place.memory, place.index),
        start=lambda workload: (),
    )


PACKED = Order(
    key=lambda place: (place.memory, place.disk, place.index),
    start=lambda workload: (workload.weight.memory,),
)
"""The fullest first that have memory enough."""


@dataclass
class Choice:
    """Where a workload goes.

    :param how: origin, preferred, spread, packed, or overfull for a host that has no room for it.
    """

    workload: Workload
    index: int
    how: str


@dataclass
class Placement:
    """:param short: those that find no room.
    :param stuck: those whose ports, names and the like are in use on all that are left.
    """

    choices: list[Choice] = field(default_factory=list)
    short: list[Workload] = field(default_factory=list)
    stuck: list[Workload] = field(default_factory=list)


class Ledger:
    """What all destinations have left, and what is in use on them.

    :param kinds: of each of these hosts; those of one kind are alike.
    :param held: for each key that a workload asks about, how many on which host have it.
    """

    def __init__(
        self, hosts: Sequence[Host], kinds: Sequence[int], options: Options, held: Mapping[Key, Mapping[int, int]]
    ) -> None:
        self.places = [Place(index, host, options.rank(host.name)) for index, host in enumerate(hosts)]
        self.looked = 0
        self._kinds = kinds
        self._held = {key: dict(counts) for key, counts in held.items()}
        self.parallel = options.parallel
        self._spreads = options.spread == "require"
        self._rigid = frozenset(place.index for place in self.places if not place.host.profile.closes)
        self.rank_by(PACKED)

    def rank_by(self, order: Order) -> None:
        self._ranking = Ranking(self.places, self._kinds, order)

    def users(self, key: Key) -> t.AbstractSet[int]:
        """The hosts on which it is in use."""
        return self._held.get(key, {}).keys()

    def count(self, key: Key, index: int) -> int:
        """How many on a host have it."""
        return self._held.get(key, {}).get(index, 0)

    def in_use(self, workload: Workload) -> Iterator[tuple[Key, t.AbstractSet[int]]]:
        """What the workload must have, with the hosts on which that is in use."""
        for key in workload.firm:
            yield key, self.users(key)
        for key in workload.addresses:
            yield key, self._rigid & self.users(key)
        for key in workload.groups if self._spreads else ():
            yield key, self.users(key)

    def conflicts(self, workload: Workload) -> set[int]:
        """Hosts on which something of that is in use."""
        return set().union(*(hosts for _key, hosts in self.in_use(workload)))

    def reachable(self, workload: Workload, conflicts: t.Collection[int]) -> bool:
        """Whether there is a host that it could go to if that had room."""
        if workload.only is not None:
            return workload.only not in workload.barred and workload.only not in conflicts
        return len(workload.barred.union(conflicts)) < len(self.places)

    def fits(self, workload: Workload, index: int) -> bool:
        return min(self.places[index].after(workload.weight, self.parallel)) >= 0

    def candidates(
        self, workload: Workload, conflicts: t.Collection[int], patience: int | None = None, *, roomy: bool = True
    ) -> Iterator[tuple[int, Left]]:
        """Hosts that can take it, in the order of the ranking, and what they have left then.

        :param patience: so many that could take it if they had room are looked at.
        :param roomy: only those that have room.
        """
        barred = workload.barred
        fitting = (i for i in self._ranked(workload) if i not in barred and i not in conflicts)
        for index in itertools.islice(fitting, patience):
            self.looked += 1
            left = self.places[index].after(workload.weight, self.parallel)
            if not roomy or min(left) >= 0:
                yield index, left

    def _ranked(self, workload: Workload) -> Iterator[int]:
        return self._ranking.indices(workload) if workload.only is None else iter((workload.only,))

    def take(self, workload: Workload, index: int) -> int:
        """Returns what ``release`` asks for."""
        place = self.places[index]
        before = place.peak
        place.memory, place.disk, place.spool = place.after(workload.weight, self.parallel)
        place.peak = max(before, workload.weight.archive)
        for key in workload.held:
            counts = self._held.setdefault(key, {})
            counts[index] = counts.get(index, 0) + 1
        self._ranking.update(place)
        return before

    def release(self, workload: Workload, index: int, before: int) -> None:
        """Undo the last ``take`` of this host."""
        place = self.places[index]
        place.peak = before
        # With the peak as it was, it takes the same amounts again.
        left = place.after(workload.weight, self.parallel)
        place.memory, place.disk, place.spool = (2 * now - then for now, then in zip(place.left, left))
        for key in workload.held:
            counts = self._held[key]
            counts[index] -= 1
            if not counts[index]:
                del counts[index]
        self._ranking.update(place)


def place_all(ledger: Ledger, workloads: Sequence[Workload]) -> Placement:
    """Spread them if that is possible, else pack them, else say what does not fit; the ledger keeps the last."""
    ledger.rank_by(spread_order(workloads, ledger.parallel))
    spread, taken = _spread_out(ledger, workloads)
    if not spread.short and (not spread.stuck or len(workloads) > SEARCHED):
        return spread
    _undo(ledger, taken)
    ledger.rank_by(PACKED)
    found = _search(ledger, workloads) if _may_fit(ledger, workloads) else None
    if found is not None:
        return Placement([Choice(workload, index, "packed") for workload, index in found])
    if spread.short:
        return _overfill(ledger, workloads)
    ledger.rank_by(spread_order(workloads, ledger.parallel))
    return _spread_out(ledger, workloads)[0]


def _may_fit(ledger: Ledger, workloads: Sequence[Workload]) -> bool:
    """Whether there is room in sum; if not, no order of placing them helps."""
    memory = sum(workload.weight.memory for workload in workloads)
    lasting = sum(workload.weight.lasting for workload in workloads)
    places = ledger.places
    return memory <= sum(place.memory for place in places) and lasting <= sum(place.disk for place in places)


Taken = list[tuple[Workload, int, int]]


def _undo(ledger: Ledger, taken: Taken) -> None:
    while taken:
        ledger.release(*taken.pop())


def _spread_out(ledger: Ledger, workloads: Sequence[Workload]) -> tuple[Placement, Taken]:
    """The important ones first, each where it is loaded the least; stops where one finds no room."""
    placement, taken = Placement(), Taken()
    for workload in sorted(workloads, key=lambda workload: workload.order):
        conflicts = ledger.conflicts(workload)
        choice = _choose(ledger, workload, conflicts)
        if choice is not None:
            taken.append((workload, choice.index, ledger.take(workload, choice.index)))
            placement.choices.append(choice)
        elif ledger.reachable(workload, conflicts):
            placement.short.append(workload)
            break
        else:
            placement.stuck.append(workload)
    return placement, taken


def _choose(ledger: Ledger, workload: Workload, conflicts: set[int]) -> Choice | None:
    origin = workload.origin
    if origin is not None and origin not in workload.barred and origin not in conflicts:
        if ledger.fits(workload, origin):
            return Choice(workload, origin, "origin")
    found = list(itertools.islice(ledger.candidates(workload, conflicts), LOOKAHEAD))
    if not found:
        return None
    index, _left = min(found, key=lambda one: _merit(ledger, workload, *one))
    others = max(ledger.places[other].rank for other, _left in found)
    how = "preferred" if ledger.places[index].rank < others else "spread"
    return Choice(workload, index, how)


def _merit(ledger: Ledger, workload: Workload, index: int, left: Left) -> Rank:
    """The less, the better. The spread of a group comes before the load where it is no must."""
    place = ledger.places[index]
    together = sum(ledger.count(key, index) for key in workload.groups)
    return (place.rank, together, place.load(left), -left[0], index)


def _search(ledger: Ledger, workloads: Sequence[Workload]) -> list[tuple[Workload, int]] | None:
    """The largest first, each where it just fits, and back where one finds no place; None if that takes too long."""
    workloads = sorted(workloads, key=lambda workload: workload.size_order)
    steps = max(len(workloads) + 1, STEPS)
    taken: Taken = []
    untried: list[list[int]] = []
    while len(taken) < len(workloads):
        workload = workloads[len(taken)]
        if len(untried) == len(taken):
            found = itertools.islice(ledger.candidates(workload, ledger.conflicts(workload)), WIDTH)
            untried.append([index for index, _left in found][::-1])
        steps -= 1
        if untried[-1] and steps > 0:
            index = untried[-1].pop()
            taken.append((workload, index, ledger.take(workload, index)))
        elif taken and steps > 0:
            untried.pop()
            ledger.release(*taken.pop())
        else:
            _undo(ledger, taken)
            return None
    return [(workload, index) for workload, index, _before in taken]


def _overfill(ledger: Ledger, workloads: Sequence[Workload]) -> Placement:
    """Place what fits, and the rest where the least is missing: the ledger then tells how much, and where."""
    placement = Placement()
    rest = []
    for workload in sorted(workloads, key=lambda workload: workload.size_order):
        found = ledger.candidates(workload, ledger.conflicts(workload), PATIENCE)
        index, _left = next(found, (None, None))
        if index is None:
            rest.append(workload)
        else:
            ledger.take(workload, index)
            placement.choices.append(Choice(workload, index, "packed"))
    ledger.rank_by(spread_order(rest, ledger.parallel))
    for workload in rest:
        _squeeze_in(ledger, workload, placement, thorough=len(rest) <= SEARCHED)
    return placement


def _squeeze_in(ledger: Ledger, workload: Workload, placement: Placement, *, thorough: bool) -> None:
    conflicts = ledger.conflicts(workload)
    fitting = ledger.candidates(workload, conflicts) if thorough else iter(())
    near = list(itertools.islice(fitting, 1))
    near = near or list(itertools.islice(ledger.candidates(workload, conflicts, roomy=False), LOOKAHEAD))
    if not near:
        placement.stuck.append(workload)
        return
    index, left = min(near, key=lambda one: (_shortfall(one[1]), one[0]))
    ledger.take(workload, index)
    fits = min(left) >= 0
    placement.choices.append(Choice(workload, index, "packed" if fits else "overfull"))
    if not fits:
        placement.short.append(workload)


def _shortfall(left: Left) -> int:
    return sum(-one for one in left if one < 0)
