"""`dispatch`: innermost, the moment at which a call goes to its server. Until then it can be taken back for nothing.

A stage further out that wants to know of that moment, when a call comes back as an error or not at all,
finds it in the call's `Trip`.
"""

import time

from bascule.call import Call, Forward, Result
from bascule.errors import BasculeError, Unavailable
from bascule.pipeline.tally import Tally
from bascule.policy.spending import answer_of
from bascule.store.audit import Audit


class Dispatch:
    """The last stage of every chain."""

    def __init__(self, tally: Tally | None, audit: Audit | None = None) -> None:
        """*tally* is where calls are counted in their sessions; None where no rule looks at that.

        *audit*: for calls with side effects, which do not go out while they cannot be recorded.
        """
        self._tally = tally
        self._audit = audit

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if self._audit is not None and (problem := self._audit.problem) is not None:
            raise Unavailable(f"{problem}; calls that change something are refused until it can")
        trip = call.trip
        again = trip.sent  # an attempt more of the same call is no call more
        if self._tally is not None and not trip.counted:
            await self._tally.count(call)
        trip.sent = trip.counted = True
        trip.attempts += 1
        began_s = time.perf_counter()
        try:
            result = await forward(call)
        except BasculeError as error:
            if error.unsent:
                trip.sent = again  # the connection was refused, or there was none: its server knows nothing of it
            raise
        finally:
            trip.seconds += time.perf_counter() - began_s
        if self._tally is None or again or result.refused or answer_of(result.value).finished:
            return result
        try:
            await self._tally.count(call, by=-1)  # its next round will be counted
        except BasculeError:
            pass  # it counts twice, which is better than to lose the answer
        return result
