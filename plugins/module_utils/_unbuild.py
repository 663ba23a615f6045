# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A checkpoint image as an archive file, which podman, checkpointctl and this collection read."""

from __future__ import annotations

import os
from datetime import datetime

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._files import ArchiveFile
from ansible_collections.ferry.podman.plugins.module_utils._image import archive_of
from ansible_collections.ferry.podman.plugins.module_utils._layout import read_image
from ansible_collections.ferry.podman.plugins.module_utils._libpod import LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._registry import private_file


def save(
    client: LibpodClient, image_id: str, created: datetime, dest: str, compression: str, limits: Limits, directory: str
) -> None:
    """Write the archive beside its name, and move it into place when it is whole.

    :param created: of the image, which the file gets as its time: the same image can be made of it again.
    :param directory: where the exported image lies meanwhile, in a file without a name.
    :raises FerryError: if it cannot be written, or the image holds no whole checkpoint.
    """
    with ArchiveFile(dest) as file, private_file(directory) as spool:
        try:
            with client.save_image(image_id) as exported:
                image = read_image(exported, spool, limits.size)
        except OSError as error:
            raise FerryError(
                f"The image cannot be written in {directory}: {error.strerror or error}.",
                remedy="It needs room there for all that it holds, uncompressed.",
            ) from error
        file.write(archive_of(image, Contents(), limits), compression, None)
        file.commit()
    os.utime(dest, (created.timestamp(), created.timestamp()))
