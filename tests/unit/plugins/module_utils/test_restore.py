# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._compat import RestoreRequest, Subject
from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    ArchiveError,
    FerryError,
    OutcomeUnknown,
    RestoredAndEnded,
    RestoreFailed,
    TransportError,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import RestoreOptions
from ansible_collections.ferry.podman.plugins.module_utils._restore import (
    Restorer,
    Upload,
    _timestamp,
    checkpoint_evidence,
    gather_facts,
    image_subject,
    name_of,
    nothing_left_behind,
)

ID, IMAGE_ID, OTHER = "1f" * 32, "2e" * 32, "0a" * 32
INSPECT, REMOVE, RESTORE = f"GET /containers/{ID}/json", f"DELETE /containers/{ID}", f"POST /containers/{ID}/restore"
IMPORT, VOLUMES = "POST /containers/import/restore", "GET /volumes/json"
NAMED, TAG = "GET /images/web%3A1/json", f"POST /images/{IMAGE_ID}/tag"
SUBJECT = Subject(id=ID, name="web", runtime="crun", image_id=IMAGE_ID, image="web:1", volumes=["data", "older"])
DOING = "Restoring container web"


@pytest.fixture
def podman(libpod):
    """A service that has one volume and nothing else."""
    libpod.on(VOLUMES, [{"Name": "older"}])
    libpod.on(NAMED, {"Id": IMAGE_ID})
    libpod.on(REMOVE, [])
    for name in ("data", "anonymous"):
        libpod.on(f"DELETE /volumes/{name}", 204)
    return libpod


@pytest.fixture
def restorer(client, make_host):
    def make(request=None, **options) -> Restorer:
        return Restorer(client, make_host(), RestoreOptions(**options), request or RestoreRequest())

    return make


def removed(service) -> list[str]:
    return [request[len("DELETE ") :] for request in service.seen if request.startswith("DELETE")]


def refused() -> ApiError:
    return ApiError(f"{DOING} failed: CRIU restoring failed: -52.", status=500, cause="exit status 1")


# -- what a failure leaves ------------------------------------------------------------------------------------


def failed_in(client, error: Exception, upload=None) -> FerryError:
    with pytest.raises(FerryError) as failed:
        with nothing_left_behind(client, ID, SUBJECT.volumes, DOING, upload):
            raise error
    return failed.value


def test_success_removes_nothing(client, podman) -> None:
    with nothing_left_behind(client, ID, SUBJECT.volumes, DOING):
        pass
    assert podman.seen == [VOLUMES]


def test_half_made_container_and_its_new_volumes_are_removed(client, podman, inspect_json) -> None:
    mounts = [{"Type": "volume", "Name": name} for name in ("older", "anonymous")]
    podman.on(INSPECT, inspect_json("created", Mounts=mounts))
    error = failed_in(client, refused())
    assert removed(podman) == [f"/containers/{ID}", "/volumes/anonymous", "/volumes/data"]
    assert podman.request(REMOVE).query["force"] == "false"
    assert isinstance(error, RestoreFailed)
    assert str(error) == f"{DOING} failed: CRIU restoring failed: -52. Nothing of it was left behind."
    assert error.facts == {"status": 500, "cause": "exit status 1"}


def test_volumes_without_a_container_are_removed_too(client, podman) -> None:
    failed_in(client, refused())
    assert removed(podman) == ["/volumes/data"]


def test_log_of_criu_is_read_before_it_is_removed(client, podman, inspect_json, tmp_path) -> None:
    (tmp_path / "restore.log").write_text("(00.1)      1: Error (criu/mem.c:1): no memory\n")
    podman.on(INSPECT, inspect_json("created", OCIConfigPath=str(tmp_path / "config.json")))
    error = failed_in(client, refused())
    assert "CRIU says: Error (criu/mem.c:1): no memory" in str(error)
    assert error.facts["criu_log"] == ["Error (criu/mem.c:1): no memory"]


def test_container_that_runs_after_a_lost_answer_is_left_alone(client, podman, inspect_json) -> None:
    podman.on(INSPECT, inspect_json())
    with nothing_left_behind(client, ID, SUBJECT.volumes, DOING):
        raise TransportError("no answer")
    assert removed(podman) == []


def test_container_that_does_not_run_after_a_lost_answer_is_removed(client, podman, inspect_json) -> None:
    podman.on(INSPECT, inspect_json("created"))
    assert isinstance(failed_in(client, TransportError("no answer")), RestoreFailed)
    assert removed(podman) == [f"/containers/{ID}", "/volumes/data"]


def test_container_that_is_not_there_after_a_lost_answer_may_come(client, podman) -> None:
    error = failed_in(client, TransportError("no answer"))
    assert isinstance(error, OutcomeUnknown)
    assert "may still be unpacking it" in str(error)
    assert removed(podman) == []


@pytest.mark.parametrize("error", [TransportError("no answer"), refused()])
def test_service_that_cannot_be_asked_leaves_it_open(client, podman, error) -> None:
    podman.on(INSPECT, podman.die)
    failed = failed_in(client, error)
    assert isinstance(failed, OutcomeUnknown)
    assert "cannot be asked what became of it" in str(failed)
    assert f"podman ps -a for {ID}" in str(failed)


def test_container_that_runs_in_spite_of_an_error_is_left_alone(client, podman, inspect_json) -> None:
    podman.on(INSPECT, inspect_json())
    error = failed_in(client, refused())
    assert isinstance(error, OutcomeUnknown)
    assert "runs all the same" in str(error)
    assert removed(podman) == []


def test_container_that_stays_and_stands_still_is_told(client, podman, inspect_json) -> None:
    podman.on(INSPECT, inspect_json("created"))
    podman.on(REMOVE, podman.error(500, "no space left on device"))
    error = failed_in(client, refused())
    assert not isinstance(error, OutcomeUnknown)
    assert "It does not run; this stayed of it:" in str(error)
    assert "no space left on device" in str(error)


def test_container_that_cannot_be_removed_because_it_runs_leaves_it_open(client, podman, inspect_json) -> None:
    podman.on(INSPECT, inspect_json("created"), inspect_json())
    podman.on(REMOVE, podman.error(500, "container state improper", "it is running"))
    error = failed_in(client, refused())
    assert isinstance(error, OutcomeUnknown)
    assert "CRIU restoring failed: -52" in str(error)
    assert "it is running" in str(error)
    assert removed(podman) == [f"/containers/{ID}"]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (None, "No running container has the address"),
        ("exited", "No running container has the address"),
        ("running", "The container db has the address."),
        ("initialized", "The container db has the address."),
    ],
)
def test_address_that_is_taken_is_told_by_whom(client, podman, inspect_json, status, told) -> None:
    if status is not None:
        podman.on(f"GET /containers/{OTHER}/json", inspect_json(Id=OTHER, Name="db", status=status))
    cause = f"IPAM error: requested ip address 10.0.0.5 is already allocated to container ID {OTHER}"
    text = str(failed_in(client, ApiError(f"{DOING} failed: {cause}.", status=500, cause=cause)))
    assert told in text
    assert ("podman network rm" in text) is told.startswith("No running")


def test_volume_that_cannot_be_removed_is_told_beside_the_reason(client, podman) -> None:
    podman.on("DELETE /volumes/data", podman.error(409, "volume is being used"))
    error = failed_in(client, refused())
    assert "CRIU restoring failed: -52" in str(error)
    assert "stayed of it: Removing volume data failed: volume is being used." in str(error)
    assert "Nothing of it was left behind" not in str(error)


@pytest.mark.parametrize("error", [TransportError("broken pipe"), refused(), ArchiveError("cut short"), KeyError("x")])
def test_archive_that_did_not_arrive_whole_restores_nothing(client, podman, error) -> None:
    """Not even the service has to be asked, which may be gone."""
    upload = Upload([b"one", b"two"])
    next(iter(upload))
    failed = failed_in(client, error, upload)
    assert isinstance(failed, RestoreFailed) and not isinstance(failed, OutcomeUnknown)
    assert "had not arrived whole, so nothing was restored" in str(failed)
    assert podman.seen == [VOLUMES]


def test_archive_that_arrived_whole_is_asked_about(client, podman) -> None:
    upload = Upload([b"one"])
    assert list(upload) == [b"one"]
    assert isinstance(failed_in(client, TransportError("no answer"), upload), OutcomeUnknown)


def test_upload_is_complete_behind_its_last_chunk() -> None:
    upload = Upload(iter([b"one", b"two"]))
    seen = [upload.complete for _chunk in upload]
    assert (seen, upload.complete) == ([False, False], True)


# -- from an archive ------------------------------------------------------------------------------------------


def test_archive_is_restored(restorer, podman, archives, inspect_json) -> None:
    podman.on(IMPORT, {"Id": ID, "criu_statistics": {"restore_time": 5}, "runtime_restore_duration": 7})
    podman.on(INSPECT, inspect_json())
    result = restorer(keep=True).restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert result["statistics"] == {"restore_time": 5}
    assert result["runtime_restore_duration"] == 7
    # It is asked for volumes again while the archive goes over.
    assert podman.seen[:2] == [NAMED, VOLUMES] and sorted(podman.seen[2:]) == sorted([VOLUMES, IMPORT, INSPECT])
    assert podman.request(IMPORT).query == {"keep": "true", "import": "true", "printStats": "true"}
    assert podman.request(IMPORT).whole


def test_copy_has_its_own_name_and_id(restorer, podman, archives, inspect_json) -> None:
    podman.on(IMPORT, {"Id": OTHER})
    podman.on(f"GET /containers/{OTHER}/json", inspect_json(Id=OTHER, Name="copy"))
    result = restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, "copy")
    assert (result["name"], result["id"]) == ("copy", OTHER)
    assert podman.request(IMPORT).query["name"] == "copy"


def test_volume_that_somebody_makes_meanwhile_stays(restorer, podman, archives) -> None:
    podman.on(IMPORT, podman.error(500, "volume with name data already exists"))
    podman.on(INSPECT, 404)
    podman.on(VOLUMES, [{"Name": "older"}], [{"Name": "older"}, {"Name": "data"}])
    with pytest.raises(RestoreFailed, match="already exists"):
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert removed(podman) == []


def test_failed_copy_is_removed_by_its_own_id(restorer, podman, archives, inspect_json) -> None:
    podman.on(IMPORT, podman.error(500, "no"))
    podman.on("GET /containers/copy/json", inspect_json("created", Id=OTHER, Name="copy"))
    podman.on(f"DELETE /containers/{OTHER}", [])
    with pytest.raises(RestoreFailed, match="Restoring container copy failed: no"):
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, "copy")
    assert removed(podman) == [f"/containers/{OTHER}", "/volumes/data"]


def test_volumes_that_are_shared_are_never_removed(restorer, podman, archives) -> None:
    podman.on(IMPORT, podman.error(500, "no"))
    with pytest.raises(RestoreFailed):
        restorer(ignore_volumes=True).restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert removed(podman) == []


def test_container_that_ended_at_once_is_a_failure(restorer, podman, archives, inspect_json) -> None:
    podman.on(IMPORT, {"Id": ID})
    podman.on(INSPECT, inspect_json("exited", State={"ExitCode": 3}))
    with pytest.raises(RestoredAndEnded, match="web was restored, and its process has ended with 3") as error:
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert error.value.exit_code == 3


PUT = f"PUT /containers/{ID}/archive"


@pytest.fixture
def archive_with_a_root(archives) -> io.BytesIO:
    header = {"FERRY.volume.root": "999:999:700"}
    return io.BytesIO(archives.checkpoint(archives.entry("volumes/data.tar", bytes(1024), pax_headers=header)))


def test_roots_of_volumes_are_set_when_it_runs(restorer, podman, archive_with_a_root, inspect_json) -> None:
    podman.on(IMPORT, {"Id": ID})
    podman.on(INSPECT, inspect_json())
    podman.on(PUT, 200)
    result = restorer().restore_archive(archive_with_a_root, SUBJECT, None)
    assert podman.seen.index(IMPORT) < podman.seen.index(PUT)
    assert result["findings"] == []


def test_roots_of_volumes_that_are_shared_stay(restorer, podman, archive_with_a_root, inspect_json) -> None:
    podman.on(IMPORT, {"Id": ID})
    podman.on(INSPECT, inspect_json())
    restorer(ignore_volumes=True).restore_archive(archive_with_a_root, SUBJECT, None)
    assert PUT not in podman.seen


@pytest.mark.parametrize("answer", ["error", "die"])
def test_root_that_cannot_be_set_is_a_warning(restorer, podman, archive_with_a_root, inspect_json, answer) -> None:
    podman.on(IMPORT, {"Id": ID})
    podman.on(INSPECT, inspect_json())
    podman.on(PUT, podman.error(500, "read-only file system") if answer == "error" else podman.die)
    (finding,) = restorer().restore_archive(archive_with_a_root, SUBJECT, None)["findings"]
    assert (finding["code"], finding["severity"]) == ("volume_root", "notice")
    assert "999:999:700" in finding["message"]


def test_container_of_rm_that_is_gone_again_has_run(restorer, podman, archives) -> None:
    podman.on(IMPORT, {"Id": ID})
    with pytest.raises(OutcomeUnknown, match="It was restored, but cannot be looked at"):
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)


def test_container_that_cannot_be_looked_at_was_restored(restorer, podman, archives) -> None:
    podman.on(IMPORT, {"Id": ID})
    podman.on(INSPECT, podman.die)
    with pytest.raises(OutcomeUnknown, match="It was restored, but cannot be looked at"):
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)


# -- the name of the base image --------------------------------------------------------------------------------


@pytest.fixture
def nameless(podman):
    """The base image is there under its ID alone."""
    podman.on(NAMED, 404)
    podman.on(TAG, 201)
    return podman


def test_base_image_gets_the_name_that_podman_asks_for(restorer, nameless, archives, inspect_json) -> None:
    nameless.on(IMPORT, {"Id": ID})
    nameless.on(INSPECT, inspect_json())
    restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert nameless.seen.index(TAG) < nameless.seen.index(IMPORT)
    assert nameless.request(TAG).query == {"repo": "web", "tag": "1"}


def test_failed_restore_leaves_the_name_for_others_that_ask_for_it(restorer, nameless, archives) -> None:
    nameless.on(IMPORT, nameless.error(500, "no"))
    with pytest.raises(RestoreFailed):
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert nameless.seen.index(TAG) < nameless.seen.index(IMPORT)
    assert not [request for request in nameless.seen if "/images/" in request and request not in (NAMED, TAG)]


def test_name_that_cannot_be_given_is_told_before_the_upload(restorer, nameless, archives) -> None:
    nameless.on(TAG, nameless.error(500, "read-only file system"))
    with pytest.raises(RestoreFailed, match="Tagging image .*read-only file system.* Nothing was restored"):
        restorer().restore_archive(io.BytesIO(archives.checkpoint()), SUBJECT, None)
    assert IMPORT not in nameless.seen


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("registry.example:5000/web:1", ("registry.example:5000/web", "1")),
        ("registry.example:5000/web", None),
        (f"registry.example/web@sha256:{OTHER}", None),
        (f"registry.example/web:1@sha256:{OTHER}", None),
        ("web", None),
    ],
)
def test_name_that_an_image_can_be_given(client, libpod, make_host, name, parts) -> None:
    subject = replace(SUBJECT, image=name)
    assert name_of(subject) == parts
    libpod.on(VOLUMES, [])
    libpod.on(f"GET /images/{IMAGE_ID}/json", {"Id": IMAGE_ID})
    facts = gather_facts(client, make_host(), subject, RestoreRequest())
    assert facts.image_unnamed == (parts is None)


# -- in place -------------------------------------------------------------------------------------------------


def test_container_is_restored_in_place(restorer, podman, make_container, inspect_json) -> None:
    podman.on(RESTORE, {"Id": ID})
    podman.on(INSPECT, inspect_json())
    restorer(tcp_established=True).restore_local(make_container("exited"))
    assert podman.request(RESTORE).query == {"tcpEstablished": "true", "printStats": "true"}
    assert removed(podman) == []


def test_failure_in_place_keeps_the_checkpoint(restorer, podman, make_container, tmp_path) -> None:
    (tmp_path / "restore.log").write_text("(00.1)      1: Error (criu/mem.c:1): no memory\n")
    podman.on(RESTORE, podman.error(500, "exit status 1", "CRIU restoring failed: -52"))
    container = make_container("exited", OCIConfigPath=str(tmp_path / "config.json"))
    with pytest.raises(RestoreFailed, match="-52. CRIU says: .*no memory The container stays stopped") as error:
        restorer().restore_local(container)
    assert error.value.facts["cause"] == "exit status 1"
    assert podman.seen == [RESTORE]


def test_what_an_interrupted_run_left_is_settled(restorer, podman, make_container, inspect_json) -> None:
    labels = {"ferry.holds": ID, "ferry.restart_policy": "always", "ferry.restart_retries": "0"}
    hold = f"/containers/ferry-hold-{ID[:12]}"
    podman.on(f"GET {hold}/json", inspect_json("created", Config={"Labels": labels}))
    podman.on(f"POST /containers/{ID}/update", {"ID": ID})
    podman.on(f"DELETE {hold}", [])
    podman.on(RESTORE, {"Id": ID})
    # One that was started afresh meanwhile is none the worse for it.
    for container, restored in ((make_container("exited"), True), (make_container("running"), False)):
        podman.on(INSPECT, inspect_json(State={"Restored": restored}))
        restorer().restore_local(container)
    assert podman.seen.count(RESTORE) == 1
    assert removed(podman) == [hold, hold]


# -- from an image --------------------------------------------------------------------------------------------

PREFIX = "io.podman.annotations.checkpoint."
IMAGE = {
    "Id": "3d" * 32,
    "Annotations": {
        f"{PREFIX}name": "web",
        f"{PREFIX}runtime.name": "crun",
        f"{PREFIX}rootfsImageID": IMAGE_ID,
        f"{PREFIX}rootfsImageName": "web:1",
    },
}
RESTORE_IMAGE = f"POST /containers/{IMAGE['Id']}/restore"


def test_image_says_what_is_to_be_restored(make_host) -> None:
    assert image_subject(IMAGE, make_host()) == Subject("", "web", "crun", IMAGE_ID, "web:1")


def test_image_is_restored_by_its_id(restorer, podman, inspect_json) -> None:
    podman.on(RESTORE_IMAGE, {"Id": ID})
    podman.on(INSPECT, inspect_json())
    assert restorer().restore_image(IMAGE["Id"], Contents(), SUBJECT, "Restoring")["name"] == "web"
    assert "name" not in podman.request(RESTORE_IMAGE).query


def test_failed_restore_of_an_image_is_removed(restorer, podman, inspect_json) -> None:
    podman.on(RESTORE_IMAGE, podman.error(500, "no"))
    podman.on(INSPECT, inspect_json("created"))
    with pytest.raises(RestoreFailed):
        restorer().restore_image(IMAGE["Id"], Contents(), SUBJECT, "Restoring")
    assert removed(podman) == [f"/containers/{ID}", "/volumes/data"]


def test_annotations_are_compared_before_an_image_is_read(restorer, podman) -> None:
    assert restorer().image_findings(IMAGE, None) == []
    told = {"Annotations": {f"{PREFIX}criu.version": "40300", f"{PREFIX}host.arch": "s390x"}}
    found = restorer().image_findings(told, "4.2.1")
    assert [finding.code for finding in found] == ["architecture", "older_criu"]
    assert podman.seen == []


# -- what the verdict compares --------------------------------------------------------------------------------


def test_facts_of_a_host_that_has_everything(client, podman, make_host, inspect_json) -> None:
    podman.on("GET /containers/web/json", inspect_json(Id=OTHER))
    podman.on(f"GET /images/{IMAGE_ID}/json", {"Id": IMAGE_ID})
    podman.on("GET /networks/lan/json", {"name": "lan"})
    podman.on("GET /secrets/json", [{"Spec": {"Name": "key"}}])
    podman.on("GET /pods/p/json", {"Id": "p"})
    subject = Subject(**{**vars(SUBJECT), "networks": ["lan"], "secrets": ["key"]})
    facts = gather_facts(client, make_host(), subject, RestoreRequest(pod="p"))
    assert facts.taken == {"web": OTHER}
    assert facts.existing_volumes == ["older"]
    assert facts.image_present and facts.image_named is None
    assert facts.absent_networks == facts.absent_secrets == []
    assert facts.pod_present


def test_facts_of_a_host_that_has_nothing(client, libpod, make_host) -> None:
    libpod.on(VOLUMES, [])
    libpod.on("GET /secrets/json", [])
    libpod.on("GET /images/web%3A1/json", {"Id": OTHER})
    subject = Subject(**{**vars(SUBJECT), "networks": ["lan"], "secrets": ["key"]})
    facts = gather_facts(client, make_host(), subject, RestoreRequest(pod="p"))
    assert facts.taken == {}
    assert facts.existing_volumes == []
    assert (facts.image_present, facts.image_named) == (False, OTHER)
    assert (facts.absent_networks, facts.absent_secrets) == (["lan"], ["key"])
    assert not facts.pod_present


def test_new_names_are_looked_for_instead_of_the_old_one(client, podman, make_host) -> None:
    gather_facts(client, make_host(), SUBJECT, RestoreRequest(new_names=["a", "b"]))
    asked = [request for request in podman.seen if request.startswith("GET /containers")]
    assert asked == ["GET /containers/a/json", "GET /containers/b/json"]


# -- whose checkpoint lies there ------------------------------------------------------------------------------

STARTED = 1_763_629_964.5


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    return tmp_path


def stopped(make_container, bundle, started: str = "2025-11-20T09:12:44.5Z"):
    return make_container("exited", OCIConfigPath=str(bundle / "config.json"), State={"StartedAt": started})


@pytest.mark.parametrize(("written", "evidence"), [(1, "current"), (0, "current"), (-1, "stale"), (None, "absent")])
def test_checkpoint_is_of_the_last_run_if_it_is_newer_than_the_start(
    client, make_container, bundle, written, evidence
) -> None:
    if written is not None:
        inventory = bundle / "checkpoint" / "inventory.img"
        inventory.write_bytes(b"")
        os.utime(inventory, (0, STARTED + written))
    assert checkpoint_evidence(client, stopped(make_container, bundle)) == evidence


def test_start_that_cannot_be_read_proves_nothing(client, make_container, bundle) -> None:
    (bundle / "checkpoint" / "inventory.img").write_bytes(b"")
    assert checkpoint_evidence(client, stopped(make_container, bundle, started="yesterday")) is None


def test_container_that_never_ran_has_no_checkpoint(client, make_container) -> None:
    assert checkpoint_evidence(client, make_container("created", OCIConfigPath="")) == "absent"


def test_files_of_another_host_cannot_be_looked_at(libpod, forwarded, make_container, bundle) -> None:
    assert checkpoint_evidence(forwarded(libpod), stopped(make_container, bundle)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-11-20T09:12:44.5Z", STARTED),
        ("2025-11-20T09:12:44Z", STARTED - 0.5),
        ("2025-11-20T09:12:44.500000000Z", STARTED),
        ("2025-11-20T10:12:44.5+01:00", STARTED),
        ("2025-11-20T04:42:44.5-04:30", STARTED),
        ("2025-11-20T10:12:44+01:00", STARTED - 0.5),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("", None),
        ("yesterday", None),
        ("2025-11-20", None),
        ("2025-11-20T09:12:44.5 CET", None),
    ],
)
def test_times_of_podman_are_read(text, seconds) -> None:
    assert _timestamp(text) == seconds
