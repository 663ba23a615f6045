# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What extensions/awx gives to awx.awx, and to whom."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
AWX = ROOT / "extensions/awx"
Json = dict[str, t.Any]

(PLAY,) = yaml.safe_load((AWX / "configure.yml").read_text(encoding="utf-8"))
MODULES = {
    key.removeprefix("awx.awx.") if hasattr(key, "removeprefix") else key[len("awx.awx.") :]: (task, task[key])
    for task in PLAY["tasks"]
    for key in task
    if key.startswith("awx.awx.")
}
