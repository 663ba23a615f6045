# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Who is on the segment, with which name, address and flavour. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LabError

FIRST_OF_MIXED = (1, 6)
"""The hosts of a mixed lab that have the older podman: moves go from old to new."""

FLAVOURS = ("stable", "testing", "mixed", "vm")
MAX_HOSTS = 20

SUBNET = "10.99.0.0/16"
PREFIX = 16
MACHINE_ADDRESS = "10.99.0.254"
REGISTRY_ADDRESS = "10.99.0.250"
REGISTRY_PORT = 5000
# The ports are in files/root/etc/docker/registry too.
TLS_PORT = 5443
REDIRECTING_PORT = 5080
FILES_PORT = 5081
REGISTRY_NAME = "registry"
REGISTRY_USER = "ferry"
REGISTRY_PASSWORD = "lab-only-4711"
STATIC_RANGE = "10.99.0.100-10.99.0.199"
NETWORK = "lan"


@dataclass(frozen=True)
class Host:
    """A machine of the lab: a node, or the registry."""

    name: str
    address: str
    flavour: str
    role: str
    automatic_range: str = ""

    @property
    def virtual(self) -> bool:
        """Whether it is a virtual machine with a kernel of its own."""
        return self.flavour == "guest"

    @property
    def mac(self) -> str:
        """Made from the address, so that neighbours need not learn a new one after a reboot."""
        return "02:fe:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))


def node(number: int, flavour: str) -> Host:
    return Host(f"node{number}", f"10.99.0.{number}", flavour, "node", f"10.99.{number}.0/24")


def registry(flavour: str) -> Host:
    return Host(REGISTRY_NAME, REGISTRY_ADDRESS, flavour, "registry")


def hosts_for(count: int, flavour: str) -> list[Host]:
    """All machines of a lab, the registry first."""
    if flavour not in FLAVOURS:
        raise LabError(f"there is no flavour {flavour!r}; there are {', '.join(FLAVOURS)}")
    if not 1 <= count <= MAX_HOSTS:
        raise LabError(f"a lab of {count} hosts is not possible; give 1 to {MAX_HOSTS}")
    if flavour == "vm":
        return [registry("stable"), *(node(number, "guest") for number in range(1, count + 1))]
    first = "testing" if flavour == "testing" else "stable"
    others = "stable" if flavour == "stable" else "testing"
    nodes = [node(number, first if number in FIRST_OF_MIXED else others) for number in range(1, count + 1)]
    return [registry(first), *nodes]


def hosts_file(hosts: list[Host]) -> str:
    """The text of /etc/hosts, the same on all of them."""
    lines = ["127.0.0.1 localhost", f"{MACHINE_ADDRESS} machine"]
    return "\n".join(lines + [f"{host.address} {host.name}" for host in hosts]) + "\n"
