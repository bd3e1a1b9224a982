"""The first page: how things stand, in ten seconds."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import JSONResponse, Response

from bascule.admin import status
from bascule.console.page import ROOT, Missing, Page, View, get
from bascule.console.words import moment
from bascule.errors import Unavailable
from bascule.policy.spending import NANO

if TYPE_CHECKING:
    from bascule.app import Gateway


class Span(msgspec.Struct, frozen=True):
    """A time that the page is about, up to now."""

    name: str
    word: str
    long: str
    seconds: int
    every_s: int  # how often it is worth looking again


SPANS: Final = {
    each.name: each
    for each in (
        Span("15m", "15 min", "15 minutes", 900, 5),
        Span("1h", "1 h", "hour", 3600, 5),
        Span("24h", "24 h", "24 hours", 86_400, 30),
        Span("7d", "7 d", "7 days", 604_800, 60),
    )
}
_FIRST: Final = SPANS["1h"]
_DAY_S: Final = 86_400
_AT_ONCE_S: Final = 3600
_LINES: Final = ("calls", "errors", "p50_ms", "p95_ms", "p99_ms")

# How a call ended, in words for somebody who does not know ours, and how bad that is (observe/outcome.py).
CATEGORIES: Final[Mapping[str, tuple[str, str]]] = {
    "failed": ("the tool failed", "warn"),
    "refused": ("the server refused", "warn"),
    "client": ("wrong call", "off"),
    "transient": ("not reached, or too late", "bad"),
    "security": ("not allowed", "off"),
    "protocol": ("not MCP", "off"),
    "internal": ("fault of Bascule", "bad"),
    "cancelled": ("given up by the caller", "off"),
}
_STATES: Final[Mapping[str, str]] = {
    "ready": "ok",
    "idle": "ok",  # it starts with its first call
    "starting": "wait",
    "off": "off",
    "stopped": "off",
    "down": "bad",
    "failed": "bad",
}


async def show(view: View) -> Response:
    span = _span(view)
    if view.is_part:
        return view.part("overview_use.html", **await _use(view, span))
    # Sums of a long time take a moment: the page is there before them, and a browser without script asks for all of it.
    is_whole = span.seconds <= _AT_ONCE_S or "whole" in view.query
    use = await _use(view, span) if is_whole else _nothing(span)
    return view.page("overview.html", spans=list(SPANS.values()), is_whole=is_whole, **use, **_now(view))


async def now(view: View) -> Response:
    """The tiles that say how things are at this moment."""
    return view.part("overview_now.html", **_now(view))


async def series(view: View) -> Response:
    """Lines of a chart; those that count are by the minute."""
    lines = view.query.get("lines", "").split(",")
    if not set(lines) <= set(_LINES):
        raise Missing("there is no such line")
    try:
        found = await view.perform("usage.series", since=_span(view).name)
    except Unavailable as error:
        return JSONResponse({"at": [], "lines": [], "said": error.message})
    points, minutes = found["points"], found["step_s"] / 60
    if points and not points[-1]["calls"]:
        points = points[:-1]  # it has just begun
    per = {"calls": minutes, "errors": minutes}
    return JSONResponse(
        {
            "at": [moment(point["at"]) for point in points],
            "lines": [[_over(point[line], per.get(line, 1)) for point in points] for line in lines],
        }
    )


def _over(value: float | None, by: float) -> float | None:
    return None if value is None else round(value / by, 3)


def _span(view: View) -> Span:
    return SPANS.get(view.query.get("span", ""), _FIRST)


# ---- what there is to see


def _now(view: View) -> dict[str, Any]:
    report = status.report(view.gateway)
    kinds = {name: _STATES.get(each["state"], "bad") for name, each in report["servers"].items()}
    not_up = [name for name, kind in kinds.items() if kind in ("bad", "wait")]
    is_bad = "bad" in kinds.values()
    return {
        "report": report,
        "up": sum(kind == "ok" for kind in kinds.values()),
        "wanted": sum(kind != "off" for kind in kinds.values()),
        "servers_kind": "bad" if is_bad else "warn" if not_up else "ok" if kinds else "",
        "servers_said": _named(not_up) if not_up else "all of them" if kinds else "none is configured",
        "waiting": view.waiting(),
        "attention": _attention(report),
    }


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"not {', '.join(names[:3])}{more}"


def _attention(report: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """(kind, what somebody has to look at), the worst first."""
    found = [("bad", f"The audit cannot be written: {report['audit']['problem']}")] if _audit_fails(report) else []
    for name, server in report["servers"].items():
        if _STATES.get(server["state"]) == "bad":
            state = {"failed": "has failed"}.get(server["state"], f"is {server['state']}")
            found.append(("bad", f"{name} {state}: {server['last_error'] or 'no reason is known'}"))
    if report["config"]["error"]:
        found.append(("warn", f"The configuration was changed but not adopted: {report['config']['error']}"))
    if report["pressure"]["now"] != "none":
        found.append(("warn", "Requests are turned away now: this process has too much to do."))
    if report["status"] == "draining":
        found.append(("info", "This process is shutting down."))
    return found


def _audit_fails(report: Mapping[str, Any]) -> bool:
    return report["audit"] is not None and bool(report["audit"]["problem"])


async def _use(view: View, span: Span) -> dict[str, Any]:
    """What was called in *span*, and what is left of promises; `use` is None where calls are not counted."""
    said = _nothing(span)
    try:
        said["use"] = await view.perform("usage.overview", since=span.name)
        said["today_usd"] = await _cost_today(view.gateway)
        said["budgets"] = sorted((await view.perform("slo.budgets"))["budgets"], key=lambda each: each["remaining"])
    except Unavailable as error:
        said["why"] = error.message
    return said


def _nothing(span: Span) -> dict[str, Any]:
    url = f"{ROOT}/overview?span={span.name}"
    return {
        "span": span,
        "categories": CATEGORIES,
        "use": None,
        "why": "",
        "today_usd": None,
        "budgets": [],
        "url": url,
    }


async def _cost_today(gateway: "Gateway") -> float | None:
    """Since midnight, in UTC."""
    if gateway.records is None:
        return None
    now_s = time.time()
    sums = await asyncio.to_thread(gateway.records.usage.sums, (), now_s // _DAY_S * _DAY_S, now_s)
    return sum(each.cost_nano_usd for each in sums.values()) / NANO


def _pulse(gateway: "Gateway") -> Any:
    servers = [(name, each.status().state.value) for name, each in gateway.upstreams.items()]
    calls = sum(gateway.observe.calls.values())
    # Calls are seen in the sums some seconds after they ended.
    counted = gateway.records is None or not gateway.records.usage.behind
    return calls, counted, gateway.observe.in_flight, servers, gateway.config_error, gateway.edge.leaving


PAGE: Final = Page(
    name="overview",
    title="Overview",
    icon="overview",
    routes=(get("/overview", show), get("/overview/now", now), get("/overview/series", series)),
    pulse=_pulse,
)
