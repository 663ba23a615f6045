# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A report in words: its head line, sizes, durations. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json, some

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
LONG = (("d", "h", 86_400, 3_600), ("h", "min", 3_600, 60), ("min", "s", 60, 1))

OUTCOME_WORDS = {
    "moved": "moved",
    "cold": "moved cold",
    "stopped": "stopped",
    "started": "started",
    "kept": "kept",
    "blocked": "blocked",
    "failed": "failed",
    "skipped": "not begun",
    "returned": "brought back",
}

PLANNED_WORDS = {
    **OUTCOME_WORDS,
    "moved": "would move",
    "cold": "would move cold",
    "stopped": "would stop",
    "started": "would start",
    "kept": "would stay",
    "failed": "would fail",
}

STATUS_WORDS = {
    "done": "Done",
    "partial": "Done in part",
    "failed": "Failed",
    "refused": "Refused",
    "nothing": "Nothing to do",
}

PLANNED_STATUS = {
    "done": "Plan",
    "partial": "Plan, not for all",
    "failed": "Plan that would fail",
    "refused": "Plan refused",
    "nothing": "Nothing to do",
}

OPERATION_WORDS = {"drain": "Drain", "undrain": "Return", "rolling": "Rolling maintenance"}

SENTENCES = {
    ("drain", "done"): "{host} is drained: {all}.",
    ("drain", "partial"): "{host} is not empty: {undone}.",
    ("drain", "failed"): "{host} is not drained: {undone}.",
    ("drain", "refused"): "{host} is not drained: the plan was refused.",
    ("drain", "nothing"): "Nothing had to leave {host}.",
    ("undrain", "done"): "The containers of {host} are back: {all}.",
    ("undrain", "partial"): "Not all containers of {host} are back: {undone}.",
    ("undrain", "failed"): "The containers of {host} are not all back: {undone}.",
    ("undrain", "refused"): "Nothing has returned to {host}: the plan was refused.",
    ("undrain", "nothing"): "Nothing had to return to {host}.",
    ("rolling", "done"): "The maintenance of {host} is done.",
    ("rolling", "partial"): "The maintenance of {host} is done in part: {undone}.",
    ("rolling", "failed"): "The maintenance of {host} failed: {undone}.",
    ("rolling", "refused"): "There was no maintenance of {host}: the plan was refused.",
}

PLANNED_SENTENCES = {
    ("drain", "done"): "{host} can be drained: {all}.",
    ("drain", "partial"): "{host} cannot be emptied: {undone}.",
    ("drain", "failed"): "{host} cannot be drained: {undone}.",
    ("drain", "refused"): "{host} cannot be drained: the plan is refused.",
    ("drain", "nothing"): "Nothing has to leave {host}.",
    ("undrain", "done"): "The containers of {host} can return: {all}.",
    ("undrain", "partial"): "Not all containers of {host} can return: {undone}.",
    ("undrain", "failed"): "The containers of {host} cannot return: {undone}.",
    ("undrain", "refused"): "Nothing can return to {host}: the plan is refused.",
    ("undrain", "nothing"): "Nothing has to return to {host}.",
    ("rolling", "done"): "The maintenance of {host} can be done.",
    ("rolling", "partial"): "The maintenance of {host} can be done in part: {undone}.",
    ("rolling", "failed"): "The maintenance of {host} would fail: {undone}.",
    ("rolling", "refused"): "There can be no maintenance of {host}: the plan is refused.",
}

IN_PART = {
    ("drain", "done"): "What was asked for has left {host}: {all}. {others} more run there.",
    ("drain", "nothing"): "Nothing of what was asked for had to leave {host}. {others} more run there.",
    ("undrain", "done"): "What was asked for is back on {host}: {all}. {others} more are away.",
    ("undrain", "nothing"): "Nothing of what was asked for had to return to {host}. {others} more are away.",
}
"""Where only a part was asked for."""

PLANNED_IN_PART = {
    ("drain", "done"): "What is asked for can leave {host}: {all}. {others} more run there.",
    ("drain", "nothing"): "Nothing of what is asked for has to leave {host}. {others} more run there.",
    ("undrain", "done"): "What is asked for can return to {host}: {all}. {others} more are away.",
    ("undrain", "nothing"): "Nothing of what is asked for has to return to {host}. {others} more are away.",
}


def headline(runs: Sequence[Json], entries: Sequence[Json]) -> str:
    """The outcome in one or two sentences.

    :param entries: of all containers in these runs.
    """
    text = _of_one(runs[0]) if len(runs) == 1 else _of_many(runs)
    lost = [entry["name"] for entry in entries if entry["location"] == "unknown"]
    return f"{text} Not known where it is: {some(lost)}." if lost else text


def _of_one(run: Json) -> str:
    sentences = PLANNED_SENTENCES if run["check"] else SENTENCES
    if run["others"]:
        sentences = {**sentences, **(PLANNED_IN_PART if run["check"] else IN_PART)}
    words = {
        "all": _counted(run, ("moved", "cold"), ("started",), ("stopped",), ("kept",)),
        "undone": _counted(run, ("failed",), ("returned",), ("skipped",), ("blocked",)),
    }
    return sentences[run["operation"], run["outcome"]].format(host=run["host"], others=run["others"], **words)


def _counted(run: Json, *kinds: tuple[str, ...]) -> str:
    """Of how many containers how many had which outcome.

    :param kinds: outcomes that are counted together, and named by the first.
    """
    words = PLANNED_WORDS if run["check"] else OUTCOME_WORDS
    totals = run["totals"]
    told = [(sum(totals[one] for one in kind), words[kind[0]]) for kind in kinds]
    counted = [(count, what) for count, what in told if count]
    if not counted:
        return "it ended early"
    of = f" of {number(totals['containers'], 'container')}"
    return ", ".join(f"{count:,}{'' if place else of} {what}" for place, (count, what) in enumerate(counted))


def _of_many(runs: Sequence[Json]) -> str:
    operations = {run["operation"] for run in runs}
    what = OPERATION_WORDS[operations.pop() if len(operations) == 1 else "rolling"]
    hosts = dict.fromkeys(run["host"] for run in runs)
    bad = {
        outcome: dict.fromkeys(run["host"] for run in runs if run["outcome"] == outcome)
        for outcome in ("failed", "refused", "partial")
    }
    subject = f"{'Plan: ' if all(run['check'] for run in runs) else ''}{what} of {number(len(hosts), 'host')}"
    told = [f"{STATUS_WORDS[outcome].lower()} on {some(names)}" for outcome, names in bad.items() if names]
    if told:
        return f"{subject}: {', '.join(told)}."
    if all(run["outcome"] == "nothing" for run in runs):
        return f"{subject}: nothing to do."
    return f"{subject}: done."


def number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    unit, value = 0, float(count)
    # What would be rounded to 1024 of one unit is 1 of the next.
    while value >= 1023.5 and unit < len(UNITS) - 1:
        unit, value = unit + 1, value / 1024
    digits = 1 if unit and value < 9.95 else 0
    return f"{value:,.{digits}f} {UNITS[unit]}"


def milliseconds(count: int) -> str:
    return f"{count} ms" if count < 1000 else seconds(count / 1000)


def seconds(count: float) -> str:
    """With two figures that matter, or two units."""
    if count < 9.95:
        return f"{count:.1f} s"
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    large, small, in_large, in_small = next(unit for unit in LONG if whole >= unit[2])
    rest = whole % in_large // in_small
    return f"{whole // in_large:,} {large} {rest} {small}" if rest else f"{whole // in_large:,} {large}"
