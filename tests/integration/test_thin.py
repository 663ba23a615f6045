# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Memory that goes beside the archive: where it lies, what happens when there is no room, and that nothing stays."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest
from faults import KILL_SERVICE_THERE, Cargo, Trigger, clean, ended
from helpers import SCRATCH, Box, Node, parsed
from road import Road

MEMORY = "/run/ferry.podman"
DISK = "/var/lib/containers/ferry.podman"


@pytest.fixture
def cargo(road: Road) -> Cargo:
    for node in (road.source, road.destination):
        # Of a test that failed; what is left after one that passed, it has looked for itself.
        node.later("sh", "-c", f"rm -rf /var/lib/ferry {MEMORY}/* {DISK}")
    return Cargo(road.source, "--restart", "always")


def moved(road: Road, cargo: Cargo, **options: object) -> dict[str, object]:
    """Move it, see that it is whole and that nothing is left, and return what the module said."""
    result = road.move(cargo.box, **options)
    assert result.changed, result.msg
    cargo.is_whole_in(road.arrived(cargo.box))
    clean(road, cargo.box)
    return result.values


@contextlib.contextmanager
def memory_left(node: Node, megabytes: int) -> Iterator[None]:
    """The host says that it has so much memory left."""
    node.sh(f"sed 's/^MemAvailable:.*/MemAvailable: {megabytes * 1000} kB/' /proc/meminfo >/root/meminfo")
    node.run("mount", "--bind", "/root/meminfo", "/proc/meminfo")
    try:
        yield
    finally:
        node.sh("umount /proc/meminfo; rm /root/meminfo")


@contextlib.contextmanager
def small(node: Node, megabytes: int) -> Iterator[None]:
    """The place in memory takes no more, whatever it promises."""
    node.sh(f"mkdir -p {MEMORY}; mount -t tmpfs -o mode=700,size={megabytes}m small {MEMORY}")
    try:
        yield
    finally:
        node.sh(f"umount {MEMORY}")


# -- the way it goes ------------------------------------------------------------------------------------------------


def test_thin_is_what_large_ones_do_by_themselves(road: Road, cargo: Cargo) -> None:
    told = moved(road, cargo)
    assert (told["transfer"], told["transfer_reason"]) == ("thin", "Its memory lies in memory on both hosts.")
    assert told["bytes"] > 60_000_000  # type: ignore[operator]
    mode = road.destination.sh(f"stat -c '%a %U' {MEMORY}; stat -f -c %T {MEMORY}").split()
    assert mode == ["700", "root", "tmpfs"]


def test_small_ones_go_as_an_archive(road: Road) -> None:
    box = road.source.start("counter")
    result = road.move(box)
    assert result.values["transfer"] == "stream" and "so little" in result.values["transfer_reason"]
    road.arrived(box).counts_on()


@pytest.mark.parametrize(("here", "there"), [(30, 8000), (8000, 130), (30, 130)])
def test_disk_serves_where_there_is_little_memory(road: Road, cargo: Cargo, here: int, there: int) -> None:
    with memory_left(road.source, here), memory_left(road.destination, there):
        told = moved(road, cargo)
    assert told["transfer"] == "thin"
    reason = str(told["transfer_reason"])
    assert ("The source has" in reason, "The destination has" in reason) == (here < 100, there < 200)


def test_key_that_must_not_receive_goes_as_an_archive(road: Road, cargo: Cargo) -> None:
    road.without_receiver()
    told = moved(road, cargo)
    assert told["transfer"] == "stream"
    assert "No directory could be made" in str(told["transfer_reason"]) or "failed" in str(told["transfer_reason"])


def test_what_cannot_be_thin_is_refused_if_it_must_be(road: Road, cargo: Cargo) -> None:
    life = cargo.box.life
    result = road.move(cargo.box, transfer="thin", keep_source=True)
    assert result.failed and "not_thin" in result.codes, result.msg
    assert cargo.box.life == life


@pytest.mark.parametrize("compress", ["zstd", "none"])
def test_compression_as_it_is_asked_for(road: Road, cargo: Cargo, compress: str) -> None:
    assert moved(road, cargo, compress=compress)["compression"] == compress


def test_without_zstd_there_nothing_is_compressed(road: Road, cargo: Cargo) -> None:
    away = "mv /usr/bin/zstd /usr/bin/zstd.away"
    road.destination.later("sh", "-c", "[ ! -e /usr/bin/zstd.away ] || mv /usr/bin/zstd.away /usr/bin/zstd")
    road.destination.sh(away)
    assert moved(road, cargo, compress="zstd")["compression"] == "none"


def test_checkpoint_that_was_kept_is_not_touched(road: Road) -> None:
    """podman has left a directory where the link would be."""
    box = road.source.start_on_lan("keeper", command=("60",))
    road.source.podman("container", "checkpoint", "--keep", "--leave-running", "--tcp-established", box.id)
    result = road.move(box)
    assert result.changed, result.msg
    assert result.values["transfer"] == "stream"
    assert "was kept" in result.values["transfer_reason"]


# -- no room ----------------------------------------------------------------------------------------------------------


def failed(road: Road, cargo: Cargo, **options: object) -> str:
    """The move fails, and the container has its memory on the source."""
    result = road.move(cargo.box, **options)
    assert result.failed and result.values["location"] == "source", result.msg
    cargo.is_whole_in(cargo.box)
    return result.msg


def test_memory_there_is_full_in_the_middle(road: Road, cargo: Cargo) -> None:
    with small(road.destination, 30):
        message = failed(road, cargo)
        assert "No space left" in message and "runs again from the same memory" in message
        clean(road, cargo.box)
    moved(road, cargo)


def test_memory_here_is_full_in_the_middle(road: Road, cargo: Cargo) -> None:
    life = cargo.box.life
    with small(road.source, 30):
        message = failed(road, cargo)
        assert "still runs" in message
        assert cargo.box.life == life
        clean(road, cargo.box)
    moved(road, cargo)


def test_receiver_is_killed_for_want_of_memory(road: Road, cargo: Cargo) -> None:
    """As the kernel does it where memory runs out."""
    trigger = Trigger(cargo.box, "freeze", 0.6, elsewhere=(road.destination, "pkill -9 -x cat"))
    process = road.source.start_module("podman_migrate", **road._options(cargo.box.name), bandwidth="30M")
    trigger.happened()
    result = ended(process)
    assert result is not None and result.failed and result.values["location"] == "source"
    assert "could not receive the memory" in result.msg
    cargo.is_whole_in(cargo.box)
    clean(road, cargo.box)
    moved(road, cargo)


def test_claims_of_moves_at_once_are_added_up(road: Road) -> None:
    """The second finds the memory taken by the first, which has not filled it yet."""
    boxes = [road.source.start_on_lan("keeper", command=("100",)) for _number in range(2)]
    memories = [box.memory() for box in boxes]
    with memory_left(road.destination, 450):
        results = both(road, boxes)
    for box, memory in zip(boxes, memories):
        memory.goes_on_in(road.arrived(box))
    reasons = sorted(str(result["transfer_reason"]) for result in results)
    ways = [result["transfer"] for result in results]
    assert ways.count("thin") == 1 and ways.count("stream") == 1, results
    assert any("MB left" in reason for reason in reasons), reasons
    assert road.destination.sh(f"ls {MEMORY}; ls {DISK} 2>/dev/null || :") == ""


def both(road: Road, boxes: list[Box]) -> list[dict[str, object]]:
    processes = [
        road.source.start_module("podman_migrate", **road._options(box.name), bandwidth="60M") for box in boxes
    ]
    results = [parsed(*process.communicate(timeout=180)) for process in processes]
    assert not any(result.failed for result in results), [result.msg for result in results]
    return [result.values for result in results]


# -- what was left ---------------------------------------------------------------------------------------------------


def test_directory_of_a_killed_run_is_no_hindrance(road: Road, cargo: Cargo) -> None:
    for node in (road.source, road.destination):
        node.sh(f"mkdir -p {MEMORY}/{cargo.box.id}/checkpoint {DISK}/{cargo.box.id}/checkpoint")
        node.sh(f"echo junk >{MEMORY}/{cargo.box.id}/checkpoint/pages-1.img")
        node.sh(f"echo 999 >{MEMORY}/{cargo.box.id}/claim")
    assert moved(road, cargo)["transfer"] == "thin"


def test_only_copy_outlives_a_reboot(road: Road, cargo: Cargo) -> None:
    """Nobody can tell whether it runs there, so it may have to go on from here after all."""
    trigger = Trigger(cargo.box, "restore", 0.0, elsewhere=(road.destination, KILL_SERVICE_THERE))
    process = road.source.start_module("podman_migrate", **road._options(cargo.box.name), timeout=25)
    trigger.happened()
    result = ended(process)
    assert result is not None and result.failed
    if result.values["location"] == "unknown":
        link = road.source.sh(f"readlink {cargo.box.userdata}/checkpoint").strip()
        assert link == f"{DISK}/{cargo.box.id}/checkpoint"
        assert road.source.sh(f"ls {MEMORY}") == ""
    road.destination.service("start")
    road.destination.sh(f"rm -rf /var/tmp/restore* /var/tmp/checkpoint*; mkdir -p {SCRATCH}")
    again = road.move(cargo.box, timeout=25)
    assert not again.failed, again.msg
    cargo.is_whole_in(road.arrived(cargo.box))
    clean(road, cargo.box)


def test_many_processes(road: Road) -> None:
    """Each has pages of its own; the large ones go side by side."""
    script = (
        "import os, time\n"
        "for size in (30, 1, 25, 20, 2, 15):\n"
        "    if os.fork() == 0:\n"
        "        held = os.urandom(size << 20)\n"
        "        while True: time.sleep(1)\n"
        "time.sleep(2); print('ready', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    box = road.source.start("keeper", "--entrypoint", "python3", command=("-c", script))
    subprocess.run(["sleep", "4"], check=True)
    result = road.move(box, force=True)
    assert result.changed, result.msg
    assert result.values["transfer"] == "thin"
    assert len(road.destination.podman("top", box.id, "pid").split()) == 8
    clean(road, box)
