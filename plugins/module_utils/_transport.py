# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""HTTP over a unix socket: a local one, or a remote one that OpenSSH forwards.

Sources: podman-py ``api/uds.py`` and docker-py ``transport/unixconn.py`` for which hooks of requests decide
the connection; ssh_config(5) for the forwarding options.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import traceback
import typing as t
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    DependencyError,
    FerryError,
    TransportError,
)

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    REQUESTS_IMPORT_ERROR: str | None = None
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()
    # The classes below need bases even where requests is missing and main() reports it.
    HTTPAdapter = HTTPConnection = HTTPConnectionPool = object  # type: ignore[misc, assignment]

CONNECT_TIMEOUT = 10.0
"""Seconds in which a connection must stand, to a socket or to an ssh server."""

SSH_IDLE_EXIT = 60
"""Seconds after which an unused forwarding ends itself, added to those that an answer may take on the other side."""

MOST_OUTPUT = 1024 * 1024
"""Bytes of a command's output that are looked at."""

SSH_DIRECTORY = "ferry-ssh-"
"""How the names of directories with the sockets of an ssh connection begin."""


SSH_PORT = 22

T = t.TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where a libpod socket is.

    :param path: of the socket, on the host that has it.
    :param host: the ssh destination, or None for this host.
    """

    path: str
    host: str | None = None
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read ``unix:///path`` or ``ssh://[user@]host[:port]/path``.

        :raises FerryError: for any other form.
        """
        shown = re.sub(r"(//[^/@:]*):[^/]+@", r"\1:***@", url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise FerryError(f"The URL {shown!r} cannot be read: {error}.") from None
        if parts.scheme == "unix" and not parts.netloc and len(parts.path) > 1:
            return cls(unquote(parts.path))
        if parts.scheme == "ssh" and parts.hostname and len(parts.path) > 1 and parts.password is None:
            # A host that begins with a dash would be read as an option by ssh.
            if not parts.hostname.startswith("-"):
                return cls(unquote(parts.path), parts.hostname, parts.username and unquote(parts.username), port)
        raise FerryError(
            f"The URL {shown!r} does not name a libpod socket.",
            remedy="Write unix:///run/podman/podman.sock or ssh://user@host[:port]/run/podman/podman.sock.",
        )


def same_service(one: str, other: str) -> bool:
    """Whether two URLs name the same socket of the same host, as far as their text tells.

    :raises FerryError: if one of them is none.
    """
    first, second = Endpoint.parse(one), Endpoint.parse(other)
    return (first.path, first.host, first.port or SSH_PORT) == (second.path, second.host, second.port or SSH_PORT)


@dataclass(frozen=True)
class Way:
    """How ssh gets to a host.

    :param identity: path of the private key; None leaves the choice to ssh's own configuration.
    :param known_hosts: path of a known_hosts file; None leaves ssh's own in force.
    :param jump: the host in between, without a path; None to go straight.
    """

    identity: str | None = None
    known_hosts: str | None = None
    jump: Endpoint | None = None

    @classmethod
    def of(cls, identity: str | None, known_hosts: str | None, jump: str | None = None) -> Way:
        """:param jump: ``[user@]host[:port]``.

        :raises FerryError: if that is something else.
        """
        if not jump:
            return cls(identity, known_hosts)
        with contextlib.suppress(FerryError):
            endpoint = Endpoint.parse(f"ssh://{jump}/-")
            if endpoint.path == "/-":
                return cls(identity, known_hosts, endpoint)
        raise FerryError("The name of the jump host cannot be read.", remedy="Write user@host[:port].")

    def options(self) -> list[str]:
        """What holds for each of ssh's connections."""
        options = [
            "BatchMode=yes",
            f"ConnectTimeout={CONNECT_TIMEOUT:.0f}",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=3",
        ]
        if self.known_hosts:
            options += [f"UserKnownHostsFile={self.known_hosts}", "StrictHostKeyChecking=yes"]
        if self.identity:
            options += [f"IdentityFile={self.identity}", "IdentitiesOnly=yes"]
        return options

    def arguments_to(self, jump: Endpoint) -> list[str]:
        """-J would not take the key and the known hosts along (ssh(1))."""
        return [*as_arguments([*self.options(), "ControlPath=none"]), *login_of(jump)]

    def proxy_command(self, jump: Endpoint) -> str:
        return "ssh -W '[%h]:%p' " + shlex.join(self.arguments_to(jump)).replace("%", "%%")


def as_arguments(options: list[str]) -> list[str]:
    return [part for option in options for part in ("-o", option)]


def login_of(endpoint: Endpoint) -> list[str]:
    """The arguments of ssh that name a host, which come last."""
    user = ["-l", endpoint.user] if endpoint.user else []
    port = ["-p", str(endpoint.port)] if endpoint.port else []
    return [*user, *port, t.cast(str, endpoint.host)]


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("libpod")
        self._path = path
        self._read_timeout = timeout

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(self._path)
            # requests before 2.32 sends chunked bodies without setting a timeout of its own.
            sock.settimeout(self._read_timeout)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _UnixPool(HTTPConnectionPool):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("libpod", maxsize=4)
        self._path = path
        self._read_timeout = timeout

    def _new_conn(self) -> t.Any:
        return _UnixConnection(self._path, self._read_timeout)


class UnixAdapter(HTTPAdapter):
    """Sends every request of a session to one unix socket.

    :param timeout: seconds to wait for the next byte, in either direction.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._pool = _UnixPool(path, timeout)
        super().__init__()

    def get_connection(self, url: t.Any, proxies: t.Any = None) -> t.Any:  # requests < 2.32
        return self._pool

    def get_connection_with_tls_context(  # requests >= 2.32
        self, request: t.Any, verify: t.Any, proxies: t.Any = None, cert: t.Any = None
    ) -> t.Any:
        return self._pool

    def request_url(self, request: t.Any, proxies: t.Any) -> str:
        return t.cast(str, request.path_url)

    def close(self) -> None:
        self._pool.close()
        super().close()


class SshForward:
    """One OpenSSH connection that carries the libpod socket and, where allowed, commands.

    It ends by itself when nothing has used it for a while, so a killed module leaves nothing behind for long.

    :param timeout: seconds for which it may be unused: the source can take as long to freeze.
    """

    def __init__(self, endpoint: Endpoint, way: Way, timeout: float) -> None:
        self._idle_exit = round(timeout) + SSH_IDLE_EXIT
        self._endpoint = endpoint
        self._way = way
        self._remove_abandoned()
        self._dir, self._lock = _locked_directory()
        self.socket = os.path.join(self._dir, "libpod")
        self._ciphers: list[str] = []

    def open(self) -> None:
        """Connect and forward; when this returns, the socket is there.

        :raises TransportError: with what ssh said.
        """
        self._ciphers = self._quick_ciphers()
        forward = f"{self.socket}:{self._endpoint.path}"
        arguments = ["-f", "-N", "-M", "-o", f"ControlPersist={self._idle_exit}", "-L", forward]
        code, said = self._ssh([*arguments, *self._target()], CONNECT_TIMEOUT * 2)
        if code != 0:
            said = self._jump_said() or said
            raise TransportError(
                f"ssh to {self._endpoint.host} for {self._endpoint.path} failed: {said or f'exit status {code}'}.",
                remedy=remedy_of(said),
            )

    def _quick_ciphers(self) -> list[str]:
        """The option that has ssh try first, of the ciphers that it is set to, those that the processor does itself.

        Two or three times as fast as OpenSSH's own first choice.
        """
        if not _processor_does_aes():
            return []
        code, said = 1, ""
        with contextlib.suppress(TransportError):
            code, said = self._ssh(["-G", *self._target()], CONNECT_TIMEOUT)
        found = [line.split(" ", 1)[1] for line in said.splitlines() if line.startswith("ciphers ")]
        if code != 0 or len(found) != 1:
            return []
        return [f"Ciphers={','.join(quick_first(found[0].split(',')))}"]

    def _jump_said(self) -> str:
        """Why the jump host does not let it through; ssh drops what a ProxyCommand says."""
        if self._way.jump is None:
            return ""
        target = f"[{self._endpoint.host}]:{self._endpoint.port or 22}"
        code, said = self._ssh(["-W", target, *self._way.arguments_to(self._way.jump)], CONNECT_TIMEOUT * 2)
        return f"at the jump host {self._way.jump.host}: {said or f'exit status {code}'}" if code != 0 else ""

    def run(self, command: str, stdin: str, timeout: float = 30.0) -> str:
        """Run a command on the other host over the same connection and return what it printed.

        :param timeout: seconds.
        :raises TransportError: if it cannot be run or exits non-zero.
        """
        code, said = self._ssh([*self._target(), command], timeout, stdin)
        if code != 0:
            raise TransportError(f"{command!r} on {self._endpoint.host} failed: {said or f'exit status {code}'}.")
        return said

    def begin(self, command: str, said: t.IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Begin a command on the other host over the same connection; it reads from a pipe and answers into one.

        :param said: a file for what it, or ssh, says of errors, or ``subprocess.DEVNULL``.
        :raises TransportError: if ssh cannot be started.
        """
        try:
            return subprocess.Popen(
                ["ssh", *self._target(), command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise TransportError(f"ssh could not be started: {error}.") from error

    def close(self) -> None:
        """End the connection and remove its sockets; never raises, also when it has been closed before."""
        if self._lock < 0:
            return
        self._end(self._dir)
        os.close(self._lock)
        self._lock = -1

    def _end(self, directory: str) -> None:
        with contextlib.suppress(TransportError):
            self._ssh(["-O", "exit", "-o", f"ControlPath={directory}/control", "any"], CONNECT_TIMEOUT)
        shutil.rmtree(directory, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        """End the connections of killed runs; one that still works holds the lock of its directory."""
        for entry in os.scandir("/tmp"):
            if not entry.name.startswith(SSH_DIRECTORY) or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            with contextlib.suppress(OSError):
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._end(entry.path)
                finally:
                    os.close(descriptor)

    def _target(self) -> list[str]:
        options = [
            *self._way.options(),
            f"ControlPath={self._dir}/control",
            "ExitOnForwardFailure=yes",
            "StreamLocalBindMask=0177",
            *self._ciphers,
        ]
        if self._way.jump is not None:
            options.append(f"ProxyCommand={self._way.proxy_command(self._way.jump)}")
        return [*as_arguments(options), *login_of(self._endpoint)]

    def _ssh(self, arguments: list[str], timeout: float, stdin: str = "") -> tuple[int, str]:
        # A file, because the connection that stays behind would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    ["ssh", *arguments],
                    input=stdin.encode(),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                    start_new_session=True,
                )
            except subprocess.TimeoutExpired:
                raise TransportError(f"ssh to {self._endpoint.host} did not finish within {timeout:.0f} s.") from None
            except OSError as error:
                raise TransportError(f"ssh could not be started: {error}.") from error
            output.seek(0)
            return done.returncode, output.read(MOST_OUTPUT).decode(errors="replace").strip()


def quick_first(ciphers: list[str]) -> list[str]:
    """The same ciphers, AES-GCM before the others."""
    return sorted(ciphers, key=lambda cipher: "-gcm@" not in cipher)


def _processor_does_aes() -> bool:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        lines = (line for line in file if line.startswith(("flags", "Features")))
        return "aes" in next(lines, "").split()
    return False


def _locked_directory() -> tuple[str, int]:
    """A new directory, and the descriptor that holds its lock."""
    # A control socket's path may have about 100 characters: TMPDIR can be longer than that.
    made = tempfile.mkdtemp(prefix=f".{SSH_DIRECTORY}", dir="/tmp")
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Under its name only now: another run takes one without a lock for abandoned.
    path = os.path.join("/tmp", os.path.basename(made)[1:])
    os.rename(made, path)
    return path, lock


def remedy_of(said: str) -> str:
    """What to do about a connection that did not come up."""
    if "Permission denied" in said:
        return (
            "The user's authorized_keys there must hold the key, for the address that it is used from, and sshd must "
            "let the user in: for root, PermitRootLogin must not be no."
        )
    return "The host key must be known and the key must be allowed to forward the socket."


class Transport:
    """A session to one libpod socket. Use it as a context manager.

    :param url: see ``Endpoint.parse``.
    :param timeout: seconds to wait for the next byte of an answer.
    :param jump: of an ssh URL, the host in between; see ``Way.of``.
    :raises DependencyError: if requests is missing.
    :raises TransportError: if the ssh connection does not come up.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        *,
        identity: str | None = None,
        known_hosts: str | None = None,
        jump: str | None = None,
    ) -> None:
        if REQUESTS_IMPORT_ERROR is not None:
            raise DependencyError("requests", "to talk to the libpod socket", REQUESTS_IMPORT_ERROR)
        self.url = url
        self.timeout = timeout
        self.endpoint = Endpoint.parse(url)
        self._way = Way.of(identity, known_hosts, jump)
        self.forward: SshForward | None = None
        self._open()

    def _open(self) -> None:
        path = self.endpoint.path
        if self.endpoint.host is not None:
            self.forward = SshForward(self.endpoint, self._way, self.timeout)
            try:
                self.forward.open()
            except BaseException:
                self.forward.close()
                raise
            path = self.forward.socket
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.adapters.clear()
        self.session.mount("http://libpod", UnixAdapter(path, self.timeout))

    def reopen(self) -> None:
        """Connect anew after the connection was lost.

        :raises TransportError: if it does not come up; it can be tried again.
        """
        self.close()
        self._open()

    def again_if_lost(self, action: t.Callable[[], T]) -> T:
        """Do it, and once more over a new connection if the connection is lost.

        :raises TransportError: if that is lost too, or does not come up.
        """
        try:
            return action()
        except TransportError:
            self.reopen()
            return action()

    @property
    def is_local(self) -> bool:
        """Whether the service shares this host's files."""
        return self.forward is None

    def close(self) -> None:
        self.session.close()
        if self.forward is not None:
            self.forward.close()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
