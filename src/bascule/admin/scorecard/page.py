"""The scorecard as one HTML page: nothing is loaded from anywhere, it prints well, and it is light or dark.

Everything that comes from files and servers is escaped.
"""

from datetime import UTC, datetime
from html import escape
from typing import Final

from bascule.admin.scorecard.model import State
from bascule.admin.scorecard.rating import Rated, RatedGroup, Scorecard

_MARKS: Final[dict[State, str]] = {"met": "●", "partly": "◐", "not met": "○", "not applicable": "·"}
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"  # if a text got through, it would run nothing

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --quiet: #5b6576; --line: #d9dee6; --paper: #fff; --soft: #f5f7fa;
  --met: #18794e; --partly: #935b00; --not-met: #c2292e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf0; --quiet: #9aa5b5; --line: #343c49; --paper: #12161d;
  --soft: #1b212b; --met: #4cc38a; --partly: #f1a10d; --not-met: #ff6369; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; display: flex; justify-content: space-between; gap: 1rem; }
h2 span, .quiet { color: var(--quiet); font-weight: normal; }
.total { display: flex; gap: 1.25rem; align-items: center; margin: 1.5rem 0 1rem; }
.grade { font-size: 3.25rem; line-height: 1; font-weight: 700; padding: .75rem 1.25rem; border-radius: .75rem;
  background: var(--soft); border: 1px solid var(--line); }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .35rem 1rem; align-items: center;
  padding: 0; margin: 0; }
.bars dt, .bars dd { margin: 0; }
meter { width: 100%; height: 1rem; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .6rem .5rem; border-top: 1px solid var(--line); }
th { font-weight: 600; width: 34%; }
td.state { width: 8.5rem; white-space: nowrap; }
td p { margin: 0; overflow-wrap: anywhere; }
td p + p { margin-top: .25rem; }
.met { color: var(--met); } .partly { color: var(--partly); } .not-met { color: var(--not-met); }
.not-applicable { color: var(--quiet); }
.weight { display: block; font-weight: normal; font-size: .85rem; color: var(--quiet); }
tr.left .weight { color: var(--not-met); font-weight: 600; }
th:first-child { padding-left: 0; }
code { font: .9em ui-monospace, monospace; background: var(--soft); padding: .1rem .35rem; border-radius: .25rem;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) { tr, th, td, td.state { display: block; width: auto; border: 0; padding: .15rem 0; }
  tr { border-top: 1px solid var(--line); padding: .6rem 0; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } tr { break-inside: avoid; }
  h2 { break-after: avoid; } }
"""


def page(card: Scorecard) -> str:
    """The whole page."""
    at = datetime.fromtimestamp(card.at_s, UTC)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>Scorecard of {escape(card.subject)}: {card.grade}</title>
<style>{_STYLE}</style>
<main>
<h1>Scorecard</h1>
<p class="quiet">{escape(card.subject)}, {at:%Y-%m-%d %H:%M} UTC</p>
<div class="total"><div class="grade">{card.grade}</div><p>{escape(card.sentence)}</p></div>
<dl class="bars">
{"".join(map(_bar, card.groups))}</dl>
{"".join(map(_group, card.groups))}</main>
</html>
"""


def _bar(group: RatedGroup) -> str:
    name, points = escape(group.name), f"{group.points:g}"
    return (
        f"<dt>{name}</dt>"
        f'<dd><meter aria-label="{name}" min="0" max="{max(group.most, 1)}" value="{points}">{points}</meter></dd>'
        f"<dd>{points} of {group.most}</dd>\n"
    )


def _group(group: RatedGroup) -> str:
    rows = "".join(map(_row, group.rated))
    return f"<h2>{escape(group.name)} <span>{group.points:g} of {group.most}</span></h2>\n<table>\n{rows}</table>\n"


def _row(rated: Rated) -> str:
    criterion, kind = rated.criterion, rated.state.replace(" ", "-")
    left = ' class="left"' if rated.is_left else ""
    gain = f"<p><code>{escape(rated.gain)}</code></p>" if rated.gain else ""
    return (
        f'<tr id="{escape(criterion.id)}"{left}><th scope="row">{escape(criterion.title)}'
        f'<span class="weight">{criterion.weight}</span></th>'
        f'<td class="state {kind}">{_MARKS[rated.state]} {rated.state}</td>'
        f"<td><p>{escape(rated.evidence)}</p>{gain}</td></tr>\n"
    )
