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
  - A move that was cut off, because the module was killed or its host went down, is finished or undone by the next run
    of the same move, which reads O(journal). One that was undone is then made anew in the same run.
  - Runs on the source, where it can read CRIU's logs. The role P(ferry.podman.migrate#role) prepares the connection.
options:
  name:
    description:
      - Name or ID of the container on the source. It must run there, or a move of it must have been begun.
    type: str
    required: true
  destination:
    description:
      - The libpod socket of the host to move to, in the form of O(url), seen from the host that the module runs on.
    type: str
    required: true
  method:
    description:
      - V(live) moves it with its memory and open connections, by CRIU.
      - V(cold) stops it, carries over the files that it has changed and its volumes, makes the same container on the
        destination from its own definition, and starts it there. For containers that CRIU cannot do. The new container
        has another ID. What O(tcp), O(compress) and O(retries) say does not matter then, and O(transfer) must be
        V(auto) or V(stream).
      - Before the stop the container is made on the destination once without its data and compared. A difference
        refuses the move.
      - A container that does not run moves too, and is not started.
    type: str
    choices: [live, cold]
    default: live
  destination_identity:
    description:
      - Path of the private key for an ssh O(destination).
      - The key may be restricted to C(restrict,port-forwarding) and a forced command, as the role
        P(ferry.podman.migrate#role) does it.
    type: path
  destination_known_hosts:
    description: Path of a known_hosts file that must hold the host keys of the destination and of the jump host.
    type: path
  destination_jump:
    description:
      - A host that ssh goes through to reach the destination, as C(user@host[:port]). The same key must be accepted
        there, and may be restricted to C(restrict,port-forwarding,permitopen="DESTINATION:22").
    type: str
extends_documentation_fragment:
  - ferry.podman._move
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
  - Works with podman >= 4.4 on both hosts. What needs a newer one says so.
  - From the hold to the commit the module ignores C(SIGTERM), C(SIGHUP) and C(SIGINT), because the container is whole
    nowhere in between.
  - After a C(SIGKILL), a power failure or a lost connection, run the same move again. RV(interrupted_phase) tells then
    where the earlier run was. See the runbook in the documentation for the few cases that it leaves to a person.
  - The key of an ssh O(destination) needs to forward a unix socket, and to run four commands. They are C(nft -f -),
    the guard that keeps connections from being reset; the probe, one line of C(sh) that only reads (C(PROBE) in
    C(plugins/module_utils/_host.py)); one line of C(sh) that receives memory (C(RECEIVE) in
    C(plugins/module_utils/_receive.py)); and C(crun delete --force ID) or C(runc delete --force ID), for a container
    that podman has lost. Without the probe the destination's processor, CRIU, space and ports are not compared
    (C(host_unknown)), and without either no move is V(thin). The forced command of the role
    P(ferry.podman.migrate#role) allows these and nothing else.
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

- name: Move it only if clients wait for less than five seconds, and leave half of a gigabit link to others
  ferry.podman.podman_migrate:
    name: db
    destination: ssh://root@node2/run/podman/podman.sock
    max_downtime: 5
    bandwidth: 60M

- name: Move it to another port, and make its networks there
  ferry.podman.podman_migrate:
    name: web
    destination: ssh://root@node2/run/podman/podman.sock
    networks: create
    publish: ["8080:80"]

- name: Move one that CRIU cannot freeze
  ferry.podman.podman_migrate:
    name: legacy
    destination: ssh://root@node2/run/podman/podman.sock
    method: cold

- name: Move between two hosts that do not reach each other, from a machine that reaches both
  ferry.podman.podman_migrate:
    name: web
    url: ssh://root@node1/run/podman/podman.sock
    destination: ssh://root@node2/run/podman/podman.sock
    transfer: relay
    journal: /home/me/.local/state/ferry
  delegate_to: localhost
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
    - Where the container is, V(source), V(destination) or V(unknown). With V(unknown) it was started nowhere by this
      run. What to do then is in the runbook in the documentation.
  returned: always, unless the hosts could not be asked, or an earlier run is told of in check mode
  type: str
  sample: destination
interrupted_phase:
  description:
    - The phase in which an earlier run of this move was cut off, one of those in RV(phases) from V(prepare) on. This
      run has finished or undone that move, or says why it cannot.
  returned: when an earlier run was cut off
  type: str
  sample: transfer
estimate:
  description:
    - What the move will carry, in bytes, and for how long the container will stand still. An estimate, not a promise.
      The processes write on until they are frozen, and slower disks take longer.
  returned: when the hosts could be compared and it had not been moved before, also when it is refused and in check mode
  type: dict
  contains:
    memory:
      description:
        - Anonymous and shared memory of its processes, which CRIU writes. Where the module does not run on the source,
          what they have in memory, pages of files included.
      type: int
      returned: always
    files: {description: Files that the container has made or changed., type: int, returned: always}
    volumes: {description: Files in its volumes., type: int, returned: always}
    archive: {description: All that goes from one host to the other., type: int, returned: always}
    downtime_ms: {description: Milliseconds from the freeze until it runs again., type: int, returned: always}
  sample: {"archive": 3127296, "downtime_ms": 381, "files": 12640, "memory": 3014656, "volumes": 0}
downtime_ms:
  description: Milliseconds from the begin of the freeze until podman answered that the container runs again.
  returned: when it was moved now
  type: int
  sample: 407
bytes:
  description: Bytes of the container's state that went to the destination, as they were sent.
  returned: when it was moved now
  type: int
  sample: 3132416
phases:
  description:
    - Milliseconds that each phase took.
    - In check mode a list with the names of those that the move would go through.
  returned: when it was moved now, and in check mode when it would be
  type: raw
  sample:
    assess: 37
    prepare: 3
    precopy: 0
    freeze: 142
    transfer: 19
    restore: 241
    verify: 539
    commit: 56
method:
  description: O(method), or that of the earlier run that this one has gone on with.
  returned: success, unless it had been moved before
  type: str
  sample: live
transfer:
  description: How its state went, or would go; one of those of O(transfer) but V(auto).
  returned: success of a live move, unless it had been moved before
  type: str
  sample: thin
transfer_reason:
  description: Why so. For V(thin) also where the memory lay.
  returned: success of a live move, unless it had been moved before
  type: str
  sample: Its memory lies in memory on both hosts.
compression:
  description: What became of O(compress). V(zstd) or V(none); null in check mode, because it is measured.
  returned: success of a live move, unless it had been moved before
  type: str
  sample: none
precopy:
  description: Bytes of memory that each round before the freeze has written; empty without any.
  returned: success of a live move, unless it had been moved before
  type: list
  elements: int
  sample: [216113152, 31703040]
precopy_reason:
  description: Why there were no rounds, or how many there could be.
  returned: success of a live move, unless it had been moved before
  type: str
  sample: At most 5 rounds, as long as each is smaller than the last.
precopy_volumes:
  description:
  - Bytes of the volumes' content that went before the freeze, and of what had changed and went again in it.
  - Empty where they go as a whole in the archive. In check mode, too.
  returned: success of a live move, unless it had been moved before
  type: list
  elements: int
  sample: [734003200, 1310720]
tcp:
  description: What becomes of connections. V(established), V(close) or V(none); what O(tcp=auto) came to.
  returned: success of a live move, unless it had been moved before
  type: str
  sample: established
findings:
  description: Why it was refused, or what was found besides. See the table of findings in the documentation.
  returned: when there are any
  type: list
  elements: dict
  contains:
    code: {description: Stable name of the reason., type: str, sample: volume_exists}
    severity: {description: "V(blocker), V(warning) or V(notice). See O(force).", type: str}
    message: {description: What was found., type: str}
    remedy: {description: What to do about it., type: str}
criu_log:
  description: The lines of CRIU's log that say why the dump or the restore failed.
  returned: when CRIU failed
  type: list
  elements: str
"""

from ansible_collections.ferry.podman.plugins.module_utils import _journal
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule
from ansible_collections.ferry.podman.plugins.module_utils._move import Move
from ansible_collections.ferry.podman.plugins.module_utils._request import CONSTRAINTS, MOVE, request_of


def migrate(module: FerryModule) -> None:
    params = module.params
    request = request_of(params, module.conceal)
    if (cut_off := _journal.find_entry(params["journal"], params["name"])) is not None and cut_off.phase != "prepare":
        # Until somebody has asked the hosts.
        module.result["location"] = "unknown"
    way = (params["destination_identity"], params["destination_known_hosts"], params["destination_jump"])
    with module.client() as source, module.connect(params["destination"], *way) as destination:
        Move(
            source,
            destination,
            params["name"],
            request,
            params["journal"],
            check_mode=module.check_mode,
            result=module.result,
            warn=module.warn_of,
        ).run()


def main() -> None:
    FerryModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "destination": {"type": "str", "required": True},
            "method": {"type": "str", "choices": ["live", "cold"], "default": "live"},
            "destination_identity": {"type": "path"},
            "destination_known_hosts": {"type": "path"},
            "destination_jump": {"type": "str"},
            **MOVE,
        },
        **CONSTRAINTS,
    ).run(migrate)


if __name__ == "__main__":
    main()
