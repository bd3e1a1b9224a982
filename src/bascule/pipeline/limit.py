"""`limit`: how often. A call that comes too early is refused at once, with the time to come back; none waits."""

from collections.abc import Callable
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract, Rate
from bascule.errors import RateLimited
from bascule.pipeline.whose import caller_key, kind_of, pair_prefix, server_key, thing_key, whose
from bascule.policy.allowances import Allowance
from bascule.store.shared import Limited, SharedState


class Limit:
    """Takes one call from each limit that holds for it, or from none and refuses it."""

    def __init__(
        self,
        contract: Contract,
        server: str,
        server_rate: Rate | None,
        *,
        allowance_of: Callable[[str], Allowance],
        state: SharedState,
    ) -> None:
        """*allowance_of* tells what a caller of a name may use."""
        self._allowance_of = allowance_of
        self._state = state
        self._pair_prefix: Final = pair_prefix(contract)
        self._pair_rate: Final = contract.rate_limit
        shared = ((thing_key(contract), contract.total_rate_limit), (server_key(server), server_rate))
        self._shared: Final[list[Limited]] = [(key, rate) for key, rate in shared if rate is not None]

    async def __call__(self, call: Call, forward: Forward) -> Result:
        limits = self._limits(call.caller.name)
        if limits:
            wait = await self._state.take_all(limits)
            if wait is not None:
                raise _refusal(limits[wait.index], wait.wait_s)
        return await forward(call)

    async def peek(self, call: Call) -> tuple[str, ...]:
        """What there is left of each limit, in words; takes nothing. Raises what the call would be refused with."""
        limits = self._limits(call.caller.name)
        left = await self._state.left(limits)
        for limit, calls in zip(limits, left, strict=True):
            if not calls:
                raise _refusal(limit, None)
        return tuple(f"{_said(limit)}, {calls} left now" for limit, calls in zip(limits, left, strict=True))

    def _limits(self, caller: str) -> list[Limited]:
        rate = self._allowance_of(caller).rate
        limits: list[Limited] = [] if rate is None else [(caller_key(caller), rate)]
        if self._pair_rate is not None:
            limits.append((self._pair_prefix + caller, self._pair_rate))
        return [*limits, *self._shared]


def _said(limit: Limited) -> str:
    key, rate = limit
    return f"the limit of {whose(key)}: {rate}"


def _refusal(limit: Limited, wait_s: float | None) -> RateLimited:
    key, rate = limit
    return RateLimited(_said(limit), wait_s, limit=kind_of(key), calls=rate.calls, per_s=rate.per_s)
