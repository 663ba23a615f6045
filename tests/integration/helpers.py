# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the tests of real hosts share: hosts of the lab, modules run the way users run them, containers with state."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import itertools
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import tempfile
import time
import typing as t
import uuid
from collections.abc import Callable, Iterable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = str(ROOT / "tests/lab/lab")
SCRATCH = "/root/integration"
"""Directory of one test on a host; on its disk, and gone after the test."""

LOCKS = pathlib.Path("/run/lock")
ADDRESSES = {f"node{number}": range(90 + 10 * number, 100 + 10 * number) for number in range(1, 10)}
"""The last bytes of the addresses on the network lan that the tests of each host use."""

RESULT = re.compile(r"^\S+ \| (?:SUCCESS|CHANGED|FAILED!|UNREACHABLE!).*?=> (?=\{)", re.MULTILINE)

Json = dict[str, t.Any]
T = t.TypeVar("T")


def run(*command: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
    """Run a program on this machine and return what it printed."""
    done = subprocess.run(
        command, cwd=ROOT, input=stdin, text=True, capture_output=True, timeout=timeout, errors="replace"
    )
    if check and done.returncode != 0:
        shown = " ".join(command)
        raise AssertionError(f"{shown} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(question: Callable[[], T | None], what: str, seconds: float = 20.0) -> T:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return answer


def descendants(process: int) -> list[int]:
    """Processes on this machine that a program has begun."""
    found = []
    for path in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *descendants(child)]
    return found


@contextlib.contextmanager
def alone_with(*nodes: str) -> Iterator[None]:
    """Have these hosts to oneself: tests stop their services and fill their disks."""
    with contextlib.ExitStack() as stack:
        for node in sorted(nodes):
            lock = stack.enter_context(open(LOCKS / f"ferry-integration-{node}.lock", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# -- modules ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Result:
    """What a module answered, and what ansible printed besides."""

    values: Json
    output: str
    stderr: str

    @property
    def failed(self) -> bool:
        return "FAILED!" in self.output or bool(self.values.get("failed"))

    @property
    def changed(self) -> bool:
        return bool(self.values.get("changed"))

    @property
    def msg(self) -> str:
        return str(self.values.get("msg", ""))

    @property
    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.values.get("findings", [])]

    @property
    def containers(self) -> list[Json]:
        return t.cast("list[Json]", self.values["containers"])

    @property
    def one(self) -> Json:
        (container,) = self.containers
        return container

    @property
    def difference(self) -> set[str]:
        """The lines that --diff printed, without their indentation."""
        lines = self.output.splitlines()
        return {line[0] + line[1:].strip().rstrip(",") for line in lines if line[:1] in ("+", "-")}


def parsed(output: str, stderr: str) -> Result:
    found = RESULT.search(output)
    assert found is not None, f"ansible printed no result:\n{output}{stderr}"
    values, _end = json.JSONDecoder().raw_decode(output[found.end() :])
    return Result(values, output, stderr)


@functools.cache
def inventory() -> str:
    return run(LAB, "inventory").strip()


def inventory_of(directory: pathlib.Path, nodes: Iterable[Node]) -> str:
    """An inventory of these hosts only: a drain asks all that there are, and others are other tests'."""
    names = {node.name for node in nodes}
    lines = pathlib.Path(inventory()).read_text().splitlines(keepends=True)
    path = directory / "hosts"
    path.write_text("".join(line for line in lines if " ansible_host=" not in line or line.split()[0] in names))
    return str(path)


MEMORY_NOTING = f"""#!/usr/bin/python3 -I
# Runs Python for Ansible and notes the most memory that it had, in kilobytes.
import resource, subprocess, sys
code = subprocess.call(["/usr/bin/python3", *sys.argv[1:]])
with open("{SCRATCH}/memory", "a") as file:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
sys.exit(code)
"""

# -- hosts ------------------------------------------------------------------------------------------------------


class Node:
    """A host of the lab."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._later = contextlib.ExitStack()
        self._addresses = itertools.cycle(ADDRESSES.get(name, range(180, 200)))
        self._baseline: set[str] = set()
        self._killed = False

    @functools.cached_property
    def podman_version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.podman("--version").split()[-1].split("."))

    # -- commands

    def run(self, *command: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
        return run(LAB, "exec", self.name, "--", *command, check=check, stdin=stdin, timeout=timeout)

    def sh(self, script: str, check: bool = True) -> str:
        return self.run("sh", "-euc", script, check=check)

    def podman(self, *arguments: str, check: bool = True) -> str:
        return self.run("podman", *arguments, check=check).strip()

    def command(self, *command: str) -> list[str]:
        """What runs a command on it from this machine."""
        return [LAB, "exec", self.name, "--", *command]

    def popen(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*command), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def popen_with_input(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [LAB, "exec", self.name, "--", *command],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def service(self, action: str) -> None:
        self._killed = self._killed or action == "kill"
        run(LAB, "service", self.name, action)

    def forget_addresses(self) -> None:
        """Of containers that are gone; podman keeps those that it was just giving when it was killed."""
        (found,) = json.loads(self.podman("network", "inspect", "lan"))
        (subnet,) = found["subnets"]
        lease = subnet["lease_range"]
        options = ("--driver", found["driver"], "--opt", f"parent={found['network_interface']}")
        addresses = ("--subnet", subnet["subnet"], "--gateway", subnet["gateway"])
        self.podman("network", "rm", "lan")
        span = f"{lease['start_ip']}-{lease['end_ip']}"
        self.podman("network", "create", *options, *addresses, "--ip-range", span, "lan")

    @contextlib.contextmanager
    def other_service(self, *flags: str, **environment: str) -> Iterator[str]:
        """One more podman service on the host, with other flags; gives its URL."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        path = f"{SCRATCH}/service.sock"
        service = self.popen("env", *variables, "podman", *flags, "system", "service", "--time", "0", f"unix://{path}")
        try:
            wait_until(lambda: self.exists(path), "another service")
            yield f"unix://{path}"
        finally:
            service.terminate()
            service.communicate()

    def later(self, *command: str) -> None:
        """Run a command when the test is over, whatever becomes of it."""
        self._later.callback(self.run, *command, check=False)

    def journal(self) -> str:
        """The phase that a move is in, or nothing."""
        return self.sh(
            """sed -n 's/.*"phase": "\\([a-z]*\\)".*/\\1/p' /var/lib/ferry/*.json 2>/dev/null || :"""
        ).strip()

    def memory_noting(self) -> Json:
        """Variables with which the memory of modules on it is noted."""
        self.run("tee", f"{SCRATCH}/python", stdin=MEMORY_NOTING)
        self.run("chmod", "755", f"{SCRATCH}/python")
        return {"ansible_python_interpreter": f"{SCRATCH}/python"}

    def memory_noted(self) -> list[float]:
        """The most memory of each module since then, in megabytes."""
        return [int(line) / 1024 for line in self.sh(f"cat {SCRATCH}/memory").split()]

    def exists(self, path: str) -> bool:
        return self.sh(f"[ ! -e {shlex.quote(path)} ] || echo yes").strip() == "yes"

    def files(self, directory: str = SCRATCH) -> list[str]:
        return self.run("ls", "-A", directory).split()

    # -- modules

    def start_module(
        self, module: str, *, check: bool = False, diff: bool = False, extra: Json | None = None, **options: t.Any
    ) -> subprocess.Popen[str]:
        """Begin to run a module as a user does: ansible on this machine, the module on the host."""
        command = [str(ROOT / ".venv/bin/ansible"), self.name, "-i", inventory(), "-m", f"ferry.podman.{module}"]
        command += ["-a", json.dumps(options)]
        command += ["--check"] if check else []
        command += ["--diff"] if diff else []
        command += ["-e", json.dumps(extra)] if extra else []
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0", "COLUMNS": "4000"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._later.callback(process.wait)
        self._later.callback(process.kill)
        return process

    def module(self, module: str, **options: t.Any) -> Result:
        return parsed(*self.start_module(module, **options).communicate(timeout=300))

    def modules(self, module: str, *several: Json) -> list[Result]:
        """Run a module once for each set of options, as the tasks of one playbook: it takes half the time."""
        tasks: list[Json] = [
            {f"ferry.podman.{module}": options, "register": f"result{number}", "ignore_errors": True}
            for number, options in enumerate(several)
        ]
        results = ", ".join(f"result{number}" for number in range(len(several)))
        with tempfile.TemporaryDirectory() as directory:
            answers = pathlib.Path(directory, "answers")
            content = f"{{{{ [{results}] | to_json }}}}"
            copy = {"ansible.builtin.copy": {"content": content, "dest": str(answers)}, "delegate_to": "localhost"}
            play = {"hosts": self.name, "gather_facts": False, "tasks": [*tasks, copy]}
            pathlib.Path(directory, "play.yml").write_text(json.dumps([play]))
            run(str(ROOT / ".venv/bin/ansible-playbook"), "-i", inventory(), f"{directory}/play.yml")
            return [Result(values, "", "") for values in json.loads(answers.read_text())]

    def checkpoint(self, *names: str, **options: t.Any) -> Result:
        """Checkpoint, which must succeed."""
        return self._must("podman_checkpoint", {"name": names, **options} if names else options)

    def restore(self, *names: str, **options: t.Any) -> Result:
        """Restore, which must succeed."""
        return self._must("podman_restore", {"name": names, **options} if names else options)

    def info(self, **options: t.Any) -> Result:
        return self._must("podman_checkpoint_info", {"name": [], **options})

    def _must(self, module: str, options: Json) -> Result:
        result = self.module(module, **options)
        assert not result.failed, result.msg
        return result

    # -- containers

    def start(self, image: str = "counter", *flags: str, command: tuple[str, ...] = (), network: str = "none") -> Box:
        """Run a container of one of the lab's images."""
        return self._started(image, network, flags, command)

    def start_on_lan(self, image: str, *flags: str, command: tuple[str, ...] = (), reference: str = "") -> Box:
        """Run a container that this machine reaches.

        :param reference: of an image that was made from the lab's, to be used instead.
        """
        address = self.free_address()
        box = self._started(image, "lan", ("--ip", address, *flags), command, reference)
        box.address = address
        box.wait_for_service()
        return box

    def _started(
        self, image: str, network: str, flags: tuple[str, ...], command: tuple[str, ...], reference: str = ""
    ) -> Box:
        name = f"it-{pathlib.PurePath(image).name.split(':')[0]}-{uuid.uuid4().hex[:6]}"
        full = reference or (image if "/" in image else f"localhost/lab/{image}")
        ident = self.podman("run", "--detach", "--name", name, "--network", network, *flags, full, *command)
        return Box(self, name, ident, image)

    def box(self, name: str, image: str = "counter", address: str = "") -> Box:
        """A container that is there already."""
        return Box(self, name, self.podman("inspect", "--format", "{{.Id}}", name), image, address)

    def free_address(self) -> str:
        address = f"10.99.0.{next(self._addresses)}"
        forget_neighbour(address)
        return address

    def names(self) -> set[str]:
        """Names of all containers."""
        return set(self.podman("ps", "--all", "--format", "{{.Names}}").split())

    def volumes(self) -> set[str]:
        return set(self.podman("volume", "ls", "--quiet").split())

    # -- before and after a test

    def begin(self) -> None:
        self.sh(f"rm -rf {SCRATCH}; mkdir {SCRATCH}")
        self._baseline = self._things()

    def finish(self) -> list[str]:
        """Put the host back as it was, and return what a module should not have left there."""
        self._later.close()
        self.service("start")
        left = self._things() - self._baseline
        traces = sorted(thing for thing in left if thing.startswith("file ") or " ferry-" in thing)
        for kind in ("container", "volume", "image"):
            self._remove(kind, [thing.split()[1] for thing in left if thing.startswith(kind)])
        networks = self.sh("ls /run/netns 2>/dev/null || :").split()
        stray = [name for name in networks if f"netns {name}" not in self._baseline]
        self._remove_networks(stray)
        if (self._killed or stray) and not self.names():
            self.forget_addresses()
        self._killed = False
        self.sh(f"rm -rf {SCRATCH}")
        return traces

    def _remove(self, kind: str, idents: list[str]) -> None:
        command = {
            "container": ("rm", "--force", "--time", "0", "--depend", "--volumes"),
            "volume": ("volume", "rm", "--force"),
            "image": ("rmi", "--force"),
        }
        if idents:
            self.podman(*command[kind], *idents, check=False)

    def _remove_networks(self, names: list[str]) -> None:
        """What podman leaves of a killed service's containers would answer for their addresses for ever."""
        for name in names:
            self.run("ip", "netns", "delete", name, check=False)

    def _things(self) -> set[str]:
        """Containers, volumes, images and networks, and files that only modules and services make for a while."""
        api = "http://d/v5.0.0/libpod/"
        lists = ("containers/json?all=true", "volumes/json", "images/json")
        script = f"""
            for list in {" ".join(map(shlex.quote, lists))}; do
                curl --silent --fail --unix-socket /run/podman/podman.sock "{api}$list"; echo
            done
            ls -d /tmp/ferry-* /var/tmp/ferry-* /var/tmp/checkpoint* /var/tmp/restore* 2>/dev/null || :
            find {SCRATCH} -name '*.partial'
            ls /run/netns 2>/dev/null | sed 's/^/netns /'
        """
        containers, volumes, images, *rest = filter(None, self.sh(script).splitlines())
        return {
            *(f"container {found['Id']} {' '.join(found['Names'])}" for found in json.loads(containers)),
            *(f"volume {found['Name']}" for found in json.loads(volumes)),
            *(f"image {found['Id']}" for found in json.loads(images)),
            *(line if line.startswith("netns ") else f"file {line}" for line in rest),
        }


def node_of(name: str) -> Node:
    """A host of the lab that is up."""
    (line,) = (line for line in pathlib.Path(inventory()).read_text().splitlines() if line.startswith(f"{name} "))
    return Node(name, line.partition("ansible_host=")[2].strip())


def carry(path: str, source: Node, destination: Node) -> None:
    """Copy a file between two hosts by the means that everybody has."""
    variables = dict(re.findall(r"^(ansible_ssh_\w+)=(.*)$", pathlib.Path(inventory()).read_text(), re.MULTILINE))
    options = ["-3", "-q", "-i", variables["ansible_ssh_private_key_file"], *variables["ansible_ssh_args"].split()]
    run("scp", *options, f"root@{source.address}:{path}", f"root@{destination.address}:{path}")


def forget_neighbour(address: str) -> None:
    """An address that was another container's stays known for a while."""
    run("ip", "neigh", "flush", "dev", "ferry0", "to", address, check=False)


NAMESPACES = """
for file in /run/netns/*; do
    echo "$file: $(nsenter --net=$file ip -brief address; nsenter --net=$file ss -Hltn)"
done
podman ps --all; ip neighbour
"""
"""Shell for a host: who has which address, where somebody does not answer."""

# -- containers -------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Box:
    """A container, and what only it can know."""

    node: Node
    name: str
    id: str
    image: str
    address: str = ""

    def inspect(self) -> Json:
        return t.cast(Json, json.loads(self.node.podman("inspect", self.id))[0])

    @property
    def state(self) -> Json:
        return t.cast(Json, self.inspect()["State"])

    @property
    def status(self) -> str:
        return self.node.podman("inspect", "--format", "{{.State.Status}}", self.id)

    @property
    def life(self) -> str:
        """What changes when the container is touched: its start, its process, its restarts."""
        template = "{{.State.Status}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}} {{.State.Checkpointed}}"
        return self.node.podman("inspect", "--format", template, self.id)

    @property
    def policy(self) -> str:
        """The restart policy."""
        template = "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}"
        return self.node.podman("inspect", "--format", template, self.id)

    @property
    def userdata(self) -> str:
        """The directory with its checkpoint and CRIU's logs."""
        return str(pathlib.PurePath(self.inspect()["OCIConfigPath"]).parent)

    def sh(self, script: str, check: bool = True) -> str:
        """Run a shell in the container."""
        return self.node.podman("exec", self.id, "sh", "-euc", script, check=check)

    def remove(self) -> None:
        self.node.podman("rm", "--force", "--time", "0", "--volumes", self.id)

    def logged(self) -> list[int]:
        """The numbers that a counter has printed."""
        return [int(line) for line in self.node.podman("logs", self.id).split()]

    def counts_on(self) -> list[int]:
        """See that a counter goes on and has never begun again."""
        before = len(self.logged())
        numbers = wait_until(lambda: (found := self.logged())[before:] and found, f"{self.name} to count on", 10)
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        return numbers

    # -- over the network lan

    def connect(self, limit: float = 20.0) -> socket.socket:
        port = {"keeper": 7000, "redis": 6379, "nginx": 80, "postgres": 5432}[self.image]
        try:
            return wait_until(lambda: connection(self.address, port), f"{self.name} to accept", limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status}\n{self.node.sh(NAMESPACES, check=False)}") from None

    def wait_for_service(self) -> None:
        self.connect().close()

    def ask(self, line: str) -> str:
        """One question over a connection of its own, which the server has closed when this returns."""
        with self.connect() as client:
            client.settimeout(30)
            client.sendall(line.encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(4096), b"")).decode().strip()

    def memory(self) -> Memory:
        """What a keeper holds."""
        verdict, digest = self.ask("sum").split()
        assert verdict == "same", f"the memory of {self.name} has changed"
        return Memory(digest, int(self.ask("next")))


def connection(address: str, port: int) -> socket.socket | None:
    try:
        return socket.create_connection((address, port), 1)
    except OSError:
        return None


@dataclasses.dataclass(frozen=True)
class Memory:
    """The digest of a keeper's memory, and the number that it gave."""

    digest: str
    number: int

    def goes_on_in(self, box: Box) -> None:
        """See that the keeper is the same process, not one more of its kind."""
        now = box.memory()
        assert (now.digest, now.number) == (self.digest, self.number + 1)
