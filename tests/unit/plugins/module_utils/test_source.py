# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import bz2
import gzip
import lzma
import os

import pytest
import zstandard

from ansible_collections.ferry.podman.plugins.module_utils import _archive
from ansible_collections.ferry.podman.plugins.module_utils._archive import inspect_file
from ansible_collections.ferry.podman.plugins.module_utils._compat import RestoreRequest, Subject
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError, RestoreFailed
from ansible_collections.ferry.podman.plugins.module_utils._libpod import RestoreOptions
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS, Limits, LintError
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer
from ansible_collections.ferry.podman.plugins.module_utils._source import Archive, Source

ID = "1f" * 32
IMPORT = "POST /containers/import/restore"
SUBJECT = Subject(ID, "web", "crun", "2e" * 32, "web:1", volumes=["data"])
COMPRESSIONS = {
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "none": bytes,
}


@pytest.fixture
def restorer(client, libpod, make_host, inspect_json) -> Restorer:
    libpod.on("GET /volumes/json", [])
    libpod.on("GET /images/web%3A1/json", {"Id": SUBJECT.image_id})
    libpod.on(IMPORT, {"Id": ID})
    libpod.on(f"GET /containers/{ID}/json", inspect_json())
    return Restorer(client, make_host(), RestoreOptions(), RestoreRequest())


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_file_is_read_twice_and_the_same(archives, tmp_path, name) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(COMPRESSIONS[name](archives.checkpoint()))
    with Source(str(path)) as source:
        assert source.inspect(NO_LIMITS).config["name"] == "web"
        for _time in range(2):
            with source.again() as (reader, check):
                assert reader.read(1 << 20).startswith(b"artifacts")
                check()


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_file_that_changes_in_between_is_noticed(archives, tmp_path, name) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(COMPRESSIONS[name](archives.checkpoint()))
    with Source(str(path)) as source:
        source.inspect(NO_LIMITS)
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\7")
        with source.again() as (_reader, check), pytest.raises(ArchiveError, match="has changed while it was read"):
            check()


def test_other_file_that_takes_the_name_is_never_read(archives, tmp_path) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(archives.checkpoint())
    with Source(str(path)) as source:
        source.inspect(NO_LIMITS)
        (tmp_path / "other").write_bytes(archives.checkpoint(config={"name": "evil"}))
        os.replace(tmp_path / "other", path)
        with source.again() as (reader, check):
            assert b"evil" not in reader.read(1 << 20)
            check()


def test_changed_archive_never_gets_its_end(restorer, libpod, archives, tmp_path) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(archives.checkpoint())
    with Archive(str(path), None) as archive:
        archive.inspect(NO_LIMITS, None, None)
        path.write_bytes(archives.checkpoint(config={"name": "evil"}))
        with pytest.raises(RestoreFailed, match="has changed while it was read.*nothing was restored"):
            archive.restore(restorer, SUBJECT, None, NO_LIMITS)
    assert not libpod.request(IMPORT).whole


def test_archive_is_restored_as_often_as_wanted(restorer, libpod, archives, tmp_path) -> None:
    path = tmp_path / "web.tar.gz"
    path.write_bytes(gzip.compress(archives.checkpoint()))
    with Archive(str(path), None) as archive:
        archive.inspect(NO_LIMITS, None, None)
        for _time in range(2):
            assert archive.restore(restorer, SUBJECT, None, NO_LIMITS)["id"] == ID
    assert libpod.seen.count(IMPORT) == 2


def test_archive_is_restored_with_its_previous_pages(restorer, libpod, archives, tmp_path) -> None:
    path, previous = tmp_path / "web.tar", tmp_path / "pre.tar"
    path.write_bytes(archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint")))
    previous.write_bytes(archives.pre_checkpoint())
    with Archive(str(path), str(previous)) as archive:
        assert archive.inspect(NO_LIMITS, None, None).needs_previous
        archive.restore(restorer, SUBJECT, None, NO_LIMITS)
    names = archives.names(libpod.request(IMPORT).body)
    assert names[-2:] == ["pre-checkpoint", "pre-checkpoint/pages-1.img"]


def test_both_files_are_read_beforehand(archives, tmp_path) -> None:
    path, previous = tmp_path / "web.tar", tmp_path / "pre.tar"
    path.write_bytes(archives.checkpoint())
    with Archive(str(path), str(path)) as archive:
        with pytest.raises(FerryError, match="web.tar is not a pre-checkpoint"):
            archive.inspect(NO_LIMITS, None, None)
    previous.write_bytes(archives.pre_checkpoint()[:-1024])
    with Archive(str(path), str(previous)) as archive, pytest.raises(ArchiveError, match="pre.tar"):
        archive.inspect(NO_LIMITS, None, None)
    previous.write_bytes(archives.pre_checkpoint(archives.link("ctr.log", "/etc/shadow")))
    with (
        Archive(str(path), str(previous)) as archive,
        pytest.raises(ArchiveError, match="pre.tar.*'ctr.log' is a link"),
    ):
        archive.inspect(NO_LIMITS, None, None)


def test_limits_hold_both_times(restorer, archives, tmp_path) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(archives.checkpoint())
    with Archive(str(path), None) as archive:
        with pytest.raises(ArchiveError, match="more than 2 members") as error:
            archive.inspect(Limits(members=2), None, None)
        assert error.value.facts["findings"][0]["code"] == "archive_too_large"
        with pytest.raises(RestoreFailed, match="more than 2 members"):
            archive.restore(restorer, SUBJECT, None, Limits(members=2))


@pytest.mark.parametrize("paths", [("/nonexistent/a", None), ("{there}", "/nonexistent/a")])
def test_files_that_cannot_be_opened_leave_none_open(archives, tmp_path, paths) -> None:
    there = tmp_path / "web.tar"
    there.write_bytes(archives.checkpoint())
    path, previous = (text and text.format(there=there) for text in paths)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ArchiveError, match="/nonexistent/a cannot be read: No such file"):
        Archive(path, previous)
    assert set(os.listdir("/proc/self/fd")) == before


# -- hostile compression --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name != "none"])
def test_second_archive_in_a_frame_of_its_own_is_refused(archives, tmp_path, name) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(COMPRESSIONS[name](archives.checkpoint()) * 2)
    with pytest.raises(ArchiveError, match="goes on behind its end"):
        inspect_file(str(path))


def test_streams_of_several_parts_are_read(archives, tmp_path) -> None:
    data = archives.checkpoint()
    path = tmp_path / "web.tar"
    for name, pack in COMPRESSIONS.items():
        path.write_bytes(pack(data[:5000]) + pack(data[5000:]))
        assert inspect_file(str(path)).config["name"] == "web", name


def test_memory_of_decompressors_has_a_limit(archives, tmp_path, monkeypatch) -> None:
    """A few bytes of a header ask for gigabytes."""
    data = archives.checkpoint()
    path = tmp_path / "web.tar"
    large = zstandard.ZstdCompressionParameters(window_log=27)
    path.write_bytes(zstandard.ZstdCompressor(compression_params=large).compressobj().compress(data * 10))
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}]
    packed = lzma.compress(data, filters=filters)
    path.write_bytes(packed)
    assert inspect_file(str(path)).config["name"] == "web"
    monkeypatch.setattr(_archive, "MOST_WINDOW", 8 << 20)
    with pytest.raises(ArchiveError, match="[Mm]emory"):
        inspect_file(str(path))
    compressor = zstandard.ZstdCompressor(compression_params=large).compressobj()
    path.write_bytes(compressor.compress(data * 100) + compressor.flush())
    with pytest.raises(ArchiveError, match="memory"):
        inspect_file(str(path))


def test_hostile_archive_is_refused_with_its_path(archives, tmp_path) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(archives.checkpoint(archives.link("ctr.log", "/etc/shadow")))
    with Archive(str(path), None) as archive, pytest.raises(ArchiveError, match=f"{path}: The archive's") as error:
        archive.inspect(NO_LIMITS, None, None)
    assert isinstance(error.value.__cause__, LintError)
    assert error.value.facts["findings"][0]["code"] == "archive_link"
