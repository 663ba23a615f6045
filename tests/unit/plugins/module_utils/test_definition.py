# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import contextlib
import pathlib
import sqlite3

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _definition
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo


@pytest.fixture
def host(tmp_path: pathlib.Path) -> HostInfo:
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sql", isolation_level=None)) as database:
        for table in ("ContainerConfig", "PodConfig"):
            database.execute(f"CREATE TABLE {table} (ID TEXT, JSON TEXT)")
        # Podman writes text with some versions and bytes with others.
        database.execute("INSERT INTO ContainerConfig VALUES ('aa', ?)", ('{"name": "web"}',))
        database.execute("INSERT INTO PodConfig VALUES ('bb', ?)", (b'{"name": "shop"}',))
    return HostInfo((5, 8, 0), {"host": {"databaseBackend": "sqlite"}, "store": {"graphRoot": str(tmp_path)}})


def test_definitions_are_read(host: HostInfo) -> None:
    assert _definition.definition(host, "aa") == {"name": "web"}
    assert _definition.pod_definition(host, "bb") == {"name": "shop"}


def test_database_is_not_held(host: HostInfo, tmp_path: pathlib.Path) -> None:
    """Podman would wait for its end."""
    _definition.definition(host, "aa")
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sql", timeout=0)) as database:
        database.execute("BEGIN EXCLUSIVE")


def test_container_that_is_not_there(host: HostInfo) -> None:
    with pytest.raises(FerryError, match="does not have cc"):
        _definition.definition(host, "cc")


def test_database_that_is_not_there(host: HostInfo, tmp_path: pathlib.Path) -> None:
    (tmp_path / "db.sql").unlink()
    with pytest.raises(FerryError, match="cannot be read: unable to open"):
        _definition.definition(host, "aa")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["boltdb", None])
def test_database_of_another_kind(host: HostInfo, backend: str | None) -> None:
    host.raw["host"]["databaseBackend"] = backend
    with pytest.raises(FerryError, match="a database of the kind (boltdb|unknown)"):
        _definition.definition(host, "aa")


def test_without_sqlite(host: HostInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_definition, "sqlite3", None)
    with pytest.raises(FerryError, match="module sqlite3 is missing"):
        _definition.definition(host, "aa")
