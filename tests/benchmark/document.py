# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""docs/benchmarks.md: each benchmark writes its own section there and leaves the others as they are."""

from __future__ import annotations

import pathlib

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs/benchmarks.md"
TITLE = """\
<!--
SPDX-License-Identifier: GPL-3.0-or-later
Copyright: the ferry.podman contributors
-->

# Benchmarks
"""


def write(name: str, text: str) -> None:
    """:param name: of the section, in the comments around it."""
    before = DOCS.read_text(encoding="utf-8") if DOCS.exists() else TITLE
    DOCS.write_text(merged(before, name, text), encoding="utf-8")


def merged(before: str, name: str, text: str) -> str:
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->\n"
    section = f"{begin}\n\n{text.strip()}\n\n{end}"
    if begin not in before:
        return f"{before.rstrip()}\n\n{section}"
    head, _, rest = before.partition(begin)
    return head + section + rest.partition(end)[2]
