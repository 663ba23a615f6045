# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is private to the collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    # The modules add support and details to each.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Whether the module can say what it would do without doing it.
  diff_mode:
    description: Whether the module shows the state before and after the change when diff mode is on.
  idempotent:
    description:
      - Whether running the module a second time with the same options finds nothing left to do.
      - That something else changed the containers or images in between is not considered.
"""

    ACTIONGROUP_PODMAN = r"""
options: {}
attributes:
  action_group:
    description: The group to name under C(module_defaults) to set options for all its modules at once.
    support: full
    membership:
      - ferry.podman.podman
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - The module only reads.
  diff_mode:
    support: N/A
    details:
      - The module only reads.
  idempotent:
    support: full
    details:
      - The module only reads.
"""
