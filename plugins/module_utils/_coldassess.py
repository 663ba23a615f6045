# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What speaks against a cold move, and what it will cost; asks both hosts and touches nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ansible_collections.ferry.podman.plugins.module_utils import _compat, _verdicts
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._definition import definition, pod_definition
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._estimate import Estimate, estimate
from ansible_collections.ferry.podman.plugins.module_utils._facts import ProcessFacts
from ansible_collections.ferry.podman.plugins.module_utils._filling import lost_attributes
from ansible_collections.ferry.podman.plugins.module_utils._host import process_facts
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, RestartPolicy
from ansible_collections.ferry.podman.plugins.module_utils._paths import kinds_of, shared_here
from ansible_collections.ferry.podman.plugins.module_utils._recreate import (
    Recipe,
    fixed_addresses,
    mounted_at,
    sharing,
    unknown_fields,
)
from ansible_collections.ferry.podman.plugins.module_utils._repod import PodRecipe, unknown_pod_fields
from ansible_collections.ferry.podman.plugins.module_utils._restore import gather_facts
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import find_hold


@dataclass(frozen=True)
class Member:
    """One of the containers that move as one.

    :param config: its definition; empty if that cannot be read.
    :param unreadable: why not.
    :param policy: its own restart policy, whatever holds it at the moment.
    """

    container: Container
    config: Json
    unreadable: str | None
    policy: RestartPolicy

    @classmethod
    def of(cls, side: Side, container: Container) -> Member:
        held = find_hold(side.client, container)
        policy = held.policy if held is not None else container.restart_policy
        config, why = {}, None
        if side.client.transport.is_local:
            try:
                config = definition(side.host, container.id)
            except FerryError as error:
                why = str(error)
        return cls(container, config, why, policy)

    @property
    def ran(self) -> bool:
        return self.container.running

    @property
    def initializes(self) -> bool:
        """Whether it runs to its end before the others of its pod start."""
        return bool(self.config.get("init_container_type"))

    @property
    def secrets(self) -> list[str]:
        """Names of those that it has as files or in its environment."""
        as_files = [str(secret["name"]) for secret in self.config.get("secrets") or []]
        return [*as_files, *(str(secret["name"]) for secret in (self.config.get("secret_env") or {}).values())]

    def recipe(self, **more: object) -> Recipe:
        """What it is made from; see there."""
        return Recipe(self.config, self.container.raw, policy=(self.policy.name, self.policy.retries), **more)  # type: ignore[arg-type]


class ColdAssessment:
    """Everything that the two hosts tell about a cold move before it begins.

    :param containers: those that move as one, in the order in which they start.
    :param pod: the pod that they make up, as inspected.
    """

    def __init__(
        self,
        source: Side,
        destination: Side,
        containers: list[Container],
        request: MoveRequest,
        pod: Json | None = None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.request = request
        self.members = [Member.of(source, container) for container in containers]
        self.pod = pod
        infra = source.client.find_container(pod["InfraContainerID"]) if pod and pod.get("InfraContainerID") else None
        self.infra = Member.of(source, infra) if infra is not None else None
        wanted = {name for member in self._all for name in member.container.networks}
        there = {name: destination.client.network(name) for name in sorted(wanted)}
        self.networks: Mapping[str, tuple[Json | None, Json | None]] = {
            name: (source.client.network(name), network) for name, network in there.items()
        }

    def findings(self) -> list[_compat.Finding]:
        """Every reason for or against the move, at once."""
        found = [*self._pod_findings(), *(finding for member in self._all for finding in self._of(member))]
        if not self.request.ignore_volumes:
            found += self._volume_findings()
        # Containers of a pod share some of the reasons.
        return list(dict.fromkeys(found))

    @property
    def _all(self) -> list[Member]:
        return [*self.members, *([self.infra] if self.infra is not None else [])]

    def _pod_findings(self) -> list[_compat.Finding]:
        if self.pod is None:
            inside = [member.container for member in self.members if member.container.pod]
            names = {str(each.pod): (self.source.client.pod(str(each.pod)) or {}).get("Name") for each in inside}
            return [
                finding for each in inside for finding in _compat.pod_move_findings(each, str(names[str(each.pod)]))
            ]
        name = str(self.pod["Name"])
        exists = self.destination.client.pod(name) is not None
        return _compat.pod_findings(name, unknown_pod_fields(self.pod_config), exists=exists)

    @cached_property
    def pod_config(self) -> Json:
        """The definition of the pod; that it cannot be read is told of its containers."""
        if (
            self.pod is None
            or any(member.unreadable for member in self._all)
            or not self.source.client.transport.is_local
        ):
            return {}
        return pod_definition(self.source.host, str(self.pod["Id"]))

    @property
    def pod_recipe(self) -> PodRecipe | None:
        """What the pod is made from."""
        if self.pod is None:
            return None
        infra = self.infra.recipe(anonymous=self.anonymous) if self.infra is not None else None
        return PodRecipe(self.pod_config, self.pod, infra)

    def recipe(self, member: Member, not_filled: frozenset[str] = frozenset()) -> Recipe:
        """What one of them is made from.

        :param not_filled: names of volumes that are empty.
        """
        return member.recipe(
            anonymous=self.anonymous,
            not_filled=not_filled,
            infra=self.infra.container.id if self.infra is not None else "",
            inherited=mounted_at(self.infra.config) if self.infra is not None else frozenset(),
            names={each.container.id: each.container.name for each in self.members},
        )

    def _of(self, member: Member) -> list[_compat.Finding]:
        container, request = member.container, _compat.RestoreRequest(ignore_volumes=self.request.ignore_volumes)
        subject = _compat.Subject.from_container(container, self.source.host.podman)
        # The infra container of a pod has a root filesystem of podman's own.
        image_id = subject.image_id or ("infra" if container.is_infra else "")
        subject = replace(subject, secrets=member.secrets, image_id=image_id)
        facts = replace(
            gather_facts(self.destination.client, self.destination.host, subject, request),
            taken_addresses=self._taken(member),
            outside_addresses=_verdicts.outside(fixed_addresses(member.config), self._planned_networks),
        )
        return [
            *_compat.cold_findings(
                container,
                self.source.host,
                local=self.source.client.transport.is_local,
                transfer=self.request.transfer,
                unreadable=member.unreadable,
                unknown=unknown_fields(member.config),
            ),
            *_compat.recreate_findings(subject, facts, request),
            *_compat.dependency_findings(container, self._outsiders(member)),
            *_compat.leased_address_findings(self._leased(member)),
            *_verdicts.cold_findings(
                self._move_facts(container, facts.image_present or container.is_infra), self.request.verdict_options
            ),
        ]

    def _outsiders(self, member: Member) -> list[str]:
        """Names of the containers that it needs and that do not move along."""
        others = {*sharing(member.config), *member.container.dependencies}
        others -= {each.container.id for each in self._all}
        found = [self.source.client.find_container(ident) for ident in sorted(others)]
        # Of a pod that is not named that is told by another finding.
        return [other.name for other in found if other is not None and not other.is_infra]

    def _taken(self, member: Member) -> list[str]:
        """Its fixed addresses that a running container on the destination has."""
        wanted = {address for listed in fixed_addresses(member.config).values() for address in listed}
        if wanted:
            running = (there for there in self.destination.client.each_container() if there.running)
            wanted &= {address for there in running for address in there.addresses}
        return sorted(wanted)

    def _leased(self, member: Member) -> list[str]:
        fixed = {address for listed in fixed_addresses(member.config).values() for address in listed}
        return [address for address in member.container.addresses if address not in fixed] if member.config else []

    @property
    def _planned_networks(self) -> Mapping[str, Json | None]:
        creates = self.request.networks == "create"
        return {name: there or (here if creates else None) for name, (here, there) in self.networks.items()}

    @cached_property
    def estimate(self) -> Estimate:
        """What will be carried, in files and volumes; the time that it takes to stop and start is not in it."""
        seen: set[str] = set()
        files = volumes = 0
        for member in self.members:
            weight = estimate(
                self.source.client,
                member.container,
                NO_MEMORY,
                ignore_volumes=bool(seen & set(member.container.volumes)),
            )
            seen |= set(member.container.volumes)
            files, volumes = files + weight.files, volumes + weight.volumes
        return Estimate.of(0, files, 0 if self.request.ignore_volumes else volumes, self.request.bandwidth)

    def _move_facts(self, container: Container, image_present: bool) -> _verdicts.MoveFacts:
        there = self.destination
        paths = {*_verdicts.bind_sources(container), *_verdicts.devices(container)}
        on_host = container.running and container.raw["HostConfig"].get("NetworkMode") == "host"
        return _verdicts.MoveFacts(
            container=container,
            source=self.source.host,
            destination=there.host,
            estimate=self.estimate,
            here=self.source.facts,
            there=there.facts,
            processes=process_facts(self.source.client, container) if on_host else None,
            kinds=kinds_of(there.client, paths),
            shared=frozenset(shared_here(self.source.client, paths)),
            networks={name: pair for name, pair in self.networks.items() if name in container.networks},
            image_present=image_present,
            published=_verdicts.published_ports(container, self.request.publish),
        )

    # -- volumes

    @cached_property
    def volumes(self) -> dict[str, Json]:
        """All volumes that move along, as inspected; none with ignore_volumes."""
        names = {name for member in self._all for name in member.container.volumes}
        return (
            {}
            if self.request.ignore_volumes
            else {name: self.source.client.volume(name) or {} for name in sorted(names)}
        )

    @property
    def anonymous(self) -> frozenset[str]:
        return frozenset(name for name, volume in self.volumes.items() if volume.get("Anonymous"))

    @cached_property
    def places(self) -> dict[str, str]:
        """Where the content of each volume is that is to be copied."""
        return places_of(self.volumes)

    def _volume_findings(self) -> list[_compat.Finding]:
        own = {member.container.id for member in self._all}
        users: dict[str, list[str]] = {name: [] for name in self.volumes}
        for other in self.source.client.each_container() if users else ():
            for name in set(other.volumes) & set(users):
                users[name] += [other.name] if other.id not in own else []
        bare: dict[str, Json] = {name: {} for name in self.volumes}
        found = [*_compat.volume_findings(self.members[0].container, bare, users)]
        found += _compat.device_volume_findings(self.volumes)
        if self.source.client.transport.is_local:
            found += _compat.attribute_findings(_lost(self.places.values()))
        return found


def places_of(volumes: Mapping[str, Json]) -> dict[str, str]:
    """Where the content of volumes is; that of one on a network is there already, and that of one in memory is not.

    :param volumes: by name, as inspected.
    """
    return {
        name: str(volume["Mountpoint"])
        for name, volume in volumes.items()
        if volume.get("Mountpoint") and not (volume.get("Options") or {}).get("type")
    }


NO_MEMORY = ProcessFacts()
"""Stands for what the processes have in memory, which stays behind."""


def _lost(places: Iterable[str]) -> list[str]:
    with contextlib.suppress(OSError):
        return [path for place in places if os.path.isdir(place) for path in lost_attributes(place)]
    return []
