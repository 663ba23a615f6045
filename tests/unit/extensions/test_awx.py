# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What extensions/awx gives to awx.awx, which is not installed here: its options are in awx_options.json."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
AWX = ROOT / "extensions/awx"
KNOWN = json.loads((HERE / "awx_options.json").read_text(encoding="utf-8"))
PREFIX = "awx.awx."

Json = dict[str, t.Any]

(PLAY,) = yaml.safe_load((AWX / "configure.yml").read_text(encoding="utf-8"))
CALLS = {key[len(PREFIX) :]: task[key] for task in PLAY["tasks"] for key in task if key.startswith(PREFIX)}


def templates() -> dict[str, Json]:
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("extensions/patterns/*/meta/pattern.json")
    ]
    return {one["name"]: one for pattern in found for one in pattern["aap_resources"]["controller_job_templates"]}


def test_all_that_awx_needs_is_made() -> None:
    assert CALLS.keys() == KNOWN.keys() - {"source"}
    lint = yaml.safe_load((ROOT / ".ansible-lint").read_text(encoding="utf-8"))
    assert lint["mock_modules"] == [PREFIX + name for name in sorted(CALLS)]


def wrong(given: t.Any, known: Json, where: str) -> list[str]:
    """Options that the module does not have, or that are not of their kind."""
    found = [f"{where}.{name} is missing" for name in known if known[name].get("required") and name not in given]
    for name, value in given.items():
        if name not in known:
            found.append(f"{where} has no {name}")
            continue
        option, place = known[name], f"{where}.{name}"
        if isinstance(value, str) and "{{" in value:
            continue
        kinds = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict}
        if not isinstance(value, kinds[option["type"]]):
            found.append(f"{place} is no {option['type']}")
        if "choices" in option and value not in option["choices"]:
            found.append(f"{place} may not be {value}")
        if "options" in option:
            for one in value if isinstance(value, list) else [value]:
                found += wrong(one, option["options"], place)
    return found


@pytest.mark.parametrize("module", CALLS)
def test_options_are_those_of_the_module(module: str) -> None:
    assert not wrong(CALLS[module], KNOWN[module], module)


def test_wrong_options_would_be_seen() -> None:
    call = {"name": "x", "unified": 1, "enabled": "yes", "verbosity": 9}
    assert wrong(call, KNOWN["schedule"], "schedule") == [
        "schedule has no unified",
        "schedule.enabled is no bool",
        "schedule.verbosity may not be 9",
    ]
    node = {"unified_job_template": {"kind": "job_template"}}
    assert wrong({"name": "x", "workflow_nodes": [node]}, KNOWN["workflow_job_template"], "workflow") == [
        "workflow.workflow_nodes.identifier is missing",
        "workflow.workflow_nodes.unified_job_template has no kind",
    ]


def test_workflow_runs_what_was_planned_only_after_approval() -> None:
    nodes = {node["identifier"]: node for node in CALLS["workflow_job_template"]["workflow_nodes"]}
    following = {name: [one["identifier"] for one in node["related"]["success_nodes"]] for name, node in nodes.items()}
    assert following == {"plan": ["approval"], "approval": ["run"], "run": []}
    for node in nodes.values():
        assert not node["related"]["failure_nodes"] and not node["related"]["always_nodes"]
    assert nodes["approval"]["unified_job_template"]["type"] == "workflow_approval"
    for workflow in PLAY["vars"]["__ferry_awx_workflows"]:
        plan, run = templates()[workflow["plan"]], templates()[workflow["run"]]
        assert (plan["job_type"], run["job_type"]) == ("check", "run")
        assert plan["survey"]["spec"] == run["survey"]["spec"]


def test_schedule_answers_what_has_no_default() -> None:
    call = CALLS["schedule"]
    workflows = {one["name"]: one for one in PLAY["vars"]["__ferry_awx_workflows"]}
    survey = templates()[workflows[call["unified_job_template"]]["run"]]["survey"]["spec"]
    assert call["extra_data"].keys() == {one["variable"] for one in survey if "default" not in one}
    # AWX wants these three.
    assert re.fullmatch(
        r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=\w+;INTERVAL=\d+;.*", PLAY["vars"]["ferry_awx_schedule_rrule"]
    )


def test_readme_names_all_settings() -> None:
    text = (AWX / "README.md").read_text(encoding="utf-8")
    settings = set(re.findall(r"^\| `(ferry_awx_\w+)` \|", text, re.MULTILINE))
    used = set(re.findall(r"\b(ferry_awx_\w+)", (AWX / "configure.yml").read_text(encoding="utf-8")))
    assert settings == {name for name in used if not name.startswith("__")}
