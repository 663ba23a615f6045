# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Encryption by the age of this machine, and what becomes of one that fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pathlib
import subprocess
import time

import pytest
import zstandard

from ansible_collections.ferry.podman.plugins.module_utils import _encryption
from ansible_collections.ferry.podman.plugins.module_utils._compat import RestoreRequest, Subject
from ansible_collections.ferry.podman.plugins.module_utils._encryption import (
    Decryptor,
    Encryptor,
    Locked,
    Recipients,
    Sealed,
    is_encrypted,
)
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError, RestoreFailed
from ansible_collections.ferry.podman.plugins.module_utils._files import ArchiveFile
from ansible_collections.ferry.podman.plugins.module_utils._libpod import RestoreOptions
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer
from ansible_collections.ferry.podman.plugins.module_utils._source import Archive, Source

ID = "1f" * 32
IMPORT = "POST /containers/import/restore"
SUBJECT = Subject(ID, "web", "crun", "2e" * 32, "web:1")
LARGE = 40 << 20
HEADER = b"age-encryption.org/v1\n"


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No test leaves a process or a descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    # The stand-in server closes its end of a connection in its own time.
    end = time.monotonic() + 10
    while set(os.listdir("/proc/self/fd")) != before and time.monotonic() < end:
        time.sleep(0.01)
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def locked(archives, tmp_path, age_key):
    """An encrypted archive whose last members are large."""
    path = tmp_path / "web.tar.age"
    data = archives.checkpoint(archives.entry("checkpoint/pages-2.img", os.urandom(300_000)))
    path.write_bytes(age_key.encrypt(data))
    return path


@pytest.fixture
def restorer(client, libpod, make_host, inspect_json) -> Restorer:
    libpod.on("GET /volumes/json", [])
    libpod.on("GET /images/web%3A1/json", {"Id": SUBJECT.image_id})
    libpod.on(IMPORT, {"Id": ID})
    libpod.on(f"GET /containers/{ID}/json", inspect_json())
    return Restorer(client, make_host(), RestoreOptions(), RestoreRequest())


def write(path: pathlib.Path, *chunks: bytes, to: Recipients, compression: str = "none") -> ArchiveFile:
    with ArchiveFile(str(path)) as file:
        file.write(chunks, compression, None, to)
        file.commit()
    return file


def read(path: pathlib.Path, identity: str) -> bytes:
    with open(path, "rb") as file, Decryptor(file.fileno(), identity) as plain:
        return plain.readall()


# -- writing --------------------------------------------------------------------------------------------------


UNPACK = {
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "gzip": gzip.decompress,
    "none": bytes,
}


@pytest.mark.parametrize("compression", UNPACK)
def test_only_the_recipient_can_read_what_is_written(tmp_path, age_key, compression) -> None:
    path = tmp_path / "web"
    file = write(path, b"secret" * 1000, b"end", to=Recipients((age_key.recipient,)), compression=compression)
    data = path.read_bytes()
    assert is_encrypted(data) and b"secret" not in data
    assert (file.size, file.digest) == (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
    assert path.stat().st_mode & 0o777 == 0o600
    assert UNPACK[compression](age_key.decrypt(path)) == b"secret" * 1000 + b"end"


def test_all_kinds_of_recipients_can_read_it(tmp_path, age_keys) -> None:
    ours, theirs = age_keys
    ssh = tmp_path / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(ssh)], check=True, timeout=30)
    (tmp_path / "recipients").write_text(f"# theirs\n{theirs.recipient}\n")
    public = (tmp_path / "ssh.pub").read_text().strip()
    recipients = Recipients((ours.recipient, public), str(tmp_path / "recipients"))
    recipients.check()
    write(tmp_path / "web", b"memory", to=recipients)
    for identity in (ours.identity, theirs.identity, str(ssh)):
        assert read(tmp_path / "web", identity) == b"memory"


def test_large_ones_pass_both_ways(tmp_path, age_key) -> None:
    block = os.urandom(1 << 20)
    write(tmp_path / "web", *[block] * (LARGE >> 20), to=Recipients((age_key.recipient,)))
    with open(tmp_path / "web", "rb") as file, Decryptor(file.fileno(), age_key.identity) as plain:
        for _number in range(LARGE >> 20):
            with io.BytesIO() as found:
                while found.tell() < len(block):
                    found.write(plain.read(len(block) - found.tell()))
                assert found.getvalue() == block
        assert plain.read(1) == b"" == plain.read(1)


def test_failure_of_the_source_leaves_nothing(tmp_path, age_key) -> None:
    def chunks():
        yield os.urandom(1 << 20)
        raise ArchiveError("cut short")

    with pytest.raises(ArchiveError, match="cut short"):
        with ArchiveFile(str(tmp_path / "web")) as file:
            file.write(chunks(), "zstd", None, Recipients((age_key.recipient,)))
    assert os.listdir(tmp_path) == []


def test_age_that_ends_early_is_told(programs, tmp_path) -> None:
    programs("age", "head -c 1000 >/dev/null; echo 'age: error: write: no space left on device' >&2; exit 1")
    with pytest.raises(FerryError, match="age cannot encrypt: write: no space left on device. See to"):
        write(tmp_path / "web", *[bytes(1 << 20)] * 4, to=Recipients(("age1x",)))
    assert os.listdir(tmp_path) == ["programs"]


@pytest.mark.parametrize("script", ["cat; exit 1", "cat; kill -9 $$"])
def test_failure_behind_the_last_byte_is_one(programs, tmp_path, script) -> None:
    programs("age", script)
    with pytest.raises(FerryError, match="age cannot encrypt: age ended with"):
        write(tmp_path / "web", b"memory", to=Recipients(("age1x",)))


def test_age_that_says_very_much_is_not_waited_for(programs, tmp_path) -> None:
    programs("age", "head -c 1000000 /dev/zero | tr '\\0' x >&2; cat >/dev/null; exit 3")
    with pytest.raises(FerryError, match="age cannot encrypt: x+") as error:
        write(tmp_path / "web", bytes(1 << 20), to=Recipients(("age1x",)))
    assert len(str(error.value)) < 500


def test_age_that_stands_still_is_ended(programs, tmp_path, monkeypatch) -> None:
    programs("age", "exec sleep 60")
    monkeypatch.setattr(_encryption, "STALL", 0.2)
    monkeypatch.setattr(_encryption, "PATIENCE", 0.2)
    with pytest.raises(FerryError, match="age has stood still for 0 s"):
        write(tmp_path / "web", bytes(1 << 20), to=Recipients(("age1x",)))
    with pytest.raises(FerryError, match="age has not ended within 0 s"):
        write(tmp_path / "web", b"little", to=Recipients(("age1x",)))


# -- recipients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipients", "said"),
    [
        (Recipients(("age1nobody",)), "age cannot encrypt: .*age1nobody"),
        (Recipients(("--help",)), "age cannot encrypt: .*--help"),
        (Recipients(file="/nowhere"), "age cannot encrypt: .*/nowhere"),
        (Recipients(file="-"), "age cannot encrypt: .*/-: no such file"),
        (Recipients(), "age cannot encrypt: "),
    ],
)
def test_recipients_that_are_none_are_found_beforehand(age_key, recipients, said) -> None:
    with pytest.raises(FerryError, match=said) as error:
        recipients.check()
    assert "\n" not in str(error.value) and "report unexpected" not in str(error.value)


def test_room_is_no_remedy_for_a_bad_recipient(age_key) -> None:
    with pytest.raises(FerryError, match="malformed recipient.*See to the recipients") as error:
        Recipients(("age1nobody",)).check()
    assert "disk" not in str(error.value)


@pytest.mark.parametrize("missing", ["age", "age-keygen"])
def test_missing_program_is_told(programs, monkeypatch, tmp_path, missing) -> None:
    programs("age", f"printf '{HEADER.decode().strip()}\\n'; exec /bin/cat >/dev/null")
    programs("age-keygen", "echo '# public key: age1x'")
    Recipients(("age1x",)).check()
    (tmp_path / "programs" / missing).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    with pytest.raises(FerryError, match=f"The program {missing} is missing on this host. Install age;"):
        Recipients(("age1x",)).check()


def test_another_program_of_that_name_is_told(programs) -> None:
    programs("age", "cat")
    with pytest.raises(FerryError, match="does not write age's format"):
        Recipients(("age1x",)).check()


# -- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--armor"]])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_source_is_read_twice_and_the_same(archives, tmp_path, age_key, options, pack) -> None:
    path = tmp_path / "web"
    path.write_bytes(age_key.encrypt(pack(archives.checkpoint()), *options))
    with Source(str(path), age_key.identity) as source:
        assert source.encrypted
        assert source.inspect(NO_LIMITS).config["name"] == "web"
        assert source.compression == ("gzip" if pack is gzip.compress else "none")
        for _time in range(2):
            with source.again() as (reader, check):
                assert reader.read(1 << 20).startswith(b"artifacts")
                check()
        with source.again() as (reader, _check):
            assert reader.read(10) == b"artifacts/"


def test_other_file_that_takes_the_name_is_never_read(archives, tmp_path, age_key) -> None:
    path = tmp_path / "web"
    path.write_bytes(age_key.encrypt(archives.checkpoint()))
    with Source(str(path), age_key.identity) as source:
        source.inspect(NO_LIMITS)
        (tmp_path / "other").write_bytes(age_key.encrypt(archives.checkpoint(config={"name": "evil"})))
        os.replace(tmp_path / "other", path)
        with source.again() as (reader, check):
            assert b"evil" not in reader.read(1 << 20)
            check()


def test_without_an_identity_it_says_what_to_do(locked) -> None:
    with pytest.raises(Locked, match="web.tar.age is encrypted, and no identity is given. Give an age or ssh") as error:
        Source(str(locked))
    assert error.value.facts["findings"][0]["code"] == "archive_encrypted"


def test_identity_for_a_plain_one_is_no_harm(archives, tmp_path, age_key) -> None:
    (tmp_path / "web").write_bytes(archives.checkpoint())
    with Source(str(tmp_path / "web"), age_key.identity) as source:
        assert source.inspect(NO_LIMITS).config["name"] == "web"
        assert not source.encrypted


@pytest.mark.parametrize("identity", ["theirs", "absent", "garbage", "locked", "-"])
def test_identity_that_does_not_open_it_is_told(locked, age_keys, tmp_path, identity) -> None:
    path = age_keys[1].identity if identity == "theirs" else str(tmp_path / identity)
    (tmp_path / "garbage").write_text("garbage\n")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "locked")]
    subprocess.run(command, check=True, timeout=30)
    with Source(str(locked), "-" if identity == "-" else path) as source, pytest.raises(ArchiveError) as error:
        source.inspect(NO_LIMITS)
    assert str(error.value).startswith(f"{locked}: The archive cannot be decrypted: ")
    assert "\n" not in str(error.value) and "report unexpected" not in str(error.value)
    assert error.value.facts["findings"][0]["code"] == "decryption_failed"


DAMAGE = {
    "in the header": lambda data: data[:100],
    "in the first chunk": lambda data: data[:1000],
    "in the middle": lambda data: data[: len(data) // 2],
    "between chunks": lambda data: data[: data.index(b"\n---") + 49 + 16 + 3 * (65536 + 16)],
    "the last byte": lambda data: data[:-1],
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "more behind it": lambda data: data + b"x",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_ones_are_refused(locked, age_key, damage) -> None:
    data = locked.read_bytes()
    locked.write_bytes(DAMAGE[damage](data))
    with Source(str(locked), age_key.identity) as source:
        with pytest.raises(ArchiveError, match="cannot be decrypted"):
            source.inspect(NO_LIMITS)


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_that_is_damaged_meanwhile_never_gets_its_end(restorer, libpod, locked, age_key, damage) -> None:
    data = locked.read_bytes()
    with Archive(str(locked), None, age_key.identity) as archive:
        archive.inspect(NO_LIMITS, None, None)
        locked.write_bytes(DAMAGE[damage](data))
        with pytest.raises((RestoreFailed, ArchiveError), match="cannot be decrypted"):
            archive.restore(restorer, SUBJECT, None, NO_LIMITS)
        assert IMPORT not in libpod.seen or not libpod.request(IMPORT).whole
        locked.write_bytes(data)
        assert archive.restore(restorer, SUBJECT, None, NO_LIMITS)["id"] == ID


def test_one_that_is_exchanged_meanwhile_never_gets_its_end(restorer, libpod, archives, locked, age_key) -> None:
    with Archive(str(locked), None, age_key.identity) as archive:
        archive.inspect(NO_LIMITS, None, None)
        locked.write_bytes(age_key.encrypt(archives.checkpoint(config={"name": "evil"})))
        with pytest.raises(RestoreFailed, match="has changed while it was read"):
            archive.restore(restorer, SUBJECT, None, NO_LIMITS)
    assert not libpod.request(IMPORT).whole


def test_exit_status_counts_even_where_all_bytes_came(archives, programs, locked) -> None:
    whole = locked.with_name("whole")
    whole.write_bytes(archives.checkpoint())
    programs("age", f"cat {whole}; echo 'age: error: late' >&2; exit 1")
    with Source(str(locked), "/identity") as source, pytest.raises(ArchiveError, match="cannot be decrypted: late"):
        source.inspect(NO_LIMITS)


def test_reader_that_leaves_early_ends_age(locked, age_key) -> None:
    with Source(str(locked), age_key.identity) as source, source.stream() as archive:
        archive.read(100)


def test_age_that_gives_nothing_is_ended(programs, locked, monkeypatch) -> None:
    programs("age", "exec sleep 60")
    monkeypatch.setattr(_encryption, "STALL", 0.2)
    with Source(str(locked), "/identity") as source, pytest.raises(FerryError, match="stood still"):
        source.inspect(NO_LIMITS)
    programs("age", "exec >&-; exec sleep 60")
    monkeypatch.setattr(_encryption, "PATIENCE", 0.2)
    with Source(str(locked), "/identity") as source, pytest.raises(ArchiveError, match="age has not ended within"):
        source.inspect(NO_LIMITS)


# -- scratch space --------------------------------------------------------------------------------------------


def test_scratch_space_can_be_read_by_nobody_else(tmp_path, age_key) -> None:
    file = open(tmp_path / "scratch", "w+b")
    with Sealed(file) as sealed:
        assert sealed.read(10) == b""
        for secret in (b"secret" * 100_000, b"another"):
            sealed.seek(0)
            sealed.write(secret[:5])
            assert sealed.write(secret[5:]) == len(secret) - 5
            for _time in range(2):
                sealed.seek(0)
                assert sealed.readall() == secret
            data = (tmp_path / "scratch").read_bytes()
            assert is_encrypted(data) and secret[:6] not in data
        with pytest.raises(io.UnsupportedOperation):
            sealed.seek(1)
    assert file.closed


def test_scratch_space_that_nobody_uses_starts_no_process(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with Sealed(open(tmp_path / "scratch", "w+b")) as sealed:
        sealed.seek(0)


def test_encryptor_that_is_closed_early_leaves_no_whole_file(tmp_path, age_key) -> None:
    with open(tmp_path / "web", "w+b") as file:
        with Encryptor(file, Recipients((age_key.recipient,))) as encryptor:
            encryptor.write(b"half")
    with pytest.raises(Locked):
        read(tmp_path / "web", age_key.identity)
