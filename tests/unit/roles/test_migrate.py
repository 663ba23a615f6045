# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the role has in common with the module, and the command that its key is restricted to, run by real shells."""

from __future__ import annotations

import ast
import os
import pathlib
import shutil
import subprocess

import jinja2
import pytest
import yaml

from ansible_collections.ferry.podman.plugins.module_utils._guard import COMMAND
from ansible_collections.ferry.podman.plugins.module_utils._host import PROBE
from ansible_collections.ferry.podman.plugins.module_utils._orphan import RUNTIMES
from ansible_collections.ferry.podman.plugins.module_utils._receive import RECEIVE
from ansible_collections.ferry.podman.plugins.module_utils._request import MOVE

ROOT = pathlib.Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/migrate"
IDENT = "0123456789abcdef" * 4
SHELLS = [shell for shell in ("bash", "dash", "zsh", "sh") if shutil.which(shell)]
OWN = {"name", "url", "identity", "known_hosts", "destination", "destination_identity", "destination_known_hosts"}
"""Options of the module that the role fills in itself."""


def role_file(path: str):
    return yaml.safe_load((ROLE / path).read_text(encoding="utf-8"))


def options_of_module() -> set[str]:
    tree = ast.parse((ROOT / "plugins/modules/podman_migrate.py").read_text(encoding="utf-8"))
    (spec,) = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "argument_spec"]
    return {"url", "identity", "known_hosts", "timeout", *MOVE, *(ast.literal_eval(key) for key in spec.keys if key)}


def test_role_has_every_option_of_the_module() -> None:
    options = options_of_module() - OWN - {"destination_jump"}
    assert {f"migrate_{option}" for option in options} <= role_file("defaults/main.yml").keys()


def test_module_is_given_every_option() -> None:
    (block, *_rest) = role_file("tasks/move.yml")
    assert block["block"][0]["ferry.podman.podman_migrate"].keys() == options_of_module()


def test_every_variable_with_a_default_is_documented_with_it() -> None:
    options = role_file("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = role_file("defaults/main.yml")
    assert options.keys() == defaults.keys() | {"migrate_container", "migrate_destination"}
    for name, value in defaults.items():
        if not str(value).startswith("{{"):
            assert options[name]["default"] == value


def test_probe_is_the_modules() -> None:
    assert role_file("vars/main.yml")["__migrate_probe"] == PROBE
    assert role_file("vars/main.yml")["__migrate_receive"] == RECEIVE


@pytest.fixture
def run(tmp_path):
    """Runs the forced command as sshd does; programs of a move only tell that they were run."""
    for name in ("nft", "crun", "runc", "id"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho ran {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    variables = role_file("vars/main.yml")
    forced = jinja2.Template(variables["__migrate_forced_command"]).render(
        __migrate_probe=PROBE, __migrate_receive=RECEIVE
    )
    assert "\n" not in forced and "\\" not in forced

    def run(shell: str, command: str | None) -> tuple[int, str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        if command is not None:
            environment["SSH_ORIGINAL_COMMAND"] = command
        done = subprocess.run(
            [shell, "-c", forced], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", [COMMAND, *(f"{runtime} delete --force {IDENT}" for runtime in RUNTIMES)])
def test_key_runs_the_commands_of_a_move(run, shell: str, command: str) -> None:
    assert run(shell, command) == (0, f"ran {command}\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_key_runs_the_probe(run, shell: str) -> None:
    code, output = run(shell, PROBE)
    assert code == 0
    assert output.splitlines()[-1] == "@end"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "command",
    [
        None,
        "",
        "id",
        "sh",
        "/usr/lib/openssh/sftp-server",
        "nft -f -;id",
        "nft -f -\nid",
        "nft -f - ",
        "nft  -f -",
        "nft -f /etc/passwd",
        "nft*",
        "$(id)",
        "'nft -f -'",
        f"{PROBE}; id",
        f"{PROBE}\nid",
        f"{RECEIVE}; id",
        f"{RECEIVE} ",
        PROBE[:-1],
        f"crun delete --force {IDENT[:-1]}",
        f"crun delete --force {IDENT}0",
        f"crun delete --force {IDENT[:-1]}\n",
        f"crun delete --force {IDENT}\n",
        f"crun delete --force {IDENT}\nid",
        f"crun delete --force {IDENT};id",
        f"crun delete --force {IDENT} {IDENT}",
        f"crun delete --force {IDENT.upper()}",
        f"crun delete --force {IDENT[:-1]}\u00e9",
        f"crun delete --force {'?' * 64}",
        f"crun delete --force --regex {IDENT[:-8]}",
        f"crux delete --force {IDENT}",
        f"runc  delete --force {IDENT}",
        f"id; crun delete --force {IDENT}",
        f"crun kill {IDENT}",
    ],
)
def test_key_runs_nothing_else(run, shell: str, command: str | None) -> None:
    assert run(shell, command) == (1, "")
