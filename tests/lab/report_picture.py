# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""report_picture.py PAGE: the picture in docs/report.md, of a drain's page. Of a DIRECTORY: all samples, into it."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import browser
import reports

from ansible_collections.ferry.podman.plugins.filter.drain_report import drain_report

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES: dict[str, t.Callable[[], object]] = {
    "twelve": reports.twelve,
    "trouble": reports.trouble,
    "many": reports.many,
    "rolling": reports.rolling,
    "hostile": reports.hostile,
}
VIEWS: dict[str, dict[str, t.Any]] = {
    "light": {"width": 1280},
    "dark": {"width": 1280, "dark": True},
    "tablet": {"width": 820},
    "phone": {"width": 390},
    "phone-dark": {"width": 390, "dark": True},
    "print": {"width": 700, "media": "print"},
}
UNTIL = "document.getElementById('stayed').closest('section').getBoundingClientRect().bottom + scrollY + 16"
"""The rest of the page is small print."""


def main(place: str) -> None:
    path = pathlib.Path(place).resolve()
    with browser.browser() as shown:
        if path.suffix == ".html":
            for_documentation(shown, path)
        else:
            for_the_eye(shown, path)


def page(shown: browser.Browser, name: str, directory: pathlib.Path) -> None:
    path = directory / f"{name}.html"
    path.write_text(drain_report(SAMPLES[name](), "html"), encoding="utf-8")
    shown.open(path)


def for_documentation(shown: browser.Browser, path: pathlib.Path) -> None:
    shown.open(path)
    shown.look(1180)
    (ROOT / "docs/drain-report.png").write_bytes(shown.picture(shown.value(UNTIL)))


def for_the_eye(shown: browser.Browser, directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in SAMPLES:
        page(shown, name, directory)
        for view, look in VIEWS.items():
            shown.look(**look)
            (directory / f"{name}-{view}.png").write_bytes(shown.picture())


if __name__ == "__main__":
    main(sys.argv[1])
