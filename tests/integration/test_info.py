# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What podman_checkpoint_info tells, and damaged archives."""

from __future__ import annotations

import re

from helpers import SCRATCH, Node, wait_until

ARCHIVE = f"{SCRATCH}/a.tar.zst"


def told_free(host: Node) -> int:
    return int(host.info().values["host"]["free_space"]["/var/tmp"])


def free(host: Node) -> int:
    return int(host.run("df", "--output=avail", "--block-size=1", "/var/tmp").split()[1])


def test_host(host: Node) -> None:
    told = host.info().values
    assert told["containers"] == told["archives"] == []
    facts = told["host"]
    version = ".".join(map(str, host.podman_version))
    assert (facts["podman_version"], facts["can_checkpoint"], facts["findings"]) == (version, True, [])
    assert facts["runtime"]["name"] == "crun" and facts["runtime"]["has_criu"]
    assert facts["criu"]["check"] and facts["criu"]["mem_track"] is False
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", facts["criu"]["version"])
    assert (facts["rootless"], facts["network_backend"]) == (False, "netavark")
    assert (facts["graph_root"], facts["temporary_directory"]) == ("/var/lib/containers/storage", "/var/tmp")
    assert facts["free_space"].keys() == {facts["graph_root"], facts["temporary_directory"]}
    # The disk is this machine's; other tests write to it.
    wait_until(lambda: abs(told_free(host) - free(host)) < 1 << 30, "the same answer of df")
    assert facts["memory_free"] > 1 << 20


def test_host_without_criu(host: Node) -> None:
    criu = host.sh("command -v criu").strip()
    host.run("mv", criu, f"{criu}.away")
    try:
        facts = host.info().values["host"]
    finally:
        host.run("mv", f"{criu}.away", criu)
    assert not facts["can_checkpoint"] and facts["criu"]["version"] is None
    assert [finding["code"] for finding in facts["findings"]] == ["criu_absent"]


def test_containers(host: Node) -> None:
    box, other = host.start("counter", "--rm"), host.start()
    host.podman("create", "--name", "it-created", "localhost/lab/counter")
    host.checkpoint(other.name, keep=True)
    containers = {entry["name"]: entry for entry in host.info(name=[other.name, "it-created", box.name]).containers}
    assert list(containers) == sorted(containers)
    running, frozen = containers[box.name], containers[other.name]
    assert (running["status"], running["checkpointed"], running["findings"]) == ("running", False, [])
    assert (frozen["status"], frozen["checkpointed"]) == ("exited", True)
    assert frozen["checkpoint_path"] == f"{other.userdata}/checkpoint"
    assert frozen["checkpoint_log"] == f"{other.userdata}/dump.log"
    assert [finding["code"] for finding in frozen["findings"]] == ["checkpointed"]
    assert [finding["code"] for finding in containers["it-created"]["findings"]] == ["not_running"]
    host.restore(other.name)
    everything = {entry["name"]: entry for entry in host.info(name=None).containers}
    assert everything.keys() == host.names()
    restored = everything[other.name]
    assert (restored["restored"], restored["checkpointed"], restored["findings"]) == (True, False, [])
    assert restored["restored_at"] > frozen["checkpointed_at"]


def test_archive(host: Node) -> None:
    box = host.start("redis", "--volume", "it-data:/data", network="lan")
    box.sh("head -c 300000 /dev/urandom > /data/file; head -c 200000 /dev/urandom > /root/file")
    done = host.checkpoint(box.name, dest=ARCHIVE).one
    (told,) = host.info(src=[ARCHIVE]).values["archives"]
    assert (told["src"], told["compression"], told["size"]) == (ARCHIVE, "zstd", done["size"])
    assert (told["engine"], told["name"], told["id"], told["runtime"]) == ("podman", box.name, box.id, "crun")
    assert (told["image"], told["image_id"]) == (done["image"], done["image_id"])
    assert (told["pre_checkpoint"], told["needs_previous"]) == (False, False)
    (process,) = told["processes"]
    assert (process["pid"], process["ppid"], process["command"]) == (1, 0, "redis-server")
    assert process["threads"] > 1
    assert (told["networks"], told["volumes"]) == (["lan"], ["it-data"])
    assert told["checkpoint_size"] >= told["statistics"]["pages_written"] * 4096
    assert 300_000 <= told["volumes_size"] < 320_000
    assert 200_000 <= told["rootfs_size"] < 220_000
    assert told["created"].startswith("20")
    listening = {
        (socket["protocol"], socket["local_port"]) for socket in told["sockets"] if socket["state"] == "listen"
    }
    assert ("tcp", 6379) in listening
    assert "PATH" in told["environment"] and "environment_values" not in told


def test_open_connection(host: Node) -> None:
    box = host.start_on_lan("keeper", command=("1",))
    with box.connect() as client:
        here, port = client.getsockname()
        host.checkpoint(box.name, dest=ARCHIVE, tcp_established=True)
    (told,) = host.info(src=[ARCHIVE], environment_values=True).values["archives"]
    (found,) = (socket for socket in told["sockets"] if socket["state"] == "established")
    assert found == {
        "protocol": "tcp",
        "state": "established",
        "local_address": box.address,
        "local_port": 7000,
        "remote_address": here,
        "remote_port": port,
        "path": None,
    }
    assert told["environment_values"]["PATH"]


DAMAGE = """
import os, random, sys, zlib
path = sys.argv[1]
whole = open(path + "/whole.tar", "rb").read()
header = whole.index(b"checkpoint/inventory.img")
cases = {
    "empty": b"",
    "first-block": whole[:300],
    "in-a-header": whole[: header + 200],
    "between-members": whole[:header],
    "in-the-pages": whole[: len(whole) // 2],
    "before-the-end": whole[:-1024].rstrip(b"\\0"),
    "half-of-the-end": whole[: len(whole.rstrip(b"\\0")) // 512 * 512 + 1024],
    "garbage": random.Random(1).randbytes(100_000),
    "flipped": whole[:header] + bytes([whole[header] ^ 0xFF]) + whole[header + 1 :],
    "text": b"this is no archive\\n" * 100,
    "without-checkpoint": whole[:header] + bytes(1024),
}
for name, content in cases.items():
    with open(path + "/" + name, "wb") as file:
        file.write(content)
packed = open(path + "/whole.zst", "rb").read()
middle = len(packed) // 2
with open(path + "/cut.zst", "wb") as file:
    file.write(packed[:middle])
with open(path + "/flipped.zst", "wb") as file:
    file.write(packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :])
with open(path + "/cut.gz", "wb") as file:
    file.write(open(path + "/whole.gz", "rb").read()[:-100])
print(*cases, "cut.zst", "flipped.zst", "cut.gz", "directory", "absent")
"""


def left_by_modules(host: Node) -> set[str]:
    """What lies in the directories for temporary files, but for Ansible's own, which goes when Ansible has gone."""
    return {*host.files("/var/tmp"), *(name for name in host.files("/tmp") if not name.startswith("ansible_"))}


def test_damaged_archives(host: Node) -> None:
    box = host.start("keeper", command=("1",))
    host.checkpoint(box.name, dest=f"{SCRATCH}/whole.tar", compress="none", leave_running=True)
    host.checkpoint(box.name, dest=f"{SCRATCH}/whole.zst", leave_running=True)
    host.checkpoint(box.name, dest=f"{SCRATCH}/whole.gz", compress="gzip")
    box.remove()
    names = host.run("python3", "-c", DAMAGE, SCRATCH).split()
    host.run("mkdir", f"{SCRATCH}/directory")
    before = host.names(), left_by_modules(host)
    for module in ("podman_restore", "podman_checkpoint_info"):
        wrap = (lambda path: {"src": path}) if module == "podman_restore" else (lambda path: {"src": [path]})
        for name, result in zip(names, host.modules(module, *(wrap(f"{SCRATCH}/{name}") for name in names))):
            assert result.failed, f"{module} takes {name} for an archive"
            assert f"{SCRATCH}/{name}" in result.msg, result.msg
            assert "Traceback" not in str(result.values)
    assert (host.names(), left_by_modules(host)) == before
    assert not host.module("podman_restore", src=f"{SCRATCH}/whole.tar").failed
