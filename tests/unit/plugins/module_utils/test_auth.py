# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils._auth import access_of, credentials_in
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError

REPOSITORY = "registry.example:5000/ferry/db"
PATH = "/etc/auth.json"


def entry(username: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def found(auths: t.Any, repository: str = REPOSITORY, **more: t.Any) -> t.Any:
    return credentials_in(json.dumps({"auths": auths, **more}), PATH, repository)


@pytest.mark.parametrize(
    ("key", "repository"),
    [
        ("registry.example:5000", REPOSITORY),
        ("registry.example:5000/ferry", REPOSITORY),
        ("registry.example:5000/ferry/db", REPOSITORY),
        ("https://registry.example:5000", REPOSITORY),
        ("http://registry.example:5000/v1/", REPOSITORY),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000/db"),
        ("docker.io", "docker.io/ferry/db"),
        ("https://index.docker.io/v1/", "docker.io/ferry/db"),
        ("registry-1.docker.io", "docker.io/ferry/db"),
    ],
)
def test_entry_is_found(key: str, repository: str) -> None:
    assert found({"other.example": entry("no"), key: entry("me")}, repository).username == "me"


def test_longest_part_counts() -> None:
    host, ferry = "registry.example:5000", "registry.example:5000/ferry"
    auths = {host: entry("host"), ferry: entry("ferry"), REPOSITORY: entry("db"), f"{REPOSITORY}/more": entry("no")}
    assert found(auths).username == "db"
    assert found(auths, f"{ferry}/dba").username == "ferry"
    assert found(auths, f"{host}/ferryman").username == "host"


@pytest.mark.parametrize("key", ["registry.example", "registry.example:5000/fer", "example:5000", "https://registry"])
def test_what_only_looks_alike_is_another_registry(key: str) -> None:
    with pytest.raises(FerryError, match="has no credentials for registry.example:5000/ferry/db"):
        found({key: entry("no")})


def test_password_may_have_colons_and_zeros_behind_it() -> None:
    assert found({REPOSITORY: entry("me", "a:b\0\0")}).password == "a:b"


def test_token() -> None:
    assert found({REPOSITORY: {**entry("me", ""), "identitytoken": "t0ken"}}).identity_token == "t0ken"


@pytest.mark.parametrize("helpers", [{"credHelpers": {"registry.example:5000": "pass"}}, {"credsStore": "pass"}])
@pytest.mark.parametrize("auths", [None, {}, {"registry.example:5000": {}}])
def test_helper_is_not_run(helpers: dict[str, t.Any], auths: t.Any) -> None:
    with pytest.raises(FerryError, match="docker-credential-pass.*podman login --authfile FILE registry.example:5000"):
        found(auths, **helpers)


def test_entry_beside_a_helper_is_used() -> None:
    assert found({REPOSITORY: entry("me")}, credsStore="pass").username == "me"


def test_what_is_there_is_said() -> None:
    with pytest.raises(FerryError, match="it has some for: a.example, b.example. Make the entry") as caught:
        found({"b.example": entry("me", "s3cret"), "a.example": entry("me"), "c.example": {}})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(FerryError, match="it has some for: none"):
        found({})


@pytest.mark.parametrize("text", ["", "{", "machine registry.example password s3cret", '{"auths": {"s3cret'])
def test_no_json(text: str) -> None:
    with pytest.raises(FerryError, match=r"/etc/auth.json is no JSON: line 1\.") as caught:
        credentials_in(text, PATH, REPOSITORY)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "1", "null", '{"auths": [1]}', '{"credHelpers": "pass"}'])
def test_other_json(text: str) -> None:
    with pytest.raises(FerryError, match="is JSON, but no file of credentials"):
        credentials_in(text, PATH, REPOSITORY)


@pytest.mark.parametrize(
    "damaged",
    [
        *({"auth": value} for value in ("s3cret", "s3crét", "czNjcmV0", "//8=", 7, ["s3cret"])),
        {"username": "me"},
        {**entry("me"), "identitytoken": 7},
        "s3cret",
        [1],
    ],
)
def test_damaged_entry_is_named_and_not_shown(damaged: t.Any) -> None:
    with pytest.raises(FerryError, match="The entry registry.example:5000 in /etc/auth.json is damaged") as caught:
        found({"registry.example:5000": damaged})
    assert "s3cret" not in str(caught.value)


KEYS = st.sampled_from(["auths", "auth", "credHelpers", "credsStore", "identitytoken", "registry.example:5000"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@given(st.text() | VALUES.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        credentials_in(text, PATH, REPOSITORY)
    except FerryError as error:
        assert PATH in error.message


# -- options ------------------------------------------------------------------------------------------------------


def access(path: t.Any = None, **options: t.Any) -> t.Any:
    concealed: list[str] = []
    params = {"registry_tls_verify": None, "registry_username": None, "registry_password": None, **options}
    return access_of({**params, "registry_auth_file": path and str(path)}, REPOSITORY, concealed.append), concealed


def test_options_alone() -> None:
    told, concealed = access(registry_tls_verify=False, registry_username="me", registry_password="secret")
    assert (told.tls_verify, told.username, told.password, concealed) == (False, "me", "secret", [])


def test_file_is_sent_and_its_secrets_are_concealed(tmp_path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {REPOSITORY: {**entry("me"), "identitytoken": "t0ken"}}}))
    told, concealed = access(path)
    sent = json.loads(base64.urlsafe_b64decode(told.headers()["X-Registry-Auth"]))
    assert sent == {"username": "me", "password": "secret", "identitytoken": "t0ken"}
    assert concealed == ["secret", "t0ken"]
    assert not {"secret", "t0ken"} & set(str(told).replace("'", " ").split())


def test_empty_password_conceals_nothing(tmp_path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {REPOSITORY: entry("me", "")}}))
    assert access(path)[1] == []


def test_file_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(FerryError, match=r"There is no file .*podman login --authfile .* registry.example:5000"):
        access(tmp_path / "absent")
    with pytest.raises(FerryError, match=r"cannot be read: Is a directory\. Give the path"):
        access(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(FerryError, match="it is no text"):
        access(tmp_path / "bytes")
