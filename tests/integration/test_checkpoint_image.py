# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoint archives as images: through a real registry, and kept for as long as is said."""

from __future__ import annotations

import json
import subprocess
import typing as t
import urllib.request
import uuid

import pytest
from ferrylab.plan import REGISTRY_ADDRESS, REGISTRY_PORT
from helpers import SCRATCH, Box, Node

REGISTRY = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"
PLAIN = {"registry_tls_verify": False}
NAMES = {
    "io.podman.annotations.checkpoint.name",
    "org.criu.checkpoint.container.name",
    "io.kubernetes.cri-o.annotations.checkpoint.name",
}


@pytest.fixture
def repository() -> str:
    return f"{REGISTRY}/ferry/{uuid.uuid4().hex[:12]}"


def frozen(node: Node) -> tuple[Box, t.Any, str]:
    """A container that is only an archive any more, its memory, and the archive's path."""
    box = node.start_on_lan("keeper", command=("20",))
    box.sh("echo new >/only/f; rm /only/g; echo added >/only/h; chown 33:44 /only/sub/h; chmod 2750 /only/sub")
    memory = box.memory()
    path = f"{SCRATCH}/{box.name}.tar.zst"
    node.checkpoint(box.name, dest=path, tcp_established=True)
    box.remove()
    return box, memory, path


def restored(node: Node, box: Box) -> Box:
    """The container that came out of an image: with its address, and another MAC address than this machine knows."""
    subprocess.run(["ip", "neighbour", "flush", "to", str(box.address)], check=True, timeout=20)
    return node.box(box.name, box.image, box.address)


def in_registry(name: str) -> t.Any:
    repository, _, tag = name.removeprefix(f"{REGISTRY}/").rpartition(":")
    accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"http://{REGISTRY}/v2/{repository}/manifests/{tag}", headers=accepted)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def forget(node: Node, name: str) -> None:
    node.later("podman", "rmi", "--force", name)


def test_archive_goes_through_a_registry_and_lives_on(pair: tuple[Node, Node], repository: str) -> None:
    source, destination = pair
    box, memory, path = frozen(source)
    name = f"{repository}:monday"
    for node in pair:
        forget(node, name)
    sent = source.module("checkpoint_image", name=name, src=path, push=True, **PLAIN)
    assert sent.changed, sent.msg
    manifest = in_registry(name)
    assert manifest["annotations"].keys() >= NAMES
    assert manifest["config"]["digest"] == f"sha256:{sent.values['image']['id']}"
    assert not source.module("checkpoint_image", name=name, src=path).changed

    got = destination.module("checkpoint_image", name=name, digest=sent.values["digest"], **PLAIN)
    assert got.changed, got.msg
    assert got.values["image"]["id"] == sent.values["image"]["id"]
    assert got.values["image"]["checkpoint"]["name"] == box.name
    assert not destination.module("checkpoint_image", name=name, digest=sent.values["digest"], **PLAIN).changed

    destination.restore(image=name, tcp_established=True)
    there = restored(destination, box)
    memory.goes_on_in(there)
    assert there.sh("cat /only/f /only/h; stat -c '%u:%g %a' /only/sub/h /only/sub; ls /only") == (
        "new\nadded\n33:44 644\n0:0 2750\nf\nh\nsub"
    )


def test_podman_itself_restores_it(host: Node, repository: str) -> None:
    box, memory, path = frozen(host)
    name = f"{repository}:1"
    forget(host, name)
    host.module("checkpoint_image", name=name, src=path, formats=["podman"])
    host.podman("container", "restore", "--tcp-established", name)
    memory.goes_on_in(restored(host, box))


def test_archive_comes_out_of_an_image_again(host: Node, repository: str) -> None:
    box, memory, path = frozen(host)
    name, dest = f"{repository}:1", f"{SCRATCH}/again.tar.gz"
    forget(host, name)
    host.module("checkpoint_image", name=name, src=path)
    saved = host.module("checkpoint_image", name=name, dest=dest, compress="gzip")
    assert saved.changed, saved.msg
    assert not host.module("checkpoint_image", name=name, dest=dest, compress="gzip").changed
    assert host.sh(f"zstd -dc {path} | sha256sum") == host.sh(f"gzip -dc {dest} | sha256sum")
    host.podman("container", "restore", "--tcp-established", "--import", dest)
    memory.goes_on_in(restored(host, box))


def test_what_is_no_checkpoint_is_refused(host: Node, repository: str) -> None:
    name = f"{repository}:other"
    host.podman("tag", "localhost/lab/counter", name)
    forget(host, name)
    host.podman("push", "--tls-verify=false", name)
    for options in ({}, {"push": True}, {"state": "absent"}):
        refused = host.module("checkpoint_image", name=name, **options, **PLAIN)
        assert refused.failed and "is no checkpoint" in refused.msg
    host.podman("untag", name, name)
    refused = host.module("checkpoint_image", name=name, **PLAIN)
    assert refused.failed and "is no checkpoint" in refused.msg
    assert "localhost/lab/counter" in host.podman("images")


def test_registry_that_does_not_answer_is_told(host: Node) -> None:
    refused = host.module("checkpoint_image", name=f"{REGISTRY_ADDRESS}:9/ferry/absent:1", retries=0, **PLAIN)
    assert refused.failed and f"{REGISTRY_ADDRESS}:9" in refused.msg


def test_wrong_digest_is_told(host: Node, repository: str) -> None:
    _box, _memory, path = frozen(host)
    name = f"{repository}:1"
    forget(host, name)
    host.module("checkpoint_image", name=name, src=path, push=True, **PLAIN)
    wrong = f"sha256:{'0' * 64}"
    refused = host.module("checkpoint_image", name=name, digest=wrong, retries=0, **PLAIN)
    assert refused.failed and wrong in refused.msg


def test_prune_keeps_the_newest(host: Node) -> None:
    box, _memory, path = frozen(host)
    names = [f"localhost/it/{box.name}:{number}" for number in range(3)]
    for number, name in enumerate(names):
        forget(host, name)
        host.run("touch", "--date", f"@{1767225600 + number}", path)
        assert host.module("checkpoint_image", name=name, src=path).changed
    options = {"state": "pruned", "name": names[0], "keep": 2}
    for check in (True, False):
        found = host.module("checkpoint_image", check=check, **options)
        assert [gone["names"] for gone in found.values["pruned"]] == [[names[0]]]
    assert not host.module("checkpoint_image", **options).changed
    assert host.module("checkpoint_image", name=names[2], state="absent").changed
    assert host.podman("images", "--format", "{{.Repository}}:{{.Tag}}", f"localhost/it/{box.name}") == names[1]
