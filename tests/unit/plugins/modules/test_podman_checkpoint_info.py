# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import gzip
import json
from datetime import datetime, timezone

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._journal import Entry, Journal
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS, Limits
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer
from ansible_collections.ferry.podman.plugins.modules import podman_checkpoint_info
from ansible_collections.ferry.podman.plugins.modules.podman_checkpoint_info import describe_archive

ID, OTHER = "1f" * 32, "0a" * 32


def test_archive_is_described(archives, tmp_path) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(
        archives.checkpoint(
            archives.entry("volumes/data.tar", bytes(1024)), archives.rootfs_diff(archives.entry("etc/motd", b"x"))
        )
    )
    described = describe_archive(str(path), NO_LIMITS, values=False)
    assert described["src"] == str(path)
    assert described["size"] == path.stat().st_size
    assert described["checkpoint_size"] == 5009
    assert described["volumes_size"] == 1024
    assert described["rootfs_size"] == 2048
    assert (described["engine"], described["compression"]) == ("podman", "none")
    assert (described["name"], described["networks"], described["volumes"]) == ("web", ["lan"], ["data"])
    assert (described["arch"], described["environment"], described["mounts"]) == (None, [], [])
    assert not described["pre_checkpoint"] and not described["needs_previous"]
    assert described["sockets"] is None and "environment_values" not in described


def test_encrypted_archives_are_described(archives, tmp_path, age_keys) -> None:
    ours, theirs = age_keys
    path = tmp_path / "web.age"
    path.write_bytes(ours.encrypt(gzip.compress(archives.checkpoint())))
    described = describe_archive(str(path), NO_LIMITS, False, ours.identity)
    assert (described["name"], described["compression"], described["encrypted"]) == ("web", "gzip", True)
    assert described["size"] == path.stat().st_size
    with pytest.raises(ArchiveError, match="is encrypted, and no identity is given.*as decrypt_identity"):
        describe_archive(str(path), NO_LIMITS, False)
    with pytest.raises(ArchiveError, match="web.age: The archive cannot be decrypted: no identity matched"):
        describe_archive(str(path), NO_LIMITS, False, theirs.identity)


def test_values_are_told_when_they_are_asked_for(run_module, libpod, info_json, archives, tmp_path) -> None:
    path = tmp_path / "web.tar"
    spec = archives.entry("spec.dump", b'{"process": {"env": ["PASSWORD=secret"]}}')
    path.write_bytes(archives.pack([*archives.members(without=["spec.dump"]), spec]))
    libpod.on("GET /info", info_json())
    for values in (False, True):
        answer = run_module(podman_checkpoint_info, url=libpod.url, name=[], src=[str(path)], environment_values=values)
        (archive,) = answer["archives"]
        assert archive["environment"] == ["PASSWORD"]
        assert archive.get("environment_values") == ({"PASSWORD": "secret"} if values else None)


def test_podmans_archive_may_have_the_name_of_a_whiteout_and_takes_no_room(archives, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(podman_checkpoint_info, "private_file", None)
    path = tmp_path / "web.tar"
    path.write_bytes(archives.checkpoint(archives.rootfs_diff(archives.entry("a/.wh..wh..opq", b"x"))))
    assert describe_archive(str(path), NO_LIMITS, values=False)["rootfs_size"] == 2048


def test_layer_of_containerd_is_unpacked_as_far_as_there_is_room(archives, tmp_path) -> None:
    bomb = gzip.compress(archives.pack([archives.entry("zeros", bytes(3_000_000))]))
    path = tmp_path / "web.tar"
    config = {"rootfsImageID": "", "rootfsImageRef": "x@sha256:" + "d1" * 32}
    plain = {
        key: value for key, value in archives._config(**config).items() if key not in ("rootfsImageID", "staticDir")
    }
    members = archives.members(without=["config.dump"])
    members += [archives.entry("config.dump", json.dumps(plain).encode()), archives.entry("status", b"{}")]
    path.write_bytes(archives.pack([*members, archives.entry("rootfs-diff.tar", bomb)]))
    assert describe_archive(str(path), NO_LIMITS, values=False)["engine"] == "containerd"
    with pytest.raises(ArchiveError, match="more than 1000000 bytes"):
        describe_archive(str(path), Limits(1_000_000), values=False)


@pytest.fixture
def podman(libpod, info_json, inspect_json):
    libpod.on("GET /info", info_json())
    libpod.on("GET /containers/json", [{"Id": ID}, {"Id": OTHER}, {"Id": "gone"}])
    libpod.on(f"GET /containers/{ID}/json", inspect_json())
    libpod.on(f"GET /containers/{OTHER}/json", inspect_json("exited", Id=OTHER, Name="db"))
    return libpod


def test_host_and_containers_are_described(run_module, podman, programs) -> None:
    programs("criu", 'case "$*" in --version) echo "Version: 4.1" ;; esac')
    answer = run_module(podman_checkpoint_info, url=podman.url)
    assert not answer["changed"]
    assert answer["host"]["can_checkpoint"]
    assert answer["host"]["criu"]["version"] == "4.1.0"
    assert answer["host"]["free_space"].keys() == {"/srv/tmp", "/var/lib/containers/storage"}
    verdicts = {found["name"]: [f["code"] for f in found["findings"]] for found in answer["containers"]}
    assert verdicts == {"db": ["not_running"], "web": []}
    assert list(verdicts) == ["db", "web"]


def test_host_without_criu_cannot_checkpoint(run_module, podman, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    host = run_module(podman_checkpoint_info, url=podman.url)["host"]
    assert not host["can_checkpoint"]
    assert [finding["code"] for finding in host["findings"]] == ["criu_absent"]


def test_programs_of_this_host_say_nothing_about_another_one(run_module, podman, forwarded, programs) -> None:
    forwarded(podman)
    noted = programs("criu", "exit 1")
    host = run_module(podman_checkpoint_info, url="ssh://root@node2/run/podman/podman.sock")["host"]
    assert "criu" not in host and "free_space" not in host
    assert not noted.exists()


def test_named_container_must_be_there(run_module, podman) -> None:
    answer = run_module(podman_checkpoint_info, url=podman.url, name="absent")
    assert answer["failed"] and "absent" in answer["msg"]


def test_archives_are_described_in_their_order(run_module, podman, archives, tmp_path) -> None:
    paths = [str(tmp_path / name) for name in ("b.tar", "a.tar")]
    for path in paths:
        with open(path, "wb") as file:
            file.write(archives.checkpoint())
    answer = run_module(podman_checkpoint_info, url=podman.url, src=paths)
    assert [archive["src"] for archive in answer["archives"]] == paths


def test_move_of_each_container_is_judged(run_module, podman, other_libpod, info_json) -> None:
    other_libpod.on("GET /info", info_json(host={"arch": "arm64"}))
    other_libpod.on("GET /networks/lan/json", {"name": "lan", "driver": "bridge"})
    other_libpod.on("GET /volumes/json", [{"Name": "data"}])
    other_libpod.on("GET /containers/json", [])
    podman.on("GET /containers/json", [])
    podman.on(f"GET /containers/{ID}/changes", [])
    answer = run_module(podman_checkpoint_info, url=podman.url, destination=other_libpod.url, name=[ID, OTHER])
    db, web = answer["containers"]
    assert [finding["code"] for finding in web["findings"]] == ["volume_exists", "architecture"]
    assert "not_running" in [finding["code"] for finding in db["findings"]]
    assert web["estimate"]["memory"] == 1_000_000
    assert web["estimate"].keys() == {"memory", "files", "volumes", "archive", "downtime_ms"}


def test_without_a_destination_nothing_is_estimated(run_module, podman) -> None:
    answer = run_module(podman_checkpoint_info, url=podman.url)
    assert all("estimate" not in container for container in answer["containers"])


def test_estimate_is_made_without_a_destination_if_asked_for(run_module, podman) -> None:
    podman.on(f"GET /containers/{ID}/changes", [])
    web = run_module(podman_checkpoint_info, url=podman.url, estimate=True)["containers"][1]
    assert web["estimate"].keys() == {"memory", "files", "volumes", "archive", "downtime_ms"}


def test_what_a_container_takes_up_is_told(run_module, podman, inspect_json) -> None:
    podman.on("GET /networks/lan/json", {"name": "lan", "driver": "macvlan", "network_interface": "eth0"})
    labels = {"ferry.evacuate": "cold"}
    podman.on(f"GET /containers/{OTHER}/json", inspect_json("exited", Id=OTHER, Name="db", Config={"Labels": labels}))
    db, web = run_module(podman_checkpoint_info, url=podman.url)["containers"]
    assert (db["labels"], web["labels"]) == (labels, {})
    assert web["volumes"] == ["data"]
    assert web["networks"] == [{"name": "lan", "addresses": ["10.9.0.7"], "shared": True}]
    podman.on("GET /networks/lan/json", 404)
    assert not run_module(podman_checkpoint_info, url=podman.url)["containers"][1]["networks"][0]["shared"]


def test_room_of_the_host_is_told(run_module, podman) -> None:
    host = run_module(podman_checkpoint_info, url=podman.url)["host"]
    assert host["memory_available"] > 0
    paths = [path for system in host["file_systems"] for path in system["paths"]]
    assert sorted(paths) == ["/srv/tmp", "/var/lib/containers/storage"]


def test_images_are_described(run_module, podman) -> None:
    annotations = {"io.podman.annotations.checkpoint.name": "web"}
    podman.on("GET /images/cp/json", {"Id": ID, "RepoTags": ["localhost/cp:1"], "Annotations": annotations})
    podman.on("GET /images/other/json", {"Id": OTHER})
    answer = run_module(podman_checkpoint_info, url=podman.url, name=[], image=["cp", "other"])
    assert [image["checkpoint"] for image in answer["images"]] == [{"name": "web"}, {}]


def test_image_that_is_not_there_is_told(run_module, podman) -> None:
    podman.on("GET /images/cp/json", 404)
    answer = run_module(podman_checkpoint_info, url=podman.url, name=[], image=["cp"])
    assert answer["failed"] and "no image cp" in answer["msg"]


def test_moves_are_told(run_module, libpod, info_json, tmp_path) -> None:
    libpod.on("GET /info", info_json())
    options = {"url": libpod.url, "name": [], "journal": str(tmp_path / "journal")}
    assert run_module(podman_checkpoint_info, **options)["moves"] == []
    url = "ssh://root@10.99.0.2/run/podman/podman.sock"
    Journal(options["journal"], ID).begin(
        Entry(id=ID, name="web", image_id=OTHER, destination=url, phase="transfer", expected=9)
    )
    (move,) = run_module(podman_checkpoint_info, **options)["moves"]
    assert (move["name"], move["id"], move["destination"], move["phase"]) == ("web", ID, url, "transfer")
    assert (move["sent"], move["expected"]) == (0, 9) and move["begun"] > 0


def test_image_that_is_no_checkpoint_has_no_contents_of_one(run_module, libpod, info_json, tmp_path) -> None:
    layer = Layer.spooled([bytes(1024)], open(tmp_path / "layer", "w+b"))
    image = Image([layer] * 2, "amd64", datetime.now(timezone.utc))
    libpod.on("GET /info", info_json(store={"graphRootAllocated": 1 << 30}))
    libpod.on("GET /images/tool/json", {"Id": image.id, "RepoTags": ["localhost/tool:1"]})
    libpod.on(f"GET /images/{image.id}/get", libpod.archive(b"".join(image.layout())))
    answer = run_module(podman_checkpoint_info, url=libpod.url, name=[], image=["tool"], image_contents=True)
    assert answer["failed"] and "This is no checkpoint image: The image localhost/tool:1" in answer["msg"]
