"""`deadline`: no call waits for ever, neither at its server nor, where the caller says how long, before it.

Two stages of one object, because one timer looks at all calls: a timer for each would cost a tenth of a quick call.
A server has `call_timeout_s` to show a sign of life: progress, any other notification of the call, or a question to
the client, and while the client thinks about one that clock stands still. Whatever it shows, the call ends when the
contract's `max_timeout_seconds` or HARDEST_S are over.
Source: docs/reliability.md, "Deadlines"; MCP 2025-11-25, Lifecycle, "Timeouts".
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from bascule.call import Call, Client, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import TimedOut
from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.modern import LISTEN
from bascule.wire.wishes import DEADLINE_META

HARDEST_S: Final = 600.0  # longer than this nobody is made to wait, whatever a server's options say
_DEFAULT_S: Final = 60.0
_TICK_S: Final = 0.1  # how late a deadline may be noticed
_WAY_BACK_S: Final = 0.05  # of what is left, for the answer to travel


def hard_s_for(contract: Contract | None) -> float:
    """The most that a call may take at its server, whatever it shows meanwhile."""
    own_s = None if contract is None else contract.max_timeout_seconds
    return HARDEST_S if own_s is None or own_s > HARDEST_S else own_s


def seconds_for(timeout_s: float, contract: Contract | None) -> float:
    """How long a call may be silent at a server whose `call_timeout_s` is *timeout_s*."""
    return min(timeout_s, hard_s_for(contract))


class _Running:
    """One call under its limits. Stands before its client, to notice what the client is told and asked."""

    __slots__ = ("asking", "call", "client", "due", "heard_at", "idle_s", "task", "why")

    def __init__(self, task: "asyncio.Task[Any]", call: Call, now: float, due: float, idle_s: float) -> None:
        self.task = task
        self.call = call
        self.client = call.client
        self.due = due
        self.heard_at = now
        self.idle_s = idle_s
        self.asking = 0  # questions that the client thinks about
        self.why = ""  # it was cancelled: "hard" or "idle"

    # ---- call.Client

    def notify(self, method: str, params: Params) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        self.client.notify(method, params)

    async def ask(self, method: str, params: Params) -> Result:
        self.asking += 1
        if self.idle_s != math.inf:
            self.call.trip.asked = True  # by its server; the outer stage also hears what we ask ourselves
        try:
            return await self.client.ask(method, params)
        finally:
            self.asking -= 1
            self.heard_at = asyncio.get_running_loop().time()

    # ---- the timer

    def expire(self, now: float) -> None:
        if self.why:
            return
        if self.due <= now:
            self.why = "hard"
        elif not self.asking and now - self.heard_at >= self.idle_s:
            self.why = "idle"
        else:
            return
        if self.idle_s != math.inf:
            self.call.trip.overdue = True
        self.task.cancel()

    def struck(self) -> bool:
        """Whether the cancellation that the call has just met is ours. Of two, the one from elsewhere comes first."""
        return bool(self.why) and self.task.uncancel() == 0


class Deadline:
    """Cancels a call whose time is over; the server is told, the client gets TimedOut."""

    def __init__(self, timeout_of: Callable[[], Mapping[str, float]]) -> None:
        """*timeout_of* gives the present servers' `call_timeout_s`."""
        self._timeout_of = timeout_of
        self._running: set[_Running] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, call: Call, forward: Forward) -> Result:
        """The stage at the server: around all attempts to run the call, and around nothing that waits before them."""
        if call.method == LISTEN or isinstance(call.client, _Running):
            return await forward(call)  # a subscription lives as long as its client; the other has its limits already
        server = call.target.upstream.name if call.target else call.view
        idle_s = self._timeout_of().get(server, _DEFAULT_S)
        hard_s = hard_s_for(call.contract)
        running = self._begin(call, hard_s, idle_s)
        trip = call.trip
        wished = trip.due
        trip.due = running.due if wished is None or running.due < wished else wished
        if wished is None:
            call = msgspec.structs.replace(call, client=running)
        else:
            call = _passed_on(call, running, trip.due - running.heard_at)
        try:
            return await forward(call)
        except asyncio.CancelledError:
            if not running.struck():
                raise
            raise _too_slow(running.why, hard_s, idle_s, server).at(server) from None
        finally:
            trip.due = wished
            self._running.discard(running)

    async def whole(self, call: Call, forward: Forward) -> Result:
        """The stage of the caller's own deadline: outside of all that waits, and only for calls that have one."""
        wished_s = call.wishes.deadline_s
        if wished_s is None or call.method == LISTEN:
            return await forward(call)
        loop = asyncio.get_running_loop()
        trip = call.trip
        if trip.due is None:
            trip.due = loop.time() + wished_s
        running = self._begin(call, trip.due - loop.time(), math.inf)
        try:
            return await forward(call)
        except asyncio.CancelledError:
            if not running.struck():
                raise
            raise _not_in_the_callers_time(wished_s, sent=trip.sent) from None
        finally:
            self._running.discard(running)

    def _begin(self, call: Call, seconds: float, idle_s: float) -> _Running:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a coroutine always runs in a task"
        now = loop.time()
        running = _Running(task, call, now, now + seconds, idle_s)
        self._running.add(running)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_S, self._look)
        return running

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for running in self._running:
            running.expire(now)
        self._timer = loop.call_later(_TICK_S, self._look) if self._running else None


def _passed_on(call: Call, client: Client, left_s: float) -> Call:
    """*call* as its server sees it: with what is left of the time that the caller gave it, less the way back."""
    target = call.target
    if target is None:
        return msgspec.structs.replace(call, client=client)
    left_ms = max(1, int((left_s - _WAY_BACK_S) * 1000))
    meta = {**modern.meta_of(target.params), DEADLINE_META: left_ms}
    params = jsonrpc.replaced(target.params, meta_=meta)
    return msgspec.structs.replace(call, client=client, target=msgspec.structs.replace(target, params=params))


def _not_in_the_callers_time(wished_s: float, *, sent: bool) -> TimedOut:
    error = TimedOut(
        f"no answer within the {wished_s:g} s that its caller gave it: give it longer"
        f" (X-Request-Timeout-Ms, or _meta[{DEADLINE_META!r}])",
        limit="caller",
        seconds=wished_s,
    )
    if not sent:
        error.retryable, error.advice = True, "it has not been sent to its server"
    return error


def _too_slow(why: str, hard_s: float, idle_s: float, server: str) -> TimedOut:
    if why == "idle":
        return TimedOut(
            f"no answer within {idle_s:g} s, and no other sign of life: it has to report progress, or"
            f" servers.{server}.call_timeout_s has to be longer",
            limit="server", seconds=idle_s,
        )  # fmt: skip
    if hard_s < HARDEST_S:
        message = f"no answer within {hard_s:g} s, the `max_timeout_seconds` of its contract"
        return TimedOut(message, limit="contract", seconds=hard_s)
    return TimedOut(
        f"no answer within {hard_s:g} s, which is as long as any call may take", limit="hardest", seconds=hard_s
    )
