# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""What a host writes, and what makes it differ from the others: name, keys, storage."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from . import guests, paths, shim, tls
from .plan import Host
from .roots import discard
from .run import run


def _ssh_keygen(file: Path, comment: str) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)], f"making the key {file}")


def make_lab_key() -> None:
    """The one key that opens all hosts; it stays on this machine."""
    paths.RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not paths.KEY.exists():
        _ssh_keygen(paths.KEY, "ferry-lab")


def _write_identity(host: Host, upper: Path) -> None:
    etc = upper / "etc"
    (etc / "ssh").mkdir(parents=True)
    (etc / "hostname").write_text(host.name + "\n")
    (etc / "machine-id").write_text(uuid.uuid4().hex + "\n")
    (etc / "resolv.conf").write_text("# This host has no way outside, and no name server.\n")
    _ssh_keygen(etc / "ssh/ssh_host_ed25519_key", host.name)


def _authorise_lab(upper: Path) -> None:
    folder = upper / "root/.ssh"
    folder.mkdir(mode=0o700, parents=True)
    os.chmod(upper / "root", 0o700)
    shutil.copy(paths.KEY.with_suffix(".pub"), folder / "authorized_keys")
    os.chmod(folder / "authorized_keys", 0o600)


def create(host: Host, store: Path, disk: Path) -> None:
    """A fresh disk; it gets its name last, so half a disk is never booted from."""
    discard(disk)
    part = disk.with_name(disk.name + ".part")
    discard(part)
    for name in ("upper", "work", "root", "containers"):
        (part / name).mkdir(parents=True)
    if host.role == "node" and not host.virtual:
        run(
            ["cp", "--archive", "--reflink=auto", f"{store}/.", str(part / "containers")],
            f"seeding the images of {host.name}",
        )
    if host.role == "node":
        tls.trust(part / "upper")
        if not host.virtual and shim.needed():
            shim.install(part / "upper")
    else:
        tls.install(part / "upper")
    _write_identity(host, part / "upper")
    _authorise_lab(part / "upper")
    if host.virtual:
        guests.create(host, part)
    part.rename(disk)


def public_key(disk: Path) -> str:
    return " ".join((disk / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])
