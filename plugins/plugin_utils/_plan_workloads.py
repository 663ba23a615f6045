# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What moves together, and what its policy is: a container, or a pod whole. Pure."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_facts import (
    POLICY_LABEL,
    PRIORITY_LABEL,
    Key,
    Member,
    Weight,
    blockers,
    holds,
    port_wanted,
)
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import POLICIES, Options
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_verdicts import LIVE_ONLY, Objection

STRICTEST = ("block", "keep", "stop", "cold", "live")
"""The first of these that a container of a pod has is that of the pod."""

INVALID = "invalid"
"""What a label says that is no policy."""


@dataclass(frozen=True)
class Policy:
    """What is to become of a container.

    :param words: where that is from.
    :param by_default: whether nobody chose it for this one.
    """

    name: str
    words: str
    by_default: bool = False


@dataclass(eq=False)
class Workload:
    """A container, or a pod with all its containers.

    :param method: live or cold, once that is decided.
    :param note: why it is cold where its policy is live.
    :param only: the one destination that it may go to, as an index.
    :param origin: the one that it rather goes to.
    :param objections: what speaks against hosts, but for room and what is in use there.
    :param barred: the hosts in these.
    :param kinds: of hosts that can be others.
    :param firm: what must not be in use on a destination.
    :param addresses: the same, on destinations that cannot give it others.
    :param groups: those of ``ferry.spread``.
    """

    members: Sequence[Member]
    policy: Policy
    weight: Weight
    priority: int
    method: str = ""
    note: str = ""
    only: int | None = None
    origin: int | None = None
    objections: list[Objection] = field(default_factory=list)
    barred: frozenset[int] = frozenset()
    kinds: tuple[int, ...] = ()
    held: tuple[Key, ...] = ()
    firm: frozenset[Key] = frozenset()
    addresses: frozenset[Key] = frozenset()
    groups: frozenset[Key] = frozenset()

    @property
    def host(self) -> str:
        return self.members[0].host

    @property
    def name(self) -> str:
        return self.members[0].name

    @property
    def label(self) -> str:
        pod = self.members[0].pod
        return f"{self.name} on {self.host}" if pod is None else f"pod {pod[:12]} on {self.host}"

    @property
    def idle(self) -> bool:
        return all(member.idle for member in self.members)

    @property
    def home(self) -> str | None:
        """The recorded origin."""
        return next((member.origin for member in self.members if member.origin), None)

    @property
    def runtimes(self) -> tuple[str, ...]:
        return tuple(sorted({member.runtime for member in self.members if member.runtime and not member.idle}))

    @property
    def order(self) -> tuple[int, int, int, str, str]:
        """The most important first, and of these the largest, which finds a place the less easily."""
        return (-self.priority, -self.weight.memory, -self.weight.lasting, self.host, self.name)

    @property
    def size_order(self) -> tuple[int, int, int, str, str]:
        return (-self.weight.memory, -self.weight.lasting, -self.weight.archive, self.host, self.name)

    def refusal(self, method: str) -> tuple[Member, t.Mapping[str, t.Any]] | None:
        """What forbids it on its own host, whatever the destination."""
        passing = LIVE_ONLY if method == "cold" else ()
        for member in self.members:
            for finding in blockers(member, passing) if not member.idle else ():
                return member, finding
        return None


def workloads_of(members: Iterable[Member], options: Options, warnings: list[str]) -> list[Workload]:
    """:param warnings: gets what is odd and does not matter enough to stop for."""
    together: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        together.setdefault((member.host, member.pod or f"/{member.name}"), []).append(member)
    return [
        _workload(sorted(group, key=lambda member: member.name), options, warnings)
        for _key, group in sorted(together.items())
    ]


def _workload(members: Sequence[Member], options: Options, warnings: list[str]) -> Workload:
    policies = [policy_of(member, options) for member in members]
    chosen = min(policies, key=lambda policy: _strictness(policy.name))
    if len(members) > 1 and len({policy.name for policy in policies}) > 1:
        which = members[policies.index(chosen)].name
        chosen = Policy(chosen.name, f"{chosen.words}, of {which} in its pod")
    return Workload(
        members=members,
        policy=chosen,
        weight=_sum([member.weight for member in members]),
        priority=max(_priority(member, warnings) for member in members),
    )


def _strictness(name: str) -> int:
    return STRICTEST.index(name) if name in STRICTEST else -1


def policy_of(member: Member, options: Options) -> Policy:
    """The variable counts before the label, and the label before the default."""
    pattern = options.policy_patterns.find(member.name, member.host)
    if pattern is not None:
        return Policy(options.policies[pattern], f"by policies[{pattern}]")
    label = member.labels.get(POLICY_LABEL)
    if label is None:
        return Policy(options.default_policy, "by default", by_default=True)
    if label not in POLICIES:
        return Policy(INVALID, f"its label {POLICY_LABEL} is {str(label)!r}, none of {', '.join(POLICIES)}")
    return Policy(str(label), f"by its label {POLICY_LABEL}")


def _priority(member: Member, warnings: list[str]) -> int:
    label = member.labels.get(PRIORITY_LABEL, 0)
    try:
        return int(label)
    except (TypeError, ValueError):
        what = f"The label {PRIORITY_LABEL} of {member.name} on {member.host} is {label!r}, no whole number"
        warnings.append(f"{what}; it is taken for 0.")
        return 0


def _sum(weights: Sequence[Weight]) -> Weight:
    if len(weights) == 1:
        return weights[0]
    downtimes = [weight.downtime_ms for weight in weights if weight.downtime_ms is not None]
    return Weight(
        sum(weight.memory for weight in weights),
        sum(weight.lasting for weight in weights),
        sum(weight.archive for weight in weights),
        sum(downtimes) if downtimes else None,
        all(weight.known for weight in weights),
    )


def set_keys(workload: Workload) -> None:
    """What it will hold on its destination, and what must be free for that; by its method."""
    held = [key for member in workload.members for key in holds(member.raw)]
    alive = [member for member in workload.members if not member.idle]
    firm = {key for key in held if key.kind in ("name", "volume")}
    firm.update(key for member in alive for port in member.ports for key in port_wanted(port))
    fixed = {Key("address", address) for member in alive for address in member.fixed_addresses}
    own = {Key("address", address) for member in alive for address in member.addresses}
    if workload.method != "live":
        own = set()  # made anew, it gets others
    elif fixed:
        fixed, own = own | fixed, set()  # connections are kept, and with them all addresses
    workload.held = tuple(held)
    workload.firm = frozenset(firm | fixed)
    workload.addresses = frozenset(own)
    workload.groups = frozenset(key for key in held if key.kind == "spread")
