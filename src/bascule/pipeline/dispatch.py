"""`dispatch`: innermost, the moment at which a call goes to its server. Until then it can be taken back for nothing.

Stages further out want to know of that moment when a call comes back to them as an error or not at all:
they open a `Trip`, and look at it afterwards.
"""

import time
from contextvars import ContextVar
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.errors import BasculeError
from bascule.pipeline.tally import Tally
from bascule.policy.spending import answer_of


class Trip:
    """How far a call has come."""

    __slots__ = ("seconds", "sent")

    def __init__(self) -> None:
        self.sent = False  # whether its server may have seen it
        self.seconds = 0.0  # that the server took, all attempts together


# A variable of the context and not of the call: it also knows of calls that were made anew on the way.
TRIP: Final[ContextVar[Trip | None]] = ContextVar("trip", default=None)


class Dispatch:
    """The last stage of every chain whose stages ask whether a call was sent; counts it in its session."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    async def __call__(self, call: Call, forward: Forward) -> Result:
        trip = TRIP.get() or Trip()
        again = trip.sent  # an attempt more of the same call is no call more
        if not again:
            await self._tally.count(call)
        trip.sent = True
        began_s = time.perf_counter()
        try:
            result = await forward(call)
        finally:
            trip.seconds += time.perf_counter() - began_s
        if not again and not result.refused and not answer_of(result.value).finished:
            try:
                await self._tally.count(call, by=-1)  # its next round will be counted
            except BasculeError:
                pass  # it counts twice, which is better than to lose the answer
        return result
