# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Faults at a chosen moment of a move, and the proof that afterwards one copy runs with all of its state."""

from __future__ import annotations

import contextlib
import pathlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from helpers import LAB, Box, Node, Result, parsed, run, wait_until
from road import Road

WATCH = """
import json, os, signal, sys, time
ident, phase, delay = sys.argv[1], sys.argv[2], float(sys.argv[3])
order = "assess prepare precopy freeze transfer restore verify commit".split()
begun, seen = time.time(), False
def entered():
    global seen
    try:
        if phase.startswith("/"):
            return os.stat(phase).st_mtime > begun
        with open(f"/var/lib/ferry/{ident}.json") as journal:
            current = json.load(journal)["phase"]
        seen = True
        return order.index(current) >= order.index(phase)
    except FileNotFoundError:
        return seen
    except (OSError, ValueError):
        return False
print("ready", flush=True)
end = time.monotonic() + 240
while not entered():
    if time.monotonic() > end:
        sys.exit("waited in vain")
    time.sleep(0.0005)
time.sleep(delay)
"""
"""Waits until a move is in a phase or past it, or a file has been written, and for some seconds more."""

KILL = """
import glob
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(link) == f"/run/lock/ferry.podman/{ident}":
            os.kill(int(link.split("/")[2]), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""
"""Kills the module that holds the container."""

KILL_SERVICE = """
os.kill(int(open("/run/ferry-lab-podman.pid").read()), signal.SIGKILL)
"""

KILL_SERVICE_THERE = "kill -9 $(cat /run/ferry-lab-podman.pid)"

TELL = "\nprint('now', flush=True)\n"


class Trigger:
    """Something that happens when a move is in a phase.

    :param phase: of the journal, or the path of a file on the source that is written then.
    :param action: Python that runs on the source at that moment.
    :param command: runs on another host at that moment; its shell waits there already.
    """

    def __init__(
        self, box: Box, phase: str, delay: float = 0.0, action: str = "", elsewhere: tuple[Node, str] | None = None
    ) -> None:
        self._watcher = box.node.popen("python3", "-c", WATCH + action + TELL, box.id, phase, str(delay))
        self._line("ready")
        self._other: subprocess.Popen[str] | None = None
        if elsewhere is not None:
            node, command = elsewhere
            self._other = node.popen_with_input("sh", "-c", f"echo ready; read go\n{command}\necho done")
            assert self._other.stdout is not None
            assert self._other.stdout.readline() == "ready\n"
            self._relay = threading.Thread(target=self._pass_on, daemon=True)
            self._relay.start()

    def _line(self, expected: str) -> None:
        assert self._watcher.stdout is not None
        assert (line := self._watcher.stdout.readline().strip()) == expected, line

    def _pass_on(self) -> None:
        self._line("now")
        assert self._other is not None and self._other.stdin is not None
        self._other.stdin.write("go\n")
        self._other.stdin.flush()

    def happened(self) -> None:
        """Wait for it; it must have."""
        if self._other is None:
            self._line("now")
        else:
            self._relay.join(timeout=90)
            output = self._other.communicate(timeout=30)[0]
            assert output.rstrip().endswith("done"), output
        assert self._watcher.wait(timeout=30) == 0


class Counter(threading.Thread):
    """Counts in a keeper over one connection, and sees that each answer is one more than the last."""

    def __init__(self, box: Box) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.error: str | None = None
        self._finished = threading.Event()
        self._socket = box.connect()
        self._socket.settimeout(400)
        self._stream = self._socket.makefile("rw")

    def run(self) -> None:
        try:
            while not self._finished.wait(0.02):
                self._stream.write("next\n")
                self._stream.flush()
                answer = self._stream.readline().strip()
                if answer != str(self.count + 1):
                    raise ValueError(f"increment {self.count + 1} was answered with {answer!r}")
                self.count += 1
        except (OSError, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def goes_on(self) -> None:
        before = self.count
        # After minutes without an answer TCP tries again only after minutes.
        wait_until(lambda: self.error or self.count > before + 5, "the client to count on", 240)
        assert self.error is None, self.error

    def finish(self) -> None:
        self._finished.set()
        self.join(timeout=10)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Cargo:
    """A container with memory, files, a volume and a client with an open connection: what a move must not lose."""

    rows = 200_000
    """Bytes in the volume; many of them go before the freeze."""

    def __init__(self, node: Node, *flags: str, megabytes: int = 60, image: str = "keeper") -> None:
        self.volume = f"it-{node.name}-{time.monotonic_ns()}"
        flags = ("-v", f"{self.volume}:/data", *flags)
        self.box = node.start_on_lan(image, *flags, command=(str(megabytes),))
        self.box.sh(f"head -c {self.rows} /dev/urandom >/data/rows; head -c 100000 /dev/urandom >/only/f; rm /only/g")
        self._sum, self._files = self.box.ask("sum"), self._digests(self.box)
        self.client = Counter(self.box)
        self.client.start()

    @staticmethod
    def _digests(box: Box) -> str:
        return box.sh("sha256sum /data/rows /only/f; ls /only")

    def is_whole_in(self, box: Box) -> None:
        """The same process with the same connection, memory and files."""
        assert box.status == "running"
        self.client.goes_on()
        assert box.ask("sum") == self._sum
        assert self._digests(box) == self._files


def copies(box: Box) -> set[str]:
    """Where processes of the container are, in the whole lab, whatever podman says: their cgroups."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            text = path.read_text()
            if re.search(rf"/libpod-{box.id}", text) and "(deleted)" not in text:
                found.add(next(line for line in text.splitlines() if box.id in line).split(box.id)[0])
    return found


def traces(node: Node, box: Box) -> list[str]:
    """What a move must not leave on a host when it is over."""
    script = f"""
        podman ps --all --format '{{{{.Names}}}}' | grep ^ferry- || :
        nft list tables | grep ferry || :
        ls -d /var/lib/ferry/* /tmp/ferry-* 2>/dev/null || :
        ls -d /run/ferry.podman/* /var/lib/containers/ferry.podman 2>/dev/null || :
        pgrep --list-full ssh | grep -e /tmp/ferry-ssh- || :
        pgrep --list-full -x crun -x criu | grep {box.id} || :
    """
    return node.sh(script).splitlines()


def clean(road: Road, box: Box, *, spools: bool = True) -> None:
    """One copy runs in the whole lab, and nothing else of the move is left.

    :param spools: podman was not killed, so it has removed its own files.
    """
    assert len(copies(box)) == 1, copies(box)
    for node in (road.source, road.destination):
        assert not (found := traces(node, box)), found
        if spools:
            wait_until(lambda node=node: not spooled(node), f"podman on {node.name} to tidy up")


def spooled(node: Node) -> list[str]:
    return node.sh("ls -d /var/tmp/restore* /var/tmp/checkpoint* 2>/dev/null || :").split()


def remove_spools(node: Node) -> None:
    """A service that is killed leaves them."""
    node.sh("rm -rf /var/tmp/restore* /var/tmp/checkpoint*")


def ended(process: subprocess.Popen[str]) -> Result | None:
    """The answer of a module; None if it was killed before it gave one."""
    output, errors = process.communicate(timeout=180)
    with contextlib.suppress(AssertionError):
        return parsed(output, errors)
    return None


def cut_scripts(address: str) -> tuple[str, str]:
    """Shell for a host: to hear nothing of an address any more, and to hear it again."""
    table = "netdev it_cut"
    device = "$(ip -o -4 route get 10.99.0.254 | sed 's/.* dev \\([^ ]*\\).*/\\1/')"
    begin = (
        f"nft -f - <<E\nadd table {table}\nadd chain {table} in "
        f"{{ type filter hook ingress device {device} priority -400; }}\n"
        f"add rule {table} in ip saddr {address} drop\nE\n"
    )
    return begin, f"nft add table {table}; nft delete table {table}"


ACTIVATE = """
import os, socket
path = "/run/podman/podman.sock"
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(128)
print("ready", flush=True)
while True:
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        log = os.open("/var/log/podman-service.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execvp("podman", ["podman", "system", "service", "--time", "0"])
    with open("/run/ferry-lab-podman.pid", "w") as file:
        file.write(str(child))
    os.waitpid(child, 0)
"""
"""Keeps the socket and starts the service anew whenever it ends, as systemd does."""


@contextlib.contextmanager
def socket_activated(node: Node) -> Iterator[None]:
    """The service comes back by itself."""
    node.service("stop")
    keeper = node.popen("python3", "-c", ACTIVATE)
    assert keeper.stdout is not None and keeper.stdout.readline() == "ready\n"
    try:
        wait_until(lambda: "OK" in node.sh("curl -s --unix-socket /run/podman/podman.sock http://d/_ping || :"), "it")
        yield
    finally:
        keeper.terminate()
        keeper.communicate(timeout=30)
        node.service("kill")
        node.service("start")


def kill_sessions(peer: Node) -> str:
    """Shell for a host: kills what its sshd has begun for another host."""
    sockets = f"ss -Htnp 'sport = :22 and dst {peer.address}'"
    return f"kill -9 $({sockets} | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u)"


def reboot(node: Node) -> None:
    """Power loss, and a boot."""
    run(LAB, "stop", node.name)
    run(LAB, "start", node.name)
    node.sh("mkdir -p /run/netns")
    node.service("start")
