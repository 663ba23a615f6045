# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""The page of a report as a browser shows it: light, dark, on a phone, on paper."""

from __future__ import annotations

import pathlib
import re
import typing as t
from collections.abc import Iterator

import browser
import pytest
import reports

from ansible_collections.ferry.podman.plugins.filter.drain_report import drain_report

pytestmark = pytest.mark.skipif(browser.program() is None, reason="needs chromium (tests/lab/apt-packages.txt)")

SAMPLES = ("twelve", "trouble", "rolling", "hostile")
PHONE = 390
WIDTHS = (1280, 820, PHONE, 320)

BARS = """[...document.querySelectorAll('td.plot')].map(plot => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('.bar')].map(bar => {
    const drawn = bar.getBoundingClientRect();
    return [(drawn.left - box.left) / box.width, drawn.width / box.width, drawn.height];
  });
})"""

# What is there for screen readers only is one pixel wide.
OUTSIDE = """[...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1);
}).map(one => one.outerHTML.slice(0, 200))"""

SMALLEST = """Math.min(...[...document.querySelectorAll('body *')]
  .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
  .map(one => parseFloat(getComputedStyle(one).fontSize)))"""

OVERLAPS = """[...document.querySelectorAll('.chart tbody tr')].filter(row => {
  const [name, plot, value] = [...row.children].map(cell => cell.getBoundingClientRect());
  const beside = (a, b) => a.right <= b.left + 1 || a.bottom <= b.top + 1;
  const apart = (a, b) => beside(a, b) || beside(b, a);
  return !(apart(name, plot) && apart(plot, value) && apart(name, value));
}).length"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, pathlib.Path]:
    directory = tmp_path_factory.mktemp("pages")
    found = {name: directory / f"{name}.html" for name in SAMPLES}
    for name, path in found.items():
        path.write_text(drain_report(getattr(reports, name)(), "html"), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def shown() -> Iterator[browser.Browser]:
    with browser.browser() as running:
        yield running


def colour(shown: browser.Browser, what: str, of: str = "body") -> str:
    return shown.value(f"getComputedStyle(document.querySelector('{of}')).{what}")


def text(shown: browser.Browser) -> str:
    return shown.value("document.body.innerText")


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_asked_for_and_nothing_is_complained_of(shown, pages, name) -> None:
    for dark in (False, True):
        shown.look(1280, dark=dark)
        shown.open(pages[name])
        assert shown.requests == [pages[name].as_uri()]
        assert shown.complaints == []
        assert shown.value("document.scripts.length + document.images.length + frames.length") == 0


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(shown, pages, name, width) -> None:
    shown.look(width)
    shown.open(pages[name])
    assert shown.value("innerWidth") == width
    assert shown.value("document.documentElement.scrollWidth") <= width
    assert shown.value(OUTSIDE) == []
    assert shown.value(OVERLAPS) == 0
    assert shown.value(SMALLEST) >= 12


@pytest.mark.parametrize("width", [1280, PHONE])
@pytest.mark.parametrize("name", ["twelve", "trouble"])
def test_each_move_has_its_bar(shown, pages, name, width) -> None:
    timeline = drain_report(getattr(reports, name)())["timelines"][0]
    shown.look(width)
    shown.open(pages[name])
    rows: dict[int, list[t.Any]] = {}
    for span in timeline["bars"]:
        rows.setdefault(span["container"], []).append(span)
    drawn = shown.value(BARS)
    assert [len(bars) for bars in drawn] == [len(bars) for bars in rows.values()]
    for bars, expected in zip(drawn, rows.values()):
        for (left, wide, high), span in zip(bars, expected):
            # Its outline is one pixel.
            assert left == pytest.approx(span["offset"] / timeline["seconds"], abs=0.01)
            assert wide == pytest.approx(span["seconds"] / timeline["seconds"], abs=0.01)
            assert high >= 8


def test_axis_is_above_its_marks(shown, pages) -> None:
    """The lines between are drawn by the table, the words above by the axis."""
    shown.look(1280)
    shown.open(pages["twelve"])
    middles = shown.value("""[...document.querySelectorAll('.axis .tick')].slice(1, -1).map(tick => {
      const [box, plot] = [tick, tick.closest('svg')].map(one => one.getBoundingClientRect());
      return (box.left + box.right) / 2 - plot.left;
    })""")
    step = shown.value("""(() => {
      const table = document.querySelector('.chart');
      const share = parseFloat(getComputedStyle(table).getPropertyValue('--step')) / 100;
      return share * table.querySelector('td.plot').getBoundingClientRect().width;
    })()""")
    assert middles == pytest.approx([step * (place + 1) for place in range(len(middles))], abs=2)


def test_dark_is_dark_and_light_is_light(shown, pages) -> None:
    shown.open(pages["trouble"])
    found = {}
    for dark in (False, True):
        shown.look(1280, dark=dark)
        parts = [("backgroundColor", "body"), ("color", "body"), ("backgroundColor", "section"), ("fill", ".still")]
        found[dark] = [colour(shown, *part) for part in parts]
    assert not set(found[False]) & set(found[True])
    sums = {dark: [sum(map(int, re.findall(r"\d+", one)[:3])) for one in found[dark]] for dark in found}
    assert sums[False][0] > 600 > 200 > sums[False][1]
    assert sums[True][1] > 600 > 200 > sums[True][0]


def test_tables_are_tables_for_screen_readers_on_a_phone_too(shown, pages) -> None:
    for width in (1280, PHONE):
        shown.look(width)
        shown.open(pages["trouble"])
        roles = shown.roles()
        # Timeline, containers, not moved, findings, versions.
        assert roles.count("table") == 5
        assert roles.count("row") >= 30
        assert {"main", "columnheader", "rowheader", "cell", "heading", "term", "definition"} <= set(roles)
        assert roles.count("image") + roles.count("img") >= 10


def test_names_come_with_what_they_mean_on_a_phone(shown, pages) -> None:
    """The heads of the columns are not seen there."""
    shown.look(PHONE)
    shown.open(pages["twelve"])
    label = "getComputedStyle(document.querySelector('.list td.num'), '::before').content"
    assert shown.value(label).startswith('"Downtime')
    shown.look(1280)
    assert shown.value(label) == "none"


def test_paper_is_light_and_wide_tables_stay_tables(shown, pages) -> None:
    shown.look(700, dark=True, media="print")
    shown.open(pages["trouble"])
    assert colour(shown, "backgroundColor") == "rgba(0, 0, 0, 0)"
    assert sum(map(int, re.findall(r"\d+", colour(shown, "color")))) < 200
    assert colour(shown, "display", ".list thead") == "table-header-group"
    assert colour(shown, "breakInside", ".list tr") == "avoid"
    assert shown.value("document.documentElement.scrollWidth") <= 700
    assert shown.value(OUTSIDE) == []
    for entry in drain_report(reports.trouble())["containers"]:
        assert entry["name"] in text(shown)


def test_page_prints(shown, pages) -> None:
    shown.look(1280)
    shown.open(pages["rolling"])
    printed = shown.pdf()
    assert printed.startswith(b"%PDF-")
    (count,) = {int(one) for one in re.findall(rb"/Type /Pages\s.*?/Count (\d+)", printed, re.DOTALL)}
    assert 2 <= count <= 8


def test_policy_holds_against_what_the_escaping_might_miss(shown, pages) -> None:
    shown.look(1280)
    shown.open(pages["hostile"])
    shown.value("""{
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      document.body.append(Object.assign(new Image(), {src: 'other.png'}));
    }""")
    assert shown.value("window.ran === undefined")
    assert shown.value("document.images[0].naturalWidth") == 0
    assert "Content Security Policy" in " ".join(shown.complaints)


def test_browser_tells_of_what_would_be_wrong(shown, tmp_path) -> None:
    """Or else the tests above could not fail."""
    page = tmp_path / "bad.html"
    page.write_text("<title>x</title><p style='width: 1900px'>x<img src=missing.png><script>console.log(1)</script>")
    shown.look(820)
    shown.open(page)
    assert len(shown.requests) == 2 and shown.requests[1].endswith("/missing.png")
    assert any("console" in one or '"value": 1' in one for one in shown.complaints)
    assert len(shown.value(OUTSIDE)) == 1
    assert shown.value("document.documentElement.scrollWidth") > 820
