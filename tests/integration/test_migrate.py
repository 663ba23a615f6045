# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Moves between two hosts, by the playbook and by the module, and what becomes of the container when one fails."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import pytest
from clients import RedisCounter, redis_count
from helpers import ROOT, SCRATCH, Box, Node, Result, inventory, run, wait_until
from road import PUBLIC_KEYS, Road, full

KILL_HOLDER = """
import glob, os, signal
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(link).startswith("/run/lock/ferry.podman/"):
            os.kill(int(link.split("/")[2]), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""
"""Kills the module that holds a container, wherever it is in its work."""


def playbook(*variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "ferry.podman.migrate", "-i", inventory()]
    for variable in variables:
        command += ["-e", variable]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=180)


# -- the main job -----------------------------------------------------------------------------------------------


def test_playbook_moves_redis_with_its_open_connection(pair: tuple[Node, Node]) -> None:
    source, destination = pair
    box = source.start_on_lan("redis")
    keys = destination.sh(f"cat {PUBLIC_KEYS}")
    client = RedisCounter(box.address)
    client.start()
    wait_until(lambda: client.count > 50, "the client to count")
    done = playbook(f"source={source.name}", f"container={box.name}", f"destination={destination.name}")
    assert done.returncode == 0, done.stdout + done.stderr
    before = client.count
    wait_until(lambda: client.count > before + 50, "the client to count on")
    client.finish()
    assert client.error is None
    assert redis_count(box.address) == client.count
    assert box.name not in source.names()
    assert f"{box.name} runs on {destination.name}: stopped for" in done.stdout
    assert destination.sh(f"cat {PUBLIC_KEYS}") == keys
    assert "ferry" not in destination.run("nft", "list", "tables")


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (("container=x", "destination=node2"), "source=(not set)"),
        (("source=node1", "container=x", "destination=node1"), "two different hosts"),
        (("source=node1", "container=x", "destination=nowhere"), "destination=nowhere"),
    ],
)
@pytest.mark.xdist_group("node1")
def test_playbook_says_what_it_needs(lab: dict[str, Node], variables: tuple[str, ...], found: str) -> None:
    done = playbook(*variables)
    assert done.returncode != 0
    assert found in done.stdout


def test_playbook_in_check_mode_moves_nothing(pair: tuple[Node, Node]) -> None:
    source, destination = pair
    box = source.start()
    life, keys = box.life, destination.sh(f"cat {PUBLIC_KEYS}")
    where = [f"-e{key}={value}" for key, value in (("source", source.name), ("destination", destination.name))]
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "ferry.podman.migrate", "-i", inventory(), "--check"]
    output = run(*command, *where, f"-econtainer={box.name}", timeout=120)
    assert "changed=1" in output
    assert box.life == life
    assert box.name not in destination.names()
    assert destination.sh(f"cat {PUBLIC_KEYS}") == keys


# -- state ------------------------------------------------------------------------------------------------------


def test_everything_moves(road: Road) -> None:
    volume = f"it-{road.source.name}-data"
    flags = ("-v", f"{volume}:/data", "-e", "COLOUR=blue", "--label", "tier=gold", "--restart", "on-failure:3")
    box = road.source.start_on_lan("keeper", *flags, command=("20",))
    box.sh("echo new >/only/f; rm /only/g; echo added >/only/h; chown 33:44 /only/sub/h; chmod 2750 /only/sub")
    box.sh("ln -s /only/f /only/link; echo row >/data/table; echo shared >/dev/shm/s")
    memory, before = box.memory(), box.inspect()
    result = road.move(box)
    assert result.changed, result.msg
    moved = road.arrived(box)
    memory.goes_on_in(moved)
    listing = "cat /only/f /only/h /data/table /dev/shm/s; ls /only; stat -c '%u:%g %a' /only/sub/h /only/sub"
    assert moved.sh(listing).split() == [
        *("new", "added", "row", "shared", "f", "h", "link", "sub"),
        *("33:44", "644", "0:0", "2750"),
    ]
    after = moved.inspect()
    assert (after["Id"], after["Config"]["Labels"]["tier"]) == (before["Id"], "gold")
    assert "COLOUR=blue" in after["Config"]["Env"]
    assert after["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    lan = [inspected["NetworkSettings"]["Networks"]["lan"] for inspected in (before, after)]
    assert lan[0]["IPAddress"] == lan[1]["IPAddress"]
    assert lan[0]["MacAddress"] == lan[1]["MacAddress"]
    assert volume in road.destination.volumes()
    assert volume not in road.source.volumes()
    values = result.values
    assert values["location"] == "destination"
    assert values["tcp"] == "established"
    assert values["bytes"] > 20_000_000
    assert values["downtime_ms"] >= values["phases"]["freeze"] > 0


def test_files_that_podman_itself_loses(road: Road) -> None:
    """What is removed and made again, links, owners of directories; and the same in volumes."""
    flags = ("-v", "it-image:/only/sub", "-v", "it-root:/data", "--restart", "always", "--ulimit", "nofile=1000:2000")
    box = road.source.start("counter", *flags)
    box.sh("rm /only/sub/h; chown 70:71 /data; chmod 1777 /data; chown 5:6 /only/sub; chmod 700 /only/sub")
    box.sh("rm -rf /etc/ssl; mkdir -m 750 /etc/ssl; chown 8:9 /etc/ssl; echo precious >/etc/ssl/own; rm /etc/issue")
    box.sh("mkdir /etc/issue; chown 33:44 /usr/share; echo x >>/only/f")
    look = "ls -A /etc/ssl /etc/issue /only/sub /only; stat -c '%n %u:%g %a' /data /only/sub /etc/ssl /usr/share"
    before = box.sh(look)
    assert "own" in before
    assert road.move(box).changed
    moved = road.arrived(box)
    assert moved.sh(look) == before
    limits = {limit["Name"]: limit["Soft"] for limit in moved.inspect()["HostConfig"]["Ulimits"]}
    assert limits["RLIMIT_NOFILE"] == 1000


def test_logs_move_and_go_on(road: Road) -> None:
    box = road.source.start()
    wait_until(lambda: len(box.logged()) > 1, "a line of log")
    assert road.move(box).changed
    road.arrived(box).counts_on()


def test_second_run_changes_nothing(road: Road) -> None:
    box = road.source.start()
    assert road.move(box).changed
    life = road.arrived(box).life
    again = road.move(box)
    assert not again.failed
    assert not again.changed
    assert again.values["location"] == "destination"
    assert road.arrived(box).life == life


def test_connection_is_not_reset_while_a_large_memory_is_restored(road: Road) -> None:
    box = road.source.start_on_lan("keeper", command=("150",))
    digest = box.memory().digest
    with box.connect() as client:
        client.settimeout(60)
        lines = client.makefile("rw")
        process = road.begin(box)
        numbers = []
        while process.poll() is None or len(numbers) < 10:
            lines.write("next\n")
            lines.flush()
            numbers.append(int(lines.readline()))
        process.communicate(timeout=60)
        lines.write("sum\n")
        lines.flush()
        assert lines.readline().split() == ["same", digest]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    road.arrived(box)


@pytest.mark.parametrize("flags", [("--rm",), ("--restart", "always")], ids=["rm", "restart"])
def test_containers_that_podman_would_lose_move_too(road: Road, flags: tuple[str, ...]) -> None:
    box = road.source.start_on_lan("keeper", *flags)
    memory, config = box.memory(), box.inspect()["HostConfig"]
    assert road.move(box).changed
    moved = road.arrived(box)
    memory.goes_on_in(moved)
    after = moved.inspect()["HostConfig"]
    assert (after["AutoRemove"], after["RestartPolicy"]) == (config["AutoRemove"], config["RestartPolicy"])


def test_image_is_brought_with_its_id(road: Road) -> None:
    box = road.source.start()
    image = box.inspect()["Image"]
    road.source.podman("tag", image, "localhost/it/only-here:1")
    special = road.source.start("localhost/it/only-here:1")
    road.source.podman("exec", special.id, "sh", "-c", "echo committed >/marker")
    road.source.podman("commit", "--quiet", special.id, "localhost/it/committed:1")
    special.remove()
    committed = road.source.start("localhost/it/committed:1")
    wanted = committed.inspect()["Image"]
    assert road.move(committed).changed
    moved = road.arrived(committed)
    assert moved.inspect()["Image"] == wanted
    assert moved.sh("cat /marker") == "committed"


# -- other ways --------------------------------------------------------------------------------------------------

FILLER = """
until grep -q freeze /var/lib/ferry/*.json 2>/dev/null; do sleep 0.01; done
fallocate -l 45M /var/tmp/filler
"""
"""What is full already refuses a move; so this fills the disk when the freeze has begun."""

REGISTRY = {"transfer": "registry", "registry": "10.99.0.250:5000/it/move", "registry_tls_verify": False}


def test_state_goes_through_a_registry(road: Road) -> None:
    box = road.source.start_on_lan("keeper", "-v", "it-data:/data", "--restart", "always", command=("20",))
    box.sh("echo row >/data/table; chown 5:6 /data; echo new >/only/f; rm /only/g")
    memory = box.memory()
    with box.connect() as client:
        result = road.move(box, **REGISTRY)
        assert result.changed, result.msg
        moved = road.arrived(box)
        client.sendall(b"next\n")
        assert int(client.recv(100)) == memory.number + 1
    memory = dataclasses.replace(memory, number=memory.number + 1)
    memory.goes_on_in(moved)
    assert moved.sh("cat /data/table /only/f; ls /only; stat -c %u:%g /data").split() == [
        "row",
        "new",
        "f",
        "sub",
        "5:6",
    ]
    assert {"log_stays_behind", "address_fixed"} <= set(result.codes)
    for node in (road.source, road.destination):
        assert "ferry" not in node.podman("images", "--all") and "<none>" not in node.podman("images", "--all")


def test_registry_that_is_not_there_is_refused(road: Road) -> None:
    box = road.source.start()
    refused(road, box, "registry_unreachable", **{**REGISTRY, "registry": "10.99.0.251:5000/it/move"})


def test_destination_that_fails_after_the_registry_has_it(road: Road) -> None:
    box = road.source.start_on_lan("keeper", "-v", "it-data:/data", command=("20",))
    memory = box.memory()
    # What a restore would make there is in the way, behind the back of the assessment.
    filler = road.source.popen(
        "timeout", "60", "sh", "-c", FILLER.replace("fallocate -l 45M /var/tmp/filler", "echo in")
    )
    process = road.source.start_module("podman_migrate", **{**road._options(box.name), **REGISTRY})
    assert filler.communicate(timeout=90)[0] == "in\n"
    road.destination.podman("volume", "create", "it-data")
    output, errors = process.communicate(timeout=300)
    assert "FAILED!" in output, output + errors
    assert box.status == "running"
    memory.goes_on_in(box)
    assert box.name not in road.destination.names()
    assert "it-data" in road.destination.volumes()
    for node in (road.source, road.destination):
        assert "<none>" not in node.podman("images", "--all")


# -- refusals: nothing is touched ---------------------------------------------------------------------------------


def refused(road: Road, box: Box, *codes: str, **options: object) -> Result:
    life, things = box.life, (road.destination.names(), road.destination.volumes())
    result = road.move(box, **options)
    assert result.failed
    assert set(codes) <= set(result.codes), result.msg
    assert box.life == life
    assert (road.destination.names(), road.destination.volumes()) == things
    return result


def test_every_reason_against_a_move_is_given_at_once(road: Road) -> None:
    road.source.podman("volume", "create", "it-both")
    road.destination.podman("volume", "create", "it-both")
    road.source.podman("network", "create", "it-here")
    road.source.later("podman", "network", "rm", "--force", "it-here")
    box = road.source.start("counter", "-v", "it-both:/data", network="it-here")
    road.destination.podman("create", "--name", box.name, "--network", "none", "localhost/lab/counter")
    result = refused(road, box, "name_in_use", "volume_exists", "network_absent")
    assert "it-both" in result.msg
    assert "it-here" in result.msg


def test_what_could_not_be_restored_is_refused(road: Road) -> None:
    box = road.source.start("counter", "--init", "-v", "/srv:/overlay:O", "-v", "it-shared:/data")
    road.source.start("counter", "-v", "it-shared:/data")
    refused(road, box, "init", "overlay_mount", "volume_shared")


def test_volume_with_options_is_refused(road: Road) -> None:
    road.source.sh("mkdir -p /srv/it; podman volume create --opt type=none --opt o=bind --opt device=/srv/it it-opt")
    box = road.source.start("counter", "-v", "it-opt:/data")
    refused(road, box, "volume_options")


def test_stopped_container_is_refused(road: Road) -> None:
    box = road.source.start()
    box.node.podman("stop", "--time", "0", box.id)
    refused(road, box, "not_running")


def test_checkpointed_container_is_refused_and_told_how_to_run_again(road: Road) -> None:
    box = road.source.start()
    road.source.checkpoint(box.name)
    assert "podman_restore" in refused(road, box, "checkpointed").msg


def test_unknown_container(road: Road) -> None:
    result = road.source.module("podman_migrate", **{**road._options("it-nobody")})
    assert result.failed
    assert "it-nobody" in result.msg


def test_unknown_host_key_is_refused(road: Road) -> None:
    box = road.source.start()
    road.source.run("tee", f"{SCRATCH}/known_hosts", stdin="")
    assert "Host key verification failed" in refused(road, box).msg


def test_key_that_is_not_accepted_is_refused(road: Road) -> None:
    box = road.source.start()
    road.source.sh(f"rm {SCRATCH}/id*; ssh-keygen -q -t ed25519 -N '' -f {SCRATCH}/id")
    assert "Permission denied" in refused(road, box).msg


def test_destination_without_service_is_refused(road: Road) -> None:
    box = road.source.start()
    road.destination.service("stop")
    refused(road, box)


def test_destination_without_nft_is_refused_where_connections_shall_live(road: Road) -> None:
    box = road.source.start_on_lan("redis")
    nft = road.destination.sh("command -v nft").strip()
    road.destination.run("mv", nft, f"{nft}.away")
    try:
        result = refused(road, box)
    finally:
        road.destination.run("mv", f"{nft}.away", nft)
    assert "nft" in result.msg


# -- failures: it runs on the source, or nowhere --------------------------------------------------------------------


def back_on_the_source(road: Road, box: Box, result: Result) -> None:
    assert result.failed
    assert result.values["location"] == "source", result.msg
    assert "runs again from the same memory" in result.msg or "still runs" in result.msg
    assert box.name not in road.destination.names()
    assert box.status == "running"


@pytest.mark.parametrize("flags", [(), ("--rm",), ("--restart", "always")], ids=["plain", "rm", "restart"])
def test_destination_full(road: Road, flags: tuple[str, ...]) -> None:
    volume = f"it-{road.source.name}-full"
    box = road.source.start_on_lan("keeper", "-v", f"{volume}:/data", *flags, command=("40",))
    memory, config = box.memory(), box.inspect()["HostConfig"]
    road.without_probe()
    with full(road.destination, "/var/tmp", "10m"):
        result = road.move(box)
    back_on_the_source(road, box, result)
    assert "no space left" in result.msg
    assert volume not in road.destination.volumes()
    memory.goes_on_in(box)
    after = box.inspect()["HostConfig"]
    assert (after["AutoRemove"], after["RestartPolicy"]) == (config["AutoRemove"], config["RestartPolicy"])
    assert road.move(box).changed


FILLER = """
until grep -q freeze /var/lib/ferry/*.json 2>/dev/null; do sleep 0.01; done
fallocate -l 45M /var/tmp/filler
"""
"""What is full already refuses a move; so this fills the disk when the freeze has begun."""


def test_source_full(road: Road) -> None:
    road.transfer = "stream"
    box = road.source.start_on_lan("keeper", command=("40",))
    memory = box.memory()
    with full(road.source, "/var/tmp", "70m"):
        filler = road.source.popen("timeout", "60", "sh", "-c", FILLER)
        result = road.move(box)
        assert filler.wait(60) == 0
    back_on_the_source(road, box, result)
    assert "no space left" in result.msg
    memory.goes_on_in(box)


def test_restore_fails_on_an_older_runtime(road_back: Road) -> None:
    box = road_back.source.start_on_lan("keeper")
    memory = box.memory()
    assert "older_destination" in road_back.move(box).codes
    result = road_back.move(box, force=True)
    back_on_the_source(road_back, box, result)
    assert any("mountpoint" in line for line in result.values["criu_log"])
    memory.goes_on_in(box)


def test_dump_fails(road: Road) -> None:
    box = road.source.start_on_lan("redis")
    with box.connect():
        life = box.life
        assert "connections_open" in road.move(box, tcp="none").codes
        result = road.move(box, tcp="none", force=True)
        back_on_the_source(road, box, result)
        assert box.life == life
    assert result.values["criu_log"]


def frozen(box: Box) -> bool:
    return box.status == "exited"


def test_module_killed_while_the_container_is_frozen(road: Road) -> None:
    road.transfer = "stream"
    box = road.source.start_on_lan("keeper", "--restart", "always", command=("150",))
    memory = box.memory()
    process = road.begin(box)
    wait_until(lambda: frozen(box), "the freeze", 60)
    road.source.run("python3", "-c", KILL_HOLDER)
    process.communicate(timeout=60)
    assert box.status == "exited"
    assert box.name not in road.destination.names()
    result = road.move(box)
    assert result.changed, result.msg
    assert result.values["interrupted_phase"] == "transfer"
    moved = road.arrived(box)
    memory.goes_on_in(moved)
    assert moved.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_move_that_was_killed_before_its_commit_is_finished(road: Road) -> None:
    """As a run leaves it that is killed after the restore: the source has remains, the destination the container."""
    box = road.source.start_on_lan("keeper")
    memory = box.memory()
    road.source.checkpoint(box.name, dest=f"{SCRATCH}/box.tar", compress="none")
    archive = subprocess.run(
        [str(ROOT / "tests/lab/lab"), "exec", road.source.name, "--", "cat", f"{SCRATCH}/box.tar"],
        capture_output=True,
        check=True,
    ).stdout
    subprocess.run(
        [str(ROOT / "tests/lab/lab"), "exec", road.destination.name, "--", "sh", "-c", f"cat >{SCRATCH}/box.tar"],
        input=archive,
        check=True,
    )
    road.destination.restore(src=f"{SCRATCH}/box.tar")
    result = road.move(box)
    assert result.changed, result.msg
    assert result.values["location"] == "destination"
    memory.goes_on_in(road.arrived(box))


def test_volumes_that_are_ignored_stay_with_their_content(road: Road) -> None:
    box = road.source.start("counter", "-v", "it-ignored:/named", "-v", "/anonymous")
    box.sh("echo named >/named/f; echo anonymous >/anonymous/f")
    places = {mount["Destination"]: mount["Source"] for mount in box.inspect()["Mounts"]}
    result = road.move(box, ignore_volumes=True)
    assert result.changed, result.msg
    assert "volumes_left" in result.codes
    road.arrived(box).counts_on()
    assert [road.source.sh(f"cat {places[name]}/f").strip() for name in ("/named", "/anonymous")] == [
        "named",
        "anonymous",
    ]


def test_lost_answer_starts_nothing(road: Road) -> None:
    """The destination's service dies when it has the whole archive: it may run there, so it must not run here."""
    box = road.source.start_on_lan("keeper", command=("150",))
    memory = box.memory()
    process = road.begin(box)
    wait_until(lambda: "restore" in road.source.journal(), "the restore", 60)
    road.destination.service("kill")
    output, errors = process.communicate(timeout=300)
    assert json.dumps("unknown") in output, output + errors
    assert box.status == "exited"
    road.destination.service("start")
    road.destination.sh("rm -rf /var/tmp/restore* /var/tmp/checkpoint*")
    result = road.move(box)
    if "already allocated" in result.msg:
        # Killed in the moment in which podman gave it the address: the test below.
        road.destination.forget_addresses()
        result = road.move(box)
    assert not result.failed, result.msg
    memory.goes_on_in(road.arrived(box))


def killed_while_it_gives(node: Node, address: str) -> None:
    """Have podman there keep an address for a container that is gone: what sets the network up for it kills it."""
    node.sh(f"mkdir {SCRATCH}/helpers; printf '#!/bin/sh\\nkill -9 $PPID' >{SCRATCH}/helpers/netavark")
    node.sh(f"chmod 755 {SCRATCH}/helpers/netavark")
    node.run("tee", f"{SCRATCH}/conf", stdin=f'[engine]\nhelper_binaries_dir = ["{SCRATCH}/helpers"]\n')
    node.podman("create", "--name", "half", "--network", "lan", "--ip", address, "localhost/lab/counter")
    said = node.sh(f"CONTAINERS_CONF_OVERRIDE={SCRATCH}/conf podman start half 2>&1 || echo ended with $?")
    assert "ended with 137" in said, said
    node.podman("rm", "half")


def test_address_that_a_killed_podman_keeps(road: Road) -> None:
    box = road.source.start_on_lan("keeper", command=("10",))
    memory = box.memory()
    killed_while_it_gives(road.destination, box.address)
    result = road.move(box)
    assert result.failed and "No running container has the address" in result.msg, result.msg
    assert "podman network rm" in result.msg and result.values["location"] == "source"
    memory.goes_on_in(box)
    memory = box.memory()
    road.destination.forget_addresses()
    result = road.move(box)
    assert not result.failed, result.msg
    memory.goes_on_in(road.arrived(box))


def test_second_run_at_the_same_time_is_refused(road: Road) -> None:
    box = road.source.start_on_lan("keeper", command=("150",))
    memory = box.memory()
    first, second = road.begin(box), road.begin(box)
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    refusals = [output for output in outputs if "FAILED!" in output]
    assert len(refusals) == 1, outputs
    assert "Another run" in refusals[0]
    memory.goes_on_in(road.arrived(box))
