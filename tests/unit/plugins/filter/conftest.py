# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Hosts and containers as podman_checkpoint_info returns them, of one MiB where nothing else is said."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

# Reports and the browser are there for pictures too.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "lab"))

Json = dict[str, t.Any]
MIB = 1024**2


def make_container(name: str, memory: int = 1, files: int = 0, **changes: t.Any) -> Json:
    """:param memory: MiB, as files."""
    sizes = {"memory": memory * MIB, "files": files * MIB, "volumes": 0, "archive": (memory + files) * MIB}
    return {
        "name": name,
        "id": f"id-{name}",
        "status": "running",
        "runtime": "crun",
        "pod": None,
        "labels": {},
        "volumes": [],
        "ports": [],
        "networks": [],
        "findings": [],
        "estimate": {**sizes, "downtime_ms": 400},
        **changes,
    }


def make_host(*containers: Json, memory: int = 100, disk: int = 10_000, **changes: t.Any) -> Json:
    """:param memory: MiB that are free, as disk."""
    facts = {
        "can_checkpoint": True,
        "findings": [],
        "podman_version": "5.8.2",
        "arch": "amd64",
        "kernel": "6.12.48+deb13-amd64",
        "cgroup_version": "v2",
        "cgroup_manager": "systemd",
        "runtime": {"name": "crun", "path": "/usr/bin/crun", "version": "crun version 1.28", "has_criu": True},
        "criu": {"version": "4.1.1", "check": True},
        "graph_root": "/var/lib/containers/storage",
        "graph_root_free": disk * MIB,
        "temporary_directory": "/var/tmp",
        "memory_free": memory * MIB,
        **changes,
    }
    return {"host": facts, "containers": list(containers), "changed": False}


def make_finding(code: str, severity: str = "blocker") -> Json:
    return {"code": code, "severity": severity, "message": f"What is found of {code}.", "remedy": "Do something."}


@pytest.fixture
def container() -> t.Callable[..., Json]:
    return make_container


@pytest.fixture
def host() -> t.Callable[..., Json]:
    return make_host


@pytest.fixture
def finding() -> t.Callable[..., Json]:
    return make_finding
