# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Containers that move without CRIU: stopped, made anew from their own definition, started."""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import ALIKE
from faults import KILL, KILL_SERVICE_THERE, Trigger, ended
from helpers import SCRATCH, Box, Node, Result, forget_neighbour, wait_until
from road import Road
from test_evacuate import Roads, roads, states

from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN, Recipe, differences

__all__ = ["roads"]

REST = pytest.mark.faults

DEFINITION = """
import json, sqlite3, sys
database = sqlite3.connect("file:/var/lib/containers/storage/db.sql?mode=ro", uri=True)
found = database.execute("SELECT JSON FROM ContainerConfig WHERE ID = ?", (sys.argv[1],)).fetchone()[0]
print(json.dumps(json.loads(found)))
"""

OPTIONS = """
--hostname h.example --env A=1 --env B=two --label a=b --annotation an.no=tation --user 1234:5678 --group-add
4321 --workdir /tmp --tmpfs /scratch:size=10m,mode=1770 --expose 7777 --restart on-failure:7 --stop-signal
SIGINT --stop-timeout 3 --health-cmd true --health-interval 17s --health-retries 9 --health-on-failure restart
--health-startup-cmd true --health-startup-retries 6 --log-opt max-size=3m --cap-add SYS_TIME --cap-drop CHOWN
--security-opt no-new-privileges --security-opt mask=/sys/firmware/x --ulimit nofile=1000:2000 --sysctl
net.ipv4.ip_unprivileged_port_start=80 --device /dev/zero:/dev/nought:r --oom-score-adj 100 --add-host
foo:1.2.3.4 --dns 9.9.9.9 --dns-search ex.org --dns-option ndots:3 --init --tty --interactive --umask 0027 --tz
UTC --read-only --shm-size 33m --unsetenv HOME --passwd-entry u:x:1234:1234::/:/bin/sh --network-alias other
--ipc private --sdnotify ignore --cgroupns private --secret it-file,target=/run/s1,mode=0440,uid=7 --secret
it-env,type=env,target=SECRET
"""

CHANGE = """
echo new >/only/f; rm /only/g; echo more >/only/h; chown 77:88 /only/h; chmod 4711 /only/h; ln /only/h /only/hard
ln -s h /only/soft; mkdir -p /only/made/deep; chown 5:6 /only/sub; chmod 1750 /only/sub
echo data >/data/f; chown 123:456 /data /data/f; chmod 2750 /data; ln /data/f /data/hard; ln -s f /data/soft
mkfifo /data/pipe; chown 9:8 /empty; chmod 700 /empty; rm -f /empty/*; echo unnamed >/unnamed/f
"""
LOOK = """
for each in /only /data /empty /unnamed; do
    find $each | sort | while read path; do
        stat -c '%n %u:%g %a %F %h %Y' "$path"; [ ! -f "$path" ] || sha256sum "$path"
    done
done
"""


def definition(box: Box) -> dict:
    return json.loads(box.node.run("python3", "-c", DEFINITION, box.id))


def volume_place(box: Box, name: str) -> str:
    return box.node.podman("volume", "inspect", "--format", "{{.Mountpoint}}", name)


@pytest.fixture
def cold(pair: tuple[Node, Node]) -> Road:
    for node in pair:
        node.later("sh", "-c", "rm -rf /var/lib/ferry; podman pod rm --ignore --force --time 0 it-pod")
    return Road(*pair)


def move(road: Road, box: Box, **options: object) -> Result:
    return road.move(box, method="cold", force=True, **options)


def arrived(road: Road, box: Box, result: Result) -> Box:
    assert not result.failed, result.msg
    # A move that was killed after its last line leaves nothing to do, and the next one names no method.
    expected = "cold" if result.values["changed"] else None
    assert result.values["location"] == "destination" and result.values.get("method") == expected
    there = road.arrived(box)
    assert result.values["container"]["id"] == there.id != box.id
    clean(road)
    return there


def clean(road: Road) -> None:
    """Nothing of a move is left on either host."""
    for node in (road.source, road.destination):
        assert not {name for name in node.names() if name.startswith("ferry-")}
        assert node.sh("ls /var/lib/ferry 2>/dev/null || :") == ""
    assert "localhost/ferry/" not in road.source.podman("images")


def furnished(node: Node, *flags: str) -> Box:
    """A container with changed files, and volumes with owners of their own."""
    volume = f"it-cold-{node.name}"
    node.podman("volume", "create", "--label", "kept=yes", volume)
    mounts = ("-v", f"{volume}:/data", "-v", f"{volume}-empty:/empty", "-v", "/unnamed")
    box = node.start("counter", *mounts, *flags)
    box.sh(CHANGE)
    code = "import os, sys; os.setxattr(sys.argv[1], 'user.ferry', b'kept')"
    node.run("python3", "-c", code, f"{volume_place(box, volume)}/f")
    return box


def attribute(box: Box) -> str:
    volume = next(name for name in box.node.volumes() if name.startswith("it-cold") and not name.endswith("-empty"))
    code = "import os, sys; print(os.getxattr(sys.argv[1], 'user.ferry').decode())"
    assert json.loads(box.node.podman("volume", "inspect", volume))[0]["Labels"] == {"kept": "yes"}
    return box.node.run("python3", "-c", code, f"{volume_place(box, volume)}/f").strip()


# -- what arrives -------------------------------------------------------------------------------------------------


def test_every_option_arrives(cold: Road) -> None:
    """Also those that no inspect answer tells: podman's own definitions are compared."""
    for node in (cold.source, cold.destination):
        for name in ("it-file", "it-env"):
            node.run("podman", "secret", "create", name, "-", stdin=f"of {name}\n")
            node.later("podman", "secret", "rm", name)
    binds = ("-v", f"{SCRATCH}:/bound:ro", "-v", "it-many:/data:nosuid")
    box = cold.source.start_on_lan("keeper", *OPTIONS.split(), *binds, "-p", "127.0.0.1:8088:80", command=("5",))
    before, inspected = definition(box), box.inspect()
    result = move(cold, box)
    there = arrived(cold, box, result)
    # Of a container that runs podman tells what it has added itself.
    added = {"Config.Annotations", "Config.Env", "HostConfig.Ulimits"}
    assert set(differences(Recipe(before, inspected), there.inspect())) <= added
    after = definition(there)
    assert after["spec"]["annotations"].pop(ORIGIN) == box.id
    for config in (before, after):
        # What podman numbers, and what the newer version hides besides.
        linux = config["spec"]["linux"]
        linux["maskedPaths"] = sorted(set(linux["maskedPaths"]) - {"/proc/interrupts"})
        linux["resources"]["devices"] = [rule for rule in linux["resources"].get("devices") or [] if rule["allow"]]
    spec = ("process", "root", "hostname", "annotations", "linux")
    for part in spec:
        one, other = before["spec"].get(part), after["spec"].get(part)
        if part == "process":
            one["env"], other["env"] = sorted(one["env"]), sorted(other["env"])
        if part == "linux":
            one.pop("seccomp", None), other.pop("seccomp", None)
        assert one == other, part
    for key in (
        "passwd_entry",
        "secret_env",
        "timezone",
        "stopTimeout",
        "user",
        "groups",
        "dnsServer",
        "CreateCommand",
    ):
        one, other = before.get(key), after.get(key)
        assert (sorted(one) if isinstance(one, dict) else one) == (sorted(other) if isinstance(other, dict) else other)
    assert [secret["Target"] for secret in after["secrets"]] == ["/run/s1"]
    assert there.status == "running"


def test_files_and_volumes_arrive(cold: Road) -> None:
    box = furnished(cold.source, "--restart", "always")
    looked = box.sh(LOOK)
    there = arrived(cold, box, move(cold, box))
    assert there.sh(LOOK) == looked
    assert attribute(there) == "kept"
    assert there.policy == "always:0" and there.status == "running"
    assert not {name for name in cold.source.volumes() if name.startswith("it-cold")}
    # And once more: what has not changed since is not made an image of again.
    assert not move(cold, box).changed


def test_directory_above_a_volume_keeps_its_owner(cold: Road) -> None:
    """Podman makes it at each start, and what was changed of it would be open to all."""
    box = cold.source.start("counter", "-v", "it-cold-deep:/srv/app/data")
    box.sh("chown 1000:1000 /srv/app && chmod 700 /srv/app")
    there = arrived(cold, box, move(cold, box))
    assert there.sh("stat -c '%a %u %g' /srv/app").strip() == "700 1000 1000"


def test_it_goes_on_to_a_third_host_and_leaves_no_image_behind(roads: Roads) -> None:
    box = furnished(roads.source)
    looked = box.sh(LOOK)
    first = roads.evacuate({box.name: ALIKE[1]}, methods={box.name: "cold"})
    assert states(first) == {box.name: "moved"}, first.msg
    there = roads.there(box, ALIKE[1])
    there.sh("echo again >/only/again")
    looked = there.sh(LOOK)
    back = Road(there.node, roads.source)
    result = back.move(there, method="cold", force=True)
    assert not result.failed, result.msg
    home = back.arrived(there)
    assert home.sh(LOOK) == looked
    assert "localhost/ferry/" not in there.node.podman("images")
    assert home.node.podman("images").count("localhost/ferry/") == 1


def test_fixed_address_moves_along(cold: Road) -> None:
    box = cold.source.start_on_lan("keeper", command=("5",))
    there = arrived(cold, box, move(cold, box))
    assert there.inspect()["NetworkSettings"]["Networks"]["lan"]["IPAddress"] == box.address
    # It has another MAC, as after any start.
    forget_neighbour(box.address)
    there.wait_for_service()


def test_one_that_does_not_run_is_not_started(cold: Road) -> None:
    box = furnished(cold.source)
    looked = box.sh(LOOK)
    cold.source.podman("stop", "--time", "0", box.name)
    result = move(cold, box)
    there = arrived(cold, box, result)
    assert there.status == "created" and result.values["downtime_ms"] == 0
    assert not move(cold, box).changed
    there.node.podman("start", there.name)
    # The first start gives the roots of volumes an owner of podman's choice.
    rest = [line for line in looked.splitlines() if not line.startswith(("/data ", "/empty ", "/unnamed "))]
    assert [
        line for line in there.sh(LOOK).splitlines() if not line.startswith(("/data ", "/empty ", "/unnamed "))
    ] == rest


def test_postgres_keeps_its_rows(cold: Road) -> None:
    box = cold.source.start_on_lan("postgres", "-v", "it-pg:/var/lib/postgresql", "--stop-timeout", "30")
    psql = "psql -h 127.0.0.1 -U postgres -qtA -c"
    box.sh(f"{psql} 'create table t as select generate_series(1, 20000) as n'")
    total = box.sh(f"{psql} 'select count(*), sum(n) from t'")
    there = arrived(cold, box, move(cold, box))
    assert wait_until(lambda: there.sh(f"{psql} 'select count(*), sum(n) from t'", check=False), "postgres") == total
    assert "it-pg" not in cold.source.volumes()


# -- what is refused ------------------------------------------------------------------------------------------------


def refused(road: Road, box: Box, code: str, **options: object) -> None:
    life = box.life
    result = road.move(box, **{"method": "cold", **options})
    assert result.failed and code in result.codes, result.msg
    assert result.values["location"] == "source" and box.life == life
    assert box.name not in road.destination.names()
    clean(road)


def test_what_would_be_lost_is_refused(cold: Road) -> None:
    box = cold.source.start("counter", "--label", "PODMAN_SYSTEMD_UNIT=web.service")
    refused(cold, box, "systemd_unit")
    cold.source.podman("secret", "create", "it-only-here", "/etc/hostname")
    cold.source.later("podman", "secret", "rm", "it-only-here")
    refused(cold, cold.source.start("counter", "--secret", "it-only-here,type=env"), "secret_absent")
    cold.source.podman("pod", "create", "--name", "it-pod")
    box = cold.source.start("counter")
    inside = cold.source.podman("run", "--detach", "--pod", "it-pod", "--name", "it-inside", "localhost/lab/counter")
    refused(cold, Box(cold.source, "it-inside", inside, "counter"), "in_pod")
    refused(cold, box, "cold_source", transfer="relay")
    shared = ("-v", "it-shared:/data")
    one, _other = cold.source.start("counter", *shared), cold.source.start("counter", *shared)
    refused(cold, one, "volume_shared")


def test_destination_that_would_make_another_container_of_it_is_refused(cold: Road) -> None:
    box = furnished(cold.source)
    conf = "/etc/containers/containers.conf"
    cold.destination.sh(
        f"cp {conf} {SCRATCH}/conf; sed -i 's/^.containers.$/[containers]\\nannotations = [\"x.y=z\"]/' {conf}"
    )
    cold.destination.later("sh", "-c", f"cp {SCRATCH}/conf {conf}")
    cold.destination.service("stop")
    cold.destination.service("start")
    refused(cold, box, "not_the_same", force=True)
    cold.destination.sh(f"cp {SCRATCH}/conf {conf}")
    cold.destination.service("stop")
    cold.destination.service("start")
    assert not {name for name in cold.destination.volumes() if name.startswith("it-cold")}


# -- what breaks ----------------------------------------------------------------------------------------------------


def begin(road: Road, box: Box, **options: object) -> subprocess.Popen[str]:
    given = {**road._options(box.name), "method": "cold", "force": True, **options}
    return road.source.start_module("podman_migrate", **given)


def runs_here_again(road: Road, box: Box, looked: str, result: Result | None) -> None:
    assert result is not None and result.failed and result.values["location"] == "source", result
    assert box.status == "running" and box.sh(LOOK) == looked
    assert box.name not in road.destination.names()
    assert not {name for name in road.destination.volumes() if name.startswith("it-cold")}
    clean(road)


def running(road: Road, name: str) -> int:
    """How many copies run."""
    listed = [node.podman("ps", "--format", "{{.Names}}").split() for node in (road.source, road.destination)]
    return sum(names.count(name) for names in listed)


DELAYS = [("prepare", 0.1), ("freeze", 0.2), ("transfer", 0.1), ("restore", 0.2), ("verify", 0.2), ("commit", 0.05)]


@pytest.mark.parametrize(
    ("phase", "delay", "kind"),
    [
        pytest.param(phase, delay, kind, marks=() if delay and kind == kept else REST)
        for (phase, middle), kept in zip(DELAYS, ("always", "rm", "always", "rm", "plain", "plain"))
        for delay in (0.0, middle)
        for kind in ("plain", "rm", "always")
    ],
)
def test_module_killed(cold: Road, phase: str, delay: float, kind: str) -> None:
    flags = {"plain": (), "rm": ("--rm",), "always": ("--restart", "always")}[kind]
    box = furnished(cold.source, *flags, "--stop-timeout", "1")
    looked = box.sh(LOOK)
    trigger = Trigger(box, phase, delay, action=KILL)
    process = begin(cold, box)
    trigger.happened()
    ended(process)
    assert running(cold, box.name) <= 1
    again = wait_until(lambda: None if "not_settled" in (r := move(cold, box)).codes else r, "podman to stop it", 40)
    there = arrived(cold, box, again)
    assert there.sh(LOOK) == looked and there.status == "running"
    policy = {"plain": "no:0", "rm": "no:0", "always": "always:0"}[kind]
    assert there.policy == policy and there.inspect()["HostConfig"]["AutoRemove"] is (kind == "rm")


@pytest.mark.parametrize("phase", ["transfer", pytest.param("restore", marks=REST)])
def test_destination_service_killed(cold: Road, phase: str) -> None:
    box = furnished(cold.source, "--restart", "always", "--stop-timeout", "1")
    looked = box.sh(LOOK)
    trigger = Trigger(box, phase, 0.05, elsewhere=(cold.destination, KILL_SERVICE_THERE))
    process = begin(cold, box)
    trigger.happened()
    result = ended(process)
    assert running(cold, box.name) <= 1
    cold.destination.service("start")
    assert result is not None
    if result.failed:
        # Nothing can be removed from there meanwhile.
        assert result.values["location"] in ("source", "unknown")
    there = arrived(cold, box, move(cold, box))
    assert there.sh(LOOK) == looked


def test_process_that_fails_there_goes_on_here(cold: Road) -> None:
    for node in (cold.source, cold.destination):
        node.sh(f"echo {node.name} >{SCRATCH}/where")
    script = f"grep -q {cold.source.name} /where || exit 3; exec sleep 1000"
    mounts = ("-v", f"{SCRATCH}/where:/where:ro", "-v", "it-cold-v:/data", "-v", "it-cold-e:/empty", "-v", "/unnamed")
    box = cold.source.start("counter", *mounts, "--stop-timeout", "0", "--entrypoint", json.dumps(["sh", "-c", script]))
    looked = box.sh(LOOK)
    result = move(cold, box)
    assert "ended with 3" in result.msg
    runs_here_again(cold, box, looked, result)


def test_health_check_that_fails_there(cold: Road) -> None:
    for node in (cold.source, cold.destination):
        node.sh(f"echo {node.name} >{SCRATCH}/where")
    check = ("--health-cmd", f"grep -q {cold.source.name} /where", "--health-interval", "disable")
    box = furnished(cold.source, "-v", f"{SCRATCH}/where:/where:ro", *check)
    looked = box.sh(LOOK)
    runs_here_again(cold, box, looked, move(cold, box, wait_healthy_timeout=1))


# -- pods -----------------------------------------------------------------------------------------------------------

PREPARE = json.dumps(["sh", "-c", "echo prepared >>/shared/log"])


def pod(node: Node, name: str) -> list[str]:
    address = node.free_address()
    node.podman(
        "pod", "create", "--name", name, "--network", f"lan:ip={address}", "--label", "a=b", "--share", "net,ipc,uts"
    )
    inside = ("--pod", name, "-v", "it-cold-pod:/shared")
    node.podman(
        "create",
        *inside,
        "--name",
        f"{name}-init",
        "--init-ctr",
        "always",
        "--entrypoint",
        PREPARE,
        "localhost/lab/counter",
    )
    node.podman("create", *inside, "--name", f"{name}-one", "--stop-timeout", "1", "localhost/lab/keeper", "5")
    flags = ("--requires", f"{name}-one", "--restart", "always", "--stop-timeout", "1")
    node.podman("create", *inside, *flags, "--name", f"{name}-two", "localhost/lab/counter")
    node.podman("pod", "start", name)
    return [f"{name}-init", f"{name}-one", f"{name}-two"]


def test_pod_moves_whole(roads: Roads) -> None:
    name = "it-pod"
    for node in (roads.source, *roads.destinations.values()):
        node.later("podman", "pod", "rm", "--force", "--time", "0", "--ignore", name)
    names = pod(roads.source, name)
    one = roads.source.box(names[1], "keeper")
    one.sh("chown 3:4 /shared; echo 1 >/shared/own; chown 5:6 /shared/own; echo new >/only/f; rm /only/g")
    options = {"methods": dict.fromkeys(names, "cold"), "pods": dict.fromkeys(names, name), "networks": "require"}
    planned = roads.source.module(
        "podman_evacuate", check=True, **roads.options(dict.fromkeys(names, ALIKE[1]), **options)
    )
    assert set(states(planned).values()) == {"moved"}, planned.msg
    done = roads.evacuate(dict.fromkeys(names, ALIKE[1]), **options)
    assert states(done) == dict.fromkeys(names, "moved"), done.msg
    there = roads.destinations[ALIKE[1]]
    assert not {*names} & roads.source.names() and "it-cold-pod" not in roads.source.volumes()
    assert there.podman("pod", "ps", "--format", "{{.Name}} {{.Status}}") == f"{name} Running"
    assert name not in roads.source.podman("pod", "ps", "--format", "{{.Name}}").split()
    again = there.box(names[1], "keeper")
    assert again.sh("cat /shared/log; stat -c '%u:%g %n' /shared /shared/own; cat /only/f; ls /only").split() == (
        ["prepared", "prepared", "3:4", "/shared", "5:6", "/shared/own", "new", "f", "sub"]
    )
    assert there.box(names[2]).policy == "always:0"
    repeated = roads.evacuate(dict.fromkeys(names, ALIKE[1]), **options)
    assert not repeated.changed and set(states(repeated).values()) == {"moved"}, repeated.msg
