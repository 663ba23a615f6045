# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Hosts that are virtual machines: a kernel that tracks memory, systemd, and a boot that is one.

QEMU emulates the processor. It comes from Debian's testing suite, in a root of its own, and its network device is a
port of the segment's switch like that of any host.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import network, paths, plan, recipe, records, roots, stores
from .errors import LabError
from .plan import Host
from .records import Record
from .run import contained, run, run_logged, wait_until

MEGABYTES = 1536
PROCESSORS = 2
DISK = "8G"  # sparse
BUILD_LIMIT = 300.0
BOOT_LIMIT = 300.0  # an emulated processor has a thirtieth of the machine's speed

MAKE = """set -eu
root=$1 store=$2 image=$3
mount --bind "$root" "$root"
mount --bind "$store" "$root/var/lib/containers"
mkfs.ext4 -q -F -E lazy_itable_init=0 -L ferry-lab -d "$root" "$image" "$4"
"""

# In the switch's network; QEMU sees its own root, the guest's kernel and one disk.
BOOT = """set -eu
emulator=$1 guest=$2 disk=$3; shift 3
ip tuntap add dev "$LAB_NAME" mode tap
ip link set "$LAB_NAME" master "$LAB_BRIDGE" up
mount --bind "$emulator" "$emulator"
mount -t proc proc "$emulator/proc"
mount --rbind /dev "$emulator/dev"
mkdir -p "$emulator/srv/guest" "$emulator/srv/disk"
mount --bind "$guest/boot" "$emulator/srv/guest"
mount --bind "$disk" "$emulator/srv/disk"
exec chroot "$emulator" "$@"
"""

UNIT_NETWORK = "[Match]\nName=eth0\n[Network]\nAddress={address}/{prefix}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"


def image() -> Path:
    """The disk that all of them begin with."""
    parts = (recipe.store_name("guest"), MAKE, DISK)
    return paths.images() / f"disk-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}.ext4"


def build() -> None:
    """Make it; it gets its name last."""
    part = image().with_suffix(".part")
    part.unlink(missing_ok=True)
    arguments = [str(roots.root_of("guest")), str(stores.store_of("guest")), str(part), DISK]
    run_logged(
        contained(["sh", "-c", MAKE, "make", *arguments]),
        "making the disk of virtual machines",
        paths.logs() / "disk.log",
        BUILD_LIMIT,
    )
    part.rename(image())


def create(host: Host, disk: Path) -> None:
    """A disk of its own, with what makes this host differ from others."""
    target = disk / "disk.ext4"
    run(["cp", "--sparse=always", "--reflink=auto", str(image()), str(target)], f"copying the disk of {host.name}", 120)
    upper = disk / "upper"
    network_file = upper / "etc/systemd/network/10-lab.network"
    network_file.parent.mkdir(parents=True)
    network_file.write_text(UNIT_NETWORK.format(address=host.address, prefix=plan.PREFIX))
    values = {
        "LAB_MACHINE": plan.MACHINE_ADDRESS,
        "LAB_SUBNET": plan.SUBNET,
        "LAB_RANGE": host.automatic_range,
        "LAB_NETWORK": plan.NETWORK,
    }
    (upper / "etc/ferry-lab.env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    _write_into(target, upper)


def _write_into(target: Path, upper: Path) -> None:
    """Put every file of a directory into the disk, without mounting it."""
    lines = []
    for path in sorted(upper.rglob("*")):
        name = "/" + str(path.relative_to(upper))
        if path.is_dir():
            # One that is there stays as it is.
            lines.append(f"mkdir {name}")
        else:
            lines += [f"rm {name}", f"write {path} {name}", f"sif {name} mode 0{path.stat().st_mode:o}"]
    run(["debugfs", "-w", "-f", "-", str(target)], f"writing into {target}", 60, "\n".join(lines) + "\n")


def _kernel() -> str:
    """The version of the guests' kernel."""
    (found,) = (roots.root_of("guest") / "boot").glob("vmlinuz-*")
    return found.name.partition("-")[2]


def _arguments(record: Record) -> list[str]:
    host, kernel = record.host, _kernel()
    return [
        "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", str(PROCESSORS), "-m", str(MEGABYTES)),
        *("-display", "none", "-monitor", "none", "-serial", "file:/srv/disk/console.log"),
        *("-kernel", f"/srv/guest/vmlinuz-{kernel}", "-initrd", f"/srv/guest/initrd.img-{kernel}"),
        *("-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off"),
        *("-drive", "file=/srv/disk/disk.ext4,if=virtio,format=raw,cache=unsafe"),
        *("-netdev", f"tap,id=lab,ifname={host.name},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=lab,mac={host.mac},romfile="),
        *("-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng"),
    ]


def start(record: Record, switch: int, hosts: list[Host]) -> None:
    """Boot it from its disk and wait until its services answer."""
    disk, guest, emulator = Path(record.disk), roots.root_of("guest"), roots.root_of("emulator")
    hosts_file = disk / "upper/etc/hosts"
    hosts_file.write_text(plan.hosts_file(hosts))
    _write_into(disk / "disk.ext4", disk / "upper")
    command = ["nsenter", "--target", str(switch), "--net", "--", "unshare", "--mount", "--propagation", "private"]
    command += ["--", "sh", "-c", BOOT, "boot", str(emulator), str(guest), str(disk), *_arguments(record)]
    with open(disk / "boot.log", "wb") as log:
        process = subprocess.Popen(
            command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LAB_NAME": record.host.name, "LAB_BRIDGE": network.BRIDGE},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    record.pid = process.pid
    record.started = records.start_time(record.pid) or ""
    _join(record)
    records.save(record)
    await_ready(record)


def _join(record: Record) -> None:
    from . import cgroups

    cgroups.join(record.host.name, record.pid, leaf=True)


def await_ready(record: Record) -> None:
    """Wait until it lets the lab in and podman answers."""
    answered = command(record, ["test", "-e", "/run/ferry-lab-ready"])

    def ready() -> bool:
        done = subprocess.run(answered, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        return done.returncode == 0 or not record.alive()

    wait_until(f"{record.host.name} to boot (see {record.disk}/console.log)", BOOT_LIMIT, ready, 1.0)
    if not record.alive():
        log = Path(record.disk, "boot.log").read_text(errors="replace")
        raise LabError(f"{record.host.name} died while it booted: {log.strip()[-500:]}")


def command(record: Record, argv: Sequence[str]) -> list[str]:
    """What runs a command inside it, from this machine."""
    options = ["BatchMode=yes", f"UserKnownHostsFile={paths.KNOWN_HOSTS}", "StrictHostKeyChecking=yes"]
    options += ["ConnectTimeout=15", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    words = [word for option in options for word in ("-o", option)]
    terminal = ["-t"] if sys.stdin is not None and sys.stdin.isatty() else []
    target = ["-i", str(paths.KEY), *terminal, f"root@{record.host.address}"]
    return ["ssh", "-F", "none", *words, *target, shlex.join(argv)]
