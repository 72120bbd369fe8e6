"""How the pages of episodes look: light, and legible on paper too."""

from __future__ import annotations

from collections.abc import Iterable

from policy_bringup.episodes.svg import COLOURS

STATE_COLOURS = {
    "INIT": "#607d8b",
    "READY": "#1976d2",
    "ACTIVE": "#2e7d32",
    "RETRY": "#b26a00",
    "FALLBACK": "#d84315",
    "ESTOP": "#b71c1c",
    "FAULT": "#6a1b9a",
}
"""Of the safety monitor's states."""
NOBODY = "nobody"
_NOBODY_COLOUR = "#7b8794"

STYLE = """
:root{color-scheme:light}
body{margin:0;background:#f4f6f8;color:#1f2933;font:14px/1.45 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:20px 24px 60px}
header{margin-bottom:14px}
h1{font-size:24px;margin:0 0 2px}
h2{font-size:15px;margin:0 0 8px}
h2 small{color:#616e7c;font-weight:400}
header p{margin:0;color:#52606d}
p.note{margin-top:6px;white-space:pre-wrap;color:#1f2933}
section{background:#fff;border:1px solid #e1e6eb;border-radius:8px;padding:12px 16px;margin-bottom:12px;overflow-x:auto}
.badge{font-size:13px;font-weight:600;border-radius:10px;padding:2px 10px;vertical-align:3px;color:#fff}
td .badge{vertical-align:0}
.badge.success{background:#2e7d32}.badge.failure{background:#b71c1c}
.badge.discarded,.badge.plain{background:#7b8794}
.problem,.bad{color:#b71c1c}
.problem{background:#fdecea;border-radius:8px;padding:8px 16px;margin:0 0 12px}
.verdict{font-size:16px;font-weight:600;border-left:5px solid;padding-left:10px}
.verdict ul{margin:4px 0 0;padding-left:20px;font-weight:400;font-size:14px;color:#1f2933}
.verdict.ok{color:#2e7d32}.verdict.redo{color:#b71c1c}.verdict.unknown{color:#616e7c;margin:0}
ul.chips{list-style:none;display:flex;flex-wrap:wrap;gap:6px 22px;margin:10px 0 0;padding:0;color:#52606d}
ul.chips b{color:#1f2933}
.strip{display:grid;grid-template-columns:repeat(12,minmax(60px,1fr));gap:6px}
figure{margin:0}
figure img{display:block;width:100%;height:auto;border-radius:3px}
figcaption{font-size:12px;color:#616e7c;text-align:center}
.plot{display:grid;grid-template-columns:minmax(0,1fr) 190px;gap:16px;align-items:start}
.plot svg{width:100%;height:auto}
@media(max-width:760px){.plot{grid-template-columns:minmax(0,1fr)}}
ul.key{list-style:none;margin:0;padding:0;font-size:12.5px;overflow-wrap:anywhere}
ul.key li{padding-left:20px;text-indent:-20px}
ul.key .label{padding:0;text-indent:0}
.bands ul.key{display:flex;flex-wrap:wrap;gap:0 12px;margin-bottom:4px}
ul.key i{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:6px;vertical-align:4px}
.bands ul.key i{height:11px;vertical-align:-1px}
ul.key span{color:#616e7c}
ul.key .label{color:#616e7c;flex-basis:100%}
svg text{font:12px system-ui,"DejaVu Sans",sans-serif;fill:#52606d}
svg text.in{fill:#fff;text-anchor:middle;font-weight:600}
.grid{stroke:#e4e9ee}.mark{stroke:#9aa5b1;stroke-dasharray:3 3}
.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}
table{border-collapse:collapse;font-size:13px}
th,td{text-align:left;padding:3px 14px 3px 0;vertical-align:top}
thead th{color:#616e7c;font-weight:600;border-bottom:1px solid #e1e6eb;vertical-align:bottom}
table.numbers td,table.numbers thead th:not(:first-child){text-align:right}
table.numbers tbody th{font-weight:400;white-space:nowrap}
table.numbers tbody tr:nth-child(even){background:#f7f9fb}
table.index{width:100%}
table.index td{padding:5px 14px 5px 0;border-bottom:1px solid #eef1f4;vertical-align:middle}
td.thumb img{display:block;width:72px;height:auto;border-radius:3px}
a{color:#0b63b6}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:0;font-size:13px}
dt{color:#616e7c}
dd{margin:0;overflow-wrap:anywhere}
@media print{body{background:#fff}section{break-inside:avoid}}
"""


def driver_colours(words: Iterable[str]) -> dict[str, str]:
    """A colour for everybody who drove, in the order of their appearance."""
    drivers = [word for word in dict.fromkeys(words) if word != NOBODY]
    return {NOBODY: _NOBODY_COLOUR, **{word: COLOURS[index % len(COLOURS)] for index, word in enumerate(drivers)}}
