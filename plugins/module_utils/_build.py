# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""An archive, of podman or of the kubelet, as a checkpoint image in one of the layouts.

The same archive gives the same image ID, so it is seen whether an image is of it.
"""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._annotations import PREFIXES, config_facts
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, Reader, rewritten
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._image import SINGLE, image_of, layered, single
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import (
    PODMAN,
    Made,
    as_podman,
    kubelet_facts,
    look_at,
    origin_of,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS, Limits
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer
from ansible_collections.ferry.podman.plugins.module_utils._registry import private_file
from ansible_collections.ferry.podman.plugins.module_utils._source import Source
from ansible_collections.ferry.podman.plugins.module_utils._stored import Stored
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks
from ansible_collections.ferry.podman.plugins.module_utils._unbuild import Exported

Streamed = t.Union[Source, Exported]
"""Where an archive comes from: a file, or an image."""


@dataclass(frozen=True)
class Recipe:
    """How an image is made.

    :param families: of annotations, see ``_annotations``.
    :param directory: where layers lie meanwhile, uncompressed and in files without names.
    """

    layout: str = SINGLE
    families: tuple[str, ...] = tuple(PREFIXES)
    limits: Limits = NO_LIMITS
    directory: str = "/var/tmp"


@contextlib.contextmanager
def built(
    source: Streamed, recipe: Recipe, client: LibpodClient | None = None, known: Mapping[str, str] | None = None
) -> Iterator[Image]:
    """The image of an archive.

    :param client: of the host that has the base image. Podman's own archives in the layout ``single`` need none.
    :param known: facts about the checkpoint that are not in the archive; those in it win.
    :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
    :raises FerryError: if there is no room, or the base image is needed and is not there.
    """
    with _Builder(source, recipe, client) as builder:
        try:
            image = builder.image(known or {})
        except OSError as error:
            raise FerryError(
                f"The archive cannot be unpacked in {recipe.directory}: {error.strerror or error}.",
                remedy="It needs room there for all that it holds, uncompressed.",
            ) from error
        yield image


@dataclass
class _Builder:
    source: Streamed
    recipe: Recipe
    client: LibpodClient | None
    contents: Contents = field(default_factory=Contents)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> _Builder:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def image(self, known: Mapping[str, str]) -> Image:
        with self.source.stream() as begin:
            made = look_at(begin, self.recipe.limits)
        if made.kind == PODMAN and self.recipe.layout == SINGLE:
            layers = [Layer.made(self._archive, self.source.path)]
        else:
            with self.source.stream() as source:
                layers = self._layers(source, made)
        _check_restorable(self.source.path, self.contents)
        architecture = self.contents.architecture
        if architecture is None:
            raise ArchiveError(f"{self.source.path}: The archive does not tell for which processor it is.")
        facts = {**known, **config_facts(self.contents.config), **self._kubelets(made), "arch": architecture}
        recipe = self.recipe
        return image_of(layers, recipe.layout, architecture, self.source.modified, facts, recipe.families)

    def _archive(self) -> Iterator[bytes]:
        """The archive as it is, which can be read again: it need not lie in a file meanwhile."""
        self.contents = Contents()
        with self.source.stream() as source:
            yield from rewritten(source, self.contents, limits=self.recipe.limits)

    def _kubelets(self, made: Made) -> Mapping[str, str]:
        """What the kubelet's archive tells, also where it has been an image in between."""
        if made.kind != PODMAN:
            return kubelet_facts(made.kind, made.config, made.spec)
        origin = origin_of(self.contents.sizes, self.contents.config)
        spec = self.contents.documents["spec.dump"]
        return {} if origin == PODMAN else kubelet_facts(origin, self.contents.config, spec)

    def _layers(self, source: Reader, made: Made) -> list[Layer]:
        archive = self._for_podman(source, made)
        if self.recipe.layout == SINGLE:
            return single(archive, self.contents, self._file(), self.recipe.limits)
        base = self._base(made)
        exported = Exported(self._host, base, NO_LIMITS, self.recipe.directory)
        image = self._stack.enter_context(exported).image
        return layered(archive, self.contents, image, (self._file(), self._file(), self._file()), self.recipe.limits)

    def _for_podman(self, source: Reader, made: Made) -> Reader:
        if made.kind == PODMAN:
            return source
        image_id = made.image_id or self._base(made).id
        chunks = as_podman(source, Contents(), self._file(), image_id, self.recipe.limits, made.kind)
        return t.cast(Reader, Chunks(chunks))

    def _base(self, made: Made) -> Stored:
        """:raises FerryError: if the host has not the image that the container was made from."""
        wanted = [made.image_id] if made.image_id else [r for r in made.image_references if "@sha256:" in r]
        for reference in wanted:
            raw = self._host.image(reference)
            if raw is not None:
                return Stored(raw)
        names = ", ".join(dict.fromkeys([*wanted, *made.image_references])) or "which the archive does not name"
        raise FerryError(
            f"{self.source.path}: The host has not the image that the container was made from: {names}.",
            remedy="Pull that very image on the host, or load it there from where it is.",
        )

    @property
    def _host(self) -> LibpodClient:
        if self.client is None:
            raise FerryError(f"{self.source.path}: Without a host, the image that it was made from is not known.")
        return self.client

    def _file(self) -> t.IO[bytes]:
        return self._stack.enter_context(private_file(self.recipe.directory))


def _check_restorable(path: str, contents: Contents) -> None:
    """An image cannot be merged with another one."""
    if contents.is_pre_checkpoint or contents.needs_previous:
        raise ArchiveError(
            f"The archive {path} is only a part of a checkpoint, made with pre_checkpoint or with_previous.",
            remedy="Make an image of a checkpoint that is whole.",
        )
