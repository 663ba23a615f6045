# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The Debian roots that hosts run from: built once, then only read."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from . import paths, recipe
from .apt import Mirror, settings
from .errors import LabError
from .run import contained, run, run_logged

BUILD_LIMIT = 900.0


def root_of(flavour: str) -> Path:
    return paths.roots() / recipe.root_name(flavour)


def _sources(flavour: str, mirror: Mirror) -> list[str]:
    suites = [recipe.suite_of(flavour)] + ([recipe.TESTING] if flavour == "stable" else [])
    return [mirror.line(suite) for suite in suites]


def _command(flavour: str, target: Path, mirror: Mirror, preferences: Path) -> list[str]:
    """mmdebstrap lets the machine's apt fetch and verify everything, from any suite, in one go."""
    options = [f"--aptopt={line.rstrip(';')};" for line in settings()]
    options += ['--aptopt=Apt::Install-Recommends "false";', '--aptopt=Acquire::Languages "none";']
    options += ["--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={path}" for path in recipe.NOT_UNPACKED)]
    if flavour == "stable":
        options.append(f'--setup-hook=cp {preferences} "$1/etc/apt/preferences.d/ferry-lab"')
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        *options,
        f"--include={','.join(recipe.packages_of(flavour))}",
        recipe.suite_of(flavour),
        str(target),
        *_sources(flavour, mirror),
    ]


def _finish(root: Path, flavour: str) -> None:
    """What all hosts of this root share; what is a host's own is written when it boots."""
    for old in (
        *(root / "etc/ssh").glob("ssh_host_*"),
        *(root / "etc/apt").glob("sources.list*"),
        root / "etc/machine-id",
        root / "etc/hostname",
    ):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    run(["cp", "-r", "--preserve=mode", f"{paths.FILES / 'root'}/.", str(root)], "copying the lab's files into a root")
    run(["chroot", str(root), "ldconfig"], "indexing the libraries of a root")
    if flavour == "emulator":
        return
    (root / "var/lib/containers").mkdir(exist_ok=True)
    if flavour == "guest":
        run(["cp", "-r", "--preserve=mode", f"{paths.FILES / 'guest'}/.", str(root)], "copying the guests' files")
        run(["chroot", str(root), "/usr/local/lib/ferry-lab/enable"], "enabling the services of guests")
        return
    os.link(root / "usr/sbin/criu", root / "usr/local/lib/ferry-lab/criu")


def discard(path: Path, limit: float = 10.0) -> None:
    """Remove a tree; what an interrupted run started may write to it for a moment yet."""
    end = time.monotonic() + limit
    while os.path.lexists(path):
        try:
            run(["rm", "-rf", "--one-file-system", str(path)], f"removing {path}", limit=120)
        except LabError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def build(flavour: str, mirror: Mirror) -> None:
    """Build the root of a flavour; it gets its name last, so half a root is never used."""
    final = root_of(flavour)
    part = final.with_name(final.name + ".part")
    discard(part)
    preferences = paths.logs() / f"preferences-{flavour}"
    preferences.write_text(recipe.PREFERENCES)
    run_logged(
        contained(_command(flavour, part, mirror, preferences)),
        f"building the root {flavour}",
        paths.logs() / f"root-{flavour}.log",
        BUILD_LIMIT,
    )
    _finish(part, flavour)
    part.rename(final)
