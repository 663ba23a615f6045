# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is private to the collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with CONNECTION in module_utils/_module.py.
    DOCUMENTATION = r"""
options:
  url:
    description:
      - The libpod socket of the host to work on, as seen from the host that the module runs on.
      - Either C(unix:///path/to/podman.sock), or C(ssh://user@host[:port]/path/to/podman.sock), which OpenSSH forwards.
      - With an ssh URL, what only files on the host tell is not available. CRIU's logs are, through a container that is
        made for it and removed again.
    type: str
    default: unix:///run/podman/podman.sock
  identity:
    description:
      - Path of the private key for an ssh O(url). No password is ever asked for.
      - By default C(ssh) chooses by its own configuration.
    type: path
  known_hosts:
    description:
      - Path of a known_hosts file that must hold the key of the host in an ssh O(url).
      - By default C(ssh) uses its own; an unknown host is refused in either case.
    type: path
  timeout:
    description:
      - Longest time in seconds to wait for the next byte of an answer. Podman answers a checkpoint only when
        all of it is written, so this must cover the dump of the container's whole memory to disk.
      - With C(async) on the task, this must be the shorter of the two, because Ansible ends an asynchronous
        module without giving it a chance to put things back.
      - Connections must stand within 10 seconds in any case.
    type: int
    default: 600
requirements:
  - podman >= 4.4 as root, with its API socket
  - CRIU >= 3.11, and an OCI runtime that is built with it
  - python >= 3.9
  - requests
"""
