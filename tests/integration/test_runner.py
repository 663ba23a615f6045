# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""The playbooks as AWX runs them: by ansible-runner, with a survey's answers, and events and artifacts read back."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from conftest import ALIKE, borrowed
from helpers import ROOT, SCRATCH, Json, Node, inventory_of

PATTERNS = ROOT / "extensions/patterns"
FACTS = "/etc/ansible/facts.d"
USER = {"awx_user_name": "kim"}
"""What AWX adds to the answers."""


@dataclasses.dataclass
class Job:
    """What AWX would keep of a run."""

    status: str
    output: str
    events: list[Json]

    @property
    def stats(self) -> Json:
        (event,) = self.named("playbook_on_stats")
        return event["event_data"]

    @property
    def artifacts(self) -> Json:
        """What set_stats has set, which AWX hands to the next job of a workflow."""
        return self.stats["artifact_data"]

    def named(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["event"] == kind]

    def ok(self, task: str, action: str) -> Json:
        """The result of the one task of that name and module."""
        data = [event["event_data"] for event in self.named("runner_on_ok")]
        (found,) = (event for event in data if (event["task"], event["task_action"]) == (task, action))
        return found["res"]

    @property
    def failures(self) -> dict[str, str]:
        """By host, the last message of a failure that ended it."""
        return {
            event["event_data"]["host"]: event["event_data"]["res"]["msg"]
            for event in self.named("runner_on_failed")
            if not event["event_data"]["ignore_errors"]
        }


class Controller:
    """A project, an inventory, and jobs of them."""

    def __init__(self, directory: pathlib.Path, hosts: str) -> None:
        self.directory = directory
        self.project = directory / "project"
        self.project.mkdir()
        for name in ("checkpoint", "migrate", "prepare", "restore"):
            play = {"name": "Import it", "ansible.builtin.import_playbook": f"ferry.podman.{name}"}
            (self.project / f"{name}.yml").write_text(yaml.safe_dump([play]))
        for playbook in PATTERNS.glob("*/playbooks/*.yml"):
            shutil.copy(playbook, self.project)
        self.hosts = hosts
        self.number = 0

    def job(self, name: str, limit: str = "", check: bool = False, **variables: object) -> Job:
        """A job of a template of that pattern; all variables are what the survey or AWX gives."""
        self.number += 1
        private = self.directory / f"job{self.number}"
        for part in ("env", "inventory"):
            (private / part).mkdir(parents=True)
        shutil.copytree(self.project, private / "project")
        (private / "inventory/hosts").write_text(self.hosts)
        (private / "env/extravars").write_text(json.dumps({**USER, **variables}))
        command = [str(ROOT / ".venv/bin/ansible-runner"), "run", str(private), "--quiet", "--ident", "1"]
        command += ["--playbook", f"{name}.yml"]
        command += ["--limit", limit] if limit else []
        command += ["--cmdline=--check"] if check else []
        path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        subprocess.run(command, env={**os.environ, "PATH": path}, text=True, capture_output=True, timeout=600)
        found = private / "artifacts/1"
        events = [json.loads(path.read_text()) for path in (found / "job_events").glob("*.json")]
        events.sort(key=lambda event: event["counter"])
        return Job((found / "status").read_text(), (found / "stdout").read_text(), events)


def survey(name: str, **answers: str) -> dict[str, str]:
    """Answers, and for the other questions their defaults, as AWX adds them."""
    template = json.loads((PATTERNS / name / "meta/pattern.json").read_text())["aap_resources"][
        "controller_job_templates"
    ]
    questions = {question["variable"]: question for question in template[0]["survey"]["spec"]}
    assert answers.keys() <= questions.keys()
    for variable, answer in answers.items():
        assert answer in questions[variable].get("choices", [answer])
    given = {variable: question["default"] for variable, question in questions.items() if "default" in question}
    return {**given, **answers}


# -- on hosts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts(lab: dict[str, Node]) -> Iterator[list[Node]]:
    with borrowed(lab, *ALIKE) as nodes:
        for node in nodes:
            node.sh(f"rm -f {FACTS}/ferry*.fact")
            node.later("sh", "-c", f"rm -f {FACTS}/ferry*.fact")
        yield nodes


@pytest.fixture
def controller(hosts: list[Node], tmp_path: pathlib.Path) -> Controller:
    # The lab's hosts share a kernel and differ in nothing; what warns of that is no matter here.
    return Controller(tmp_path, pathlib.Path(inventory_of(tmp_path, hosts)).read_text() + "\ndrain_force=yes\n")


def report_of(job: Job, node: Node) -> Json:
    return job.artifacts["ferry_reports"][node.name][-1]


def test_plan_then_drain_then_undrain(hosts: list[Node], controller: Controller) -> None:
    source, destination = hosts
    moving = [source.start("counter") for _number in range(2)]
    stopping, kept = source.start("counter"), source.start("counter")
    lives = {box.name: box.life for box in (*moving, stopping, kept)}
    answers = survey(
        "drain",
        host=source.name,
        drain_reason="kernel",
        drain_destinations=f"{source.name}\n{destination.name}\n",
        drain_only="it-counter-*\n",
        drain_policies=f"{stopping.name}: stop\n{kept.name}: keep\n",
        drain_max_failures="25%",
        drain_rollback="true",
    )

    # The limit leaves the destination out, and it is found and asked all the same.
    plan = controller.job("drain", limit=source.name, check=True, **answers)
    assert plan.status == "successful", plan.output
    assert {box.name: box.life for box in (*moving, stopping, kept)} == lives
    assert not source.exists(f"{FACTS}/ferry.fact")
    planned = report_of(plan, source)
    assert planned["check"] and not planned["failed"]
    shown = {entry["name"]: entry["destination"] for entry in planned["containers"] if entry["destination"]}
    assert shown == {box.name: destination.name for box in moving}
    lines = plan.ok("Show the plan", "ansible.builtin.debug")["msg"]
    assert all(box.name in str(lines) for box in (*moving, stopping, kept))

    # A job of a workflow has the artifacts of the one before it as variables.
    drained = controller.job("drain", limit=source.name, **plan.artifacts, **answers)
    assert drained.status == "successful", drained.output
    for box in moving:
        assert box.name not in source.names()
        destination.box(box.name).counts_on()
    assert (stopping.status, kept.status) == ("exited", "running")
    kept.counts_on()
    report = report_of(drained, source)
    assert (report["outcome"], report["who"], report["reason"]) == ("done", "kim", "kernel")
    assert {entry["name"]: entry["outcome"] for entry in report["containers"]} == {
        **{box.name: "moved" for box in moving},
        stopping.name: "stopped",
        kept.name: "kept",
    }
    assert drained.stats["changed"].keys() == {source.name} and not drained.stats["failures"]
    assert drained.ok("Move the containers", "ferry.podman.podman_evacuate")["changed"]

    again = controller.job("drain", limit=source.name, **answers)
    assert again.status == "successful" and not again.stats["changed"], again.output

    home = survey("undrain", host=source.name, drain_destinations=destination.name, undrain_require_all="true")
    shown_home = controller.job("undrain", limit=source.name, check=True, **home)
    assert shown_home.status == "successful" and report_of(shown_home, source)["check"], shown_home.output
    back = controller.job("undrain", limit=source.name, **home)
    assert back.status == "successful", back.output
    assert report_of(back, source)["totals"]["moved"] == len(moving)
    for box in moving:
        source.box(box.name).counts_on()
    assert (stopping.status, kept.status) == ("running", "running")


def test_failed_drain_is_a_failed_job_with_a_report(hosts: list[Node], controller: Controller) -> None:
    source, destination = hosts
    box = source.start("counter", "--label", "ferry.evacuate=block")
    life = box.life
    job = controller.job("drain", limit=source.name, **survey("drain", host=source.name))
    assert job.status == "failed"
    assert box.name in job.failures[source.name] and "nothing was touched" in job.failures[source.name]
    assert report_of(job, source)["failed"] and job.stats["failures"] == {source.name: 1}
    assert box.life == life and not source.exists(f"{FACTS}/ferry.fact")


def test_rolling_maintenance(hosts: list[Node], controller: Controller) -> None:
    source, destination = hosts
    box = source.start("counter")
    tasks = controller.project / "tasks"
    tasks.mkdir()
    note = {
        "name": "Note it",
        "ansible.builtin.shell": f"podman ps --quiet >{SCRATCH}/maintained",
        "changed_when": True,
    }
    (tasks / "note.yml").write_text(json.dumps([note]))
    # A path in the project, which is where AWX runs playbooks.
    answers = survey(
        "rolling_maintenance", host=source.name, task_file="tasks/note.yml", drain_destinations=destination.name
    )
    plan = controller.job("rolling_maintenance", limit=source.name, check=True, **answers)
    assert plan.status == "successful", plan.output
    assert not source.exists(f"{SCRATCH}/maintained") and source.names() >= {box.name}
    job = controller.job("rolling_maintenance", limit=source.name, **answers)
    assert job.status == "successful", job.output
    # It was empty then.
    assert source.sh(f"cat {SCRATCH}/maintained") == ""
    source.box(box.name).counts_on()
    assert report_of(job, source)["operation"] == "undrain"


# -- answers that make no sense, where no host is needed -----------------------------------------------------------

NOWHERE = {"ansible_connection": "local", "ansible_become": "false"}

# For each wrong answer, what the message must say besides the variable and the answer.
WRONG = {
    "drain_parallel": ("two", "int"),
    "drain_parallel_per_destination": ("0", "from 1"),
    "drain_max_failures": ("some", "25%"),
    "drain_bandwidth": ("fast", "50M"),
    "drain_max_downtime": ("1 s", "seconds"),
    "drain_rollback": ("perhaps", "bool"),
    "drain_tcp": ("open", "established"),
    "drain_default_policy": ("move", "live, cold, stop, keep, block"),
    "drain_fallback": ("", "block, cold, stop"),
    "drain_blocked": ("ignore", "leave"),
    "drain_destinations": ("other\nnowhere", "not in it: nowhere"),
    "drain_window_end": ("tomorrow", "2026-11-21T23:00+01:00"),
    "drain_deadline": ("10m", "seconds"),
    "drain_timeout": ("10m", "int"),
    "drain_spread": ("never", "prefer"),
    "drain_policies": ("web: move", "live, cold, stop, keep or block"),
}


def nowhere(hosts: dict[str, dict[str, str]]) -> str:
    """An inventory, in which all values are text."""
    named = {name: variables or {} for name, variables in {**hosts, "other": {}}.items()}
    return yaml.safe_dump({"podman_hosts": {"hosts": named, "vars": NOWHERE}})


def role_on_all(controller: Controller, role: str) -> Job:
    play = {"name": "Run it", "hosts": "all", "gather_facts": False}
    play["tasks"] = [{"name": "Include it", "ansible.builtin.include_role": {"name": f"ferry.podman.{role}"}}]
    (controller.project / "role.yml").write_text(yaml.safe_dump([play]))
    return controller.job("role", limit="!other")


@pytest.mark.parametrize("role", ["drain", "undrain"])
def test_wrong_answer_gets_a_clear_error_before_anything_is_asked(role: str, tmp_path: pathlib.Path) -> None:
    wrong = {name.replace("_", "-"): {name: answer} for name, (answer, _word) in WRONG.items()}
    job = role_on_all(Controller(tmp_path, nowhere(wrong)), role)
    failures = job.failures
    for name, (answer, word) in WRONG.items():
        message = failures[name.replace("_", "-")]
        assert name in message and word in message, message
        assert all(part in message for part in answer.split()), message
    assert not [
        event
        for event in job.events
        if event["event_data"].get("task") == "Ask what the hosts have, and what is on them"
    ]


def test_undrain_validates_its_own_variables(tmp_path: pathlib.Path) -> None:
    job = role_on_all(Controller(tmp_path, nowhere({"one": {"undrain_require_all": "perhaps"}})), "undrain")
    assert "undrain_require_all" in job.failures["one"]


@pytest.mark.parametrize("policies", ["web", "- web: stop", "web: stop db: keep", "web: stop\ndb:"])
def test_policies_that_cannot_be_read_are_shown(policies: str, tmp_path: pathlib.Path) -> None:
    job = role_on_all(Controller(tmp_path, nowhere({"one": {"drain_policies": policies}})), "drain")
    assert job.failures["one"].startswith(f"drain_policies is '{policies}'. Give"), job.output


@pytest.mark.parametrize("name", ["drain", "undrain"])
def test_answers_that_were_left_empty_are_no_error(name: str, tmp_path: pathlib.Path) -> None:
    controller = Controller(tmp_path, nowhere({"one": {}}))
    job = controller.job(name, **survey(name, host="one"))
    # There is no podman, which is what it comes to.
    assert "one cannot be asked" in job.failures["one"]


@pytest.mark.parametrize(
    ("name", "limit", "answers", "message"),
    [
        ("drain", "", {}, "Give -e host=PATTERN"),
        ("drain", "one", {"host": ""}, "Give -e host=PATTERN"),
        ("drain", "one", {"host": "noe"}, "Found host=noe"),
        ("drain", "other", {"host": "one"}, "The limit other leaves out one."),
        ("undrain", "other", {"host": "one"}, "The limit other leaves out one."),
        ("undrain", "one", {"host": "noe"}, "Found host=noe"),
        ("checkpoint", "one", {"host": ""}, "Give -e host=PATTERN"),
        ("checkpoint", "other", {"host": "one"}, "The limit other leaves out one."),
        ("restore", "one", {"host": "noe"}, "Found host=noe"),
        ("restore", "other", {"host": "one"}, "The limit other leaves out one."),
        ("prepare", "one", {"hosts": "noe"}, "No host of the inventory matches noe."),
        ("migrate", "one", {"source": "one", "container": "x", "destination": "noe"}, "destination=noe"),
        (
            "migrate",
            "other",
            {"source": "one", "container": "x", "destination": "other"},
            "The limit other leaves out one.",
        ),
        ("rolling_maintenance", "one", {"host": "one"}, "task_file=(not set)"),
        ("rolling_maintenance", "one", {"host": "one", "task_file": "no.yml"}, "task_file=no.yml"),
        ("rolling_maintenance", "other", {"host": "one", "task_file": "drain.yml"}, "The limit other leaves out one."),
        *(
            (
                "rolling_maintenance",
                "",
                {"host": "one", "task_file": "drain.yml", "hosts_at_once": number},
                f"hosts_at_once is '{number}'",
            )
            for number in ("", "0", "all", "50%")
        ),
    ],
)
def test_host_that_is_not_there_or_limited_away_fails_the_job(
    name: str, limit: str, answers: dict[str, str], message: str, tmp_path: pathlib.Path
) -> None:
    job = Controller(tmp_path, nowhere({"one": {}})).job(name, limit=limit, **answers)
    assert job.status == "failed"
    assert any(message in found for found in job.failures.values()), job.output
