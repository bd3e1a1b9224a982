"""`place`: how many at one time. A call that finds no place waits in a short line, and not for long."""

from collections.abc import Callable
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.pipeline.gates import Gates
from bascule.pipeline.whose import caller_key, server_key, thing_key, whose
from bascule.policy.allowances import Allowance


class Place:
    """Holds a place of its caller, of its tool and of its server for as long as the call runs."""

    def __init__(
        self,
        contract: Contract,
        server: str,
        server_places: int | None,
        *,
        allowance_of: Callable[[str], Allowance],
        gates: Gates,
    ) -> None:
        """*allowance_of* tells what a caller of a name may use."""
        self._allowance_of = allowance_of
        self._gates = gates
        shared = ((thing_key(contract), contract.max_concurrent), (server_key(server), server_places))
        self._shared: Final = [(key, places) for key, places in shared if places is not None]

    async def __call__(self, call: Call, forward: Forward) -> Result:
        caller = call.caller.name
        gates = await self._gates.enter(caller, self._wanted(caller))
        try:
            return await forward(call)
        finally:
            self._gates.leave(gates)

    def peek(self, call: Call) -> tuple[str, ...]:
        """Where the call would have to wait now, in words; takes nothing."""
        full = self._gates.full(self._wanted(call.caller.name))
        if full is None:
            return ("there is a place for it",)
        return (f"it would wait: all places of {whose(full)} are taken",)

    def _wanted(self, caller: str) -> list[tuple[str, int]]:
        # The caller's own gate first: whoever has too many calls waits there, and not in a line that others share.
        places = self._allowance_of(caller).concurrent
        return self._shared if places is None else [(caller_key(caller), places), *self._shared]
