# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import io
import json
import os
import re
from datetime import datetime, timezone
from urllib.parse import quote, unquote

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _libpod
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._build import Recipe, built
from ansible_collections.ferry.podman.plugins.module_utils._criu import CORE_MAGIC
from ansible_collections.ferry.podman.plugins.module_utils._image import LAYERED, image_of, layered
from ansible_collections.ferry.podman.plugins.module_utils._layout import StoredImage
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image
from ansible_collections.ferry.podman.plugins.module_utils._source import Source
from ansible_collections.ferry.podman.plugins.modules import checkpoint_image

NAME = "registry.example:5000/ferry/web:1"
PATH = f"/images/{quote(NAME, safe='')}"
FOUND = f"GET {PATH}/json"
ID, OTHER = "1f" * 32, "2e" * 32
DIGEST = f"sha256:{'ab' * 32}"


def stored(ident: str = ID, container: str | None = "web", created: str = "2026-01-02T03:04:05Z", **more):
    annotations = {} if container is None else {"io.podman.annotations.checkpoint.name": container}
    raw = {"Id": ident, "RepoTags": [NAME], "Digest": DIGEST, "Size": 10, "Created": created}
    return {**raw, "Annotations": annotations, **more}


@pytest.fixture
def podman(libpod, info_json):
    libpod.on("GET /info", info_json())
    libpod.on("POST /images/load", {"Names": []})
    libpod.on(f"POST /images/{ID}/tag", 201)
    return libpod


@pytest.fixture
def archive(archives, protobuf, tmp_path):
    path = tmp_path / "web.tar"
    core = protobuf.image(CORE_MAGIC, protobuf.message((1, 1)))
    path.write_bytes(archives.checkpoint(archives.entry("checkpoint/core-1.img", core)))
    os.utime(path, (1767225600, 1767225600))
    with Source(str(path)) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        return str(path), image.id


def of(podman, ident: str) -> str:
    return f"GET /images/{ident}/json"


# -- made of an archive -----------------------------------------------------------------------------------------


def test_image_is_made_of_the_archive_and_named(run_module, podman, archive) -> None:
    path, ident = archive
    podman.on(FOUND, 404, stored(ident))
    podman.on(of(podman, ident), 404, 404, stored(ident))
    podman.on(f"POST /images/{ident}/tag", 201)
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M")
    assert answer["changed"] and "no image of this name" in answer["reason"]
    assert answer["image"]["id"] == ident
    assert answer["diff"] == {"before": None, "after": ident}
    first, second = (each.body for each in podman.requests if str(each) == "POST /images/load")
    assert first.startswith(b"manifest.json\0") and second.startswith(b"oci-layout\0")
    assert len(second) < len(first)
    assert podman.request(f"POST /images/{ident}/tag").query == {"repo": "registry.example:5000/ferry/web", "tag": "1"}


def test_same_archive_again_changes_nothing(run_module, podman, archive, tmp_path) -> None:
    path, ident = archive
    with Source(path) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        podman.on(FOUND, stored(ident, Annotations=dict(image.annotations)))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M")
    assert not answer["changed"]
    assert "POST /images/load" not in podman.seen


def test_encrypted_archive_gives_the_same_image(run_module, podman, archive, tmp_path, age_key) -> None:
    path, ident = archive
    locked = tmp_path / "web.age"
    with open(path, "rb") as file:
        locked.write_bytes(age_key.encrypt(file.read()))
    os.utime(locked, (1767225600, 1767225600))
    podman.on(FOUND, 404, stored(ident))
    podman.on(of(podman, ident), stored(ident))
    podman.on(f"POST /images/{ident}/tag", 201)
    options = {"url": podman.url, "name": NAME, "max_size": "1M"}
    refused = run_module(checkpoint_image, **options, src=str(locked))
    assert refused["findings"][0]["code"] == "archive_encrypted"
    podman.on(FOUND, 404, stored(ident))
    answer = run_module(checkpoint_image, **options, src=str(locked), decrypt_identity=age_key.identity)
    assert answer["image"]["id"] == ident


def test_image_that_has_lost_annotations_is_made_anew(run_module, podman, archive, tmp_path) -> None:
    path, ident = archive
    podman.on(FOUND, stored(ident))
    podman.on(of(podman, ident), stored(ident))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M")
    assert answer["changed"] and "has no annotation io.kubernetes.cri-o" in answer["reason"]
    assert podman.request("POST /images/load")


def test_image_with_another_annotation_is_made_anew(run_module, podman, archive, tmp_path) -> None:
    path, ident = archive
    with Source(path) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        told = {**image.annotations, "io.podman.annotations.checkpoint.host.arch": "s390x"}
    podman.on(FOUND, stored(ident, Annotations=told))
    podman.on(of(podman, ident), stored(ident, Annotations=told))
    podman.on(f"POST /images/{ident}/tag", 201)
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M")
    assert answer["changed"] and "host.arch is not what the checkpoint says" in answer["reason"]


def test_same_image_under_another_name_loses_nothing(run_module, podman, archive, tmp_path) -> None:
    path, ident = archive
    podman.on(f"POST /images/{ident}/tag", 201)
    with Source(path) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        whole = dict(image.annotations)
    podman.on(FOUND, 404, stored(ident))
    podman.on(of(podman, ident), stored(ident, Annotations={**whole, "colour": "blue"}))
    options = {"url": podman.url, "name": NAME, "src": path, "max_size": "1M"}
    assert run_module(checkpoint_image, formats=["podman"], **options)["changed"]
    assert podman.seen[-2:] == [f"POST /images/{ident}/tag", FOUND]
    assert "POST /images/load" not in podman.seen
    podman.on(FOUND, 404, stored(ident))
    podman.on(of(podman, ident), stored(ident, Annotations={"colour": "blue"}))
    run_module(checkpoint_image, **options)
    assert b'"colour":"blue"' in podman.request("POST /images/load").body


def test_without_formats_nothing_is_made(run_module, podman, archive) -> None:
    path, _ident = archive
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M", formats=[])
    assert answer["failed"] and "formats is empty" in answer["msg"]
    assert "POST /images/load" not in podman.seen


def test_check_mode_makes_nothing(run_module, podman, archive) -> None:
    path, ident = archive
    podman.on(FOUND, stored(OTHER))
    answer = run_module(
        checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M", push=True, check_mode=True
    )
    assert answer["changed"] and "not of this checkpoint" in answer["reason"]
    assert answer["diff"] == {"before": OTHER, "after": ident}
    assert "image" not in answer
    assert all(request.startswith("GET") for request in podman.seen)


def test_archive_that_podman_takes_for_another_image_is_told(run_module, podman, archive) -> None:
    path, ident = archive
    podman.on(FOUND, 404)
    podman.on(of(podman, ident), 404)
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1M")
    assert answer["failed"] and "another image" in answer["msg"]


def test_archive_that_is_too_large_is_refused(run_module, podman, archive) -> None:
    path, _ident = archive
    podman.on(FOUND, 404)
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, src=path, max_size="1K")
    assert answer["failed"]
    assert "POST /images/load" not in podman.seen


# -- pulled and pushed --------------------------------------------------------------------------------------------


def pulls(podman, ident: str = ID, names=(NAME,), **more) -> None:
    podman.on("POST /images/pull", {"id": ident})
    podman.on("GET /images/json", [], [{"Id": ident, "Names": list(names)}], [])
    podman.on(of(podman, ident), stored(ident, **more))


def test_image_that_is_not_there_is_pulled(run_module, podman) -> None:
    pulls(podman)
    podman.on(FOUND, 404, stored())
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, retries=2)
    assert answer["changed"] and answer["image"]["checkpoint"] == {"name": "web"}
    asked = podman.request("POST /images/pull").query
    assert (asked["reference"], asked["retry"]) == (NAME, "2")


def test_image_that_is_there_is_not_pulled(run_module, podman) -> None:
    podman.on(FOUND, stored())
    assert not run_module(checkpoint_image, url=podman.url, name=NAME)["changed"]


def test_digest_decides_which_one_it_is(run_module, podman) -> None:
    wanted = f"sha256:{'cd' * 32}"
    by_digest = f"registry.example:5000/ferry/web@{wanted}"
    pulls(podman, OTHER, [NAME, by_digest])
    podman.on(f"DELETE /images/{quote(by_digest, safe='')}", {})
    podman.on(f"POST /images/{OTHER}/tag", 201)
    podman.on(FOUND, stored(), stored(OTHER))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, digest=wanted)
    assert answer["changed"] and wanted in answer["reason"]
    assert podman.request("POST /images/pull").query["reference"] == by_digest
    assert removed(podman) == [by_digest]
    assert not run_module(checkpoint_image, url=podman.url, name=NAME, digest=DIGEST)["changed"]


def test_image_that_is_no_checkpoint_is_refused_and_not_kept(run_module, podman) -> None:
    pulls(podman, container=None)
    podman.on(FOUND, 404)
    podman.on(f"DELETE {PATH}", {})
    answer = run_module(checkpoint_image, url=podman.url, name=NAME)
    assert answer["failed"] and "is no checkpoint" in answer["msg"]
    assert f"DELETE {PATH}" in podman.seen


def test_image_that_is_no_checkpoint_and_was_there_keeps_its_other_names(run_module, podman) -> None:
    pulls(podman, container=None, RepoTags=[NAME, "localhost/tool:1"])
    podman.on("GET /images/json", [{"Id": ID, "Names": [NAME, "localhost/tool:1"]}])
    podman.on(FOUND, 404)
    podman.on(f"DELETE {PATH}", {})
    assert run_module(checkpoint_image, url=podman.url, name=NAME)["failed"]
    assert [request for request in podman.seen if request.startswith("DELETE")] == [f"DELETE {PATH}"]


def test_check_mode_does_not_take_the_image_for_the_one_to_be_pulled(run_module, podman, tmp_path) -> None:
    podman.on(FOUND, stored(container=None))
    wanted = f"sha256:{'cd' * 32}"
    options = {"url": podman.url, "name": NAME, "digest": wanted, "dest": str(tmp_path / "out.tar")}
    answer = run_module(checkpoint_image, check_mode=True, **options)
    assert answer["changed"] and "image" not in answer
    assert answer["diff"] == {"before": ID, "after": wanted}
    assert podman.seen == [FOUND]


def test_digest_of_what_was_pushed_is_returned(run_module, podman) -> None:
    podman.on(FOUND, stored())
    podman.on(f"POST /images/{ID}/push", {"manifestdigest": DIGEST})
    answer = run_module(
        checkpoint_image, url=podman.url, name=NAME, push=True, registry_username="a", registry_password="secret"
    )
    assert answer["changed"] and answer["digest"] == DIGEST
    assert podman.request(f"POST /images/{ID}/push").query["format"] == "oci"
    assert "secret" not in str(answer)


def test_push_that_fails_half_way_is_an_error(run_module, podman) -> None:
    podman.on(FOUND, stored())
    podman.on(f"POST /images/{ID}/push", (200, b'{"stream": "Copying"}\n{"error": "no space left"}\n'))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, push=True)
    assert answer["failed"] and "no space left" in answer["msg"]


def auth_file(tmp_path, password: str = "secret") -> str:
    entry = base64.b64encode(f"me:{password}".encode()).decode()
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"registry.example:5000": {"auth": entry}}}))
    return str(tmp_path / "auth.json")


def test_credentials_of_a_file_are_sent_and_not_told(run_module, podman, tmp_path) -> None:
    podman.on(FOUND, stored())
    podman.on(f"POST /images/{ID}/push", (200, b'{"error": "secret is no password"}\n'))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, push=True, registry_auth_file=auth_file(tmp_path))
    sent = json.loads(base64.urlsafe_b64decode(podman.request(f"POST /images/{ID}/push").headers["X-Registry-Auth"]))
    assert sent == {"username": "me", "password": "secret"}
    assert answer["failed"] and "is no password" in answer["msg"] and "secret" not in str(answer)


def test_file_without_credentials_is_told_before_anything_is_asked(run_module, podman, tmp_path) -> None:
    options = {"url": podman.url, "name": NAME.replace("5000", "5001"), "push": True}
    answer = run_module(checkpoint_image, registry_auth_file=auth_file(tmp_path), **options)
    assert answer["failed"] and "has no credentials for registry.example:5001/ferry/web" in answer["msg"]
    assert podman.seen == []


def test_file_is_not_read_where_no_registry_is_asked(run_module, podman) -> None:
    podman.on(FOUND, 404)
    options = {"url": podman.url, "name": NAME, "registry_auth_file": "/absent/auth.json"}
    assert not run_module(checkpoint_image, state="absent", **options)["changed"]


def test_who_one_is_is_said_once(run_module, podman) -> None:
    who = {"registry_username": "a", "registry_password": "secret", "registry_auth_file": "/auth.json"}
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, **who)
    assert answer["failed"] and "mutually exclusive" in answer["msg"]


def test_failure_tells_no_change_and_what_to_do(run_module, podman) -> None:
    podman.on(FOUND, stored())
    podman.on(f"POST /images/{ID}/push", (200, b'{"error": "authentication required"}\n'))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, push=True)
    assert not answer["changed"] and "registry_auth_file" in answer["msg"]
    podman.on(FOUND, 404)
    podman.on("GET /images/json", [])
    podman.on("POST /images/pull", (200, b'{"error": "connection refused"}\n'))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME)
    assert not answer["changed"] and "See that registry.example:5000 runs" in answer["msg"]


BROKEN = (200, b'{"stream": "Copying"}\n{"error": "writing blob: write: broken pipe"}\n')


@pytest.mark.parametrize(("retries", "tries"), [({}, 3), ({"retries": 2}, 3), ({"retries": 1}, 2), ({"retries": 0}, 1)])
def test_push_that_breaks_off_is_tried_again(run_module, podman, monkeypatch, retries, tries) -> None:
    monkeypatch.setattr(_libpod, "PUSH_PAUSE", 0)
    podman.on(FOUND, stored())
    podman.on(f"POST /images/{ID}/push", BROKEN, BROKEN, {"manifestdigest": DIGEST})
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, push=True, **retries)
    assert answer.get("failed", False) == (tries < 3)
    assert podman.seen.count(f"POST /images/{ID}/push") == tries


def test_what_is_no_checkpoint_is_not_pushed(run_module, podman) -> None:
    podman.on(FOUND, stored(container=None))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, push=True)
    assert answer["failed"] and "is no checkpoint" in answer["msg"]
    assert not any(request.startswith("POST") for request in podman.seen)


# -- made of the image of its name ---------------------------------------------------------------------------------


@pytest.fixture
def other_form(podman, archive, tmp_path):
    """The host has podman's own image of the archive under the name, and what will be made of it has another ID."""
    path, ident = archive
    with Source(path) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        podman.on(f"GET /images/{OTHER}/get", podman.archive(b"".join(image.layout())))
    podman.on(FOUND, *[stored(OTHER)] * 2, stored(ident))
    podman.on(of(podman, ident), 404, 404, stored(ident))
    podman.on("GET /images/json", [{"Id": OTHER, "Names": []}])
    podman.on("GET /containers/json", [])
    podman.on(f"DELETE /images/{OTHER}", {})
    return {"url": podman.url, "name": NAME, "image": NAME, "max_size": "1M"}


MADE_ANEW = "has the checkpoint in another form, and is replaced"


def made_of(podman, monkeypatch) -> None:
    """What is loaded is found and can be given a name, whatever its ID."""
    usual = podman.next_answer

    def answer(request):
        if str(request).endswith("/tag"):
            return 201, b""
        is_new = re.fullmatch("GET /images/[0-9a-f]{64}/json", str(request)) and OTHER not in str(request)
        return podman.json(200, stored(request.path.split("/")[2])) if is_new else usual(request)

    monkeypatch.setattr(podman, "next_answer", answer)


def test_image_that_is_replaced_leaves_nothing_without_a_name(run_module, podman, other_form, monkeypatch) -> None:
    made_of(podman, monkeypatch)
    podman.answers[FOUND] = [*podman.answers[FOUND][:2], *podman.answers[FOUND]]
    checked = run_module(checkpoint_image, check_mode=True, **other_form)
    assert MADE_ANEW in checked["reason"] and removed(podman) == []
    answer = run_module(checkpoint_image, **other_form)
    assert answer["changed"] and MADE_ANEW in answer["reason"]
    assert removed(podman) == [OTHER]


def test_image_that_is_replaced_and_has_another_name_stays(run_module, podman, other_form, monkeypatch) -> None:
    made_of(podman, monkeypatch)
    podman.on("GET /images/json", [{"Id": OTHER, "Names": ["localhost/gold:1"]}])
    assert run_module(checkpoint_image, **other_form)["changed"]
    assert removed(podman) == []


def test_image_that_is_replaced_and_used_stays(run_module, podman, other_form, monkeypatch, inspect_json) -> None:
    made_of(podman, monkeypatch)
    podman.on("GET /containers/json", [{"Id": ID}])
    podman.on(f"GET /containers/{ID}/json", inspect_json("running", Image=OTHER))
    assert run_module(checkpoint_image, **other_form)["changed"]
    assert removed(podman) == []


# -- as an archive again -------------------------------------------------------------------------------------------


@pytest.fixture
def exported(podman, archive, tmp_path):
    """The host has an image of the archive, and exports it."""
    path, ident = archive
    with Source(path) as source, built(source, Recipe(directory=str(tmp_path))) as image:
        layout = b"".join(image.layout())
        created = image.created.strftime("%Y-%m-%dT%H:%M:%SZ")
    podman.on(FOUND, stored(ident, created=created))
    podman.on(f"GET /images/{ident}/get", podman.archive(layout))
    return path


def test_archive_comes_out_as_it_went_in(run_module, podman, exported, tmp_path) -> None:
    dest = tmp_path / "out.tar"
    options = {"url": podman.url, "name": NAME, "dest": str(dest), "compress": "none", "max_size": "1M"}
    assert run_module(checkpoint_image, check_mode=True, **options)["changed"] and not dest.exists()
    assert run_module(checkpoint_image, **options)["changed"]
    with open(exported, "rb") as file:
        assert dest.read_bytes() == file.read()
    assert dest.stat().st_mode & 0o777 == 0o600
    assert not run_module(checkpoint_image, **options)["changed"]
    dest.write_bytes(b"something else")
    assert run_module(checkpoint_image, **options)["changed"]


def test_archive_of_an_image_that_podman_has_made_is_known_again(
    run_module, podman, exported, archive, tmp_path
) -> None:
    _path, ident = archive
    made = stored(OTHER, created="2026-05-05T05:05:05.555555555Z")
    podman.on(FOUND, made)
    podman.on(f"GET /images/{OTHER}/get", *podman.answers[f"GET /images/{ident}/get"])
    options = {"url": podman.url, "name": NAME, "dest": str(tmp_path / "out.tar.gz"), "max_size": "1M"}
    assert run_module(checkpoint_image, compress="gzip", **options)["changed"]
    assert not run_module(checkpoint_image, compress="none", **options)["changed"]
    assert not run_module(checkpoint_image, check_mode=True, **options)["changed"]


def test_archive_of_a_layered_image_is_known_without_the_base(run_module, podman, archives, tmp_path, protobuf) -> None:
    base = Image([], "amd64", datetime.now(timezone.utc))
    core = archives.entry("checkpoint/core-1.img", protobuf.image(CORE_MAGIC, protobuf.message((1, 1))))
    files = tuple(open(tmp_path / name, "w+b") for name in "abc")
    given = archives.checkpoint(core, config={"rootfsImageID": base.id})
    layers = layered(io.BytesIO(given), Contents(), StoredImage(base.id, {}, {}, []), files)
    image = image_of(layers, LAYERED, "amd64", datetime.now(timezone.utc), {})
    podman.on(FOUND, stored(image.id, Labels=dict(image.labels)))
    podman.on(f"GET /images/{image.id}/get", podman.archive(b"".join(image.layout())))
    options = {"url": podman.url, "name": NAME, "dest": str(tmp_path / "out.tar"), "max_size": "1M"}
    assert run_module(checkpoint_image, compress="none", **options)["changed"]
    assert (tmp_path / "out.tar").read_bytes() == given
    again = run_module(checkpoint_image, **options)
    assert not again.get("failed") and not again["changed"]


def test_image_that_is_damaged_leaves_no_archive(run_module, podman, exported, archive, tmp_path) -> None:
    _path, ident = archive
    podman.on(f"GET /images/{ident}/get", podman.archive(b"\0" * 2048))
    dest = tmp_path / "out.tar"
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, dest=str(dest), max_size="1M")
    # Of an empty tar, Python 3.9 says that it is damaged.
    assert answer["failed"] and re.search("is no image|is damaged", answer["msg"])
    assert not dest.exists() and not list(tmp_path.glob(".out*"))


def test_the_newest_cannot_be_pruned(run_module, podman) -> None:
    answer = run_module(checkpoint_image, url=podman.url, state="pruned", keep=0)
    assert answer["failed"] and "keep is 0; it must be 1 or more. The newest checkpoint" in answer["msg"]


@pytest.mark.parametrize("options", [{"keep": -1}, {"older_than": -0.5}, {"max_members": 0}, {"retries": -1}])
def test_numbers_without_sense_are_refused(run_module, podman, options) -> None:
    (option,) = options
    given = {"keep": 1, **options} if option in ("max_members", "retries") else options
    answer = run_module(checkpoint_image, url=podman.url, state="pruned", **given)
    assert answer["failed"] and f"{option} is {options[option]}" in answer["msg"]


# -- removed --------------------------------------------------------------------------------------------------------


def test_image_is_removed(run_module, podman) -> None:
    podman.on(FOUND, stored(), 404)
    podman.on("GET /images/json", [])
    podman.on(f"DELETE {PATH}", {})
    assert run_module(checkpoint_image, url=podman.url, name=NAME, state="absent")["changed"]
    assert not run_module(checkpoint_image, url=podman.url, name=NAME, state="absent")["changed"]
    assert removed(podman) == [NAME]


BY_DIGEST = f"registry.example:5000/ferry/web@{DIGEST}"


@pytest.mark.parametrize(
    ("left", "going"),
    [
        ([], [NAME]),
        ([BY_DIGEST], [BY_DIGEST, NAME]),
        ([BY_DIGEST, "localhost/gold:1"], [NAME]),
        ([f"localhost/gold@{DIGEST}"], [NAME]),
        ([NAME.replace(":1", ":2"), BY_DIGEST], [NAME]),
    ],
)
def test_name_with_a_digest_goes_with_the_last_tag(run_module, podman, left, going) -> None:
    podman.on(FOUND, stored())
    podman.on("GET /images/json", [{"Id": ID, "Names": [NAME, *left]}], [])
    for name in going:
        podman.on(f"DELETE /images/{quote(name, safe='')}", {})
    assert run_module(checkpoint_image, url=podman.url, name=NAME, state="absent")["changed"]
    assert removed(podman) == going


def test_image_that_stays_without_a_name_is_told(run_module, podman) -> None:
    podman.on(FOUND, stored())
    podman.on("GET /images/json", [{"Id": ID, "Names": None}])
    podman.on(f"DELETE {PATH}", {})
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, state="absent")
    assert answer["failed"] and f"podman rmi {ID[:12]}" in answer["msg"]
    assert removed(podman) == [NAME]


def test_what_is_no_checkpoint_is_not_removed(run_module, podman) -> None:
    podman.on(FOUND, stored(container=None))
    answer = run_module(checkpoint_image, url=podman.url, name=NAME, state="absent")
    assert answer["failed"] and "is no checkpoint" in answer["msg"]


@pytest.fixture
def shelf(podman):
    """Three checkpoints of one container and an image of another kind."""
    images = {str(day) * 64: f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)}
    podman.on(
        "GET /images/json", [{"Id": ident, "Names": [f"localhost/cp:{ident[0]}"]} for ident in [*images, "e" * 64]]
    )
    podman.on(f"GET /images/{'e' * 64}/json", stored("e" * 64, container=None))
    for ident, created in images.items():
        podman.on(f"GET /images/{ident}/json", stored(ident, created=created, RepoTags=[f"localhost/cp:{ident[0]}"]))
        podman.on(f"DELETE /images/localhost%2Fcp%3A{ident[0]}", taken(podman, ident))
    podman.on("GET /containers/json", [])
    return podman


def taken(podman, ident: str):
    """A removal after which the image is listed no more."""

    def answer(handler, request) -> None:
        handler.read_body(request)
        podman.on("GET /images/json", [one for one in podman.answers["GET /images/json"][0] if one["Id"] != ident])
        handler.reply(*podman.json(200, {}))

    return answer


def removed(podman) -> list[str]:
    gone = [request for request in podman.seen if request.startswith("DELETE")]
    return [unquote(request[len("DELETE /images/") :]) for request in gone]


def test_old_ones_are_pruned(run_module, shelf) -> None:
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=1)
    assert answer["changed"]
    assert [(gone["id"][0], gone["container"]) for gone in answer["pruned"]] == [("2", "web"), ("1", "web")]
    assert removed(shelf) == ["localhost/cp:2", "localhost/cp:1"]


def test_difference_of_a_prune_can_be_shown(run_module, shelf) -> None:
    """As by ansible-playbook --diff, whose callback takes text and dictionaries alone."""
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=2, check_mode=True)
    before, after = (answer["diff"][when].splitlines() for when in ("before", "after"))
    assert set(before) - set(after) == {f"{'1' * 64} localhost/cp:1"}
    assert f"{'3' * 64} localhost/cp:3" in after


def test_two_layouts_of_a_checkpoint_count_once(run_module, shelf) -> None:
    shelf.on(
        f"GET /images/{'2' * 64}/json",
        stored("2" * 64, created="2026-01-03T00:00:00Z", RepoTags=["localhost/cp:2"]),
    )
    run_module(checkpoint_image, url=shelf.url, state="pruned", keep=1)
    assert removed(shelf) == ["localhost/cp:1"]


def test_prune_in_check_mode_tells_and_removes_nothing(run_module, shelf) -> None:
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", older_than=1, check_mode=True)
    assert answer["changed"] and len(answer["pruned"]) == 2
    assert removed(shelf) == []


def test_what_a_container_uses_stays(run_module, shelf, inspect_json) -> None:
    shelf.on("GET /containers/json", [{"Id": ID}])
    shelf.on(f"GET /containers/{ID}/json", inspect_json("running", Image="1" * 64))
    run_module(checkpoint_image, url=shelf.url, state="pruned", max_total_size="10B")
    assert removed(shelf) == ["localhost/cp:2"]


def test_other_names_of_a_pruned_image_stay(run_module, shelf) -> None:
    both = ["localhost/cp:1", "localhost/gold:1"]
    shelf.on(f"GET /images/{'1' * 64}/json", stored("1" * 64, created="2026-01-01T00:00:00Z", RepoTags=both))
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=2, name="localhost/cp")
    assert [gone["names"] for gone in answer["pruned"]] == [["localhost/cp:1"]]
    assert removed(shelf) == ["localhost/cp:1"]


def test_image_that_has_a_name_with_a_digest_alone_is_pruned(run_module, shelf) -> None:
    by_digest = f"localhost/cp@{DIGEST}"
    listing = shelf.answers["GET /images/json"][0]
    listing[0]["Names"] = [by_digest]
    shelf.on(f"GET /images/{'1' * 64}/json", stored("1" * 64, created="2026-01-01T00:00:00Z", RepoTags=[]))
    shelf.on(f"DELETE /images/{quote(by_digest, safe='')}", taken(shelf, "1" * 64))
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=2, name="localhost/cp")
    assert [gone["names"] for gone in answer["pruned"]] == [[by_digest]]
    assert removed(shelf) == [by_digest]


def test_tag_says_nothing_about_what_is_pruned(run_module, shelf) -> None:
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=1, name="localhost:5000/cp:monday")
    assert answer["failed"] and "Write localhost:5000/cp, which stands for all" in answer["msg"]
    for name in ("ferry/cp", "cp"):
        answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=1, name=name)
        assert answer["failed"] and "Write host[:port]/path, which" in answer["msg"]
    assert shelf.seen == []


def test_only_images_of_the_name_are_pruned(run_module, shelf) -> None:
    answer = run_module(checkpoint_image, url=shelf.url, state="pruned", keep=1, name="localhost/other")
    assert not answer["changed"] and answer["pruned"] == []


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "name"),
        ({"state": "pruned"}, "older_than"),
        ({"name": NAME, "src": "/x", "digest": DIGEST}, "mutually exclusive"),
        ({"name": "web"}, "does not name an image in a registry"),
        ({"state": "pruned", "max_total_size": "much"}, "max_total_size is no size"),
        ({"state": "pruned", "older_than": 1e300}, "older_than is no number of days"),
    ],
)
def test_bad_options_are_told(run_module, shelf, options, found) -> None:
    answer = run_module(checkpoint_image, url=shelf.url, **options)
    assert answer["failed"] and found in answer["msg"]
