# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Checkpoint archives as streams: read, verified to be whole, rewritten, compressed. Memory stays small.

Sources: podman's ``libpod/container_internal_common.go`` (which members, in which order) and
``pkg/checkpoint/crutils/checkpoint_restore_utils.go`` (how they are read back).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import re
import tarfile
import traceback
import typing as t
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils import _criu
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, DependencyError
from ansible_collections.ferry.podman.plugins.module_utils._lint import (
    DELETED_FILES,
    NO_LIMITS,
    ROOTFS_DIFF,
    Limits,
    Lint,
)

try:
    import zstandard

    ZSTANDARD_IMPORT_ERROR: str | None = None
except ImportError:
    ZSTANDARD_IMPORT_ERROR = traceback.format_exc()

BLOCK = 1024 * 1024
PIECE = 128 * 1024
"""What is read at once of a tar. For larger ones the memory comes anew from the kernel each time, and takes longer."""

RECORD = 512
END = bytes(2 * RECORD)
VOLUME_ROOT = "FERRY.volume.root"
"""Extended header with owner, group and mode of a volume's root; vendors' keys are in capitals (pax(1))."""

PARENT = "checkpoint/parent"
"""The link by which CRIU finds the images before."""

PREVIOUS = "pre-checkpoint"
"""What podman calls the directory with the images before the checkpoint."""

NESTED = f"checkpoint/{PREVIOUS}"
"""The same where it is part of the checkpoint, with which podman removes it.

What lies beside the checkpoint podman unpacks twice: archive.Untar leaves out what begins with an excluded name.
"""

_REPEATED = ("path", "linkpath", "size", "hdrcharset")
"""Records of an extended header that follow from the rest of it, and are made anew."""

_OWNER_AND_MODE = re.compile("[0-9]{1,10}:[0-9]{1,10}:[0-7]{1,4}")

MOST_JSON = 2 * BLOCK
MOST_VALUES = 200_000
"""No config.dump is that large, or has so many values; a larger one is not read into memory."""

MOST_HEADER = BLOCK
"""Bytes of an extended header, names and attributes; tarfile would read one of any size into memory."""

MOST_IMAGE = BLOCK
MOST_CORE = 64 * 1024
MOST_FILES = 4 * BLOCK
MOST_IMAGES = 16 * BLOCK
"""Bytes of CRIU's images that are noted: of each, of one process, of the open files, and of all."""

MOST_PADDING = 64 * BLOCK
"""Bytes of zeros behind an archive's end; a few compressed ones can stand for years of them."""

MOST_WINDOW = 64 * BLOCK
"""Memory that a decompressor may take; 128 MiB is what zstd asks for with --ultra -22 or --long alone."""

ZSTD_JOB = 2 * BLOCK
"""What a thread compresses at once; zstd's own choice is four times as much, and keeps several of them for each."""

NO_EXTENDED = (tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
"""Headers about all members behind them, which gather in memory and which Go leaves out; engines write none."""

EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

MAGIC = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)

# What the readers of the standard library and zstandard raise for damaged input.
DAMAGED: tuple[type[Exception], ...] = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
if ZSTANDARD_IMPORT_ERROR is None:
    DAMAGED = (*DAMAGED, zstandard.ZstdError)

# What tarfile besides lets through from headers that make no sense.
_SENSELESS: tuple[type[Exception], ...] = (ValueError, LookupError, ArithmeticError, RecursionError)
_BROKEN = (*DAMAGED, *_SENSELESS)


class Reader(t.Protocol):
    """Anything that reads bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Return at most ``size`` bytes, and none at the end."""


def compression_of(path: str) -> str:
    """Name the compression of a file by its first bytes: zstd, gzip, bzip2, xz or none.

    :raises OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        return compression_by(file.read(8))


def compression_by(head: bytes) -> str:
    """As ``compression_of``, by a file's first 8 bytes."""
    return next((name for magic, name in MAGIC if head.startswith(magic)), "none")


def open_archive(path: str) -> t.IO[bytes]:
    """Open an archive for reading, decompressed.

    :raises ArchiveError: if it cannot be opened.
    :raises DependencyError: if it is zstd and zstandard is missing.
    """
    try:
        return unpacked(open(path, "rb"), compression_of(path), path)
    except OSError as error:
        raise ArchiveError(f"The archive {path} cannot be read: {error.strerror}.") from error


def unpacked(file: t.IO[bytes], compression: str, path: str) -> t.IO[bytes]:
    """Read a compressed file decompressed; the result owns the file.

    :param path: for messages.
    :raises DependencyError: if it is zstd and zstandard is missing.
    """
    if compression == "zstd":
        _need_zstandard(f"to read {path}")
        window = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW)
        return t.cast("t.IO[bytes]", window.stream_reader(file, read_across_frames=True, closefd=True))
    if compression == "gzip":
        return t.cast("t.IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    if compression == "bzip2":
        return bz2.BZ2File(file, "rb")
    return t.cast("t.IO[bytes]", _Xz(file)) if compression == "xz" else file


class _Xz(io.RawIOBase):
    """As lzma.LZMAFile, with a limit for the memory that a hostile header can ask for."""

    def __init__(self, file: t.IO[bytes]) -> None:
        self._file = file
        self._decompressor: lzma.LZMADecompressor | None = None
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        found = b""
        while not found:
            if self._decompressor is None or self._decompressor.eof:
                self._left = (self._decompressor.unused_data if self._decompressor else b"") or self._file.read(BLOCK)
                if not self._left:
                    return 0
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW + 4 * BLOCK)
            # pylint takes this attribute of a C type for a function, which would always be true.
            elif bool(self._decompressor.needs_input):
                self._left = self._file.read(BLOCK)
                if not self._left:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            found = self._decompressor.decompress(self._left, len(buffer))
            self._left = b""
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def compressor(file: t.IO[bytes], compression: str, level: int | None) -> t.IO[bytes]:
    """Wrap a file so that what is written to the result arrives compressed; closing it leaves the file open.

    :param compression: zstd, gzip or none.
    :raises DependencyError: if zstandard is missing.
    """
    if compression == "zstd":
        _need_zstandard("to compress with zstd")
        threads = min(4, os.cpu_count() or 1)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level or 3, threads=threads, job_size=ZSTD_JOB, write_checksum=1
        )
        writer = zstandard.ZstdCompressor(compression_params=parameters)
        return t.cast("t.IO[bytes]", writer.stream_writer(file, closefd=False))
    if compression == "gzip":
        return t.cast("t.IO[bytes]", gzip.GzipFile("", "wb", level or 6, file, mtime=0))
    return t.cast("t.IO[bytes]", _Plain(file))


def _need_zstandard(reason: str) -> None:
    if ZSTANDARD_IMPORT_ERROR is not None:
        raise DependencyError("zstandard", reason, ZSTANDARD_IMPORT_ERROR)


class _Plain:
    """A file that stays open when this is closed, as with the compressors."""

    def __init__(self, file: t.IO[bytes]) -> None:
        self.write = file.write

    def close(self) -> None:
        pass


@dataclass
class Contents:
    """What was seen while an archive went by.

    :param linked: a link of ours stands for CRIU's images, which are not in it.
    """

    documents: dict[str, t.Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    needs_previous: bool = False
    volume_roots: dict[str, str] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    noted: int = 0
    linked: bool = False

    @property
    def config(self) -> dict[str, t.Any]:
        """config.dump: libpod's ContainerConfig."""
        return t.cast("dict[str, t.Any]", self.documents["config.dump"])

    @property
    def is_pre_checkpoint(self) -> bool:
        return self._has_below("pre-checkpoint") and not self._has_below("checkpoint")

    @property
    def volumes(self) -> list[str]:
        """Names of the volumes whose content is in the archive."""
        names = (name for name in self.sizes if name.startswith("volumes/") and name.endswith(".tar"))
        return sorted(name[len("volumes/") : -len(".tar")] for name in names)

    @property
    def statistics(self) -> dict[str, int]:
        """CRIU's figures of the dump in microseconds and pages; empty where it wrote none."""
        image = self.images.get("stats-dump")
        return _criu.statistics(image) if image else {}

    @property
    def processes(self) -> list[dict[str, t.Any]]:
        """PID, parent, threads and name of the processes that the checkpoint holds."""
        pstree = self.images.get("checkpoint/pstree.img")
        if pstree is None:
            return []
        found: list[dict[str, t.Any]] = [dict(process) for process in _criu.processes(pstree)]
        for process in found:
            core = self.images.get(f"checkpoint/core-{process['pid']}.img")
            process["command"] = _criu.command(core) if core else None
        return found

    @property
    def architecture(self) -> str | None:
        """For which processor it is, as Go calls it; None if it does not tell."""
        cores = (image for name, image in sorted(self.images.items()) if name.startswith("checkpoint/core-"))
        return next((found for core in cores if (found := _criu.architecture(core)) is not None), None)

    @property
    def sockets(self) -> list[dict[str, t.Any]] | None:
        """The sockets that its processes have open; None where the list of files is too long to be kept."""
        files = self.images.get("checkpoint/files.img")
        if files is None:
            return None
        return _criu.sockets(files, big_endian=self.architecture == "s390x")

    def size_of(self, prefix: str) -> int:
        """Bytes of the members whose names begin like this."""
        return sum(size for name, size in self.sizes.items() if name.startswith(prefix))

    def check_whole(self) -> None:
        """:raises ArchiveError: naming what a checkpoint needs and this has not."""
        directory = "pre-checkpoint" if self.is_pre_checkpoint else "checkpoint"
        needed = ["config.dump", "spec.dump"]
        # Pre-dumps have no inventory of their own in older CRIU.
        needed += [] if self.is_pre_checkpoint or self.linked else [f"{directory}/inventory.img"]
        missing = [name for name in needed if name not in (self.documents if name.endswith(".dump") else self.sizes)]
        if missing:
            raise ArchiveError(f"The archive is not a whole checkpoint: it has no {', '.join(missing)}.")
        for key in ("id", "name"):
            if not isinstance(self.config, dict) or not isinstance(self.config.get(key), str):
                raise ArchiveError(f"The archive's config.dump does not say the container's {key}.")

    def _has_below(self, directory: str) -> bool:
        return any(name.startswith(f"{directory}/") for name in self.sizes)


class Member:
    """One member while the stream stands at it."""

    def __init__(self, info: tarfile.TarInfo, data: t.IO[bytes] | None) -> None:
        self.info = info
        self.name = os.path.normpath(info.name)
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        """:raises ArchiveError: if the archive ends inside it."""
        while self._data is not None:
            try:
                block = self._data.read(PIECE)
            except DAMAGED as error:
                raise ArchiveError(f"The archive is damaged or cut short inside {self.name}: {error}.") from error
            if not block:
                return
            yield block


class _Info(tarfile.TarInfo):
    """A header; tarfile alone takes a damaged one, or none, for the end of the archive.

    Each stream has a class of its own, whose ``before`` are the extended headers in front of the member.
    """

    before: t.ClassVar[list[bytes]] = []

    @classmethod
    def of_one_stream(cls) -> type[_Info]:
        return type("_Info", (cls,), {"before": []})

    @classmethod
    def frombuf(cls, buf: t.Any, encoding: str, errors: str) -> tarfile.TarInfo:  # type: ignore[override]
        if len(buf) == 0:
            raise ArchiveError("The archive is cut short: it has no end.")
        if buf == bytes(RECORD):
            return super().frombuf(buf, encoding, errors)
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise ArchiveError(f"The archive is damaged or not a tar: {error}.") from error
        cls._check_extended(info)
        return info

    @classmethod
    def _check_extended(cls, info: tarfile.TarInfo) -> None:
        if info.type in NO_EXTENDED:
            raise ArchiveError(f"The archive has a header of type {info.type!r}; no checkpoint has such.")
        if info.type not in EXTENDED:
            cls.before.clear()
            return
        if info.size > MOST_HEADER:
            raise ArchiveError(f"The archive has an extended header of {info.size} bytes; no checkpoint has such.")
        if info.type in cls.before or (cls.before and tarfile.XHDTYPE in (info.type, *cls.before)):
            # tarfile keeps all of a chain in memory, and other readers take another one of several names.
            raise ArchiveError("The archive has several names for one member.")
        cls.before.append(info.type)


def members(source: Reader) -> Iterator[Member]:
    """Go through a tar, once, and see that it has its end.

    :raises ArchiveError: if it is damaged or cut short anywhere.
    """
    kind = _Info.of_one_stream()
    try:
        with tarfile.open(fileobj=t.cast("t.IO[bytes]", source), mode="r|", bufsize=PIECE, tarinfo=kind) as tar:
            while (info := tar.next()) is not None:
                # Or the list of all members seen would grow with a hostile archive.
                tar.members = []  # type: ignore[attr-defined]
                _check_sense(info)
                _keep_one_name(info)
                yield Member(info, tar.extractfile(info) if info.isreg() else None)
            _check_end(t.cast(Reader, tar.fileobj))
    except _BROKEN as error:
        raise ArchiveError(f"The archive is damaged or cut short: {error}.") from error


def _check_sense(info: tarfile.TarInfo) -> None:
    if info.issparse() or any(key.startswith("GNU.sparse") for key in info.pax_headers):
        # A few bytes can stand for any number of zeros; neither podman nor CRIU writes such.
        raise ArchiveError(f"The archive's {info.name} is a sparse file, which no checkpoint has.")
    if not info.isreg() and info.size:
        raise ArchiveError(f"The archive's {info.name} is no file and has content, which no checkpoint has.")
    if info.type not in tarfile.SUPPORTED_TYPES or info.size < 0:
        # One reader would skip its content where another takes it for members.
        raise ArchiveError(f"The archive's {info.name} has a type or size that no checkpoint has.")


def _keep_one_name(info: tarfile.TarInfo) -> None:
    """What goes on has the name that was looked at: a record of the extended header would win over it."""
    info.pax_headers = {key: value for key, value in info.pax_headers.items() if key not in _REPEATED}


def _check_end(rest: Reader) -> None:
    """The first of the two zero blocks has been read."""
    size = 0
    while block := rest.read(BLOCK):
        if block.strip(b"\0"):
            raise ArchiveError("The archive goes on behind its end.")
        size += len(block)
        if size > MOST_PADDING:
            raise ArchiveError(f"The archive has more than {MOST_PADDING} bytes of zeros behind its end.")
    if size < RECORD:
        raise ArchiveError("The archive is cut short: its end is incomplete.")


class Witness(t.Protocol):
    """Sees every member of an archive, such as the list that was signed."""

    def seen(self, member: Member, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the content on."""

    def finish(self) -> None:
        """Nothing comes any more."""


def inspect(source: Reader, limits: Limits = NO_LIMITS, witness: Witness | None = None) -> Contents:
    """Read an archive to its end and return what it holds, without unpacking it.

    :raises ArchiveError: if it is not a whole checkpoint, or holds what must not reach podman.
    """
    contents, lint = Contents(), Lint(limits)
    for member in members(source):
        lint.member(member.info)
        data = _watched(member, contents, lint)
        for _block in data if witness is None else witness.seen(member, data):
            pass
    if witness is not None:
        witness.finish()
    _finish(contents, lint)
    return contents


def _finish(contents: Contents, lint: Lint) -> None:
    lint.finish()
    contents.devices = lint.devices
    contents.check_whole()


def inspect_file(path: str, limits: Limits = NO_LIMITS, witness: Witness | None = None) -> Contents:
    """Like ``inspect``, of a file, compressed or not; errors name the file."""
    with open_archive(path) as archive, named(path):
        return inspect(archive, limits, witness)


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Have errors name the file."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}", **error.facts) from error


class RootfsAdditions:
    """Entries that the archive's rootfs-diff.tar lacks, collected in an unnamed file.

    They go in front of podman's own, which then win where both have a path.

    :param file: an open file; its space is needed for what is added only.
    """

    def __init__(self, file: t.IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.paths: set[str] = set()
        self.made_again: set[str] = set()

    def add(self, path: str, member: Member, *, again: bool = False) -> None:
        """Append one file, link or directory header.

        :param path: where it is in the container, from the root.
        :param again: it took the place of something of the image, of which nothing must stay.
        """
        name = path.lstrip("/")
        if again and member.info.isdir():
            # A file takes the place of the image's directory, and then an empty directory that of the file.
            self._write(entry(tarfile.TarInfo(name), ()))
        self._write(entry(renamed(member.info, name), member.chunks()))
        self.paths.add(path)
        if again:
            self.made_again.add(path)

    def _write(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            self._file.write(block)
            self.size += len(block)

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            yield block


def rewritten(
    source: Reader,
    contents: Contents,
    *,
    additions: RootfsAdditions | None = None,
    change_config: t.Callable[[dict[str, t.Any]], dict[str, t.Any]] | None = None,
    volume_roots: dict[str, str] | None = None,
    ignore_volumes: bool = False,
    previous: Reader | None = None,
    previous_sent: bool = False,
    limits: Limits = NO_LIMITS,
    witness: Witness | None = None,
    link: str | None = None,
) -> Iterator[bytes]:
    """Pass a checkpoint on as an uncompressed tar, with what podman leaves to us put right.

    The last bytes come only after the source proved to be whole, so nobody can take a broken one for complete.

    :param contents: filled while the archive goes by.
    :param change_config: makes of config.dump what shall be in the archive.
    :param volume_roots: owner, group and mode of volumes' roots, to travel with them.
    :param ignore_volumes: leave out the volumes, which podman's API always exports.
    :param previous: a pre-checkpoint whose pages go along.
    :param previous_sent: such pages have gone before, into the directory ``NESTED``.
    :param witness: sees every member as it is passed on, but for those of ``previous``.
    :param link: what a link in the place of CRIU's images shall lead to, wherever it led before.
    :raises ArchiveError: if a source is damaged or cut short, or holds what must not reach podman.
    """

    def passed(info: tarfile.TarInfo, data: Iterable[bytes]) -> Iterator[bytes]:
        return entry(info, data if witness is None else witness.seen(Member(info, None), iter(data)))

    lint = Lint(limits)
    extra = additions if additions is not None and additions.paths else None
    for member in members(source):
        if link is not None and _is_link(member):
            contents.linked = True
            yield from passed(_link_to(link), ())
            continue
        lint.member(member.info)
        if previous_sent and f"{member.name}/".startswith(f"{NESTED}/"):
            raise ArchiveError(f"The archive has {member.name!r}, where pages of another one have been sent.")
        if ignore_volumes and member.name.split("/", 1)[0] == "volumes":
            continue
        data = _watched(member, contents, lint)
        if member.name == PARENT and member.info.issym() and previous_sent:
            member.info.linkname = PREVIOUS
        root = (volume_roots or {}).get(_volume_of(member))
        if root is not None:
            member.info.pax_headers = {**member.info.pax_headers, VOLUME_ROOT: root}
        if member.name == ROOTFS_DIFF and extra is not None:
            larger = resized(member.info, member.info.size + extra.size)
            yield from passed(larger, _chained(extra.chunks(), data))
            extra = None
        elif member.name == DELETED_FILES and additions is not None and additions.made_again:
            # podman deletes after it has unpacked: what is there again would be gone.
            paths = json.loads(b"".join(data))
            text = json.dumps([path for path in paths if path not in additions.made_again]).encode()
            yield from passed(resized(member.info, len(text)), [text])
        elif member.name == "config.dump" and change_config is not None:
            # The keys' order and every value that is not changed stay as Go wrote them.
            text = json.dumps(change_config(json.loads(b"".join(data))), separators=(",", ":")).encode()
            yield from passed(resized(member.info, len(text)), [text])
        else:
            yield from passed(member.info, data)
    _finish(contents, lint)
    if extra is not None:
        info = tarfile.TarInfo(ROOTFS_DIFF)
        info.size, info.mode = extra.size + len(END), 0o600
        yield from passed(info, _chained(extra.chunks(), iter([END])))
    if previous is not None:
        yield from previous_pages(previous, contents, PREVIOUS, limits)
    yield END


def _is_link(member: Member) -> bool:
    return member.name == "checkpoint" and member.info.issym()


def _link_to(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("checkpoint")
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info


def previous_pages(source: Reader, contents: Contents, directory: str, limits: Limits = NO_LIMITS) -> Iterator[bytes]:
    """The pages of a pre-checkpoint, without an end; the rest of it is older than the checkpoint's own.

    :param contents: of the checkpoint, as far as that is known; filled with these too.
    :param directory: where they go.
    :raises ArchiveError: if the source is damaged or cut short, or holds what must not reach podman.
    """
    seen, lint = Contents(), Lint(limits)
    for member in members(source):
        lint.member(member.info)
        data = _watched(member, seen, lint)
        if member.name.split("/", 1)[0] == PREVIOUS:
            name = directory + member.name[len(PREVIOUS) :]
            if name in contents.sizes:
                raise ArchiveError(f"Both archives have {name!r}.")
            contents.sizes[name] = member.info.size if member.info.isreg() else 0
            yield from entry(renamed(member.info, name), data)
        else:
            for _block in data:
                pass
    lint.finish()
    if not seen.is_pre_checkpoint:
        raise ArchiveError("The previous archive is not a pre-checkpoint: it has no pre-checkpoint directory.")


def _watched(member: Member, contents: Contents, lint: Lint) -> Iterator[bytes]:
    """The data of a member; documents and small images are noted as they pass."""
    contents.sizes[member.name] = member.info.size if member.info.isreg() else 0
    root, volume = member.info.pax_headers.get(VOLUME_ROOT), _volume_of(member)
    if volume and root is not None:
        if not _OWNER_AND_MODE.fullmatch(root):
            raise ArchiveError(f"The archive's {member.name} says {root!r} of its root, which is no owner and mode.")
        contents.volume_roots[volume] = root
    if member.name == PARENT and member.info.issym():
        contents.needs_previous = True
    data = lint.watched(member.name, member.chunks())
    most = _wanted(member, contents)
    if most == 0:
        yield from data
        return
    noted = bytearray()
    for block in data:
        noted += block
        if len(noted) > most:
            raise ArchiveError(f"The archive's {member.name} is larger than {most} bytes.")
        yield block
    if most == MOST_JSON:
        contents.documents[member.name] = document(member.name, bytes(noted))
    else:
        contents.images[member.name] = bytes(noted)
        contents.noted += len(noted)


def _volume_of(member: Member) -> str:
    """Name of the volume whose content a member is; empty for the others."""
    is_volume = member.name.startswith("volumes/") and member.name.endswith(".tar")
    return member.name[len("volumes/") : -len(".tar")] if is_volume else ""


def _wanted(member: Member, contents: Contents) -> int:
    """How many bytes of a member are worth noting: 0 for most."""
    if not member.info.isreg():
        return 0
    if member.name in ("config.dump", "spec.dump", "network.status"):
        return MOST_JSON
    if member.name in ("stats-dump", "checkpoint/pstree.img"):
        return MOST_IMAGE
    if member.name == "checkpoint/files.img":
        return MOST_FILES if member.info.size <= MOST_FILES else 0
    is_core = member.name.startswith("checkpoint/core-") and member.name.endswith(".img")
    return MOST_CORE if is_core and member.info.size <= MOST_CORE and contents.noted < MOST_IMAGES else 0


def document(name: str, text: bytes) -> t.Any:
    """A JSON document that nobody can read in two ways.

    :param name: of the member, for messages.
    :raises ArchiveError: if it is none, or would take much memory.
    """
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ArchiveError(f"The archive's {name} has more than {MOST_VALUES} values.")
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _object(name, pairs))
        keys = [key.casefold() for key in found] if isinstance(found, dict) else []
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"The archive's {name} is not JSON: {error}.") from error
    if len(set(keys)) < len(keys):
        # Go does not distinguish them by case, and takes the last.
        raise ArchiveError(f"The archive's {name} has a key twice.")
    return found


def _object(name: str, pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ArchiveError(f"The archive's {name} has a key twice.")
    return found


def entry(info: tarfile.TarInfo, data: Iterable[bytes] = ()) -> Iterator[bytes]:
    """A member as it stands in a tar.

    :raises ArchiveError: if its header makes no sense, or it is not of the size that this says.
    """
    try:
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    except _SENSELESS as error:
        raise ArchiveError(f"The header of {info.name!r} makes no sense: {error}.") from error
    yield header
    size = 0
    for block in data:
        size += len(block)
        yield block
    if info.isreg() and size != info.size:
        raise ArchiveError(f"{info.name} has {size} bytes where its header says {info.size}: it changed meanwhile.")
    if size % RECORD:
        yield bytes(RECORD - size % RECORD)


def renamed(info: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    info.name = name
    _keep_one_name(info)
    return info


def resized(info: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    info.size = size
    return info


def _chained(*parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from part
