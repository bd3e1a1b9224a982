"""From samples to the tables of docs/benchmarks.md and the judgement of the targets. No clock, no files."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, sub, truediv
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from exchange import Era
from footprint import Footprint
from sample import Sample
from targets import BASCULE, BASCULE_HTTP, FASTMCP, MCP_PROXY, PIPE, SUPERGATEWAY

Part: TypeAlias = Literal["load", "closing", "catalog"]

SMALL: Final = 32
LARGE: Final = 10_240
FEW_TOOLS: Final = 5
MANY_TOOLS: Final = 500
CONNECTIONS: Final = (1, 16, 64)
ERAS: Final[tuple[Era, ...]] = ("legacy", "modern")
TIMES: Final = "\N{MULTIPLICATION SIGN}"
DASH: Final = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample and of what: `part` is the load itself, its repeat at the end, or the long list."""

    target: str
    round: int
    part: Part
    tools: int
    era: Era
    connections: int
    chars: int
    sample: Sample


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a target, up to its first good call."""

    target: str
    round: int
    cold_start_s: float
    idle_rss_mb: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """All of one run. `about` is name and text of what a reader needs to judge it."""

    about: Mapping[str, str]
    rows: Sequence[Row]
    starts: Sequence[Start]
    footprint: Footprint
    notes: Sequence[str]


def parsed(document: Mapping[str, Any]) -> Results:
    """The Results whose `dataclasses.asdict` is *document*."""
    return Results(
        about=document["about"],
        rows=[Row(**{**row, "sample": Sample(**row["sample"])}) for row in document["rows"]],
        starts=[Start(**start) for start in document["starts"]],
        footprint=Footprint(**document["footprint"]),
        notes=document["notes"],
    )


# ------------------------------------------------------------------ picking figures

Figure: TypeAlias = Callable[[Sample], float]
ByRound: TypeAlias = Mapping[int, float]

RATE: Final[Figure] = attrgetter("calls_per_s")
P50: Final[Figure] = attrgetter("p50_ms")
P99: Final[Figure] = attrgetter("p99_stall_ms")
GATEWAY_CPU: Final[Figure] = attrgetter("gateway_cpu_us")
UPSTREAM_CPU: Final[Figure] = attrgetter("upstream_cpu_us")
GATEWAY_RSS: Final[Figure] = attrgetter("gateway_rss_mb")


class Point(NamedTuple):
    """What was asked of a target; a round holds one sample of it, or a few of the same part."""

    target: str
    era: Era = "legacy"
    connections: int = 16
    chars: int = SMALL
    part: Part = "load"
    tools: int = FEW_TOOLS


class Spread(NamedTuple):
    """Median and extremes over the rounds; NaN of nothing."""

    median: float
    low: float
    high: float


def by_round(results: Results, point: Point, figure: Figure) -> ByRound:
    """The figure in each round that has it: the median where a round holds several samples."""
    found: dict[int, list[float]] = defaultdict(list)
    for row in results.rows:
        if (row.target, row.era, row.connections, row.chars, row.part, row.tools) == point:
            found[row.round].append(figure(row.sample))
    return {number: statistics.median(figures) for number, figures in found.items()}


def spread(figures: Iterable[float]) -> Spread:
    seen = [figure for figure in figures if not math.isnan(figure)]
    if not seen:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(statistics.median(seen), min(seen), max(seen))


def compared(left: ByRound, right: ByRound, how: Callable[[float, float], float]) -> float:
    """Median of *how* over the rounds of both: drift between rounds hits both sides and cancels out."""
    both = left.keys() & right.keys()
    return spread(how(left[number], right[number]) for number in both if right[number]).median


def known(pick: Callable[[Sequence[float]], float], figures: Sequence[float]) -> float:
    """*pick* of *figures*; NaN when one of them is, so that an era that failed cannot look good."""
    return math.nan if any(map(math.isnan, figures)) else pick(figures)


# ------------------------------------------------------------------ judging


class Goal(NamedTuple):
    """A target and what was seen. `seen` is NaN when this run does not say."""

    text: str
    sign: Literal["≥", "≤", "<"]
    limit: float
    seen: float
    unit: str

    @property
    def met(self) -> bool | None:
        if math.isnan(self.seen):
            return None
        match self.sign:
            case "≥":
                return self.seen >= self.limit
            case "≤":
                return self.seen <= self.limit
            case "<":
                return self.seen < self.limit


def goals(results: Results) -> list[Goal]:
    """The targets of the project. Absolute ones are judged on the worse of the two eras."""

    def times(peer: str) -> float:
        ours, theirs = by_round(results, Point(BASCULE), RATE), by_round(results, Point(peer), RATE)
        return compared(ours, theirs, truediv)

    def worst(pick: Callable[[Sequence[float]], float], figure: Figure, **point: Any) -> float:
        points = (Point(**{"target": BASCULE, "era": era, **point}) for era in ERAS)
        return known(pick, [spread(by_round(results, point, figure).values()).median for point in points])

    weight = results.footprint
    return [
        Goal("calls/s at 16 connections, of mcp-proxy's", "≥", 10, times(MCP_PROXY), TIMES),
        Goal("calls/s at 16 connections, of FastMCP's proxy", "≥", 25, times(FASTMCP), TIMES),
        Goal("calls/s at 16 connections, of supergateway's", "≥", 5, times(SUPERGATEWAY), TIMES),
        Goal("gateway CPU per call at 16 connections", "≤", 85, worst(max, GATEWAY_CPU), "µs"),
        Goal("errors at 64 connections", "≤", 0, errors(results, (BASCULE, BASCULE_HTTP), 64), ""),
        Goal("p50 at 1 connection, above direct stdio", "≤", 0.2, above_direct_ms(results), "ms"),
        Goal("p99 at 1 connection, stall-corrected", "≤", 0.7, worst(max, P99, connections=1), "ms"),
        Goal("calls/s, HTTP upstream, 16 connections", "≥", 6000, worst(min, RATE, target=BASCULE_HTTP), ""),
        Goal("calls/s, 10 KB text, 16 connections", "≥", 6000, worst(min, RATE, chars=LARGE), ""),
        Goal("gateway memory, idle", "≤", 70, idle(results, BASCULE).median, "MB"),
        Goal("gateway memory, most seen under load", "≤", 70, loaded(results, BASCULE).high, "MB"),
        Goal("memory growth under load", "≤", 5, growth_percent(results, BASCULE), "%"),
        Goal("change of calls/s from 5 to 500 tools", "<", 5, abs(long_list_percent(results, BASCULE)), "%"),
        Goal("base install", "<", 120, weight.install_mb, "MB"),
        Goal("`bascule --version`", "<", 0.25, weight.version_s, "s"),
        Goal("`bascule serve` ready, no upstreams", "<", 1.5, weight.ready_s, "s"),
    ]


def errors(results: Results, targets: Sequence[str], connections: int) -> float:
    """Failed calls at *connections*, all eras and sizes; NaN when nothing was measured there."""
    seen = [row.sample for row in results.rows if row.target in targets and row.connections == connections]
    return sum(sum(sample.errors.values()) for sample in seen) if seen else math.nan


def above_direct_ms(results: Results) -> float:
    """Median latency that Bascule adds to the bare pipe, in the era where it adds more."""
    added = [
        compared(
            by_round(results, Point(BASCULE, era, connections=1), P50),
            by_round(results, Point(PIPE, era, connections=1), P50),
            sub,
        )
        for era in ERAS
    ]
    return known(max, added)


def idle(results: Results, target: str) -> Spread:
    return spread(start.idle_rss_mb for start in results.starts if start.target == target)


def loaded(results: Results, target: str) -> Spread:
    return spread(row.sample.gateway_rss_mb for row in results.rows if row.target == target)


def growth_percent(results: Results, target: str) -> float:
    """Memory after the last measurement of a round against after the first of the same kind."""
    first, last = (by_round(results, Point(target, part=part), GATEWAY_RSS) for part in ("load", "closing"))
    return compared(last, first, percent)


def long_list_percent(results: Results, target: str) -> float:
    few = by_round(results, Point(target, part="catalog", tools=FEW_TOOLS), RATE)
    many = by_round(results, Point(target, part="catalog", tools=MANY_TOOLS), RATE)
    return compared(many, few, percent)


def percent(value: float, base: float) -> float:
    return (value / base - 1) * 100


# ------------------------------------------------------------------ writing


Tables: TypeAlias = Mapping[str, Callable[[Results], str]]


def every_table(results: Results, tables: Tables) -> str:
    """All *tables*, for a terminal."""
    return "\n\n".join(f"## {name}\n\n{write(results)}" for name, write in tables.items())


BLOCK: Final = re.compile(r"(<!-- bench:(?P<name>\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def with_tables(page: str, results: Results, tables: Tables) -> str:
    """*page* with the text between `<!-- bench:NAME -->` and `<!-- /bench -->` replaced; the rest is kept.

    A NAME that is not in *tables* belongs to another run, whose results are not at hand.
    """

    def written(block: re.Match[str]) -> str:
        write = tables.get(block["name"])
        return block[0] if write is None else f"{block[1]}{write(results)}\n{block[3]}"

    return BLOCK.sub(written, page)


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def number(figure: float) -> str:
    """Three significant digits, whole above 100; a dash when unknown."""
    if math.isnan(figure):
        return DASH
    return f"{figure:,.0f}" if abs(figure) >= 100 or figure == 0 else f"{figure:.3g}"


def cell(seen: Spread) -> str:
    if math.isnan(seen.median) or seen.low == seen.high:
        return number(seen.median)
    return f"{number(seen.median)} ({number(seen.low)}{DASH}{number(seen.high)})"


def measured(results: Results) -> list[str]:
    """Names of the targets, in the order of a round."""
    return list(dict.fromkeys(row.target for row in results.rows))


def about_table(results: Results) -> str:
    lines = [(name, text) for name, text in results.about.items()]
    notes = "".join(f"\n- {note}" for note in results.notes)
    return table(("this run", ""), lines) + (f"\n{notes}" if notes else "")


def goals_table(results: Results) -> str:
    return judged(goals(results))


def judged(found: Iterable[Goal]) -> str:
    verdict = {True: "yes", False: "**no**", None: DASH}
    lines = [
        (goal.text, f"{goal.sign} {goal.limit:,} {goal.unit}".strip(), number(goal.seen), verdict[goal.met])
        for goal in found
    ]
    return table(("target", "wanted", "seen", "met?"), lines)


def figures_table(results: Results, columns: Mapping[str, tuple[Mapping[str, Any], Figure]]) -> str:
    """One line per target; a column is a title, the point it shows (but for the target), and the figure."""

    def shown(target: str, at: Mapping[str, Any], figure: Figure) -> str:
        return cell(spread(by_round(results, Point(target, **at), figure).values()))

    def line(target: str) -> list[str]:
        return [target, *(shown(target, *column) for column in columns.values())]

    return table(("", *columns), map(line, measured(results)))


def rates_table(results: Results) -> str:
    return figures_table(
        results,
        {
            f"{era}, {connections}": ({"era": era, "connections": connections}, RATE)
            for era in ERAS
            for connections in CONNECTIONS
        },
    )


def latency_table(results: Results) -> str:
    return figures_table(
        results,
        {
            f"{title}, {connections}": ({"connections": connections}, figure)
            for connections in CONNECTIONS
            for title, figure in (("p50", P50), ("p99", P99))
        },
    )


def large_table(results: Results) -> str:
    return figures_table(results, {era: ({"era": era, "chars": LARGE}, RATE) for era in ERAS})


def cpu_table(results: Results) -> str:
    return figures_table(
        results,
        {
            f"{owner}, {era}": ({"era": era}, figure)
            for era in ERAS
            for owner, figure in (("gateway", GATEWAY_CPU), ("upstream", UPSTREAM_CPU))
        },
    )


def memory_table(results: Results) -> str:
    def cold(target: str) -> Spread:
        return spread(start.cold_start_s for start in results.starts if start.target == target)

    lines = [
        (
            target,
            cell(cold(target)),
            cell(idle(results, target)),
            number(loaded(results, target).high),
            number(growth_percent(results, target)),
            number(long_list_percent(results, target)),
            number(sum(errors(results, [target], connections) for connections in CONNECTIONS)),
        )
        for target in dict.fromkeys(start.target for start in results.starts)
    ]
    head = ("", "cold start, s", "idle, MB", "most, MB", "growth, %", "500 tools, %", "errors")
    return table(head, lines)


TABLES: Final[Tables] = {
    "about": about_table,
    "goals": goals_table,
    "rates": rates_table,
    "latency": latency_table,
    "large": large_table,
    "cpu": cpu_table,
    "memory": memory_table,
}
