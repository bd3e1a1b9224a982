"""What was used, what it cost, and how promises stand."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import slo, usage
from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller
from bascule.errors import Unavailable
from bascule.observe.slo import objectives
from bascule.store.usage import Usage

if TYPE_CHECKING:
    from bascule.app import Gateway

_SINCE: Final = Takes(about="how long ago, such as 24h, or a time such as 2026-11-20T08:00Z; default 24h")
_UNTIL: Final = Takes(about="the end of the time, said in the same way; default now")
_TOOL: Final = Takes(about="only of this tool, by its logical id")


def operations(gateway: "Gateway") -> Sequence[Operation]:
    asked = _Usage(gateway)
    return [
        Operation(
            name="usage.overview",
            method="GET",
            path="/api/usage",
            run=asked.overview,
            about="Calls, errors, latencies and cost of a time: of all tools, or of one.",
            takes={"since": _SINCE, "until": _UNTIL, "tool": _TOOL},
        ),
        Operation(
            name="usage.series",
            method="GET",
            path="/api/series",
            run=asked.series,
            about="The same for each step of a time, as a chart needs it.",
            takes={"since": _SINCE, "until": _UNTIL, "tool": _TOOL, "step": Takes("integer", "seconds of a step")},
        ),
        Operation(
            name="usage.chargeback",
            method="GET",
            path="/api/usage/chargeback",
            run=asked.charge_back,
            about="What each caller used of each tool in a month, and what it cost.",
            takes={"month": Takes(about="such as 2026-11, in UTC", needed=True)},
        ),
        Operation(
            name="slo.budgets",
            method="GET",
            path="/api/slo",
            run=asked.budgets,
            about="How much of the error budget is left of each promise that a contract makes.",
        ),
    ]


class _Usage:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    @property
    def _usage(self) -> Usage:
        records = self._gateway.records
        if records is None or records.audit is None:
            raise Unavailable("calls are not counted here: that needs the audit, and a state_dir to keep it in")
        return records.usage

    def _time(self, said: Said) -> tuple[float, float]:
        now_s = time.time()
        return usage.time_of(said.get("since", "24h"), said.get("until", ""), now_s, self._usage.kept_since(now_s))

    async def overview(self, _: Caller, said: Said) -> Any:
        since_s, until_s = self._time(said)
        if "tool" in said:
            return await asyncio.to_thread(usage.per_tool, self._usage, said["tool"], since_s, until_s)
        return await asyncio.to_thread(usage.overview, self._usage, since_s, until_s)

    async def series(self, _: Caller, said: Said) -> Any:
        step_s, tool = said.get("step"), said.get("tool")
        return await asyncio.to_thread(usage.series, self._usage, *self._time(said), step_s=step_s, tool=tool)

    async def charge_back(self, _: Caller, said: Said) -> Any:
        teams = usage.teams_of(slo.contracts_in(self._gateway))
        rows = await asyncio.to_thread(usage.charge_back, self._usage, said["month"], teams)
        return {"month": said["month"], "rows": rows}

    async def budgets(self, _: Caller, __: Said) -> Any:
        promised = objectives(slo.contracts_in(self._gateway))
        found = await asyncio.to_thread(slo.standings, self._usage, promised, time.time())
        return {"budgets": [slo.report(each) for each in found]}
