# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the page of a report is made of. How it looks in a browser is in test_drain_report_browser.py."""

from __future__ import annotations

import html.parser
import re
import typing as t

import pytest
import reports
from ansible.utils import unsafe_proxy

from ansible_collections.ferry.podman.plugins.filter.drain_report import drain_report
from ansible_collections.ferry.podman.plugins.plugin_utils import _report_chart, _report_html
from ansible_collections.ferry.podman.plugins.plugin_utils._report_style import STYLE

VOID = {"meta", "link", "col"}


def refused() -> dict[str, t.Any]:
    missing = [{"host": "node2", "memory": 2 * 1024**3, "disk": 0, "spool": 0}]
    plan = {"refused": True, "msg": "There is no room for web.", "missing": missing, "blocks": [{"name": "web"}]}
    return {"host": "node1", "operation": "drain", "plan": plan}


SAMPLES = {
    "twelve": reports.twelve,
    "trouble": reports.trouble,
    "many": reports.many,
    "rolling": reports.rolling,
    "hostile": reports.hostile,
    "empty": lambda: {"host": "node1", "operation": "drain"},
    "refused": refused,
    "check": lambda: {**reports.twelve(), "check": True},
}


class Elements(html.parser.HTMLParser):
    """What a browser makes of a page, as far as it is well formed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        assert len({key for key, _value in attrs}) == len(attrs)
        self.found.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append((self.open[-1], data))

    def text(self) -> str:
        return " ".join(" ".join(data for _tag, data in self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.found if found == tag]


def page_of(name: str, **options: t.Any) -> str:
    return drain_report(SAMPLES[name](), "html", **options)


# -- nothing gets out, nothing gets in ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_page_needs_nothing_besides_itself(name) -> None:
    page = page_of(name)
    elements = Elements(page)
    tags = {tag for tag, _attributes in elements.found}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
    for _tag, attributes in elements.found:
        assert not {"src", "srcset", "action", "background", "poster"} & attributes.keys()
        for key in ("href", "xlink:href"):
            assert attributes.get(key, "#").startswith("#") or attributes[key] == "data:,"
    assert "url(" not in STYLE and "@import" not in STYLE
    if name != "hostile":
        assert not re.search(r"[a-z]://|//[a-z]", page)


@pytest.mark.parametrize("name", SAMPLES)
def test_policy_forbids_what_could_slip_through(name) -> None:
    (policy,) = [one for one in Elements(page_of(name)).all("meta") if "http-equiv" in one]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; ")
    assert "script-src" not in policy["content"]


def test_names_and_messages_make_no_elements() -> None:
    """Whatever is in them, there is no element and no attribute that harmless reports have not."""
    known = {
        (tag, key)
        for name in ("twelve", "trouble", "many")
        for tag, attributes in Elements(page_of(name)).found
        for key in ["", *attributes]
    }
    known |= {("ul", ""), ("li", "")}
    elements = Elements(page_of("hostile"))
    assert {(tag, key) for tag, attributes in elements.found for key in ["", *attributes]} <= known
    classes = {one for _tag, attributes in elements.found for one in attributes.get("class", "").split()}
    assert all(re.fullmatch(r"[a-z-]+", one) for one in classes)
    # Programs of the versions are the only names that are in attributes.
    values = [value for _tag, made in elements.found for key, value in made.items() if key != "data-label"]
    assert not any("alert" in value for value in values)


@pytest.mark.parametrize("name", [name for name in reports.HOSTILE if name.isprintable()])
def test_names_are_shown_as_they_are(name) -> None:
    assert name in Elements(page_of("hostile")).text()


def test_letters_that_hide_or_turn_others_are_replaced() -> None:
    page = page_of("hostile")
    assert "\N{REPLACEMENT CHARACTER}gnp.exe" in page
    assert not [letter for letter in page if not letter.isprintable() and letter != "\n"]
    page.encode("utf-8")


def test_page_is_no_template() -> None:
    page = page_of("hostile")
    assert not re.search(r"\{[{%#]", page)
    # Before ansible-core 2.19 what a filter returns would be taken for one all the same.
    if issubclass(unsafe_proxy.AnsibleUnsafeText, unsafe_proxy.AnsibleUnsafe):
        assert isinstance(page, unsafe_proxy.AnsibleUnsafeText)
        assert isinstance(drain_report(reports.hostile())["msg"], unsafe_proxy.AnsibleUnsafeText)


def test_very_long_message_is_cut() -> None:
    run = {"host": "node1", "operation": "drain", "moves": [{"name": "web", "state": "failed", "msg": "x" * 1_000_000}]}
    assert len(drain_report(run, "html")) < 40_000


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("<b>", "&lt;b&gt;"),
        ("a\"b'c", "a&quot;b&#x27;c"),
        ("{{ a }}", "&#123;&#123; a &#125;&#125;"),
        ("a\u202eb", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\n\tb", "a  b"),
        (_report_html.Markup("<b>"), "<b>"),
        (5, "5"),
    ],
)
def test_text_is_escaped_once(given, made) -> None:
    assert _report_html.text(given) == made


def test_attributes_are_escaped() -> None:
    assert _report_html.tag("p", "x", class_='"><i>', aria_label=None) == '<p class="&quot;&gt;&lt;i&gt;">x</p>'


# -- what there is to read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_everything_is_there_to_read(name) -> None:
    """Without JavaScript, colours or the drawing."""
    report = drain_report(SAMPLES[name]())
    text = Elements(page_of(name)).text()
    # As the page shows them: see the letters that are replaced.
    shown = [_shown(one) for one in [report["msg"], *report["warnings"]]]
    for entry in report["containers"]:
        shown += [_shown(entry["name"]), _shown(entry["reason"] or "")]
        shown += [_shown(finding["message"]) for finding in entry["findings"]]
    for programs in report["versions"].values():
        shown += [_shown(version) for versions in programs.values() for version in versions]
    for one in shown:
        assert one in text


def _shown(value: str) -> str:
    letters = [letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in value]
    return " ".join("".join(letters).split())


def test_times_are_shown_in_the_time_that_is_asked_for() -> None:
    assert "2026-11-21 22:00:04 to 22:00:17 UTC" in Elements(page_of("twelve")).text()
    text = Elements(page_of("twelve", utc_offset="+0230")).text()
    assert "2026-11-22 00:30:04 to 00:30:17 UTC+02:30" in text
    assert "Times are in UTC+02:30." in text
    assert "2026-11-21 17:00:04" in page_of("twelve", utc_offset="-05:00")


def test_failures_come_first() -> None:
    text = Elements(page_of("trouble")).text()
    containers = text[text.index("Containers") :]
    order = [containers.index(name) for name in ("web", "api", "queue", "auth", "mail", "db", "vpn", "report-batch")]
    assert order == sorted(order)


def test_each_finding_is_there_once() -> None:
    run = reports.twelve()
    for one in run["moves"]:
        one["findings"] = [{"code": "slow", "severity": "warning", "message": "The link is slow.", "remedy": ""}]
    assert Elements(drain_report(run, "html")).text().count("The link is slow.") == 1


def test_check_mode_says_that_nothing_was_changed() -> None:
    text = Elements(page_of("check")).text()
    assert "Nothing was changed; sizes and times are estimates." in text
    assert "would move" in text and "Timeline" not in text


def test_refused_plan_tells_what_is_missing() -> None:
    text = Elements(page_of("refused")).text()
    assert "There is no room for web." in text
    assert "Missing room" in text and "2.0 GiB" in text


def test_host_of_what_was_elsewhere_is_told() -> None:
    assert "web on node9" in Elements(page_of("rolling")).text()


# -- for all readers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_headings_go_down_one_by_one(name) -> None:
    levels = [int(tag[1]) for tag, _attributes in Elements(page_of(name)).found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


@pytest.mark.parametrize("name", SAMPLES)
def test_names_of_elements_are_unique_and_there(name) -> None:
    elements = Elements(page_of(name))
    idents = [attributes["id"] for _tag, attributes in elements.found if "id" in attributes]
    assert len(set(idents)) == len(idents)
    wanted = {one["aria-labelledby"] for one in elements.all("section")}
    wanted |= {one["href"][1:] for one in elements.all("a")}
    assert wanted <= set(idents)


@pytest.mark.parametrize("name", ["twelve", "trouble", "rolling"])
def test_drawings_and_tables_say_what_they_are(name) -> None:
    elements = Elements(page_of(name))
    drawings = [one for one in elements.all("svg") if one.get("role") == "img"]
    told = [data for tag, data in elements.texts if tag == "desc"]
    assert drawings and len(told) == len(drawings) == len(elements.all("desc"))
    assert all(one.get("role") == "img" or one.get("aria-hidden") == "true" for one in elements.all("svg"))
    assert len(elements.all("caption")) == len(elements.all("table"))
    assert all(one["scope"] in ("row", "col") for one in elements.all("th"))
    assert elements.all("html")[0]["lang"] == "en"


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


SCHEMES = [
    dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
]


@pytest.mark.parametrize("scheme", [one for one in SCHEMES if one], ids=["light", "dark"])
def test_colours_can_be_told_apart(scheme) -> None:
    """What WCAG 2.2 AA asks for: 4.5 for text, 3 for drawings."""
    texts = [(ink, ground) for ink in ("ink", "soft", "bad") for ground in ("page", "card")]
    texts += [(kind, f"{kind}-back") for kind in ("good", "bad", "note", "plain")]
    for ink, ground in texts:
        assert _contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground)
    for key in ("bar", "bad-bar", "still", "soft"):
        assert _contrast(scheme[key], scheme["card"]) >= 3, key


# -- the chart ------------------------------------------------------------------------------------------------


def test_each_move_has_its_bar_where_it_was() -> None:
    report = drain_report(reports.twelve())
    timeline = report["timelines"][0]
    elements = Elements(drain_report(reports.twelve(), "html"))
    # Those of the legend have no place.
    bars = [one for one in elements.all("rect") if one["class"].startswith("bar ") and "x" in one]
    assert len(bars) == len(timeline["bars"]) == 11
    for drawn, span in zip(bars, timeline["bars"]):
        assert float(drawn["x"][:-1]) == pytest.approx(span["offset"] / timeline["seconds"] * 100, abs=0.001)
        assert float(drawn["width"][:-1]) == pytest.approx(span["seconds"] / timeline["seconds"] * 100, abs=0.001)


@pytest.mark.parametrize("length", [0.001, 0.0042, 0.9, 1, 7, 59, 61, 3_599, 86_400, 10_000_000])
def test_axis_has_some_marks_and_not_too_many(length) -> None:
    assert 1 <= length / _report_chart.tick_step(length) <= _report_chart.TICKS


def test_axis_in_words() -> None:
    words = [_report_chart.tick_words(mark) for mark in (0.005, 0.5, 1, 30, 90, 7200)]
    assert words == ["5 ms", "500 ms", "1 s", "30 s", "1 min 30 s", "2 h"]
