# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A restore from an archive whose begin has gone to podman before its end is made.

Podman acts on an archive when it has seen its end. So pages can go in the request while the container runs, and what
follows in the freeze goes in the same one.
"""

from __future__ import annotations

import queue
import threading
import time
import typing as t
from collections.abc import Iterable, Iterator

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json

WAITING = 32
"""Chunks that may wait to be sent."""

LOOKS_EVERY = 0.2
"""Seconds after which each side sees that the other one has gone."""

ENDS_WITHIN = 10.0
"""Seconds for a request that is given up; what it has sent is worth nothing without its end."""


class _GivenUp(FerryError):
    """Ends the request."""


class EarlyImport:
    """One request, in a thread of its own.

    :param request: sends the chunks that it is given, and returns what a restore returns.
    """

    def __init__(self, request: t.Callable[[Iterator[bytes]], Json]) -> None:
        self._request = request
        self._chunks: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._given_up = threading.Event()
        self._answer: Json | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="early-import", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def send(self, chunks: Iterable[bytes]) -> None:
        """:raises Exception: as the request, if that ends before its time, or as the chunks."""
        for chunk in chunks:
            self._put(chunk)

    def drain(self) -> None:
        """Wait until what is to be sent has gone.

        :raises Exception: as the request, if that ends before its time.
        """
        while self._thread.is_alive():
            if self._chunks.empty():
                return
            time.sleep(LOOKS_EVERY / 10)
        raise self._reason()

    def finish(self) -> Json:
        """Send the end, and wait for the answer for as long as the request does.

        :raises Exception: as the request.
        """
        self._put(None)
        self._thread.join()
        if self._answer is None:
            raise self._reason()
        return self._answer

    def abort(self) -> None:
        """End the request without an end of the archive, so that nothing is restored; never raises."""
        self._given_up.set()
        if self._thread.is_alive():
            self._thread.join(ENDS_WITHIN)

    def _put(self, chunk: bytes | None) -> None:
        while self._thread.is_alive():
            try:
                return self._chunks.put(chunk, timeout=LOOKS_EVERY)
            except queue.Full:
                continue
        raise self._reason()

    def _reason(self) -> BaseException:
        return self._error or FerryError("Podman has answered before it had the whole archive.")

    def _run(self) -> None:
        try:
            self._answer = self._request(self._taken())
        except BaseException as error:  # pylint: disable=broad-exception-caught
            # It is the other thread's to handle.
            self._error = error

    def _taken(self) -> Iterator[bytes]:
        while not self._given_up.is_set():
            try:
                chunk = self._chunks.get(timeout=LOOKS_EVERY)
            except queue.Empty:
                continue
            if chunk is None:
                return
            yield chunk
        raise _GivenUp("The move was given up.")
