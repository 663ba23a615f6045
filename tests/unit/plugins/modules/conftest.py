# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Runs modules whole, in this process, against the stand-in service."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils import basic


@pytest.fixture
def run_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> t.Callable[..., dict[str, t.Any]]:
    """Calls a module's main() with these options, and returns what it answers."""
    monkeypatch.delenv("CONTAINER_HOST", raising=False)
    monkeypatch.delenv("CONTAINER_SSHKEY", raising=False)

    def run(module: t.Any, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        arguments = {**options, "_ansible_check_mode": check_mode, "_ansible_remote_tmp": "/tmp"}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        # Since ansible-core 2.19 the arguments have a form that must be named.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit) as left:
            module.main()
        answer = json.loads(capsys.readouterr().out.strip().rpartition("\n")[2])
        assert bool(left.value.code) == bool(answer.get("failed"))
        return answer

    return run
