# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import copy
import typing as t

import hypothesis
import pytest
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._policy import (
    CAPABILITIES,
    NAMESPACES,
    Policy,
    policy_findings,
    size_findings,
)

ID = "1f" * 32
USERDATA = f"/run/containers/storage/overlay-containers/{ID}/userdata"
VOLUMES = "/var/lib/containers/storage/volumes"

SPEC: dict = {
    "process": {
        "capabilities": {
            key: [f"CAP_{name}" for name in CAPABILITIES] for key in ("bounding", "effective", "permitted")
        }
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
        {"destination": "/data", "type": "bind", "source": f"{VOLUMES}/data/_data", "options": ["rbind"]},
        {"destination": "/etc/hosts", "type": "bind", "source": f"{USERDATA}/hosts", "options": ["bind"]},
    ],
    "annotations": {"org.systemd.property.KillSignal": "15", "io.container.manager": "libpod"},
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"]}]},
    },
}


@pytest.fixture
def findings(config_json, make_host):
    """What a container of podman's, with these changes, asks for beyond a policy."""

    def find(
        policy: Policy | None = None,
        config: dict | None = None,
        security: dict | None = None,
        devices=(),
        **changes: t.Any,
    ) -> list:
        spec = copy.deepcopy(SPEC)
        for path, value in changes.items():
            *parents, key = path.split("__")
            where = spec
            for parent in parents:
                where = where[parent]
            where[key] = value
        pid_files = {"pid_file": f"{USERDATA}/pidfile", "conmonPidFile": f"{USERDATA}/conmon.pid"}
        documents = {"spec.dump": spec, "config.dump": config_json(**{**pid_files, **(config or {})})}
        host = make_host(
            host={"security": {"apparmorEnabled": False, **(security or {})}}, store={"volumePath": VOLUMES}
        )
        return policy_findings(Contents(documents=documents, devices=list(devices)), host, policy)

    return find


def codes(found: list) -> list[str]:
    return [finding.code for finding in found]


def mounted(source: str, **more: t.Any) -> list:
    return [*SPEC["mounts"], {"destination": "/x", "type": "bind", "source": source, **more}]


def test_container_of_podman_asks_for_nothing(findings) -> None:
    assert findings(Policy()) == findings() == []


CASES: dict[str, tuple[str, dict, dict]] = {
    "privileged": ("spec_privileged", {"config": {"privileged": True}}, {"privileged": True}),
    "host network": (
        "spec_namespace",
        {"linux__namespaces": [{"type": kind} for kind in NAMESPACES if kind != "network"]},
        {"host_namespaces": ("network",)},
    ),
    "joined namespace": (
        "spec_namespace",
        {"linux__namespaces": [{"type": k, **({"path": "/proc/1/ns/pid"} if k == "pid" else {})} for k in NAMESPACES]},
        {"host_namespaces": ("pid",)},
    ),
    "bind mount": ("spec_mount", {"mounts": mounted("/srv/www/a")}, {"bind_mounts": ("/srv/www",)}),
    "volume of another": ("spec_mount", {"mounts": mounted(f"{VOLUMES}/b/_data")}, {"bind_mounts": (VOLUMES,)}),
    "files of another": (
        "spec_mount",
        {"mounts": mounted(f"/run/containers/storage/overlay-containers/{'2e' * 32}/userdata")},
        {"bind_mounts": ("/run/containers",)},
    ),
    "bind by its options": (
        "spec_mount",
        {"mounts": mounted("/etc", type="tmpfs", options=["rbind"])},
        {"bind_mounts": ("/",)},
    ),
    "overlay": ("spec_mount", {"config": {"overlayVolumes": [{"dest": "/x", "source": "/"}]}}, {"bind_mounts": ("/",)}),
    "device": (
        "spec_device",
        {"linux__devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]},
        {"devices": ("/dev/fuse",)},
    ),
    "CDI device": (
        "spec_device",
        {"config": {"cdiDevices": ["nvidia.com/gpu=all"]}},
        {"devices": ("nvidia.com/gpu=all",)},
    ),
    "capability": (
        "spec_capability",
        {"process__capabilities": {"ambient": ["CAP_SYS_ADMIN"]}},
        {"capabilities": ("cap_sys_admin",)},
    ),
    "no seccomp": ("spec_unconfined", {"linux__seccomp": None}, {"unconfined": True}),
    "seccomp that permits": (
        "spec_unconfined",
        {"linux__seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
        {"unconfined": True},
    ),
    "no AppArmor": ("spec_unconfined", {"security": {"apparmorEnabled": True}}, {"unconfined": True}),
    "no SELinux": ("spec_unconfined", {"security": {"selinuxEnabled": True}}, {"unconfined": True}),
    "hook": ("spec_hook", {"hooks": {"prestart": [{"path": "/bin/sh"}]}}, {"hooks": ("/bin/sh",)}),
    "CRIU's settings": (
        "spec_annotation",
        {"annotations": {"org.criu.config": "/tmp/x"}},
        {"annotations": ("org.criu.config",)},
    ),
    "CDI": ("spec_annotation", {"annotations": {"cdi.k8s.io/x": "a"}}, {"annotations": ("cdi.k8s.io/x",)}),
    "crun": (
        "spec_annotation",
        {"annotations": {"run.oci.hooks.stderr": "/x"}},
        {"annotations": ("run.oci.hooks.stderr",)},
    ),
    "secret": ("spec_secret", {"config": {"secrets": [{"name": "key"}]}}, {"secrets": ("key",)}),
    "PID file": ("spec_pid_file", {"config": {"pid_file": "/etc/shadow"}}, {"bind_mounts": ("/etc/shadow",)}),
    "device nodes": ("archive_device", {"devices": ["rootfs-diff.tar: 'sda'"]}, {"device_nodes": True}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_goes_beyond_is_refused_told_or_allowed(findings, case) -> None:
    code, changes, allowed = case
    for policy, severity in ((Policy(), "blocker"), (None, "notice")):
        found = findings(policy, **copy.deepcopy(changes))
        assert set(codes(found)) == {code}
        assert {finding.severity for finding in found} == {severity}
        assert all(f"policy.{next(iter(allowed))}" in finding.remedy for finding in found)
    assert findings(Policy.of(dict(allowed)), **copy.deepcopy(changes)) == []


def test_one_finding_is_enough_for_a_privileged_container(findings) -> None:
    changes = {"linux__seccomp": None, "process__capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}
    assert codes(findings(Policy(), config={"privileged": True}, **changes)) == ["spec_privileged"]
    assert findings(Policy(privileged=True), config={"privileged": True}, **changes) == []


def test_no_new_privileges_can_be_demanded(findings) -> None:
    policy = Policy(no_new_privileges=True)
    assert codes(findings(policy)) == ["spec_new_privileges"]
    assert findings(policy, process__noNewPrivileges=True) == []


@pytest.mark.parametrize("source", ["/srv/www/../../etc", "/srv/wwwx", "srv/www", "", "/srv"])
def test_path_beside_an_allowed_one_is_refused(findings, source) -> None:
    assert codes(findings(Policy(bind_mounts=("/srv/www",)), mounts=mounted(source))) == ["spec_mount"]


def test_userdata_is_no_way_out(findings) -> None:
    assert codes(findings(Policy(), mounts=mounted(f"{USERDATA}/../../../etc"))) == ["spec_mount"]


@pytest.mark.parametrize("name", ["..", ".", "../..", "a/../.."])
def test_volume_is_no_way_out(findings, name) -> None:
    config = {"namedVolumes": [{"volumeName": name}, {"volumeName": "data"}]}
    assert codes(findings(Policy(), config=config, mounts=mounted(f"{VOLUMES}/{name}/_data"))) == ["spec_mount"]


@pytest.mark.parametrize("kind", ["ext4", "overlay", "nfs", "", "none"])
def test_mount_of_an_unknown_type_is_refused_whatever_its_path(findings, kind) -> None:
    assert codes(findings(Policy(bind_mounts=("/",)), mounts=mounted("/dev/sda1", type=kind))) == ["spec_mount"]


def test_network_namespace_of_podman_is_its_own(findings) -> None:
    spaces = [{"type": kind} for kind in NAMESPACES if kind != "network"]
    path = "/run/netns/netns-1234"
    assert findings(Policy(), linux__namespaces=[*spaces, {"type": "network", "path": path}]) == []
    other = {"type": "network", "path": "/proc/1/ns/net"}
    assert codes(findings(Policy(), linux__namespaces=[*spaces, other])) == ["spec_namespace"]


def test_namespaces_of_a_pod_are_podmans_to_join(findings) -> None:
    infra = "5c" * 32
    spaces = [{"type": kind, "path": "/proc/77/ns/ipc"} if kind == "ipc" else {"type": kind} for kind in NAMESPACES]
    mounts = mounted(f"/run/containers/storage/overlay-containers/{infra}/userdata/hosts")
    assert findings(Policy(), config={"ipcNsCtr": infra}, linux__namespaces=spaces, mounts=mounts) == []


def test_rule_for_any_device_is_refused(findings) -> None:
    rules = [{"allow": True, "access": "rwm"}]
    assert codes(findings(Policy(devices=("/dev/fuse",)), linux__resources={"devices": rules})) == ["spec_device"]


def test_rule_for_an_allowed_device_is_allowed(findings) -> None:
    fuse = {"type": "c", "major": 10, "minor": 229}
    changes = {
        "linux__devices": [{"path": "/dev/fuse", **fuse}],
        "linux__resources": {"devices": [{"allow": True, **fuse}]},
    }
    assert findings(Policy(devices=("/dev/fuse",)), **changes) == []
    assert codes(findings(Policy(), **changes)) == ["spec_device"]


def test_case_of_a_key_makes_no_difference(findings) -> None:
    """To Go it makes none."""
    assert codes(findings(Policy(), linux__Devices=[{"Path": "/dev/mem"}])) == ["spec_device"]
    assert codes(findings(Policy(), config={"PRIVILEGED": True})) == ["spec_privileged"]
    with pytest.raises(ArchiveError, match="twice"):
        findings(Policy(), linux__Seccomp=None)


def test_findings_have_an_end(findings) -> None:
    assert len(findings(mounts=[{"type": "bind", "source": f"/{number}"} for number in range(1000)])) == 100


WRONG = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "path", "name", "x"]), inner),
    max_leaves=6,
)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=200)
@hypothesis.given(
    st.sampled_from(
        ["process", "mounts", "annotations", "hooks", "linux", "linux__resources", "linux__namespaces"]
        + ["linux__devices", "linux__seccomp", "process__capabilities"]
    ),
    WRONG,
    st.sampled_from(["privileged", "secrets", "pid_file", "overlayVolumes", "namedVolumes", "cdiDevices", "id"]),
    WRONG,
)
def test_documents_of_any_form_are_judged_or_refused(findings, key, value, config_key, config_value) -> None:
    try:
        for finding in findings(Policy(), config={config_key: config_value}, **{key: value}):
            assert finding.code and finding.severity == "blocker"
    except ArchiveError:
        pass


def test_room_for_the_archive(make_host) -> None:
    contents = Contents(sizes={"checkpoint/pages-1.img": 4000})
    (finding,) = size_findings(contents, make_host())
    assert finding.code == "archive_too_large"
    assert "4000 bytes" in finding.message and "3000 left" in finding.message
    assert size_findings(contents, make_host(store={"graphRootAllocated": 8000})) == []
    assert size_findings(contents, make_host(store={"graphRootAllocated": 0})) == []
