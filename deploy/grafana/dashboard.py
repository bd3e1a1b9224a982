"""The Grafana dashboard of Bascule, as code: `python deploy/grafana/dashboard.py` writes bascule.json beside it.

Plain dicts of the dashboard's JSON model, for Grafana 10 and later. tests/deploy checks every query against what a
gateway exposes, and that the file is what this makes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

FILE: Final = Path(__file__).with_name("bascule.json")
SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24  # of Grafana's grid

CALLS: Final = 'bascule_calls_total{server=~"$server",tool=~"$tool"}'
TOOL_CALLS: Final = 'bascule_calls_total{server=~"$server",tool=~"$tool",tool!=""}'
TOOK: Final = 'bascule_call_duration_seconds_bucket{server=~"$server",tool=~"$tool"}'
# As promises count: what a caller got wrong, or may not do, says nothing of a tool.
BAD: Final = f'{TOOL_CALLS[:-1]},category=~"failed|refused|transient|internal"}}'
JUDGED: Final = f'{TOOL_CALLS[:-1]},category=~"ok|failed|refused|transient|internal"}}'

GREEN: Final = "green"
ORANGE: Final = "orange"
RED: Final = "red"
COLORS: Final = {
    "ok": GREEN,
    "failed": RED,
    "refused": "dark-red",
    "transient": ORANGE,
    "internal": "purple",
    "client": "blue",
    "security": "dark-yellow",
    "protocol": "light-blue",
    "cancelled": "gray",
}


# ---- panels --------------------------------------------------------------------------------------


def panel(kind: str, title: str, about: str, queries: Mapping[str, str], width: int, height: int, **more: Any) -> Json:
    """One panel; *queries* are PromQL by their legends."""
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        for number, (legend, expr) in enumerate(queries.items())
    ]
    size = {"w": width, "h": height}
    return {"type": kind, "title": title, "description": about, "datasource": SOURCE, "targets": targets,
            "gridPos": size, **more}  # fmt: skip


def stat(title: str, about: str, expr: str, unit: str = "short", bounds: Sequence[tuple[float, str]] = ()) -> Json:
    """A number; *bounds* say from where on it has which colour."""
    steps: list[Json] = [{"color": GREEN if bounds else "text", "value": None}]
    steps += [{"color": color, "value": value} for value, color in bounds]
    look = {"unit": unit, "noValue": "0", "thresholds": {"mode": "absolute", "steps": steps}}
    options = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return panel("stat", title, about, {"": expr}, 3, 4, fieldConfig=fields(look), options=options)


def lines(title: str, about: str, unit: str, queries: Mapping[str, str], *, stacked: bool = False, **more: Any) -> Json:
    """Lines over time."""
    drawing: Json = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if stacked else 5, "showPoints": "never"}
    if stacked:
        drawing["stacking"] = {"mode": "normal"}
    look = {"unit": unit, "min": 0, "custom": drawing, **more.pop("look", {})}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    config = fields(look, more.pop("overrides", []))
    return panel("timeseries", title, about, queries, 12, 8, fieldConfig=config, options=options)


def bars(title: str, about: str, unit: str, queries: Mapping[str, str], bounds: Sequence[tuple[float, str]]) -> Json:
    """One bar for each series, as things stand now; *bounds* as in `stat`, from the lowest on."""
    (_, lowest), *others = bounds
    steps: list[Json] = [{"color": lowest, "value": None}, *({"color": c, "value": v} for v, c in others)]
    look = {"unit": unit, "min": 0, "max": 1, "thresholds": {"mode": "absolute", "steps": steps}}
    options = {"orientation": "horizontal", "displayMode": "lcd", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return panel("bargauge", title, about, queries, 12, 8, fieldConfig=fields(look), options=options)


def fields(look: Json, overrides: Sequence[Json] = ()) -> Json:
    return {"defaults": look, "overrides": list(overrides)}


def colored(names: Mapping[str, str]) -> list[Json]:
    """The same colour for the same word, in every panel."""
    return [
        {"matcher": {"id": "byName", "options": name},
         "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
        for name, color in names.items()
    ]  # fmt: skip


def quantiles(of: str) -> dict[str, str]:
    return {
        f"p{share * 100:g}": f"histogram_quantile({share:g}, sum by (le) (rate({of}[$__rate_interval])))"
        for share in (0.5, 0.95, 0.99)
    }


# ---- rows ----------------------------------------------------------------------------------------


def now() -> Iterator[Json]:
    yield stat("Calls", "Per second, of all kinds.", f"sum(rate({CALLS}[$__rate_interval]))", "reqps")
    yield stat(
        "Errors",
        "Share of tool calls that a tool, its server or Bascule failed.",
        f"(sum(rate({BAD}[$__rate_interval])) or vector(0)) / sum(rate({JUDGED}[$__rate_interval]))",
        "percentunit",
        [(0.01, ORANGE), (0.05, RED)],
    )
    yield stat("p99", "Time until the answer, for 99 % of the calls.", quantiles(TOOK)["p99"], "s")
    yield stat("In flight", "Calls that run or wait.", "sum(bascule_calls_in_flight)")
    yield stat(
        "Servers down", "That cannot be called.", "count(bascule_upstream_up == 0) or vector(0)", bounds=[(1, RED)]
    )
    yield stat("Circuits open", "Servers that are left alone for a while.", "sum(bascule_circuit_open)",
               bounds=[(1, ORANGE)])  # fmt: skip
    yield stat("Approvals", "Questions that wait for a person.", "sum(bascule_approvals_pending)", bounds=[(1, ORANGE)])
    yield stat(
        "Unrecorded",
        "Requests that were refused, and are not in the audit, in the last day.",
        "sum(increase(bascule_audit_unrecorded_total[1d]))",
        bounds=[(1, RED)],
    )


def calls() -> Iterator[Json]:
    rate = "[$__rate_interval]))"
    yield lines(
        "Calls by how they ended",
        "client, security and protocol are the caller's; failed, refused and transient the server's; internal is ours.",
        "reqps",
        {"{{category}}": f"sum by (category) (rate({CALLS}{rate}"},
        stacked=True,
        overrides=colored(COLORS),
    )
    yield lines("Errors by category", "All but ok.", "reqps",
                {"{{category}}": f'sum by (category) (rate(bascule_calls_total{{server=~"$server",tool=~"$tool",'
                                 f'category!="ok"}}{rate}'}, overrides=colored(COLORS))  # fmt: skip
    yield lines("Latency", "Of calls that came as far as their tool; waiting for people included.", "s",
                quantiles(TOOK))  # fmt: skip
    yield lines(
        "Slowest tools",
        "The ten with the highest p95.",
        "s",
        {"{{tool}}": f"topk(10, histogram_quantile(0.95, sum by (tool, le) (rate({TOOK}{rate}))"},
    )
    yield lines("Busiest tools", "The ten that are called most.", "reqps",
                {"{{tool}}": f"topk(10, sum by (tool) (rate({TOOL_CALLS}{rate})"})  # fmt: skip
    yield lines("Methods", "What clients ask for.", "reqps",
                {"{{method}}": f'sum by (method) (rate(bascule_calls_total{{server=~"$server"}}{rate}'})  # fmt: skip


def servers() -> Iterator[Json]:
    of = '{server=~"$server"}'
    yield bars("Servers that can be called", "1 is up, 0 is down.", "short",
               {"{{server}}": f"min by (server) (bascule_upstream_up{of})"}, [(0, RED), (1, GREEN)])  # fmt: skip
    yield lines(
        "Restarts",
        "Of processes, in an hour.",
        "short",
        {"{{server}}": f"sum by (server) (increase(bascule_upstream_restarts_total{of}[1h]))"},
    )
    yield lines("Open circuits", "Servers whose calls are refused for now, because too many failed.", "short",
                {"{{server}}": f"max by (server) (bascule_circuit_open{of})"})  # fmt: skip
    yield lines(
        "Definitions that wait for a review",
        "Tools that are new or changed: they are withheld until somebody approves them.",
        "short",
        {"{{server}}": f"max by (server) (bascule_definitions_pending{of})"},
    )


def promises() -> Iterator[Json]:
    of = '{tool=~"$tool"}'
    yield bars(
        "Error budget left",
        "Of each promise that a contract makes (slo). Nothing left: promotions freeze, if registry.freeze is on.",
        "percentunit",
        {"{{tool}} {{objective}}": f"min by (tool, objective) (bascule_slo_budget_remaining{of})"},
        [(0, RED), (0.1, ORANGE), (0.5, GREEN)],
    )
    yield lines(
        "Error budget over time",
        "Below 0 more went wrong than was promised.",
        "percentunit",
        {"{{tool}} {{objective}}": f"min by (tool, objective) (bascule_slo_budget_remaining{of})"},
        look={"min": None, "max": 1},
    )
    yield lines(
        "Burn rate in an hour",
        "How many times as fast as it may a budget is spent, by the rules of `bascule slo rules`. 14.4 pages somebody.",
        "short",
        {
            "{{tool}} {{objective}}": f"max by (tool, objective) (bascule:slo_bad_ratio:rate1h{of})"
            f" / (1 - max by (tool, objective) (bascule_slo_objective{of}))"
        },
    )
    yield lines("Promises", "The share of calls that is to be good.", "percentunit",
                {"{{tool}} {{objective}}": f"max by (tool, objective) (bascule_slo_objective{of})"},
                look={"min": None, "max": 1})  # fmt: skip


def money_and_people() -> Iterator[Json]:
    of = '{tool=~"$tool"}'
    yield lines(
        "Cost by tool",
        "US dollars an hour, of the ten that cost most.",
        "currencyUSD",
        {"{{tool}}": f"topk(10, sum by (tool) (rate(bascule_cost_usd_total{of}[$__rate_interval])) * 3600)"},
        stacked=True,
    )
    yield lines("Approvals that wait", "Calls that a person has to confirm.", "short",
                {"waiting": "sum(bascule_approvals_pending)"})  # fmt: skip
    hits, misses = (f"sum(rate(bascule_cache_{each}_total[$__rate_interval]))" for each in ("hits", "misses"))
    yield lines("Cache", "Share of calls of cached tools that were answered from it.", "percentunit",
                {"hits": f"{hits} / ({hits} + {misses})"}, look={"max": 1})  # fmt: skip
    yield lines(
        "Turned away at the door",
        "Requests that were no calls, or nobody's.",
        "reqps",
        {"{{kind}}": "sum by (kind) (rate(bascule_turned_away_total[$__rate_interval]))"},
    )


def gateway() -> Iterator[Json]:
    yield lines("Event loop lag", "How late the process is with its work; above 0.25 s it turns calls away.", "s",
                {"{{instance}}": "max by (instance) (bascule_event_loop_lag_seconds)"})  # fmt: skip
    yield lines("Calls in flight and sessions", "As they stand.", "short",
                {"in flight": "sum(bascule_calls_in_flight)", "sessions": "sum(bascule_sessions)"})  # fmt: skip
    yield lines(
        "What was not written",
        "Per hour: refusals that are not in the audit, lines that are not in the log, spans that were not sent.",
        "short",
        {
            "audit": "sum(increase(bascule_audit_unrecorded_total[1h]))",
            "log": "sum(increase(bascule_log_lines_dropped_total[1h]))",
            "spans": "sum(increase(bascule_spans_dropped_total[1h]))",
        },
    )
    yield lines("Versions", "Instances of each version.", "short",
                {"{{version}}": "count by (version) (bascule_build_info)"})  # fmt: skip


# ---- the dashboard -------------------------------------------------------------------------------

ROWS: Final = (
    ("Now", now),
    ("Calls", calls),
    ("Servers", servers),
    ("Promises", promises),
    ("Money and people", money_and_people),
    ("Gateway", gateway),
)


def placed() -> list[Json]:
    """All panels, from left to right and from top to bottom."""
    found: list[Json] = []
    top = 0
    for title, panels in ROWS:
        found.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [],
             "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}}
        )  # fmt: skip
        top += 1
        left = height = 0
        for each in panels():
            size = each["gridPos"]
            if left + size["w"] > COLUMNS:
                left, top = 0, top + height
            found.append({**each, "gridPos": {"x": left, "y": top, **size}})
            left, height = left + size["w"], size["h"]
        top += height
    return [{"id": number, **each} for number, each in enumerate(found, 1)]


def variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the time changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> Json:
    return {
        "uid": "bascule",
        "title": "Bascule",
        "description": "A governed gateway of MCP servers: calls, servers, promises, cost.",
        "tags": ["bascule", "mcp"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                variable("server", "Server", "label_values(bascule_upstream_up, server)"),
                variable("tool", "Tool", "label_values(bascule_calls_total, tool)"),
            ]
        },
        "panels": placed(),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
