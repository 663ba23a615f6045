# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""How a report looks. Tables become lists on narrow screens; paper is always light."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #ffffff; --ink: #1c2630; --soft: #55626f; --line: #dfe4e9;
  --bar: #6f96c8; --still: #a0440a; --good: #1d6b3c; --good-back: #e4f3e9; --bad: #a3221b; --bad-back: #fbe7e5;
  --bad-bar: #d6453b; --note: #7a4b00; --note-back: #fbf0d9; --plain: #46535f; --plain-back: #eaeef2;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #11161b; --card: #192027; --ink: #e5eaef; --soft: #a3b0bc; --line: #2d3741;
    --bar: #5079ab; --still: #ffc27a; --good: #86d6a3; --good-back: #17331f; --bad: #ff9d94; --bad-back: #43201d;
    --bad-bar: #e0564b; --note: #f0c675; --note-back: #3a2d12; --plain: #b9c4ce; --plain-back: #28313a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", Arial, sans-serif;
  overflow-wrap: anywhere;
}
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 40px; }
h1 { margin: 6px 0 8px; font-size: 28px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em;
  text-wrap: balance; }
h2 { margin: 0 0 10px; font-size: 18px; line-height: 1.3; font-weight: 650; }
h3 { margin: 22px 0 6px; font-size: 15px; font-weight: 650; }
p { margin: 0 0 8px; }
ul { margin: 0; padding-left: 20px; }
a { color: inherit; }
bdi { unicode-bidi: isolate; }
section { margin-top: 20px; padding: 18px 20px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.pill { display: inline-block; max-width: 100%; padding: 1px 9px; border-radius: 11px; font-size: 13px;
  line-height: 1.5; background: var(--plain-back); color: var(--plain); }
.pill.good { background: var(--good-back); color: var(--good); }
.pill.bad { background: var(--bad-back); color: var(--bad); font-weight: 600; }
.pill.note { background: var(--note-back); color: var(--note); }
.status { font-size: 14px; font-weight: 600; }
.detail { max-width: 80ch; }
.facts { display: flex; flex-wrap: wrap; gap: 2px 26px; margin: 12px 0 0; color: var(--soft); font-size: 14px; }
.facts div { display: flex; flex-wrap: wrap; gap: 0 6px; min-width: 0; }
.facts dd { margin: 0; color: var(--ink); min-width: 0; }
.totals { display: grid; grid-template-columns: repeat(auto-fill, minmax(122px, 1fr)); gap: 14px 16px; margin: 0; }
.totals + .totals { margin-top: 14px; padding-top: 14px; border-top: 1px solid var(--line); }
.totals div { display: flex; flex-direction: column-reverse; justify-content: flex-end; min-width: 0; }
.totals dt { color: var(--soft); font-size: 13px; line-height: 1.35; }
.totals dd { margin: 0; font-size: 20px; line-height: 1.4; font-weight: 600; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.totals dd.bad { color: var(--bad); }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
caption { padding: 0 0 10px; text-align: left; color: var(--soft); font-size: 13.5px; }
th, td { padding: 7px 14px 7px 0; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-top: 0; color: var(--soft); font-size: 13px; font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 600; }
.num { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.why { color: var(--soft); }
.why .said { color: var(--ink); }
.list { table-layout: fixed; }
.list .c-name { width: 17%; } .list .c-short { width: 132px; } .list .c-host { width: 110px; }
.list .c-num { width: 86px; }
.list td.num + td.why, .list th.num + th:not(.num) { padding-left: 14px; }
.list.dense { font-size: 13px; }
.list.dense th, .list.dense td { padding-top: 4px; padding-bottom: 4px; }
.list caption, .axis-name { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.chart { table-layout: fixed; }
.chart .c-name { width: 23%; } .chart .c-value { width: 118px; }
.chart tbody th { font-weight: 500; }
.chart th, .chart td { padding-top: 4px; padding-bottom: 4px; vertical-align: middle; border-top: 0; }
.chart thead th { vertical-align: bottom; }
.chart th:nth-child(2), .chart td.plot { padding-left: 0; padding-right: 0; }
.chart td.plot { background: linear-gradient(to right, var(--line) 1px, transparent 1px) 0 0 / var(--step) 100%;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.chart td.num { padding-left: 14px; }
.chart.dense { font-size: 12px; line-height: 1.25; }
.chart.dense th, .chart.dense td { padding-top: 1px; padding-bottom: 1px; }
.chart.dense td .pill { font-size: 12px; line-height: 1.25; padding: 0 7px; }
svg { display: block; overflow: visible; }
.tick { fill: var(--soft); font-size: 12px; }
.bar { fill: var(--bar); stroke: var(--bar); }
.bar.bad { fill: var(--bad-bar); stroke: var(--bad-bar); }
.bar.plain { fill: var(--soft); stroke: var(--soft); }
rect { rx: 1px; }
.still { fill: var(--still); stroke: var(--still); }
.key { display: inline-block; width: 22px; height: 12px; margin: 0 5px 0 0; vertical-align: -1px; }
.legend { white-space: nowrap; margin-left: 14px; }
footer { margin-top: 18px; color: var(--soft); font-size: 13px; }
@media screen and (max-width: 900px) {
  .list, .list tbody { display: block; }
  .list thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .list tr { display: flex; flex-wrap: wrap; gap: 2px 16px; padding: 9px 0; border-top: 1px solid var(--line); }
  .list th, .list td, .list.dense th, .list.dense td, .list td.num + td.why { min-width: 0; padding: 0;
    border-top: 0; text-align: left; white-space: normal; }
  .list th, .list td.why { width: 100%; }
  .list td::before { content: attr(data-label) " "; color: var(--soft); font-size: 13px; }
  .list td.bare::before { content: none; }
  .list td:empty { display: none; }
}
@media screen and (max-width: 760px) {
  main { padding: 18px 12px 28px; }
  h1 { font-size: 22px; }
  section { padding: 14px; border-radius: 8px; }
  .legend { margin-left: 0; margin-right: 12px; }
  .chart, .chart thead, .chart tbody, .chart caption { display: block; }
  .chart tr { display: grid; grid-template-columns: minmax(0, 1fr) auto; padding: 4px 0; }
  .chart.dense tr { padding: 1px 0; }
  .chart th, .chart td { padding: 0 !important; }
  .chart th:nth-child(2), .chart td.plot { grid-row: 2; grid-column: 1 / -1; }
  .chart td.num { padding-left: 12px !important; }
}
@media screen and (max-width: 420px) { .tick.odd { display: none; } }
@media print {
  @page { margin: 14mm; }
  :root { color-scheme: light; }
  body { background: none; font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  section { padding: 10px 0; border: 0; border-top: 1px solid var(--line); border-radius: 0; }
  table, .list.dense { font-size: 9pt; }
  h1 { font-size: 18pt; }
  thead th { font-size: 8.5pt; }
  .totals dd { font-size: 14pt; }
  .list .c-short { width: 92px; } .list .c-host { width: 92px; } .list .c-num { width: 66px; }
  thead { display: table-header-group; }
  tr, .totals div { break-inside: avoid; }
  h1, h2, h3, caption { break-after: avoid; }
  .pill[class] { padding: 0; background: none; font-size: 9pt; }
  .pill.status { font-size: 11pt; }
}
"""
