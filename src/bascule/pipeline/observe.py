"""`observe`: counts every call by its outcome, refusals included, so that /status tells the truth."""

import time
from collections import Counter

from bascule.call import Call, Forward, Result
from bascule.errors import BasculeError


class Observe:
    """Outermost: a call that any later stage refuses is seen here too."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()  # by method
        self.outcomes: Counter[str] = Counter()  # "answered", "refused" by the server, or the kind of our error
        self.in_flight = 0
        self.started_at = time.time()

    async def __call__(self, call: Call, forward: Forward) -> Result:
        self.in_flight += 1
        outcome = "cancelled"
        try:
            result = await forward(call)
            outcome = "refused" if result.refused else "answered"
            return result
        except BasculeError as error:
            outcome = error.kind
            raise
        finally:
            self.in_flight -= 1
            # Methods that no server knows share one counter: a client must not fill our memory with names.
            self.calls[call.method if outcome == "answered" else "(not answered)"] += 1
            self.outcomes[outcome] += 1
