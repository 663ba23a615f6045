# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Running programs and waiting for things, always with a limit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from .errors import LabError

DEFAULT_LIMIT = 60.0


def say(text: str) -> None:
    """Tell the person at the terminal what happens now."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


# What the lab starts for itself ends with it, whatever ends it: the next call finds nothing at work.
MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")


def run(argv: Sequence[str], what: str, limit: float = DEFAULT_LIMIT, stdin: str = "") -> str:
    """Run a program to its end and return its output; what says what it was for."""
    try:
        done = subprocess.run(
            [*MORTAL, *argv],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{what}: {argv[0]} did not end within {limit:.0f} s") from error
    if done.returncode != 0:
        raise LabError(f"{what}: {' '.join(argv)} ended with {done.returncode}:\n{_tail(done.stdout)}")
    return done.stdout


def run_logged(argv: Sequence[str], what: str, log: Path, limit: float) -> None:
    """Run a long program with its output in a file that an error can point at."""
    with log.open("w") as output:
        try:
            code = subprocess.call(list(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{what}: did not end within {limit:.0f} s; its output is in {log}") from error
    if code != 0:
        raise LabError(
            f"{what}: {argv[0]} ended with {code}; all of its output is in {log}:\n"
            + _tail(log.read_text(errors="replace"))
        )


def contained(argv: Sequence[str]) -> list[str]:
    """The same program in mount and pid namespaces that end with this process, whatever ends it."""
    return [
        *MORTAL,
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
        "--",
        *argv,
    ]


def wait_until(what: str, limit: float, check: Callable[[], bool], interval: float = 0.02) -> None:
    """Poll until check is true; the error says what was waited for."""
    end = time.monotonic() + limit
    while not check():
        if time.monotonic() > end:
            raise LabError(f"waited {limit:.0f} s for {what}, in vain")
        time.sleep(interval)
