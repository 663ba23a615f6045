# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Checkpoint images: made of an archive, and told apart from other images.

An image has one layer, whose files are the archive's members, as podman's own (``libpod/container_internal_common.go``,
``createCheckpointImage``). The same archive gives the same image ID, so it is seen whether an image is of it.
"""

from __future__ import annotations

import contextlib
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.ferry.podman.plugins.module_utils._annotations import (
    as_annotations,
    facts_in,
    facts_of_archive,
)
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, rewritten
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image
from ansible_collections.ferry.podman.plugins.module_utils._registry import private_file, spooled
from ansible_collections.ferry.podman.plugins.module_utils._source import Source


@contextlib.contextmanager
def image_of(path: str, families: Iterable[str], limits: Limits, directory: str) -> Iterator[tuple[Image, Contents]]:
    """The image of an archive file, and what the archive holds.

    :param families: of annotations, see ``_annotations``.
    :param directory: where the layer lies meanwhile, uncompressed and without a name.
    :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
    """
    with Source(path) as source, private_file(directory) as file:
        contents = Contents()
        with source.stream() as archive:
            layer = spooled(rewritten(archive, contents, limits=limits), file, directory)
        _check_restorable(path, contents)
        if contents.architecture is None:
            raise ArchiveError(f"The archive {path} does not tell for which processor it is.")
        annotations = as_annotations(facts_of_archive(contents), families)
        yield Image([layer], contents.architecture, source.modified, annotations), contents


def _check_restorable(path: str, contents: Contents) -> None:
    """An image cannot be merged with another one."""
    if contents.is_pre_checkpoint or contents.needs_previous:
        raise ArchiveError(
            f"The archive {path} is only a part of a checkpoint, made with pre_checkpoint or with_previous.",
            remedy="Make an image of a checkpoint that is whole.",
        )


# -- images that are there already -----------------------------------------------------------------------------------


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
    return datetime.fromisoformat(found[1] + zone).astimezone(timezone.utc)
