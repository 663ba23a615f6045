# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Layers of images, unpacked from Debian packages without running their maintainer scripts."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import recipe
from .apt import Mirror, settings
from .errors import LabError
from .run import run

# One moment for all files, so that the same packages give the same layer.
MOMENT = "@1700000000"
EXCLUDED = [
    "./etc/init.d",
    "./usr/include",
    "./usr/lib/*/gconv",
    "./usr/lib/postgresql/*/lib/bitcode",
    "./usr/lib/systemd",
    "./usr/share/apport",
    "./usr/share/bash-completion",
    "./usr/share/bug",
    "./usr/share/doc",
    "./usr/share/info",
    "./usr/share/lintian",
    "./usr/share/locale",
    "./usr/share/man",
]


@dataclass(frozen=True)
class Layer:
    """A tar file and its digest, which is also its name."""

    digest: str
    path: Path


class PrivateApt:
    """An apt of its own, on a system that has no package installed."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        self.folder = folder
        for name in (
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/dpkg",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
        ):
            (folder / name).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").write_text("")
        (folder / "etc/apt/sources.list").write_text(mirror.line(recipe.STABLE) + "\n")
        # apt's unprivileged downloader may not be able to enter the cache directory.
        own = [
            f'Dir "{folder}";',
            'APT::Install-Recommends "false";',
            'APT::Sandbox::User "root";',
            'APT::Update::Error-Mode "any";',
            'Acquire::Languages "none";',
        ]
        self.config = folder / "apt.conf"
        self.config.write_text("\n".join([*settings(), *own]) + "\n")
        self._apt("update")

    def _apt(self, *arguments: str) -> str:
        return run(
            ["env", f"APT_CONFIG={self.config}", "apt-get", *arguments], "asking apt for an image's packages", 300
        )

    def closure(self, packages: Sequence[str]) -> list[str]:
        """The packages and all that they depend on."""
        lines = self._apt("--simulate", "install", *packages).splitlines()
        return [line.split()[1] for line in lines if line.startswith("Inst ")]

    def download(self, packages: Sequence[str]) -> dict[str, Path]:
        self._apt("--yes", "--download-only", "install", *packages)
        archives = self.folder / "var/cache/apt/archives"
        return {path.name.split("_")[0]: path for path in archives.glob("*.deb")}


def wanted(package: str) -> bool:
    return package not in recipe.NEVER_IN_IMAGES and not package.startswith(recipe.NEVER_PREFIXES)


def unpack(deb: Path, target: Path) -> None:
    """The files of a package, nothing of which is run."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as source:
        tar = ["tar", "--extract", "--directory", str(target), *(f"--exclude={name}" for name in EXCLUDED)]
        code = subprocess.call(tar, stdin=source.stdout)
    if code or source.returncode:
        raise LabError(
            f"unpacking {deb} into {target} failed: tar ended with {code}, dpkg-deb with {source.returncode}"
        )


def link_busybox(target: Path) -> None:
    """A shell and the usual tools, where no package brought a better one."""
    tools = target / "usr/bin"
    for applet in run([str(tools / "busybox"), "--list"], "listing busybox's applets").split():
        if not (tools / applet).exists() and not (target / "usr/sbin" / applet).exists():
            (tools / applet).symlink_to("busybox")


def pack(source: Path, target: Path) -> Layer:
    """A tar of a directory, the same for the same content."""
    run(
        [
            "tar",
            "--create",
            "--file",
            str(target),
            "--directory",
            str(source),
            "--sort=name",
            f"--mtime={MOMENT}",
            "--numeric-owner",
            "--format=gnu",
            ".",
        ],
        f"packing {source}",
    )
    digest = hashlib.sha256()
    with target.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    path = target.with_name(digest.hexdigest() + ".tar")
    os.rename(target, path)
    return Layer(digest.hexdigest(), path)
