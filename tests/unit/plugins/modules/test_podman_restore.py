# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pathlib
from datetime import datetime, timezone

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _archive
from ansible_collections.ferry.podman.plugins.module_utils._compat import Subject
from ansible_collections.ferry.podman.plugins.module_utils._criu import CORE_MAGIC
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, UnsupportedParameter
from ansible_collections.ferry.podman.plugins.module_utils._libpod import RestoreOptions
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer
from ansible_collections.ferry.podman.plugins.modules import podman_restore
from ansible_collections.ferry.podman.plugins.modules.podman_restore import check_options, expected, restorer_for

ID, IMAGE_ID = "1f" * 32, "2e" * 32
IMPORT, RESTORE = "POST /containers/import/restore", f"POST /containers/{ID}/restore"
DEFAULTS = {
    "src": None,
    "image": None,
    "new_name": None,
    "keep": False,
    "tcp_established": False,
    "tcp_close": False,
    "ignore_rootfs": False,
    "ignore_volumes": False,
    "ignore_static_ip": False,
    "ignore_static_mac": False,
    "file_locks": False,
    "publish": None,
    "pod": None,
    "max_members": 100000,
    "policy": None,
}


# -- options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"new_name": ["a"]}, "new_name: only with src or image"),
        ({"publish": ["80:80"]}, "publish: only with src or image"),
        ({"pod": "p"}, "pod: only with src or image"),
        ({"ignore_rootfs": True}, "ignore_rootfs: only with src or image"),
        ({"ignore_volumes": True, "pod": "p"}, "pod, ignore_volumes: only with src or image"),
        ({"policy": {"privileged": True}}, "policy: only with src or image"),
        ({"src": "/a.tar", "new_name": ["a", "b", "a"]}, "new_name has a name twice: a, b, a."),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(FerryError) as error:
        check_options({**DEFAULTS, **options})
    assert message in str(error.value)


EVERYTHING = {"new_name": ["a", "b"], "publish": ["80:80"], "pod": "p", "ignore_rootfs": True, "ignore_volumes": True}


@pytest.mark.parametrize("options", [{}, {"src": "/a.tar", **EVERYTHING}, {"image": "x", **EVERYTHING}])
def test_options_that_make_sense_are_taken(options) -> None:
    check_options({**DEFAULTS, **options})


def test_options_reach_podman(client, libpod, info_json) -> None:
    libpod.on("GET /info", info_json())
    assert restorer_for(client, DEFAULTS).options == RestoreOptions()
    for option in ("keep", "tcp_established", "tcp_close", "ignore_static_ip", "ignore_static_mac", "file_locks"):
        assert restorer_for(client, {**DEFAULTS, option: True}).options == RestoreOptions(**{option: True})
    restorer = restorer_for(client, {**DEFAULTS, **EVERYTHING})
    assert restorer.options == RestoreOptions(publish=["80:80"], pod="p", ignore_rootfs=True, ignore_volumes=True)
    assert restorer.request.new_names == ["a", "b"]


def test_option_that_the_server_does_not_know_is_refused(client, libpod) -> None:
    libpod.headers["Libpod-API-Version"] = "5.4.2"
    with pytest.raises(UnsupportedParameter, match="tcpClose"):
        restorer_for(client, {**DEFAULTS, "tcp_close": True})
    assert libpod.seen == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "web", "src": "/a"}, "mutually exclusive: name|all|latest|src|image"),
        ({"src": "/a", "new_name": "b", "tcp_established": True}, "mutually exclusive: new_name|tcp_established"),
        ({"src": "/a", "tcp_close": True, "tcp_established": True}, "mutually exclusive: tcp_established|tcp_close"),
        ({"image": "x", "previous": "/b"}, "required by 'previous': src"),
        ({"image": "x", "allowed_signers": "/b"}, "required by 'allowed_signers': src"),
        ({"image": "x", "decrypt_identity": "/b"}, "required by 'decrypt_identity': src"),
        ({"src": "/a", "signer": "me"}, "required by 'signer': allowed_signers"),
    ],
)
def test_options_that_exclude_each_other_are_refused(run_module, libpod, options, message) -> None:
    answer = run_module(podman_restore, url=libpod.url, **options)
    assert answer["failed"] and message in answer["msg"]
    assert libpod.seen == []


def test_one_of_many_ways_to_say_what_is_required(run_module, podman) -> None:
    answer = run_module(podman_restore, url=podman.url)
    assert answer["failed"] and "No container is selected." in answer["msg"]


def test_what_check_mode_can_say() -> None:
    subject = Subject(ID, "web", "crun", IMAGE_ID, "web:1")
    state = {"name": "web", "image": "web:1", "image_id": IMAGE_ID, "status": "absent"}
    assert expected(subject, None) == {**state, "id": ID}
    assert expected(subject, "copy") == {**state, "name": "copy"}
    assert "id" not in expected(Subject("", "web", "crun", IMAGE_ID, "web:1"), None)


# -- whole runs -----------------------------------------------------------------------------------------------


@pytest.fixture
def podman(libpod, info_json):
    """A host with the image, and nothing else."""
    libpod.on("GET /info", info_json(store={"graphRootAllocated": 1 << 30}))
    libpod.on("GET /volumes/json", [])
    libpod.on("GET /networks/lan/json", {"name": "lan"})
    for name in (IMAGE_ID, "registry.example%3A5000%2Fshop%2Fweb%3A1.4"):
        libpod.on(f"GET /images/{name}/json", {"Id": IMAGE_ID})
    return libpod


def appears(podman, inspect_json, **changes):
    """The answer of a restore after which this container runs."""
    container = inspect_json(State={"Restored": True}, **changes)

    def answer(handler, request):
        handler.read_body(request)
        for name in (container["Id"], container["Name"]):
            podman.on(f"GET /containers/{name}/json", container)
        handler.reply(*podman.json(200, {"Id": container["Id"]}))

    return answer


@pytest.fixture
def archive(archives, tmp_path) -> str:
    path = tmp_path / "web.tar"
    path.write_bytes(archives.checkpoint())
    return str(path)


def test_archive_is_restored_once(run_module, podman, inspect_json, archive) -> None:
    podman.on(IMPORT, appears(podman, inspect_json))
    first = run_module(podman_restore, url=podman.url, src=archive)
    second = run_module(podman_restore, url=podman.url, src=archive)
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["diff"] == {"before": {"web": {"status": "absent"}}, "after": {"web": {"status": "running"}}}
    assert first["containers"][0]["id"] == second["containers"][0]["id"] == ID
    assert podman.seen.count(IMPORT) == 1


def test_check_mode_touches_nothing(run_module, podman, archive) -> None:
    answer = run_module(podman_restore, check_mode=True, url=podman.url, src=archive)
    assert answer["changed"]
    assert answer["containers"][0]["id"] == ID
    assert {request.method for request in podman.requests} == {"GET"}


def test_copy_that_runs_is_not_made_again(run_module, podman, inspect_json, archive) -> None:
    other = "0a" * 32
    podman.on("GET /containers/a/json", inspect_json(Id=other, Name="a", State={"Restored": True}))
    podman.on(IMPORT, appears(podman, inspect_json, Id="0b" * 32, Name="b"))
    answer = run_module(podman_restore, url=podman.url, src=archive, new_name=["a", "b"])
    assert [(copy["name"], copy["changed"]) for copy in answer["containers"]] == [("a", False), ("b", True)]
    assert podman.request(IMPORT).query["name"] == "b"


@pytest.mark.parametrize("changes", [{"Image": "3d" * 32}, {"State": {"Restored": False}}])
def test_other_container_of_that_name_is_in_the_way(run_module, podman, inspect_json, archive, changes) -> None:
    state = {"State": {"Restored": True}, **changes}
    podman.on("GET /containers/a/json", inspect_json(Id="0a" * 32, Name="a", **state))
    answer = run_module(podman_restore, url=podman.url, src=archive, new_name=["a"])
    assert answer["failed"]
    assert [finding["code"] for finding in answer["findings"]] == ["name_in_use"]


def test_damaged_archive_never_reaches_podman(run_module, podman, archive, archives) -> None:
    with open(archive, "wb") as file:
        file.write(archives.checkpoint()[:-1024])
    answer = run_module(podman_restore, url=podman.url, src=archive)
    assert answer["failed"] and f"{archive}: The archive is cut short" in answer["msg"]
    assert IMPORT not in podman.seen


def test_hostile_archive_never_reaches_podman(run_module, podman, archive, archives) -> None:
    with open(archive, "wb") as file:
        file.write(archives.checkpoint(archives.link("ctr.log", "/etc/shadow")))
    answer = run_module(podman_restore, url=podman.url, src=archive)
    assert [finding["code"] for finding in answer["findings"]] == ["archive_link"]
    assert answer["failed"] and "'ctr.log' is a link to '/etc/shadow'" in answer["msg"]
    assert {request.method for request in podman.requests} == {"GET"}


def test_policy_refuses_what_goes_on_without_one(run_module, podman, inspect_json, archive) -> None:
    podman.on(IMPORT, appears(podman, inspect_json))
    refused = run_module(podman_restore, url=podman.url, src=archive, policy={})
    assert {finding["severity"] for finding in refused["findings"]} == {"blocker"}
    assert "spec_namespace" in [finding["code"] for finding in refused["findings"]]
    assert IMPORT not in podman.seen
    spaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    policy = {"host_namespaces": spaces, "unconfined": True}
    allowed = run_module(podman_restore, check_mode=True, url=podman.url, src=archive, policy=policy)
    assert allowed["changed"] and "findings" not in allowed
    done = run_module(podman_restore, url=podman.url, src=archive)
    assert done["changed"] and {finding["severity"] for finding in done["findings"]} == {"notice"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_size": "10K"}, "would take more than 10240 bytes"),
        ({"max_size": "much"}, "max_size is no size"),
        ({"max_members": 3}, "more than 3 members"),
        ({"max_members": 0}, "max_members is 0; it must be 1 or more."),
        ({"allowed_signers": "/nowhere"}, "is not signed"),
    ],
)
def test_limits_and_signers_are_asked_for(run_module, podman, archive, options, message) -> None:
    answer = run_module(podman_restore, url=podman.url, src=archive, **options)
    assert answer["failed"] and message in answer["msg"]
    assert IMPORT not in podman.seen


def test_encrypted_archive_is_restored_with_an_identity(
    run_module, podman, inspect_json, archive, age_keys, tmp_path
) -> None:
    ours, theirs = age_keys
    path = tmp_path / "web.age"
    path.write_bytes(ours.encrypt(pathlib.Path(archive).read_bytes()))
    podman.on(IMPORT, appears(podman, inspect_json))
    refused = [
        run_module(podman_restore, url=podman.url, src=str(path)),
        run_module(podman_restore, url=podman.url, src=str(path), decrypt_identity=theirs.identity),
    ]
    assert [answer["findings"][0]["code"] for answer in refused] == ["archive_encrypted", "decryption_failed"]
    assert {request.method for request in podman.requests} == {"GET"}
    done = run_module(podman_restore, url=podman.url, src=str(path), decrypt_identity=ours.identity)
    assert done["changed"]
    assert podman.request(IMPORT).body == pathlib.Path(archive).read_bytes()


def test_archive_for_which_there_is_no_room_is_refused(run_module, podman, archive, info_json) -> None:
    podman.on("GET /info", info_json(store={"graphRootAllocated": 1 << 30, "graphRootUsed": (1 << 30) - 5000}))
    answer = run_module(podman_restore, url=podman.url, src=archive)
    assert [finding["code"] for finding in answer["findings"]] == ["archive_too_large"]
    podman.on("GET /info", info_json())
    answer = run_module(podman_restore, url=podman.url, src=archive)
    assert "would take more than 5000 bytes" in answer["msg"]
    assert run_module(podman_restore, check_mode=True, url=podman.url, src=archive, max_size="1M")["changed"]


def test_missing_zstandard_is_told_with_its_reason(run_module, podman, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_archive, "ZSTANDARD_IMPORT_ERROR", "Traceback")
    (tmp_path / "web.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    answer = run_module(podman_restore, url=podman.url, src=str(tmp_path / "web.tar.zst"))
    assert answer["failed"] and "zstandard" in answer["msg"] and "to read" in answer["msg"]


def test_container_is_restored_in_place_once(run_module, podman, inspect_json, tmp_path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "inventory.img").write_bytes(b"")
    stopped = inspect_json("exited", State={"Checkpointed": True}, OCIConfigPath=str(tmp_path / "config.json"))
    podman.on("GET /containers/web/json", stopped)
    podman.on(RESTORE, appears(podman, inspect_json))
    first = run_module(podman_restore, url=podman.url, name="web")
    second = run_module(podman_restore, url=podman.url, name="web")
    assert (first["changed"], second["changed"]) == (True, False)
    assert podman.seen.count(RESTORE) == 1


def test_used_up_checkpoint_is_refused(run_module, podman, inspect_json, tmp_path) -> None:
    podman.on("GET /containers/web/json", inspect_json("exited", OCIConfigPath=str(tmp_path / "config.json")))
    answer = run_module(podman_restore, url=podman.url, name="web")
    assert [finding["code"] for finding in answer["findings"]] == ["no_checkpoint"]
    assert RESTORE not in podman.seen


KEYS = "io.podman.annotations.checkpoint."
TOLD = {"name": "web", "runtime.name": "crun", "rootfsImageID": IMAGE_ID, "rootfsImageName": "web:1"}


@pytest.fixture
def saved(podman, archives, protobuf, tmp_path):
    """Has the host have an image of a checkpoint; returns its ID."""

    def have(labels=(), **told) -> str:
        core = archives.entry("checkpoint/core-1.img", protobuf.image(CORE_MAGIC, protobuf.message((1, 1))))
        layer = Layer.spooled([archives.checkpoint(core)], open(tmp_path / "layer", "w+b"))
        image = Image([layer], "amd64", datetime.now(timezone.utc), {}, dict(labels))
        annotations = {KEYS + key: value for key, value in {**TOLD, **told}.items() if value}
        raw = {"Id": image.id, "RepoTags": ["localhost/saved:1"], "Created": "2026-01-01T00:00:00Z"}
        podman.on("GET /images/saved/json", {**raw, "Annotations": annotations})
        podman.on(f"GET /images/{image.id}/get", podman.archive(b"".join(image.layout())))
        return image.id

    return have


def from_image(run_module, podman, tmp_path, **options):
    return run_module(podman_restore, url=podman.url, image="saved", max_size="1M", directory=str(tmp_path), **options)


def test_image_is_restored_once(run_module, podman, saved, inspect_json, tmp_path) -> None:
    saved()
    podman.on(IMPORT, appears(podman, inspect_json))
    first = from_image(run_module, podman, tmp_path)
    second = from_image(run_module, podman, tmp_path)
    assert (first["changed"], second["changed"]) == (True, False), first
    assert podman.seen.count(IMPORT) == 1


def test_image_without_annotations_is_one_if_a_checkpoint_is_in_it(run_module, podman, saved, inspect_json, tmp_path):
    saved(**dict.fromkeys(TOLD))
    podman.on(IMPORT, appears(podman, inspect_json))
    assert from_image(run_module, podman, tmp_path)["changed"]
    assert not from_image(run_module, podman, tmp_path)["changed"]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"runtime.name": "runc"}, "runtime_differs"),
        ({"host.arch": "s390x"}, "architecture"),
        ({"cgroups.version": "v1"}, "cgroup_version"),
    ],
)
def test_image_of_another_kind_of_host_is_not_read(run_module, podman, saved, tmp_path, told, code) -> None:
    ident = saved(**told)
    answer = from_image(run_module, podman, tmp_path)
    assert [finding["code"] for finding in answer["findings"]] == [code]
    assert f"GET /images/{ident}/get" not in podman.seen


def test_image_that_is_no_checkpoint_is_told(run_module, podman, saved, tmp_path) -> None:
    ident = saved(**dict.fromkeys(TOLD))
    layer = Layer.spooled([bytes(1024)], open(tmp_path / "other", "w+b"))
    podman.on(
        f"GET /images/{ident}/get",
        podman.archive(b"".join(Image([layer] * 2, "amd64", datetime.now(timezone.utc)).layout())),
    )
    answer = from_image(run_module, podman, tmp_path)
    assert [finding["code"] for finding in answer["findings"]] == ["not_a_checkpoint"]
    assert "it has 2 layers" in answer["msg"]


def test_image_is_held_against_a_policy(run_module, podman, saved, tmp_path, archives) -> None:
    saved()
    answer = from_image(run_module, podman, tmp_path, policy={"no_new_privileges": True})
    assert answer["failed"] and answer["findings"], answer
    assert IMPORT not in podman.seen


def test_missing_image_is_told(run_module, podman) -> None:
    answer = run_module(podman_restore, url=podman.url, image="absent")
    assert answer["failed"] and "There is no image absent on this host. Pull or load it first." in answer["msg"]
