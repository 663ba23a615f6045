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

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._hostfiles import HostFiles
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

RUNTIMES = ("crun", "runc")
SECONDS_BETWEEN = 0.2


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


# -- on the host that the module runs on ---------------------------------------------------------------------------


def wait_for_runtime(client: LibpodClient, container: Container) -> None:
    """Wait for the end of what the runtime and CRIU go on with when the podman service is killed.

    :raises FerryError: if it does not end within the time that an answer may take.
    """
    end = time.monotonic() + client.transport.timeout
    while is_at_work(client, container):
        if time.monotonic() > end:
            raise FerryError(
                f"The runtime is still checkpointing or restoring container {container.name}.",
                remedy=f"See ps for {container.runtime} and criu; run this again when they have ended.",
            )
        time.sleep(SECONDS_BETWEEN)


def is_at_work(client: LibpodClient, container: Container) -> bool:
    """Whether the runtime is checkpointing or restoring it on this host, whatever podman says."""
    return client.transport.is_local and _is_at_work(container.id)


def _is_at_work(ident: str) -> bool:
    for words in _commands():
        if os.path.basename(words[0]) in RUNTIMES and ident in words and {"checkpoint", "restore"} & set(words):
            return True
    return False


def _commands() -> Iterator[list[str]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError), open(f"{entry.path}/cmdline", "rb") as file:
                yield file.read().decode(errors="replace").split("\0")


def freeze_orphan(client: LibpodClient, container: Container, flags: list[str]) -> None:
    """Have the runtime dump a container that runs without podman's knowledge, so that podman can restore it.

    Its memory goes where podman's own checkpoint lies, in place of what it was restored from.

    :param flags: of the runtime's checkpoint command.
    :raises FerryError: if it cannot be dumped; it runs on.
    """
    if not client.transport.is_local or container.bundle is None:
        return
    status = _runtime_status(container)
    if status is None:
        return
    if status != "stopped":
        images = os.path.join(container.bundle, "checkpoint")
        paths = ["--image-path", images, "--work-path", container.bundle]
        _run_here(container, [container.runtime, "checkpoint", *paths, *flags, container.id])
    _run_here(container, end_command(container).split())


def _runtime_status(container: Container) -> str | None:
    if container.runtime not in RUNTIMES:
        return None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, ValueError):
        command = [container.runtime, "state", container.id]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else None
    return None


def _run_here(container: Container, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FerryError(f"{' '.join(command[:2])} of container {container.name} could not be run: {error}.") from error
    if done.returncode != 0:
        raise FerryError(
            f"The container {container.name} runs without podman knowing of it, because the podman service was killed, "
            f"and {' '.join(command[:2])} failed: {done.stderr.strip()}"
        )
