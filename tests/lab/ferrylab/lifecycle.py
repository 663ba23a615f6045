# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""lab up and lab down: from what there is to what was asked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from . import (
    build,
    cgroups,
    connections,
    disk,
    host,
    inventory,
    network,
    paths,
    plan,
    records,
    roots,
    shim,
    stores,
    tls,
)
from .plan import Host
from .records import Record
from .run import say


def _wanted_record(wanted: Host) -> Record:
    store = str(stores.store_of(wanted.flavour)) if wanted.role == "node" else ""
    return Record(wanted, str(roots.root_of(wanted.flavour)), store, str(paths.disk(wanted.name)))


def _made_from(record: Record) -> tuple[object, ...]:
    return (record.host, record.root, record.store, record.disk)


def _in_parallel(work: Callable[[Record], None], found: Iterable[Record]) -> None:
    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(work, record) for record in found]:
            job.result()


def _remove(record: Record) -> None:
    say(f"removing {record.host.name} ({record.host.flavour})")
    host.stop(record)
    roots.discard(Path(record.disk))
    records.forget(record.host.name)


def _create(record: Record) -> None:
    say(f"making {record.host.name} ({record.host.flavour}, {record.host.address})")
    # Whatever an interrupted run left under this name goes first.
    cgroups.kill(record.host.name)
    cgroups.remove(record.host.name)
    disk.create(record.host, Path(record.store), Path(record.disk))
    records.save(record)


def _boot(record: Record, switch: int, hosts: list[Host]) -> None:
    start = time.monotonic()
    host.start(record, switch, hosts)
    say(f"{record.host.name} is up after {time.monotonic() - start:.1f} s")


def _outdated(record: Record, targets: dict[str, Record]) -> bool:
    """Whether a host is not asked for, or not like this, or has lost its disk."""
    target = targets.get(record.host.name)
    return target is None or _made_from(record) != _made_from(target) or not Path(record.disk).is_dir()


def _segment() -> int:
    """The switch's process; the switch is made where it is missing."""
    switch = network.switch_pid()
    if switch is not None:
        return switch
    say(f"making the segment {plan.SUBNET}; this machine is {plan.MACHINE_ADDRESS} on it")
    for record in records.load_all():
        host.stop(record)  # its cable led to the old switch
    return network.start_switch()


def up(count: int, flavour: str) -> None:
    hosts = plan.hosts_for(count, flavour)
    targets = {one.name: _wanted_record(one) for one in hosts}
    build.prepare({one.flavour for one in hosts})
    _in_parallel(_remove, [record for record in records.load_all() if _outdated(record, targets)])
    disk.make_lab_key()
    tls.make()
    switch = _segment()
    kept = {record.host.name: record for record in records.load_all()}
    _bring_up([kept.get(name, record) for name, record in targets.items()], set(kept), switch, hosts)
    build.prune()


def _bring_up(targets: list[Record], kept: set[str], switch: int, hosts: list[Host]) -> None:
    running = [record for record in targets if record.alive()]
    for record in running:
        host.await_ready(record)  # a lab up that was cut off may have left it booting
        if record.host.virtual:
            continue
        host.write_hosts_file(Path(f"/proc/{record.pid}/root"), hosts)
    if shim.needed():
        shim.build()  # once, before several hosts want it
    _in_parallel(_create, [record for record in targets if record.host.name not in kept])
    inventory.write(targets)
    _in_parallel(lambda record: _boot(record, switch, hosts), [record for record in targets if not record.alive()])


def down() -> None:
    """Everything goes but the cache."""
    connections.close("*")
    for record in records.load_all():
        say(f"stopping {record.host.name}")
    cgroups.kill()
    network.stop_switch()
    cgroups.remove()
    for record in records.load_all():
        roots.discard(Path(record.disk))
    roots.discard(paths.disks())
    roots.discard(paths.RUN)


def start(name: str) -> None:
    record = records.load(name)
    if record.alive():
        say(f"{name} is running already")
        return
    _boot(record, _segment(), [other.host for other in records.load_all()])
