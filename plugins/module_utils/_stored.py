# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Images that a host has: which of them are checkpoints, and of what."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils._annotations import facts_in
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json


@dataclass(frozen=True)
class Stored:
    """An image that a host has, by its inspect answer."""

    raw: Json

    @property
    def id(self) -> str:
        return t.cast(str, self.raw["Id"])

    @property
    def names(self) -> list[str]:
        return sorted(self.raw.get("RepoTags") or [])

    @property
    def facts(self) -> Mapping[str, str]:
        """What its annotations tell of the checkpoint."""
        return facts_in(self.raw.get("Annotations") or {})

    @property
    def labels(self) -> Mapping[str, str]:
        return t.cast("Mapping[str, str]", self.raw.get("Labels") or {})

    @property
    def is_checkpoint(self) -> bool:
        return "name" in self.facts

    @property
    def digests(self) -> list[str]:
        """Of its manifests, here and in registries."""
        there = [name.rpartition("@")[2] for name in self.raw.get("RepoDigests") or []]
        return sorted({*there, *filter(None, [self.raw.get("Digest")])})

    @property
    def size(self) -> int:
        return int(self.raw.get("Size") or 0)

    @property
    def created(self) -> datetime:
        """:raises FerryError: if podman's text is none."""
        return when(str(self.raw.get("Created")))

    def summary(self) -> Json:
        """What a module returns."""
        return {
            "id": self.id,
            "names": self.names,
            "digests": self.digests,
            "size": self.size,
            "created": self.raw.get("Created"),
            "checkpoint": dict(self.facts),
        }


def when(text: str) -> datetime:
    """A time as Go writes it, with nanoseconds and a zone.

    :raises FerryError: if it is none.
    """
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if found is None:
        raise FerryError(f"{text!r} is not a time.")
    zone = "+00:00" if found[2] == "Z" else found[2]
    try:
        return datetime.fromisoformat(found[1] + zone).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise FerryError(f"{text!r} is not a time: {error}.") from error
