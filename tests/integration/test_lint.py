# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Archives from elsewhere: what is not what it should be never reaches podman, and what was signed does."""

from __future__ import annotations

from helpers import SCRATCH, Box, Node
from test_refusals import untouched

DEFAULTS = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"

ARCHIVE = f"{SCRATCH}/a.tar"
ALLOWED = f"{SCRATCH}/allowed"
KEY = f"{SCRATCH}/key"

REPACK = """
import io, sys, tarfile
source, target, evil = sys.argv[1:]
inner = io.BytesIO()
with tarfile.open(fileobj=inner, mode="w") as tar:
    link = tarfile.TarInfo("way-out")
    link.type, link.linkname = tarfile.SYMTYPE, evil
    tar.addfile(link)
    file = tarfile.TarInfo("way-out/written")
    file.size = 4
    tar.addfile(file, io.BytesIO(b"evil"))
with tarfile.open(source) as old, tarfile.open(target, "w") as new:
    for info in old:
        data = old.extractfile(info) if info.isreg() else None
        if info.name == "ctr.log" and target.endswith("link.tar"):
            info.type, info.linkname, info.size, data = tarfile.SYMTYPE, evil + "/log", 0, None
        if info.name == "rootfs-diff.tar" and target.endswith("inner.tar"):
            continue
        new.addfile(info, data)
    if target.endswith("inner.tar"):
        info = tarfile.TarInfo("rootfs-diff.tar")
        info.size = len(inner.getvalue())
        new.addfile(info, io.BytesIO(inner.getvalue()))
"""

FLIP = """
import sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    offset = next(info.offset_data for info in tar if info.name == "checkpoint/pages-1.img")
with open(sys.argv[1], "r+b") as file:
    file.seek(offset + 5000)
    byte = file.read(1)[0]
    file.seek(offset + 5000)
    file.write(bytes([byte ^ 1]))
"""


def python(host: Node, script: str, *arguments: str) -> None:
    host.run("python3", "-c", script, *arguments)


def make_key(host: Node) -> None:
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
    host.sh(f"echo me@example.com $(cut -d' ' -f1,2 {KEY}.pub) >{ALLOWED}")


def logged_file(host: Node, *flags: str) -> Box:
    """A container whose log is a file in its archive."""
    return host.start("counter", "--log-driver", "k8s-file", *flags)


def test_signed_archive(host: Node) -> None:
    make_key(host)
    box = host.start()
    refused = host.module("podman_checkpoint", name=box.name, dest=ARCHIVE, sign_key="/nowhere")
    assert "cannot be signed with /nowhere" in refused.msg
    box.counts_on()
    done = host.checkpoint(box.name, dest=ARCHIVE, compress="none", sign_key=KEY).one
    assert done["manifest"] == f"{ARCHIVE}.manifest"
    pages = host.sh(f"tar -xOf {ARCHIVE} checkpoint/pages-1.img | sha256sum").split()[0]
    assert f"\n{pages}  " in host.run("cat", done["manifest"])
    again = host.module("podman_checkpoint", name=box.name, dest=ARCHIVE, compress="none", sign_key=KEY)
    assert not again.failed and not again.changed
    box.remove()
    for suffix in ("", ".manifest", ".manifest.sig"):
        host.run("cp", f"{ARCHIVE}{suffix}", f"{SCRATCH}/b.tar{suffix}")
    changed = f"{SCRATCH}/b.tar"
    python(host, FLIP, changed)
    host.sh(f"cp {ARCHIVE} {SCRATCH}/c.tar; sed s/me@/you@/ {ALLOWED} >{ALLOWED}.2")
    with untouched(host):
        results = host.modules(
            "podman_restore",
            {"src": changed, "allowed_signers": ALLOWED},
            {"src": f"{SCRATCH}/c.tar", "allowed_signers": ALLOWED},
            {"src": ARCHIVE, "allowed_signers": f"{ALLOWED}.2", "signer": "me@example.com"},
        )
        codes = [result.codes for result in results]
        assert codes == [["signature_differs"], ["signature_absent"], ["signature_invalid"]]
        assert "'checkpoint/pages-1.img' is not what was signed" in results[0].msg
    restored = host.restore(src=ARCHIVE, allowed_signers=ALLOWED, signer="me@example.com")
    assert restored.values["signed_by"] == "me@example.com"
    box.counts_on()


def test_planted_links_never_reach_podman(host: Node) -> None:
    box = logged_file(host)
    host.checkpoint(box.name, dest=ARCHIVE, compress="none")
    box.remove()
    victim = f"{SCRATCH}/victim"
    host.sh(f"mkdir {victim}; echo mine >{victim}/log")
    for name in ("link.tar", "inner.tar"):
        python(host, REPACK, ARCHIVE, f"{SCRATCH}/{name}", victim)
    with untouched(host):
        link, inner = host.modules("podman_restore", {"src": f"{SCRATCH}/link.tar"}, {"src": f"{SCRATCH}/inner.tar"})
        assert link.codes == ["archive_link"] and "'ctr.log' is a link" in link.msg
        assert inner.codes == ["archive_inner"] and "'way-out/written', behind a link" in inner.msg
        assert host.files(victim) == ["log"]
        assert host.run("cat", f"{victim}/log") == "mine\n"
    # The way in which they were made is none of the reasons.
    python(host, REPACK, ARCHIVE, f"{SCRATCH}/same.tar", victim)
    host.restore(src=f"{SCRATCH}/same.tar")
    box.counts_on()


def test_policy(host: Node) -> None:
    host.sh(f"mkdir {SCRATCH}/shared")
    flags = ("--volume", f"{SCRATCH}/shared:/shared", "--volume", "it-data:/data", "--cap-add", "SYS_PTRACE")
    box = host.start("counter", *flags)
    host.checkpoint(box.name, dest=ARCHIVE, compress="none")
    box.remove()
    host.podman("volume", "rm", "it-data")
    with untouched(host):
        results = host.modules("podman_restore", {"src": ARCHIVE, "policy": {}}, {"src": ARCHIVE, "max_size": "10K"})
        assert results[0].codes == ["spec_capability", "spec_mount"]
        assert repr(f"{SCRATCH}/shared") in results[0].msg and "nothing was touched" in results[0].msg
        assert results[1].codes == ["archive_too_large"]
    policy = {"bind_mounts": [SCRATCH], "capabilities": ["CAP_SYS_PTRACE", *DEFAULTS.split()]}
    allowed = host.restore(src=ARCHIVE, policy=policy)
    assert "findings" not in allowed.values or allowed.codes == []
    box.counts_on()
    box.remove()
    host.podman("volume", "rm", "it-data")
    # Without a policy it is told, and no more.
    noted = host.restore(src=ARCHIVE)
    assert noted.codes == ["spec_capability", "spec_mount"]
    assert {finding["severity"] for finding in noted.values["findings"]} == {"notice"}
    box.counts_on()


def test_privileged_container_is_refused_by_a_policy(host: Node) -> None:
    box = host.start("counter", "--privileged")
    host.checkpoint(box.name, dest=ARCHIVE, compress="none")
    box.remove()
    with untouched(host):
        refused = host.module("podman_restore", src=ARCHIVE, policy={})
        assert "spec_privileged" in refused.codes, refused.msg
        assert "The checkpoint is of a privileged container." in refused.msg
    host.restore(src=ARCHIVE, policy={"privileged": True})
    box.counts_on()
