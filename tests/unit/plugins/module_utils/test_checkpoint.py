# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _checkpoint
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, inspect, inspect_file
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import (
    Checkpointer,
    CheckpointRequest,
    bring_back,
    retried,
    way_back,
)
from ansible_collections.ferry.podman.plugins.module_utils._encryption import Recipients, is_encrypted
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    ArchiveError,
    CheckpointFailed,
    FerryError,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import CheckpointOptions
from ansible_collections.ferry.podman.plugins.module_utils._signature import Comparer, signed_list

ID, IMAGE_ID = "1f" * 32, "2e" * 32
INSPECT, TOP = f"GET /containers/{ID}/json", f"GET /containers/{ID}/top"
CHECKPOINT, RESTORE = f"POST /containers/{ID}/checkpoint", f"POST /containers/{ID}/restore"
CHANGES, ARCHIVE = f"GET /containers/{ID}/changes", f"HEAD /containers/{ID}/archive"
MOUNT, UNMOUNT = f"POST /containers/{ID}/mount", f"POST /containers/{ID}/unmount"
IN_FLIGHT = "(00.012345)      1: Error (criu/sk-inet.c:191): In-flight connection (l)\n"
OTHER = "(00.012345)      1: Error (criu/files-reg.c:1831): Can't lookup mount\n"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr(_checkpoint, "RETRY_DELAY", 0.001)


@pytest.fixture
def podman(libpod, inspect_json):
    """A service on which a checkpoint stops the container and a restore has it run."""
    libpod.on(INSPECT, inspect_json("exited", State={"Checkpointed": True, "CheckpointPath": "/bundle/checkpoint"}))
    libpod.on(TOP, {"Titles": ["PID"], "Processes": [["1"]]})
    libpod.on(RESTORE, {"Id": ID})
    libpod.on(CHANGES, [])
    return libpod


@pytest.fixture
def failing(libpod):
    """podman's answer when CRIU has failed."""
    return libpod.error(500, "exit status 1", "`/usr/bin/crun checkpoint` failed: exit status 1")


@pytest.fixture
def checkpointer(client, make_host):
    def make(dest=None, host=None, **options) -> Checkpointer:
        names = ("compression", "compress_level", "ignore_volumes", "retries", "sign_key", "recipients")
        how = {name: options.pop(name) for name in names if name in options}
        request = CheckpointRequest(CheckpointOptions(**options), dest=dest and str(dest), **how)
        return Checkpointer(client, host or make_host(), request)

    return make


# -- trying again ---------------------------------------------------------------------------------------------


def answers(*outcomes):
    """A dump that ends in each of these in turn."""
    left = list(outcomes)

    def dump():
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return dump


def refused() -> ApiError:
    return ApiError("Checkpointing failed: exit status 1.", status=500, cause="exit status 1")


@pytest.fixture
def logged(make_container, tmp_path):
    """A container whose dump.log is this."""

    def make(log: str):
        (tmp_path / "dump.log").write_text(log)
        return make_container(OCIConfigPath=str(tmp_path / "config.json"))

    return make


def test_connection_in_flight_is_a_reason_to_try_again(client, logged) -> None:
    assert retried(client, logged(IN_FLIGHT), 3, answers(refused(), refused(), "done")) == "done"


def test_tries_have_an_end(client, logged) -> None:
    with pytest.raises(CheckpointFailed, match=r"CRIU says: .*In-flight connection \(l\) \(3 tries\)") as error:
        retried(client, logged(IN_FLIGHT), 2, answers(refused(), refused(), refused(), "too late"))
    assert error.value.facts["criu_log"] == ["Error (criu/sk-inet.c:191): In-flight connection (l)"]


def test_no_retries_are_one_try(client, logged) -> None:
    with pytest.raises(CheckpointFailed) as error:
        retried(client, logged(IN_FLIGHT), 0, answers(refused(), "too late"))
    assert "tries" not in str(error.value)


def test_other_failure_is_told_at_once(client, logged) -> None:
    with pytest.raises(CheckpointFailed, match="exit status 1. CRIU says: .*Can't lookup mount") as error:
        retried(client, logged(OTHER), 3, answers(refused(), "too late"))
    assert error.value.facts["cause"] == "exit status 1"


def test_failure_without_a_log_says_where_it_would_be(client, make_container) -> None:
    with pytest.raises(CheckpointFailed, match="CRIU's reason is in /nonexistent/dump.log"):
        retried(client, make_container(OCIConfigPath="/nonexistent/config.json"), 3, answers(refused()))


def test_missing_statistics_are_no_failure_of_the_dump(client, logged) -> None:
    late = ApiError("displaying checkpointing statistics not possible: x", status=500, cause="x")
    with pytest.raises(ApiError, match="displaying") as error:
        retried(client, logged(IN_FLIGHT), 3, answers(late, "too late"))
    assert not isinstance(error.value, CheckpointFailed)


# -- the way back ---------------------------------------------------------------------------------------------

OPTIONS = CheckpointOptions(tcp_established=True, file_locks=True, keep=True)


def test_stopped_container_runs_again_from_the_same_memory(client, podman, make_container) -> None:
    said = bring_back(client, make_container(), OPTIONS, FerryError("x"))
    assert said == "The container web runs again from the same memory."
    assert podman.seen == [INSPECT, RESTORE]
    assert podman.request(RESTORE).query == {"tcpEstablished": "true", "fileLocks": "true", "printStats": "true"}


def test_running_container_is_left_alone(client, podman, make_container, inspect_json) -> None:
    podman.on(INSPECT, inspect_json())
    assert bring_back(client, make_container(), OPTIONS, FerryError("x")) == "The container web still runs."
    assert podman.seen == [INSPECT, TOP]


@pytest.fixture
def behind(podman, inspect_json):
    """podman still takes the container for running, and its processes are gone."""
    message = f"container {ID} is running or paused, cannot restore: container state improper"
    podman.on(INSPECT, inspect_json())
    podman.on(TOP, podman.error(500, "top can only be used on running containers"))
    podman.on(RESTORE, podman.error(500, "container state improper", message))
    return podman


def test_container_whose_processes_are_gone_does_not_run(client, behind, make_container) -> None:
    behind.on(RESTORE, behind.answers[RESTORE][0], {"Id": ID})
    said = bring_back(client, make_container(), OPTIONS, FerryError("x"))
    assert said == "The container web runs again from the same memory."
    assert behind.seen == [INSPECT, TOP, RESTORE] * 2


def test_stop_that_was_cut_short_is_finished_first(
    client, podman, make_container, inspect_json, info_json, programs
) -> None:
    noted = programs("podman", "exit 0")
    podman.on("GET /info", info_json())
    podman.on(INSPECT, inspect_json("stopped"))
    bring_back(client, make_container(), OPTIONS, FerryError("x"))
    assert noted.read_text().splitlines()[-3:] == ["container", "cleanup", ID]
    assert podman.seen == [INSPECT, "GET /info", RESTORE]


def test_podman_that_never_notices_is_given_up(client, behind, make_container, monkeypatch) -> None:
    monkeypatch.setattr(_checkpoint, "SETTLES_WITHIN", 0.05)
    assert "could not be brought back" in bring_back(client, make_container(), OPTIONS, FerryError("x"))


def test_container_that_somebody_else_stopped_stays_stopped(client, podman, make_container) -> None:
    error = ApiError("x: container state improper", status=500, cause="container state improper")
    said = bring_back(client, make_container(), OPTIONS, error)
    assert said == "The container web was not stopped by this run, and is exited."
    assert podman.seen == [INSPECT]


def test_container_that_somebody_started_afresh_is_told(client, podman, make_container, inspect_json) -> None:
    podman.on(INSPECT, inspect_json(State={"StartedAt": "2026-11-20T10:00:00Z", "Restored": False}))
    said = bring_back(client, make_container(OCIConfigPath="/bundle/config.json"), OPTIONS, FerryError("x"))
    assert "started the container web afresh" in said and "/bundle/checkpoint" in said
    assert RESTORE not in podman.seen


def test_container_that_somebody_restored_still_runs(client, podman, make_container, inspect_json) -> None:
    podman.on(INSPECT, inspect_json(State={"StartedAt": "2026-11-20T10:00:00Z", "Restored": True}))
    assert bring_back(client, make_container(), OPTIONS, FerryError("x")) == "The container web still runs."


def test_container_that_is_gone_is_told(client, podman, make_container) -> None:
    podman.on(INSPECT, 404)
    assert bring_back(client, make_container(), OPTIONS, FerryError("x")) == "The container web is gone."


def test_failed_way_back_says_where_the_checkpoint_is(client, podman, make_container) -> None:
    podman.on(RESTORE, podman.error(500, "exit status 1", "CRIU restoring failed: -52"))
    said = bring_back(client, make_container(OCIConfigPath="/bundle/config.json"), OPTIONS, FerryError("x"))
    assert "could not be brought back: Bringing container web back failed: CRIU restoring failed: -52." in said
    assert "Its checkpoint lies in /bundle/checkpoint" in said
    assert said.endswith("podman_restore with name=web tcp_established=true file_locks=true.")


def test_way_back_never_raises(client, podman, make_container) -> None:
    podman.on(INSPECT, podman.die)
    assert "could not be brought back" in bring_back(client, make_container(), OPTIONS, FerryError("x"))


@pytest.mark.parametrize("error", [ArchiveError("cut short"), OSError("disk full"), KeyError("unforeseen")])
def test_every_failure_takes_the_way_back(client, podman, make_container, error) -> None:
    with pytest.raises(CheckpointFailed, match="runs again from the same memory") as failed:
        with way_back(client, make_container(), OPTIONS):
            raise error
    assert str(error) in str(failed.value)
    assert RESTORE in podman.seen


def test_success_takes_no_way_back(client, podman, make_container) -> None:
    with way_back(client, make_container(), OPTIONS):
        pass
    assert podman.seen == []


# -- in place -------------------------------------------------------------------------------------------------


def test_checkpoint_in_place(checkpointer, podman, make_container) -> None:
    answer = {"Id": ID, "runtime_checkpoint_duration": 7, "criu_statistics": {"frozen_time": 5}}
    podman.on(CHECKPOINT, answer)
    result = checkpointer(keep=True).run(make_container())
    assert result["statistics"] == {"frozen_time": 5}
    assert result["runtime_checkpoint_duration"] == 7
    assert result["checkpoint_path"] == "/bundle/checkpoint"
    assert podman.seen == [CHECKPOINT, INSPECT]


def test_missing_statistics_leave_a_good_checkpoint(checkpointer, podman, make_container) -> None:
    podman.on(CHECKPOINT, podman.error(500, "displaying checkpointing statistics not possible: open stats-dump"))
    assert checkpointer().run(make_container())["statistics"] == {}
    assert RESTORE not in podman.seen


def test_failed_checkpoint_in_place_leaves_it_running(
    checkpointer, podman, make_container, inspect_json, failing
) -> None:
    podman.on(CHECKPOINT, failing)
    podman.on(INSPECT, inspect_json())
    with pytest.raises(CheckpointFailed, match="exit status 1.*The container web still runs"):
        checkpointer().run(make_container())
    assert RESTORE not in podman.seen


# -- into an archive ------------------------------------------------------------------------------------------


def test_checkpoint_into_an_archive(checkpointer, podman, make_container, archives, tmp_path, config_json) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    dest = tmp_path / "web.tar.zst"
    result = checkpointer(dest).run(make_container())
    contents = inspect_file(str(dest))
    data = {"volumeName": "data", "dest": "/data", "options": ["rw", "nocopy"]}
    assert contents.config == config_json(restart_policy="no", restart_retries=0, namedVolumes=[data])
    assert result["size"] == dest.stat().st_size
    assert (result["dest"], result["compression"]) == (str(dest), "zstd")
    assert os.listdir(tmp_path) == ["web.tar.zst"]
    assert podman.request(CHECKPOINT).query == {"export": "true"}
    assert RESTORE not in podman.seen


def test_volumes_can_stay_out_of_the_archive(checkpointer, podman, make_container, archives, tmp_path) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint(archives.entry("volumes/data.tar", bytes(1024)))))
    checkpointer(tmp_path / "with", compression="none").run(make_container())
    checkpointer(tmp_path / "without", compression="none", ignore_volumes=True).run(make_container())
    assert inspect_file(str(tmp_path / "with")).volumes == ["data"]
    assert inspect_file(str(tmp_path / "without")).volumes == []


def test_roots_of_volumes_are_in_the_archive(checkpointer, podman, make_container, archives, tmp_path) -> None:
    (tmp_path / "data").mkdir(mode=0o750)
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint(archives.entry("volumes/data.tar", bytes(1024)))))
    volume = {"Type": "volume", "Name": "data", "Source": str(tmp_path / "data"), "Destination": "/data"}
    checkpointer(tmp_path / "web.tar").run(make_container(Mounts=[volume]))
    assert inspect_file(str(tmp_path / "web.tar")).volume_roots == {"data": f"{os.getuid()}:{os.getgid()}:750"}


@pytest.fixture
def key(tmp_path) -> str:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    (tmp_path / "allowed").write_text(f"me {(tmp_path / 'key.pub').read_text()}")
    return str(path)


def test_archive_is_signed(checkpointer, podman, make_container, archives, tmp_path, key) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    dest = tmp_path / "web.tar.zst"
    signing = checkpointer(dest, sign_key=key)
    assert signing.run(make_container())["manifest"] == f"{dest}.manifest"
    text, signer = signed_list(str(dest), str(tmp_path / "allowed"), None)
    assert signer == "me"
    inspect_file(str(dest), witness=Comparer(text))
    for path in (dest, f"{dest}.manifest", f"{dest}.manifest.sig"):
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert signing.done_before("web", None)["manifest"] == f"{dest}.manifest"
    os.unlink(f"{dest}.manifest.sig")
    with pytest.raises(FerryError, match="is there already, and nobody has signed it"):
        signing.done_before("web", None)


@pytest.fixture
def encrypting(checkpointer, age_key, tmp_path):
    """Encrypts to somebody whose identity it does not have."""
    return checkpointer(tmp_path / "web.age", compression="gzip", recipients=Recipients((age_key.recipient,)))


def test_encrypted_archive_is_signed_as_what_is_in_it(
    checkpointer, podman, make_container, archives, tmp_path, key, age_key
) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    dest = tmp_path / "web.age"
    recipients = Recipients((age_key.recipient,))
    result = checkpointer(dest, compression="gzip", sign_key=key, recipients=recipients).run(make_container())
    assert result["encrypted"] and result["size"] == dest.stat().st_size
    text, _signer = signed_list(str(dest), str(tmp_path / "allowed"), None)
    inspect(io.BytesIO(gzip.decompress(age_key.decrypt(dest))), witness=Comparer(text))
    for path in tmp_path.glob("web.age*"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"PPPP" not in path.read_bytes()


def test_encrypted_archive_is_known_again(encrypting, podman, make_container, archives, tmp_path) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    made = encrypting.run(make_container())
    for name in ("web", ID):
        found = encrypting.done_before(name, None)
        assert found == {key: made[key] for key in found} and found["compression"] == "gzip"
    assert encrypting.done_before("web", make_container("exited"))["id"] == ID
    assert encrypting.done_before("web", make_container()) is None, "it runs, and is made anew"
    assert encrypting.done_before("other", None) is None
    assert encrypting.done_before("web", make_container("exited", Id="3d" * 32)) is None


@pytest.mark.parametrize("about", [None, b"garbage", b"[]", b"{}", b'{"digest": "sha256:0"}'])
def test_encrypted_archive_that_nobody_knows_is_not_taken_for_ours(
    encrypting, podman, make_container, archives, tmp_path, about
) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    encrypting.run(make_container())
    note = tmp_path / "web.age.about"
    if about is None:
        note.unlink()
    else:
        note.write_bytes(about)
    with pytest.raises(FerryError, match="is there already and encrypted, and .*about does not tell.*Move it away"):
        encrypting.done_before("web", None)


def test_pre_checkpoint_is_never_done_before(checkpointer, podman, make_container, archives, tmp_path, age_key) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.pre_checkpoint()))
    recipients = Recipients((age_key.recipient,))
    encrypting = checkpointer(tmp_path / "web.age", pre_checkpoint=True, recipients=recipients)
    encrypting.run(make_container())
    assert encrypting.done_before("web", None) is None


def test_plain_archive_is_not_taken_for_an_encrypted_one(
    checkpointer, encrypting, podman, make_container, archives, tmp_path
) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    checkpointer(tmp_path / "web.age", compression="none").run(make_container())
    with pytest.raises(FerryError, match="is there already, and is not encrypted. Move it away"):
        encrypting.done_before("web", None)


def test_age_that_fails_half_way_has_the_container_go_on(
    encrypting, podman, make_container, archives, tmp_path, programs
) -> None:
    programs("age", "head -c 100 >/dev/null; echo 'age: error: disk is gone' >&2; exit 1")
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    with pytest.raises(CheckpointFailed, match="age cannot encrypt: disk is gone.*runs again from the same memory"):
        encrypting.run(make_container())
    assert os.listdir(tmp_path) == ["programs"]


def test_archive_without_its_signature_does_not_appear(
    checkpointer, podman, make_container, archives, tmp_path
) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    with pytest.raises(CheckpointFailed, match="cannot be signed with /nowhere.*runs again"):
        checkpointer(tmp_path / "web.tar", sign_key="/nowhere").run(make_container())
    assert os.listdir(tmp_path) == []


def test_modified_files_are_in_the_archive(checkpointer, podman, make_container, archives, tmp_path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "app.conf").write_bytes(b"changed")
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    podman.on(CHANGES, [{"Path": "/etc/app.conf", "Kind": 0}])
    podman.on(MOUNT, podman.text(200, str(tmp_path / "root")))
    podman.on(UNMOUNT, 204)
    dest = tmp_path / "web.tar"
    checkpointer(dest, compression="none").run(make_container())
    inner = dict((info.name, data) for info, data in archives.unpack(dest.read_bytes()))["rootfs-diff.tar"]
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        assert tar.extractfile("etc/app.conf").read() == b"changed"
    # Of a container that is stopped by then, and nothing changes any more.
    assert podman.seen.index(CHECKPOINT) < podman.seen.index(CHANGES)


def test_copies_of_modified_files_are_encrypted_meanwhile(
    encrypting, podman, make_container, archives, tmp_path, age_key, monkeypatch
) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "app.conf").write_bytes(b"secret" * 20_000)
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    podman.on(CHANGES, [{"Path": "/etc/app.conf", "Kind": 0}])
    podman.on(MOUNT, podman.text(200, str(tmp_path / "root")))
    podman.on(UNMOUNT, 204)
    # A name, so that it can be looked at.
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_where: open(tmp_path / "scratch", "w+b"))
    encrypting.run(make_container())
    scratch = (tmp_path / "scratch").read_bytes()
    assert len(scratch) > 120_000 and is_encrypted(scratch) and b"secret" not in scratch
    archive = archives.unpack(gzip.decompress(age_key.decrypt(tmp_path / "web.age")))
    assert b"secret" * 20_000 in dict((info.name, data) for info, data in archive)["rootfs-diff.tar"]


@pytest.mark.parametrize("option", ["ignore_rootfs", "pre_checkpoint"])
def test_modified_files_are_not_looked_for_in_vain(
    checkpointer, podman, make_container, archives, tmp_path, option
) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    checkpointer(tmp_path / "web.tar", **{option: True}).run(make_container())
    assert CHANGES not in podman.seen


def test_missing_directory_does_not_cost_the_container_its_memory(
    checkpointer, podman, make_container, tmp_path
) -> None:
    with pytest.raises(FerryError, match="No such file or directory"):
        checkpointer(tmp_path / "absent" / "web.tar").run(make_container())
    assert podman.seen == []


def test_archive_that_podman_cuts_short_is_none(checkpointer, podman, make_container, archives, tmp_path) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()[:-1024]))
    with pytest.raises(CheckpointFailed, match="cut short.*runs again from the same memory"):
        checkpointer(tmp_path / "web.tar").run(make_container())
    assert os.listdir(tmp_path) == []


def test_full_disk_brings_the_container_back(
    checkpointer, podman, make_container, archives, tmp_path, file_size_limit
) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint(archives.entry("checkpoint/x", bytes(500_000)))))
    file_size_limit(100_000)
    with pytest.raises(CheckpointFailed, match="File too large.*runs again from the same memory"):
        checkpointer(tmp_path / "web.tar", compression="none").run(make_container())
    assert os.listdir(tmp_path) == []


def test_policy_that_is_suspended_is_in_the_archive(checkpointer, podman, make_container, archives, tmp_path) -> None:
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint(config={"restart_policy": "no"})))
    podman.on("POST /containers/create", {"Id": "hold"})
    podman.on(f"POST /containers/{ID}/update", {"ID": ID})
    podman.on(f"DELETE /containers/ferry-hold-{ID[:12]}", [])
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    checkpointer(tmp_path / "web.tar").run(make_container(HostConfig=policy))
    config = inspect_file(str(tmp_path / "web.tar")).config
    assert (config["restart_policy"], config["restart_retries"]) == ("on-failure", 3)


def test_two_runs_at_once_are_one_too_many(checkpointer, podman, make_container, tmp_path) -> None:
    def second(handler, request):
        handler.read_body(request)
        with pytest.raises(FerryError, match="Another run"):
            checkpointer().run(make_container())
        handler.reply(*podman.json(200, {"Id": ID}))

    podman.on(CHECKPOINT, second)
    checkpointer().run(make_container())
    assert podman.seen.count(CHECKPOINT) == 1


# -- into an image --------------------------------------------------------------------------------------------

IMAGE = {"Id": "3d" * 32, "RepoTags": ["localhost/saved:1"], "Size": 5, "Digest": "sha256:1"}


def modified_on(podman, path: str) -> None:
    stat = base64.b64encode(json.dumps({"mode": 0o644}).encode()).decode()
    podman.on(CHANGES, [{"Path": path, "Kind": 0}])
    podman.on(ARCHIVE, (200, b"", {"X-Docker-Container-Path-Stat": stat}))


def test_checkpoint_into_an_image(checkpointer, podman, make_container) -> None:
    podman.on(CHECKPOINT, {"Id": ID})
    podman.on("GET /images/saved%3A1/json", IMAGE)
    result = checkpointer(create_image="saved:1").run(make_container())
    assert result["created_image"] == "localhost/saved:1"
    assert result["created_image_id"] == IMAGE["Id"]
    assert podman.request(CHECKPOINT).query == {"createImage": "saved:1", "printStats": "true"}


def test_image_that_would_lack_files_is_refused_beforehand(checkpointer, podman, make_container) -> None:
    modified_on(podman, "/nonexistent/app.conf")
    findings = checkpointer(create_image="saved:1").findings(make_container())
    assert [finding.code for finding in findings] == ["files_dropped"]
    assert checkpointer(create_image="saved:1", ignore_rootfs=True).findings(make_container()) == []
    assert checkpointer(dest="/tmp/web.tar").findings(make_container()) == []


def test_changes_that_podman_cannot_list_are_found_beforehand(checkpointer, podman, make_container) -> None:
    """It would fail on them after the freeze."""
    podman.on(CHANGES, podman.error(500, "not a directory"))
    for options in ({"dest": "/a.tar"}, {"create_image": "saved:1"}):
        findings = checkpointer(**options).findings(make_container())
        assert [finding.code for finding in findings] == ["changes_unknown"]
        assert "not a directory" in findings[0].message
        assert checkpointer(**options, ignore_rootfs=True).findings(make_container()) == []
    assert checkpointer().findings(make_container()) == []


def test_names_that_podman_cannot_say_are_found_beforehand(checkpointer, podman, make_container) -> None:
    podman.on(CHANGES, [{"Path": "/caf\ufffd", "Kind": 1}])
    assert [finding.code for finding in checkpointer("/a.tar").findings(make_container())] == ["file_names"]


def test_image_that_lacks_files_after_all_brings_the_container_back(checkpointer, podman, make_container) -> None:
    podman.on(CHECKPOINT, {"Id": ID})
    modified_on(podman, "/nonexistent/app.conf")
    with pytest.raises(CheckpointFailed, match=r"\[files_dropped\].*runs again from the same memory"):
        checkpointer(create_image="saved:1").run(make_container())


# -- what is there already ------------------------------------------------------------------------------------


def test_running_container_is_never_done(checkpointer, podman, make_container, archives, tmp_path) -> None:
    (tmp_path / "web.tar").write_bytes(archives.checkpoint())
    for step in (checkpointer(), checkpointer(tmp_path / "web.tar"), checkpointer(create_image="saved:1")):
        assert step.done_before("web", make_container()) is None


def test_stopped_by_a_checkpoint_is_done(checkpointer, make_container) -> None:
    done = checkpointer().done_before("web", make_container("exited", State={"Checkpointed": True}))
    assert done["id"] == ID
    assert checkpointer().done_before("web", make_container("exited")) is None
    assert checkpointer().done_before("web", None) is None


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("name", ["web", ID])
def test_archive_of_the_container_is_done(checkpointer, make_container, archives, tmp_path, gone, name) -> None:
    (tmp_path / "web.tar").write_bytes(archives.checkpoint())
    done = checkpointer(tmp_path / "web.tar").done_before(name, None if gone else make_container("exited"))
    assert (done["id"], done["name"], done["compression"]) == (ID, "web", "none")
    assert done["digest"].startswith("sha256:")


def test_archive_of_another_container_is_not(checkpointer, make_container, archives, tmp_path) -> None:
    step = checkpointer(tmp_path / "web.tar")
    assert step.done_before("web", None) is None
    (tmp_path / "web.tar").write_bytes(archives.checkpoint())
    assert step.done_before("other", None) is None
    assert step.done_before("web", make_container("exited", Id="0a" * 32)) is None


def test_pre_checkpoint_is_not_the_checkpoint(checkpointer, archives, tmp_path) -> None:
    (tmp_path / "web.tar").write_bytes(archives.pre_checkpoint())
    assert checkpointer(tmp_path / "web.tar").done_before("web", None) is None


def test_damaged_archive_is_not_taken_for_done(checkpointer, archives, tmp_path) -> None:
    (tmp_path / "web.tar").write_bytes(archives.checkpoint()[:-1024])
    with pytest.raises(ArchiveError, match="web.tar: .*cut short"):
        checkpointer(tmp_path / "web.tar").done_before("web", None)


@pytest.mark.parametrize(("name", "done"), [("web", True), ("other", False), (None, False)])
def test_image_of_the_container_is_done(checkpointer, podman, make_container, name, done) -> None:
    annotations = {"io.podman.annotations.checkpoint.name": name} if name else None
    podman.on("GET /images/saved%3A1/json", {**IMAGE, "Annotations": annotations})
    container = make_container("exited", State={"Checkpointed": True})
    found = checkpointer(create_image="saved:1").done_before("web", container)
    assert (found is not None) == done


# -- what it would be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "auto_remove", "state"),
    [
        ({}, False, {"status": "exited", "checkpoint": "in place"}),
        ({"dest": "/a.tar"}, False, {"status": "exited", "checkpoint": "/a.tar"}),
        ({"dest": "/a.tar"}, True, {"status": "absent", "checkpoint": "/a.tar"}),
        ({"dest": "/a.tar", "leave_running": True}, True, {"status": "running", "checkpoint": "/a.tar"}),
        ({"pre_checkpoint": True}, False, {"status": "running", "checkpoint": "in place"}),
        ({"create_image": "saved:1"}, False, {"status": "exited", "checkpoint": "saved:1"}),
    ],
)
def test_state_is_predicted(checkpointer, make_container, request_, auto_remove, state) -> None:
    container = make_container(HostConfig={"AutoRemove": auto_remove})
    assert checkpointer(**request_).predicted_state(container) == state


def test_result_is_predicted(checkpointer, make_container) -> None:
    into_archive = checkpointer("/a.tar.gz", compression="gzip").prediction(make_container())
    assert (into_archive["name"], into_archive["dest"], into_archive["compression"]) == ("web", "/a.tar.gz", "gzip")
    assert checkpointer(create_image="saved:1").prediction(make_container())["created_image"] == "saved:1"
    assert "dest" not in checkpointer().prediction(make_container())


def test_export_alone_is_a_whole_archive(checkpointer, podman, make_container, archives) -> None:
    """Moves take it without a file."""
    podman.on(CHECKPOINT, podman.archive(archives.checkpoint()))
    container, contents = make_container(), Contents()
    chunks = checkpointer().export(container, contents, io.BytesIO(), container.restart_policy)
    assert inspect(io.BytesIO(b"".join(chunks))).config["name"] == contents.config["name"] == "web"
