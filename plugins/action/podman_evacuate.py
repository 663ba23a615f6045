# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As for one move: apart from the connection, and telling meanwhile how far each of the moves is that take long."""

from __future__ import annotations

import time

from ansible_collections.ferry.podman.plugins.action.podman_migrate import ActionModule as MoveAction
from ansible_collections.ferry.podman.plugins.action.podman_migrate import Json, Watch, say
from ansible_collections.ferry.podman.plugins.plugin_utils._progress import FIRST, Reporter, find_entry


class ActionModule(MoveAction):
    def _watch(self, task_vars: Json, began: float) -> Watch:
        moves = self._task.args.get("moves") or []
        names = [str(move.get("name")) for move in moves if isinstance(move, dict)]
        reporter = self._reporter(task_vars, f"{len(names)} containers", began)
        return SeveralWatch(self._journal(), names, reporter, f"[{task_vars['inventory_hostname']}]", began)


class SeveralWatch(Watch):
    """What is seen of several moves.

    :param reporter: for what is about all of them.
    :param prefix: of the lines about each.
    """

    def __init__(self, journal: str, names: list[str], reporter: Reporter | None, prefix: str, began: float) -> None:
        super().__init__(journal, "", reporter, began)
        self._names = names
        self._prefix = prefix
        self._reporters: dict[str, Reporter] = {}

    def _seconds(self) -> float:
        return FIRST if self._reporter is not None else super()._seconds()

    def _report(self, _reporter: Reporter, journals: list[str], host_now: float) -> None:
        now = time.monotonic()
        for name in self._names:
            entry = find_entry(journals, name, self._since_then(now, host_now))
            if entry is None:
                self._reporters.pop(name, None)
                continue
            reporter = self._reporters.setdefault(name, Reporter(f"{self._prefix} {name}", now))
            line = reporter.line(entry, now, host_now)
            if line is not None:
                say(line)
