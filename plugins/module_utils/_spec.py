# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What spec.dump tells: the OCI runtime specification (``config.md``) of a container that was checkpointed. Pure."""

from __future__ import annotations

import typing as t

Json = dict[str, t.Any]


def environment(spec: t.Any) -> dict[str, str]:
    """The variables and their values, which are passwords more often than not."""
    process = spec.get("process") if isinstance(spec, dict) else None
    pairs = process.get("env") if isinstance(process, dict) else None
    split = (str(pair).partition("=") for pair in pairs) if isinstance(pairs, list) else ()
    return dict(sorted((name, value) for name, _sign, value in split))


def mounts(spec: t.Any) -> list[dict[str, str]]:
    """Source, destination and type of what is mounted in the container."""
    found = spec.get("mounts") if isinstance(spec, dict) else None
    entries = [mount for mount in found if isinstance(mount, dict)] if isinstance(found, list) else []
    keys = ("source", "destination", "type")
    return [{key: str(mount.get(key) or "") for key in keys} for mount in entries]
