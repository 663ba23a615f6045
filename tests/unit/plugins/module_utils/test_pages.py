# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os
import pathlib
import types
import typing as t

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _pages
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._pages import (
    disk_of,
    empty,
    has_checkpoint,
    images_in,
    is_ours,
    keep_on_disk,
    put_link,
    remove_here,
    remove_previous,
    state_of_previous,
    tidy_export,
)

IDENT = "0123456789abcdef" * 4


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A host whose memory and disk are directories."""
    monkeypatch.setattr(_pages, "MEMORY", str(tmp_path / "run/ferry.podman"))
    (tmp_path / "bundle").mkdir()
    info = types.SimpleNamespace(graph_root=str(tmp_path / "containers/storage/"))
    container = types.SimpleNamespace(id=IDENT, name="web", bundle=str(tmp_path / "bundle"))
    client = types.SimpleNamespace(transport=types.SimpleNamespace(is_local=True, forward=None))
    return types.SimpleNamespace(client=client, info=info, container=container, link=tmp_path / "bundle/checkpoint")


def frozen(host: t.Any) -> pathlib.Path:
    images = pathlib.Path(images_in(_pages.MEMORY, IDENT))
    images.mkdir(parents=True)
    (images / "pages-1.img").write_bytes(b"memory")
    put_link(str(host.link), str(images))
    return images


def test_disk_is_beside_podmans_storage(host: t.Any, tmp_path: pathlib.Path) -> None:
    assert disk_of(host.info) == str(tmp_path / "containers/ferry.podman")


def test_link_of_an_earlier_try_is_replaced(host: t.Any) -> None:
    images = frozen(host)
    put_link(str(host.link), str(images))
    assert is_ours(str(host.link), IDENT)
    assert not is_ours(str(host.link), IDENT[::-1])
    empty(str(images))
    assert list(images.iterdir()) == []


def test_directory_of_podman_is_not_touched(host: t.Any) -> None:
    host.link.mkdir()
    (host.link / "pages-1.img").touch()
    with pytest.raises(OSError):
        put_link(str(host.link), "/elsewhere")
    remove_here(host.client, host.info, IDENT, host.container)
    assert (host.link / "pages-1.img").exists()


@pytest.mark.parametrize("gone", [True, False])
def test_nothing_stays(host: t.Any, gone: bool) -> None:
    images = frozen(host)
    disk = pathlib.Path(images_in(disk_of(host.info), IDENT))
    disk.mkdir(parents=True)
    remove_here(host.client, host.info, IDENT, None if gone else host.container)
    assert not images.parent.exists() and not disk.parent.exists()
    assert os.path.lexists(host.link) is gone
    remove_here(host.client, host.info, IDENT, host.container)


def test_what_stays_is_told(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> None:
        raise OSError(16, "Device or resource busy")

    frozen(host)
    monkeypatch.setattr(_pages.shutil, "rmtree", refuse)
    with pytest.raises(FerryError, match="busy"):
        remove_here(host.client, host.info, IDENT, host.container)


def test_only_copy_is_kept_on_disk(host: t.Any) -> None:
    images = frozen(host)
    assert keep_on_disk(host.client, host.info, host.container) == ""
    assert os.readlink(host.link) == images_in(disk_of(host.info), IDENT)
    assert (host.link / "pages-1.img").read_bytes() == b"memory"
    assert not images.parent.exists()
    assert keep_on_disk(host.client, host.info, host.container) == ""


def test_copy_that_fails_leaves_the_memory(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_paths: str, **_options: bool) -> None:
        raise OSError(28, "No space left on device")

    images = frozen(host)
    monkeypatch.setattr(_pages.shutil, "copytree", refuse)
    assert "No space left" in keep_on_disk(host.client, host.info, host.container)
    assert os.readlink(host.link) == str(images)
    assert (host.link / "pages-1.img").read_bytes() == b"memory"


def test_podmans_own_checkpoint_is_no_copy_of_ours(host: t.Any) -> None:
    host.link.mkdir()
    assert keep_on_disk(host.client, host.info, host.container) == ""
    assert host.link.is_dir() and not host.link.is_symlink()


# -- what podman writes before a checkpoint ---------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["pre-checkpoint", "checkpoint"])
def test_checkpoint_that_was_kept_is_seen(host: t.Any, tmp_path: pathlib.Path, left: str) -> None:
    # Podman leaves this one of a restore.
    (tmp_path / "bundle/devshm-checkpoint.tar").write_text("x")
    assert not has_checkpoint(host.container)
    (tmp_path / "bundle" / left).symlink_to("../nowhere")
    assert has_checkpoint(host.container)


def written_out(bundle: pathlib.Path) -> None:
    """What podman leaves of an export of memory."""
    for name in ("pre-checkpoint", "artifacts", "volumes"):
        (bundle / name).mkdir()
    for name in (
        "devshm-checkpoint.tar",
        "config.dump",
        "volumes/data.tar",
        "config.json",
        "pre-checkpoint/pages-1.img",
    ):
        (bundle / name).write_text("x")


def test_what_an_export_leaves_is_removed_and_the_memory_stays(host: t.Any, tmp_path: pathlib.Path) -> None:
    bundle = tmp_path / "bundle"
    written_out(bundle)
    tidy_export(host.container)
    assert {path.name for path in bundle.iterdir()} == {"pre-checkpoint", "artifacts", "config.json"}
    # A dump that has failed.
    (bundle / "checkpoint").mkdir()
    (bundle / "checkpoint/parent").symlink_to("../pre-checkpoint")
    remove_previous(host.container)
    remove_previous(host.container)
    assert {path.name for path in bundle.iterdir()} == {"artifacts", "config.json"}


def test_nothing_is_removed_that_a_checkpoint_may_need(host: t.Any, tmp_path: pathlib.Path) -> None:
    bundle = tmp_path / "bundle"
    written_out(bundle)
    (bundle / "checkpoint").mkdir()
    (bundle / "checkpoint/inventory.img").write_text("x")
    before = {path.name for path in bundle.iterdir()}
    tidy_export(host.container)
    remove_previous(host.container)
    assert {path.name for path in bundle.iterdir()} == before


def test_memory_that_is_written_out_again_is_seen(host: t.Any, tmp_path: pathlib.Path) -> None:
    bundle = tmp_path / "bundle"
    written_out(bundle)
    before = state_of_previous(host.container)
    assert state_of_previous(host.container) == before
    pages = bundle / "pre-checkpoint/pages-1.img"
    os.utime(pages, ns=(0, pages.stat().st_mtime_ns + 1))
    assert state_of_previous(host.container) != before


def test_what_cannot_be_removed_is_told(host: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(path)

    (tmp_path / "bundle/config.dump").write_text("x")
    monkeypatch.setattr(_pages.os, "unlink", refuse)
    with pytest.raises(FerryError, match="of web could not be removed"):
        tidy_export(host.container)


def test_container_without_a_directory_has_none_to_remove(host: t.Any) -> None:
    host.container.bundle = None
    assert has_checkpoint(host.container)
    remove_previous(host.container)
