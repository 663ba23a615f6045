# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where each container of a host goes when that is emptied, or returns; see drain_plan.yml."""

from __future__ import annotations

import contextlib
import gc
import typing as t
from collections.abc import Iterator

from ansible.errors import AnsibleFilterError

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.plugin_utils._plan import make_plan
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json, read_options


def drain_plan(hosts: t.Any, sources: t.Any = None, pairs: t.Any = None, **options: t.Any) -> Json:
    try:
        with no_collection():
            return make_plan(hosts, pairs, read_options({"sources": sources, **options}))
    except FerryError as error:
        raise AnsibleFilterError(f"ferry.podman.drain_plan: {error}") from error


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """A plan makes no cycles; looking for some among all that it makes takes two fifths of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"drain_plan": drain_plan}
