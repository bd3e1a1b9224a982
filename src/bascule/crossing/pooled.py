"""One session at a server with a handshake, for the stateless requests of one caller (`call.Session`).

Source: MCP 2025-11-25, "Lifecycle", "Logging", Resources, "Subscriptions".
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from bascule.call import Call, Result, Target
from bascule.crossing.conversation import Conversation
from bascule.errors import BasculeError, MethodNotFound, Unavailable
from bascule.upstream.base import INFO, Upstream
from bascule.upstream.shared import NOBODY
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY

if TYPE_CHECKING:
    from bascule.crossing.pool import Pool

_UNSUBSCRIBE_S: Final = 5.0
Hearer: TypeAlias = Callable[[str, Params], None]


class PooledSession:
    """One session of a caller's stateless requests (`call.Session`)."""

    # What a process that serves many sessions may ask; each conversation knows what its own client declared.
    capabilities = legacy.RELAYED_CAPABILITIES

    def __init__(self, pool: "Pool", upstream: Upstream, call: Call, declared: Mapping[str, Any]) -> None:
        """*declared* are the client's capabilities."""
        self.id = f"pooled-{secrets.token_urlsafe(12)}"
        self.caller = call.caller
        self.family = f"pooled-{call.caller.name}"
        self.revision = LATEST_LEGACY
        self.declared = declared
        self.hello: Params = {**legacy.initialize_params(INFO, declared), **_introduced(call)}
        self.conversations: dict[Conversation, None] = {}  # in the order they began
        self.hearers: set[Hearer] = set()  # take lists that changed and resources that were updated
        self.used_at = time.monotonic()
        self.ended = asyncio.Event()
        self._pool = pool
        self._upstream = upstream
        self._greeting: Raw | None = None
        self._opening = asyncio.Lock()
        self._subscribing = asyncio.Lock()  # what is sent about a resource has to arrive in this order
        self._level: str | None = None
        self._holders: dict[str, int] = {}  # resource URI -> subscriptions of clients

    @property
    def busy(self) -> bool:
        return bool(self.conversations or self.hearers) or self._opening.locked()

    # ---- call.Session: what the server sends outside of calls

    def notify(self, method: str, params: Params) -> None:
        if method in legacy.LIST_CHANGED or method == legacy.UPDATED:
            self.hear(method, params)
        elif len(running := self._running()) == 1:
            running[0].notify(method, params)
        else:
            self._pool.dropped["ownerless_notification"] += 1

    def hear(self, method: str, params: Params) -> None:
        """News for whoever listens."""
        self._pool.news(self.caller, method, params)

    def announce(self, method: str, params: Params) -> None:
        pass  # the aggregate announces to its clients' own subscriptions

    async def ask(self, method: str, params: Params) -> Result:
        """A question that came outside of a call: it belongs to the only one that it can belong to."""
        running = self._running()
        if len(running) != 1:
            self._pool.dropped["ownerless_question"] += 1
            raise MethodNotFound(
                f"{method} could belong to several calls; run this server with sharing: per_session (--per-session)"
            )
        return await running[0].ask(method, params)

    def _running(self) -> list[Conversation]:
        """The calls that the server works at, where it speaks. One that is parked has asked, and waits for that.

        A pipe that is shared carries all of them, of which only the caller's own are looked at.
        """
        shared = not self._over_http and self._upstream.spare is None
        calls = self._pool.conversations_of(self.caller) if shared else self.conversations
        return [each for each in calls if not each.parked]

    @property
    def _over_http(self) -> bool:
        return self._upstream.status().kind == "http"

    def release(self, conversation: Conversation) -> None:
        """The call has ended, and with it the session's part in it."""
        self.conversations.pop(conversation, None)
        self.used_at = time.monotonic()

    # ---- requests

    async def greeting(self) -> Raw:
        """The server's InitializeResult; the handshake is made when first needed."""
        if self._greeting is None:
            async with self._opening:
                if self.ended.is_set():
                    raise Unavailable("no session could be opened there; call again").at(self._upstream.name)
                if self._greeting is None:
                    try:
                        self._greeting = await self._open()
                    except BasculeError:
                        self._pool.leave(self)  # the next call tries with a session of its own making
                        raise
        return self._greeting

    async def _open(self) -> Raw:
        result = await self.own(legacy.INITIALIZE, self.hello)
        # A pipe has one stream for everything; over HTTP what is not about a call comes on the standing one.
        if self._over_http:
            await self._upstream.watch(self)
        return result.value

    async def own(self, method: str, params: Params) -> Result:
        """A request of the session itself, which no client waits to be told about."""
        call = Call(
            caller=self.caller,
            client=NOBODY,
            revision=self.revision,
            method=method,
            params=params,
            session=self,
            target=Target(self._upstream, params),
        )
        return await self._upstream.send(call)

    async def send(self, call: Call, client: Conversation) -> Result:
        """Send a stateless client's *call* in this session; its answer is the server's, untranslated."""
        assert call.target is not None, "the resolve stage sets the target"
        await self.greeting()
        await self._log_from(jsonrpc.text(modern.meta_of(call.params).get(modern.LOG_LEVEL)))
        params = translate.to_legacy(call.target.params)
        return await self._upstream.send(
            msgspec.structs.replace(
                call,
                client=client,
                revision=self.revision,
                session=self,
                params=params,
                target=Target(self._upstream, params),
            )
        )

    async def _log_from(self, level: str | None) -> None:
        """Have the server log from *level* on; the session stays at the lowest that a request wanted."""
        if level not in legacy.LEVELS:
            return
        lowest = legacy.lowest_level(each for each in (level, self._level) if each is not None)
        if lowest == self._level or not await self.offers("logging"):
            return
        self._level = lowest
        await self.own("logging/setLevel", {"level": jsonrpc.encode(lowest)})

    async def offers(self, capability: str, feature: str | None = None) -> bool:
        """Whether the server declared *capability*, and within it *feature*."""
        declared = jsonrpc.value_of(jsonrpc.members(await self.greeting()).get("capabilities"), dict) or {}
        found = declared.get(capability)
        return isinstance(found, dict) and (feature is None or found.get(feature) is True)

    # ---- subscriptions, counted per resource

    async def subscribe(self, uri: str) -> bool:
        """Subscribe once more to *uri*. Whether the server honours it."""
        async with self._subscribing:
            if not self._holders.get(uri):
                asked = asyncio.ensure_future(self.own("resources/subscribe", {"uri": jsonrpc.encode(uri)}))
                try:
                    answer = await asyncio.shield(asked)
                except asyncio.CancelledError:
                    # The server may have it by now, and nobody is there to hear of it.
                    asked.add_done_callback(lambda done: self._pool.spawn(self._take_back(uri, done)))
                    raise
                if answer.refused:
                    return False
            self._holders[uri] = self._holders.get(uri, 0) + 1
        return True

    async def unsubscribe(self, uris: Sequence[str]) -> None:
        """Take back one subscription to each of *uris*; the last one tells the server."""
        for uri in uris:
            async with self._subscribing:
                self._holders[uri] -= 1
                if self._holders[uri]:
                    continue
                del self._holders[uri]
                await self._tell_unsubscribed(uri)
        self.used_at = time.monotonic()

    async def _take_back(self, uri: str, asked: "asyncio.Future[Result]") -> None:
        """Undo a subscription that nobody waited for."""
        if asked.cancelled() or asked.exception() is not None:
            return
        async with self._subscribing:
            if uri not in self._holders:
                await self._tell_unsubscribed(uri)

    async def _tell_unsubscribed(self, uri: str) -> None:
        try:
            async with asyncio.timeout(_UNSUBSCRIBE_S):  # no call's deadline covers it, and the next subscriber waits
                await self.own("resources/unsubscribe", {"uri": jsonrpc.encode(uri)})
        except (BasculeError, TimeoutError):
            pass  # the server is down, and has forgotten it


def _introduced(call: Call) -> Params:
    """What the client says of itself, if it is what a handshake wants: one client's mistake is not for all."""
    raw = modern.meta_of(call.params).get(modern.CLIENT_INFO)
    said = jsonrpc.value_of(raw, dict)
    whole = raw and said and isinstance(said.get("name"), str) and isinstance(said.get("version"), str)
    return {"clientInfo": raw} if raw and whole else {}
