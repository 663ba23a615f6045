# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A client outside that asks every 20 ms, and knows for how long it got no answer."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
import typing as t

EVERY = 0.02
PATIENCE = 30.0
REDIS = 6379


class Client(threading.Thread):
    """Use it as a context manager.

    Each question stands for itself: a datagram, or for Redis a connection of its own. So no question waits for TCP to
    send an earlier one again, and the gap between two answers is the server's.

    :param port: of a server that answers datagrams; ``redis`` for Redis.
    """

    def __init__(self, address: str, port: int | t.Literal["redis"]) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self._address = address
        self._port = port
        self._last = time.monotonic()
        self._stopped = threading.Event()

    def __enter__(self) -> Client:
        self.start()
        time.sleep(10 * EVERY)
        self.longest = 0.0
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopped.set()
        self.join(timeout=10)

    def answered(self) -> None:
        """Wait for one more answer."""
        begun = time.monotonic()
        while self._last < begun:
            if time.monotonic() - begun > PATIENCE:
                raise SystemExit(f"The container has not answered for {PATIENCE:.0f} s.")
            time.sleep(EVERY)

    def run(self) -> None:
        ask = self._by_connections if self._port == "redis" else self._by_datagrams
        ask()

    def _heard(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def _by_datagrams(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((self._address, t.cast(int, self._port)))
            client.setblocking(False)
            poll = select.poll()
            poll.register(client, select.POLLIN)
            due, number = time.monotonic(), 0
            while not self._stopped.is_set():
                number += 1
                with contextlib.suppress(OSError):
                    client.send(struct.pack("!I", number))
                due += EVERY
                while (left := due - time.monotonic()) > 0:
                    if not poll.poll(left * 1000):
                        break
                    with contextlib.suppress(OSError):
                        client.recv(64)
                        self._heard()

    def _by_connections(self) -> None:
        poll = select.poll()
        waiting: dict[int, tuple[socket.socket, float]] = {}
        due = time.monotonic()
        while not self._stopped.is_set():
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((self._address, REDIS))
            waiting[client.fileno()] = (client, time.monotonic())
            poll.register(client, select.POLLOUT)
            due += EVERY
            while (left := due - time.monotonic()) > 0:
                for number, event in poll.poll(left * 1000):
                    self._step(poll, waiting, number, event)
            for number, (_client, begun) in list(waiting.items()):
                if time.monotonic() - begun > 0.5:
                    self._drop(poll, waiting, number)

    def _step(
        self, poll: select.poll, waiting: dict[int, tuple[socket.socket, float]], number: int, event: int
    ) -> None:
        client, _begun = waiting[number]
        try:
            if event & select.POLLIN:
                if client.recv(64).startswith(b"+PONG"):
                    self._heard()
            elif event & select.POLLOUT and not event & (select.POLLERR | select.POLLHUP):
                client.send(b"PING\r\n")
                poll.modify(client, select.POLLIN)
                return
        except OSError:
            pass
        self._drop(poll, waiting, number)

    @staticmethod
    def _drop(poll: select.poll, waiting: dict[int, tuple[socket.socket, float]], number: int) -> None:
        client, _begun = waiting.pop(number)
        poll.unregister(client)
        client.close()
