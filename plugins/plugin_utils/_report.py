# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What became of each container of a host that was emptied, or that took its own back, and what it took. Pure."""

from __future__ import annotations

import statistics
import typing as t
from collections import Counter
from collections.abc import Iterable, Sequence

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json
from ansible_collections.ferry.podman.plugins.plugin_utils._report_entries import NOT_ASKED_FOR, OUTCOMES, entries_of
from ansible_collections.ferry.podman.plugins.plugin_utils._report_read import Run, read_runs
from ansible_collections.ferry.podman.plugins.plugin_utils._report_timeline import timeline_of
from ansible_collections.ferry.podman.plugins.plugin_utils._report_words import headline

SCHEMA = 1

WORST = ("failed", "refused", "partial", "done", "nothing")
"""The first of these that a run has is that of all."""

DONE = ("moved", "cold", "stopped", "started")
UNDONE = ("failed", "returned", "skipped")


def make_report(raw: object) -> Json:
    """:raises FerryError: if what is given is not what it should be."""
    runs = read_runs(raw)
    entries: list[Json] = []
    timelines: list[Json] = []
    warnings: list[str] = []
    told = []
    for place, run in enumerate(runs):
        here = [{"run": place, **entry} for entry in entries_of(run)]
        timelines.append({"run": place, **timeline_of(run, here, len(entries), warnings)})
        entries += here
        told.append(_run_report(place, run, here, timelines[-1], warnings))
    return {
        "schema": SCHEMA,
        "msg": headline(told, entries),
        "operation": _common([run.operation for run in runs]) or "rolling",
        "hosts": list(dict.fromkeys(run.host for run in runs)),
        "check": all(run.check for run in runs),
        "outcome": min((one["outcome"] for one in told), key=WORST.index),
        "failed": any(one["failed"] for one in told),
        "who": _common([run.who for run in runs]),
        "reason": _common([run.reason for run in runs]),
        **_span(told),
        "totals": _totals(entries, timelines),
        "containers": entries,
        "timelines": timelines,
        "runs": told,
        "versions": _versions(runs),
        "warnings": warnings,
    }


def _run_report(place: int, run: Run, entries: Sequence[Json], timeline: Json, warnings: list[str]) -> Json:
    warnings += [f"{run.host}: {warning}" for warning in run.plan.warnings]
    outcome = outcome_of(run, entries)
    started, finished = run.started, run.finished
    if started is not None and finished is not None and finished < started:
        warnings.append(f"{run.host}: It finished before it started by its clock, so its duration is not told.")
        started = finished = None
    report = {
        "place": place,
        "host": run.host,
        "operation": run.operation,
        "check": run.check,
        "outcome": outcome,
        "failed": outcome in ("failed", "refused"),
        "detail": run.msg or (run.plan.msg if run.plan.refused else None),
        "who": run.who,
        "reason": run.reason,
        "started": started,
        "finished": finished,
        "duration_seconds": _between(started, finished),
        "totals": _totals(entries, [timeline]),
        "others": sum(planned.get("code") == NOT_ASKED_FOR for planned in run.plan.keeps),
        "missing": [{"memory": 0, "disk": 0, "spool": 0, **one} for one in run.plan.missing],
        "versions": {host: dict(programs) for host, programs in run.versions.items()},
    }
    return {"msg": headline([report], entries), **report}


def outcome_of(run: Run, entries: Iterable[Json]) -> str:
    counts = Counter(entry["outcome"] for entry in entries)
    done, undone = (sum(counts[one] for one in kinds) for kinds in (DONE, UNDONE))
    if run.plan.refused:
        return "refused"
    if run.failed or (undone and not done and not run.check):
        return "failed"
    if undone or counts["blocked"]:
        return "partial"
    return "done" if done or run.operation == "rolling" else "nothing"


def _span(told: Sequence[Json]) -> Json:
    started = min((one["started"] for one in told if one["started"] is not None), default=None)
    finished = max((one["finished"] for one in told if one["finished"] is not None), default=None)
    return {"started": started, "finished": finished, "duration_seconds": _between(started, finished)}


def _between(started: float | None, finished: float | None) -> float | None:
    return None if started is None or finished is None or finished < started else round(finished - started, 3)


def _totals(entries: Sequence[Json], timelines: Sequence[Json]) -> Json:
    counts = Counter(entry["outcome"] for entry in entries)
    sizes = [entry["bytes"] for entry in entries if entry["bytes"] is not None]
    stood = [entry["downtime_ms"] for entry in entries if entry["downtime_ms"] is not None]
    return {
        "containers": len(entries),
        **{outcome: counts[outcome] for outcome in OUTCOMES},
        "unknown": sum(entry["location"] == "unknown" for entry in entries),
        "bytes": sum(sizes),
        "downtime_ms": {
            "longest": max(stood, default=None),
            "median": round(statistics.median(stood)) if stood else None,
            "total": sum(stood) if stood else None,
        },
        "parallel": max((timeline["parallel"] for timeline in timelines), default=0),
    }


def _versions(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """What each host had, one after the other where maintenance has changed it."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for host, programs in run.versions.items():
            for program, version in programs.items():
                seen = found.setdefault(host, {}).setdefault(program, [])
                if not seen or seen[-1] != version:
                    seen.append(version)
    return found


T = t.TypeVar("T")


def _common(values: Sequence[T]) -> T | None:
    return values[0] if len(set(values)) == 1 else None
