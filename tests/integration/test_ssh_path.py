# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""The ways that the role makes between hosts: other users, jump hosts, relays; and what its key allows."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import uuid
from collections.abc import Iterator

import jinja2
import pytest
import yaml
from helpers import ROOT, SCRATCH, Box, Node, inventory

from ansible_collections.ferry.podman.plugins.module_utils._host import PROBE

PUBLIC_KEYS = "/root/.ssh/authorized_keys"
USER = "ferry-mover"
HOME = f"/home/{USER}"
REFUSED = "this key may not run that"


@dataclasses.dataclass
class Way:
    """Two hosts with a user who is not root, and a playbook that moves between them."""

    source: Node
    destination: Node
    directory: pathlib.Path

    def __post_init__(self) -> None:
        text = pathlib.Path(inventory()).read_text()
        self.variables = dict(re.findall(r"^(ansible_\w+)=(.*)$", text, re.MULTILINE))
        self.lab_key = self.variables["ansible_ssh_private_key_file"]
        known = re.findall("UserKnownHostsFile=([^ ]+)", self.variables["ansible_ssh_args"])[0]
        options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
        self.options = ["-F", "none", *(part for option in options for part in ("-o", option))]

    def add_user(self, node: Node, options: str, key: str, shell: str = "/bin/sh") -> None:
        """A user who may become root, with one public key."""
        node.sh(
            f"""
            cp /etc/passwd /etc/shadow {SCRATCH}
            echo '{USER}:x:4711:4711::{HOME}:{shell}' >>/etc/passwd
            echo '{USER}:*:20000::::::' >>/etc/shadow
            mkdir -p {HOME}/.ssh
            echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}
            """
        )
        node.later("sh", "-c", f"rm -rf {HOME} /etc/sudoers.d/{USER}; cd {SCRATCH} && cp passwd shadow /etc")
        node.run("tee", f"{HOME}/.ssh/authorized_keys", stdin=f"{options} {key}\n")
        node.sh(f"chown -R 4711:4711 {HOME}; chmod -R go= {HOME}")

    def lab_public_key(self) -> str:
        return pathlib.Path(f"{self.lab_key}.pub").read_text().strip()

    def hosts(self, **variables: str) -> str:
        """An inventory with variables of its own; each has {other} for the address of the other host."""
        lines = ["[podman_hosts]"]
        for node, other in ((self.source, self.destination), (self.destination, self.source)):
            own = " ".join(f"{key}='{value.format(other=other.address)}'" for key, value in variables.items())
            lines.append(f"{node.name} ansible_host={node.address} {own}")
        common = {key: value for key, value in self.variables.items() if key not in variables}
        # A connection of its own: that of another test with this user came by another way.
        shared = f"-o ControlMaster=auto -o ControlPersist=10 -o ControlPath=/run/{uuid.uuid4().hex[:8]}-%C"
        common["ansible_ssh_args"] = " ".join([*self.options, shared])
        lines += ["[podman_hosts:vars]", *(f"{key}={value}" for key, value in common.items())]
        path = self.directory / "hosts"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def play(self, box: Box, *arguments: str, hosts: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "ferry.podman.migrate", "-i", hosts or inventory()]
        named = {"source": self.source.name, "container": box.name, "destination": self.destination.name, **variables}
        extra = [part for key, value in named.items() for part in ("-e", f"{key}={value}")]
        home = {"HOME": str(self.directory), "ANSIBLE_NOCOLOR": "1"}
        command += [*extra, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **home}, text=True, capture_output=True, timeout=180
        )

    def moves(self, box: Box, hosts: str = "", **variables: str) -> None:
        """Move it, and see that it goes on there, with no key left."""
        keys = self.keys()
        memory = box.memory()
        done = self.play(box, hosts=hosts, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert box.name not in self.source.names()
        memory.goes_on_in(self.destination.box(box.name, box.image, box.address))
        assert self.keys() == keys

    def keys(self) -> list[str]:
        script = f"cat {PUBLIC_KEYS}; cat {HOME}/.ssh/authorized_keys 2>/dev/null || :"
        return [node.sh(script) for node in (self.source, self.destination)]


@pytest.fixture
def way(pair: tuple[Node, Node], tmp_path: pathlib.Path) -> Iterator[Way]:
    way = Way(*pair, tmp_path)
    yield way
    assert not list(pathlib.Path("/tmp").glob("ferry-*/id")), "a private key is left on the controller"


def forced_command() -> str:
    """As the role writes it in authorized_keys."""
    variables = yaml.safe_load((ROOT / "roles/migrate/vars/main.yml").read_text())
    template = jinja2.Template(variables["__migrate_forced_command"])
    texts = {name: variables[name] for name in ("__migrate_probe", "__migrate_receive")}
    return template.render(**texts).replace('"', '\\"')


def test_another_user_who_becomes_root_reached_through_a_jump_host(way: Way) -> None:
    """Each host lets the user in from the other host alone."""
    for node, other in ((way.source, way.destination), (way.destination, way.source)):
        way.add_user(node, f'from="{other.address}"', way.lab_public_key())
    jump = " ".join(["ssh", *way.options, "-i", way.lab_key, "-W", "%h:%p", "root@{other}"])
    hosts = way.hosts(
        ansible_user=USER,
        ansible_ssh_common_args=f'-o ProxyCommand="{jump}"',
    )
    way.moves(way.source.start_on_lan("keeper"), hosts=hosts)


def test_destination_that_is_reached_through_a_jump_host(way: Way) -> None:
    """The user's login on the destination is the jump host: root's key counts from its own address alone."""
    way.add_user(way.destination, f'from="{way.source.address}"', "ssh-ed25519 AAAA nobody")
    hosts = pathlib.Path(way.hosts())
    jump = f"jump ansible_host={way.destination.address} ansible_user={USER}\n"
    hosts.write_text(hosts.read_text().replace("[podman_hosts]\n", f"[podman_hosts]\n{jump}"))
    way.destination.run("tee", "-a", f"{HOME}/.ssh/authorized_keys", stdin=f"{way.lab_public_key()}\n")
    box = way.source.start_on_lan("keeper")
    way.moves(box, hosts=str(hosts), migrate_jump="jump")


def test_relay_through_the_controller(way: Way) -> None:
    box = way.source.start_on_lan("keeper")
    way.moves(box, migrate_transfer="relay")
    assert (way.directory / ".local/state/ferry").is_dir()


def test_refused_move_shows_every_finding_and_check_mode_the_phases(way: Way) -> None:
    box = way.source.start()
    life, keys = box.life, way.keys()
    # As a survey answers.
    numbers = {"migrate_bandwidth": "100M", "migrate_max_downtime": "600", "migrate_wait_healthy_timeout": "30"}
    texts = {"migrate_publish": "", "migrate_from": "", "migrate_force": "false", "migrate_networks": "create"}
    done = way.play(box, "--check", **numbers, **texts)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.search(r"would move to \w+: stopped for about \d+ ms.*phases: prepare, freeze.*commit", done.stdout)
    assert shown is not None, done.stdout
    way.destination.podman("create", "--name", box.name, "localhost/lab/counter")
    refused = way.play(box)
    assert refused.returncode != 0
    assert re.search(r'"msg": "\[name_\w+\] blocker: ', refused.stdout), refused.stdout
    assert (box.life, way.keys()) == (life, keys)


def test_root_that_may_not_log_in_is_told_before_anything_happens(way: Way) -> None:
    box = way.source.start()
    life, keys = box.life, way.keys()
    file = "/etc/ssh/sshd_config.d/00-integration.conf"
    way.destination.later("rm", "-f", file)
    way.destination.run("tee", file, stdin="PermitRootLogin no\n")
    done = way.play(box)
    assert done.returncode != 0
    assert f"sshd on {way.destination.name} does not let root in" in done.stdout
    assert "permitrootlogin no" in done.stdout.lower(), done.stdout
    assert (box.life, way.keys()) == (life, keys)


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash"])
def test_key_runs_the_commands_of_a_move_and_no_other(way: Way, shell: str) -> None:
    key = f"{way.directory}/id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = pathlib.Path(f"{key}.pub").read_text().strip()
    way.add_user(way.destination, f'restrict,port-forwarding,command="{forced_command()}"', public, shell)
    target = f"{USER}@{way.destination.address}"

    def said(*command: str, program: str = "ssh") -> str:
        full = [program, *way.options, "-i", key, target, *command]
        done = subprocess.run(full, input="no rules", text=True, capture_output=True, timeout=60)
        return done.stdout + done.stderr

    assert "@end" in said(PROBE)
    ident = "0f" * 32
    for command in ("nft -f -", f"crun delete --force {ident}", f"runc delete --force {ident}"):
        # The user may not do it, or has it not in the PATH.
        assert REFUSED not in said(command), command
    for command in (
        *("id", "nft -f - ; id", "nft -f -\nid", "nft  -f -", "sh -c id", PROBE + "; id", PROBE[:-1], "$(id)"),
        *(f"crun delete --force {ident[:-1]}", f"crun delete --force {ident}0", f"crun delete --force {ident};id"),
        *(f"crun delete --force {ident}\nid", f"crun delete --force {ident[:-2]} i", f"crun delete {ident}"),
        *(f"crun delete --force {ident.upper()}", f"crux delete --force {ident}", f"crun kill --force {ident}"),
    ):
        assert said(command).strip() == REFUSED, command
    assert said().splitlines()[-1] == REFUSED
    assert "uid=" not in said(program="sftp")
