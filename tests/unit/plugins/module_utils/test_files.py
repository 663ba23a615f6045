# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import hashlib
import os
import pathlib
import stat

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._files import ArchiveFile, describe_file


@pytest.fixture
def target(tmp_path) -> pathlib.Path:
    return tmp_path / "web.tar"


@pytest.fixture
def umask():
    """Sets the umask for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def written(target: pathlib.Path, *chunks: bytes, compression: str = "none") -> ArchiveFile:
    with ArchiveFile(str(target)) as file:
        file.write(chunks, compression, None)
        file.commit()
    return file


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_archive_is_for_root_alone(target, umask, mask) -> None:
    umask(mask)
    with ArchiveFile(str(target)) as file:
        modes = [stat.S_IMODE(path.stat().st_mode) for path in target.parent.iterdir()]
        file.write([b"memory"], "none", None)
        file.commit()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert modes == [0o600]


def test_target_is_untouched_until_the_end(target) -> None:
    target.write_bytes(b"older")
    with ArchiveFile(str(target)) as file:
        file.write([b"newer"], "none", None)
        assert target.read_bytes() == b"older"
        file.commit()
        assert target.read_bytes() == b"newer"
    assert os.listdir(target.parent) == ["web.tar"]


def test_failure_leaves_what_was_there(target) -> None:
    target.write_bytes(b"older")

    def chunks():
        yield b"half"
        raise ArchiveError("cut short")

    with pytest.raises(ArchiveError), ArchiveFile(str(target)) as file:
        file.write(chunks(), "zstd", None)
    assert target.read_bytes() == b"older"
    assert os.listdir(target.parent) == ["web.tar"]


def test_file_that_nobody_commits_is_gone(target) -> None:
    with ArchiveFile(str(target)) as file:
        file.write([b"data"], "none", None)
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_size_and_digest_are_those_of_the_file(target, compression) -> None:
    file = written(target, b"one" * 100_000, b"two", compression=compression)
    data = target.read_bytes()
    assert file.size == len(data)
    assert file.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert describe_file(str(target)) == {
        "dest": str(target),
        "size": len(data),
        "digest": file.digest,
        "compression": compression,
        "encrypted": False,
    }


def test_missing_directory_is_told(tmp_path) -> None:
    with pytest.raises(FerryError, match="absent/web.tar cannot be written: No such file or directory.*existing"):
        ArchiveFile(str(tmp_path / "absent" / "web.tar"))


def test_file_in_the_place_of_the_directory_is_told(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FerryError, match="Not a directory"):
        ArchiveFile(str(tmp_path / "file" / "web.tar"))


def test_directory_in_the_place_of_the_target_is_told(target) -> None:
    target.mkdir()
    with pytest.raises(FerryError, match="cannot be written"):
        written(target, b"data")
    assert os.listdir(target.parent) == ["web.tar"]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_full_disk_is_told_and_leaves_nothing(target, file_size_limit, compression) -> None:
    file_size_limit(100_000)
    with pytest.raises(FerryError, match="web.tar cannot be written: File too large.*room"):
        written(target, *(os.urandom(50_000) for _number in range(10)), compression=compression)
    assert os.listdir(target.parent) == []


def test_path_may_be_relative(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(pathlib.Path("web.tar"), b"data")
    assert (tmp_path / "web.tar").read_bytes() == b"data"


def test_scratch_space_is_beside_the_target_and_has_no_name(target) -> None:
    with ArchiveFile(str(target)) as file, file.scratch() as scratch:
        scratch.write(b"data")
        assert os.fstat(scratch.fileno()).st_dev == target.parent.stat().st_dev
        assert len(os.listdir(target.parent)) == 1


def test_what_a_killed_run_left_is_removed(target) -> None:
    (target.parent / ".web.tar.abc.partial").write_bytes(b"half")
    written(target, b"data")
    assert os.listdir(target.parent) == ["web.tar"]


def test_files_of_other_runs_stay(target) -> None:
    (target.parent / ".other.tar.abc.partial").write_bytes(b"half")
    with ArchiveFile(str(target)) as still_writing:
        written(target, b"data")
        still_writing.write([b"more"], "none", None)
        still_writing.commit()
    assert target.read_bytes() == b"more"
    assert sorted(os.listdir(target.parent)) == [".other.tar.abc.partial", "web.tar"]
