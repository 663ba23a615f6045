# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What a plan is asked for, and how it is read: options as users and surveys write them. Pure."""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError

Json = dict[str, t.Any]

POLICIES = ("live", "cold", "stop", "keep", "block")
FALLBACKS = ("block", "cold", "stop")
SPREADS = ("require", "prefer")

MIB = 1024**2
GIB = 1024**3

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
UNITS = {"": 1, "K": 1024, "M": MIB, "G": GIB, "T": 1024**4}

SHOWN = 8
"""Names of one kind that a message gives."""


@dataclass(frozen=True)
class Headroom:
    """What stays free on a host, beside what is planned.

    :param share: of what is free now.
    :param size: bytes.
    """

    share: float = 0.0
    size: int = 0

    @classmethod
    def parse(cls, value: object, where: str) -> Headroom:
        text = str(value).strip()
        if not text.endswith("%"):
            return cls(size=size_of(value, where))
        share = float(text[:-1]) / 100 if re.fullmatch(r"\d+(\.\d+)?\s*%", text) else 1.0
        if share >= 1:
            raise FerryError(f"{where} is {value!r}.", remedy="Give bytes, as 2G, or a share below 100%, as 10%.")
        return cls(share=share)

    def within(self, free: int) -> int:
        """What can be planned with of so much free."""
        return max(0, math.floor(free * (1 - self.share)) - self.size)

    def before(self, missing: int) -> int:
        """What must be freed to have so much more to plan with."""
        return math.ceil(missing / (1 - self.share))


class Patterns:
    """Names of containers, ``host/name``, or patterns of either; the closest to a name counts, not the first."""

    def __init__(self, texts: t.Iterable[str]) -> None:
        self._exact = set(texts)
        globs = [text for text in self._exact if any(letter in text for letter in "*?[")]
        globs.sort(key=lambda text: (-sum(letter not in "*?[]" for letter in text), text))
        self._globs = [(text, re.compile(fnmatch.translate(text)), "/" in text) for text in globs]

    def find(self, name: str, host: str = "") -> str | None:
        """The pattern that stands for a container or a host, or nothing."""
        full = f"{host}/{name}"
        for text in (full, name):
            if text in self._exact:
                return text
        for text, pattern, with_host in self._globs:
            if pattern.match(full if with_host else name):
                return text
        return None


def no_patterns() -> Patterns:
    return Patterns(())


@dataclass(frozen=True)
class Options:
    """What the plan goes by; the options of the filter.

    :param sources: hosts that are to be emptied.
    :param home: hosts whose containers come home to them.
    :param only: which containers of these; None for all.
    :param policies: policy by pattern.
    :param fallback: what becomes of a container that is live by default, and that CRIU refuses.
    :param preferred: the place of each preferred host, from 0.
    :param parallel: moves to one destination at once.
    :param force: whether warnings are no reason against a destination.
    :param default_memory: bytes, for a container whose memory is not known.
    :param origins: host by ``host/name`` or ID of a container.
    """

    sources: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    only: Patterns | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
    policy_patterns: Patterns = field(default_factory=no_patterns)
    default_policy: str = "live"
    fallback: str = "block"
    drained: frozenset[str] = frozenset()
    exclude: Patterns = field(default_factory=no_patterns)
    prefer: tuple[Patterns, ...] = ()
    memory_headroom: Headroom = Headroom(share=0.1)
    disk_headroom: Headroom = Headroom(share=0.1)
    parallel: int = 1
    spread: str = "require"
    force: bool = False
    default_memory: int = 128 * MIB
    origins: Mapping[str, str] = field(default_factory=dict)

    def rank(self, host: str) -> int:
        """The less, the rather it is chosen."""
        for place, pattern in enumerate(self.prefer):
            if pattern.find(host) is not None:
                return place
        return len(self.prefer)


def read_options(raw: Json) -> Options:
    """:raises FerryError: naming the option, what it is, and what it may be."""
    unknown = sorted(set(raw) - set(READERS))
    if unknown:
        raise FerryError(f"There is no option {unknown[0]}.", remedy=f"The options are pairs, {', '.join(READERS)}.")
    values = {name: READERS[name](value, name) for name, value in raw.items() if value is not None}
    values["policy_patterns"] = Patterns(values.get("policies", ()))
    options = Options(**values)
    if bool(options.sources) == bool(options.home):
        both = "both are given" if options.sources else "neither is given"
        raise FerryError(
            f"sources and home: {both}.",
            remedy="Give sources, the hosts to empty, or home, the hosts whose containers return to them.",
        )
    return options


def names_of(value: object, where: str) -> tuple[str, ...]:
    """A list, or a string with commas in between, as surveys give it."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not all(isinstance(one, str) for one in listed):
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give a list of names.")
    return tuple(dict.fromkeys(str(one).strip() for one in listed if one.strip()))


def mapping_of(value: object, where: str) -> Mapping[str, t.Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise FerryError(f"{where} is {shown(value)}.", remedy="Give a dictionary.")
    return value


def size_of(value: object, where: str) -> int:
    """Bytes, or a number with K, M, G or T, by 1024."""
    found = SIZE.fullmatch(str(value).strip())
    if found is None or isinstance(value, bool):
        raise FerryError(f"{where} is {value!r}.", remedy="Give bytes, or a number with K, M, G or T, as 512M.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def _patterns(value: object, where: str) -> Patterns | None:
    names = names_of(value, where)
    return Patterns(names) if names else None


def _policies(value: object, where: str) -> Mapping[str, str]:
    given = mapping_of(value, where)
    return {str(pattern): _one_of(POLICIES)(policy, f"{where}[{pattern!r}]") for pattern, policy in given.items()}


def _origins(value: object, where: str) -> Mapping[str, str]:
    given = mapping_of(value, where)
    for key, host in given.items():
        if not isinstance(host, str):
            raise FerryError(f"{where}[{key!r}] is {shown(host)}.", remedy="Give the name of a host.")
    return {str(key): str(host) for key, host in given.items()}


def _one_of(choices: Sequence[str]) -> t.Callable[[object, str], str]:
    def read(value: object, where: str) -> str:
        if value not in choices:
            raise FerryError(f"{where} is {value!r}.", remedy=f"It may be {', '.join(choices)}.")
        return str(value)

    return read


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d*", str(value)):
        raise FerryError(f"{where} is {value!r}.", remedy="Give a whole number from 1.")
    return int(str(value))


def _switch(value: object, where: str) -> bool:
    try:
        return bool(boolean(value))
    except TypeError:
        raise FerryError(f"{where} is {value!r}.", remedy="Give true or false.") from None


READERS: Mapping[str, t.Callable[[t.Any, str], t.Any]] = {
    "sources": names_of,
    "home": names_of,
    "only": _patterns,
    "policies": _policies,
    "default_policy": _one_of(POLICIES),
    "fallback": _one_of(FALLBACKS),
    "drained": lambda value, where: frozenset(names_of(value, where)),
    "exclude": lambda value, where: Patterns(names_of(value, where)),
    "prefer": lambda value, where: tuple(Patterns([name]) for name in names_of(value, where)),
    "memory_headroom": Headroom.parse,
    "disk_headroom": Headroom.parse,
    "parallel": _count,
    "spread": _one_of(SPREADS),
    "force": _switch,
    "default_memory": size_of,
    "origins": _origins,
}


def shown(value: object) -> str:
    """A value in a message: its kind, where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def size_text(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{math.ceil(size / MIB)} MiB"


def some(names: t.Collection[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(itertools.islice(names, SHOWN)) + more
