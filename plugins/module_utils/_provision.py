# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What a container needs on its destination before it can come: its image, its networks."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.ferry.podman.plugins.module_utils._compat import Subject
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json, LibpodClient, RegistryAccess

NETWORK_KEYS = (
    "name",
    "driver",
    "subnets",
    "routes",
    "ipv6_enabled",
    "internal",
    "dns_enabled",
    "network_dns_servers",
    "labels",
    "options",
    "ipam_options",
)
"""What makes a network the same elsewhere; its ID and the time of its creation are the host's."""

NAMED_ON_THE_HOST = ("macvlan", "ipvlan")
"""Drivers whose interface is a device of the host; that of a bridge is podman's own, and may be taken elsewhere."""


def bring_image(source: LibpodClient, destination: LibpodClient, subject: Subject, how: str) -> None:
    """Have the base image on the destination under its own ID; podman would go by its name.

    :param how: stream or pull.
    :raises FerryError: if it does not arrive.
    """
    if destination.image(subject.image_id) is not None:
        return
    doing = f"Bringing the image {subject.image} to the destination"
    if how == "pull":
        destination.pull_reference(subject.image, RegistryAccess())
    else:
        # Under a name that is another image's there, it would take that name away.
        # On the source it may have lost that name, or another image may have it.
        here = source.image(subject.image) or {}
        is_free = here.get("Id") == subject.image_id and destination.image(subject.image) is None
        reference = subject.image if is_free else subject.image_id
        with source.save_image(reference) as stream:
            destination.load_image(stream.chunks(), doing)
    if destination.image(subject.image_id) is None:
        raise FerryError(
            f"{doing}: it did not arrive with the ID {subject.image_id[:12]}.",
            remedy="The container was not touched. Bring the image with podman save and podman load.",
        )


def make_networks(source: LibpodClient, destination: LibpodClient, names: Iterable[str]) -> list[str]:
    """Make those that the destination lacks as the source has them, and return their names.

    :raises FerryError: if one cannot be made; those that were are removed again.
    """
    made: list[str] = []
    try:
        for name in names:
            network = source.network(name)
            if network is not None and destination.network(name) is None:
                destination.create_network(network_elsewhere(network))
                made.append(name)
    except FerryError:
        remove_networks(destination, made)
        raise
    return made


def remove_networks(client: LibpodClient, names: Iterable[str]) -> None:
    """Take back what was made for a move that did not come about."""
    for name in names:
        client.remove_network(name)


def network_elsewhere(network: Json) -> Json:
    """The definition for another host, from a network inspect answer."""
    keys = [*NETWORK_KEYS, *(["network_interface"] if network.get("driver") in NAMED_ON_THE_HOST else [])]
    return {key: network[key] for key in keys if network.get(key) is not None}
