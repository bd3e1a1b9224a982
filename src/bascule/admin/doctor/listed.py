"""What servers list, as a model reads it: blind, fat, token-heavy and hostile definitions, one line for each kind."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from bascule.admin.contracts import Listed, lint_listed
from bascule.admin.doctor.finding import Finding, finding, names, plural
from bascule.admin.doctor.setup import Setup
from bascule.contract.lint import Finding as Lint

_OURS: Final[Mapping[str, str]] = {  # the linter's rule -> ours
    "description-missing": "tool-blind",
    "schema-not-object": "tool-blind",
    "fat-free-form": "tool-blind",
    "fat-arguments": "tool-fat",
    "fat-modes": "tool-fat",
    "token-heavy-definition": "list-token-heavy",
    "token-heavy-server": "list-token-heavy",
    "chatty": "tool-chatty",
    "hidden-characters": "description-hostile",
    "injection": "description-hostile",
}


def findings(things: Sequence[Listed], setup: Setup) -> Iterator[Finding]:
    today = datetime.fromtimestamp(setup.now_s, UTC).date()
    several: dict[tuple[str, str], list[Lint]] = defaultdict(list)
    for each in lint_listed(things, setup.sources, today):
        if each.rule in _OURS:
            several[each.id.partition("/")[0], each.rule].append(each)
    for (server, rule), found in several.items():
        first, more = found[0], len(found) - 1
        what = f"{first.id}: {first.message}" + (
            f" (and {plural(more, 'more like it', 'more like it')})" if more else ""
        )
        fix = f"bascule contract lint -c {setup.path} --server {server}   # {first.mend}"
        yield finding(_OURS[rule], server, what, fix)
    if setup.shared:
        yield from _ungoverned(things, setup)


def _ungoverned(things: Sequence[Listed], setup: Setup) -> Iterator[Finding]:
    sources = setup.sources
    tools: dict[str, list[str]] = defaultdict(list)
    for each in things:
        if each.kind == "tool" and sources.document("tool", each.id) is None:
            tools[each.id.partition("/")[0]].append(each.id)
    for server, ids in tools.items():
        what = f"{plural(len(ids), 'tool')} without a contract: {names(ids)}"
        fix = (
            f"bascule contract new {ids[0]} --from-server -c {setup.path} -o contracts/{ids[0].partition('/')[2]}.yaml"
        )
        yield finding("ungoverned", server, what, fix)
