# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ferry.podman.plugins.filter.drain_plan import FilterModule

MIB = 1024**2
NO_HEADROOM = {"memory_headroom": "0", "disk_headroom": "0"}

drain_plan = FilterModule().filters()["drain_plan"]


def places(plan) -> dict[str, str]:
    return {move["name"]: move["destination"] for move in plan["moves"]}


def names(entries) -> list[str]:
    return [entry["name"] for entry in entries]


def reason(plan, kind: str = "blocks") -> str:
    assert len(plan[kind]) == 1
    return plan[kind][0]["reason"]


# -- policies -------------------------------------------------------------------------------------------------


def test_each_policy_has_its_list(container, host) -> None:
    labels = {name: {"ferry.evacuate": name} for name in ("live", "cold", "stop", "keep", "block")}
    here = host(*[container(name, labels=labels[name]) for name in labels], container("plain"))
    plan = drain_plan({"a": here, "b": host()}, ["a"])
    assert {move["name"]: move["method"] for move in plan["moves"]} == {"live": "live", "cold": "cold", "plain": "live"}
    assert (names(plan["stops"]), names(plan["keeps"]), names(plan["blocks"])) == (["stop"], ["keep"], ["block"])
    assert plan["blocks"][0]["code"] == "policy"
    assert not plan["refused"]
    assert plan["msg"] == "To move: 3, to 1 host. To stop: 1. Stays: 1. Blocked: 1."


def test_lines_tell_the_whole_plan(container, host) -> None:
    here = host(*[container(name, labels={"ferry.evacuate": name}) for name in ("live", "stop", "keep", "block")])
    lines = drain_plan({"a": here, "b": host()}, ["a"])["lines"]
    assert list(lines) == ["a"]
    move, *others = lines["a"]
    assert move.startswith("live moves to b (live, ") and " of memory" in move
    assert [line.split(":")[0] for line in others] == ["stop stops", "keep stays", "block BLOCKED"]


def test_origin_is_kept_on_the_way_to_a_third_host(container, host) -> None:
    hosts = {"a": host(container("own"), container("guest")), "b": host(), "c": host()}
    moves = drain_plan(hosts, ["a"], origins={"a/guest": "c"}, drained=["c"])["moves"]
    assert {move["name"]: move["origin"] for move in moves} == {"own": "a", "guest": "c"}
    assert {move["destination"] for move in moves} == {"b"}


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ({"*": "stop"}, "by policies[*]"),
        ({"*": "keep", "web-*": "stop"}, "by policies[web-*]"),
        ({"web-*": "keep", "web-1": "stop"}, "by policies[web-1]"),
        ({"web-1": "keep", "a/web-1": "stop"}, "by policies[a/web-1]"),
        ({"web-*": "keep", "a/web-?": "stop"}, "by policies[a/web-?]"),
        ({"b/web-1": "keep", "w[e]b-1": "stop"}, "by policies[w[e]b-1]"),
    ],
)
def test_closest_pattern_counts_before_the_label(container, host, policies, expected) -> None:
    hosts = {"a": host(container("web-1", labels={"ferry.evacuate": "block"})), "b": host()}
    for given in (policies, dict(reversed(policies.items()))):
        assert reason(drain_plan(hosts, ["a"], policies=given), "stops") == f"stop {expected}."


def test_default_policy(container, host) -> None:
    plan = drain_plan({"a": host(container("web")), "b": host()}, ["a"], default_policy="cold")
    assert plan["moves"][0]["reason"].startswith("cold by default; ")


def test_label_that_is_no_policy_blocks_unless_it_is_overridden(container, host) -> None:
    hosts = {"a": host(container("web", labels={"ferry.evacuate": "lvie"})), "b": host()}
    assert "'lvie', none of live, cold" in reason(drain_plan(hosts, ["a"]))
    assert drain_plan(hosts, ["a"], policies={"web": "live"})["moves"]


@pytest.mark.parametrize("status", ["exited", "created", "stopped"])
def test_what_does_not_run_stays(container, host, status, finding) -> None:
    hosts = {"a": host(container("job", status=status, findings=[finding("not_running")])), "b": host()}
    assert status in reason(drain_plan(hosts, ["a"]), "keeps")
    assert drain_plan(hosts, ["a"], default_policy="stop")["keeps"]
    assert drain_plan(hosts, ["a"], default_policy="cold")["moves"][0]["status"] == status
    assert drain_plan(hosts, ["a"], default_policy="block")["blocks"]


@pytest.mark.parametrize(
    ("fallback", "kind", "begin"),
    [
        ("block", "blocks", "[init] What is found of init. Do something."),
        ("cold", "moves", "cold, because it cannot move live: [init] What"),
        ("stop", "stops", "stop, because it cannot move live: [init] What"),
    ],
)
def test_what_criu_refuses_falls_back(container, host, finding, fallback, kind, begin) -> None:
    hosts = {"a": host(container("web", findings=[finding("init"), finding("x", "notice")])), "b": host()}
    assert reason(drain_plan(hosts, ["a"], fallback=fallback), kind).startswith(begin)


def test_only_a_default_falls_back(container, host, finding) -> None:
    hosts = {"a": host(container("web", findings=[finding("init")], labels={"ferry.evacuate": "live"})), "b": host()}
    assert drain_plan(hosts, ["a"], fallback="cold")["blocks"][0]["code"] == "unmovable"


def test_finding_that_has_nothing_to_do_with_criu_blocks_cold_moves_too(container, host, finding) -> None:
    hosts = {"a": host(container("web", findings=[finding("rootless")])), "b": host()}
    assert "Nor can it move cold: [rootless]" in reason(drain_plan(hosts, ["a"], fallback="cold"))


def test_only_selects(container, host) -> None:
    hosts = {"a": host(container("web-1"), container("web-2"), container("db", pod="p"), container("log", pod="p"))}
    plan = drain_plan({**hosts, "b": host()}, "a", only="web-1, a/lo*")
    assert sorted(places(plan)) == ["db", "log", "web-1"]
    assert reason(plan, "keeps") == "It is not among those asked for."
    assert plan["keeps"][0]["code"] == "not_asked_for"
    assert plan["lines"]["a"][-1] == "Not asked for: 1 that run on."


# -- verdicts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "cold"),
    [
        ({"arch": "arm64"}, "architecture", False),
        ({"runtime": {"name": "runc", "version": "1.2"}}, "runtime_differs", True),
        ({"cgroup_version": "v1"}, "cgroup_version", True),
        ({"cgroup_manager": "cgroupfs"}, "cgroup_manager", True),
        ({"can_checkpoint": False}, "destination_unfit", True),
        ({"podman_version": "5.7.9"}, "older_destination", True),
        ({"kernel": "6.1.200"}, "older_kernel", True),
        ({"criu": {"version": "3.17.1"}}, "older_criu", True),
    ],
)
def test_host_that_does_not_fit_is_not_chosen(container, host, changes, code, cold) -> None:
    hosts = {"a": host(container("web")), "b": host(**changes)}
    plan = drain_plan(hosts, ["a"])
    assert f"No host can take it: [{code}] " in reason(plan)
    assert plan["blocks"][0]["code"] == "unmovable"
    assert places(drain_plan({**hosts, "c": host()}, ["a"])) == {"web": "c"}
    assert bool(drain_plan(hosts, ["a"], fallback="cold")["moves"]) == cold


@pytest.mark.parametrize(
    "changes", [{"podman_version": "5.9.0"}, {"kernel": "6.13"}, {"criu": {"version": "4.2"}}, {"criu": None}]
)
def test_newer_or_unknown_is_no_reason(container, host, changes) -> None:
    assert drain_plan({"a": host(container("web")), "b": host(**changes)}, ["a"])["moves"]


def test_hosts_that_are_alike_are_told_together(container, host) -> None:
    hosts = {
        "a": host(container("web")),
        **{name: host(arch="arm64") for name in "bcd"},
        "e": host(can_checkpoint=False),
    }
    assert reason(drain_plan(hosts, ["a"])) == (
        "No host can take it: [architecture] it is arm64, the source amd64 (b, c, d); [destination_unfit] it cannot "
        "restore: It cannot checkpoint (e); not asked are those that are to be emptied (a)."
    )


def test_many_hosts_are_not_all_named(container, host) -> None:
    hosts = {"a": host(container("web")), **{f"h{n:02}": host(arch="arm64") for n in range(20)}}
    assert "(h00, h01, h02, h03, h04, h05, h06, h07 and 12 more)" in reason(drain_plan(hosts, ["a"]))


def test_warnings_can_be_forced_and_blockers_cannot(container, host) -> None:
    older = host(kernel="5.10", podman_version="5.4.2", criu={"version": "3.17.1"})
    assert drain_plan({"a": host(container("web")), "b": older}, ["a"], force="yes")["moves"]
    older["host"]["arch"] = "arm64"
    assert drain_plan({"a": host(container("web")), "b": older}, ["a"], force=True)["blocks"]


def test_podman_6_does_not_move_to_5(container, host) -> None:
    hosts = {"a": host(container("web"), podman_version="6.0.0"), "b": host()}
    assert "[networks_lost]" in reason(drain_plan(hosts, ["a"], force=True))


def test_source_that_cannot_checkpoint_is_told(container, host, finding) -> None:
    here = host(container("web"), can_checkpoint=False, findings=[finding("criu_absent")])
    assert "[source_unfit] the source cannot checkpoint: What is found of criu_absent" in reason(
        drain_plan({"a": here, "b": host()}, ["a"])
    )


def test_container_has_its_own_runtime(container, host) -> None:
    hosts = {"a": host(container("web", runtime="runc")), "b": host(), "c": host(runtime={"name": "runc"})}
    assert places(drain_plan(hosts, ["a"])) == {"web": "c"}


# -- pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "options", "expected"),
    [
        (("bind_absent", "blocker"), {}, "c"),
        (("bind_writable", "warning"), {}, "c"),
        (("bind_writable", "warning"), {"force": True}, "b"),
        (("host_network", "notice"), {}, "b"),
        (("older_criu", "blocker"), {}, "c"),
        (("older_criu", "blocker"), {"default_policy": "cold"}, "b"),
        (("bind_absent", "blocker"), {"default_policy": "cold"}, "c"),
    ],
)
def test_findings_of_a_pair(container, host, finding, found, options, expected) -> None:
    hosts = {"a": host(container("web")), "b": host(memory=200), "c": host()}
    pairs = {"a": {"b": {"containers": [container("web", findings=[finding(*found)])]}, "gone": {"containers": []}}}
    assert places(drain_plan(hosts, ["a"], pairs, **options)) == {"web": expected}


def test_finding_about_the_container_holds_for_every_destination(container, host, finding) -> None:
    hosts = {"a": host(container("web")), "b": host(), "c": host()}
    pairs = {"a": {"b": {"containers": [container("web", findings=[finding("io_uring")])]}}}
    assert "[io_uring]" in reason(drain_plan(hosts, ["a"], pairs))
    assert drain_plan(hosts, ["a"], pairs, fallback="cold")["moves"][0]["method"] == "cold"


def test_container_of_a_unit_does_not_move_live(container, host) -> None:
    hosts = {"a": host(container("web", labels={"PODMAN_SYSTEMD_UNIT": "web.service"})), "b": host()}
    assert "[systemd_unit] It belongs to the systemd unit web.service" in reason(drain_plan(hosts, ["a"]))
    assert drain_plan(hosts, ["a"], fallback="cold")["moves"][0]["method"] == "cold"


def test_volume_that_a_pod_shares_is_no_reason_against_the_pod(container, host, finding) -> None:
    pod = [container(name, pod="p", volumes=["v"]) for name in ("p0", "p1")]
    told = [{**one, "findings": [finding("volume_shared"), finding("pod_required")]} for one in pod]
    hosts, pairs = {"a": host(*pod), "b": host()}, {"a": {"b": {"containers": told}}}
    assert len(drain_plan(hosts, ["a"], pairs, default_policy="cold")["moves"]) == 2
    assert len(drain_plan(hosts, ["a"], pairs)["blocks"]) == 2


def test_pair_that_could_not_be_asked_is_not_chosen(container, host) -> None:
    hosts = {"a": host(container("web")), "b": host()}
    plan = drain_plan(hosts, ["a"], {"a": {"b": {"failed": True, "msg": "Permission denied."}}})
    assert "[pair_unknown] it could not be asked: Permission denied (b)" in reason(plan)


def test_estimate_of_a_pair_is_used(container, host) -> None:
    hosts = {"a": host(container("web", estimate=None)), "b": host()}
    plan = drain_plan(hosts, ["a"], {"a": {"b": {"containers": [container("web", memory=7)]}}})
    assert (plan["moves"][0]["memory"], plan["moves"][0]["downtime_ms"]) == (7 * MIB, 400)


def test_room_that_a_pair_lacks_refuses_the_plan(container, host, finding) -> None:
    hosts = {"a": host(container("web"), container("db")), "b": host()}
    pairs = {"a": {"b": {"containers": [container("web", findings=[finding("disk_short")])]}}}
    plan = drain_plan(hosts, ["a"], pairs, fallback="cold")
    assert plan["refused"] and not plan["moves"]
    assert {entry["name"]: entry["code"] for entry in plan["blocks"]} == {"web": "no_room", "db": "plan_refused"}
    assert "What is found of disk_short (b)" in plan["blocks"][1]["reason"]


# -- what is there only once -----------------------------------------------------------------------------------


def network(*addresses: str, shared: bool = False) -> dict[str, t.Any]:
    return {"name": "lan", "addresses": list(addresses), "shared": shared}


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        ({"name": "web"}, {"name": "web"}, "a container of the name web"),
        ({"name": "web"}, {"name": "web", "status": "exited"}, "a container of the name web"),
        ({"volumes": ["data"]}, {"volumes": ["data"]}, "a volume of the name data"),
        ({"volumes": ["data"]}, {"volumes": ["data"], "status": "exited"}, "a volume of the name data"),
        ({"ports": ["0.0.0.0:80/tcp"]}, {"ports": ["0.0.0.0:80/tcp"]}, "port 80/tcp is in use"),
        ({"ports": ["0.0.0.0:80/tcp"]}, {"ports": ["10.0.0.1:80/tcp"]}, "port 80/tcp is in use"),
        ({"ports": ["10.0.0.1:80/tcp"]}, {"ports": ["80"]}, "port 80/tcp is in use"),
        ({"ports": ["[::1]:80/udp"]}, {"ports": ["[::1]:80/udp"]}, "port 80/udp is in use"),
        ({"networks": [network("10.9.0.7", shared=True)]}, {"networks": [network("10.9.0.7")]}, "address 10.9.0.7"),
        ({"labels": {"ferry.spread": "x"}}, {"labels": {"ferry.spread": "x"}}, "it has one of the group x"),
    ],
)
def test_what_is_in_use_is_avoided(container, host, mine, theirs, told) -> None:
    here, there = ({"name": "a1", **mine}, {"name": "b1", **theirs})
    hosts = {"a": host(container(**here)), "b": host(container(**there), memory=200)}
    assert told in reason(drain_plan(hosts, ["a"]))
    assert list(places(drain_plan({**hosts, "c": host()}, ["a"])).values()) == ["c"]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"ports": ["10.0.0.1:80/tcp"]}, {"ports": ["10.0.0.2:80/tcp"]}),
        ({"ports": ["80/tcp"]}, {"ports": ["80/udp"]}),
        ({"ports": ["80/tcp"]}, {"ports": ["80/tcp"], "status": "exited"}),
        ({"networks": [network("10.9.0.7")]}, {"networks": [network("10.9.0.7")]}),
        ({"labels": {"ferry.spread": "x"}}, {"labels": {"ferry.spread": "y"}}),
    ],
)
def test_what_does_not_meet_is_no_reason(container, host, mine, theirs) -> None:
    hosts = {"a": host(container("a1", **mine)), "b": host(container("b1", **theirs))}
    assert places(drain_plan(hosts, ["a"])) == {"a1": "b"}


@pytest.mark.parametrize(
    "changes",
    [{"podman_version": "5.6.2"}, {"runtime": {"name": "crun", "version": "crun version 1.22"}}],
)
def test_host_that_cannot_close_connections_must_have_the_address_free(container, host, changes) -> None:
    here = host(container("a1", networks=[network("10.88.0.2")]), podman_version="5.6.0")
    there = host(container("b1", networks=[network("10.88.0.2")]), **changes)
    assert "the address 10.88.0.2 is in use" in reason(drain_plan({"a": here, "b": there}, ["a"]))
    assert drain_plan({"a": here, "b": there}, ["a"], default_policy="cold")["moves"]


def test_address_that_is_shared_keeps_the_others_too(container, host) -> None:
    """Connections are kept then, and with them all addresses."""
    mine = [network("10.9.0.7", shared=True), {"name": "b", "addresses": ["10.88.0.2"], "shared": False}]
    hosts = {"a": host(container("a1", networks=mine)), "b": host(container("b1", networks=mine[1:]))}
    assert "the address 10.88.0.2 is in use" in reason(drain_plan(hosts, ["a"]))
    assert drain_plan(hosts, ["a"], default_policy="cold")["moves"]


def test_two_that_move_do_not_meet_either(container, host) -> None:
    hosts = {"a": host(*[container(f"w{n}", ports=["443/tcp"]) for n in range(3)]), "b": host(), "c": host()}
    plan = drain_plan(hosts, ["a"])
    assert sorted(places(plan).values()) == ["b", "c"]
    assert not plan["refused"]
    assert plan["blocks"][0]["code"] == "no_destination"
    assert "its port 443/tcp is in use (b, c); not asked are those that are to be emptied (a)" in reason(plan)


def test_places_are_found_for_all_if_there_are_some(container, host) -> None:
    """The larger one alone would go where the other one must."""
    here = host(container("any", 20, ports=["80"]), container("tied", 10, ports=["80"], volumes=["v"]))
    hosts = {"a": here, "b": host(memory=200), "c": host(container("c1", volumes=["v"]))}
    assert places(drain_plan(hosts, ["a"])) == {"any": "c", "tied": "b"}


def test_spread_can_be_a_wish(container, host) -> None:
    here = [container(f"w{n}", labels={"ferry.spread": "x"}) for n in range(4)]
    hosts = {"a": host(*here), "b": host(memory=1000), "c": host(memory=50)}
    assert len(drain_plan(hosts, ["a"])["blocks"]) == 2
    plan = drain_plan(hosts, ["a"], spread="prefer")
    assert sorted(places(plan).values()) == ["b", "b", "c", "c"]


def test_volume_of_two_does_not_move(container, host) -> None:
    here = host(container("w", volumes=["v"]), container("backup", volumes=["v"], status="exited"), container("x"))
    plan = drain_plan({"a": here, "b": host()}, ["a"])
    assert (list(places(plan)), plan["blocks"][0]["code"]) == (["x"], "volume_shared")
    assert "also that of backup" in reason(plan)


# -- room -----------------------------------------------------------------------------------------------------


def test_load_is_spread_by_share(container, host) -> None:
    hosts = {"a": host(*[container(f"w{n}", 5) for n in range(30)])}
    even = drain_plan({**hosts, **{name: host(memory=100) for name in "bcd"}}, ["a"])
    assert [one["containers"] for one in even["destinations"]] == [10, 10, 10]
    uneven = drain_plan({**hosts, "b": host(memory=400), "c": host(memory=200)}, ["a"])
    assert [one["containers"] for one in uneven["destinations"]] == [20, 10]
    assert uneven["destinations"][1] == {
        "name": "c",
        "containers": 10,
        "memory_left": 130 * MIB,
        "disk_left": 9000 * MIB - 10 * MIB,
    }


@pytest.mark.parametrize(("headroom", "fits"), [("20%", True), ("21%", False), ("20M", True), (21 * MIB, False)])
def test_memory_headroom(container, host, headroom, fits) -> None:
    hosts = {"a": host(container("w", 80)), "b": host(memory=100)}
    assert drain_plan(hosts, ["a"], memory_headroom=headroom)["refused"] != fits


@pytest.mark.parametrize(
    ("count", "parallel", "disk", "fits"),
    [
        (1, 1, 30, True),  # 10 of files, and twice the archive of 10
        (1, 1, 29, False),
        (3, 1, 50, True),  # the archives go again
        (3, 1, 49, False),
        (3, 2, 70, True),
        (3, 2, 69, False),
    ],
)
def test_disk_takes_files_and_the_archives_that_arrive_at_once(container, host, count, parallel, disk, fits) -> None:
    hosts = {"a": host(*[container(f"w{n}", 0, 10) for n in range(count)]), "b": host(disk=disk)}
    assert drain_plan(hosts, ["a"], parallel=parallel, **NO_HEADROOM)["refused"] != fits


def on_tmpfs(host, kind: str = "tmpfs", free: int = 10) -> dict[str, t.Any]:
    systems = [
        {"mount": "/", "type": "ext4", "free": 10_000 * MIB, "paths": ["/var/lib/containers/storage"]},
        {"mount": "/var/tmp", "type": kind, "free": free * MIB, "paths": ["/var/tmp"]},
    ]
    return host(memory=1, memory_available=30 * MIB, file_systems=systems)


@pytest.mark.parametrize(
    ("memory", "kind", "free", "missing"),
    [
        (15, "tmpfs", 15, None),  # once as memory of the container, once as the archive
        (16, "tmpfs", 16, {"memory": 2 * MIB, "disk": 0, "spool": 0}),
        (16, "ext4", 16, None),
        (15, "tmpfs", 10, {"memory": 0, "disk": 0, "spool": 5 * MIB}),
    ],
)
def test_archive_on_a_tmpfs_takes_memory(container, host, memory, kind, free, missing) -> None:
    hosts = {"a": host(container("w", memory)), "b": on_tmpfs(host, kind, free)}
    plan = drain_plan(hosts, ["a"], **NO_HEADROOM)
    assert plan["missing"] == ([{"host": "b", **missing}] if missing else [])


def test_containers_on_a_tmpfs_take_memory(container, host) -> None:
    paths = ["/var/lib/containers/storage", "/var/tmp"]
    there = host(file_systems=[{"mount": "/", "type": "tmpfs", "free": 100 * MIB, "paths": paths}], memory=50)
    hosts = {"a": host(container("w", 10, 5)), "b": there}
    assert drain_plan(hosts, ["a"], **NO_HEADROOM)["destinations"][0]["memory_left"] == (50 - 10 - 5 - 2 * 15) * MIB


def test_without_room_nothing_moves_and_what_is_missing_is_told(container, host) -> None:
    stopped = container("s", labels={"ferry.evacuate": "stop"})
    here = host(
        container("big", 60), container("small", 10), stopped, container("k", labels={"ferry.evacuate": "keep"})
    )
    hosts = {"a": here, "b": host(memory=50), "c": host(memory=30)}
    plan = drain_plan(hosts, ["a"], memory_headroom="20%")
    assert plan["refused"] and not plan["moves"] and not plan["stops"] and not plan["destinations"]
    assert names(plan["keeps"]) == ["k"]
    codes = {entry["name"]: entry["code"] for entry in plan["blocks"]}
    assert codes == {"big": "no_room", "small": "plan_refused", "s": "plan_refused"}
    # 60 of the 40 that can be planned with on b; what is freed there counts by four fifths.
    assert plan["missing"] == [{"host": "b", "memory": 25 * MIB, "disk": 0, "spool": 0}]
    assert plan["msg"].startswith(
        "The plan is refused, because 1 container finds no room. Missing: 25 MiB of memory on b. Free that much"
    )
    big = next(entry for entry in plan["blocks"] if entry["name"] == "big")
    assert (
        "it takes 60 MiB of memory, 0 MiB on disk, and 60 MiB more while it moves. The nearest to it is b."
        in (big["reason"])
    )


def test_they_are_packed_if_they_do_not_fit_otherwise(container, host) -> None:
    here = host(container("six", 60), container("five", 50), container("also", 50))
    plan = drain_plan({"a": here, "b": host(memory=100), "c": host(memory=60)}, ["a"], **NO_HEADROOM)
    assert places(plan) == {"six": "c", "five": "b", "also": "b"}
    assert "c has just room enough" in plan["moves"][0]["reason"]


def test_all_find_a_place_that_takes_a_search(container, host) -> None:
    """Each where it just fits, the largest first, leaves 10 on one host and 20 on the other."""
    here = host(*[container(f"w{size}", size) for size in (80, 70, 60, 30)])
    plan = drain_plan({"a": here, "b": host(memory=90), "c": host(memory=150)}, ["a"], **NO_HEADROOM)
    assert places(plan) == {"w80": "c", "w70": "c", "w60": "b", "w30": "b"}


def test_unknown_memory_is_assumed_and_said(container, host) -> None:
    hosts = {"a": host(container("w", estimate=None)), "b": host(memory=1000)}
    move = drain_plan(hosts, ["a"])["moves"][0]
    assert (move["memory"], move["downtime_ms"]) == (128 * MIB, None)
    assert "its memory is not known, 128 MiB are taken for it" in move["reason"]
    assert drain_plan(hosts, ["a"], default_memory="1G")["refused"]


def test_what_does_not_run_takes_no_memory(container, host) -> None:
    hosts = {"a": host(container("w", 500, status="exited"), container("x", estimate=None, status="exited"))}
    assert len(drain_plan({**hosts, "b": host()}, ["a"], default_policy="cold")["moves"]) == 2


# -- which host -----------------------------------------------------------------------------------------------


def test_closed_hosts_are_never_picked(container, host) -> None:
    hosts = {"a": host(container("w")), "b": host(container("x")), **{name: host() for name in ("c", "d1", "d2", "e")}}
    hosts["e"] = {"unreachable": True, "msg": "No route to host."}
    options = {"drained": "c,gone", "exclude": ["d?"]}
    plan = drain_plan(hosts, "a, b", **options)
    assert {entry["code"] for entry in plan["blocks"]} == {"no_destination"}
    assert plan["blocks"][0]["reason"] == (
        "No host can take it: not asked are those that are drained (c), excluded (d1, d2), no answer: No route to host "
        "(e), to be emptied (a, b)."
    )
    assert plan["warnings"] == ["e is left out: No route to host."]


def test_no_destination_is_no_reason_to_stop(container, host) -> None:
    assert drain_plan({"a": host(container("w"))}, ["a"], fallback="stop")["blocks"][0]["code"] == "no_destination"


def test_preferred_hosts_are_filled_first(container, host) -> None:
    hosts = {"a": host(*[container(f"w{n}", 30) for n in range(8)]), **{name: host() for name in ("b", "c", "d")}}
    plan = drain_plan(hosts, ["a"], prefer=["d", "c*"])
    assert [one["containers"] for one in plan["destinations"]] == [2, 3, 3]
    assert "d is preferred and has room" in plan["moves"][0]["reason"]


def test_important_ones_come_first(container, host) -> None:
    here = [container("low", 50, labels={"ferry.priority": "-1"}), container("mid", 10), container("mid2", 20)]
    here.append(container("top", labels={"ferry.priority": "10"}))
    here.append(container("odd", labels={"ferry.priority": "high"}))
    plan = drain_plan({"a": host(*here), "b": host()}, ["a"])
    assert names(plan["moves"]) == ["top", "mid2", "mid", "odd", "low"]
    assert plan["warnings"] == [
        "The label ferry.priority of odd on a is 'high', no whole number; it is taken for 0.",
    ]


def test_origin_is_gone_back_to(container, host) -> None:
    here = host(container("x", labels={"ferry.origin": "d"}), container("y"), container("z", 50))
    hosts = {"a": here, "b": host(), "c": host(memory=20), "d": host(memory=10)}
    plan = drain_plan(hosts, ["a"], origins={"a/y": "c", "id-z": "c", "b/x": "b"})
    assert places(plan) == {"x": "d", "y": "c", "z": "b"}
    assert "d is where it came from" in plan["moves"][1]["reason"]


# -- return ---------------------------------------------------------------------------------------------------


def test_what_was_moved_away_returns(container, host) -> None:
    hosts = {
        "a": host(container("own")),
        "b": host(container("x", labels={"ferry.origin": "a"}), container("y"), container("z")),
        "c": host(container("k"), container("s"), container("j", status="exited"), container("other")),
    }
    origins = {"b/y": "a", "id-k": "a", "c/s": "a", "c/j": "a", "c/other": "b"}
    plan = drain_plan(hosts, home=["a"], origins=origins, policies={"k": "keep", "s": "stop"})
    assert places(plan) == {"x": "a", "y": "a"}
    assert names(plan["keeps"]) == ["j", "k", "s"]
    assert plan["keeps"][2]["reason"] == "stop by policies[s], and nothing is stopped for a return."


def test_it_returns_to_its_origin_or_stays(container, host) -> None:
    hosts = {"a": host(memory=10), "b": host(container("x", 50)), "c": host()}
    plan = drain_plan(hosts, home=["a"], origins={"b/x": "a"})
    assert plan["refused"] and plan["missing"][0]["host"] == "a"
    plan = drain_plan({**hosts, "a": host(arch="arm64")}, home="a", origins={"b/x": "a"}, fallback="stop")
    assert "[architecture] it is arm64, the source amd64 (a)." in reason(plan)


@pytest.mark.parametrize(
    ("home", "options", "told"),
    [
        ({"failed": True, "msg": "no socket"}, {}, "its origin a is not open: no answer: no socket"),
        (None, {"drained": ["a"]}, "its origin a is not open: drained"),
    ],
)
def test_origin_that_is_not_open(container, host, home, options, told) -> None:
    hosts = {"a": home or host(), "b": host(container("x"))}
    plan = drain_plan(hosts, home=["a"], origins={"b/x": "a"}, **options)
    assert told in reason(plan)
    assert plan["blocks"][0]["code"] == "no_destination"


def test_pod_returns_whole(container, host) -> None:
    hosts = {"a": host(), "b": host(container("p1", pod="p"), container("p2", pod="p"), container("q", pod="q"))}
    assert places(drain_plan(hosts, home=["a"], origins={"b/p2": "a"})) == {"p1": "a", "p2": "a"}


# -- pods -----------------------------------------------------------------------------------------------------


def test_pods_move_whole(container, host) -> None:
    pods = [container(f"{pod}{n}", 30, pod=pod) for n in range(3) for pod in ("p", "q")]
    plan = drain_plan({"a": host(*pods), "b": host(), "c": host()}, ["a"])
    assert {move["pod"]: move["destination"] for move in plan["moves"]} == {"p": "b", "q": "c"}
    assert names(plan["moves"]) == ["p0", "p1", "p2", "q0", "q1", "q2"]
    small = {"a": host(*pods), "b": host(memory=60), "c": host(), "d": host(memory=60)}
    assert drain_plan(small, ["a"])["refused"]


def test_strictest_policy_of_a_pod_counts(container, host) -> None:
    pod = [container("p0", pod="p"), container("p1", pod="p", labels={"ferry.evacuate": "keep"})]
    plan = drain_plan({"a": host(*pod), "b": host()}, ["a"])
    assert names(plan["keeps"]) == ["p0", "p1"]
    assert plan["keeps"][0]["reason"] == "keep by its label ferry.evacuate, of p1 in its pod."


def test_pod_is_refused_for_one_of_its_containers(container, host, finding) -> None:
    pod = [container("p0", pod="p"), container("p1", pod="p", findings=[finding("dependencies")])]
    hosts = {"a": host(*pod, container("p2", pod="p", status="exited", findings=[finding("not_running")])), "b": host()}
    assert [entry["code"] for entry in drain_plan(hosts, ["a"])["blocks"]] == ["unmovable"] * 3
    assert {move["method"] for move in drain_plan(hosts, ["a"], fallback="cold")["moves"]} == {"cold"}


def test_volume_of_a_pod_moves(container, host) -> None:
    pod = [container("p0", pod="p", volumes=["v"]), container("p1", pod="p", volumes=["v"])]
    assert len(drain_plan({"a": host(*pod), "b": host()}, ["a"])["moves"]) == 2


# -- what is given --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "options", "told"),
    [
        ([], {"sources": ["a"]}, r"hosts is \[\]. Give a dictionary"),
        ({"a": 1}, {"sources": ["a"]}, r"hosts\['a'\] is 1"),
        ({"a": {}}, {"sources": ["a"]}, r"hosts\['a'\] has no host. Give what podman_checkpoint_info returned"),
        ({"a": {"host": {}}}, {"sources": ["a"]}, r"hosts\['a'\].host has no runtime"),
        ({}, {"sources": ["a"]}, r"sources names a, which is not among hosts. Those are \(none\)"),
        ({}, {}, "neither is given"),
        ({}, {"sources": "a", "home": "a"}, "both are given"),
        ({}, {"sources": "a", "policys": {}}, "no option policys. The options are pairs, sources, home"),
        ({}, {"sources": "a", "policies": {"x": "lvie"}}, r"policies\['x'\] is 'lvie'. It may be live, cold"),
        ({}, {"sources": "a", "policies": ["x"]}, "policies is .*Give a dictionary"),
        ({}, {"sources": "a", "default_policy": "x"}, "default_policy is 'x'"),
        ({}, {"sources": 1}, "sources is 1. Give a list of names"),
        ({}, {"sources": "a", "memory_headroom": "100%"}, "memory_headroom is '100%'"),
        ({}, {"sources": "a", "disk_headroom": "much"}, "disk_headroom is 'much'"),
        ({}, {"sources": "a", "parallel": "0"}, "parallel is '0'. Give a whole number from 1"),
        ({}, {"sources": "a", "force": "maybe"}, "force is 'maybe'. Give true or false"),
        ({}, {"sources": "a", "origins": {"a/b": 1}}, r"origins\['a/b'\] is 1"),
        ({}, {"sources": "a", "pairs": []}, "sources names a"),
        ({"a": {"failed": True, "msg": "boom"}}, {"sources": "a"}, "What runs on a is not known: boom"),
    ],
)
def test_what_is_wrong_is_named(hosts, options, told) -> None:
    with pytest.raises(AnsibleFilterError, match=f"ferry.podman.drain_plan: .*{told}"):
        drain_plan(hosts, **options)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"podman_version": 5}, r"hosts\['a'\].host.podman_version is 5, not a string"),
        ({"memory_free": None}, r"hosts\['a'\].host.memory_free is None, not a whole number"),
        ({"graph_root_free": True}, "graph_root_free is True, not a whole number"),
        ({"file_systems": [{"paths": [], "free": 1}]}, "file_systems has none with /var/lib/containers/storage"),
    ],
)
def test_wrong_host_is_named(host, changes, told) -> None:
    with pytest.raises(AnsibleFilterError, match=told):
        drain_plan({"a": host(**changes)}, ["a"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": None}, r"hosts\['a'\].containers\[0\] has no name"),
        ({"name": "other"}, r"hosts\['a'\].containers has other twice"),
        ({"status": 1}, r"hosts\['a'\].containers\['w'\].status is 1, not a string"),
        ({"labels": ["x"]}, r"containers\['w'\].labels is \['x'\]"),
        ({"ports": "80"}, r"containers\['w'\].ports is '80', not a list"),
        ({"ports": ["http"]}, "has the port 'http'. Ports are as 0.0.0.0:8080/tcp"),
        ({"estimate": {"memory": "1"}}, r"containers\['w'\].estimate.memory is '1', not a whole number"),
    ],
)
def test_wrong_container_is_named(container, host, changes, told) -> None:
    with pytest.raises(AnsibleFilterError, match=told):
        drain_plan({"a": host(container(**{"name": "w", **changes}), container("other")), "b": host()}, ["a"])


def test_what_the_info_module_returns_is_taken(make_host, make_container) -> None:
    """Without an estimate, and from a host that is asked from elsewhere."""
    facts = make_host(store={"graphRootAllocated": 1 << 40}).summary()
    hosts = {name: {"host": {**facts, "can_checkpoint": True, "findings": []}, "containers": []} for name in "ab"}
    labels = {"ferry.priority": "3"}
    hosts["a"]["containers"] = [{**make_container(Config={"Labels": labels}).summary(), "findings": [], "networks": []}]
    (move,) = drain_plan(hosts, ["a"])["moves"]
    assert (move["name"], move["destination"], move["priority"], move["id"]) == ("web", "b", 3, "1f" * 32)


def test_empty_host_gives_an_empty_plan(host) -> None:
    plan = drain_plan({"a": host(), "b": host()}, ["a"])
    assert not plan["refused"]
    assert not any(plan[kind] for kind in ("moves", "stops", "keeps", "blocks", "missing", "destinations"))


def test_nothing_that_is_given_is_changed(container, host) -> None:
    hosts = {"a": host(container("w", labels={"ferry.evacuate": "cold"})), "b": host()}
    before = repr(hosts)
    drain_plan(hosts, ["a"])
    assert repr(hosts) == before
