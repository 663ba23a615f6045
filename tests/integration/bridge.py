# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A way to the lab's registry that breaks off when so much has passed; behind it is the registry itself."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from ferrylab.plan import MACHINE_ADDRESS, REGISTRY_ADDRESS, REGISTRY_PORT

BLOCK = 64 * 1024
PATIENCE = 60.0
"""Seconds after which a silent connection ends."""


class Bridge:
    """Carries TCP connections to the registry.

    :param limit: bytes, both ways and on all connections together, after which all of them are cut; None for none.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.passed = 0
        self.breaks = 0
        self._once = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((MACHINE_ADDRESS, 0))
        self.address = f"{MACHINE_ADDRESS}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def breaks_after(self, limit: int, *, once: bool = False) -> None:
        """:param once: whether new connections are taken then."""
        self.passed, self.breaks, self._once, self.limit = 0, 0, once, limit

    def mend(self) -> None:
        self.limit = None

    @property
    def broken(self) -> bool:
        return self.limit is not None and self.passed > self.limit

    def close(self) -> None:
        # Not close alone: the thread that waits in accept would keep the port open.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                if self.broken:
                    client.close()
                else:
                    self._join(client)

    def _join(self, client: socket.socket) -> None:
        registry = socket.create_connection((REGISTRY_ADDRESS, REGISTRY_PORT), 5)
        for one in (client, registry):
            one.settimeout(PATIENCE)
            with self._lock:
                self._open.add(one)
        for pair in ((client, registry), (registry, client)):
            threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, destination: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK):
                self.passed += len(block)
                if self.broken:
                    self._cut()
                    return
                destination.sendall(block)
        with contextlib.suppress(OSError):
            destination.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        with self._lock:
            self.breaks += bool(self._open)
            if self._once:
                self.limit = None
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._open.clear()


@contextlib.contextmanager
def bridge() -> Iterator[Bridge]:
    found = Bridge()
    try:
        yield found
    finally:
        found.close()
