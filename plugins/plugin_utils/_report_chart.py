# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A table with a bar in each row, all on one time axis.

Lengths are shares of the width, so the page's width is not known and the text is never scaled. A table breaks between
rows on paper, which one large drawing would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.plugin_utils._report_html import Markup, tag
from ansible_collections.ferry.podman.plugins.plugin_utils._report_words import seconds

DENSE = 40
"""With more rows than that they are lower."""

TICKS = 5
"""Marks on the axis at most, but for its begin."""

STEPS = tuple(
    step * unit
    for unit, steps in (
        (0.001, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1, (1, 2, 5, 10, 15, 30)),
        (60, (1, 2, 5, 10, 15, 30)),
        (3_600, (1, 2, 3, 6, 12)),
    )
    for step in steps
)


@dataclass(frozen=True)
class Bar:
    """In seconds from the begin of the axis.

    :param kind: by which it is coloured, good, bad or plain; words beside it say the same.
    :param still: the part in which the container was down.
    """

    offset: float
    seconds: float
    kind: str = "good"
    still: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """:param label: HTML.
    :param value: what the last column says.
    :param words: the same as the bars, for those who do not see them.
    """

    label: Markup
    value: Markup
    bars: Sequence[Bar]
    title: str
    words: str


def chart(rows: Sequence[Row], length: float, caption: Markup, heads: tuple[str, str, str]) -> Markup:
    """:param length: of the axis in seconds.
    :param heads: of the columns.
    """
    length = max(length, 0.001)
    step = tick_step(length)
    return tag(
        "table",
        tag("caption", caption),
        tag("colgroup", [tag("col", class_=name) for name in ("c-name", "c-plot", "c-value")]),
        tag("thead", _head(length, step, heads), role="rowgroup"),
        tag("tbody", [_row(row, length) for row in rows], role="rowgroup"),
        class_="chart dense" if len(rows) > DENSE else "chart",
        role="table",
        style=f"--step:{_share(step, length)}",
    )


def tick_step(length: float) -> float:
    for step in STEPS:
        if length / step <= TICKS:
            return step
    days = 1
    while length / (86_400 * days) > TICKS:
        days *= 2
    return 86_400.0 * days


def _head(length: float, step: float, heads: tuple[str, str, str]) -> Markup:
    name, plot, value = heads
    return tag(
        "tr",
        tag("th", name, scope="col", role="columnheader"),
        tag("th", tag("span", plot, class_="axis-name"), _axis(length, step), scope="col", role="columnheader"),
        tag("th", value, scope="col", role="columnheader", class_="num"),
        role="row",
    )


def _axis(length: float, step: float) -> Markup:
    marks = [place * step for place in range(int(length / step + 1e-9) + 1)]
    return tag(
        "svg",
        tag("title", "Time axis"),
        tag("desc", f"From 0 to {seconds(length)}, with a mark every {tick_words(step)}."),
        [_mark(place, mark, length) for place, mark in enumerate(marks)],
        class_="axis",
        role="img",
        width="100%",
        height="18",
    )


def _mark(place: int, mark: float, length: float) -> Markup:
    share = mark / length
    anchor = "start" if share < 0.04 else "end" if share > 0.96 else "middle"
    return tag(
        "text",
        tick_words(mark) if mark else "0",
        x=_share(mark, length),
        y="13",
        text_anchor=anchor,
        class_="tick odd" if place % 2 else "tick",
    )


def tick_words(mark: float) -> str:
    return f"{round(mark * 1000)} ms" if 0 < mark < 1 else f"{round(mark)} s" if mark < 60 else seconds(mark)


def _row(row: Row, length: float) -> Markup:
    drawing = tag(
        "svg",
        tag("title", row.title),
        tag("desc", row.words),
        [_bar(span, length) for span in row.bars],
        class_="bars",
        role="img",
        width="100%",
        height="14",
    )
    return tag(
        "tr",
        tag("th", row.label, scope="row", role="rowheader"),
        tag("td", drawing, role="cell", class_="plot"),
        tag("td", row.value, role="cell", class_="num"),
        role="row",
    )


def _bar(span: Bar, length: float) -> list[Markup]:
    found = [_rect(span.offset, span.seconds, length, f"bar {span.kind}", 3, 8)]
    if span.still is not None:
        found.append(_rect(*span.still, length, "still", 0, 14))
    return found


def _rect(offset: float, long: float, length: float, kind: str, y: int, height: int) -> Markup:
    """Its outline keeps it in sight however short it is."""
    return tag("rect", x=_share(offset, length), y=str(y), width=_share(long, length), height=str(height), class_=kind)


def _share(part: float, whole: float) -> str:
    return f"{min(max(part / whole, 0.0), 1.0) * 100:.3f}%"
