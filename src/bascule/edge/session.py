"""One legacy client's session: who it is, what it waits for, where its messages go.

Source: MCP 2025-11-25, Transports, "Session Management"; MCP 2024-11-05, "Transports".
"""

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Raw

from bascule.call import Caller, Result
from bascule.edge.streams import Stream
from bascule.errors import BasculeError, TimedOut, Unavailable
from bascule.wire import jsonrpc, legacy
from bascule.wire.jsonrpc import Params, Response
from bascule.wire.versions import Revision

MAX_ANSWER_S: Final = 600.0  # how long a person may think over a question
_MAX_STREAMS: Final = 64  # finished ones that a session keeps for a client that resumes
_STANDING: Final = 0  # the number of the stream that GET opens


class Outlet(Protocol):
    """Where messages to a client go."""

    def put(self, message: bytes) -> None:
        """Append one message. Never blocks."""
        ...


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
    """One legacy client between its `initialize` and its end."""

    def __init__(
        self,
        caller: Caller,
        view: str,
        revision: Revision,
        hello: Params,
        *,
        standing: Stream | None = None,
        outlet: Outlet | None = None,
        sole_stream: bool = False,
    ) -> None:
        """*outlet* takes what belongs to no call of the client's; the standing stream unless there is another.
        *sole_stream*: the standing stream carries the answers to its calls, too."""
        self.id = self.family = secrets.token_urlsafe(18)
        self.capsule = ""  # what the client knows the session by, once it may come back
        self.caller = caller
        self.view = view
        self.revision = revision
        self.hello = hello
        self.capabilities: Mapping[str, Any] = _capabilities(hello)
        self.standing = standing or Stream(_STANDING, resumable=revision.priming)
        self.in_flight: dict[bytes, Flight] = {}
        self.agreed = False
        self.ended = False
        self.began_at = self.used_at = time.monotonic()
        self.issued_s = time.time()
        self._outlet: Outlet = outlet or self.standing
        self._sole_stream = sole_stream
        self._hung_up = False
        self._streams: dict[int, Stream] = {_STANDING: self.standing}
        self._next_stream = self.standing.number
        self._next_ask = 0
        self._asks: dict[bytes, asyncio.Future[Result]] = {}

    def introduce(self, revision: Revision, hello: Params) -> None:
        """The client has said who it is, on a connection that was there before."""
        self.revision = revision
        self.hello = hello
        self.capabilities = _capabilities(hello)

    def agree(self, revision: Revision) -> None:
        """The handshake went well: this is the revision that both sides speak."""
        self.agreed = True
        self.revision = revision
        self.standing.resumable = revision.priming and not self._sole_stream  # that one ends with its connection

    # ---- call.Client, outside of calls

    def notify(self, method: str, params: Params) -> None:
        # A server's word comes before our own list of all is new, and the aggregate announces that itself.
        if self.view or method not in legacy.LIST_CHANGED:
            self.announce(method, params)

    def announce(self, method: str, params: Params) -> None:
        self._outlet.put(jsonrpc.notification(method, params))

    async def ask(self, method: str, params: Params) -> Result:
        return await self.ask_on(self._outlet, method, params)

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
        """The stream with this number in its event ids; 0 is the standing one of any life of the session."""
        return self.standing if number == self.standing.number else self._streams.get(number)

    @property
    def connected(self) -> bool:
        return bool(self.in_flight) or any(stream.carried for stream in self._streams.values())

    # ---- questions to the client

    async def ask_on(self, outlet: Outlet, method: str, params: Params) -> Result:
        """Send the client a request through *outlet* and wait for its answer, whichever way that comes.

        Raises Unavailable if the session ends, TimedOut after MAX_ANSWER_S. When it is cancelled,
        the client is told.
        """
        if self.ended:
            raise Unavailable("the client has gone")
        self._next_ask += 1
        id = jsonrpc.encode(self._next_ask)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._asks[bytes(id)] = answer
        outlet.put(jsonrpc.request(id, method, params))
        try:
            async with asyncio.timeout(MAX_ANSWER_S):
                return await answer
        except TimeoutError:
            raise TimedOut(f"the client did not answer {method} within {MAX_ANSWER_S:g} s") from None
        except asyncio.CancelledError:
            outlet.put(jsonrpc.notification(legacy.CANCELLED, {"requestId": id}))
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

    # ---- requests of the client

    def cancel(self, request_id: Raw | None) -> None:
        """The client gives up a request. An unknown id is none of our business: it may just have ended."""
        flight = self.in_flight.get(bytes(request_id)) if request_id else None
        if flight is not None:
            flight.cancel()

    def take_off(self, key: bytes) -> Flight:
        """A request, by its id as the client wrote it, is being answered by the current task."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine always runs in a task"
        flight = self.in_flight[key] = Flight(task)
        return flight

    def land(self, key: bytes, flight: Flight) -> None:
        """It has been answered. A second request under the same id stays."""
        if self.in_flight.get(key) is flight:
            del self.in_flight[key]
        if self._hung_up:
            self.hang_up()

    def hang_up(self) -> None:
        """End the standing stream, once nothing is left that it has to carry."""
        self._hung_up = True
        if not (self._sole_stream and self.in_flight):
            self.standing.close()  # what is put in this very step, such as the last answer, is still sent

    @property
    def why_cancelled(self) -> str:
        return "the session has ended" if self.ended else "cancelled by the client"

    def stop_asking(self, error: BasculeError) -> None:
        """Nobody waits for the client's answers any more: what was asked fails with *error*."""
        for waiting in self._asks.values():
            if not waiting.done():
                waiting.set_exception(error)

    def end(self) -> None:
        """Close everything that hangs on the session."""
        self.ended = True
        self.stop_asking(Unavailable("the client has gone"))
        for flight in list(self.in_flight.values()):
            flight.cancel()
        for stream in self._streams.values():
            stream.close()


def _capabilities(hello: Params) -> Mapping[str, Any]:
    return jsonrpc.value_of(hello.get("capabilities"), dict) or {}
