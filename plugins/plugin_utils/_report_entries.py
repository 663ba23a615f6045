# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""One entry for each container: what was planned for it, and what became of it. Pure."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json
from ansible_collections.ferry.podman.plugins.plugin_utils._report_read import Run

OUTCOMES = ("moved", "cold", "stopped", "started", "kept", "blocked", "failed", "skipped", "returned")
"""``moved`` while it ran, ``cold`` stopped, moved and started."""

PHASES = ("assess", "prepare", "precopy", "freeze", "transfer", "restore", "verify", "commit")
"""In the order in which they come; a dictionary from JSON may have lost it."""

NOT_ASKED_FOR = "not_asked_for"
"""Of what is only counted."""

NOT_BEGUN = "It was not begun."


def entries_of(run: Run) -> list[Json]:
    """In the order of the plan; what was not in it comes behind."""
    moves, stops = Results(run.moves), Results(run.stops)
    found = [_of_move(run, planned, moves.take(run, planned)) for planned in run.plan.moves]
    found += [_of_move(run, {}, result) for result in moves.rest()]
    found += [_of_stop(run, planned, stops.take(run, planned)) for planned in run.plan.stops]
    found += [_of_stop(run, {}, result) for result in stops.rest()]
    found += [_entry(run, planned, "kept") for planned in run.plan.keeps if planned.get("code") != NOT_ASKED_FOR]
    found += [_entry(run, planned, "blocked") for planned in run.plan.blocks]
    return found


class Results:
    """Results by the name of their container, each taken once."""

    def __init__(self, results: t.Iterable[Json]) -> None:
        self._left: dict[str, list[Json]] = {}
        for result in results:
            self._left.setdefault(result["name"], []).append(result)

    def take(self, run: Run, planned: Json) -> Json | None:
        """Containers on two hosts may have one name; a result that tells its host or destination tells them apart."""
        named = self._left.get(planned["name"], [])
        here = {"host": _host_of(run, planned), "destination": planned.get("destination")}
        for result in named:
            if all(result.get(key) in (None, wanted) for key, wanted in here.items() if wanted is not None):
                named.remove(result)
                return result
        return None

    def rest(self) -> Iterator[Json]:
        for named in self._left.values():
            yield from named


def _host_of(run: Run, known: Json) -> str | None:
    host = known.get("host")
    # What returns to a host was on others.
    return str(host) if host is not None else run.host if run.operation == "drain" else None


def _of_move(run: Run, planned: Json, result: Json | None) -> Json:
    if result is None:
        state = {"state": "moved"} if run.check else {"state": "skipped", "msg": run.msg or NOT_BEGUN}
        return _of_move(run, planned, {**state, "name": planned["name"]})
    method = result.get("method") or planned.get("method") or "live"
    outcome = "cold" if result["state"] == "moved" and method == "cold" else result["state"]
    # What was only estimated is not taken for what happened.
    known = {key: value for key, value in planned.items() if key not in ("bytes", "downtime_ms")}
    entry = _entry(run, {**known, **result}, outcome)
    entry.update(method=method, reason=_why(planned, result), location=_location(result, outcome))
    if run.check:
        _estimate(entry, planned, result)
    return entry


def _why(planned: Json, result: Json) -> str | None:
    """What went wrong says more than why it was to move."""
    told = result.get("msg")
    rollback = result.get("rollback", {})
    if result["state"] == "returned":
        return told or "It was moved, and has been brought back."
    if rollback and rollback.get("state") != "moved":
        failed = rollback.get("msg") or "It was not."
        return f"It was to be brought back. {failed}"
    if told is None and result["state"] == "moved" and result.get("changed") is False and "started" in result:
        return "It was there already."
    return told or planned.get("reason")


def _location(result: Json, outcome: str) -> str | None:
    by_outcome = {"moved": "destination", "cold": "destination", "returned": "source", "skipped": "source"}
    return result.get("location") or by_outcome.get(outcome)


def _estimate(entry: Json, planned: Json, result: Json) -> None:
    """Nothing was moved in check mode: what it would take counts."""
    estimate = result.get("estimate", {})
    entry["bytes"] = estimate.get("archive", planned.get("bytes"))
    entry["downtime_ms"] = estimate.get("downtime_ms", planned.get("downtime_ms"))


def _of_stop(run: Run, planned: Json, result: Json | None) -> Json:
    if result is None:
        state = {"state": "stopped"} if run.check else {"state": "skipped", "msg": run.msg or "It was not stopped."}
        return _of_stop(run, planned, {**state, "name": planned["name"]})
    entry = _entry(run, {**planned, **result}, result["state"])
    entry.update(reason=result.get("msg") or planned.get("reason"))
    return entry


def _entry(run: Run, known: Json, outcome: str) -> Json:
    """What is the same for all; null for what is not known."""
    has_result = "state" in known
    return {
        "name": known["name"],
        "id": known.get("id"),
        "host": _host_of(run, known),
        "pod": known.get("pod"),
        "policy": known.get("policy"),
        "method": None,
        "outcome": outcome,
        "code": known.get("code"),
        "reason": known.get("reason"),
        "destination": known.get("destination"),
        "location": None if has_result and outcome == "failed" else "source",
        "changed": known.get("changed"),
        "started": known.get("started"),
        "finished": known.get("finished"),
        "downtime_ms": _downtime(known) if has_result else None,
        "bytes": known.get("bytes") if has_result else None,
        "phases": _in_order(known.get("phases", {})),
        "tcp": known.get("tcp"),
        "findings": known.get("findings", []),
        "interrupted_phase": known.get("interrupted_phase"),
        "rollback": known.get("rollback"),
    }


def _downtime(known: Json) -> int | None:
    """That of both ways if it came back."""
    ways = [known.get("downtime_ms"), known.get("rollback", {}).get("downtime_ms")]
    told = [one for one in ways if one is not None]
    return sum(told) if told else None


def _in_order(phases: Json) -> Json:
    known = {phase: phases[phase] for phase in PHASES if phase in phases}
    return {**known, **phases}
