# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Addresses in a config.dump. Pure.

podman gives a container that it restores from an archive the addresses in network.status. Of an image it does not read
that file (``importCheckpointImage`` in libpod/container_internal_common.go), so there they must be in config.dump, as
they are for a container that was made with ``--ip`` and ``--mac-address``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json

NETWORKS = "newNetworks"
"""The options of each network by its name, until podman 5; podman 6 has a list of another name."""


def with_addresses(config: Json, networks: Mapping[str, Json]) -> Json:
    """The config.dump with these networks' addresses as the container's own.

    :param networks: the running container's, as inspected, by name.
    """
    found = config.get(NETWORKS)
    if not found or not networks:
        return config
    return {**config, NETWORKS: {name: _fixed(options, networks.get(name, {})) for name, options in found.items()}}


def _fixed(options: Json, settings: Json) -> Json:
    addresses, mac = addresses_of(settings), settings.get("MacAddress")
    changes: Json = {"static_ips": addresses} if addresses else {}
    return {**options, **changes, **({"static_mac": mac} if mac else {})}


def addresses_of(settings: Json) -> list[str]:
    """Every address of a container on one network, the first ones first."""
    first = [settings.get("IPAddress"), settings.get("GlobalIPv6Address")]
    keys = ("SecondaryIPAddresses", "SecondaryIPv6Addresses")
    others = [address.get("Addr") for key in keys for address in settings.get(key) or []]
    return [address for address in [*first, *others] if address]
