# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import stat
import tarfile

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, rewritten
from ansible_collections.ferry.podman.plugins.module_utils._errors import ApiError, FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import RegistryAccess
from ansible_collections.ferry.podman.plugins.module_utils._registry import (
    Reference,
    RegistryCarrier,
    advice,
    advised,
    private_file,
)

DIGEST = "sha256:" + "3d" * 32
LOAD, PULL = "POST /images/load", "POST /images/pull"
PING = 'initializing source docker://r: pinging container registry r: Get "http://r/v2/": connection refused'
UNKNOWN = "initializing source docker://r: reading manifest t in r: manifest unknown"


# -- references -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("registry.example/ferry/db:move", "registry.example/ferry/db", "move"),
        ("registry.example:5000/db:20261120T0912-1", "registry.example:5000/db", "20261120T0912-1"),
        ("10.9.0.1:5000/ferry/a-b/c__d:1.0", "10.9.0.1:5000/ferry/a-b/c__d", "1.0"),
        ("localhost/x:y", "localhost/x", "y"),
        ("localhost:5000/x:y", "localhost:5000/x", "y"),
        ("[fd00::1]:5000/x:y", "[fd00::1]:5000/x", "y"),
    ],
)
def test_reference(text, repository, tag) -> None:
    reference = Reference.parse(text)
    assert (reference.repository, reference.tag, str(reference)) == (repository, tag, text)
    assert reference.host == repository.split("/")[0]
    assert reference.by_digest(DIGEST) == f"{repository}@{DIGEST}"
    assert str(reference.tagged("other")) == f"{repository}:other"


@pytest.mark.parametrize(
    "text",
    [
        *("db", "db:move", "ferry/db:move", "registry.example:5000"),
        *("registry.example/DB:move", "registry.example/db:", "registry.example/db:-x", "registry.example/db:a b"),
        *("docker://registry.example/db:x", "registry.example//db:x", "registry.example/db:x\n", ""),
        f"registry.example/db@{DIGEST}",
    ],
)
def test_what_names_no_image_in_a_registry(text) -> None:
    with pytest.raises(FerryError, match="does not name an image in a registry"):
        Reference.parse(text)


@pytest.mark.parametrize("text", ["localhost/nc/db", "registry.example:5000/db"])
def test_name_without_a_tag(text) -> None:
    with pytest.raises(FerryError, match=f"'{text}' has no tag"):
        Reference.parse(text)


# -- the two hosts ----------------------------------------------------------------------------------------------


def lines(*told: dict) -> tuple:
    return 200, b"".join(json.dumps(each).encode() + b"\n" for each in told), {"Content-Type": "application/json"}


class Registry:
    """What a registry and the two podmans do: an image that was loaded here is pushed, and pulled there."""

    def __init__(self, source, destination) -> None:
        self.source, self.destination = source, destination
        self.images: list[str] = []
        self.pushed = lines({"stream": "Writing manifest"}, {"manifestdigest": DIGEST})
        self.pulled: object = None
        source.on(LOAD, self._load)
        destination.on(PULL, self._pull)

    def _load(self, handler, request) -> None:
        handler.read_body(request)
        with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
            first = tar.getmembers()[0].name
            config = tar.getmembers()[1 if first == "manifest.json" else 3]
            ident = hashlib.sha256(tar.extractfile(config).read()).hexdigest()
        if first == "manifest.json":  # its annotations come with a second one
            self.images.append(ident)
        self.source.on(f"GET /images/{ident}/json", {"Id": ident})
        self.source.on(f"POST /images/{ident}/push", self.pushed)
        for service in (self.source, self.destination):
            service.on(f"DELETE /images/{ident}", {"Deleted": [ident]})
        handler.reply(200, json.dumps({"Names": [f"sha256:{ident}"]}).encode())

    def _pull(self, handler, request) -> None:
        handler.read_body(request)
        answer = self.pulled or lines({"stream": "Trying"}, {"images": [self.images[-1]], "id": self.images[-1]})
        handler.reply(*answer)

    def removed(self, service) -> list[str]:
        return [seen[len("DELETE /images/") :] for seen in service.seen if seen.startswith("DELETE")]


@pytest.fixture
def registry(libpod, other_libpod) -> Registry:
    return Registry(libpod, other_libpod)


@pytest.fixture
def carrier(registry, client, other_libpod, connect, tmp_path) -> RegistryCarrier:
    access = RegistryAccess(tls_verify=False)
    reference = Reference.parse("r.example:5000/ferry/web:move")
    return RegistryCarrier(client, connect(other_libpod.url), reference, access, str(tmp_path))


def test_checkpoint_goes_as_an_image(carrier, registry, archives, make_host, tmp_path) -> None:
    archive, contents = archives.checkpoint(), Contents()
    carrier.prepare(rewritten(io.BytesIO(archive), contents), contents, make_host(), "4.2.1")
    carrier.push()
    assert carrier.pull() == carrier.image_id == registry.images[-1]
    assert carrier.digest == DIGEST
    files = {}
    for request in [each for each in registry.source.requests if str(each) == LOAD]:
        with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
            files.update({info.name: tar.extractfile(info).read() for info in tar})
    manifest = next(
        json.loads(data)
        for data in files.values()
        if data.startswith(b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest')
    )
    layer = files[manifest["layers"][0]["digest"].removeprefix("sha256:") + ".tar"]
    assert archives.names(layer) == archives.names(archive)
    assert manifest["annotations"]["io.podman.annotations.checkpoint.runtime.name"] == "crun"
    assert manifest["annotations"]["io.podman.annotations.checkpoint.name"] == "web"
    push = registry.source.request(f"POST /images/{carrier.image_id}/push")
    assert push.query == {
        "destination": "r.example:5000/ferry/web:move",
        "format": "oci",
        "compressionFormat": "zstd",
        "forceCompressionFormat": "false",
        "quiet": "false",
        "tlsVerify": "false",
    }
    pull = registry.destination.request(PULL)
    assert pull.query["reference"] == f"r.example:5000/ferry/web@{DIGEST}"
    assert pull.query["tlsVerify"] == "false"
    assert carrier.remove() == []
    assert registry.removed(registry.source) == registry.removed(registry.destination) == [carrier.image_id]
    assert os.listdir(tmp_path) == []


def test_podman_that_tells_no_digest_is_asked_by_tag(carrier, registry) -> None:
    for service in (registry.source, registry.destination):
        service.headers["Libpod-API-Version"] = "4.4.0"
    registry.pushed = lines({"stream": "Writing manifest"})
    carrier.load([b"layer"], "amd64", dict)
    carrier.push()
    assert carrier.pull() == carrier.image_id
    assert registry.destination.request(PULL).query["reference"] == "r.example:5000/ferry/web:move"


def test_another_image_is_refused_and_removed(carrier, registry) -> None:
    carrier.load([b"layer"], "amd64", dict)
    carrier.push()
    registry.pulled = lines({"images": ["4f" * 32], "id": "4f" * 32})
    registry.destination.on(f"DELETE /images/{'4f' * 32}", {})
    with pytest.raises(FerryError, match="got the image 4f4f4f4f4f4f, not .* a tag of its own"):
        carrier.pull()
    assert registry.removed(registry.destination) == ["4f" * 32]


@pytest.mark.parametrize("answer", [lines({"stream": "Copying"}, {"error": "writing blob: no space"}), None])
def test_failed_push_is_one_though_the_answer_is_200(carrier, registry, answer) -> None:
    registry.pushed = answer or registry.source.error(400, "no such registry")
    carrier.load([b"layer"], "amd64", dict)
    with pytest.raises(FerryError, match=r"Pushing an image as r.example:5000/ferry/web:move failed: .* See that"):
        carrier.push()
    assert carrier.remove() == []
    assert registry.removed(registry.source) == [carrier.image_id]


def test_push_that_a_stopped_service_cut_short(carrier, registry) -> None:
    registry.pushed = lines({"stream": "Copying blob"})
    carrier.load([b"layer"], "amd64", dict)
    with pytest.raises(TransportError, match="ends without the digest"):
        carrier.push()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lines({"stream": "Trying"}, {"error": "manifest unknown"}), "failed: manifest unknown. See that"),
        (lines({"stream": "Trying"}), "ends without the image's ID"),
        ((200, b"half a l"), "not JSON"),
        ((200, b"[1]\n"), "not JSON"),
    ],
)
def test_failed_pull_is_one_though_the_answer_is_200(carrier, registry, answer, reason) -> None:
    carrier.load([b"layer"], "amd64", dict)
    carrier.push()
    registry.pulled = answer
    with pytest.raises(FerryError, match=re.escape(reason)):
        carrier.pull()


def test_archive_that_breaks_off_is_never_loaded(carrier, registry) -> None:
    def broken():
        yield b"half"
        raise TransportError("The connection broke off.")

    with pytest.raises(TransportError, match="broke off"):
        carrier.load(broken(), "amd64", dict)
    assert LOAD not in registry.source.seen
    assert carrier.remove() == []
    assert registry.source.seen == []


def test_load_that_podman_refuses(carrier, registry) -> None:
    registry.source.on(LOAD, registry.source.error(500, "no space left on device"))
    with pytest.raises(FerryError, match="no space left on device.*needs room"):
        carrier.load([b"layer"], "amd64", dict)


def test_load_that_gives_another_image(carrier, registry) -> None:
    registry.source.on(LOAD, {"Names": ["sha256:00"]})
    with pytest.raises(FerryError, match="as another image"):
        carrier.load([b"layer"], "amd64", dict)


def test_what_cannot_be_removed_is_told(carrier, registry) -> None:
    carrier.load([b"layer"], "amd64", dict)
    registry.source.on(f"DELETE /images/{carrier.image_id}", registry.source.error(409, "image is in use"))
    (problem,) = carrier.remove()
    assert "image is in use" in problem


# -- the file ---------------------------------------------------------------------------------------------------


def test_file_has_no_name_and_no_reader(tmp_path) -> None:
    with private_file(str(tmp_path)) as file:
        file.write(b"secret")
        status = os.fstat(file.fileno())
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_nlink == 0
        assert os.listdir(tmp_path) == []


def test_directory_that_is_not_there(tmp_path) -> None:
    with pytest.raises(FerryError, match=r"No file can be made in .*/gone: No such file"):
        with private_file(str(tmp_path / "gone")):
            pass


def test_full_disk(carrier, registry, file_size_limit) -> None:
    file_size_limit(1 << 20)
    with pytest.raises(FerryError, match=f"cannot be written in .*: {os.strerror(errno.EFBIG)}.*room there"):
        carrier.load([bytes(1 << 20)] * 2, "amd64", dict)
    assert LOAD not in registry.source.seen


# -- before the freeze ------------------------------------------------------------------------------------------


def test_rehearsal_goes_the_whole_way_and_leaves_nothing(carrier, registry) -> None:
    assert carrier.findings(rehearse=True) == []
    (ident,) = registry.images
    assert registry.removed(registry.source) == registry.removed(registry.destination) == [ident]
    assert registry.source.request(f"POST /images/{ident}/push").query["destination"].endswith("/web:ferry-rehearsal")
    assert carrier.image_id is None


def test_rehearsals_are_never_of_an_image_that_is_there_already(carrier, registry) -> None:
    carrier.findings(rehearse=True)
    carrier.findings(rehearse=True)
    assert len(set(registry.images)) == 2


@pytest.mark.parametrize("where", ["source", "destination"])
def test_rehearsal_that_fails_says_where(carrier, registry, where) -> None:
    error = lines({"error": PING})
    setattr(registry, "pushed" if where == "source" else "pulled", error)
    (finding,) = carrier.findings(rehearse=True)
    assert (finding.code, finding.severity) == ("registry_unreachable", "blocker")
    assert f"The {where} cannot use the registry for r.example:5000/ferry/web:move" in finding.message
    assert "connection refused" in finding.message
    assert registry.removed(registry.source) == registry.images


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        (UNKNOWN, UNKNOWN, []),
        (PING, UNKNOWN, ["source"]),
        (UNKNOWN, PING, ["destination"]),
        (PING, PING, ["source", "destination"]),
    ],
)
def test_asking_changes_nothing(carrier, registry, here, there, found) -> None:
    registry.source.on(PULL, lines({"error": here}))
    registry.destination.on(PULL, lines({"error": there}))
    findings = carrier.findings(rehearse=False)
    assert [finding.message.split()[1] for finding in findings] == found
    assert {finding.code for finding in findings} <= {"registry_unreachable"}
    assert registry.source.seen == registry.destination.seen == [PULL]
    query = registry.source.request(PULL).query
    assert query["retry"] == "0"
    assert "ferry-rehearsal-" in query["reference"]


def test_memory_stays_small(run_python) -> None:
    """An archive that is larger than what the process may have."""
    code = """
import resource, tempfile
from datetime import datetime, timezone
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image, Layer
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block = bytes(1 << 20)
spooled = Layer.spooled((block for _ in range(200)), tempfile.TemporaryFile())
made = Layer.made(lambda: (block for _ in range(200)), "It")
for layer in (spooled, made):
    size = sum(len(chunk) for chunk in Image([layer], "amd64", datetime.now(timezone.utc)).layout())
    assert size > 200 << 20
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    assert int(run_python(code)) < 30


def test_access() -> None:
    assert RegistryAccess().query() == RegistryAccess().headers() == {}
    assert RegistryAccess(tls_verify=True).query() == {"tlsVerify": "true"}
    access = RegistryAccess(username="ann", password="s?>~ü")
    assert access.headers() == {"X-Registry-Auth": "eyJ1c2VybmFtZSI6ICJhbm4iLCAicGFzc3dvcmQiOiAicz8-flx1MDBmYyJ9"}
    assert "s?>" not in repr(access)


def test_credentials_go_with_both_requests(client, libpod) -> None:
    access = RegistryAccess(username="ann", password="secret")
    libpod.on("POST /images/abc/push", lines({"manifestdigest": DIGEST}))
    libpod.on(PULL, lines({"id": "abc"}))
    assert client.push_image("abc", "r.example/x:y", access, compression="gzip", retry=2) == DIGEST
    assert client.pull_reference("r.example/x:y", access) == "abc"
    push, pull = libpod.request("POST /images/abc/push"), libpod.request(PULL)
    assert push.headers["X-Registry-Auth"] == pull.headers["X-Registry-Auth"] == access.headers()["X-Registry-Auth"]
    assert (push.query["compressionFormat"], push.query["retry"]) == ("gzip", "2")
    assert "retry" not in pull.query and "tlsVerify" not in pull.query


def test_tag(client, libpod) -> None:
    libpod.on("POST /images/abc/tag", 201)
    client.tag_image("abc", "localhost/x", "y")
    assert libpod.request("POST /images/abc/tag").query == {"repo": "localhost/x", "tag": "y"}


# -- what to do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        ("checking whether a blob exists in r:1/a: authentication required", "registry_auth_file"),
        ("unable to retrieve auth token: invalid username/password: unauthorized", "registry_auth_file"),
        ("requested access to the resource is denied", "registry_auth_file"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "certs.d/r:1/ca.crt"),
        ("http: server gave HTTP response to HTTPS client", "r:1 speaks plain HTTP; set registry_tls_verify: false"),
        ("reading manifest t in r:1/a: manifest unknown", "was pushed"),
        ("writing blob: no space left on device", "Make room"),
        ("dial tcp 192.0.2.1:1: connect: connection refused", "See that r:1 runs"),
        ("writing blob: unexpected EOF", "run this again"),
    ],
)
def test_advice(cause, remedy) -> None:
    assert remedy in advice(cause, "r:1")


@pytest.mark.parametrize(("access", "told"), [(RegistryAccess(username="me"), True), (RegistryAccess(), False)])
def test_credentials_that_were_given_are_said_to_be_refused(access, told) -> None:
    reference = Reference.parse("r.example:1/a:b")
    with pytest.raises(FerryError) as error, advised(reference, access):
        raise ApiError("Pushing failed.", status=500, cause="authentication required")
    assert ("r.example:1 refused the credentials" in str(error.value)) == told
