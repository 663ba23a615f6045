# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""One run at a time for each container, and no signal in the middle of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient

LOCKS = "/run/lock/ferry.podman"
EVACUATION = "evacuation"
"""Name of the lock of all moves of a host."""

ASKED_WITHIN = 10.0
"""Seconds; whoever only asks whether moves go on holds it for an instant."""


@contextlib.contextmanager
def exclusive(client: LibpodClient, container: Container) -> Iterator[None]:
    """Have the container to oneself on this machine; a second run would take the first one's freeze for its own.

    The lock ends with the process. It does not reach the runs of other machines on a service behind ssh.

    :raises FerryError: if another run is at it, or the lock cannot be made.
    """
    with exclusive_as(client, container.id, f"container {container.name}"):
        yield


@contextlib.contextmanager
def exclusive_as(client: LibpodClient, ident: str, what: str) -> Iterator[None]:
    """The same for anything that has an ID.

    :param what: for errors.
    """
    descriptor = _opened(LOCKS if client.transport.is_local else f"{LOCKS}-{os.getuid()}", ident)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FerryError(
                f"Another run is checkpointing, restoring or moving {what} right now.",
                remedy="Nothing was touched. Wait for it to end.",
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def evacuating() -> Iterator[None]:
    """Hold what tells others that moves go on on this machine, though whoever began them may have gone.

    Several may hold it. Whoever wants to know that all are over asks for ``EVACUATION`` alone, as the role drain does.

    :raises FerryError: if the lock cannot be made, or somebody holds it alone.
    """
    descriptor = _opened(LOCKS if os.geteuid() == 0 else f"{LOCKS}-{os.getuid()}", EVACUATION)
    try:
        _share(descriptor)
        yield
    finally:
        os.close(descriptor)


def _share(descriptor: int) -> None:
    end = time.monotonic() + ASKED_WITHIN
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise FerryError(
                    f"Somebody has held the lock {LOCKS}/{EVACUATION} for {ASKED_WITHIN:.0f} s.",
                    remedy="Nothing was touched. See with lsof who it is, and end that.",
                ) from None
        time.sleep(0.1)


def _opened(directory: str, name: str) -> int:
    """:return: a file descriptor."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FerryError(f"No lock can be made in {directory}: {error}.", remedy="Use become.") from error


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a closed terminal or a cancelled job wait until the container is whole again somewhere.

    Signals are the main thread's: whoever has several moves go on in others sees to them there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)
