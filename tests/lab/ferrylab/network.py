# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The segment: a switch in a namespace of its own, with a port for the machine and one for each host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from . import cgroups, plan
from .errors import LabError
from .plan import Host
from .run import run, wait_until

# The machine's end of its port. The switch is in its own namespace, so that the machine's packet filter
# (a FORWARD policy of DROP is common) does not stand between hosts.
MACHINE_LINK = "ferry0"
BRIDGE = "ferry-br"
SWITCH = "switch"


def _in_switch(pid: int, *argv: str) -> None:
    run(["nsenter", "--target", str(pid), "--net", "--", *argv], f"setting up the lab's switch ({' '.join(argv)})")


def check_free() -> None:
    """The lab's subnet must not be in use by someone else."""
    for route in json.loads(run(["ip", "-json", "route", "show", "root", plan.SUBNET], "listing routes") or "[]"):
        if route.get("dst") != "default" and route.get("dev") != MACHINE_LINK:
            raise LabError(
                f"this machine has a route to {route['dst']} over {route.get('dev')}, "
                f"which the lab needs for itself ({plan.SUBNET})"
            )


def switch_pid() -> int | None:
    """The process that holds the switch's namespace, while it is whole."""
    whole = Path("/sys/class/net", MACHINE_LINK).exists()
    return min(cgroups.processes(SWITCH), default=None) if whole else None


def _start_holder() -> int:
    cgroups.create(SWITCH)
    holder = subprocess.Popen(
        ["unshare", "--net", "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    cgroups.join(SWITCH, holder.pid, leaf=True)
    own = os.readlink("/proc/self/ns/net")
    wait_until(
        "the switch to have its own network namespace", 5, lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own
    )
    return holder.pid


def start_switch() -> int:
    """A bridge, and the machine's port on it."""
    stop_switch()
    check_free()
    pid = _start_holder()
    _in_switch(pid, "ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "stp_state", "0")
    _in_switch(pid, "ip", "link", "set", BRIDGE, "up")
    run(
        ["ip", "link", "add", MACHINE_LINK, "type", "veth", "peer", "name", "machine", "netns", str(pid)],
        "connecting the machine to the lab's switch",
    )
    _in_switch(pid, "ip", "link", "set", "machine", "master", BRIDGE, "up")
    # The segment leads nowhere: the machine forwards nothing that comes from it.
    Path(f"/proc/sys/net/ipv4/conf/{MACHINE_LINK}/forwarding").write_text("0")
    run(
        ["ip", "address", "add", f"{plan.MACHINE_ADDRESS}/{plan.PREFIX}", "dev", MACHINE_LINK],
        "giving the machine its address",
    )
    run(["ip", "link", "set", MACHINE_LINK, "up"], "bringing the machine's port up")
    return pid


def _remove_port() -> None:
    """The kernel removes it too, in its own time, once the switch's namespace has ended."""
    link = Path("/sys/class/net", MACHINE_LINK)
    try:
        if link.exists():
            run(["ip", "link", "delete", MACHINE_LINK], "removing the machine's port")
    except LabError:
        wait_until(f"the device {MACHINE_LINK} to go with its switch", 10, lambda: not link.exists())


def stop_switch() -> None:
    cgroups.kill(SWITCH)
    cgroups.remove(SWITCH)
    _remove_port()


def connect(host: Host, switch: int, pid: int) -> None:
    """A cable from the switch to the host's eth0."""
    _in_switch(
        switch,
        "ip",
        "link",
        "add",
        host.name,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "address",
        host.mac,
        "netns",
        str(pid),
    )
    _in_switch(switch, "ip", "link", "set", host.name, "master", BRIDGE, "up")
