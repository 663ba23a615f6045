# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What speaks against a host before its room is looked at: by what it is, and by what pairs of hosts told. Pure."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_facts import (
    Host,
    Member,
    Profile,
    containers_of,
    failure_of,
    numbers,
)
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json, mapping_of

LIVE_ONLY = frozenset(
    {
        "cgroup_manager",
        "cgroup_version",
        "changes_unknown",
        "checkpointed",
        "connections_open",
        "cpu_features",
        "criu_absent",
        "dependencies",
        "downtime_exceeded",
        "file_names",
        "file_secret",
        "init",
        "io_uring",
        "lsm_differs",
        "networks_lost",
        "nft_absent",
        "no_cgroup",
        "not_running",
        "older_criu",
        "older_destination",
        "older_kernel",
        "overlay_mount",
        "pod_required",
        "runtime_differs",
        "runtime_without_criu",
        "systemd_unit",
        "tcp_close_unsupported",
    }
)
"""Findings about memory and CRIU, which say nothing of a container that is made anew."""

OF_CONTAINER = frozenset(
    {
        "changes_unknown",
        "dependencies",
        "file_names",
        "file_secret",
        "init",
        "io_uring",
        "no_cgroup",
        "no_image",
        "overlay_mount",
        "pod_required",
        "systemd_unit",
    }
)
"""Findings about the container itself, which hold for any destination once one was asked."""

MOST_KINDS = 16
"""Kinds of hosts that are ranked apart."""

SHORT = frozenset({"memory_short", "disk_short"})
"""Findings that say that a host has no room."""


@dataclass(frozen=True)
class Objection:
    """One reason against some hosts.

    :param short: whether it is that they have no room.
    """

    text: str
    hosts: frozenset[int]
    short: bool = False


@dataclass(frozen=True)
class Verdict:
    """What speaks against hosts by what they are.

    :param barred: the hosts that something speaks against.
    :param kinds: of the others.
    """

    objections: tuple[Objection, ...]
    barred: frozenset[int]
    kinds: tuple[int, ...]


class Verdicts:
    """Hosts that are alike are judged once.

    :param force: whether warnings are nothing against them.
    """

    def __init__(self, hosts: Sequence[Host], *, force: bool) -> None:
        self._force = force
        self._alike: dict[Profile, list[int]] = {}
        for index, host in enumerate(hosts):
            self._alike.setdefault(host.profile, []).append(index)
        # Of hosts that are all different, each would be a kind by itself, and nothing gained.
        few = len(self._alike) <= MOST_KINDS
        self._kinds = _numbered({profile: profile if few else profile.arch for profile in self._alike})
        self.kinds = [self._kinds[host.profile] for host in hosts]
        self._known: dict[tuple[Profile, tuple[str, ...], str], Verdict] = {}

    def of(self, here: Profile, runtimes: tuple[str, ...], method: str) -> Verdict:
        asked = (here, runtimes, method)
        if asked not in self._known:
            self._known[asked] = self._judge(*asked)
        return self._known[asked]

    def _judge(self, here: Profile, runtimes: tuple[str, ...], method: str) -> Verdict:
        found: dict[str, set[int]] = {}
        kinds = set()
        for there, indices in self._alike.items():
            text = next(_reasons(here, there, runtimes, method, self._force), None)
            if text is None:
                kinds.add(self._kinds[there])
            else:
                found.setdefault(text, set()).update(indices)
        objections = tuple(Objection(text, frozenset(found[text])) for text in sorted(found))
        return Verdict(objections, frozenset().union(*found.values()), tuple(sorted(kinds)))


def _numbered(kinds: Mapping[Profile, t.Hashable]) -> dict[Profile, int]:
    numbers_of: dict[t.Hashable, int] = {}
    return {profile: numbers_of.setdefault(kind, len(numbers_of)) for profile, kind in kinds.items()}


def _reasons(here: Profile, there: Profile, runtimes: tuple[str, ...], method: str, force: bool) -> Iterator[str]:
    if here.arch != there.arch:
        yield f"[architecture] it is {there.arch}, the source {here.arch}"
    if method != "live":
        return
    if here.unfit:
        yield f"[source_unfit] the source cannot checkpoint: {here.unfit.rstrip('.')}"
    if there.unfit:
        yield f"[destination_unfit] it cannot restore: {there.unfit.rstrip('.')}"
    for runtime in runtimes:
        if runtime != there.runtime:
            yield f"[runtime_differs] its runtime is {there.runtime}, the container's {runtime}"
    if here.cgroup_version != there.cgroup_version:
        yield f"[cgroup_version] it has cgroups {there.cgroup_version}, the source {here.cgroup_version}"
    if here.cgroup_manager != there.cgroup_manager:
        yield f"[cgroup_manager] its cgroup manager is {there.cgroup_manager}, the source's {here.cgroup_manager}"
    if here.podman >= (6,) > there.podman:
        yield f"[networks_lost] its podman {_dotted(there.podman)} does not read checkpoints of podman 6"
    if not force:
        yield from _warnings(here, there)


def _warnings(here: Profile, there: Profile) -> Iterator[str]:
    """What ``podman_migrate`` refuses unless it is forced."""
    if there.podman[:2] < here.podman[:2]:
        yield f"[older_destination] its podman {_dotted(there.podman)} is older than {_dotted(here.podman)}"
    if numbers(there.kernel)[:3] < numbers(here.kernel)[:3]:
        yield f"[older_kernel] its kernel {there.kernel} is older than {here.kernel}"
    if here.criu and there.criu and numbers(there.criu) < numbers(here.criu):
        yield f"[older_criu] its CRIU {there.criu} is older than {here.criu}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


class Pairs:
    """What was found of moves from one host to another, where such pairs were asked.

    :param raw: by source and destination, what ``podman_checkpoint_info`` returned.
    :param sources: those that count.
    :param indices: of the destinations.
    """

    def __init__(
        self, raw: Mapping[str, t.Any], sources: t.Collection[str], indices: Mapping[str, int], *, force: bool
    ) -> None:
        self._grave = ("blocker",) if force else ("blocker", "warning")
        self._indices = indices
        self._failures: dict[str, dict[str, str]] = {}
        self._told: dict[tuple[str, str], dict[str, Json]] = {}
        for source in sorted(set(sources) & set(raw)):
            there = mapping_of(raw[source], f"pairs[{source!r}]")
            for destination in sorted(there):
                self._read(source, destination, there[destination])

    def _read(self, source: str, destination: str, result: t.Any) -> None:
        where = f"pairs[{source!r}][{destination!r}]"
        told = mapping_of(result, where)
        failure = failure_of(told)
        if failure is not None:
            self._failures.setdefault(source, {})[destination] = failure
            return
        for container in containers_of(where, told):
            self._told.setdefault((source, str(container["name"])), {})[destination] = dict(container)

    def estimate(self, host: str, name: str) -> Json | None:
        """Of the first destination that was asked; what a container weighs does not depend on it."""
        return next(
            (told["estimate"] for told in self._told.get((host, name), {}).values() if "estimate" in told), None
        )

    def of_container(self, host: str, name: str) -> list[Json]:
        """What holds for every destination."""
        told = self._told.get((host, name), {}).values()
        return [one for each in told for one in each.get("findings") or () if one.get("code") in OF_CONTAINER]

    def objections(self, member: Member, method: str) -> Iterator[Objection]:
        for destination, failure in self._failures.get(member.host, {}).items():
            if destination in self._indices:
                yield Objection(f"[pair_unknown] it could not be asked: {failure}", self._of(destination))
        for destination, told in self._told.get((member.host, member.name), {}).items():
            finding = self._finding(told.get("findings") or (), method, member.pod)
            if finding is not None and destination in self._indices:
                text = f"[{finding['code']}] {str(finding['message']).rstrip('.')}"
                yield Objection(text, self._of(destination), short=finding["code"] in SHORT)

    def _of(self, destination: str) -> frozenset[int]:
        return frozenset((self._indices[destination],))

    def _finding(self, findings: Sequence[Json], method: str, pod: str | None) -> Json | None:
        # A volume that a pod's containers share goes with the pod.
        passing = {*(() if method == "live" else LIVE_ONLY), *(() if pod is None else ("volume_shared",))}
        grave = (finding for finding in findings if finding.get("severity") in self._grave)
        return next((finding for finding in grave if finding.get("code") not in passing), None)
