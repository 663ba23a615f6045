# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Who one is at a registry: by the options, or by a file as ``podman login`` writes it (containers-auth.json(5))."""

from __future__ import annotations

import base64
import json
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import RegistryAccess

DOCKER_HUB = ("docker.io", "registry-1.docker.io", "index.docker.io")
"""Names of one registry."""


@dataclass(frozen=True)
class Credentials:
    """What an entry of the file holds."""

    username: str
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)


def access_of(params: Mapping[str, t.Any], repository: str, conceal: Callable[[str], None]) -> RegistryAccess:
    """How to talk to the registry, by the options of a module.

    :param repository: host and path of what is pushed or pulled.
    :param conceal: keeps a secret out of all output.
    :raises FerryError: if ``registry_auth_file`` has nothing that can be used.
    """
    verify, path = params["registry_tls_verify"], params["registry_auth_file"]
    if path is None:
        return RegistryAccess(verify, params["registry_username"], params["registry_password"])
    found = credentials_in(read(path, repository), path, repository)
    for secret in filter(None, (found.password, found.identity_token)):
        conceal(secret)
    return RegistryAccess(verify, found.username, found.password, found.identity_token)


def read(path: str, repository: str) -> str:
    """:raises FerryError: if the file cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        reason = f"There is no file {path} on the host that the module runs on."
        raise FerryError(reason, remedy=_log_in(path, repository)) from None
    except UnicodeDecodeError:
        raise FerryError(f"{path} is not a file of credentials: it is no text.") from None
    except OSError as error:
        raise FerryError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Give the path of a file that the user of the module may read, or become one who may.",
        ) from error


def credentials_in(text: str, path: str, repository: str) -> Credentials:
    """The entry that fits best: the longest part of ``host[:port]/path``, down to the host alone.

    :param text: what is in the file.
    :param path: the file's, for messages.
    :raises FerryError: if there is none, or only a program that would have to be asked.
    """
    content = _parsed(text, path)
    auths: dict[str, t.Any] = content.get("auths") or {}
    key = _best_key(auths, repository)
    entry = None if key is None else auths[key]
    if entry:
        return _decoded(entry, f"The entry {key} in {path}")
    host = _host(repository)
    helper = (content.get("credHelpers") or {}).get(host) or content.get("credsStore")
    if helper:
        # Programs of the user's that keep secrets in a desktop's keyring: not for a module to run.
        raise FerryError(
            f"{path} leaves {host} to the program docker-credential-{helper}, which the module does not run.",
            remedy=f"Make a file of its own: podman login --authfile FILE {host}, and give that.",
        )
    known = ", ".join(sorted(key for key, entry in auths.items() if entry)) or "none"
    raise FerryError(
        f"{path} has no credentials for {repository}; it has some for: {known}.", remedy=_log_in(path, repository)
    )


def _parsed(text: str, path: str) -> dict[str, t.Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        # The text itself stays out of the message.
        where = f": line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise FerryError(f"{path} is no JSON{where}.", remedy="podman login --authfile writes such a file.") from None
    parts = ("auths", "credHelpers")
    if not isinstance(content, dict) or not all(isinstance(content.get(part) or {}, dict) for part in parts):
        raise FerryError(
            f"{path} is JSON, but no file of credentials: it lacks the mapping auths.",
            remedy="podman login --authfile writes such a file.",
        )
    return content


def _best_key(auths: Mapping[str, t.Any], repository: str) -> str | None:
    parts = repository.split("/")
    for length in range(len(parts), 0, -1):
        if (key := "/".join(parts[:length])) in auths:
            return key
    # Docker's own file has URLs for hosts.
    return next((key for key in auths if _host_of_key(key) == _canonical(parts[0])), None)


def _host(repository: str) -> str:
    return repository.split("/")[0]


def _host_of_key(key: str) -> str:
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            return _canonical(_host(key[len(scheme) :]))
    return _canonical(key)


def _canonical(host: str) -> str:
    return DOCKER_HUB[0] if host in DOCKER_HUB else host


def _decoded(entry: t.Any, what: str) -> Credentials:
    """:param what: names the entry, for messages; what is in it is never told."""
    damaged = FerryError(f"{what} is damaged.", remedy="podman login --authfile writes it anew.")
    try:
        plain = base64.b64decode(entry.get("auth") or "", validate=True).decode()
        token = entry.get("identitytoken")
    except (AttributeError, TypeError, ValueError):
        raise damaged from None
    username, colon, password = plain.partition(":")
    if not (colon or token) or not isinstance(token, (str, type(None))):
        raise damaged
    return Credentials(username, password.strip("\0"), token)


def _log_in(path: str, repository: str) -> str:
    return f"Make the entry with podman login --authfile {path} {_host(repository)}, or give another file."
