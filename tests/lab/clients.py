# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Clients outside the hosts that notice what a move does to open connections. Shared by the demo and the tests."""

from __future__ import annotations

import socket
import threading
import time


def connect(address: str, port: int, limit: float = 90.0) -> socket.socket:
    """Connect as soon as the server answers; Linux believes in an address's former owner for up to 53 s."""
    end = time.monotonic() + limit
    while True:
        try:
            return socket.create_connection((address, port), 1)
        except OSError as error:
            if time.monotonic() > end:
                raise TimeoutError(f"waited {limit:.0f} s for {address}:{port} to accept: {error}") from error
            time.sleep(0.1)


class RedisCounter(threading.Thread):
    """Increments one key of a Redis, over one connection, and sees that each answer is one more than the last.

    :param interval: seconds between two increments.
    :param patience: seconds that an answer may take; the server may be on its way to another host.
    """

    def __init__(self, address: str, interval: float = 0.01, patience: float = 120.0) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.worst_gap = 0.0
        self.error: str | None = None
        self._interval = interval
        self._finished = threading.Event()
        self._socket = connect(address, 6379)
        self._socket.settimeout(patience)
        self._answers = self._socket.makefile("rb")
        self._ask("DEL", "count")

    def _ask(self, *words: str) -> int:
        self._socket.sendall((" ".join(words) + "\r\n").encode())
        answer = self._answers.readline()
        if not answer.startswith(b":"):
            raise ConnectionError(f"the server answered {answer!r}")
        return int(answer[1:])

    def run(self) -> None:
        last = time.monotonic()
        try:
            while not self._finished.is_set():
                found = self._ask("INCR", "count")
                if found != self.count + 1:
                    raise ValueError(f"increment {self.count + 1} was answered with {found}")
                self.count = found
                self.worst_gap = max(self.worst_gap, time.monotonic() - last)
                last = time.monotonic()
                time.sleep(self._interval)
        except (OSError, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def finish(self) -> None:
        """Stop, and compare with what a fresh connection reads."""
        self._finished.set()
        self.join(timeout=130)
        if self.is_alive():
            self.error = "the connection hangs"
        self._socket.close()


def redis_count(address: str) -> int:
    """The counter, over a new connection."""
    with connect(address, 6379) as fresh:
        fresh.settimeout(10)
        fresh.sendall(b"GET count\r\n")
        lines = fresh.recv(100).split(b"\r\n")
    return int(lines[1])
