# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoints as images."""

from __future__ import annotations

import json

import pytest
from helpers import Node, wait_until

IMAGE = "it-warm"
FULL_NAME = f"localhost/{IMAGE}:latest"
PREFIX = "io.podman.annotations.checkpoint."


def test_image_and_four_clones(host: Node) -> None:
    box = host.start("keeper", "--label", "ferry.priority=3", command=("5",))
    planned = host.checkpoint(box.name, create_image=IMAGE, check=True, diff=True)
    assert planned.one["created_image"] == IMAGE
    assert f'+"checkpoint": "{IMAGE}"' in planned.difference
    assert box.status == "running" and not host.podman("images", "--quiet", FULL_NAME)

    done = host.checkpoint(box.name, create_image=IMAGE, keep=True)
    image = json.loads(host.podman("image", "inspect", FULL_NAME))[0]
    assert done.one["created_image"] == FULL_NAME
    assert (done.one["created_image_id"], done.one["digest"]) == (image["Id"], image["Digest"])
    assert done.one["size"] > 5 << 20
    assert image["Annotations"][f"{PREFIX}name"] == box.name
    assert image["Annotations"][f"{PREFIX}runtime.name"] == "crun"
    assert image["Annotations"][f"{PREFIX}rootfsImageID"] == done.one["image_id"]
    state = box.state
    assert state["Checkpointed"] and state["CheckpointPath"] and state["CheckpointLog"]
    again = host.checkpoint(box.name, create_image=IMAGE)
    assert (again.changed, again.one["created_image_id"]) == (False, image["Id"])

    box.remove()
    names = [f"it-clone-{number}" for number in range(4)]
    made = host.restore(image=FULL_NAME, new_name=names)
    assert len({entry["id"] for entry in made.containers}) == 4
    assert not host.restore(image=IMAGE, new_name=names).changed
    back = host.restore(image=image["Id"])
    assert back.one["name"] == box.name
    assert not host.restore(image=IMAGE).changed
    for name in [*names, box.name]:
        raw = host.box(name).inspect()
        assert (raw["State"]["Status"], raw["State"]["Restored"]) == ("running", True)
        assert raw["Config"]["Labels"] == {"ferry.priority": "3"}


def test_restart_policy_and_running(host: Node) -> None:
    box = host.start("counter", "--restart", "always")
    wait_until(box.logged, "a number")
    host.checkpoint(box.name, create_image=IMAGE, leave_running=True)
    assert (box.status, box.policy) == ("running", "always:0")
    host.checkpoint(box.name, create_image=IMAGE)
    assert (box.status, box.policy) == ("exited", "always:0")
    box.remove()
    host.restore(image=IMAGE)
    box.counts_on()
    assert box.policy == "always:0"


def test_addresses_and_log_stay(host: Node) -> None:
    """Those that podman chose, which it does not restore from an image by itself."""
    box = host.start("counter", network="lan")
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}"
    addresses = host.podman("inspect", "--format", template, box.id)
    host.checkpoint(box.name, create_image=IMAGE)
    box.remove()
    host.restore(image=IMAGE)
    assert host.podman("inspect", "--format", template, box.id) == addresses
    box.counts_on()


def test_files_that_an_image_would_lack(host: Node) -> None:
    box = host.start()
    box.sh("echo new > /only/f; echo new > /etc/passwd; chmod 700 /only/sub")
    life = box.life
    for check in (True, False):
        refused = host.module("podman_checkpoint", name=box.name, create_image=IMAGE, check=check)
        assert refused.codes == ["files_dropped"]
        assert "/only/f" in refused.msg and "/etc/passwd" not in refused.msg and "/only/sub" not in refused.msg
    assert box.life == life
    host.checkpoint(box.name, create_image=IMAGE, ignore_rootfs=True)
    host.restore(image=IMAGE, new_name=["it-bare"])
    assert host.box("it-bare").sh("cat /only/f") == "old"


def test_volumes_of_an_image(host: Node) -> None:
    box = host.start("counter", "--volume", "it-data:/data")
    box.sh("echo then > /data/file")
    host.checkpoint(box.name, create_image=IMAGE)
    box.remove()
    host.podman("volume", "rm", "it-data")
    host.restore(image=IMAGE)
    assert box.sh("cat /data/file") == "then"


@pytest.mark.parametrize("image", ["localhost/lab/counter", "localhost/it/absent"])
def test_not_a_checkpoint_image(host: Node, image: str) -> None:
    names = host.names()
    refused = host.module("podman_restore", image=image)
    assert refused.failed
    if image.endswith("absent"):
        assert "There is no image localhost/it/absent" in refused.msg
    else:
        assert refused.codes == ["not_a_checkpoint"]
    assert host.names() == names
