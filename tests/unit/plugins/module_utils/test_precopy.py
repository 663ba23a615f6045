# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pathlib
import types
import typing as t

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _precopy
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._precopy import (
    MOST_ROUNDS,
    another,
    bound_of,
    directory_of,
    pages_in,
    pre_dump,
)

MB = 1_000_000


def rounds(sizes: list[int], most: int, room: int) -> int:
    """How many there are, if each writes so much."""
    done: list[int] = []
    while another(done, most, room):
        done.append(sizes[len(done)])
    return len(done)


@pytest.mark.parametrize(
    ("sizes", "most", "done"),
    [
        ([200, 50, 12, 3, 1, 1], 5, 4),
        ([200, 51, 43, 43, 43, 43], 5, 3),
        ([200, 51, 30, 18, 10, 5, 3], 9, 7),
        ([200, 200, 200, 200, 200, 200], 5, 2),
        ([200, 50, 12, 5, 5, 5], 2, 2),
        ([200, 50, 12, 5, 5, 5], 1, 1),
        ([3, 3], 5, 1),
        ([200], 0, 0),
    ],
)
def test_rounds_go_on_as_long_as_they_shrink(sizes: list[int], most: int, done: int) -> None:
    assert rounds([size * MB for size in sizes], most, 600 * MB) == done


def test_rounds_never_take_more_than_there_is_room() -> None:
    assert rounds([200 * MB, 190 * MB, 180 * MB], 5, 599 * MB) == 1
    assert rounds([200 * MB, 140 * MB, 98 * MB, 68 * MB], 9, 650 * MB) == 2


@pytest.mark.parametrize(("text", "bound"), [("auto", MOST_ROUNDS), ("never", 0), ("1", 1), ("100", 100)])
def test_bound(text: str, bound: int) -> None:
    assert bound_of(text) == bound


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "often", "1.5"])
def test_bound_that_makes_no_sense(text: str) -> None:
    with pytest.raises(FerryError, match="auto, never, or the most rounds"):
        bound_of(text)


def test_only_pages_count(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pages-1.img").write_bytes(bytes(10))
    (tmp_path / "pages-22.img").write_bytes(bytes(5))
    (tmp_path / "pagemap-1.img").write_bytes(bytes(100))
    assert pages_in(str(tmp_path)) == 15


def container(runtime: str) -> t.Any:
    return types.SimpleNamespace(id="c" * 64, name="web", runtime=runtime)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    known: dict[str, t.Any] = {"code": 0}

    def run(command: list[str], **_options: t.Any) -> t.Any:
        known["command"] = command
        return types.SimpleNamespace(returncode=known["code"], stderr="CRIU memory tracking not supported")

    monkeypatch.setattr(_precopy.subprocess, "run", run)
    return known


def test_runtime_is_told_where_the_images_before_are(ran: dict[str, t.Any]) -> None:
    pre_dump(container("crun"), "/x/round-2", "/x/work", directory_of(1), ["--tcp-established"])
    assert ran["command"] == [
        *("crun", "checkpoint", "--pre-dump", "--image-path", "/x/round-2", "--work-path", "/x/work"),
        *("--parent-path", "../round-1", "--tcp-established", "c" * 64),
    ]


def test_round_that_fails_is_told(ran: dict[str, t.Any]) -> None:
    ran["code"] = 1
    with pytest.raises(FerryError, match="web could not be written beforehand: CRIU memory tracking"):
        pre_dump(container("runc"), "/x", "/y", None, [])
    with pytest.raises(FerryError, match="kata"):
        pre_dump(container("kata"), "/x", "/y", None, [])
