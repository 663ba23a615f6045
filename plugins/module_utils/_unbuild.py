# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A checkpoint image of a host, read as the archive that it holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t
from collections.abc import Iterator
from datetime import datetime

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, Reader, inspect, named, rewritten
from ansible_collections.ferry.podman.plugins.module_utils._compat import Subject
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._files import ArchiveFile
from ansible_collections.ferry.podman.plugins.module_utils._image import LAYERED, layout_of, open_image
from ansible_collections.ferry.podman.plugins.module_utils._layout import StoredImage, read_image
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._registry import private_file
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer
from ansible_collections.ferry.podman.plugins.module_utils._source import Source
from ansible_collections.ferry.podman.plugins.module_utils._stored import Stored


class Exported:
    """An image that was copied out of its host, into a file without a name. Use it as a context manager.

    :param directory: where the file is.
    :param limits: how large it may be.
    :raises FerryError: if it cannot be written, or is no image.
    """

    def __init__(self, client: LibpodClient, stored: Stored, limits: Limits, directory: str) -> None:
        self.path = f"The image {stored.names[0] if stored.names else stored.id[:12]}"
        self.stored = stored
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            spool = opened.enter_context(private_file(directory))
            self.image = self._read(client, spool, limits, directory)
            self._stack = opened.pop_all()

    def _read(self, client: LibpodClient, spool: t.IO[bytes], limits: Limits, directory: str) -> StoredImage:
        try:
            with named(self.path), client.save_image(self.stored.id) as exported:
                return read_image(exported, spool, limits.size)
        except OSError as error:
            raise FerryError(
                f"{self.path} cannot be written in {directory}: {error.strerror or error}.",
                remedy="It needs room there for all that it holds, uncompressed.",
            ) from error

    def __enter__(self) -> Exported:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    @property
    def modified(self) -> datetime:
        """When the checkpoint was written."""
        return self.stored.created

    @property
    def is_layered(self) -> bool:
        """:raises ArchiveError: if it is no checkpoint image."""
        with named(self.path):
            return layout_of(self.image) == LAYERED

    @contextlib.contextmanager
    def stream(self) -> Iterator[Reader]:
        """Read the archive, from its begin; it has not been looked into."""
        with named(self.path), open_image(self.image) as archive:
            yield archive

    def inspect(self, limits: Limits) -> Contents:
        """Read it to its end, and see what it holds.

        :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
        """
        with self.stream() as archive:
            return inspect(archive, limits)

    def is_in(self, path: str, limits: Limits) -> bool:
        """Whether a file has the archive, in whatever compression."""
        try:
            with Source(path) as source, source.stream() as there:
                found = _digest(rewritten(there, Contents(), limits=limits))
        except ArchiveError:
            return False
        with self.stream() as archive:
            return found == _digest(rewritten(archive, Contents(), limits=limits))

    def save(self, dest: str, compression: str, limits: Limits) -> None:
        """Write the archive beside its name, and move it into place when it is whole.

        It gets the image's time, so that the same image can be made of it again.

        :raises FerryError: if it cannot be written, or the image holds no whole checkpoint.
        """
        with ArchiveFile(dest) as file, self.stream() as archive:
            file.write(rewritten(archive, Contents(), limits=limits), compression, None)
            file.commit()
        os.utime(dest, (self.modified.timestamp(), self.modified.timestamp()))

    def restore(self, restorer: Restorer, subject: Subject, new_name: str | None) -> Json:
        """Have podman restore what was inspected before.

        As an archive: from an image podman restores neither addresses nor the log, and knows one layout alone.

        :raises RestoreFailed: and nothing of it is left.
        """
        doing = f"Restoring container {new_name or subject.name}"
        contents = Contents()
        with self.stream() as archive:
            return restorer.import_chunks(rewritten(archive, contents), contents, subject, new_name, doing)


def _digest(chunks: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()
