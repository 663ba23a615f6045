# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""The way of a container from one host to another."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t
from collections.abc import Iterator

from helpers import SCRATCH, Box, Node, Result

from ansible_collections.ferry.podman.plugins.module_utils._guard import COMMAND
from ansible_collections.ferry.podman.plugins.module_utils._host import PROBE
from ansible_collections.ferry.podman.plugins.module_utils._receive import RECEIVE

PUBLIC_KEYS = "/root/.ssh/authorized_keys"
ALLOWED = (
    f"case $SSH_ORIGINAL_COMMAND in '{COMMAND}'|'{PROBE}'|'{RECEIVE}'|'crun delete --force '*) "
    r"eval \"$SSH_ORIGINAL_COMMAND\"; esac"
)
OPTIONS = f'restrict,port-forwarding,command="{ALLOWED}"'


class Road:
    """The way from one host to another: what the role makes for a move, made once for a test.

    :param transfer: of all moves; by default the module's.
    """

    def __init__(self, source: Node, destination: Node, transfer: str = "auto") -> None:
        self.transfer = transfer
        self.source = source
        self.destination = destination
        source.sh(f"ssh-keygen -q -t ed25519 -N '' -f {SCRATCH}/id")
        known = destination.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()
        source.run("tee", f"{SCRATCH}/known_hosts", stdin=f"{destination.address} {known[0]} {known[1]}\n")
        key = source.sh(f"cat {SCRATCH}/id.pub").strip()
        destination.sh(f"cp {PUBLIC_KEYS} {SCRATCH}/keys")
        destination.later("cp", f"{SCRATCH}/keys", PUBLIC_KEYS)
        destination.run("tee", "-a", PUBLIC_KEYS, stdin=f"{OPTIONS} {key}\n")

    def _options(self, name: str) -> dict[str, t.Any]:
        return {
            "name": name,
            "destination": f"ssh://root@{self.destination.address}/run/podman/podman.sock",
            "destination_identity": f"{SCRATCH}/id",
            "destination_known_hosts": f"{SCRATCH}/known_hosts",
            "transfer": self.transfer,
        }

    def without_probe(self) -> None:
        """The key may set the guard and no more, so the destination's disk is not known beforehand."""
        line = 's/^restrict,port-forwarding,command=".*" ssh-/restrict,port-forwarding,command="nft -f -" ssh-/'
        self.destination.run("sed", "-i", line, PUBLIC_KEYS)

    def without_receiver(self) -> None:
        """The key may not run what takes memory in, and removes files of volumes."""
        line = "s/'read -r what/'nothing -r what/; s/; read -r what/; nothing -r what/"
        self.destination.run("sed", "-i", line, PUBLIC_KEYS)

    def move(self, box: Box, **options: object) -> Result:
        return self.source.module("podman_migrate", **{**self._options(box.name), **options})

    def begin(self, box: Box) -> subprocess.Popen[str]:
        return self.source.start_module("podman_migrate", **self._options(box.name))

    def arrived(self, box: Box) -> Box:
        """The container on the destination; the source has none of it."""
        assert box.name not in self.source.names()
        return self.destination.box(box.name, box.image, box.address)


@contextlib.contextmanager
def full(node: Node, directory: str, size: str) -> Iterator[None]:
    node.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory)
    try:
        yield
    finally:
        # The service still has the file open that did not fit.
        node.run("umount", "--lazy", directory)
