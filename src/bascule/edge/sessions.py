"""Legacy clients' sessions: who they are, what they wait for, where their messages go.

Source: MCP 2025-11-25, Transports, "Session Management".
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec import Raw

from bascule.call import Caller, Result
from bascule.edge.streams import Stream
from bascule.errors import BasculeError, Overloaded, TimedOut, Unavailable
from bascule.wire import jsonrpc, legacy
from bascule.wire.jsonrpc import Params, Response
from bascule.wire.versions import Revision

MAX_ANSWER_S: Final = 600.0  # how long a person may think over a question
_MAX_STREAMS: Final = 64  # finished ones that a session keeps for a client that resumes
_STANDING: Final = 0  # the number of the stream that GET opens


class Flight:
    """A request that is being answered, and whether its client gave it up."""

    __slots__ = ("cancelled", "task")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        self.cancelled = False

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.task.cancel()


class ClientSession:
    """One legacy client between its `initialize` and its DELETE."""

    def __init__(self, caller: Caller, view: str, revision: Revision, hello: Params) -> None:
        self.id = secrets.token_urlsafe(24)
        self.caller = caller
        self.view = view
        self.revision = revision
        self.hello = hello
        raw = hello.get("capabilities")
        self.capabilities: Mapping[str, Any] = jsonrpc.value_of(raw, dict) or {}
        self.standing = Stream(_STANDING, resumable=revision.priming)
        self.in_flight: dict[bytes, Flight] = {}
        self.agreed = False
        self.ended = False
        self.used_at = time.monotonic()
        self._streams: dict[int, Stream] = {_STANDING: self.standing}
        self._next_stream = _STANDING
        self._next_ask = 0
        self._asks: dict[bytes, asyncio.Future[Result]] = {}

    def agree(self, revision: Revision) -> None:
        """The handshake went well: this is the revision that both sides speak."""
        self.agreed = True
        self.revision = revision
        self.standing.resumable = revision.priming

    # ---- call.Client, on the standing stream

    def notify(self, method: str, params: Params) -> None:
        # A server's word comes before our own list of all is new, and the aggregate announces that itself.
        if self.view or method not in legacy.LIST_CHANGED:
            self.announce(method, params)

    def announce(self, method: str, params: Params) -> None:
        self.standing.put(jsonrpc.notification(method, params))

    async def ask(self, method: str, params: Params) -> Result:
        return await self.ask_on(self.standing, method, params)

    # ---- streams

    def open_stream(self) -> Stream:
        """A stream for one POST; the client may resume it while the session lasts."""
        self._next_stream += 1
        stream = self._streams[self._next_stream] = Stream(self._next_stream, resumable=self.revision.priming)
        finished = [n for n, old in self._streams.items() if old.closed and not old.carried]
        for number in finished[:-_MAX_STREAMS]:
            del self._streams[number]
        return stream

    def stream(self, number: int) -> Stream | None:
        return self._streams.get(number)

    @property
    def connected(self) -> bool:
        return bool(self.in_flight) or any(stream.carried for stream in self._streams.values())

    # ---- questions to the client

    async def ask_on(self, stream: Stream, method: str, params: Params) -> Result:
        """Send the client a request on *stream* and wait for the answer that it POSTs.

        Raises Unavailable if the session ends, TimedOut after MAX_ANSWER_S. When it is cancelled,
        the client is told.
        """
        if self.ended:
            raise Unavailable("the client has gone")
        self._next_ask += 1
        id = jsonrpc.encode(self._next_ask)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._asks[bytes(id)] = answer
        stream.put(jsonrpc.request(id, method, params))
        try:
            async with asyncio.timeout(MAX_ANSWER_S):
                return await answer
        except TimeoutError:
            raise TimedOut(f"the client did not answer {method} within {MAX_ANSWER_S:g} s") from None
        except asyncio.CancelledError:
            stream.put(jsonrpc.notification(legacy.CANCELLED, {"requestId": id}))
            raise
        finally:
            self._asks.pop(bytes(id), None)

    def answered(self, response: Response) -> bool:
        """Deliver the client's answer to the question it belongs to. False if there is none."""
        waiting = self._asks.get(bytes(response.id))
        if waiting is None or waiting.done():
            return False
        refused = bool(response.error)
        waiting.set_result(Result(response.error if refused else response.result, refused=refused))
        return True

    def cancel(self, request_id: Raw | None) -> None:
        """The client gives up a request. An unknown id is none of our business: it may just have ended."""
        flight = self.in_flight.get(bytes(request_id)) if request_id else None
        if flight is not None:
            flight.cancel()

    def take_off(self, key: bytes) -> "Flight":
        """A request, by its id as the client wrote it, is being answered by the current task."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine always runs in a task"
        flight = self.in_flight[key] = Flight(task)
        return flight

    def land(self, key: bytes, flight: "Flight") -> None:
        """It has been answered. A second request under the same id stays."""
        if self.in_flight.get(key) is flight:
            del self.in_flight[key]

    @property
    def why_cancelled(self) -> str:
        return "the session has ended" if self.ended else "cancelled by the client"

    def end(self) -> None:
        """Close everything that hangs on the session."""
        self.ended = True
        for waiting in self._asks.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("the client has gone"))
        for flight in list(self.in_flight.values()):
            flight.cancel()
        for stream in self._streams.values():
            stream.close()


class Sessions:
    """All sessions of this process, bounded in number and in idle time."""

    def __init__(self, *, limit: int, idle_s: float, forget: Callable[[ClientSession], Awaitable[None]]) -> None:
        """*forget* frees what upstreams keep for a session that has ended."""
        self.limit = limit
        self.idle_s = idle_s
        self._forget = forget
        self._sessions: dict[str, ClientSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    async def add(self, session: ClientSession) -> None:
        """Keep *session*. Raises Overloaded when there are too many and none is idle."""
        if len(self._sessions) >= self.limit:
            idle = [s for s in self._sessions.values() if not s.connected]
            if not idle:
                raise Overloaded(f"{self.limit} sessions are open, as many as http.max_sessions allows")
            await self.end(min(idle, key=lambda s: s.used_at))
        self._sessions[session.id] = session

    def find(self, id: str, caller: Caller, view: str) -> ClientSession | None:
        """The session, if it exists and is this caller's at this endpoint; a stranger's looks unknown."""
        session = self._sessions.get(id)
        if session is None or session.caller != caller or session.view != view:
            return None
        session.used_at = time.monotonic()
        return session

    async def end(self, session: ClientSession) -> None:
        self._sessions.pop(session.id, None)
        session.end()
        try:
            await self._forget(session)
        except BasculeError:
            pass  # the upstream is down; it forgets by itself

    async def expire(self) -> None:
        """End the sessions that nobody used for too long. Runs until cancelled."""
        while True:
            await asyncio.sleep(min(30.0, self.idle_s))
            horizon = time.monotonic() - self.idle_s
            for session in list(self._sessions.values()):
                if session.used_at < horizon and not session.connected:
                    await self.end(session)

    def hang_up(self) -> None:
        """End the standing streams, which would otherwise stay open for ever."""
        for session in self._sessions.values():
            session.standing.close()

    async def end_all(self) -> None:
        await asyncio.gather(*(self.end(session) for session in list(self._sessions.values())))
