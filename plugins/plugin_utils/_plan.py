# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The plan for emptying hosts, or for having their containers return: who goes where, and why. Pure."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_facts import (
    UNIT_LABEL,
    Key,
    Member,
    containers_of,
    failure_of,
    holds,
    origin_of,
    read_host,
    read_member,
)
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import (
    Json,
    Options,
    mapping_of,
    size_text,
    some,
)
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_placement import (
    Choice,
    Ledger,
    Placement,
    place_all,
)
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_text import lines_of
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_verdicts import Pairs, Verdicts
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_workloads import (
    INVALID,
    Workload,
    set_keys,
    workloads_of,
)

IN_USE = {
    "name": "it has a container of the name {}",
    "volume": "it has a volume of the name {}",
    "port": "its port {} is in use",
    "address": "the address {} is in use there",
    "spread": "it has one of the group {}",
}

Raw = Mapping[str, t.Any]

REMEDIES = {"pod_required": "A pod moves whole and cold: give its containers the policy cold."}
"""What helps here, by the code of a finding, where that is not what helps whoever moves one container."""


class Fleet:
    """The hosts: those that things leave, and those that they may go to.

    :param raw: what ``podman_checkpoint_info`` returned, by host.
    """

    def __init__(self, raw: Raw, options: Options) -> None:
        self._options = options
        self._raw = {str(name): mapping_of(raw[name], f"hosts[{name!r}]") for name in sorted(raw)}
        self.failures = {name: why for name, result in self._raw.items() if (why := failure_of(result)) is not None}
        self._require(options.sources or options.home, "sources" if options.sources else "home")
        self.hosts = {
            name: read_host(name, result, options) for name, result in self._raw.items() if name not in self.failures
        }
        self.closed = {name: why for name in self._raw if (why := self._why_closed(name))}
        left = options.sources or self.hosts
        self.containers = {
            name: containers_of(f"hosts[{name!r}]", self._raw[name])
            for name in self.hosts
            if name in left or name not in self.closed
        }
        self.open = [host for name, host in self.hosts.items() if name not in self.closed]
        self.indices = {host.name: index for index, host in enumerate(self.open)}

    def _require(self, names: Sequence[str], option: str) -> None:
        for name in names:
            if name not in self._raw:
                raise FerryError(
                    f"{option} names {name}, which is not among hosts.",
                    remedy=f"Those are {some(self._raw) or '(none)'}.",
                )
            if name in self.failures and option == "sources":
                raise FerryError(
                    f"What runs on {name} is not known: {self.failures[name]}.",
                    remedy="Have podman_checkpoint_info succeed there first.",
                )

    def _why_closed(self, name: str) -> str:
        options = self._options
        if name in self.failures:
            return f"no answer: {self.failures[name]}"
        if name in options.sources:
            return "to be emptied"
        if options.home and name not in options.home:
            return "no home"
        if name in options.drained:
            return "drained"
        return "excluded" if options.exclude.find(name) is not None else ""

    @functools.cached_property
    def not_asked(self) -> list[str]:
        """The closed hosts in words."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.closed.items():
            by_reason.setdefault(reason, []).append(name)
        listed = [f"{reason} ({some(names)})" for reason, names in sorted(by_reason.items())]
        return [f"not asked are those that are {', '.join(listed)}"] if listed else []

    def members(self, pairs: Pairs) -> Iterator[Member]:
        """The containers that the plan is about."""
        for host in self._options.sources or self.hosts:
            listed = self.containers[host]
            for raw in listed if self._options.sources else self._away(host, listed):
                name = raw["name"]
                estimate, found = pairs.estimate(host, name), pairs.of_container(host, name)
                yield read_member(host, raw, estimate, found, self._options)

    def _away(self, host: str, listed: Sequence[Raw]) -> list[Raw]:
        """Those whose home is another host, of pods with all that are in them."""
        found = [raw for raw in listed if self._home_of(host, raw) not in (None, host)]
        pods = {raw.get("pod") for raw in found} - {None}
        return [raw for raw in listed if raw.get("pod") in pods] + [raw for raw in found if not raw.get("pod")]

    def _home_of(self, host: str, raw: Raw) -> str | None:
        origin = origin_of(raw, host, self._options.origins)
        return origin if origin in self._options.home else None

    def held(self, firm: t.AbstractSet[Key], addresses: t.AbstractSet[Key]) -> dict[Key, dict[int, int]]:
        """Who has what of that on the hosts that things may go to.

        :param addresses: what counts only on hosts that cannot give others.
        """
        found: dict[Key, dict[int, int]] = {}
        always = {key.kind for key in firm}
        for index, host in enumerate(self.open):
            kinds = always | {"address"} if addresses and not host.profile.closes else always
            for raw in self.containers[host.name]:
                for key in holds(raw, kinds):
                    if key in firm or key in addresses:
                        counts = found.setdefault(key, {})
                        counts[index] = counts.get(index, 0) + 1
        return found

    def sharers(self, host: str) -> dict[str, set[str]]:
        """The containers of a host by the volume that they mount."""
        users: dict[str, set[str]] = {}
        for raw in self.containers[host]:
            for volume in raw.get("volumes") or ():
                users.setdefault(volume, set()).add(raw["name"])
        return users


@dataclass
class Lists:
    """The answer as it grows.

    :param reasons: why the whole plan is refused.
    """

    moves: list[Json] = field(default_factory=list)
    stops: list[Json] = field(default_factory=list)
    keeps: list[Json] = field(default_factory=list)
    blocks: list[Json] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused: bool = False

    def keep(self, workload: Workload, code: str, reason: str) -> None:
        self.keeps += entries(workload, reason, code=code)

    def stop(self, workload: Workload, reason: str) -> None:
        self.stops += entries(workload, reason)

    def block(self, workload: Workload, code: str, reason: str) -> None:
        self.blocks += entries(workload, reason, code=code)


def entries(workload: Workload, reason: str, **also: t.Any) -> list[Json]:
    return [
        {
            "name": member.name,
            "id": member.id,
            "host": member.host,
            "pod": member.pod,
            "unit": member.labels.get(UNIT_LABEL),
            "policy": workload.policy.name,
            **also,
            "reason": reason,
        }
        for member in workload.members
    ]


class Planner:
    """Makes one plan.

    :param hosts: by name, what ``podman_checkpoint_info`` returned.
    :param pairs: by source and destination, the same with a destination.
    """

    def __init__(self, hosts: Raw, pairs: Raw, options: Options) -> None:
        self._options = options
        self._fleet = Fleet(hosts, options)
        sources = options.sources or list(self._fleet.hosts)
        self._pairs = Pairs(pairs, sources, self._fleet.indices, force=options.force)
        self._names = [host.name for host in self._fleet.open]
        self._verdicts = Verdicts(self._fleet.open, force=options.force)
        self._lists = Lists()
        self._sharers: dict[str, dict[str, set[str]]] = {}
        self.ledger = Ledger([], [], options, {})

    def plan(self) -> Json:
        workloads = workloads_of(self._fleet.members(self._pairs), self._options, self._lists.warnings)
        moving = [workload for workload in workloads if self._is_to_move(workload)]
        ready = [workload for workload in moving if self._is_ready(workload)]
        self.ledger = self._ledger(ready)
        reachable = [workload for workload in ready if self._is_reachable(workload)]
        placement = place_all(self.ledger, reachable)
        for workload in placement.stuck:
            self._lists.block(workload, "no_destination", self._nowhere(workload))
        if placement.short or self._lists.refused:
            return self._refused(placement)
        return self._accepted(placement)

    # -- each by itself -----------------------------------------------------------------------------------------

    def _is_to_move(self, workload: Workload) -> bool:
        """Whether it is; if not, it goes into one of the other lists."""
        policy, lists = workload.policy, self._lists
        only = self._options.only
        if only is not None and all(only.find(member.name, member.host) is None for member in workload.members):
            lists.keep(workload, "idle" if workload.idle else "not_asked_for", "It is not among those asked for.")
        elif policy.name in ("block", INVALID):
            remedy = "" if policy.name == "block" else " Set a policy for it in policies."
            lists.block(workload, "policy", f"block {policy.words}." if not remedy else f"{policy.words}.{remedy}")
        elif policy.name == "keep":
            lists.keep(workload, "policy", f"keep {policy.words}.")
        elif workload.idle and policy.name != "cold":
            lists.keep(workload, "idle", f"It is {workload.members[0].status}: nothing runs that would have to move.")
        elif policy.name == "stop" and self._options.home:
            lists.keep(workload, "policy", f"stop {policy.words}, and nothing is stopped for a return.")
        elif policy.name == "stop":
            lists.stop(workload, f"stop {policy.words}.")
        else:
            return True
        return False

    def _is_ready(self, workload: Workload) -> bool:
        """Settle how it moves, and what speaks against which host; False if it cannot be moved."""
        shared = self._shared_volume(workload)
        if shared:
            self._lists.block(workload, "volume_shared", shared)
            return False
        workload.method = workload.policy.name
        against = self._against(workload)
        if not against:
            return True
        if not self._has_destination(workload):
            self._lists.block(workload, "no_destination", against)
            return False
        if workload.method == "live" and workload.policy.by_default:
            return self._falls_back(workload, against)
        self._lists.block(workload, "unmovable", against)
        return False

    def _has_destination(self, workload: Workload) -> bool:
        """Whether a host is open to it at all, whatever speaks against that one."""
        return workload.only != -1 if self._options.home else bool(self._fleet.open)

    def _falls_back(self, workload: Workload, against: str) -> bool:
        fallback = self._options.fallback
        if fallback == "stop" and not self._options.home:
            self._lists.stop(workload, f"stop, because it cannot move live: {against}")
            return False
        if fallback == "cold":
            workload.method, workload.note = "cold", against
            still = self._against(workload)
            if not still:
                return True
            against = f"{against} Nor can it move cold: {still}"
        self._lists.block(workload, "unmovable", against)
        return False

    def _against(self, workload: Workload) -> str:
        """Why it cannot move by its method, whatever room there is; nothing if it can."""
        self._set_destinations(workload)
        refusal = workload.refusal(workload.method)
        if refusal is not None:
            _member, finding = refusal
            code = str(finding.get("code"))
            remedy = REMEDIES.get(code) or finding.get("remedy") or ""
            return f"[{code}] {finding.get('message')} {remedy}".rstrip()
        if workload.only is not None:
            fits_some = workload.only not in workload.barred
        else:
            fits_some = len(workload.barred) < len(self._fleet.open)
        if fits_some or any(objection.short for objection in workload.objections):
            return ""  # what lacks room alone is no matter of how it moves
        return self._nowhere(workload)

    def _set_destinations(self, workload: Workload) -> None:
        fleet = self._fleet
        here = fleet.hosts[workload.host].profile
        verdict = self._verdicts.of(here, workload.runtimes or (here.runtime,), workload.method)
        told = [one for member in workload.members for one in self._pairs.objections(member, workload.method)]
        workload.objections = [*verdict.objections, *told]
        workload.barred = verdict.barred.union(*(one.hosts for one in told))
        workload.kinds = verdict.kinds
        workload.origin = fleet.indices.get(workload.home or "")
        if self._options.home:
            # Closed homes get an index that no host has.
            workload.only = -1 if workload.origin is None else workload.origin
            workload.barred |= {-1}

    def _shared_volume(self, workload: Workload) -> str:
        mounted = [volume for member in workload.members for volume in member.volumes]
        if not mounted:
            return ""
        if workload.host not in self._sharers:
            self._sharers[workload.host] = self._fleet.sharers(workload.host)
        names = {member.name for member in workload.members}
        for volume in sorted(mounted):
            others = self._sharers[workload.host][volume] - names
            if others:
                return f"The volume {volume} is also that of {some(sorted(others))}: it would go on in two versions."
        return ""

    # -- all together -------------------------------------------------------------------------------------------

    def _ledger(self, workloads: Sequence[Workload]) -> Ledger:
        firm: set[Key] = set()
        addresses: set[Key] = set()
        for workload in workloads:
            set_keys(workload)
            firm.update(workload.firm, workload.groups)
            addresses.update(workload.addresses)
        return Ledger(self._fleet.open, self._verdicts.kinds, self._options, self._fleet.held(firm, addresses))

    def _is_reachable(self, workload: Workload) -> bool:
        if self.ledger.reachable(workload, self.ledger.conflicts(workload)):
            return True
        short = any(objection.short for objection in workload.objections)
        self._lists.refused = self._lists.refused or short
        self._lists.block(workload, "no_room" if short else "no_destination", self._nowhere(workload))
        return False

    def _nowhere(self, workload: Workload) -> str:
        """Each reason, with the hosts that it is about; each host is told of once."""
        left = set(range(len(self._names))) if workload.only is None else {workload.only} - {-1}
        told = []
        for text, hosts in self._reasons(workload):
            about = left & hosts
            if about:
                told.append(f"{text} ({some([self._names[index] for index in sorted(about)])})")
                left -= about
        told += self._closed(workload)
        return f"No host can take it: {'; '.join(told)}."

    def _reasons(self, workload: Workload) -> Iterator[tuple[str, t.AbstractSet[int]]]:
        for objection in workload.objections:
            yield objection.text, objection.hosts
        for key, hosts in sorted(self.ledger.in_use(workload), key=lambda found: found[0]):
            yield IN_USE[key.kind].format(key.name), hosts

    def _closed(self, workload: Workload) -> list[str]:
        if workload.only is None:
            return self._fleet.not_asked
        home, closed = workload.home or "", self._fleet.closed
        return [f"its origin {home} is not open: {closed[home]}"] if home in closed else []

    # -- the answer ---------------------------------------------------------------------------------------------

    def _accepted(self, placement: Placement) -> Json:
        choices = sorted(placement.choices, key=lambda choice: choice.workload.order)
        self._lists.moves = [entry for choice in choices for entry in self._move(choice)]
        return self._answer(self._summary(), [], self._destinations(placement.choices))

    def _move(self, choice: Choice) -> Iterator[Json]:
        workload = choice.workload
        destination = self._names[choice.index]
        reason = f"{self._how(workload)}; {self._where(choice, destination)}"
        if not workload.weight.known and not workload.idle:
            reason += f"; its memory is not known, {size_text(self._options.default_memory)} are taken for it"
        for entry, member in zip(entries(workload, f"{reason}."), workload.members):
            yield {
                **entry,
                "destination": destination,
                "origin": member.origin or member.host,
                "method": workload.method,
                "priority": workload.priority,
                "status": member.status,
                "memory": member.weight.memory,
                "bytes": member.weight.archive,
                "downtime_ms": member.weight.downtime_ms,
            }

    def _how(self, workload: Workload) -> str:
        if workload.note:
            return f"cold, because it cannot move live: {workload.note.rstrip('.')}"
        return f"{workload.method} {workload.policy.words}"

    def _where(self, choice: Choice, destination: str) -> str:
        return {
            "origin": f"{destination} is where it came from",
            "preferred": f"{destination} is preferred and has room",
            "spread": f"{destination} is loaded the least of those that can take it",
            "packed": f"{destination} has just room enough; spread evenly, not all would find a place",
        }[choice.how]

    def _refused(self, placement: Placement) -> Json:
        """Nothing of it may be carried out: what would have moved or stopped is blocked."""
        lists, ledger = self._lists, self.ledger
        over = {choice.workload: choice.index for choice in placement.choices if choice.how == "overfull"}
        for workload in placement.short:
            lists.block(workload, "no_room", self._no_room(workload, over[workload]))
        for choice in placement.choices:
            if choice.how != "overfull":
                lists.block(choice.workload, "plan_refused", "The plan is refused for lack of room for others.")
        for entry in lists.stops:
            lists.blocks.append({**entry, "code": "plan_refused", "reason": "The plan is refused for lack of room."})
        lists.stops = []
        missing = [self._missing(place.host.name, place.left) for place in ledger.places if min(place.left) < 0]
        return self._answer(self._refusal(missing), missing, [], refused=True)

    def _no_room(self, workload: Workload, index: int) -> str:
        weight, name = workload.weight, self._names[index]
        return (
            f"No host has room for it: it takes {size_text(weight.memory)} of memory, {size_text(weight.lasting)} on "
            f"disk, and {size_text(weight.archive)} more while it moves. The nearest to it is {name}."
        )

    def _missing(self, host: str, left: tuple[int, int, int]) -> Json:
        memory, disk, spool = (max(0, -one) for one in left)
        options = self._options
        return {
            "host": host,
            "memory": options.memory_headroom.before(memory),
            "disk": options.disk_headroom.before(disk),
            "spool": options.disk_headroom.before(spool),
        }

    def _refusal(self, missing: Sequence[Json]) -> str:
        homeless = sum(entry["code"] == "no_room" for entry in self._lists.blocks)
        told = [
            f"{size_text(one[key])} {what} on {one['host']}"
            for key, what in (("memory", "of memory"), ("disk", "of disk"), ("spool", "where archives are spooled"))
            for one in missing
            if one[key]
        ]
        lacks = f" Missing: {some(told)}." if told else ""
        return (
            f"The plan is refused, because {homeless} {_containers(homeless)} no room.{lacks} Free that much, add a "
            "host, set another policy for some, or lower memory_headroom or disk_headroom."
        )

    def _destinations(self, choices: Iterable[Choice]) -> list[Json]:
        arrivals: dict[int, int] = {}
        for choice in choices:
            arrivals[choice.index] = arrivals.get(choice.index, 0) + len(choice.workload.members)
        found = []
        for index in sorted(arrivals):
            place = self.ledger.places[index]
            memory, disk, _spool = place.left
            found.append(
                {"name": place.host.name, "containers": arrivals[index], "memory_left": memory, "disk_left": disk}
            )
        return found

    def _summary(self) -> str:
        lists = self._lists
        hosts = len({move["destination"] for move in lists.moves})
        return (
            f"To move: {len(lists.moves)}, to {hosts} {'host' if hosts == 1 else 'hosts'}. To stop: "
            f"{len(lists.stops)}. Stays: {len(lists.keeps)}. Blocked: {len(lists.blocks)}."
        )

    def _answer(self, msg: str, missing: list[Json], destinations: list[Json], *, refused: bool = False) -> Json:
        lists, failures = self._lists, self._fleet.failures
        unanswered = [f"{name} is left out: {failures[name]}." for name in failures]
        entries = {
            "moves": lists.moves,
            "stops": _in_order(lists.stops),
            "keeps": _in_order(lists.keeps),
            "blocks": _in_order(lists.blocks),
        }
        return {
            "refused": refused,
            "msg": msg,
            **entries,
            "lines": lines_of(entries),
            "missing": missing,
            "destinations": destinations,
            "warnings": unanswered + sorted(lists.warnings),
        }


def _containers(number: int) -> str:
    return "container finds" if number == 1 else "containers find"


def _in_order(listed: list[Json]) -> list[Json]:
    return sorted(listed, key=lambda entry: (entry["host"], entry["name"]))


def make_plan(hosts: object, pairs: object, options: Options) -> Json:
    """:raises FerryError: if what is given is not what it should be."""
    return Planner(mapping_of(hosts, "hosts"), mapping_of(pairs or {}, "pairs"), options).plan()
