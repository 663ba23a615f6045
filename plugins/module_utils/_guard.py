# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A guard on the destination that keeps open connections from being reset while they are restored.

podman sets the network up before CRIU puts the sockets back. What a client sends in between meets no socket and
is answered with a reset. The guard drops what is addressed to the container, so the client sends it again later.
It sits on the parent device's ingress hook, which comes before macvlan takes a frame (Linux ``net/core/dev.c``).

On the egress hook (Linux 5.16) it also takes away what the container sends. A copy that is ended behind it then closes
no connection, and has told no client anything that another copy would not repeat. It is not dropped there but sent
astray: a drop is told to TCP, which gives a connection up after 16 of them within 8 s (Linux ``tcp_probe_timer``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._errors import OutcomeUnknown, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

EXPIRES = 600
"""Seconds after which a guard that nobody could remove lets everything through again, at least."""

COMMAND = "nft -f -"
"""The one command that the destination runs for a move; a forced command of an ssh key may be just this."""

READY_WITHIN = 10.0
"""Seconds that the nft which waits to remove the guard has for it; after that another one is run."""

INWARDS = {"ingress": ("daddr", "drop")}
BOTH_WAYS = {**INWARDS, "egress": ("saddr", 'fwd to "lo"')}
"""Which side of a packet is looked at on each hook, and what is done. The loopback takes no frame for another host."""


@dataclass
class Guard:
    """Holds back what goes to and comes from some addresses on some devices.

    :param key: makes the name of its table; a container's ID.
    :param devices: parent devices of macvlan and ipvlan networks.
    :param lifetime: seconds until it ends by itself; longer than any restore that it guards.
    :param elsewhere: clients reach the container on other networks too.
    :param until: when it ends by itself, in seconds since the epoch; None where it does not stand.
    :param both_ways: it holds back what the container sends, too.
    :param left: why it could not be removed, if so.
    """

    transport: Transport
    key: str
    devices: list[str]
    addresses: list[str]
    lifetime: int = EXPIRES
    elsewhere: bool = False
    until: float | None = None
    both_ways: bool = False
    left: str | None = None
    _waiting: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def table(self) -> str:
        return f"netdev ferry_{self.key[:12]}"

    def script(self, hooks: dict[str, tuple[str, str]]) -> str:
        """The rules, which replace those of an earlier try.

        :param hooks: INWARDS or BOTH_WAYS.
        """
        lines = [f"add table {self.table}", f"delete table {self.table}", f"add table {self.table}"]
        for family, version in (("ipv4", 4), ("ipv6", 6)):
            addresses = [a for a in self.addresses if ipaddress.ip_address(a).version == version]
            lines.append(f"add set {self.table} {family} {{ type {family}_addr; flags timeout; }}")
            for address in addresses:
                lines.append(f"add element {self.table} {family} {{ {address} timeout {self.lifetime}s }}")
        for number, device in enumerate(self.devices):
            for hook, (side, action) in hooks.items():
                chain = f"{self.table} {hook}{number}"
                lines.append(f'add chain {chain} {{ type filter hook {hook} device "{device}" priority -300; }}')
                lines.append(f"add rule {chain} ip {side} @ipv4 {action}")
                lines.append(f"add rule {chain} ip6 {side} @ipv6 {action}")
        return "\n".join(lines) + "\n"

    @property
    def needed(self) -> bool:
        return bool(self.devices and self.addresses)

    def set(self) -> None:
        """Set it, or set it anew with its whole time.

        :raises TransportError: if nft cannot be run there.
        """
        if not self.needed:
            return
        try:
            self._nft(self.script(BOTH_WAYS))
            self.both_ways = True
        except TransportError:
            # An older kernel has no egress hook.
            self._nft(self.script(INWARDS))
            self.both_ways = False
        self.until = time.time() + self.lifetime

    @property
    def unheard_until(self) -> float:
        """Until when nothing that the container says reaches a client, in seconds since the epoch; 0 for never."""
        return self.until if self.until is not None and self.both_ways and not self.elsewhere else 0.0

    def refresh(self) -> None:
        """Give it its whole time again if a good part of it has passed."""
        if self.until is not None and time.time() > self.until - self.lifetime * 0.8:
            self.set()

    def remove(self) -> None:
        """Never raises: what becomes of the container must not depend on it, and it expires by itself."""
        if self.until is None:
            return
        script = f"add table {self.table}\ndelete table {self.table}\n"
        try:
            if not self._done_by_waiting(script):
                self.transport.again_if_lost(lambda: self._nft(script))
            self.until = self.left = None
        except TransportError as error:
            self.left = str(error)

    def _wait_to_remove(self) -> None:
        """Have nft read its input on the other host, so that clients need not wait for a login; it may go without."""
        if self.until is not None and self.transport.forward is not None:
            with contextlib.suppress(TransportError):
                self._waiting = self.transport.forward.begin(COMMAND, subprocess.DEVNULL)

    def _done_by_waiting(self, script: str) -> bool:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return False
        try:
            waiting.communicate(script.encode(), timeout=READY_WITHIN)
        except (OSError, subprocess.TimeoutExpired):
            _end(waiting)
        return waiting.returncode == 0

    def _end_waiting(self) -> None:
        """It has read nothing then, and does nothing."""
        if self._waiting is not None:
            _end(self._waiting)
            self._waiting = None

    def __enter__(self) -> Guard:
        self.set()
        self._wait_to_remove()
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        """It stays where nobody knows whether the container runs behind it: while it stands, a way back is safe."""
        if not isinstance(error, OutcomeUnknown):
            self.remove()
        self._end_waiting()

    def _nft(self, script: str) -> None:
        if self.transport.forward is not None:
            self.transport.forward.run(COMMAND, script)
            return
        try:
            done = subprocess.run(
                COMMAND.split(), input=script, text=True, capture_output=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransportError(f"nft could not be run: {error}.") from error
        if done.returncode != 0:
            raise TransportError(f"nft failed: {done.stderr.strip()}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Without waiting for what still has its pipes: a container may stand still meanwhile."""
    process.kill()
    for pipe in filter(None, (process.stdin, process.stdout)):
        with contextlib.suppress(OSError):
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=READY_WITHIN)


def can_be_guarded(network: t.Mapping[str, t.Any]) -> bool:
    """Whether all that goes to the containers of a network comes by one device of the host."""
    return network.get("driver") in ("macvlan", "ipvlan") and bool(network.get("network_interface"))


def parents_and_addresses(networks: dict[str, t.Any], known: t.Mapping[str, t.Any]) -> tuple[list[str], list[str]]:
    """Devices and addresses to guard: those of networks whose addresses move along with the container.

    :param networks: the container's, from its inspect answer.
    :param known: the network of each name on the host to guard, from its network inspect answer.
    """
    devices: list[str] = []
    addresses: list[str] = []
    for name, settings in networks.items():
        network = known.get(name) or {}
        if not can_be_guarded(network):
            continue
        devices.append(network["network_interface"])
        addresses += [a for a in (settings.get("IPAddress"), settings.get("GlobalIPv6Address")) if a]
    return sorted(set(devices)), addresses
