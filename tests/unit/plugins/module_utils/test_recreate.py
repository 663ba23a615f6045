# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Definitions as podman 5.4 and 5.8 wrote them for containers with all kinds of options.

That podman makes the same containers of the requests is seen on real hosts, in tests/integration/test_cold.py.
"""

from __future__ import annotations

import copy
import json
import pathlib
import typing as t

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _recreate
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN, Recipe, differences, unknown_fields
from ansible_collections.ferry.podman.plugins.module_utils._repod import PodRecipe, unknown_pod_fields

HERE = pathlib.Path(__file__).parent
RECORDED = {version: json.loads((HERE / f"definitions-{version}.json").read_text()) for version in ("5.4", "5.8")}
CONTAINERS = [
    pytest.param(version, name, id=f"{version}-{name}")
    for version, recorded in RECORDED.items()
    for name in recorded["containers"]
]


def recipe_of(version: str, name: str, **changes: t.Any) -> Recipe:
    recorded = RECORDED[version]["containers"][name]
    infra = next((each["definition"]["id"] for each in both(version) if each["definition"]["pause"]), "")
    config = {**copy.deepcopy(recorded["definition"]), **changes}
    return Recipe(config, copy.deepcopy(recorded["inspect"]), infra=infra)


def both(version: str) -> list[dict]:
    return list(RECORDED[version]["containers"].values())


def made_of(recipe: Recipe) -> dict:
    """What podman tells of a container that it has made of a request, where it has done well."""
    made = copy.deepcopy(recipe.inspected)
    made["Id"] = "9" * 64
    for network in made["NetworkSettings"]["Networks"].values():
        network["Aliases"] = [
            alias.replace(recipe.config["id"][:12], "9" * 12) for alias in network.get("Aliases") or []
        ]
    made["Config"]["Annotations"] = {**(made["Config"].get("Annotations") or {}), ORIGIN: recipe.config["id"]}
    return made


@pytest.mark.parametrize(("version", "name"), CONTAINERS)
def test_every_definition_is_understood(version: str, name: str) -> None:
    recipe = recipe_of(version, name)
    assert unknown_fields(recipe.config) == []
    request = recipe.request("image", "")
    assert request["name"] == name and request["annotations"][ORIGIN] == recipe.config["id"]
    assert None not in request.values()
    assert json.loads(json.dumps(request)) == request


@pytest.mark.parametrize(("version", "name"), CONTAINERS)
def test_same_container_does_not_differ(version: str, name: str) -> None:
    recipe = recipe_of(version, name)
    assert differences(recipe, made_of(recipe)) == []


@pytest.mark.parametrize(("version", "name"), CONTAINERS)
def test_every_field_that_differs_is_named(version: str, name: str) -> None:
    """Whatever is lost of what an inspect answer tells is seen, one field at a time."""
    recipe = recipe_of(version, name)
    seen = 0
    for field in dict(_recreate._compared(recipe.inspected)):
        made = made_of(recipe)
        *above, last = field.split(".", 2)
        inside = made
        for key in above:
            inside = inside[key]
        inside[last] = None
        if field == "Id":
            continue
        assert field in differences(recipe, made), field
        seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"Config": {"Env": ["A=2"]}}, "Config.Env"),
        ({"Config": {"Annotations": {}}}, "Config.Annotations"),
        ({"Config": {"Hostname": "other"}}, "Config.Hostname"),
        ({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}}, "HostConfig.RestartPolicy"),
        ({"HostConfig": {"Ulimits": []}}, "HostConfig.Ulimits"),
        ({"HostConfig": {"IpcMode": "host"}}, "HostConfig.IpcMode"),
        ({"NetworkSettings": {"Networks": {"netone": {"Aliases": ["al1"]}}}}, "NetworkSettings.Networks"),
    ],
)
def test_what_a_running_container_tells_otherwise_is_compared_too(change: dict, field: str) -> None:
    recipe = recipe_of("5.8", "many")
    made = made_of(recipe)
    for part, values in change.items():
        made[part].update(values)
    # The host name is one of the aliases on networks, too.
    assert field in differences(recipe, made) and set(differences(recipe, made)) <= {field, "NetworkSettings.Networks"}


def test_everything_of_a_definition_is_asked_for() -> None:
    request = recipe_of("5.8", "many").request("the-image")
    expected = {
        "image": "the-image",
        "raw_image_name": "localhost/lab/keeper",
        "image_volume_mode": "ignore",
        "entrypoint": ["/bin/sh", "-c"],
        "command": ["echo hi; sleep 100"],
        "user": "1234:5678",
        "groups": ["4321"],
        "work_dir": "/tmp",
        "hostname": "hh.example",
        "labels": {"io.x": "a b", "l1": "v1"},
        "unsetenvall": True,
        "secret_env": {"SECENV": "sec2"},
        "secrets": [{"Source": "sec1", "Target": "/run/s1", "UID": 7, "GID": 0, "Mode": 0o440}],
        "cap_add": ["CAP_SYS_TIME"],
        "cap_drop": ["CAP_CHOWN"],
        "seccomp_profile_path": "unconfined",
        "no_new_privileges": True,
        "mask": ["/sys/firmware/x"],
        "devices": [
            {"path": "/dev/fuse:/dev/fuse2:r", "type": "", "major": 0, "minor": 0},
            {"path": "/dev/zero", "type": "", "major": 0, "minor": 0},
        ],
        "restart_policy": "on-failure",
        "restart_tries": 7,
        "stop_signal": 10,
        "stop_timeout": 42,
        "timeout": 99,
        "terminal": True,
        "stdin": True,
        "init": True,
        "read_only_filesystem": True,
        "read_write_tmpfs": False,
        "shm_size": 33 << 20,
        "umask": "0027",
        "timezone": "Europe/Berlin",
        "passwd_entry": "u:x:1234:1234::/:/bin/sh",
        "sdnotifyMode": "ignore",
        "cgroup_parent": "/foo",
        "oom_score_adj": 100,
        "personality": {"domain": "LINUX32"},
        "hostadd": ["foo:1.2.3.4"],
        "dns_server": ["9.9.9.9"],
        "dns_search": ["ex.org"],
        "dns_option": ["ndots:3"],
        "expose": {"7000": "tcp", "7777": "tcp"},
        "log_configuration": {"driver": "json-file", "size": 3_000_000, "options": {"tag": "tagged"}},
        "systemd": "false",
    }
    assert {key: request.get(key) for key in expected} == expected
    assert request["env"]["B"] == "two words"
    assert request["sysctl"]["net.ipv4.ip_forward"] == "1"
    assert {limit["type"] for limit in request["r_limits"]} == {"nofile", "core"}
    assert request["resource_limits"]["cpu"]["quota"] == 50000 and "devices" not in request["resource_limits"]
    assert request["healthconfig"]["Retries"] == 9 and request["startupHealthConfig"]["Successes"] == 2
    assert request["health_check_on_failure_action"] == 3
    assert {volume["Dest"] for volume in request["volumes"]} == {"/data", "/data/inner", "/anon"}
    assert {mount["destination"] for mount in request["mounts"]} == {"/bind", "/bind2", "/tt", "/t2"}
    assert request["Networks"]["netone"] == {
        "static_ips": ["10.77.7.50"],
        "aliases": ["al1"],
        "static_mac": "92:d0:c6:0a:29:33",
        "interface_name": "ethx",
    }
    assert len(request["portmappings"]) == 2


def test_namespaces_of_the_host() -> None:
    request = recipe_of("5.8", "priv").request("image")
    modes = {key: request[key]["nsmode"] for key in ("pidns", "ipcns", "utsns", "cgroupns", "netns")}
    assert set(modes.values()) == {"host"}
    assert "shm_size" not in request and "cap_add" not in request and "unmask" not in request
    assert request["privileged"] and request["systemd"] == "always"


def test_users_of_its_own() -> None:
    request = recipe_of("5.8", "umap").request("image")
    assert request["userns"] == {"nsmode": "private"}
    assert request["idmappings"]["UIDMap"] == [{"container_id": 0, "host_id": 100000, "size": 5000}]


def test_security_that_was_taken_away() -> None:
    request = recipe_of("5.8", "ovl").request("image")
    assert request["unmask"] == ["ALL"] and request["selinux_opts"] == ["disable"]
    assert request["cap_add"] == ["CAP_NET_RAW"] and "CAP_CHOWN" in request["cap_drop"]
    assert request["device_cgroup_rule"] == [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]
    assert request["overlay_volumes"] == [{"source": "/srv/bind", "destination": "/b", "options": ["O"]}]
    assert request["image_volumes"][0]["Source"] == "localhost/lab/counter"


def test_removal_after_its_end() -> None:
    request = recipe_of("5.8", "rmd").request("image")
    assert request["remove"] is True and request["volatile"] is True
    assert request["netns"] == {"nsmode": "none"}


def test_binds_of_volumes_from() -> None:
    """Podman forgets that they were asked for."""
    mounts = recipe_of("5.8", "dep").request("image")["mounts"]
    assert sorted(mount["destination"] for mount in mounts) == ["/bind", "/bind2"]


def test_other_containers_are_named() -> None:
    recipe = recipe_of("5.8", "dep")
    (other,) = _recreate.sharing(recipe.config)
    named = Recipe(recipe.config, recipe.inspected, names={other: "plain"}).request("image")
    assert named["dependencyContainers"] == ["plain"]
    assert named["netns"] == {"nsmode": "container", "value": "plain"}


def test_policy_of_a_container_that_is_held() -> None:
    recipe = recipe_of("5.8", "ovl", restart_policy="no")
    held = Recipe(recipe.config, recipe.inspected, policy=("on-failure", 4))
    assert (held.request("")["restart_policy"], held.request("")["restart_tries"]) == ("on-failure", 4)
    assert differences(held, {**made_of(held)}) == ["HostConfig.RestartPolicy"]


def test_volumes_that_are_empty_are_not_filled_from_the_image() -> None:
    recipe = recipe_of("5.8", "many")
    filled = Recipe(recipe.config, recipe.inspected, not_filled=frozenset({"vol1"}), anonymous=frozenset({"vol2"}))
    volumes = {volume["Name"]: volume for volume in filled.request("")["volumes"]}
    one, other = volumes["vol1"], volumes["vol2"]
    assert "nocopy" in one["Options"] and not one["IsAnonymous"]
    assert "nocopy" not in other["Options"] and other["IsAnonymous"]
    made = made_of(filled)
    made["Mounts"][0]["Options"].append("nocopy")
    assert differences(filled, made) == []


def test_default_paths_that_were_unmasked() -> None:
    recipe = recipe_of("5.8", "plain")
    linux = recipe.config["spec"]["linux"]
    linux["maskedPaths"].remove("/proc/keys")
    linux["readonlyPaths"].remove("/proc/sys")
    assert recipe.request("")["unmask"] == ["/proc/keys", "/proc/sys"]


def test_networks_of_podman_6() -> None:
    recipe = recipe_of("5.8", "plain", newNetworks=None, orderedNetworks=[{"name": "lan", "static_ips": ["10.9.0.7"]}])
    assert recipe.request("")["Networks"] == {"lan": {"static_ips": ["10.9.0.7"], "aliases": []}}
    assert _recreate.fixed_addresses(recipe.config) == {"lan": ["10.9.0.7"]}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"gpus": ["all"]}, ["gpus"]),
        ({"rootfs": "/srv/root"}, ["rootfs"]),
        ({"preserveFds": 3}, ["preserveFds"]),
        ({"news": {"of": "podman 7"}}, ["news"]),
        ({"news": None, "older": []}, []),
        ({"orderedNetworks": [{"name": "lan", "rate": 3}]}, ["orderedNetworks.rate"]),
    ],
)
def test_fields_that_are_not_known_are_named(change: dict, names: list[str]) -> None:
    assert unknown_fields({**recipe_of("5.8", "plain").config, **change}) == names


def test_fields_of_the_specification_that_are_not_known_are_named() -> None:
    config = recipe_of("5.8", "plain").config
    config["spec"]["hooks"] = {"prestart": [{}]}
    config["spec"]["process"]["scheduler"] = {"policy": "SCHED_FIFO"}
    config["spec"]["linux"]["timeOffsets"] = {"boottime": {}}
    assert unknown_fields(config) == ["spec.hooks", "spec.linux.timeOffsets", "spec.process.scheduler"]


# -- pods -------------------------------------------------------------------------------------------------------


def pod_of(version: str) -> PodRecipe:
    recorded = RECORDED[version]["pods"]["p1"]
    return PodRecipe(
        copy.deepcopy(recorded["definition"]), copy.deepcopy(recorded["inspect"]), recipe_of(version, "p1inf")
    )


@pytest.mark.parametrize("version", RECORDED)
def test_everything_of_a_pod_is_asked_for(version: str) -> None:
    pod = pod_of(version)
    assert unknown_pod_fields(pod.config) == []
    request = pod.request()
    expected = {
        "name": "p1",
        "hostname": "ph",
        "labels": {"pl": "1", ORIGIN: pod.config["id"]},
        "exit_policy": "stop",
        "restart_policy": "on-failure",
        "restart_tries": 3,
        "share_parent": True,
        "shared_namespaces": ["ipc", "net", "pid", "uts"],
        "infra_name": "p1inf",
        "hostadd": ["foo:1.1.1.1"],
        "dns_server": ["9.9.9.9"],
        "shm_size": 20 << 20,
        "security_opt": ["no-new-privileges"],
    }
    assert {key: request.get(key) for key in expected} == expected
    assert request["Networks"]["netone"]["static_ips"] == ["10.77.7.60"]
    assert request["Networks"]["netone"]["aliases"] == ["pa"]
    assert [volume["Name"] for volume in request["volumes"]] == ["pv"]
    assert "infra_image" not in request and "infra_command" not in request and "no_infra" not in request


@pytest.mark.parametrize("version", RECORDED)
def test_pods_are_compared(version: str) -> None:
    pod = pod_of(version)
    assert pod.infra is not None
    made = {**copy.deepcopy(pod.inspected), "Labels": {"pl": "1", ORIGIN: pod.config["id"]}, "Id": "9" * 64}
    assert pod.differences(made, made_of(pod.infra)) == []
    assert pod.differences({**made, "ExitPolicy": "continue"}, made_of(pod.infra)) == ["pod.ExitPolicy"]
    assert pod.differences({**made, "SharedNamespaces": ["net"]}, made_of(pod.infra)) == ["pod.SharedNamespaces"]
    other = made_of(pod.infra)
    other["HostConfig"]["Dns"] = []
    assert pod.differences(made, other) == ["infra.HostConfig.Dns"]


def test_containers_of_a_pod_join_it() -> None:
    recipe = recipe_of("5.8", "p1b")
    request = Recipe(recipe.config, recipe.inspected, infra=recipe.infra, inherited=frozenset({"/pv"})).request(
        "i", "p1"
    )
    assert request["pod"] == "p1"
    assert {request[key]["nsmode"] for key in ("netns", "ipcns", "utsns", "pidns")} == {"pod"}
    assert [volume["Name"] for volume in request["volumes"]] == ["shared"]
    assert "hostname" not in request and "cgroup_parent" not in request
    assert recipe_of("5.8", "p1i").request("i", "p1")["init_container_type"] == "always"


def test_pod_without_infra_container() -> None:
    definition = {"id": "5" * 64, "name": "bare", "ExitPolicy": "continue", "sharesCgroup": True}
    request = PodRecipe(definition, {}, None).request()
    assert request["no_infra"] is True and "shared_namespaces" not in request
