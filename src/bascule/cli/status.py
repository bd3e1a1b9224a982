"""`bascule status`: a gateway that runs, at a glance, once or as it goes on."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from bascule.cli.remote import UrlArgument, ask, base_of
from bascule.cli.talk import clean, failing
from bascule.errors import BasculeError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EVERY_S: Final = 1.0
_NARROW: Final = 80  # columns of what is no terminal
_GOOD: Final = frozenset({"ready", "idle", "closed", "fresh", "off"})
_HEADINGS: Final = ("server", "state", "pid", "restarts", "calls", "circuit", "tools")
_QUANTILES: Final = (("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))
_SPANS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

Json = Mapping[str, Any]
_NOTHING: Final[Json] = {}


class Look(NamedTuple):
    """What was seen at one moment."""

    at_s: float  # of a clock that only goes on
    report: Json
    waiting: int | None = None  # questions for a person; None for who may not know
    hour: Json = _NOTHING  # what was used in the last hour
    budgets: Sequence[Json] = ()  # of errors, one for each promise

    @property
    def calls(self) -> int:
        return sum(_in(_in(self.report, "calls"), "by_outcome").values())


def register(app: typer.Typer) -> None:
    app.command()(status)


@failing
def status(
    url: UrlArgument = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, once a second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, once.")] = False,
) -> None:
    """Show how a running gateway is: its servers, its calls, and what waits for somebody.

    BASCULE_TOKEN, if it is set, says who asks; it takes the scope bascule.status:read.

    Example: bascule status --watch
    """
    base = base_of(url)
    first = _look(base)
    if as_json:
        print(json.dumps({**first.report, **_beside(first)}, ensure_ascii=False))
    elif not watch:
        _console().print(view(base, first, None))
    else:
        try:
            _follow(base, first)
        except KeyboardInterrupt:
            pass  # how one ends it


def _look(base: str) -> Look:
    """Ask the gateway. Raises Unavailable, or its refusal."""
    report = ask(base, "GET", "/status")
    questions = _also(base, "/api/approvals", state="pending").get("approvals")
    waiting = len(questions) if isinstance(questions, list) else None
    hour, budgets = _also(base, "/api/usage", since="1h"), _also(base, "/api/slo").get("budgets", ())
    return Look(time.monotonic(), report, waiting, hour, budgets)


def _beside(look: Look) -> Json:
    """What is not of `/status` itself, for --json."""
    return {"approvals_waiting": look.waiting, "last_hour": look.hour or None, "budgets": look.budgets}


def _also(base: str, path: str, **query: str) -> Json:
    """What is said there; nothing, if it is for others only: the rest is worth seeing without."""
    try:
        found = ask(base, "GET", path, query=query)
    except BasculeError:
        return {}
    return found if isinstance(found, dict) else {}


def _follow(base: str, first: Look) -> None:
    """Look again and again. What does not answer is waited for."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        for line in _lines(base, first):
            print(line, flush=True)
        return
    from rich.live import Live

    with Live(view(base, first, None), console=_console(), auto_refresh=False, screen=False) as live:
        for now, before, problem in _looks(base, first):
            live.update(view(base, now, before, problem), refresh=True)


def _looks(base: str, first: Look) -> Iterator[tuple[Look, Look | None, str]]:
    """(the newest look, the one before it, why there is no newer one), once a second. For ever."""
    now, before, problem = first, None, ""
    while True:
        yield now, before, problem
        time.sleep(EVERY_S)
        try:
            now, before, problem = _look(base), now, ""
        except BasculeError as error:
            problem = str(error)


def _lines(base: str, first: Look) -> Iterator[str]:
    """One line for each look, for what is no terminal."""
    for now, before, problem in _looks(base, first):
        at = f"{datetime.now(UTC):%H:%M:%S}Z"
        yield clean(f"{at} {base} {problem}" if problem else f"{at} {summary(now, before)}")


def _console() -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or _NARROW)
    return Console(highlight=False, width=width)


# ---- in words ------------------------------------------------------------------------------------


def summary(now: Look, before: Look | None) -> str:
    """`ready, 12.0 calls/s, 3 in flight, 1 waiting; down: crm`."""
    report = now.report
    parts = [str(report.get("status")), _rate(now, before), f"{_in(report, 'calls').get('in_flight', 0)} in flight"]
    if now.waiting:
        parts.append(f"{now.waiting} waiting")
    down = [name for name, server in _in(report, "servers").items() if server.get("state") in ("down", "failed")]
    problems = [f"down: {', '.join(down)}"] if down else []
    problems += [text for _, text in troubles(now)]
    return "; ".join([", ".join(parts), *problems])


def troubles(now: Look) -> Iterator[tuple[str, str]]:
    """(where, what) of what somebody should look at soon."""
    report = now.report
    for each in now.budgets:
        if each.get("state") in ("burning", "spent"):
            yield "budget", f"{each.get('tool')}: of {each.get('objective')} {each.get('target')} it is {each['state']}"
    if error := _in(report, "config").get("error"):
        yield "config", f"the last edit is not in use: {error}"
    audit = _in(report, "audit")
    if problem := audit.get("problem") or audit.get("anchor_problem"):
        yield "audit", str(problem)
    if missed := audit.get("unrecorded"):
        yield "audit", f"{missed} calls were not recorded"
    if (pressure := _in(report, "pressure").get("now", "none")) != "none":
        yield "pressure", f"work is turned away: {pressure}"
    names = _in(report, "names")
    if clashes := [*names.get("withheld", ()), *names.get("shadowed", ())]:
        yield "names", f"cannot be reached on /mcp: {', '.join(map(str, clashes[:3]))}"


def by_category(report: Json) -> Counter[str]:
    """Calls by how they ended, in the words that metrics use."""
    from bascule.policy.outcome import category_of

    found: Counter[str] = Counter()
    for outcome, count in _in(_in(report, "calls"), "by_outcome").items():
        found[category_of(outcome)] += int(count)
    return found


def _rate(now: Look, before: Look | None) -> str:
    if before is None:
        uptime_s = float(now.report.get("uptime_s") or 0.0)
        return f"{now.calls / max(uptime_s, 1.0):.1f} calls/s since its start"
    # A gateway that was started again counts from nothing.
    made = now.calls - before.calls if now.calls >= before.calls else now.calls
    return f"{made / max(now.at_s - before.at_s, 0.001):.1f} calls/s"


def lasting(seconds: float) -> str:
    """`3 d 4 h`, `12 min 5 s`, `0 s`: the two largest parts."""
    left, parts = int(seconds), []
    for size, name in _SPANS:
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


# ---- on a screen ---------------------------------------------------------------------------------


def view(base: str, now: Look, before: Look | None, problem: str = "") -> "RenderableType":
    """Everything, in 80 columns if there are no more."""
    from rich.console import Group
    from rich.text import Text

    report = now.report
    state = str(report.get("status"))
    head = Text.assemble(
        (f"bascule {clean(str(report.get('version')))}  ", "bold"),
        (state, _style(state)),
        (f"  for {lasting(float(report.get('uptime_s') or 0))}  {base}", ""),
    )
    if problem:
        head.append(f"\n{clean(problem)}; what follows is what it said last", "bold red")
    facts = [Text(f"{name:<9} {clean(text)}", overflow="fold") for name, text in _facts(now, before)]
    worries = [Text(f"{name:<9} {clean(text)}", "bold red", overflow="fold") for name, text in troubles(now)]
    return Group(head, *facts, *worries, Text(), _servers(_in(report, "servers")))


def _facts(now: Look, before: Look | None) -> Iterator[tuple[str, str]]:
    report = now.report
    yield "calls", f"{_rate(now, before)}, {_in(report, 'calls').get('in_flight', 0)} in flight"
    if counted := by_category(report):
        yield "so far", ", ".join(f"{count:,} {category}" for category, count in counted.most_common())
    if now.hour.get("calls"):
        yield "last hour", _last_hour(now.hour)
    waiting = (
        "not shown: it takes a key with bascule.approvals:read" if now.waiting is None else f"{now.waiting} waiting"
    )
    yield "approvals", waiting
    yield "sessions", f"{report.get('sessions', 0)}, {report.get('parked', 0)} calls parked"
    audit = _in(report, "audit")
    kept = f"{audit.get('mode')}, {audit.get('entries', 0):,} entries, {audit.get('queued', 0)} to be written"
    yield "audit", kept if audit else "off"
    if walls := _walls(_in(report, "servers")):
        yield "sandbox", walls
    pressure = _in(report, "pressure")
    if pressure:
        memory = pressure.get("memory_percent")
        used = "" if memory is None else f", {memory:g} % of memory"
        yield (
            "pressure",
            f"{pressure.get('lag_ms', 0):g} ms late{used}, {sum(_in(pressure, 'shed').values())} turned away",
        )


def _walls(servers: Json) -> str:
    """`office, crm: bubblewrap + Landlock 7 + limits; time: limits`."""
    within: dict[str, list[str]] = {}
    for name, server in servers.items():
        if said := server.get("sandbox"):
            within.setdefault(str(said), []).append(name)
    return "; ".join(f"{', '.join(names)}: {said}" for said, names in within.items())


def _last_hour(hour: Json) -> str:
    """`1,234 calls, 1.2 % not ok, p50 12 ms, p95 80 ms, p99 200 ms`."""
    took = [f"{name} {hour[key]:,.0f} ms" for name, key in _QUANTILES if hour.get(key) is not None]
    return ", ".join([f"{hour['calls']:,} calls", f"{100 * float(hour.get('error_rate', 0)):.1f} % not ok", *took])


def _servers(servers: Json) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    if not servers:
        return Text("no servers", "dim")
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, style="bold" if number == 0 else "", overflow="fold", justify=_justify(heading))
    for name, server in servers.items():
        table.add_row(*(Text(clean(cell), _style(cell)) if cell else "" for cell in _cells(name, server)))
    notes = [Text(f"{name}: {clean(text)}", "red", overflow="fold") for name, text in _errors(servers)]
    from rich.console import Group

    return Group(table, *notes)


def _justify(heading: str) -> Any:
    return "right" if heading in ("pid", "restarts", "calls", "tools") else "left"


def _cells(name: str, server: Json) -> Sequence[str]:
    circuit, tools = _in(server, "circuit").get("state"), server.get("tools")
    return (
        name,
        str(server.get("state")),
        ", ".join(map(str, server.get("pids") or ())) or "-",
        str(server.get("restarts", 0)),
        str(server.get("in_flight", 0)),
        str(circuit or "-"),
        "-" if tools is None else str(len(tools)),
    )


def _errors(servers: Json) -> Iterator[tuple[str, str]]:
    """What went wrong last at servers that are not well."""
    for name, server in servers.items():
        if server.get("state") not in _GOOD or _in(server, "circuit").get("state", "closed") not in _GOOD:
            reason = server.get("last_error") or _in(server, "circuit").get("last_failure") or "it does not say why"
            retry = server.get("retry_in_s")
            yield name, f"{reason}" + (f"; tried again in {retry:g} s" if retry else "")


def _style(word: str) -> str:
    match word:
        case "ready" | "closed" | "fresh":
            return "green"
        case "down" | "failed" | "open" | "not ready":
            return "bold red"
        case "starting" | "half_open" | "draining" | "stale":
            return "yellow"
        case _:
            return ""


def _in(said: Json, name: str) -> Json:
    """The object *name*; an empty one where there is none."""
    found = said.get(name)
    return found if isinstance(found, dict) else {}
