# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""Which checkpoints have been kept for long enough. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Kept:
    """An image of a checkpoint of a container.

    :param container: its name; the rules are for each container by itself.
    :param size: bytes.
    """

    id: str
    container: str
    created: datetime
    size: int


@dataclass(frozen=True)
class Rules:
    """When a checkpoint goes; None for no such rule.

    :param older_than: its age.
    :param keep: how many of the newest stay.
    :param max_size: bytes of all that stay, the newest first.
    """

    older_than: timedelta | None = None
    keep: int | None = None
    max_size: int | None = None


def outdated(images: Sequence[Kept], rules: Rules, now: datetime) -> dict[str, str]:
    """The IDs that go, each with the reason. The newest checkpoint of a container always stays.

    Images of one container and one time are one checkpoint, in several layouts: they count once, and stay or go
    together.
    """
    found: dict[str, str] = {}
    for container in sorted({kept.container for kept in images}):
        times: dict[datetime, list[Kept]] = {}
        for kept in images:
            if kept.container == container:
                times.setdefault(kept.created, []).append(kept)
        total = 0
        for number, created in enumerate(sorted(times, reverse=True)):
            same = sorted(times[created], key=lambda kept: kept.id, reverse=True)
            size = sum(kept.size for kept in same)
            reason = _reason(replace(same[0], size=size), number, total, rules, now) if number else None
            if reason is None:
                total += size
            else:
                found.update(dict.fromkeys((kept.id for kept in same), reason))
    return found


def _reason(kept: Kept, newer: int, total: int, rules: Rules, now: datetime) -> str | None:
    if rules.older_than is not None and now - kept.created > rules.older_than:
        return f"older than {rules.older_than}"
    if rules.keep is not None and newer >= rules.keep:
        return f"{newer} of {kept.container} are newer"
    if rules.max_size is not None and total + kept.size > rules.max_size:
        return f"the newer ones of {kept.container} and it have {total + kept.size} bytes"
    return None
