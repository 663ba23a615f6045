# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What says of an image that it is a checkpoint, and of what: three families of keys for the same facts. Pure.

Each engine knows its own keys alone. Sources: podman's ``libpod/define/annotations.go`` and checkpointctl's
``lib/annotations.go``.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.ferry.podman.plugins.module_utils._compat import IMAGE_ANNOTATION
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo, Json

PODMAN = "podman"
CRIU = "criu"
CRIO = "cri-o"

PREFIXES = {
    PODMAN: IMAGE_ANNOTATION,
    CRIU: "org.criu.checkpoint.",
    CRIO: "io.kubernetes.cri-o.annotations.checkpoint.",
}
"""Of each family; that of CRIU is what checkpointctl writes and containerd reads."""

# What each fact is called behind the prefix of podman, of checkpointctl, and of CRI-O.
_KEYS: tuple[tuple[str, str | None, str | None, str | None], ...] = (
    ("name", "name", "container.name", "name"),
    ("engine", None, "engine.name", None),
    ("engine_version", "podman.version", "engine.version", "cri-o.version"),
    ("pod_name", None, "pod.name", None),
    ("pod_id", None, "pod.id", None),
    ("pod_namespace", None, "pod.namespace", None),
    ("pod_uid", None, "pod.uid", None),
    ("raw_image", "rawImageName", "rawImageName", "rawImageName"),
    ("image", "rootfsImageName", "rootfsImageName", "rootfsImageName"),
    ("image_id", "rootfsImageID", "rootfsImageID", "rootfsImageID"),
    ("image_digest", None, "rootfsImageSha", None),
    ("image_requested", None, "rootfsImageUserRequested", None),
    ("runtime", "runtime.name", "runtime.name", None),
    ("runtime_version", "runtime.version", "runtime.version", None),
    ("criu_version", "criu.version", "criu.version", "criu.version"),
    ("conmon_version", "conmon.version", "conmon.version", None),
    ("arch", "host.arch", "host.arch", None),
    ("kernel", "host.kernel", "host.kernel", None),
    ("cgroup_version", "cgroups.version", "cgroup.version", None),
    ("distribution", "distribution.name", "distribution.name", None),
    ("distribution_version", "distribution.version", "distribution.version", None),
)


def _of(family: str) -> dict[str, str]:
    column = 1 + (PODMAN, CRIU, CRIO).index(family)
    return {row[0]: PREFIXES[family] + t.cast(str, row[column]) for row in _KEYS if row[column] is not None}


KEYS: dict[str, dict[str, str]] = {family: _of(family) for family in PREFIXES}
"""For each family, the key of each fact that it has one for."""


def as_annotations(facts: Mapping[str, str], families: Iterable[str] = (PODMAN,)) -> dict[str, str]:
    """The keys and values of an image's manifest.

    :param facts: by the names in ``KEYS``; what is not known is not there.
    """
    return {key: facts[fact] for family in families for fact, key in KEYS[family].items() if fact in facts}


def facts_in(found: Mapping[str, str]) -> dict[str, str]:
    """The facts in an image's annotations, from whichever family has them; podman's win."""
    facts: dict[str, str] = {}
    for keys in KEYS.values():
        for fact, key in keys.items():
            if key in found:
                facts.setdefault(fact, found[key])
    return facts


def checkpoint_facts(config: Json, host: HostInfo, criu: str | None = None) -> dict[str, str]:
    """What podman would note of a checkpoint that it makes itself.

    :param config: the archive's config.dump.
    :param host: where it was made.
    :param criu: that host's version of CRIU, such as 4.2.1, if it is known.
    """
    raw = host.raw["host"]
    distribution = raw.get("distribution") or {}
    facts = {
        **config_facts(config),
        "engine_version": ".".join(map(str, host.podman)),
        "runtime": host.runtime,
        "runtime_version": host.runtime_version,
        "criu_version": _as_number(criu),
        "conmon_version": (raw.get("conmon") or {}).get("version"),
        "arch": raw.get("arch"),
        "kernel": raw.get("kernel"),
        "cgroup_version": raw.get("cgroupVersion"),
        "distribution": distribution.get("distribution"),
        "distribution_version": distribution.get("version"),
    }
    return {fact: str(value) for fact, value in facts.items() if value}


def config_facts(config: Json) -> dict[str, str]:
    """What podman's config.dump tells of a checkpoint when the host is not known: enough for each engine to see one."""
    facts = {
        "name": config.get("name"),
        "engine": "podman",
        "raw_image": config.get("RawImageName"),
        "image": config.get("rootfsImageName"),
        "image_id": config.get("rootfsImageID"),
        "runtime": config.get("runtime"),
    }
    return {fact: value for fact, value in facts.items() if value and isinstance(value, str)}


def _as_number(version: str | None) -> str | None:
    """CRIU's version as its own interface gives it: 40201 for 4.2.1."""
    if version is None or not re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", version):
        return None
    major, minor, patch = (*map(int, version.split(".")), 0, 0)[:3]
    return str(major * 10000 + minor * 100 + patch)
