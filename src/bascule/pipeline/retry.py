"""`retry`: a call that failed is made again where that does no harm, a little later, and not for everybody at once.

Inside the deadline and around the breaker: each attempt is one of the circuit's. Whether, how often and when is
decided in policy/backoff.py.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import CircuitOpen, Transient
from bascule.pipeline.health import Health, Outcome, ServerHealth, outcome_of
from bascule.policy.backoff import RETRIES, fits, pause_s, repeatable

_LATER_ROUND: Final = ("requestState", "inputResponses")


def has_asked(call: Call) -> bool:
    """Whether its client was asked something on the way, or in a round before this one: then it has begun."""
    return call.trip.asked or any(name in call.params for name in _LATER_ROUND)


class Retry:
    """Makes a call again, at most twice, as long as its server's budget of retries lasts."""

    def __init__(
        self,
        contract: Contract,
        health: Health,
        *,
        deduplicates: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """*deduplicates*: the server runs calls that have the same key once by itself, and is given the keys."""
        self._safe = not contract.side_effect or contract.idempotent
        self._deduplicates = deduplicates
        self._health = health
        self._chance = chance

    async def __call__(self, call: Call, forward: Forward) -> Result:
        assert call.target is not None, "the resolve stage sets the target"
        server = self._health.of(call.target.upstream)
        if server is None:
            return await forward(call)
        budget = server.retries
        budget.calls += 1
        budget.active += 1
        try:
            return await forward(call)
        except Transient as error:
            return await self._again(call, forward, server, error)
        finally:
            budget.active -= 1

    async def _again(self, call: Call, forward: Forward, server: ServerHealth, error: Transient) -> Result:
        for retry in range(1, RETRIES.most + 1):
            wait_s = self._wait_s(call, server, error, retry)
            if wait_s is None or not server.retries.take(asyncio.get_running_loop().time()):
                break
            try:
                await asyncio.sleep(wait_s)
                return await forward(call)
            except CircuitOpen as refusal:
                error.retry_after_s = refusal.retry_after_s
                break  # what went wrong says more than that it is left alone now
            except Transient as later:
                sent = not error.unsent
                error = later
                if sent and later.unsent:
                    error.half_way()  # this attempt was not sent, but one before it was
            finally:
                server.retries.give()
        raise error

    def _wait_s(self, call: Call, server: ServerHealth, error: Transient, retry: int) -> float | None:
        """How long before the call may be made again; None if it may not."""
        failed = outcome_of(error, server.server) is Outcome.FAILED
        if has_asked(call) or not repeatable(error, failed=failed, harmless=self._harmless(call)):
            return None
        wait_s = pause_s(retry, self._chance(), error.retry_after_s)
        return wait_s if fits(wait_s, asyncio.get_running_loop().time(), call.trip.due) else None

    def _harmless(self, call: Call) -> bool:
        return self._safe or (self._deduplicates and bool(call.wishes.key))
