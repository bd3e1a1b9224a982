"""What has been done in a session so far, for rules that look at it: calls, calls of each tool, money."""

from typing import Any, Final

from bascule.call import Call
from bascule.pipeline.whose import session_key
from bascule.policy.spending import usd_of
from bascule.store.shared import SharedState

# A stateless caller says nowhere that it has finished: half an hour without a call ends its session.
SESSION_IDLE_S: Final = 1800.0
_CALLS: Final = "calls"
_TOOL_CALLS: Final = "tool_calls"  # no id of a tool can be the same: those have a slash


class Tally:
    """The counters of all sessions. Refused calls are not counted, nor rounds of a call that goes on."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    async def count(self, call: Call, by: int = 1) -> None:
        """Count *call*, which goes to its server now; with -1, take that back."""
        names = [_CALLS]
        if call.method == "tools/call":
            names.append(_TOOL_CALLS)
        # Resources are not counted one by one: of a template there may be any number.
        if call.contract is not None and call.contract.kind != "resource":
            names.append(call.contract.id)
        await self._state.count(session_key(call), names, SESSION_IDLE_S, by)

    async def session_facts(self, call: Call) -> dict[str, Any]:
        """`calls`, `tool_calls`, `spent` (USD, with what is reserved for calls under way), `counts` by id."""
        key = session_key(call)
        counts = dict(await self._state.counts(key))
        (spent,) = await self._state.used([key])
        return {
            "calls": counts.pop(_CALLS, 0),
            "tool_calls": counts.pop(_TOOL_CALLS, 0),
            "spent": usd_of(spent),
            "counts": counts,
        }
