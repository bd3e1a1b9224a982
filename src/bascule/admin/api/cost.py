"""What was spent: by caller, team, tool and version; what is left of budgets."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import callers, catalog, slo, usage
from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller
from bascule.errors import Unavailable
from bascule.store.usage import Usage

if TYPE_CHECKING:
    from bascule.app import Gateway

_MOST: Final = 10_000


def operations(gateway: "Gateway") -> Sequence[Operation]:
    async def totals(_: Caller, said: Said) -> Any:
        counted = _usage(gateway)
        month = said.get("month") or datetime.now(UTC).strftime("%Y-%m")
        since_s, until_s = usage.month_of(month)
        teams, by = usage.teams_of(slo.contracts_in(gateway)), said.get("by", "caller")
        rows = await asyncio.to_thread(usage.totals, counted, by, since_s, until_s, teams)
        return {
            "month": month,
            "by": by,
            "calls": sum(each["calls"] for each in rows),
            "cost_usd": round(sum(each["cost_usd"] for each in rows), 9),
            "rows": sorted(rows, key=lambda each: -each["cost_usd"])[:_MOST],
        }

    async def budgets(_: Caller, __: Said) -> Any:
        counted = catalog.usage_of(gateway)
        now_s = time.time()
        others: list[str] = []
        if counted is not None:
            since_s, until_s = usage.month_of(datetime.now(UTC).strftime("%Y-%m"))
            others = [name for (name,) in await asyncio.to_thread(counted.sums, ("caller",), since_s, until_s) if name]
        return {"budgets": await callers.budgets(gateway, others, now_s)}

    return [
        Operation(
            name="cost.totals",
            method="GET",
            path="/api/cost",
            run=totals,
            about="What was spent in a month, by what is asked for; the dearest first.",
            takes={
                "month": Takes(about="such as 2026-11, in UTC; the present one, if it is not said"),
                "by": Takes(about="what it is added up by; callers, if it is not said", choices=tuple(usage.BY)),
            },
        ),
        Operation(
            name="cost.budgets",
            method="GET",
            path="/api/cost/budgets",
            run=budgets,
            about="How much of each caller's budget is spent; the nearest to its end first.",
        ),
    ]


def _usage(gateway: "Gateway") -> Usage:
    found = catalog.usage_of(gateway)
    if found is None:
        raise Unavailable("calls are not counted here: that needs the audit, and a state_dir to keep it in")
    return found
