"""The figures of one measurement: percentiles that do not hide stalls, and cost per call. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exchange import Load
from proc import Cost, Reading


class Look(NamedTuple):
    """The clock, our own CPU time and the target's cost, at one moment."""

    at_s: float
    client_cpu_s: float
    target: Reading


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one measurement saw. CPU is per good call; memory is at its end, in units of 10^6 bytes."""

    calls: int
    calls_per_s: float
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float
    p99_stall_ms: float
    max_ms: float
    gateway_cpu_us: float
    upstream_cpu_us: float
    client_cpu_us: float
    gateway_rss_mb: float
    upstream_rss_mb: float
    gateway_processes: int
    strangers_cores: float


def stall_corrected(latencies_s: Sequence[float], usual_s: float) -> list[float]:
    """*latencies_s*, sorted, with the calls added that a stall kept from being sent.

    A call that took k times the usual interval stands for k-1 that would have waited, each one interval
    less than the one before: the correction of HdrHistogram, also applied by wrk.
    """
    waited = [
        latency_s - missed * usual_s
        for latency_s in latencies_s
        if latency_s >= 2 * usual_s
        for missed in range(1, int(latency_s / usual_s))
    ]
    return sorted([*latencies_s, *waited])


def percentile_ms(ordered_s: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; NaN of nothing."""
    if not ordered_s:
        return math.nan
    return round(ordered_s[max(0, math.ceil(share * len(ordered_s)) - 1)] * 1e3, 4)


def summary(load: Load, latencies_s: Sequence[float], errors: Mapping[str, int], before: Look, after: Look) -> Sample:
    """The sample of the window between *before* and *after*."""
    window_s, calls, ordered_s = after.at_s - before.at_s, len(latencies_s), sorted(latencies_s)
    corrected_s = stall_corrected(ordered_s, window_s * load.connections / calls) if calls else []
    gateway_cpu_s = after.target.gateway.cpu_s - before.target.gateway.cpu_s
    upstream_cpu_s = after.target.upstream.cpu_s - before.target.upstream.cpu_s
    client_cpu_s = after.client_cpu_s - before.client_cpu_s
    busy_s = after.target.machine_busy_s - before.target.machine_busy_s
    strangers_s = busy_s - gateway_cpu_s - upstream_cpu_s - client_cpu_s

    def us_per_call(cpu_s: float) -> float:
        return round(cpu_s / calls * 1e6, 2) if calls else math.nan

    return Sample(
        calls=calls,
        calls_per_s=round(calls / window_s, 1),
        errors=dict(errors),
        p50_ms=percentile_ms(ordered_s, 0.50),
        p99_ms=percentile_ms(ordered_s, 0.99),
        p99_stall_ms=percentile_ms(corrected_s, 0.99),
        max_ms=percentile_ms(ordered_s, 1.0),
        gateway_cpu_us=us_per_call(gateway_cpu_s),
        upstream_cpu_us=us_per_call(upstream_cpu_s),
        client_cpu_us=us_per_call(client_cpu_s),
        gateway_rss_mb=megabytes(after.target.gateway),
        upstream_rss_mb=megabytes(after.target.upstream),
        gateway_processes=after.target.gateway.processes,
        strangers_cores=round(strangers_s / window_s, 3),
    )


def failed(reason: str) -> Sample:
    """The sample of a target that did not get as far as the first call."""
    nothing = Reading(Cost(), Cost(), 0.0)
    return summary(Load("legacy", 1), [], {f"setup: {reason}": 1}, Look(0, 0, nothing), Look(1, 0, nothing))


def megabytes(cost: Cost) -> float:
    return round(cost.rss_bytes / 1e6, 1)
