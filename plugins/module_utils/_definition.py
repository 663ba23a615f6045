# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What podman itself knows a container by: the definition that it keeps in its database.

No call of the API and no command tells all of it. The inspect call leaves out system controls, masked paths, device
rules, which addresses are fixed and where secrets go; ``podman generate spec`` leaves out limits, system controls and
more, and fails for secrets in the environment (seen with 5.4 and 5.8). A checkpoint archive has this same text as
config.dump, and podman must read what its older versions have written.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from urllib.parse import quote

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo, Json

try:
    import sqlite3
except ImportError:
    # Some distributions have it in a package of its own.
    sqlite3 = None  # type: ignore[assignment]

DATABASE = "db.sql"
"""Below the graph root (libpod/sqlite_state.go)."""

BUSY = 30.0
"""Seconds to wait while podman writes to it."""


def definition(host: HostInfo, ident: str) -> Json:
    """Of a container of this machine.

    :param ident: its full ID.
    :raises FerryError: if it cannot be read; the message says why.
    """
    return _read(host, "ContainerConfig", ident)


def pod_definition(host: HostInfo, ident: str) -> Json:
    """The same of a pod."""
    return _read(host, "PodConfig", ident)


def _read(host: HostInfo, table: str, ident: str) -> Json:
    path = os.path.join(host.graph_root, DATABASE)
    backend = host.raw["host"].get("databaseBackend")
    if backend != "sqlite":
        raise FerryError(
            f"Podman keeps the definitions of its containers in a database of the kind {backend or 'unknown'}.",
            remedy="A cold move can read sqlite, podman's own since 4.8; podman system reset changes over.",
        )
    if sqlite3 is None:
        raise FerryError(
            "Python's module sqlite3 is missing on the source, to read podman's definitions.",
            remedy="Install it: libpython3-stdlib with Debian, python3-libs with Fedora.",
        )
    try:
        rows = _rows(path, table, ident)
    except sqlite3.Error as error:
        raise FerryError(f"Podman's database {path} cannot be read: {error}.") from error
    if len(rows) != 1:
        raise FerryError(f"Podman's database {path} does not have {ident[:12]}.")
    return t.cast(Json, json.loads(rows[0][0]))


def _rows(path: str, table: str, ident: str) -> list[tuple[str]]:
    where = f"file:{quote(path)}?mode=ro"
    with contextlib.closing(sqlite3.connect(where, uri=True, timeout=BUSY)) as database:
        return database.execute(f"SELECT JSON FROM {table} WHERE ID = ?", (ident,)).fetchall()
