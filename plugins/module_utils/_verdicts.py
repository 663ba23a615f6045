# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.


"""Verdicts about a move: does this container fit that host? Pure: facts of both hosts in, findings out."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._compat import Finding, dotted
from ansible_collections.ferry.podman.plugins.module_utils._estimate import Estimate
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts, Listener, ProcessFacts, Version
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, HostInfo, Json, parse_version
from ansible_collections.ferry.podman.plugins.module_utils._paths import ABSENT, DEVICE

TCP_CLOSE_SINCE = (5, 7, 0)
CRUN_CLOSES_SINCE = (1, 23, 0)
HEALTH_TIMER_SINCE = (5, 5, 0)
"""Since when an unpause starts the timer of health checks again."""

INSTRUCTIONS = re.compile(
    r"3dnow|abm|adx|aes|amx|avx|bmi|clflushopt|clwb|cmpxchg|cx16|erms|f16c|fma|fsgsbase|fsrm|gfni|lahf|lzcnt|mmx|movbe"
    r"|movdir|mpx|pclmul|pku|pni|popcnt|prefetch|rdpid|rdrand|rdseed|rdtscp|rtm|hle|serialize|sha|sm3|sm4|sse|ssse|tbm"
    r"|vaes|vpclmul|waitpkg|xop|xsave|xgetbv"
)
"""Flags of x86 that programs choose their code by; the kernel's own are none of theirs."""

SHOWN = 8
"""Names of one kind that a message gives."""

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class MoveFacts:
    """Everything that was asked about one move.

    :param here: what the source answers beyond podman's API; None if it does not.
    :param there: the same of the destination.
    :param processes: what the container's processes do, where that can be seen.
    :param kinds: what the destination has at the paths of bind mounts and devices; None if it cannot be asked.
    :param shared: of these paths, those that are on a network file system on the source.
    :param networks: the source's and the destination's network of each name.
    :param tcp: what becomes of connections: established, close or none.
    :param guarded: whether a guard keeps connections from being reset.
    :param image_present: whether the destination has the image.
    :param published: the ports that the container will have on its host.
    :param beside: bytes that go beside the archive, and that podman writes to no disk.
    """

    container: Container
    source: HostInfo
    destination: HostInfo
    estimate: Estimate
    here: HostFacts | None = None
    there: HostFacts | None = None
    processes: ProcessFacts | None = None
    kinds: Mapping[str, str] | None = None
    shared: frozenset[str] = frozenset()
    networks: Mapping[str, tuple[Json | None, Json | None]] = field(default_factory=dict)
    tcp: str = "established"
    guarded: bool = False
    image_present: bool = True
    published: tuple[Listener, ...] = ()
    beside: int = 0


@dataclass(frozen=True)
class MoveOptions:
    """What of the request the verdicts go by; see ``MoveRequest``."""

    image_transfer: str = "stream"
    networks: str = "require"
    ignore_volumes: bool = False
    keep_source: bool = False
    max_downtime: float | None = None


def move_findings(facts: MoveFacts, options: MoveOptions) -> list[Finding]:
    """Every reason for or against a move that two hosts give together."""
    return [
        *_answer_findings(facts),
        *_machine_findings(facts),
        *_version_findings(facts.source, facts.destination),
        *_criu_findings(facts),
        *_cgroup_findings(facts),
        *_security_findings(facts),
        *_owner_findings(facts.container, options),
        *_process_findings(facts),
        *_path_findings(facts),
        *_network_findings(facts, options),
        *_port_findings(facts),
        *_connection_findings(facts),
        *_content_findings(facts, options),
        *space_findings(facts, options),
        *_time_findings(facts, options),
    ]


def cold_findings(facts: MoveFacts, options: MoveOptions) -> list[Finding]:
    """The same for a container that is stopped here and made anew there: no memory has to fit."""
    return [
        *_answer_findings(facts),
        *_image_architecture_findings(facts),
        *(_unit_findings(facts.container) if facts.container.running else []),
        *_keep_findings(facts.container, options),
        *_path_findings(facts),
        *_network_findings(facts, options),
        *_port_findings(facts),
        *_volumes_left_findings(facts, options),
        *_image_findings(facts, options),
        *_cold_space_findings(facts),
        *_time_findings(facts, options),
    ]


def _image_architecture_findings(facts: MoveFacts) -> Iterator[Finding]:
    if facts.source.arch != facts.destination.arch:
        yield Finding(
            "architecture",
            f"The source is {facts.source.arch}, the destination {facts.destination.arch}.",
            "The image is for the source's; choose another destination.",
        )


# -- the hosts --------------------------------------------------------------------------------------------------


def _answer_findings(facts: MoveFacts) -> Iterator[Finding]:
    for side, answer in (("source", facts.here), ("destination", facts.there)):
        if answer is None:
            yield Finding(
                "host_unknown",
                f"The {side} does not answer beyond podman's API: processor, CRIU, free space and ports are not "
                "compared.",
                "Let the ssh key run the command that the role migrate allows it, or look there before the move.",
                severity="notice",
            )


def _machine_findings(facts: MoveFacts) -> Iterator[Finding]:
    here, there = facts.source.summary(), facts.destination.summary()
    if here["arch"] != there["arch"]:
        yield Finding(
            "architecture",
            f"The source is {here['arch']}, the destination {there['arch']}.",
            "Memory of one architecture cannot go on in another; choose another destination.",
        )
        return
    yield from _kernel_findings(here["kernel"], there["kernel"])
    if facts.here and facts.there:
        missing = missing_instructions(facts.here, facts.there)
        if missing:
            yield Finding(
                "cpu_features",
                f"The destination's processor ({facts.there.cpu_model or 'unknown'}) lacks {_some(missing)} of the "
                "source's. A program that uses them dies there, perhaps much later (SIGILL).",
                "Choose a destination with these, or start the program such that it does not use them.",
                severity="warning",
            )


def missing_instructions(here: HostFacts, there: HostFacts) -> list[str]:
    """Instruction sets that the source has and the destination lacks."""
    missing = sorted(here.cpu_flags - there.cpu_flags)
    if here.machine in ("x86_64", "i686"):
        return [flag for flag in missing if INSTRUCTIONS.match(flag)]
    return missing


def _kernel_findings(here: str, there: str) -> Iterator[Finding]:
    if here == there:
        return
    if _numbers(there) < _numbers(here):
        yield Finding(
            "older_kernel",
            f"The destination's kernel {there} is older than the source's {here}. It may lack what the processes use.",
            "Upgrade the destination; a failed move comes back by itself.",
            severity="warning",
        )
    else:
        yield Finding(
            "kernel_differs",
            f"The source runs kernel {here}, the destination {there}.",
            "Nothing is to be done; remember it if the container behaves otherwise there.",
            severity="notice",
        )


def _numbers(kernel: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", kernel)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _version_findings(source: HostInfo, destination: HostInfo) -> Iterator[Finding]:
    if destination.podman[:2] < source.podman[:2]:
        yield Finding(
            "older_destination",
            f"The destination's podman {dotted(destination.podman)} is older than the source's "
            f"{dotted(source.podman)}: restores by an older runtime can fail "
            "(seen from 5.8 with crun 1.28 to 5.4 with crun 1.21).",
            "Upgrade the destination; a failed move comes back by itself.",
            severity="warning",
        )


def _criu_findings(facts: MoveFacts) -> Iterator[Finding]:
    for side, answer in (("source", facts.here), ("destination", facts.there)):
        if answer is not None and "criu" not in answer.programs and answer.criu is None:
            yield Finding("criu_absent", f"CRIU is not installed on the {side}.", "Install the package criu there.")
    here, there = (answer.criu if answer else None for answer in (facts.here, facts.there))
    if here and there and there < here:
        yield Finding(
            "older_criu",
            f"The destination's CRIU {dotted(there)} is older than the source's {dotted(here)}: it may not understand "
            "what the newer one has written.",
            "Upgrade CRIU on the destination; a failed move comes back by itself.",
            severity="warning",
        )


def _cgroup_findings(facts: MoveFacts) -> Iterator[Finding]:
    here, there = facts.source.summary(), facts.destination.summary()
    if here["cgroup_version"] != there["cgroup_version"]:
        yield Finding(
            "cgroup_version",
            f"The source has cgroups {here['cgroup_version']}, the destination {there['cgroup_version']}.",
            "CRIU cannot restore a container's cgroup in the other version; boot both hosts with v2.",
        )
    # podman keeps the cgroup's parent, and refuses one of the other manager (libpod/runtime_ctr.go).
    manager = facts.container.raw["HostConfig"].get("CgroupManager") or here["cgroup_manager"]
    if manager != there["cgroup_manager"]:
        yield Finding(
            "cgroup_manager",
            f"The container's cgroup is managed by {manager}, and the destination's podman uses "
            f"{there['cgroup_manager']}, which refuses its place.",
            "Set the same cgroup_manager in containers.conf on both hosts, and make the container with it.",
        )


def _security_findings(facts: MoveFacts) -> Iterator[Finding]:
    raw, there = facts.container.raw, facts.destination.summary()
    profile = raw.get("AppArmorProfile") or ""
    used = {"SELinux": raw.get("ProcessLabel") or "", "AppArmor": "" if profile == "unconfined" else profile}
    for name, value in used.items():
        if value and not there[f"{name.lower()}_enabled"]:
            yield Finding(
                "lsm_differs",
                f"The container runs with {name} ({value}), which is off on the destination: CRIU cannot restore that.",
                f"Turn {name} on there, or make the container without it.",
            )
    loaded = facts.there.profiles if facts.there else None
    if used["AppArmor"] and there["apparmor_enabled"] and loaded is not None and profile not in loaded:
        yield Finding(
            "apparmor_profile",
            f"The container's AppArmor profile {profile} is not loaded on the destination.",
            "Load it there with apparmor_parser; podman loads its own default with any new container.",
            severity="warning",
        )


# -- the container ----------------------------------------------------------------------------------------------


def _owner_findings(container: Container, options: MoveOptions) -> Iterator[Finding]:
    yield from _unit_findings(container)
    if container.raw["Config"].get("Secrets"):
        names = [str(secret["Name"]) for secret in container.raw["Config"]["Secrets"]]
        yield Finding(
            "file_secret",
            f"The container {container.name} has secrets as files ({_some(names)}), which podman cannot restore on "
            "another host.",
            "Give them as environment variables (--secret NAME,type=env) or in a volume.",
        )
    yield from _keep_findings(container, options)


def _unit_findings(container: Container) -> Iterator[Finding]:
    unit = container.labels.get("PODMAN_SYSTEMD_UNIT")
    if unit:
        yield Finding(
            "systemd_unit",
            f"The container {container.name} belongs to the systemd unit {unit}, which would start it again here, and "
            "does not know it there.",
            "Make the container without the unit, or install the unit on the destination and start it afresh there.",
        )


def _keep_findings(container: Container, options: MoveOptions) -> Iterator[Finding]:
    if options.keep_source and container.auto_remove:
        yield Finding(
            "keep_source",
            f"The container {container.name} runs with --rm: podman removes it from the source once it stops.",
            "Leave out keep_source, or make the container without --rm.",
        )


def _process_findings(facts: MoveFacts) -> Iterator[Finding]:
    rings = facts.processes.io_uring if facts.processes else ()
    if rings:
        yield Finding(
            "io_uring",
            f"Processes of the container use io_uring, which CRIU cannot dump: {_some(map(str, rings))}.",
            "Have the program do without it; kernel.io_uring_disabled=2 forbids it to what is started afterwards.",
        )


def _path_findings(facts: MoveFacts) -> Iterator[Finding]:
    sources = bind_sources(facts.container)
    paths = {**{path: False for path in sources}, **{path: True for path in devices(facts.container)}}
    if facts.kinds is None:
        if paths:
            yield Finding(
                "paths_unknown",
                f"The destination cannot be asked for {_some(paths)}, because it has no image at all.",
                "Look yourself; where one is missing, the move comes back.",
                severity="notice",
            )
        return
    for path, is_device in paths.items():
        kind = facts.kinds.get(path, ABSENT)
        if is_device and kind != DEVICE:
            yield Finding(
                "device_absent",
                f"The destination has no device {path}.",
                "Load the driver there, or make the container without the device.",
            )
        elif kind == ABSENT:
            yield Finding(
                "bind_absent",
                f"The container mounts {path} of its host, and the destination has nothing there.",
                "Create it there with the same content, or use a volume, which moves along.",
            )
    yield from _bind_findings(facts, [path for path in sources if facts.kinds.get(path, ABSENT) != ABSENT])


def _bind_findings(facts: MoveFacts, present: list[str]) -> Iterator[Finding]:
    own = [path for path in present if path in written(facts.container) - facts.shared]
    if own:
        yield Finding(
            "bind_writable",
            f"The container writes to {_some(own)} of its host, which does not move along. With other content on the "
            "destination its memory and its files do not fit: a database is corrupted.",
            "Use a volume, which moves along. If both hosts have the same file system mounted there, set force.",
            severity="warning",
        )
    others = [path for path in present if path not in own]
    if others:
        yield Finding(
            "bind_content",
            f"The container mounts {_some(others)} of its host. The destination's are taken to hold the same.",
            "See that they do, for example because both hosts mount the same file system.",
            severity="notice",
        )


def bind_sources(container: Container) -> list[str]:
    """Paths of the host that a container mounts."""
    return sorted({str(mount["Source"]) for mount in container.mounts if mount.get("Type") == "bind"})


def written(container: Container) -> set[str]:
    """Those of ``bind_sources`` that it can write to."""
    return {str(mount["Source"]) for mount in container.mounts if mount.get("Type") == "bind" and mount.get("RW")}


def devices(container: Container) -> list[str]:
    """Paths of the host's devices that a container was given."""
    found = container.raw["HostConfig"].get("Devices") or []
    return sorted({str(device["PathOnHost"]) for device in found if device.get("PathOnHost")})


# -- the network ------------------------------------------------------------------------------------------------


def _network_findings(facts: MoveFacts, options: MoveOptions) -> Iterator[Finding]:
    for name, (here, there) in facts.networks.items():
        if there is not None:
            continue
        if options.networks != "create":
            yield Finding(
                "network_absent",
                f"There is no network {name} on the destination.",
                "Create it there as it is on the source, or have the move do it with networks=create.",
            )
            continue
        parent = parent_device(here)
        if parent and facts.there and facts.there.interfaces and parent not in facts.there.interfaces:
            yield Finding(
                "parent_absent",
                f"The network {name} needs the device {parent}, which the destination does not have.",
                "Create the network there by hand, on the device that leads to the same segment.",
            )
        else:
            yield Finding(
                "network_created",
                f"The network {name} is not on the destination and will be created there.",
                "Nothing is to be done; it stays there.",
                severity="notice",
            )


def parent_device(network: Json | None) -> str | None:
    """The host's device that a macvlan or ipvlan network is on."""
    if network and network.get("driver") in ("macvlan", "ipvlan"):
        return network.get("network_interface") or None
    return None


def addresses_outside(container: Container, networks: Mapping[str, Json | None]) -> list[str]:
    """The container's addresses that are in no subnet of the destination's network of the same name."""
    keys = ("IPAddress", "GlobalIPv6Address")
    has = {name: [settings[key] for key in keys if settings.get(key)] for name, settings in container.networks.items()}
    return outside(has, networks)


def outside(addresses: Mapping[str, list[str]], networks: Mapping[str, Json | None]) -> list[str]:
    """Those of addresses, by network, that are in no subnet of the network of that name."""
    found = []
    for name, listed in addresses.items():
        subnets = [ipaddress.ip_network(entry["subnet"]) for entry in (networks.get(name) or {}).get("subnets") or []]
        for address in listed if subnets else []:
            if not any(ipaddress.ip_address(address) in subnet for subnet in subnets):
                found.append(str(address))
    return found


def _port_findings(facts: MoveFacts) -> Iterator[Finding]:
    wanted = {*facts.published, *(facts.processes.listeners if facts.processes else ())}
    taken = facts.there.listeners if facts.there else frozenset()
    for one in sorted(wanted, key=lambda listener: (listener.port, listener.protocol)):
        if any(one.meets(other) for other in taken):
            yield Finding(
                "port_in_use",
                f"Something on the destination listens on port {one.port}/{one.protocol}, which the container needs.",
                "Free the port there, or give the container others with publish.",
            )
    if facts.container.raw["HostConfig"].get("NetworkMode") == "host":
        yield Finding(
            "host_network",
            f"The container {facts.container.name} uses the network of its host, whose addresses stay behind.",
            "Clients must be told the other host's address.",
            severity="notice",
        )


def published_ports(container: Container, publish: list[str]) -> tuple[Listener, ...]:
    """The ports of its host that a container will have.

    :param publish: what replaces those that it has, as podman takes it.
    """
    if publish:
        return tuple(listener for text in publish for listener in _parsed_port(text))
    found = []
    for port, bindings in (container.raw["HostConfig"].get("PortBindings") or {}).items():
        for binding in bindings or []:
            if str(binding.get("HostPort") or "").isdecimal():
                protocol = port.partition("/")[2] or "tcp"
                found.append(Listener(protocol, binding.get("HostIp") or "0.0.0.0", int(binding["HostPort"])))
    return tuple(found)


def _parsed_port(text: str) -> Iterator[Listener]:
    """``[[ip:]hostPort[-end]:]containerPort[-end][/protocol]``; a port that podman chooses is never in use."""
    mapping, _slash, protocol = text.partition("/")
    host, colon, _container = mapping.rpartition(":")
    address, _colon, ports = host.rpartition(":")
    first, _dash, last = ports.partition("-")
    if colon and first.isdecimal():
        for port in range(int(first), int(last if last.isdecimal() else first) + 1):
            yield Listener(protocol or "tcp", address.strip("[]") or "0.0.0.0", port)


def _connection_findings(facts: MoveFacts) -> Iterator[Finding]:
    open_now = facts.processes.connections if facts.processes else 0
    counted = f"{open_now} are open now" if facts.processes else "how many are open is not known"
    if facts.tcp == "close":
        if not can_close(facts.destination):
            yield Finding(
                "tcp_close_unsupported",
                f"The destination's podman {dotted(facts.destination.podman)} with {facts.destination.runtime} cannot "
                "restore a container with its connections closed.",
                "It takes podman 5.7 and crun 1.23. Leave out tcp, or upgrade the destination.",
            )
        elif open_now or not facts.processes:
            yield Finding(
                "connections_closed",
                f"Connections of the container will be closed, because its address does not move along or tcp=close "
                f"is set; {counted}.",
                "Clients connect again. A network that both hosts share (macvlan, ipvlan) keeps them.",
                severity="notice",
            )
    unmoved = bool(facts.container.addresses) and not facts.guarded
    if facts.tcp == "established" and unmoved and (open_now or not facts.processes):
        yield Finding(
            "connections_stale",
            "The container's address does not move along, and the destination cannot close its connections: its "
            f"processes keep them until they time out, without their clients; {counted}.",
            "Podman 5.7 and crun 1.23 on the destination close them. Else have the program use TCP keep-alive.",
            severity="notice",
        )
    if facts.tcp == "none" and open_now:
        yield Finding(
            "connections_open",
            f"The container has open connections ({open_now}), and with tcp=none CRIU refuses to dump them.",
            "Leave out tcp, or close them.",
            severity="warning",
        )
    if facts.guarded and facts.there and "nft" not in facts.there.programs:
        yield Finding(
            "nft_absent",
            "The program nft is not on the destination; it keeps connections from being reset while they move.",
            "Install the package nftables there.",
        )


def can_close(host: HostInfo) -> bool:
    """Whether a host can restore a container with its connections closed."""
    return host.podman >= TCP_CLOSE_SINCE and host.runtime == "crun" and _runtime_number(host) >= CRUN_CLOSES_SINCE


def _runtime_number(host: HostInfo) -> Version:
    found = re.search(r"(\d+(?:\.\d+)*)", host.runtime_version)
    return parse_version(found[1]) if found else (0, 0, 0)


# -- what is carried --------------------------------------------------------------------------------------------


def _content_findings(facts: MoveFacts, options: MoveOptions) -> Iterator[Finding]:
    yield from _volumes_left_findings(facts, options)
    yield from _image_findings(facts, options)
    healthcheck = (facts.container.raw["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
    if healthcheck[0] != "NONE" and facts.destination.podman < HEALTH_TIMER_SINCE:
        yield Finding(
            "health_timer",
            f"The destination's podman {dotted(facts.destination.podman)} does not run health checks of a restored "
            "container by itself.",
            "Upgrade it to 5.5, or run podman healthcheck run from a timer.",
            severity="notice",
        )


def _volumes_left_findings(facts: MoveFacts, options: MoveOptions) -> Iterator[Finding]:
    container = facts.container
    if container.volumes and options.ignore_volumes:
        yield Finding(
            "volumes_left",
            f"The content of {_some(container.volumes)} stays on the source, because ignore_volumes is set.",
            "The destination's volumes of these names are used, and made empty where there are none.",
            severity="notice",
        )


def _image_findings(facts: MoveFacts, options: MoveOptions) -> Iterator[Finding]:
    container = facts.container
    pulled = options.image_transfer == "pull" and not container.image.startswith("localhost/")
    if not facts.image_present and options.image_transfer != "stream" and not pulled:
        yield Finding(
            "image_absent",
            f"The image {container.image} with the ID {container.image_id[:12]} is not on the destination, and "
            f"image_transfer={options.image_transfer} does not bring it.",
            "Leave out image_transfer, or bring that very image with podman save and podman load.",
        )


def space_findings(facts: MoveFacts, options: MoveOptions) -> Iterator[Finding]:
    """Room on the disks of both hosts, and memory on the destination."""
    weight, there = facts.estimate, facts.there
    yield from archive_space_findings(facts)
    if there is not None and there.memory is not None and there.memory < weight.memory:
        enough_with_swap = there.memory + there.swap >= weight.memory
        yield Finding(
            "memory_short",
            f"The container has about {_megabytes(weight.memory)} of memory, and the destination "
            f"{_megabytes(there.memory)} available.",
            "Free memory there, or choose another destination.",
            severity="warning" if enough_with_swap else "blocker",
        )


def archive_space_findings(facts: MoveFacts, again: int = 0) -> Iterator[Finding]:
    """:param again: bytes of memory that the archive may have once more."""
    weight, there = facts.estimate, facts.there
    archive, copied = weight.archive - facts.beside + again, weight.files + weight.volumes
    # CRIU's images and tars of the files beside the container, and the whole archive where podman spools.
    yield from _disk_findings("source", facts.source, facts.here, archive, archive)
    yield from _disk_findings("destination", facts.destination, there, archive + copied, archive)


def _cold_space_findings(facts: MoveFacts) -> Iterator[Finding]:
    """Changed files become an image, which each host writes once as layers and once as it spools it."""
    files, volumes = facts.estimate.files, facts.estimate.volumes
    yield from _disk_findings("source", facts.source, facts.here, files, files)
    yield from _disk_findings("destination", facts.destination, facts.there, files + volumes, files)


def _disk_findings(
    side: str, info: HostInfo, host: HostFacts | None, for_containers: int, for_spool: int
) -> Iterator[Finding]:
    if host is None:
        return
    needs: dict[str, int] = {}
    for path, needed in ((info.graph_root, for_containers), (info.temporary_directory, for_spool)):
        mount = host.disk_of(path)
        if mount is not None:
            needs[mount] = needs.get(mount, 0) + needed
    for mount, needed in needs.items():
        if host.disks[mount] < needed:
            yield Finding(
                "disk_short",
                f"The move takes about {_megabytes(needed)} on the {side}'s file system {mount}, which has "
                f"{_megabytes(host.disks[mount])} free.",
                "Free space there; podman writes the whole archive to disk on both hosts.",
            )


def _time_findings(facts: MoveFacts, options: MoveOptions) -> Iterator[Finding]:
    longest = options.max_downtime
    if longest is not None and facts.estimate.downtime_ms > longest * 1000:
        yield Finding(
            "downtime_exceeded",
            f"The container would stand still for about {facts.estimate.downtime_ms / 1000:.1f} s for "
            f"{_megabytes(facts.estimate.archive)}, and max_downtime is {longest:g} s.",
            "Raise max_downtime or bandwidth, or make the container smaller.",
        )


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.0f} MB"


def _some(names: t.Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
