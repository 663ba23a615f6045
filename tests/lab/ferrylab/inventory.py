# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""How Ansible and ssh get into the hosts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from . import disk, paths
from .records import Record


def _arguments() -> str:
    # A short path: the whole of it, with a hash in it, must fit a socket's 108 characters.
    return (
        f"-F none -o UserKnownHostsFile={paths.KNOWN_HOSTS} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes "
        f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={paths.CONTROL_PATHS}/%C"
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


def close_connections() -> None:
    """End the ssh masters that ansible keeps: their hosts are going."""
    for socket in paths.CONTROL_PATHS.glob("*"):
        subprocess.run(
            ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={socket}", "lab"],
            check=False,
            timeout=10,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
