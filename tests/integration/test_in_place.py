# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoints that stay in the container's own directory, and restores from there."""

from __future__ import annotations

import pathlib
import time

from helpers import Node, wait_until

LOCK = 'import fcntl, time; file = open("/run/lock-file", "w"); fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)'
TRY_LOCK = f"python3 -c '{LOCK}' 2>/dev/null || echo held"


def test_checkpoint_and_restore_by_id(host: Node) -> None:
    box = host.start()
    wait_until(box.logged, "the first number")
    done = host.checkpoint(box.id, keep=True)
    assert done.changed
    assert (done.one["name"], done.one["id"], done.one["changed"]) == (box.name, box.id, True)
    assert done.one["image"] == "localhost/lab/counter:latest"
    assert done.one["checkpoint_path"] == f"{box.userdata}/checkpoint"
    state = box.state
    assert (state["Status"], state["Checkpointed"]) == ("exited", True)
    assert state["CheckpointPath"] == done.one["checkpoint_path"]
    assert host.exists(state["CheckpointLog"])
    assert not state.get("Restored")

    back = host.restore(box.id, keep=True)
    assert back.changed
    assert back.one["name"] == box.name
    state = box.state
    assert (state["Status"], state["Restored"]) == ("running", True)
    assert not state.get("Checkpointed")
    assert host.exists(state["RestoreLog"])
    box.counts_on()

    # Only the container is new now: the checkpoint that was kept is of an older run.
    host.podman("restart", "--time", "0", box.id)
    fields = ("Checkpointed", "CheckpointPath", "CheckpointLog", "Restored", "RestoreLog")
    assert not any(box.state.get(field) for field in fields)


def test_second_run_changes_nothing(host: Node) -> None:
    box = host.start()
    assert host.checkpoint(box.name).changed
    frozen = box.inspect()["State"]
    again = host.checkpoint(box.name)
    assert (again.changed, again.one["changed"], again.one["id"]) == (False, False, box.id)
    assert box.inspect()["State"] == frozen
    assert host.restore(box.name).changed
    life = box.life
    again = host.restore(box.name)
    assert (again.changed, again.one["changed"], again.one["id"]) == (False, False, box.id)
    assert box.life == life


def test_check_mode_and_difference(host: Node) -> None:
    box = host.start()
    life = box.life
    planned = host.checkpoint(box.name, check=True, diff=True)
    assert planned.changed
    assert planned.one["name"] == box.name
    assert {'-"status": "running"', '+"status": "exited"', '+"checkpoint": "in place"'} <= planned.difference
    assert box.life == life
    assert not host.exists(f"{box.userdata}/checkpoint")

    host.checkpoint(box.name)
    life = box.life
    planned = host.restore(box.name, check=True, diff=True)
    assert planned.changed
    assert planned.one["name"] == box.name
    assert {'-"status": "exited"', '+"status": "running"'} <= planned.difference
    assert box.life == life
    assert host.restore(box.name, diff=True).difference == planned.difference
    assert host.restore(box.name, check=True, diff=True).difference == set()


def test_memory_and_counter_continue(host: Node) -> None:
    box = host.start_on_lan("keeper", command=("30",))
    before = box.memory()
    host.checkpoint(box.name)
    assert box.status == "exited"
    host.restore(box.name)
    before.goes_on_in(box)


def test_logs_go_on_after_two_restores(host: Node) -> None:
    box = host.start()
    for _round in range(2):
        host.checkpoint(box.name)
        host.restore(box.name)
        assert box.counts_on()


def test_the_others_keep_running(host: Node) -> None:
    first, second = host.start(), host.start()
    life = second.life
    host.checkpoint(first.name)
    assert first.status == "exited"
    assert second.life == life
    host.restore(first.name)
    assert (first.status, second.life) == ("running", life)


def test_several_and_all(host: Node) -> None:
    first, second, stopped = host.start(), host.start(), host.start()
    both = {first.name, second.name}
    host.podman("stop", "--time", "0", stopped.id)
    several = host.checkpoint(second.name, first.name)
    assert [entry["name"] for entry in several.containers] == [second.name, first.name]
    host.restore(first.name, second.name)
    done = host.checkpoint(all=True)
    assert both <= {entry["name"] for entry in done.containers} <= host.names() - {stopped.name}
    assert (first.status, second.status) == ("exited", "exited")
    # The podman command would try the one that was stopped without a checkpoint, too.
    back = host.restore(all=True)
    assert both <= {entry["name"] for entry in back.containers} <= host.names() - {stopped.name}
    assert (first.status, second.status, stopped.status) == ("running", "running", "exited")
    again = host.restore(all=True)
    assert (again.changed, again.containers) == (False, [])


def test_latest(host: Node) -> None:
    first = host.start()
    latest = host.start()
    assert host.checkpoint(latest=True).one["name"] == latest.name
    assert (first.status, latest.status) == ("running", "exited")
    assert host.restore(latest=True).one["name"] == latest.name
    assert latest.status == "running"


def test_name_of_an_image(host: Node) -> None:
    box = host.start()
    host.podman("tag", "localhost/lab/counter", f"localhost/{box.name}")
    host.later("podman", "rmi", f"localhost/{box.name}")
    assert host.checkpoint(box.name).one["id"] == box.id
    assert host.restore(box.name).one["id"] == box.id
    assert box.status == "running"


def test_podman_after_checkpoint_and_restore(host: Node) -> None:
    box = host.start()
    host.checkpoint(box.name)
    assert "can't pause" in host.run("sh", "-c", f"podman pause {box.name} 2>&1 || true")
    host.restore(box.name)
    assert box.sh("echo inside") == "inside"
    assert "cannot remove container" in host.run("sh", "-c", f"podman rm {box.name} 2>&1 || true")
    host.podman("rm", "--force", "--time", "0", box.name)


def test_leave_running(host: Node) -> None:
    box = host.start()
    wait_until(box.logged, "the first number")
    pid = box.state["Pid"]
    done = host.checkpoint(box.name, leave_running=True)
    assert done.changed
    assert (box.state["Status"], box.state["Pid"]) == ("running", pid)
    assert host.checkpoint(box.name, leave_running=True).changed, "every run makes a new checkpoint"
    frozen_at = len(box.logged())
    time.sleep(1.5)
    host.podman("stop", "--time", "0", box.id)
    assert len(box.logged()) > frozen_at
    # The numbers begin again where the checkpoint was made.
    host.restore(box.name)
    numbers = wait_until(lambda: (now := box.logged())[1:] and now, "more numbers")
    assert box.status == "running"
    assert 1 not in numbers[frozen_at:]


def test_keep_allows_one_more_restore(host: Node) -> None:
    box = host.start()
    host.checkpoint(box.name)
    host.restore(box.name, keep=True)
    checkpoint = pathlib.PurePath(box.userdata, "checkpoint/inventory.img")
    assert host.exists(str(checkpoint))
    host.podman("stop", "--time", "0", box.id)
    assert host.restore(box.name).changed
    assert box.status == "running"
    assert not host.exists(str(checkpoint))


def test_statistics(host: Node) -> None:
    box = host.start()
    done = host.checkpoint(box.name)
    dump = done.one["statistics"]
    assert dump["pages_written"] > 0
    assert 0 < dump["memwrite_time"] <= dump["frozen_time"]
    assert dump["frozen_time"] < done.one["runtime_checkpoint_duration"]
    back = host.restore(box.name)
    restore = back.one["statistics"]
    assert restore["pages_restored"] > 0
    assert 0 < restore["forking_time"] < restore["restore_time"] < back.one["runtime_restore_duration"]


def test_file_locks(host: Node) -> None:
    box = host.start()
    box.sh(f"setsid python3 -c '{LOCK}; time.sleep(600)' >/dev/null 2>&1 &")
    wait_until(lambda: box.sh(TRY_LOCK) == "held", "the lock")
    life = box.life
    refused = host.module("podman_checkpoint", name=box.name)
    assert refused.failed
    assert "lock" in refused.msg.lower()
    assert refused.values["criu_log"]
    assert "still runs" in refused.msg
    assert box.life == life
    host.checkpoint(box.name, file_locks=True)
    host.restore(box.name, file_locks=True)
    assert box.sh(TRY_LOCK) == "held"


def test_shared_memory_and_hosts_file(host: Node) -> None:
    box = host.start_on_lan("keeper")
    box.sh("echo shared > /dev/shm/message")
    files = box.sh("cat /etc/hosts /etc/resolv.conf")
    network = box.inspect()["NetworkSettings"]["Networks"]["lan"]
    host.checkpoint(box.name)
    host.restore(box.name)
    assert box.sh("cat /dev/shm/message") == "shared"
    assert box.sh("cat /etc/hosts /etc/resolv.conf") == files
    now = box.inspect()["NetworkSettings"]["Networks"]["lan"]
    assert (now["IPAddress"], now["MacAddress"]) == (network["IPAddress"], network["MacAddress"])


def test_runc(host: Node) -> None:
    box = host.start("counter", "--runtime", "runc")
    host.checkpoint(box.name)
    host.restore(box.name)
    box.counts_on()
    assert box.inspect()["OCIRuntime"] == "runc"
