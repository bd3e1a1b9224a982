"""A server with a handshake, over HTTP, whose calls a test conducts by hand: question by question, to the answer.

`old()` runs one in the loop of the test. Each `tools/call` that arrives becomes a `Turn`; nothing happens to it but
what the test does. What the server was sent stays in `seen`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from foreign import Asked, Foreign, far
from gateway import WITHIN_S, Json

FORM: Final[Json] = {"type": "object", "properties": {"answer": {"type": "string"}}}
TOOLS: Final = [{"name": name, "description": "?", "inputSchema": {"type": "object"}} for name in ("turn", "other")]
OFFERED: Final[Json] = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True, "listChanged": True},
    "logging": {},
}


@dataclass
class Turn:
    """One call at the server, on the stream of its request."""

    asked: Asked
    server: "Old"
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, method: str, params: Json | None = None) -> "Asking":
        """Send the client a question; its answer comes when it comes."""
        asking = self.server.asking()
        await self._say({"jsonrpc": "2.0", "id": asking.id, "method": method, "params": params or {}})
        return asking

    async def elicit(self, message: str, **more: Any) -> "Asking":
        return await self.ask("elicitation/create", {"message": message, "requestedSchema": FORM, **more})

    async def withdraw(self, asking: "Asking") -> None:
        await self.notify("cancelled", requestId=asking.id)

    async def notify(self, name: str, **params: Any) -> None:
        await self._say({"jsonrpc": "2.0", "method": f"notifications/{name}", "params": params})

    async def answer(self, text: str, **more: Any) -> None:
        await self.result({"content": [{"type": "text", "text": text}], **more})

    async def result(self, result: Json) -> None:
        await self._end({"jsonrpc": "2.0", "id": self.asked.id, "result": result})

    async def refuse(self, code: int, message: str, **facts: Any) -> None:
        error = {"code": code, "message": message, **({"data": facts} if facts else {})}
        await self._end({"jsonrpc": "2.0", "id": self.asked.id, "error": error})

    def reset(self) -> None:
        """Break the connection as a crash does."""
        self.asked.reset()
        self.done.set()

    async def is_cancelled(self) -> None:
        """Wait until the client has cancelled this call."""
        async with asyncio.timeout(WITHIN_S):
            await self.cancelled.wait()

    @property
    def params(self) -> Json:
        found: Json = self.asked.message["params"]
        return found

    async def _say(self, message: Json) -> None:
        if not self.asked.streaming:
            await self.asked.stream()
        await self.asked.event(message)

    async def _end(self, message: Json) -> None:
        if self.asked.streaming:
            await self.asked.event(message)
            await self.asked.end()
        else:
            await self.asked.say(message)
        self.done.set()


@dataclass
class Asking:
    """A question of the server's."""

    id: str
    response: "asyncio.Future[Json]"

    async def answered(self) -> Json:
        """The response, result or error and all."""
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.shield(self.response)


@dataclass
class Old:
    """The server: what it was sent, and the calls that it has."""

    foreign: Foreign
    offered: Json = field(default_factory=lambda: dict(OFFERED))
    turns: "asyncio.Queue[Turn]" = field(default_factory=asyncio.Queue)
    open: dict[Any, Turn] = field(default_factory=dict)  # by the id of its request
    every: dict[Any, Turn] = field(default_factory=dict)  # also those whose connection is gone
    streams: dict[str, Asked] = field(default_factory=dict)  # the standing ones, by session
    asked: dict[str, Asking] = field(default_factory=dict)
    _number: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.foreign.tools = list(TOOLS)
        self.foreign.on |= {
            "initialize": self._initialize,
            "tools/call": self._called,
            "POST": self._answered,
            "GET": self._listen,
            "notifications/cancelled": self._cancelled,
            **dict.fromkeys(("resources/subscribe", "resources/unsubscribe", "logging/setLevel"), self._done),
            **dict.fromkeys(("prompts/list", "resources/list", "resources/templates/list"), self._list),
        }

    @property
    def url(self) -> str:
        return self.foreign.url

    def asking(self) -> Asking:
        self._number += 1
        asking = Asking(f"question-{self._number}", asyncio.get_running_loop().create_future())
        self.asked[asking.id] = asking
        return asking

    async def turn(self) -> Turn:
        """The next call that arrives."""
        async with asyncio.timeout(WITHIN_S):
            return await self.turns.get()

    def sent(self, name: str) -> list[Json]:
        """The parameters of every message of this method, in the order they came."""
        return [each.message.get("params", {}) for each in self.foreign.seen if each.name == name]

    @property
    def heard(self) -> list[str]:
        """What it was sent for calls: their methods, and "POST" for each answer to a question."""
        names = ("tools/call", "POST", "notifications/cancelled")
        return [each.name for each in self.foreign.seen if each.name in names]

    async def until(self, holds: Callable[["Old"], bool]) -> None:
        """Wait until what it was sent *holds*."""
        async with asyncio.timeout(WITHIN_S), self._changed:
            await self._changed.wait_for(lambda: holds(self))

    async def say(self, message: Json, session: str | None = None) -> None:
        """Send what belongs to no call, on the standing stream of one session or of every one."""
        for id, stream in list(self.streams.items()):
            if session in (None, id):
                await stream.event({"jsonrpc": "2.0", **message})

    async def ask_outside(self, method: str, params: Json, session: str) -> Asking:
        """Ask a question that is tied to no call."""
        asking = self.asking()
        await self.say({"id": asking.id, "method": method, "params": params}, session)
        return asking

    async def moved(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _initialize(self, asked: Asked) -> None:
        self.foreign.sessions += 1
        hello = asked.message["params"]
        info = {"name": "old", "version": "1"}
        spoken = {"protocolVersion": hello["protocolVersion"], "serverInfo": info, "capabilities": self.offered}
        await asked.answer(spoken, {"mcp-session-id": f"session-{self.foreign.sessions}"})
        await self.moved()

    async def _called(self, asked: Asked) -> None:
        turn = self.open[asked.id] = self.every[asked.id] = Turn(asked, self)
        self.turns.put_nowait(turn)
        await self.moved()
        left = asyncio.ensure_future(asked.left())
        done = asyncio.ensure_future(turn.done.wait())
        await asyncio.wait({left, done}, return_when=asyncio.FIRST_COMPLETED)
        for each in (left, done):
            each.cancel()
        del self.open[asked.id]
        await self.moved()

    async def _answered(self, asked: Asked) -> None:
        message = json.loads(asked.body)
        if "method" in message:  # nothing that is conducted here
            await self.foreign.answer(asked)
            return
        asking = self.asked.get(message["id"])
        if asking is not None and not asking.response.done():
            asking.response.set_result(message)
        await asked.reply(202)
        await self.moved()

    async def _cancelled(self, asked: Asked) -> None:
        turn = self.every.get(asked.message["params"]["requestId"])
        if turn is not None:
            turn.cancelled.set()
        await asked.reply(202)
        await self.moved()

    async def _listen(self, asked: Asked) -> None:
        session = asked.headers.get("mcp-session-id")
        if session is None:  # a client that looks for the transport of 2024-11-05
            await asked.reply(405)
            return
        await asked.stream()
        self.streams[session] = asked
        await self.moved()
        await asked.left()
        if self.streams.get(session) is asked:
            del self.streams[session]
        await self.moved()

    async def _done(self, asked: Asked) -> None:
        await asked.answer({})
        await self.moved()

    async def _list(self, asked: Asked) -> None:
        key = {"prompts/list": "prompts", "resources/list": "resources"}.get(asked.name, "resourceTemplates")
        await asked.answer({key: []})


@asynccontextmanager
async def old() -> AsyncIterator[Old]:
    """One such server on a free port."""
    async with far() as foreign:
        yield Old(foreign)
