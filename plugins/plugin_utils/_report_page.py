# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A report as one page of HTML that needs nothing besides itself. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from ansible_collections.ferry.podman.plugins.plugin_utils._plan_options import Json, some
from ansible_collections.ferry.podman.plugins.plugin_utils._report_chart import DENSE, Bar, Row, chart
from ansible_collections.ferry.podman.plugins.plugin_utils._report_html import Markup, bdi, join, tag
from ansible_collections.ferry.podman.plugins.plugin_utils._report_style import STYLE
from ansible_collections.ferry.podman.plugins.plugin_utils._report_words import (
    OPERATION_WORDS,
    OUTCOME_WORDS,
    PLANNED_STATUS,
    PLANNED_WORDS,
    STATUS_WORDS,
    milliseconds,
    number,
    seconds,
    size,
)

# Should anything ever slip through the escaping, it can neither run nor call anybody.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

KINDS = {
    "done": "good",
    "partial": "note",
    "refused": "bad",
    "moved": "good",
    "cold": "good",
    "started": "good",
    "failed": "bad",
    "skipped": "note",
    "returned": "note",
    "blocked": "bad",
}
"""What is in none of these is plain."""

TROUBLE_FIRST = ("failed", "returned", "skipped", "blocked", "moved", "cold", "started", "stopped", "kept")
LEGEND = {"good": "on its way", "bad": "failed", "plain": "no move"}
SEVERITIES = {"blocker": "bad", "warning": "note"}
ORDER = ("blocker", "warning", "notice")


class Page:
    """:param report: as ``make_report`` makes it.
    :param zone: in which times are shown.
    """

    def __init__(self, report: Json, zone: datetime.timezone) -> None:
        self._report = report
        self._zone = zone
        self._entries: dict[int, list[Json]] = {}
        for entry in report["containers"]:
            self._entries.setdefault(entry["run"], []).append(entry)
        self._words = PLANNED_WORDS if report["check"] else OUTCOME_WORDS
        self._status = PLANNED_STATUS if report["check"] else STATUS_WORDS

    def html(self) -> str:
        head = tag("head", list(self._head()))
        main = tag("main", self._header(), self._totals(), list(self._runs()), list(self._rest()), self._footer())
        return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"

    def _head(self) -> Iterator[Markup]:
        yield tag("meta", charset="utf-8")
        yield Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">')
        yield tag("meta", name="viewport", content="width=device-width, initial-scale=1")
        yield tag("meta", name="color-scheme", content="light dark")
        yield tag("meta", name="robots", content="noindex")
        yield tag("link", rel="icon", href="data:,")
        yield tag("title", self._report["msg"])
        yield tag("style", Markup(STYLE))

    # -- the whole ------------------------------------------------------------------------------------------------

    def _header(self) -> Markup:
        report, runs = self._report, self._report["runs"]
        facts = [
            ("Host" if len(report["hosts"]) == 1 else "Hosts", bdi(some(report["hosts"]))),
            ("When", self._period(report)),
            ("By", report["who"] and bdi(report["who"])),
            ("Reason", report["reason"] and bdi(report["reason"])),
        ]
        return tag(
            "header",
            self._pill(self._status[report["outcome"]], report["outcome"], "status"),
            tag("h1", report["msg"]),
            [tag("p", bdi(run["detail"]), class_="detail") for run in runs if run["detail"] and len(runs) == 1],
            tag("p", "Nothing was changed; sizes and times are estimates.") if report["check"] else None,
            tag("dl", [tag("div", tag("dt", key), tag("dd", told)) for key, told in facts if told], class_="facts"),
        )

    def _pill(self, words: str, outcome: str, *classes: str) -> Markup:
        return tag("span", words, class_=" ".join(["pill", KINDS.get(outcome, "plain"), *classes]))

    def _totals(self) -> Markup:
        totals = self._report["totals"]
        counts = [
            tag("div", tag("dt", words), tag("dd", f"{count:,}", class_="bad" if KINDS.get(outcome) == "bad" else None))
            for outcome, words in self._words.items()
            if (count := totals[outcome])
        ]
        amounts = [tag("div", tag("dt", what), tag("dd", told)) for told, what in self._amounts()]
        lists = [tag("dl", tiles, class_="totals") for tiles in (counts, amounts) if tiles]
        return self._section("totals", "Totals", lists or tag("p", "None."))

    def _amounts(self) -> Iterator[tuple[str, str]]:
        totals, duration = self._report["totals"], self._report["duration_seconds"]
        for key, took in totals["downtime_ms"].items():
            if took is not None:
                yield milliseconds(took), f"{key} downtime"
        if totals["bytes"]:
            yield size(totals["bytes"]), "from host to host"
        if duration is not None and not self._report["check"]:
            yield seconds(duration), "from start to end"

    def _section(self, ident: str, title: object, *children: object) -> Markup:
        return tag("section", tag("h2", title, id=ident), children, aria_labelledby=ident)

    def _footer(self) -> Markup:
        downtime = "Downtime is from the start of the freeze until the container runs again."
        return tag("footer", tag("p", f"Times are in {self._zone_name()}. {downtime} Made with ferry.podman."))

    # -- runs -----------------------------------------------------------------------------------------------------

    def _runs(self) -> Iterator[Markup]:
        runs = self._report["runs"]
        if len(runs) == 1:
            yield from self._sections_of(runs[0])
            return
        yield self._overview(runs)
        for run in runs:
            title = [OPERATION_WORDS[run["operation"]], ": ", bdi(run["host"])]
            yield self._section(
                f"run-{run['place'] + 1}",
                title,
                tag("p", self._pill(self._status[run["outcome"]], run["outcome"]), " ", run["msg"]),
                tag("p", bdi(run["detail"]), class_="detail") if run["detail"] else None,
                [[tag("h3", heading), content] for _ident, heading, content in self._parts(run)],
            )

    def _sections_of(self, run: Json) -> Iterator[Markup]:
        for ident, heading, content in self._parts(run):
            yield self._section(ident, heading, content)

    def _parts(self, run: Json) -> Iterator[tuple[str, str, Markup]]:
        timeline, entries = self._report["timelines"][run["place"]], self._entries.get(run["place"], [])
        if timeline["bars"]:
            yield "timeline", "Timeline", self._timeline(timeline)
        entries = sorted(entries, key=lambda entry: TROUBLE_FIRST.index(entry["outcome"]))
        # Only what was to move has a method.
        if moved := [entry for entry in entries if entry["method"] is not None]:
            yield "containers", "Containers", self._moved(moved)
        if stayed := [entry for entry in entries if entry["method"] is None]:
            yield "stayed", "Not moved", self._stayed(stayed)
        if run["missing"]:
            yield "missing", "Missing room", self._missing(run["missing"])

    def _overview(self, runs: Sequence[Json]) -> Markup:
        first = self._report["started"] or 0.0
        rows = [self._overview_row(run, first) for run in runs]
        caption = join([f"{number(len(runs), 'part')} in turn. ", self._axis_words(self._report["started"])])
        drawn = chart(rows, self._report["duration_seconds"] or 0.0, caption, ("Part", "Time", "Outcome"))
        return self._section("overview", "Overview", drawn)

    def _overview_row(self, run: Json, first: float) -> Row:
        words = f"{OPERATION_WORDS[run['operation']]} of {run['host']}"
        bars, when = [], "without times"
        if run["duration_seconds"] is not None:
            bars = [Bar(run["started"] - first, run["duration_seconds"], _colour(run["outcome"]))]
            when = f"{seconds(run['started'] - first)} after the start, for {seconds(run['duration_seconds'])}"
        label = tag("a", OPERATION_WORDS[run["operation"]], ": ", bdi(run["host"]), href=f"#run-{run['place'] + 1}")
        pill = self._pill(self._status[run["outcome"]], run["outcome"])
        return Row(label, pill, bars, f"{words}: {self._status[run['outcome']]}", f"{words} began {when}.")

    # -- one run --------------------------------------------------------------------------------------------------

    def _timeline(self, timeline: Json) -> Markup:
        rows: dict[int, list[Json]] = {}
        for span in timeline["bars"]:
            rows.setdefault(span["container"], []).append(span)
        seen = {_colour(span["outcome"]) for span in timeline["bars"]}
        legend = [_key(f"bar {kind}", words) for kind, words in LEGEND.items() if kind in seen]
        if any(span["downtime"] is not None for span in timeline["bars"]):
            legend.append(_key("still", "downtime"))
        at_once = f" Up to {timeline['parallel']} at once." if timeline["parallel"] > 1 else ""
        caption = join([self._axis_words(timeline["started"]), at_once, legend])
        drawn = [self._timeline_row(self._report["containers"][place], bars) for place, bars in rows.items()]
        return chart(drawn, timeline["seconds"], caption, ("Container", "Time", "Downtime"))

    def _timeline_row(self, entry: Json, bars: Sequence[Json]) -> Row:
        words = OUTCOME_WORDS[entry["outcome"]]
        title = f"{entry['name']}: {words}"
        told = []
        for span in bars:
            told.append(f"From {seconds(span['offset'])} to {seconds(span['offset'] + span['seconds'])}")
            if span["downtime"] is not None:
                told.append(f"down from {seconds(span['downtime']['offset'])}")
        phases = [f"{name} {milliseconds(took)}" for name, took in entry["phases"].items()]
        drawn = [Bar(span["offset"], span["seconds"], _colour(span["outcome"]), _still(span)) for span in bars]
        told += [f"phases: {', '.join(phases)}"] if phases else []
        return Row(bdi(entry["name"]), self._downtime_cell(entry), drawn, title, f"{', '.join(told)}.")

    def _downtime_cell(self, entry: Json) -> Markup:
        if entry["outcome"] in ("failed", "skipped", "returned") or entry["downtime_ms"] is None:
            return self._pill(self._words[entry["outcome"]], entry["outcome"])
        return join(milliseconds(entry["downtime_ms"]))

    def _moved(self, entries: Sequence[Json]) -> Markup:
        heads = ("Container", "Outcome", "Destination", "Downtime", "Bytes", "Reason")
        columns = ("c-name", "c-short", "c-host", "c-num", "c-num", "c-why")
        return _table(heads, columns, [self._moved_row(entry) for entry in entries], "What moved, or was to.")

    def _moved_row(self, entry: Json) -> list[tuple[str, object]]:
        stood, carried = entry["downtime_ms"], entry["bytes"]
        return [
            ("", self._name(entry)),
            ("bare", self._outcome(entry)),
            ("", entry["destination"] and bdi(entry["destination"])),
            ("num", None if stood is None else milliseconds(stood)),
            ("num", None if carried is None else size(carried)),
            ("why bare", self._reason(entry)),
        ]

    def _stayed(self, entries: Sequence[Json]) -> Markup:
        rows = [
            [("", self._name(entry)), ("bare", self._outcome(entry)), ("why bare", self._reason(entry))]
            for entry in entries
        ]
        return _table(("Container", "Outcome", "Reason"), ("c-name", "c-short", "c-why"), rows, "What stayed, and why.")

    def _name(self, entry: Json) -> list[object]:
        host = entry["host"]
        elsewhere = host is not None and host not in self._report["hosts"]
        return [bdi(entry["name"]), [" on ", bdi(host)] if elsewhere else None]

    def _outcome(self, entry: Json) -> Markup:
        return self._pill(self._words[entry["outcome"]], entry["outcome"])

    def _reason(self, entry: Json) -> Markup | None:
        """What went wrong stands out; why something was planned like this does not."""
        said = entry["outcome"] in ("failed", "skipped", "returned", "blocked")
        told: list[object] = [bdi(entry["reason"])] if entry["reason"] else []
        if entry["location"] == "unknown":
            told.append(" It is not known where it is. Have both hosts answer, and run the same again.")
        if entry["interrupted_phase"]:
            told.append(f" An earlier run was cut off in the phase {entry['interrupted_phase']}.")
        if not told:
            return None
        return tag("span", told, class_="said" if said or len(told) > 1 else None)

    def _missing(self, missing: Sequence[Json]) -> Markup:
        keys = ("memory", "disk", "spool")
        rows = [
            [("", bdi(one["host"])), *[("num", size(one[key]) if one[key] else None) for key in keys]]
            for one in missing
        ]
        heads = ("Host", "Memory", "Disk", "Where archives are spooled")
        caption = "How much more would have to be free."
        return _table(heads, ("c-name", "c-even", "c-even", "c-even"), rows, caption, numbers=heads[1:])

    # -- what holds for all ---------------------------------------------------------------------------------------

    def _rest(self) -> Iterator[Markup]:
        findings = _grouped(self._report["containers"])
        if findings:
            yield self._section("findings", "Findings", self._findings(findings))
        if self._report["versions"]:
            yield self._section("versions", "Versions", self._versions())
        if self._report["warnings"]:
            told = [tag("li", bdi(warning)) for warning in self._report["warnings"]]
            yield self._section("warnings", "Warnings", tag("ul", told))

    def _findings(self, findings: Sequence[tuple[Json, list[str]]]) -> Markup:
        rows: list[list[tuple[str, object]]] = []
        for finding, names in findings:
            severity = finding.get("severity", "notice")
            kind = SEVERITIES.get(severity, "plain")
            said = [bdi(finding.get("message", "")), " ", bdi(finding.get("remedy", ""))]
            rows.append(
                [
                    ("", bdi(finding["code"])),
                    ("bare", tag("span", severity, class_=f"pill {kind}")),
                    ("", bdi(some(names))),
                    ("why bare", tag("span", said)),
                ]
            )
        heads = ("Code", "Severity", "Containers", "What was found")
        return _table(heads, ("c-name", "c-short", "c-name", "c-why"), rows, "What was found on the way.")

    def _versions(self) -> Markup:
        versions = self._report["versions"]
        known = ("podman", "crun", "runc", "criu", "kernel")
        seen = {program for programs in versions.values() for program in programs}
        columns = [one for one in known if one in seen] + sorted(seen - set(known))
        rows = [
            [("", bdi(host)), *[("", bdi(", then ".join(programs.get(one, [])))) for one in columns]]
            for host, programs in versions.items()
        ]
        return _table(("Host", *columns), ["c-even"] * (len(columns) + 1), rows, "Of the hosts that took part.")

    # -- times ----------------------------------------------------------------------------------------------------

    def _zone_name(self) -> str:
        return "UTC" if self._zone.utcoffset(None) == datetime.timedelta(0) else str(self._zone)

    def _when(self, moment: float, form: str) -> str:
        return datetime.datetime.fromtimestamp(moment, self._zone).strftime(form)

    def _period(self, report: Json) -> str | None:
        begin, end = report["started"], report["finished"]
        if begin is None or end is None:
            known = begin if begin is not None else end
            return None if known is None else f"{self._when(known, '%Y-%m-%d %H:%M:%S')} {self._zone_name()}"
        same_day = self._when(begin, "%Y-%m-%d") == self._when(end, "%Y-%m-%d")
        until = self._when(end, "%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")
        return f"{self._when(begin, '%Y-%m-%d %H:%M:%S')} to {until} {self._zone_name()}"

    def _axis_words(self, began: float | None) -> str:
        return "" if began is None else f"0 is {self._when(began, '%H:%M:%S')} {self._zone_name()}."


def _colour(outcome: str) -> str:
    return "bad" if outcome in ("failed", "refused") else "plain" if outcome in ("stopped", "started") else "good"


def _still(span: Json) -> tuple[float, float] | None:
    return None if span["downtime"] is None else (span["downtime"]["offset"], span["downtime"]["seconds"])


def _key(kind: str, words: str) -> Markup:
    rect = tag("rect", width="22", height="8", y="2", class_=kind)
    return tag("span", tag("svg", rect, class_="key", aria_hidden="true"), words, class_="legend")


def _grouped(entries: Sequence[Json]) -> list[tuple[Json, list[str]]]:
    """Each finding once, with all containers that it was made of; the gravest first."""
    found: dict[tuple[str, ...], tuple[Json, dict[str, None]]] = {}
    for entry in entries:
        for finding in [*entry["findings"], *(entry["rollback"] or {}).get("findings", [])]:
            key = tuple(str(finding.get(part, "")) for part in ("severity", "code", "message"))
            found.setdefault(key, (finding, {}))[1][entry["name"]] = None
    listed = [(finding, list(names)) for finding, names in found.values()]
    listed.sort(key=lambda one: ORDER.index(one[0]["severity"]) if one[0].get("severity") in ORDER else len(ORDER))
    return listed


def _table(
    heads: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[tuple[str, object]]],
    caption: str,
    numbers: Sequence[str] = ("Downtime", "Bytes"),
) -> Markup:
    """Roles are told besides: a table that is shown as a list on a narrow screen stays one.

    :param rows: of cells, each with its class and what it holds.
    """
    above = [
        tag("th", head, scope="col", role="columnheader", class_="num" if head in numbers else None) for head in heads
    ]
    return tag(
        "table",
        tag("caption", caption),
        tag("colgroup", [tag("col", class_=column) for column in columns]),
        tag("thead", tag("tr", above, role="row"), role="rowgroup"),
        tag("tbody", [_table_row(heads, row) for row in rows], role="rowgroup"),
        class_="list dense" if len(rows) > DENSE else "list",
        role="table",
    )


def _table_row(heads: Sequence[str], row: Sequence[tuple[str, object]]) -> Markup:
    (_kind, first), *others = row
    cells = [
        tag("td", content or None, role="cell", class_=kind or None, data_label=head)
        for head, (kind, content) in zip(heads[1:], others)
    ]
    return tag("tr", tag("th", first, scope="row", role="rowheader"), cells, role="row")


def make_page(report: Json, zone: datetime.timezone = datetime.timezone.utc) -> str:
    return Page(report, zone).html()
