# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Software that people run, moved while it is at work: nothing that a client was told is lost."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from clients import RedisCounter, redis_count
from conftest import ALIKE, borrowed
from helpers import Box, Memory, Node, forget_neighbour, wait_until
from road import Road

CLIENTS = "node2"
"""A third host."""

# -- Redis ------------------------------------------------------------------------------------------------------


class Pipeline(threading.Thread):
    """Increments a key of its own in batches, over one connection; each answer is one more than the last."""

    BATCH = 50

    def __init__(self, box: Box, key: str) -> None:
        super().__init__(daemon=True)
        self.key, self.count, self.error = key, 0, ""
        self.over = threading.Event()
        self._socket = box.connect()
        self._socket.settimeout(120)

    def run(self) -> None:
        answers = self._socket.makefile("rb")
        try:
            while not self.over.is_set():
                self._socket.sendall(f"INCR {self.key}\r\n".encode() * self.BATCH)
                for _number in range(self.BATCH):
                    self.count += 1
                    answer = answers.readline()
                    assert answer == b":%d\r\n" % self.count, (self.count, answer)
        except (OSError, AssertionError) as error:
            self.error = repr(error)


def test_redis_under_load(road: Road) -> None:
    box = road.source.start_on_lan("redis")
    pipelines = [Pipeline(box, f"key{number}") for number in range(3)]
    for pipeline in pipelines:
        pipeline.start()
    wait_until(lambda: all(pipeline.count > 500 for pipeline in pipelines), "the load")
    result = road.move(box)
    assert result.changed, result.msg
    moved = road.arrived(box)
    before = [pipeline.count for pipeline in pipelines]
    wait_until(lambda: all(p.count > count + 500 for p, count in zip(pipelines, before)), "the load to go on")
    for pipeline in pipelines:
        pipeline.over.set()
        pipeline.join(60)
        assert not pipeline.error
    with moved.connect() as fresh:
        for pipeline in pipelines:
            fresh.sendall(f"GET {pipeline.key}\r\n".encode())
            assert str(pipeline.count).encode() in fresh.recv(100)


# -- PostgreSQL ---------------------------------------------------------------------------------------------------

MOVES = 10


def on_other_host(client: Box, box: Box, *command: str) -> str:
    return client.node.podman("exec", client.id, *command, "-h", box.address, "-U", "postgres")


def query(client: Box, box: Box, sql: str) -> str:
    return on_other_host(client, box, "psql", "-XAtc", sql).strip()


def goes_on(client: Box, box: Box) -> None:
    rows = "select count(*) from pgbench_history"
    before = int(query(client, box, rows))
    wait_until(lambda: int(query(client, box, rows)) > before, "the load")


@pytest.fixture
def beside(lab: dict[str, Node]) -> Iterator[tuple[Road, Road, Node]]:
    """The ways there and back, and a host for clients: a host does not reach the macvlan containers of its own."""
    with borrowed(lab, *ALIKE, CLIENTS) as (one, other, third):
        yield Road(one, other), Road(other, one), third


def test_postgresql_ten_times_with_pgbench(beside: tuple[Road, Road, Node]) -> None:
    """Its clients keep their connections; what they were told is committed, and nothing else is."""
    there, back, third = beside
    client = third.start("localhost/lab/postgres", network="lan")
    try:
        box = there.source.start_on_lan("postgres", "-v", "it-postgres:/var/lib/postgresql")
        on_other_host(client, box, "pgbench", "--initialize", "--quiet", "--scale", "1")
        load = subprocess.Popen(
            client.node.command("podman", "exec", client.id, "pgbench", "-h", box.address, "-U", "postgres")
            + ["--client", "2", "--rate", "60", "--time", "1800", "--no-vacuum"],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number, road in zip(range(MOVES), itertools.cycle((there, back))):
            goes_on(client, box)
            assert load.poll() is None, f"pgbench ended before move {number}: {load.communicate()[0]}"
            box.node = road.source
            result = road.move(box)
            assert result.changed, result.msg
            assert result.values["tcp"] == "established"
            box = road.arrived(box)
        goes_on(client, box)
        # The next transactions fail as a whole, which ends pgbench with its figures.
        query(client, box, "alter table pgbench_history rename to history")
        said = load.communicate(timeout=60)[0]
        counted = int(re.search(r"number of transactions actually processed: (\d+)", said)[1])
        assert counted == int(query(client, box, "select count(*) from history")), said
        assert "number of failed transactions: 0" in said
        assert "reset" not in said and "terminated" not in said, said
        sums = "select sum(delta), (select sum(abalance) from pgbench_accounts) from history"
        assert len(set(query(client, box, sums).split("|"))) == 1
    finally:
        client.remove()


# -- nginx --------------------------------------------------------------------------------------------------------

MEGABYTES = 24


def test_nginx_in_the_middle_of_a_download(road: Road) -> None:
    box = road.source.start_on_lan("nginx")
    box.sh(f"head -c {MEGABYTES << 20} /dev/urandom >/srv/www/large")
    digest = box.sh("sha256sum /srv/www/large").split()[0]
    moving = threading.Event()
    with box.connect() as client:
        client.settimeout(120)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        answers = client.makefile("rb")
        while answers.readline() != b"\r\n":
            pass
        read = hashlib.sha256(first := answers.read(1 << 20))

        def rest() -> None:
            while block := answers.read(1 << 16):
                read.update(block)
                # Slowly, so that most of it is still to come when the move begins.
                time.sleep(0 if moving.is_set() else 0.5)

        reader = threading.Thread(target=rest, daemon=True)
        reader.start()
        assert len(first) == 1 << 20
        result = road.move(box)
        moving.set()
        assert result.changed, result.msg
        reader.join(120)
    assert read.hexdigest() == digest
    with road.arrived(box).connect() as fresh:
        fresh.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in fresh.recv(100)


# -- a tree of processes ------------------------------------------------------------------------------------------

TREE = r"""
import fcntl, json, os, socket, struct, threading, time
begun = time.monotonic()
ticks = {"thread": 0, "pipe": 0, "pair": 0}

def thread():
    while True:
        ticks["thread"] += 1
        time.sleep(0.01)

def echo(read, write):
    while True:
        write(read())

down, up = os.pipe(), os.pipe()
here, there = socket.socketpair(socket.AF_UNIX)
children = []
pipes = lambda: os.read(down[0], 8), lambda data: os.write(up[1], data)
pair = lambda: there.recv(8), there.send
for read, write in (pipes, pair):
    child = os.fork()
    if child == 0:
        echo(read, write)
    children.append(child)
threading.Thread(target=thread, daemon=True).start()

def count(name, send, receive):
    value = struct.pack("q", ticks[name] + 1)
    send(value)
    assert receive() == value
    ticks[name] += 1

def passed_on():
    while True:
        count("pipe", lambda data: os.write(down[1], data), lambda: os.read(up[0], 8))
        count("pair", here.send, lambda: here.recv(8))
        time.sleep(0.01)
threading.Thread(target=passed_on, daemon=True).start()

deleted = open("/deleted", "w+b")
os.unlink("/deleted")
deleted.write(b"deleted and open")
deleted.flush()
whole, part = open("/locked", "w"), open("/ranged", "w+b")
fcntl.flock(whole, fcntl.LOCK_EX)
part.write(bytes(100))
part.flush()
fcntl.lockf(part, fcntl.LOCK_EX, 10, 5)
shared = open("/dev/shm/tree", "w+b")
shared.write(b"shared")
shared.flush()

server = socket.create_server(("0.0.0.0", 7000))
while True:
    client, _ = server.accept()
    deleted.seek(0)
    shared.seek(0)
    report = {
        **ticks,
        "pids": [os.getpid(), *children],
        "alive": [os.waitpid(child, os.WNOHANG) == (0, 0) for child in children],
        "age": time.monotonic() - begun,
        "deleted": deleted.read().decode(),
        "shared": shared.read().decode(),
        "hostname": socket.gethostname(),
        "colour": os.environ["COLOUR"],
    }
    client.sendall(json.dumps(report).encode())
    client.close()
"""

LOCKED = r"""
import fcntl
def taken(path, *range):
    with open(path, "r+b") as file:
        try:
            (fcntl.lockf if range else fcntl.flock)(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *range)
        except OSError:
            return True
    return False
print(taken("/locked"), taken("/ranged", 10, 5), taken("/ranged", 10, 50))
"""


def report(box: Box) -> dict:
    with box.connect() as client:
        return json.loads(b"".join(iter(lambda: client.recv(4096), b"")))


def test_tree_of_processes(road: Road) -> None:
    flags = ("--entrypoint", "python3", "--hostname", "tree", "-e", "COLOUR=blue", "--label", "tier=gold")
    box = road.source.start_on_lan("keeper", *flags, "--restart", "on-failure:3", command=("-c", TREE))
    wait_until(lambda: report(box)["pair"] > 20, "the processes to talk")
    locks = box.node.podman("exec", box.id, "python3", "-c", LOCKED)
    assert locks == "True True False"
    before, settings = report(box), box.inspect()
    assert road.move(box).changed
    moved = road.arrived(box)
    after = report(moved)
    assert after["alive"] == [True, True]
    for same in ("pids", "deleted", "shared", "hostname", "colour"):
        assert after[same] == before[same]
    assert after["age"] > before["age"]
    assert all(after[name] >= before[name] for name in ("thread", "pipe", "pair"))
    wait_until(lambda: all(report(moved)[name] > after[name] for name in ("thread", "pipe", "pair")), "all to go on")
    assert moved.node.podman("exec", moved.id, "python3", "-c", LOCKED) == locks
    now = moved.inspect()
    assert now["Config"]["Labels"] == settings["Config"]["Labels"]
    assert now["HostConfig"]["RestartPolicy"] == settings["HostConfig"]["RestartPolicy"]


# -- there and back -------------------------------------------------------------------------------------------------


def test_there_and_back_and_there(round_trip: tuple[Road, Road]) -> None:
    there, back = round_trip
    box = there.source.start_on_lan("keeper", "-v", "it-trip:/data", command=("20",))
    box.sh("echo row >/data/table; echo new >/only/f")
    client = box.connect()
    memory: Memory = box.memory()
    for road in (there, back, there):
        box.node = road.source
        result = road.move(box)
        assert result.changed, result.msg
        box = road.arrived(box)
        memory.goes_on_in(box)
        memory = box.memory()
        assert box.sh("cat /data/table /only/f").split() == ["row", "new"]
    client.sendall(b"next\n")
    assert int(client.recv(100)) == memory.number + 1
    client.close()


def counts_on(client: RedisCounter) -> None:
    before = client.count
    wait_until(lambda: client.count > before + 50, "the client to count")


def test_counter_goes_there_and_back(round_trip: tuple[Road, Road]) -> None:
    there, back = round_trip
    box = there.source.start_on_lan("redis")
    client = RedisCounter(box.address)
    client.start()
    for road in (there, back):
        counts_on(client)
        box.node = road.source
        assert road.move(box).changed
        box = road.arrived(box)
    counts_on(client)
    client.finish()
    assert client.error is None
    assert redis_count(box.address) == client.count


# -- memory of the module ---------------------------------------------------------------------------------------------

LARGE, MOST = 1000, 100


def test_a_gigabyte_takes_little_memory_of_the_module(road: Road) -> None:
    box = road.source.start_on_lan("keeper", command=(str(LARGE),))
    forget_neighbour(box.address)
    memory = box.memory()
    result = road.move(box, extra=road.source.memory_noting())
    assert result.changed, result.msg
    assert result.values["bytes"] > LARGE << 20
    memory.goes_on_in(road.arrived(box))
    peaks = road.source.memory_noted()
    # The module's is the largest of them: Ansible's wrapper and its question for the result are small.
    assert 10 < max(peaks) < MOST, peaks


pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
