"""The stdio edge: one client on standard input and output, in both eras at once, a JSON-RPC message per line.

Source: MCP 2025-11-25, Transports, "stdio"; MCP 2026-07-28, "stdio".
"""

import asyncio
import re
from typing import Final

from msgspec import Raw

from bascule.call import Caller, Result
from bascule.edge import refusals
from bascule.edge.dialogue import MAX_IN_FLIGHT, Dialogue
from bascule.edge.rim import Rim, stateless_call
from bascule.errors import BasculeError, InvalidRequest, Overloaded, Unavailable
from bascule.pipes import Input, Output
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Message, Notification, Params, Request
from bascule.wire.lines import Lines

_GRACE_S: Final = 2.0  # for answers under way when the client ends; clients kill what takes longer
_LAST_WORDS_S: Final = 1.0

# The id of a message, where it stands before all that can hold another.
_ID_IN_FRONT: Final = re.compile(
    rb'\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,\s*)*"id"\s*:\s*("[^"\\]*"|-?[0-9]{1,19})\s*,'
)


class StdioEdge:
    """One client, from its first line to the end of its input."""

    def __init__(
        self, rim: Rim, caller: Caller, view: str, *, source: Input, sink: Output, max_message_bytes: int
    ) -> None:
        self._rim = rim
        self._caller = caller
        self._view = view
        self._source = source
        self._sink = sink
        self._dialogue = Dialogue(rim, caller, view, sink)
        self._stateless: dict[bytes, asyncio.Task[None]] = {}
        self._max_message_bytes = max_message_bytes
        self._lines = Lines(max_message_bytes, self._take, self._overlong)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End as if the input had ended."""
        self._stopping.set()

    async def serve(self) -> None:
        """Answer until the input ends, `stop` is called, or nobody reads the answers."""
        listening = asyncio.ensure_future(self._listen())
        ends = [listening, *map(asyncio.ensure_future, (self._stopping.wait(), self._sink.lost.wait()))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()  # raises what is a fault of ours
            self._rim.end_subscriptions()
            await self._settle()
        finally:
            rest = [*ends, *self._stateless.values()]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, self._dialogue.end(), return_exceptions=True)

    async def _settle(self) -> None:
        if answering := self._answering():
            await asyncio.wait(answering, timeout=_GRACE_S)
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._sink.flushed()
        except TimeoutError:
            pass  # the client has ended, and does not read what it asked for

    def _answering(self) -> "frozenset[asyncio.Task[None]]":
        return self._dialogue.answering | frozenset(self._stateless.values())

    async def _listen(self) -> None:
        while chunk := await self._source.read():
            self._lines.feed(chunk)
            await self._sink.room()  # who does not read is not listened to either
        self._lines.feed(b"\n")  # the last line may lack its end

    # ---- the client's lines

    def _take(self, line: bytes) -> None:
        try:
            (message,) = jsonrpc.parse(line)
            self._act_on(message)
        except BasculeError as error:
            self._sink.put(jsonrpc.refusal(error.request_id, refusals.error_object(error)))

    def _overlong(self, head: bytes) -> None:
        error = InvalidRequest(f"a message is longer than {self._max_message_bytes} bytes")
        named = _ID_IN_FRONT.match(head)  # its client waits, if it is a request
        self._sink.put(jsonrpc.refusal(Raw(named[1]) if named else None, refusals.error_object(error)))

    def _act_on(self, message: Message) -> None:
        match message:
            case Request() if modern.is_modern(message.params):
                self._begin(message)
            case Notification(method=legacy.CANCELLED) if task := self._stateless.get(_named(message)):
                task.cancel()
            case _:
                self._dialogue.take(message)

    # ---- stateless requests

    def _begin(self, message: Request) -> None:
        key = bytes(message.id)
        if len(self._stateless) >= MAX_IN_FLIGHT:
            error = Overloaded(f"{MAX_IN_FLIGHT} requests are being answered; wait for some")
            self._sink.put(jsonrpc.refusal(message.id, refusals.error_object(error, message.params)))
            return
        if key in self._stateless:
            raise InvalidRequest(f"a request with the id {key.decode()} is still being answered")
        task = self._stateless[key] = asyncio.ensure_future(self._answer(message))
        task.add_done_callback(lambda _: self._stateless.pop(key))

    async def _answer(self, message: Request) -> None:
        """Cancelled by the client, it says nothing more."""
        call = stateless_call(self._caller, self._view, message, _Heard(self._sink))
        answer = await self._rim.answer(call)
        self._sink.put(answer.message)
        if message.method == modern.LISTEN and self._rim.closing:
            # Beside the answer, which says that it ended well (MCP 2026-07-28, "Cancellation").
            self._sink.put(jsonrpc.notification(legacy.CANCELLED, {"requestId": message.id}))


class _Heard:
    """The way back to a stateless client (`call.Client`)."""

    def __init__(self, sink: Output) -> None:
        self._sink = sink

    def notify(self, method: str, params: Params) -> None:
        self._sink.put(jsonrpc.notification(method, params))

    async def ask(self, method: str, params: Params) -> Result:
        raise Unavailable("a stateless client cannot be asked during a call")


def _named(cancellation: Notification) -> bytes:
    """The id of the request that a client gives up."""
    return bytes(cancellation.params.get("requestId", jsonrpc.NOTHING))
