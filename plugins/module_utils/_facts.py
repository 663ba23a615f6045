# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What hosts and processes tell about themselves, as far as a move asks for it. Pure: text in, facts out."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import typing as t
from dataclasses import dataclass, field

Version = tuple[int, int, int]

KIB = 1024


@dataclass(frozen=True)
class Listener:
    """A socket that waits for clients, or a datagram socket that is bound.

    :param protocol: tcp or udp.
    :param address: as the kernel has it; ``0.0.0.0`` and ``::`` stand for all.
    """

    protocol: str
    address: str
    port: int

    def meets(self, other: Listener) -> bool:
        """Whether the two cannot be there at once."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.address == other.address or any(_is_any(one) for one in (self.address, other.address))


@dataclass(frozen=True)
class Spooled:
    """A file that podman spools an archive in.

    :param age: seconds since it was last written to.
    """

    path: str
    size: int
    age: int


@dataclass(frozen=True)
class HostFacts:
    """What a host answers to ``_host.PROBE``. Bytes; None or empty where it does not tell.

    :param clock: when it answered, by its own clock, in seconds since the epoch.
    :param disks: free bytes by mount point.
    :param reads_spool: whether podman has one of the archives open that it was sent.
    :param profiles: names of the AppArmor profiles that the kernel has loaded; None if it does not tell.
    """

    clock: float = 0.0
    kernel: str = ""
    machine: str = ""
    cpu_flags: frozenset[str] = frozenset()
    cpu_model: str = ""
    memory: int | None = None
    swap: int = 0
    criu: Version | None = None
    programs: frozenset[str] = frozenset()
    disks: t.Mapping[str, int] = field(default_factory=dict)
    listeners: frozenset[Listener] = frozenset()
    io_uring_disabled: int | None = None
    profiles: frozenset[str] | None = None
    interfaces: frozenset[str] = frozenset()
    spool: tuple[Spooled, ...] = ()
    reads_spool: bool = False

    def disk_of(self, path: str) -> str | None:
        """The mount point that a path is on."""
        on = [mount for mount in self.disks if os.path.commonpath([mount, path]) == mount]
        return max(on, key=len) if on else None


@dataclass(frozen=True)
class ProcessFacts:
    """What the processes of a running container do, seen from its host.

    :param memory: bytes that CRIU would write.
    :param shared: bytes of it that several processes can have, as databases do.
    :param io_uring: IDs of processes that use it.
    :param connections: established TCP connections of its network namespace to other hosts.
    :param listeners: of its processes' network namespace, if that is the host's.
    """

    memory: int = 0
    io_uring: tuple[int, ...] = ()
    shared: int = 0
    connections: int = 0
    listeners: frozenset[Listener] = frozenset()


def parse_probe(text: str) -> HostFacts | None:
    """Read what ``_host.PROBE`` printed; None if it is not all there."""
    sections: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        if line.startswith("@"):
            name = line[1:].strip()
            sections[name] = []
        elif name is not None and line.strip():
            sections[name].append(line)
    return _facts(sections) if "now" in sections and "end" in sections else None


def _facts(sections: t.Mapping[str, list[str]]) -> HostFacts:
    def one(name: str) -> str:
        return (sections.get(name) or [""])[0].strip()

    kernel, _space, machine = one("kernel").partition(" ")
    cpu = dict(_labelled(sections.get("cpu", [])))
    memory = dict(_labelled(sections.get("memory", [])))
    profiles = [line.rsplit(" (", 1)[0] for line in sections.get("profiles", [])]
    return HostFacts(
        kernel=kernel,
        machine=machine,
        cpu_flags=frozenset((cpu.get("flags") or cpu.get("Features") or "").split()),
        cpu_model=cpu.get("model name", ""),
        memory=_kilobytes(memory["MemAvailable"]) if "MemAvailable" in memory else None,
        swap=_kilobytes(memory.get("SwapFree", "0")),
        criu=_version(dict(_labelled(sections.get("criu", []))).get("Version")),
        programs=frozenset(os.path.basename(path) for path in sections.get("programs", [])),
        disks=dict(_disks(sections.get("disks", []))),
        listeners=frozenset(_listeners("tcp", sections.get("tcp", [])))
        | frozenset(_listeners("udp", sections.get("udp", []))),
        io_uring_disabled=int(one("io_uring_disabled")) if one("io_uring_disabled").isdecimal() else None,
        profiles=frozenset(profiles) if profiles else None,
        interfaces=frozenset(sections.get("interfaces", [])),
        spool=tuple(_spool(sections.get("spool", []), one("now"))),
        reads_spool=one("reading") not in ("", "0"),
        clock=float(one("now") or 0),
    )


def _labelled(lines: list[str]) -> t.Iterator[tuple[str, str]]:
    for line in lines:
        label, _colon, value = line.partition(":")
        yield label.strip(), value.strip()


def _kilobytes(text: str) -> int:
    number = text.split()[0] if text.split() else ""
    return int(number) * KIB if number.isdecimal() else 0


def _version(text: str | None) -> Version | None:
    numbers = []
    for part in (text or "").replace("-", ".").split(".")[:3]:
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return t.cast(Version, tuple((numbers + [0, 0])[:3])) if numbers else None


def _disks(lines: list[str]) -> t.Iterator[tuple[str, int]]:
    """The lines of ``df -kP``: file system, size, used, free, share, and where it is mounted."""
    for line in lines:
        columns = line.split(None, 5)
        if len(columns) == 6 and columns[3].lstrip("-").isdecimal():
            yield columns[5], max(0, int(columns[3])) * KIB


def _spool(lines: list[str], now: str) -> t.Iterator[Spooled]:
    for line in lines:
        changed, size, path = line.split(":", 2)
        yield Spooled(path, int(size), max(0, int(now) - int(changed)))


def _listeners(protocol: str, lines: list[str]) -> t.Iterator[Listener]:
    for line in lines:
        with contextlib.suppress(ValueError, IndexError):
            yield Listener(protocol, *_endpoint(line.split()[1]))


def _endpoint(text: str) -> tuple[str, int]:
    """An address and a port as ``/proc/net/tcp`` writes them: 32-bit words of the machine's byte order, in hex."""
    address, port = text.split(":")
    words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    # Both architectures that podman is common on are little-endian.
    packed = b"".join(word[::-1] for word in words)
    found = ipaddress.ip_address(packed)
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found), int(port, 16)


def _is_any(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        # A name, which podman looks up.
        return False


def listening(text: str, protocol: str) -> frozenset[Listener]:
    """The sockets of ``/proc/PID/net/tcp`` and the like that others can reach first."""
    state = "0A" if protocol == "tcp" else "07"
    lines = [line for line in text.splitlines()[1:] if line.split()[3:4] == [state]]
    return frozenset(_listeners(protocol, lines))


def established(text: str) -> int:
    """How many connections of ``/proc/PID/net/tcp`` are open to somewhere else."""
    count = 0
    for line in text.splitlines()[1:]:
        columns = line.split()
        if columns[3:4] == ["01"]:
            address = ipaddress.ip_address(_endpoint(columns[2])[0])
            count += 0 if address.is_loopback else 1
    return count


def available_memory(text: str) -> int | None:
    """Bytes that new processes can have, from ``/proc/meminfo``: the kernel gives up caches for them."""
    values = dict(_labelled(text.splitlines()))
    return _kilobytes(values["MemAvailable"]) if "MemAvailable" in values else None


def file_system_of(path: str, mounts: str) -> tuple[str, str]:
    """Mount point and type of the file system that a path is on, from ``/proc/self/mounts``."""
    found = ("", "")
    for line in mounts.splitlines():
        _device, mount, kind, *_options = line.split(" ")
        mount = mount.replace("\\040", " ")
        # What is mounted later hides what was there.
        if os.path.commonpath([mount, path]) == mount and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found


def memory_of(text: str, keys: t.Sequence[str] = ("Pss_Anon", "Pss_Shmem", "SwapPss")) -> int:
    """Bytes that CRIU writes of one process, from its ``smaps_rollup``: all but clean pages of files."""
    values = dict(_labelled(text.splitlines()))
    return sum(_kilobytes(values.get(key, "")) for key in keys)


def shared_of(text: str) -> int:
    """Of these the bytes of shared memory."""
    return memory_of(text, ("Pss_Shmem",))
