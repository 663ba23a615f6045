# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""What the machine must have; all that is missing is said at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import cgroups, paths, shim
from .errors import LabError

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "openssl": "openssl",
    "tar": "tar",
    "chroot": "coreutils",
}

# Tried for real, in namespaces that end with the trial; each is one thing that hosts or containers need.
VETH = "ip link add v0 type veth peer name v1"
INGRESS = "add table netdev t; add chain netdev t c { type filter hook ingress device v0 priority 0; }"
TRIALS = {
    "veth network devices (CONFIG_VETH)": VETH,
    "bridges (CONFIG_BRIDGE)": "ip link add b0 type bridge",
    "macvlan network devices (CONFIG_MACVLAN)": f"{VETH} && ip link add link v0 m0 type macvlan",
    "nf_tables with its netdev family (CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV)": f"{VETH} && nft '{INGRESS}'",
    "tmpfs mounts": "mount -t tmpfs tmpfs /mnt",
}


def _programs() -> list[str]:
    needed = {**PROGRAMS, **({"gcc": "gcc and libc6-dev"} if shim.needed() else {}), "nft": "nftables"}
    return [
        f"the program {program}: apt-get install {package}"
        for program, package in needed.items()
        if not shutil.which(program)
    ]


def _trial(command: str) -> bool:
    isolated = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", command]
    return (
        subprocess.run(
            isolated,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        ).returncode
        == 0
    )


def _overlay() -> list[str]:
    folder = paths.cache()
    folder.mkdir(parents=True, exist_ok=True)
    trial = (
        f"mount -t tmpfs tmpfs /mnt && mkdir /mnt/l && d=$(mktemp -d -p '{folder}') && mkdir $d/u $d/w"
        " && mount -t overlay -o lowerdir=/mnt/l,upperdir=$d/u,workdir=$d/w o /mnt/l; c=$?;"
        " umount /mnt/l 2>/dev/null; rm -rf $d; exit $c"
    )
    if _trial(trial):
        return []
    return [
        f"overlay mounts with their upper directory in {folder} (CONFIG_OVERLAY_FS, and a file system that overlay "
        "can write to; set XDG_CACHE_HOME to a directory on ext4, xfs or btrfs)"
    ]


def _cgroup() -> list[str]:
    try:
        cgroups.hierarchies()
    except LabError as error:
        return [str(error)]
    return []


def check() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces, mounts and network devices: run it as root")
    missing = _programs()
    if not missing:
        missing = (
            [
                f"{name} in the running kernel: load the module, or take a kernel that has it"
                for name, command in TRIALS.items()
                if not _trial(command)
            ]
            + _overlay()
            + _cgroup()
        )
    if not Path("/proc/self/task", str(os.getpid()), "children").exists():
        missing.append("CONFIG_PROC_CHILDREN (checkpoint/restore) in the running kernel")
    if missing:
        raise LabError("this machine lacks:\n  " + "\n  ".join(missing))
