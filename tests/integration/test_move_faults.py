# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Everything that can break while a container moves, at each phase that it can hit.

What must hold afterwards: one copy runs with all of its state, or, where that cannot be known, none is started and
the answer says why; and the same call again ends with one copy on the destination.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from faults import (
    KILL,
    KILL_SERVICE,
    KILL_SERVICE_THERE,
    Cargo,
    Trigger,
    clean,
    copies,
    cut_scripts,
    ended,
    kill_sessions,
    reboot,
    remove_spools,
    socket_activated,
    spooled,
    traces,
)
from helpers import SCRATCH, Box, Node, Result, descendants, wait_until
from road import PUBLIC_KEYS, Road, full
from test_faults import small_store

DELETE_TABLES = "nft list tables | grep -e ferry -e it_cut | while read table; do nft delete $table; done"
REST = functools.partial(pytest.param, marks=pytest.mark.faults)
"""A case that only make faults runs."""

KINDS = {"plain": (), "rm": ("--rm",), "always": ("--restart", "always")}
FILL = """
import subprocess
subprocess.run(["fallocate", "-l", "130M", "/var/tmp/filler"], check=True)
"""
TIMEOUT = {"timeout": 25}
"""Seconds after which podman is taken to unpack nothing any more, where the host cannot be asked for it."""


@pytest.fixture(params=["thin", REST("stream")])
def road(request: pytest.FixtureRequest, pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    """By each way; the quick run goes thin, and with a volume whose content goes before the freeze."""
    source, destination = pair
    if request.param == "thin":
        monkeypatch.setattr(Cargo, "rows", 20_000_000)
    for node in pair:
        # Of a test that failed; what is left after one that passed, it has looked for itself.
        node.later("sh", "-c", f"rm -rf /var/lib/ferry ~/.ansible_async; {DELETE_TABLES}")
        node.later("sh", "-c", "rm -rf /var/tmp/restore* /var/tmp/checkpoint* /run/ferry.podman/*")
    yield Road(source, destination, request.param)


def lost(road: Road, cargo: Cargo) -> bool:
    """Whether the memory went with the source's power, as with any stop; the next run says so, and starts nothing."""
    if road.transfer != "thin" or copies(cargo.box):
        return False
    result = road.move(cargo.box, **TIMEOUT)
    assert result.failed and result.values["location"] == "source", result.msg
    assert "before its memory had been written" in result.msg
    assert cargo.box.status == "exited" and not copies(cargo.box)
    for node in (road.source, road.destination):
        assert not (found := traces(node, cargo.box)), found
    return True


def begin(road: Road, box: Box, **options: object) -> subprocess.Popen[str]:
    return road.source.start_module("podman_migrate", **{**road._options(box.name), **TIMEOUT, **options})


def again(road: Road, cargo: Cargo, **options: object) -> Result:
    """The same call once more ends with one copy, on the destination."""
    result = road.move(cargo.box, **{**TIMEOUT, **options})
    assert not result.failed, result.msg
    assert result.values["location"] == "destination"
    cargo.is_whole_in(road.arrived(cargo.box))
    assert cargo.volume not in road.source.volumes()
    return result


def back(cargo: Cargo, result: Result | None) -> None:
    """The move has failed, and the container runs on the source from the same memory."""
    assert result is not None
    assert result.failed
    assert result.values["location"] == "source", result.msg
    assert "runs again from the same memory" in result.msg or "still runs" in result.msg
    cargo.is_whole_in(cargo.box)
    assert copies(cargo.box) and len(copies(cargo.box)) == 1


def allow_everything(road: Road) -> None:
    """The key may run any command, as one that a user brings along."""
    road.destination.sh(f"sed -i 's/^restrict,.* ssh-ed25519/restrict,port-forwarding ssh-ed25519/' {PUBLIC_KEYS}")


# -- the module is killed -----------------------------------------------------------------------------------------

DELAYS = {"prepare": 0.05, "freeze": 0.3, "transfer": 0.8, "restore": 0.3, "verify": 0.2, "commit": 0.1}
"""Seconds until the middle of each phase."""

KILLS = [
    pytest.param(phase, delay, kind, marks=() if delay and kind == kept else pytest.mark.faults)
    for (phase, middle), kept in zip(DELAYS.items(), ("always", "rm", "always", "rm", "plain", "plain"))
    for delay in (0.0, middle)
    for kind in KINDS
]
"""All of them, and in the middle of each phase one that is quick enough for every run."""


@pytest.mark.parametrize(("phase", "delay", "kind"), KILLS)
def test_module_killed(road: Road, phase: str, delay: float, kind: str) -> None:
    cargo = Cargo(road.source, *KINDS[kind])
    trigger = Trigger(cargo.box, phase, delay, action=KILL)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    ended(process)
    assert len(copies(cargo.box)) <= 1
    again(road, cargo)
    clean(road, cargo.box)


def test_one_that_has_moved_on_is_not_started_again(road: Road) -> None:
    """Somebody moves it from the destination to a third host before the next run of a move that was cut off."""
    box, there = road.source.start("counter"), road.destination
    trigger = Trigger(box, "restore", 0.15, action=KILL)
    process = begin(road, box, transfer="auto")
    trigger.happened()
    ended(process)
    wait_until(lambda: box.name in there.podman("ps", "--format", "{{.Names}}").split(), "the restore")
    there.checkpoint(box.name, dest=f"{SCRATCH}/on.tar", compress="none")
    there.podman("rm", box.name)
    for _run in range(2):
        result = road.move(box, **TIMEOUT)
        assert result.failed and result.values["location"] == "unknown", result.msg
        assert "may have moved on" in result.msg
        assert not copies(box)
    # It comes back from the third host.
    there.restore(src=f"{SCRATCH}/on.tar")
    assert not (result := road.move(box, **TIMEOUT)).failed, result.msg
    road.arrived(box).counts_on()
    clean(road, box)


# -- podman is killed ---------------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.0, 0.8])
def test_destination_service_killed_in_transfer(road: Road, delay: float) -> None:
    cargo = Cargo(road.source, "--restart", "always")
    trigger = Trigger(cargo.box, "transfer", delay, elsewhere=(road.destination, KILL_SERVICE_THERE))
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    result = ended(process)
    back(cargo, result)
    road.destination.service("start")
    remove_spools(road.destination)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.parametrize("down", ["shortly", REST("long")])
@pytest.mark.parametrize("delay", [REST(0.0), 0.2, REST(0.4), REST(0.8)])
def test_destination_service_killed_in_restore(road: Road, delay: float, down: str) -> None:
    """The runtime and CRIU finish without podman."""
    allow_everything(road)
    cargo = Cargo(road.source, megabytes=100)
    command = KILL_SERVICE_THERE
    trigger = Trigger(cargo.box, "restore", delay, elsewhere=(road.destination, command))
    process = begin(road, cargo.box)
    trigger.happened()
    if down == "shortly":
        road.destination.service("start")
    result = ended(process)
    assert result is not None
    assert len(copies(cargo.box)) <= 1
    road.destination.service("start")
    remove_spools(road.destination)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.2, 0.3])
def test_orphan_on_the_destination_that_the_key_does_not_let_end(road: Road, delay: float) -> None:
    """Whatever the key allows: no second copy."""
    cargo = Cargo(road.source, megabytes=100)
    trigger = Trigger(cargo.box, "restore", delay, elsewhere=(road.destination, KILL_SERVICE_THERE))
    process = begin(road, cargo.box)
    trigger.happened()
    road.destination.service("start")
    result = ended(process)
    assert result is not None
    assert len(copies(cargo.box)) == 1, result.msg
    if result.values["location"] == "unknown":
        assert "crun delete --force" in result.msg
        road.destination.run("crun", "delete", "--force", cargo.box.id)
    remove_spools(road.destination)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.fixture(params=[REST("stays away"), "comes back"])
def service(request: pytest.FixtureRequest, road: Road) -> Iterator[str]:
    """Whether a service of the source that is killed is started anew, as systemd does when the socket is used."""
    if request.param == "comes back":
        with socket_activated(road.source):
            yield request.param
    else:
        yield request.param


def after_source_service(road: Road, process: subprocess.Popen[str], service: str) -> Result:
    result = ended(process)
    assert result is not None
    if service == "stays away":
        road.source.service("start")
    remove_spools(road.source)
    return result


@pytest.mark.parametrize("delay", [REST(0.0), 0.1, REST(0.3)])
@pytest.mark.parametrize("kind", [REST("plain"), "always"])
def test_source_service_killed_in_freeze(road: Road, delay: float, service: str, kind: str) -> None:
    """CRIU finishes the dump without podman."""
    cargo = Cargo(road.source, *(("--restart", "always") if kind == "always" else ()), megabytes=100)
    trigger = Trigger(cargo.box, "freeze", delay, action=KILL_SERVICE)
    process = begin(road, cargo.box)
    trigger.happened()
    result = after_source_service(road, process, service)
    if service == "comes back" and result.failed:
        back(cargo, result)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.faults
def test_source_service_killed_in_transfer(road: Road, service: str) -> None:
    cargo = Cargo(road.source)
    trigger = Trigger(cargo.box, "transfer", 0.5, action=KILL_SERVICE)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    result = after_source_service(road, process, service)
    if service == "comes back" and result.failed:
        back(cargo, result)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.parametrize("delay", [REST(0.0), 0.1, REST(0.3)])
def test_source_service_killed_on_the_way_back(road: Road, service: str, delay: float) -> None:
    """It runs on the source, and podman does not know."""
    cargo = Cargo(road.source, megabytes=100)
    there = Trigger(cargo.box, "transfer", 0.5, elsewhere=(road.destination, KILL_SERVICE_THERE))
    here = Trigger(cargo.box, f"{cargo.box.userdata}/restore.log", delay, action=KILL_SERVICE)
    process = begin(road, cargo.box, bandwidth="30M")
    there.happened()
    here.happened()
    after_source_service(road, process, service)
    road.destination.service("start")
    remove_spools(road.destination)
    assert len(copies(cargo.box)) <= 1
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_source_service_killed_in_commit(road: Road, service: str, delay: float) -> None:
    cargo = Cargo(road.source)
    trigger = Trigger(cargo.box, "commit", delay, action=KILL_SERVICE)
    process = begin(road, cargo.box)
    trigger.happened()
    ended(process)
    if service == "stays away":
        road.source.service("start")
    again(road, cargo)
    clean(road, cargo.box)


# -- ssh is killed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "delay"), [("transfer", 0.5), REST("restore", 0.0), REST("restore", 0.3), ("verify", 0.1)]
)
def test_ssh_session_killed(road: Road, phase: str, delay: float) -> None:
    cargo = Cargo(road.source, megabytes=100)
    trigger = Trigger(cargo.box, phase, delay, elsewhere=(road.destination, kill_sessions(road.source)))
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    result = ended(process)
    assert result is not None
    assert len(copies(cargo.box)) <= 1
    if phase == "transfer":
        back(cargo, result)
    again(road, cargo)
    clean(road, cargo.box)


# -- the network and the controller -------------------------------------------------------------------------------


@pytest.mark.faults
def test_link_cut_in_transfer(road: Road) -> None:
    cargo = Cargo(road.source)
    begin_cut, end_cut = cut_scripts(road.source.address)
    trigger = Trigger(cargo.box, "transfer", 0.5, elsewhere=(road.destination, begin_cut))
    process = begin(road, cargo.box, bandwidth="20M")
    trigger.happened()
    back(cargo, ended(process))
    road.destination.sh(end_cut)
    again(road, cargo)
    # Its sshd still waits for the rest.
    remove_spools(road.destination)
    clean(road, cargo.box, spools=False)


@pytest.mark.faults
def test_link_cut_after_the_restore_was_sent(road: Road) -> None:
    """Nothing is started until the destination has answered."""
    cargo = Cargo(road.source, megabytes=100)
    begin_cut, end_cut = cut_scripts(road.source.address)
    trigger = Trigger(cargo.box, "restore", 0.0, elsewhere=(road.destination, begin_cut))
    process = begin(road, cargo.box)
    trigger.happened()
    result = ended(process)
    assert result is not None and result.failed
    assert result.values["location"] == "unknown"
    assert cargo.box.status == "exited"
    assert not any(road.source.name in copy for copy in copies(cargo.box))
    unsettled = road.move(cargo.box, **TIMEOUT)
    assert unsettled.failed
    assert unsettled.values["location"] == "unknown"
    assert cargo.box.status == "exited"
    road.destination.sh(end_cut)
    again(road, cargo)
    remove_spools(road.destination)
    clean(road, cargo.box, spools=False)


@pytest.mark.faults
def test_controller_gone(road: Road) -> None:
    """The module goes to its end."""
    cargo = Cargo(road.source, megabytes=100)
    trigger = Trigger(cargo.box, "freeze", 0.1)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    for child in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not road.source.journal(), "the move to end", 90)
    cargo.is_whole_in(road.arrived(cargo.box))
    result = again(road, cargo)
    assert not result.changed
    clean(road, cargo.box)


# -- disks --------------------------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["plain", "rm", "always"])
def test_destination_disk_full_in_transfer(road: Road, kind: str) -> None:
    """What is full before is found before."""
    road.transfer = "stream"
    cargo = Cargo(road.source, *KINDS[kind])
    with full(road.destination, "/var/tmp", "150m"):
        trigger = Trigger(cargo.box, "transfer", 0.0, elsewhere=(road.destination, "fallocate -l 130M /var/tmp/filler"))
        process = begin(road, cargo.box, bandwidth="30M")
        trigger.happened()
        result = ended(process)
        assert spooled(road.destination) == []
    back(cargo, result)
    assert "no space left" in result.msg
    assert cargo.box.name not in road.destination.names()
    assert cargo.volume not in road.destination.volumes()
    clean(road, cargo.box)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.faults
def test_destination_store_full_in_restore(road: Road) -> None:
    """The upload fits, what is in it does not fit any more."""
    road.transfer = "stream"
    allow_everything(road)
    cargo = Cargo(road.source)
    with small_store(road.destination, "150m") as store:
        options = {"destination": f"ssh://root@{store.address}{SCRATCH}/service.sock"}
        filler = f"fallocate -l 140M {SCRATCH}/store/filler"
        trigger = Trigger(cargo.box, "transfer", 0.0, elsewhere=(road.destination, filler))
        process = begin(road, cargo.box, bandwidth="30M", **options)
        trigger.happened()
        result = ended(process)
        back(cargo, result)
        assert "no space left" in result.msg
        # Even a removal needs room.
        assert cargo.box.id not in store.podman("ps", "--quiet", "--no-trunc")
    clean(road, cargo.box)
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.faults
def test_source_disk_full_in_freeze(road: Road) -> None:
    road.transfer = "stream"
    cargo = Cargo(road.source)
    with full(road.source, "/var/tmp", "150m"):
        trigger = Trigger(cargo.box, "freeze", 0.0, action=FILL)
        process = begin(road, cargo.box)
        trigger.happened()
        result = ended(process)
    back(cargo, result)
    assert "no space left" in result.msg
    clean(road, cargo.box)
    again(road, cargo)
    clean(road, cargo.box)


# -- what is found before -----------------------------------------------------------------------------------------


def untouched(road: Road, cargo: Cargo, *codes: str, **options: object) -> Result:
    """Refused, and the container was never frozen."""
    life, things = cargo.box.life, (road.destination.names(), road.destination.volumes())
    result = road.move(cargo.box, **options)
    assert result.failed
    assert set(codes) <= set(result.codes), result.msg
    assert cargo.box.life == life
    cargo.is_whole_in(cargo.box)
    assert (road.destination.names(), road.destination.volumes()) == things
    return result


def test_found_before_the_freeze(road: Road) -> None:
    cargo = Cargo(road.source)
    box, there = cargo.box, road.destination
    there.podman("create", "--name", box.name, "--network", "none", "localhost/lab/counter")
    untouched(road, cargo, "name_in_use")
    there.podman("rm", box.name)

    other = there.podman("run", "--detach", "--network", "lan", "--ip", box.address, "localhost/lab/counter")
    untouched(road, cargo, "address_in_use")
    there.podman("rm", "--force", "--time", "0", other)

    there.podman("volume", "create", cargo.volume)
    untouched(road, cargo, "volume_exists")
    there.podman("volume", "rm", cargo.volume)

    criu = there.sh("command -v criu").strip()
    there.run("mv", criu, f"{criu}.away")
    try:
        untouched(road, cargo, "criu_absent")
    finally:
        there.run("mv", f"{criu}.away", criu)

    allow_everything(road)
    with there.other_service("--runtime", "runc") as url:
        destination = f"ssh://root@{there.address}{url.removeprefix('unix://')}"
        untouched(road, cargo, "runtime_differs", destination=destination)
    again(road, cargo)
    clean(road, box)


def test_image_and_network_found_before_the_freeze(road: Road) -> None:
    here, there = road.source, road.destination
    here.podman("network", "create", "it-here")
    here.later("podman", "network", "rm", "--force", "it-here")
    image = here.podman("inspect", "--format", "{{.Id}}", "--type", "image", "localhost/lab/counter")
    base = here.start("counter")
    here.podman("commit", "--quiet", base.id, "localhost/it/own:1")
    base.remove()
    box = here.start("localhost/it/own:1", network="it-here")
    life = box.life
    result = road.move(box, image_transfer="never")
    assert result.failed and {"network_absent", "image_absent"} <= set(result.codes), result.msg
    there.podman("tag", image, "localhost/it/own:1")
    there.later("podman", "untag", image, "localhost/it/own:1")
    result = road.move(box, image_transfer="never", networks="create")
    assert result.failed and "image_absent" in result.codes, result.msg
    assert box.life == life
    assert "it-here" not in there.podman("network", "ls")


# -- the dump fails -----------------------------------------------------------------------------------------------

OUTSIDE = """
import socket, time
peer = socket.socket(socket.AF_UNIX)
peer.connect("/outside/socket")
print("connected", flush=True)
time.sleep(99999)
"""
LISTEN = f"""
import socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("{SCRATCH}/outside/socket")
listener.listen()
kept = listener.accept()
print("accepted", flush=True)
input()
"""


def test_dump_fails_for_a_socket_that_leads_outside(road: Road) -> None:
    road.source.sh(f"mkdir {SCRATCH}/outside")
    road.destination.sh(f"mkdir {SCRATCH}/outside")
    outside = road.source.popen_with_input("python3", "-c", LISTEN)
    flags = ("-v", f"{SCRATCH}/outside:/outside:ro", "--entrypoint", "python3")
    box = road.source.start("keeper", *flags, command=("-c", OUTSIDE))
    assert outside.stdout is not None and outside.stdout.readline() == "accepted\n"
    life = box.life
    result = road.move(box, force=True)
    assert result.failed and result.values["location"] == "source", result.msg
    assert "still runs" in result.msg
    assert result.values["criu_log"], result.msg
    assert box.life == life
    assert box.name not in road.destination.names()
    clean(road, box)
    outside.communicate("\\n", timeout=10)


# -- it does not live on the destination --------------------------------------------------------------------------

HOMESICK = """
import os, sys, time
home = open("/where").read()
while open("/where").read() == home:
    time.sleep(0.01)
sys.exit(int(sys.argv[1]))
"""


def homesick(road: Road, code: int, *more: str) -> Box:
    """A container whose process ends at once anywhere but on the source."""
    for node in (road.source, road.destination):
        node.sh(f"echo {node.name} >{SCRATCH}/where; echo '{HOMESICK}' >{SCRATCH}/homesick.py")
    flags = ("-v", f"{SCRATCH}:{SCRATCH}:ro", "-v", f"{SCRATCH}/where:/where:ro", "--entrypoint", "python3")
    return road.source.start("keeper", *flags, *more, command=(f"{SCRATCH}/homesick.py", str(code)))


@pytest.mark.parametrize("policy", ["no", "always"])
def test_restored_process_fails_at_once(road: Road, policy: str) -> None:
    """A restart policy starts it anew there, without its memory: that is no arrival."""
    box = homesick(road, 3, "--restart", policy)
    result = road.move(box, force=True)
    assert result.failed and result.values["location"] == "source", result.msg
    assert "ended with 3" in result.msg or (policy == "always" and "started anew" in result.msg), result.msg
    assert "runs again from the same memory" in result.msg
    assert box.status == "running" and box.state["Restored"]
    assert box.policy.startswith(policy)
    assert box.name not in road.destination.names()
    clean(road, box)


@pytest.mark.faults
def test_restored_process_ends_its_work_at_once(road: Road) -> None:
    box = homesick(road, 0)
    result = road.move(box, force=True)
    assert result.failed and result.values["location"] == "destination", result.msg
    assert "has done its work" in result.msg
    assert box.status == "exited"
    assert copies(box) == set()


def unhealthy_there(road: Road) -> Box:
    for node in (road.source, road.destination):
        node.sh(f"echo {node.name} >{SCRATCH}/where")
    check = ("--health-cmd", f"grep -q {road.source.name} /where", "--health-interval", "disable")
    return road.source.start_on_lan("keeper", "-v", f"{SCRATCH}/where:/where:ro", *check)


def test_health_check_fails_on_the_destination(road: Road) -> None:
    """The check may need the network, so clients get through before it has passed: their connections end with it."""
    box = unhealthy_there(road)
    memory = box.memory()
    result = ended(begin(road, box, wait_healthy_timeout=2, force=True))
    assert result is not None and result.failed and result.values["location"] == "source"
    assert "health check" in result.msg and "runs again from the same memory" in result.msg
    memory.goes_on_in(box)
    clean(road, box)
    assert not road.move(box, wait_healthy=False, force=True).failed
    clean(road, box)


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_module_killed_on_the_way_back_from_the_destination(road: Road, delay: float) -> None:
    box = unhealthy_there(road)
    memory = box.memory()
    trigger = Trigger(box, f"{box.userdata}/restore.log", delay, action=KILL)
    process = begin(road, box, wait_healthy_timeout=2, force=True)
    trigger.happened()
    ended(process)
    result = road.move(box, wait_healthy=False, force=True)
    assert not result.failed, result.msg
    memory.goes_on_in(road.arrived(box))
    clean(road, box)


# -- hosts stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "delay"), [("transfer", 0.5), REST("restore", 0.0), REST("verify", 0.1), REST("commit", 0.05)]
)
def test_source_host_stops(road: Road, phase: str, delay: float) -> None:
    cargo = Cargo(road.source, "--restart", "always")
    trigger = Trigger(cargo.box, phase, delay)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    reboot(road.source)
    ended(process)
    assert len(copies(cargo.box)) <= 1
    remove_spools(road.source)
    if lost(road, cargo):
        return
    again(road, cargo)
    clean(road, cargo.box)


@pytest.mark.faults
@pytest.mark.parametrize(("phase", "delay"), [("transfer", 0.5), ("restore", 0.0)])
def test_destination_host_stops(road: Road, phase: str, delay: float) -> None:
    cargo = Cargo(road.source)
    trigger = Trigger(cargo.box, phase, delay)
    process = begin(road, cargo.box, bandwidth="30M")
    trigger.happened()
    reboot(road.destination)
    ended(process)
    assert len(copies(cargo.box)) <= 1
    remove_spools(road.destination)
    again(road, cargo)
    clean(road, cargo.box)
