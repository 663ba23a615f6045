# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoint archives as images: through a real registry, and kept for as long as is said."""

from __future__ import annotations

import json
import pathlib
import subprocess
import typing as t
import urllib.request
import uuid

import pytest
from ferrylab.plan import REGISTRY_ADDRESS, REGISTRY_PORT
from helpers import SCRATCH, Box, Node, wait_until

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
    assert not sent.failed, sent.msg
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


def test_layered_image_lies_on_its_base_and_is_restored(pair: tuple[Node, Node], repository: str) -> None:
    source, destination = pair
    box, memory, path = frozen(source)
    base, name = f"{repository}-base:1", f"{repository}:layered"
    for node in pair:
        forget(node, name)
    forget(source, base)
    source.podman("tag", f"localhost/lab/{box.image}", base)
    source.podman("push", "--tls-verify=false", "--format", "oci", base)
    sent = source.module("checkpoint_image", name=name, src=path, layout="layered", push=True, **PLAIN)
    assert not sent.failed, sent.msg
    assert not source.module("checkpoint_image", name=name, src=path, layout="layered").changed
    below = [layer["digest"] for layer in in_registry(base)["layers"]]
    layers = [layer["digest"] for layer in in_registry(name)["layers"]]
    assert layers[:-2] == below, "the registry has the base image's layers twice"
    (told,) = source.info(image=[name], image_contents=True).values["images"]
    assert (told["layout"], told["contents"]["name"]) == ("layered", box.name)
    # Any tool sees the container's files.
    mounted = source.podman("image", "mount", name).strip()
    try:
        assert source.sh(
            f"cd {mounted}; cat only/f only/h; ls only; stat -c '%u:%g %a' only/sub/h only/sub"
        ).strip() == ("new\nadded\nf\nh\nsub\n33:44 644\n0:0 2750")
    finally:
        source.podman("image", "umount", name)

    got = destination.module("checkpoint_image", name=name, digest=sent.values["digest"], **PLAIN)
    assert got.changed, got.msg
    first = destination.restore(image=name, tcp_established=True)
    assert first.changed and not destination.restore(image=name, tcp_established=True).changed
    there = restored(destination, box)
    memory.goes_on_in(there)
    assert there.sh("cat /only/f /only/h; stat -c '%u:%g %a' /only/sub/h /only/sub; ls /only") == (
        "new\nadded\n33:44 644\n0:0 2750\nf\nh\nsub"
    )


def test_layouts_turn_into_each_other(host: Node, repository: str) -> None:
    box, memory, path = frozen(host)
    first, second, third = (f"{repository}:{number}" for number in range(3))
    for name in (first, second, third):
        forget(host, name)
    ids = [
        host.module("checkpoint_image", **options).values["image"]["id"]
        for options in (
            {"name": first, "src": path},
            {"name": second, "image": first, "layout": "layered"},
            {"name": third, "image": second},
        )
    ]
    assert ids[0] == ids[2] != ids[1]
    assert not host.module("checkpoint_image", name=third, image=second).changed
    dest = f"{SCRATCH}/again.tar"
    assert host.module("checkpoint_image", name=second, dest=dest, compress="none").changed
    assert host.sh(f"zstd -dc {path} | sha256sum") == host.sh(f"cat {dest} | sha256sum")
    host.podman("container", "restore", "--tcp-established", "--import", dest)
    memory.goes_on_in(restored(host, box))


def test_lost_annotations_come_back(host: Node, repository: str) -> None:
    """A docker-archive has no place for them."""
    box, memory, path = frozen(host)
    name, carried = f"{repository}:1", f"{SCRATCH}/docker.tar"
    forget(host, name)
    made = host.module("checkpoint_image", name=name, src=path)
    host.podman("save", "--format", "docker-archive", "--output", carried, name)
    host.podman("rmi", name)
    host.podman("load", "--input", carried)
    assert "checkpoint" not in host.podman("image", "inspect", "--format", "{{.Annotations}}", name)
    given = host.module("checkpoint_image", name=name, image=name)
    assert given.changed and "has no annotation" in given.values["reason"], given.msg
    assert given.values["image"]["id"] == made.values["image"]["id"]
    annotations = json.loads(host.podman("image", "inspect", name))[0]["Annotations"]
    assert annotations.keys() >= NAMES
    assert not host.module("checkpoint_image", name=name, image=name).changed
    host.podman("container", "restore", "--tcp-established", name)
    memory.goes_on_in(restored(host, box))


@pytest.mark.parametrize("engine", ["cri-o", "containerd"])
@pytest.mark.parametrize("layout", ["single", "layered"])
def test_archive_of_the_kubelet_is_restored(host: Node, repository: str, engine: str, layout: str) -> None:
    """The memory is real; the documents are as the engines write them, see as_kubelet.py."""
    box = host.start("counter", network="bridge")
    box.sh("echo new >/only/f; rm /only/g; echo added >/only/h")
    counted = box.counts_on()[-1]
    path, theirs, name = f"{SCRATCH}/podmans.tar", f"{SCRATCH}/theirs.tar", f"{repository}:{layout}"
    host.checkpoint(box.name, dest=path, compress="none")
    box.remove()
    digest = host.podman("image", "inspect", "--format", "{{index .RepoDigests 0}}", "localhost/lab/counter").strip()
    script = (pathlib.Path(__file__).parent / "as_kubelet.py").read_text(encoding="utf-8")
    host.run("python3", "-", engine, path, theirs, digest, stdin=script)
    refused = host.module("podman_restore", src=theirs)
    assert refused.codes == ["foreign_archive"], refused.msg

    forget(host, name)
    made = host.module("checkpoint_image", name=name, src=theirs, layout=layout)
    assert made.changed, made.msg
    assert made.values["image"]["checkpoint"]["engine"] == engine
    assert made.values["image"]["checkpoint"]["pod_name"] == "shop-0"
    assert not host.module("checkpoint_image", name=name, src=theirs, layout=layout).changed
    host.restore(image=name)
    there = host.box(box.name, box.image)
    # Its log stayed behind.
    assert wait_until(there.logged, "the counter to go on")[0] > counted
    assert there.sh("cat /only/f /only/h; ls /only") == "new\nadded\nf\nh\nsub"


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


def has(node: Node, ident: str) -> bool:
    return ident in node.podman("images", "--all", "--no-trunc", "--quiet")


def test_image_that_was_pulled_by_digest_goes_for_good(pair: tuple[Node, Node], repository: str) -> None:
    source, destination = pair
    box, _memory, path = frozen(source)
    name = f"{repository}:1"
    for node in pair:
        forget(node, name)
    sent = source.module("checkpoint_image", name=name, src=path, push=True, **PLAIN)
    digest, ident = sent.values["digest"], sent.values["image"]["id"]
    pull = {"name": name, "digest": digest, **PLAIN}
    assert destination.module("checkpoint_image", **pull).changed
    assert "<none>" not in destination.podman("images", "--digests", repository)
    assert not destination.module("checkpoint_image", **pull).changed
    assert destination.module("checkpoint_image", name=name, state="absent").changed
    assert not has(destination, ident)

    # The name that podman itself leaves, with other names and without.
    by_hand = ("podman", "pull", "--quiet", "--tls-verify=false", f"{repository}@{digest}")
    gold = f"localhost/it/{box.name}:gold"
    forget(destination, gold)
    for other in (gold, None):
        destination.run(*by_hand)
        destination.podman("tag", ident, *filter(None, (name, other)))
        assert destination.module("checkpoint_image", name=name, state="absent").changed
        assert has(destination, ident) == (other is not None)
        destination.podman("rmi", "--ignore", "--force", ident)
    # The newest one stays.
    destination.run(*by_hand)
    source.run("touch", "--date", "@4102444800", path)
    newer = source.module("checkpoint_image", name=f"{repository}:2", src=path, push=True, **PLAIN)
    forget(source, f"{repository}:2")
    forget(destination, f"{repository}:2")
    destination.module("checkpoint_image", name=f"{repository}:2", **PLAIN)
    pruned = destination.module("checkpoint_image", state="pruned", name=repository, keep=1)
    assert [gone["names"] for gone in pruned.values["pruned"]] == [[f"{repository}@{digest}"]]
    assert not has(destination, ident) and has(destination, newer.values["image"]["id"])


@pytest.mark.parametrize("way", ["src", "image"])
def test_base_image_that_has_lost_its_name(host: Node, repository: str, way: str) -> None:
    """Podman asks for it by that name."""
    base, name, path = f"{repository}-base:1", f"{repository}:1", f"{SCRATCH}/nameless.tar.zst"
    for each in (base, name):
        forget(host, each)
    host.podman("tag", "localhost/lab/counter", base)
    box = host.start("counter")
    box.remove()
    host.podman("run", "--detach", "--name", box.name, base)
    host.checkpoint(box.name, dest=path)
    host.podman("rm", "--force", box.name)
    host.module("checkpoint_image", name=name, src=path)
    host.podman("untag", base, base)
    options = {"src": path} if way == "src" else {"image": name}
    assert not host.restore(check=True, **options).failed
    assert base not in host.podman("images", "--format", "{{.Repository}}:{{.Tag}}")
    restored = host.restore(**options)
    assert restored.changed, restored.msg
    assert host.podman("inspect", "--format", "{{.ImageName}}", box.name).strip() == base
    assert host.box(box.name).status == "running"


def test_run_that_was_killed_between_layers_and_annotations(host: Node, repository: str) -> None:
    _box, _memory, path = frozen(host)
    name, half = f"{repository}:1", f"{SCRATCH}/half.tar"
    forget(host, name)
    ident = host.module("checkpoint_image", name=name, src=path).values["image"]["id"]
    # Such an archive has no annotations, as what the module sends first.
    host.podman("save", "--format", "docker-archive", "--output", half, ident)
    host.podman("rmi", "--force", ident)
    host.podman("load", "--quiet", "--input", half)
    assert has(host, ident) and name not in host.podman("images", "--format", "{{.Repository}}:{{.Tag}}")
    again = host.module("checkpoint_image", name=name, src=path)
    assert again.changed and again.values["image"]["id"] == ident, again.msg
    assert again.values["image"]["checkpoint"]["name"]
    assert not host.module("checkpoint_image", name=name, src=path).changed


def test_base_image_by_a_digest_alone_is_told_before_anything_is_touched(host: Node, repository: str) -> None:
    base, path = f"{repository}-base", f"{SCRATCH}/digest.tar.zst"
    host.podman("push", "--quiet", "--tls-verify=false", "localhost/lab/counter", f"{base}:1")
    look = ("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{base}:1")
    digest = host.run(*look).strip()
    box = host.start("counter")
    box.remove()
    host.podman("pull", "--quiet", "--tls-verify=false", f"{base}@{digest}")
    host.podman("run", "--detach", "--name", box.name, f"{base}@{digest}")
    host.checkpoint(box.name, dest=path)
    host.podman("rm", "--force", box.name)
    host.podman("rmi", f"{base}@{digest}")
    refused = host.module("podman_restore", src=path)
    assert refused.failed and "image_unnamed" in refused.codes, refused.msg
    assert box.name not in host.names()


def test_image_of_podman_is_replaced(host: Node) -> None:
    box = host.start("counter")
    name = f"localhost/it/{box.name}:1"
    forget(host, name)
    host.checkpoint(box.name, create_image=name)
    box.remove()
    before = host.podman("image", "inspect", "--format", "{{.Id}}", name).strip()
    made = host.module("checkpoint_image", name=name, image=name)
    assert made.changed and "in another form" in made.values["reason"], made.msg
    assert made.values["image"]["id"] != before and not has(host, before)
    assert not host.module("checkpoint_image", name=name, image=name).changed
    host.restore(image=name)
    assert host.box(box.name).status == "running"


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
    options = {"state": "pruned", "name": f"localhost/it/{box.name}", "keep": 2}
    for check in (True, False):
        found = host.module("checkpoint_image", check=check, **options)
        assert [gone["names"] for gone in found.values["pruned"]] == [[names[0]]]
    assert not host.module("checkpoint_image", **options).changed
    assert host.module("checkpoint_image", name=names[2], state="absent").changed
    assert host.podman("images", "--format", "{{.Repository}}:{{.Tag}}", f"localhost/it/{box.name}") == names[1]
