# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What is found about a move before it begins, on real hosts, and that nothing is touched by looking."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import pytest
from helpers import SCRATCH, Box, Json, Node, Result, wait_until

PUBLIC_KEYS = "/root/.ssh/authorized_keys"
PORT = 8461
DEVICE = "/dev/it-device"
"""Of numbers that nobody has: podman names a device by its numbers."""

IO_URING = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
descriptor = libc.syscall(425, 4, ctypes.create_string_buffer(120))
print("ring" if descriptor >= 0 else ctypes.get_errno(), flush=True)
time.sleep(100000)
"""
"""Has a ring, as a server that uses io_uring has."""

LISTEN = f"""
import os, socket, time
server = socket.create_server(("0.0.0.0", {PORT}))
print(os.getpid(), flush=True)
time.sleep(600)
"""


class Outlook:
    """The way from one host to another, which is looked down and perhaps never gone.

    :param command: the one command that the key may run besides forwarding; None for any.
    """

    def __init__(self, source: Node, destination: Node, command: str | None = None) -> None:
        self.source = source
        self.destination = destination
        source.sh(f"ssh-keygen -q -t ed25519 -N '' -f {SCRATCH}/id")
        known = destination.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()
        source.run("tee", f"{SCRATCH}/known_hosts", stdin=f"{destination.address} {known[0]} {known[1]}\n")
        options = "restrict,port-forwarding" + (f',command="{command}"' if command else "")
        destination.sh(f"cp {PUBLIC_KEYS} {SCRATCH}/keys")
        destination.later("cp", f"{SCRATCH}/keys", PUBLIC_KEYS)
        key = source.sh(f"cat {SCRATCH}/id.pub").strip()
        destination.run("tee", "-a", PUBLIC_KEYS, stdin=f"{options} {key}\n")

    @property
    def options(self) -> Json:
        return {
            "destination": f"ssh://root@{self.destination.address}/run/podman/podman.sock",
            "destination_identity": f"{SCRATCH}/id",
            "destination_known_hosts": f"{SCRATCH}/known_hosts",
        }

    def look(self, box: Box) -> Json:
        """What the info module tells about a move of the container."""
        return self.source.info(name=[box.name], **self.options).one

    def move(self, box: Box, **options: object) -> Result:
        return self.source.module("podman_migrate", name=box.name, **self.options, **options)


@pytest.fixture
def outlook(pair: tuple[Node, Node]) -> Outlook:
    return Outlook(*pair)


@contextlib.contextmanager
def listener(node: Node) -> Iterator[None]:
    """Somebody on the host has the port."""
    process = node.popen("python3", "-c", LISTEN)
    assert process.stdout is not None
    pid = process.stdout.readline().strip()
    try:
        assert pid.isdecimal(), pid + process.stdout.read()
        yield
    finally:
        node.run("kill", pid, check=False)
        process.communicate()


def codes(found: Json, *severities: str) -> set[str]:
    return {finding["code"] for finding in found["findings"] if finding["severity"] in severities}


def message(result: Result, code: str) -> str:
    (finding,) = [finding for finding in result.values["findings"] if finding["code"] == code]
    return str(finding["message"])


def awkward(source: Node) -> Box:
    """A container that cannot go anywhere, for many reasons at once."""
    source.sh(f"mkdir {SCRATCH}/only-here; mknod {DEVICE} c 240 7")
    source.later("rm", DEVICE)
    source.run("tee", f"{SCRATCH}/ring.py", stdin=IO_URING)
    source.sh(f"echo secret | podman secret create it-secret - >{SCRATCH}/secret")
    source.later("podman", "secret", "rm", "it-secret")
    mounts = f"-v {SCRATCH}/only-here:/a -v {SCRATCH}/ring.py:/ring.py -v /usr:/usr:ro"
    flags = f"{mounts} --device {DEVICE} --secret it-secret -p {PORT}:80"
    flags += " --label PODMAN_SYSTEMD_UNIT=it.service --security-opt seccomp=unconfined --entrypoint python3"
    # The host's own Python, because the image's is too small for a system call of one's choice.
    box = source.start("keeper", *shlex.split(flags), command=("/ring.py",), network="podman")
    wait_until(lambda: source.podman("logs", box.id), "the ring")
    assert source.podman("logs", box.id) == "ring"
    return box


def test_every_reason_is_given_at_once_and_nothing_is_touched(outlook: Outlook) -> None:
    box = awkward(outlook.source)
    life, before = box.life, outlook.destination.names()
    with listener(outlook.destination):
        result = outlook.move(box)
    assert result.failed and "is refused, nothing was touched" in result.msg
    expected = {"bind_absent", "device_absent", "file_secret", "io_uring", "port_in_use", "systemd_unit"}
    assert expected <= codes(result.values, "blocker")
    assert all(f"[{code}]" in result.msg for code in expected)
    assert DEVICE in message(result, "device_absent")
    assert f"{PORT}/tcp" in message(result, "port_in_use")
    assert "it.service" in message(result, "systemd_unit")
    missing = {finding["message"] for finding in result.values["findings"] if finding["code"] == "bind_absent"}
    assert len(missing) == 2 and any(f"{SCRATCH}/only-here " in text for text in missing)
    assert "/usr of its host" in message(result, "bind_content")
    assert f"{SCRATCH}/only-here" not in message(result, "bind_content")
    assert box.life == life
    assert outlook.destination.names() == before


def test_disk_that_is_too_small_is_found_before_the_freeze(outlook: Outlook) -> None:
    box = outlook.source.start("keeper")
    life = box.life
    outlook.destination.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/var/tmp")
    outlook.destination.later("umount", "--lazy", "/var/tmp")
    result = outlook.move(box, transfer="stream")
    assert codes(result.values, "blocker") == {"disk_short"}
    assert "destination's file system /var/tmp" in message(result, "disk_short")
    assert box.life == life


def test_estimate_is_what_goes_over(outlook: Outlook) -> None:
    box = outlook.source.start("keeper", "-v", f"it-{'v' * 8}:/data", command=("30",))
    box.sh("head -c 5000000 /dev/urandom >/data/a; head -c 3000000 /dev/urandom >/b")
    found = outlook.look(box)
    assert codes(found, "blocker", "warning") == set()
    estimate = found["estimate"]
    assert estimate["volumes"] == 5_000_000
    assert 3_000_000 <= estimate["files"] < 4_000_000
    assert 30_000_000 <= estimate["memory"] < 60_000_000
    moved = outlook.move(box)
    assert not moved.failed, moved.msg
    assert 0.7 < moved.values["bytes"] / estimate["archive"] < 1.4


def test_key_that_allows_nothing_else_leaves_a_notice(pair: tuple[Node, Node]) -> None:
    outlook = Outlook(*pair, command="nft -f -")
    box = outlook.source.start("counter")
    found = outlook.look(box)
    assert codes(found, "blocker", "warning") == set()
    assert "host_unknown" in codes(found, "notice")
