# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What a drain knows when it is over, read strictly: each error names the place and what should be there. Pure."""

from __future__ import annotations

import datetime
import math
import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json, mapping_of, shown

OPERATIONS = ("drain", "undrain", "rolling")
MOVE_STATES = ("moved", "failed", "skipped", "returned")
STOP_STATES = ("stopped", "started", "failed", "skipped")
METHODS = ("live", "cold")

LARGEST = 2**63 - 1
LAST = 253_402_000_000
"""Seconds since the epoch, some days before the year 10000."""

NUMBER = re.compile(r"\d+(\.\d+)?")

Reader = t.Callable[[t.Any, str], t.Any]


@dataclass(frozen=True)
class Plan:
    """What ``drain_plan`` answered; a part that it has not is empty."""

    refused: bool = False
    msg: str | None = None
    moves: Sequence[Json] = ()
    stops: Sequence[Json] = ()
    keeps: Sequence[Json] = ()
    blocks: Sequence[Json] = ()
    missing: Sequence[Json] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """One drain of one host, or one return to it.

    :param failed: None if that is seen from the results.
    :param moves: results, as those of ``podman_evacuate``.
    :param stops: results of the same shape.
    :param versions: of programs, by host.
    """

    host: str
    operation: str
    who: str | None = None
    reason: str | None = None
    started: float | None = None
    finished: float | None = None
    check: bool = False
    failed: bool | None = None
    msg: str | None = None
    plan: Plan = field(default_factory=Plan)
    moves: Sequence[Json] = ()
    stops: Sequence[Json] = ()
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_runs(raw: object) -> list[Run]:
    """:param raw: one run, or a list of them.
    :raises FerryError: naming the place, what is there, and what should be.
    """
    if isinstance(raw, Mapping):
        return [_run(raw, "")]
    if not isinstance(raw, Sequence) or isinstance(raw, (str, bytes)):
        raise FerryError(f"The input is {shown(raw)}.", remedy="Give the dictionary of a run, or a list of such.")
    if not raw:
        raise FerryError("The input is an empty list.", remedy="Give one run or more.")
    return [_run(one, f"[{place}]") for place, one in enumerate(raw)]


def utc_offset_of(value: object) -> datetime.timezone:
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)", str(value).strip())
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        raise FerryError(f"utc_offset is {shown(value)}.", remedy="Give it as '+02:00'.")
    delta = datetime.timedelta(hours=int(found[2]), minutes=int(found[3]))
    return datetime.timezone(-delta if found[1] == "-" else delta)


def _run(raw: object, where: str) -> Run:
    given = mapping_of(raw, where or "The input")
    unknown = sorted(set(given) - set(RUN))
    if unknown:
        raise FerryError(f"{_at(where, unknown[0])} is not known.", remedy=f"A run has {', '.join(RUN)}.")
    for key in ("host", "operation"):
        if given.get(key) in (None, ""):
            raise FerryError(f"{_at(where, key)} is not given.", remedy=f"A run needs {key}.")
    return Run(**_read(given, RUN, where))


def _read(raw: object, readers: Mapping[str, Reader], where: str) -> Json:
    """What is known of it; what is null or not there is left out."""
    given = mapping_of(raw, where or "The input")
    return {key: read(given[key], _at(where, key)) for key, read in readers.items() if given.get(key) not in (None, "")}


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


# -- single values ------------------------------------------------------------------------------------------------


def _text(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give a string.")
    return str(value)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give a name.")
    return str(value)


def _switch(value: t.Any, where: str) -> bool:
    try:
        return bool(boolean(value))
    except TypeError:
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give true or false.") from None


def _number(value: t.Any, where: str) -> float:
    """Not negative, and not more than fits into what reads JSON; templates may have made a string of it."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give a number.")
    if not 0 <= value <= LARGEST:
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give a number from 0 to 2^63 - 1.")
    return value + 0  # without what ansible-core has tagged it with


def _whole(value: t.Any, where: str) -> int:
    return math.floor(_number(value, where))


def _time(value: t.Any, where: str) -> float:
    if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
        return _iso(value, where)
    seconds = float(_number(value, where))
    if seconds > LAST:
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give seconds since the epoch, not milliseconds.")
    return seconds


def _iso(value: str, where: str) -> float:
    text = value.strip()
    try:
        # Python 3.10 does not know Z.
        found = datetime.datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or found.year < 1971:
        remedy = "Give seconds since the epoch, or a time as 2026-11-21T22:00:00+00:00, with its offset."
        raise FerryError(f"{where} is {shown(value)}.", remedy=remedy)
    return min(found.timestamp(), float(LAST))


def _one_of(choices: Sequence[str]) -> Reader:
    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise FerryError(f"{where} is {shown(value)}.", remedy=f"It may be {', '.join(choices)}.")
        return str(value)

    return read


# -- lists and dictionaries ---------------------------------------------------------------------------------------


def _list_of(read: Reader) -> Reader:
    def read_all(value: object, where: str) -> list[t.Any]:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise FerryError(f"{where} is {shown(value)}.", remedy="Give a list.")
        return [read(one, f"{where}[{place}]") for place, one in enumerate(value)]

    return read_all


def _record(readers: Mapping[str, Reader], *required: str) -> Reader:
    """A dictionary of which the rest does not matter."""

    def read(value: object, where: str) -> Json:
        found = _read(value, readers, where)
        for key in required:
            if key not in found:
                raise FerryError(f"{where} has no {key}.")
        return found

    return read


def _phases(value: object, where: str) -> dict[str, int]:
    """In check mode the module tells only their names."""
    if not isinstance(value, Mapping) and isinstance(value, Sequence) and not isinstance(value, str):
        return {}
    return {str(name): _whole(took, f"{where}.{name}") for name, took in mapping_of(value, where).items()}


def _versions(value: object, where: str) -> dict[str, dict[str, str]]:
    found = {}
    for host, programs in mapping_of(value, where).items():
        given = mapping_of(programs or {}, f"{where}.{host}")
        texts = {str(name): _text(one, f"{where}.{host}.{name}") for name, one in given.items() if one is not None}
        found[str(host)] = texts
    return found


def _plan(value: object, where: str) -> Plan:
    return Plan(**_read(value, PLAN, where))


FINDING = {"code": _text, "severity": _text, "message": _text, "remedy": _text}
FINDINGS = _list_of(_record(FINDING, "code"))
ESTIMATE = {"downtime_ms": _whole, "archive": _whole}

PLANNED: Mapping[str, Reader] = {
    "name": _name,
    "host": _name,
    "id": _text,
    "pod": _text,
    "policy": _text,
    "reason": _text,
    "code": _text,
}
TO_MOVE: Mapping[str, Reader] = {
    **PLANNED,
    "destination": _name,
    "method": _one_of(METHODS),
    "bytes": _whole,
    "downtime_ms": _whole,
}
PLANNED_ENTRIES = _list_of(_record(PLANNED, "name"))

MISSING: Mapping[str, Reader] = {"host": _name, "memory": _whole, "disk": _whole, "spool": _whole}

PLAN: Mapping[str, Reader] = {
    "refused": _switch,
    "msg": _text,
    "moves": _list_of(_record(TO_MOVE, "name", "destination")),
    "stops": PLANNED_ENTRIES,
    "keeps": PLANNED_ENTRIES,
    "blocks": PLANNED_ENTRIES,
    "missing": _list_of(_record(MISSING, "host")),
    "warnings": _list_of(_text),
}

TIMES: Mapping[str, Reader] = {"started": _time, "finished": _time}

ROLLBACK: Mapping[str, Reader] = {
    **TIMES,
    "state": _one_of(MOVE_STATES),
    "msg": _text,
    "downtime_ms": _whole,
    "findings": FINDINGS,
}

RESULT: Mapping[str, Reader] = {
    **TIMES,
    "name": _name,
    "host": _name,
    "changed": _switch,
    "msg": _text,
    "findings": FINDINGS,
}
MOVED: Mapping[str, Reader] = {
    **RESULT,
    "state": _one_of(MOVE_STATES),
    "destination": _name,
    "method": _one_of(METHODS),
    "location": _text,
    "downtime_ms": _whole,
    "bytes": _whole,
    "phases": _phases,
    "tcp": _text,
    "transfer": _text,
    "transfer_reason": _text,
    "compression": _text,
    "precopy": _list_of(_whole),
    "precopy_reason": _text,
    "precopy_volumes": _list_of(_whole),
    "estimate": _record(ESTIMATE),
    "interrupted_phase": _text,
    "rollback": _record(ROLLBACK),
}
STOPPED: Mapping[str, Reader] = {**RESULT, "state": _one_of(STOP_STATES)}

RUN: Mapping[str, Reader] = {
    "host": _name,
    "operation": _one_of(OPERATIONS),
    "who": _text,
    "reason": _text,
    "started": _time,
    "finished": _time,
    "check": _switch,
    "plan": _plan,
    "moves": _list_of(_record(MOVED, "name", "state")),
    "stops": _list_of(_record(STOPPED, "name", "state")),
    "versions": _versions,
    "failed": _switch,
    "msg": _text,
}
