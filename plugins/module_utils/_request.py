# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The options that say how a container moves, which several modules share."""

from __future__ import annotations

import typing as t

from ansible.module_utils.common.text.formatters import human_to_bytes

from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest
from ansible_collections.ferry.podman.plugins.module_utils._auth import access_of
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json, RegistryAccess
from ansible_collections.ferry.podman.plugins.module_utils._precopy import bound_of

# Must be kept in sync with doc_fragments/_move.py.
MOVE: Json = {
    "tcp": {"type": "str", "choices": ["auto", "established", "close", "none"], "default": "auto"},
    "transfer": {"type": "str", "choices": ["auto", "thin", "stream", "relay", "registry"], "default": "auto"},
    "compress": {"type": "str", "choices": ["auto", "zstd", "none"], "default": "auto"},
    "precopy": {"type": "str", "default": "auto"},
    "registry": {"type": "str"},
    "registry_tls_verify": {"type": "bool"},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    "registry_auth_file": {"type": "path"},
    "image_transfer": {"type": "str", "choices": ["stream", "pull", "never"], "default": "stream"},
    "networks": {"type": "str", "choices": ["require", "create"], "default": "require"},
    "ignore_volumes": {"type": "bool", "default": False},
    "publish": {"type": "list", "elements": "str", "default": []},
    "keep_source": {"type": "bool", "default": False},
    "wait_healthy": {"type": "bool", "default": True},
    "wait_healthy_timeout": {"type": "int", "default": 60},
    "bandwidth": {"type": "str"},
    "max_downtime": {"type": "float"},
    "force": {"type": "bool", "default": False},
    "retries": {"type": "int", "default": 3},
    "journal": {"type": "path", "default": "/var/lib/ferry"},
}
CONSTRAINTS: Json = {
    "required_if": [("transfer", "registry", ("registry",))],
    "required_together": [("registry_username", "registry_password")],
    "mutually_exclusive": [("registry_username", "registry_auth_file")],
}


def request_of(params: Json, conceal: t.Callable[[str], None]) -> MoveRequest:
    """What a module's options ask of a move.

    :param conceal: is told the secrets that are no option's value.
    :raises FerryError: for an option that makes no sense.
    """
    return MoveRequest(
        method=params.get("method") or "live",
        tcp=params["tcp"],
        transfer=params["transfer"],
        compress=params["compress"],
        precopy=checked_precopy(params["precopy"]),
        registry=params["registry"] or "",
        access=_access(params, conceal),
        image_transfer=params["image_transfer"],
        networks=params["networks"],
        ignore_volumes=params["ignore_volumes"],
        publish=params["publish"],
        keep_source=params["keep_source"],
        wait_healthy=params["wait_healthy"],
        wait_healthy_timeout=params["wait_healthy_timeout"],
        bandwidth=bytes_per_second(params["bandwidth"]),
        max_downtime=params["max_downtime"],
        force=params["force"],
        retries=params["retries"],
    )


def checked_precopy(text: str) -> str:
    """:raises FerryError: if it is neither a word nor a number of rounds that makes sense."""
    bound_of(text)
    return text


def bytes_per_second(text: str | None) -> int | None:
    """:raises FerryError: for what is no positive size."""
    if not text:
        return None
    try:
        value = human_to_bytes(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise FerryError(f"The bandwidth {text!r} is no size.", remedy="Write 50M for 50 MiB per second.")
    return int(value)


def _access(params: Json, conceal: t.Callable[[str], None]) -> RegistryAccess:
    """Nothing of it is looked at for a move that needs no registry."""
    if params["transfer"] != "registry":
        return RegistryAccess()
    return access_of(params, params["registry"], conceal)
