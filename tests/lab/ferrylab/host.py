# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""Booting a host and cutting its power."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import cgroups, connections, guests, network, paths, plan, records
from .errors import LabError
from .records import Record
from .run import wait_until

BOOT_LIMIT = 120  # seconds; after the roots were built the disk may be busy with them
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A host's first process joins its groups before it makes its cgroup namespace: they are then that namespace's root.
JOIN = 'for group in $LAB_GROUPS; do echo $$ >"$group"; done; unset LAB_GROUPS; exec "$@"'

REGISTRY = {"LAB_REGISTRY_USER": plan.REGISTRY_USER, "LAB_REGISTRY_PASSWORD": plan.REGISTRY_PASSWORD}


def _environment(record: Record) -> dict[str, str]:
    host = record.host
    groups = [hierarchy.path / cgroups.TOP / host.name / "cgroup.procs" for hierarchy in cgroups.hierarchies()]
    return {
        **(REGISTRY if host.role == "registry" else {}),
        "PATH": PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "LAB_GROUPS": " ".join(str(group) for group in groups),
        "LAB_ROLE": host.role,
        "LAB_ADDRESS": f"{host.address}/{plan.PREFIX}",
        "LAB_MACHINE": plan.MACHINE_ADDRESS,
        "LAB_SUBNET": plan.SUBNET,
        "LAB_RANGE": host.automatic_range,
        "LAB_NETWORK": plan.NETWORK,
    }


def _spawn(record: Record) -> subprocess.Popen[bytes]:
    command = [
        "sh",
        "-c",
        JOIN,
        "join",
        "unshare",
        *NAMESPACES,
        "--fork",
        "--propagation",
        "private",
        "--",
        str(paths.FILES / "boot"),
        record.root,
        record.disk,
        record.host.name,
    ]
    with open(Path(record.disk) / "boot.log", "wb") as log:
        return subprocess.Popen(
            command,
            env=_environment(record),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def _first_process(parent: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    wait_until(
        "the first process of a host", 10, lambda: parent.poll() is not None or bool(children.read_text().strip())
    )
    pids = children.read_text().split() if parent.poll() is None else []
    if not pids:
        raise LabError(f"unshare ended with {parent.returncode} before a host had a process")
    return int(pids[0])


def _last_words(record: Record) -> str:
    for name in ("boot.log", "upper/var/log/ferry-lab.log", "upper/var/log/podman-service.log"):
        log = Path(record.disk) / name
        if log.exists() and log.stat().st_size:
            return f"The end of {log}:\n" + "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
    return f"it left no log below {record.disk}"


def await_ready(record: Record) -> None:
    """Wait until all services of a host answer."""
    if record.host.virtual:
        guests.await_ready(record)
        return
    ready = Path(f"/proc/{record.pid}/root/run/ferry-lab-ready")
    wait_until(f"{record.host.name} to boot", BOOT_LIMIT, lambda: ready.exists() or not record.alive())
    if not ready.exists():
        raise LabError(f"{record.host.name} died while it booted. {_last_words(record)}")


def start(record: Record, switch: int, hosts: list[plan.Host]) -> None:
    """Boot a host from its disk and wait until its services answer."""
    name = record.host.name
    stop(record)
    cgroups.create(name)
    if record.host.virtual:
        guests.start(record, switch, hosts)
        return
    parent = _spawn(record)
    record.pid = _first_process(parent)
    record.started = records.start_time(record.pid) or ""
    for pid in (parent.pid, record.pid):
        cgroups.join(name, pid, leaf=True)
    network.connect(record.host, switch, record.pid)
    records.save(record)
    write_hosts_file(Path(record.disk) / "upper", hosts)
    assert parent.stdin is not None
    with parent.stdin as channel:
        channel.write(b"go\n")
    await_ready(record)


def write_hosts_file(root: Path, hosts: list[plan.Host]) -> None:
    (root / "etc/hosts").write_text(plan.hosts_file(hosts))


def stop(record: Record) -> None:
    """Power loss: nothing of the host gets a word in, its disk stays as it is."""
    connections.close(record.host.address)
    cgroups.kill(record.host.name)
    cgroups.remove(record.host.name)
    record.pid, record.started = 0, ""
    records.save(record)
