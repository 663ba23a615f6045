# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import threading
import time

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _libpod, _transport
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    ArchiveError,
    FerryError,
    NotFound,
    ProtocolError,
    TransportError,
    UnsupportedParameter,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    RestartPolicy,
    RestoreOptions,
    parse_version,
)

IMPORT = "POST /containers/import/restore"
BLOCK = bytes(64 * 1024)


# -- versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("5.4.2", (5, 4, 2)),
        ("5.4", (5, 4, 0)),
        ("6", (6, 0, 0)),
        ("6.0.0-rc1", (6, 0, 0)),
        ("5.8.3-dev", (5, 8, 3)),
        ("4.9.4+ds1", (4, 9, 4)),
        ("5.0.0~rc2", (5, 0, 0)),
        ("5.10.1.2", (5, 10, 1)),
        ("5.rc.1", (5, 0, 0)),
    ],
)
def test_version_is_its_first_three_numbers(text: str, version: tuple) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "v5.4.2", "podman", "-5", "\u00b2.1"])
def test_what_does_not_begin_with_a_number_is_no_version(text: str) -> None:
    with pytest.raises(ProtocolError, match="not a version of podman"):
        parse_version(text)


def test_version_is_asked_for_once(client, libpod) -> None:
    assert client.version == client.version == (5, 8, 2)
    assert [request.target for request in libpod.requests] == ["/v5.0.0/libpod/_ping"]


def test_too_old_podman_is_refused(client, libpod) -> None:
    libpod.headers["Libpod-API-Version"] = "4.3.1"
    with pytest.raises(FerryError, match=r"podman 4\.3\.1\. This collection needs podman 4\.4\.0 or newer"):
        client.info()
    assert libpod.seen == []


def test_oldest_podman_is_taken(client, libpod) -> None:
    libpod.headers["Libpod-API-Version"] = "4.4.0"
    assert client.version == (4, 4, 0)


def test_other_http_service_is_not_taken_for_libpod(client, libpod) -> None:
    del libpod.headers["Libpod-API-Version"]
    with pytest.raises(ProtocolError, match="not as a libpod service does"):
        client.info()


# -- options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [CheckpointOptions(), RestoreOptions()])
def test_defaults_send_nothing(options) -> None:
    assert options.query() == {}


CHECKPOINT = {
    "keep": (True, {"keep": "true"}),
    "leave_running": (True, {"leaveRunning": "true"}),
    "tcp_established": (True, {"tcpEstablished": "true"}),
    "ignore_rootfs": (True, {"ignoreRootFS": "true"}),
    "pre_checkpoint": (True, {"preCheckpoint": "true"}),
    "with_previous": (True, {"withPrevious": "true"}),
    "file_locks": (True, {"fileLocks": "true"}),
    "create_image": ("saved:1", {"createImage": "saved:1"}),
}
RESTORE = {
    "name": ("copy", {"name": "copy"}),
    "keep": (True, {"keep": "true"}),
    "tcp_established": (True, {"tcpEstablished": "true"}),
    "tcp_close": (True, {"tcpClose": "true"}),
    "ignore_rootfs": (True, {"ignoreRootFS": "true"}),
    "ignore_volumes": (True, {"ignoreVolumes": "true"}),
    "ignore_static_ip": (True, {"ignoreStaticIP": "true"}),
    "ignore_static_mac": (True, {"ignoreStaticMAC": "true"}),
    "file_locks": (True, {"fileLocks": "true"}),
    "pod": ("p1", {"pod": "p1"}),
    "publish": (["8080:80", "8443:443"], {"publishPorts": "8080:80 8443:443"}),
}


@pytest.mark.parametrize(("kind", "known"), [(CheckpointOptions, CHECKPOINT), (RestoreOptions, RESTORE)])
def test_every_option_is_podmans_parameter(kind, known) -> None:
    assert {f.name for f in dataclasses.fields(kind)} == set(known)
    for name, (value, query) in known.items():
        assert kind(**{name: value}).query() == query


def test_ports_are_one_value_with_spaces(client, libpod) -> None:
    libpod.on(IMPORT, {"Id": "1"})
    client.import_checkpoint(iter([b"x"]), RestoreOptions(publish=["8080:80", "[::1]:8443:443/tcp"]), "Restoring")
    request = libpod.request(IMPORT)
    assert request.query["publishPorts"] == "8080:80 [::1]:8443:443/tcp"
    assert request.repeated == []


@pytest.mark.parametrize(
    ("version", "options", "parameter", "since"),
    [
        ("5.4.2", RestoreOptions(tcp_close=True), "tcpClose", "5.7.0"),
        ("5.6.9", RestoreOptions(tcp_close=True), "tcpClose", "5.7.0"),
    ],
)
def test_parameter_that_the_server_would_ignore_is_not_sent(client, libpod, version, options, parameter, since) -> None:
    libpod.headers["Libpod-API-Version"] = version
    with pytest.raises(UnsupportedParameter, match=f"{version}, which ignores {parameter}; it is known since {since}"):
        client.import_checkpoint(iter([b"x"]), options, "Restoring")
    assert libpod.seen == []


def test_parameter_is_sent_where_it_counts(client, libpod) -> None:
    libpod.headers["Libpod-API-Version"] = "5.7.0"
    libpod.on(IMPORT, {"Id": "1"})
    client.import_checkpoint(iter([b"x"]), RestoreOptions(tcp_close=True), "Restoring")
    assert libpod.request(IMPORT).query["tcpClose"] == "true"


def test_restart_policy_before_5_1_is_not_sent(client, libpod, make_container) -> None:
    libpod.headers["Libpod-API-Version"] = "5.0.3"
    with pytest.raises(UnsupportedParameter, match="restartPolicy"):
        client.update_restart_policy(make_container(), RestartPolicy("no", 0))
    assert libpod.seen == []


@pytest.mark.parametrize(
    ("policy", "query"),
    [
        (RestartPolicy("no", 0), {"restartPolicy": "no"}),
        (RestartPolicy("always", 3), {"restartPolicy": "always"}),
        (RestartPolicy("on-failure", 0), {"restartPolicy": "on-failure"}),
        (RestartPolicy("on-failure", 3), {"restartPolicy": "on-failure", "restartRetries": "3"}),
    ],
)
def test_restart_policy_is_set(client, libpod, make_container, policy, query) -> None:
    container = make_container()
    update = f"POST /containers/{container.id}/update"
    libpod.on(update, {"ID": "1"})
    client.update_restart_policy(container, policy)
    assert libpod.request(update).query == query
    assert json.loads(libpod.request(update).body) == {"r_limits": []}


def test_limits_are_repeated_with_the_policy(client, libpod, make_container) -> None:
    """Or podman would forget them."""
    container = make_container(HostConfig={"Ulimits": [{"Name": "RLIMIT_NOFILE", "Soft": 512, "Hard": 1024}]})
    update = f"POST /containers/{container.id}/update"
    libpod.on(update, {"ID": "1"})
    client.update_restart_policy(container, RestartPolicy("no", 0))
    assert json.loads(libpod.request(update).body) == {
        "r_limits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}]
    }


def test_archive_is_unpacked_with_its_owners(client, libpod, make_container) -> None:
    container = make_container()
    put = f"PUT /containers/{container.id}/archive"
    libpod.on(put, 200)
    client.copy_in(container, "/srv", b"tar")
    request = libpod.request(put)
    assert request.query == {"path": "/srv", "copyUIDGID": "false"}
    assert (request.body, request.headers["Content-Type"]) == (b"tar", "application/x-tar")


# -- what inspect answers -------------------------------------------------------------------------------------


def test_host_tells_about_its_runtime(make_host) -> None:
    host = make_host()
    assert (host.runtime, host.runtime_has_criu, host.rootless) == ("crun", True, False)


def test_crun_without_criu_is_seen(make_host) -> None:
    assert (
        make_host(host={"ociRuntime": {"version": "crun version 1.8.1\n+SYSTEMD +SELINUX"}}).runtime_has_criu is False
    )


def test_runc_does_not_tell_whether_it_has_criu(make_host) -> None:
    host = make_host(host={"ociRuntime": {"name": "runc", "version": "runc version 1.1.15\nspec: 1.2.0"}})
    assert host.runtime_has_criu is None


def test_host_spools_in_var_tmp_unless_told_otherwise(make_host) -> None:
    assert make_host().temporary_directory == "/srv/tmp"
    assert make_host(store={"imageCopyTmpDir": ""}).temporary_directory == "/var/tmp"


def test_hosts_summary_has_what_hosts_are_compared_by(make_host) -> None:
    summary = make_host((5, 4, 2)).summary()
    assert summary["podman_version"] == "5.4.2"
    assert summary["graph_root_free"] == 3000
    assert summary["runtime"] == {
        "name": "crun",
        "path": "/usr/bin/crun",
        "version": "crun version 1.28",
        "has_criu": True,
    }


def test_containers_properties(make_container) -> None:
    container = make_container(
        HostConfig={"AutoRemove": True, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4}},
        Config={"Labels": {"ferry.priority": "3"}},
        Pod="p" * 64,
        Dependencies=["d" * 64],
    )
    assert container.running and container.auto_remove
    assert container.restart_policy == RestartPolicy("on-failure", 4)
    assert container.labels == {"ferry.priority": "3"}
    assert container.volumes == ["data"]
    assert list(container.networks) == ["lan"]
    assert container.addresses == ["10.9.0.7"]
    assert container.dependencies == ["d" * 64]
    assert container.pod == "p" * 64
    assert container.bundle.endswith("/userdata")


def test_absent_keys_are_empty(make_container) -> None:
    container = make_container(
        "created", Mounts=None, NetworkSettings=None, Dependencies=None, OCIConfigPath="", Config={"Labels": None}
    )
    assert container.volumes == container.dependencies == []
    assert container.networks == container.labels == {}
    assert container.addresses == []
    assert container.bundle is None
    assert container.pod is None
    assert not container.restart_policy.active


def test_addresses_are_those_of_all_networks(make_container) -> None:
    back = {"NetworkID": "back", "IPAddress": "10.8.0.7", "GlobalIPv6Address": "2001:db8::7"}
    container = make_container(NetworkSettings={"Networks": {"back": back}})
    assert container.addresses == ["10.9.0.7", "10.8.0.7", "2001:db8::7"]


def test_networks_of_the_host_are_not_the_containers(make_container) -> None:
    assert make_container(HostConfig={"NetworkMode": "host"}).networks == {}


def test_policy_no_is_none(make_container) -> None:
    assert not make_container(HostConfig={"RestartPolicy": {"Name": "no"}}).restart_policy.active
    assert make_container(HostConfig={"RestartPolicy": {"Name": "unless-stopped"}}).restart_policy.active


def test_checkpointed_container_does_not_run(make_container) -> None:
    assert make_container("exited", State={"Checkpointed": True}).checkpointed
    assert not make_container("exited").checkpointed
    # podman leaves the flag in place when it restores (container_internal_common.go).
    assert not make_container("running", State={"Checkpointed": True}).checkpointed


def test_containers_summary_hides_times_that_no_longer_count(make_container) -> None:
    state = {"CheckpointedAt": "2026-11-20T10:00:00Z", "RestoredAt": "2026-11-20T11:00:00Z", "Restored": False}
    summary = make_container("running", State=state).summary()
    assert (summary["checkpointed_at"], summary["restored_at"]) == (None, None)
    state.update(Checkpointed=True, Restored=True)
    assert make_container("exited", State=state).summary()["checkpointed_at"] == "2026-11-20T10:00:00Z"
    assert make_container("running", State=state).summary()["restored_at"] == "2026-11-20T11:00:00Z"


def test_ports_are_those_of_the_host_that_are_bound(make_container) -> None:
    assert make_container().ports == []
    bound = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "80"}], "53/udp": None}
    own = make_container(HostConfig={"PortBindings": bound})
    assert own.summary()["ports"] == ["0.0.0.0:8080/tcp", "[::1]:80/tcp"]
    # Of a container in a pod they are those of the pod.
    in_pod = make_container(NetworkSettings={"Ports": {"53/udp": [{"HostIp": "10.0.0.1", "HostPort": "53"}]}})
    assert in_pod.ports == ["10.0.0.1:53/udp"]


@pytest.mark.parametrize(
    ("mode", "joined", "own"),
    [("bridge", ["lan"], ["lan"]), ("container:1f1f", ["lan"], []), ("host", [], []), ("none", [], [])],
)
def test_networks_of_a_pod_are_joined(make_container, mode, joined, own) -> None:
    container = make_container(HostConfig={"NetworkMode": mode})
    assert (list(container.joined_networks), list(container.networks)) == (joined, own)


def test_infra_containers_are_not_listed(client, libpod) -> None:
    libpod.on("GET /containers/json", [{"Id": "1", "IsInfra": False}, {"Id": "2", "IsInfra": True}])
    assert [entry["Id"] for entry in client.containers()] == ["1"]
    assert libpod.requests[0].query == {"all": "true"}


def test_empty_lists_may_be_null(client, libpod) -> None:
    null = libpod.json(200, None)
    for path in ("/volumes/json", "/secrets/json", "/containers/web/changes"):
        libpod.on(f"GET {path}", null)
    assert client.volume_names() == client.secret_names() == set()


# -- requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "target"),
    [
        (lambda c: c.container("a/b"), "/containers/a%2Fb/json"),
        (lambda c: c.container("a b"), "/containers/a%20b/json"),
        (lambda c: c.container("a?x=1#y"), "/containers/a%3Fx%3D1%23y/json"),
        (lambda c: c.container("../images"), "/containers/..%2Fimages/json"),
        (lambda c: c.container("\u00e9"), "/containers/%C3%A9/json"),
        (lambda c: c.image("quay.io:443/shop/web:1.4"), "/images/quay.io%3A443%2Fshop%2Fweb%3A1.4/json"),
        (lambda c: c.image("web@sha256:ab"), "/images/web%40sha256%3Aab/json"),
        (lambda c: c.network("a/b"), "/networks/a%2Fb/json"),
        (lambda c: c.pod("a/b"), "/pods/a%2Fb/json"),
        (lambda c: c.remove_volume("a/b"), "/volumes/a%2Fb"),
        (lambda c: c.restore("quay.io/web:1", RestoreOptions(), "R"), "/containers/quay.io%2Fweb%3A1/restore"),
    ],
)
def test_names_are_one_encoded_segment_of_the_path(client, libpod, call, target) -> None:
    with contextlib.suppress(NotFound):
        call(client)
    assert libpod.requests[-1].target.partition("?")[0] == f"/v5.0.0/libpod{target}"


def test_archive_is_uploaded_as_a_tar_in_chunks(client, libpod) -> None:
    libpod.on(IMPORT, {"Id": "1"})
    answer = client.import_checkpoint(iter([b"one", b"two"]), RestoreOptions(), "Restoring")
    request = libpod.request(IMPORT)
    assert answer == {"Id": "1"}
    assert request.headers["Content-Type"] == "application/x-tar"
    assert request.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in request.headers
    assert (request.body, request.whole) == (b"onetwo", True)
    assert request.query == {"import": "true", "printStats": "true"}


def test_image_is_uploaded_as_a_tar(client, libpod) -> None:
    libpod.on("POST /images/load", {"Names": ["web"]})
    client.load_image(iter([b"image"]), "Loading")
    request = libpod.request("POST /images/load")
    assert request.headers["Content-Type"] == "application/x-tar"
    assert request.body == b"image"


def test_upload_whose_source_fails_has_no_end(client, libpod) -> None:
    libpod.on(IMPORT, {"Id": "1"})

    def broken():
        yield b"one"
        raise ArchiveError("cut short")

    with pytest.raises(ArchiveError, match="cut short"):
        client.import_checkpoint(broken(), RestoreOptions(), "Restoring")
    request = libpod.request(IMPORT)
    assert (request.body, request.whole) == (b"one", False)


def test_answer_before_the_upload_is_over_is_read(client, libpod) -> None:
    def refuse(handler, request):
        handler.rfile.readline()
        handler.reply(*libpod.error(500, "no space left on device", "write /var/tmp/restore1: no space left on device"))
        handler.close_connection = True

    libpod.on(IMPORT, refuse)
    sent = []

    def endless():
        for _number in range(100_000):
            sent.append(1)
            yield BLOCK

    with pytest.raises(ApiError, match="write /var/tmp/restore1: no space left on device") as error:
        client.import_checkpoint(endless(), RestoreOptions(), "Restoring")
    assert (error.value.status, error.value.cause) == (500, "no space left on device")
    assert len(sent) < 100


def test_server_may_pause_while_it_receives(client, libpod, monkeypatch) -> None:
    """Also on a connection that is used again, where urllib3 would send under the timeout for connecting."""
    for module in (_libpod, _transport):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.1, raising=False)

    def hesitate(handler, request):
        time.sleep(0.4)
        handler.read_body(request)
        handler.reply(*libpod.json(200, {"Id": "1"}))

    libpod.on(IMPORT, hesitate)
    libpod.on("GET /volumes/json", [])
    client.volume_names()
    client.import_checkpoint(iter([BLOCK] * 100), RestoreOptions(), "Restoring")
    assert libpod.requests[0].connection is libpod.requests[1].connection
    assert len(libpod.request(IMPORT).body) == 100 * len(BLOCK)


def test_connection_that_the_server_closed_meanwhile_is_made_anew(client, libpod) -> None:
    closed = threading.Event()

    def answer_and_close(handler, request):
        handler.reply(*libpod.json(200, []))
        handler.close_connection = True
        handler.connection.shutdown(2)
        closed.set()

    libpod.on("GET /volumes/json", answer_and_close)
    client.volume_names()
    assert closed.wait(5)
    assert client.volume_names() == set()
    assert len({request.connection for request in libpod.requests}) == 2


def test_environment_of_proxies_has_no_effect(client, libpod, monkeypatch, tmp_path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine libpod login root password secret\ndefault login root password secret\n")
    netrc.chmod(0o600)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(netrc))
    libpod.on("GET /volumes/json", [])
    client.volume_names()
    (request,) = libpod.requests
    assert request.target == "/v5.0.0/libpod/volumes/json"
    assert "Authorization" not in request.headers


def test_redirects_are_not_followed(client, libpod) -> None:
    libpod.on("GET /volumes/json", (301, b"", {"Location": "http://libpod/elsewhere"}))
    with pytest.raises(ApiError):
        client.volume_names()
    assert libpod.seen == ["GET /volumes/json"]


@pytest.mark.parametrize(("force", "sent"), [(True, "true"), (False, "false")])
def test_container_is_removed_with_its_anonymous_volumes(client, libpod, force, sent) -> None:
    libpod.on("DELETE /containers/web", [])
    client.remove_container("web", force=force)
    assert libpod.request("DELETE /containers/web").query == {"force": sent, "ignore": "true", "volumes": "true"}


@pytest.mark.parametrize("call", [lambda c: c.remove_volume("data"), lambda c: c.remove_image("web")])
def test_what_is_gone_already_needs_no_removal(client, libpod, call) -> None:
    call(client)
    assert [request.method for request in libpod.requests] == ["DELETE"]


def test_volume_in_use_is_not_removed_by_force(client, libpod) -> None:
    libpod.on("DELETE /volumes/data", libpod.error(409, "volume is being used"))
    with pytest.raises(ApiError, match="being used"):
        client.remove_volume("data")
    assert libpod.request("DELETE /volumes/data").query == {}


def test_container_that_is_removed_meanwhile_is_left_out(client, libpod, inspect_json) -> None:
    libpod.on("GET /containers/json", [{"Id": "1"}, {"Id": "2"}, {"Id": "3"}])
    libpod.on("GET /containers/1/json", inspect_json(Name="one"))
    libpod.on("GET /containers/3/json", inspect_json(Name="three"))
    assert [container.name for container in client.each_container()] == ["one", "three"]


@pytest.mark.parametrize(("answer", "alive"), [(200, True), (500, False), (409, False)])
def test_container_lives_while_it_has_processes(client, libpod, make_container, answer, alive) -> None:
    container = make_container()
    libpod.on(f"GET /containers/{container.id}/top", libpod.json(answer, {"cause": "x", "message": "x"}))
    assert client.is_alive(container) is alive


def test_checkpoint_in_place_asks_for_statistics(client, libpod, make_container) -> None:
    container = make_container()
    request = f"POST /containers/{container.id}/checkpoint"
    libpod.on(request, {"criu_statistics": {"frozen_time": 7}})
    assert client.checkpoint(container, CheckpointOptions(keep=True))["criu_statistics"] == {"frozen_time": 7}
    assert libpod.request(request).query == {"keep": "true", "printStats": "true"}


def test_exported_checkpoint_comes_as_a_stream(client, libpod, make_container) -> None:
    container = make_container()
    request = f"POST /containers/{container.id}/checkpoint"
    data = os.urandom(100_000)
    libpod.on(request, libpod.archive(data))
    with client.export_checkpoint(container, CheckpointOptions(tcp_established=True)) as stream:
        assert stream.read(1000) == data[:1000]
        assert b"".join(stream.chunks()) == data[1000:]
        assert stream.read() == b""
    assert libpod.request(request).query == {"tcpEstablished": "true", "export": "true"}


def test_image_is_saved_with_its_id(client, libpod) -> None:
    libpod.on("GET /images/web/get", libpod.archive(b"image"))
    with client.save_image("web") as stream:
        assert b"".join(stream.chunks()) == b"image"
    assert libpod.requests[-1].query == {"format": "docker-archive"}


def test_changes_are_those_against_the_image(client, libpod, make_container) -> None:
    container = make_container()
    libpod.on(f"GET /containers/{container.id}/changes", [{"Path": "/etc/motd", "Kind": 0}])
    assert client.changes(container) == [{"Path": "/etc/motd", "Kind": 0}]
    assert libpod.requests[-1].query == {"diffType": "container"}


def test_mount_answers_with_a_bare_path(client, libpod, make_container) -> None:
    container = make_container()
    libpod.on(f"POST /containers/{container.id}/mount", libpod.text(200, "/var/lib/x/merged\n"))
    assert client.mount(container) == "/var/lib/x/merged"


@pytest.mark.parametrize(("mode", "is_directory"), [(0o20000000755, True), (0o755, False), (0o1000000777, False)])
def test_directories_are_told_by_gos_mode(client, libpod, make_container, mode, is_directory) -> None:
    container = make_container()
    stat = base64.b64encode(json.dumps({"name": "etc", "mode": mode}).encode()).decode()
    libpod.on(f"HEAD /containers/{container.id}/archive", (200, b"", {"X-Docker-Container-Path-Stat": stat}))
    assert client.is_directory(container, "/etc") is is_directory
    assert libpod.requests[-1].query == {"path": "/etc"}


def test_created_container_is_known_by_its_id(client, libpod) -> None:
    libpod.on("POST /containers/create", libpod.json(201, {"Id": "abc", "Warnings": []}))
    assert client.create_container({"name": "hold"}) == "abc"
    assert json.loads(libpod.request("POST /containers/create").body) == {"name": "hold"}


# -- errors ---------------------------------------------------------------------------------------------------


def test_podmans_error_is_told_with_its_cause(client, libpod, make_container) -> None:
    message = "`/usr/bin/crun checkpoint 1f1f` failed: exit status 1"
    container = make_container()
    libpod.on(f"POST /containers/{container.id}/checkpoint", libpod.error(500, "exit status 1", message))
    with pytest.raises(ApiError, match="Checkpointing container web failed: `/usr/bin/crun") as error:
        client.checkpoint(container, CheckpointOptions())
    assert not isinstance(error.value, NotFound)
    assert error.value.facts == {"status": 500, "cause": "exit status 1"}


def test_404_is_not_found(client, libpod) -> None:
    libpod.on("GET /containers/web/json", libpod.error(404, "no such container", "no container with name web found"))
    with pytest.raises(NotFound, match="Inspecting container web failed: no container with name web found"):
        client.container("web")
    assert client.find_container("web") is None


@pytest.mark.parametrize("status", [404, 405])
def test_routers_errors_are_plain_text(client, libpod, status) -> None:
    libpod.on("GET /info", libpod.text(status, "Not Found\n"))
    with pytest.raises(ApiError, match="failed: Not Found") as error:
        client.info()
    assert error.value.status == status
    assert isinstance(error.value, NotFound) == (status == 404)


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b'"text"', b'{"message": "x"}', b"\xff\xfe", b"{"])
def test_error_of_no_known_form_is_told_all_the_same(client, libpod, body) -> None:
    libpod.on("GET /info", (500, body, {"Content-Type": "application/json"}))
    with pytest.raises(ApiError, match="Asking for the host's facts failed: .") as error:
        client.info()
    assert error.value.status == 500


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"host": ', b"\xff"])
def test_answer_that_is_not_json_is_told(client, libpod, body) -> None:
    libpod.on("GET /info", (200, body, {"Content-Type": "application/json"}))
    with pytest.raises(ProtocolError, match="the answer is not JSON"):
        client.info()


def test_missing_socket_says_what_to_start(connect) -> None:
    with pytest.raises(TransportError, match="no podman service listens there.*systemctl enable --now podman.socket"):
        connect("unix:///nonexistent/podman.sock").info()


def test_refusing_socket_says_what_to_start(connect, refusing_socket) -> None:
    with pytest.raises(TransportError, match="no podman service listens there.*podman.socket"):
        connect(f"unix://{refusing_socket}").info()


def test_socket_of_root_says_how_to_become(connect, libpod) -> None:
    os.chmod(libpod.path, 0)
    user = os.geteuid()
    client = connect(libpod.url)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(TransportError, match="permission denied.*use become"):
            client.info()
    finally:
        os.seteuid(user)


def test_silence_is_given_up_after_the_timeout(connect, libpod) -> None:
    libpod.on("GET /volumes/json", libpod.silent)
    begun = time.monotonic()
    with pytest.raises(TransportError, match="Listing volumes .*no answer within 1 s.*raise the option timeout"):
        connect(libpod.url, timeout=0.6).volume_names()
    assert 0.5 < time.monotonic() - begun < 5


def test_silence_in_the_middle_of_a_stream_is_given_up(connect, libpod, make_container) -> None:
    container = make_container()

    def stall(handler, request):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        libpod.silent(handler, request)

    libpod.on(f"GET /containers/{container.id}/export", stall)
    with connect(libpod.url, timeout=0.5).export_rootfs(container) as stream:
        assert stream.read(5) == b"hello"
        with pytest.raises(TransportError, match="Reading the files of container web: the answer broke off"):
            stream.read(5)


def test_upload_that_nobody_reads_is_given_up(connect, libpod) -> None:
    libpod.on(IMPORT, lambda handler, request: libpod.stopping.wait(20))
    with pytest.raises(TransportError, match="no answer within"):
        connect(libpod.url, timeout=0.3).import_checkpoint(iter([BLOCK] * 1000), RestoreOptions(), "Restoring")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"-ERR unknown command 'GET'\r\n",
        b"SSH-2.0-OpenSSH_10.0\r\n",
        b"HTTP/1.1 abc def\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_nonsense_is_no_answer(client, libpod, answer) -> None:
    libpod.on("GET /volumes/json", libpod.raw(answer))
    with pytest.raises(TransportError, match="Listing volumes"):
        client.volume_names()


def test_stream_that_ends_anywhere_before_its_last_chunk_is_no_whole_one(client, libpod, make_container) -> None:
    container = make_container()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"b\r\nhello world\r\n3\r\n!!!\r\n0\r\n"
    for length in range(len(body) - 2):
        libpod.on(f"GET /containers/{container.id}/export", libpod.raw(head + body[:length]))
        with pytest.raises(TransportError), client.export_rootfs(container) as stream:
            pytest.fail(f"{length} of {len(body)} bytes were taken for all: {b''.join(stream.chunks())!r}")
    libpod.on(f"GET /containers/{container.id}/export", libpod.raw(head + body + b"\r\n"))
    with client.export_rootfs(container) as stream:
        assert b"".join(stream.chunks()) == b"hello world!!!"


def test_error_whose_text_breaks_off_is_told(client, libpod, make_container) -> None:
    container = make_container()
    head = b"HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n"
    libpod.on(f"GET /containers/{container.id}/export", libpod.raw(head + b'20\r\n{"cause": '))
    with pytest.raises(ApiError, match="HTTP 500, and the text broke off"):
        client.export_rootfs(container)


def test_error_without_a_remedy_is_podmans_own_words(client, libpod) -> None:
    libpod.on("GET /volumes/json", libpod.hang_up)
    with pytest.raises(TransportError) as error:
        client.volume_names()
    assert "raise the option timeout" not in str(error.value)
    assert "systemctl" not in str(error.value)
