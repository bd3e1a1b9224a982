"""`deadline`: no call waits for ever. Source: MCP 2025-11-25, Lifecycle, "Timeouts"."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import TimedOut
from bascule.wire.modern import LISTEN

HARDEST_S: Final = 600.0  # longer than this nobody is made to wait, whatever a server's options say
_DEFAULT_S: Final = 300.0
_TICK_S: Final = 0.1  # how late a deadline may be noticed


class _Running:
    __slots__ = ("due", "expired", "task")

    def __init__(self, task: "asyncio.Task[Any]", due: float) -> None:
        self.task = task
        self.due = due
        self.expired = False


def seconds_for(timeout_s: float, contract: Contract | None) -> float:
    """How long a call may take at a server whose `call_timeout_s` is *timeout_s*."""
    own_s = None if contract is None else contract.max_timeout_seconds
    return min(timeout_s, HARDEST_S, HARDEST_S if own_s is None else own_s)


class Deadline:
    """Cancels a call at its server's `call_timeout_s`; the server is told, the client gets TimedOut.

    One timer looks at all calls: a timer for each would cost a tenth of a quick call.
    """

    def __init__(self, timeout_of: Callable[[], Mapping[str, float]]) -> None:
        """*timeout_of* gives the present servers' timeouts in seconds."""
        self._timeout_of = timeout_of
        self._running: set[_Running] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if call.method == LISTEN:
            return await forward(call)  # a subscription lives as long as its client
        server = call.target.upstream.name if call.target else call.view
        seconds = seconds_for(self._timeout_of().get(server, _DEFAULT_S), call.contract)
        running = self._begin(seconds)
        try:
            return await forward(call)
        except asyncio.CancelledError:
            # Cancelled from elsewhere too? Then that comes first.
            if not running.expired or running.task.uncancel() > 0:
                raise
            raise TimedOut(f"no answer within {seconds:g} s").at(server) from None
        finally:
            self._running.discard(running)

    def _begin(self, seconds: float) -> _Running:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a coroutine always runs in a task"
        running = _Running(task, loop.time() + seconds)
        self._running.add(running)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_S, self._look)
        return running

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for running in self._running:
            if running.due <= now and not running.expired:
                running.expired = True
                running.task.cancel()
        self._timer = loop.call_later(_TICK_S, self._look) if self._running else None
