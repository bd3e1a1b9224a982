"""How things stand at the moment of a scrape, read from a running gateway."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

import bascule

if TYPE_CHECKING:
    from bascule.app import Gateway
    from bascule.observe.logs import CallLog
    from bascule.observe.traces import Tracing
    from bascule.upstream.base import Status

# A server that sleeps until it is called is as good as up: nobody has to do anything about it.
_UP: Final = frozenset({"ready", "idle"})
_PASSING: Final = frozenset({"closed", "held_closed"})


class ServerGauges(msgspec.Struct, frozen=True, kw_only=True):
    """One server."""

    up: bool
    restarts: int
    circuit_open: bool  # calls are refused, all or all but a probe
    definitions_pending: int = 0


class SloGauges(msgspec.Struct, frozen=True, kw_only=True):
    """One objective of one tool's contract."""

    tool: str
    objective: str  # "success" or "latency"
    target: float  # 0 to 1
    budget_remaining: float  # 1: untouched; below 0: overdrawn


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """The whole gateway."""

    version: str = bascule.__version__
    in_flight: int = 0
    sessions: int = 0
    lag_s: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0
    approvals_pending: int = 0
    unrecorded: int = 0
    turned_away: Mapping[str, int] = msgspec.field(default_factory=dict)  # by kind of error, at the door
    lines_dropped: int = 0
    spans_dropped: int = 0
    servers: Mapping[str, ServerGauges] = msgspec.field(default_factory=dict)
    slos: Sequence[SloGauges] = ()


def read(
    gateway: "Gateway",
    *,
    slos: Sequence[SloGauges] = (),
    call_log: "CallLog | None" = None,
    tracing: "Tracing | None" = None,
) -> Gauges:
    """What *gateway* says of itself now. Short: the event loop waits for it."""
    records, cache = gateway.records, gateway.cache.report()
    circuits = gateway.parts.health.report()
    return Gauges(
        in_flight=gateway.observe.in_flight,
        sessions=len(gateway.edge.sessions),
        lag_s=gateway.edge.pressure.report()["lag_ms"] / 1000,
        cache_hits=cache["hits"] + cache["shared"],
        cache_misses=cache["misses"],
        approvals_pending=0 if records is None else records.approvals.pending(),
        unrecorded=0 if records is None or records.audit is None else records.audit.unrecorded,
        turned_away=dict(gateway.observe.turned_away_by_kind),
        lines_dropped=0 if call_log is None else call_log.dropped,
        spans_dropped=0 if tracing is None else tracing.dropped,
        servers={
            name: _server(
                upstream.status(),
                circuit=circuits.get(name, {}).get("state", "closed"),
                pending=gateway.judge.pending(name),
            )
            for name, upstream in gateway.upstreams.items()
        },
        slos=slos,
    )


def _server(status: "Status", *, circuit: str, pending: int) -> ServerGauges:
    return ServerGauges(
        up=status.state.value in _UP,
        restarts=status.restarts,
        circuit_open=circuit not in _PASSING,
        definitions_pending=pending,
    )
