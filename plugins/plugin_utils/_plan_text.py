# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A plan in lines for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json, size_text

NOT_TOLD = ("not_asked_for",)
"""Codes of entries that are counted, and not told one by one."""

HEADINGS = {"stops": "stops", "keeps": "stays", "blocks": "BLOCKED"}


def lines_of(lists: Mapping[str, Sequence[Json]]) -> dict[str, list[str]]:
    """:return: by the host that each container is on: first what moves, last what is in the way."""
    told: dict[str, list[str]] = {}
    for entry in lists["moves"]:
        told.setdefault(entry["host"], []).append(_move(entry))
    for host, number in Counter(entry["host"] for entry in lists["keeps"] if entry["code"] in NOT_TOLD).items():
        told.setdefault(host, []).append(f"Not asked for: {number} that run on.")
    for key, heading in HEADINGS.items():
        for entry in (entry for entry in lists[key] if entry.get("code") not in NOT_TOLD):
            told.setdefault(entry["host"], []).append(f"{_name(entry)} {heading}: {entry['reason']}")
    return told


def _move(entry: Json) -> str:
    known = [f"{size_text(entry['memory'])} of memory"] if entry["memory"] else []
    if entry["downtime_ms"] is not None:
        # How long it takes to stop and to start again nobody knows.
        ends = " and the time to stop and start" if entry["method"] == "cold" else ""
        known.append(f"stands still for about {entry['downtime_ms']} ms{ends}")
    return f"{_name(entry)} moves to {entry['destination']} ({', '.join([entry['method'], *known])}): {entry['reason']}"


def _name(entry: Json) -> str:
    return f"{entry['name']} (pod {entry['pod'][:12]})" if entry["pod"] else str(entry["name"])
