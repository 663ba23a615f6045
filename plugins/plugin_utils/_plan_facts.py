# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Hosts and containers as ``podman_checkpoint_info`` returns them, read for a plan. Pure."""

from __future__ import annotations

import functools
import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Options, mapping_of, shown

Json = dict[str, t.Any]
Numbers = tuple[int, ...]

POLICY_LABEL = "ferry.evacuate"
PRIORITY_LABEL = "ferry.priority"
SPREAD_LABEL = "ferry.spread"
ORIGIN_LABEL = "ferry.origin"
UNIT_LABEL = "PODMAN_SYSTEMD_UNIT"

IDLE = frozenset({"created", "configured", "initialized", "exited", "stopped", "dead", "removing"})
"""States in which nothing runs that a drain would interrupt."""

KEY_KINDS = frozenset({"name", "volume", "port", "address", "spread"})
ANY_ADDRESS = frozenset({"", "*", "0.0.0.0", "::"})
PORT = re.compile(r"(?:\[?(?P<address>[^\]]*)\]?:)?(?P<port>\d+)(?:/(?P<protocol>\w+))?")

FROM_INFO = "Give what podman_checkpoint_info returned for the host."


class Key(t.NamedTuple):
    """Something that a host has only once.

    :param scope: of a port, the address that it is bound to.
    """

    kind: str
    name: str
    scope: str = ""


class Profile(t.NamedTuple):
    """What decides whether one host's containers fit another, but for room. Equal for most hosts."""

    arch: str
    runtime: str
    podman: Numbers
    kernel: str
    criu: str
    cgroup_version: str
    cgroup_manager: str
    unfit: str
    closes: bool


@dataclass(frozen=True)
class Room:
    """What a host has free, and which moves take of what.

    :param spool: bytes where archives are spooled, if that is another file system.
    :param spool_apart: whether it is.
    :param spool_in_memory: whether it is a tmpfs.
    :param disk_in_memory: whether the containers' file system is one.
    """

    memory: int
    disk: int
    spool: int = 0
    spool_apart: bool = False
    spool_in_memory: bool = False
    disk_in_memory: bool = False


@dataclass(frozen=True)
class Host:
    name: str
    profile: Profile
    room: Room


@dataclass(frozen=True)
class Weight:
    """What a container takes on its destination, in bytes.

    :param lasting: files and volumes.
    :param archive: what is on disk besides while it moves.
    :param known: whether it was estimated; else its memory is assumed.
    """

    memory: int = 0
    lasting: int = 0
    archive: int = 0
    downtime_ms: int | None = None
    known: bool = True


@dataclass(frozen=True)
class Member:
    """One container.

    :param raw: what was read.
    :param idle: whether nothing of it runs.
    :param origin: the host that it was moved away from.
    :param addresses: of all its networks.
    :param fixed_addresses: those on networks that hosts share.
    """

    raw: Mapping[str, t.Any]
    name: str
    id: str
    host: str
    status: str
    idle: bool
    pod: str | None
    runtime: str
    labels: Mapping[str, str]
    findings: Sequence[Json]
    weight: Weight
    origin: str | None
    volumes: tuple[str, ...]
    ports: tuple[str, ...]
    addresses: tuple[str, ...]
    fixed_addresses: tuple[str, ...]


# -- hosts ------------------------------------------------------------------------------------------------------


def failure_of(result: Mapping[str, t.Any]) -> str | None:
    """Why a registered result has no facts; None if it has some."""
    if not (result.get("failed") or result.get("unreachable") or result.get("skipped")):
        return None
    return str(result.get("msg") or "the task was skipped or failed").rstrip(".")


def read_host(name: str, result: Mapping[str, t.Any], options: Options) -> Host:
    """:raises FerryError: if it is no result of the info module."""
    where = f"hosts[{name!r}].host"
    facts = _get(result, "host", Mapping, f"hosts[{name!r}]")
    return Host(name, _profile(facts, where), _room(facts, where, options))


def _profile(facts: Mapping[str, t.Any], where: str) -> Profile:
    runtime = _get(facts, "runtime", Mapping, where)
    podman = numbers(_get(facts, "podman_version", str, where))
    name = str(_get(runtime, "name", str, f"{where}.runtime"))
    return Profile(
        arch=str(_get(facts, "arch", str, where)),
        runtime=name,
        podman=podman,
        kernel=str(facts.get("kernel") or ""),
        criu=str((facts.get("criu") or {}).get("version") or ""),
        cgroup_version=str(facts.get("cgroup_version") or ""),
        cgroup_manager=str(facts.get("cgroup_manager") or ""),
        unfit=_unfit(facts),
        # As ``_verdicts.can_close``, which asks podman's own answer.
        closes=podman >= (5, 7) and name == "crun" and numbers(str(runtime.get("version"))) >= (1, 23),
    )


def _unfit(facts: Mapping[str, t.Any]) -> str:
    if facts.get("can_checkpoint", True):
        return ""
    reasons = [str(finding["message"]) for finding in _blockers(facts.get("findings") or [])]
    return " ".join(reasons) or "It cannot checkpoint."


def _room(facts: Mapping[str, t.Any], where: str, options: Options) -> Room:
    memory = facts.get("memory_available")
    if memory is None:
        memory = _get(facts, "memory_free", int, where)
    graph, spool = facts.get("graph_root"), facts.get("temporary_directory")
    systems = facts.get("file_systems") or _guessed(facts, where)
    at, spooled_at = _system_of(systems, graph, where), _system_of(systems, spool, where)
    disk, spooled, apart = systems[at], systems[spooled_at], at != spooled_at
    headroom = options.disk_headroom
    return Room(
        memory=options.memory_headroom.within(memory),
        disk=headroom.within(_get(disk, "free", int, f"{where}.file_systems")),
        spool=headroom.within(_get(spooled, "free", int, f"{where}.file_systems")) if apart else 0,
        spool_apart=apart,
        spool_in_memory=spooled.get("type") in ("tmpfs", "ramfs"),
        disk_in_memory=disk.get("type") in ("tmpfs", "ramfs"),
    )


def _guessed(facts: Mapping[str, t.Any], where: str) -> list[Json]:
    """Of a host that was asked from elsewhere: all on the file system that podman tells of."""
    free = _get(facts, "graph_root_free", int, where)
    return [{"free": free, "paths": [facts.get("graph_root"), facts.get("temporary_directory")]}]


def _system_of(systems: Sequence[Json], path: str | None, where: str) -> int:
    for index, system in enumerate(systems):
        if path in system.get("paths", ()):
            return index
    raise FerryError(f"{where}.file_systems has none with {path} among its paths.", remedy=FROM_INFO)


@functools.lru_cache(maxsize=4096)
def numbers(text: str) -> Numbers:
    """The first version number in a text."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


# -- containers -------------------------------------------------------------------------------------------------


def containers_of(where: str, result: Mapping[str, t.Any]) -> Sequence[Mapping[str, t.Any]]:
    """:raises FerryError: if there is no list of them, or one of them has no name or that of another."""
    listed: Sequence[Mapping[str, t.Any]] = _get(result, "containers", Sequence, where)
    seen = set()
    for number, raw in enumerate(listed):
        name = raw.get("name") if isinstance(raw, Mapping) else None
        if not name or not isinstance(name, str):
            raise FerryError(f"{where}.containers[{number}] has no name.", remedy=FROM_INFO)
        if name in seen:
            raise FerryError(f"{where}.containers has {name} twice.", remedy=FROM_INFO)
        seen.add(name)
    return listed


def read_member(
    host: str, raw: Mapping[str, t.Any], estimated: Json | None, found: Sequence[Json], options: Options
) -> Member:
    """:param estimated: what a pair of hosts told of it, for one that has no estimate of its own.
    :param found: findings about it that pairs of hosts told.
    """
    name = str(raw["name"])
    where = f"hosts[{host!r}].containers[{name!r}]"
    status = str(_get(raw, "status", str, where))
    labels = mapping_of(raw.get("labels") or {}, f"{where}.labels")
    ident = str(raw.get("id") or "")
    addresses, fixed = _addresses(raw, where)
    return Member(
        raw=raw,
        name=name,
        id=ident,
        host=host,
        status=status,
        idle=status in IDLE,
        pod=str(raw["pod"]) if raw.get("pod") else None,
        runtime=str(raw.get("runtime") or ""),
        labels=labels,
        findings=[*(raw.get("findings") or ()), *found, *_unit_findings(labels)],
        weight=_weight(raw.get("estimate") or estimated, status, where, options),
        origin=origin_of(raw, host, options.origins),
        volumes=_strings(raw, "volumes", where),
        ports=_strings(raw, "ports", where),
        addresses=addresses,
        fixed_addresses=fixed,
    )


def origin_of(raw: Mapping[str, t.Any], host: str, origins: Mapping[str, str]) -> str | None:
    """The host to which a container belongs; a cold move has given it another ID than was noted."""
    known = (f"{host}/{raw['name']}", raw.get("id"), raw.get("moved_from"))
    noted = (origins[str(key)] for key in known if str(key) in origins)
    return next(noted, None) or (raw.get("labels") or {}).get(ORIGIN_LABEL)


def _unit_findings(labels: Mapping[str, str]) -> t.Iterator[Json]:
    """As ``_verdicts`` finds it once two hosts are asked."""
    unit = labels.get(UNIT_LABEL)
    if unit:
        yield {
            "code": "systemd_unit",
            "severity": "blocker",
            "message": f"It belongs to the systemd unit {unit}, which would start it again on its host.",
            "remedy": "Give it the policy cold, stop or keep.",
        }


def _weight(estimate: object, status: str, where: str, options: Options) -> Weight:
    idle = status in IDLE
    if estimate is None:
        memory = 0 if idle else options.default_memory
        return Weight(memory, 0, memory, known=False)
    told = mapping_of(estimate, f"{where}.estimate")
    memory, files, volumes = (_get(told, key, int, f"{where}.estimate") for key in ("memory", "files", "volumes"))
    archive = told.get("archive", memory + files + volumes)
    return Weight(0 if idle else memory, files + volumes, archive, told.get("downtime_ms"))


def _addresses(raw: Mapping[str, t.Any], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found: list[str] = []
    fixed: list[str] = []
    for network in raw.get("networks") or ():
        addresses = _strings(mapping_of(network, f"{where}.networks"), "addresses", f"{where}.networks")
        found += addresses
        fixed += addresses if network.get("shared") else ()
    return tuple(found), tuple(fixed)


def _strings(raw: Mapping[str, t.Any], key: str, where: str) -> tuple[str, ...]:
    value = raw.get(key) or ()
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise FerryError(f"{where}.{key} is {shown(value)}, not a list of strings.", remedy=FROM_INFO)
    return tuple(str(one) for one in value)


def blockers(member: Member, passing: t.Container[str] = ()) -> list[Json]:
    """What forbids it, but for reasons with these codes."""
    return [finding for finding in _blockers(member.findings) if finding.get("code") not in passing]


def _blockers(findings: Sequence[Json]) -> list[Json]:
    return [finding for finding in findings if finding.get("severity") == "blocker"]


# -- what a host has only once ------------------------------------------------------------------------------------


def holds(raw: Mapping[str, t.Any], kinds: t.Container[str] = KEY_KINDS) -> t.Iterator[Key]:
    """What a container keeps others from having on its host. Read from many, so it is not looked at closely.

    :param kinds: those that matter. In a template each value that is read takes its time.
    """
    yield Key("name", raw["name"])
    if "volume" in kinds:
        for volume in raw.get("volumes") or ():
            yield Key("volume", volume)
    if raw.get("status") in IDLE:
        return
    if "port" in kinds:
        for port in raw.get("ports") or ():
            yield from port_held(port)
    if "address" in kinds:
        for network in raw.get("networks") or ():
            for address in network.get("addresses") or ():
                yield Key("address", address)
    group = (raw.get("labels") or {}).get(SPREAD_LABEL) if "spread" in kinds else None
    if group:
        yield Key("spread", group)


@functools.lru_cache(maxsize=4096)
def port_held(text: str) -> tuple[Key, ...]:
    """A port that is bound: at its address, or at all of them; and in any case somewhere."""
    address, port = _port(text)
    scope = "any" if address in ANY_ADDRESS else address
    return Key("port", port, scope), Key("port", port, "some")


@functools.lru_cache(maxsize=4096)
def port_wanted(text: str) -> tuple[Key, ...]:
    """What must not be held for a port to be bound."""
    address, port = _port(text)
    if address in ANY_ADDRESS:
        return (Key("port", port, "some"),)
    return Key("port", port, address), Key("port", port, "any")


def _port(text: str) -> tuple[str, str]:
    found = PORT.fullmatch(text)
    if found is None:
        raise FerryError(f"A container has the port {text!r}.", remedy="Ports are as 0.0.0.0:8080/tcp.")
    return found["address"] or "", f"{found['port']}/{found['protocol'] or 'tcp'}"


def _get(source: Mapping[str, t.Any], key: str, kind: t.Any, where: str) -> t.Any:
    """:raises FerryError: naming the place, what is there, and what should be."""
    value = source.get(key)
    if isinstance(value, kind) and not (isinstance(value, bool) or (kind is Sequence and isinstance(value, str))):
        return value
    if key not in source:
        raise FerryError(f"{where} has no {key}.", remedy=FROM_INFO)
    raise FerryError(f"{where}.{key} is {shown(value)}, not {KINDS[kind]}.", remedy=FROM_INFO)


KINDS: Mapping[t.Any, str] = {int: "a whole number", str: "a string", Mapping: "a dictionary", Sequence: "a list"}
