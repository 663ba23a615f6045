# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _earlyimport
from ansible_collections.ferry.podman.plugins.module_utils._earlyimport import EarlyImport
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, RestoreFailed


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_earlyimport, "LOOKS_EVERY", 0.01)


class Podman:
    """Takes the chunks of a request."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.chunks: list[bytes] = []
        self.whole = False
        self.ended = threading.Event()
        self._fails_after = fails_after

    def request(self, chunks: Iterator[bytes]) -> dict[str, t.Any]:
        try:
            for chunk in chunks:
                self.chunks.append(chunk)
                if len(self.chunks) == self._fails_after:
                    raise RestoreFailed("no space left on device")
            self.whole = True
            return {"id": "web"}
        finally:
            self.ended.set()


def begun(podman: Podman) -> EarlyImport:
    early = EarlyImport(podman.request)
    early.begin()
    return early


def test_what_goes_early_and_late_is_one_request() -> None:
    podman = Podman()
    early = begun(podman)
    early.send([b"pages", b"more"])
    assert not podman.ended.wait(0.05)
    early.send([b"rest"])
    assert early.finish() == {"id": "web"}
    assert podman.chunks == [b"pages", b"more", b"rest"]


def test_it_has_no_end_when_it_is_given_up() -> None:
    podman = Podman()
    early = begun(podman)
    early.send([b"pages"])
    early.abort()
    assert podman.ended.is_set() and not podman.whole
    with pytest.raises(FerryError, match="given up"):
        early.finish()
    early.abort()


def test_request_that_fails_ends_the_sending() -> None:
    podman = Podman(fails_after=2)
    early = begun(podman)
    with pytest.raises(RestoreFailed, match="no space left"):
        early.send(b"x" for _number in range(10 * _earlyimport.WAITING))
    with pytest.raises(RestoreFailed, match="no space left"):
        early.finish()


def test_failure_of_what_is_sent_is_the_senders() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"pages"
        raise FerryError("CRIU has failed")

    podman = Podman()
    early = begun(podman)
    with pytest.raises(FerryError, match="CRIU has failed"):
        early.send(chunks())
    early.abort()
    assert not podman.whole


def test_answer_before_the_end_is_a_failure() -> None:
    early = EarlyImport(lambda chunks: {"id": next(chunks).decode()})
    early.begin()
    with pytest.raises(FerryError, match="before it had the whole archive"):
        early.send(b"x" for _number in range(10 * _earlyimport.WAITING))


def test_request_that_has_ended_is_seen_before_the_rest() -> None:
    slow = threading.Event()

    def request(chunks: Iterator[bytes]) -> dict[str, t.Any]:
        next(chunks)
        slow.wait(10)
        raise RestoreFailed("no space left on device")

    early = EarlyImport(request)
    early.begin()
    early.send([b"a", b"b"])
    threading.Timer(0.05, slow.set).start()
    with pytest.raises(RestoreFailed, match="no space left"):
        early.drain()


def test_all_has_gone_when_it_is_drained() -> None:
    podman = Podman()
    early = begun(podman)
    early.send([b"a", b"b"])
    early.drain()
    early.finish()
    assert podman.chunks == [b"a", b"b"]
