"""A company's gateway with a day behind it: servers, contracts, calls, questions that wait. For pages to show.

Times are those of now, so that what is «an hour ago» stays it; everything else is the same each time.
"""

import math
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from gateway import Json
from visiting import Visitor, at_console

from bascule.store.record import Record

_DEMO: Final = str(Path(__file__).with_name("demo_server.py"))
_CALLERS: Final = ("sales-agent", "support-agent", "nightly-report", "mai@example.com", "research-notebook")
# Of each tool: how much of the traffic it has, how long it takes in ms, what a call costs, how often it fails.
_TRAFFIC: Final[dict[str, tuple[float, float, float, float]]] = {
    "docs/search": (9, 42, 0.0004, 0.0006),
    "crm/find_customer": (7, 18, 0.0, 0.002),
    "crm/create_lead": (3, 120, 0.002, 0.012),
    "docs/summarize": (2.5, 1900, 0.0125, 0.01),
    "billing/get_invoice": (2, 25, 0.0, 0.001),
    "crm/list_activities": (1.6, 64, 0.0, 0.006),
    "billing/list_unpaid": (0.8, 210, 0.0, 0.0),
    "docs/translate": (0.7, 2600, 0.02, 0.03),
    "crm/update_stage": (0.5, 80, 0.0, 0.05),
    "billing/issue_refund": (0.2, 340, 0.0, 0.1),
}
_ENDS: Final = ("failed", "timeout", "scope_denied", "rate_limited", "invalid_argument")


def server(name: str, **more: Any) -> Json:
    return {"command": sys.executable, "args": [_DEMO, name], "stop_grace_s": 0.3, **more}


SERVERS: Final[Json] = {
    "crm": server("crm"),
    "billing": server("billing"),
    "docs": server("docs"),
    "weather": server("weather", trust="review"),
    "legacy-erp": {"command": sys.executable, "args": ["-c", "raise SystemExit('cannot reach erp.internal:1521')"]},
}


def _contract(tool: str, **more: Any) -> Json:
    return {"tool": tool, "version": "1.0.0", "status": "active", **more}


def _reading(tool: str, team: str, level: str) -> Json:
    return _contract(tool, side_effect=False, idempotent=True, security_level=level, owner_team=team)


CONTRACTS: Final[list[Json]] = [
    _contract(
        "crm/create_lead",
        version="1.2.0",
        side_effect=True,
        security_level="HIGH",
        owner_team="sales-platform",
        owner_email="sales-platform@example.com",
        cost_model={"unit": "call", "price_usd": 0.002},
        compliance_status=["GDPR_COMPLIANT"],
        slo={"success": 99, "latency_ms": 800, "latency_percent": 99, "window_days": 7},
    ),
    _contract(
        "billing/issue_refund",
        side_effect=True,
        security_level="HIGH",
        owner_team="finance-systems",
        owner_email="finance@example.com",
        confirm_gate={"when": "args.amount > 100.0", "message": "Refund {args.amount} for invoice {args.invoice}?"},
    ),
    _contract(
        "docs/search",
        side_effect=False,
        idempotent=True,
        security_level="LOW",
        owner_team="knowledge",
        cost_model={"unit": "call", "price_usd": 0.0004},
        slo={"success": 99.9, "latency_ms": 250, "latency_percent": 95, "window_days": 7},
    ),
    _reading("crm/find_customer", "sales-platform", "MEDIUM"),
    _reading("crm/list_activities", "sales-platform", "MEDIUM"),
    _reading("billing/get_invoice", "finance-systems", "MEDIUM"),
    _reading("billing/list_unpaid", "finance-systems", "MEDIUM"),
    _contract("crm/update_stage", side_effect=True, idempotent=True, owner_team="sales-platform"),
    _contract(
        "docs/summarize",
        side_effect=False,
        idempotent=True,
        owner_team="knowledge",
        cost_model={"unit": "call", "price_usd": 0.0125},
    ),
]


@asynccontextmanager
async def scene(*, role: str = "admin", name: str = "mai", hours: float = 24, **more: Any) -> AsyncIterator[Visitor]:
    """Somebody at the console of that company, with *hours* of calls behind it."""
    said = {"contracts": CONTRACTS, "approvals": {"channels": ["inbox"]}, **more}
    async with at_console(SERVERS, role=role, name=name, **said) as at:
        await at.bascule.up("crm", "billing", "docs", "weather")
        await record(at, history(hours))
        await ask(at)
        yield at


async def record(at: Visitor, calls: Iterator[Record]) -> None:
    """Let the audit have all of *calls*, and wait until they are counted."""
    records = at.gateway.records
    assert records is not None
    assert records.audit is not None
    for each in calls:
        if records.audit.full:
            await records.audit.room()
        records.audit.post(each)
    await records.writer.write(lambda connection: None, durable=False)
    while await records.writer.write(records.usage.flush, durable=False):
        pass


async def ask(at: Visitor) -> None:
    """Two calls that wait for a person."""
    client = at.bascule.modern()
    for invoice, amount in (("INV-2026-0417", 1250.0), ("INV-2026-0433", 180.0)):
        await client.ask(
            "tools/call", {"name": "billing__issue_refund", "arguments": {"invoice": invoice, "amount": amount}}
        )


def history(hours: float, per_minute: float = 10.0) -> Iterator[Record]:
    """The calls of the last *hours*, the oldest first: busier by day, with an hour in which one server was slow."""
    chance = random.Random(7)
    now_s = time.time()
    begins_s = now_s - hours * 3600
    tools, weights = list(_TRAFFIC), [weight for weight, *_ in _TRAFFIC.values()]
    at_s, number = begins_s, 0
    while True:
        busy = 0.55 + 0.45 * math.sin((at_s % 86_400) / 86_400 * 2 * math.pi - 1.9)
        at_s += chance.expovariate(per_minute * (0.25 + busy) / 60)
        if at_s >= now_s:
            return
        number += 1
        yield _call(number, at_s, chance.choices(tools, weights)[0], chance, slow=now_s - 7200 < at_s < now_s - 5400)


def _call(number: int, at_s: float, tool: str, chance: random.Random, *, slow: bool) -> Record:
    _, ms, price_usd, failing = _TRAFFIC[tool]
    failed = chance.random() < failing * (8 if slow else 1)
    took_ms = ms * chance.lognormvariate(0, 0.5) * (4 if slow and tool.startswith("docs/") else 1)
    return Record(
        kind="call",
        at_us=int(at_s * 1_000_000),
        call=f"{number:032x}",
        trace_id=f"{chance.getrandbits(128):032x}",
        caller=chance.choices(_CALLERS, (5, 4, 2, 1, 1))[0],
        proof="key",
        method="tools/call",
        thing=tool,
        version="1.2.0" if tool == "crm/create_lead" else "1.0.0",
        server=tool.partition("/")[0],
        decision="allow",
        outcome=chance.choices(_ENDS, (5, 2, 1, 1, 2))[0] if failed else "answered",
        sent=True,
        attempts=1,
        cost_nano_usd=0 if failed else round(price_usd * 1_000_000_000),
        took_us=round(took_ms * 1000),
    )
