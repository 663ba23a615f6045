# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the report says, as data."""

from __future__ import annotations

import ast
import copy
import json
import pathlib
import typing as t

import pytest
import reports
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.ferry.podman.plugins.filter.drain_plan import drain_plan
from ansible_collections.ferry.podman.plugins.filter.drain_report import FilterModule
from ansible_collections.ferry.podman.plugins.plugin_utils import _report_read, _report_timeline, _report_words

Json = dict[str, t.Any]

PLUGINS = pathlib.Path(__file__).resolve().parents[4] / "plugins"
BEGIN = reports.BEGIN

drain_report = FilterModule().filters()["drain_report"]


def run(**changes: t.Any) -> Json:
    return {"host": "node1", "operation": "drain", **changes}


def result(name: str = "web", state: str = "moved", **changes: t.Any) -> Json:
    return {"name": name, "state": state, "destination": "node2", **changes}


def planned(name: str = "web", **changes: t.Any) -> Json:
    return {
        "name": name,
        "host": "node1",
        "destination": "node2",
        "method": "live",
        "reason": "live by default.",
        **changes,
    }


def only(report: Json) -> Json:
    (entry,) = report["containers"]
    return entry


def moved(**changes: t.Any) -> Json:
    """The one entry of a report of one result."""
    return only(drain_report(run(moves=[result(**changes)])))


def refusal(runs: t.Any, *args: t.Any, **options: t.Any) -> str:
    with pytest.raises(AnsibleFilterError) as caught:
        drain_report(runs, *args, **options)
    return str(caught.value)


# -- what is read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ("text", "The input is 'text'. Give the dictionary of a run"),
        (None, "The input is None."),
        ([], "The input is an empty list."),
        ([5], "[0] is 5"),
        ({}, "host is not given"),
        ([run(), {"operation": "drain"}], "[1].host is not given"),
        ({"host": "node1", "operation": ""}, "operation is not given"),
        (run(host=["node1"]), "host is ['node1']. Give a name."),
        (run(operation="drian"), "operation is 'drian'. It may be drain, undrain, rolling."),
        (run(move=[]), "move is not known. A run has host, operation"),
        (run(check="perhaps"), "check is 'perhaps'. Give true or false."),
        (run(who=["kim"]), "who is ['kim']. Give a string."),
        (run(started="2026-11-21 22:00"), "started is '2026-11-21 22:00'. Give seconds since the epoch, or a time"),
        (run(started="0000-11-21T22:00:00Z"), "started is '0000"),
        (run(started=BEGIN * 1000), "Give seconds since the epoch, not milliseconds."),
        (run(finished=-1), "finished is -1. Give a number from 0"),
        (run(finished=float("nan")), "finished is nan."),
        (run(finished=True), "finished is True. Give a number."),
        (run(moves={"web": {}}), "moves is {'web': {}}. Give a list."),
        (run(moves="web"), "moves is 'web'. Give a list."),
        (run(moves=["web"]), "moves[0] is 'web'"),
        (run(moves=[{"state": "moved"}]), "moves[0] has no name."),
        (run(moves=[{"name": "web"}]), "moves[0] has no state."),
        (run(moves=[result(), result(state="gone")]), "moves[1].state is 'gone'. It may be moved, failed"),
        (run(moves=[result(downtime_ms="long")]), "moves[0].downtime_ms is 'long'. Give a number."),
        (run(moves=[result(bytes=2**63)]), "moves[0].bytes is 9223372036854775808."),
        (run(moves=[result(phases={"freeze": -5})]), "moves[0].phases.freeze is -5."),
        (run(moves=[result(findings=[{}])]), "moves[0].findings[0] has no code."),
        (run(moves=[result(rollback={"state": "no"})]), "moves[0].rollback.state is 'no'."),
        (run(stops=[{"name": "web", "state": "moved"}]), "stops[0].state is 'moved'. It may be stopped, started"),
        ([run(plan={"moves": [{"name": "web"}]})], "[0].plan.moves[0] has no destination."),
        (run(plan={"moves": [planned(method="warm")]}), "plan.moves[0].method is 'warm'. It may be live, cold."),
        (run(plan={"blocks": [{}]}), "plan.blocks[0] has no name."),
        (run(plan={"missing": [{"memory": 1}]}), "plan.missing[0] has no host."),
        (run(versions=["5.8"]), "versions is ['5.8']"),
        (run(versions={"node1": {"podman": []}}), "versions.node1.podman is []. Give a string."),
    ],
)
def test_what_is_wrong_is_named_with_its_place(runs, said) -> None:
    message = refusal(runs)
    assert message.startswith("ferry.podman.drain_report: ")
    assert said in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "pdf"}, "format is 'pdf'. It may be data, html."),
        ({"format": None}, "format is None."),
        ({"utc_offset": "Europe/Berlin"}, "utc_offset is 'Europe/Berlin'. Give it as '+02:00'."),
        ({"utc_offset": "+15:00"}, "utc_offset is '+15:00'."),
        ({"utc_offset": "+01:60"}, "utc_offset is '+01:60'."),
    ],
)
def test_options_that_make_no_sense(options, said) -> None:
    assert said in refusal(run(), **options)


def test_what_templates_have_made_strings_of() -> None:
    given = result(downtime_ms="900", bytes="7", started=f"{BEGIN}", finished=str(int(BEGIN) + 3), changed="true")
    report = drain_report(run(check="no", failed="False", moves=[given]))
    entry = only(report)
    assert (entry["downtime_ms"], entry["bytes"], entry["changed"]) == (900, 7, True)
    assert entry["finished"] - entry["started"] == 3
    assert not report["check"] and not report["failed"]


@pytest.mark.parametrize("text", ["2026-11-21T22:00:04Z", "2026-11-21T23:00:04+01:00", "2026-11-21 22:00:04+00:00"])
def test_times_in_words(text) -> None:
    assert drain_report(run(started=text))["started"] == BEGIN


def test_null_and_empty_are_as_if_not_given() -> None:
    empty = {key: None for key in _report_read.RUN if key not in ("host", "operation")}
    texts = {key: "" for key in ("who", "reason", "msg", "started", "finished")}
    assert drain_report(run(**empty)) == drain_report(run(**texts)) == drain_report(run())


def test_plan_and_results_are_taken_as_the_others_return_them(container, host) -> None:
    labels = {"keep": {"ferry.evacuate": "keep"}, "stop": {"ferry.evacuate": "stop"}}
    here = host(container("web"), *[container(name, labels=made) for name, made in labels.items()])
    plan = drain_plan({"node1": here, "node2": host()}, ["node1"])
    report = drain_report(run(plan=plan, moves=[result(container={"Id": "x"}, unheard_of=1)]))
    assert {entry["name"]: entry["outcome"] for entry in report["containers"]} == {
        "web": "moved",
        "stop": "skipped",
        "keep": "kept",
    }


def test_every_key_of_a_move_is_known() -> None:
    tree = ast.parse((PLUGINS / "modules/podman_evacuate.py").read_text(encoding="utf-8"))
    (returned,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RETURN"
    ]
    documented = yaml.safe_load(returned)["moves"]["contains"]
    # What a page tells of each container alone: a pod's containers are entries of their own.
    assert documented.keys() - _report_read.MOVED.keys() == {"container", "containers", "pod"}


def test_documentation_has_just_the_keys_that_are_there() -> None:
    documented = yaml.safe_load((PLUGINS / "filter/drain_report.yml").read_text(encoding="utf-8"))
    assert documented["DOCUMENTATION"]["options"]["_input"]["suboptions"].keys() == _report_read.RUN.keys()
    contains = documented["RETURN"]["_value"]["contains"]
    report = drain_report(reports.trouble())
    assert report.keys() == contains.keys()
    assert report["totals"].keys() == contains["totals"]["contains"].keys()
    for kind in ("containers", "timelines"):
        assert report[kind][0].keys() == contains[kind]["contains"].keys()
    bars = contains["timelines"]["contains"]["bars"]["contains"]
    assert report["timelines"][0]["bars"][0].keys() == bars.keys()
    assert report["runs"][0].keys() - contains.keys() == contains["runs"]["contains"].keys()


# -- outcomes -------------------------------------------------------------------------------------------------


def test_everything_once() -> None:
    report = drain_report(reports.trouble())
    outcomes = {entry["name"]: entry["outcome"] for entry in report["containers"]}
    assert outcomes == {
        "db": "moved",
        "cache": "moved",
        "web": "failed",
        "api": "failed",
        "queue": "returned",
        "search": "moved",
        "auth": "skipped",
        "mail": "skipped",
        "metrics": "moved",
        "ledger": "cold",
        "report-batch": "stopped",
        "node-exporter": "kept",
        "vpn": "blocked",
    }
    locations = {entry["name"]: entry["location"] for entry in report["containers"]}
    assert (locations["db"], locations["ledger"], locations["queue"]) == ("destination", "destination", "source")
    assert (locations["auth"], locations["vpn"], locations["api"]) == ("source", "source", "unknown")
    assert report["outcome"] == "failed" and report["failed"]
    assert report["warnings"] == ["node1: node4 is left out: unreachable."]


@pytest.mark.parametrize(
    ("changes", "outcome", "msg"),
    [
        ({}, "nothing", "Nothing had to leave node1."),
        ({"moves": [result()]}, "done", "node1 is drained: 1 of 1 container moved."),
        ({"moves": [result(), result("b", method="cold")]}, "done", "node1 is drained: 2 of 2 containers moved."),
        (
            {"moves": [result(), result("b", "failed")]},
            "partial",
            "node1 is not empty: 1 of 2 containers failed.",
        ),
        ({"moves": [result(state="failed")]}, "failed", "node1 is not drained: 1 of 1 container failed."),
        ({"moves": [result()], "failed": True}, "failed", "node1 is not drained: it ended early."),
        (
            {"moves": [result()], "plan": {"blocks": [planned("b")]}},
            "partial",
            "node1 is not empty: 1 of 2 containers blocked.",
        ),
        (
            {"plan": {"refused": True, "msg": "No room.", "blocks": [planned()]}},
            "refused",
            "node1 is not drained: the plan was refused.",
        ),
        ({"plan": {"keeps": [planned()]}}, "nothing", "Nothing had to leave node1."),
        (
            {"moves": [result(state="failed", location="unknown")]},
            "failed",
            "node1 is not drained: 1 of 1 container failed. Not known where it is: web.",
        ),
        (
            {"moves": [result()], "plan": {"blocks": [planned("b")]}, "operation": "undrain"},
            "partial",
            "Not all containers of node1 are back: 1 of 2 containers blocked.",
        ),
        (
            {"operation": "undrain", "moves": [result()]},
            "done",
            "The containers of node1 are back: 1 of 1 container moved.",
        ),
        ({"operation": "rolling"}, "done", "The maintenance of node1 is done."),
        ({"operation": "rolling", "failed": True}, "failed", "The maintenance of node1 failed: it ended early."),
        ({"check": True, "plan": {"moves": [planned()]}}, "done", "node1 can be drained: 1 of 1 container would move."),
        ({"check": True, "plan": {"refused": True}}, "refused", "node1 cannot be drained: the plan is refused."),
    ],
)
def test_outcome_in_a_sentence(changes, outcome, msg) -> None:
    report = drain_report(run(**changes))
    assert (report["outcome"], report["msg"]) == (outcome, msg)
    assert report["failed"] == (outcome in ("failed", "refused"))


def test_there_is_a_sentence_for_every_outcome() -> None:
    outcomes = {(operation, outcome) for operation in ("drain", "undrain") for outcome in _report_words.STATUS_WORDS}
    outcomes |= {("rolling", outcome) for outcome in _report_words.STATUS_WORDS if outcome != "nothing"}
    assert _report_words.SENTENCES.keys() == _report_words.PLANNED_SENTENCES.keys() == outcomes


def test_what_has_no_result_was_not_begun() -> None:
    plan = {"moves": [planned()], "stops": [{"name": "job"}]}
    report = drain_report(run(plan=plan))
    assert [(entry["outcome"], entry["reason"]) for entry in report["containers"]] == [
        ("skipped", "It was not begun."),
        ("skipped", "It was not stopped."),
    ]
    assert report["outcome"] == "failed"
    assert (
        only(drain_report(run(plan={"moves": [planned()]}, msg="No yes was given.")))["reason"] == "No yes was given."
    )


def test_what_is_not_in_the_plan_counts_too() -> None:
    report = drain_report(run(plan={"moves": [planned("a")]}, moves=[result("a"), result("b")]))
    assert [entry["name"] for entry in report["containers"]] == ["a", "b"]


def test_containers_with_one_name_are_told_apart() -> None:
    plan = {"moves": [planned(host=host, destination="node1", id=host) for host in ("node2", "node3")]}
    moves = [
        result(host="node3", destination="node1", downtime_ms=3),
        result(host="node2", destination="node1", downtime_ms=2),
    ]
    report = drain_report(run(operation="undrain", plan=plan, moves=moves))
    assert [(entry["id"], entry["downtime_ms"]) for entry in report["containers"]] == [("node2", 2), ("node3", 3)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "live by default."),
        ({"state": "failed", "msg": "CRIU."}, "CRIU."),
        ({"state": "returned"}, "It was moved, and has been brought back."),
        (
            {"rollback": {"state": "failed", "msg": "No answer."}},
            "It was to be brought back. No answer.",
        ),
        ({"changed": False, "started": 5, "finished": 6}, "It was there already."),
    ],
)
def test_what_went_wrong_says_more_than_the_plan(changes, reason) -> None:
    report = drain_report(run(plan={"moves": [planned()]}, moves=[result(**changes)]))
    assert only(report)["reason"] == reason


def test_check_mode_tells_of_estimates() -> None:
    moves = [planned("a", bytes=10, downtime_ms=100), planned("b", bytes=20, downtime_ms=300)]
    results = [result("a", estimate={"archive": 11, "downtime_ms": 150}, started=BEGIN, finished=BEGIN + 1)]
    report = drain_report(run(check=True, plan={"moves": moves, "stops": [{"name": "job"}]}, moves=results))
    assert [entry["outcome"] for entry in report["containers"]] == ["moved", "moved", "stopped"]
    assert report["totals"]["bytes"] == 31
    assert report["totals"]["downtime_ms"] == {"longest": 300, "median": 225, "total": 450}
    assert report["timelines"][0]["bars"] == []


def test_estimates_of_the_plan_are_not_taken_for_what_happened() -> None:
    plan = {"moves": [planned(bytes=10, downtime_ms=100)]}
    report = drain_report(run(plan=plan, moves=[result(state="failed")]))
    assert report["totals"]["bytes"] == 0
    assert report["totals"]["downtime_ms"]["total"] is None


# -- totals, many runs ----------------------------------------------------------------------------------------


def test_totals_are_of_what_happened() -> None:
    moves = [
        result("a", downtime_ms=100, bytes=5),
        result("b", downtime_ms=400, bytes=7),
        result("c", downtime_ms=100, rollback={"state": "moved", "downtime_ms": 60}, state="returned"),
        result("d", "failed"),
    ]
    totals = drain_report(run(moves=moves))["totals"]
    assert (totals["containers"], totals["moved"], totals["returned"], totals["failed"]) == (4, 2, 1, 1)
    assert totals["bytes"] == 12
    assert totals["downtime_ms"] == {"longest": 400, "median": 160, "total": 660}


def test_many_runs_are_told_as_one() -> None:
    report = drain_report(reports.rolling())
    assert report["operation"] == "rolling"
    assert report["hosts"] == ["node1", "node2", "node3"]
    assert report["msg"] == "Rolling maintenance of 3 hosts: done."
    assert report["totals"]["moved"] == sum(one["totals"]["moved"] for one in report["runs"]) == 36
    assert [entry["run"] for entry in report["containers"]] == [place for place in range(6) for _one in range(6)]
    assert report["versions"]["node1"]["kernel"] == ["6.12.48+deb13-amd64", "6.12.57+deb13-amd64"]
    assert report["versions"]["node1"]["podman"] == ["5.4.2"]
    assert report["duration_seconds"] == pytest.approx(report["finished"] - report["started"], abs=0.001)
    for timeline in report["timelines"]:
        names = [report["containers"][span["container"]]["name"] for span in timeline["bars"]]
        assert names == [span["name"] for span in timeline["bars"]]
        assert {report["containers"][span["container"]]["run"] for span in timeline["bars"]} == {timeline["run"]}


@pytest.mark.parametrize("bad", ["failed", "refused", "partial"])
def test_worst_run_is_the_outcome_of_all(bad) -> None:
    runs = {
        "failed": run(host="node2", failed=True),
        "refused": run(host="node2", plan={"refused": True}),
        "partial": run(host="node2", moves=[result("a"), result("b", "failed")]),
    }
    report = drain_report([run(moves=[result()]), runs[bad]])
    assert report["outcome"] == bad
    words = _report_words.STATUS_WORDS[bad].lower()
    assert report["msg"] == f"Drain of 2 hosts: {words} on node2."


def test_who_and_why_are_told_only_if_they_are_the_same() -> None:
    same = drain_report([run(who="kim", reason="update"), run(host="node2", who="kim", reason="fan")])
    assert (same["who"], same["reason"]) == ("kim", None)


# -- timeline -------------------------------------------------------------------------------------------------


def test_bars_are_where_the_moves_were() -> None:
    phases = {
        "assess": 500,
        "prepare": 500,
        "freeze": 300,
        "transfer": 200,
        "restore": 500,
        "verify": 900,
        "commit": 100,
    }
    moves = [
        result("late", started=BEGIN + 2, finished=BEGIN + 5, downtime_ms=1000, phases=phases),
        result("early", started=BEGIN, finished=BEGIN + 4, downtime_ms=1500),
    ]
    timeline = drain_report(run(started=BEGIN - 7, moves=moves))["timelines"][0]
    assert (timeline["started"], timeline["seconds"], timeline["parallel"]) == (BEGIN, 5.0, 2)
    early, late = timeline["bars"]
    assert (early["name"], early["offset"], early["seconds"]) == ("early", 0.0, 4.0)
    assert early["downtime"] == {"offset": 2.5, "seconds": 1.5}
    assert (late["name"], late["offset"], late["seconds"]) == ("late", 2.0, 3.0)
    assert late["downtime"] == {"offset": 3.0, "seconds": 1.0}


def test_order_of_phases_does_not_matter() -> None:
    phases = {"prepare": 1000, "freeze": 500, "restore": 500}
    entries = [
        moved(started=BEGIN, finished=BEGIN + 3, downtime_ms=1000, phases=dict(items))
        for items in (phases.items(), reversed(list(phases.items())))
    ]
    assert [list(entry["phases"]) for entry in entries] == [["prepare", "freeze", "restore"]] * 2


def test_downtime_never_leaves_its_bar() -> None:
    moves = [result(started=BEGIN, finished=BEGIN + 1, downtime_ms=9000, phases={"prepare": 8000, "freeze": 1})]
    (span,) = drain_report(run(moves=moves))["timelines"][0]["bars"]
    assert span["downtime"] == {"offset": 0.0, "seconds": 1.0}


def test_what_was_brought_back_has_two_bars() -> None:
    back = {"state": "moved", "started": BEGIN + 5, "finished": BEGIN + 7, "downtime_ms": 300}
    given = result(state="returned", started=BEGIN, finished=BEGIN + 2, downtime_ms=500, rollback=back)
    report = drain_report(run(moves=[given]))
    away, home = report["timelines"][0]["bars"]
    assert (away["destination"], away["downtime"]["seconds"]) == ("node2", 0.5)
    assert (home["destination"], home["offset"], home["downtime"]["seconds"]) == ("node1", 5.0, 0.3)
    assert only(report)["downtime_ms"] == 800


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(0, 1), (1, 2), (2, 3)], 1),
        ([(0, 10), (1, 2), (3, 4)], 2),
        ([(0, 3), (1, 3), (2, 3)], 3),
        ([(1, 1)], 1),
    ],
)
def test_how_many_at_once(spans, most) -> None:
    assert _report_timeline.at_once(spans) == most


def test_clocks_that_go_backwards_are_told_of() -> None:
    moves = [result(started=BEGIN + 2, finished=BEGIN)]
    report = drain_report(run(started=BEGIN + 9, finished=BEGIN, moves=moves))
    assert report["timelines"][0]["bars"] == []
    assert report["duration_seconds"] is None
    assert [warning.partition(":")[0] for warning in report["warnings"]] == ["node1", "node1"]
    assert "web finished before it started" in " ".join(report["warnings"])


# -- what holds always ----------------------------------------------------------------------------------------


SAMPLES = {name: getattr(reports, name) for name in ("twelve", "trouble", "many", "rolling", "hostile")}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("form", ["data", "html"])
def test_same_input_same_report_and_nothing_is_changed(name, form) -> None:
    given = SAMPLES[name]()
    before = copy.deepcopy(given)
    first = drain_report(given, form)
    assert given == before
    assert drain_report(copy.deepcopy(given), form) == first


@pytest.mark.parametrize("name", SAMPLES)
def test_data_goes_through_json(name) -> None:
    report = drain_report(SAMPLES[name]())
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("name", SAMPLES)
def test_every_container_is_counted_once(name) -> None:
    report = drain_report(SAMPLES[name]())
    kinds = set(_report_words.OUTCOME_WORDS)
    for totals in [report["totals"], *[one["totals"] for one in report["runs"]]]:
        assert sum(totals[kind] for kind in kinds) == totals["containers"]
    assert report["totals"]["containers"] == len(report["containers"])


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (620 * 1024**2, "620 MiB"),
        (int(9.96 * 1024**3), "10 GiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_sizes_in_words(count, words) -> None:
    assert _report_words.size(count) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (9_949, "9.9 s"),
        (9_950, "10 s"),
        (59_499, "59 s"),
        (59_500, "1 min"),
        (99_000, "1 min 39 s"),
        (3_600_000, "1 h"),
        (5_400_000, "1 h 30 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_durations_in_words(count, words) -> None:
    assert _report_words.milliseconds(count) == words
