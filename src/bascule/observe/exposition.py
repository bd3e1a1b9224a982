"""The page that Prometheus reads. Imported with the first scrape: prometheus_client takes longer to load than Bascule.

What is read is copied in the loop's thread, which takes well under a millisecond, and written in another one.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from bascule.observe.gauges import Gauges
from bascule.observe.metrics import BUCKETS_S, Labels, Series
from bascule.policy.outcome import CATEGORIES

_OPENMETRICS: Final = "application/openmetrics-text"
_EOF: Final = b"# EOF\n"
_LE: Final = (*(str(bound) for bound in BUCKETS_S), "+Inf")
_NANO: Final = 1_000_000_000


class Exposition:
    """One gateway's registry, and the page that is made of it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self._gauges = Gauges()
        self._rising = _Rising()
        self._one = asyncio.Lock()  # a scrape at a time: many at once would only be slower

    async def page(self, calls: Sequence[tuple[Labels, Series]], gauges: Gauges, accept: str) -> tuple[str, bytes]:
        """(content type, body), in the format that *accept*, the header of that name, asks for."""
        async with self._one:
            self._gauges = gauges
            if _OPENMETRICS in accept.lower():
                return openmetrics.CONTENT_TYPE_LATEST, await asyncio.to_thread(self._as_openmetrics, calls)
            return CONTENT_TYPE_PLAIN_0_0_4, await asyncio.to_thread(self._as_text, calls)

    def _as_text(self, calls: Sequence[tuple[Labels, Series]]) -> bytes:
        return generate_latest(self._registry) + told(calls, suffix="_total")

    def _as_openmetrics(self, calls: Sequence[tuple[Labels, Series]]) -> bytes:
        rest: bytes = openmetrics.generate_latest(self._registry, version="1.0.0")  # type: ignore[no-untyped-call]  # it has no types
        return rest.removesuffix(_EOF) + told(calls, suffix="") + _EOF

    # ---- prometheus_client.registry.Collector

    def collect(self) -> Iterator[Metric]:
        """In the thread that writes the page."""
        yield from _of_gateway(self._gauges, self._rising)
        yield from _of_servers(self._gauges, self._rising)
        yield from _of_objectives(self._gauges)


class _Rising:
    """Counters that are read elsewhere, as Prometheus wants them: what falls would look like a restart of ours."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def __call__(self, name: str, now: int) -> int:
        risen = max(0, now - self._last.get(name, 0))
        self._last[name] = now
        self._total[name] = self._total.get(name, 0) + risen
        return self._total[name]


def told(calls: Sequence[tuple[Labels, Series]], *, suffix: str) -> bytes:
    """What there is to say of calls. *suffix*: of the name of a counter where it is described, which formats differ in.

    Written here: of hundreds of tools the library takes twenty times as long, and no call gets on meanwhile.
    """
    totals, times, costs = [], [], Counter[str]()
    for labels, series in calls:
        said = 'method="{}",tool="{}",server="{}"'.format(*map(_escaped, labels))
        for category, count in zip(CATEGORIES, series.calls, strict=True):
            if count or category == "ok":  # from nothing to one is a rise only where there was a nothing
                totals.append(f'bascule_calls_total{{{said},category="{category}"}} {count}')
        times += _timed(said, series)
        if series.cost_nano_usd:
            costs[labels[1]] += series.cost_nano_usd
    lines = [
        *_about(f"bascule_calls{suffix}", "counter", "Calls that are over, by how they ended."),
        *totals,
        *_about("bascule_call_duration_seconds", "histogram",
                "How long calls took that got as far as their tool, until the answer; waiting for people included."),
        *times,
        *_about(f"bascule_cost_usd{suffix}", "counter", "What calls have cost, in US dollars."),
        *(f'bascule_cost_usd_total{{tool="{_escaped(tool)}"}} {nano / _NANO}' for tool, nano in costs.items()),
        "",
    ]  # fmt: skip
    return "\n".join(lines).encode("utf-8", "replace")


def _about(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _timed(said: str, series: Series) -> list[str]:
    """The lines of one histogram; none where no call got as far as the tool."""
    count = sum(series.took)
    if not count:
        return []
    name = "bascule_call_duration_seconds"
    buckets = zip(_LE, accumulate(series.took), strict=True)
    return [
        *(f'{name}_bucket{{{said},le="{bound}"}} {below}' for bound, below in buckets),
        f"{name}_count{{{said}}} {count}",
        f"{name}_sum{{{said}}} {series.took_us / 1_000_000}",
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _of_gateway(now: Gauges, rising: _Rising) -> Iterator[Metric]:
    build = GaugeMetricFamily("bascule_build_info", "Which Bascule this is; always 1.", labels=("version",))
    build.add_metric((now.version,), 1)
    away = CounterMetricFamily(
        "bascule_turned_away", "Requests that were refused at the door: no calls, or nobody's.", labels=("kind",)
    )
    for kind, count in now.turned_away.items():
        away.add_metric((kind,), count)
    yield from (build, away)
    yield GaugeMetricFamily("bascule_calls_in_flight", "Calls that run or wait now.", now.in_flight)
    yield GaugeMetricFamily("bascule_sessions", "Sessions of clients that have any.", now.sessions)
    yield GaugeMetricFamily("bascule_event_loop_lag_seconds", "How late the process is with its work.", now.lag_s)
    yield GaugeMetricFamily("bascule_approvals_pending", "Questions that wait for a person.", now.approvals_pending)
    hits, misses = rising("hits", now.cache_hits), rising("misses", now.cache_misses)
    yield CounterMetricFamily("bascule_cache_hits", "Calls that were answered from the cache.", hits)
    yield CounterMetricFamily("bascule_cache_misses", "Calls of cached tools that had to be made.", misses)
    yield CounterMetricFamily("bascule_audit_unrecorded", "Refusals that found no room in the audit.", now.unrecorded)
    yield CounterMetricFamily("bascule_log_lines_dropped", "Calls whose line in the log is missing.", now.lines_dropped)
    yield CounterMetricFamily("bascule_spans_dropped", "Spans that were not sent.", now.spans_dropped)


def _of_servers(now: Gauges, rising: _Rising) -> Iterator[Metric]:
    up = GaugeMetricFamily("bascule_upstream_up", "Whether a server can be called.", labels=("server",))
    restarts = CounterMetricFamily(
        "bascule_upstream_restarts", "How often its process was restarted.", labels=("server",)
    )
    circuit = GaugeMetricFamily("bascule_circuit_open", "Whether its calls are refused for now.", labels=("server",))
    pending = GaugeMetricFamily(
        "bascule_definitions_pending", "Definitions that wait for somebody to approve them.", labels=("server",)
    )
    for name, server in now.servers.items():
        up.add_metric((name,), server.up)
        restarts.add_metric((name,), rising(f"restarts of {name}", server.restarts))
        circuit.add_metric((name,), server.circuit_open)
        pending.add_metric((name,), server.definitions_pending)
    yield from (up, restarts, circuit, pending)


def _of_objectives(now: Gauges) -> Iterator[Metric]:
    labels = ("tool", "objective")
    target = GaugeMetricFamily("bascule_slo_objective", "What a contract promises, 0 to 1.", labels=labels)
    left = GaugeMetricFamily("bascule_slo_budget_remaining", "Of the error budget, 1 to below 0.", labels=labels)
    for slo in now.slos:
        target.add_metric((slo.tool, slo.objective), slo.target)
        left.add_metric((slo.tool, slo.objective), slo.budget_remaining)
    yield from (target, left)
