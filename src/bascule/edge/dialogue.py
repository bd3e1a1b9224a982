"""A legacy client on a connection of its own: its messages come one by one, and all of ours leave by one way.

What HTTP+SSE of 2024-11-05 and stdio have in common.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from bascule.call import Caller, Result
from bascule.edge import refusals
from bascule.edge.rim import Rim, call_in
from bascule.edge.session import ClientSession, Outlet
from bascule.edge.streams import Stream
from bascule.errors import BasculeError, InvalidRequest, Overloaded
from bascule.wire import legacy
from bascule.wire.jsonrpc import Message, Notification, Params, Request, Response
from bascule.wire.versions import LEGACY

# Requests of one client that are being answered. On other transports each holds a connection, which is a bound.
MAX_IN_FLIGHT: Final = 1000


class Dialogue:
    """What one client says and hears, and its session; nothing of it outlives the connection."""

    def __init__(self, rim: Rim, caller: Caller, view: str, outlet: Outlet, *, standing: Stream | None = None) -> None:
        """*outlet* takes every message for the client; *standing* is the stream behind it, if it is one."""
        self._rim = rim
        self._outlet = outlet
        # Until the client has said what it speaks, it counts as the oldest.
        self.session = ClientSession(
            caller, view, LEGACY[0], {}, standing=standing, outlet=outlet, sole_stream=standing is not None
        )
        self._greeting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- call.Client, the same for every call: there is but one way

    def notify(self, method: str, params: Params) -> None:
        self.session.announce(method, params)

    async def ask(self, method: str, params: Params) -> Result:
        return await self.session.ask(method, params)

    # ---- what the client says

    def take(self, message: Message, caller: Caller | None = None) -> None:
        """Act on *message*, beside those that are being answered.

        *caller* is the session's, as the credential that came with the message makes it.
        """
        caller = caller or self.session.caller
        match message:
            case Response():
                self.session.answered(message)
            case Notification(method=legacy.CANCELLED):
                self.session.cancel(message.params.get("requestId"))
            case Notification():
                if len(self._tasks) < MAX_IN_FLIGHT:
                    self._start(self._hear(message, caller))
            case Request() if len(self._tasks) >= MAX_IN_FLIGHT:
                self._refuse(message, Overloaded(f"{MAX_IN_FLIGHT} requests are being answered; wait for some"))
            case Request(method=legacy.INITIALIZE) if self._greeting is None and not self.session.agreed:
                self._greeting = self._start(self._greet(message))
            case Request():
                self._start(self._answer(message, caller))

    @property
    def answering(self) -> frozenset["asyncio.Task[None]"]:
        """What is still to be done for the client."""
        return frozenset(self._tasks)

    async def end(self) -> None:
        """The connection is gone: do nothing more for it."""
        self.session.end()  # first, so that what is cancelled here knows why
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _greet(self, message: Request) -> None:
        try:
            self.session.introduce(legacy.offered(message.params), message.params)
        except BasculeError as error:
            self._refuse(message, error)
        else:
            self._outlet.put(await self._rim.greet(self.session, message, self))
        finally:
            self._greeting = None  # one that failed may be tried again

    async def _hear(self, message: Notification, caller: Caller) -> None:
        await self._greeted()
        await self._rim.told(self.session, message, caller)
        if message.method == legacy.INITIALIZED and self.session.agreed:
            self._rim.listen(self.session)

    async def _answer(self, message: Request, caller: Caller) -> None:
        if message.method != "ping":
            await self._greeted()
            if not self.session.agreed:
                self._refuse(message, InvalidRequest("initialize first"))
                return
        answer = await self._rim.answer_in_session(self.session, message, self, caller, silent=True)
        if answer.message:
            self._outlet.put(answer.message)

    async def _greeted(self) -> None:
        """What was sent right after `initialize` waits for its answer."""
        if self._greeting is not None:
            await asyncio.wait({self._greeting})

    def _refuse(self, message: Request, error: BasculeError) -> None:
        call = call_in(self.session, message, self, self.session.caller)
        self._outlet.put(refusals.answer_to(call, error).message)
