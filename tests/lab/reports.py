# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What drains know when they are over, made up for pictures and tests of their report: always the same."""

from __future__ import annotations

import random
import typing as t

Json = dict[str, t.Any]

MIB = 1024**2
BEGIN = 1_795_298_404.0
SMALL = (
    ("db", 620, "node2"),
    ("cache", 384, "node3"),
    ("web", 96, "node2"),
    ("api", 210, "node3"),
    ("queue", 145, "node2"),
    ("search", 780, "node3"),
    ("auth", 64, "node2"),
    ("mail", 58, "node3"),
    ("metrics", 240, "node2"),
)
VERSIONS = {
    "node1": {"podman": "5.4.2", "crun": "1.21", "criu": "4.1.1", "kernel": "6.12.48+deb13-amd64"},
    "node2": {"podman": "5.4.2", "crun": "1.21", "criu": "4.1.1", "kernel": "6.12.48+deb13-amd64"},
    "node3": {"podman": "5.8.2", "crun": "1.28", "criu": "4.2", "kernel": "6.16.3-amd64"},
}


def planned(name: str, **changes: t.Any) -> Json:
    return {"name": name, "id": f"{name}-id", "host": "node1", "pod": None, "policy": "live", **changes}


def moved(name: str, destination: str, begin: float, memory: int, rng: random.Random, **changes: t.Any) -> Json:
    """:param memory: MiB."""
    freeze, transfer, restore = (round(memory * one * rng.uniform(0.8, 1.2)) + 40 for one in (0.9, 1.1, 1.3))
    phases = {"assess": 60, "prepare": rng.randint(20, 900), "freeze": freeze, "transfer": transfer, "restore": restore}
    phases = {**phases, "verify": rng.randint(300, 900), "commit": 60}
    return {
        "name": name,
        "destination": destination,
        "state": "moved",
        "changed": True,
        "started": begin,
        "finished": begin + sum(phases.values()) / 1000,
        "location": "destination",
        "downtime_ms": freeze + transfer + restore + 5,
        "bytes": memory * MIB,
        "phases": phases,
        "tcp": "established",
        **changes,
    }


def in_parallel(wanted: t.Sequence[tuple[str, int, str]], parallel: int, seed: int) -> list[Json]:
    """:param wanted: name, MiB and destination of each."""
    rng = random.Random(seed)
    free = [BEGIN + 4.0] * parallel
    results = []
    for name, memory, destination in wanted:
        begin = min(free)
        results.append(moved(name, destination, begin, memory, rng))
        free[free.index(begin)] = results[-1]["finished"] + 0.03
    return results


def drain(wanted: t.Sequence[tuple[str, int, str]] = SMALL, parallel: int = 3, seed: int = 5, **changes: t.Any) -> Json:
    results = in_parallel(wanted, parallel, seed)
    moves = [
        planned(
            name,
            destination=destination,
            method="live",
            bytes=memory * MIB,
            downtime_ms=memory * 3 + 120,
            reason=f"live by default; {destination} is loaded the least of those that can take it.",
        )
        for name, memory, destination in wanted
    ]
    return {
        "host": "node1",
        "operation": "drain",
        "who": "kim",
        "reason": "kernel update",
        "started": BEGIN,
        "finished": max((one["finished"] for one in results), default=BEGIN) + 2.5,
        "plan": {"moves": moves},
        "moves": results,
        "versions": VERSIONS,
        **changes,
    }


def twelve() -> Json:
    """As in the documentation: most moves live, one cold, one stops, one stays."""
    run = drain()
    run["plan"]["moves"].append(
        planned(
            "ledger",
            destination="node3",
            method="cold",
            policy="cold",
            reason="cold by its label ferry.evacuate; node3 is loaded the least of those that can take it.",
        )
    )
    begin = run["moves"][-1]["started"] + 0.4
    run["moves"].append(
        {
            "name": "ledger",
            "destination": "node3",
            "state": "moved",
            "started": begin,
            "finished": begin + 3.4,
            "downtime_ms": 2600,
            "bytes": 310 * MIB,
        }
    )
    run["plan"]["stops"] = [planned("report-batch", policy="stop", reason="stop by policies[*-batch].")]
    run["stops"] = [{"name": "report-batch", "state": "stopped", "started": begin, "finished": begin + 0.8}]
    run["plan"]["keeps"] = [planned("node-exporter", policy="keep", reason="keep by its label ferry.evacuate.")]
    run["moves"][5]["findings"] = [
        {
            "code": "older_kernel",
            "severity": "notice",
            "message": "The kernel of the destination is newer; the way back may be refused.",
            "remedy": "Update both hosts.",
        }
    ]
    return run


def many(count: int = 200) -> Json:
    rng = random.Random(count)
    kinds = ("web", "api", "worker", "cache", "db", "queue")
    wanted = [
        (f"{rng.choice(kinds)}-{place:03}", rng.choice((24, 60, 90, 200, 450)), f"node{rng.randint(2, 5)}")
        for place in range(count)
    ]
    run = drain(wanted, parallel=4)
    for place in (17, 90):
        run["moves"][place] = failed(run["moves"][place], "The destination does not answer.")
    return run


def failed(result: Json, why: str, **changes: t.Any) -> Json:
    kept = {key: result[key] for key in ("name", "destination", "started", "finished")}
    return {**kept, "state": "failed", "changed": False, "location": "source", "msg": why, **changes}


def trouble() -> Json:
    """One of everything that can go wrong."""
    run = twelve()
    moves = run["moves"]
    moves[2] = failed(moves[2], "It could not be restored on node2: criu failed: type RESTORE errno 0.")
    moves[3] = failed(moves[3], "The destination does not answer.", location="unknown", interrupted_phase="transfer")
    moves[4].update(
        state="returned",
        location="source",
        rollback={
            "state": "moved",
            "downtime_ms": 380,
            "started": moves[8]["finished"] + 1,
            "finished": moves[8]["finished"] + 2.1,
        },
    )
    for place in (6, 7):
        moves[place] = {
            "name": moves[place]["name"],
            "destination": moves[place]["destination"],
            "state": "skipped",
            "msg": "Not begun, because 2 of the moves before failed.",
        }
    blocked = planned("vpn", code="unmovable", reason="[io_uring] It uses io_uring, which CRIU cannot dump.")
    run["plan"].update(blocks=[blocked], warnings=["node4 is left out: unreachable."])
    run.update(failed=True, msg="2 of 10 moves failed. Nothing more was begun.")
    return run


def rolling(hosts: int = 3) -> list[Json]:
    """Each host in turn: away, maintenance, back."""
    runs = []
    for place in range(hosts):
        host, begin = f"node{place + 1}", place * 900.0
        for operation, later, version in (("drain", 0.0, "6.12.48"), ("undrain", 420.0, "6.12.57")):
            run = drain(SMALL[:6], seed=place + 20, operation=operation, host=host)
            for result in run["moves"]:
                result["started"] += begin + later
                result["finished"] += begin + later
            for entry in run["plan"]["moves"]:
                entry["host"] = host if operation == "drain" else "node9"
            run["started"] += begin + later
            run["finished"] += begin + later
            run["versions"] = {host: {**VERSIONS["node1"], "kernel": f"{version}+deb13-amd64"}}
            runs.append(run)
    return runs


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><iframe src=//example.org>",
    "{{ lookup('pipe', 'id') }} {% if 1 %} {# #}",
    "javascript:alert(1)",
    "&lt;b&gt; &amp; &#60;",
    "\u202egnp.exe\u2066 \u200b\x00\x1b[31m\n\tend",
    "a" * 300,
    "' onmouseover='alert(1)",
    "]]> --> <!-- <![CDATA[",
    "\ud800 lone",
)


def hostile() -> Json:
    """Everything that is a text is made to break out."""
    rng = random.Random(1)
    moves = [
        moved(
            name,
            name,
            BEGIN + place,
            50,
            rng,
            findings=[{"code": name, "severity": name, "message": name, "remedy": name}],
            phases={"freeze": 20, name: 5},
            interrupted_phase=name,
        )
        for place, name in enumerate(HOSTILE)
    ]
    moves += [failed(one, one["name"], name=f"{one['name']}2") for one in moves]
    entries = {
        kind: [planned(f"{name}-{kind}", host=name, reason=name, code=name, policy=name) for name in HOSTILE]
        for kind in ("stops", "keeps", "blocks")
    }
    text = " ".join(HOSTILE)
    plan = {"moves": [], **entries, "warnings": list(HOSTILE), "msg": text}
    return {
        "host": text,
        "operation": "drain",
        "who": text,
        "reason": text,
        "started": BEGIN,
        "finished": BEGIN + 60,
        "plan": plan,
        "moves": moves,
        "versions": {name: {name: name, "podman": name} for name in HOSTILE},
        "failed": True,
        "msg": text,
    }
