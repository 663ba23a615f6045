# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Archives that only the holder of a key can read."""

from __future__ import annotations

import json

from helpers import SCRATCH, Box, Node, carry
from test_lint import ALLOWED, KEY, make_key
from test_refusals import untouched

ARCHIVE = f"{SCRATCH}/a.tar.zst.age"
IDENTITY, OTHER = f"{SCRATCH}/identity", f"{SCRATCH}/other"


def make_identity(host: Node, path: str = IDENTITY) -> str:
    """Returns the recipient."""
    host.run("age-keygen", "-o", path)
    return host.run("age-keygen", "-y", path).strip()


def box_with_changes(host: Node) -> Box:
    """One whose modified files podman leaves to us, so that they pass our scratch space."""
    box = host.start_on_lan("keeper", command=("40",))
    box.sh("echo unmistakable-secret >/only/f; rm /only/g; echo added >/only/h")
    return box


def test_encrypted_and_signed_archive_is_restored_by_the_one_with_the_key(pair: tuple[Node, Node]) -> None:
    source, destination = pair
    recipient = make_identity(destination)
    make_identity(destination, OTHER)
    make_key(source)
    box = box_with_changes(source)
    memory = box.memory()
    refused = source.module("podman_checkpoint", name=box.name, dest=ARCHIVE, encrypt_to=["age1nobody"])
    assert "age cannot encrypt" in refused.msg and source.files() == ["allowed", "key", "key.pub"]
    options = {"dest": ARCHIVE, "encrypt_to": [recipient], "sign_key": KEY}
    done = source.checkpoint(box.name, **options).one
    assert (done["encrypted"], done["compression"]) == (True, "zstd")
    assert source.sh(f"head -c 21 {ARCHIVE}") == "age-encryption.org/v1"
    assert not source.checkpoint(box.name, **options).changed
    # Podman keeps the memory with the container; nothing else on the host has it in plain text.
    assert source.exists(f"{box.userdata}/checkpoint/pages-1.img")
    assert source.sh(f"grep -rlF unmistakable-secret {SCRATCH} /var/tmp /tmp || :") == ""
    box.remove()
    again = source.checkpoint(box.name, **options)
    assert not again.changed and again.one["digest"] == done["digest"]
    about = json.loads(source.run("cat", f"{ARCHIVE}.about"))
    assert (about["id"], about["digest"]) == (box.id, done["digest"])

    for path in (ARCHIVE, f"{ARCHIVE}.manifest", f"{ARCHIVE}.manifest.sig", ALLOWED):
        carry(path, source, destination)
    destination.sh(f"for f in .manifest .manifest.sig; do cp {ARCHIVE}$f {SCRATCH}/cut$f; done")
    destination.sh(f"head -c -100000 {ARCHIVE} >{SCRATCH}/cut")
    with untouched(destination):
        results = destination.modules(
            "podman_restore",
            {"src": ARCHIVE},
            {"src": ARCHIVE, "decrypt_identity": OTHER},
            {"src": f"{SCRATCH}/cut", "decrypt_identity": IDENTITY},
            {"src": f"{SCRATCH}/cut", "decrypt_identity": IDENTITY, "allowed_signers": ALLOWED},
        )
        failed = ["decryption_failed"]
        assert [result.codes for result in results] == [["archive_encrypted"], failed, failed, failed]
        assert "no identity is given. Give an age or ssh identity" in results[0].msg
        assert "match" in results[1].msg
    (told,) = destination.info(src=[ARCHIVE], decrypt_identity=IDENTITY).values["archives"]
    assert (told["name"], told["encrypted"], told["compression"]) == (box.name, True, "zstd")
    back = destination.restore(src=ARCHIVE, decrypt_identity=IDENTITY, allowed_signers=ALLOWED)
    assert back.values["signed_by"] == "me@example.com"
    arrived = destination.box(back.one["name"], "keeper", box.address)
    memory.goes_on_in(arrived)
    assert arrived.sh("cat /only/f /only/h; ls /only").split() == ["unmistakable-secret", "added", "f", "h", "sub"]
    assert not destination.restore(src=ARCHIVE, decrypt_identity=IDENTITY).changed


def test_podman_reads_what_age_gives_by_hand(host: Node) -> None:
    recipient = make_identity(host)
    box = box_with_changes(host)
    memory = box.memory()
    host.sh(f"echo {recipient} >{SCRATCH}/recipients")
    host.checkpoint(box.name, dest=f"{SCRATCH}/", compress="none", encrypt_recipients_file=f"{SCRATCH}/recipients")
    box.remove()
    path = f"{SCRATCH}/{box.name}.tar.age"
    by_hand = f"age -d -i {IDENTITY} {path}"
    assert "unmistakable-secret" in host.sh(f"{by_hand} | tar -xO rootfs-diff.tar | tar -xO only/f")
    host.sh(f"{by_hand} >{SCRATCH}/plain.tar")
    host.podman("container", "restore", "--import", f"{SCRATCH}/plain.tar")
    memory.goes_on_in(box)


def test_image_is_made_of_an_encrypted_archive(host: Node) -> None:
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", IDENTITY)
    recipient = host.run("cat", f"{IDENTITY}.pub").strip()
    box = box_with_changes(host)
    memory = box.memory()
    host.checkpoint(box.name, dest=ARCHIVE, encrypt_to=[recipient])
    box.remove()
    name = f"localhost/it/encrypted:{box.id[:12]}"
    host.later("podman", "rmi", "--force", name)
    refused = host.module("checkpoint_image", name=name, src=ARCHIVE)
    assert refused.codes == ["archive_encrypted"]
    made = host.module("checkpoint_image", name=name, src=ARCHIVE, decrypt_identity=IDENTITY)
    assert not made.failed and made.changed, made.msg
    assert not host.module("checkpoint_image", name=name, src=ARCHIVE, decrypt_identity=IDENTITY).changed
    host.restore(image=name)
    memory.goes_on_in(host.box(box.name, "keeper", box.address))
