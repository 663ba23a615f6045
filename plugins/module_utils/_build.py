# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""An archive file as a checkpoint image.

The same archive gives the same image ID, so it is seen whether an image is of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from ansible_collections.ferry.podman.plugins.module_utils._annotations import config_facts
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._image import SINGLE, image_of, single
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image
from ansible_collections.ferry.podman.plugins.module_utils._registry import private_file
from ansible_collections.ferry.podman.plugins.module_utils._source import Source


@contextlib.contextmanager
def built(path: str, families: Iterable[str], limits: Limits, directory: str) -> Iterator[Image]:
    """The image of an archive file.

    :param families: of annotations, see ``_annotations``.
    :param directory: where the layer lies meanwhile, uncompressed and without a name.
    :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
    """
    with Source(path) as source, private_file(directory) as file:
        contents = Contents()
        try:
            with source.stream() as archive:
                layers = single(archive, contents, file, limits)
        except OSError as error:
            raise FerryError(
                f"The archive cannot be unpacked in {directory}: {error.strerror or error}.",
                remedy="It needs room there for all that it holds, uncompressed.",
            ) from error
        _check_restorable(path, contents)
        if contents.architecture is None:
            raise ArchiveError(f"The archive {path} does not tell for which processor it is.")
        facts = {**config_facts(contents.config), "arch": contents.architecture}
        yield image_of(layers, SINGLE, contents.architecture, source.modified, facts, families)


def _check_restorable(path: str, contents: Contents) -> None:
    """An image cannot be merged with another one."""
    if contents.is_pre_checkpoint or contents.needs_previous:
        raise ArchiveError(
            f"The archive {path} is only a part of a checkpoint, made with pre_checkpoint or with_previous.",
            remedy="Make an image of a checkpoint that is whole.",
        )
