# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The certificate of the registry with TLS, and the authority that the nodes trust for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import paths, plan
from .roots import discard
from .run import run

SUBJECTS = f"subjectAltName=IP:{plan.REGISTRY_ADDRESS},DNS:{plan.REGISTRY_NAME}"


def _openssl(folder: Path, name: str, *options: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "3650", "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    run([*command, *options], f"making the certificate {name}")


def make() -> None:
    """Once for each lab; the directory gets its name last."""
    if paths.TLS.is_dir():
        return
    part = paths.TLS.with_suffix(".part")
    discard(part)
    part.mkdir(mode=0o700)
    _openssl(part, "ca", "-subj", "/CN=the lab's authority")
    authority = ["-CA", str(part / "ca.crt"), "-CAkey", str(part / "ca.key")]
    leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", SUBJECTS]
    _openssl(part, "registry", "-subj", f"/CN={plan.REGISTRY_NAME}", *authority, *leaf)
    # Nothing else is ever signed.
    (part / "ca.key").unlink()
    part.rename(paths.TLS)


def trust(upper: Path) -> None:
    """Under the registry's address alone: under its name nobody trusts it, which tests need."""
    folder = upper / f"etc/containers/certs.d/{plan.REGISTRY_ADDRESS}:{plan.TLS_PORT}"
    folder.mkdir(parents=True)
    shutil.copy(paths.TLS / "ca.crt", folder)


def install(upper: Path) -> None:
    """For the registry itself."""
    folder = upper / "etc/docker/registry"
    folder.mkdir(parents=True)
    for name in ("registry.crt", "registry.key"):
        shutil.copy(paths.TLS / name, folder)
    os.chmod(folder / "registry.key", 0o600)
