# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import ast
import dataclasses
import inspect

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _verdicts
from ansible_collections.ferry.podman.plugins.module_utils._estimate import Estimate
from ansible_collections.ferry.podman.plugins.module_utils._facts import Listener, ProcessFacts
from ansible_collections.ferry.podman.plugins.module_utils._verdicts import MoveFacts, MoveOptions, move_findings

GIB = 1 << 30
SMALL = Estimate.of(1_000_000, 0, 0)
MACVLAN = {"name": "lan", "driver": "macvlan", "network_interface": "eth7"}


@pytest.fixture
def found(make_container, make_host, host_facts):
    """Findings of a move that fits in every way but those that are given."""

    def find(
        container=None,
        source=None,
        destination=None,
        here=None,
        there=None,
        options=None,
        podman=None,
        unanswered="",
        **facts,
    ):
        base = MoveFacts(
            container=make_container(**(container or {})),
            source=make_host(**(source or {})),
            destination=make_host(podman or (5, 8, 2), **(destination or {})),
            here=host_facts(**(here or {})),
            there=host_facts(**(there or {})),
            estimate=SMALL,
            processes=ProcessFacts(),
            kinds={},
        )
        facts.update({unanswered: None} if unanswered else {})
        findings = move_findings(dataclasses.replace(base, **facts), MoveOptions(**(options or {})))
        for finding in findings:
            assert finding.severity in ("blocker", "warning", "notice")
            for text in (finding.message, finding.remedy):
                assert text.endswith(".") and text == text.strip()
        return [(finding.code, finding.severity) for finding in findings]

    return find


def bind(source: str, **more) -> dict:
    return {"Type": "bind", "Source": source, "Destination": "/x", **more}


DEVICE = {"HostConfig": {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse"}]}}
CRUN_1_21 = {"ociRuntime": {"version": "crun version 1.21\n+CRIU"}}
CHECKED = {"Config": {"Healthcheck": {"Test": ["CMD", "true"]}}}
WEB = (Listener("tcp", "0.0.0.0", 8080),)

CASES = [
    ({}, []),
    # the hosts
    ({"destination": {"arch": "arm64"}}, [("architecture", "blocker")]),
    ({"destination": {"kernel": "6.1.0"}}, [("older_kernel", "warning")]),
    ({"destination": {"kernel": "6.12.1"}}, [("kernel_differs", "notice")]),
    ({"there": {"cpu_flags": frozenset({"avx2"})}}, [("cpu_features", "warning")]),
    ({"there": {"cpu_flags": frozenset({"avx2", "sse4_2", "avx512f"})}}, []),
    ({"podman": (5, 4, 2)}, [("older_destination", "warning")]),
    ({"podman": (6, 0, 0)}, []),
    ({"there": {"criu": None, "programs": frozenset()}}, [("criu_absent", "blocker")]),
    ({"here": {"criu": None, "programs": frozenset()}}, [("criu_absent", "blocker")]),
    ({"there": {"criu": (4, 0, 0)}}, [("older_criu", "warning")]),
    ({"there": {"criu": (4, 2, 0)}}, []),
    (
        {"destination": {"cgroupVersion": "v1", "cgroupManager": "cgroupfs"}},
        [("cgroup_version", "blocker"), ("cgroup_manager", "blocker")],
    ),
    (
        {"source": {"cgroupManager": "cgroupfs"}, "container": {"HostConfig": {"CgroupManager": "cgroupfs"}}},
        [("cgroup_manager", "blocker")],
    ),
    ({"container": {"ProcessLabel": "system_u:system_r:container_t:s0:c1,c2"}}, [("lsm_differs", "blocker")]),
    (
        {"container": {"AppArmorProfile": "web"}, "destination": {"security": {"apparmorEnabled": False}}},
        [("lsm_differs", "blocker")],
    ),
    ({"container": {"AppArmorProfile": "unconfined"}, "there": {"profiles": frozenset({"other"})}}, []),
    (
        {"container": {"AppArmorProfile": "web"}, "there": {"profiles": frozenset({"other"})}},
        [("apparmor_profile", "warning")],
    ),
    ({"container": {"AppArmorProfile": "web"}, "there": {"profiles": frozenset({"web"})}}, []),
    # the container
    ({"container": {"Config": {"Labels": {"PODMAN_SYSTEMD_UNIT": "web.service"}}}}, [("systemd_unit", "blocker")]),
    ({"container": {"Config": {"Secrets": [{"Name": "key"}]}}}, [("file_secret", "blocker")]),
    ({"container": {"HostConfig": {"AutoRemove": True}}}, []),
    (
        {"container": {"HostConfig": {"AutoRemove": True}}, "options": {"keep_source": True}},
        [("keep_source", "blocker")],
    ),
    ({"processes": ProcessFacts(io_uring=(12, 15))}, [("io_uring", "blocker")]),
    ({"processes": None}, [("connections_stale", "notice")]),
    ({"container": {"Mounts": [bind("/srv/a")]}, "kinds": {"/srv/a": "absent"}}, [("bind_absent", "blocker")]),
    ({"container": {"Mounts": [bind("/srv/a")]}, "kinds": {"/srv/a": "directory"}}, [("bind_content", "notice")]),
    ({"container": {"Mounts": [bind("/srv/a", RW=False)]}, "kinds": {"/srv/a": "file"}}, [("bind_content", "notice")]),
    ({"container": {"Mounts": [bind("/srv/a", RW=True)]}, "kinds": {"/srv/a": "file"}}, [("bind_writable", "warning")]),
    (
        {
            "container": {"Mounts": [bind("/srv/a", RW=True)]},
            "kinds": {"/srv/a": "file"},
            "shared": frozenset({"/srv/a"}),
        },
        [("bind_content", "notice")],
    ),
    (
        {"container": {"Mounts": [bind("/a", RW=True), bind("/b")]}, "kinds": {"/a": "directory", "/b": "directory"}},
        [("bind_writable", "warning"), ("bind_content", "notice")],
    ),
    ({"container": {"Mounts": [bind("/srv/a")]}, "kinds": None}, [("paths_unknown", "notice")]),
    ({"kinds": None}, []),
    ({"container": DEVICE, "kinds": {"/dev/fuse": "device"}}, []),
    ({"container": DEVICE, "kinds": {"/dev/fuse": "absent"}}, [("device_absent", "blocker")]),
    ({"container": DEVICE, "kinds": {"/dev/fuse": "file"}}, [("device_absent", "blocker")]),
    # the network
    ({"networks": {"lan": (None, MACVLAN)}}, []),
    ({"networks": {"lan": (MACVLAN, None)}}, [("network_absent", "blocker")]),
    ({"networks": {"lan": (MACVLAN, None)}, "options": {"networks": "create"}}, [("parent_absent", "blocker")]),
    (
        {
            "networks": {"lan": ({**MACVLAN, "network_interface": "eth0"}, None)},
            "options": {"networks": "create"},
        },
        [("network_created", "notice")],
    ),
    (
        {
            "networks": {"web": ({"driver": "bridge", "network_interface": "podman9"}, None)},
            "options": {"networks": "create"},
        },
        [("network_created", "notice")],
    ),
    ({"published": WEB}, []),
    ({"published": WEB, "there": {"listeners": frozenset(WEB)}}, [("port_in_use", "blocker")]),
    ({"there": {"listeners": frozenset(WEB)}}, []),
    (
        {
            "container": {"HostConfig": {"NetworkMode": "host"}},
            "processes": ProcessFacts(listeners=frozenset(WEB)),
            "there": {"listeners": frozenset({Listener("tcp", "::", 8080)})},
        },
        [("port_in_use", "blocker"), ("host_network", "notice")],
    ),
    ({"tcp": "close"}, []),
    ({"tcp": "close", "processes": ProcessFacts(connections=3)}, [("connections_closed", "notice")]),
    ({"tcp": "close", "processes": None}, [("connections_closed", "notice")]),
    ({"tcp": "close", "destination": CRUN_1_21}, [("tcp_close_unsupported", "blocker")]),
    ({"tcp": "none", "processes": ProcessFacts(connections=3)}, [("connections_open", "warning")]),
    ({"tcp": "established", "processes": ProcessFacts(connections=3)}, [("connections_stale", "notice")]),
    ({"tcp": "established", "processes": ProcessFacts(connections=3), "guarded": True}, []),
    ({"guarded": True}, []),
    ({"guarded": True, "there": {"programs": frozenset({"criu"})}}, [("nft_absent", "blocker")]),
    # what is carried
    ({"options": {"ignore_volumes": True}}, [("volumes_left", "notice")]),
    ({"image_present": False}, []),
    ({"image_present": False, "options": {"image_transfer": "pull"}}, []),
    ({"image_present": False, "options": {"image_transfer": "never"}}, [("image_absent", "blocker")]),
    ({"image_present": True, "options": {"image_transfer": "never"}}, []),
    (
        {"container": {"ImageName": "localhost/web:1"}, "image_present": False, "options": {"image_transfer": "pull"}},
        [("image_absent", "blocker")],
    ),
    ({"container": CHECKED}, []),
    (
        {"container": CHECKED, "podman": (5, 4, 2)},
        [("older_destination", "warning"), ("health_timer", "notice")],
    ),
    ({"container": {"Config": {"Healthcheck": {"Test": ["NONE"]}}}, "podman": (5, 8, 0)}, []),
    ({"estimate": Estimate.of(9 * GIB, 0, 0)}, [("memory_short", "blocker")]),
    ({"estimate": Estimate.of(9 * GIB, 0, 0), "there": {"swap": 2 * GIB}}, [("memory_short", "warning")]),
    # Spool and containers are on one file system here, and the destination has the files twice.
    ({"estimate": Estimate.of(GIB, 4 * GIB, 4 * GIB), "there": {"disks": {"/": 27 * GIB}}}, []),
    (
        {"estimate": Estimate.of(GIB, 4 * GIB, 4 * GIB), "there": {"disks": {"/": 25 * GIB}}},
        [("disk_short", "blocker")],
    ),
    (
        {"estimate": Estimate.of(GIB, 0, 0), "here": {"disks": {"/": 1, "/var/lib/containers": 1}}},
        [("disk_short", "blocker")] * 2,
    ),
    ({"estimate": Estimate.of(GIB, 0, 0), "here": {"disks": {}}}, []),
    ({"options": {"max_downtime": 10.0}}, []),
    ({"options": {"max_downtime": 0.2}}, [("downtime_exceeded", "blocker")]),
]


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_move(found, given, expected) -> None:
    sides = {side: {"host": given[side]} for side in ("source", "destination") if side in given}
    assert found(**{**given, **sides}) == expected


@pytest.mark.parametrize("side", ["here", "there"])
def test_host_that_does_not_answer_is_told_about(found, side) -> None:
    assert found(unanswered=side) == [("host_unknown", "notice")]


def test_every_code_is_tested_here() -> None:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(_verdicts))) if isinstance(node, ast.Call)]
    written = {call.args[0].value for call in calls if getattr(call.func, "id", "") == "Finding"}
    tested = {code for _given, expected in CASES for code, _severity in expected}
    assert written - {"host_unknown"} <= tested


def test_missing_instructions_are_named_but_not_all_of_them(host_facts) -> None:
    many = frozenset(f"avx512_{number}" for number in range(12)) | {"constant_tsc", "sse2"}
    missing = _verdicts.missing_instructions(host_facts(cpu_flags=many), host_facts(cpu_flags=frozenset({"sse2"})))
    assert len(missing) == 12 and "constant_tsc" not in missing


def test_every_feature_of_arm_counts(host_facts) -> None:
    here = host_facts(machine="aarch64", cpu_flags=frozenset({"fp", "sve"}))
    assert _verdicts.missing_instructions(here, host_facts(cpu_flags=frozenset({"fp"}))) == ["sve"]


@pytest.mark.parametrize(
    ("publish", "listeners"),
    [
        (["8080:80"], [("tcp", "0.0.0.0", 8080)]),
        (["80"], []),
        ([":80"], []),
        (["127.0.0.1:8080:80/udp"], [("udp", "127.0.0.1", 8080)]),
        (["127.0.0.1::80"], []),
        (["8080-8082:80-82"], [("tcp", "0.0.0.0", port) for port in (8080, 8081, 8082)]),
        (["[::1]:8080:80"], [("tcp", "::1", 8080)]),
        (["8080:80", "9090:90"], [("tcp", "0.0.0.0", 8080), ("tcp", "0.0.0.0", 9090)]),
    ],
)
def test_published_ports_are_read_as_podman_writes_them(make_container, publish, listeners) -> None:
    container = make_container(HostConfig={"PortBindings": {"1/tcp": [{"HostIp": "", "HostPort": "1"}]}})
    assert list(_verdicts.published_ports(container, publish)) == [Listener(*one) for one in listeners]


def test_own_ports_count_where_none_are_given(make_container) -> None:
    bindings = {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "10.0.0.1", "HostPort": "80"}],
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}],
        "99/tcp": None,
    }
    container = make_container(HostConfig={"PortBindings": bindings})
    assert set(_verdicts.published_ports(container, [])) == {
        Listener("tcp", "0.0.0.0", 8080),
        Listener("tcp", "10.0.0.1", 80),
        Listener("udp", "0.0.0.0", 53),
    }


def test_addresses_outside_of_the_networks_there(make_container) -> None:
    def outside(*subnets: str) -> list[str]:
        network = {"subnets": [{"subnet": subnet} for subnet in subnets]}
        return _verdicts.addresses_outside(make_container(), {"lan": network})

    assert outside("10.9.0.0/16") == [] and outside("10.8.0.0/16", "10.9.0.0/24") == []
    assert outside("10.8.0.0/16") == ["10.9.0.7"]
    assert outside() == []
    assert _verdicts.addresses_outside(make_container(), {"lan": None}) == []
