# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Checkpoints as archives: everything that a container had comes out of them, on the same host and on another."""

from __future__ import annotations

import json

from helpers import SCRATCH, Box, Node, carry, wait_until

ARCHIVE = f"{SCRATCH}/a.tar.zst"
VOLUMES = ("/named", "/anonymous", "/image-volume")

CHANGE_FILES = """
    echo new > /only/f
    chown 33:33 /only/f
    chmod 640 /only/f
    chmod 700 /only/sub
    chown 33:34 /only/sub
    rm /only/g
    ln -sf /only/f /only/sub/h
    echo added > /etc/added
    chown 7:8 /etc/added
    mkdir -m 711 /only/made
    mkfifo /only/pipe
    echo "note:x:1000:1000::/:/bin/sh" >> /etc/passwd
    python3 -c 'import os; os.setxattr("/only/sub", "user.note", b"kept")'
    python3 -c 'import os; os.setxattr("/only/f", "user.note", b"kept")'
"""
"""No host has /only, every host has /etc/passwd: podman's own export leaves changed files of the first kind out."""

LIST_FILES = """
    stat -c '%n %F %a %u %g %N' /only /only/f /only/sub /only/sub/h /etc/added /only/made /only/pipe
    [ ! -e /only/g ] || echo /only/g is back
    cat /only/f /etc/added /etc/passwd
    python3 -c 'import os; print(os.getxattr("/only/f", "user.note"), os.getxattr("/only/sub", "user.note"))'
"""
CHANGE_VOLUMES = "".join(f"echo in{path} > {path}/file; chown 5:6 {path}/file; " for path in VOLUMES)
LIST_VOLUMES = "".join(f"stat -c '%n %u %g' {path}/file; cat {path}/file; " for path in VOLUMES)


def image_with_volume(host: Node) -> str:
    name = "localhost/it/volume:1"
    made = host.podman("create", "localhost/lab/keeper")
    host.podman("commit", "--quiet", "--change", f"VOLUME {VOLUMES[2]}", made, name)
    host.podman("rm", made)
    return name


def rich_container(host: Node) -> Box:
    """A keeper with a bit of everything."""
    flags = ["--volume", f"it-named:{VOLUMES[0]}", "--volume", VOLUMES[1], "--restart", "on-failure:7"]
    flags += ["--env", "FERRY=boat", "--label", "ferry.priority=3", "--hostname", "harbour"]
    box = host.start_on_lan("keeper", *flags, reference=image_with_volume(host))
    box.sh(f"echo shared > /dev/shm/message; {CHANGE_VOLUMES} {CHANGE_FILES}")
    return box


def content_of(box: Box) -> str:
    return box.sh(f"cat /dev/shm/message; {LIST_VOLUMES} {LIST_FILES}")


def settings_of(box: Box) -> dict[str, object]:
    """What users set on a container, and what they know it by."""
    raw = box.inspect()
    networks = raw["NetworkSettings"]["Networks"]
    return {
        "id": raw["Id"],
        "name": raw["Name"],
        "environment": sorted(raw["Config"]["Env"]),
        "labels": raw["Config"]["Labels"],
        "policy": raw["HostConfig"]["RestartPolicy"],
        "networks": {name: (one["IPAddress"], one["MacAddress"]) for name, one in networks.items()},
        "hostname": raw["Config"]["Hostname"],
        "volumes": sorted(mount["Name"] for mount in raw["Mounts"]),
        # CRIU makes a directory in /tmp for a moment when it restores.
        "changes": set(box.node.podman("diff", box.id).splitlines()) - {"C /tmp"},
    }


def config_in(host: Node, path: str) -> dict[str, object]:
    """The config.dump of an archive."""
    return json.loads(host.sh(f"tar -xOf {path} config.dump"))


def test_everything_is_kept(host: Node) -> None:
    box = rich_container(host)
    memory, settings, content = box.memory(), settings_of(box), content_of(box)
    assert "/only/f regular file 640 33 33" in content
    volumes = host.volumes()
    done = host.checkpoint(box.name, dest=ARCHIVE)
    assert (done.one["dest"], done.one["compression"], box.status) == (ARCHIVE, "zstd", "exited")
    box.remove()
    host.podman("volume", "rm", "it-named")
    assert not host.volumes() & volumes

    back = host.restore(src=ARCHIVE)
    assert (back.one["name"], back.one["id"]) == (box.name, box.id)
    memory.goes_on_in(box)
    assert settings_of(box) == settings
    assert content_of(box) == content
    assert host.volumes() == volumes
    assert host.files() == ["a.tar.zst"]


def test_everything_arrives_on_a_newer_host(pair: tuple[Node, Node]) -> None:
    source, destination = pair
    box = rich_container(source)
    source.podman("save", "--quiet", "--output", f"{SCRATCH}/image.tar", "localhost/it/volume:1")
    carry(f"{SCRATCH}/image.tar", source, destination)
    destination.podman("load", "--quiet", "--input", f"{SCRATCH}/image.tar")
    memory, settings, content = box.memory(), settings_of(box), content_of(box)
    source.checkpoint(box.name, dest=ARCHIVE)
    carry(ARCHIVE, source, destination)

    back = destination.restore(src=ARCHIVE)
    arrived = destination.box(back.one["name"], "keeper", box.address)
    memory.goes_on_in(arrived)
    assert settings_of(arrived) == settings
    assert content_of(arrived) == content


def test_compressions(host: Node) -> None:
    box = host.start_on_lan("keeper", command=("5",))
    sizes = {}
    for compress, options in {"gzip": {"compress_level": 1}, "none": {}, "zstd": {"compress_level": 19}}.items():
        path = f"{SCRATCH}/archive-{compress}"
        memory = box.memory()
        done = host.checkpoint(box.name, dest=path, compress=compress, **options)
        assert done.one["compression"] == compress
        # The digest and the size are the file's, which is for root alone.
        told = f"{path} {done.one['size']} 600 {done.one['digest'].removeprefix('sha256:')}"
        assert host.sh(f"stat -c '%n %s %a' {path} | tr '\\n' ' '; sha256sum <{path}").split()[:4] == told.split()
        sizes[compress] = done.one["size"]
        box.remove()
        host.restore(src=path)
        memory.goes_on_in(box)
    assert sizes["zstd"] < sizes["none"] and sizes["gzip"] < sizes["none"]


def test_directory_and_second_run(host: Node) -> None:
    first, second = host.start(), host.start("counter", "--rm")
    planned = host.checkpoint(first.name, second.name, dest=SCRATCH, compress="gzip", check=True, diff=True)
    assert [entry["dest"] for entry in planned.containers] == [
        f"{SCRATCH}/{box.name}.tar.gz" for box in (first, second)
    ]
    assert '+"status": "absent"' in planned.difference
    assert planned.changed and host.files() == []
    assert (first.status, second.status) == ("running", "running")

    done = host.checkpoint(first.name, second.name, dest=SCRATCH, compress="gzip", diff=True)
    assert done.difference == planned.difference
    assert sorted(host.files()) == sorted(f"{box.name}.tar.gz" for box in (first, second))
    assert host.names() & {first.name, second.name} == {first.name}, "--rm removes what a checkpoint has stopped"

    again = host.checkpoint(first.name, second.name, dest=SCRATCH, compress="gzip", diff=True)
    assert (again.changed, again.difference) == (False, set())
    assert [entry["digest"] for entry in again.containers] == [entry["digest"] for entry in done.containers]


def test_restore_is_idempotent_and_checked(host: Node) -> None:
    box = host.start()
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    planned = host.restore(src=ARCHIVE, check=True, diff=True)
    assert planned.changed and planned.one["id"] == box.id
    assert {'-"status": "absent"', '+"status": "running"'} <= planned.difference
    assert box.name not in host.names()
    assert host.restore(src=ARCHIVE).changed
    life = box.life
    for check in (False, True):
        again = host.restore(src=ARCHIVE, check=check, diff=True)
        assert (again.changed, again.one["id"], again.difference) == (False, box.id, set())
    assert box.life == life

    planned = host.restore(src=ARCHIVE, new_name=["it-new"], check=True)
    assert planned.changed and "it-new" not in host.names()
    assert host.restore(src=ARCHIVE, new_name=["it-new"]).changed
    assert not host.restore(src=ARCHIVE, new_name=["it-new"]).changed
    more = host.restore(src=ARCHIVE, new_name=["it-new", "it-newer"])
    assert [entry["changed"] for entry in more.containers] == [False, True]
    assert box.life == life


def test_clones_have_their_own_address_and_id(host: Node) -> None:
    box = host.start_on_lan("keeper", "--rm", command=("5",))
    memory = box.memory()
    host.checkpoint(box.name, dest=ARCHIVE)
    assert box.name not in host.names()
    names = ["it-one", "it-two", "it-three"]
    made = host.restore(src=ARCHIVE, new_name=names, ignore_static_ip=True)
    assert [entry["name"] for entry in made.containers] == names
    assert len({entry["id"] for entry in made.containers} | {box.id}) == 4
    host.restore(src=ARCHIVE)
    addresses = set()
    for name in [*names, box.name]:
        clone = host.box(name, "keeper")
        network = clone.inspect()["NetworkSettings"]["Networks"]["lan"]
        addresses.add((network["IPAddress"], network["MacAddress"]))
        clone.address = network["IPAddress"]
        memory.goes_on_in(clone)
    assert len(addresses) == 4


def test_address_is_kept_or_not(host: Node) -> None:
    """podman gives an address of its own choice again only to the container of the old name."""
    box = host.start(network="lan")
    network = box.inspect()["NetworkSettings"]["Networks"]["lan"]
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    host.restore(src=ARCHIVE)
    now = box.inspect()["NetworkSettings"]["Networks"]["lan"]
    assert (now["IPAddress"], now["MacAddress"]) == (network["IPAddress"], network["MacAddress"])
    box.remove()
    other = host.start(network="lan")
    assert other.inspect()["NetworkSettings"]["Networks"]["lan"]["MacAddress"] != network["MacAddress"]
    host.restore(src=ARCHIVE, ignore_static_ip=True, ignore_static_mac=True)
    now = box.inspect()["NetworkSettings"]["Networks"]["lan"]
    assert now["IPAddress"] != network["IPAddress"]
    assert now["MacAddress"] != network["MacAddress"]


def test_static_address_is_dropped_for_good(host: Node) -> None:
    mac = "02:00:00:00:00:77"
    box = host.start("counter", "--ip", (address := host.free_address()), "--mac-address", mac, network="lan")

    def now() -> tuple[str, str]:
        network = box.inspect()["NetworkSettings"]["Networks"]["lan"]
        return network["IPAddress"], network["MacAddress"]

    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    host.restore(src=ARCHIVE)
    assert now() == (address, mac)
    box.remove()
    host.restore(src=ARCHIVE, ignore_static_ip=True, ignore_static_mac=True)
    assert now()[0] != address and now()[1] != mac
    host.podman("restart", "--time", "0", box.id)
    assert now()[0] != address and now()[1] != mac


def test_without_root_filesystem(host: Node) -> None:
    box = host.start()
    box.sh("echo added > /added; rm /only/g; echo new > /only/f")
    host.checkpoint(box.name, dest=f"{SCRATCH}/full", leave_running=True)
    host.checkpoint(box.name, dest=f"{SCRATCH}/without", ignore_rootfs=True)
    files = "cat /only/f /only/g /added 2>/dev/null || true"
    host.restore(src=f"{SCRATCH}/full", new_name=["it-full"])
    assert host.box("it-full").sh(files).split() == ["new", "added"]
    host.restore(src=f"{SCRATCH}/full", new_name=["it-ignored"], ignore_rootfs=True)
    assert host.box("it-ignored").sh(files).split() == ["old", "old"]
    host.restore(src=f"{SCRATCH}/without", new_name=["it-without"])
    assert host.box("it-without").sh(files).split() == ["old", "old"]


def test_without_volumes(host: Node) -> None:
    box = host.start("counter", "--volume", "it-data:/data")
    box.sh("echo then > /data/file")
    host.checkpoint(box.name, dest=ARCHIVE, ignore_volumes=True)
    (archive,) = host.info(src=[ARCHIVE]).values["archives"]
    assert archive["volumes"] == []
    box.remove()
    flags = ("--rm", "--network", "none", "-v", "it-data:/data", "--entrypoint", "sh")
    host.podman("run", *flags, "localhost/lab/counter", "-c", "echo meanwhile > /data/file")
    host.restore(src=ARCHIVE, ignore_volumes=True)
    assert box.sh("cat /data/file") == "meanwhile"
    box.counts_on()


def test_restart_policy(host: Node) -> None:
    box = host.start_on_lan("keeper", "--restart", "always", command=("5",))
    memory = box.memory()
    host.checkpoint(box.name, dest=ARCHIVE)
    assert box.policy == "always:0", "the hold gave it back"
    assert box.status == "exited"
    config = config_in(host, ARCHIVE)
    assert (config["restart_policy"], config["name"]) == ("always", box.name)
    assert host.info(name=[box.name]).containers[0]["checkpointed"]
    box.remove()
    host.restore(src=ARCHIVE)
    assert box.policy == "always:0"
    memory.goes_on_in(box)
    # The policy is in force, not only written down.
    pid = box.state["Pid"]
    host.run("kill", "-9", str(pid))
    wait_until(lambda: box.state["Status"] == "running" and box.state["Pid"] != pid, "the restart", 10)


def test_ipc_of_the_host_and_private(host: Node) -> None:
    for mode in ("host", "private"):
        box = host.start("counter", "--rm", "--ipc", mode)
        host.checkpoint(box.name, dest=f"{SCRATCH}/{mode}")
        assert box.name not in host.names()
        host.restore(src=f"{SCRATCH}/{mode}")
        box.counts_on()
        assert box.inspect()["HostConfig"]["AutoRemove"]
        box.remove()


def test_publish_another_port(host: Node) -> None:
    box = host.start("nginx", "--publish", "18080:80", network="podman")
    page = wait_until(lambda: host.run("curl", "--silent", "http://127.0.0.1:18080", check=False), "nginx")
    assert page == "served by the lab's nginx\n"
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    host.restore(src=ARCHIVE, new_name=["it-web"], publish=["127.0.0.1:18081:80", "18082:80/tcp"])
    for port, expected in ((18080, ""), (18081, page), (18082, page)):
        assert host.run("curl", "--silent", f"http://127.0.0.1:{port}", check=False) == expected


def test_counter_goes_on_with_its_log(host: Node) -> None:
    box = host.start()
    wait_until(lambda: len(box.logged()) > 1, "two numbers")
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    host.restore(src=ARCHIVE)
    assert len(box.counts_on()) > 2


def test_statistics_are_in_the_archive(host: Node) -> None:
    box = host.start("keeper")
    done = host.checkpoint(box.name, dest=ARCHIVE, keep=True)
    assert "stats-dump" in host.sh(f"tar -tf {ARCHIVE}").split()
    statistics = done.one["statistics"]
    assert statistics["pages_written"] * 4096 > 10 << 20
    assert 0 < statistics["memwrite_time"] <= statistics["frozen_time"]
    (archive,) = host.info(src=[ARCHIVE]).values["archives"]
    assert archive["statistics"] == statistics
    assert {"dump.log", "stats-dump"} <= set(host.files(box.userdata))


def test_runc_archive(host: Node) -> None:
    """The API restores with the service's runtime, so another one's archive needs another service."""
    box = host.start("counter", "--runtime", "runc")
    host.checkpoint(box.name, dest=ARCHIVE)
    (archive,) = host.info(src=[ARCHIVE]).values["archives"]
    assert archive["runtime"] == "runc"
    box.remove()
    refused = host.module("podman_restore", src=ARCHIVE)
    assert refused.codes == ["runtime_differs"]
    assert "created with runtime runc and cannot be restored with runtime crun" in refused.msg
    assert box.name not in host.names()
    with host.other_service("--runtime", "runc") as url:
        host.restore(src=ARCHIVE, url=url)
    assert box.inspect()["OCIRuntime"] == "runc"
    box.counts_on()
