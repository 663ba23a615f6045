# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The ssh connections that Ansible keeps open between its calls."""

from __future__ import annotations

from . import paths
from .errors import LabError
from .run import run

# Whose it is, at the front; all of it must fit a socket's 108 characters.
CONTROL_PATH = f"{paths.CONTROL_PATHS}/%h-%p-%r"


def close(address: str) -> None:
    """End the connections to a host (* for all): one that outlived its host's power would only hang."""
    for socket in paths.CONTROL_PATHS.glob(f"{address}-*"):
        try:
            run(["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={socket}", "lab"], "ending a connection", 10)
        except LabError:
            socket.unlink(missing_ok=True)  # who held it is gone already
