"""A stateless server over HTTP whose rounds and subscriptions a test conducts by hand.

`new()` runs one in the loop of the test. Each `tools/call` becomes a `Round`, each `subscriptions/listen` a
`Listening`, acknowledged unless `acknowledging` is cleared.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from foreign import CACHE, INFO, Asked, Foreign, far
from gateway import META, WITHIN_S, Json

TOOLS: Final = [{"name": name, "description": "?", "inputSchema": {"type": "object"}} for name in ("turn", "other")]
OFFERED: Final[Json] = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True},
    "logging": {},
}


@dataclass
class Round:
    """One request for a call."""

    asked: Asked
    done: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def params(self) -> Json:
        found: Json = self.asked.message["params"]
        return found

    @property
    def meta(self) -> Json:
        found: Json = self.params["_meta"]
        return found

    async def ask(self, questions: Json | None = None, state: str | None = None) -> None:
        """Answer with questions, a state, or both."""
        fresh: Json = {} if questions is None else {"inputRequests": questions}
        fresh |= {} if state is None else {"requestState": state}
        await self.result({"resultType": "input_required", **fresh})

    async def elicit(self, message: str, state: str | None = None, **more: Any) -> None:
        params = {"message": message, "requestedSchema": {"type": "object", "properties": {}}, **more}
        await self.ask({"it": {"method": "elicitation/create", "params": params}}, state)

    async def answer(self, text: str) -> None:
        await self.result({"resultType": "complete", "content": [{"type": "text", "text": text}]})

    async def result(self, result: Json) -> None:
        await self._end({"result": result})

    async def refuse(self, code: int, message: str, **facts: Any) -> None:
        await self._end({"error": {"code": code, "message": message, "data": facts}})

    async def notify(self, name: str, **params: Any) -> None:
        if not self.asked.streaming:
            await self.asked.stream()
        await self.asked.event({"jsonrpc": "2.0", "method": f"notifications/{name}", "params": params})

    async def has_left(self) -> None:
        """Wait until the client has hung up, which cancels."""
        async with asyncio.timeout(WITHIN_S):
            await self.left.wait()

    async def _end(self, outcome: Json) -> None:
        message = {"jsonrpc": "2.0", "id": self.asked.id, **outcome}
        if self.asked.streaming:
            await self.asked.event(message)
            await self.asked.end()
        else:
            await self.asked.say(message)
        self.done.set()


@dataclass
class Listening:
    """One subscription that is open."""

    asked: Asked
    acknowledged: bool = False

    @property
    def wanted(self) -> Json:
        found: Json = self.asked.message["params"]["notifications"]
        return found

    @property
    def uris(self) -> list[str]:
        return sorted(self.wanted.get("resourceSubscriptions", []))

    async def notify(self, name: str, **params: Any) -> None:
        tagged = {**params, "_meta": {f"{META}subscriptionId": self.asked.id}}
        await self.asked.event({"jsonrpc": "2.0", "method": f"notifications/{name}", "params": tagged})


@dataclass
class New:
    """The server: the rounds that arrive, and the subscriptions that are open."""

    foreign: Foreign
    rounds: "asyncio.Queue[Round]" = field(default_factory=asyncio.Queue)
    listening: list[Listening] = field(default_factory=list)
    acknowledging: asyncio.Event = field(default_factory=asyncio.Event)
    discovering: asyncio.Event = field(default_factory=asyncio.Event)
    honoured: Callable[[Json], Json] = lambda wanted: wanted
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.acknowledging.set()
        self.discovering.set()
        self.foreign.tools = list(TOOLS)
        self.foreign.on |= {
            "server/discover": self._discover,
            "tools/call": self._called,
            "subscriptions/listen": self._listen,
            **dict.fromkeys(("prompts/list", "resources/list", "resources/templates/list"), self._list),
        }

    @property
    def url(self) -> str:
        return self.foreign.url

    async def round(self) -> Round:
        """The next request for a call."""
        async with asyncio.timeout(WITHIN_S):
            return await self.rounds.get()

    def sent(self, name: str) -> list[Json]:
        """The parameters of every message of this method."""
        return [each.message["params"] for each in self.foreign.asked(name)]

    def of_clients(self) -> list[Listening]:
        """The subscriptions that are not Bascule's own, which never concern a resource."""
        return [each for each in self.listening if each.uris]

    async def until(self, holds: Callable[["New"], bool]) -> None:
        async with asyncio.timeout(WITHIN_S), self._changed:
            await self._changed.wait_for(lambda: holds(self))

    async def tell(self, name: str, **params: Any) -> None:
        """Tell every subscription."""
        for each in list(self.listening):
            if each.acknowledged:
                await each.notify(name, **params)

    async def _moved(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _discover(self, asked: Asked) -> None:
        await self._moved()
        await self.discovering.wait()
        meta = {"_meta": {f"{META}serverInfo": INFO}}
        offer = {"supportedVersions": ["2026-07-28"], "capabilities": OFFERED, "instructions": "be kind"}
        await asked.answer({"resultType": "complete", **offer, **CACHE, **meta})

    async def _called(self, asked: Asked) -> None:
        round = Round(asked)
        self.rounds.put_nowait(round)
        left = asyncio.ensure_future(asked.left())
        done = asyncio.ensure_future(round.done.wait())
        await asyncio.wait({left, done}, return_when=asyncio.FIRST_COMPLETED)
        if not round.done.is_set():
            round.left.set()
        for each in (left, done):
            each.cancel()

    async def _listen(self, asked: Asked) -> None:
        listening = Listening(asked)
        self.listening.append(listening)
        await self._moved()
        try:
            await asked.stream()
            await self.acknowledging.wait()
            honoured = self.honoured(listening.wanted)
            await listening.notify("subscriptions/acknowledged", notifications=honoured)
            listening.acknowledged = True
            await self._moved()
            await asked.left()
        finally:
            self.listening.remove(listening)
            await self._moved()

    async def _list(self, asked: Asked) -> None:
        key = {"prompts/list": "prompts", "resources/list": "resources"}.get(asked.name, "resourceTemplates")
        await asked.answer({"resultType": "complete", key: [], **CACHE})


@asynccontextmanager
async def new() -> AsyncIterator[New]:
    """One such server on a free port."""
    async with far(modern=True) as foreign:
        yield New(foreign)
