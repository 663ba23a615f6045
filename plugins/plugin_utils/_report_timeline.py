# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""When each container was on its way, and which part of that it stood still. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json
from ansible_collections.ferry.podman.plugins.plugin_utils._report_read import Run

BEFORE = ("assess", "prepare", "precopy")
"""Phases in which the container still runs."""


def timeline_of(run: Run, entries: Sequence[Json], before: int, warnings: list[str]) -> Json:
    """Bars in seconds from the first begin, which may not be that of the run: hosts have clocks of their own.

    :param before: how many containers come before these in the report.
    :param warnings: gets what times make no sense.
    """
    # Check mode takes times too, but nothing is on its way.
    spans = [] if run.check else list(_spans(entries, run.host, warnings))
    first = min((begin for _place, begin, _end in spans), default=None)
    bars = [_bar(entries[place], before + place, begin, end, first or 0.0) for place, begin, end in spans]
    bars.sort(key=lambda span: (span["offset"], span["seconds"], span["container"]))
    return {
        "started": first,
        "seconds": max((round(span["offset"] + span["seconds"], 3) for span in bars), default=0.0),
        "parallel": at_once([(begin, end) for place, begin, end in spans if entries[place]["destination"] is not None]),
        "bars": bars,
    }


def _spans(entries: Sequence[Json], host: str, warnings: list[str]) -> Iterator[tuple[int, float, float]]:
    for place, entry in enumerate(entries):
        for times in (entry, entry["rollback"] or {}):
            begin, end = times.get("started"), times.get("finished")
            if begin is None or end is None:
                continue
            if end < begin:
                warnings.append(
                    f"{host}: {entry['name']} finished before it started by its clock, so it is not in the timeline."
                )
                continue
            yield place, begin, end


def _bar(entry: Json, place: int, begin: float, end: float, first: float) -> Json:
    """:param first: where the axis begins."""
    back = entry["rollback"] is not None and entry["rollback"].get("started") == begin
    seconds, offset = end - begin, begin - first
    stood = _stood(entry["rollback"] if back else entry, seconds, entry)
    return {
        "container": place,
        "name": entry["name"],
        "destination": entry["host"] if back else entry["destination"],
        "outcome": entry["outcome"],
        "offset": round(offset, 3),
        "seconds": round(seconds, 3),
        "downtime": None
        if stood is None
        else {"offset": round(offset + stood[0], 3), "seconds": round(stood[1] - stood[0], 3)},
    }


def _stood(told: Json, seconds: float, entry: Json) -> tuple[float, float] | None:
    """From where to where in its bar it stood still. Without phases that is taken to be the end of it."""
    milliseconds = told.get("downtime_ms")
    if told is entry and entry["rollback"] is not None and milliseconds is not None:
        milliseconds -= entry["rollback"].get("downtime_ms", 0)
    if not milliseconds:
        return None
    length = min(milliseconds / 1000, seconds)
    phases = told.get("phases") or {}
    begin = sum(phases.get(phase, 0) for phase in BEFORE) / 1000 if "freeze" in phases else seconds - length
    begin = max(0.0, min(begin, seconds - length))
    return begin, begin + length


def at_once(spans: Sequence[tuple[float, float]]) -> int:
    """How many moves went on at the same time; one that ends when another begins is not beside it."""
    # One that took no time ends behind its begin all the same.
    edges = sorted(edge for begin, end in spans for edge in ((begin, 1), (max(end, begin + 1e-6), -1)))
    most = now = 0
    for _when, step in edges:
        now += step
        most = max(most, now)
    return most
