# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the unit tests share: a stand-in libpod service, podman's answers, and archives made on the spot.

The service gives the answers that a real one gives when it breaks, and shows what the client really sent. What a
healthy podman does is tested on real hosts, in tests/integration.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import http.server
import io
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import typing as t
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import hypothesis
import pytest

from ansible_collections.ferry.podman.plugins.module_utils import (
    _archive,
    _arrival,
    _assess,
    _checkpoint,
    _exclusive,
    _migration,
    _recovery,
    _transport,
)
from ansible_collections.ferry.podman.plugins.module_utils._facts import HostFacts, ProcessFacts
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, HostInfo, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

# The same examples in every run and no files in the checkout: a failure can be seen again.
hypothesis.settings.register_profile("ferry", database=None, deadline=None, derandomize=True, max_examples=100)
hypothesis.settings.load_profile("ferry")

Json = dict[str, t.Any]
PREFIX = re.compile(r"^/v5\.0\.0/libpod")


# -- a libpod service -----------------------------------------------------------------------------------------


class Request:
    """What the service was asked. ``body`` and ``whole`` are there when ``read`` is set."""

    def __init__(self, method: str, target: str, headers: t.Any, connection: object) -> None:
        parts = urlsplit(target)
        self.method = method
        self.target = target
        self.path = PREFIX.sub("", parts.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.repeated = [key for key, values in parse_qs(parts.query).items() if len(values) > 1]
        self.headers = dict(headers.items())
        self.connection = connection
        self.body = b""
        self.whole = False
        self.read = threading.Event()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: Service

    def do_GET(self) -> None:
        request = Request(self.command, self.path, self.headers, self.connection)
        self.server.requests.append(request)
        answer = self.server.next_answer(request)
        if callable(answer):
            answer(self, request)
        else:
            self.read_body(request)
            self.reply(*answer)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def read_body(self, request: Request) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    request.body += self.rfile.read(size)
                    self.rfile.readline()
                request.whole = self.rfile.readline() == b"\r\n"
            else:
                request.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request.whole = True
        request.read.set()

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**self.server.headers, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_args: t.Any) -> None:
        pass


class Service(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The stand-in. What it was not told to answer, it does not have: 404."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, path: str) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.headers = {"Libpod-API-Version": "5.8.2", "Server": "Libpod/5.8.2 (linux)"}
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self.answers: dict[str, list[t.Any]] = {}
        super().__init__(path, Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, request: str, *answers: t.Any) -> None:
        """Answer a request, such as ``GET /info``, with each of these in turn; the last one stays.

        A dict or a list is JSON, a number a status, a tuple what ``Handler.reply`` takes; anything callable has the
        handler to itself.
        """
        self.answers[request] = list(answers)

    def next_answer(self, request: Request) -> t.Any:
        answers = self.answers.get(str(request))
        if self.stopping.is_set():
            return self.hang_up
        if answers is None:
            return (200, b"OK") if request.target == "/v5.0.0/libpod/_ping" else self.error(404, "no such object")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, (dict, list)):
            return self.json(200, answer)
        return (answer, b"") if isinstance(answer, int) else answer

    @staticmethod
    def json(status: int, body: t.Any) -> t.Any:
        return status, json.dumps(body).encode(), {"Content-Type": "application/json"}

    @classmethod
    def error(cls, status: int, cause: str, message: str = "") -> t.Any:
        return cls.json(status, {"cause": cause, "message": message or cause, "response": status})

    @staticmethod
    def text(status: int, text: str) -> t.Any:
        return status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"}

    @staticmethod
    def archive(data: bytes) -> t.Callable[[Handler, Request], None]:
        """An export as podman sends it: chunked, without a length."""

        def answer(handler: Handler, request: Request) -> None:
            handler.read_body(request)
            handler.send_response(200)
            handler.send_header("Content-Type", "application/octet; charset=us-ascii")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for start in range(0, len(data), 32768):
                block = data[start : start + 32768]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
            handler.wfile.write(b"0\r\n\r\n")

        return answer

    @staticmethod
    def raw(data: bytes) -> t.Callable[[Handler, Request], None]:
        """These very bytes, and the end of the connection."""

        def answer(handler: Handler, request: Request) -> None:
            handler.read_body(request)
            handler.wfile.write(data)
            handler.close_connection = True

        return answer

    @staticmethod
    def hang_up(handler: Handler, request: Request) -> None:
        """The whole request arrives, and no answer comes."""
        handler.read_body(request)
        handler.close_connection = True

    def silent(self, handler: Handler, request: Request) -> None:
        """The whole request arrives, and the connection stays open without an answer."""
        handler.read_body(request)
        self.stopping.wait(20)
        handler.close_connection = True

    def die(self, handler: Handler, request: Request) -> None:
        """The whole request arrives, and then there is no service any more."""
        handler.read_body(request)
        self.stop()
        handler.close_connection = True

    def die_early(self, handler: Handler, request: Request) -> None:
        """The service ends while the request's body is still on its way."""
        handler.rfile.readline()
        self.stop()
        handler.close_connection = True

    @property
    def seen(self) -> list[str]:
        """The requests in their order; asking for the version is none of interest."""
        return [str(request) for request in self.requests if request.path != "/_ping"]

    def request(self, request: str) -> Request:
        """The one request of this kind, with its body read; the client may be faster than the service."""
        patience = time.monotonic() + 5
        while request not in self.seen and time.monotonic() < patience:
            time.sleep(0.001)
        (found,) = [seen for seen in self.requests if str(seen) == request]
        assert found.read.wait(5), f"the body of {request} never came to an end"
        return found

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


@pytest.fixture
def socket_directory() -> Iterator[pathlib.Path]:
    """A short path: a socket's may have some 100 characters."""
    path = tempfile.mkdtemp(prefix="ferry-unit-", dir="/tmp")
    yield pathlib.Path(path)
    shutil.rmtree(path)


@pytest.fixture
def libpod(socket_directory: pathlib.Path) -> Iterator[Service]:
    service = Service(str(socket_directory / "libpod"))
    yield service
    service.stop()


@pytest.fixture
def other_libpod(socket_directory: pathlib.Path) -> Iterator[Service]:
    """A second host."""
    service = Service(str(socket_directory / "other"))
    yield service
    service.stop()


@pytest.fixture(autouse=True)
def directories_of_our_own(socket_directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a real run on this machine is seen or touched, and nobody needs to be root."""
    monkeypatch.setattr(_exclusive, "LOCKS", str(socket_directory / "locks"))
    monkeypatch.setattr(_transport, "SSH_DIRECTORY", f"{socket_directory.name}-ssh-")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins answer at once or never."""
    monkeypatch.setattr(_migration, "PATIENCE", 0.05)
    monkeypatch.setattr(_recovery, "PATIENCE", 0.05)
    monkeypatch.setattr(_migration, "LOOKED_AT_AGAIN", 0.0)
    monkeypatch.setattr(_arrival, "SECONDS_BETWEEN", 0.01)
    monkeypatch.setattr(_checkpoint, "SETTLES_WITHIN", 0.3)


@pytest.fixture
def host_facts() -> t.Callable[..., HostFacts]:
    """What a host tells beyond podman's API, of one that has all it takes and room for it."""

    def make(**changes: t.Any) -> HostFacts:
        facts = HostFacts(
            kernel="6.12.0",
            machine="x86_64",
            cpu_flags=frozenset({"sse4_2", "avx2", "constant_tsc"}),
            cpu_model="Example 1",
            memory=8 << 30,
            criu=(4, 1, 1),
            programs=frozenset({"criu", "crun", "nft"}),
            disks={"/": 50 << 30, "/var/lib/containers": 50 << 30},
            interfaces=frozenset({"eth0", "lo"}),
        )
        return dataclasses.replace(facts, **changes)

    return make


@pytest.fixture(autouse=True)
def hosts_that_fit(monkeypatch: pytest.MonkeyPatch, host_facts: t.Callable[..., HostFacts]) -> None:
    """Moves between stand-ins do not look at this machine."""
    monkeypatch.setattr(_assess, "probe", lambda _transport: host_facts())
    monkeypatch.setattr(_migration, "probe", lambda _transport: None)
    monkeypatch.setattr(_assess, "process_facts", lambda _client, _container: ProcessFacts(memory=1_000_000))
    monkeypatch.setattr(_assess, "kinds_of", lambda _client, paths: dict.fromkeys(paths, "directory"))


@pytest.fixture
def connect() -> Iterator[t.Callable[..., LibpodClient]]:
    """Makes clients of a URL, with few seconds of patience."""
    with contextlib.ExitStack() as stack:

        def client(url: str, timeout: float = 10) -> LibpodClient:
            return LibpodClient(stack.enter_context(Transport(url, timeout)))

        yield client


@pytest.fixture
def forwarded(
    programs: t.Callable[[str, str], pathlib.Path], connect: t.Callable[..., LibpodClient]
) -> t.Callable[..., LibpodClient]:
    """Makes clients that reach a stand-in as a service of another host; ssh only puts a link in the way."""

    def make(service: Service) -> LibpodClient:
        programs("ssh", f'for a; do case "$a" in */libpod:*) ln -s {service.path} "${{a%%:*}}" ;; esac; done')
        return connect("ssh://root@node2/run/podman/podman.sock")

    return make


@pytest.fixture
def client(libpod: Service, connect: t.Callable[..., LibpodClient]) -> LibpodClient:
    return connect(libpod.url)


# -- podman's answers -----------------------------------------------------------------------------------------

ID = "1f" * 32
IMAGE_ID = "2e" * 32


def _merged(base: Json, changes: Json) -> Json:
    """Changes of nested keys; a value that is no dict replaces what is there."""
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        base[key] = _merged(base[key], value) if nested else value
    return base


@pytest.fixture
def inspect_json() -> t.Callable[..., Json]:
    """The answer of the container inspect call, of a running container called web that was restored once."""

    def make(status: str = "running", **changes: t.Any) -> Json:
        bundle = f"/var/lib/containers/storage/overlay-containers/{ID}/userdata"
        base = {
            "Id": ID,
            "Created": "2026-11-20T09:12:44.120394857Z",
            "State": {
                "OciVersion": "1.2.1",
                "Status": status,
                "Running": status == "running",
                "Paused": status == "paused",
                "ExitCode": 0,
                "StartedAt": "2026-11-20T09:12:44.50918271Z",
                "FinishedAt": "2026-11-20T11:00:00Z" if status == "exited" else "0001-01-01T00:00:00Z",
                "Restored": status == "running",
            },
            "Image": IMAGE_ID,
            "ImageName": "registry.example:5000/shop/web:1.4",
            "OCIConfigPath": f"{bundle}/config.json",
            "OCIRuntime": "crun",
            "Name": "web",
            "Mounts": [
                {
                    "Type": "volume",
                    "Name": "data",
                    "Source": "/var/lib/containers/storage/volumes/data/_data",
                    "Destination": "/data",
                    "Driver": "local",
                    "Options": ["nosuid", "nodev", "rbind"],
                    "RW": True,
                },
                {"Type": "tmpfs", "Source": "", "Destination": "/scratch", "Options": ["nosuid"], "RW": True},
            ],
            "Dependencies": [],
            "NetworkSettings": {
                "Networks": {
                    "lan": {"NetworkID": "lan", "IPAddress": "10.9.0.7", "GlobalIPv6Address": "", "Aliases": [ID[:12]]}
                }
            },
            "Pod": "",
            "IsInfra": False,
            "Config": {"Hostname": "web", "Labels": None, "Env": ["TERM=xterm"]},
            "HostConfig": {
                "AutoRemove": False,
                "NetworkMode": "bridge",
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            },
        }
        return _merged(base, copy.deepcopy(changes))

    return make


@pytest.fixture
def make_container(inspect_json: t.Callable[..., Json]) -> t.Callable[..., Container]:
    return lambda *args, **changes: Container(inspect_json(*args, **changes))


@pytest.fixture
def info_json() -> t.Callable[..., Json]:
    """The answer of ``/info``."""

    def make(**changes: t.Any) -> Json:
        base = {
            "host": {
                "arch": "amd64",
                "kernel": "6.12.0",
                "cgroupVersion": "v2",
                "cgroupManager": "systemd",
                "networkBackend": "netavark",
                "distribution": {"distribution": "debian", "version": "13"},
                "memFree": 1 << 30,
                "ociRuntime": {
                    "name": "crun",
                    "path": "/usr/bin/crun",
                    "version": "crun version 1.28\ncommit: 1\nrundir: /run/crun\n+SYSTEMD +SELINUX +CAP +SECCOMP +CRIU",
                },
                "security": {"rootless": False, "selinuxEnabled": False, "apparmorEnabled": True},
            },
            "store": {
                "graphRoot": "/var/lib/containers/storage",
                "runRoot": "/run/containers/storage",
                "graphRootAllocated": 5000,
                "graphRootUsed": 2000,
                "imageCopyTmpDir": "/srv/tmp",
            },
        }
        return _merged(base, copy.deepcopy(changes))

    return make


@pytest.fixture
def make_host(info_json: t.Callable[..., Json]) -> t.Callable[..., HostInfo]:
    def make(podman: tuple[int, int, int] = (5, 8, 2), **changes: t.Any) -> HostInfo:
        return HostInfo(podman, info_json(**changes))

    return make


@pytest.fixture
def config_json() -> t.Callable[..., Json]:
    """config.dump as podman 5 writes it."""

    def make(**changes: t.Any) -> Json:
        base = {
            "id": ID,
            "name": "web",
            "rootfsImageID": IMAGE_ID,
            "rootfsImageName": "registry.example:5000/shop/web:1.4",
            "runtime": "crun",
            "namedVolumes": [{"volumeName": "data", "dest": "/data", "options": ["rw"]}],
            "newNetworks": {"lan": {"static_ips": None, "interface_name": "eth0"}},
            "staticDir": f"/var/lib/containers/storage/overlay-containers/{ID}/userdata",
            "restart_policy": "no",
            "createdTime": "2026-11-20T09:12:44.120394857Z",
        }
        return {**base, **changes}

    return make


# -- CRIU's images --------------------------------------------------------------------------------------------


class Protobuf:
    """Just enough of an encoder for CRIU's images: fields as (number, value) pairs."""

    @staticmethod
    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    @classmethod
    def message(cls, *fields: tuple[int, t.Any]) -> bytes:
        out = b""
        for number, value in fields:
            if isinstance(value, int):
                out += cls.varint(number << 3) + cls.varint(value)
            else:
                out += cls.varint(number << 3 | 2) + cls.varint(len(value)) + value
        return out

    @staticmethod
    def image(magic: int, *messages: bytes, first: int = 0x54564319) -> bytes:
        return struct.pack("<II", first, magic) + b"".join(struct.pack("<I", len(m)) + m for m in messages)


@pytest.fixture(scope="session")
def protobuf() -> type[Protobuf]:
    return Protobuf


# -- archives -------------------------------------------------------------------------------------------------

MTIME = 1_760_000_000
Entry = tuple[tarfile.TarInfo, bytes]


class Archives:
    """Makes checkpoint archives, with the members and in the order of podman's."""

    def __init__(self, config: t.Callable[..., Json]) -> None:
        self._config = config

    @staticmethod
    def entry(name: str, data: bytes = b"", **attributes: t.Any) -> Entry:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o600, MTIME
        for key, value in attributes.items():
            setattr(info, key, value)
        return info, data

    @classmethod
    def directory(cls, name: str) -> Entry:
        return cls.entry(name, type=tarfile.DIRTYPE, mode=0o700)

    @classmethod
    def link(cls, name: str, target: str) -> Entry:
        return cls.entry(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)

    @staticmethod
    def pack(entries: list[Entry], kind: int = tarfile.PAX_FORMAT) -> bytes:
        """A tar that ends behind its two zero blocks, as Go's does."""
        out = b""
        for info, data in entries:
            out += info.tobuf(kind, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)
        return out + bytes(1024)

    @staticmethod
    def unpack(archive: bytes) -> list[Entry]:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]

    def names(self, archive: bytes) -> list[str]:
        return [info.name for info, _data in self.unpack(archive)]

    def rootfs_diff(self, *entries: Entry) -> Entry:
        return self.entry("rootfs-diff.tar", self.pack(list(entries)))

    def members(
        self,
        *also: Entry,
        config: Json | None = None,
        without: t.Collection[str] = (),
        directory: str = "checkpoint",
    ) -> list[Entry]:
        entries = [
            self.directory("artifacts"),
            self.entry("devshm-checkpoint.tar", bytes(10240)),
            self.entry("config.dump", json.dumps(self._config(**(config or {}))).encode()),
            self.entry("spec.dump", b'{"ociVersion": "1.2.1"}'),
            self.entry("network.status", b'{"lan": {"interfaces": {}}}'),
            self.directory(directory),
            self.entry(f"{directory}/inventory.img", b"inventory"),
            self.entry(f"{directory}/pages-1.img", b"P" * 5000),
            *also,
        ]
        return [(info, data) for info, data in entries if info.name not in without]

    def checkpoint(self, *also: Entry, kind: int = tarfile.PAX_FORMAT, **changes: t.Any) -> bytes:
        return self.pack(self.members(*also, **changes), kind)

    def pre_checkpoint(self, *also: Entry) -> bytes:
        return self.pack(self.members(*also, directory="pre-checkpoint", without=["pre-checkpoint/inventory.img"]))


@pytest.fixture
def archives(config_json: t.Callable[..., Json]) -> Archives:
    return Archives(config_json)


# -- encryption -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AgeKey:
    """Somebody whom age encrypts to; ``identity`` is the path of the private half."""

    identity: str
    recipient: str

    @classmethod
    def made(cls, path: pathlib.Path) -> AgeKey:
        done = subprocess.run(["age-keygen", "-o", str(path)], capture_output=True, text=True, timeout=30, check=True)
        return cls(str(path), done.stderr.split()[-1])

    def encrypt(self, data: bytes, *options: str) -> bytes:
        command = ["age", "--recipient", self.recipient, *options]
        return subprocess.run(command, input=data, capture_output=True, timeout=60, check=True).stdout

    def decrypt(self, path: str | os.PathLike[str]) -> bytes:
        command = ["age", "--decrypt", "--identity", self.identity, str(path)]
        return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout


@pytest.fixture(scope="session")
def age_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[AgeKey, AgeKey]:
    """Ours, and somebody else's."""
    if shutil.which("age-keygen") is None or shutil.which("age") is None:
        pytest.skip("needs the program age (tests/lab/apt-packages.txt)")
    directory = tmp_path_factory.mktemp("age")
    return AgeKey.made(directory / "ours"), AgeKey.made(directory / "theirs")


@pytest.fixture
def age_key(age_keys: tuple[AgeKey, AgeKey]) -> AgeKey:
    return age_keys[0]


# -- the machine ----------------------------------------------------------------------------------------------


@pytest.fixture
def run_python() -> t.Callable[[str], str]:
    """Runs Python code that can import the collection, in a process of its own, and returns what it prints."""
    top = pathlib.Path(_archive.__file__).parents[5]

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(top)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def file_size_limit() -> Iterator[t.Callable[[int], None]]:
    """Lets no file of this process grow beyond a size: what a full disk does, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def refusing_socket(socket_directory: pathlib.Path) -> str:
    """The path of a socket that nobody listens on any more."""
    path = str(socket_directory / "refusing")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
    return path


@pytest.fixture
def programs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str, str], pathlib.Path]:
    """Puts shell scripts in front of PATH; each notes its arguments, one per line, in a file that is returned."""
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    def install(name: str, script: str) -> pathlib.Path:
        noted = directory / f"{name}.arguments"
        program = directory / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{noted}\n{script}\n')
        program.chmod(0o755)
        return noted

    return install
