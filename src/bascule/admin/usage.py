"""What was used, by whom, and what it cost: for the console, REST and the command line, out of the sums of calls.

Reads take milliseconds to seconds, by how much there is: whoever has an event loop calls them in a thread.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from bascule.admin.audit import csv_line, harmless
from bascule.admin.keys import date_of
from bascule.contract.model import Contract
from bascule.errors import InvalidParams
from bascule.policy.spending import NANO
from bascule.store.usage import (
    DAY,
    HOUR,
    HOURS_KEPT_S,
    MINUTE,
    MINUTES_KEPT_S,
    Buckets,
    Column,
    Difference,
    Point,
    Sum,
    Usage,
    quantile,
)
from bascule.store.writer import Writer

By: TypeAlias = Literal["tool", "caller", "team", "version"]
BY: Final[Sequence[By]] = get_args(By)
TOP: Final = 10
QUANTILES: Final = (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
CHARGED: Final = ("caller", "team", "tool", "version", "calls", "cost_usd")

_STEPS_S: Final = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY)
_POINTS: Final = 150  # of a chart, about
_MOST_POINTS: Final = 2_000
_COLUMNS: Final[Mapping[By, tuple[Column, ...]]] = {
    "tool": ("thing",),
    "team": ("thing",),
    "caller": ("caller",),
    "version": ("thing", "version"),
}
_AGO: Final = re.compile(r"(\d{1,6})(m|h|d|w)")
_UNITS_S: Final = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")

Teams: TypeAlias = Mapping[str, str]  # logical id -> the team that owns it


def teams_of(contracts: Iterable[Contract]) -> Teams:
    """Who owns what, by contracts."""
    return {contract.id: contract.owner_team for contract in contracts if contract.owner_team}


# ---- overview ------------------------------------------------------------------------------------


def overview(usage: Usage, since_s: float, until_s: float, *, top: int = TOP) -> dict[str, Any]:
    """What happened in a time: all of it, the tools and callers with the most calls, and how it went on."""
    both = usage.sums(("thing", "caller"), since_s, until_s)
    tools, callers = _by(both, 0), _by(both, 1)
    latencies = usage.latencies(since_s, until_s)
    everything = sum(tools.values(), Sum())
    return {
        "since": date_of(since_s),
        "until": date_of(until_s),
        **_report(everything, _joined(latencies.values())),
        "tools": [{"tool": tool, **_report(each, latencies.get(tool, {}))} for (tool,), each in _most(tools, top)],
        "callers": [{"caller": caller, **_report(each)} for (caller,), each in _most(callers, top)],
        "series": series(usage, since_s, until_s),
    }


def cards(usage: Usage, since_s: float, until_s: float) -> dict[str, dict[str, Any]]:
    """What there is to say of the use of each tool that was called."""
    latencies = usage.latencies(since_s, until_s)
    found = usage.sums(("thing",), since_s, until_s)
    return {tool: _report(each, latencies.get(tool, {})) for (tool,), each in found.items() if tool}


def per_tool(usage: Usage, tool: str, since_s: float, until_s: float) -> dict[str, Any]:
    """The use of one tool: by version, by caller, and how it went on."""
    versions = usage.sums(("version",), since_s, until_s, thing=tool)
    callers = usage.sums(("caller",), since_s, until_s, thing=tool)
    latencies = usage.latencies(since_s, until_s, thing=tool)
    return {
        "tool": tool,
        "since": date_of(since_s),
        "until": date_of(until_s),
        **_report(sum(versions.values(), Sum()), latencies.get(tool, {})),
        "versions": [{"version": version, **_report(each)} for (version,), each in _most(versions)],
        "callers": [{"caller": caller, **_report(each)} for (caller,), each in _most(callers, TOP)],
        "series": series(usage, since_s, until_s, tool=tool),
    }


def series(
    usage: Usage, since_s: float, until_s: float, *, step_s: int | None = None, tool: str | None = None
) -> dict[str, Any]:
    """Calls, errors, latencies and cost of each step of a time; of steps without calls, too: for a chart.

    Raises InvalidParams for a step that is too short for the time, or finer than what is kept of it.
    """
    fits = step_for(since_s, until_s)
    step = fits if step_s is None else step_s
    if step % MINUTE or step < _resolution(since_s) or (until_s - since_s) / step > _MOST_POINTS:
        raise InvalidParams(f"`step` is a number of seconds, such as {fits}: whole minutes, and so that at most"
                            f" {_MOST_POINTS} steps fit into the time; what is older is kept by the hour")  # fmt: skip
    found = {point.at: point for point in usage.series(since_s, until_s, step, thing=tool)}
    first, last = int(since_s) // step * step, int(until_s) // step * step
    none = Point(0, Sum(), {})
    return {
        "step_s": step,
        "points": [_point(at, found.get(at, none)) for at in range(first, last + 1, step)],
    }


def step_for(since_s: float, until_s: float) -> int:
    """How long a step is, so that a chart of that time is neither a line nor a wall."""
    wanted = max((until_s - since_s) / _POINTS, _resolution(since_s))
    return next((step for step in _STEPS_S if step >= wanted), _STEPS_S[-1])


def _resolution(since_s: float) -> int:
    age_s = time.time() - since_s
    return MINUTE if age_s <= MINUTES_KEPT_S else HOUR if age_s <= HOURS_KEPT_S else DAY


# ---- totals --------------------------------------------------------------------------------------


def totals(usage: Usage, by: By, since_s: float, until_s: float, teams: Teams | None = None) -> list[dict[str, Any]]:
    """The calls of each tool, caller, team or version, those with the most calls first."""
    sums = usage.sums(_COLUMNS[by], since_s, until_s)
    if by == "team":
        return [{"team": team, **_report(each)} for (team,), each in _most(_by_team(sums, teams or {}))]
    latencies = usage.latencies(since_s, until_s) if by == "tool" else {}
    names = tuple("tool" if column == "thing" else column for column in _COLUMNS[by])
    return [
        {**dict(zip(names, keys, strict=True)), **_report(each, latencies.get(keys[0]) if by == "tool" else None)}
        for keys, each in _most(sums)
    ]


def _by(sums: Mapping[tuple[str, ...], Sum], column: int) -> dict[tuple[str, ...], Sum]:
    found: dict[tuple[str, ...], Sum] = {}
    for keys, each in sums.items():
        key = (keys[column],)
        found[key] = found.get(key, Sum()) + each
    return found


def _by_team(sums: Mapping[tuple[str, ...], Sum], teams: Teams) -> dict[tuple[str, ...], Sum]:
    return _by({(teams.get(tool, ""), tool): each for (tool,), each in sums.items()}, 0)


def charge_back(usage: Usage, month: str, teams: Teams) -> list[dict[str, Any]]:
    """What each caller used of each version of each tool in a month, in UTC; *month* is YYYY-MM.

    Raises InvalidParams for anything else.
    """
    since_s, until_s = month_of(month)
    sums = usage.sums(("caller", "thing", "version"), since_s, until_s)
    return [
        {
            "caller": caller,
            "team": teams.get(tool, ""),
            "tool": tool,
            "version": version,
            "calls": each.calls,
            "cost_usd": each.cost_nano_usd / NANO,
            "cost_nano_usd": each.cost_nano_usd,
        }
        for (caller, tool, version), each in sorted(sums.items())
    ]


def charge_back_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """*rows* of a charge-back as CSV (RFC 4180), of which a spreadsheet runs nothing; costs to the last digit."""
    lines = [csv_line(CHARGED)]
    for row in rows:
        cells = {**row, "cost_usd": usd_text(row["cost_nano_usd"])}
        lines.append(csv_line([harmless(cells[name]) for name in CHARGED]))
    return "".join(f"{line}\r\n" for line in lines)


def usd_text(nano_usd: int) -> str:
    """An amount in dollars with all of its digits, and no more."""
    return f"{nano_usd // NANO}.{nano_usd % NANO:09d}".rstrip("0").rstrip(".")


# ---- times ---------------------------------------------------------------------------------------


def moment_of(text: str, now_s: float) -> float:
    """`24h` ago, or a date with or without a time, in UTC unless it says otherwise. Raises InvalidParams."""
    if (ago := _AGO.fullmatch(text.strip())) is not None:
        return max(0.0, now_s - int(ago[1]) * _UNITS_S[ago[2]])
    try:
        moment = datetime.fromisoformat(text.strip())
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidParams(
            f"{text[:40]!r} is no time: write how long ago, such as 24h, or 2026-11-20T08:00Z"
        ) from error
    return max(0.0, found)


def time_of(since: str, until: str, now_s: float, kept_since_s: float) -> tuple[float, float]:
    """From when to when, as `moment_of` reads them: as far back as anything is kept, and no further than now.

    "" for until is now. Raises InvalidParams when there is nothing in between.
    """
    begins = max(moment_of(since, now_s), kept_since_s)
    ends = min(moment_of(until, now_s), now_s) if until else now_s
    if ends <= begins:
        raise InvalidParams("there is no time between `since` and `until`, or nothing is kept of it")
    return begins, ends


def month_of(text: str) -> tuple[int, int]:
    """When a month, YYYY-MM, begins and ends. Raises InvalidParams."""
    found = _MONTH.fullmatch(text)
    if found is None or not 1970 <= int(found[1]) < 9999:
        raise InvalidParams(f"{text[:40]!r} is no month: write it as 2026-11")
    year, month = int(found[1]), int(found[2])
    begins, ends = datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(begins.timestamp()), int(ends.timestamp())


# ---- against the audit ---------------------------------------------------------------------------


def recount(usage: Usage, since_s: float, until_s: float, now_s: float) -> list[Difference]:
    """Where the sums are not what the audit comes to, as far back as they are kept."""
    return usage.recount(max(since_s, usage.kept_since(now_s)), until_s)


async def rebuild(state: Path, since_s: float, until_s: float, now_s: float) -> int:
    """Sum the days of a time anew from the audit, each in a transaction of its own. Returns the calls that are in them.

    A gateway may run meanwhile. Of days that the audit does not reach back to, nothing is left.
    """
    writer = Writer(state)
    usage = Usage(writer.path)
    try:
        writer.start()
        calls = 0
        for day in usage.days(max(since_s, usage.kept_since(now_s)), until_s):
            calls += await writer.write(partial(usage.rebuild, day=day, now_s=now_s), durable=True)
        return calls
    finally:
        writer.close()
        usage.close()


def difference(each: Difference) -> dict[str, Any]:
    """A difference in JSON."""
    return {**msgspec.structs.asdict(each), "at": date_of(each.at)}


# ---- on paper ------------------------------------------------------------------------------------


def _report(sums: Sum, latencies: Buckets | None = None) -> dict[str, Any]:
    errors = sums.calls - sums.categories.get("ok", 0)
    found: dict[str, Any] = {
        "calls": sums.calls,
        "errors": errors,
        "error_rate": round(errors / sums.calls, 6) if sums.calls else 0.0,
        "categories": {name: sums.categories[name] for name in sorted(sums.categories)},
        "cost_usd": sums.cost_nano_usd / NANO,
    }
    return found if latencies is None else found | _quantiles(latencies)


def _point(at: int, point: Point) -> dict[str, Any]:
    return {"at": date_of(at), **_report(point.sum, point.latencies)}


def _quantiles(latencies: Buckets) -> dict[str, float | None]:
    found = {name: quantile(latencies, share) for name, share in QUANTILES}
    return {name: None if us is None else round(us / 1000, 3) for name, us in found.items()}


def _joined(all_latencies: Iterable[Buckets]) -> dict[int, int]:
    found: dict[int, int] = {}
    for buckets in all_latencies:
        for bucket, calls in buckets.items():
            found[bucket] = found.get(bucket, 0) + calls
    return found


def _most(sums: Mapping[tuple[str, ...], Sum], top: int | None = None) -> list[tuple[tuple[str, ...], Sum]]:
    """Those with the most calls first."""
    return sorted(sums.items(), key=lambda each: (-each[1].calls, each[0]))[:top]
