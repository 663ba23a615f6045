# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What CRIU leaves behind: image files and logs. Pure; the readers take bytes and text.

Sources: CRIU's ``images/stats.proto``, ``images/pstree.proto``, ``images/core.proto``, ``images/fdinfo.proto``,
``images/sk-inet.proto``, ``images/sk-unix.proto``, ``criu/include/magic.h``.
"""

from __future__ import annotations

import ipaddress
import re
import struct
import typing as t
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError

IMG_SERVICE_MAGIC = 0x55105940
IMG_COMMON_MAGIC = 0x54564319
STATS_MAGIC = 0x57093306
PSTREE_MAGIC = 0x50273030
CORE_MAGIC = 0x55053847
FILES_MAGIC = 0x56303138

DUMP_STATISTICS = {
    1: "freezing_time",
    2: "frozen_time",
    3: "memdump_time",
    4: "memwrite_time",
    5: "pages_scanned",
    6: "pages_skipped_parent",
    7: "pages_written",
}
RESTORE_STATISTICS = {
    1: "pages_compared",
    2: "pages_skipped_cow",
    3: "forking_time",
    4: "restore_time",
    5: "pages_restored",
}

IN_FLIGHT = "In-flight connection"
"""What CRIU logs when a client is connecting at that very moment (criu/sk-inet.c); the next try may pass."""

HARMLESS = ("Can't setup RLIMIT_NOFILE for self",)
"""Errors in the log of every dump and restore on machines whose root lacks CAP_SYS_RESOURCE."""

_LOG_ERROR = re.compile(r"\bError \(|\bError:|\berror\b")
_LOG_PREFIX = re.compile(r"^\(\d+\.\d+\)\s*(\d+:\s*)?")

ARCHITECTURES = {
    1: "amd64",
    2: "arm",
    3: "arm64",
    4: "ppc64le",
    5: "s390x",
    7: "loong64",
    8: "riscv64",
}
"""Go's names of the values of ``mtype`` in core.proto."""

PROTOCOLS = {6: "tcp", 17: "udp", 136: "udplite"}
STATES = {1: "established", 2: "syn_sent", 3: "syn_recv", 8: "close_wait", 10: "listen"}
"""Those of Linux (``include/net/tcp_states.h``) that a dump can have."""

MOST_KEYS = 1000
MOST_NOTED = 65_536
"""Kinds of fields in a message, and processes or sockets. No dump has more; each takes more memory than bytes."""

Fields = dict[int, list[t.Union[int, bytes]]]


def statistics(image: bytes) -> dict[str, int]:
    """Read stats-dump or stats-restore. Times are microseconds.

    :raises ArchiveError: if it is not such a file.
    """
    entries = list(_entries(image, STATS_MAGIC, "stats-dump"))
    found = _fields(entries[0]) if entries else {}
    for number, names in ((1, DUMP_STATISTICS), (2, RESTORE_STATISTICS)):
        if number in found:
            fields = _fields(_bytes(found, number))
            return {name: _int(fields, key) for key, name in names.items() if key in fields}
    return {}


def processes(pstree: bytes) -> list[dict[str, int]]:
    """Read pstree.img: PID, parent and number of threads of each process, the init process first.

    :raises ArchiveError: if it is not such a file.
    """
    found: list[dict[str, int]] = []
    for entry in _entries(pstree, PSTREE_MAGIC, "pstree.img"):
        fields = _fields(entry)
        _check_count(len(found), "processes")
        found.append({"pid": _int(fields, 1), "ppid": _int(fields, 2), "threads": len(_repeated(fields, 5))})
    return found


def command(core: bytes) -> str | None:
    """Read the name of the process from a core-PID.img, where it is the leader of its threads.

    :raises ArchiveError: if it is not such a file.
    """
    for entry in _entries(core, CORE_MAGIC, "core.img"):
        task = _fields(entry).get(3)
        if task and isinstance(task[0], bytes):
            name = _fields(task[0]).get(6)
            return name[0].decode(errors="replace") if name and isinstance(name[0], bytes) else None
    return None


def architecture(core: bytes) -> str | None:
    """Read from a core-PID.img for which processor it is, as Go calls it; None for one that is not known.

    :raises ArchiveError: if it is not such a file.
    """
    for entry in _entries(core, CORE_MAGIC, "core.img"):
        return ARCHITECTURES.get(_int(_fields(entry), 1))
    return None


def sockets(files: bytes, big_endian: bool = False) -> list[dict[str, t.Any]]:
    """Read from files.img the internet and unix sockets that processes have open.

    :param big_endian: of the processor; addresses are as it has them in memory.
    :raises ArchiveError: if it is not such a file.
    """
    found: list[dict[str, t.Any]] = []
    for entry in _entries(files, FILES_MAGIC, "files.img"):
        fields = _fields(entry)
        _check_count(len(found), "sockets")
        if 4 in fields:
            found.append(_internet_socket(_fields(_bytes(fields, 4)), "big" if big_endian else "little"))
        elif 16 in fields:
            found.append(_unix_socket(_fields(_bytes(fields, 16))))
    return found


def _check_count(number: int, what: str) -> None:
    if number >= MOST_NOTED:
        raise ArchiveError(f"The images of CRIU have more than {MOST_NOTED} {what}.")


def _internet_socket(fields: Fields, order: t.Literal["big", "little"]) -> dict[str, t.Any]:
    protocol = _int(fields, 5)
    return {
        "protocol": PROTOCOLS.get(protocol, str(protocol)),
        "state": STATES.get(_int(fields, 6), "unconnected"),
        "local_address": _address(_repeated(fields, 11), order),
        "local_port": _int(fields, 7),
        "remote_address": _address(_repeated(fields, 12), order),
        "remote_port": _int(fields, 8),
        "path": None,
    }


def _unix_socket(fields: Fields) -> dict[str, t.Any]:
    name = _bytes(fields, 11).rstrip(b"\0")
    # The kernel's abstract names begin with a zero, which everybody shows as @.
    path = ("@" if name.startswith(b"\0") else "") + name.lstrip(b"\0").decode(errors="replace")
    nowhere = {key: None for key in ("local_address", "local_port", "remote_address", "remote_port")}
    return {"protocol": "unix", "state": STATES.get(_int(fields, 4), "unconnected"), **nowhere, "path": path or None}


def _address(words: list[int], order: t.Literal["big", "little"]) -> str | None:
    raw = b"".join((word & 0xFFFFFFFF).to_bytes(4, order) for word in words)
    if len(raw) not in (4, 16):
        return None
    address = ipaddress.ip_address(raw)
    # A socket for both versions has those of IPv4 as addresses of IPv6.
    return str(getattr(address, "ipv4_mapped", None) or address)


def relevant_lines(log: str, most: int = 12) -> list[str]:
    """Return what a CRIU log says about its failure: the lines with errors, else its last ones."""
    lines = [_LOG_PREFIX.sub("", line.strip()) for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _LOG_ERROR.search(line) and not any(text in line for text in HARMLESS)]
    return (errors or lines[-3:])[-most:]


def is_transient(lines: t.Iterable[str]) -> bool:
    """Whether the same dump can succeed when it is tried again."""
    return any(IN_FLIGHT in line for line in lines)


def _entries(image: bytes, magic: int, name: str) -> Iterator[bytes]:
    if len(image) < 8:
        raise ArchiveError(f"{name} is cut short: {len(image)} bytes.")
    first, second = struct.unpack_from("<II", image)
    if first not in (IMG_SERVICE_MAGIC, IMG_COMMON_MAGIC) or second != magic:
        raise ArchiveError(f"{name} begins with {first:#x} {second:#x}, which is not such an image of CRIU.")
    offset = 8
    while offset < len(image):
        if offset + 4 > len(image):
            raise ArchiveError(f"{name} is cut short.")
        (size,) = struct.unpack_from("<I", image, offset)
        offset += 4
        if offset + size > len(image):
            raise ArchiveError(f"{name} is cut short.")
        yield image[offset : offset + size]
        offset += size


def _fields(message: bytes) -> Fields:
    """Split a protobuf message into its fields, by number."""
    found: Fields = {}
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        value: int | bytes
        kind = key & 7
        if kind == 0:
            value, offset = _varint(message, offset)
        else:
            size = 8 if kind == 1 else 4
            if kind == 2:
                size, offset = _varint(message, offset)
            elif kind not in (1, 5):
                raise ArchiveError(f"An image of CRIU holds a field of the unknown kind {kind}.")
            if offset + size > len(message):
                raise ArchiveError("An image of CRIU is cut short inside a field.")
            value = message[offset : offset + size]
            offset += size
        found.setdefault(key >> 3, []).append(value)
        if len(found) > MOST_KEYS:
            raise ArchiveError(f"An image of CRIU holds a message with more than {MOST_KEYS} kinds of fields.")
    return found


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while offset < len(message) and shift < 64:
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, offset
        shift += 7
    raise ArchiveError("An image of CRIU is cut short inside a number.")


def _int(fields: Fields, number: int) -> int:
    value = fields.get(number, [0])[0]
    if not isinstance(value, int):
        raise ArchiveError(f"Field {number} of an image of CRIU is not a number.")
    return value


def _bytes(fields: Fields, number: int) -> bytes:
    value = fields[number][0]
    if not isinstance(value, bytes):
        raise ArchiveError(f"Field {number} of an image of CRIU is not a message.")
    return value


def _repeated(fields: Fields, number: int) -> list[int]:
    """Numbers of a repeated field, packed or not."""
    found: list[int] = []
    for value in fields.get(number, []):
        if isinstance(value, int):
            found.append(value)
            continue
        offset = 0
        while offset < len(value):
            one, offset = _varint(value, offset)
            found.append(one)
    return found
