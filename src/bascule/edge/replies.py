"""One answer to one POST: chosen late, so that an error can still set the status and quick answers stay small."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from bascule.call import Result
from bascule.edge.door import Headers
from bascule.edge.session import ClientSession
from bascule.edge.streams import STREAM_HEADERS, Send, Stream
from bascule.errors import Unavailable
from bascule.wire import jsonrpc, sse
from bascule.wire.jsonrpc import Params

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]

# After so long an answer counts as slow: from then on a lost client is noticed, and one that can
# resume gets a stream. Quick answers pay for neither.
SLOW_S: Final = 0.05

JSON: Final = (b"content-type", b"application/json")


class Reply:
    """The response to one POST, and the way back to the client while its calls run (`call.Client`)."""

    def __init__(self, send: Send, receive: Receive, headers: Headers, session: ClientSession | None) -> None:
        self._send = send
        self._receive = receive
        self._headers = list(headers)
        self._session = session
        self._stream: Stream | None = None
        self._pump: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._work: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.abandoned = False  # the client closed the connection, which cancels a modern request

    def begin(self) -> None:
        """The call starts now, in the current task."""
        self._work = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(SLOW_S, self._slow)

    # ---- call.Client

    def notify(self, method: str, params: Params) -> None:
        stream = self._commit()
        stream.put(jsonrpc.notification(method, params))
        if stream.lost:
            self.abandon()  # it has stopped reading, and what it missed cannot be sent again

    async def ask(self, method: str, params: Params) -> Result:
        if self._session is None:
            raise Unavailable("a stateless client cannot be asked during a call")
        return await self._session.ask_on(self._commit(), method, params)

    # ---- the end

    async def finish(
        self, messages: Sequence[bytes], *, status: int = 200, headers: Headers = (), batch: bool = False
    ) -> None:
        """Send the answers. A batch is an array unless its stream has begun; then *headers* are too late."""
        self._headers += headers
        self._stop_timer()
        # From here on nothing is left to cancel, and the end of a response looks like a client that left.
        if self._watch is not None:
            self._watch.cancel()
        stream = self._stream
        if stream is None:
            await self._finish_at_once(messages, status, batch=batch)
        else:
            for message in messages:
                stream.put(message)
            stream.close()
            if self._pump is not None:
                await self._pump

    async def _finish_at_once(self, messages: Sequence[bytes], status: int, *, batch: bool) -> None:
        # A client of 2025-11-25 expects streams; the whole of one, when it is known, is a plain body.
        if status == 200 and self._session is not None and self._session.revision.priming:
            body, headers = b"".join(map(sse.frame, messages)), [*STREAM_HEADERS, *self._headers]
        else:
            body = b"[%b]" % b",".join(messages) if batch else messages[0]
            headers = [JSON, *self._headers]
        await respond(self._send, status, headers, body)

    def drop(self) -> None:
        """Nothing can be sent any more."""
        self._stop_timer()
        for task in (self._pump, self._watch):
            if task is not None:
                task.cancel()

    # ---- slow answers

    def _slow(self) -> None:
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._watch_client())
        if self._session is not None and self._session.revision.priming:
            self._commit()

    async def _watch_client(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                break
        if self._session is None:
            self.abandon()
        elif self._stream is not None:
            self._stream.detach(self._send)  # a legacy client may come back for the rest

    def abandon(self) -> None:
        """Give up a stateless request whose client is gone. A legacy client's runs on: it may come back."""
        if self._session is None and not self.abandoned:
            self.abandoned = True
            if self._work is not None:
                self._work.cancel()

    def _commit(self) -> Stream:
        """Make it a stream. From here on the status is 200 and errors travel as events."""
        if self._stream is None:
            if self._session is None:
                self._stream = Stream(0, resumable=False)
            else:
                self._stream = self._session.open_stream()
                if self._stream.resumable:
                    self._stream.prime()
            self._pump = asyncio.ensure_future(carry(self._stream, self._send, self._headers))
            if self._watch is None:
                self._watch = asyncio.ensure_future(self._watch_client())
        return self._stream

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def carry(stream: Stream, send: Send, headers: Headers, after: int | None = None) -> None:
    """Send *stream* as an event-stream response, from after event number *after*."""
    await send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *headers]})
    await stream.pump(send, after)
    await send({"type": "http.response.body", "body": b""})


async def respond(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send a whole response."""
    whole = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": body})
