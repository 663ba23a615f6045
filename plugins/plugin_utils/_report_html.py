# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Elements of a page. Every text is escaped but what these functions themselves have made. Pure."""

from __future__ import annotations

import html

LONGEST = 2000
"""Letters of one text; what a log put into a message can be large."""

VOID = frozenset({"col", "link", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Without what is no letter, which could hide or turn round what is beside it.

    Braces are escaped too: nothing of a page is a template, wherever it is read from later.
    """
    if isinstance(value, Markup):
        return value
    told = str(value)
    if len(told) > LONGEST:
        told = f"{told[:LONGEST]} …"
    if not told.isprintable():
        told = "".join(letter if letter.isprintable() else _instead_of(letter) for letter in told)
    return Markup(html.escape(told).replace("{", "&#123;").replace("}", "&#125;"))


def _instead_of(letter: str) -> str:
    return " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """:param attributes: a trailing underscore is dropped, others are hyphens; None is left out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in VOID:
        return Markup(f"<{element}{told}>")
    return Markup(f"<{element}{told}>{join(children)}</{element}>")


def join(children: object) -> Markup:
    """:param children: texts, and lists of such; None is nothing."""
    if children is None:
        return Markup()
    if isinstance(children, (list, tuple)):
        return Markup("".join(join(child) for child in children))
    return text(children)


def bdi(value: object) -> Markup:
    """A name: its letters do not turn round what is beside it."""
    return tag("bdi", value)
