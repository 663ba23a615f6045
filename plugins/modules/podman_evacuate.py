#!/usr/bin/python
# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: podman_evacuate
short_description: Move several running Podman containers to other hosts, some at once
version_added: 0.1.0
author: the ferry.podman contributors (@ferry-podman)
description:
  - Moves each container as M(ferry.podman.podman_migrate) does, several at once within limits. A move that has begun is
    never cut off.
  - When more moves have failed than O(max_failures) allows, or the time is over, no further one begins. Those that have
    moved stay where they are, unless O(rollback) brings them back.
  - A container that runs on its destination already is left alone, so a run that was cut off is simply made again.
  - Runs on the source. The role P(ferry.podman.drain#role) makes the plan and prepares the connections.
options:
  moves:
    description: The containers, in the order in which their moves begin.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name or ID of the container.
        type: str
        required: true
      destination:
        description: One of O(destinations[].name).
        type: str
        required: true
      method:
        description: As O(ferry.podman.podman_migrate#module:method).
        type: str
        choices: [live, cold]
        default: live
      pod:
        description:
          - Name of the pod that the container is in. A pod moves whole and cold, as one of O(parallel). All of its
            containers that are listed must be for the same destination, and the first one tells when it begins.
        type: str
      memory:
        description: Bytes of memory that it has. See O(timeout_per_gib).
        type: int
        default: 0
  destinations:
    description: The hosts that containers go to.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What O(moves[].destination) calls it.
        type: str
        required: true
      url:
        description: Its libpod socket, as O(ferry.podman.podman_migrate#module:destination).
        type: str
        required: true
      identity:
        description: As O(ferry.podman.podman_migrate#module:destination_identity).
        type: path
      known_hosts:
        description: As O(ferry.podman.podman_migrate#module:destination_known_hosts).
        type: path
      jump:
        description: As O(ferry.podman.podman_migrate#module:destination_jump).
        type: str
  parallel:
    description:
      - How many containers move at once. One that runs on its destination and is only looked at again, half a second
        later, does not count any more, unless this is V(1). If its process has ended by then, it comes back beside the
        moves that have begun since, and no further one begins if O(max_failures) is exceeded.
    type: int
    default: 2
  parallel_per_destination:
    description: How many containers move to the same host at once.
    type: int
    default: 2
  max_failures:
    description:
      - How many moves may fail before no further one begins, as a number, or as a share of all such as V(25%), rounded
        down.
      - The module fails when any move has failed.
    type: str
    default: "0"
  not_after:
    description: No move begins after that time, in seconds since the epoch.
    type: float
  timeout_per_gib:
    description: Seconds that are added to O(timeout) for each whole GiB of O(moves[].memory).
    type: int
    default: 60
  rollback:
    description:
      - Move back what this run has moved, once more moves have failed than O(max_failures) allows.
      - What fails on the way back stays on its destination and runs there.
    type: bool
    default: false
extends_documentation_fragment:
  - ferry.podman._move
  - ferry.podman._connection
  - ferry.podman._attributes
  - ferry.podman._attributes.actiongroup_podman
attributes:
  check_mode:
    support: full
    details:
      - Each container is compared with its destination, and what would be refused counts as failed.
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - When it is told to end (C(SIGTERM), C(SIGHUP), C(SIGINT)), the moves that go on come to their end, and no further
    one begins.
  - O(publish) and O(tcp) hold for all of them.
seealso:
  - module: ferry.podman.podman_migrate
  - plugin: ferry.podman.drain_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Move three containers, two at once
  ferry.podman.podman_evacuate:
    moves:
      - {name: db, destination: node2}
      - {name: web, destination: node3}
      - {name: cache, destination: node3}
    destinations:
      - {name: node2, url: "ssh://root@node2/run/podman/podman.sock", identity: /root/.ssh/move}
      - {name: node3, url: "ssh://root@node3/run/podman/podman.sock", identity: /root/.ssh/move}
    parallel: 2
"""

RETURN = r"""
moves:
  description: One entry for each of O(moves), in their order.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name as it was given., type: str, returned: always}
    destination: {description: Where it was to go., type: str, returned: always}
    state:
      description:
        - V(moved), V(failed), or V(skipped) if its move was not begun. V(returned) if it was moved and O(rollback) has
          brought it back.
        - A container that ran on its destination already counts as V(moved), with RV(moves[].changed) false.
      type: str
      returned: always
    changed: {description: Whether this run has changed something for it., type: bool, returned: always}
    msg: {description: Why it failed or was skipped., type: str, returned: for those}
    started: {description: 'When its move began, in seconds since the epoch.', type: float, returned: if it began}
    finished: {description: 'When its move was over, in seconds since the epoch.', type: float, returned: if it began}
    location: {description: As RV(ferry.podman.podman_migrate#module:location)., type: str, returned: if it is known}
    downtime_ms: {description: As RV(ferry.podman.podman_migrate#module:downtime_ms)., type: int, returned: if it moved}
    bytes: {description: As RV(ferry.podman.podman_migrate#module:bytes)., type: int, returned: if it moved}
    phases: {description: As RV(ferry.podman.podman_migrate#module:phases)., type: raw, returned: if it moved}
    tcp: {description: As RV(ferry.podman.podman_migrate#module:tcp)., type: str, returned: if it moved live}
    method: {description: As RV(ferry.podman.podman_migrate#module:method)., type: str, returned: if it moved}
    estimate: {description: As RV(ferry.podman.podman_migrate#module:estimate)., type: dict, returned: if it is known}
    container: {description: As RV(ferry.podman.podman_migrate#module:container)., type: dict, returned: if it moved}
    pod: {description: Name of the pod that moved whole., type: str, returned: if it is in one}
    containers:
      description: As RV(moves[].container), for each container of the pod.
      type: list
      elements: dict
      returned: if its pod moved
    findings:
      description: As RV(ferry.podman.podman_migrate#module:findings).
      type: list
      elements: dict
      returned: when there are any
    interrupted_phase:
      description: As RV(ferry.podman.podman_migrate#module:interrupted_phase).
      type: str
      returned: when an earlier run was cut off
    rollback:
      description: How the way back went, with C(state), and C(msg) where it failed.
      type: dict
      returned: when it was to come back
stopped:
  description: Why no further move began; null if all did.
  returned: always
  type: str
"""

import collections
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._evacuation import (
    FAILED,
    MOVED,
    Errand,
    Evacuation,
    Terms,
    allowed_failures,
    cancelled_by_signals,
)
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import evacuating
from ansible_collections.ferry.podman.plugins.module_utils._libpod import LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule
from ansible_collections.ferry.podman.plugins.module_utils._move import Move, PodMove
from ansible_collections.ferry.podman.plugins.module_utils._request import CONSTRAINTS, MOVE, request_of

GIB = 1 << 30


class Ways:
    """Connections to both hosts of a move. One is used by one move at a time, and by the next one afterwards."""

    def __init__(self, module: FerryModule) -> None:
        self.module = module
        self.destinations = {entry["name"]: entry for entry in module.params["destinations"]}
        self._free: dict[tuple, queue.SimpleQueue] = collections.defaultdict(queue.SimpleQueue)
        self._opened = contextlib.ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Ways:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._opened.close()

    @contextlib.contextmanager
    def to(self, name: str, seconds: int) -> Iterator[LibpodClient]:
        """:param name: of a destination; empty for the source.
        :param seconds: to wait for the next byte.
        """
        free = self._free[name, seconds]
        try:
            client = free.get_nowait()
        except queue.Empty:
            client = self._connect(name, seconds)
        # A connection that failed is not used again.
        yield client
        free.put(client)

    def _connect(self, name: str, seconds: int) -> LibpodClient:
        entry, params = self.destinations.get(name), self.module.params
        if entry is None:
            way = self.module.connect(params["url"], params["identity"], params["known_hosts"], timeout=seconds)
        else:
            where = (entry["url"], entry["identity"], entry["known_hosts"], entry["jump"])
            way = self.module.connect(*where, timeout=seconds)
        with contextlib.ExitStack() as opened:
            client = opened.enter_context(way)
            with self._lock:
                self._opened.push(opened.pop_all())
        return client


class Mover:
    """Moves one container after the other, in whichever thread it is asked."""

    def __init__(self, module: FerryModule, ways: Ways) -> None:
        self.module = module
        self.ways = ways
        params = module.params
        request = request_of(params, module.conceal)
        entries = params["moves"]
        self.pods = {entry["pod"] for entry in entries if entry["pod"]}
        self.requests = {called(entry): replace(request, method=entry["method"]) for entry in entries}
        memory = {called(entry): entry["memory"] for entry in entries}
        self.seconds = {
            name: params["timeout"] + size // GIB * params["timeout_per_gib"] for name, size in memory.items()
        }

    def there(self, errand: Errand, watching: Callable[[], None]) -> dict:
        with self._both(errand) as (source, destination):
            return self._moved(source, destination, errand, watching)

    def back(self, errand: Errand, watching: Callable[[], None]) -> dict:
        with self._both(errand) as (source, destination):
            return self._moved(destination, source, errand, watching)

    @contextlib.contextmanager
    def _both(self, errand: Errand) -> Iterator[tuple[LibpodClient, LibpodClient]]:
        seconds = self.seconds[errand.name]
        with self.ways.to("", seconds) as source, self.ways.to(errand.destination, seconds) as destination:
            yield source, destination

    def _moved(self, giver: LibpodClient, taker: LibpodClient, errand: Errand, watching: Callable[[], None]) -> dict:
        """:raises FerryError: with all that is known by then."""
        result: dict = {"changed": False}
        directory, checks = self.module.params["journal"], self.module.check_mode
        move = PodMove if errand.name in self.pods else Move
        try:
            move(
                giver,
                taker,
                errand.name,
                self.requests[errand.name],
                directory,
                check_mode=checks,
                result=result,
                warn=lambda _findings: None,
                watching=watching,
            ).run()
        except FerryError as error:
            error.facts = {**result, **error.facts}
            raise
        return result


def evacuate(module: FerryModule) -> None:
    params = module.params
    errands = errands_of(params)
    terms = Terms(
        params["parallel"],
        params["parallel_per_destination"],
        allowed_failures(params["max_failures"], len(errands)),
        params["not_after"],
    )
    with evacuating(), Ways(module) as ways:
        mover = Mover(module, ways)
        evacuation = Evacuation(terms, mover.there)
        with cancelled_by_signals(evacuation):
            moves = evacuation.run(errands)
            if params["rollback"] and sum(move["state"] == FAILED for move in moves) > terms.max_failures:
                bring_back(mover, terms, errands, moves)
    report(module, for_each_entry(params["moves"], errands, moves), evacuation.stopped)


def called(entry: dict) -> str:
    """What moves: a container, or the pod that it is in."""
    return entry["pod"] or entry["name"]


def for_each_entry(entries: list[dict], errands: list[Errand], moves: list[dict]) -> list[dict]:
    """The containers of a pod tell the same."""
    told = {errand.name: move for errand, move in zip(errands, moves)}
    return [{**told[called(entry)], "name": entry["name"], **in_pod(entry)} for entry in entries]


def in_pod(entry: dict) -> dict:
    return {"pod": entry["pod"]} if entry["pod"] else {}


def errands_of(params: dict) -> list[Errand]:
    """:raises FerryError: if it is not clear what goes where."""
    known = [entry["name"] for entry in params["destinations"]]
    ways = list(dict.fromkeys((called(move), move["destination"]) for move in params["moves"]))
    errands = [Errand(place, name, destination) for place, (name, destination) in enumerate(ways)]
    containers = [move["name"] for move in params["moves"]]
    torn = [errand.name for errand in errands] if len(set(containers)) == len(containers) else containers
    for what, names in (("moves", torn), ("destinations", known)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise FerryError(f"{what} has a name twice: {', '.join(twice)}.")
    if absent := sorted({errand.destination for errand in errands} - set(known)):
        raise FerryError(f"moves names destinations that destinations has not: {', '.join(absent)}.")
    for option in ("parallel", "parallel_per_destination"):
        if params[option] < 1:
            raise FerryError(f"{option} is {params[option]}; it must be 1 or more.")
    return errands


def bring_back(mover: Mover, terms: Terms, errands: list[Errand], moves: list[dict]) -> None:
    """Move back what was moved by this run."""
    gone = [errand for errand, move in zip(errands, moves) if move["state"] == MOVED and move["changed"]]
    back = Evacuation(Terms(terms.parallel, terms.parallel_per_destination, max_failures=len(gone)), mover.back).run(
        gone
    )
    for errand, told in zip(gone, back):
        move = moves[errand.place]
        move["rollback"] = {key: told[key] for key in ("state", "msg", "downtime_ms", "findings") if key in told}
        if told["state"] == MOVED:
            move.update(state="returned", location="source")


def report(module: FerryModule, moves: list[dict], stopped: str | None) -> None:
    for move in moves:
        move.pop("diff", None)
        move.setdefault("changed", False)
    module.result.update(moves=moves, stopped=stopped, changed=any(move["changed"] for move in moves))
    there = {move["name"]: move["destination"] for move in moves}
    module.show_difference(
        {name: "source" for name in there},
        {move["name"]: there[move["name"]] if move["state"] == MOVED else "source" for move in moves},
    )
    module.warn_of([finding for move in moves for finding in move.get("findings", []) if is_warning(move, finding)])
    failed = [move for move in moves if move["state"] == FAILED]
    if failed:
        told = " ".join(dict.fromkeys(f"{move.get('pod') or move['name']}: {move['msg']}" for move in failed))
        raise FerryError(f"{len(failed)} of {len(moves)} moves failed. {told}")
    skipped = [move["name"] for move in moves if move["state"] == "skipped"]
    if skipped:
        raise FerryError(f"{stopped} Left where they are: {', '.join(skipped)}.")


def is_warning(move: dict, finding: dict) -> bool:
    return move["state"] == MOVED and finding["severity"] == "warning"


def main() -> None:
    FerryModule(
        argument_spec={
            "moves": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "destination": {"type": "str", "required": True},
                    "method": {"type": "str", "choices": ["live", "cold"], "default": "live"},
                    "pod": {"type": "str"},
                    "memory": {"type": "int", "default": 0},
                },
            },
            "destinations": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                    "identity": {"type": "path"},
                    "known_hosts": {"type": "path"},
                    "jump": {"type": "str"},
                },
            },
            "parallel": {"type": "int", "default": 2},
            "parallel_per_destination": {"type": "int", "default": 2},
            "max_failures": {"type": "str", "default": "0"},
            "not_after": {"type": "float"},
            "timeout_per_gib": {"type": "int", "default": 60},
            "rollback": {"type": "bool", "default": False},
            **MOVE,
        },
        **CONSTRAINTS,
    ).run(evacuate)


if __name__ == "__main__":
    main()
