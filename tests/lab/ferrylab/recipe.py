# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""What the roots and images are made of; a change here makes them anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .paths import FILES

STABLE = "trixie"
TESTING = "forky"

ROOT_PACKAGES = [
    "aardvark-dns",
    "age",
    "apache2-utils",
    "buildah",
    "busybox-static",
    "ca-certificates",
    "catatonit",
    "checkpointctl",
    "conmon",
    "criu",
    "crun",
    "curl",
    "docker-registry",
    "iproute2",
    "iptables",
    "iputils-ping",
    "libcriu2",
    "mount",
    "netavark",
    "nftables",
    "openssh-client",
    "openssh-server",
    "podman",
    "procps",
    "python3",
    "python3-apt",
    "python3-requests",
    "python3-zstandard",
    "rsync",
    "runc",
    "skopeo",
    "sudo",
    "zstd",
]

# What a virtual machine boots with; its kernel tracks memory, which pre-copy needs.
GUEST_PACKAGES = [
    *(name for name in ROOT_PACKAGES if name not in ("apache2-utils", "buildah", "docker-registry", "skopeo")),
    "dbus",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "udev",
]

# What emulates the machine. Debian 12's own QEMU faults without KVM.
EMULATOR_PACKAGES = ["qemu-system-x86"]

# CRIU 4.1 does not dump TCP sockets on kernels of 2025; libcriu and libnl must match the newer one.
FROM_TESTING = "criu libcriu2 libcompel1 libnl-3-200 libnl-genl-3-200 libnl-route-3-200"

PREFERENCES = f"""Package: *
Pin: release n={TESTING}
Pin-Priority: 100

Package: {FROM_TESTING}
Pin: release n={TESTING}
Pin-Priority: 990
"""

NOT_UNPACKED = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
)

BASE_PACKAGES = ("base-files", "busybox-static", "libc-bin", "libc6", "python3-minimal")

# Dependencies of maintainer scripts and of the JIT compiler: nothing in an image runs them.
NEVER_PREFIXES = ("libllvm", "libperl", "libz3", "perl")
NEVER_IN_IMAGES = [
    "adduser",
    "base-passwd",
    "cron",
    "debconf",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "libbpf1",
    "libc-l10n",
    "libelf1t64",
    "libio-pty-perl",
    "libipc-run-perl",
    "libjson-perl",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "libsemanage-common",
    "libsemanage2",
    "libtext-charwidth-perl",
    "libtext-wrapi18n-perl",
    "libtirpc3t64",
    "libxtables12",
    "locales",
    "login.defs",
    "logrotate",
    "mawk",
    "openssl",
    "passwd",
    "postgresql-client-common",
    "postgresql-common",
    "postgresql-common-dev",
    "procps",
    "readline-common",
    "sensible-utils",
    "ssl-cert",
    "sysvinit-utils",
    "tar",
    "ucf",
]


def _tree(folder: Path) -> list[list[str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.read_text(), oct(path.stat().st_mode)] for path in files]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def suite_of(flavour: str) -> str:
    return STABLE if flavour in ("stable", "guest") else TESTING


def packages_of(flavour: str) -> list[str]:
    return {"guest": GUEST_PACKAGES, "emulator": EMULATOR_PACKAGES}.get(flavour, ROOT_PACKAGES)


def root_name(flavour: str) -> str:
    """The directory name of a root: the same inputs, the same name."""
    own_code = (Path(__file__).parent / "roots.py").read_text()
    pins = PREFERENCES if flavour == "stable" else ""
    own_files = _tree(FILES / "guest") if flavour == "guest" else []
    return f"{flavour}-" + _digest(
        suite_of(flavour), packages_of(flavour), NOT_UNPACKED, pins, own_code, _tree(FILES / "root"), own_files
    )


def images_name() -> str:
    """The directory name of the set of images."""
    own_code = [(Path(__file__).parent / name).read_text() for name in ("images.py", "layers.py")]
    return "set-" + _digest(STABLE, BASE_PACKAGES, NEVER_IN_IMAGES, NEVER_PREFIXES, own_code, _tree(FILES / "images"))


def store_name(flavour: str) -> str:
    """The directory name of the containers' storage that a root's podman made of the images."""
    return f"store-{flavour}-" + _digest(root_name(flavour), images_name())
