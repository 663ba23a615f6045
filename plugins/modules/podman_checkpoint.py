#!/usr/bin/python
# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: podman_checkpoint
short_description: Checkpoint running Podman containers
version_added: 0.1.0
author: the ferry.podman contributors (@ferry-podman)
description:
  - Freezes running containers with CRIU, with all their memory, through Podman's API socket.
  - The checkpoint stays in place for M(ferry.podman.podman_restore), or becomes an archive or an image that can be
    restored on another host.
  - Everything that would make it fail for reasons that can be seen beforehand is refused before anything is touched,
    with every reason at once.
  - When a checkpoint fails later, for example because a disk is full, the container is brought back from the same
    memory, and the message says so.
  - Files of the image that the container has modified are in the archive. Podman's own export leaves them out,
    without a message, unless the host happens to have a file of the same path.
options:
  name:
    description:
      - Names or IDs of the containers. Nothing is done for an empty list.
      - One of O(name), O(all) and O(latest) is required.
    type: list
    elements: str
  all:
    description: Checkpoint every running container.
    type: bool
    default: false
  latest:
    description: Checkpoint the container that was created last.
    type: bool
    default: false
  dest:
    description:
      - Path of the archive on the host that the module runs on, which must be in an existing directory.
      - If it is a directory, or ends with a slash, each container gets a file C(NAME.tar.zst) in it, C(.tar.gz) or
        C(.tar) by O(compress), and C(.age) behind that where it is encrypted. With several containers it must be that.
      - The archive is written beside its name, checked to be whole, and then moved into place, with mode C(0600).
      - It holds the container's memory, and so its passwords and keys. See O(encrypt_to).
    type: path
    aliases: [export]
  create_image:
    description:
      - Make a checkpoint image of this name on the host of the service.
      - Podman builds it, and leaves out modified files of the image that the host has no file of the same path for;
        a container with such files is refused, and O(dest) takes it.
      - Owner and mode of modified directories are not in such an image.
      - If building the image fails, podman starts a container with a restart policy afresh. O(dest) has no such risk.
    type: str
  compress:
    description:
      - Compression of the archive. The API delivers none; this is done by the module while it receives.
      - V(zstd) needs the Python library zstandard on the host that the module runs on.
    type: str
    choices: [zstd, gzip, none]
    default: zstd
  compress_level:
    description:
      - How hard to compress, from 1 to 19 for V(zstd) and from 1 to 9 for V(gzip).
      - By default 3 for V(zstd) and 6 for V(gzip).
    type: int
  keep:
    description: Keep CRIU's log and statistics beside the checkpoint on the host.
    type: bool
    default: false
  leave_running:
    description:
      - Leave the container running. It goes on while its files are archived, so files that it writes meanwhile can be
        newer in the archive than its memory.
      - Every run makes a new checkpoint then.
    type: bool
    default: false
  tcp_established:
    description: Include established TCP connections. Without it, a container that has any cannot be checkpointed.
    type: bool
    default: false
  ignore_rootfs:
    description: Leave the changes of the root filesystem out. Only with O(dest) or O(create_image).
    type: bool
    default: false
  ignore_volumes:
    description:
      - Leave the content of volumes out. Only with O(dest).
      - Such an archive must be restored with O(ferry.podman.podman_restore#module:ignore_volumes) too.
    type: bool
    default: false
  pre_checkpoint:
    description:
      - Only write the memory out and leave the container running, so that a checkpoint with O(with_previous) has
        less to write. Every run does so anew.
      - The kernel must track memory, see RV(ferry.podman.podman_checkpoint_info#module:host.criu.mem_track).
    type: bool
    default: false
  with_previous:
    description:
      - Write only the memory that changed since the checkpoint with O(pre_checkpoint).
      - Restoring an archive of it needs the archive of that one as
        O(ferry.podman.podman_restore#module:previous).
    type: bool
    default: false
  file_locks:
    description: Include file locks. Without it, a container that holds any cannot be checkpointed.
    type: bool
    default: false
  sign_key:
    description:
      - Path of an ssh key on the host that the module runs on, to sign the archive with. Only with O(dest).
      - It is a private key without a passphrase, or a public key whose private one C(ssh-agent) holds. It is tried
        before anything is touched.
      - Beside the archive there are then C(ARCHIVE.manifest), with SHA-256, size and name of each member, and
        C(ARCHIVE.manifest.sig), which C(ssh-keygen -Y sign) has made in the namespace C(checkpoint@ferry.podman).
        Bring both along with the archive.
      - M(ferry.podman.podman_restore) verifies them with O(ferry.podman.podman_restore#module:allowed_signers).
    type: path
  encrypt_to:
    description:
      - Encrypt the archive with the program C(age) to these, each an C(age1...) or a public ssh key as in a C(.pub)
        file. Only with O(dest).
      - It is encrypted on its way to the disk, compressed before. Any one of the recipients can read it, and this host
        cannot unless it has an identity of one. They are tried before anything is touched.
      - Podman's own copies on the host are not encrypted. It spools the archive for a moment where
        RV(ferry.podman.podman_checkpoint_info#module:host.temporary_directory) tells, and keeps the checkpoint with
        the container until that is removed or runs again.
      - Beside the archive there is then C(ARCHIVE.about) with the archive's digest, CRIU's figures, and the names and
        IDs of container and image, so that a later run knows what it is. It is not encrypted, and neither is the list
        of O(sign_key).
      - M(ferry.podman.podman_restore) reads it with O(ferry.podman.podman_restore#module:decrypt_identity).
    type: list
    elements: str
  encrypt_recipients_file:
    description:
      - Path of a file with recipients, one per line, on the host that the module runs on. They are added to those of
        O(encrypt_to). Only with O(dest).
    type: path
  retries:
    description:
      - How many more times to try when the dump failed because a client was connecting at that very moment. The
        container runs on meanwhile.
      - CRIU's C(skip-in-flight), which the role P(ferry.podman.prepare#role) sets, makes this rare.
    type: int
    default: 3
extends_documentation_fragment:
  - ferry.podman._connection
  - ferry.podman._attributes
  - ferry.podman._attributes.actiongroup_podman
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - The state is there already, and nothing changes, when a checkpoint has stopped the container and nobody
        started it since. With O(dest) the file there must be a whole checkpoint of this very container, which may be
        gone by then; where it is encrypted, the file C(.about) beside it and the digest in that must say so. It is not
        seen to whom it is encrypted. With O(create_image) the image must be a checkpoint of a container of that name.
      - O(leave_running) and O(pre_checkpoint) leave the container running, so every run makes a new checkpoint.
requirements:
  - zstandard, for O(compress=zstd)
  - C(ssh-keygen) of OpenSSH 8.2 or newer, for O(sign_key)
  - C(age) 1.0 or newer, for O(encrypt_to) and O(encrypt_recipients_file)
seealso:
  - module: ferry.podman.podman_restore
  - module: ferry.podman.podman_checkpoint_info
  - name: podman-container-checkpoint
    description: The command with the same options.
    link: https://docs.podman.io/en/latest/markdown/podman-container-checkpoint.1.html
"""

EXAMPLES = r"""
- name: Freeze a container in place, before a reboot
  ferry.podman.podman_checkpoint:
    name: web
    tcp_established: true

- name: Take a database into an archive, connections and file locks included
  ferry.podman.podman_checkpoint:
    name: db
    dest: /var/backups/checkpoints/db.tar.zst
    tcp_established: true
    file_locks: true

- name: Take one that another host shall know for ours
  ferry.podman.podman_checkpoint:
    name: db
    dest: /var/backups/checkpoints/db.tar.zst
    sign_key: /root/.ssh/checkpoints

- name: Take one that only the holder of the key can read
  ferry.podman.podman_checkpoint:
    name: db
    dest: /var/backups/checkpoints/db.tar.zst.age
    encrypt_to: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]

- name: Save every running container, and let them run on
  ferry.podman.podman_checkpoint:
    all: true
    leave_running: true
    dest: /var/backups/checkpoints/

- name: Make an image of a warmed-up service
  ferry.podman.podman_checkpoint:
    name: app
    create_image: registry.example.com/warm/app:1
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
      returned: success
    image:
      description: Name of the image that it was made from.
      type: str
      returned: success
      sample: docker.io/library/redis:7
    image_id:
      description: Full ID of that image, which must be on the host that restores.
      type: str
      returned: success
    changed:
      description: Whether this container was checkpointed now.
      type: bool
      returned: success
    checkpoint_path:
      description: Directory of the checkpoint on the host of the service.
      type: str
      returned: when it is in place
    dest:
      description: Path of the archive.
      type: str
      returned: with O(dest)
    manifest:
      description: Path of the list of members that was signed.
      type: str
      returned: with O(sign_key), not in check mode
      sample: /var/backups/checkpoints/db.tar.zst.manifest
    compression:
      description: Compression of the archive.
      type: str
      returned: with O(dest)
      sample: zstd
    encrypted:
      description: Whether the archive is encrypted.
      type: bool
      returned: with O(dest)
    size:
      description: Bytes of the archive or of the image.
      type: int
      returned: with O(dest) or O(create_image), not in check mode
    digest:
      description: Digest of the archive's file, or of the image's manifest.
      type: str
      returned: with O(dest) or O(create_image), not in check mode
      sample: sha256:0a5c...
    created_image:
      description: Full name of the image.
      type: str
      returned: with O(create_image)
      sample: localhost/warm:latest
    created_image_id:
      description: ID of the image.
      type: str
      returned: with O(create_image), not in check mode
    statistics:
      description:
        - CRIU's figures of the dump.
        - C(freezing_time), C(frozen_time), C(memdump_time) and C(memwrite_time) are microseconds;
          C(pages_scanned), C(pages_skipped_parent) and C(pages_written) are pages of memory.
        - Empty where CRIU left none.
      type: dict
      returned: success, not in check mode
      sample: {"freezing_time": 100712, "frozen_time": 151034, "pages_written": 2511}
    runtime_checkpoint_duration:
      description: Microseconds that the OCI runtime took.
      type: int
      returned: without O(dest), not in check mode
findings:
  description: Why it was refused, or what was found besides. See the table of findings in the documentation.
  returned: when there are any
  type: list
  elements: dict
  contains:
    code: {description: Stable name of the reason., type: str, sample: not_running}
    severity: {description: V(blocker) or V(warning)., type: str}
    message: {description: What was found., type: str}
    remedy: {description: What to do about it., type: str}
criu_log:
  description: The lines of CRIU's log that say why the dump failed.
  returned: when the dump failed
  type: list
  elements: str
"""

import os

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._checkpoint import (
    EXTENSIONS,
    Checkpointer,
    CheckpointRequest,
)
from ansible_collections.ferry.podman.plugins.module_utils._encryption import Recipients
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import (
    CheckpointOptions,
    Container,
    HostInfo,
    LibpodClient,
)
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule, select_containers
from ansible_collections.ferry.podman.plugins.module_utils._signature import sign


def check_options(params: dict, names: list[str]) -> None:
    """What the command line refuses, and what several containers cannot share."""
    exports = params["dest"] is not None
    if params["ignore_rootfs"] and not exports and params["create_image"] is None:
        raise FerryError("ignore_rootfs has a meaning only with dest or create_image.")
    if params["ignore_volumes"] and not exports:
        raise FerryError("ignore_volumes has a meaning only with dest.")
    if params["sign_key"] is not None and not exports:
        raise FerryError("sign_key has a meaning only with dest.")
    check_recipients(params)
    level, most = params["compress_level"], {"zstd": 19, "gzip": 9, "none": 0}[params["compress"]]
    if level is not None and not 1 <= level <= most:
        raise FerryError(f"compress_level {level} is not from 1 to {most}, the range of {params['compress']}.")
    if params["retries"] < 0:
        raise FerryError(f"retries is {params['retries']}; it must be 0 or more.")
    if len(names) > 1 and params["create_image"] is not None:
        raise FerryError(f"create_image takes one container; these are {', '.join(names)}.")
    if len(names) > 1 and exports and not is_directory(params["dest"]):
        raise FerryError(f"dest must be a directory for several containers; {params['dest']} is none.")


def check_recipients(params: dict) -> None:
    for option in ("encrypt_to", "encrypt_recipients_file"):
        if params[option] is not None and params["dest"] is None:
            raise FerryError(f"{option} has a meaning only with dest.")
    if params["encrypt_to"] == []:
        # An archive that was meant to be encrypted must not become a plain one.
        raise FerryError("encrypt_to is empty.", remedy="Name a recipient, or leave the option out.")


def recipients_in(params: dict) -> Recipients | None:
    names, file = params["encrypt_to"], params["encrypt_recipients_file"]
    return None if names is None and file is None else Recipients(tuple(names or ()), file)


def is_directory(path: str) -> bool:
    return path.endswith("/") or os.path.isdir(path)


def request_for(params: dict, name: str) -> CheckpointRequest:
    dest, recipients = params["dest"], recipients_in(params)
    if dest is not None and is_directory(dest):
        dest = os.path.join(dest, name + EXTENSIONS[params["compress"]] + (".age" if recipients else ""))
    names = (
        "keep",
        "leave_running",
        "tcp_established",
        "ignore_rootfs",
        "pre_checkpoint",
        "with_previous",
        "file_locks",
        "create_image",
    )
    return CheckpointRequest(
        options=CheckpointOptions(**{option: params[option] for option in names}),
        dest=dest,
        compression=params["compress"],
        compress_level=params["compress_level"],
        ignore_volumes=params["ignore_volumes"],
        retries=params["retries"],
        sign_key=params["sign_key"],
        recipients=recipients,
    )


def plan(module: FerryModule, client: LibpodClient, host: HostInfo) -> list:
    """What to do for each container; all reasons against it come from here."""
    names = select_containers(client, module.params, lambda container: container.running)
    check_options(module.params, names)
    if module.params["sign_key"] is not None:
        # A key that does not work must not be found out when the container is frozen.
        sign(b"", module.params["sign_key"])
    recipients = recipients_in(module.params)
    if recipients is not None:
        recipients.check()
    findings: list[_compat.Finding] = []
    steps = []
    for name in names:
        container = client.find_container(name)
        checkpointer = Checkpointer(client, host, request_for(module.params, container.name if container else name))
        done = checkpointer.done_before(name, container)
        if done is None:
            container = container or client.container(name)
            findings += checkpointer.findings(container)
            findings += pre_copy_findings(module, client, container)
        steps.append((checkpointer, container, done))
    module.warn(_compat.refuse_blockers(f"Checkpointing {', '.join(names)}", findings))
    return steps


def pre_copy_findings(module: FerryModule, client: LibpodClient, container: Container) -> list[_compat.Finding]:
    params = module.params
    if not client.transport.is_local or not (params["pre_checkpoint"] or params["with_previous"]):
        return []
    has_previous = os.path.isdir(os.path.join(container.bundle or "", "pre-checkpoint"))
    return _compat.pre_copy_findings(
        container,
        tracks_memory=module.local_host.tracks_memory(),
        previous_absent=params["with_previous"] and not has_previous,
    )


def checkpoint(module: FerryModule) -> None:
    results: list[dict] = []
    module.result["containers"] = results
    with module.client() as client:
        steps = plan(module, client, client.info())
        show_difference(module, steps)
        for checkpointer, container, done in steps:
            described = done or (checkpointer.prediction if module.check_mode else checkpointer.run)(container)
            results.append({**described, "changed": done is None})
            # One by one: if a later one fails, this tells of those before it.
            module.result["changed"] = module.result["changed"] or done is None


def show_difference(module: FerryModule, steps: list) -> None:
    before, after = {}, {}
    for checkpointer, container, done in steps:
        name = done["name"] if done else container.name
        before[name] = after[name] = {"status": container.status if container else "absent"}
        if done is None:
            after[name] = checkpointer.predicted_state(container)
    module.show_difference(before, after)


def main() -> None:
    FerryModule(
        argument_spec={
            "name": {"type": "list", "elements": "str"},
            "all": {"type": "bool", "default": False},
            "latest": {"type": "bool", "default": False},
            "dest": {"type": "path", "aliases": ["export"]},
            "create_image": {"type": "str"},
            "compress": {"type": "str", "choices": ["zstd", "gzip", "none"], "default": "zstd"},
            "compress_level": {"type": "int"},
            "keep": {"type": "bool", "default": False},
            "leave_running": {"type": "bool", "default": False},
            "tcp_established": {"type": "bool", "default": False},
            "ignore_rootfs": {"type": "bool", "default": False},
            "ignore_volumes": {"type": "bool", "default": False},
            "pre_checkpoint": {"type": "bool", "default": False},
            "with_previous": {"type": "bool", "default": False},
            "file_locks": {"type": "bool", "default": False},
            "retries": {"type": "int", "default": 3},
            "sign_key": {"type": "path", "no_log": False},
            "encrypt_to": {"type": "list", "elements": "str"},
            "encrypt_recipients_file": {"type": "path"},
        },
        mutually_exclusive=[
            ("name", "all", "latest"),
            ("dest", "create_image"),
            ("pre_checkpoint", "with_previous"),
            ("pre_checkpoint", "create_image"),
        ],
    ).run(checkpoint)


if __name__ == "__main__":
    main()
