# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The headers of a tar whose bytes go by, read so strictly that no other reader can find other ones. Pure.

Tars inside an archive go on to podman as they came, so what is seen here must be what Go's ``archive/tar`` sees there.
Where the two, or Python's ``tarfile``, are known to differ, the tar is refused; what engines write never is.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

RECORD = 512
ZEROS = bytes(RECORD)

FILE, OLD_FILE, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, PIPE = (
    b"0",
    b"\0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
LONG_NAME, LONG_LINK, EXTENDED = b"L", b"K", b"x"

MOST_EXTENDED = 1024 * 1024
"""Bytes of names and attributes of one member."""

MOST_NAME = 4096

COMPRESSED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""How a tar must not begin: podman takes it for a compressed one then (containers/storage pkg/archive)."""

_OCTAL = re.compile(rb"[ 0]*([0-7]*)[ \0]*")
_DECIMAL = re.compile(rb"[0-9]{1,19}")


class Unreadable(Exception):
    """The tar is damaged, or different programs would read it differently."""


@dataclass(frozen=True)
class Header:
    """One member of a tar."""

    kind: bytes
    name: bytes
    link: bytes
    size: int


class Headers:
    """Takes a tar in blocks of any size.

    :param found: is called with each header.
    """

    def __init__(self, found: t.Callable[[Header], None]) -> None:
        self._found = found
        self._kept = bytearray()
        self._need = RECORD
        self._skip = 0
        self._begun = self._ended = False
        self._next: t.Callable[[bytes], None] = self._first
        self._extended: dict[bytes, bytes] = {}

    @property
    def ended(self) -> bool:
        """Whether the two zero blocks have come."""
        return self._ended

    def feed(self, block: bytes) -> None:
        """:raises Unreadable: as soon as it is seen."""
        offset = 0
        self._begun = self._begun or bool(block)
        while offset < len(block):
            if self._ended:
                if block[offset:].strip(b"\0"):
                    raise Unreadable("it goes on behind its end")
                return
            step = min(self._skip or self._need - len(self._kept), len(block) - offset)
            if self._skip:
                self._skip -= step
            else:
                self._kept += block[offset : offset + step]
                self._take()
            offset += step

    def finish(self) -> None:
        """:raises Unreadable: if it has no end. A tar of no bytes at all is an empty one, for podman too."""
        if self._begun and not self._ended:
            raise Unreadable("it is cut short")

    def _take(self) -> None:
        if len(self._kept) == self._need:
            whole, self._need = bytes(self._kept), RECORD
            self._kept.clear()
            self._next(whole)

    def _first(self, block: bytes) -> None:
        if block.startswith(COMPRESSED):
            raise Unreadable("it begins like a compressed file")
        self._next = self._header
        self._header(block)

    def _header(self, block: bytes) -> None:
        if block == ZEROS:
            if self._extended:
                raise Unreadable("it ends behind an extended header")
            self._next = self._second_zeros
            return
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind in (LONG_NAME, LONG_LINK, EXTENDED):
            self._expect_extended(kind, size)
        else:
            self._member(block, kind, size)

    def _second_zeros(self, block: bytes) -> None:
        if block != ZEROS:
            raise Unreadable("its end is incomplete")
        self._ended = True

    def _expect_extended(self, kind: bytes, size: int) -> None:
        if kind in self._extended or (self._extended and EXTENDED in (kind, *self._extended)):
            raise Unreadable("a member has several names")
        if not 0 < size <= MOST_EXTENDED:
            raise Unreadable(f"it has an extended header of {size} bytes")
        self._need = size + -size % RECORD

        def take(block: bytes) -> None:
            self._extended[kind] = block[:size]
            self._next = self._header

        self._next = take

    def _member(self, block: bytes, kind: bytes, size: int) -> None:
        records = _records(self._extended.get(EXTENDED, b""))
        name, link = _name(block), _text(block[157:257])
        name = records.get(b"path") or _long(self._extended.get(LONG_NAME)) or name
        link = records.get(b"linkpath") or _long(self._extended.get(LONG_LINK)) or link
        if b"size" in records:
            size = int(records[b"size"])
        self._extended = {}
        is_file = kind in (FILE, OLD_FILE)
        if kind == OLD_FILE and name.endswith(b"/"):
            raise Unreadable("a file has the name of a directory")
        if not is_file and size:
            raise Unreadable("a member that is no file has content")
        if len(name) > MOST_NAME or len(link) > MOST_NAME:
            raise Unreadable(f"a name is longer than {MOST_NAME} bytes")
        self._found(Header(kind, name, link, size))
        self._skip = size + -size % RECORD


def _check_sum(block: bytes) -> None:
    found = sum(block) - sum(block[148:156]) + 8 * 32
    try:
        told = int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        told = -1
    if told != found:
        raise Unreadable("a header is damaged")


def _number(field: bytes) -> int:
    """A size: octal digits, or a number of base 256 where those do not suffice."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise Unreadable("a size is no number")
    return int(found[1] or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _long(name: bytes | None) -> bytes:
    if name is None:
        return b""
    text = name[:-1] if name.endswith(b"\0") else name
    if not text or b"\0" in text:
        raise Unreadable("a long name makes no sense")
    return text


def _name(block: bytes) -> bytes:
    """The name, with the prefix that POSIX has for it and others use otherwise."""
    name, prefix = _text(block[:100]), _text(block[345:500])
    if block[257:265] == b"ustar\x0000":
        if block[500:].strip(b"\0"):
            raise Unreadable("a header has another form than POSIX's")
        return prefix + b"/" + name if prefix else name
    if block[257:265] != b"ustar  \0" or block[345:].strip(b"\0"):
        raise Unreadable("a header has another form than POSIX's or GNU's")
    return name


def _records(text: bytes) -> dict[bytes, bytes]:
    """Of an extended header, what decides which member it is."""
    found = {}
    offset = 0
    while offset < len(text):
        space = text.find(b" ", offset, offset + 8)
        length = text[offset:space] if space > 0 else b""
        if not _DECIMAL.fullmatch(length) or not 0 < int(length) <= len(text) - offset:
            raise Unreadable("an extended header makes no sense")
        record = text[space + 1 : offset + int(length)]
        key, equals, value = record[:-1].partition(b"=")
        if not record.endswith(b"\n") or not equals or not key:
            raise Unreadable("an extended header makes no sense")
        if key.startswith(b"GNU.sparse"):
            raise Unreadable("it has a sparse file")
        if key in (b"path", b"linkpath", b"size"):
            found[key] = _sensible(key, value)
        offset += int(length)
    return found


def _sensible(key: bytes, value: bytes) -> bytes:
    if not value or b"\0" in value or (key == b"size" and not _DECIMAL.fullmatch(value)):
        raise Unreadable(f"an extended header has a {key.decode()} that makes no sense")
    return value
