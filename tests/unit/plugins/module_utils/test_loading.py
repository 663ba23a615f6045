# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import tempfile
from datetime import datetime, timezone

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError
from ansible_collections.ferry.podman.plugins.module_utils._loading import load
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer

LOAD = "POST /images/load"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
TAKEN = {"Names": []}
REFUSED = (500, b'{"cause": "no such file", "message": "no such file", "response": 500}')


@pytest.fixture
def image() -> Image:
    return Image([Layer.spooled([b"x" * 512], tempfile.TemporaryFile())], "amd64", NOON, {"colour": "blue"})


def sent(libpod) -> list[bytes]:
    return [each.body for each in libpod.requests if str(each) == LOAD]


def test_layers_go_first_and_then_the_annotations(libpod, client, image) -> None:
    libpod.on(LOAD, TAKEN)
    load(client, image, "Loading")
    assert sent(libpod) == [b"".join(image.docker_archive()), b"".join(image.layout(with_layers=False))]


def test_layers_that_are_there_do_not_go_again(libpod, client, image) -> None:
    libpod.on(f"GET /images/{image.id}/json", {"Id": image.id})
    libpod.on(LOAD, TAKEN)
    load(client, image, "Loading")
    assert sent(libpod) == [b"".join(image.layout(with_layers=False))]


def test_podman_that_asks_for_the_layers_gets_them(libpod, client, image) -> None:
    libpod.on(LOAD, TAKEN, REFUSED, TAKEN)
    load(client, image, "Loading")
    assert sent(libpod)[2:] == [b"".join(image.layout())]


def test_compressed_layers_go_in_a_layout(libpod, client, image) -> None:
    (plain,) = image.layers
    packed = Layer(plain.file, plain.digest, plain.size, 0, "zstd", "sha256:2")
    libpod.on(LOAD, TAKEN)
    other = Image([packed], "amd64", NOON)
    load(client, other, "Loading")
    assert sent(libpod) == [b"".join(other.layout())]


def test_image_that_podman_does_not_take_is_told(libpod, client, image) -> None:
    libpod.on(LOAD, REFUSED)
    with pytest.raises(ApiError, match="no such file"):
        load(client, image, "Loading")
    assert len(sent(libpod)) == 1
