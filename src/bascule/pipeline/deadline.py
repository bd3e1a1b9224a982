"""`deadline`: no call waits for ever. Source: MCP 2025-11-25, Lifecycle, "Timeouts"."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.errors import TimedOut
from bascule.wire.modern import LISTEN

HARDEST_S: Final = 600.0  # longer than this nobody is made to wait, whatever a server's options say
_DEFAULT_S: Final = 300.0


class Deadline:
    """Cancels a call at its server's `call_timeout_s`; the server is told, the client gets TimedOut."""

    def __init__(self, timeout_of: Callable[[], Mapping[str, float]]) -> None:
        """*timeout_of* gives the present servers' timeouts in seconds."""
        self._timeout_of = timeout_of

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if call.method == LISTEN:
            return await forward(call)  # a subscription lives as long as its client
        server = call.target.upstream.name if call.target else call.view
        seconds = min(self._timeout_of().get(server, _DEFAULT_S), HARDEST_S)
        try:
            async with asyncio.timeout(seconds) as scope:
                return await forward(call)
        except TimeoutError:
            if not scope.expired():
                raise
            raise TimedOut(f"no answer within {seconds:g} s").at(server) from None
