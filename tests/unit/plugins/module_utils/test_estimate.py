# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _estimate
from ansible_collections.ferry.podman.plugins.module_utils._estimate import Estimate, directory_size, estimate
from ansible_collections.ferry.podman.plugins.module_utils._facts import ProcessFacts

ID = "1f" * 32
SEEN = ProcessFacts(memory=7_000_000)


def volume_at(path) -> dict:
    return {"Mounts": [{"Type": "volume", "Name": "data", "Source": str(path), "Destination": "/data"}]}


def test_downtime_grows_with_the_archive_and_a_slow_link() -> None:
    assert Estimate.of(0, 0, 0).downtime_ms < 400
    assert Estimate.of(100_000_000, 0, 0).downtime_ms == pytest.approx(1350, abs=5)
    assert Estimate.of(100_000_000, 0, 0, 10_000_000).downtime_ms == pytest.approx(10_350, abs=50)
    assert Estimate.of(100_000_000, 0, 0, 10**10).downtime_ms == pytest.approx(1350, abs=5)


def test_container_of_this_host_is_weighed_on_its_disk(client, libpod, make_container, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "sub/b").write_bytes(bytes(500))
    libpod.on(f"GET /containers/{ID}/json", {"SizeRw": 300})
    found = estimate(client, make_container(**volume_at(tmp_path)), SEEN)
    assert (found.memory, found.files, found.volumes) == (7_000_000, 300, 1500)
    assert found.archive == 7_000_000 + 300 + 1500 + _estimate.FRAME
    assert estimate(client, make_container(**volume_at(tmp_path)), SEEN, ignore_volumes=True).volumes == 0


def test_container_of_another_host_is_weighed_by_its_service(forwarded, libpod, make_container) -> None:
    libpod.on(f"GET /containers/{ID}/top", {"Titles": ["HPID", "RSS"], "Processes": [["12", "1000"], ["13", "24"]]})
    libpod.on(f"GET /containers/{ID}/json", {"SizeRw": 300})
    volumes = [{"VolumeName": "data", "Size": 42}, {"VolumeName": "other", "Size": 7}]
    libpod.on("GET /system/df", {"Volumes": volumes})
    found = estimate(forwarded(libpod), make_container(), None)
    assert (found.memory, found.files, found.volumes) == (1024 * 1024, 300, 42)


def test_service_that_does_not_tell_leaves_nothing_known(client, make_container, tmp_path) -> None:
    found = estimate(client, make_container(**volume_at(tmp_path / "absent")), None)
    assert (found.memory, found.files, found.volumes) == (0, 0, 0)


def test_endless_volume_is_not_counted_to_its_end(tmp_path, monkeypatch) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x")
    monkeypatch.setattr(_estimate, "MOST_FILES", 3)
    assert directory_size(str(tmp_path)) == 3
