# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import json
import os

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._paths import kinds_of, on_shared


def test_paths_of_this_host_are_looked_at(client, libpod, tmp_path) -> None:
    (tmp_path / "file").touch()
    paths = {str(tmp_path), str(tmp_path / "file"), str(tmp_path / "absent"), os.devnull}
    assert kinds_of(client, paths) == {
        str(tmp_path): "directory",
        str(tmp_path / "file"): "file",
        str(tmp_path / "absent"): "absent",
        os.devnull: "device",
    }
    assert libpod.seen == []


@pytest.fixture
def there(libpod, forwarded):
    """Another host, with a directory and a device as podman describes them."""
    modes = {"/host/srv": 2147484141, "/host/dev/null": 69206454, "/host/etc/passwd": 420}

    def look(handler, request):
        mode = modes.get(request.query["path"])
        stat = base64.b64encode(json.dumps({"mode": mode}).encode()).decode()
        libpod.headers["X-Docker-Container-Path-Stat"] = stat
        handler.reply(*libpod.json(200 if mode is not None else 404, {}))

    def create(handler, request):
        handler.read_body(request)
        libpod.name = json.loads(request.body)["name"]
        libpod.on(f"HEAD /containers/{libpod.name}/archive", look)
        libpod.on(f"DELETE /containers/{libpod.name}", [])
        handler.reply(*libpod.json(201, {"Id": "0a" * 32}))

    libpod.on("GET /images/json", [{"Id": "2e" * 32}])
    libpod.on("POST /containers/create", create)
    return forwarded(libpod)


def test_paths_of_another_host_are_seen_through_a_container(there, libpod) -> None:
    found = kinds_of(there, {"/srv", "/dev/null", "/etc/passwd", "/nope"})
    assert found == {"/srv": "directory", "/dev/null": "device", "/etc/passwd": "file", "/nope": "absent"}
    spec = json.loads(libpod.request("POST /containers/create").body)
    assert spec["name"].startswith("ferry-look-") and spec["mounts"][0]["options"] == ["ro", "rbind"]
    assert libpod.seen[-1] == f"DELETE /containers/{libpod.name}"


def test_container_is_removed_when_the_look_fails(there, libpod) -> None:
    def fail_to_look(handler, request):
        handler.read_body(request)
        libpod.name = json.loads(request.body)["name"]
        libpod.on(f"HEAD /containers/{libpod.name}/archive", 500)
        libpod.on(f"DELETE /containers/{libpod.name}", [])
        handler.reply(*libpod.json(201, {"Id": "0a" * 32}))

    libpod.on("POST /containers/create", fail_to_look)
    assert kinds_of(there, {"/srv"}) is None
    assert libpod.seen[-1] == f"DELETE /containers/{libpod.name}"


def test_host_without_images_cannot_be_asked(there, libpod) -> None:
    libpod.on("GET /images/json", [])
    assert kinds_of(there, {"/srv"}) is None
    assert "POST /containers/create" not in libpod.seen


def test_nothing_is_asked_about_nothing(there, libpod) -> None:
    assert kinds_of(there, set()) == {}
    assert libpod.seen == []


MOUNTINFO = """\
22 1 252:1 / / rw - ext4 /dev/vda rw
23 22 0:20 / /srv rw,relatime shared:1 - nfs4 nas:/srv rw
24 23 0:21 / /srv/local rw - xfs /dev/vdb rw
25 22 0:22 / /mnt/a\\040b rw - fuse.glusterfs g:/v rw
26 22 0:23 / /mnt/over rw - ceph c:/ rw
27 22 0:24 / /mnt/over rw - tmpfs tmpfs rw
28 22 0:25 / /mnt/fuse rw - fuse.portal portal rw
"""


def test_file_systems_of_several_hosts_are_known() -> None:
    paths = {"/srv", "/srv/db/x", "/srv/local/db", "/mnt/a b/c", "/mnt/over/x", "/mnt/fuse/x", "/srvother", "/"}
    assert on_shared(paths, MOUNTINFO) == {"/srv", "/srv/db/x", "/mnt/a b/c"}


def test_nothing_is_known_of_nothing() -> None:
    assert on_shared({"/srv"}, "") == set()
    assert on_shared({"/srv"}, "broken\n - \n") == set()
