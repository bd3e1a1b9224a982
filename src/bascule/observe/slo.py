"""What a contract promises (`slo`), and how much of it may still go wrong: error budgets and burn rates. PURE.

An objective is a share of events that are good, within a window that ends now. A budget is the share that may be bad;
a burn rate says how many times as fast it is spent as would last just for the window.
Rules for Prometheus watch the same: two windows have to burn, a long one so that it matters, and a short one so that
it still goes on. Source: Google, The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.contract.model import Contract, Slo

# What a caller gets wrong, may not do, or does not wait for says nothing of whether a tool works.
GOOD: Final = frozenset({"ok"})
BAD: Final = frozenset({"failed", "refused", "transient", "internal"})

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400

Name: TypeAlias = Literal["success", "latency"]
State: TypeAlias = Literal["ok", "burning", "spent"]


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One promise of one tool."""

    tool: str  # its logical id
    name: Name
    target: float  # the share of events that are good, 0 to 1
    window_days: int
    limit_s: float = 0.0  # of latency: a good call takes no longer

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return 1 - self.target


class Counts(msgspec.Struct, frozen=True):
    """Events of one window."""

    good: int = 0
    total: int = 0

    @property
    def bad(self) -> int:
        return self.total - self.good


class Pair(msgspec.Struct, frozen=True):
    """Two windows that have to burn this fast."""

    long_s: int
    short_s: int
    rate: float


class Alert(msgspec.Struct, frozen=True):
    """When somebody should know: one of the pairs burns."""

    name: str
    severity: str
    pairs: Sequence[Pair]
    about: str


ALERTS: Final = (
    Alert(
        "BasculeSloBurnsFast",
        "page",
        (Pair(HOUR_S, 5 * MINUTE_S, 14.4), Pair(6 * HOUR_S, 30 * MINUTE_S, 6.0)),
        "At this rate its error budget is spent within days, or hours.",
    ),
    Alert(
        "BasculeSloBurns",
        "ticket",
        (Pair(DAY_S, 2 * HOUR_S, 3.0), Pair(3 * DAY_S, 6 * HOUR_S, 1.0)),
        "At this rate its error budget does not last for its window.",
    ),
)
WINDOWS_S: Final = tuple(sorted({s for alert in ALERTS for pair in alert.pairs for s in (pair.long_s, pair.short_s)}))


def objectives(contracts: Iterable[Contract]) -> list[Objective]:
    """What *contracts* promise, by tool; of several of one tool the first counts."""
    found: dict[tuple[str, Name], Objective] = {}
    for contract in contracts:
        for each in of_slo(contract.id, contract.slo):
            found.setdefault((each.tool, each.name), each)
    return [found[key] for key in sorted(found)]


def of_slo(tool: str, slo: Slo | None) -> Iterator[Objective]:
    if slo is not None and slo.success is not None:
        yield Objective(tool=tool, name="success", target=_share(slo.success), window_days=slo.window_days)
    if slo is not None and slo.latency_ms is not None:
        target, limit_s = _share(slo.latency_percent), slo.latency_ms / 1000
        yield Objective(tool=tool, name="latency", target=target, window_days=slo.window_days, limit_s=limit_s)


def _share(percent: float) -> float:
    return round(percent / 100, 12)  # 99.9 is 0.999, and not a bit more


# ---- budgets -------------------------------------------------------------------------------------


def succeeded(categories: Mapping[str, int]) -> Counts:
    """How many calls count for success, and how many of them were good."""
    good = sum(categories.get(name, 0) for name in GOOD)
    return Counts(good, good + sum(categories.get(name, 0) for name in BAD))


def remaining(objective: Objective, counts: Counts) -> float:
    """What is left of the budget: 1 all of it, 0 none; below that, so many times too much was spent."""
    return 1 - burn(objective, counts)


def burn(objective: Objective, counts: Counts) -> float:
    """How many times as fast as it may the budget is spent; 0 without events."""
    return counts.bad / counts.total / objective.budget if counts.total else 0.0


def state(objective: Objective, window: Counts, recent: Mapping[int, Counts]) -> State:
    """How an objective stands, by the counts of its *window*, and of *recent* ones by their seconds."""
    if remaining(objective, window) <= 0:
        return "spent"
    rates = {seconds: burn(objective, counts) for seconds, counts in recent.items()}
    pairs = ALERTS[0].pairs
    fast = any(rates.get(p.long_s, 0) >= p.rate and rates.get(p.short_s, 0) >= p.rate for p in pairs)
    return "burning" if fast else "ok"


# ---- rules for Prometheus ------------------------------------------------------------------------


def rules(promised: Sequence[Objective], bounds_s: Sequence[float]) -> dict[str, Any]:
    """Recording and alerting rules as Prometheus reads them. *bounds_s*: of the buckets of durations."""
    groups = []
    for objective in promised:
        short = [seconds for seconds in WINDOWS_S if seconds <= objective.window_days * DAY_S]
        recorded = [_recorded(objective, seconds, bounds_s) for seconds in short]
        groups.append({"name": _group(objective), "rules": [*recorded, *_alerts(objective, short)]})
    return {"groups": groups}


def _group(objective: Objective) -> str:
    return f"bascule slo {objective.name} {objective.tool}"


def _recorded(objective: Objective, window_s: int, bounds_s: Sequence[float]) -> dict[str, Any]:
    return {
        "record": _series(window_s),
        "expr": _bad_of_success(objective, window_s)
        if objective.name == "success"
        else _bad_of_latency(objective, window_s, bounds_s),
        "labels": {"tool": objective.tool, "objective": objective.name},
    }


def _series(window_s: int) -> str:
    return f"bascule:slo_bad_ratio:rate{_span(window_s)}"


def _bad_of_success(objective: Objective, window_s: int) -> str:
    def rate(categories: Iterable[str]) -> str:
        among = "|".join(sorted(categories))
        return f"sum(rate(bascule_calls_total{{tool={_quoted(objective.tool)},category=~{_quoted(among)}}}"\
               f"[{_span(window_s)}]))"  # fmt: skip

    return f"({rate(BAD)} or vector(0)) / {rate(GOOD | BAD)}"


def _bad_of_latency(objective: Objective, window_s: int, bounds_s: Sequence[float]) -> str:
    """The limit may lie between two bounds: of what lies between them, a part in proportion counts as good.

    So does histogram_quantile. Beyond the last bound nothing is known: there all calls count as too slow.
    """
    name, tool, span = "bascule_call_duration_seconds", _quoted(objective.tool), _span(window_s)

    def upto(bound: float) -> str:
        # Servers and clients write whole bounds as 1 or as 1.0.
        text = f"{bound:.10g}"
        among = f'le=~"{text}|{text}[.]0"' if bound == int(bound) else f'le="{text}"'
        return f"sum(rate({name}_bucket{{tool={tool},{among}}}[{span}]))"

    limit = objective.limit_s
    low = max((bound for bound in bounds_s if bound <= limit), default=None)
    high = min((bound for bound in bounds_s if bound > limit), default=None)
    good = "0" if low is None else upto(low)
    if low != limit and high is not None:
        share = (limit - (low or 0)) / (high - (low or 0))
        good = f"({good} + {share:.6g} * ({upto(high)} - {good}))"
    return f"1 - {good} / sum(rate({name}_count{{tool={tool}}}[{span}]))"


def _alerts(objective: Objective, recorded_s: Sequence[int]) -> Iterator[dict[str, Any]]:
    where = f"{{tool={_quoted(objective.tool)},objective={_quoted(objective.name)}}}"
    for alert in ALERTS:
        pairs = [pair for pair in alert.pairs if pair.long_s in recorded_s]
        if not pairs:
            continue
        burning = [
            " and ".join(
                f"{_series(seconds)}{where} > {pair.rate * objective.budget:.10g}"
                for seconds in (pair.long_s, pair.short_s)
            )
            for pair in pairs
        ]
        yield {
            "alert": alert.name,
            "expr": " or ".join(f"({each})" for each in burning) if len(burning) > 1 else burning[0],
            "labels": {"severity": alert.severity, "tool": objective.tool, "objective": objective.name},
            "annotations": {
                # Values of labels are filled in by Prometheus: the name of a tool is no template of ours.
                "summary": "{{ $labels.tool }}: its promise of {{ $labels.objective }} is being broken",
                "description": f"{alert.about} Now {{{{ $value | humanizePercentage }}}} of its calls are bad;"
                f" {objective.budget * 100:.4g} % may be. See `bascule slo budgets`.",
            },
        }


def _span(seconds: int) -> str:
    for unit_s, unit in ((DAY_S, "d"), (HOUR_S, "h")):
        if seconds % unit_s == 0:
            return f"{seconds // unit_s}{unit}"
    return f"{seconds // MINUTE_S}m"


def _quoted(text: str) -> str:
    """A string of PromQL: what JSON escapes, it reads the same way."""
    return msgspec.json.encode(text).decode()
