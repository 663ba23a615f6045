# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoints as a backup: the roles checkpoint and restore, by their playbooks."""

from __future__ import annotations

import json
import subprocess
import time

from ferrylab.plan import REGISTRY_ADDRESS, REGISTRY_PORT
from helpers import ROOT, SCRATCH, Box, Node, inventory, wait_until

REGISTRY = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"


def playbook(name: str, host: Node, **variables: object) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".venv/bin/ansible-playbook"), f"ferry.podman.{name}", "-i", inventory()]
    given = json.dumps({"host": host.name, f"{name}_directory": f"{SCRATCH}/backup", **variables})
    return subprocess.run([*command, "-e", given], cwd=ROOT, text=True, capture_output=True, timeout=300)


def must(name: str, host: Node, **variables: object) -> str:
    done = playbook(name, host, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def archives(host: Node, box: Box) -> list[str]:
    return host.files(f"{SCRATCH}/backup/{box.name}")


def restored(host: Node, box: Box) -> Box:
    return host.box(box.name, box.image, box.address)


def test_newest_checkpoints_stay_and_the_newest_is_restored(host: Node) -> None:
    boxes = [host.start("counter"), host.start("counter")]
    names = ",".join(box.name for box in boxes)
    for _run in range(3):
        must("checkpoint", host, checkpoint_containers=names, checkpoint_keep="2")
        time.sleep(1.1)  # the names of archives have seconds
    for box in boxes:
        assert len(archives(host, box)) == 2
        box.counts_on()
    at_least = len(boxes[0].logged()) - 30
    boxes[0].remove()
    must("restore", host, restore_container=boxes[0].name)
    there = restored(host, boxes[0])
    before = len(there.logged())
    numbers = wait_until(lambda: (found := there.logged())[before + 2 :] and found, "the counter to count on")
    # It ran on while its log was archived, which is newer than its memory.
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1)) and max(numbers) > at_least


def test_one_that_fails_keeps_its_checkpoints_and_the_others_get_theirs(host: Node) -> None:
    good, bad = host.start("counter"), host.start("counter")
    both = f"{bad.name},{good.name}"
    must("checkpoint", host, checkpoint_containers=both, checkpoint_keep="1")
    before = archives(host, bad)
    host.podman("pause", bad.name)
    time.sleep(1.1)
    done = playbook("checkpoint", host, checkpoint_containers=both, checkpoint_keep="1")
    assert done.returncode != 0
    assert f"1 of 2 containers have no new checkpoint. {bad.name}:" in done.stdout
    assert archives(host, bad) == before
    assert len(archives(host, good)) == 1
    host.podman("unpause", bad.name)


def test_checkpoint_goes_to_a_registry_and_comes_back_elsewhere(pair: tuple[Node, Node]) -> None:
    source, destination = pair
    box = source.start_on_lan("keeper")
    memory = box.memory()
    images = f"{REGISTRY}/it-backup"
    must(
        "checkpoint",
        source,
        checkpoint_containers=box.name,
        checkpoint_images=images,
        checkpoint_registry_tls_verify="false",
        checkpoint_archives_kept=False,
    )
    assert archives(source, box) == []
    (name,) = source.podman("images", "--format", "{{.Repository}}:{{.Tag}}", f"{images}/{box.name}").split()
    box.remove()
    must("restore", destination, restore_image=name, restore_registry_tls_verify="false")
    there = destination.box(box.name, box.image, box.address)
    wait_until(lambda: there.status == "running", "the container to run")
    memory.goes_on_in(there)
    destination.later("podman", "rmi", "--force", name)


def test_what_runs_is_not_restored_over(host: Node) -> None:
    box = host.start("counter")
    told = must("checkpoint", host, checkpoint_containers=box.name)
    assert f"{box.name}: {SCRATCH}/backup/{box.name}/" in told
    running = playbook("restore", host, restore_container=box.name)
    assert running.returncode != 0 and f"{box.name} runs on {host.name}" in running.stdout
    box.counts_on()
    unknown = playbook("checkpoint", host, checkpoint_containers=f"it-nobody,{box.name}")
    assert unknown.returncode != 0 and "it-nobody: There is no such container" in unknown.stdout
    assert len(archives(host, box)) == 2 and "it-nobody" not in host.files(f"{SCRATCH}/backup")


def test_member_of_a_pod_comes_into_one(host: Node) -> None:
    host.podman("pod", "create", "--name", "it-pod", "--label", "it=1")
    host.later("podman", "pod", "rm", "--force", "--ignore", "--time", "0", "it-pod")
    host.podman("run", "--detach", "--pod", "it-pod", "--name", "it-member", "localhost/lab/counter")
    must("checkpoint", host, checkpoint_containers="it-member")
    host.podman("rm", "--force", "--time", "0", "it-member")
    bare = playbook("restore", host, restore_container="it-member")
    assert bare.returncode != 0 and "pod_required" in bare.stdout
    must("restore", host, restore_container="it-member", restore_pod="it-pod")
    wait_until(lambda: host.box("it-member").status == "running", "the member to run")


def test_there_must_be_one_thing_to_restore_from(host: Node) -> None:
    nothing = playbook("restore", host)
    assert nothing.returncode != 0 and "Give one of restore_container" in nothing.stdout
    unknown = playbook("restore", host, restore_container="it-nobody")
    assert unknown.returncode != 0 and "has no archive of any time" in unknown.stdout
