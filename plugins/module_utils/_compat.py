# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Verdicts: can this container be checkpointed here, and restored there? Pure: facts in, findings out.

Every reason is found at once and before anything is touched. Most of them podman would give later, one at a
time, and some only after the container has been stopped (podman's ``pkg/checkpoint/checkpoint_restore.go``).
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, Refused
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, HostInfo, parse_version

Json = dict[str, t.Any]

IMAGE_ANNOTATION = "io.podman.annotations.checkpoint."
"""Prefix of the keys that podman writes on a checkpoint image (libpod/define/annotations.go)."""


BOUND = ("none", "bind")
"""Types of local volumes that are directories of their host."""


@dataclass(frozen=True)
class Finding:
    """One reason for or against.

    :param code: stable, for playbooks to test.
    :param severity: ``blocker`` refuses the request. ``warning``: it may go wrong, perhaps later; a move is refused
        unless it is forced, all else is told and goes on. ``notice`` is told.
    """

    code: str
    message: str
    remedy: str
    severity: str = "blocker"

    def as_dict(self) -> Json:
        return asdict(self)


def refuse_blockers(doing: str, findings: list[Finding]) -> list[Finding]:
    """Return the findings, none of which forbids it.

    :raises Refused: naming every blocker.
    """
    _refuse(doing, findings, [finding for finding in findings if finding.severity == "blocker"], "")
    return findings


def refuse_warnings(doing: str, findings: list[Finding], *, force: bool) -> list[Finding]:
    """As ``refuse_blockers``, and warnings refuse too unless they are forced.

    :raises Refused: naming every blocker and every warning.
    """
    grave = ("blocker",) if force else ("blocker", "warning")
    reasons = [finding for finding in findings if finding.severity in grave]
    forcible = reasons and all(finding.severity == "warning" for finding in reasons)
    _refuse(doing, findings, reasons, " These are warnings: force=true goes on in spite of them." if forcible else "")
    return findings


def _refuse(doing: str, findings: list[Finding], reasons: list[Finding], hint: str) -> None:
    if reasons:
        told = " ".join(f"[{finding.code}] {finding.message} {finding.remedy}" for finding in reasons)
        raise Refused(f"{doing} is refused, nothing was touched: {told}{hint}", [f.as_dict() for f in findings])


@dataclass(frozen=True)
class Subject:
    """What is to be restored, as far as the other side must fit it. Read from a container or from an archive."""

    id: str
    name: str
    runtime: str
    image_id: str
    image: str
    volumes: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    dependencies: list[str] = field(default_factory=list)
    pod: str | None = None
    networks_ordered: bool = False

    @classmethod
    def from_container(cls, container: Container, podman: tuple[int, int, int]) -> Subject:
        return cls(
            id=container.id,
            name=container.name,
            runtime=container.runtime,
            image_id=container.image_id,
            image=container.image,
            volumes=container.volumes,
            networks=list(container.networks),
            secrets=[secret["Name"] for secret in container.raw["Config"].get("Secrets") or []],
            dependencies=container.dependencies,
            pod=container.pod,
            networks_ordered=podman >= (6, 0, 0),
        )

    @classmethod
    def from_archive(cls, contents: Contents) -> Subject:
        """:raises ArchiveError: if config.dump has another form than podman's."""
        try:
            return cls._from_config(contents.config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(f"The archive's config.dump is not as podman writes it: {error!r}.") from error

    @classmethod
    def _from_config(cls, config: Json) -> Subject:
        ordered = config.get("orderedNetworks")
        namespaces = ("ipcNsCtr", "netNsCtr", "pidNsCtr", "userNsCtr", "utsNsCtr", "cgroupNsCtr")
        shared = {config[key] for key in namespaces if config.get(key)}
        return cls(
            id=config["id"],
            name=config["name"],
            runtime=str(config.get("runtime") or ""),
            image_id=str(config.get("rootfsImageID") or ""),
            image=str(config.get("rootfsImageName") or ""),
            volumes=[volume["volumeName"] for volume in config.get("namedVolumes") or []],
            networks=[entry["name"] for entry in ordered] if ordered else list(config.get("newNetworks") or {}),
            secrets=[secret["name"] for secret in config.get("secrets") or []],
            dependencies=[*(config.get("Dependencies") or []), *sorted(shared)],
            pod=config.get("pod") or None,
            networks_ordered=bool(ordered),
        )


@dataclass(frozen=True)
class RestoreFacts:
    """What the restoring host has, as far as the subject asks for it.

    :param taken: for each name or ID that the container would have, the ID of who has it already.
    :param image_named: the ID behind the image's name here, if that is another image.
    :param image_unnamed: it is here, and its name is not and cannot be given to it.
    :param absent_networks: of the subject's networks, those missing here; the same for secrets.
    :param taken_addresses: of the subject's, those that a running container here has.
    :param outside_addresses: of the subject's, those that are in no subnet of the restoring host's network.
    :param addresses_may_change: connections are closed, and no network is shared that they would need.
    """

    host: HostInfo
    taken: dict[str, str] = field(default_factory=dict)
    image_present: bool = True
    image_named: str | None = None
    image_unnamed: bool = False
    existing_volumes: list[str] = field(default_factory=list)
    absent_networks: list[str] = field(default_factory=list)
    absent_secrets: list[str] = field(default_factory=list)
    pod_present: bool = True
    taken_addresses: list[str] = field(default_factory=list)
    outside_addresses: list[str] = field(default_factory=list)
    addresses_may_change: bool = False


@dataclass(frozen=True)
class RestoreRequest:
    """The options that decide what fits."""

    new_names: list[str] = field(default_factory=list)
    ignore_volumes: bool = False
    pod: str | None = None


def host_findings(host: HostInfo) -> Iterator[Finding]:
    """Whether a host can checkpoint and restore at all."""
    if host.rootless:
        yield Finding(
            "rootless",
            "The service is rootless, and checkpointing a container requires root.",
            "Use the rootful socket /run/podman/podman.sock, with become.",
        )
    if host.runtime_has_criu is False:
        yield Finding(
            "runtime_without_criu",
            f"{host.runtime} is built without CRIU.",
            "Install a crun that names +CRIU in crun --version, or use runc.",
        )


def criu_findings(criu: Json) -> Iterator[Finding]:
    """Whether CRIU works on this host, from what ``LocalHost.criu`` found."""
    if criu["version"] is None:
        yield Finding("criu_absent", "CRIU is not installed on this host.", "Install the package criu.")
    elif not criu["check"]:
        yield Finding(
            "criu_check",
            f"criu check fails: {' | '.join(criu['check_output'])}",
            "Checkpoints can work all the same; if not, CRIU and the kernel do not fit each other.",
            severity="notice",
        )


def checkpoint_findings(
    container: Container, host: HostInfo, *, exports: bool, creates_image: bool, pre_checkpoint: bool
) -> list[Finding]:
    """Why this container cannot be checkpointed like this.

    :param exports: an archive is asked for.
    """
    found = [*host_findings(host), *restorable_findings(container)]
    if container.checkpointed:
        found.append(
            Finding(
                "checkpointed",
                f"The container {container.name} is stopped by a checkpoint.",
                "podman_restore by its name has it run again; podman start would lose its memory.",
            )
        )
    elif not container.running:
        found.append(
            Finding(
                "not_running",
                f"The container {container.name} is {container.status}, not running.",
                "Only a running container has a state to checkpoint; unpause or start it.",
            )
        )
    if container.auto_remove and not exports and not pre_checkpoint:
        found.append(
            Finding(
                "auto_remove",
                f"The container {container.name} was started with --rm and would be removed with its checkpoint.",
                "Checkpoint it into an archive with dest.",
            )
        )
    if (exports or creates_image) and not _exportable(container):
        found.append(
            Finding(
                "dependencies",
                f"The container {container.name} depends on {', '.join(container.dependencies)}; "
                "podman exports no containers with dependencies, and says so only after stopping them.",
                "Checkpoint it in place, or give it its own namespaces.",
            )
        )
    return found


def file_findings(container: Container, dropped: list[str], *, unnamed: bool) -> list[Finding]:
    """Changed files that would not arrive.

    :param dropped: those that an image built by podman would lack.
    :param unnamed: names that are not UTF-8 are among them.
    """
    found = []
    if unnamed:
        found.append(
            Finding(
                "file_names",
                f"The container {container.name} changed files whose names are not UTF-8; podman cannot name them.",
                "Rename them, keep them in a volume, or set ignore_rootfs if they do not matter.",
            )
        )
    if dropped:
        shown = ", ".join(dropped[:5]) + (f" and {len(dropped) - 5} more" if len(dropped) > 5 else "")
        found.append(
            Finding(
                "files_dropped",
                f"The image of container {container.name} would lack files that it modified: {shown}. "
                "podman leaves out those that the host has no file of the same path for.",
                "Use dest, whose archive has them, or ignore_rootfs if they do not matter.",
            )
        )
    return found


def unlisted_findings(container: Container, error: str) -> list[Finding]:
    """podman cannot say what changed, and would fail on it after the freeze."""
    return [
        Finding(
            "changes_unknown",
            f"podman cannot list the changed files of container {container.name}: {error}",
            "A file of the image that became a directory is a known reason. Undo that, or set ignore_rootfs.",
        )
    ]


def restorable_findings(container: Container) -> Iterator[Finding]:
    """What can be dumped and then not restored, not even where it was: its memory would be lost."""
    if container.raw["HostConfig"].get("Init"):
        yield Finding(
            "init",
            f"The container {container.name} was made with --init, whose mount CRIU dumps and cannot restore.",
            "Make it without --init; an init in the image itself is no problem.",
        )
    if container.raw["HostConfig"].get("Cgroups") == "disabled":
        yield Finding(
            "no_cgroup",
            f"The container {container.name} has no cgroup of its own (--cgroups=disabled); CRIU would freeze podman.",
            "Make it with a cgroup.",
        )
    overlays = [mount["Destination"] for mount in container.mounts if _is_overlay(mount)]
    if overlays:
        yield Finding(
            "overlay_mount",
            f"The container {container.name} mounts images or overlays (:O) at {', '.join(sorted(set(overlays)))}; "
            "podman mounts them elsewhere at each start, where CRIU does not find them.",
            "Mount volumes or directories without O.",
        )


def _is_overlay(mount: Json) -> bool:
    return (
        mount.get("Type") == "image"
        or "O" in (mount.get("Options") or [])
        or "/userdata/overlay/" in mount.get("Source", "")
    )


def volume_root_findings(problems: list[str]) -> list[Finding]:
    """Volumes whose root did not get its owner and mode back."""
    remedy = "Set it with chown and chmod on the volume's mountpoint."
    return [Finding("volume_root", problem, remedy, severity="notice") for problem in problems]


def volume_findings(container: Container, volumes: dict[str, Json], users: dict[str, list[str]]) -> Iterator[Finding]:
    """What a volume would lose on its way to another host.

    :param volumes: the container's, by name, as inspected.
    :param users: names of other containers that mount it, for each.
    """
    for name, volume in volumes.items():
        if users.get(name):
            yield Finding(
                "volume_shared",
                f"The volume {name} is also that of {', '.join(users[name])}: it would go on in two versions.",
                "Move none of them, or give each a volume of its own.",
            )
        if volume.get("Options") or volume.get("Driver", "local") != "local":
            yield Finding(
                "volume_options",
                f"The volume {name} has a driver or options, which podman does not carry over.",
                "Mount what it stands for as a directory that both hosts have.",
            )
        if volume.get("Labels"):
            yield Finding(
                "volume_labels",
                f"The volume {name} has labels, which podman does not carry over.",
                "Make them again on the destination if something needs them.",
                severity="notice",
            )


def pre_copy_findings(container: Container, *, tracks_memory: bool, previous_absent: bool) -> list[Finding]:
    """Whether memory can be written out in two steps."""
    found = []
    if not tracks_memory:
        found.append(
            Finding(
                "no_memory_tracking",
                "This host's architecture, kernel or CRIU does not support memory tracking.",
                "Checkpoint without pre_checkpoint and with_previous; criu check --feature mem_dirty_track tells.",
            )
        )
    if previous_absent:
        found.append(
            Finding(
                "previous_absent",
                f"The container {container.name} has no pre-checkpoint on this host.",
                "Make one with pre_checkpoint first.",
            )
        )
    return found


def _exportable(container: Container) -> bool:
    # A container of a pod depends on the pod's infra container, and that alone is allowed.
    return len(container.dependencies) <= (1 if container.pod else 0)


def restore_findings(subject: Subject, facts: RestoreFacts, request: RestoreRequest) -> list[Finding]:
    """Why an archive, an image or a moving container cannot be restored on a host."""
    found = list(host_findings(facts.host))
    found += _runtime_findings(subject, facts)
    found += _name_findings(subject, facts, request)
    found += _image_findings(subject, facts)
    found += _volume_findings(subject, facts, request)
    found += _pod_findings(subject, facts, request)
    found += _address_findings(facts)
    for kind, names in (("network", facts.absent_networks), ("secret", facts.absent_secrets)):
        for name in names:
            found.append(
                Finding(
                    f"{kind}_absent",
                    f"There is no {kind} {name} on the restoring host.",
                    f"Create it there as it is on the other host: podman {kind} create.",
                )
            )
    return found


def recreate_findings(subject: Subject, facts: RestoreFacts, request: RestoreRequest) -> list[Finding]:
    """Why a container cannot be made anew on a host, with its own name, volumes and secrets."""
    found = [
        *_name_findings(subject, facts, request),
        *(_image_findings(subject, facts) if not subject.image_id else []),
        *_volume_findings(subject, facts, request),
        *_address_findings(facts),
    ]
    for name in facts.absent_secrets:
        found.append(
            Finding(
                "secret_absent",
                f"There is no secret {name} on the destination, and podman does not tell what is in it.",
                "Create it there with the same content: podman secret create.",
            )
        )
    return found


def cold_findings(
    container: Container, host: HostInfo, *, local: bool, transfer: str, unreadable: str | None, unknown: list[str]
) -> list[Finding]:
    """Why a container cannot be stopped here and made anew elsewhere.

    :param local: whether its host is this machine.
    :param unreadable: why its definition cannot be read.
    :param unknown: fields of its definition that would be lost.
    """
    found = []
    if not local or transfer not in ("auto", "stream"):
        found.append(
            Finding(
                "cold_source",
                "A cold move reads volumes and podman's definition of the container on the source itself, and sends "
                f"them from there; transfer is {transfer}.",
                "Run it on the source, and leave out transfer.",
            )
        )
    if host.rootless:
        found.append(
            Finding(
                "rootless",
                "The source's service is rootless, whose files belong to other users' IDs.",
                "Only containers of the rootful socket /run/podman/podman.sock move.",
            )
        )
    if unreadable is not None:
        found.append(Finding("definition_unreadable", unreadable, "Move it live, or make it anew by hand."))
    if unknown:
        found.append(
            Finding(
                "definition_unknown",
                f"The definition of container {container.name} has what cannot be carried over: {', '.join(unknown)}.",
                "Move it live, or make it without that.",
            )
        )
    if container.status not in ("running", "exited", "created"):
        found.append(
            Finding(
                "not_settled",
                f"The container {container.name} is {container.status}.",
                "Have it run, or stop it: podman unpause, podman stop.",
            )
        )
    if container.checkpointed:
        found.append(
            Finding(
                "checkpointed",
                f"The container {container.name} is stopped by a checkpoint, whose memory a cold move would lose.",
                "podman_restore by its name has it run again.",
            )
        )
    return found


def not_the_same(name: str, fields: list[str]) -> list[Finding]:
    """What the destination's podman made of a container's definition.

    :param fields: names as podman's inspect tells them.
    """
    return [
        Finding(
            "not_the_same",
            f"The destination's podman made container {name} differently in {', '.join(fields)}.",
            "Its containers.conf or its version sets that: make both hosts alike, or make the container without it.",
        )
    ]


def dependency_findings(container: Container, others: list[str]) -> list[Finding]:
    """:param others: names of containers that it cannot be without, and that do not move along."""
    if not others:
        return []
    return [
        Finding(
            "dependencies",
            f"The container {container.name} depends on {', '.join(others)}, or shares a namespace.",
            "Put them into one pod, which moves whole, or give it its own namespaces.",
        )
    ]


def pod_move_findings(container: Container, pod: str) -> list[Finding]:
    """:param pod: its name."""
    return [
        Finding(
            "in_pod",
            f"The container {container.name} is in the pod {pod}, and a cold move takes pods whole.",
            f"Name the pod: podman_evacuate, pod={pod} for each of its containers.",
        )
    ]


def pod_findings(name: str, unknown: list[str], *, exists: bool) -> list[Finding]:
    """Why a pod cannot be made anew on a host.

    :param unknown: fields of its definition that would be lost.
    :param exists: there is one of that name there.
    """
    found = []
    if unknown:
        found.append(
            Finding(
                "definition_unknown",
                f"The definition of pod {name} has what cannot be carried over: {', '.join(unknown)}.",
                "Make it without that.",
            )
        )
    if exists:
        found.append(
            Finding("pod_exists", f"There is a pod {name} on the destination.", "Remove or rename it: podman pod rm.")
        )
    return found


def device_volume_findings(volumes: dict[str, Json]) -> Iterator[Finding]:
    """Volumes that stand for something outside podman.

    :param volumes: by name, as inspected.
    """
    for name, volume in volumes.items():
        options = volume.get("Options") or {}
        if volume.get("Driver", "local") != "local" or options.get("type", "") in BOUND or options.get("device"):
            yield Finding(
                "volume_options",
                f"The volume {name} stands for {options.get('device') or volume.get('Driver')}, whose content may be "
                "on the destination already or nowhere.",
                "Mount what it stands for as a directory that both hosts have.",
            )


def attribute_findings(paths: list[str]) -> list[Finding]:
    """Files in volumes whose attributes podman would not write."""
    if not paths:
        return []
    shown = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
    return [
        Finding(
            "volume_attributes",
            f"Files in volumes have extended attributes, such as access control lists, that podman drops: {shown}.",
            "Set them again on the destination; getfacl and setfacl carry access control lists.",
            severity="warning",
        )
    ]


def leased_address_findings(addresses: list[str]) -> list[Finding]:
    """Addresses that podman gives at each start."""
    if not addresses:
        return []
    return [
        Finding(
            "address_changes",
            f"The container has {', '.join(addresses)} from podman and not by its definition, and gets another "
            "address there, as with any start.",
            "Give it a fixed one with --ip if others rely on it.",
            severity="notice",
        )
    ]


def _runtime_findings(subject: Subject, facts: RestoreFacts) -> Iterator[Finding]:
    if subject.runtime and subject.runtime != facts.host.runtime:
        yield Finding(
            "runtime_differs",
            f"The checkpoint was created with runtime {subject.runtime} and cannot be restored with runtime "
            f"{facts.host.runtime}, the default of the restoring service.",
            f"Use a service started with podman --runtime {subject.runtime} system service.",
        )
    if subject.networks_ordered and subject.networks and facts.host.podman < (6, 0, 0):
        yield Finding(
            "networks_lost",
            "The checkpoint is of podman 6, whose list of networks podman 5 does not read: it would lose them.",
            "Restore it with podman 6.",
        )


def _name_findings(subject: Subject, facts: RestoreFacts, request: RestoreRequest) -> Iterator[Finding]:
    if subject.id in facts.taken.values() and not request.new_names:
        yield Finding(
            "id_in_use",
            f"The container {subject.name} itself is on the restoring host already, with the ID of the checkpoint.",
            "See which of the two is the right one and remove the other. A stopped one is restored in place by its "
            "name; an archive also under another name.",
        )
    for name, owner in facts.taken.items():
        if owner != subject.id or request.new_names:
            yield Finding(
                "name_in_use",
                f"The name {name} belongs to the container {owner[:12]} on the restoring host.",
                "Remove or rename that container; an archive can also be restored under another name.",
            )


def _image_findings(subject: Subject, facts: RestoreFacts) -> Iterator[Finding]:
    if not subject.image_id:
        yield Finding(
            "no_image",
            f"The container {subject.name} was made from a root filesystem (--rootfs), which podman cannot import.",
            "Checkpoint and restore it in place.",
        )
    elif not facts.image_present:
        other = f" The name is that of the image {facts.image_named[:12]} here." if facts.image_named else ""
        yield Finding(
            "image_differs" if other else "image_absent",
            f"The image {subject.image} with the ID {subject.image_id[:12]} is not on the restoring host.{other}",
            "Bring that very image: podman save on the host that has it, podman load here; building it again "
            "gives another ID.",
        )
    elif facts.image_unnamed:
        yield Finding(
            "image_unnamed",
            f"The image {subject.image_id[:12]} is on the restoring host, but not as {subject.image}, by which podman "
            "asks for it; and a name with a digest can be given to no image.",
            f"Get it under that name: podman pull {subject.image}.",
        )


def _volume_findings(subject: Subject, facts: RestoreFacts, request: RestoreRequest) -> Iterator[Finding]:
    if request.ignore_volumes:
        return
    if subject.volumes and len(request.new_names) > 1:
        yield Finding(
            "volumes_shared",
            f"{len(request.new_names)} containers would have the same volumes {', '.join(subject.volumes)}.",
            "Restore one, or set ignore_volumes to let them share the volumes that are there.",
        )
    for name in facts.existing_volumes:
        yield Finding(
            "volume_exists",
            f"The volume {name} exists on the restoring host.",
            "Remove it if its content is old, or set ignore_volumes to use it as it is.",
        )


def _address_findings(facts: RestoreFacts) -> Iterator[Finding]:
    reasons = {
        **{
            address: f"The address {address} is in no subnet of the restoring host's network."
            for address in facts.outside_addresses
        },
        **{
            address: f"A container on the restoring host has the address {address}."
            for address in facts.taken_addresses
        },
    }
    for address, reason in reasons.items():
        if facts.addresses_may_change:
            yield Finding(
                "address_changes",
                reason,
                "The container gets another one there. Reach it by a published port or a name.",
                severity="notice",
            )
        elif address in facts.taken_addresses:
            yield Finding(
                "address_in_use",
                reason,
                "Free the address; connections cannot go on, and sockets cannot be restored, without it.",
            )
        else:
            yield Finding(
                "address_outside",
                reason,
                "Make the network there with the same subnet, or let the address go with tcp=close.",
            )


def _pod_findings(subject: Subject, facts: RestoreFacts, request: RestoreRequest) -> Iterator[Finding]:
    if subject.pod and not request.pod:
        yield Finding("pod_required", f"The container {subject.name} is from a pod.", "Name a pod here with pod.")
    if request.pod and not subject.pod:
        yield Finding(
            "not_in_pod",
            f"The container {subject.name} was in no pod and cannot be restored into one.",
            "Leave out pod.",
        )
    if request.pod and not facts.pod_present:
        yield Finding(
            "pod_absent",
            f"There is no pod {request.pod} on the restoring host.",
            "Create it with podman pod create.",
        )
    if not subject.pod and subject.dependencies:
        yield Finding(
            "dependencies",
            f"The container {subject.name} depends on other containers; podman imports none such.",
            "Give it its own namespaces.",
        )


def archive_findings(contents: Contents, *, has_previous: bool) -> list[Finding]:
    """Whether the files that were given make one checkpoint."""
    found = []
    if contents.is_pre_checkpoint:
        found.append(
            Finding(
                "pre_checkpoint",
                "The archive is a pre-checkpoint: it holds pages and no processes.",
                "Give the checkpoint that was made with with_previous as src, and this one as previous.",
            )
        )
    elif contents.needs_previous and not has_previous:
        found.append(
            Finding(
                "previous_needed",
                "The archive was made with with_previous and holds only the pages that changed since.",
                "Give the pre-checkpoint as previous.",
            )
        )
    elif has_previous and not contents.needs_previous:
        found.append(
            Finding(
                "previous_not_used",
                "The archive is complete by itself: it was not made with with_previous.",
                "Leave out previous.",
            )
        )
    return found


def foreign_findings(kind: str) -> list[Finding]:
    """An archive of another engine, which podman cannot import as it is.

    :param kind: see ``_kubelet.kind_of``.
    """
    if kind == "podman":
        return []
    return [
        Finding(
            "foreign_archive",
            f"The archive is one of the kubelet, made by {kind}, and lacks what podman needs of a container.",
            "Make an image of it with checkpoint_image, which adds that, and restore from the image.",
        )
    ]


def image_findings(told: Mapping[str, str], host: HostInfo, criu: str | None = None) -> list[Finding]:
    """Whether the checkpoint in an image can go on here.

    :param told: by its annotations, see ``_annotations.facts_in``; what is not told is not compared.
    :param criu: this host's version of CRIU, such as 4.2.1, if it is known.
    """
    return [
        *architecture_findings(told.get("arch"), host),
        *_told_runtime_findings(told, host),
        *_told_cgroup_findings(told, host),
        *_told_criu_findings(told, criu),
    ]


def no_checkpoint_findings(reason: str) -> list[Finding]:
    """An image without annotations of a checkpoint, in which none was found either.

    :param reason: a sentence.
    """
    return [Finding("not_a_checkpoint", f"The image is no checkpoint: {reason}", "Name a checkpoint image.")]


def architecture_findings(arch: str | None, host: HostInfo) -> list[Finding]:
    """:param arch: of the checkpoint, as Go calls it; None if it does not tell."""
    if arch is None or arch == host.arch:
        return []
    return [
        Finding(
            "architecture",
            f"The checkpoint is of a process on {arch}, and this host is {host.arch}.",
            "Memory of one architecture cannot go on in another; restore it on a host of its own.",
        )
    ]


def _told_runtime_findings(told: Mapping[str, str], host: HostInfo) -> Iterator[Finding]:
    runtime = told.get("runtime")
    if runtime in ("crun", "runc") and runtime != host.runtime:
        yield Finding(
            "runtime_differs",
            f"The checkpoint image requires runtime {runtime}; the service's is {host.runtime}.",
            f"Use a service started with podman --runtime {runtime} system service.",
        )


def _told_cgroup_findings(told: Mapping[str, str], host: HostInfo) -> Iterator[Finding]:
    here, there = host.summary()["cgroup_version"], told.get("cgroup_version")
    if there is not None and there.lstrip("v") != here.lstrip("v"):
        yield Finding(
            "cgroup_version",
            f"The checkpoint is of a host with cgroups {there}, and this one has {here}.",
            "CRIU cannot restore a container's cgroup in the other version; boot the host with that version.",
        )


def _told_criu_findings(told: Mapping[str, str], criu: str | None) -> Iterator[Finding]:
    number = told.get("criu_version", "")
    if criu is None or not re.fullmatch("[0-9]{5,6}", number):
        return
    # CRIU's own way to give its version: 40201 for 4.2.1.
    there = (int(number[:-4]), int(number[-4:-2]), int(number[-2:]))
    if parse_version(criu) < there:
        yield Finding(
            "older_criu",
            f"This host's CRIU {criu} is older than the {dotted(there)} that has made the checkpoint: it may not "
            "understand all of it.",
            "Upgrade CRIU here; a restore that fails leaves nothing behind.",
            severity="warning",
        )


def local_findings(container: Container, host: HostInfo, evidence: str | None) -> list[Finding]:
    """Why a stopped container cannot be restored from the checkpoint in its own directory.

    :param evidence: ``current`` if the files of the checkpoint are newer than the container's last start,
        ``stale`` if they are older, ``absent`` if there are none, None if they cannot be looked at.
    """
    found = list(host_findings(host))
    if container.status == "paused":
        found.append(Finding("paused", f"The container {container.name} is paused.", "Unpause it; it has its state."))
    elif evidence == "absent":
        found.append(
            Finding(
                "no_checkpoint",
                f"A complete checkpoint of container {container.name}, which is {container.status}, cannot be found.",
                "A restore without keep uses it up. Start the container afresh with podman start.",
            )
        )
    elif not container.checkpointed and not container.checkpoint_path and evidence != "current":
        found.append(
            Finding(
                "stale_checkpoint",
                f"The container {container.name} has run since its last checkpoint, or may have: restoring would "
                "pair old memory with newer files.",
                "Start it with podman start; remove the container if neither state is wanted.",
            )
        )
    return found


def guard_findings(table: str, left: str | None) -> list[Finding]:
    """A guard that could not be removed after the move."""
    if left is None:
        return []
    return [
        Finding(
            "guard_left",
            f"The guard on the destination could not be removed, so clients may not reach the container yet: {left}",
            f"It expires by itself within 10 minutes; sooner with nft delete table {table} there.",
            severity="notice",
        )
    ]


def health_timer_findings(name: str, reason: str) -> list[Finding]:
    """Health checks that podman's timer does not run after a move."""
    return [
        Finding(
            "health_timer",
            f"podman does not run the health check of container {name} by itself again: {reason}",
            "Run podman pause and podman unpause on it where it is now.",
            severity="notice",
        )
    ]


def thin_findings(reason: str) -> list[Finding]:
    """A thin move was asked for, and there can be none."""
    return [
        Finding(
            "not_thin",
            f"The memory cannot go beside the archive: {reason}",
            "Leave out transfer: what is possible is found out then.",
        )
    ]


def pages_findings(name: str, reason: str) -> list[Finding]:
    """Memory of a container that has moved, in a directory that could not be removed."""
    return [
        Finding(
            "pages_left",
            f"The container {name} runs on the destination, and a copy of its memory is left: {reason}",
            "Remove the directory of its ID in /run/ferry.podman, or in ferry.podman beside podman's storage, on the "
            "host that is named.",
            severity="warning",
        )
    ]


def kept_volumes_findings(name: str, volumes: list[str]) -> list[Finding]:
    """Volumes of a source that an earlier move has kept, which was removed now."""
    if not volumes:
        return []
    return [
        Finding(
            "volumes_left",
            f"What was kept of container {name} on the source is removed, but not its volumes {', '.join(volumes)}: "
            "nobody knows any more whether their content came along.",
            "Remove them there with podman volume rm when nothing of them is needed.",
            severity="notice",
        )
    ]


def elsewhere_findings(name: str, ident: str, destination: str, volumes: list[str], *, thin: bool) -> list[Finding]:
    """What an earlier move to another destination has made there, and this one cannot remove."""
    left = [f"the container ferry-fill-{ident[:12]} and the volumes {', '.join(volumes)}"] if volumes else []
    left += [f"the directory {ident} in /run/ferry.podman, or in ferry.podman beside podman's storage"] if thin else []
    if not left:
        return []
    return [
        Finding(
            "left_elsewhere",
            f"An earlier move of container {name} to {destination} was cut off, and may have left there: "
            f"{', and '.join(left)}.",
            "Remove it there: it is a copy of what the source has.",
            severity="warning",
        )
    ]


def registry_findings(where: str, reference: str, reason: str) -> list[Finding]:
    """A registry that one of the two hosts cannot use.

    :param where: source or destination.
    :param reason: what podman said.
    """
    return [
        Finding(
            "registry_unreachable",
            f"The {where} cannot use the registry for {reference}: {reason}",
            "See that it answers there, that its certificate is trusted or TLS is not asked for, and that the "
            "credentials may push (on the source) and pull (on the destination).",
        )
    ]


def registry_losses(container: Container) -> list[Finding]:
    """What is not the same after a restore from an image, for which podman reads fewer files of the checkpoint."""
    found = []
    if container.log_driver in ("k8s-file", "json-file"):
        found.append(
            Finding(
                "log_stays_behind",
                f"What container {container.name} has logged so far does not move through a registry, and is removed "
                "with it on the source.",
                "Save it first with podman logs, keep the source, or use another transfer.",
                severity="notice",
            )
        )
    if container.addresses:
        found.append(
            Finding(
                "address_fixed",
                f"The container {container.name} keeps its addresses through a registry as fixed ones: as if it had "
                "been made with --ip and --mac-address.",
                "Nothing is to be done while they are free where it runs; another transfer leaves them to podman.",
                severity="notice",
            )
        )
    return found


def dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def criu_version(text: str) -> str | None:
    """Read the number from what ``criu --version`` prints; None if there is none."""
    for line in text.splitlines():
        label, _colon, value = line.partition(":")
        if label.strip() == "Version":
            return ".".join(map(str, parse_version(value.strip())))
    return None
