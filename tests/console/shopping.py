"""A gateway with the tools of tests/servers/shop.py, for the pages that are about tools and who calls them."""

import time
from typing import Any, Final

from gateway import Json, local, until
from visiting import Visitor

from bascule.admin import catalog

# Long enough to be no guess; tests alone know them.
AGENT: Final = "agent-key-of-the-tests-0123456789abcdef"
BATCH: Final = "batch-key-of-the-tests-0123456789abcdef"
ENVIRON: Final = {"AGENT_KEY": AGENT, "BATCH_KEY": BATCH}
CALLERS: Final[Json] = {
    "agent": {
        "scopes": ["crm"],
        "keys": ["${env:AGENT_KEY}"],
        "limits": {"budget": {"usd": 0.01, "per": "month"}, "rate": "600/minute"},
    },
    "batch": {"scopes": ["crm:read"], "keys": ["${env:BATCH_KEY}"]},
}
CONTRACTS: Final[list[Json]] = [
    {
        "tool": "crm/create_lead",
        "version": "1.2.0",
        "owner_team": "sales",
        "security_level": "HIGH",
        "side_effect": True,
        "cost_model": {"price_usd": 0.02},
    },
    {
        "tool": "crm/search_leads",
        "version": "1.0.0",
        "owner_team": "sales",
        "side_effect": False,
        "security_level": "LOW",
        "cost_model": {"price_usd": 0.001},
        "slo": {"success": 99, "latency_ms": 1000},
    },
    {
        "tool": "crm/delete_lead",
        "version": "1.0.0",
        "owner_team": "legal",
        "confirm_gate": {"message": "Really delete it?"},
    },
]


def shop(more: int = 0, **options: Any) -> Json:
    return local("shop", "--more", str(more), **options)


async def stocked(at: Visitor, tools: int = 5) -> None:
    """Wait until so many tools are known to the gateway."""

    async def count() -> int:
        return len(catalog.entries(at.gateway))

    await until(count, lambda found: found >= tools)


async def call(at: Visitor, key: str, tool: str = "crm__search_leads", **arguments: Any) -> Json:
    """The answer to a call of the caller whose *key* it is, as a client of MCP makes it."""
    headers = {"authorization": f"Bearer {key}"}
    params = {"name": tool, "arguments": arguments}
    async with at.bascule.modern().open("tools/call", params, headers=headers) as exchange:
        return await exchange.last()


async def status_of(at: Visitor, key: str) -> int:
    """The HTTP status of a call with *key*."""
    headers = {"authorization": f"Bearer {key}"}
    params = {"name": "crm__search_leads", "arguments": {"query": "x"}}
    async with at.bascule.modern().open("tools/call", params, headers=headers) as exchange:
        return exchange.status


async def counted(at: Visitor, calls: int) -> None:
    """Have so many calls in the sums, which are written behind."""
    records = at.gateway.records
    assert records is not None

    async def summed() -> int:
        await records.writer.write(records.usage.flush, durable=True)
        return sum(each.calls for each in records.usage.sums((), 0, time.time() + 60).values())

    await until(summed, lambda found: found >= calls)
