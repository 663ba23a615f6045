# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _facts
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts, Listener, parse_probe
from ansible_collections.ferry.podman.plugins.module_utils._host import PROBE

ANSWER = """Welcome to node2
@now
1760000100
@kernel
6.12.48-amd64 x86_64
@cpu
flags\t\t: fpu sse2 avx2
model name\t: Example: 1
@memory
MemAvailable:   2000 kB
SwapFree:       1000 kB
@criu
Version: 4.1.1
GitID: v4.1.1
@programs
/usr/sbin/criu
/usr/sbin/nft
@disks
Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/vda1        100        40        60      40% /
/dev/vdb 200 100 100 50% /srv/with space
@tcp
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 2 1 0 100 0 0 10 0
   2: 0000000000000000FFFF00000100630A:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 3 1 0 100 0 0 10 0
@udp
   5: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4 2 0 0
@io_uring_disabled
2
@lsm
@profiles
containers-default-0.62.2 (enforce)
/usr/bin/man (complain)
@interfaces
eth0
lo
@spool
1760000000:4096:/var/tmp/restore123
@reading
1
@end
"""


def test_everything_is_read() -> None:
    assert parse_probe(ANSWER) == HostFacts(
        kernel="6.12.48-amd64",
        machine="x86_64",
        cpu_flags=frozenset({"fpu", "sse2", "avx2"}),
        cpu_model="Example: 1",
        memory=2000 * 1024,
        swap=1000 * 1024,
        criu=(4, 1, 1),
        programs=frozenset({"criu", "nft"}),
        disks={"/": 60 * 1024, "/srv/with space": 100 * 1024},
        listeners=frozenset(
            {
                Listener("tcp", "0.0.0.0", 22),
                Listener("tcp", "::1", 8080),
                Listener("tcp", "10.99.0.1", 80),
                Listener("udp", "127.0.0.1", 53),
            }
        ),
        io_uring_disabled=2,
        profiles=frozenset({"containers-default-0.62.2", "/usr/bin/man"}),
        interfaces=frozenset({"eth0", "lo"}),
        spool=(_facts.Spooled("/var/tmp/restore123", 4096, 100),),
        reads_spool=True,
        clock=1760000100.0,
    )


def test_host_that_tells_nothing_has_no_facts() -> None:
    bare = "\n".join(line for line in ANSWER.splitlines() if line.startswith("@"))
    assert parse_probe(bare) == HostFacts()


@pytest.mark.parametrize("answer", ["", "permission denied", ANSWER.replace("@end\n", ""), "@end\n"])
def test_answer_that_is_not_whole_is_none(answer) -> None:
    assert parse_probe(answer) is None


def test_probe_suits_a_line_of_authorized_keys_and_a_shell_pattern() -> None:
    assert not set(PROBE) & set("'\"\\\n")
    assert "{{" not in PROBE and "{%" not in PROBE


def test_probe_of_this_machine_is_whole() -> None:
    done = subprocess.run(["sh", "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
    facts = parse_probe(done.stdout)
    assert facts is not None and facts.memory and facts.kernel and "/" in facts.disks and "lo" in facts.interfaces
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("path", "mount"), [("/srv/data/x", "/srv/data"), ("/srv/database", "/"), ("/", "/"), ("/srv/data", "/srv/data")]
)
def test_path_is_on_the_nearest_mount(path, mount) -> None:
    assert HostFacts(disks={"/": 1, "/srv/data": 2}).disk_of(path) == mount


def test_disk_that_is_not_listed_is_unknown() -> None:
    assert HostFacts(disks={"/srv/data": 2}).disk_of("/var/tmp") is None


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        (("tcp", "0.0.0.0", 80), ("tcp", "10.0.0.1", 80), True),
        (("tcp", "10.0.0.2", 80), ("tcp", "10.0.0.1", 80), False),
        (("tcp", "10.0.0.1", 80), ("tcp", "::", 80), True),
        (("tcp", "10.0.0.1", 80), ("tcp", "10.0.0.1", 80), True),
        (("udp", "0.0.0.0", 80), ("tcp", "0.0.0.0", 80), False),
        (("tcp", "0.0.0.0", 81), ("tcp", "0.0.0.0", 80), False),
    ],
)
def test_sockets_meet(one, other, meets) -> None:
    assert Listener(*one).meets(Listener(*other)) == meets


def test_only_open_connections_to_elsewhere_count() -> None:
    header = "  sl  local_address rem_address   st\n"
    lines = [
        "0: 0100630A:0016 FE00630A:CEAE 01 0",
        "1: 0100007F:0016 0100007F:CEAE 01 0",
        "2: 00000000:0016 00000000:0000 0A 0",
        "3: 0100630A:0016 FE00630A:CEAF 06 0",
    ]
    assert _facts.established(header + "\n".join(lines)) == 1


def test_memory_is_what_criu_writes() -> None:
    text = "1-2 ---p 0 00:00 0 [rollup]\nRss: 90 kB\nPss_Anon: 10 kB\nPss_File: 70 kB\nPss_Shmem: 5 kB\nSwapPss: 1 kB\n"
    assert _facts.memory_of(text) == 16 * 1024
    assert _facts.memory_of("") == 0


MOUNTS = """overlay / overlay rw 0 0
tmpfs /var tmpfs rw 0 0
/dev/sda1 /var ext4 rw,relatime 0 0
tmpfs /var/my\\040tmp tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/var/tmp", ("/var", "ext4")),
        ("/variable", ("/", "overlay")),
        ("/var/my tmp/x", ("/var/my tmp", "tmpfs")),
        ("/", ("/", "overlay")),
    ],
)
def test_file_system_of_a_path_is_the_last_one_mounted_above(path, found) -> None:
    assert _facts.file_system_of(path, MOUNTS) == found


def test_available_memory() -> None:
    assert _facts.available_memory("MemFree: 1 kB\nMemAvailable:  2 kB\n") == 2048
    assert _facts.available_memory("MemFree: 1 kB\n") is None


def test_shared_memory_is_told_apart() -> None:
    rollup = "55f0-7ffe ---p 00000000 00:00 0 [rollup]\nPss_Anon:  100 kB\nPss_Shmem:  30 kB\nSwapPss:  5 kB\n"
    assert _facts.memory_of(rollup) == 135 * 1024
    assert _facts.shared_of(rollup) == 30 * 1024
