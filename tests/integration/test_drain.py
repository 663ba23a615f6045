# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A host is emptied and comes home: by the playbooks, with what may go wrong meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from clients import RedisCounter, redis_count
from conftest import FLEET as HOSTS
from conftest import borrowed
from helpers import LAB, ROOT, SCRATCH, Box, Json, Node, inventory_of, run, wait_until

FACT = "/etc/ansible/facts.d/ferry.fact"
KEYS = "/root/.ssh/authorized_keys"


@dataclasses.dataclass
class Done:
    """A run of a playbook."""

    code: int
    output: str
    reports: list[Json]

    @property
    def report(self) -> Json:
        return self.reports[-1]

    @property
    def changed(self) -> int:
        return sum(map(int, re.findall(r"changed=(\d+)", self.output)))

    def outcomes(self) -> dict[str, str]:
        """Of the tests' own containers; the lab may be shared."""
        mine = (entry for entry in self.report["containers"] if entry["name"].startswith("it-"))
        return {entry["name"]: entry["outcome"] for entry in mine}


def running(node: Node) -> set[str]:
    return set(node.podman("ps", "--format", "{{.Names}}").split())


class Fleet:
    """Hosts of the lab, the first of which is emptied."""

    def __init__(self, nodes: list[Node], directory: pathlib.Path) -> None:
        self.inventory = inventory_of(directory.parent, nodes)
        self.nodes = {node.name: node for node in nodes}
        self.source, *self.others = nodes
        self.directory = directory
        self.was_killed = False  # Then keys stay until they expire.
        self.program = ROOT / ".venv/bin/ansible-playbook"
        self.environment = dict(os.environ)
        for node in nodes:
            node.sh(f"rm -rf {FACT} {FACT.replace('ferry', 'ferry_maintenance')} /var/lib/ferry")

    def command(self, name: str, *arguments: str, **variables: object) -> list[str]:
        given = {
            "host": self.source.name,
            "drain_report_directory": str(self.directory),
            "drain_destinations": ",".join(self.nodes),
            "drain_force": True,
            "drain_only": "it-*",
            **variables,
        }
        return [str(self.program), f"ferry.podman.{name}", "-i", self.inventory, "-e", json.dumps(given), *arguments]

    def playbook(self, name: str, *arguments: str, **variables: object) -> Done:
        for old in self.directory.glob("*"):
            old.unlink()
        done = subprocess.run(
            self.command(name, *arguments, **variables),
            cwd=ROOT,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=900,
        )
        return self.done(done.returncode, done.stdout + done.stderr)

    def done(self, code: int, output: str) -> Done:
        reports = [json.loads(path.read_text()) for path in sorted(self.directory.glob("*.json"))]
        return Done(code, output, reports)

    def drain(self, *arguments: str, **variables: object) -> Done:
        return self.playbook("drain", *arguments, **variables)

    def undrain(self, *arguments: str, **variables: object) -> Done:
        return self.playbook("undrain", *arguments, **variables)

    def begin(self, name: str, **variables: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(name, **variables), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def counters(self, number: int, *flags: str) -> list[Box]:
        return [self.source.start("counter", *flags) for _number in range(number)]

    def place(self, box: Box) -> Node:
        """The one host on which it runs."""
        (node,) = (node for node in self.nodes.values() if box.name in running(node))
        return node

    def there(self, box: Box) -> Box:
        return self.place(box).box(box.name, box.image, box.address)

    def noted(self, node: Node | None = None) -> Json:
        text = (node or self.source).sh(f"cat {FACT} 2>/dev/null || echo '{{}}'")
        return json.loads(text)

    def state(self, node: Node | None = None) -> str:
        return self.noted(node).get("drain", {}).get("state", "open")


@pytest.fixture
def fleet(lab: dict[str, Node], tmp_path: pathlib.Path) -> Iterator[Fleet]:
    with borrowed(lab, *HOSTS) as nodes:
        found = Fleet(nodes, tmp_path / "reports")
        keys = {node.name: node.sh(f"cat {KEYS}") for node in nodes}
        yield found
        left = {node.name for node in nodes if node.sh(f"cat {KEYS}") != keys[node.name]}
        for node in nodes:
            node.run("tee", KEYS, stdin=keys[node.name])
            node.sh(f"rm -f {FACT}")
        assert found.was_killed or not left, f"keys were left on {left}"


def test_drain_and_undrain(fleet: Fleet) -> None:
    source = fleet.source
    counters = fleet.counters(3)
    redis = source.start_on_lan("redis")
    database = source.start_on_lan("postgres", "--volume", f"data-{redis.name}:/var/lib/postgresql")
    database.sh("psql -c 'create table t as select generate_series(1, 1000) as n'")
    (stopped,) = fleet.counters(1, "--label", "ferry.evacuate=stop")
    (kept,) = fleet.counters(1, "--label", "ferry.evacuate=keep")
    (unmovable,) = fleet.counters(1, "--init")
    moving = [*counters, redis, database]
    client = RedisCounter(redis.address)
    client.start()

    # What would be done is shown, and it is what is done then.
    lives = {box.name: box.life for box in (*moving, stopped, kept, unmovable)}
    planned = fleet.drain("--check", drain_fallback="stop")
    assert planned.code == 0, planned.output
    assert {box.name: box.life for box in (*moving, stopped, kept, unmovable)} == lives
    assert fleet.state() == "open"
    drained = fleet.drain(drain_fallback="stop", drain_parallel=3, drain_reason="kernel", drain_by="kim")
    assert drained.code == 0, drained.output
    # What each host has free changes from moment to moment, and with it which of two equals is chosen.
    assert planned.report["check"] and to_move(planned) == to_move(drained) == {box.name for box in moving}

    outcomes = drained.outcomes()
    assert {outcomes[box.name] for box in moving} == {"moved"}
    assert (outcomes[stopped.name], outcomes[unmovable.name], outcomes[kept.name]) == ("stopped", "stopped", "kept")
    assert source.names() >= {stopped.name, kept.name, unmovable.name}
    assert not source.names() & {box.name for box in moving}
    assert len({fleet.place(box).name for box in moving}) == 2
    for box in counters:
        fleet.there(box).counts_on()
    kept.counts_on()
    assert fleet.there(database).sh("psql -At -c 'select count(*), sum(n) from t'").strip() == "1000|500500"
    noted = fleet.noted()
    assert (noted["drain"]["state"], noted["drain"]["by"], noted["drain"]["reason"]) == ("drained", "kim", "kernel")
    assert {entry["name"] for entry in noted["moved"]} == {box.name for box in moving}

    # A second drain has nothing to do, and no plan chooses the host.
    again = fleet.drain(drain_fallback="stop")
    assert again.code == 0 and again.changed == 0, again.output
    other = fleet.drain("--check", host=HOSTS[1], drain_destinations=f"{HOSTS[0]},{HOSTS[2]}")
    assert {entry["destination"] for entry in other.report["containers"] if entry["destination"]} <= {HOSTS[2]}

    home = fleet.undrain(drain_parallel=3)
    assert home.code == 0, home.output
    assert source.names() >= {box.name for box in moving}
    for box in counters:
        fleet.there(box).counts_on()
    assert {fleet.there(box).status for box in (*moving, stopped, kept)} == {"running"}
    assert fleet.noted() == {"moved": []}
    wait_until(lambda: client.count > 50, "the client to count")
    client.finish()
    assert client.error is None
    assert redis_count(redis.address) == client.count
    assert fleet.there(database).sh("psql -At -c 'select count(*), sum(n) from t'").strip() == "1000|500500"
    nothing = fleet.undrain()
    assert nothing.code == 0 and nothing.changed == 0, nothing.output


def to_move(done: Done) -> set[str]:
    return {entry["name"] for entry in done.report["containers"] if entry["destination"]}


def in_pod(node: Node, name: str) -> Box:
    node.podman("run", "--detach", "--pod", "it-pod", "--name", name, "localhost/lab/counter")
    return node.box(name)


def test_oldest_ansible_drains_too(fleet: Fleet) -> None:
    """Its templates know numbers and lists less well."""
    run(ROOT / "tests/bin/setup", "oldest", timeout=600)
    fleet.program = ROOT / ".build/venv-oldest/bin/ansible-playbook"
    (collections,) = ROOT.glob(".venv/lib/python3*/site-packages")
    fleet.environment["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    live, other = fleet.counters(2)
    (cold,) = fleet.counters(1, "--label", "ferry.evacuate=cold")
    (stopped,) = fleet.counters(1, "--label", "ferry.evacuate=stop")
    done = fleet.drain(drain_parallel="2", drain_max_failures="25%", drain_window_end="2099-01-01T00:00Z")
    assert done.code == 0, done.output
    assert fleet.place(live) is not fleet.source and fleet.state() == "drained"
    home = fleet.undrain()
    assert home.code == 0, home.output
    assert {box.name for box in (live, other, cold, stopped)} <= running(fleet.source)
    live.counts_on()
    assert fleet.noted() == {"moved": []}


def test_what_moves_cold_keeps_its_files_there_and_back(fleet: Fleet) -> None:
    source = fleet.source
    (alone,) = fleet.counters(1, "--label", "ferry.evacuate=cold", "--volume", "it-cold:/data")
    source.podman("pod", "create", "--name", "it-pod", "--label", "it=1")
    members = [in_pod(source, f"it-member-{number}") for number in range(2)]
    for number, box in enumerate((alone, *members)):
        box.sh(f"echo {number} >/only/kept; rm /only/f")
    alone.sh("echo v >/data/kept")

    def kept() -> list[str]:
        places = [fleet.there(box) for box in (alone, *members)]
        assert places[1].node is places[2].node and "it-pod" in places[1].node.podman(
            "pod", "ps", "--format", "{{.Name}}"
        )
        assert all(place.sh("[ ! -e /only/f ] && echo gone").strip() == "gone" for place in places)
        return [place.sh("cat /only/kept").strip() for place in places] + [places[0].sh("cat /data/kept").strip()]

    done = fleet.drain(drain_fallback="cold", drain_parallel=2)
    assert done.code == 0, done.output
    assert set(done.outcomes().values()) == {"cold"}
    assert fleet.place(alone) is not source and fleet.place(members[0]) is not source
    assert kept() == ["0", "1", "2", "v"]
    # How each left is noted.
    home = fleet.undrain()
    assert home.code == 0, home.output
    assert fleet.place(alone) is source and fleet.place(members[0]) is source
    assert kept() == ["0", "1", "2", "v"]
    for node in fleet.nodes.values():
        node.podman("pod", "rm", "--force", "--ignore", "--time", "0", "it-pod")


def test_what_is_in_the_way_keeps_all_where_it_is(fleet: Fleet) -> None:
    (free,) = fleet.counters(1)
    (blocked,) = fleet.counters(1, "--label", "ferry.evacuate=block")
    lives = {box.name: box.life for box in (free, blocked)}
    done = fleet.drain()
    assert done.code != 0
    assert f"{blocked.name}:" in done.output and "nothing was touched" in done.output
    assert {box.name: box.life for box in (free, blocked)} == lives
    assert fleet.state() == "open"
    done = fleet.drain(drain_blocked="leave")
    assert done.code == 0, done.output
    assert done.report["outcome"] == "partial"
    assert fleet.place(free) is not fleet.source and fleet.place(blocked) is fleet.source


def test_short_capacity_refuses_the_whole_plan(fleet: Fleet) -> None:
    box = fleet.source.start("keeper", command=("80",))
    life = box.life
    done = fleet.drain(drain_memory_headroom="500G")
    assert done.code != 0
    assert "Missing:" in done.output and "of memory on" in done.output
    assert box.life == life and fleet.state() == "open"


def test_one_move_fails_and_the_rest_stays(fleet: Fleet) -> None:
    boxes = fleet.counters(3)
    with_fault = fleet.drain(drain_hooks_before_move=str(hook(fleet.directory.parent)))
    assert with_fault.code != 0
    assert with_fault.report["failed"]
    outcomes = with_fault.outcomes()
    assert sorted(outcomes.values()) == ["failed", "moved", "skipped"], outcomes
    for box in boxes:
        fleet.there(box).counts_on()
    assert fleet.state() == "draining"
    (failed,) = (name for name, outcome in outcomes.items() if outcome == "failed")
    for node in fleet.others:
        node.podman("rm", "--ignore", failed)
    again = fleet.drain()
    assert again.code == 0, again.output
    for box in boxes:
        assert fleet.place(box) is not fleet.source
        fleet.there(box).counts_on()
    assert fleet.state() == "drained"


def hook(directory: pathlib.Path) -> pathlib.Path:
    """Before the second move the name of its container is taken on the destination."""
    path = directory / "hook.yml"
    task = {
        "name": "Take the name",
        "ansible.builtin.command": "podman create --name {{ drain_move.name }} localhost/lab/counter",
        "delegate_to": "{{ drain_move.destination }}",
        "when": "__drain_moved | length == 1",
        "changed_when": True,
    }
    path.write_text(json.dumps([task]))
    return path


def test_closed_window_begins_no_move(fleet: Fleet) -> None:
    boxes = fleet.counters(3)
    over = fleet.drain(drain_window_end=str(time.time() - 1))
    assert over.code != 0 and "The window was over" in over.output
    closing = fleet.drain(drain_deadline="1", drain_compare=False)
    assert closing.code != 0
    assert set(closing.outcomes().values()) == {"skipped"}
    assert "the time for it is over" in closing.output
    for box in boxes:
        assert fleet.place(box) is fleet.source
        box.counts_on()


def test_rollback_brings_all_back_and_opens_the_host(fleet: Fleet) -> None:
    boxes = fleet.counters(3)
    name = boxes[2].name
    for node in fleet.others:
        node.podman("create", "--name", name, "localhost/lab/counter")
    done = fleet.drain(drain_compare=False, drain_rollback=True, drain_policies={}, drain_destinations=HOSTS[1])
    # The name is in use there, which the plan sees before anything moves.
    assert done.code != 0 and "nothing was touched" in done.output
    done = fleet.drain(drain_rollback=True, drain_hooks_before=str(late(fleet.directory.parent, boxes[0].name)))
    assert done.code != 0
    for box in boxes:
        assert box.name in running(fleet.source)
        box.counts_on()
    assert fleet.state() == "open"


def test_rollback_brings_back_what_moved_cold_and_starts_what_stopped(fleet: Fleet) -> None:
    (alone,) = fleet.counters(1)
    (cold,) = fleet.counters(1, "--label", "ferry.evacuate=cold", "--volume", "it-back:/data")
    (stopped,) = fleet.counters(1, "--label", "ferry.evacuate=stop")
    cold.sh("echo v >/data/kept; echo f >/only/kept")
    hook = fleet.directory.parent / "fails.yml"
    hook.write_text(json.dumps([{"name": "Fail", "ansible.builtin.fail": {"msg": "the pager rang"}}]))
    done = fleet.drain(drain_rollback=True, drain_hooks_after=str(hook))
    assert done.code != 0 and "the pager rang" in done.output
    assert {alone.name, cold.name, stopped.name} <= running(fleet.source)
    assert done.outcomes() == {alone.name: "returned", cold.name: "returned", stopped.name: "started"}
    assert fleet.place(cold).box(cold.name).sh("cat /data/kept /only/kept").split() == ["v", "f"]
    alone.counts_on()
    assert fleet.state() == "open" and fleet.noted() == {"moved": []}
    for node in fleet.others:
        assert "it-back" not in node.volumes()


def late(directory: pathlib.Path, name: str) -> pathlib.Path:
    """The name is taken everywhere when the plan has been made."""
    path = directory / "late.yml"
    task = {
        "name": "Take the name",
        "ansible.builtin.command": f"podman create --replace --name {name} localhost/lab/counter",
        "delegate_to": "{{ item }}",
        "loop": list(HOSTS[1:]),
        "changed_when": True,
    }
    path.write_text(json.dumps([task]))
    return path


def kill_while_it_moves(fleet: Fleet) -> None:
    process = fleet.begin("drain", drain_parallel=1, drain_bandwidth="30M")
    wait_until(lambda: fleet.source.journal() in ("freeze", "transfer"), "a move to be on its way", 90)
    fleet.was_killed = True
    process.send_signal(signal.SIGKILL)
    process.communicate()
    fleet.source.sh("pkill -KILL -f '[A]nsiballZ_podman_evacuate' || :")
    wait_until(lambda: not fleet.source.sh("pgrep -f '[A]nsiballZ_podman_evacuate' || :").strip(), "the module's end")
    # What nobody could tidy up.
    fleet.source.sh("rm -rf /tmp/ferry-*")
    assert fleet.state() == "draining"


def test_killed_drain_goes_on(fleet: Fleet) -> None:
    boxes = fleet.counters(2)
    big = fleet.source.start_on_lan("keeper", command=("150",))
    memory = big.memory()
    kill_while_it_moves(fleet)
    done = wait_until(lambda: (found := fleet.drain()).code == 0 and found, "the drain to go on", 180)
    assert "cut off" in done.output
    assert fleet.state() == "drained"
    for box in boxes:
        assert fleet.place(box) is not fleet.source
        fleet.there(box).counts_on()
    memory.goes_on_in(fleet.there(big))


@pytest.mark.faults
def test_killed_drain_is_called_off(fleet: Fleet) -> None:
    """What was on its way comes home too."""
    boxes = fleet.counters(2)
    big = fleet.source.start_on_lan("keeper", command=("150",))
    memory = big.memory()
    kill_while_it_moves(fleet)
    done = wait_until(lambda: (found := fleet.undrain()).code == 0 and found, "the undrain", 180)
    assert "cut off" in done.output
    assert fleet.state() == "open"
    assert fleet.noted()["moved"] == []
    for box in [*boxes, big]:
        assert fleet.place(box) is fleet.source
    for box in boxes:
        box.counts_on()
    memory.goes_on_in(big)


@pytest.mark.faults
def test_undrain_waits_for_the_moves_of_a_killed_drain(fleet: Fleet) -> None:
    """The module outlives the connection, and makes its moves to the end."""
    boxes = fleet.counters(4)
    process = fleet.begin("drain", drain_parallel=1)
    wait_until(lambda: len(running(fleet.source)) <= 3, "the first to have moved", 90)
    fleet.was_killed = True
    process.send_signal(signal.SIGKILL)
    process.communicate()
    home = fleet.undrain()
    assert home.code == 0, home.output
    # What nobody could tidy up.
    fleet.source.sh("rm -rf /tmp/ferry-*")
    for box in boxes:
        assert fleet.place(box) is fleet.source
        box.counts_on()
    assert fleet.noted() == {"moved": []} and fleet.state() == "open"


@pytest.mark.faults
def test_notes_that_cannot_be_read_are_not_taken_for_none(fleet: Fleet) -> None:
    (moved,) = fleet.counters(1)
    (stopped,) = fleet.counters(1, "--label", "ferry.evacuate=stop")
    assert fleet.drain().code == 0
    whole = fleet.source.sh(f"cat {FACT}")
    fleet.source.sh(f"truncate --size 100 {FACT}")
    for playbook in (fleet.undrain, fleet.drain):
        refused = playbook()
        assert refused.code != 0 and "ferry.fact on" in refused.output and "cannot be read" in refused.output
    # Nor does another host's drain choose this one.
    other = fleet.drain("--check", host=HOSTS[1], drain_destinations=",".join(HOSTS))
    assert {entry["destination"] for entry in other.report["containers"]} <= {HOSTS[2], None}
    fleet.source.run("tee", FACT, stdin=whole)
    home = fleet.undrain()
    assert home.code == 0, home.output
    assert {moved.name, stopped.name} <= running(fleet.source)


def test_undrain_leaves_a_namesake_alone_and_starts_only_what_is_asked_for(fleet: Fleet) -> None:
    (cold,) = fleet.counters(1, "--label", "ferry.evacuate=cold")
    stopped, other = fleet.counters(2, "--label", "ferry.evacuate=stop")
    assert fleet.drain().code == 0
    there = fleet.place(cold)
    there.podman("rm", "--force", "--time", "0", cold.name)
    there.podman("run", "--detach", "--name", cold.name, "--label", "it=other", "localhost/lab/counter")
    part = fleet.undrain(undrain_only=stopped.name)
    assert part.code == 0, part.output
    assert running(fleet.source) & {stopped.name, other.name} == {stopped.name}
    home = fleet.undrain()
    assert home.code == 0 and f"not found now: {cold.name}" in home.output, home.output
    assert fleet.place(cold) is there
    assert {stopped.name, other.name} <= running(fleet.source)
    assert [record["name"] for record in fleet.noted()["moved"]] == [cold.name]


def test_destination_that_dies_loses_nothing(fleet: Fleet) -> None:
    boxes = fleet.counters(4)
    big = fleet.source.start_on_lan("keeper", command=("150",))
    memory = big.memory()
    process = fleet.begin("drain", drain_parallel=1, drain_bandwidth="30M", drain_prefer=HOSTS[2])
    wait_until(lambda: fleet.source.journal() == "transfer", "a move to be on its way", 90)
    run(LAB, "stop", HOSTS[2])
    fleet.was_killed = True
    try:
        output, _ = process.communicate(timeout=240)
        assert process.returncode != 0, output
        there = [*running(fleet.source), *running(fleet.others[0])]
        assert there.count(big.name) == 1
    finally:
        run(LAB, "start", HOSTS[2], timeout=120)
        fleet.nodes[HOSTS[2]].sh("rm -rf /var/tmp/restore*")
    memory.goes_on_in(fleet.there(big))
    for box in boxes:
        if fleet.place(box).name != HOSTS[2]:
            fleet.there(box).counts_on()


def test_rolling_maintenance_with_a_restart_of_each_host(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    boxes = fleet.counters(2)
    redis = fleet.source.start_on_lan("redis")
    elsewhere = fleet.others[0].start("counter")
    client = RedisCounter(redis.address)
    client.start()
    boots = {node.name: node.sh("stat -c %Y /proc/1") for node in fleet.nodes.values()}
    tasks = tmp_path / "reboot.yml"
    tasks.write_text(json.dumps(reboot()))
    done = fleet.playbook(
        "rolling_maintenance", host=",".join(HOSTS[:2]), task_file=str(tasks), rolling_maintenance_proof=True
    )
    assert done.code == 0, done.output
    for name in HOSTS[:2]:
        assert fleet.nodes[name].sh("stat -c %Y /proc/1") != boots[name]
        assert fleet.state(fleet.nodes[name]) == "open"
    assert fleet.nodes[HOSTS[2]].sh("stat -c %Y /proc/1") == boots[HOSTS[2]]
    for box in boxes:
        assert fleet.place(box) is fleet.source
        fleet.there(box).counts_on()
    assert fleet.place(elsewhere) is fleet.others[0]
    fleet.there(elsewhere).counts_on()
    client.finish()
    assert client.error is None
    assert redis_count(redis.address) == client.count


def reboot() -> list[Json]:
    return [
        {
            "name": "Restart the host",
            "ansible.builtin.command": f"{LAB} {{{{ item }}}} {{{{ inventory_hostname }}}}",
            "loop": ["stop", "start"],
            "delegate_to": "localhost",
            "become": False,
            "changed_when": True,
        }
    ]


def test_rolling_maintenance_stops_at_a_failure_and_goes_on(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    (box,) = fleet.counters(1)
    tasks = tmp_path / "tasks.yml"
    note = {"name": "Note", "ansible.builtin.shell": f"echo x >>{SCRATCH}/done", "changed_when": True}
    fail = {"name": "Fail", "ansible.builtin.fail": {"msg": "no"}, "when": f"inventory_hostname == '{HOSTS[1]}'"}
    tasks.write_text(json.dumps([note, fail]))
    done = fleet.playbook("rolling_maintenance", host=",".join(HOSTS), task_file=str(tasks))
    assert done.code != 0, done.output
    counts = [len(node.sh(f"cat {SCRATCH}/done 2>/dev/null || :").split()) for node in fleet.nodes.values()]
    assert counts == [1, 1, 0]
    assert fleet.state(fleet.others[0]) == "drained"
    assert fleet.place(box) is fleet.source
    fleet.there(box).counts_on()
    tasks.write_text(json.dumps([note]))
    done = fleet.playbook("rolling_maintenance", host=",".join(HOSTS), task_file=str(tasks))
    assert done.code == 0, done.output
    counts = [len(node.sh(f"cat {SCRATCH}/done 2>/dev/null || :").split()) for node in fleet.nodes.values()]
    assert counts == [1, 2, 1]
    fleet.there(box).counts_on()
    assert {fleet.state(node) for node in fleet.nodes.values()} == {"open"}
    assert f"Maintained: {HOSTS[1]}, {HOSTS[2]}. Done by a run before: {HOSTS[0]}." in done.output


def marks(path: pathlib.Path) -> pathlib.Path:
    """Tasks that leave a mark on the host."""
    path.write_text(json.dumps([{"name": "Mark", "ansible.builtin.command": f"touch {SCRATCH}/maintained"}]))
    return path


def maintained(fleet: Fleet) -> list[str]:
    return [name for name, node in fleet.nodes.items() if "maintained" in node.files(SCRATCH)]


def test_part_of_a_host_is_no_empty_host(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    asked, other = fleet.counters(2)
    misspelt = fleet.drain(drain_only=f"{asked.name}x")
    assert misspelt.code != 0 and "No container is called" in misspelt.output
    assert fleet.state() == "open"
    rolling = fleet.playbook(
        "rolling_maintenance", host=fleet.source.name, task_file=str(marks(tmp_path / "t.yml")), drain_only=asked.name
    )
    assert rolling.code != 0 and f"would not be empty: {other.name} run there" in rolling.output
    assert maintained(fleet) == []
    done = fleet.drain(drain_only=asked.name)
    assert done.code == 0, done.output
    assert "What was asked for has left" in done.report["msg"]
    assert fleet.state() == "draining"
    assert fleet.place(asked) is not fleet.source
    again = fleet.drain(drain_only=asked.name)
    assert again.code == 0 and again.changed == 0
    home = fleet.undrain(undrain_only=asked.name)
    assert home.code == 0 and fleet.place(asked) is fleet.source
    for box in (asked, other):
        box.counts_on()


def test_nothing_is_maintained_if_a_later_host_cannot_be_emptied(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    """Only a comparison of the hosts finds this one."""
    later = fleet.others[0]
    later.podman("run", "--detach", "--init", "--name", "it-unmovable", "localhost/lab/counter")
    done = fleet.playbook(
        "rolling_maintenance", host=",".join(HOSTS[:2]), task_file=str(marks(tmp_path / "t.yml")), drain_force=False
    )
    assert done.code != 0 and "it-unmovable" in done.output
    assert maintained(fleet) == []
    assert {fleet.state(node) for node in fleet.nodes.values()} == {"open"}


def test_hook_that_is_not_there_is_told_before_anything_is_marked(fleet: Fleet) -> None:
    (box,) = fleet.counters(1)
    done = fleet.drain(drain_hooks_before_move="nowhere.yml")
    assert done.code != 0 and "nowhere.yml for hooks on the controller" in done.output
    assert fleet.state() == "open"
    box.counts_on()
