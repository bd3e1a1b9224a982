"""The page that Prometheus reads. Imported with the first scrape: prometheus_client takes longer to load than Bascule.

What is read is copied in the loop's thread, which takes well under a millisecond, and written in another one: of
hundreds of tools that takes longer than a call may wait.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from bascule.observe.gauges import Gauges
from bascule.observe.metrics import BUCKETS_S, Labels, Series
from bascule.policy.outcome import CATEGORIES

_OPENMETRICS: Final = "application/openmetrics-text"
_CALL: Final = ("method", "tool", "server")
_LE: Final = (*(str(bound) for bound in BUCKETS_S), "+Inf")
_NANO: Final = 1_000_000_000


class Exposition:
    """One gateway's registry, and the page that is made of it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self._calls: Sequence[tuple[Labels, Series]] = ()
        self._gauges = Gauges()
        self._rising = _Rising()
        self._one = asyncio.Lock()  # a scrape at a time: many at once would only be slower

    async def page(self, calls: Sequence[tuple[Labels, Series]], gauges: Gauges, accept: str) -> tuple[str, bytes]:
        """(content type, body), in the format that *accept*, the header of that name, asks for."""
        async with self._one:
            self._calls, self._gauges = calls, gauges
            if _OPENMETRICS in accept.lower():
                body = await asyncio.to_thread(openmetrics.generate_latest, self._registry, version="1.0.0")
                return openmetrics.CONTENT_TYPE_LATEST, body
            return CONTENT_TYPE_PLAIN_0_0_4, await asyncio.to_thread(generate_latest, self._registry)

    # ---- prometheus_client.registry.Collector

    def collect(self) -> Iterator[Metric]:
        """In the thread that writes the page."""
        yield from _of_calls(self._calls)
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


def _of_calls(calls: Sequence[tuple[Labels, Series]]) -> Iterator[Metric]:
    total = CounterMetricFamily("bascule_calls", "Calls that are over, by how they ended.", labels=(*_CALL, "category"))
    took = HistogramMetricFamily(
        "bascule_call_duration_seconds",
        "How long calls took that got as far as their tool, until the answer; waiting for people included.",
        labels=_CALL,
    )
    costs: defaultdict[str, int] = defaultdict(int)
    for labels, series in calls:
        for category, count in zip(CATEGORIES, series.calls, strict=True):
            if count or category == "ok":  # from nothing to one is a rise only where there was a nothing
                total.add_metric((*labels, category), count)
        if any(series.took):
            took.add_metric(labels, _buckets(series.took), series.took_us / 1_000_000)
        if series.cost_nano_usd:
            costs[labels[1]] += series.cost_nano_usd
    cost = CounterMetricFamily("bascule_cost_usd", "What calls have cost, in US dollars.", labels=("tool",))
    for tool, nano_usd in costs.items():
        cost.add_metric((tool,), nano_usd / _NANO)
    yield from (total, took, cost)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    return [(bound, float(count)) for bound, count in zip(_LE, accumulate(counts), strict=True)]


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
