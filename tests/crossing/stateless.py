"""Stateless clients of any caller in front of a Gateway's pipeline: what an authenticated edge would let through."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway import ELICITS, META, MODERN, WITHIN_S, Bascule, Json, until

from bascule.app import Gateway
from bascule.call import Call, Caller, Result
from bascule.crossing.as_legacy import AsLegacy
from bascule.crossing.as_modern import AsModern
from bascule.crossing.bilingual import Bilingual
from bascule.crossing.conversation import Conversation
from bascule.errors import Unavailable
from bascule.policy.scopes import UNLIMITED
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_MODERN

ACCEPTED: Final[Json] = {"action": "accept", "content": {"answer": "yes"}}

ANN: Final = Caller("ann", UNLIMITED)

_ids = itertools.count(1)


@dataclass
class Stateless:
    """A client of 2026-07-28 who is whoever we say."""

    gateway: Gateway
    caller: Caller = ANN
    capabilities: Json = field(default_factory=lambda: dict(ELICITS))
    view: str = "it"
    heard: "asyncio.Queue[tuple[str, Json]]" = field(default_factory=asyncio.Queue)

    def notify(self, method: str, params: Params) -> None:
        self.heard.put_nowait((method, {key: jsonrpc.decode(raw) for key, raw in params.items()}))

    async def ask(self, method: str, params: Params) -> Result:
        raise Unavailable("a stateless client cannot be asked during a call")

    async def next_of(self, method: str) -> Json:
        """The parameters of the next notification, which has to be this one."""
        async with asyncio.timeout(WITHIN_S):
            said, params = await self.heard.get()
        assert said == method, params
        return params

    async def send(self, method: str, params: Json, *, id: Any = None, meta: Json | None = None) -> Json:
        """The result. An error of the server's is `{"error": …}`; one of Bascule's is raised."""
        stamp = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": self.capabilities}
        members = {**params, "_meta": {**stamp, **(meta or {})}}
        call = Call(
            caller=self.caller,
            client=self,
            revision=LATEST_MODERN,
            method=method,
            params={key: jsonrpc.encode(value) for key, value in members.items()},
            id=jsonrpc.encode(next(_ids) if id is None else id),
            view=self.view,
        )
        async with asyncio.timeout(2 * WITHIN_S):
            result = await self.gateway.forward(call)
        found: Json = jsonrpc.decode(result.value)
        return {"error": found} if result.refused else found

    async def call(self, tool: str, /, **arguments: Any) -> Json:
        return await self.send("tools/call", {"name": tool, "arguments": arguments})

    async def go_on(self, asked: Json, tool: str, /, answers: Json | None = None, **arguments: Any) -> Json:
        """Call again with an answer to every question in *asked*, or with these *answers*."""
        given = dict.fromkeys(asked["inputRequests"], ACCEPTED) if answers is None else answers
        again = {"inputResponses": given, "requestState": asked["requestState"]}
        return await self.send("tools/call", {"name": tool, "arguments": arguments, **again})


def bilingual(bascule: Bascule, server: str = "it") -> Bilingual:
    assert bascule.gateway is not None
    found = bascule.gateway.upstreams[server]
    assert isinstance(found, Bilingual)
    return found


def as_modern(bascule: Bascule, server: str = "it") -> AsModern:
    return bilingual(bascule, server)._as_modern


def as_legacy(bascule: Bascule, server: str = "it") -> AsLegacy:
    return bilingual(bascule, server)._as_legacy


def conversations(bascule: Bascule, server: str = "it") -> list[Conversation]:
    """The calls that a server still has."""
    return [each for session in as_modern(bascule, server).pool._all() for each in session.conversations]


def parked(bascule: Bascule) -> int:
    assert bascule.gateway is not None
    return len(bascule.gateway.parking)


async def nothing_left(bascule: Bascule, server: str = "it") -> None:
    """Wait until no call is parked, none is at the server, and no task of one runs."""

    async def left() -> list[str]:
        tasks = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        return [
            *(f"{parked(bascule)} parked" for _ in range(bool(parked(bascule)))),
            *map(repr, conversations(bascule, server)),
            *(task for task in tasks if "Conversation" in task or "Link._answer" in task or "Parking" in task),
        ]

    await until(left, lambda some: not some)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something inside Bascule, that has no event, *holds*."""

    async def look() -> bool:
        return holds()

    await until(look, bool)
