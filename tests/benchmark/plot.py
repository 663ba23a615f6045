# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A picture of lines over one axis, as SVG that every browser shows, light or dark."""

from __future__ import annotations

import html
import math
import typing as t

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 30, 50
COLOURS = ("#c0392b", "#e67e22", "#8e44ad", "#2471a3", "#1e8449", "#7f8c8d")

Line = t.Sequence[tuple[float, float]]


def plot(title: str, across: str, up: str, lines: t.Mapping[str, Line]) -> str:
    """:param lines: points by the name that stands at the line's end."""
    right = max(x for line in lines.values() for x, _y in line) or 1
    top = _round_up(max(y for line in lines.values() for _x, y in line))
    parts = [_head(title), *_grid(right, top), _labels(across, up)]
    ends: list[float] = []
    for (name, line), colour in zip(sorted(lines.items(), key=lambda item: item[1][-1][1]), COLOURS[::-1]):
        parts += _line(name, [(_x(x, right), _y(y, top)) for x, y in line], colour, ends)
    return "\n".join([*parts, "</svg>", ""])


def _head(title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13">\n<title>{html.escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    )


def _x(value: float, right: float) -> float:
    return LEFT + value / right * (WIDTH - LEFT - RIGHT)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _round_up(value: float) -> float:
    step = 10 ** math.floor(math.log10(value))
    return next(float(factor * step) for factor in (1, 2, 2.5, 5, 10) if factor * step >= value)


def _grid(right: float, top: float) -> t.Iterator[str]:
    for part in range(6):
        y = _y(top * part / 5, top)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{top * part / 5:g}</text>'
    for part in range(5):
        x = _x(right * part / 4, right)
        yield (
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#444444">'
            f"{right * part / 4:g}</text>"
        )


def _labels(across: str, up: str) -> str:
    return (
        f'<text x="{LEFT}" y="{TOP - 12}" fill="#222222">{html.escape(up)}</text>\n'
        f'<text x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#222222">'
        f"{html.escape(across)}</text>"
    )


def _line(name: str, points: Line, colour: str, ends: list[float]) -> t.Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    x, y = points[-1]
    # From the lowest line up: names that would lie on each other are moved up.
    y = min([y, *(end - 15 for end in ends)])
    ends.append(y)
    yield f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{html.escape(name)}</text>'
