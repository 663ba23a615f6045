# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing as t

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._compat import (
    Finding,
    RestoreFacts,
    RestoreRequest,
    Subject,
    criu_version,
    refuse_blockers,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, Refused

ID, OTHER, IMAGE_ID = "1f" * 32, "0a" * 32, "2e" * 32
NO_CRIU = {"ociRuntime": {"version": "crun version 1.8.1\n+SYSTEMD"}}
RUNC = {"ociRuntime": {"name": "runc", "version": "runc version 1.1.15"}}


def codes(findings: t.Iterable[Finding]) -> list[str]:
    """The codes, after a look at what users would read."""
    found = list(findings)
    for finding in found:
        assert finding.severity in ("blocker", "warning", "notice")
        for text in (finding.message, finding.remedy):
            assert text.endswith(".") and text == text.strip()
    return [finding.code for finding in found]


# -- hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ({}, []),
        ({"security": {"rootless": True}}, ["rootless"]),
        (NO_CRIU, ["runtime_without_criu"]),
        (RUNC, []),
        ({"security": {"rootless": True}, **NO_CRIU}, ["rootless", "runtime_without_criu"]),
    ],
)
def test_host(make_host, host, found) -> None:
    assert codes(_compat.host_findings(make_host(host=host))) == found


@pytest.mark.parametrize(
    ("criu", "found"),
    [
        ({"version": "4.1.0", "check": True, "check_output": []}, []),
        ({"version": None, "check": False, "check_output": []}, [("criu_absent", "blocker")]),
        ({"version": "4.1.0", "check": False, "check_output": ["Error: x", "y"]}, [("criu_check", "notice")]),
    ],
)
def test_criu(criu, found) -> None:
    findings = list(_compat.criu_findings(criu))
    assert [(finding.code, finding.severity) for finding in findings] == found


def test_failed_check_of_criu_is_told_in_its_words() -> None:
    (finding,) = _compat.criu_findings({"version": "4.1.0", "check": False, "check_output": ["Error: x", "y"]})
    assert "Error: x | y" in finding.message


@pytest.mark.parametrize(("left", "found"), [(None, []), ("nft failed: no such device.", [("guard_left", "notice")])])
def test_guard(left, found) -> None:
    findings = _compat.guard_findings("netdev ferry_1", left)
    assert [(finding.code, finding.severity) for finding in findings] == found
    for finding in findings:
        assert left in finding.message
        assert "nft delete table netdev ferry_1" in finding.remedy


@pytest.mark.parametrize(
    ("volumes", "thin", "words"),
    [
        (["a", "b"], False, ["ferry-fill-1f1f", "a, b"]),
        ([], True, ["directory 1f1f"]),
        (["a"], True, ["a, and the dir"]),
    ],
)
def test_what_is_left_on_another_destination(volumes, thin, words) -> None:
    (finding,) = _compat.elsewhere_findings("web", "1f1f", "ssh://other/run/podman.sock", volumes, thin=thin)
    assert (finding.code, finding.severity) == ("left_elsewhere", "warning")
    assert all(word in finding.message for word in [*words, "ssh://other"])


def test_nothing_is_left_where_nothing_was_made() -> None:
    assert _compat.elsewhere_findings("web", "1f1f", "ssh://other/run/podman.sock", [], thin=False) == []


def test_volumes_of_what_was_kept_stay() -> None:
    assert _compat.kept_volumes_findings("web", []) == []
    (finding,) = _compat.kept_volumes_findings("web", ["data", "logs"])
    assert (finding.code, finding.severity) == ("volumes_left", "notice") and "data, logs" in finding.message


def test_timer_of_health_checks() -> None:
    (finding,) = _compat.thin_findings("It is small.")
    assert (finding.code, finding.severity) == ("not_thin", "blocker")
    (finding,) = _compat.pages_findings("web", "It is busy.")
    assert (finding.code, finding.severity) == ("pages_left", "warning")
    (finding,) = _compat.health_timer_findings("web", "It is paused.")
    assert (finding.code, finding.severity) == ("health_timer", "notice")
    assert "It is paused." in finding.message


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Version: 4.1\nGitID: v4.1\n", "4.1.0"),
        ("Version: 3.17.1\n", "3.17.1"),
        ("Some warning\n  Version: 4.1.1-1\n", "4.1.1"),
        ("", None),
        ("criu: not found", None),
    ],
)
def test_version_of_criu(text, version) -> None:
    assert criu_version(text) == version


# -- checkpoints ----------------------------------------------------------------------------------------------

POD = {"Pod": "p" * 64, "Dependencies": ["i" * 64]}
AUTO_REMOVE = {"HostConfig": {"AutoRemove": True}}


@pytest.mark.parametrize(
    ("status", "changes", "how", "found"),
    [
        ("running", {}, {}, []),
        ("exited", {}, {}, ["not_running"]),
        ("paused", {}, {}, ["not_running"]),
        ("exited", {"State": {"Checkpointed": True}}, {}, ["checkpointed"]),
        ("running", AUTO_REMOVE, {}, ["auto_remove"]),
        ("running", AUTO_REMOVE, {"exports": True}, []),
        ("running", AUTO_REMOVE, {"pre_checkpoint": True}, []),
        ("running", AUTO_REMOVE, {"creates_image": True}, ["auto_remove"]),
        ("running", {"Dependencies": ["d" * 64]}, {}, []),
        ("running", {"Dependencies": ["d" * 64]}, {"exports": True}, ["dependencies"]),
        ("running", {"Dependencies": ["d" * 64]}, {"creates_image": True}, ["dependencies"]),
        ("running", POD, {"exports": True}, []),
        ("running", {**POD, "Dependencies": ["i" * 64, "d" * 64]}, {"exports": True}, ["dependencies"]),
        ("exited", {**AUTO_REMOVE, "Dependencies": ["d"]}, {"creates_image": True},
         ["not_running", "auto_remove", "dependencies"]),
    ],
)  # fmt: skip
def test_checkpoint(make_container, make_host, status, changes, how, found) -> None:
    how = {"exports": False, "creates_image": False, "pre_checkpoint": False, **how}
    findings = _compat.checkpoint_findings(make_container(status, **changes), make_host(), **how)
    assert codes(findings) == found


def test_host_speaks_first(make_container, make_host) -> None:
    host = make_host(host={"security": {"rootless": True}})
    findings = _compat.checkpoint_findings(
        make_container("exited"), host, exports=True, creates_image=False, pre_checkpoint=False
    )
    assert codes(findings) == ["rootless", "not_running"]


@pytest.mark.parametrize(
    ("dropped", "unnamed", "found"),
    [
        ([], False, []),
        (["/a"], False, ["files_dropped"]),
        ([], True, ["file_names"]),
        (["/a"], True, ["file_names", "files_dropped"]),
    ],
)
def test_files(make_container, dropped, unnamed, found) -> None:
    assert codes(_compat.file_findings(make_container(), dropped, unnamed=unnamed)) == found


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (2, "modified: /0, /1. "),
        (5, "modified: /0, /1, /2, /3, /4. "),
        (8, "modified: /0, /1, /2, /3, /4 and 3 more. "),
    ],
)
def test_a_few_dropped_files_are_named(make_container, number, named) -> None:
    (finding,) = _compat.file_findings(make_container(), [f"/{n}" for n in range(number)], unnamed=False)
    assert named in finding.message


def test_changes_that_podman_cannot_list(make_container) -> None:
    (finding,) = _compat.unlisted_findings(make_container(), "not a directory.")
    assert (finding.code, finding.severity) == ("changes_unknown", "blocker")
    assert "not a directory." in finding.message


def mounted(**changes) -> dict:
    return {"Mounts": [{"Type": "bind", "Source": "/srv", "Destination": "/srv", "Options": ["rbind"], **changes}]}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"HostConfig": {"Init": False, "Cgroups": "default"}}, []),
        ({"HostConfig": {"Init": True}}, ["init"]),
        ({"HostConfig": {"Cgroups": "disabled"}}, ["no_cgroup"]),
        (mounted(), []),
        (mounted(Options=None), []),
        (mounted(Type="image"), ["overlay_mount"]),
        (mounted(Options=["O", "rbind"]), ["overlay_mount"]),
        (mounted(Source="/var/lib/x/userdata/overlay/1/merge"), ["overlay_mount"]),
        ({"HostConfig": {"Init": True, "Cgroups": "disabled"}, **mounted(Type="image")},
         ["init", "no_cgroup", "overlay_mount"]),
    ],
)  # fmt: skip
def test_what_could_not_be_restored(make_container, make_host, changes, found) -> None:
    container = make_container(**changes)
    assert codes(_compat.restorable_findings(container)) == found
    every = _compat.checkpoint_findings(
        container, make_host(), exports=False, creates_image=False, pre_checkpoint=False
    )
    assert codes(every) == found


def test_overlay_mounts_are_named_once(make_container) -> None:
    (finding,) = _compat.restorable_findings(make_container(Mounts=[*mounted(Type="image")["Mounts"]] * 2))
    assert "(:O) at /srv; " in finding.message


@pytest.mark.parametrize(
    ("volume", "users", "found"),
    [
        ({"Driver": "local", "Options": {}, "Labels": {}}, [], []),
        ({}, [], []),
        ({}, ["db"], [("volume_shared", "blocker")]),
        ({"Options": {"type": "nfs"}}, [], [("volume_options", "blocker")]),
        ({"Driver": "rclone"}, [], [("volume_options", "blocker")]),
        ({"Labels": {"a": "b"}}, [], [("volume_labels", "notice")]),
        (
            {"Driver": "rclone", "Labels": {"a": "b"}},
            ["db", "app"],
            [("volume_shared", "blocker"), ("volume_options", "blocker"), ("volume_labels", "notice")],
        ),
    ],
)
def test_volume_on_its_way(make_container, volume, users, found) -> None:
    findings = list(_compat.volume_findings(make_container(), {"data": volume}, {"data": users}))
    assert [(finding.code, finding.severity) for finding in findings] == found
    for finding in findings:
        assert "volume data " in finding.message
    if users:
        assert ", ".join(users) in findings[0].message


def test_root_of_a_volume_that_could_not_be_set() -> None:
    assert _compat.volume_root_findings([]) == []
    (finding,) = _compat.volume_root_findings(["The root of volume data should be 1:1:700."])
    assert (finding.code, finding.severity) == ("volume_root", "notice")
    assert finding.message == "The root of volume data should be 1:1:700."


@pytest.mark.parametrize(
    ("tracks", "absent", "found"),
    [
        (True, False, []),
        (False, False, ["no_memory_tracking"]),
        (True, True, ["previous_absent"]),
        (False, True, ["no_memory_tracking", "previous_absent"]),
    ],
)
def test_pre_copy(make_container, tracks, absent, found) -> None:
    findings = _compat.pre_copy_findings(make_container(), tracks_memory=tracks, previous_absent=absent)
    assert codes(findings) == found


# -- restores -------------------------------------------------------------------------------------------------

SUBJECT = Subject(id=ID, name="web", runtime="crun", image_id=IMAGE_ID, image="web:1", volumes=["data"])


@pytest.mark.parametrize(
    ("subject", "facts", "request_", "found"),
    [
        ({}, {}, {}, []),
        ({"runtime": "runc"}, {}, {}, ["runtime_differs"]),
        ({"runtime": ""}, {}, {}, []),
        ({"networks": ["lan"], "networks_ordered": True}, {}, {}, ["networks_lost"]),
        ({"networks": [], "networks_ordered": True}, {}, {}, []),
        ({"networks": ["lan"]}, {}, {}, []),
        ({}, {"taken": {"web": ID}}, {}, ["id_in_use"]),
        ({}, {"taken": {ID: ID}}, {}, ["id_in_use"]),
        ({}, {"taken": {"web": OTHER}}, {}, ["name_in_use"]),
        ({}, {"taken": {"web": ID, ID: ID}}, {}, ["id_in_use"]),
        ({}, {"taken": {"web": OTHER, ID: ID}}, {}, ["id_in_use", "name_in_use"]),
        ({}, {"taken": {"copy": OTHER}}, {"new_names": ["copy"]}, ["name_in_use"]),
        ({}, {"taken": {"copy": ID}}, {"new_names": ["copy"]}, ["name_in_use"]),
        ({"image_id": ""}, {}, {}, ["no_image"]),
        ({}, {"image_present": False}, {}, ["image_absent"]),
        ({}, {"image_present": False, "image_named": OTHER}, {}, ["image_differs"]),
        ({}, {"image_unnamed": True}, {}, ["image_unnamed"]),
        ({}, {"existing_volumes": ["data"]}, {}, ["volume_exists"]),
        ({}, {"existing_volumes": ["data", "more"]}, {}, ["volume_exists", "volume_exists"]),
        ({}, {"existing_volumes": ["data"]}, {"ignore_volumes": True}, []),
        ({}, {}, {"new_names": ["a", "b"]}, ["volumes_shared"]),
        ({}, {}, {"new_names": ["a"]}, []),
        ({}, {}, {"new_names": ["a", "b"], "ignore_volumes": True}, []),
        ({"volumes": []}, {}, {"new_names": ["a", "b"]}, []),
        ({"pod": "p"}, {}, {}, ["pod_required"]),
        ({"pod": "p"}, {}, {"pod": "here"}, []),
        ({"pod": "p", "dependencies": ["infra"]}, {}, {"pod": "here"}, []),
        ({"pod": "p"}, {"pod_present": False}, {"pod": "here"}, ["pod_absent"]),
        ({}, {}, {"pod": "here"}, ["not_in_pod"]),
        ({"dependencies": ["db"]}, {}, {}, ["dependencies"]),
        ({}, {"taken_addresses": ["10.9.0.7"]}, {}, ["address_in_use"]),
        ({}, {"taken_addresses": ["10.9.0.7"], "addresses_may_change": True}, {}, ["address_changes"]),
        ({}, {"addresses_may_change": True}, {}, []),
        ({}, {"absent_networks": ["lan"]}, {}, ["network_absent"]),
        ({}, {"absent_secrets": ["key", "pass"]}, {}, ["secret_absent", "secret_absent"]),
    ],
)
def test_restore(make_host, subject, facts, request_, found) -> None:
    subject = dataclasses.replace(SUBJECT, **subject)
    facts = RestoreFacts(host=make_host(), **facts)
    assert codes(_compat.restore_findings(subject, facts, RestoreRequest(**request_))) == found


def test_podman_6_reads_its_list_of_networks(make_host) -> None:
    subject = dataclasses.replace(SUBJECT, networks=["lan"], networks_ordered=True)
    assert codes(_compat.restore_findings(subject, RestoreFacts(make_host((6, 0, 0))), RestoreRequest())) == []


def test_all_reasons_against_a_restore_are_found_at_once(make_host) -> None:
    host = make_host(host={"security": {"rootless": True}})
    subject = dataclasses.replace(SUBJECT, runtime="runc", dependencies=["db"])
    facts = RestoreFacts(
        host, {"web": OTHER}, False, None, existing_volumes=["data"], absent_networks=["lan"], absent_secrets=["key"]
    )
    assert codes(_compat.restore_findings(subject, facts, RestoreRequest())) == [
        "rootless",
        "runtime_differs",
        "name_in_use",
        "image_absent",
        "volume_exists",
        "dependencies",
        "network_absent",
        "secret_absent",
    ]


@pytest.mark.parametrize(("may_change", "severity"), [(True, "notice"), (False, "blocker")])
def test_taken_address_is_no_blocker_where_it_may_change(make_host, may_change, severity) -> None:
    facts = RestoreFacts(make_host(), taken_addresses=["10.9.0.7"], addresses_may_change=may_change)
    (finding,) = _compat.restore_findings(SUBJECT, facts, RestoreRequest())
    assert finding.severity == severity
    assert "10.9.0.7" in finding.message


@pytest.mark.parametrize(("may_change", "code"), [(True, "address_changes"), (False, "address_outside")])
def test_address_outside_of_the_network_there(make_host, may_change, code) -> None:
    facts = RestoreFacts(make_host(), outside_addresses=["10.9.0.7"], addresses_may_change=may_change)
    (finding,) = _compat.restore_findings(SUBJECT, facts, RestoreRequest())
    assert finding.code == code
    assert "10.9.0.7" in finding.message


def test_absent_network_is_named_with_its_command(make_host) -> None:
    (finding,) = _compat.restore_findings(SUBJECT, RestoreFacts(make_host(), absent_networks=["lan"]), RestoreRequest())
    assert "no network lan " in finding.message
    assert "podman network create" in finding.remedy


@pytest.mark.parametrize(
    ("directories", "needs_previous", "has_previous", "found"),
    [
        (["checkpoint"], False, False, []),
        (["checkpoint"], True, True, []),
        (["checkpoint"], True, False, ["previous_needed"]),
        (["checkpoint"], False, True, ["previous_not_used"]),
        (["pre-checkpoint"], False, False, ["pre_checkpoint"]),
        (["pre-checkpoint", "checkpoint"], False, False, []),
    ],
)
def test_archive(directories, needs_previous, has_previous, found) -> None:
    contents = Contents(sizes={f"{name}/pages-1.img": 1 for name in directories}, needs_previous=needs_previous)
    assert codes(_compat.archive_findings(contents, has_previous=has_previous)) == found


@pytest.mark.parametrize(
    ("told", "criu", "found"),
    [
        ({}, "4.2.1", []),
        ({"runtime": "crun", "arch": "amd64", "cgroup_version": "v2", "criu_version": "40201"}, "4.2.1", []),
        ({"criu_version": "40202"}, "4.2.1", ["older_criu"]),
        ({"criu_version": "40202"}, None, []),
        ({"criu_version": "1000000"}, "4.2.1", []),
        ({"runtime": "runc"}, None, ["runtime_differs"]),
        # containerd's name of a shim says nothing about podman's runtimes.
        ({"runtime": "io.containerd.runc.v2"}, None, []),
        ({"arch": "arm64"}, None, ["architecture"]),
        ({"cgroup_version": "v1"}, None, ["cgroup_version"]),
        ({"cgroup_version": "2"}, None, []),
    ],
)
def test_image(make_host, told, criu, found) -> None:
    assert codes(_compat.image_findings(told, make_host(), criu)) == found


def test_image_without_a_checkpoint() -> None:
    assert codes(_compat.no_checkpoint_findings("It has 7 layers.")) == ["not_a_checkpoint"]


@pytest.mark.parametrize(("kind", "found"), [("podman", []), ("cri-o", ["foreign_archive"])])
def test_archive_of_another_engine(kind, found) -> None:
    assert codes(_compat.foreign_findings(kind)) == found


@pytest.mark.parametrize(
    ("status", "state", "evidence", "found"),
    [
        ("exited", {"Checkpointed": True, "CheckpointPath": "/c"}, "current", []),
        ("exited", {"Checkpointed": True, "CheckpointPath": "/c"}, None, []),
        ("exited", {"Checkpointed": True, "CheckpointPath": "/c"}, "absent", ["no_checkpoint"]),
        ("exited", {}, "absent", ["no_checkpoint"]),
        # After a reboot podman has forgotten, and the files are still those of the last run.
        ("exited", {}, "current", []),
        ("exited", {}, "stale", ["stale_checkpoint"]),
        ("exited", {}, None, ["stale_checkpoint"]),
        ("paused", {}, "stale", ["paused"]),
    ],
)
def test_restore_in_place(make_container, make_host, status, state, evidence, found) -> None:
    assert codes(_compat.local_findings(make_container(status, State=state), make_host(), evidence)) == found


def test_rootless_service_restores_nothing_in_place(make_container, make_host) -> None:
    container = make_container("exited", State={"Checkpointed": True})
    host = make_host(host={"security": {"rootless": True}})
    assert codes(_compat.local_findings(container, host, "current")) == ["rootless"]


def test_registry_that_a_host_cannot_use() -> None:
    (finding,) = findings = _compat.registry_findings("source", "r.example/db:x", "Pulling r.example/db:x failed: 404.")
    assert codes(findings) == ["registry_unreachable"]
    assert finding.severity == "blocker"


@pytest.mark.parametrize(
    ("driver", "networks", "found"),
    [
        ("k8s-file", {}, ["log_stays_behind"]),
        ("json-file", {"lan": {"IPAddress": "10.9.0.7"}}, ["log_stays_behind", "address_fixed"]),
        ("journald", {"lan": {"GlobalIPv6Address": "fd00::7"}}, ["address_fixed"]),
        ("none", {"lan": {"IPAddress": ""}}, []),
    ],
)
def test_what_a_registry_does_not_carry(make_container, inspect_json, driver, networks, found) -> None:
    raw = inspect_json(HostConfig={"LogConfig": {"Type": driver}})
    raw["NetworkSettings"]["Networks"] = networks
    findings = _compat.registry_losses(type(make_container())(raw))
    assert codes(findings) == found
    assert {finding.severity for finding in findings} <= {"notice"}


# -- cold moves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "asked", "found"),
    [
        ("running", {}, []),
        ("exited", {}, []),
        ("created", {}, []),
        ("paused", {}, ["not_settled"]),
        ("stopping", {}, ["not_settled"]),
        ("running", {"local": False}, ["cold_source"]),
        ("running", {"transfer": "registry"}, ["cold_source"]),
        ("running", {"unreadable": "It is of another kind."}, ["definition_unreadable"]),
        ("running", {"unknown": ["gpus"]}, ["definition_unknown"]),
    ],
)
def test_cold_moves(make_container, make_host, status, asked, found) -> None:
    given = {"local": True, "transfer": "stream", "unreadable": None, "unknown": [], **asked}
    assert codes(_compat.cold_findings(make_container(status), make_host(), **given)) == found


def test_cold_move_would_lose_a_checkpoint(make_container, make_host) -> None:
    frozen = make_container("exited", State={"Checkpointed": True})
    given = {"local": True, "transfer": "stream", "unreadable": None, "unknown": []}
    assert codes(_compat.cold_findings(frozen, make_host(), **given)) == ["checkpointed"]


def test_cold_move_of_a_rootless_service(make_container, make_host) -> None:
    host = make_host(host={"security": {"rootless": True}})
    given = {"local": True, "transfer": "stream", "unreadable": None, "unknown": []}
    assert codes(_compat.cold_findings(make_container(), host, **given)) == ["rootless"]


def test_what_a_destination_makes_otherwise_is_named() -> None:
    (finding,) = found = _compat.not_the_same("web", ["Config.Env", "Mounts"])
    assert codes(found) == ["not_the_same"] and "Config.Env, Mounts" in finding.message


def test_containers_that_stay_behind(make_container) -> None:
    assert codes(_compat.dependency_findings(make_container(), [])) == []
    assert codes(_compat.dependency_findings(make_container(), ["db"])) == ["dependencies"]
    assert codes(_compat.pod_move_findings(make_container(), "shop")) == ["in_pod"]


@pytest.mark.parametrize(
    ("unknown", "exists", "found"),
    [([], False, []), (["pod.news"], False, ["definition_unknown"]), ([], True, ["pod_exists"])],
)
def test_pods_that_move(unknown, exists, found) -> None:
    assert codes(_compat.pod_findings("shop", unknown, exists=exists)) == found


@pytest.mark.parametrize(
    ("volume", "found"),
    [
        ({"Driver": "local"}, []),
        ({"Options": {"o": "uid=5,gid=6", "UID": "5"}}, []),
        ({"Options": {"type": "none", "o": "bind", "device": "/srv"}}, ["volume_options"]),
        ({"Options": {"type": "nfs", "device": ":/export"}}, ["volume_options"]),
        ({"Driver": "cluster"}, ["volume_options"]),
    ],
)
def test_volumes_that_stand_for_something_else(volume, found) -> None:
    assert codes(_compat.device_volume_findings({"data": volume})) == found


def test_attributes_that_are_lost() -> None:
    assert codes(_compat.attribute_findings([])) == []
    assert codes(_compat.attribute_findings(["/v/a"] * 7)) == ["volume_attributes"]


def test_addresses_that_are_not_of_the_definition() -> None:
    assert codes(_compat.leased_address_findings([])) == []
    assert codes(_compat.leased_address_findings(["10.88.0.2"])) == ["address_changes"]


def test_secrets_that_a_cold_move_needs() -> None:
    subject = Subject(ID, "web", "crun", IMAGE_ID, "web", secrets=["key"])
    facts = RestoreFacts(host=t.cast(t.Any, None), absent_secrets=["key"])
    assert codes(_compat.recreate_findings(subject, facts, RestoreRequest())) == ["secret_absent"]


def test_every_code_is_tested_here() -> None:
    """Each in a case that has it; the cases beside it have not."""

    def written(module) -> set[str]:
        tree = ast.parse(inspect.getsource(module))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        named = [call.args[0] for call in calls if getattr(call.func, "id", "") == "Finding" and call.args]
        return {node.value for name in named for node in ast.walk(name) if isinstance(node, ast.Constant)}

    with open(__file__, encoding="utf-8") as file:
        tested = {node.value for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.Constant)}
    # Of "network_absent" and "secret_absent" only the end is written out.
    assert written(_compat) - {"_absent"} <= tested


# -- verdicts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severities", "force", "refused", "hint"),
    [
        (["notice"], False, False, False),
        (["warning"], False, True, True),
        (["warning", "notice"], True, False, False),
        (["blocker", "warning"], False, True, False),
        (["blocker", "warning"], True, True, False),
    ],
)
def test_warnings_refuse_a_move_unless_forced(severities, force, refused, hint) -> None:
    findings = [Finding(f"c{n}", f"Reason {n}.", "Remedy.", severity) for n, severity in enumerate(severities)]
    if not refused:
        assert _compat.refuse_warnings("Moving container web", findings, force=force) == findings
        return
    with pytest.raises(Refused) as error:
        _compat.refuse_warnings("Moving container web", findings, force=force)
    assert ("force=true" in str(error.value)) == hint
    assert ("Reason 1." in str(error.value)) == (severities[1:] == ["warning"] and not force)
    assert len(error.value.facts["findings"]) == len(findings)


def test_all_blockers_are_told_with_their_remedies() -> None:
    findings = [
        Finding("one", "First reason.", "First remedy."),
        Finding("two", "Passing remark.", "Ignore it.", severity="warning"),
        Finding("three", "Second reason.", "Second remedy."),
    ]
    with pytest.raises(Refused) as error:
        refuse_blockers("Moving container web", findings)
    assert str(error.value) == (
        "Moving container web is refused, nothing was touched: "
        "[one] First reason. First remedy. [three] Second reason. Second remedy."
    )
    assert [finding["code"] for finding in error.value.facts["findings"]] == ["one", "two", "three"]
    assert error.value.facts["findings"][0] == {
        "code": "one",
        "message": "First reason.",
        "remedy": "First remedy.",
        "severity": "blocker",
    }


def test_warnings_are_passed_on() -> None:
    findings = [Finding("two", "Passing remark.", "Ignore it.", severity="warning")]
    assert refuse_blockers("Moving", findings) == findings
    assert refuse_blockers("Moving", []) == []


# -- subjects -------------------------------------------------------------------------------------------------


def test_subject_of_a_container(make_container) -> None:
    container = make_container(Config={"Secrets": [{"Name": "key", "ID": "1"}]}, Dependencies=["d"], Pod="p")
    assert Subject.from_container(container, (5, 8, 2)) == Subject(
        id=ID,
        name="web",
        runtime="crun",
        image_id=IMAGE_ID,
        image="registry.example:5000/shop/web:1.4",
        volumes=["data"],
        networks=["lan"],
        secrets=["key"],
        dependencies=["d"],
        pod="p",
        networks_ordered=False,
    )


def test_container_without_a_network_of_its_own_has_none(make_container) -> None:
    host = make_container(HostConfig={"NetworkMode": "host"}, NetworkSettings={"Networks": {"host": {}}})
    assert Subject.from_container(host, (5, 8, 2)).networks == []


def test_networks_are_ordered_since_podman_6(make_container) -> None:
    assert Subject.from_container(make_container(), (6, 0, 0)).networks_ordered
    assert not Subject.from_container(make_container(), (5, 99, 0)).networks_ordered


def subject_of(config) -> Subject:
    return Subject.from_archive(Contents(documents={"config.dump": config}))


def test_subject_of_an_archive(config_json) -> None:
    config = config_json(secrets=[{"name": "key"}], pod="p", Dependencies=["d"])
    assert subject_of(config) == Subject(
        id=ID,
        name="web",
        runtime="crun",
        image_id=IMAGE_ID,
        image="registry.example:5000/shop/web:1.4",
        volumes=["data"],
        networks=["lan"],
        secrets=["key"],
        dependencies=["d"],
        pod="p",
        networks_ordered=False,
    )


def test_networks_of_podman_6(config_json) -> None:
    config = config_json(orderedNetworks=[{"name": "lan", "opts": {}}, {"name": "back"}])
    del config["newNetworks"]
    subject = subject_of(config)
    assert subject.networks == ["lan", "back"]
    assert subject.networks_ordered


def test_networks_of_podman_5(config_json) -> None:
    subject = subject_of(config_json(newNetworks={"lan": {}, "back": {}}, orderedNetworks=None))
    assert subject.networks == ["lan", "back"]
    assert not subject.networks_ordered


@pytest.mark.parametrize("key", ["ipcNsCtr", "netNsCtr", "pidNsCtr", "userNsCtr", "utsNsCtr", "cgroupNsCtr"])
def test_shared_namespace_is_a_dependency(config_json, key) -> None:
    assert subject_of(config_json(**{key: "d" * 64})).dependencies == ["d" * 64]


def test_container_that_shares_two_namespaces_is_one_dependency(config_json) -> None:
    assert subject_of(config_json(netNsCtr="d", ipcNsCtr="d", pidNsCtr="")).dependencies == ["d"]


def test_least_config_is_enough() -> None:
    assert subject_of({"id": "1", "name": "web"}) == Subject("1", "web", "", "", "")


@pytest.mark.parametrize(
    "config",
    [
        {"namedVolumes": 7},
        {"namedVolumes": ["data"]},
        {"namedVolumes": [{}]},
        {"orderedNetworks": [{}]},
        {"newNetworks": 7},
        {"secrets": [[]]},
        {"Dependencies": 7},
        {"netNsCtr": ["x"]},
        {"netNsCtr": 7, "ipcNsCtr": "x"},
    ],
)
def test_config_of_another_form_is_refused(config_json, config) -> None:
    with pytest.raises(ArchiveError, match=r"config\.dump"):
        subject_of(config_json(**config))
