# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What tools that nobody here wrote read in our archives and images: Debian's skopeo and checkpointctl."""

from __future__ import annotations

import json
import pathlib
import subprocess
import typing as t
import uuid

import pytest
from ferrylab.plan import REGISTRY_ADDRESS, REGISTRY_PORT
from helpers import SCRATCH, Box, Node
from test_checkpoint_image import forget, frozen

from ansible_collections.ferry.podman.plugins.module_utils._build import Recipe, built
from ansible_collections.ferry.podman.plugins.module_utils._source import Source

REGISTRY = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"
PLAIN = {"registry_tls_verify": False}
FAMILIES = {
    "podman": "io.podman.annotations.checkpoint.",
    "criu": "org.criu.checkpoint.",
    "cri-o": "io.kubernetes.cri-o.annotations.checkpoint.",
}
COMPRESSIONS = ("zstd", "gzip", "none")


@pytest.fixture
def name() -> str:
    return f"{REGISTRY}/ferry/{uuid.uuid4().hex[:12]}:1"


def pushed(node: Node, name: str) -> tuple[Box, str, t.Any]:
    """A checkpoint in the registry: its container, its archive, and what the module answered."""
    box, _memory, archive = frozen(node)
    forget(node, name)
    sent = node.module("checkpoint_image", name=name, src=archive, push=True, **PLAIN)
    assert sent.changed, sent.msg
    return box, archive, sent.values


# -- skopeo ------------------------------------------------------------------------------------------------------


def raw(node: Node, where: str) -> t.Any:
    """A manifest or index, as it is."""
    flags = ["--tls-verify=false"] if where.startswith("docker://") else []
    return json.loads(node.run("skopeo", "inspect", "--raw", *flags, where))


def copied(node: Node, source: str, destination: str) -> None:
    node.run("skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", source, destination)


def complete(annotations: dict[str, str], box: Box) -> None:
    """Every family has the name of the container and of its image."""
    image = f"localhost/lab/{box.image}:latest"
    for family, prefix in FAMILIES.items():
        facts = {key[len(prefix) :]: value for key, value in annotations.items() if key.startswith(prefix)}
        assert facts.get("container.name" if family == "criu" else "name") == box.name
        assert facts.get("rootfsImageName") == image
    assert all(key.startswith(tuple(FAMILIES.values())) for key in annotations)


def test_skopeo_sees_every_annotation(host: Node, name: str) -> None:
    box, _archive, sent = pushed(host, name)
    manifest = raw(host, f"docker://{name}")
    complete(manifest["annotations"], box)
    assert manifest["config"]["digest"] == f"sha256:{sent['image']['id']}"
    assert f'"Digest": "{sent["digest"]}"' in host.run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}")

    # The manifest goes everywhere as it is; layouts that skopeo and podman write have an index of their own.
    copied(host, f"docker://{name}", f"docker://{name}-copy")
    copied(host, f"docker://{name}", f"oci:{SCRATCH}/layout:1")
    host.podman("save", "--quiet", "--format", "oci-archive", "--output", f"{SCRATCH}/saved.tar", name)
    for where in (f"docker://{name}-copy", f"oci:{SCRATCH}/layout:1", f"oci-archive:{SCRATCH}/saved.tar"):
        assert raw(host, where)["annotations"] == manifest["annotations"], where
    host.run("tar", "-xf", f"{SCRATCH}/saved.tar", "-C", SCRATCH, "index.json")
    for index in (f"{SCRATCH}/layout/index.json", f"{SCRATCH}/index.json"):
        assert not any(prefix in host.run("cat", index) for prefix in FAMILIES.values())


def test_skopeo_takes_our_layout(host: Node, name: str, tmp_path: pathlib.Path) -> None:
    """The very layout that podman gets from the module, with the annotations on its index."""
    box, _memory, archive = frozen(host)
    with open(tmp_path / "archive", "wb") as file:
        subprocess.run(host.command("cat", archive), stdout=file, check=True, timeout=60)
    layout = tmp_path / "layout.tar"
    with (
        Source(str(tmp_path / "archive")) as source,
        built(source, Recipe(directory=str(tmp_path))) as image,
        open(layout, "wb") as file,
    ):
        file.writelines(image.layout(name))
        index, expected = json.loads(image.index(name)), image.id
    complete(index["annotations"], box)
    with open(layout, "rb") as file:
        command = host.command("tee", f"{SCRATCH}/layout.tar")
        subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, check=True, timeout=60)
    assert raw(host, f"oci-archive:{SCRATCH}/layout.tar")["annotations"] == index["annotations"]
    copied(host, f"oci-archive:{SCRATCH}/layout.tar", f"docker://{name}")
    forget(host, name)
    got = host.module("checkpoint_image", name=name, **PLAIN)
    assert got.changed and got.values["image"]["id"] == expected, got.msg


def test_index_in_a_registry(host: Node, name: str) -> None:
    """As the documentation says how to make one, for containerd."""
    box, _archive, sent = pushed(host, name)
    annotations = raw(host, f"docker://{name}")["annotations"]
    index = f"{name}-index"
    forget(host, index)
    host.podman("manifest", "create", *(f"--annotation={key}={value}" for key, value in annotations.items()), index)
    host.podman("manifest", "add", "--tls-verify=false", index, f"docker://{name}")
    host.podman("manifest", "push", "--all", "--tls-verify=false", index, f"docker://{index}")
    host.podman("manifest", "rm", index)
    found = raw(host, f"docker://{index}")
    assert found["mediaType"] == "application/vnd.oci.image.index.v1+json"
    complete(found["annotations"], box)
    assert [manifest["digest"] for manifest in found["manifests"]] == [sent["digest"]]
    got = host.module("checkpoint_image", name=index, **PLAIN)
    assert got.changed and got.values["image"]["id"] == sent["image"]["id"], got.msg


# -- checkpointctl -----------------------------------------------------------------------------------------------


def shown(node: Node, archive: str, box: Box) -> None:
    """checkpointctl reads the archive, and tells of the container what is so."""
    table = node.run("checkpointctl", "show", archive)
    assert all(word in table for word in (box.name, f"localhost/lab/{box.image}:latest", box.id[:12], "Podman")), table
    (told,) = json.loads(node.run("checkpointctl", "inspect", "--all", "--format", "json", archive))
    assert told["container_name"] == box.name
    assert told["statistics"]["pages_written"] * 4096 == told["checkpoint_size"]["memory_pages_size"] > 20_000_000
    assert told["process_tree"]["pid"] == 1 and told["process_tree"]["command"].startswith("python3")
    assert "INETSK 3" in {file["fd"] for file in told["file_descriptors"][0]["open_files"]}
    assert "7000" in json.dumps(told["sockets"])
    assert "/proc" in {mount["destination"] for mount in told["mounts"]}


def test_checkpointctl_reads_our_archives(host: Node, name: str) -> None:
    box = host.start_on_lan("keeper", command=("20",))
    paths = {compression: f"{SCRATCH}/{compression}.tar" for compression in COMPRESSIONS}
    for compression, path in paths.items():
        host.checkpoint(box.name, dest=path, compress=compression, leave_running=True, tcp_established=True)
    for path in paths.values():
        shown(host, path, box)
    box.remove()
    forget(host, name)
    host.module("checkpoint_image", name=name, src=paths["zstd"])
    for compression in COMPRESSIONS:
        dest = f"{SCRATCH}/dest.{compression}"
        assert host.module("checkpoint_image", name=name, dest=dest, compress=compression).changed
        shown(host, dest, box)


def test_checkpointctl_reads_no_image(host: Node, name: str) -> None:
    """What the documentation says: make an archive of it first."""
    pushed(host, name)
    host.podman("save", "--quiet", "--format", "oci-archive", "--output", f"{SCRATCH}/saved.tar", name)
    for what in (name, f"{SCRATCH}/saved.tar"):
        assert "CONTAINER" not in host.run("checkpointctl", "show", what, check=False)
