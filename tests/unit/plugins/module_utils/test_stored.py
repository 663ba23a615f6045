# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._annotations import CRIU, PREFIXES
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._stored import Stored, when


def test_stored_image_tells_its_checkpoint() -> None:
    raw = {
        "Id": "1f" * 32,
        "RepoTags": ["localhost/b:1", "localhost/a:1"],
        "RepoDigests": ["localhost/a@sha256:aa", "localhost/b@sha256:aa"],
        "Digest": "sha256:bb",
        "Size": 7,
        "Created": "2026-01-02T03:04:05.123456789Z",
        "Annotations": {PREFIXES[CRIU] + "container.name": "web"},
    }
    image = Stored(raw)
    assert image.is_checkpoint
    assert image.summary() == {
        "id": "1f" * 32,
        "names": ["localhost/a:1", "localhost/b:1"],
        "digests": ["sha256:aa", "sha256:bb"],
        "size": 7,
        "created": raw["Created"],
        "checkpoint": {"name": "web"},
    }
    assert not Stored({**raw, "Annotations": None}).is_checkpoint


@pytest.mark.parametrize(
    ("text", "hour"),
    [("2026-01-02T03:04:05Z", 3), ("2026-01-02T03:04:05.5Z", 3), ("2026-01-02T03:04:05.123456789+02:00", 1)],
)
def test_time_is_read(text: str, hour: int) -> None:
    assert when(text) == datetime(2026, 1, 2, hour, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text", ["", "None", "yesterday", "2026-01-02", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(FerryError, match="is not a time"):
        when(text)
