#!/usr/bin/python
# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: podman_restore
short_description: Restore Podman containers from checkpoints
version_added: 0.1.0
author: the ferry.podman contributors (@ferry-podman)
description:
  - Has containers run again from the very moment of their checkpoint, through Podman's API socket.
  - The checkpoint is in place, in an archive, or in an image. From an archive or an image any number of containers
    can be made.
  - An archive is read to its end and compared with the host before Podman sees a byte of it. Every reason against
    it is given at once and nothing is touched.
  - When a restore fails later, the half-made container and the volumes that it brought are removed again.
  - Podman unpacks an archive as root and follows the links in it. So archives with links, devices, names that lead
    out of it, members that no checkpoint has, or headers that two programs would read differently, in the archive
    itself or in the tars inside, are always refused.
options:
  name:
    description:
      - Names or IDs of stopped containers to restore from the checkpoint in their own directory. Nothing is done for an
        empty list.
      - One of O(name), O(all), O(latest), O(src) and O(image) is required.
    type: list
    elements: str
  all:
    description:
      - Restore every container that a checkpoint has stopped.
      - C(podman container restore --all) tries all stopped ones; those without a checkpoint are left alone here.
      - After a reboot podman does not know any more which ones these are; give their names then.
    type: bool
    default: false
  latest:
    description: Restore the container that was created last.
    type: bool
    default: false
  src:
    description:
      - Path of a checkpoint archive on the host that the module runs on, compressed with zstd, gzip, bzip2, xz or
        not at all.
      - An archive is a program with its memory. Restore only those that you or someone whom you trust has made; with
        O(allowed_signers), that is verified. Neither the check of the archive's form nor O(policy) makes an archive
        harmless whose maker is not; they stop what has no business in one.
    type: path
    aliases: [import]
  image:
    description:
      - Name or ID of a checkpoint image on the host of the service, in any layout of
        M(ferry.podman.checkpoint_image). It is not pulled.
      - The image that the container was made from must be on the host too, with the same ID, also for the layout
        C(single). Where it has lost its name, it gets that again, because podman asks for it by name.
      - It is read to its end as an archive is, before it is restored, and restored as one, with address and log. It
        needs no annotations for that. C(podman container restore) restores neither from an image.
    type: str
  new_name:
    description:
      - Names of the containers to make from O(src) or O(image), one for each; they get new IDs and addresses. Where the
        container had a fixed address, that needs O(ignore_static_ip=true).
      - Without it, one container with its old name and its old ID.
      - Several can share no volumes, so those need O(ignore_volumes=true) if the container has any.
    type: list
    elements: str
  previous:
    description:
      - Path of the archive that was made with O(ferry.podman.podman_checkpoint#module:pre_checkpoint), which an
        archive made with O(ferry.podman.podman_checkpoint#module:with_previous) needs.
      - The two are given to Podman as one.
    type: path
    aliases: [import_previous]
  keep:
    description: Keep the checkpoint and CRIU's logs on the host, so that it can be restored again.
    type: bool
    default: false
  tcp_established:
    description:
      - Restore established TCP connections. The checkpoint must have been made with them, and the container must get
        its old address, so not with O(new_name).
    type: bool
    default: false
  tcp_close:
    description:
      - Restore with TCP connections closed.
      - Needs podman >= 5.7 and crun >= 1.23.
    type: bool
    default: false
  ignore_rootfs:
    description: Do not apply the changes of the root filesystem. Only with O(src) or O(image).
    type: bool
    default: false
  ignore_volumes:
    description:
      - Do not restore the content of volumes; those of the same name on the host are used as they are.
      - Only with O(src) or O(image).
    type: bool
    default: false
  ignore_static_ip:
    description: Let the container get another IP address than the one it had.
    type: bool
    default: false
  ignore_static_mac:
    description: Let the container get another MAC address than the one it had.
    type: bool
    default: false
  file_locks:
    description: Restore file locks. The checkpoint must have been made with them.
    type: bool
    default: false
  publish:
    description:
      - Ports to publish instead of those that the container had, each as C([[ip:]hostPort:]containerPort[/protocol]).
      - Only with O(src) or O(image).
    type: list
    elements: str
  pod:
    description:
      - Name or ID of the pod that the container is put into. It must share the namespaces that the old one shared.
      - Only with O(src) or O(image), and only for containers that were in a pod.
    type: str
  policy:
    description:
      - What the checkpoint may ask of the host, by its C(spec.dump) and C(config.dump). Anything beyond is refused.
      - Without this option everything is allowed, and what would not be by an empty policy is among RV(findings), as
        notices.
      - An empty policy, C({}), allows what every container of podman has.
      - Only with O(src) or O(image).
    type: dict
    suboptions:
      privileged:
        description: A privileged container, with its capabilities and devices, without seccomp and LSM.
        type: bool
        default: false
      host_namespaces:
        description: Namespaces of the host that it may use.
        type: list
        elements: str
        choices: [pid, network, ipc, uts, mount, cgroup]
        default: []
      bind_mounts:
        description: Paths of the host that it may mount, and everything below them. Its volumes need not be named.
        type: list
        elements: str
        default: []
      devices:
        description: Devices of the host that it may have, such as V(/dev/fuse), and names of CDI devices.
        type: list
        elements: str
        default: []
      device_nodes:
        description: Whether device nodes may be among its files and in its volumes.
        type: bool
        default: false
      capabilities:
        description: The capabilities that it may have, with or without C(CAP_). By default those that podman gives.
        type: list
        elements: str
      unconfined:
        description: Whether it may run without seccomp, and without AppArmor or SELinux where the host has them.
        type: bool
        default: false
      hooks:
        description: Paths of OCI hooks that it may have. These are programs that run on the host.
        type: list
        elements: str
        default: []
      annotations:
        description:
          - Annotations that it may have of those that OCI runtimes act upon, which are C(org.criu.*), C(cdi.k8s.io/*),
            C(run.oci.*) and C(org.systemd.property.*).
        type: list
        elements: str
        default: []
      secrets:
        description: Secrets of the host that it may get.
        type: list
        elements: str
        default: []
      no_new_privileges:
        description: Whether it must have been made with C(--security-opt no-new-privileges).
        type: bool
        default: false
  allowed_signers:
    description:
      - Path of a file of allowed signers, as in C(ssh-keygen(1\)), on the host that the module runs on.
      - The archive must have been signed by one of them, see O(ferry.podman.podman_checkpoint#module:sign_key), and
        be what was signed. It is refused otherwise, before Podman sees a byte of it. The same goes for O(previous).
      - A signature tells who made the archive, not which of that one's archives it is; compare RV(containers[].name).
      - Only with O(src).
    type: path
  signer:
    description: The one in O(allowed_signers) who must have signed it. By default any of them.
    type: str
  decrypt_identity:
    description:
      - Path of a file with identities of C(age), or of a private ssh key without a passphrase, on the host that the
        module runs on. It opens O(src) and O(previous) where they are encrypted, see
        O(ferry.podman.podman_checkpoint#module:encrypt_to).
      - They are decrypted by C(age) while they are read, and not written to the disk. Podman spools what it gets, and
        unpacks it, as with every archive.
      - Whoever knows the recipients can encrypt to them. To know who made the archive, use O(allowed_signers).
    type: path
  max_size:
    description:
      - How large the archive may be when it is unpacked, as in V(20G).
      - By default as large as the file system where podman keeps containers, and for an archive that is to be
        restored now, as the space that is free there.
    type: str
  max_members:
    description: How many members the archive may have, without those of the tars inside.
    type: int
    default: 100000
  directory:
    description:
      - Where O(image) lies meanwhile, uncompressed, on the host that the module runs on, in a file without a name.
    type: path
    default: /var/tmp
extends_documentation_fragment:
  - ferry.podman._connection
  - ferry.podman._attributes
  - ferry.podman._attributes.actiongroup_podman
attributes:
  check_mode:
    support: full
    details:
      - Archives are read and everything is compared, as without it.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - In place, the state is there already when the container runs.
      - With O(src), it is when the container with the ID in the archive runs, or for O(new_name), when a container of
        that name runs that was restored and has the same image. With O(image), when a restored container of the name
        runs that has the same image.
requirements:
  - zstandard, for archives that are compressed with zstd
  - C(ssh-keygen) of OpenSSH 8.2 or newer, for O(allowed_signers)
  - C(age) 1.0 or newer, for O(decrypt_identity)
seealso:
  - module: ferry.podman.podman_checkpoint
  - name: podman-container-restore
    description: The command with the same options.
    link: https://docs.podman.io/en/latest/markdown/podman-container-restore.1.html
"""

EXAMPLES = r"""
- name: Have a container go on after a reboot
  ferry.podman.podman_restore:
    name: web
    tcp_established: true

- name: Bring a database back from its archive
  ferry.podman.podman_restore:
    src: /var/backups/checkpoints/db.tar.zst
    tcp_established: true
    file_locks: true

- name: Start three warmed-up copies of a service
  ferry.podman.podman_restore:
    image: registry.example.com/warm/app:1
    new_name: [app1, app2, app3]

- name: Restore what somebody else has made, and nothing that asks for more than a web server needs
  ferry.podman.podman_restore:
    src: /srv/incoming/web.tar.zst
    allowed_signers: /etc/ferry/allowed_signers
    signer: build@example.com
    policy:
      bind_mounts: [/srv/www]
      capabilities: [NET_BIND_SERVICE, SETUID, SETGID, CHOWN]

- name: Restore from an archive that is encrypted
  ferry.podman.podman_restore:
    src: /var/backups/checkpoints/db.tar.zst.age
    decrypt_identity: /root/checkpoints.key

- name: Restore a copy on another port
  ferry.podman.podman_restore:
    src: /var/backups/checkpoints/web.tar.zst
    new_name: web-test
    publish: ["8081:80"]
"""

RETURN = r"""
containers:
  description: One entry for each container, in the order given.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
      returned: success
      sample: db
    id:
      description: Its full ID.
      type: str
      returned: success, but not for new names in check mode
    image:
      description: Name of the image that it was made from.
      type: str
      returned: success
    image_id:
      description: Full ID of that image.
      type: str
      returned: success
    changed:
      description: Whether this container was restored now.
      type: bool
      returned: success
    statistics:
      description:
        - CRIU's figures of the restore.
        - C(forking_time) and C(restore_time) are microseconds; C(pages_compared), C(pages_skipped_cow) and
          C(pages_restored) are pages of memory.
      type: dict
      returned: when it was restored now
      sample: {"forking_time": 2034, "restore_time": 81422, "pages_restored": 2511}
    runtime_restore_duration:
      description: Microseconds that the OCI runtime took.
      type: int
      returned: when it was restored now
signed_by:
  description: Who has signed the archive, as O(allowed_signers) names it.
  returned: with O(allowed_signers), when it was restored or would be
  type: str
  sample: build@example.com
findings:
  description: Why it was refused, or what was found besides. See the table of findings in the documentation.
  returned: when there are any
  type: list
  elements: dict
  contains:
    code: {description: Stable name of the reason., type: str, sample: image_absent}
    severity: {description: 'V(blocker), V(warning) or V(notice).', type: str}
    message: {description: What was found., type: str}
    remedy: {description: What to do about it., type: str}
criu_log:
  description: The lines of CRIU's log that say why the restore failed.
  returned: when CRIU failed
  type: list
  elements: str
"""

from collections.abc import Callable

from ansible.module_utils.common.text.formatters import human_to_bytes

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo, LibpodClient, RestoreOptions
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule, select_containers
from ansible_collections.ferry.podman.plugins.module_utils._policy import Policy, policy_findings, size_findings
from ansible_collections.ferry.podman.plugins.module_utils._restore import Restorer, image_subject
from ansible_collections.ferry.podman.plugins.module_utils._safekeeping import find_hold
from ansible_collections.ferry.podman.plugins.module_utils._source import Archive
from ansible_collections.ferry.podman.plugins.module_utils._stored import Stored
from ansible_collections.ferry.podman.plugins.module_utils._unbuild import Exported

ELSEWHERE_ONLY = ("new_name", "publish", "pod", "ignore_rootfs", "ignore_volumes", "policy")


def check_options(params: dict) -> None:
    """What the command line refuses."""
    if params["src"] is None and params["image"] is None:
        misplaced = [option for option in ELSEWHERE_ONLY if params[option]]
        if misplaced:
            raise FerryError(f"{', '.join(misplaced)}: only with src or image; a restore in place changes nothing.")
    if params["new_name"] and len(set(params["new_name"])) < len(params["new_name"]):
        raise FerryError(f"new_name has a name twice: {', '.join(params['new_name'])}.")
    if params["max_members"] < 1:
        raise FerryError(f"max_members is {params['max_members']}; it must be 1 or more.")


def restorer_for(client: LibpodClient, params: dict) -> Restorer:
    names = (
        "keep",
        "tcp_established",
        "tcp_close",
        "ignore_rootfs",
        "ignore_volumes",
        "ignore_static_ip",
        "ignore_static_mac",
        "file_locks",
        "pod",
    )
    options = RestoreOptions(**{name: params[name] for name in names}, publish=params["publish"] or [])
    request = _compat.RestoreRequest(
        new_names=params["new_name"] or [], ignore_volumes=params["ignore_volumes"], pod=params["pod"]
    )
    client.check_supported(options.query())
    return Restorer(client, client.info(), options, request)


def restore(module: FerryModule) -> None:
    check_options(module.params)
    with module.client() as client:
        restorer = restorer_for(client, module.params)
        if module.params["src"] is not None:
            restore_from_archive(module, restorer)
        elif module.params["image"] is not None:
            restore_from_image(module, restorer)
        else:
            restore_in_place(module, restorer)


def restore_in_place(module: FerryModule, restorer: Restorer) -> None:
    names = select_containers(restorer.client, module.params, lambda container: container.checkpointed)
    containers = [restorer.client.container(name) for name in names]
    stopped = [container for container in containers if not container.running]
    findings = [finding for container in stopped for finding in restorer.local_findings(container)]
    module.warn(_compat.refuse_blockers(f"Restoring {', '.join(names)}", findings))
    steps = []
    for container in containers:
        is_settled = container.running and find_hold(restorer.client, container) is None
        action = None if is_settled else (lambda c=container: restorer.restore_local(c))
        steps.append((known(container), action))
    carry_out(module, steps)


def limits_for(params: dict, host: HostInfo) -> Limits:
    size = host.graph_root_size
    if params["max_size"] is not None:
        try:
            size = human_to_bytes(params["max_size"])
        except ValueError as error:
            raise FerryError(f"max_size is no size: {error}") from error
    return Limits(size=size, members=params["max_members"])


def policy_for(params: dict) -> Policy | None:
    if params["policy"] is None:
        return None
    given = {name: value for name, value in params["policy"].items() if value is not None}
    return Policy.of(given)


def restore_from_archive(module: FerryModule, restorer: Restorer) -> None:
    params = module.params
    limits = limits_for(params, restorer.host)
    with Archive(params["src"], params["previous"], params["decrypt_identity"]) as archive:
        contents = inspected(archive, limits, params)
        if archive.signed_by is not None:
            module.result["signed_by"] = archive.signed_by
        subject = _compat.Subject.from_archive(contents)
        restore_copies(
            module,
            restorer,
            contents,
            f"Restoring {params['src']}",
            lambda name: archive.restore(restorer, subject, name, limits),
        )


def inspected(archive: Archive, limits: Limits, params: dict) -> Contents:
    """:raises Refused: if it is not as podman writes it because another engine did."""
    try:
        return archive.inspect(limits, params["allowed_signers"], params["signer"])
    except ArchiveError:
        _compat.refuse_blockers(f"Restoring {params['src']}", _compat.foreign_findings(archive.kind(limits)))
        raise


def restore_from_image(module: FerryModule, restorer: Restorer) -> None:
    raw = restorer.client.image(module.params["image"])
    if raw is None:
        raise FerryError(f"There is no image {module.params['image']} on this host.", remedy="Pull or load it first.")
    doing = f"Restoring {module.params['image']}"
    wanted = module.params["new_name"] or [None]
    running = running_copies(restorer, image_subject(raw, restorer.host), wanted)
    if len(running) == len(wanted):
        carry_out(module, [(running[name], None) for name in wanted])
        return
    criu = module.local_host.criu()["version"] if restorer.client.transport.is_local else None
    told = _compat.refuse_blockers(doing, restorer.image_findings(raw, criu))
    limits = limits_for(module.params, restorer.host)
    with Exported(restorer.client, Stored(raw), limits, module.params["directory"]) as image:
        contents = looked_into(image, limits, doing)
        subject = _compat.Subject.from_archive(contents)
        restore_copies(module, restorer, contents, doing, lambda name: image.restore(restorer, subject, name), told)


def looked_into(image: Exported, limits: Limits, doing: str) -> Contents:
    """:raises Refused: if it is no checkpoint, and does not say that it is one."""
    try:
        return image.inspect(limits)
    except ArchiveError as error:
        if not image.stored.is_checkpoint:
            _compat.refuse_blockers(doing, _compat.no_checkpoint_findings(str(error)))
        raise


def restore_copies(
    module: FerryModule,
    restorer: Restorer,
    contents: Contents,
    doing: str,
    restore_one: Callable[[str], dict],
    told: list | None = None,
) -> None:
    """Restore those of the wanted containers that do not run, if nothing is against it.

    :param told: findings so far.
    """
    params = module.params
    subject = _compat.Subject.from_archive(contents)
    wanted = params["new_name"] or [None]
    running = running_copies(restorer, subject, wanted)
    missing = [name for name in wanted if name not in running]
    if missing:
        narrowed = restorer.narrowed(params["new_name"] and missing)
        findings = [*(told or []), *narrowed.archive_findings(contents, has_previous=params["previous"] is not None)]
        if params["max_size"] is None:
            findings += size_findings(contents, restorer.host)
        refused_or_noted(module, doing, findings, policy_findings(contents, restorer.host, policy_for(params)))
    steps = []
    for name in wanted:
        action = None if name in running else (lambda n=name: restore_one(n))
        steps.append((running.get(name) or expected(subject, name), action))
    carry_out(module, steps)


def refused_or_noted(module: FerryModule, doing: str, findings: list, asked: list) -> None:
    """What a checkpoint asks for is no warning where no policy forbids it: many ask for something."""
    _compat.refuse_blockers(doing, findings + [finding for finding in asked if finding.severity == "blocker"])
    module.warn(findings)
    if asked:
        module.result["findings"] = [finding.as_dict() for finding in asked]


def running_copies(restorer: Restorer, subject: _compat.Subject, wanted: list) -> dict:
    """Of the containers that are wanted, those that run already."""
    found = {}
    for name in wanted:
        known_by = name or subject.id or subject.name
        # An image that is no checkpoint names no container.
        container = restorer.client.find_container(known_by) if known_by else None
        if container is None or not container.running:
            continue
        is_copy = container.restored and container.image_id == subject.image_id
        if (name is None and container.id == subject.id) or ((name or not subject.id) and is_copy):
            found[name] = known(container)
    return found


def known(container) -> dict:
    return {
        "name": container.name,
        "id": container.id,
        "image": container.image,
        "image_id": container.image_id,
        "status": container.status,
    }


def expected(subject: _compat.Subject, new_name: str) -> dict:
    """What check mode can say of a container that is not there yet."""
    container = {
        "name": new_name or subject.name,
        "image": subject.image,
        "image_id": subject.image_id,
        "status": "absent",
    }
    return container if new_name or not subject.id else {**container, "id": subject.id}


def carry_out(module: FerryModule, steps: list) -> None:
    """Do what there is to do; in check mode, say so."""
    results: list[dict] = []
    module.result["containers"] = results
    before = {state["name"]: {"status": state["status"]} for state, _action in steps}
    module.show_difference(before, {name: {"status": "running"} for name in before})
    for state, action in steps:
        described = {key: value for key, value in state.items() if key != "status"}
        if action is not None and not module.check_mode:
            described = action()
            found = described.pop("findings", [])
            module.warn_of(found)
            module.result["findings"] = module.result.get("findings", []) + found
        results.append({**described, "changed": action is not None})
        # One by one: if a later one fails, this tells of those before it.
        module.result["changed"] = module.result["changed"] or action is not None


def main() -> None:
    FerryModule(
        argument_spec={
            "name": {"type": "list", "elements": "str"},
            "all": {"type": "bool", "default": False},
            "latest": {"type": "bool", "default": False},
            "src": {"type": "path", "aliases": ["import"]},
            "image": {"type": "str"},
            "new_name": {"type": "list", "elements": "str"},
            "previous": {"type": "path", "aliases": ["import_previous"]},
            "keep": {"type": "bool", "default": False},
            "tcp_established": {"type": "bool", "default": False},
            "tcp_close": {"type": "bool", "default": False},
            "ignore_rootfs": {"type": "bool", "default": False},
            "ignore_volumes": {"type": "bool", "default": False},
            "ignore_static_ip": {"type": "bool", "default": False},
            "ignore_static_mac": {"type": "bool", "default": False},
            "file_locks": {"type": "bool", "default": False},
            "publish": {"type": "list", "elements": "str"},
            "pod": {"type": "str"},
            "policy": {
                "type": "dict",
                "options": {
                    "privileged": {"type": "bool", "default": False},
                    "host_namespaces": {
                        "type": "list",
                        "elements": "str",
                        "choices": ["pid", "network", "ipc", "uts", "mount", "cgroup"],
                        "default": [],
                    },
                    "bind_mounts": {"type": "list", "elements": "str", "default": []},
                    "devices": {"type": "list", "elements": "str", "default": []},
                    "device_nodes": {"type": "bool", "default": False},
                    "capabilities": {"type": "list", "elements": "str"},
                    "unconfined": {"type": "bool", "default": False},
                    "hooks": {"type": "list", "elements": "str", "default": []},
                    "annotations": {"type": "list", "elements": "str", "default": []},
                    "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
                    "no_new_privileges": {"type": "bool", "default": False},
                },
            },
            "allowed_signers": {"type": "path"},
            "signer": {"type": "str"},
            "decrypt_identity": {"type": "path"},
            "max_size": {"type": "str"},
            "max_members": {"type": "int", "default": 100000},
            "directory": {"type": "path", "default": "/var/tmp"},
        },
        mutually_exclusive=[
            ("name", "all", "latest", "src", "image"),
            ("new_name", "tcp_established"),
            ("tcp_established", "tcp_close"),
        ],
        required_by={
            "previous": "src",
            "allowed_signers": "src",
            "signer": "allowed_signers",
            "decrypt_identity": "src",
        },
    ).run(restore)


if __name__ == "__main__":
    main()
