# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Volumes whose content goes before the freeze: all of it arrives as it was in the freeze, and nothing stays behind."""

from __future__ import annotations

import functools
import json
import time

import pytest
from faults import KILL, KILL_SERVICE_THERE, Cargo, Trigger, clean, ended, kill_sessions, remove_spools
from helpers import Box, Node, wait_until
from road import Road

REST = functools.partial(pytest.param, marks=pytest.mark.faults)
"""A case that only make faults runs."""

MEGABYTES = 40
LOOK = """
cd /data; find . | sort | while read -r path; do
    stat -c '%n %u:%g %a %F %h %Y' "$path"; [ ! -f "$path" ] || sha256sum "$path"
done
"""

BUSY = """
import hashlib, os, random, time
chance, known = random.Random(7), {}
def path(name):
    return "/data/" + name
def write(name, content):
    with open(path(name), "wb") as file:
        file.write(content)
    known[name] = hashlib.sha256(content).hexdigest()
for number in range(20):
    write(f"large{number}", os.urandom(2000000))
write("silent", b"%8d" % 0)
turn = 0
def change():
    action = turn % 5
    name = f"small{chance.randrange(200)}"
    if action == 0:
        write(name, b"%d" % turn)
    elif action == 1 and name in known:
        os.unlink(path(name))
        del known[name]
    elif action == 2 and name in known:
        new = f"moved{chance.randrange(200)}"
        os.rename(path(name), path(new))
        known[new] = known.pop(name)
    elif action == 3 and turn % 50 == 3:
        name = f"large{turn // 50 % 20}"
        with open(path(name), "r+b") as file:
            file.seek(1000000)
            file.write(b"%20d" % turn)
            file.seek(0)
            known[name] = hashlib.sha256(file.read()).hexdigest()
    elif action == 4:
        with open(path("silent"), "r+b") as file:
            file.write(b"%8d" % turn)
        os.utime(path("silent"), (1, 1))
        known["silent"] = hashlib.sha256(b"%8d" % turn).hexdigest()
def verdict():
    found = {name: hashlib.sha256(open(path(name), "rb").read()).hexdigest() for name in known}
    wrong = [name for name in known if found[name] != known[name]]
    there = set(os.listdir("/data"))
    return f"wrong {sorted(wrong)} more {sorted(there - set(known))} less {sorted(set(known) - there)} after {turn}"
while True:
    change()
    turn += 1
    if os.path.exists("/ask"):
        os.unlink("/ask")
        with open("/answer.new", "w") as file:
            file.write(verdict())
        os.rename("/answer.new", "/answer")
    time.sleep(0.002)
"""
"""Writes to its volume all the time, in every way, one of them without a trace but the content; and knows it all."""


def asked(box: Box) -> str:
    box.sh("rm -f /answer; touch /ask")
    return wait_until(lambda: box.sh("cat /answer 2>/dev/null || :"), "the verdict of the process", 60)


def is_right(box: Box, later_than: int = 0) -> int:
    """What the process knows is what is in its volume; its number of changes."""
    verdict = asked(box)
    rest, _space, turn = verdict.rpartition(" ")
    assert rest == "wrong [] more [] less [] after", verdict
    assert int(turn) > later_than
    return int(turn)


def busy(node: Node) -> Box:
    volume = f"it-busy-{node.name}-{time.monotonic_ns()}"
    box = node.start("keeper", "-v", f"{volume}:/data", "--entrypoint", "/usr/bin/python3", command=("-c", BUSY))
    wait_until(lambda: box.sh("[ ! -e /data/small1 ] || echo there"), "the process to write")
    return box


@pytest.fixture
def tidy(road: Road) -> Road:
    for node in (road.source, road.destination):
        node.later("sh", "-c", "rm -rf /var/lib/ferry; podman rm --force --time 0 $(podman ps -aq -f name=ferry-) || :")
    return road


@pytest.mark.parametrize("transfer", ["stream", "thin"])
def test_what_is_written_meanwhile_arrives(tidy: Road, transfer: str) -> None:
    box = busy(tidy.source)
    before = is_right(box)
    result = tidy.move(box, transfer=transfer)
    assert result.changed, result.msg
    there = tidy.arrived(box)
    is_right(there, before)
    first, again = result.values["precopy_volumes"]
    assert first > MEGABYTES * 1_000_000 > again > 0
    clean(tidy, box)
    assert not {name for name in tidy.source.volumes() if name.startswith("it-busy")}


FURNISH = f"""
head -c {MEGABYTES}000000 /dev/urandom >/data/large; mkdir -p /data/deep/er; echo x >/data/deep/er/f
chown 77:88 /data/deep/er/f; chmod 4711 /data/deep/er/f; ln /data/deep/er/f /data/hard; ln -s large /data/soft
mkfifo /data/pipe; chown 5:6 /data/deep; chmod 1750 /data/deep; chown 123:456 /data; chmod 2750 /data
echo unnamed >/unnamed/f; chmod 700 /unnamed; chown 9:8 /empty; touch -d 2001-02-03 /data/deep/er /data
"""


def test_volumes_are_as_they_were(tidy: Road) -> None:
    """With owners, modes, times, links, attributes and labels, whoever has made them; there and back."""
    volume = f"it-kept-{tidy.source.name}"
    tidy.source.podman("volume", "create", "--label", "kept=yes", volume)
    mounts = ("-v", f"{volume}:/data", "-v", "/unnamed", "-v", f"{volume}-empty:/empty")
    box = tidy.source.start("counter", *mounts)
    box.sh(FURNISH)
    inside = tidy.source.podman("volume", "inspect", "--format", "{{.Mountpoint}}", volume)
    code = "import os, sys; os.setxattr(sys.argv[1], 'user.ferry', b'kept')"
    tidy.source.run("python3", "-c", code, f"{inside}/large")
    looks = f"{LOOK}stat -c '%u:%g %a' /data /unnamed /empty; cat /unnamed/f"
    before = box.sh(looks)
    result = tidy.move(box)
    assert result.changed and result.values["precopy_volumes"][1] == 0, result.msg
    there = tidy.arrived(box)
    assert there.sh(looks) == before
    names = [mount["Name"] for mount in there.inspect()["Mounts"]]
    facts = json.loads(tidy.destination.podman("volume", "inspect", *names))
    told = {fact["Name"]: (fact.get("Labels") or {}, fact.get("Anonymous", False)) for fact in facts}
    assert told.pop(volume) == ({"kept": "yes"}, False)
    assert told.pop(f"{volume}-empty") == ({}, False)
    assert list(told.values()) == [({}, True)]
    clean(tidy, box)
    place = next(fact["Mountpoint"] for fact in facts if fact["Name"] == volume)
    code = "import os, sys; print(os.getxattr(sys.argv[1], 'user.ferry').decode())"
    assert tidy.destination.run("python3", "-c", code, f"{place}/large").strip() == "kept"
    there.counts_on()


@pytest.mark.parametrize("choice", ["never", "key", "small"])
def test_volumes_go_in_the_archive_where_they_cannot_go_before(tidy: Road, choice: str) -> None:
    box = tidy.source.start("counter", "-v", f"it-plain-{tidy.source.name}:/data")
    box.sh(f"head -c {2 if choice == 'small' else MEGABYTES}000000 /dev/urandom >/data/large")
    before = box.sh("sha256sum /data/*")
    if choice == "key":
        tidy.without_receiver()
    result = tidy.move(box, precopy="never" if choice == "never" else "auto", transfer="stream")
    assert result.changed and result.values["precopy_volumes"] == [], result.msg
    assert tidy.arrived(box).sh("sha256sum /data/*") == before
    clean(tidy, box)


@pytest.mark.parametrize(
    ("phase", "delay"), [("precopy", 0.3), REST("freeze", 0.0), REST("freeze", 0.4), REST("restore", 0.1)]
)
def test_module_killed(tidy: Road, phase: str, delay: float) -> None:
    box = busy(tidy.source)
    before = is_right(box)
    trigger = Trigger(box, phase, delay, action=KILL)
    process = tidy.begin(box)
    trigger.happened()
    ended(process)
    result = tidy.move(box)
    assert result.changed, result.msg
    is_right(tidy.arrived(box), before)
    clean(tidy, box, spools=False)
    assert not {name for name in tidy.source.volumes() if name.startswith("it-busy")}


@pytest.mark.parametrize("phase", [REST("precopy"), "transfer", REST("restore")])
def test_destination_service_killed(tidy: Road, phase: str) -> None:
    """The container goes on somewhere with what it has written; and where it is not, nothing of it is."""
    box = busy(tidy.source)
    before = is_right(box)
    trigger = Trigger(box, phase, 0.1, elsewhere=(tidy.destination, KILL_SERVICE_THERE))
    process = tidy.begin(box)
    trigger.happened()
    result = ended(process)
    tidy.destination.service("start")
    remove_spools(tidy.destination)
    assert result is not None
    if result.failed:
        again = tidy.move(box)
        assert again.changed, again.msg
    is_right(tidy.arrived(box), before)
    clean(tidy, box, spools=False)


def test_link_that_drops_while_volumes_go_over(tidy: Road) -> None:
    """They go in the archive then, or the container has not been frozen; nothing of them is left in between."""
    box = busy(tidy.source)
    before = is_right(box)
    trigger = Trigger(box, "precopy", 0.5, elsewhere=(tidy.destination, kill_sessions(tidy.source)))
    options = {**tidy._options(box.name), "bandwidth": "20M", "timeout": 25}
    process = tidy.source.start_module("podman_migrate", **options)
    trigger.happened()
    result = ended(process)
    assert result is not None
    if result.failed:
        assert result.values["location"] == "source", result.msg
        is_right(box, before)
        result = tidy.move(box)
    assert result.changed, result.msg
    is_right(tidy.arrived(box), before)
    clean(tidy, box, spools=False)


def test_next_run_for_another_destination_tells_what_the_first_one_has(tidy: Road) -> None:
    """Another path of the same socket is another destination, as far as can be told."""
    box = busy(tidy.source)
    trigger = Trigger(box, "precopy", 0.3, action=KILL)
    process = tidy.begin(box)
    trigger.happened()
    ended(process)
    another = f"ssh://root@{tidy.destination.address}/run/podman/../podman/podman.sock"
    result = tidy.move(box, destination=another)
    assert result.failed and "volume_exists" in result.codes, result.msg
    held = f"ferry-fill-{box.id[:12]}"
    assert held in result.output + result.stderr
    tidy.destination.podman("rm", held)
    tidy.destination.podman("volume", "rm", *(name for name in tidy.destination.volumes() if "it-busy" in name))
    result = tidy.move(box, destination=another)
    assert result.changed, result.msg
    is_right(tidy.arrived(box))


def test_nothing_is_lost_where_the_destination_is_pruned(tidy: Road) -> None:
    """Nothing changes in the volume, so nothing of it goes in the freeze, and podman would make an empty one."""
    box = tidy.source.start_on_lan("keeper", "-v", f"it-plain-{tidy.source.name}:/data", command=("200",))
    box.sh(f"head -c {MEGABYTES}000000 /dev/urandom >/data/large")
    before = box.sh("sha256sum /data/large")
    prune = "podman container prune --force; podman volume prune --force --all"
    trigger = Trigger(box, "freeze", 0.0, elsewhere=(tidy.destination, prune))
    process = tidy.begin(box)
    trigger.happened()
    result = ended(process)
    assert result is not None and result.failed and result.values["location"] == "source", result
    assert "may have lost" in result.msg and "runs again from the same memory" in result.msg
    assert box.sh("sha256sum /data/large") == before
    clean(tidy, box)
    again = tidy.move(box)
    assert again.changed, again.msg
    assert tidy.arrived(box).sh("sha256sum /data/large") == before


def test_restore_that_fails_leaves_no_volume_there(road_back: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cargo, "rows", MEGABYTES * 1_000_000)
    cargo = Cargo(road_back.source)
    result = road_back.move(cargo.box, force=True)
    assert result.failed and result.values["location"] == "source", result.msg
    assert any("mountpoint" in line for line in result.values["criu_log"])
    cargo.is_whole_in(cargo.box)
    assert cargo.volume not in road_back.destination.volumes()
    clean(road_back, cargo.box)
