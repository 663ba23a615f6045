# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Sends CRIU's images while CRIU still writes them.

CRIU only appends to ``pages-N.img``, and writes ``stats-dump`` beside the images when all of them are closed
(``criu/cr-dump.c``, ``cr_dump_finish``). The pages go as they come; everything else, which is small and is also changed
in place, goes as one tar when podman has answered. ssh authenticates every byte, and the sizes of all files are
compared at the end, so no digest takes another pass over the memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import threading
import typing as t

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._pace import SAMPLE, SAMPLED_FROM, SAMPLES, Pace, Setting
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._receive import Channel

PAGES = re.compile(r"pages-[0-9]+\.img")
FOLLOWED_FROM = 4 * 1024 * 1024
"""Bytes from which on a file of pages has a channel of its own."""

MOST_CHANNELS = 4
"""At once; sshd allows ten sessions of a connection (MaxSessions), and the socket takes some."""

PIECE = 1024 * 1024
LOOK_EVERY = 0.002
"""Seconds between two looks for more."""


class Sender:
    """One dump's images on their way.

    :param directory: that CRIU writes into.
    :param signal: path of the file that CRIU writes last; an older one does not count.
    :param address: place, ID and directory on the other host.
    :param parent: what the link to the images before leads to there; None if there are none.
    :param channels: those that are open already; more are opened by ``more``.
    """

    def __init__(
        self,
        directory: str,
        signal: str,
        address: str,
        channels: list[Channel],
        more: t.Callable[[], Channel],
        pace: Pace,
        progress: Progress,
        parent: str | None = None,
    ) -> None:
        self._directory = directory
        self._signal = signal
        self._address = address
        self._spare = channels
        self._open: list[Channel] = []
        self._more = more
        self._pace = pace
        self._progress = progress
        self._parent = parent
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MOST_CHANNELS)
        self._dumped = threading.Event()
        self._written = threading.Event()
        self._aborted = threading.Event()
        self._error: FerryError | None = None
        self._sizes: dict[str, int] = {}
        self._followers: list[threading.Thread] = []
        self._begun_with = _stamp(signal)
        self._thread = threading.Thread(target=self._guarded, args=(self._run,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def written(self) -> None:
        """Podman has answered: nothing of the images changes any more."""
        self._dumped.set()
        self._written.set()

    def finish(self) -> None:
        """Wait until all of it is there.

        :raises TransportError: if it is not.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Stop it; never raises."""
        self._aborted.set()
        self.written()
        with self._lock:
            channels = [*self._open, *self._spare]
        for channel in channels:
            channel.abort()
        for thread in [self._thread, *self._followers]:
            if thread.ident is not None:
                thread.join(timeout=10)

    # -- on threads of its own ------------------------------------------------------------------------------------

    def _guarded(self, action: t.Callable[..., None], *arguments: t.Any) -> None:
        """An error of any thread ends all of them, and is told by ``finish``."""
        try:
            action(*arguments)
        except Exception as error:
            with self._lock:
                if self._error is None:
                    told = (
                        error if isinstance(error, FerryError) else TransportError(f"The memory was not sent: {error}")
                    )
                    self._error = told
            self._aborted.set()

    def _run(self) -> None:
        rest = self._channel()
        while not self._written.is_set():
            self._look()
            if self._aborted.wait(LOOK_EVERY):
                break
            if not self._dumped.is_set() and _stamp(self._signal) != self._begun_with:
                self._dumped.set()
        self._look()
        names = self._send_rest(rest)
        if self._aborted.is_set():
            raise self._error or TransportError("The memory was not sent: the dump has failed.")
        self._compare(rest.finish(), names)

    def _look(self) -> None:
        """Follow each file of pages that has become large."""
        for entry in os.scandir(self._directory):
            large = PAGES.fullmatch(entry.name) and entry.name not in self._sizes
            if large and entry.stat().st_size >= FOLLOWED_FROM:
                self._sizes[entry.name] = -1
                follower = threading.Thread(target=self._guarded, args=(self._follow, entry.name), daemon=True)
                self._followers.append(follower)
                follower.start()

    def _channel(self) -> Channel:
        with self._lock:
            channel = self._spare.pop() if self._spare else None
        channel = channel or self._more()
        with self._lock:
            self._open.append(channel)
        if self._aborted.is_set():
            channel.abort()
        return channel

    def _follow(self, name: str) -> None:
        with self._places, open(os.path.join(self._directory, name), "rb") as file:
            channel = self._channel()
            setting = self._pace.setting(self._sampled(file.fileno()))
            channel.send(f"file {self._address} {name} {'none' if setting is None else 'zstd'}\n".encode())
            if setting is None:
                size = self._plain(file.fileno(), channel)
            else:
                size = self._compressed(file.fileno(), channel, setting)
            if channel.finish() != str(size):
                raise TransportError(f"The destination has not got all of {name}.")
            self._sizes[name] = size

    def _sampled(self, descriptor: int) -> bytes:
        """Some of the first pages, from several places."""
        if not self._pace.samples:
            return b""
        while not self._dumped.is_set() and os.fstat(descriptor).st_size < SAMPLED_FROM:
            if self._aborted.wait(LOOK_EVERY):
                break
        step = min(os.fstat(descriptor).st_size, SAMPLED_FROM) // (SAMPLES + 1)
        return b"".join(os.pread(descriptor, SAMPLE, number * step) for number in range(1, SAMPLES + 1))

    def _plain(self, descriptor: int, channel: Channel) -> int:
        offset = 0
        while (part := self._part(descriptor, offset)) > 0:
            sent = channel.send_file(descriptor, offset, part)
            offset += sent
            self._progress.passed(sent)
        return offset

    def _compressed(self, descriptor: int, channel: Channel, setting: Setting) -> int:
        offset, compressor = 0, setting.compressor().compressobj()
        while (part := self._part(descriptor, offset)) > 0:
            block = os.pread(descriptor, part, offset)
            offset += len(block)
            self._pass(channel, compressor.compress(block))
        self._pass(channel, compressor.flush())
        return offset

    def _pass(self, channel: Channel, data: bytes) -> None:
        if data:
            channel.send(data)
            self._progress.passed(len(data))

    def _part(self, descriptor: int, offset: int) -> int:
        """How many bytes there are to send next; 0 when that is all."""
        while not self._aborted.is_set():
            over = self._dumped.is_set()
            size = os.fstat(descriptor).st_size
            if size > offset:
                return min(size - offset, PIECE)
            if over:
                return 0
            self._aborted.wait(LOOK_EVERY)
        raise TransportError("The memory was not sent any further.")

    def _send_rest(self, channel: Channel) -> dict[str, int]:
        """Every file but those that go by themselves; the names and sizes of all."""
        channel.send(f"tar {self._address} - -\n".encode())
        found: dict[str, int] = {}
        with tarfile.open(fileobj=t.cast("t.IO[bytes]", _Writer(self, channel)), mode="w|") as tar:
            for entry in sorted(os.scandir(self._directory), key=lambda entry: entry.name):
                if self._aborted.is_set():
                    break
                if entry.is_symlink():
                    # The one to the images before, which the other host has made itself.
                    found[entry.name] = len(self._parent or "")
                    continue
                found[entry.name] = entry.stat().st_size
                if entry.name not in self._sizes:
                    tar.add(entry.path, entry.name)
            # What it answers at the tar's end are the sizes of all files.
            for follower in self._followers:
                follower.join()
        return found

    def _compare(self, answer: str, names: dict[str, int]) -> None:
        wanted = sorted(f"{size}:{name}" for name, size in names.items())
        if sorted(answer.splitlines()) != wanted:
            raise TransportError("The destination has not got every file of the checkpoint.")


class _Writer:
    """A channel as a file."""

    def __init__(self, sender: Sender, channel: Channel) -> None:
        self._pass = sender._pass
        self._channel = channel

    def write(self, data: bytes) -> int:
        self._pass(self._channel, data)
        return len(data)


def _stamp(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return status.st_mtime_ns, status.st_ino
    return None
