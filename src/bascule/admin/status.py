"""What `/status`, `/health/ready` and `bascule status` say: the truth per server."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import bascule
from bascule.registry.sync import Follower
from bascule.upstream.base import State, Status
from bascule.upstream.stdio import StdioOptions
from bascule.wire.versions import Era

if TYPE_CHECKING:
    from bascule.app import Gateway


def report(gateway: "Gateway") -> dict[str, Any]:
    """Everything an operator looks at first."""
    return {
        "version": bascule.__version__,
        "status": "draining" if gateway.edge.leaving else "not ready" if not_ready(gateway) else "ready",
        "uptime_s": round(time.time() - gateway.observe.started_at, 1),
        "sessions": len(gateway.edge.sessions),
        "parked": len(gateway.parking),
        "calls": {
            "in_flight": gateway.observe.in_flight,
            "by_method": dict(gateway.observe.calls),
            "by_outcome": dict(gateway.observe.outcomes),
        },
        "pressure": gateway.edge.pressure.report(),
        "audit": None if gateway.records is None or gateway.records.audit is None else gateway.records.audit.status(),
        "cache": {name: fact for name, fact in gateway.cache.report().items() if name != "tools"},
        "config": {"loaded_at": gateway.config_loaded_at, "error": gateway.config_error},
        "names": _names(gateway),
        "servers": {name: server_report(gateway, upstream.status()) for name, upstream in gateway.upstreams.items()},
    }


def not_ready(gateway: "Gateway") -> list[str]:
    """Why traffic should go elsewhere: one sentence per required server that is not there."""
    if gateway.edge.leaving:
        return ["this process is shutting down"]
    reasons = []
    for name, options in gateway.config.servers.items():
        if options.required and (reason := _why_not(gateway, name)):
            reasons.append(f"{name}: {reason}")
    return reasons


def _why_not(gateway: "Gateway", name: str) -> str | None:
    status = gateway.upstreams[name].status()
    if status.state is State.READY and any(f.listing and not f.stale for f in gateway.registry.followers(name)):
        return None
    if status.state is State.OFF:
        return None  # somebody wants it so
    options = gateway.config.servers[name]
    if status.state is State.IDLE and isinstance(options, StdioOptions) and options.start == "lazy":
        return None  # it is meant to wait for its first call
    # What anybody may hear; /status, behind the door, has the whole of it.
    told = next((f.error.message for f in gateway.registry.followers(name) if f.error), None)
    if told is None and status.kind == "stdio":
        told = status.last_error
    starting = status.state in (State.IDLE, State.STARTING, State.READY)
    return told or ("is starting" if starting else status.state.value)


def _names(gateway: "Gateway") -> dict[str, Any]:
    """Names that clash, and resources that are shadowed: what clients cannot reach on `/mcp`."""
    catalogs = [gateway.registry.catalog(era) for era in Era]
    return {
        "withheld": sorted({str(clash) for catalog in catalogs for clash in catalog.clashes}),
        "shadowed": sorted({each for catalog in catalogs for each in catalog.shadowed}),
    }


def server_report(gateway: "Gateway", status: Status) -> dict[str, Any]:
    """All that is to be known of one server."""
    followers = list(gateway.registry.followers(status.name))
    listing = next((f.listing for f in followers if f.listing is not None), None)
    error = next((f.error.message for f in followers if f.error is not None), None)
    return {
        "kind": status.kind,
        "state": status.state.value,
        "required": gateway.config.servers[status.name].required,
        "eras": list(status.eras),
        "pids": list(status.pids),
        "restarts": status.restarts,
        "in_flight": status.in_flight,
        "since_s": _rounded(status.since_s),
        "retry_in_s": _rounded(status.retry_in_s),
        "last_error": status.last_error or error,
        "sandbox": status.sandbox,
        "stderr": list(status.stderr)[-20:],
        "circuit": gateway.parts.health.report().get(status.name),
        "dropped": dict(status.dropped),
        "server": dict(status.server),
        "tools": [tool.key for tool in listing.tools] if listing else None,
        "prompts": len(listing.prompts) if listing else None,
        "resources": len(listing.resources) if listing else None,
        "lists": "unknown" if listing is None else "stale" if _is_stale(status, followers) else "fresh",
        "withheld": {**status.withheld, **gateway.govern.ways.withheld(status.name)},
    }


def _is_stale(status: Status, followers: Sequence[Follower]) -> bool:
    return status.state in (State.DOWN, State.FAILED) or all(follower.stale for follower in followers)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
