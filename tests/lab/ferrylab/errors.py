# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""What the lab raises when it cannot go on."""


class LabError(Exception):
    """Says what was found, where, and what to do about it."""
