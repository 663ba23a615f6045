# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The command line of the lab."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from .errors import LabError

USAGE = """usage:
  lab up [--hosts N] [--flavour stable|testing|mixed]   hosts node1 … nodeN (2, stable) and a registry
  lab down                        all of it goes; what was built stays in the cache
  lab status [--json]             names, addresses, versions
  lab exec NODE -- COMMAND …      run a command inside a host
  lab inventory                   the path of an Ansible inventory
  lab stop NODE                   power loss
  lab start NODE                  boot it again, from its disk
  lab service NODE start|stop|kill   podman's API service of a host
"""
# Exit codes of lab's own, told apart from those of the command that lab exec runs.
FAILED = 125
MISUSED = 2
LOCK_LIMIT = 900.0


def _locked(lock: TextIO) -> bool:
    """Whether the lock is ours and still the one that others will ask for: lab down removes the file."""
    from . import paths

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(paths.LOCK))
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _alone(limit: float = LOCK_LIMIT) -> Iterator[None]:
    """One change of the lab at a time."""
    from . import paths

    end = time.monotonic() + limit
    while True:
        with paths.LOCK.open("w") as lock:
            if _locked(lock):
                yield
                return
        if time.monotonic() > end:
            raise LabError(f"waited {limit:.0f} s for another lab command that holds {paths.LOCK}, in vain")
        time.sleep(0.1)


def _up(arguments: Sequence[str]) -> None:
    import argparse

    from . import lifecycle, preflight
    from .plan import FLAVOURS
    from .run import say

    parser = argparse.ArgumentParser(prog="lab up")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--flavour", choices=FLAVOURS, default="stable")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    with _alone():
        preflight.check()
        lifecycle.up(options.hosts, options.flavour)
    say(f"the lab is up: {options.hosts} hosts, {options.flavour}, {time.monotonic() - start:.1f} s")


def _down(_arguments: Sequence[str]) -> None:
    from . import lifecycle, paths
    from .run import say

    with _alone():
        lifecycle.down()
        paths.LOCK.unlink()
    say("the lab is down")


def _status(arguments: Sequence[str]) -> None:
    from . import status

    found = status.collect()
    print(json.dumps(found, indent=2) if "--json" in arguments else status.describe(found))


def _exec(arguments: Sequence[str]) -> None:
    from .enter import enter

    if len(arguments) < 3 or arguments[1] != "--":
        raise LabError("lab exec NODE -- COMMAND … : the two dashes stand between the host and the command")
    enter(arguments[0], arguments[2:])


def _inventory(_arguments: Sequence[str]) -> None:
    from . import paths, records

    if not records.load_all():
        raise LabError("no lab is up (lab up)")
    print(paths.INVENTORY)


def _stop(arguments: Sequence[str]) -> None:
    from . import host, records

    with _alone():
        host.stop(records.load(_one(arguments, "stop")))


def _start(arguments: Sequence[str]) -> None:
    from . import lifecycle

    with _alone():
        lifecycle.start(_one(arguments, "start"))


def _service(arguments: Sequence[str]) -> None:
    from .enter import enter

    if len(arguments) != 2:
        raise LabError("lab service NODE start|stop|kill")
    enter(arguments[0], ["/usr/local/lib/ferry-lab/service", arguments[1]])


def _one(arguments: Sequence[str], command: str) -> str:
    if len(arguments) != 1:
        raise LabError(f"lab {command} NODE")
    return arguments[0]


COMMANDS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "exec": _exec,
    "inventory": _inventory,
    "stop": _stop,
    "start": _start,
    "service": _service,
}


def main(arguments: Sequence[str]) -> int:
    command = COMMANDS.get(arguments[0] if arguments else "")
    if command is None:
        print(USAGE, file=sys.stderr, end="")
        return MISUSED
    if os.geteuid() != 0:
        print("lab: the lab makes namespaces, mounts and network devices: run it as root", file=sys.stderr)
        return FAILED
    try:
        command(arguments[1:])
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"lab: the system refused something that lab {arguments[0]} needs: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("lab: interrupted; the next lab up or lab down copes with what is left", file=sys.stderr)
        return 130
    return 0
