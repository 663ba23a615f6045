# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Patterns are as their specification wants them, and ask for what the roles know.

The rules are those of pattern-schema-3.0.0.json and pattern-specification-dev.md in github.com/ansible/pattern-service,
and of awx/main/models/mixins.py in github.com/ansible/awx for surveys. ansible-lint no longer looks at patterns.
"""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
PATTERNS = ROOT / "extensions/patterns"
NAMES = sorted(path.name for path in PATTERNS.iterdir())
TYPES = {"text", "textarea", "password", "integer", "float", "multiplechoice", "multiselect"}
OF_PLAYBOOKS = {
    "drain": {"host"},
    "undrain": {"host"},
    "rolling_maintenance": {"host", "task_file", "hosts_at_once"},
}
"""Variables of the playbooks themselves."""

ROLES = {
    "drain": ("drain",),
    "undrain": ("drain", "undrain"),
    "rolling_maintenance": ("drain", "undrain", "rolling_maintenance"),
}

Json = dict[str, t.Any]


def loaded(path: str) -> t.Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def pattern(name: str) -> Json:
    return json.loads((PATTERNS / name / "meta/pattern.json").read_text(encoding="utf-8"))


def templates(name: str) -> list[Json]:
    return pattern(name)["aap_resources"]["controller_job_templates"]


def questions(name: str) -> dict[str, Json]:
    return {question["variable"]: question for question in templates(name)[0]["survey"]["spec"]}


def options(name: str) -> Json:
    """Of the roles that the playbook includes."""
    found: Json = {}
    for role in ROLES[name]:
        found.update(loaded(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"])
    return found


def defaults(name: str) -> Json:
    found: Json = {"hosts_at_once": 1}
    for role in ROLES[name]:
        found.update(loaded(f"roles/{role}/defaults/main.yml"))
    return found


def test_all_roles_for_operators_have_a_pattern() -> None:
    assert set(NAMES) == set(OF_PLAYBOOKS)


@pytest.mark.parametrize("name", NAMES)
def test_pattern_has_what_the_specification_wants(name: str) -> None:
    data = pattern(name)
    assert data["name"] == name and re.fullmatch(r"[a-z0-9_]{1,64}", name)
    assert data["schema_version"] == "3.0.0"
    assert 0 < len(data["title"]) <= 64
    assert data["description"].endswith(".") and not data["short_description"].endswith(".")
    assert data["tags"] == sorted(set(data["tags"]))
    resources = data["aap_resources"]
    assert resources["controller_project"].keys() == {"name", "description"}
    environment = resources["controller_execution_environment"]
    assert re.fullmatch(r"[a-z0-9._-]+/[a-z0-9._-]+", environment["image_name"])
    assert environment["pull"] in ("always", "missing", "never")
    assert (PATTERNS / name / "README.md").is_file()
    for template in resources["controller_job_templates"]:
        assert len(template["name"]) <= 200 and template["description"]
        assert template["execution_environment"] == environment["name"]
        assert set(template["labels"]) <= set(resources["controller_labels"])
        assert template["ask_inventory_on_launch"] and template["ask_credential_on_launch"]
        # The service that reads patterns posts the survey, and does not switch it on.
        assert template["survey_enabled"]


@pytest.mark.parametrize("name", NAMES)
def test_each_template_has_a_twin_that_only_shows_the_plan(name: str) -> None:
    run, check = templates(name)
    assert (run["job_type"], check["job_type"]) == ("run", "check")
    assert run["primary"] and "primary" not in check
    assert run["survey"]["spec"] == check["survey"]["spec"]


@pytest.mark.parametrize("name", NAMES)
def test_playbook_is_that_of_the_collection(name: str) -> None:
    for template in templates(name):
        assert template["playbook"] == f"{name}.yml"
    (play,) = loaded(f"extensions/patterns/{name}/playbooks/{name}.yml")
    assert play["ansible.builtin.import_playbook"] == f"ferry.podman.{name}"
    assert (ROOT / f"playbooks/{name}.yml").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_survey_is_one_that_awx_takes(name: str) -> None:
    for template in templates(name):
        survey = template["survey"]
        assert survey["name"] and survey["description"]
        variables = [question["variable"] for question in survey["spec"]]
        assert len(variables) == len(set(variables))
        for question in survey["spec"]:
            assert question["type"] in TYPES
            assert re.fullmatch(r"[a-z0-9_]{1,64}", question["variable"])
            assert isinstance(question["required"], bool)
            assert question["question_name"] and question["question_description"].endswith(".")
            # A pattern's default is text, and AWX ignores the default of a number that is text.
            assert question["type"] not in ("integer", "float")
            assert isinstance(question.get("default", ""), str)
            if question["type"] == "multiplechoice":
                assert question["default"] in question["choices"] and question["required"]
            # AWX takes an answer that is not there from the default; without one the variable is not set at all.
            assert ("default" in question) == (question["variable"] not in ("host", "task_file"))


@pytest.mark.parametrize("name", NAMES)
def test_survey_asks_for_variables_of_the_roles_and_offers_their_defaults(name: str) -> None:
    known, given = options(name), defaults(name)
    for variable, question in questions(name).items():
        if variable not in OF_PLAYBOOKS[name]:
            assert variable in known
            choices = known[variable].get("choices")
            if known[variable]["type"] == "bool":
                assert question["choices"] == ["false", "true"]
            elif choices is not None:
                assert question["choices"] == choices
        if "default" in question and question["default"]:
            assert question["default"] == str(given[variable]).replace("False", "false").replace("True", "true")
        elif variable in known:
            # What an empty answer means, the role means without one.
            assert variable == "drain_destinations" or not given[variable]


@pytest.mark.parametrize("name", NAMES)
def test_specification_of_the_play_is_the_survey(name: str) -> None:
    written = loaded(f"extensions/patterns/{name}/playbooks/{name}.meta.yml")["argument_specs"][name]["options"]
    asked, known = questions(name), options(name)
    assert list(written) == list(asked)
    for variable, option in written.items():
        question = asked[variable]
        assert option["description"] == question["question_description"]
        assert option["type"] == known.get(variable, {"type": "str"})["type"]
        assert option.get("required", False) == ("default" not in question)
        assert str(option.get("default", "")) == question.get("default", "")
        if option["type"] == "str":
            assert option.get("choices") == question.get("choices")


@pytest.mark.parametrize("name", NAMES)
def test_readme_names_all_questions_and_templates(name: str) -> None:
    text = (PATTERNS / name / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|`]+) \| `(\w+)` \|", text, re.MULTILINE)
    assert rows == [(question["question_name"], variable) for variable, question in questions(name).items()]
    for template in templates(name):
        assert f"`{template['name']}`" in text
