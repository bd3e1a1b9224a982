"""How the promises of contracts stand: error budgets out of the sums of calls, and rules for Prometheus.

The freeze of promotions asks here whether a budget is spent (registry.freeze).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from bascule.config import Config, sources_of
from bascule.contract.derive import Sources
from bascule.contract.model import Contract, Kind
from bascule.contract.versions import NOTHING_REGISTERED, Registered
from bascule.observe import slo
from bascule.observe.gauges import SloGauges
from bascule.observe.metrics import BUCKETS_S
from bascule.observe.slo import DAY_S, HOUR_S, WINDOWS_S, Counts, Objective
from bascule.store.contracts import Contracts
from bascule.store.files import FILE, is_newest
from bascule.store.routes import Routes
from bascule.store.usage import Buckets, Sum, Usage, within
from bascule.store.writer import Writer

if TYPE_CHECKING:
    from bascule.app import Gateway

_KINDS: Final[Sequence[Kind]] = ("tool", "prompt", "resource")
_RECENT_S: Final = tuple(seconds for seconds in WINDOWS_S if seconds <= 6 * HOUR_S)
_KEPT_S: Final = 60.0  # of what a scrape and a page ask for again and again


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one objective stands."""

    objective: Objective
    window: Counts
    remaining: float
    burn_1h: float
    burn_6h: float
    state: slo.State


# ---- what is promised ----------------------------------------------------------------------------


def contracts_of(config: Config, called: Iterable[str] = ()) -> list[Contract]:
    """The contracts of *config* and of the registry in its state folder, and what rules say of tools *called*."""
    sources = sources_of(config, registered_in(Path(config.state_dir)))
    documented = [(kind, id) for kind in _KINDS for id in sources.ids(kind)]
    known = {id for _, id in documented}
    others: list[tuple[Kind, str]] = [("tool", id) for id in sorted(set(called)) if id and id not in known]
    return list(_effective(sources, [*documented, *others]))


def registered_in(state: Path) -> Registered:
    """What the registry of a state folder says of contracts: nothing, where no gateway has ever run."""
    if not is_newest(state / FILE):
        return NOTHING_REGISTERED
    writer = Writer(state)
    try:
        return Registered(tuple(Contracts(writer, None).active()), Routes(writer, None).known())
    finally:
        writer.close()


def _effective(sources: Sources, ids: Iterable[tuple[Kind, str]]) -> Iterable[Contract]:
    for kind, id in ids:
        yield sources.effective(kind, id, None)


def contracts_in(gateway: "Gateway") -> list[Contract]:
    """The contracts of everything that the servers of *gateway* list now."""
    ways = gateway.govern.ways
    return [way.contract for name in gateway.upstreams for _, _, way in ways.listed(name)]


# ---- how it stands -------------------------------------------------------------------------------


def standings(usage: Usage, promised: Sequence[Objective], now_s: float) -> list[Standing]:
    """How each of the objectives stands now. Takes some queries, of which the longest window's is the slowest."""
    windows = {*(each.window_days * DAY_S for each in promised), *_RECENT_S}
    counted = (
        {seconds: _Counted(usage, promised, now_s - seconds, now_s) for seconds in sorted(windows)} if promised else {}
    )
    return [_standing(each, counted) for each in promised]


class _Counted:
    """The calls of one window."""

    def __init__(self, usage: Usage, promised: Sequence[Objective], since_s: float, until_s: float) -> None:
        names, tools = {each.name for each in promised}, {each.tool for each in promised}
        thing = tools.pop() if len(tools) == 1 else None
        self._sums = usage.sums(("thing",), since_s, until_s, thing=thing) if "success" in names else {}
        self._latencies = usage.latencies(since_s, until_s, thing=thing) if "latency" in names else {}

    def of(self, objective: Objective) -> Counts:
        if objective.name == "success":
            return slo.succeeded(self._sums.get((objective.tool,), Sum()).categories)
        buckets: Buckets = self._latencies.get(objective.tool, {})
        return Counts(within(buckets, objective.limit_s * 1_000_000), sum(buckets.values()))


def _standing(objective: Objective, counted: Mapping[int, _Counted]) -> Standing:
    window = counted[objective.window_days * DAY_S].of(objective)
    recent = {seconds: counted[seconds].of(objective) for seconds in _RECENT_S}
    return Standing(
        objective=objective,
        window=window,
        remaining=slo.remaining(objective, window),
        burn_1h=slo.burn(objective, recent[HOUR_S]),
        burn_6h=slo.burn(objective, recent[6 * HOUR_S]),
        state=slo.state(objective, window, recent),
    )


def spent(usage: Usage, promised: Sequence[Objective], tool: str, now_s: float) -> list[str]:
    """The objectives of *tool* whose error budget is spent, in words; empty if none is."""
    own = [each for each in promised if each.tool == tool]
    return [
        f"its error budget for {each.objective.name} is spent: {_percent(each.window)} of {each.window.total} calls in"
        f" {each.objective.window_days} days were good, {each.objective.target:.4%} were promised"
        for each in standings(usage, own, now_s)
        if each.state == "spent"
    ]


class Budgets:
    """The standings of a running gateway, looked at once a minute at most."""

    def __init__(
        self, usage: Usage, contracts: Callable[[], Iterable[Contract]], clock: Callable[[], float] = time.time
    ) -> None:
        self._usage = usage
        self._contracts = contracts
        self._clock = clock
        self._at_s = -_KEPT_S
        self._found: list[Standing] = []

    def read(self) -> Sequence[Standing]:
        """How everything stands. To be called in a thread of its own: it reads a lot, once a minute."""
        now_s = self._clock()
        if not 0 <= now_s - self._at_s < _KEPT_S:
            self._found = standings(self._usage, slo.objectives(self._contracts()), now_s)
            self._at_s = now_s
        return self._found

    def spent(self, tool: str) -> bool:
        """Whether an error budget of *tool* is spent."""
        return any(each.state == "spent" and each.objective.tool == tool for each in self.read())

    def frozen(self, tool: str) -> str:
        """Why no version of *tool* is promoted now; "" when it may be."""
        now_s = self._clock()
        return "; ".join(spent(self._usage, slo.objectives(self._contracts()), tool, now_s))

    def gauges(self) -> list[SloGauges]:
        """For Prometheus."""
        return [
            SloGauges(
                tool=each.objective.tool,
                objective=each.objective.name,
                target=each.objective.target,
                budget_remaining=each.remaining,
            )
            for each in self.read()
        ]


# ---- on paper ------------------------------------------------------------------------------------


def report(standing: Standing) -> dict[str, Any]:
    """A standing in JSON."""
    objective = standing.objective
    return {
        "tool": objective.tool,
        "objective": objective.name,
        "target": objective.target,
        "limit_ms": objective.limit_s * 1000 if objective.name == "latency" else None,
        "window_days": objective.window_days,
        "good": standing.window.good,
        "total": standing.window.total,
        "remaining": round(standing.remaining, 6),
        "burn_1h": round(standing.burn_1h, 4),
        "burn_6h": round(standing.burn_6h, 4),
        "state": standing.state,
    }


def rules(promised: Sequence[Objective]) -> str:
    """A file of rules for Prometheus."""
    return yaml.safe_dump(slo.rules(promised, BUCKETS_S), sort_keys=False, allow_unicode=True, width=120)


def _percent(counts: Counts) -> str:
    return f"{counts.good / counts.total:.4%}" if counts.total else "none"
