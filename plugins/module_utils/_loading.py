# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""An image that was made here, on its way into a host's podman.

Podman unpacks the tar of an OCI layout twice before it copies the layers (5.4 and 5.8, containers/image
``oci/archive``), and that of a docker-archive once. But a docker-archive has no annotations. So the layers go as a
docker-archive, and then a layout without them: podman does not ask for layers that it has. The image's ID is the same,
and it has the annotations of the layout.
"""

from __future__ import annotations

from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image


def load(client: LibpodClient, image: Image, doing: str) -> None:
    """Have podman store an image. It gets no name.

    :param doing: for errors.
    :raises ApiError: if podman does not take it.
    """
    if not image.is_plain:
        client.load_image(image.layout(), doing)
        return
    if client.image(image.id) is None:
        client.load_image(image.docker_archive(), doing)
    try:
        client.load_image(image.layout(with_layers=False), doing)
    except ApiError:
        # It has not kept the layers in the way that this relies on.
        client.load_image(image.layout(), doing)
