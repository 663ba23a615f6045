# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Registries as they are: with a certificate and a password, with redirects, and gone in the middle."""

from __future__ import annotations

import json
import typing as t
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import pytest
from bridge import Bridge, bridge
from ferrylab.plan import (
    REDIRECTING_PORT,
    REGISTRY_ADDRESS,
    REGISTRY_NAME,
    REGISTRY_PASSWORD,
    REGISTRY_PORT,
    REGISTRY_USER,
    TLS_PORT,
)
from helpers import SCRATCH, Node, Result
from road import Road
from test_checkpoint_image import forget, frozen, restored

REGISTRY = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"
WITH_TLS = f"{REGISTRY_ADDRESS}:{TLS_PORT}"
UNKNOWN = f"{REGISTRY_NAME}:{TLS_PORT}"
"""The same registry by a name for which no host trusts its certificate."""

REDIRECTING = f"{REGISTRY_ADDRESS}:{REDIRECTING_PORT}"
PLAIN = {"registry_tls_verify": False}
KNOWN = {"registry_username": REGISTRY_USER, "registry_password": REGISTRY_PASSWORD}
WRONG = {**KNOWN, "registry_password": "wrong-4712"}
AUTH_FILE = f"{SCRATCH}/auth.json"
API = "http://d/v5.0.0/libpod"


@pytest.fixture
def path() -> str:
    """Of an image in any registry of the lab: they have one storage."""
    return f"ferry/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def way() -> Iterator[Bridge]:
    with bridge() as found:
        yield found


def log_in(node: Node, registry: str = WITH_TLS) -> dict[str, str]:
    """A file of credentials, made as users make it."""
    options = ("--authfile", AUTH_FILE, "--username", REGISTRY_USER, "--password", REGISTRY_PASSWORD)
    node.podman("login", *options, registry)
    return {"registry_auth_file": AUTH_FILE}


def in_registry(path: str, tag: str = "1") -> bool:
    accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"http://{REGISTRY}/v2/{path}/manifests/{tag}", headers=accepted)
    try:
        with urllib.request.urlopen(request, timeout=20):
            return True
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return False


def stored(node: Node) -> str:
    """All that podman keeps of images on a host, and where it puts them together."""
    script = "cd /var/lib/containers/storage; ls overlay overlay-images overlay-layers; ls -A /var/tmp; "
    # Names of layers are random, but what is there twice is said twice.
    return node.sh(script + "podman images --all --no-trunc --format '{{.ID}} {{.Repository}} {{.Tag}}' | sort")


def refused(result: Result, *words: str) -> None:
    assert result.failed and not result.changed
    missing = [word for word in words if word not in result.msg]
    assert not missing, result.msg


# -- certificate and password ------------------------------------------------------------------------------------


def test_with_certificate_and_password(pair: tuple[Node, Node], path: str) -> None:
    source, destination = pair
    box, memory, archive = frozen(source)
    name = f"{WITH_TLS}/{path}:1"
    for node in pair:
        forget(node, name)
    sent = source.module("checkpoint_image", name=name, src=archive, push=True, **KNOWN)
    assert sent.changed, sent.msg
    digest = sent.values["digest"]
    got = destination.module("checkpoint_image", name=name, digest=digest, **log_in(destination))
    assert got.changed, got.msg
    for result in (sent, got):
        assert REGISTRY_PASSWORD not in result.output + result.stderr
    destination.restore(image=name, tcp_established=True)
    memory.goes_on_in(restored(destination, box))


def test_wrong_password_is_told_and_changes_nothing(host: Node, path: str) -> None:
    _box, _memory, archive = frozen(host)
    name = f"{WITH_TLS}/{path}:1"
    forget(host, name)
    host.module("checkpoint_image", name=name, src=archive)
    before = stored(host)
    for who in (WRONG, {}):
        push = host.module("checkpoint_image", name=name, push=True, retries=0, **who)
        refused(push, WITH_TLS, "authentication required", "registry_auth_file")
        assert ("refused the credentials" in push.msg) == bool(who)
    assert not in_registry(path)
    assert stored(host) == before
    host.module("checkpoint_image", name=name, push=True, **KNOWN)
    host.podman("rmi", name)
    before = stored(host)
    for who in (WRONG, {}):
        pull = host.module("checkpoint_image", name=name, retries=0, **who)
        refused(pull, WITH_TLS, "registry_username", "registry_auth_file")
        assert ("refused the credentials" in pull.msg) == bool(who)
        assert "wrong-4712" not in pull.output
    assert stored(host) == before


def test_file_of_credentials_that_does_not_help(host: Node, path: str) -> None:
    name = f"{WITH_TLS}/{path}:1"
    absent = host.module("checkpoint_image", name=name, registry_auth_file=AUTH_FILE)
    refused(absent, f"There is no file {AUTH_FILE}", f"podman login --authfile {AUTH_FILE} {WITH_TLS}")
    other = host.module("checkpoint_image", name=f"{UNKNOWN}/{path}:1", **log_in(host))
    refused(other, f"no credentials for {UNKNOWN}/{path}", WITH_TLS)
    host.run("tee", AUTH_FILE, stdin=json.dumps({"auths": {WITH_TLS: {}}, "credsStore": "secretservice"}))
    helper = host.module("checkpoint_image", name=name, registry_auth_file=AUTH_FILE)
    refused(helper, "docker-credential-secretservice", f"podman login --authfile FILE {WITH_TLS}")


def test_unknown_authority_is_told(host: Node, path: str) -> None:
    box, memory, archive = frozen(host)
    name = f"{UNKNOWN}/{path}:1"
    forget(host, name)
    told = (UNKNOWN, "x509", f"/etc/containers/certs.d/{UNKNOWN}/ca.crt")
    host.module("checkpoint_image", name=name, src=archive)
    refused(host.module("checkpoint_image", name=name, push=True, retries=0, **KNOWN), *told)
    assert not in_registry(path)
    assert host.module("checkpoint_image", name=name, push=True, **PLAIN, **KNOWN).changed
    host.podman("rmi", name)
    refused(host.module("checkpoint_image", name=name, retries=0, registry_tls_verify=True, **KNOWN), *told)
    assert host.module("checkpoint_image", name=name, **PLAIN, **KNOWN).changed
    host.restore(image=name, tcp_established=True)
    memory.goes_on_in(restored(host, box))


def test_registry_without_tls_is_told(host: Node, path: str) -> None:
    refused(host.module("checkpoint_image", name=f"{REGISTRY}/{path}:1", retries=0), REGISTRY, "registry_tls_verify")


def test_move_with_certificate_and_file(road: Road, path: str) -> None:
    box = road.source.start_on_lan("keeper", command=("20",))
    memory = box.memory()
    way = {"transfer": "registry", "registry": f"{WITH_TLS}/{path}"}
    wrong = road.move(box, **way, **WRONG)
    assert wrong.failed and "registry_unreachable" in wrong.codes and box.status == "running", wrong.msg
    moved = road.move(box, **way, **log_in(road.source))
    assert moved.changed, moved.msg
    assert REGISTRY_PASSWORD not in moved.output
    memory.goes_on_in(road.arrived(box))


# -- redirects ---------------------------------------------------------------------------------------------------


def test_redirects_are_followed(pair: tuple[Node, Node], lab: dict[str, Node], path: str) -> None:
    source, destination = pair
    registry = Node(REGISTRY_NAME, REGISTRY_ADDRESS)
    box, memory, archive = frozen(source)
    name = f"{REDIRECTING}/{path}:1"
    for node in pair:
        forget(node, name)
    sent = source.module("checkpoint_image", name=name, src=archive, push=True, **PLAIN)
    assert sent.changed, sent.msg
    got = destination.module("checkpoint_image", name=name, digest=sent.values["digest"], **PLAIN)
    assert got.changed, got.msg
    config = sent.values["image"]["id"]
    assert f"/blobs/sha256/{config[:2]}/{config}/data" in registry.sh("cat /var/log/blobs.log")
    destination.restore(image=name, tcp_established=True)
    memory.goes_on_in(restored(destination, box))


# -- gone in the middle ------------------------------------------------------------------------------------------


def sent_by_hand(node: Node, name: str) -> tuple[str, list[t.Any]]:
    """What podman's own API answers to a push: the status, and the stream."""
    url = f"{API}/images/{name.replace('/', '%2F')}/push?tlsVerify=false&quiet=false&format=oci&retry=0"
    answer = node.run("curl", "-s", "-w", "%{http_code}", "-X", "POST", "--unix-socket", "/run/podman/podman.sock", url)
    *stream, status = answer.splitlines()
    return status, [json.loads(line) for line in stream]


def test_registry_goes_in_the_middle_of_a_push(host: Node, way: Bridge, path: str) -> None:
    _box, _memory, archive = frozen(host)
    name = f"{way.address}/{path}:1"
    forget(host, name)
    host.module("checkpoint_image", name=name, src=archive)
    before = stored(host)
    way.breaks_after(5_000_000)
    status, stream = sent_by_hand(host, name)
    assert status == "200" and any("error" in line for line in stream), (status, stream)
    way.breaks_after(5_000_000)
    result = host.module("checkpoint_image", name=name, push=True, retries=0, **PLAIN)
    assert way.broken
    refused(result, "Pushing", f"See that {way.address} runs", "run this again")
    assert not in_registry(path)
    assert stored(host) == before
    way.mend()
    assert host.module("checkpoint_image", name=name, push=True, **PLAIN).changed
    assert in_registry(path)


def test_registry_goes_in_the_middle_of_a_pull(pair: tuple[Node, Node], way: Bridge, path: str) -> None:
    source, destination = pair
    box, memory, archive = frozen(source)
    name = f"{way.address}/{path}:1"
    for node in pair:
        forget(node, name)
    sent = source.module("checkpoint_image", name=name, src=archive, push=True, **PLAIN)
    options = {"name": name, "digest": sent.values["digest"], **PLAIN}
    before = stored(destination)
    way.breaks_after(5_000_000)
    result = destination.module("checkpoint_image", retries=0, **options)
    assert way.broken
    refused(result, "Pulling", f"See that {way.address} runs", "run this again")
    assert stored(destination) == before
    way.mend()
    assert destination.module("checkpoint_image", **options).changed
    destination.restore(image=name, tcp_established=True)
    memory.goes_on_in(restored(destination, box))


def test_short_break_of_a_push_is_none(host: Node, way: Bridge, path: str) -> None:
    _box, _memory, archive = frozen(host)
    name = f"{way.address}/{path}:1"
    forget(host, name)
    host.module("checkpoint_image", name=name, src=archive)
    way.breaks_after(5_000_000, once=True)
    refused(host.module("checkpoint_image", name=name, push=True, retries=0, **PLAIN), "Pushing")
    way.breaks_after(5_000_000, once=True)
    again = host.module("checkpoint_image", name=name, push=True, **PLAIN)
    assert again.changed, again.msg
    assert way.breaks and in_registry(path)


def test_short_break_of_a_pull_is_none(pair: tuple[Node, Node], way: Bridge, path: str) -> None:
    source, destination = pair
    box, memory, archive = frozen(source)
    name = f"{way.address}/{path}:1"
    for node in pair:
        forget(node, name)
    source.module("checkpoint_image", name=name, src=archive, push=True, **PLAIN)
    way.breaks_after(5_000_000, once=True)
    result = destination.module("checkpoint_image", name=name, **PLAIN)
    assert result.changed, result.msg
    assert way.breaks
    destination.restore(image=name, tcp_established=True)
    memory.goes_on_in(restored(destination, box))
