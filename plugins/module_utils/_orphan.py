# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Processes of a container that podman knows nothing of.

If the podman service is killed while it restores, the runtime and CRIU finish without it: the container runs, with
its address, and podman says ``created`` for ever. Removing it takes it off podman's list and leaves it running (seen
with 5.4 and 5.8). A second copy started elsewhere would be two.
"""

from __future__ import annotations

import re
import subprocess

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._hostfiles import HostFiles
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

RUNTIMES = ("crun", "runc")


def is_orphaned(client: LibpodClient, container: Container) -> bool:
    """Whether a container that podman does not call running has a process, or a monitor that is still restoring one.

    :raises FerryError: if that cannot be found out.
    """
    if not container.process_files:
        return False
    with HostFiles(client, container.id, container.image_id) as files:
        for path in container.process_files:
            pid = (files.read(path) or b"").strip().decode(errors="replace")
            if pid.isdecimal() and files.exists(f"/proc/{pid}"):
                return True
    return False


def end_orphan(client: LibpodClient, container: Container) -> None:
    """Have the runtime kill it; podman can be asked to remove the container afterwards.

    :raises FerryError: if that cannot be done from here.
    """
    command = end_command(container)
    try:
        if client.transport.forward is not None:
            client.transport.forward.run(command, "")
        else:
            subprocess.run(command.split(), capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError, TransportError) as error:
        raise FerryError(
            f"The container {container.name} runs on the host of {client.transport.url} without podman knowing of it, "
            f"and could not be ended: {error}",
            remedy=f"End it there with {command}, remove it with podman rm, and run this again.",
        ) from error


def end_command(container: Container) -> str:
    """The command that the host runs for it; a forced command of an ssh key may be just this, for any ID."""
    if container.runtime not in RUNTIMES or not re.fullmatch("[0-9a-f]{64}", container.id):
        raise FerryError(f"The container {container.name} has the runtime {container.runtime}, which is not known.")
    return f"{container.runtime} delete --force {container.id}"
