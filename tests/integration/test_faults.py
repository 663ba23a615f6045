# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What breaks meanwhile: services, modules, disks. Whatever it is, no memory of a container is lost."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import typing as t
from collections.abc import Iterator

import pytest
from helpers import SCRATCH, Box, Memory, Node, Result, forget_neighbour, wait_until

ARCHIVE = f"{SCRATCH}/a.tar.zst"
SOCKET = "/run/podman/podman.sock"
STORAGE = "/var/lib/containers/storage"
KINDS = {"plain": (), "rm": ("--rm",), "always": ("--restart", "always")}
"""podman removes the second kind when a checkpoint fails after the freeze, and starts the third one afresh."""

kinds = pytest.mark.parametrize("kind", KINDS)


def keeper(node: Node, kind: str, megabytes: int = 40) -> Box:
    return node.start_on_lan("keeper", *KINDS[kind], command=(str(megabytes),))


def is_as_before(box: Box, memory: Memory, kind: str) -> None:
    """The same process, still removed or restarted by podman when it ends, and nothing holds it any more."""
    memory.goes_on_in(box)
    raw = box.inspect()["HostConfig"]
    assert raw["AutoRemove"] == (kind == "rm")
    assert raw["RestartPolicy"]["Name"] == ("always" if kind == "always" else "no")
    assert not [name for name in box.node.names() if name.startswith("ferry-")]


# -- the service ------------------------------------------------------------------------------------------------

NONSENSE = """
import os, socket, sys, threading
def serve(path, answer):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        client, _ = listener.accept()
        client.recv(65536)
        if answer is None:
            kept.append(client)
            continue
        client.sendall(answer)
        client.close()
kept = []
page = b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\n<html>"
answers = {"page": page, "noise": b"220 smtp.example.com\\r\\n", "nothing": b"", "silence": None,
           "moved": page.replace(b"200 OK", b"302 Found\\r\\nLocation: http://example.com/")}
for name, answer in answers.items():
    threading.Thread(target=serve, args=(sys.argv[1] + "/" + name, answer)).start()
"""


def test_no_service(host: Node) -> None:
    box = host.start()
    life = box.life
    advice = "no podman service listens there. Start it: systemctl enable --now podman.socket."
    host.service("stop")
    cases = [
        ("podman_checkpoint", {"name": box.name}),
        ("podman_restore", {"name": box.name}),
        ("podman_checkpoint_info", {"url": "unix:///run/no-such.sock"}),
    ]
    for module, options in cases:
        result = host.module(module, **options)
        assert result.failed and not result.changed
        assert advice in result.msg and str(options.get("url", SOCKET)) in result.msg
    host.service("start")
    assert box.life == life


def test_something_else_on_the_socket(host: Node) -> None:
    server = host.popen("python3", "-c", NONSENSE, SCRATCH)
    host.later("pkill", "-f", f"[i]mport os, socket, sys.*{SCRATCH}")
    names = {
        "page": "but not as a libpod service does",
        "noise": "the connection broke off",
        "nothing": "the connection broke off",
        "silence": "no answer within 2 s",
        "moved": "Asking for podman's version failed",
    }
    wait_until(lambda: set(names) <= set(host.files()), "the servers")
    options = [{"name": "it", "timeout": 2, "url": f"unix://{SCRATCH}/{name}"} for name in names]
    for result, text in zip(host.modules("podman_checkpoint", *options), names.values()):
        assert result.failed and text in result.msg, result.msg
    server.kill()


WATCH = """
import glob, os, sys, time
signal, pid, pattern = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
end = time.monotonic() + 30
while not glob.glob(pattern):
    time.sleep(0.002)
    if time.monotonic() > end:
        sys.exit("waited in vain")
if pid == 0:
    pid = int(open(sys.argv[4]).read())
os.kill(pid, signal)
print("done")
"""
SPOOL = "/var/tmp/checkpoint*"


def signal_when(host: Node, box: Box, moment: str, signal: int, pid: int, pid_file: str = "") -> subprocess.Popen[str]:
    """Send a signal to a process as soon as an export of the container has come to some point.

    :param pid_file: is read at that moment, if there is no ``pid`` yet.
    """
    host.later("sh", "-c", f"rm -rf {SPOOL}")
    pattern = {"freeze": f"{box.userdata}/dump.log", "archive": SPOOL}[moment]
    return host.popen("python3", "-c", WATCH, str(signal), str(pid), pattern, pid_file)


def service_pid(host: Node) -> int:
    return int(host.run("cat", "/run/ferry-lab-podman.pid"))


def come_to_rest(box: Box) -> None:
    """Wait for what podman, CRIU and the runtime still do with the container, without the service or with it."""
    script = "pgrep -x 'criu|crun' || pgrep -f '[c]ontainer cleanup' || :"
    wait_until(lambda: not box.node.sh(script) and box.status in ("running", "exited"), "the container to rest")


@pytest.mark.parametrize(
    ("kind", "moment"),
    [("plain", "freeze"), ("plain", "archive"), ("rm", "archive"), ("always", "freeze"), ("always", "archive")],
)
def test_service_killed_during_export(host: Node, kind: str, moment: str) -> None:
    box = keeper(host, kind, 100)
    memory = box.memory()
    watcher = signal_when(host, box, moment, 9, service_pid(host))
    result = host.module("podman_checkpoint", name=box.name, dest=ARCHIVE)
    assert watcher.communicate(timeout=30)[0] == "done\n"
    assert result.failed
    assert "the connection broke off" in result.msg and f"The container {box.name}" in result.msg
    assert f"podman_restore with name={box.name}" in result.msg
    assert host.files() == []
    host.service("start")
    come_to_rest(box)
    host.restore(box.name)
    # podman has taken the network down meanwhile, and with it the MAC address.
    forget_neighbour(box.address)
    is_as_before(box, memory, kind)


def test_answer_takes_too_long(host: Node) -> None:
    """The service is stopped for a moment, so that no machine is too fast for this test."""
    box = keeper(host, "plain", 100)
    memory = box.memory()
    service = service_pid(host)
    host.later("kill", "-CONT", str(service))
    watcher = signal_when(host, box, "freeze", 19, service)
    result = host.module("podman_checkpoint", name=box.name, dest=ARCHIVE, timeout=2)
    host.run("kill", "-CONT", str(service))
    assert watcher.communicate(timeout=30)[0] == "done\n"
    assert result.failed and "no answer within 2 s" in result.msg
    assert "could not be brought back" in result.msg and host.files() == []
    wait_until(lambda: box.status == "exited", "the service to finish")
    wait_until(lambda: not host.sh(f"ls {SPOOL} 2>/dev/null || :"), "the service to clean up")
    host.restore(box.name)
    is_as_before(box, memory, "plain")


# -- the module -------------------------------------------------------------------------------------------------

INTERPRETER = f"""#!/bin/sh
echo $$ >{SCRATCH}/module.pid
exec /usr/bin/python3 "$@"
"""


@pytest.mark.parametrize(
    ("kind", "moment"),
    [("plain", "archive"), ("rm", "freeze"), ("rm", "archive"), ("always", "freeze"), ("always", "archive")],
)
def test_module_killed_during_export(host: Node, kind: str, moment: str) -> None:
    box = keeper(host, kind, 100)
    memory = box.memory()
    host.run("tee", f"{SCRATCH}/python", stdin=INTERPRETER)
    host.run("chmod", "755", f"{SCRATCH}/python")
    watcher = signal_when(host, box, moment, 9, 0, f"{SCRATCH}/module.pid")
    extra = {"ansible_python_interpreter": f"{SCRATCH}/python"}
    killed = host.start_module("podman_checkpoint", name=box.name, dest=ARCHIVE, extra=extra)
    killed.communicate(timeout=60)
    assert watcher.communicate(timeout=30)[0] == "done\n"
    wait_until(lambda: box.status == "exited", "the freeze")
    wait_until(lambda: not host.sh(f"ls {SPOOL} 2>/dev/null || :"), "the service to notice")
    assert (f"ferry-hold-{box.id[:12]}" in host.names()) == (kind != "plain")
    assert [name for name in host.files() if name.endswith(".partial")]

    assert host.restore(box.name).changed
    is_as_before(box, memory, kind)
    memory = box.memory()
    host.checkpoint(box.name, dest=ARCHIVE)
    assert set(host.files()) == {"python", "module.pid", "a.tar.zst"}
    if kind != "rm":
        box.remove()
    host.restore(src=ARCHIVE)
    is_as_before(box, memory, kind)


# -- disks ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small(host: Node, directory: str, size: str = "10m") -> Iterator[None]:
    """Have a small disk at a place."""
    host.sh(f"mkdir -p {directory}; mount -t tmpfs -o size={size} tmpfs {directory}")
    try:
        yield
    finally:
        # Lazy: the service may have the file that did not fit open for one moment more.
        host.run("umount", "--lazy", directory)


def came_back(result: Result, box: Box, memory: Memory, kind: str) -> None:
    assert result.failed and not result.changed
    assert "space left on device" in result.msg.replace("No space", "no space")
    assert f"The container {box.name} runs again from the same memory." in result.msg
    is_as_before(box, memory, kind)


@kinds
def test_destination_is_full(host: Node, kind: str) -> None:
    box = keeper(host, kind)
    memory = box.memory()
    with small(host, f"{SCRATCH}/small"):
        result = host.module("podman_checkpoint", name=box.name, dest=f"{SCRATCH}/small/", compress="none")
        assert host.files(f"{SCRATCH}/small") == []
    came_back(result, box, memory, kind)
    assert "The archive" in result.msg and "with room for the container's memory" in result.msg


@kinds
def test_temporary_directory_is_full_on_export(host: Node, kind: str) -> None:
    box = keeper(host, kind)
    memory = box.memory()
    with small(host, "/var/tmp"):
        result = host.module("podman_checkpoint", name=box.name, dest=ARCHIVE)
        assert host.files("/var/tmp") == host.files() == []
    came_back(result, box, memory, kind)


def test_temporary_directory_is_full_on_making_an_image(host: Node) -> None:
    box = keeper(host, "plain")
    memory = box.memory()
    with small(host, "/var/tmp"):
        result = host.module("podman_checkpoint", name=box.name, create_image="it-none")
    came_back(result, box, memory, "plain")
    assert not host.podman("images", "--quiet", "localhost/it-none")


def test_temporary_directory_is_full_on_import(host: Node) -> None:
    box = host.start_on_lan("keeper", "--volume", "it-data:/data", "--volume", "/anonymous", command=("40",))
    memory = box.memory()
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    host.podman("volume", "rm", "it-data")
    with small(host, "/var/tmp"):
        nothing_is_left(host, host, box)
        assert host.files("/var/tmp") == []
    host.restore(src=ARCHIVE)
    memory.goes_on_in(box)


def nothing_is_left(host: Node, node: Node, box: Box) -> None:
    """Fail to restore, for want of room."""
    before = node.names(), node.volumes(), host.files()
    result = node.module("podman_restore", src=ARCHIVE)
    assert result.failed and not result.changed
    assert "no space left on device" in result.msg, result.msg
    assert "nothing" in result.msg.lower()
    assert (node.names(), node.volumes(), host.files()) == before
    assert box.name not in node.names()


class Store(Node):
    """A podman of the host with a store of its own, which can be as small as a test needs it."""

    def __init__(self, host: Node, url: str, flags: list[str]) -> None:
        self.__dict__ = copy.copy(host.__dict__)
        self._url = url
        self._flags = flags

    def podman(self, *arguments: str, check: bool = True) -> str:
        return super().podman(*self._flags, *arguments, check=check)

    def start_module(self, module: str, **options: t.Any) -> subprocess.Popen[str]:
        return super().start_module(module, url=self._url, **options)


@contextlib.contextmanager
def small_store(host: Node, size: str, spools: bool = False) -> Iterator[Store]:
    """
    :param spools: archives on their way in and out are on the same disk, as usual.
    """
    place = f"{SCRATCH}/store"
    flags = ["--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp"]
    flags += ["--storage-opt", f"overlay.additionalimagestore={STORAGE}"]
    flags += ["--network-config-dir", "/etc/containers/networks"]
    environment = {"TMPDIR": place} if spools else {}
    with small(host, place, size), host.other_service(*flags, **environment) as url:
        store = Store(host, url, flags)
        try:
            yield store
        finally:
            # Even a removal needs room.
            host.sh(f"mount -o remount,size=400m {place}")
            store.podman("rm", "--all", "--force", "--depend", "--time", "0", check=False)
            host.sh(f"umount --all-targets {place}/root/overlay || :", check=False)


def test_store_is_full_on_dump(host: Node) -> None:
    with small_store(host, "30m") as store:
        box = keeper(store, "plain")
        memory, life = box.memory(), box.life
        for options in ({"dest": ARCHIVE}, {}):
            result = store.module("podman_checkpoint", name=box.name, **options)
            assert result.failed and "No space left on device" in " ".join(result.values["criu_log"])
            assert f"The container {box.name} still runs." in result.msg
        assert box.life == life
        is_as_before(box, memory, "plain")
        assert host.files() == ["service.sock", "store"]


@kinds
def test_store_is_full_after_the_freeze(host: Node, kind: str) -> None:
    """The memory fits, the content of the volume beside it does not, and podman can note nothing more."""
    with small_store(host, "65m") as store:
        box = store.start_on_lan("keeper", "--volume", "it-data:/data", *KINDS[kind], command=("1",))
        box.sh("head -c 30000000 /dev/urandom > /data/file")
        memory = box.memory()
        result = store.module("podman_checkpoint", name=box.name, dest=ARCHIVE)
        assert result.failed and "no space left on device" in result.msg
        if "runs again from the same memory" not in result.msg:
            assert f"To have it run again: podman_restore with name={box.name}." in result.msg
            host.sh(f"mount -o remount,size=200m {SCRATCH}/store")
            store.restore(box.name)
        forget_neighbour(box.address)
        is_as_before(box, memory, kind)


def test_store_is_full_on_import(host: Node) -> None:
    """The upload fits, what is in it does not fit beside it."""
    box = keeper(host, "plain")
    memory = box.memory()
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    with small_store(host, "70m", spools=True) as store:
        nothing_is_left(host, store, box)
    host.restore(src=ARCHIVE)
    memory.goes_on_in(box)
