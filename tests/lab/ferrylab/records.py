# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""What the lab knows of each host between two calls: one small file per host."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from . import paths
from .errors import LabError
from .plan import Host


@dataclass
class Record:
    """A host, what it was made from, and its first process while it is up."""

    host: Host
    root: str
    store: str
    disk: str
    pid: int = 0
    started: str = ""

    def alive(self) -> bool:
        return self.pid > 0 and start_time(self.pid) == self.started


def start_time(pid: int) -> str | None:
    """When a process started, in ticks: with its id, that names it for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _file(name: str) -> Path:
    return paths.RUN / "hosts" / f"{name}.json"


def save(record: Record) -> None:
    file = _file(record.host.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(record)))
    os.replace(part, file)


def load(name: str) -> Record:
    try:
        fields = json.loads(_file(name).read_text())
    except FileNotFoundError:
        names = ", ".join(record.host.name for record in load_all()) or "none: no lab is up (lab up)"
        raise LabError(f"there is no host {name!r}; there are {names}") from None
    return Record(**{**fields, "host": Host(**fields["host"])})


def load_all() -> list[Record]:
    """All hosts, the nodes by number and the registry last."""
    found = [load(path.stem) for path in (paths.RUN / "hosts").glob("*.json")]
    return sorted(found, key=lambda record: (record.host.role != "node", len(record.host.name), record.host.name))


def forget(name: str) -> None:
    _file(name).unlink(missing_ok=True)
