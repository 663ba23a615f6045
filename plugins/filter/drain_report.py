# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of the containers of a host, as data or as a page; see drain_report.yml."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import shown
from ansible_collections.ferry.podman.plugins.plugin_utils._report import make_report
from ansible_collections.ferry.podman.plugins.plugin_utils._report_page import make_page
from ansible_collections.ferry.podman.plugins.plugin_utils._report_read import utc_offset_of

FORMATS = ("data", "html")


def drain_report(runs: t.Any, format: t.Any = "data", utc_offset: t.Any = "+00:00") -> t.Any:  # noqa: A002
    try:
        if format not in FORMATS:
            raise FerryError(f"format is {shown(format)}.", remedy=f"It may be {', '.join(FORMATS)}.")
        zone = utc_offset_of(utc_offset)
        report = make_report(runs)
        # Before ansible-core 2.19 a text that a container has made would be taken for a template once it is read.
        return wrap_var(make_page(report, zone) if format == "html" else report)
    except FerryError as error:
        raise AnsibleFilterError(f"ferry.podman.drain_report: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"drain_report": drain_report}
