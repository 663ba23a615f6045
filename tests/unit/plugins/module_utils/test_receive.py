# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _receive
from ansible_collections.ferry.podman.plugins.module_utils._errors import TransportError
from ansible_collections.ferry.podman.plugins.module_utils._receive import RECEIVE, Channel, Receiver, Short

IDENT = "0123456789abcdef" * 4
OTHER = "f" * 64
SHELLS = [shell for shell in ("bash", "dash") if shutil.which(shell)]

needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, ("flock", "mountpoint", "df", "du"))), reason="runs the programs of a host"
)


class Here:
    """A transport to a service of this machine."""

    forward = None
    timeout = 5.0


class There:
    """One whose commands run here, as sshd runs them."""

    timeout = 5.0

    def __init__(self) -> None:
        self.forward = self

    def begin(self, command, said):
        return subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, bufsize=0
        )


@pytest.fixture
def place(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "ferry.podman")


def ask(line: str, shell: str = "sh", rest: bytes = b"") -> tuple[int, str]:
    done = subprocess.run(
        [shell, "-c", RECEIVE], input=line.encode() + b"\n" + rest, capture_output=True, timeout=30, check=False
    )
    return done.returncode, done.stdout.decode().strip()


def test_line_can_stand_in_authorized_keys() -> None:
    assert not set(RECEIVE) & set("'\"\\\n") and "{#" not in RECEIVE and "{{" not in RECEIVE


@needs_programs
@pytest.mark.parametrize("shell", SHELLS)
def test_files_arrive_as_they_are(place: str, shell: str) -> None:
    assert ask(f"make {place} {IDENT} checkpoint 1000 /", shell) == (0, "made")
    images = pathlib.Path(place, IDENT, "checkpoint")
    assert stat.S_IMODE(images.stat().st_mode) == 0o700
    content = os.urandom(300_000) + b"\n\0" * 5
    assert ask(f"file {place} {IDENT} checkpoint pages-1.img none", shell, content) == (0, str(len(content)))
    assert (images / "pages-1.img").read_bytes() == content
    assert stat.S_IMODE((images / "pages-1.img").stat().st_mode) == 0o600
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("core-1.img")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"core"))
    code, answer = ask(f"tar {place} {IDENT} checkpoint - -", shell, archive.getvalue())
    assert (code, answer.split()) == (0, ["4:core-1.img", f"{len(content)}:pages-1.img"])
    assert ask(f"drop {place} {IDENT}", shell) == (0, "dropped")
    assert not os.path.exists(place)


@needs_programs
@pytest.mark.skipif(not shutil.which("zstd"), reason="runs zstd")
def test_compressed_file_is_unpacked_and_a_damaged_one_refused(place: str) -> None:
    content = b"memory " * 100_000
    packed = subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout
    ask(f"make {place} {IDENT} checkpoint 1000 /")
    assert ask(f"file {place} {IDENT} checkpoint pages-1.img zstd", rest=packed) == (0, str(len(content)))
    assert pathlib.Path(place, IDENT, "checkpoint/pages-1.img").read_bytes() == content
    assert ask(f"file {place} {IDENT} checkpoint pages-2.img zstd", rest=packed[:-3])[0] != 0
    assert ask(f"file {place} {IDENT} checkpoint pages-3.img zstd", rest=packed[:-2] + b"xx")[0] != 0
    # A file is written once: who comes late must not write into another one's.
    assert ask(f"file {place} {IDENT} checkpoint pages-1.img zstd", rest=packed)[0] != 0


@needs_programs
def test_rounds_lie_side_by_side(place: str) -> None:
    ask(f"make {place} {IDENT} checkpoint 1000 /")
    assert ask(f"round {place} {IDENT} round-1 - -") == (0, "begun")
    assert ask(f"file {place} {IDENT} round-1 pages-1.img none", rest=b"first") == (0, "5")
    assert ask(f"round {place} {IDENT} checkpoint round-1 -") == (0, "begun")
    assert pathlib.Path(place, IDENT, "checkpoint/parent/pages-1.img").read_bytes() == b"first"
    assert os.readlink(f"{place}/{IDENT}/checkpoint/parent") == "../round-1"
    ask(f"file {place} {IDENT} checkpoint pages-1.img none", rest=b"last")
    # Once more, for another try: what is before it stays as it is.
    assert ask(f"round {place} {IDENT} checkpoint round-1 -") == (0, "begun")
    assert os.listdir(f"{place}/{IDENT}/checkpoint") == ["parent"]
    assert pathlib.Path(place, IDENT, "round-1/pages-1.img").read_bytes() == b"first"


@needs_programs
def test_what_is_removed_holds_no_memory(place: str) -> None:
    ask(f"make {place} {IDENT} checkpoint 1000 /")
    path = f"{place}/{IDENT}/checkpoint/pages-1.img"
    with open(path, "wb") as writer:
        writer.write(bytes(1_000_000))
        writer.flush()
        assert ask(f"drop {place} {IDENT}") == (0, "dropped")
        assert os.fstat(writer.fileno()).st_size == 0


@needs_programs
@pytest.mark.parametrize("claim", ["", "\n", "12"])
def test_half_written_claim_of_another_one_is_no_hindrance(place: str, claim: str) -> None:
    pathlib.Path(place, OTHER).mkdir(parents=True)
    pathlib.Path(place, OTHER, "claim").write_text(claim)
    assert ask(f"make {place} {IDENT} checkpoint 1000 /") == (0, "made")


@needs_programs
def test_made_anew_it_is_empty(place: str) -> None:
    ask(f"make {place} {IDENT} checkpoint 1000 /")
    pathlib.Path(place, IDENT, "checkpoint/old.img").touch()
    assert ask(f"make {place} {IDENT} checkpoint 1000 /") == (0, "made")
    assert os.listdir(f"{place}/{IDENT}/checkpoint") == []


@needs_programs
def test_claims_of_others_count(place: str) -> None:
    pathlib.Path(place).mkdir(parents=True)
    free = shutil.disk_usage(place).free // 1024
    assert ask(f"make {place} {IDENT} checkpoint {free * 2 // 3} /") == (0, "made")
    code, answer = ask(f"make {place} {OTHER} checkpoint {free * 2 // 3} /")
    assert code == 0 and answer.startswith("short ")
    assert not os.path.exists(f"{place}/{OTHER}")
    # Its own claim does not count against itself.
    assert ask(f"make {place} {IDENT} checkpoint {free * 2 // 3} /") == (0, "made")
    ask(f"drop {place} {IDENT}")
    assert ask(f"make {place} {OTHER} checkpoint {free * 2 // 3} /") == (0, "made")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "make",
        f"make /tmp {IDENT} checkpoint 1 /",
        f"make /etc/../ferry.podman {IDENT} checkpoint 1 /",
        f"make /tmp/$(id)/ferry.podman {IDENT} checkpoint 1 /",
        f"make relative/ferry.podman {IDENT} checkpoint 1 /",
        "make /tmp/x/ferry.podman ../../etc checkpoint 1 /",
        "make /tmp/x/ferry.podman .. checkpoint 1 /",
        "make /tmp/x/ferry.podman / checkpoint 1 /",
        "drop /tmp/x/ferry.podman a",
        f"file /tmp/x/ferry.podman {IDENT} checkpoint ../../../etc/passwd none",
        f"round /tmp/x/ferry.podman {IDENT} ../../etc -",
        f"round /tmp/x/ferry.podman {IDENT} a/b -",
        f"file /tmp/x/ferry.podman {IDENT} checkpoint a;id none",
        f"list /tmp/x/ferry.podman {IDENT}",
        f"$(id) /tmp/x/ferry.podman {IDENT}",
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_anything_else_is_refused(shell: str, line: str) -> None:
    assert ask(line, shell) == (2, "")
    assert not os.path.exists("/tmp/x")


@needs_programs
def test_receiver_tells_what_room_there_is(place: str) -> None:
    receiver = Receiver(Here())
    receiver.make(place, IDENT, 1_000_000, "/")
    assert os.path.isdir(f"{place}/{IDENT}/checkpoint")
    with pytest.raises(Short, match="MB left") as short:
        receiver.make(place, OTHER, 1 << 60, "/")
    assert short.value.free > 0
    receiver.drop(place, IDENT)
    with pytest.raises(TransportError, match="exit status 2"):
        receiver.make("/tmp", IDENT, 1, "/")
    with pytest.raises(TransportError):
        receiver.channel()


@needs_programs
def test_channel_sends_files_and_bytes(place: str, tmp_path: pathlib.Path) -> None:
    Receiver(Here()).make(place, IDENT, 10_000_000, "/")
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    channel = Receiver(There()).channel()
    channel.send(f"file {place} {IDENT} checkpoint pages-1.img none\n".encode())
    offset = 0
    with open(tmp_path / "file", "rb") as file:
        while offset < len(content):
            offset += channel.send_file(file.fileno(), offset, len(content) - offset)
    channel.send(content)
    assert channel.finish() == str(2 * len(content))
    assert pathlib.Path(place, IDENT, "checkpoint/pages-1.img").read_bytes() == content * 2


def begun(command: str, timeout: float = 5.0) -> Channel:
    said = tempfile.TemporaryFile()
    process = subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, bufsize=0
    )
    return Channel(process, said, timeout)


def test_channel_tells_why_the_other_side_has_ended() -> None:
    channel = begun("echo no space left on device >&2; exit 1")
    with pytest.raises(TransportError, match="no space left on device"):
        for _time in range(100):
            channel.send(bytes(1 << 20))
    silent = begun("cat >/dev/null; exit 7")
    with pytest.raises(TransportError, match="exit status 7"):
        silent.finish()


def test_channel_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_receive, "POLL", 0.05)
    deaf = begun("sleep 60", timeout=0.3)
    with pytest.raises(TransportError, match="taken nothing"):
        deaf.send(bytes(1 << 23))
    deaf.abort()
    dumb = begun("cat >/dev/null; sleep 60", timeout=0.3)
    with pytest.raises(TransportError, match="has not said"):
        dumb.finish()
    begin = time.monotonic()
    dumb.abort()
    assert time.monotonic() - begin < 5
