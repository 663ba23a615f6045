#!/usr/bin/python
# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: podman_migrate
short_description: Move a running Podman container to another host
version_added: 0.1.0
author: the ferry.podman contributors (@ferry-podman)
description:
  - Moves a running container, with its memory, files, volumes and name, from one libpod socket to another.
  - Where its address moves along (macvlan and ipvlan networks that both hosts share), open TCP connections go on.
  - The reasons against a move are found on both hosts beforehand and given at once; nothing is touched then.
  - Until the container runs on the destination, the source keeps it and its checkpoint. A move that fails ends with
    the container running on the source again, from the same memory. If the destination cannot be asked whether the
    container runs there, it is started nowhere, because two copies are worse than none, and the message says so.
  - Runs on the source, where it can read CRIU's logs. The role P(ferry.podman.migrate#role) prepares the connection.
options:
  name:
    description: Name or ID of the container on the source.
    type: str
    required: true
  destination:
    description:
      - The libpod socket of the host to move to, in the form of O(url), seen from the host that the module runs on.
    type: str
    required: true
  destination_identity:
    description:
      - Path of the private key for an ssh O(destination).
      - The key may be restricted to C(restrict,port-forwarding,command="nft -f -"). The command is the guard that
        keeps connections from being reset while they are restored.
    type: path
  destination_known_hosts:
    description: Path of a known_hosts file that must hold the destination's host key.
    type: path
  tcp:
    description:
      - What becomes of established TCP connections.
      - V(auto) is V(established) where the container's address moves along, and V(close) elsewhere if the destination
        has podman >= 5.7 with crun, else V(established).
      - V(established) restores them. Needs C(nft) on the destination if the container is on a macvlan or ipvlan
        network.
      - V(close) restores the container with its connections closed. Needs podman >= 5.7 and crun >= 1.23 on the
        destination.
      - With V(none), a container that has any cannot be moved.
    type: str
    choices: [auto, established, close, none]
    default: auto
  retries:
    description:
      - How many more times to try when the dump failed because a client was connecting at that very moment. The
        container runs on meanwhile.
    type: int
    default: 3
extends_documentation_fragment:
  - ferry.podman._connection
  - ferry.podman._attributes
  - ferry.podman._attributes.actiongroup_podman
attributes:
  check_mode:
    support: full
    details:
      - Both hosts are asked, and a move that would be refused is refused.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - The state is there already when a container of that name runs on the destination and the source has none.
notes:
  - While the container is frozen, the module ignores C(SIGTERM), C(SIGHUP) and C(SIGINT).
  - If the module is killed while the container is frozen, look on the destination whether it runs there. If it does
    not, M(ferry.podman.podman_restore) with O(ferry.podman.podman_restore#module:name),
    O(ferry.podman.podman_restore#module:tcp_established=true) and O(ferry.podman.podman_restore#module:file_locks=true)
    has it run on the source again.
  - Volumes that moved are removed from the source, unless another container uses them.
  - Logs move with the log drivers C(k8s-file) and C(json-file), and stay behind with C(journald).
seealso:
  - module: ferry.podman.podman_checkpoint
  - module: ferry.podman.podman_restore
"""

EXAMPLES = r"""
- name: Move a database with its connections
  ferry.podman.podman_migrate:
    name: db
    destination: ssh://root@node2/run/podman/podman.sock
    destination_identity: /root/.ssh/id_ed25519
"""

RETURN = r"""
container:
  description: The container where it runs now.
  returned: success
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always, sample: db}
    id: {description: Its full ID., type: str, returned: always}
    image: {description: Name of the image that it was made from., type: str, returned: always}
    image_id: {description: Full ID of that image., type: str, returned: always}
    statistics:
      description: As M(ferry.podman.podman_restore) returns them, times in microseconds.
      type: dict
      returned: when it was moved now
    runtime_restore_duration:
      description: Microseconds that the OCI runtime took to restore it.
      type: int
      returned: when it was moved now
location:
  description:
    - Where the container is, V(source), V(destination) or V(unknown).
  returned: always, unless both hosts could not be asked
  type: str
  sample: destination
downtime_ms:
  description: Milliseconds from the begin of the freeze until podman answered that the container runs again.
  returned: when it was moved now
  type: int
  sample: 1712
bytes:
  description: Bytes of the archive that went to the destination.
  returned: when it was moved now
  type: int
phases:
  description: Milliseconds of each phase.
  returned: when it was moved now
  type: dict
  sample: {"assess": 41, "commit": 212, "freeze": 702, "prepare": 9, "transfer_and_restore": 1010}
tcp:
  description: What O(tcp=auto) came to.
  returned: success, unless it had been moved before
  type: str
  sample: established
findings:
  description: Why it was refused, or what was found besides. See the table of findings in the documentation.
  returned: when there are any
  type: list
  elements: dict
  contains:
    code: {description: Stable name of the reason., type: str, sample: volume_exists}
    severity: {description: V(blocker) or V(warning)., type: str}
    message: {description: What was found., type: str}
    remedy: {description: What to do about it., type: str}
criu_log:
  description: The lines of CRIU's log that say why the dump or the restore failed.
  returned: when CRIU failed
  type: list
  elements: str
"""

import contextlib

from ansible_collections.ferry.podman.plugins.module_utils import _compat
from ansible_collections.ferry.podman.plugins.module_utils._assess import MoveRequest, Side
from ansible_collections.ferry.podman.plugins.module_utils._exclusive import exclusive
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._migration import Migration, arrived_before
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule


def migrate(module: FerryModule) -> None:
    params = module.params
    identity, known_hosts = params["destination_identity"], params["destination_known_hosts"]
    with module.client() as source, module.connect(params["destination"], identity, known_hosts) as destination:
        here = source.find_container(params["name"])
        with exclusive(source, here) if here is not None else contextlib.nullcontext():
            arrived = arrived_before(source, destination, params["name"])
            if arrived is None:
                move(module, source, destination)
            else:
                finish(module, source, destination, arrived)


def finish(module: FerryModule, source: LibpodClient, destination: LibpodClient, arrived: Container) -> None:
    """It runs on the destination already; what an interrupted run left on the source is removed."""
    remains = source.find_container(arrived.id)
    module.result["container"] = {
        "name": arrived.name,
        "id": arrived.id,
        "image": arrived.image,
        "image_id": arrived.image_id,
    }
    module.result["location"] = "destination"
    module.result["changed"] = remains is not None
    state = {"location": "destination"}
    module.show_difference({**state, "remains_on": "source"} if remains else state, state)
    if remains is not None and not module.check_mode:
        Migration(Side.of(source), Side.of(destination), remains, MoveRequest()).settle()


def move(module: FerryModule, source: LibpodClient, destination: LibpodClient) -> None:
    params = module.params
    module.result["location"] = "source"
    container = source.container(params["name"])
    migration = Migration(Side.of(source), Side.of(destination), container, request_of(params))
    findings = _compat.refuse_blockers(f"Moving container {container.name}", migration.assess())
    module.warn(findings)
    module.show_difference({"location": "source"}, {"location": "destination"})
    result: dict = {"container": migration.described(), "tcp": migration.tcp, "findings": []}
    if not module.check_mode:
        result = migration.run()
        module.warn_of(result["findings"])
        module.result["location"] = "destination"
    found = [finding.as_dict() for finding in findings]
    module.result.update(result, findings=found + result["findings"], changed=True)


def request_of(params: dict) -> MoveRequest:
    return MoveRequest(tcp=params["tcp"], retries=params["retries"])


def main() -> None:
    FerryModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "destination": {"type": "str", "required": True},
            "destination_identity": {"type": "path"},
            "destination_known_hosts": {"type": "path"},
            "tcp": {"type": "str", "choices": ["auto", "established", "close", "none"], "default": "auto"},
            "retries": {"type": "int", "default": 3},
        },
    ).run(migrate)


if __name__ == "__main__":
    main()
