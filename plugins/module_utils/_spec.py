# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What spec.dump tells: the OCI runtime specification (``config.md``) of a container that was checkpointed. Pure."""

from __future__ import annotations

import typing as t

Json = dict[str, t.Any]


def environment_names(spec: t.Any) -> list[str]:
    """Names of the variables. Their values are passwords more often than not, so they stay where they are."""
    process = spec.get("process") if isinstance(spec, dict) else None
    pairs = process.get("env") if isinstance(process, dict) else None
    return sorted({str(pair).partition("=")[0] for pair in pairs} if isinstance(pairs, list) else [])


def mounts(spec: t.Any) -> list[dict[str, str]]:
    """Source, destination and type of what is mounted in the container."""
    found = spec.get("mounts") if isinstance(spec, dict) else None
    entries = [mount for mount in found if isinstance(mount, dict)] if isinstance(found, list) else []
    keys = ("source", "destination", "type")
    return [{key: str(mount.get(key) or "") for key in keys} for mount in entries]
