# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""What there is: hosts, versions, addresses."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import paths, plan, records, shim
from .records import Record

VERSIONS = """podman --version | awk '{print "podman", $3; exit}'
crun --version | awk '{print "crun", $3; exit}'
criu --version | awk '{print "criu", $2; exit}'
runc --version | awk '{print "runc", $3; exit}'
uname -r | awk '{print "kernel", $1}'"""


def _versions(record: Record) -> dict[str, str]:
    """Asked of the host itself: a test may have changed them."""
    if not record.alive() or record.host.role != "node":
        return {}
    command = [str(paths.COMMAND), "exec", record.host.name, "--", "sh", "-c", VERSIONS]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=30,
        check=False,
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def _host(record: Record) -> dict[str, Any]:
    host = record.host
    return {
        "name": host.name,
        "address": host.address,
        "flavour": host.flavour,
        "running": record.alive(),
        "pid": record.pid,
        "automatic_addresses": host.automatic_range,
        "versions": _versions(record),
    }


def collect() -> dict[str, Any]:
    found = records.load_all()
    with ThreadPoolExecutor(8) as pool:
        hosts = list(pool.map(_host, [record for record in found if record.host.role == "node"]))
    registry = [record for record in found if record.host.role == "registry"]
    return {
        "up": bool(found),
        "hosts": hosts,
        "registry": {
            "address": f"{plan.REGISTRY_ADDRESS}:{plan.REGISTRY_PORT}",
            "tls_address": f"{plan.REGISTRY_ADDRESS}:{plan.TLS_PORT}",
            "redirecting_address": f"{plan.REGISTRY_ADDRESS}:{plan.REDIRECTING_PORT}",
            "username": plan.REGISTRY_USER,
            "password": plan.REGISTRY_PASSWORD,
            "ca": str(paths.TLS / "ca.crt"),
            "running": any(record.alive() for record in registry),
        },
        "network": {
            "name": plan.NETWORK,
            "subnet": plan.SUBNET,
            "machine": plan.MACHINE_ADDRESS,
            "static_addresses": plan.STATIC_RANGE,
        },
        "shim": shim.needed(),
        "inventory": str(paths.INVENTORY),
        "key": str(paths.KEY),
        "known_hosts": str(paths.KNOWN_HOSTS),
    }


def describe(status: dict[str, Any]) -> str:
    if not status["up"]:
        return "no lab is up (lab up)"
    lines = []
    for host in status["hosts"]:
        versions = ", ".join(f"{program} {version}" for program, version in host["versions"].items())
        lines.append(f"{host['name']:8} {host['address']:12} {host['flavour']:8} {versions or 'not running'}")
    network, registry = status["network"], status["registry"]
    lines += [
        f"registry {registry['address']}, plain HTTP, {'running' if registry['running'] else 'not running'}",
        f"         {registry['tls_address']}, TLS, user {registry['username']}, password {registry['password']}",
        f"         {registry['redirecting_address']}, plain HTTP, redirects downloads of blobs",
        f"network  {network['name']} (macvlan) {network['subnet']}; static addresses {network['static_addresses']}; "
        f"this machine is {network['machine']}",
        "shim     "
        + (
            "in use: this machine's root lacks CAP_SYS_RESOURCE, so criu is wrapped on the hosts"
            if status["shim"]
            else "not needed"
        ),
    ]
    return "\n".join(lines)
