# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What speaks against one move, and what it will cost; asks both hosts and touches nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _verdicts
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import Checkpointer, CheckpointRequest
from ansible_collections.ferry.podman.plugins.module_utils._estimate import Estimate, estimate
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts, ProcessFacts
from ansible_collections.ferry.podman.plugins.module_utils._guard import can_be_guarded, parents_and_addresses
from ansible_collections.ferry.podman.plugins.module_utils._host import probe, process_facts
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    HostInfo,
    Json,
    LibpodClient,
    RegistryAccess,
)
from ansible_collections.ferry.podman.plugins.module_utils._paths import kinds_of, shared_here
from ansible_collections.ferry.podman.plugins.module_utils._precopy import bound_of, reason_against
from ansible_collections.ferry.podman.plugins.module_utils._restore import gather_facts
from ansible_collections.ferry.podman.plugins.module_utils._thin import Conditions, NotThin, Plan, plan
from ansible_collections.ferry.podman.plugins.module_utils._volumecopy import WORTH as WORTH_FIRST
from ansible_collections.ferry.podman.plugins.module_utils._volumecopy import can_be_copied
from ansible_collections.ferry.podman.plugins.module_utils._volumes import volume_roots


@dataclass(frozen=True)
class MoveRequest:
    """How a container is to be moved; the options of the module.

    :param method: live or cold.
    :param tcp: auto, established, close or none.
    :param transfer: auto, thin, stream, registry or relay.
    :param precopy: auto, never, or the most rounds; memory that goes before the freeze.
    :param compress: auto, zstd or none; what a thin move does with the memory.
    :param registry: host, port and path in a registry, for that transfer.
    :param access: how to talk to it.
    :param image_transfer: stream, pull or never; how the destination gets the base image if it lacks it.
    :param networks: create or require, for those that the destination lacks.
    :param publish: ports to publish instead of the container's own, as podman takes them.
    :param wait_healthy_timeout: seconds.
    :param bandwidth: bytes per second, or None.
    :param max_downtime: seconds, or None.
    :param force: go on in spite of warnings.
    :param retries: how many more times a dump is tried that failed for a passing reason.
    """

    method: str = "live"
    tcp: str = "auto"
    transfer: str = "auto"
    compress: str = "auto"
    precopy: str = "auto"
    registry: str = ""
    access: RegistryAccess = field(default_factory=RegistryAccess)
    image_transfer: str = "stream"
    networks: str = "require"
    ignore_volumes: bool = False
    publish: list[str] = field(default_factory=list)
    keep_source: bool = False
    wait_healthy: bool = True
    wait_healthy_timeout: int = 60
    bandwidth: int | None = None
    max_downtime: float | None = None
    force: bool = False
    retries: int = 3

    @property
    def verdict_options(self) -> _verdicts.MoveOptions:
        """What of it matters to verdicts."""
        return _verdicts.MoveOptions(
            image_transfer=self.image_transfer,
            networks=self.networks,
            ignore_volumes=self.ignore_volumes,
            keep_source=self.keep_source,
            max_downtime=self.max_downtime,
        )


@dataclass(frozen=True)
class Side:
    """One of the two hosts."""

    client: LibpodClient
    host: HostInfo

    @classmethod
    def of(cls, client: LibpodClient) -> Side:
        return cls(client, client.host)

    @cached_property
    def facts(self) -> HostFacts | None:
        """What the host tells beyond podman's API, asked for once; None if it does not."""
        return probe(self.client.transport)


class Assessment:
    """Everything that the two hosts tell about a move before it begins.

    :param tcp: what ``auto`` came to.
    """

    def __init__(self, source: Side, destination: Side, container: Container, request: MoveRequest) -> None:
        self.source = source
        self.destination = destination
        self.container = container
        self.request = request
        self.subject = _compat.Subject.from_container(container, source.host.podman)
        there = {name: destination.client.network(name) for name in self.subject.networks}
        self._networks: Mapping[str, tuple[Json | None, Json | None]] = {
            name: (source.client.network(name) if network is None else None, network) for name, network in there.items()
        }
        self.tcp = self._settled_tcp()

    def findings(self) -> list[_compat.Finding]:
        """Every reason for or against the move, at once."""
        request = _compat.RestoreRequest(ignore_volumes=self.request.ignore_volumes)
        found = gather_facts(self.destination.client, self.destination.host, self.subject, request)
        facts = replace(
            found,
            # Whether they will be there is a matter of the request, below.
            image_present=bool(self.subject.image_id),
            absent_networks=[],
            taken_addresses=self.taken_addresses(),
            outside_addresses=_verdicts.addresses_outside(self.container, self._planned_networks),
            addresses_may_change=self.addresses_may_change,
        )
        return [
            *self.checkpointer().findings(self.container),
            *_compat.restore_findings(self.subject, facts, request),
            *([] if self.request.ignore_volumes else self._volume_findings()),
            *_verdicts.move_findings(self._move_facts(found.image_present), self.request.verdict_options),
            *(_compat.registry_losses(self.container) if self.request.transfer == "registry" else []),
            *self._thin_findings(),
        ]

    @cached_property
    def processes(self) -> ProcessFacts | None:
        """What the container's processes do, where that can be seen."""
        return process_facts(self.source.client, self.container)

    @cached_property
    def estimate(self) -> Estimate:
        """What the move will carry, and for how long the container will stand still."""
        return self._weight.beside(self.request.bandwidth) if isinstance(self.thin, Plan) else self._weight

    @cached_property
    def thin(self) -> Plan | NotThin:
        """Where the memory is to lie in a thin move, or why there is none."""
        here, there = self.source, self.destination
        try:
            return plan(
                Conditions(
                    transfer=self.request.transfer,
                    memory=self._weight.memory,
                    shared=self.processes.shared if self.processes is not None else 0,
                    straight=here.client.transport.is_local
                    and os.geteuid() == 0
                    and there.client.transport.forward is not None,
                    keep_source=self.request.keep_source,
                    here=here.host,
                    there=there.host,
                    facts_here=here.facts,
                    facts_there=there.facts,
                    rounds=bound_of(self.request.precopy),
                    tracks=self._tracks_memory,
                )
            )
        except NotThin as reason:
            return reason

    @cached_property
    def no_early_pages(self) -> str:
        """Why no memory goes before the freeze in a move that is not thin, for the user; nothing if it can."""
        weight, processes = self._weight, self.processes
        if self.request.transfer == "registry":
            return "An image goes through a registry as a whole."
        if not self.source.client.transport.is_local or os.geteuid() != 0:
            # Nobody else sees a runtime that podman has lost, or can remove what a round has left.
            return "The module does not run as root on the source."
        shared = processes.shared if processes is not None else 0
        reason = reason_against(bound_of(self.request.precopy), weight.memory, shared, self._tracks_memory)
        if reason:
            return reason
        unknown = self.request.ignore_volumes and bool(self.subject.volumes)
        if unknown or weight.volumes > weight.memory:
            return "Podman's API would read its volumes once more, and they may be larger than its memory."
        if next(_verdicts.archive_space_findings(self._move_facts(True), weight.memory), None) is not None:
            return "There is not the room for memory that goes twice."
        return ""

    def _tracks_memory(self) -> bool:
        try:
            command = ["criu", "check", "--feature", "mem_dirty_track"]
            done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    @cached_property
    def volumes_first(self) -> dict[str, Json]:
        """Volumes whose content goes before the freeze, as inspected; all of the container's, or none."""
        request, names = self.request, self.subject.volumes
        straight = self.source.client.transport.is_local and self.destination.client.transport.forward is not None
        wanted = not request.ignore_volumes and request.precopy != "never" and request.transfer != "registry"
        if not names or not wanted or not straight or os.geteuid() != 0 or self.estimate.volumes < WORTH_FIRST:
            return {}
        volumes = {name: self.source.client.volume(name) or {} for name in names}
        return volumes if can_be_copied(volumes) else {}

    def give_up_thin(self, reason: NotThin) -> list[_compat.Finding]:
        """Go on without; what speaks against it then."""
        self.thin = reason
        self.__dict__.pop("estimate", None)
        return list(_verdicts.space_findings(self._move_facts(True), self.request.verdict_options))

    @cached_property
    def _weight(self) -> Estimate:
        return estimate(
            self.source.client,
            self.container,
            self.processes,
            ignore_volumes=self.request.ignore_volumes,
            bandwidth=self.request.bandwidth,
        )

    def _thin_findings(self) -> list[_compat.Finding]:
        wanted = self.request.transfer == "thin"
        return _compat.thin_findings(str(self.thin)) if wanted and isinstance(self.thin, NotThin) else []

    def _move_facts(self, image_present: bool) -> _verdicts.MoveFacts:
        there, container = self.destination, self.container
        paths = {*_verdicts.bind_sources(container), *_verdicts.devices(container)}
        return _verdicts.MoveFacts(
            container=container,
            source=self.source.host,
            destination=there.host,
            estimate=self.estimate,
            here=self.source.facts,
            there=there.facts,
            processes=self.processes,
            kinds=kinds_of(there.client, paths),
            shared=frozenset(shared_here(self.source.client, paths)),
            networks=self._networks,
            tcp=self.tcp,
            guarded=self.tcp == "established" and bool(self.guarded[1]),
            image_present=image_present,
            published=_verdicts.published_ports(container, self.request.publish),
            beside=self.estimate.memory if isinstance(self.thin, Plan) else 0,
        )

    def checkpointer(self, *, with_previous: bool = False, without_volumes: bool = False) -> Checkpointer:
        """What freezes the container.

        :param with_previous: most of its memory has gone before.
        :param without_volumes: they go beside the archive.
        """
        options = CheckpointOptions(tcp_established=self.tcp != "none", file_locks=True, with_previous=with_previous)
        request = CheckpointRequest(
            options,
            dest="",
            compression="none",
            ignore_volumes=self.request.ignore_volumes or without_volumes,
            # A try that failed may have reset what tells of changed pages: another one would miss some.
            retries=0 if with_previous else self.request.retries,
        )
        return Checkpointer(self.source.client, self.source.host, request)

    @property
    def expected(self) -> int:
        """Bytes that the archive will have, about."""
        return self.estimate.archive

    def _volume_findings(self) -> list[_compat.Finding]:
        here = self.source.client
        volumes = {name: here.volume(name) or {} for name in self.subject.volumes}
        users: dict[str, list[str]] = {name: [] for name in volumes}
        for other in here.each_container() if volumes else ():
            for name in set(other.volumes) & set(volumes):
                users[name] += [other.name] if other.id != self.container.id else []
        return [*_compat.volume_findings(self.container, volumes, users), *self._root_findings(list(volumes))]

    def _root_findings(self, volumes: list[str]) -> list[_compat.Finding]:
        """Of a source that is not this machine the roots of volumes may be unknown."""
        seen = (
            volume_roots(self.source.client, self.container) if not self.source.client.transport.is_local else volumes
        )
        text = "Owner and mode of the root of volume {} cannot be seen from here; it becomes 0:0 with 755."
        return _compat.volume_root_findings([text.format(name) for name in volumes if name not in seen])

    # -- addresses and connections

    def taken_addresses(self) -> list[str]:
        """The container's addresses that a running container on the destination has."""
        wanted = set(self.container.addresses)
        if wanted:
            running = (there for there in self.destination.client.each_container() if there.running)
            wanted &= {address for there in running for address in there.addresses}
        return sorted(wanted)

    @property
    def addresses_may_change(self) -> bool:
        return self.tcp == "close" and not self.guarded[1]

    @property
    def _planned_networks(self) -> Mapping[str, Json | None]:
        """The destination's networks as they will be: one that is created there is like the source's."""
        creates = self.request.networks == "create"
        return {name: there or (here if creates else None) for name, (here, there) in self._networks.items()}

    @property
    def another_address(self) -> bool:
        """Whether the container must take another address there."""
        outside = _verdicts.addresses_outside(self.container, self._planned_networks)
        return self.addresses_may_change and bool(outside or self.taken_addresses())

    @property
    def guarded(self) -> tuple[list[str], list[str]]:
        """Devices on the destination, and the addresses that move along to networks on them."""
        networks = {name: self.container.networks[name] for name in self.subject.networks}
        return parents_and_addresses(networks, self._planned_networks)

    @property
    def reached_elsewhere(self) -> bool:
        """Whether clients reach it on networks, too, that no guard covers."""
        return not all(can_be_guarded(self._planned_networks[name] or {}) for name in self.subject.networks)

    def _settled_tcp(self) -> str:
        """Keep connections where the address moves along, else close them where that is possible."""
        if self.request.tcp != "auto":
            return self.request.tcp
        there = self.destination.host
        return "established" if self.guarded[1] or not _verdicts.can_close(there) else "close"
