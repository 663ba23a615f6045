# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Lists of what archives hold, signed and verified by the ssh-keygen of this machine."""

from __future__ import annotations

import hashlib
import io
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _signature
from ansible_collections.ferry.podman.plugins.module_utils._archive import inspect
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS
from ansible_collections.ferry.podman.plugins.module_utils._signature import (
    Comparer,
    Lister,
    Unsigned,
    sign,
    signed_list,
)

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


def listed(archive: bytes) -> bytes:
    lister = Lister()
    inspect(io.BytesIO(archive), NO_LIMITS, lister)
    return bytes(lister.text)


def compare(archive: bytes, text: bytes) -> None:
    inspect(io.BytesIO(archive), NO_LIMITS, Comparer(text))


# -- the list -------------------------------------------------------------------------------------------------


def test_list_can_be_checked_by_hand(archives) -> None:
    archive = archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))
    lines = listed(archive).decode().splitlines()
    assert [line.split("  ")[2] for line in lines] == archives.names(archive)
    pages = hashlib.sha256(b"P" * 5000).hexdigest()
    assert f"{pages}  5000  checkpoint/pages-1.img" in lines
    link = hashlib.sha256(b"../pre-checkpoint").hexdigest()
    assert f"{link}  17  checkpoint/parent" in lines


def test_archive_is_what_was_signed(archives) -> None:
    archive = archives.checkpoint(archives.link("checkpoint/parent", "../pre-checkpoint"))
    compare(archive, listed(archive))
    contents = inspect(io.BytesIO(archive), NO_LIMITS, Comparer(listed(archive)))
    assert contents.needs_previous


def test_changed_member_is_named(archives) -> None:
    text = listed(archives.checkpoint())
    changed = archives.checkpoint().replace(b"P" * 5000, b"P" * 4999 + b"Q")
    with pytest.raises(Unsigned, match="'checkpoint/pages-1.img' is not what was signed") as error:
        compare(changed, text)
    assert error.value.facts["findings"][0]["code"] == "signature_differs"


def test_more_less_and_another_order_are_found(archives) -> None:
    entries = archives.members()
    text = listed(archives.pack(entries))
    with pytest.raises(Unsigned, match="'stats-dump' is not what was signed"):
        compare(archives.pack([*entries, archives.entry("stats-dump", b"x")]), text)
    with pytest.raises(Unsigned, match="lacks 'checkpoint/pages-1.img'"):
        compare(archives.pack(entries[:-1]), text)
    with pytest.raises(Unsigned):
        compare(archives.pack([*entries[:-2], entries[-1], entries[-2]]), text)


def test_root_of_a_volume_is_signed(archives) -> None:
    def archive(root: str) -> bytes:
        header = {"FERRY.volume.root": root}
        return archives.checkpoint(archives.entry("volumes/data.tar", bytes(1024), pax_headers=header))

    compare(archive("0:0:700"), listed(archive("0:0:700")))
    with pytest.raises(Unsigned, match="volumes/data.tar:FERRY.volume.root"):
        compare(archive("0:0:4777"), listed(archive("0:0:700")))


# -- signatures -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("keys")
    for name, passphrase in (("ours", ""), ("theirs", ""), ("locked", "secret")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(directory / name)]
        subprocess.run(command, check=True, timeout=30)
    return directory


@pytest.fixture
def signed(keys, archives, tmp_path) -> t.Callable[..., tuple[str, str]]:
    """Makes a signed archive and a file of allowed signers; gives their paths."""

    def make(*lines: str, key: str = "ours", namespace: str = "checkpoint@ferry.podman") -> tuple[str, str]:
        archive = tmp_path / "web.tar"
        archive.write_bytes(archives.checkpoint())
        text = listed(archive.read_bytes())
        (tmp_path / "web.tar.manifest").write_bytes(text)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(keys / key), "-n", namespace]
        made = subprocess.run(command, input=text, capture_output=True, check=True, timeout=30)
        (tmp_path / "web.tar.manifest.sig").write_bytes(made.stdout)
        public = (keys / "ours.pub").read_text().split()
        allowed = tmp_path / "allowed"
        allowed.write_text("".join(f"{line} {public[0]} {public[1]}\n" for line in lines or ["me@example.com"]))
        return str(archive), str(allowed)

    return make


def test_what_we_sign_is_verified(keys, signed, tmp_path) -> None:
    archive, allowed = signed()
    text = listed(pathlib.Path(archive).read_bytes())
    (tmp_path / "web.tar.manifest.sig").write_bytes(sign(text, str(keys / "ours")))
    assert signed_list(archive, allowed, None) == (text, "me@example.com")
    assert signed_list(archive, allowed, "me@example.com")[1] == "me@example.com"


@pytest.mark.parametrize(
    ("line", "signer", "found"),
    [
        ("a@example.com,b@example.com", None, "a@example.com"),
        ("a@example.com,b@example.com", "b@example.com", "b@example.com"),
        ("*@example.com", "c@example.com", "c@example.com"),
        ('me namespaces="checkpoint@ferry.podman"', None, "me"),
    ],
)
def test_signers_are_those_of_the_file(signed, line, signer, found) -> None:
    archive, allowed = signed(line)
    assert signed_list(archive, allowed, signer)[1] == found


@pytest.mark.parametrize(
    ("line", "signer", "key", "namespace"),
    [
        ("me", None, "theirs", "checkpoint@ferry.podman"),
        ("me", "somebody", "ours", "checkpoint@ferry.podman"),
        ("me", None, "ours", "file"),
        ('me namespaces="git"', None, "ours", "checkpoint@ferry.podman"),
        ('me valid-before="20200101"', None, "ours", "checkpoint@ferry.podman"),
    ],
)
def test_signature_of_nobody_allowed_is_refused(signed, line, signer, key, namespace) -> None:
    archive, allowed = signed(line, key=key, namespace=namespace)
    with pytest.raises(Unsigned, match="is not one of") as error:
        signed_list(archive, allowed, signer)
    assert error.value.facts["findings"][0]["code"] == "signature_invalid"


def test_changed_list_is_refused(signed, tmp_path) -> None:
    archive, allowed = signed()
    path = tmp_path / "web.tar.manifest"
    path.write_bytes(path.read_bytes().replace(b"5000", b"5001"))
    with pytest.raises(Unsigned, match="is not one of"):
        signed_list(archive, allowed, None)


@pytest.mark.parametrize("suffix", [".manifest", ".manifest.sig"])
def test_archive_without_a_signature_is_refused(signed, tmp_path, suffix) -> None:
    archive, allowed = signed()
    (tmp_path / f"web.tar{suffix}").unlink()
    with pytest.raises(Unsigned, match="is not signed") as error:
        signed_list(archive, allowed, None)
    assert error.value.facts["findings"][0]["code"] == "signature_absent"


def test_garbage_for_a_signature_is_refused(signed, tmp_path) -> None:
    archive, allowed = signed()
    (tmp_path / "web.tar.manifest.sig").write_bytes(b"garbage")
    for signer in (None, "me@example.com"):
        with pytest.raises(Unsigned):
            signed_list(archive, allowed, signer)


def test_list_has_a_limit(signed, monkeypatch) -> None:
    archive, allowed = signed()
    monkeypatch.setattr(_signature, "MOST_LIST", 100)
    with pytest.raises(ArchiveError, match="larger than 100 bytes"):
        signed_list(archive, allowed, None)


def test_missing_file_of_signers_is_told(signed) -> None:
    archive, _allowed = signed()
    with pytest.raises(FerryError, match="no file /nowhere with the signers"):
        signed_list(archive, "/nowhere", None)


@pytest.mark.parametrize("key", ["locked", "absent", "locked.pub"])
def test_key_that_cannot_sign_is_told(keys, key, monkeypatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(FerryError, match=f"cannot be signed with .*/{key}: .*passphrase, or a public key"):
        sign(b"text", str(keys / key))


def test_missing_program_is_told(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FerryError, match="ssh-keygen is missing on this host. Install OpenSSH."):
        sign(b"", "/key")


def test_program_that_hangs_is_ended(programs, monkeypatch) -> None:
    programs("ssh-keygen", "exec sleep 60")
    monkeypatch.setattr(_signature, "PATIENCE", 0.2)
    with pytest.raises(FerryError, match="has not ended"):
        sign(b"", "/key")
