# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os
import pathlib
import shlex
import stat

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _transport
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._transport import (
    Endpoint,
    SshForward,
    Transport,
    UnixAdapter,
    Way,
    same_service,
)

SOCKET = "/run/podman/podman.sock"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        (f"unix://{SOCKET}", Endpoint(SOCKET)),
        ("unix:///run/with%20space", Endpoint("/run/with space")),
        (f"ssh://node2{SOCKET}", Endpoint(SOCKET, "node2")),
        (f"ssh://root@node2{SOCKET}", Endpoint(SOCKET, "node2", "root")),
        (f"ssh://root@node2:2222{SOCKET}", Endpoint(SOCKET, "node2", "root", 2222)),
        (f"ssh://root@[2001:db8::7]:2222{SOCKET}", Endpoint(SOCKET, "2001:db8::7", "root", 2222)),
        (f"ssh://10.9.0.7{SOCKET}", Endpoint(SOCKET, "10.9.0.7")),
        (f"ssh://lab%5Croot@node2{SOCKET}", Endpoint(SOCKET, "node2", "lab\\root")),
    ],
)
def test_url_names_an_endpoint(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (f"ssh://root@node2{SOCKET}", True),
        (f"ssh://node2{SOCKET}", True),
        (f"ssh://root@NODE2:22{SOCKET}", True),
        (f"ssh://root@node2:2222{SOCKET}", False),
        (f"ssh://root@node3{SOCKET}", False),
        ("ssh://root@node2/run/other.sock", False),
        (f"unix://{SOCKET}", False),
    ],
)
def test_same_service_is_known_by_other_words(other: str, same: bool) -> None:
    assert same_service(f"ssh://root@node2{SOCKET}", other) is same


@pytest.mark.parametrize(
    "url",
    [
        "",
        SOCKET,
        "unix://",
        "unix:///",
        "unix://run/podman/podman.sock",
        f"tcp://node2{SOCKET}",
        f"http://node2{SOCKET}",
        "ssh://",
        "ssh://node2",
        "ssh://node2/",
        f"ssh://{SOCKET}",
        f"ssh://root:secret@node2{SOCKET}",
        f"ssh://root:@node2{SOCKET}",
        f"ssh://-oProxyCommand=touch%20x{SOCKET}",
        f"ssh://root@-node2{SOCKET}",
        f"ssh://node2:ssh{SOCKET}",
        f"ssh://node2:70000{SOCKET}",
        f"ssh://[2001:db8::7{SOCKET}",
    ],
)
def test_url_that_names_no_socket_is_refused(url: str) -> None:
    with pytest.raises(FerryError) as error:
        Endpoint.parse(url)
    assert repr(url.replace("secret", "***")) in str(error.value)


def test_message_about_a_url_does_not_tell_its_password() -> None:
    with pytest.raises(FerryError) as error:
        Endpoint.parse(f"ssh://root:secret@node2{SOCKET}")
    assert "secret" not in str(error.value)


def test_adapter_gives_its_pool_to_every_requests_version() -> None:
    adapter = UnixAdapter("/nonexistent", 5)
    before_2_32 = adapter.get_connection("http://elsewhere.example/", proxies={"http": "http://proxy.example"})
    since_2_32 = adapter.get_connection_with_tls_context(object(), True, proxies={}, cert=None)
    assert before_2_32 is since_2_32
    assert isinstance(since_2_32, _transport._UnixPool)


def test_session_reaches_nothing_but_the_socket() -> None:
    with Transport("unix:///nonexistent", 5) as transport:
        assert list(transport.session.adapters) == ["http://libpod"]
        with pytest.raises(_transport.requests.exceptions.InvalidSchema):
            transport.session.get("https://registry.example/")


# -- ssh ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_ssh(programs, monkeypatch):
    """ssh cannot be found."""
    monkeypatch.setenv("PATH", "/nonexistent")


def options_of(arguments: list[str]) -> dict[str, str]:
    flags = zip(arguments, arguments[1:])
    return dict(value.split("=", 1) for flag, value in flags if flag == "-o")


def test_ssh_is_told_where_to_go(no_ssh) -> None:
    forward = SshForward(Endpoint(SOCKET, "node2", "root", 2222), Way(), 600)
    target = forward._target()
    forward.close()
    assert target[-5:] == ["-l", "root", "-p", "2222", "node2"]


def test_ssh_decides_what_the_url_leaves_open(no_ssh) -> None:
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    target = forward._target()
    forward.close()
    assert target[-1] == "node2"
    assert not {"-l", "-p", "-i"} & set(target)
    assert not {"IdentityFile", "UserKnownHostsFile", "StrictHostKeyChecking"} & set(options_of(target))


def test_ssh_never_asks_and_binds_privately(no_ssh) -> None:
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    options = options_of(forward._target())
    forward.close()
    assert options["BatchMode"] == "yes"
    assert options["ExitOnForwardFailure"] == "yes"
    assert options["StreamLocalBindMask"] == "0177"
    assert options["ConnectTimeout"] == "10"
    assert options["ControlPath"] == f"{os.path.dirname(forward.socket)}/control"


def test_ssh_uses_only_the_key_and_the_hosts_that_it_was_given(no_ssh) -> None:
    forward = SshForward(Endpoint(SOCKET, "node2"), Way("/keys/id", "/keys/known_hosts"), 600)
    options = options_of(forward._target())
    forward.close()
    assert options["IdentityFile"] == "/keys/id"
    assert options["IdentitiesOnly"] == "yes"
    assert options["UserKnownHostsFile"] == "/keys/known_hosts"
    assert options["StrictHostKeyChecking"] == "yes"


def test_refused_host_key_is_not_told_as_a_matter_of_the_login(programs) -> None:
    programs("ssh", "echo Host key verification failed. >&2; exit 255")
    with pytest.raises(TransportError, match="Host key verification failed.*host key must be known"):
        Transport(f"ssh://root@node2{SOCKET}", 5)


def test_jump_gets_the_same_key_and_hosts(no_ssh) -> None:
    forward = SshForward(Endpoint(SOCKET, "node2"), Way.of("/keys/i d", "/keys/100%", "me@jump:2222"), 600)
    target = forward._target()
    forward.close()
    command = options_of(target)["ProxyCommand"]
    assert command.startswith("ssh -W '[%h]:%p' ")
    arguments = shlex.split(command.replace("%%", "%"))
    assert options_of(arguments)["IdentityFile"] == "/keys/i d"
    assert options_of(arguments)["UserKnownHostsFile"] == "/keys/100%"
    assert options_of(arguments)["StrictHostKeyChecking"] == "yes"
    assert arguments[-5:] == ["-l", "me", "-p", "2222", "jump"]
    assert "100%%" in command
    assert "ProxyCommand" not in options_of(arguments)


def test_reason_of_the_jump_host_is_told(programs) -> None:
    programs(
        "ssh", 'case "$*" in *-W*jump) echo administratively prohibited;; *) echo Connection closed;; esac; exit 255'
    )
    with pytest.raises(TransportError, match="node2.*at the jump host jump: administratively prohibited"):
        Transport(f"ssh://root@node2{SOCKET}", 5, jump="me@jump")


def test_reason_of_the_destination_is_told_if_the_jump_host_lets_through(programs) -> None:
    programs("ssh", 'case "$*" in *-M*) echo Permission denied; exit 255;; esac; exit 0')
    with pytest.raises(TransportError, match="failed: Permission denied"):
        Transport(f"ssh://root@node2{SOCKET}", 5, jump="me@jump")


@pytest.mark.parametrize("jump", ["-oProxyCommand=x", "me@", "host/path", "me:secret@host", "host:port"])
def test_jump_that_names_no_host_is_refused(jump: str) -> None:
    with pytest.raises(FerryError, match=r"user@host\[:port\]") as error:
        Way.of(None, None, jump)
    assert "secret" not in str(error.value)


def test_forwarding_is_asked_for_and_ended(programs) -> None:
    noted = programs("ssh", "exit 0")
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    forward.open()
    opened = noted.read_text().splitlines()
    opened = opened[opened.index("-f") :]
    noted.write_text("")
    forward.close()
    assert opened[:3] == ["-f", "-N", "-M"]
    assert "ControlPersist=660" in opened
    assert opened[opened.index("-L") + 1] == f"{forward.socket}:{SOCKET}"
    assert noted.read_text().splitlines()[:2] == ["-O", "exit"]


def test_directory_of_the_forwarding_is_private_and_removed(no_ssh) -> None:
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    directory = pathlib.Path(forward.socket).parent
    mode = stat.S_IMODE(directory.stat().st_mode)
    forward.close()
    assert mode == 0o700
    assert not directory.exists()


def test_transport_tells_what_ssh_said_and_leaves_nothing(programs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_transport.tempfile, "mkdtemp", lambda **_options: str(tmp_path / "forward"))
    (tmp_path / "forward").mkdir()
    programs("ssh", "echo root@node2: Permission denied >&2; exit 255")
    with pytest.raises(TransportError, match="node2.*Permission denied.*PermitRootLogin"):
        Transport(f"ssh://root@node2{SOCKET}", 5)
    assert not (tmp_path / "forward").exists()


def test_silent_failure_of_ssh_is_told_by_its_status(programs) -> None:
    programs("ssh", "exit 3")
    with pytest.raises(TransportError, match="exit status 3"):
        Transport(f"ssh://root@node2{SOCKET}", 5)


def test_missing_ssh_is_told(no_ssh) -> None:
    with pytest.raises(TransportError, match="ssh could not be started"):
        Transport(f"ssh://root@node2{SOCKET}", 5)


def test_command_on_the_other_host_gets_its_input_and_gives_its_output(programs) -> None:
    noted = programs("ssh", "tr a-z A-Z")
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    try:
        assert forward.run("nft -f -", "add table") == "ADD TABLE"
        assert noted.read_text().splitlines()[-2:] == ["node2", "nft -f -"]
    finally:
        forward.close()


def test_failing_command_on_the_other_host_is_told(programs) -> None:
    programs("ssh", "echo no such device; exit 1")
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    try:
        with pytest.raises(TransportError, match="'nft -f -' on node2 failed: no such device"):
            forward.run("nft -f -", "")
    finally:
        forward.close()


def test_command_that_does_not_end_is_given_up(programs) -> None:
    programs("ssh", 'case "$*" in *-O*) ;; *) exec sleep 20 ;; esac')
    forward = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    try:
        with pytest.raises(TransportError, match="did not finish within"):
            forward.run("nft -f -", "", timeout=0.2)
    finally:
        forward.close()


def test_forwarded_service_does_not_share_this_hosts_files(programs, connect, libpod) -> None:
    programs("ssh", "exit 0")
    assert connect(libpod.url).transport.is_local
    assert not connect(f"ssh://root@node2{SOCKET}").transport.is_local


def test_connections_of_killed_runs_are_ended(programs) -> None:
    noted = programs("ssh", "exit 0")
    abandoned = pathlib.Path("/tmp", f"{_transport.SSH_DIRECTORY}abandoned")
    abandoned.mkdir()
    (abandoned / "control").touch()
    SshForward(Endpoint(SOCKET, "node2"), Way(), 600).close()
    assert not abandoned.exists()
    assert noted.read_text().splitlines()[:4] == ["-O", "exit", "-o", f"ControlPath={abandoned}/control"]


def test_directory_is_locked_before_another_run_can_see_it(monkeypatch) -> None:
    """Else that one would take it for abandoned, and remove it."""
    before = set(pathlib.Path("/tmp").glob(f"{_transport.SSH_DIRECTORY}*"))
    flock = _transport.fcntl.flock

    def watched(descriptor: int, operation: int) -> None:
        assert set(pathlib.Path("/tmp").glob(f"{_transport.SSH_DIRECTORY}*")) == before
        flock(descriptor, operation)

    monkeypatch.setattr(_transport.fcntl, "flock", watched)
    path, lock = _transport._locked_directory()
    try:
        assert path.startswith(f"/tmp/{_transport.SSH_DIRECTORY}")
        other = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            flock(other, _transport.fcntl.LOCK_EX | _transport.fcntl.LOCK_NB)
        os.close(other)
    finally:
        os.close(lock)
        os.rmdir(path)


def test_connections_of_other_runs_stay(programs) -> None:
    programs("ssh", "exit 0")
    other = SshForward(Endpoint(SOCKET, "node2"), Way(), 600)
    SshForward(Endpoint(SOCKET, "node3"), Way(), 600).close()
    assert os.path.isdir(os.path.dirname(other.socket))
    other.close()
    assert not os.path.isdir(os.path.dirname(other.socket))
