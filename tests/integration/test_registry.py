# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoints that go from host to host as images, through a real registry."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import typing as t
import urllib.request
import uuid
from collections.abc import Iterator

import pytest
from ferrylab.plan import REGISTRY_ADDRESS, REGISTRY_PORT
from helpers import Box, Node, inventory

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import (
    Checkpointer,
    CheckpointRequest,
    bring_back,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    LibpodClient,
    RegistryAccess,
    RestoreOptions,
)
from ansible_collections.ferry.podman.plugins.module_utils._registry import Reference, RegistryCarrier
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

REGISTRY = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"
PLAIN = RegistryAccess(tls_verify=False)
OPTIONS = CheckpointOptions(tcp_established=True, file_locks=True)
PREFIX = "io.podman.annotations.checkpoint."
CUT = f"""
table ip it-registry {{
    chain out {{
        type filter hook output priority 0
        ip daddr {REGISTRY_ADDRESS} tcp dport {REGISTRY_PORT} reject with tcp reset
    }}
}}
"""


@contextlib.contextmanager
def service(node: Node) -> Iterator[LibpodClient]:
    found = dict(re.findall(r"^(ansible_ssh_\w+)=(.*)$", open(inventory()).read(), re.MULTILINE))
    known_hosts = re.search(r"UserKnownHostsFile=(\S+)", found["ansible_ssh_args"])
    assert known_hosts is not None
    url = f"ssh://root@{node.address}/run/podman/podman.sock"
    identity = found["ansible_ssh_private_key_file"]
    with Transport(url, 120, identity=identity, known_hosts=known_hosts[1]) as transport:
        yield LibpodClient(transport)


@contextlib.contextmanager
def cut_off(node: Node) -> Iterator[None]:
    """Nothing of this host reaches the registry."""
    node.run("nft", "-f", "-", stdin=CUT)
    try:
        yield
    finally:
        node.run("nft", "delete", "table", "ip", "it-registry")


class Way:
    """From one host to another through a repository of the test's own."""

    def __init__(self, source: Node, destination: Node, here: LibpodClient, there: LibpodClient) -> None:
        self.source, self.destination, self.here, self.there = source, destination, here, there
        self.repository = f"ferry/{uuid.uuid4().hex[:12]}"

    def carrier(self, access: RegistryAccess = PLAIN, registry: str = REGISTRY) -> RegistryCarrier:
        return RegistryCarrier(self.here, self.there, Reference(f"{registry}/{self.repository}", "move"), access)

    def freeze(self, box: Box, contents: Contents) -> Iterator[bytes]:
        container = self.here.container(box.id)
        checkpointer = Checkpointer(self.here, self.here.info(), CheckpointRequest(OPTIONS))
        spool = tempfile.TemporaryFile()
        return checkpointer.export(container, contents, spool, container.restart_policy, fix_addresses=True)

    def move(self, box: Box) -> tuple[Box, dict[str, t.Any]]:
        """The box where it is then, and the image that it went in."""
        carrier, contents = self.carrier(), Contents()
        try:
            carrier.prepare(self.freeze(box, contents), contents, self.here.info())
            carrier.push()
            image = self.there.image(carrier.pull())
            assert image is not None
            options = RestoreOptions(tcp_established=True, file_locks=True)
            self.there.restore(image["Id"], options, "Restoring from the image")
        finally:
            assert carrier.remove() == []
        self.here.remove_container(box.id, force=False)
        return self.destination.box(box.name, box.image, box.address), image

    def in_registry(self, what: str) -> dict[str, t.Any]:
        accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        request = urllib.request.Request(f"http://{REGISTRY}/v2/{self.repository}/{what}", headers=accepted)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return t.cast("dict[str, t.Any]", json.load(answer))

    def images(self) -> tuple[set[str], set[str]]:
        return set(self.here.image_ids()), set(self.there.image_ids())


@pytest.fixture
def way(pair: tuple[Node, Node]) -> Iterator[Way]:
    with service(pair[0]) as here, service(pair[1]) as there:
        way = Way(*pair, here, there)
        before = way.images()
        yield way
        assert way.images() == before


def test_everything_arrives(way: Way) -> None:
    flags = ("-v", "it-registry:/data", "-e", "COLOUR=blue", "--label", "tier=gold", "--restart", "on-failure:3")
    box = way.source.start_on_lan("keeper", *flags, command=("20",))
    box.sh("echo new >/only/f; rm /only/g; echo added >/only/h; chown 33:44 /only/sub/h; chmod 2750 /only/sub")
    box.sh("ln /only/h /only/hard; echo row >/data/table; chown 5:6 /data/table; echo shared >/dev/shm/s")
    box.sh("rm -rf /etc/ssl; mkdir -m 750 /etc/ssl; echo precious >/etc/ssl/own")
    look = "cat /only/f /only/hard /data/table /dev/shm/s /etc/ssl/own; ls -A /only /etc/ssl; "
    look += "stat -c '%u:%g %a %h' /only/sub/h /only/sub /only/hard /data/table /etc/ssl"
    memory, state, before = box.memory(), box.sh(look), box.inspect()
    assert "precious" in state
    moved, image = way.move(box)
    memory.goes_on_in(moved)
    assert moved.sh(look) == state
    after = moved.inspect()
    for key in ("Id", "Name", "Image"):
        assert after[key] == before[key]
    assert after["Config"]["Labels"] == before["Config"]["Labels"]
    assert "COLOUR=blue" in after["Config"]["Env"]
    assert after["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert image["Annotations"][f"{PREFIX}name"] == box.name
    assert image["Annotations"][f"{PREFIX}rootfsImageID"] == before["Image"]

    manifest = way.in_registry("manifests/move")
    assert manifest["annotations"] == image["Annotations"]
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert f"sha256:{image['Id']}" == manifest["config"]["digest"]


@pytest.mark.parametrize("chosen_by", ["podman", "user"])
def test_addresses_arrive_and_stay(way: Way, chosen_by: str) -> None:
    """Those that podman chose too: an image has no network.status."""
    own = ("--ip", way.source.free_address(), "--mac-address", "92:0a:0b:0c:0d:0e")
    box = way.source.start("counter", *(own if chosen_by == "user" else ()), network="lan")
    template = "{{.NetworkSettings.Networks.lan.IPAddress}} {{.NetworkSettings.Networks.lan.MacAddress}}"

    def addresses(where: Box) -> str:
        return where.node.podman("inspect", "--format", template, where.id)

    before = addresses(box)
    moved, _image = way.move(box)
    assert addresses(moved) == before
    moved.node.podman("restart", "--time", "0", moved.id)
    assert addresses(moved) == before


def test_rehearsal_leaves_its_tag_alone(way: Way) -> None:
    carrier = way.carrier()
    assert carrier.findings(rehearse=False) == []
    assert carrier.findings(rehearse=True) == []
    assert carrier.findings(rehearse=True) == []
    assert way.in_registry("tags/list")["tags"] == ["ferry-rehearsal"]


@pytest.mark.parametrize("rehearse", [False, True], ids=["asked", "rehearsed"])
def test_registry_that_cannot_be_used(way: Way, rehearse: bool) -> None:
    closed = way.carrier(registry=f"{REGISTRY_ADDRESS}:{REGISTRY_PORT + 1}").findings(rehearse=rehearse)
    with_tls = way.carrier(RegistryAccess(tls_verify=True)).findings(rehearse=rehearse)
    with cut_off(way.destination):
        half = way.carrier().findings(rehearse=rehearse)
    found = [*closed, *with_tls, *half]
    assert {finding.code for finding in found} == {"registry_unreachable"}
    assert "refused" in closed[0].message
    assert "HTTPS" in with_tls[0].message
    (finding,) = half
    assert finding.message.startswith("The destination")


@pytest.mark.parametrize("step", ["push", "pull"])
def test_registry_that_goes_while_the_container_is_frozen(way: Way, step: str) -> None:
    box = way.source.start_on_lan("keeper")
    memory, carrier, contents = box.memory(), way.carrier(), Contents()
    container = way.here.container(box.id)
    carrier.prepare(way.freeze(box, contents), contents, way.here.info())
    assert box.status == "exited"
    with pytest.raises(FerryError) as caught:
        if step == "pull":
            carrier.push()
        with cut_off(way.source if step == "push" else way.destination):
            getattr(carrier, step)(retry=0)
    assert f"{'Pushing' if step == 'push' else 'Pulling'}" in caught.value.message
    assert carrier.remove() == []
    assert "runs again from the same memory" in bring_back(way.here, container, OPTIONS, caught.value)
    memory.goes_on_in(box)
    assert box.name not in way.destination.names()
