#!/usr/bin/python
# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: podman_checkpoint_info
short_description: Tell what a host can checkpoint and what a checkpoint holds
version_added: 0.1.0
author: the ferry.podman contributors (@ferry-podman)
description:
  - Tells whether a host can checkpoint and restore, with the versions of all that takes part and the reasons against.
  - Tells the checkpoint state of containers, and why one cannot be checkpointed.
  - With O(destination), tells what speaks against a move of each container to that host, and what the move would
    carry, by the same verdicts as M(ferry.podman.podman_migrate).
  - Tells what checkpoint archives hold. They are read to their end, so a damaged one is found, and not unpacked.
options:
  name:
    description:
      - Names or IDs of the containers to tell about.
      - By default all, but no infra containers of pods.
    type: list
    elements: str
  estimate:
    description:
      - Estimate what a move of each container would carry, without O(destination) too.
      - The files of its volumes are counted, which takes a while with many of them.
    type: bool
    default: false
  src:
    description: Paths of checkpoint archives on the host that the module runs on, of podman or of the kubelet.
    type: list
    elements: path
    default: []
  decrypt_identity:
    description:
      - Path of a file with identities of C(age), or of a private ssh key without a passphrase, on the host that the
        module runs on. It opens those of O(src) that are encrypted; nothing of them is written to the disk in plain
        text.
    type: path
  image:
    description: Names or IDs of checkpoint images on the host of the service.
    type: list
    elements: str
    default: []
  image_contents:
    description:
      - Read each of O(image) out of the host, and tell what is in it, too. It lies in C(/var/tmp) meanwhile,
        uncompressed and in a file without a name.
    type: bool
    default: false
  environment_values:
    description:
      - Tell the values of the environment variables of O(src) and O(image), too. Passwords are often among them; see to
        C(no_log).
    type: bool
    default: false
  journal:
    description:
      - Directory in which M(ferry.podman.podman_migrate) notes its moves on the host that the module runs on. It is
        read for RV(moves), and need not be there.
    type: path
    default: /var/lib/ferry
  destination:
    description:
      - The libpod socket of a host that the containers might move to, in the form of O(url), seen from the host that
        the module runs on.
      - That host is asked, and nothing on it is changed. To see which files it has, a container is made there from any
        image, never started, and removed.
    type: str
  destination_identity:
    description:
      - Path of the private key for an ssh O(destination).
      - If the key allows forwarding alone, processor, CRIU, free space and ports there are not compared; a finding
        says so.
    type: path
  destination_known_hosts:
    description: Path of a known_hosts file that must hold the destination's host key.
    type: path
extends_documentation_fragment:
  - ferry.podman._connection
  - ferry.podman._attributes
  - ferry.podman._attributes.actiongroup_podman
  - ferry.podman._attributes.info_module
requirements:
  - zstandard, for archives that are compressed with zstd
  - C(age) 1.0 or newer, for O(decrypt_identity)
seealso:
  - module: ferry.podman.podman_checkpoint
  - module: ferry.podman.podman_migrate
  - plugin: ferry.podman.drain_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask what the host can do
  ferry.podman.podman_checkpoint_info:
  register: facts

- name: Stop unless it can checkpoint
  ansible.builtin.assert:
    that: facts.host.can_checkpoint
    fail_msg: "{{ facts.host.findings | map(attribute='message') | join(' ') }}"

- name: Look into an archive
  ferry.podman.podman_checkpoint_info:
    src: [/var/backups/checkpoints/db.tar.zst]
    name: []

- name: Ask whether a container can move, and how long it would stand still
  ferry.podman.podman_checkpoint_info:
    name: [db]
    destination: ssh://root@node2/run/podman/podman.sock
  register: facts

- name: Show what speaks against it
  ansible.builtin.debug:
    msg: "{{ facts.containers[0].findings | rejectattr('severity', 'eq', 'notice') | map(attribute='message') }}"
"""

RETURN = r"""
host:
  description: What the host can do.
  returned: always
  type: dict
  contains:
    can_checkpoint:
      description:
        - Whether nothing was found that forbids checkpoints.
        - That they work is shown by one alone; the role P(ferry.podman.prepare#role) makes it.
      type: bool
      returned: always
    findings:
      description: What forbids them, in the form of the other modules' findings.
      type: list
      elements: dict
      returned: always
    podman_version: {description: Version of the service., type: str, returned: always, sample: 5.4.2}
    arch: {description: Architecture as Go names it., type: str, returned: always, sample: amd64}
    kernel: {description: Version of the kernel., type: str, returned: always}
    distribution: {description: Name and version of the distribution., type: dict, returned: always}
    cgroup_version: {description: V(v1) or V(v2)., type: str, returned: always}
    cgroup_manager: {description: V(systemd) or V(cgroupfs)., type: str, returned: always}
    network_backend: {description: Usually V(netavark)., type: str, returned: always}
    rootless: {description: Whether the service runs without root., type: bool, returned: always}
    selinux_enabled: {description: Whether SELinux is on., type: bool, returned: always}
    apparmor_enabled: {description: Whether AppArmor is on., type: bool, returned: always}
    runtime:
      description: The service's default OCI runtime, the only one that restores from archives and images.
      type: dict
      returned: always
      contains:
        name: {description: V(crun) or V(runc)., type: str, returned: always}
        path: {description: Where it is., type: str, returned: always}
        version: {description: Its version., type: str, returned: always}
        has_criu:
          description: Whether it is built with CRIU; null where it does not tell, as runc.
          type: bool
          returned: always
    criu:
      description: CRIU on this host.
      type: dict
      returned: with a unix O(url)
      contains:
        version: {description: Its version; null if it is not installed., type: str, returned: always, sample: 4.2.1}
        check: {description: Whether C(criu check) passes on the running kernel., type: bool, returned: always}
        check_output: {description: What it said., type: list, elements: str, returned: always}
        mem_track:
          description: Whether memory can be tracked, which pre-copy needs.
          type: bool
          returned: always
    graph_root: {description: Where podman keeps containers., type: str, returned: always}
    graph_root_free:
      description:
        - Free bytes there as podman counts them. What the file system keeps back, as a reserve for root or for others,
          is among them; RV(host.free_space) is what can be written.
      type: int
      returned: always
    temporary_directory:
      description: Where the service spools archives on their way in and out.
      type: str
      returned: always
    free_space:
      description: Bytes that can be written at both places, by path.
      type: dict
      returned: with a unix O(url)
      sample: {"/var/tmp": 20132659200}
    file_systems:
      description: The file systems that both places are on, one entry for both if it is the same.
      type: list
      elements: dict
      returned: with a unix O(url)
      sample: [{"mount": "/", "type": "ext4", "free": 20132659200, "paths": ["/var/tmp", "/srv/containers"]}]
    memory_free: {description: Bytes of memory that nobody uses., type: int, returned: always}
    memory_available:
      description: Bytes of memory that new processes can have; caches make room for them.
      type: int
      returned: with a unix O(url)
containers:
  description: The containers, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the container., type: str, returned: always}
    id: {description: Its full ID., type: str, returned: always}
    image: {description: Name of its image., type: str, returned: always}
    image_id: {description: Full ID of its image., type: str, returned: always}
    status: {description: State as podman names it., type: str, returned: always, sample: running}
    runtime: {description: OCI runtime that it runs with., type: str, returned: always}
    pod: {description: ID of its pod; null if it is in none., type: str, returned: always}
    labels: {description: Its labels., type: dict, returned: always}
    moved_from:
      description: The full ID that it had on the host from which a cold move has brought it; null for others.
      type: str
      returned: always
    volumes: {description: Names of its volumes., type: list, elements: str, returned: always}
    ports:
      description: The ports of its host that it publishes. A container of a pod has those of the pod.
      type: list
      elements: str
      returned: always
      sample: ["0.0.0.0:8080/tcp"]
    networks:
      description: The networks that it is on. A container of a pod is on those of the pod.
      type: list
      elements: dict
      returned: always
      contains:
        name: {description: Name of the network., type: str, returned: always}
        addresses: {description: Its addresses there., type: list, elements: str, returned: always}
        shared:
          description: Whether other hosts can be on the same segment (macvlan, ipvlan), so that addresses move along.
          type: bool
          returned: always
    checkpointed: {description: Whether a checkpoint has stopped it., type: bool, returned: always}
    checkpointed_at: {description: When., type: str, returned: always}
    checkpoint_path:
      description: Directory of the last checkpoint since its last start.
      type: str
      returned: always
    checkpoint_log: {description: CRIU's log of it if it was kept., type: str, returned: always}
    restored: {description: Whether it runs from a checkpoint., type: bool, returned: always}
    restored_at: {description: Since when., type: str, returned: always}
    restore_log: {description: CRIU's log of that if it was kept., type: str, returned: always}
    findings:
      description:
        - Why it could not be checkpointed into an archive now, in the form of the other modules' findings.
        - With O(destination), everything that was found about a move there.
      type: list
      elements: dict
      returned: always
      contains:
        code: {description: Stable name of the reason., type: str, sample: volume_exists}
        severity: {description: 'V(blocker), V(warning) or V(notice).', type: str}
        message: {description: What was found., type: str}
        remedy: {description: What to do about it., type: str}
    estimate:
      description:
        - What a move would carry and take. The container runs on meanwhile and may change.
        - The downtime is that of hosts with quick disks; slower ones take longer.
      type: dict
      returned: with O(destination) or O(estimate)
      contains:
        memory: {description: Bytes of memory., type: int, returned: always}
        files: {description: Bytes of files that the container has made or changed., type: int, returned: always}
        volumes: {description: Bytes of its volumes., type: int, returned: always}
        archive: {description: Bytes that go from one host to the other., type: int, returned: always}
        downtime_ms: {description: Milliseconds for which it would stand still., type: int, returned: always}
archives:
  description: One entry for each of O(src).
  returned: always
  type: list
  elements: dict
  contains:
    src: {description: Path of the archive., type: str, returned: always}
    compression: {description: How it is compressed., type: str, returned: always, sample: zstd}
    encrypted: {description: Whether it is encrypted., type: bool, returned: always}
    size: {description: Bytes of the file., type: int, returned: always}
    engine:
      description: What made it, V(podman), V(cri-o) or V(containerd).
      type: str
      returned: always
      sample: podman
    name: {description: Name of the container., type: str, returned: always}
    id: {description: Its full ID., type: str, returned: always}
    image: {description: Name of its image., type: str, returned: always}
    image_id: {description: Full ID of its image., type: str, returned: always}
    runtime: {description: OCI runtime that restores it., type: str, returned: always}
    created: {description: When the container was made., type: str, returned: always}
    pre_checkpoint: {description: Whether it holds a pre-checkpoint only., type: bool, returned: always}
    needs_previous: {description: Whether it goes together with a pre-checkpoint., type: bool, returned: always}
    processes:
      description: The processes, the first one first.
      type: list
      elements: dict
      returned: always
      sample: [{"command": "redis-server", "pid": 1, "ppid": 0, "threads": 6}]
    sockets:
      description:
        - The sockets that the processes have open. C(protocol) is V(tcp), V(udp), V(udplite) or V(unix), C(state) for
          example V(established) or V(listen), and V(unconnected) where there is none.
        - Unix sockets have a C(path), which begins with C(@) if it is an abstract name. What a socket has not is null.
        - Null if the processes have more files open than are kept in memory (4 MiB of CRIU's C(files.img)).
      type: list
      elements: dict
      returned: always
      sample:
        - protocol: tcp
          state: established
          local_address: 10.99.0.120
          local_port: 6379
          remote_address: 10.99.0.254
          remote_port: 51004
          path: null
    arch:
      description: For which processor it is, as Go names it; null if CRIU's images do not tell.
      type: str
      returned: always
      sample: amd64
    environment:
      description: Names of the environment variables. Their values are in the archive too.
      type: list
      elements: str
      returned: always
      sample: [PATH, POSTGRES_PASSWORD]
    environment_values: {description: The same with their values., type: dict, returned: with O(environment_values)}
    mounts:
      description: What is mounted in the container, with C(source), C(destination) and C(type).
      type: list
      elements: dict
      returned: always
    networks: {description: Names of its networks., type: list, elements: str, returned: always}
    volumes: {description: Names of the volumes whose content is in it., type: list, elements: str, returned: always}
    checkpoint_size: {description: Bytes of CRIU's images., type: int, returned: always}
    rootfs_size: {description: Bytes of the root filesystem's changes., type: int, returned: always}
    volumes_size: {description: Bytes of the volumes' content., type: int, returned: always}
    statistics:
      description: As M(ferry.podman.podman_checkpoint) returns them, times in microseconds.
      type: dict
      returned: always
moves:
  description:
    - Moves that go on or were cut off, as O(journal) has them. One that was cut off is finished or undone when it is
      made again.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the container., type: str, returned: always}
    id: {description: Its full ID., type: str, returned: always}
    destination: {description: URL of the libpod socket that it moves to., type: str, returned: always}
    method: {description: 'V(live) or V(cold).', type: str, returned: always}
    pod: {description: Name of the pod that moves whole; empty if it is none., type: str, returned: always}
    containers:
      description: Names of the containers that move, which are several for a pod.
      type: list
      elements: str
      returned: always
    phase: {description: The phase that has begun., type: str, returned: always, sample: transfer}
    begun: {description: 'When the move began, in seconds since the epoch.', type: float, returned: always}
    sent: {description: Bytes that have gone to the destination., type: int, returned: always}
    expected: {description: Bytes that it is expected to take., type: int, returned: always}
images:
  description:
    - One entry for each of O(image), as RV(ferry.podman.checkpoint_image#module:image). For an image that is no
      checkpoint, C(checkpoint) is empty, and also for one that has lost its annotations on its way, as in a
      docker-archive. O(image_contents) tells the two apart, and O(ferry.podman.checkpoint_image#module:image) gives
      the annotations back.
    - With O(image_contents) there are also C(layout), V(single) or V(layered), and C(contents) with what RV(archives)
      has of each archive but C(src), C(compression) and C(size).
  returned: always
  type: list
  elements: dict
"""

import contextlib
import functools
import os
import typing as t
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents, inspect
from ansible_collections.ferry.podman.plugins.module_utils._assess import Assessment, MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._encryption import sealed
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._estimate import estimate
from ansible_collections.ferry.podman.plugins.module_utils._guard import can_be_guarded
from ansible_collections.ferry.podman.plugins.module_utils._host import process_facts
from ansible_collections.ferry.podman.plugins.module_utils._image import LAYERED, SINGLE
from ansible_collections.ferry.podman.plugins.module_utils._journal import entries
from ansible_collections.ferry.podman.plugins.module_utils._kubelet import (
    CONTAINERD,
    kind_of,
    look_at,
    readable,
)
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, HostInfo, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._lint import NO_LIMITS, ROOTFS_DIFF, Limits
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule
from ansible_collections.ferry.podman.plugins.module_utils._recreate import ORIGIN
from ansible_collections.ferry.podman.plugins.module_utils._registry import private_file
from ansible_collections.ferry.podman.plugins.module_utils._source import Source
from ansible_collections.ferry.podman.plugins.module_utils._spec import environment, mounts
from ansible_collections.ferry.podman.plugins.module_utils._stored import Stored
from ansible_collections.ferry.podman.plugins.module_utils._streams import Chunks
from ansible_collections.ferry.podman.plugins.module_utils._unbuild import Exported


def describe_host(module: FerryModule, client: LibpodClient, info: HostInfo) -> dict:
    findings = list(_compat.host_findings(info))
    host = info.summary()
    if client.transport.is_local:
        host["criu"] = module.local_host.criu()
        host["free_space"] = module.local_host.free_space(info)
        host["file_systems"] = module.local_host.file_systems(info)
        host["memory_available"] = module.local_host.memory()
        findings += _compat.criu_findings(host["criu"])
    host["findings"] = [finding.as_dict() for finding in findings]
    host["can_checkpoint"] = not any(finding.severity == "blocker" for finding in findings)
    return host


def describe_containers(client: LibpodClient, info: HostInfo, params: dict, there: Side | None) -> list[dict]:
    names = params["name"]
    containers = list(client.each_container()) if names is None else [client.container(name) for name in names]
    here = Side(client, info)
    described = []
    networks = functools.lru_cache(maxsize=None)(client.network)
    for container in sorted(containers, key=lambda c: c.name):
        facts = describe_container(container, here, there)
        if params["estimate"] and there is None:
            facts["estimate"] = estimate(client, container, process_facts(client, container)).as_dict()
        facts["moved_from"] = container.annotations.get(ORIGIN)
        described.append({**facts, "networks": describe_networks(container, networks)})
    return described


def describe_networks(container: Container, network: t.Callable[[str], dict | None]) -> list[dict]:
    found = []
    for name, settings in sorted(container.joined_networks.items()):
        addresses = [settings[key] for key in ("IPAddress", "GlobalIPv6Address") if settings.get(key)]
        found.append({"name": name, "addresses": addresses, "shared": can_be_guarded(network(name) or {})})
    return found


def describe_container(container: Container, here: Side, there: Side | None) -> dict:
    if there is not None:
        return {**container.summary(), **describe_move(Assessment(here, there, container, MoveRequest()))}
    findings = _compat.checkpoint_findings(
        container, here.host, exports=True, creates_image=False, pre_checkpoint=False
    )
    return {**container.summary(), "findings": [finding.as_dict() for finding in findings]}


def describe_move(assessment: Assessment) -> dict:
    findings = [finding.as_dict() for finding in assessment.findings()]
    return {"findings": findings, "estimate": assessment.estimate.as_dict()}


def describe_archive(path: str, limits: Limits, values: bool, identity: str | None = None) -> dict:
    with Source(path, identity) as source:
        contents = read(source, NO_LIMITS, limits)
        described = {"src": path, "compression": source.compression, "encrypted": source.encrypted}
        described["size"] = os.path.getsize(path)
    return {**described, **describe_contents(contents, values)}


def read(source: Source | Exported, limits: Limits, spooled: Limits) -> Contents:
    """Look into an archive, whoever made it; it is held against what one of podman may hold.

    :param spooled: the same for one whose changes must be written to a file to be read.
    """
    with source.stream() as begin:
        kind = look_at(begin, limits).kind
    with source.stream() as archive:
        if kind != CONTAINERD:
            return inspect(archive, limits)
        encrypted = isinstance(source, Source) and source.encrypted
        with private_file("/var/tmp") as file, contextlib.closing(sealed(file) if encrypted else file) as spool:
            return inspect(Chunks(readable(archive, spool, spooled)), spooled)


def describe_contents(contents: Contents, values: bool) -> dict:
    subject = _compat.Subject.from_archive(contents)
    spec = contents.documents["spec.dump"]
    variables = environment(spec)
    return {
        "engine": kind_of(contents.sizes, contents.config),
        "name": subject.name,
        "id": subject.id,
        "image": subject.image,
        "image_id": subject.image_id,
        "runtime": subject.runtime,
        "created": contents.config.get("createdTime"),
        "pre_checkpoint": contents.is_pre_checkpoint,
        "needs_previous": contents.needs_previous,
        "processes": contents.processes,
        "sockets": contents.sockets,
        "arch": contents.architecture,
        "environment": list(variables),
        **({"environment_values": variables} if values else {}),
        "mounts": mounts(spec),
        "networks": subject.networks,
        "volumes": contents.volumes,
        "checkpoint_size": contents.size_of("checkpoint/") + contents.size_of("pre-checkpoint/"),
        "rootfs_size": contents.size_of(ROOTFS_DIFF),
        "volumes_size": contents.size_of("volumes/"),
        "statistics": contents.statistics,
    }


def describe_image(module: FerryModule, client: LibpodClient, name: str, limits: Limits) -> dict:
    raw = client.image(name)
    if raw is None:
        raise FerryError(f"There is no image {name} on this host.", remedy="Pull or load it first.")
    stored = Stored(raw)
    if not module.params["image_contents"]:
        return stored.summary()
    try:
        with Exported(client, stored, limits, "/var/tmp") as image:
            layout = LAYERED if image.is_layered else SINGLE
            contents = describe_contents(read(image, limits, limits), module.params["environment_values"])
    except ArchiveError as error:
        if stored.is_checkpoint:
            raise
        raise FerryError(f"This is no checkpoint image: {error}", remedy="Leave out image_contents.") from error
    return {**stored.summary(), "layout": layout, "contents": contents}


def noted_moves(directory: str) -> list[dict]:
    keys = ("name", "id", "destination", "phase", "begun", "sent", "expected", "method", "pod")
    return [
        {**{key: getattr(entry, key) for key in keys}, "containers": list(entry.members.values()) or [entry.name]}
        for entry in entries(directory)
    ]


def inform(module: FerryModule) -> None:
    module.result["moves"] = noted_moves(module.params["journal"])
    values, identity = module.params["environment_values"], module.params["decrypt_identity"]
    with module.client() as client, destination(module) as there:
        info = client.info()
        limits = Limits(size=info.graph_root_size)
        module.result["archives"] = [describe_archive(path, limits, values, identity) for path in module.params["src"]]
        module.result["images"] = [describe_image(module, client, name, limits) for name in module.params["image"]]
        module.result["host"] = describe_host(module, client, info)
        module.result["containers"] = describe_containers(client, info, module.params, there)


@contextlib.contextmanager
def destination(module: FerryModule) -> Iterator[Side | None]:
    params = module.params
    if params["destination"] is None:
        yield None
        return
    identity, known_hosts = params["destination_identity"], params["destination_known_hosts"]
    with module.connect(params["destination"], identity, known_hosts) as client:
        yield Side.of(client)


def main() -> None:
    FerryModule(
        argument_spec={
            "name": {"type": "list", "elements": "str"},
            "estimate": {"type": "bool", "default": False},
            "src": {"type": "list", "elements": "path", "default": []},
            "image": {"type": "list", "elements": "str", "default": []},
            "image_contents": {"type": "bool", "default": False},
            "decrypt_identity": {"type": "path"},
            "environment_values": {"type": "bool", "default": False, "no_log": False},
            "journal": {"type": "path", "default": "/var/lib/ferry"},
            "destination": {"type": "str"},
            "destination_identity": {"type": "path"},
            "destination_known_hosts": {"type": "path"},
        },
    ).run(inform)


if __name__ == "__main__":
    main()
