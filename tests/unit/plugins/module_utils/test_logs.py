# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import json

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _logs
from ansible_collections.ferry.podman.plugins.module_utils._logs import read_log

LOG = b"(00.1) Running on node1 \xff\n(00.2)      1: Error (criu/sk-inet.c:191): In-flight connection (l)\n"
LINE = "Error (criu/sk-inet.c:191): In-flight connection (l)"
READER = "ferry-log-1f1f1f1f1f1f"
CREATE, COPY, REMOVE = "POST /containers/create", f"GET /containers/{READER}/archive", f"DELETE /containers/{READER}"


@pytest.fixture
def container(make_container, tmp_path):
    return make_container(OCIConfigPath=str(tmp_path / "config.json"))


def test_log_is_read_from_the_containers_directory(client, libpod, container, tmp_path) -> None:
    (tmp_path / "dump.log").write_bytes(LOG)
    assert read_log(client, container, "dump.log") == [LINE]
    assert read_log(client, container, "restore.log") == []
    assert libpod.seen == []


def test_long_log_is_read_from_its_end(client, container, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_logs, "MOST_LOG", 100)
    (tmp_path / "dump.log").write_bytes(b"(00.1) Error (criu/x.c:1): first\n" * 50 + LOG[-80:])
    assert read_log(client, container, "dump.log")[-1] == LINE
    assert len(read_log(client, container, "dump.log")) < 4


def test_container_that_never_ran_has_no_log(client, make_container) -> None:
    assert read_log(client, make_container(OCIConfigPath=""), "dump.log") == []


# -- of another host ------------------------------------------------------------------------------------------


@pytest.fixture
def remote(forwarded, libpod):
    libpod.on(CREATE, libpod.json(201, {"Id": "reader"}))
    libpod.on(REMOVE, [])
    return forwarded(libpod)


def test_log_of_another_host_is_read_through_a_container(remote, libpod, container, archives, tmp_path) -> None:
    libpod.on(COPY, libpod.archive(archives.pack([archives.entry("dump.log", LOG)])))
    assert read_log(remote, container, "dump.log") == [LINE]
    assert libpod.seen == [CREATE, COPY, REMOVE]
    assert libpod.request(COPY).query == {"path": f"/host{tmp_path}/dump.log"}
    spec = json.loads(libpod.request(CREATE).body)
    assert spec["image"] == container.image_id
    assert spec["mounts"] == [
        {"type": "bind", "source": "/", "destination": "/host", "options": ["ro", "rbind"]},
    ]


def test_long_log_of_another_host_is_read_from_its_end(remote, libpod, container, archives, monkeypatch) -> None:
    monkeypatch.setattr(_logs, "MOST_LOG", 100)
    log = b"(00.1) Error (criu/x.c:1): first\n" * 50 + LOG[-80:]
    libpod.on(COPY, libpod.archive(archives.pack([archives.entry("dump.log", log)])))
    lines = read_log(remote, container, "dump.log")
    assert lines[-1] == LINE
    assert len(lines) < 4


@pytest.mark.parametrize("answer", ["error", "nothing", "garbage", "end"])
def test_log_that_cannot_be_read_is_no_failure_of_its_own(remote, libpod, container, answer) -> None:
    answers = {
        "error": libpod.error(404, "no such file"),
        "nothing": (200, b""),
        "garbage": libpod.archive(b"garbage"),
        "end": libpod.archive(bytes(1024)),
    }
    libpod.on(COPY, answers[answer])
    assert read_log(remote, container, "dump.log") == []
    assert libpod.seen == [CREATE, COPY, REMOVE]


@pytest.mark.parametrize(("refused", "lines"), [(CREATE, []), (REMOVE, [LINE])])
def test_service_that_refuses_the_reader_is_no_failure_of_its_own(
    remote, libpod, container, archives, refused, lines
) -> None:
    libpod.on(COPY, libpod.archive(archives.pack([archives.entry("dump.log", LOG)])))
    libpod.on(refused, libpod.error(500, "no space left on device"))
    assert read_log(remote, container, "dump.log") == lines


def test_reader_that_a_killed_run_left_is_made_anew(remote, libpod, container, archives) -> None:
    libpod.on(COPY, libpod.archive(archives.pack([archives.entry("dump.log", LOG)])))
    libpod.on(CREATE, libpod.error(500, "the name is in use"), libpod.json(201, {"Id": "reader"}))
    assert read_log(remote, container, "dump.log") == [LINE]
    assert libpod.seen == [CREATE, REMOVE, CREATE, COPY, REMOVE]
