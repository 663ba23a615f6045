# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._archive import inspect_file
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import CheckpointOptions
from ansible_collections.ferry.podman.plugins.modules import podman_checkpoint
from ansible_collections.ferry.podman.plugins.modules.podman_checkpoint import check_options, request_for

ID = "1f" * 32
CHECKPOINT = f"POST /containers/{ID}/checkpoint"
DEFAULTS = {
    "name": ["web"],
    "dest": None,
    "create_image": None,
    "compress": "zstd",
    "compress_level": None,
    "keep": False,
    "leave_running": False,
    "tcp_established": False,
    "ignore_rootfs": False,
    "ignore_volumes": False,
    "pre_checkpoint": False,
    "with_previous": False,
    "file_locks": False,
    "retries": 3,
    "sign_key": None,
    "encrypt_to": None,
    "encrypt_recipients_file": None,
}


# -- options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ({"ignore_rootfs": True}, ["web"], "ignore_rootfs has a meaning only with dest or create_image."),
        ({"ignore_volumes": True}, ["web"], "ignore_volumes has a meaning only with dest."),
        ({"sign_key": "/k", "create_image": "x"}, ["web"], "sign_key has a meaning only with dest."),
        ({"encrypt_to": ["age1x"]}, ["web"], "encrypt_to has a meaning only with dest."),
        ({"encrypt_recipients_file": "/r"}, ["web"], "encrypt_recipients_file has a meaning only with dest."),
        ({"encrypt_to": [], "dest": "/a.tar"}, ["web"], "encrypt_to is empty. Name a recipient"),
        ({"ignore_volumes": True, "create_image": "x"}, ["web"], "ignore_volumes has a meaning only with dest."),
        ({"compress_level": 0}, ["web"], "compress_level 0 is not from 1 to 19, the range of zstd."),
        ({"compress_level": 20}, ["web"], "compress_level 20 is not from 1 to 19"),
        ({"compress_level": 10, "compress": "gzip"}, ["web"], "compress_level 10 is not from 1 to 9"),
        ({"compress_level": 1, "compress": "none"}, ["web"], "compress_level 1 is not from 1 to 0"),
        ({"retries": -1}, ["web"], "retries is -1; it must be 0 or more."),
        ({"create_image": "x"}, ["web", "db"], "create_image takes one container; these are web, db."),
        ({"dest": "/nonexistent/a.tar"}, ["web", "db"], "dest must be a directory for several containers"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, names, message) -> None:
    with pytest.raises(FerryError) as error:
        check_options({**DEFAULTS, **options}, names)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["web"]),
        ({}, []),
        ({}, ["web", "db"]),
        ({"ignore_rootfs": True, "dest": "/a.tar"}, ["web"]),
        ({"ignore_rootfs": True, "create_image": "x"}, ["web"]),
        ({"ignore_volumes": True, "dest": "/a.tar"}, ["web"]),
        ({"compress_level": 19}, ["web"]),
        ({"compress_level": 9, "compress": "gzip"}, ["web"]),
        ({"retries": 0}, ["web"]),
        ({"create_image": "x"}, ["web"]),
        ({"dest": "/nonexistent/"}, ["web", "db"]),
        ({"dest": "/tmp"}, ["web", "db"]),
    ],
)
def test_options_that_make_sense_are_taken(options, names) -> None:
    check_options({**DEFAULTS, **options}, names)


@pytest.mark.parametrize(("compress", "name"), [("zstd", "web.tar.zst"), ("gzip", "web.tar.gz"), ("none", "web.tar")])
def test_archives_in_a_directory_have_the_containers_names(tmp_path, compress, name) -> None:
    params = {**DEFAULTS, "compress": compress}
    assert request_for({**params, "dest": str(tmp_path)}, "web").dest == str(tmp_path / name)
    assert request_for({**params, "dest": "/nonexistent/"}, "web").dest == f"/nonexistent/{name}"
    assert request_for({**params, "dest": "/nonexistent/a"}, "web").dest == "/nonexistent/a"


def test_options_reach_podman() -> None:
    assert request_for(DEFAULTS, "web").options == CheckpointOptions()
    for option in ("keep", "leave_running", "tcp_established", "ignore_rootfs", "pre_checkpoint", "with_previous"):
        assert request_for({**DEFAULTS, option: True}, "web").options == CheckpointOptions(**{option: True})
    request = request_for({**DEFAULTS, "compress_level": 7, "ignore_volumes": True, "retries": 0}, "web")
    assert (request.compress_level, request.ignore_volumes, request.retries) == (7, True, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "web", "all": True}, "mutually exclusive: name|all|latest"),
        ({"name": "web", "dest": "/a", "create_image": "x"}, "mutually exclusive: dest|create_image"),
        ({"name": "web", "pre_checkpoint": True, "with_previous": True}, "pre_checkpoint|with_previous"),
        ({"name": "web", "pre_checkpoint": True, "create_image": "x"}, "pre_checkpoint|create_image"),
        ({"name": "web", "compress": "xz"}, "value of compress must be one of"),
    ],
)
def test_options_that_exclude_each_other_are_refused(run_module, libpod, options, message) -> None:
    answer = run_module(podman_checkpoint, url=libpod.url, **options)
    assert answer["failed"] and message in answer["msg"]
    assert libpod.seen == []


# -- whole runs -----------------------------------------------------------------------------------------------


@pytest.fixture
def podman(libpod, inspect_json, info_json, archives):
    """A host with the running container web, that a checkpoint stops."""

    def stop(handler, request):
        libpod.on(f"GET /containers/{ID}/json", inspect_json("exited", State={"Checkpointed": True}))
        libpod.on("GET /containers/web/json", inspect_json("exited", State={"Checkpointed": True}))
        if "export" in request.query:
            libpod.archive(archives.checkpoint())(handler, request)
        else:
            handler.read_body(request)
            handler.reply(*libpod.json(200, {"Id": ID, "criu_statistics": {"frozen_time": 5}}))

    libpod.on("GET /info", info_json())
    libpod.on("GET /containers/json", [{"Id": ID, "Created": "2026-11-20T09:12:44Z"}])
    for name in (ID, "web"):
        libpod.on(f"GET /containers/{name}/json", inspect_json())
    libpod.on(f"GET /containers/{ID}/changes", [])
    libpod.on(CHECKPOINT, stop)
    return libpod


@pytest.mark.parametrize("options", [{"name": "web"}, {"name": ID}, {"all": True}, {"latest": True}])
def test_container_is_checkpointed_once(run_module, podman, options) -> None:
    first = run_module(podman_checkpoint, url=podman.url, **options)
    assert first["changed"]
    assert first["containers"][0]["statistics"] == {"frozen_time": 5}
    assert first["diff"] == {
        "before": {"web": {"status": "running"}},
        "after": {"web": {"status": "exited", "checkpoint": "in place"}},
    }
    second = run_module(podman_checkpoint, url=podman.url, **options)
    assert not second["changed"]
    assert podman.seen.count(CHECKPOINT) == 1


@pytest.mark.parametrize("dest", [None, "web.tar"])
def test_check_mode_touches_nothing(run_module, podman, tmp_path, dest) -> None:
    dest = dest and str(tmp_path / dest)
    answer = run_module(podman_checkpoint, check_mode=True, url=podman.url, name="web", dest=dest)
    assert answer["changed"]
    assert answer["containers"][0].get("dest") == dest
    assert {request.method for request in podman.requests} == {"GET"}
    assert list(tmp_path.iterdir()) == []


def test_archive_is_made_once(run_module, podman, tmp_path) -> None:
    options = {"url": podman.url, "name": "web", "dest": str(tmp_path)}
    first = run_module(podman_checkpoint, **options)["containers"][0]
    second = run_module(podman_checkpoint, **options)["containers"][0]
    assert inspect_file(str(tmp_path / "web.tar.zst")).config["name"] == "web"
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["digest"] == second["digest"]


def test_encrypted_archive_is_made_once(run_module, podman, tmp_path, age_key) -> None:
    options = {"url": podman.url, "name": "web", "dest": str(tmp_path), "encrypt_to": [age_key.recipient]}
    planned = run_module(podman_checkpoint, check_mode=True, **options)["containers"][0]
    assert (planned["dest"], planned["encrypted"]) == (f"{tmp_path}/web.tar.zst.age", True)
    first = run_module(podman_checkpoint, **options)["containers"][0]
    second = run_module(podman_checkpoint, **options)["containers"][0]
    assert (first["changed"], second["changed"]) == (True, False)
    for key in ("name", "id", "image", "image_id", "dest", "size", "digest", "compression", "encrypted", "statistics"):
        assert first[key] == second[key], key
    assert sorted(os.listdir(tmp_path)) == ["web.tar.zst.age", "web.tar.zst.age.about"]


def test_bad_recipients_and_missing_age_touch_nothing(run_module, podman, tmp_path, age_key, monkeypatch) -> None:
    options = {"url": podman.url, "name": "web", "dest": f"{tmp_path}/web.tar"}
    answers = [
        run_module(podman_checkpoint, **options, encrypt_to=["age1nobody"]),
        run_module(podman_checkpoint, **options, encrypt_recipients_file="/nowhere"),
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    answers.append(run_module(podman_checkpoint, **options, encrypt_to=[age_key.recipient]))
    for answer, said in zip(answers, ("age1nobody", "/nowhere", "The program age is missing on this host.")):
        assert answer["failed"] and said in answer["msg"]
    assert {request.method for request in podman.requests} == {"GET"}
    assert os.listdir(tmp_path) == []


def test_refusal_names_every_reason(run_module, podman, inspect_json) -> None:
    stopped = inspect_json("exited", HostConfig={"AutoRemove": True})
    podman.on("GET /containers/web/json", stopped)
    answer = run_module(podman_checkpoint, url=podman.url, name="web")
    assert answer["failed"] and not answer["changed"]
    assert [finding["code"] for finding in answer["findings"]] == ["not_running", "auto_remove"]
    assert answer["msg"].startswith("Checkpointing web is refused, nothing was touched: [not_running]")


def test_failure_tells_what_podman_and_criu_said(run_module, podman, inspect_json, tmp_path) -> None:
    (tmp_path / "dump.log").write_text("(00.1)  1: Error (criu/files-reg.c:1831): Can't lookup mount\n")
    podman.on("GET /containers/web/json", inspect_json(OCIConfigPath=str(tmp_path / "config.json")))
    podman.on(f"GET /containers/{ID}/top", {"Titles": [], "Processes": []})
    podman.on(CHECKPOINT, podman.error(500, "exit status 1", "crun checkpoint failed: exit status 1"))
    answer = run_module(podman_checkpoint, url=podman.url, name="web")
    assert answer["failed"]
    assert answer["criu_log"] == ["Error (criu/files-reg.c:1831): Can't lookup mount"]
    assert (answer["status"], answer["cause"]) == (500, "exit status 1")
    assert "The container web still runs." in answer["msg"]


def test_those_before_a_failure_are_told(run_module, podman, inspect_json) -> None:
    other = "0a" * 32
    podman.on("GET /containers/db/json", inspect_json(Id=other, Name="db"))
    podman.on(f"GET /containers/{other}/json", inspect_json(Id=other, Name="db"))
    podman.on(f"GET /containers/{other}/top", {"Titles": [], "Processes": []})
    podman.on(f"POST /containers/{other}/checkpoint", podman.error(500, "no"))
    answer = run_module(podman_checkpoint, url=podman.url, name=["web", "db"])
    assert answer["failed"] and answer["changed"]
    assert [container["name"] for container in answer["containers"]] == ["web"]


@pytest.mark.parametrize("options", [{}, {"all": False}, {"latest": False}])
def test_something_must_be_selected(run_module, podman, options) -> None:
    answer = run_module(podman_checkpoint, url=podman.url, **options)
    assert answer["failed"] and "No container is selected." in answer["msg"]
    assert CHECKPOINT not in podman.seen


def test_empty_list_selects_nothing(run_module, podman) -> None:
    answer = run_module(podman_checkpoint, url=podman.url, name=[])
    assert not answer["changed"] and answer["containers"] == []
    assert CHECKPOINT not in podman.seen


def test_unknown_container_is_a_failure(run_module, podman) -> None:
    answer = run_module(podman_checkpoint, url=podman.url, name="absent")
    assert answer["failed"] and "Inspecting container absent failed" in answer["msg"]


def test_service_that_is_not_there_is_a_failure(run_module) -> None:
    answer = run_module(podman_checkpoint, url="unix:///nonexistent", name="web")
    assert answer["failed"] and "no podman service listens there" in answer["msg"]


def test_environment_names_the_service_as_for_podman(run_module, podman, monkeypatch) -> None:
    monkeypatch.setenv("CONTAINER_HOST", podman.url)
    assert run_module(podman_checkpoint, name="web")["changed"]
