# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Images that a host has: which of them are checkpoints, and of what."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils._annotations import facts_in
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json, LibpodClient


@dataclass(frozen=True)
class Stored:
    """An image that a host has, by its inspect answer.

    :param references: its names as the list of images has them, which are more: also those with a digest.
    """

    raw: Json
    references: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return t.cast(str, self.raw["Id"])

    @property
    def names(self) -> list[str]:
        return sorted(self.raw.get("RepoTags") or [])

    @property
    def known_by(self) -> list[str]:
        """All names, those with a tag first."""
        return sorted({*self.references, *self.names}, key=lambda name: ("@" in name, name))

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


def repository_of(name: str) -> str:
    """Host and path of a name with a tag or a digest."""
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def unnamed(client: LibpodClient, image_id: str, names: Collection[str]) -> None:
    """Take names away from an image; it goes with the last one.

    A pull by digest leaves a name with that digest (``repository@sha256:…``). Where nothing else is left, those of the
    same repositories go too.

    :raises FerryError: if an image without a name is left.
    """
    repositories = {repository_of(name) for name in names}
    left = [name for name in client.image_names().get(image_id, []) if name not in names]
    if all("@" in name and repository_of(name) in repositories for name in left):
        names = [*left, *names]
    # Podman removes no image of several names by its ID. If it refuses the last one, because a container uses the
    # image, then that is one with a tag, by which it is found again.
    for name in sorted(names, key=lambda name: "@" not in name) or [image_id]:
        client.remove_image(name)
    if client.image_names().get(image_id) == []:
        raise FerryError(
            f"The image {image_id[:12]} has lost its names and is on this host all the same.",
            remedy=f"Remove it with podman rmi {image_id[:12]}, which says what holds it.",
        )


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
