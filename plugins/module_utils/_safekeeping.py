# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Keeps a container where it is while its checkpoint is turned into an archive or an image.

podman stops the container and only then archives it. If that fails, for a full disk or a lost client, it removes a
container of ``--rm`` with its checkpoint, and starts one with a restart policy afresh: the memory is lost either way.
A container that another one depends on is not removed, and one without a restart policy is not restarted. So for
that time there is a second container, created and never started, that shares the first one's PID namespace; its
labels remember the restart policy, for the next run if this one is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, UnsupportedParameter
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    LibpodClient,
    RestartPolicy,
)

LABEL = "ferry.holds"
POLICY_LABEL = "ferry.restart_policy"
RETRIES_LABEL = "ferry.restart_retries"

ROOM = 1 << 20
"""Free bytes with which podman can write a config.json anew while the one before is still there."""


@dataclass(frozen=True)
class Hold:
    """What keeps one container in place.

    :param policy: the restart policy that the container has when nothing holds it.
    """

    client: LibpodClient
    container: Container
    policy: RestartPolicy

    @property
    def _name(self) -> str:
        return hold_name(self.container.id)

    @property
    def needed(self) -> bool:
        return self.container.auto_remove or self.policy.active

    def take(self) -> None:
        self.client.create_container(
            {
                "name": self._name,
                "image": self.container.image_id,
                # Not the IPC namespace: podman lets nobody join that of --ipc private.
                "pidns": {"nsmode": "container", "value": self.container.id},
                "netns": {"nsmode": "none"},
                # Nobody outside a pod may depend on a container in it.
                **({"pod": self.container.pod} if self.container.pod else {}),
                "labels": {
                    LABEL: self.container.id,
                    POLICY_LABEL: self.policy.name,
                    RETRIES_LABEL: str(self.policy.retries),
                },
            }
        )

    def suspend_policy(self) -> None:
        """Servers before 5.1 cannot change it; there the risk that podman has stays."""
        with contextlib.suppress(UnsupportedParameter):
            if self.policy.active:
                self.client.update_restart_policy(self.container, RestartPolicy("no", 0))

    def release(self) -> None:
        """Give the container its restart policy back, where it still is, and let go of it."""
        if self.policy.active and self.client.find_container(self.container.id) is not None:
            with contextlib.suppress(UnsupportedParameter):
                self.client.update_restart_policy(self.container, self.policy)
        self.drop()

    def drop(self) -> None:
        self.client.remove_container(self._name)


def hold_name(container_id: str) -> str:
    return f"ferry-hold-{container_id[:12]}"


def find_hold(client: LibpodClient, container: Container) -> Hold | None:
    """What an interrupted run left."""
    left = client.find_container(hold_name(container.id))
    if left is None or left.labels.get(LABEL) != container.id:
        return None
    policy = RestartPolicy(left.labels.get(POLICY_LABEL, "no"), int(left.labels.get(RETRIES_LABEL, "0")))
    return Hold(client, container, policy)


def settle(client: LibpodClient, container: Container) -> None:
    """Undo what an interrupted run left on a container that runs again."""
    hold = find_hold(client, container)
    if hold is not None:
        hold.release()


def finish_stop(client: LibpodClient, container: Container) -> None:
    """Have podman finish with a container whose process has ended, or it does not restore it.

    It does so by itself, but not where a full disk or, for ``--rm``, the hold has stopped it half way. The API has no
    call for it, so this works for a service of this host alone. Never raises.
    """
    if not (client.transport.is_local and container.status == "stopped"):
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, FerryError):
        store = client.info().raw["store"]
        command = ["podman", "--root", store["graphRoot"], "--runroot", store["runRoot"]]
        command += ["container", "cleanup", container.id]
        subprocess.run(command, capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def kept_safe(client: LibpodClient, container: Container, options: CheckpointOptions) -> Iterator[RestartPolicy]:
    """Hold a container that podman would remove or restart when what is inside fails.

    Gives the restart policy that belongs into the archive. Afterwards a container of ``--rm`` that was stopped is
    removed, as podman does; after a failure that left it stopped, the hold stays too.

    :raises FerryError: if it cannot be held; it has not been touched then.
    """
    if options.leave_running or options.pre_checkpoint:
        yield (find_hold(client, container) or Hold(client, container, container.restart_policy)).policy
        return
    held = hold(client, container)
    try:
        yield held.policy
    except BaseException:
        with contextlib.suppress(FerryError):
            now = client.find_container(container.id)
            if held.needed and (now is None or now.running):
                held.release()
        raise
    if held.needed:
        held.release()
    if container.auto_remove:
        client.remove_container(container.id, force=False)


@contextlib.contextmanager
def definition_kept(client: LibpodClient, container: Container) -> Iterator[None]:
    """Around a restore in place: have podman find the container's config.json again, also after it was killed in one.

    podman removes that file and writes it anew before each restore, which reads it (saveSpec in container_internal.go).
    """
    if not (client.transport.is_local and container.bundle):
        yield
        return
    path = os.path.join(container.bundle, "config.json")
    kept = f"{path}.ferry"
    # What cannot be kept is no reason against the restore.
    with contextlib.suppress(OSError):
        if _is_whole(path):
            # On a full disk podman needs the very room that its removal of the file gives it.
            if _has_room(path):
                _link(path, kept)
        elif _is_whole(kept):
            _link(kept, path)
    yield
    with contextlib.suppress(OSError):
        os.unlink(kept)


def _is_whole(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return bool(json.load(file))
    except (OSError, ValueError):
        return False


def _has_room(path: str) -> bool:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize >= ROOM


def _link(source: str, path: str) -> None:
    """A name more for the same file, which podman's removal leaves."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.link(source, path)


def hold(client: LibpodClient, container: Container) -> Hold:
    """Hold a container that podman would remove or restart.

    :raises FerryError: if it cannot be held; nothing of it is left then.
    """
    found = find_hold(client, container)
    held = found or Hold(client, container, container.restart_policy)
    if not held.needed:
        return held
    if found is None:
        held.take()
    try:
        held.suspend_policy()
    except FerryError:
        with contextlib.suppress(FerryError):
            held.release()
        raise
    return held


def drop_hold(client: LibpodClient, container: Container) -> None:
    """Let go of a container that is to be removed; with its restart policy a boot in between would start it again."""
    found = find_hold(client, container)
    if found is not None:
        found.drop()
