# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The machine's own way to Debian's packages: its mirror, proxy and keys. No mirror is named here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .run import run

# All suites that the lab uses are verified with Debian's own keys, never waved through.
# Debian 12's and 13's debian-archive-keyring hold the keys of the suites after them; where an
# older one does not, the build fails and says to upgrade it: a key fetched from the suite
# that it is to verify would prove nothing.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PASSED_ON = re.compile(r"^(Acquire::(https?|Retries|Check-|Max-|AllowRedirect))", re.IGNORECASE)


@dataclass(frozen=True)
class Mirror:
    """Where the machine gets Debian's main archive from, and what signs it."""

    uri: str
    keyring: str

    def line(self, suite: str) -> str:
        return f"deb [signed-by={self.keyring}] {self.uri} {suite} main"


def _main_archive_targets() -> list[dict[str, str]]:
    text = run(
        ["apt-get", "indextargets", "Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main"],
        "asking apt for the machine's Debian mirror",
    )
    targets = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "Repo-URI" in fields:
            targets.append(fields)
    return targets


def _signed_by(target: dict[str, str]) -> str:
    """The keyring that the machine's own source entry names, if it is a file; else Debian's."""
    entry = Path(target.get("Sourcesentry", "").rpartition(":")[0])
    text = entry.read_text(errors="replace") if entry.is_file() else ""
    uri = target["Repo-URI"].rstrip("/")
    for stanza in re.split(r"\n\s*\n" if entry.suffix == ".sources" else r"\n", text):
        named = re.search(r"signed-by\s*[:=]\s*(/[^\s,\]]+)", stanza, re.IGNORECASE)
        if uri in stanza and named:
            return named.group(1)
    return str(KEYRING)


def find_mirror() -> Mirror:
    targets = _main_archive_targets()
    if not targets:
        raise LabError(
            "apt on this machine knows no Debian main archive (no index with Origin: Debian): "
            "add one below /etc/apt and run apt-get update"
        )
    mirror = Mirror(targets[0]["Repo-URI"], _signed_by(targets[0]))
    if not Path(mirror.keyring).exists():
        raise LabError(
            f"there is no keyring {mirror.keyring} to verify packages with: apt-get install debian-archive-keyring"
        )
    return mirror


def settings() -> list[str]:
    """Proxy, TLS and login settings of the machine's apt, as statements for another apt."""
    dump = run(["apt-config", "dump"], "reading the machine's apt settings").splitlines()
    # forky's Release files carry a validity that a mirror which is a few days behind has outlived.
    logins = ['Dir::Etc::netrc "/etc/apt/auth.conf";', 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";']
    return [line for line in dump if PASSED_ON.match(line)] + logins + ['Acquire::Check-Valid-Until "false";']
