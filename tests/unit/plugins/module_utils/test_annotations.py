# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._annotations import (
    CRIO,
    CRIU,
    KEYS,
    PODMAN,
    PREFIXES,
    as_annotations,
    checkpoint_facts,
    config_facts,
    facts_in,
)

PODMANS = {
    *("name", "rawImageName", "rootfsImageID", "rootfsImageName", "podman.version", "criu.version"),
    *("runtime.name", "runtime.version", "conmon.version", "host.arch", "host.kernel", "cgroups.version"),
    *("distribution.version", "distribution.name"),
}


def test_podman_has_fourteen_keys() -> None:
    assert set(KEYS[PODMAN].values()) == {f"io.podman.annotations.checkpoint.{key}" for key in PODMANS}
    assert len(PODMANS) == 14


def test_families_call_the_same_fact_by_their_own_names() -> None:
    facts = {"name": "db", "cgroup_version": "v2", "engine_version": "5.8.2", "pod_name": "shop"}
    assert as_annotations(facts, (PODMAN, CRIU, CRIO)) == {
        "io.podman.annotations.checkpoint.name": "db",
        "io.podman.annotations.checkpoint.cgroups.version": "v2",
        "io.podman.annotations.checkpoint.podman.version": "5.8.2",
        "org.criu.checkpoint.container.name": "db",
        "org.criu.checkpoint.cgroup.version": "v2",
        "org.criu.checkpoint.engine.version": "5.8.2",
        "org.criu.checkpoint.pod.name": "shop",
        "io.kubernetes.cri-o.annotations.checkpoint.name": "db",
        "io.kubernetes.cri-o.annotations.checkpoint.cri-o.version": "5.8.2",
    }


@pytest.mark.parametrize("family", PREFIXES)
def test_what_was_written_is_read(family: str) -> None:
    facts = {fact: f"of {fact}" for fact in KEYS[family]}
    assert facts_in({**as_annotations(facts, (family,)), "org.opencontainers.image.created": "now"}) == facts


def test_what_podman_would_write_itself(config_json, make_host) -> None:
    host = make_host(host={"conmon": {"version": "conmon version 2.1.13"}})
    facts = checkpoint_facts(config_json(RawImageName="shop/web"), host, "4.2.1")
    written = as_annotations(facts)
    assert set(written) == set(KEYS[PODMAN].values())
    short = {key[len(PREFIXES[PODMAN]) :]: value for key, value in written.items()}
    assert short["name"] == "web"
    assert short["rawImageName"] == "shop/web"
    assert short["podman.version"] == "5.8.2"
    assert short["criu.version"] == "40201"
    assert short["runtime.name"] == "crun"
    assert "+CRIU" in short["runtime.version"]
    assert (short["host.arch"], short["cgroups.version"]) == ("amd64", "v2")


def test_config_alone_has_what_every_engine_looks_for(config_json) -> None:
    facts = config_facts(config_json(RawImageName="shop/web", rootfsImageName=None, runtime="runc"))
    assert facts["runtime"] == "runc" and "image" not in facts
    written = as_annotations(facts, PREFIXES)
    gates = ["io.podman.annotations.checkpoint.runtime.name", "io.kubernetes.cri-o.annotations.checkpoint.name"]
    assert {*gates, "org.criu.checkpoint.container.name", "org.criu.checkpoint.engine.name"} <= written.keys()


def test_config_of_another_kind_tells_nothing() -> None:
    assert config_facts({"name": ["x"], "runtime": 7}) == {"engine": "podman"}


@pytest.mark.parametrize(
    ("version", "number"), [("4.2.1", "40201"), ("3.17.1", "31701"), ("4.1", "40100"), ("4", "40000")]
)
def test_version_of_criu_is_a_number(config_json, make_host, version, number) -> None:
    assert checkpoint_facts(config_json(), make_host(), version)["criu_version"] == number


@pytest.mark.parametrize("version", [None, "", "unknown", "4.2.1-rc1", "4.2.1.7"])
def test_what_is_not_known_is_left_out(config_json, make_host, version) -> None:
    facts = checkpoint_facts(config_json(rootfsImageName=""), make_host(host={"distribution": None}), version)
    assert facts.keys().isdisjoint({"criu_version", "image", "raw_image", "distribution", "conmon_version"})
