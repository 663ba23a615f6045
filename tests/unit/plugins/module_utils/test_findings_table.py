# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table in the documentation lists every finding, and no other."""

from __future__ import annotations

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[4]


def codes_in_code() -> set[str]:
    found = set()
    for file in ("_compat.py", "_encryption.py", "_lint.py", "_policy.py", "_signature.py", "_verdicts.py"):
        tree = ast.parse((ROOT / "plugins/module_utils" / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and is_finding(node.func):
                # The code is a constant, one of two, or made for each of a few kinds.
                found |= constants(node.args[0])
    return found


def is_finding(called: ast.expr) -> bool:
    """Whether it makes one: as such, as an error that is one, or through a method that adds what all have."""
    return (
        getattr(called, "id", "") in ("Finding", "LintError", "Locked", "Unsigned")
        or getattr(called, "attr", "") == "_found"
    )


def constants(code: ast.expr) -> set[str]:
    if isinstance(code, ast.JoinedStr):
        return {"network_absent", "secret_absent"}
    return {node.value for node in ast.walk(code) if isinstance(node, ast.Constant)}


def test_table_is_complete():
    table = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE))
    assert documented == codes_in_code()
