# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import io
import os
import tarfile

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._volumes import (
    set_volume_roots,
    volume_roots,
    without_copy_up,
)


def mount(name: str, destination: str, **changes) -> dict:
    return {"Type": "volume", "Name": name, "Source": f"/nonexistent/{name}", "Destination": destination, **changes}


def test_roots_are_read_where_they_are(client, make_container, tmp_path) -> None:
    tmp_path.chmod(0o2751)
    bind = {"Type": "bind", "Source": str(tmp_path), "Destination": "/srv"}
    container = make_container(Mounts=[mount("data", "/data", Source=str(tmp_path)), mount("gone", "/gone"), bind])
    assert volume_roots(client, container) == {"data": f"{os.getuid()}:{os.getgid()}:2751"}


@pytest.mark.parametrize(
    ("said", "roots"),
    [
        ("echo 5:6:2750; echo 0:0:755", {"data": "5:6:2750", "more": "0:0:755"}),
        ("echo 5:6:2750", {}),
        ("exit 1", {}),
    ],
)
def test_roots_of_another_host_are_asked_for(libpod, forwarded, make_container, programs, said, roots) -> None:
    client = forwarded(libpod)
    programs("ssh", said)
    mounts = [mount("data", "/data"), mount("more", "/more", Source="/var/lib/it's one")]
    assert volume_roots(client, make_container(Mounts=mounts)) == roots


@pytest.fixture
def put(libpod, make_container) -> str:
    request = f"PUT /containers/{make_container().id}/archive"
    libpod.on(request, 200)
    return request


@pytest.mark.parametrize(
    ("destination", "parent", "name"),
    [("/data", "/", "data"), ("/var/lib/db", "/var/lib", "db"), ("/var/lib/db/", "/var/lib", "db")],
)
def test_root_is_set_by_its_header_in_its_parent(
    client, libpod, make_container, put, destination, parent, name
) -> None:
    container = make_container(Mounts=[mount("data", destination)])
    assert set_volume_roots(client, container, {"data": "999:1000:2770"}) == []
    assert libpod.request(put).query == {"path": parent, "copyUIDGID": "false"}
    with tarfile.open(fileobj=io.BytesIO(libpod.request(put).body)) as tar:
        (info,) = tar
    assert (info.name, info.type, info.uid, info.gid, info.mode) == (name, tarfile.DIRTYPE, 999, 1000, 0o2770)


@pytest.mark.parametrize("roots", [{}, {"data": "0:0:755"}, {"other": "0:0:700"}])
def test_root_that_is_as_podman_makes_it_is_left_alone(client, libpod, make_container, roots) -> None:
    container = make_container(Mounts=[mount("data", "/data")])
    assert set_volume_roots(client, container, roots) == []
    assert libpod.seen == []


def test_root_that_cannot_be_set_is_told_and_keeps_no_other(client, libpod, make_container, put) -> None:
    libpod.on(put, libpod.error(500, "read-only file system"), 200)
    container = make_container(Mounts=[mount("a", "/a"), mount("b", "/b")])
    (problem,) = set_volume_roots(client, container, {"a": "1:1:700", "b": "2:2:700"})
    assert problem.startswith("The root of volume a should be 1:1:700 (owner, group, mode): ")
    assert problem.endswith("read-only file system.")
    assert libpod.seen == [put, put]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (None, ["nocopy"]),
        ([], ["nocopy"]),
        (["rw", "copy"], ["rw", "nocopy"]),
        (["nocopy", "rw"], ["rw", "nocopy"]),
    ],
)
def test_files_of_the_image_are_not_copied_into_the_volume(options, changed) -> None:
    volume = {"volumeName": "data", "dest": "/data", "options": options}
    assert without_copy_up([volume]) == [{**volume, "options": changed}]
    assert volume["options"] == options
