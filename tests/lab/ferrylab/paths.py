# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Where the lab keeps things."""

from __future__ import annotations

import os
from pathlib import Path

# Beside this package: what goes into roots and images.
HERE = Path(__file__).resolve().parent.parent
FILES = HERE / "files"
COMMAND = HERE / "lab"

# What lives no longer than the machine's uptime: records, keys, the inventory.
RUN = Path("/run/ferry-lab")
STATE = RUN / "state.json"
KEY = RUN / "id_ed25519"
KNOWN_HOSTS = RUN / "known_hosts"
INVENTORY = RUN / "inventory.ini"
TLS = RUN / "tls"
CONTROL_PATHS = RUN / "cp"
LOCK = Path("/run/ferry-lab.lock")


def cache() -> Path:
    """What is expensive to make, kept over lab down."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "ferry-lab"


def roots() -> Path:
    return cache() / "roots"


def images() -> Path:
    return cache() / "images"


def logs() -> Path:
    return cache() / "logs"


def disks() -> Path:
    """What hosts write; gone at lab down."""
    return cache() / "disks"


def disk(name: str) -> Path:
    return disks() / name
