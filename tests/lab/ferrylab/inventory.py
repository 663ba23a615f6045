# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""How Ansible and ssh get into the hosts."""

from __future__ import annotations

import os
from pathlib import Path

from . import disk, paths
from .connections import CONTROL_PATH
from .records import Record


def _arguments() -> str:
    return (
        f"-F none -o UserKnownHostsFile={paths.KNOWN_HOSTS} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes "
        f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={CONTROL_PATH} "
        "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    )


def write(found: list[Record]) -> None:
    paths.CONTROL_PATHS.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = [f"{record.host.name},{record.host.address} {disk.public_key(Path(record.disk))}" for record in found]
    paths.KNOWN_HOSTS.write_text("\n".join(known) + "\n")
    nodes = [f"{record.host.name} ansible_host={record.host.address}" for record in found if record.host.role == "node"]
    variables = [
        "ansible_user=root",
        "ansible_connection=ssh",
        f"ansible_ssh_private_key_file={paths.KEY}",
        f"ansible_ssh_args={_arguments()}",
        f"ansible_control_path_dir={paths.CONTROL_PATHS}",
        "ansible_ssh_pipelining=true",
        "ansible_pipelining=true",
        "ansible_python_interpreter=/usr/bin/python3",
    ]
    text = ["[podman_hosts]", *nodes, "", "[podman_hosts:vars]", *variables]
    part = paths.INVENTORY.with_suffix(".part")
    part.write_text("\n".join(text) + "\n")
    os.replace(part, paths.INVENTORY)
