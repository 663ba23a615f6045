# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os
import pathlib
import shutil
import threading
import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _overlap
from ansible_collections.ferry.podman.plugins.module_utils._errors import TransportError
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._overlap import Sender
from ansible_collections.ferry.podman.plugins.module_utils._pace import Pace
from ansible_collections.ferry.podman.plugins.module_utils._progress import Progress
from ansible_collections.ferry.podman.plugins.module_utils._receive import Receiver

from .test_receive import IDENT, Here, There

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("flock", "tar", "zstd", "stat"))), reason="runs the programs of a host"
)


class Dump:
    """What CRIU does to a directory, and what becomes of it elsewhere."""

    def __init__(self, tmp_path: pathlib.Path, compress: str = "none") -> None:
        self.here, self.stats = tmp_path / "here", tmp_path / "stats-dump"
        self.here.mkdir()
        place = str(tmp_path / "ferry.podman")
        self.there = pathlib.Path(place, IDENT, "checkpoint")
        Receiver(Here()).make(place, IDENT, 100_000_000, "/")
        journal = Journal(str(tmp_path / "journal"), IDENT)
        journal.begin(Entry(id=IDENT, name="web", image_id="", destination="ssh://x/y", phase="prepare"))
        self.progress = Progress(journal)
        receiver = Receiver(There())
        self.opened = [receiver.channel(), receiver.channel()]
        pace = Pace(compress, True)
        self.sender = Sender(
            str(self.here),
            str(self.stats),
            f"{place} {IDENT} checkpoint",
            list(self.opened),
            receiver.channel,
            pace,
            self.progress,
        )

    def write(self, name: str, megabytes: float, pieces: int = 10) -> None:
        with open(self.here / name, "ab") as file:
            for _piece in range(pieces):
                file.write(os.urandom(int(megabytes * 1e6 / pieces)))
                file.flush()
                time.sleep(0.005)

    def same(self) -> None:
        files = {path.name: path.read_bytes() for path in self.here.iterdir()}
        assert {path.name: path.read_bytes() for path in self.there.iterdir()} == files


@pytest.mark.parametrize("compress", ["none", "zstd"])
@pytest.mark.parametrize("told", [True, False])
def test_images_arrive_while_they_are_written(tmp_path: pathlib.Path, compress: str, told: bool) -> None:
    dump = Dump(tmp_path, compress)
    dump.sender.start()
    writers = [
        threading.Thread(target=dump.write, args=(f"pages-{number}.img", size))
        for number, size in enumerate((20, 6, 3, 9, 8, 7, 5), 1)
    ]
    for writer in writers:
        writer.start()
    dump.write("core-1.img", 0.01)
    for writer in writers:
        writer.join()
    dump.write("inventory.img", 0.001)
    if told:
        # CRIU is over; podman has not answered yet.
        dump.stats.touch()
        time.sleep(0.1)
    dump.sender.written()
    dump.sender.finish()
    dump.same()
    if compress == "none":
        assert dump.progress.sent >= 58e6


def test_small_dump_goes_as_a_tar(tmp_path: pathlib.Path) -> None:
    dump = Dump(tmp_path)
    dump.sender.start()
    dump.write("pages-1.img", 1)
    dump.write("pstree.img", 0.001)
    dump.sender.written()
    dump.sender.finish()
    dump.same()


def test_old_end_of_a_dump_is_not_taken_for_this_one(tmp_path: pathlib.Path) -> None:
    (tmp_path / "stats-dump").touch()
    dump = Dump(tmp_path)
    dump.sender.start()
    dump.write("pages-1.img", 6)
    time.sleep(0.1)
    dump.write("pages-1.img", 6)
    dump.sender.written()
    dump.sender.finish()
    dump.same()


def test_dump_that_failed_leaves_no_thread(tmp_path: pathlib.Path) -> None:
    dump = Dump(tmp_path)
    before = threading.active_count()
    dump.sender.start()
    dump.write("pages-1.img", 8)
    dump.sender.abort()
    with pytest.raises(TransportError):
        dump.sender.finish()
    assert threading.active_count() == before
    for channel in dump.opened:
        assert channel._process.poll() is not None


def test_receiver_that_ends_is_told(tmp_path: pathlib.Path) -> None:
    dump = Dump(tmp_path)
    dump.sender.start()
    dump.write("pages-1.img", 8)
    for channel in dump.opened:
        channel._process.kill()
    dump.write("pages-1.img", 30)
    dump.sender.written()
    with pytest.raises(TransportError, match="could not receive|not sent"):
        dump.sender.finish()


def test_file_that_is_lost_there_is_noticed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Dump(tmp_path)
    dump.sender.start()
    dump.write("pages-1.img", 8)
    (dump.there / "other.img").touch()
    dump.sender.written()
    with pytest.raises(TransportError, match="not got every file"):
        dump.sender.finish()


def test_no_more_channels_than_allowed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Dump(tmp_path)
    used: list[int] = []
    count, lock = [0], threading.Lock()

    def follow(self: Sender, descriptor: int, channel: object) -> int:
        with lock:
            count[0] += 1
            used.append(count[0])
        size = plain(self, descriptor, channel)
        with lock:
            count[0] -= 1
        return size

    plain = Sender._plain
    monkeypatch.setattr(_overlap.Sender, "_plain", follow)
    for number in range(1, 10):
        dump.write(f"pages-{number}.img", 5, 1)
    dump.sender.start()
    time.sleep(0.2)
    dump.sender.written()
    dump.sender.finish()
    dump.same()
    assert max(used) <= _overlap.MOST_CHANNELS
