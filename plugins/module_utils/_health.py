# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A container's own health check after a restore: run now, and by podman's timer from then on."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    RestoredAndEnded,
    StartedAnew,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient

REARMED_BY_UNPAUSE_SINCE = (5, 5, 0)
"""The podman whose unpause starts the timer of health checks, which a restore does not (container_internal.go)."""

RESTORED = "restored"

HOST_STOPPED = -1
"""Stands for the exit code of a container whose host has stopped."""

SECONDS_BETWEEN = 1.0
UNPAUSE_TRIES = 5


def require_restored(there: Container, began: str = RESTORED) -> None:
    """See that a container runs, and is still what was restored.

    :param began: how it came to run there.
    :raises RestoredAndEnded: if it does not run.
    :raises StartedAnew: if it was restored, and runs without what it had in memory.
    """
    if there.running and (there.restored or began != RESTORED):
        return
    if there.running:
        raise StartedAnew(
            f"The container {there.name} was restored, its process ended, and it was started anew, without its memory."
        )
    if not there.has_ended:
        raise RestoredAndEnded(f"The container {there.name} was {began}, and its host stopped then.", HOST_STOPPED)
    raise RestoredAndEnded(
        f"The container {there.name} was {began}, and its process has ended with {there.exit_code}.", there.exit_code
    )


def passes(client: LibpodClient, container: Container) -> tuple[bool, str]:
    """Run the check once; whether it passed, and what it said.

    podman's own status turns only after several failures in a row, so the check's exit code is what counts.
    """
    try:
        answer = client.run_health_check(container)
    except ApiError as error:
        return False, str(error)
    last: Json = (answer.get("Log") or [{}])[-1]
    if last.get("ExitCode") is None:
        return answer.get("Status") == "healthy", str(answer.get("Status"))
    said = str(last.get("Output") or "").strip()[-300:]
    return last["ExitCode"] == 0, said or f"exit code {last['ExitCode']}"


def wait_healthy(
    client: LibpodClient, container: Container, seconds: float, look: t.Callable[[], None] = lambda: None
) -> None:
    """Run the check until it passes.

    :param look: is called after each that has not passed, and raises if no other is worth it.
    :raises FerryError: if it has not passed within that time; with what it said last.
    """
    end = time.monotonic() + seconds
    while True:
        healthy, said = passes(client, container)
        if healthy:
            return
        look()
        if time.monotonic() > end:
            raise FerryError(
                f"The health check of container {container.name} has not passed within {seconds:.0f} s: {said}.",
                remedy="Raise wait_healthy_timeout if it needs longer, or set wait_healthy to false.",
            )
        time.sleep(SECONDS_BETWEEN)


def rearm(client: LibpodClient, container: Container) -> None:
    """Have podman's timer run the check again; the pause takes milliseconds.

    :raises FerryError: if that fails; the message says so if the container is left paused.
    """
    if not container.has_health_check or client.version < REARMED_BY_UNPAUSE_SINCE:
        return
    if container.status != "paused":
        client.pause(container)
    for attempt in range(UNPAUSE_TRIES):
        try:
            return client.unpause(container)
        except FerryError as error:
            if attempt == UNPAUSE_TRIES - 1:
                raise FerryError(f"{error} It is paused.", remedy=f"Run podman unpause {container.name}.") from error
        time.sleep(SECONDS_BETWEEN)
