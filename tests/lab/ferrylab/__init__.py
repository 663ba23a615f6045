# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The lab: Debian hosts in namespaces, with Podman, CRIU, sshd and a registry."""
