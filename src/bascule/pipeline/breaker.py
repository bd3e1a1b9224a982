"""`look` and `breaker`: a server that fails too often is left alone, and its callers are told at once.

Two stages on one circuit (health.py). `Look` stands far out, so that nobody is asked, and nothing is taken, for a
call that would not go; it changes nothing. `Breaker` stands innermost, around each attempt, and keeps the record.
"""

import asyncio
from typing import Protocol

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import BasculeError
from bascule.pipeline.health import Health, Outcome


class StandIn(Protocol):
    """Whoever can take a call that its own server cannot (fallback.py)."""

    def ready(self, call: Call) -> bool: ...


class Look:
    """Refuses a call with CircuitOpen while its server is left alone, unless another server stands in for it."""

    def __init__(self, contract: Contract, health: Health, stand_in: StandIn | None = None) -> None:
        self._harmless = is_harmless(contract)
        self._health = health
        self._stand_in = stand_in

    async def __call__(self, call: Call, forward: Forward) -> Result:
        assert call.target is not None, "the resolve stage sets the target"
        server = self._health.of(call.target.upstream)
        if server is not None and not server.passing and (self._stand_in is None or not self._stand_in.ready(call)):
            server.look(harmless=self._harmless)
        return await forward(call)


class Breaker:
    """Notes how each attempt ends, and lets none through while the circuit is open."""

    def __init__(self, contract: Contract, health: Health) -> None:
        self._harmless = is_harmless(contract)
        self._health = health

    async def __call__(self, call: Call, forward: Forward) -> Result:
        assert call.target is not None, "the resolve stage sets the target"
        server = self._health.of(call.target.upstream)
        if server is None:
            return await forward(call)
        epoch = server.enter(harmless=self._harmless)
        outcome = Outcome.NOTHING
        try:
            result = await forward(call)
            outcome = Outcome.ANSWERED
            return result
        except BasculeError as error:
            outcome = server.judged(error)
            raise
        except asyncio.CancelledError:
            # By the `deadline` stage, further out, or by the client.
            if call.trip.overdue:
                outcome = server.timed_out()
            raise
        finally:
            server.leave(epoch, outcome)


def is_harmless(contract: Contract) -> bool:
    """Whether a call may be made to see if its server is back."""
    return not contract.side_effect
