# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What speaks against one move, and what it will cost; asks both hosts and touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import Checkpointer, CheckpointRequest
from ansible_collections.ferry.podman.plugins.module_utils._guard import parents_and_addresses
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    HostInfo,
    Json,
    LibpodClient,
)
from ansible_collections.ferry.podman.plugins.module_utils._restore import gather_facts

TCP_CLOSE_SINCE = (5, 7, 0)


@dataclass(frozen=True)
class MoveRequest:
    """How a container is to be moved; the options of the module.

    :param tcp: auto, established, close or none.
    :param transfer: stream, registry or relay.
    :param image_transfer: stream, pull or never; how the destination gets the base image if it lacks it.
    :param networks: create or require, for those that the destination lacks.
    :param publish: ports to publish instead of the container's own, as podman takes them.
    :param wait_healthy_timeout: seconds.
    :param bandwidth: bytes per second, or None.
    :param max_downtime: seconds, or None.
    :param force: go on in spite of warnings.
    :param retries: how many more times a dump is tried that failed for a passing reason.
    """

    tcp: str = "auto"
    transfer: str = "stream"
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


@dataclass(frozen=True)
class Side:
    """One of the two hosts."""

    client: LibpodClient
    host: HostInfo

    @classmethod
    def of(cls, client: LibpodClient) -> Side:
        return cls(client, client.info())


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
        self._networks: Mapping[str, Json | None] = {
            name: destination.client.network(name) for name in self.subject.networks
        }
        self.tcp = self._settled_tcp()

    def findings(self) -> list[_compat.Finding]:
        """Every reason against the move, at once."""
        facts = gather_facts(self.destination.client, self.destination.host, self.subject, _compat.RestoreRequest())
        # What the destination lacks of images is brought to it.
        facts = replace(
            facts,
            image_present=bool(self.subject.image_id),
            taken_addresses=self.taken_addresses(),
            addresses_may_change=self.addresses_may_change,
            absent_networks=[] if self.request.networks == "create" else facts.absent_networks,
        )
        return [
            *self.checkpointer().findings(self.container),
            *_compat.restore_findings(self.subject, facts, _compat.RestoreRequest()),
            *self._volume_findings(),
            *_compat.version_findings(self.source.host, self.destination.host),
        ]

    def checkpointer(self) -> Checkpointer:
        """What freezes the container."""
        options = CheckpointOptions(tcp_established=self.tcp != "none", file_locks=True)
        request = CheckpointRequest(options, dest="", compression="none", retries=self.request.retries)
        return Checkpointer(self.source.client, self.source.host, request)

    @property
    def expected(self) -> int:
        """Bytes that the archive will have, about; 0 if that is not known."""
        return 0

    def _volume_findings(self) -> list[_compat.Finding]:
        here = self.source.client
        volumes = {name: here.volume(name) or {} for name in self.subject.volumes}
        users: dict[str, list[str]] = {name: [] for name in volumes}
        for other in here.each_container() if volumes else ():
            for name in set(other.volumes) & set(volumes):
                users[name] += [other.name] if other.id != self.container.id else []
        return list(_compat.volume_findings(self.container, volumes, users))

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
    def guarded(self) -> tuple[list[str], list[str]]:
        """Devices on the destination, and the addresses that move along to networks on them."""
        networks = {name: self.container.networks[name] for name in self.subject.networks}
        return parents_and_addresses(networks, self._networks)

    def _settled_tcp(self) -> str:
        """Keep connections where the address moves along, else close them where that is possible."""
        if self.request.tcp != "auto":
            return self.request.tcp
        there = self.destination.host
        if self.guarded[1] or there.podman < TCP_CLOSE_SINCE or there.runtime != "crun":
            return "established"
        return "close"
