# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Two virtual machines, and a container in them that writes all the time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator

from helpers import LAB, Box, Node, Result, alone_with, forget_neighbour, node_of, parsed, run, wait_until
from road import Road

NODES = ("node1", "node2")
BOOT = 600.0
"""Seconds; an emulated processor is slow."""

PROGRAM = (pathlib.Path(__file__).parent / "writer.py").read_text()
PORT = 7001
PATIENCE = 300.0


@contextlib.contextmanager
def machines() -> Iterator[tuple[Node, Node]]:
    """Both are up; a lab of another flavour is taken down for them."""
    up = json.loads(run(LAB, "status", "--json"))
    if up["up"] and {host["flavour"] for host in up["hosts"]} != {"guest"}:
        run(LAB, "down")
    run(LAB, "up", "--hosts", str(len(NODES)), "--flavour", "vm", timeout=BOOT)
    with alone_with(*NODES):
        yield node_of(NODES[0]), node_of(NODES[1])


@dataclasses.dataclass
class Writer:
    """A container that writes all the time."""

    box: Box

    @classmethod
    def start(cls, node: Node, megabytes: int, rate: float) -> Writer:
        address = node.free_address()
        command = ("--entrypoint", "python3", "localhost/lab/keeper", "-c", PROGRAM, str(megabytes), str(rate))
        name = f"it-writer-{time.monotonic_ns()}"
        ident = node.podman("run", "--detach", "--name", name, "--network", "lan", "--ip", address, *command)
        forget_neighbour(address)
        writer = cls(Box(node, name, ident, "keeper", address))
        wait_until(lambda: writer.ask(b"ready?"), "the memory to be full", PATIENCE)
        # Every page is written once more at the rate that it is written at from now on.
        return writer

    @property
    def bundle(self) -> str:
        """The container's own directory."""
        path = self.box.node.podman("inspect", "--format", "{{.OCIConfigPath}}", self.box.id)
        return str(pathlib.PurePath(path.strip()).parent)

    def ask(self, question: bytes, seconds: float = 2.0) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(seconds)
            try:
                client.sendto(question, (self.box.address, PORT))
                return client.recv(200)
            except OSError:
                return b""

    def is_whole(self) -> None:
        answer = wait_until(lambda: self.ask(b"check", 60), "all pages to be looked at", PATIENCE)
        assert answer.startswith(b"0 wrong of "), answer


def begin(road: Road, writer: Writer, **options: object) -> subprocess.Popen[str]:
    known = {**road._options(writer.box.name), "force": True, "timeout": 300, **options}
    return road.source.start_module("podman_migrate", **known)


def moved(road: Road, writer: Writer, **options: object) -> Result:
    result = parsed(*begin(road, writer, **options).communicate(timeout=PATIENCE * 2))
    assert result.changed, result.msg
    arrived = road.arrived(writer.box)
    assert arrived.status == "running"
    writer.is_whole()
    arrived.remove()
    return result
