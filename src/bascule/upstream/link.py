"""One legacy client's session at a remote server, opened with the client's own `initialize`.

Source: MCP 2025-11-25, Transports, "Session Management" and "Listening for Messages from the Server".
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from msgspec import Raw

from bascule.call import BASCULE, Call, Client, Result, Session
from bascule.errors import BasculeError
from bascule.upstream.asks import Asks
from bascule.upstream.base import answer_to, key_head, trace_head
from bascule.upstream.exchange import Cursor, Exchange, NotMcp, messages, read_limited
from bascule.upstream.linked import SETTERS, NoHandshake, Settings
from bascule.upstream.shared import NOBODY
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Notification, Params, Request, Response
from bascule.wire.versions import BY_VERSION, LATEST_LEGACY

if TYPE_CHECKING:
    from bascule.upstream.http import HttpUpstream

_LONGEST_PAUSE_S: Final = 30.0
_RECHECK_S: Final = 1.0
_CANCEL_S: Final = 0.5  # how long who gives a call up waits for the server to take it
# Answers of a guard or a proxy: they say nothing about the server.
GUARDS: Final = frozenset({401, 403, 407, 408, 429})

_OF_SESSIONS: Final = frozenset({400, 404, 405})  # how a server refuses what belongs to no session that it knows


class Link:
    """One legacy client's session at the server."""

    def __init__(self, upstream: "HttpUpstream", session: Session, settings: Settings | None = None) -> None:
        """*settings* are those that the session had made before, over another transport."""
        self._upstream = upstream
        self._session = session
        self._id: str | None = None
        self._greeting: Raw | None = None
        self._version = session.revision.version
        self._opening = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._asks = Asks()
        self.settings = settings or Settings()

    @property
    def watching(self) -> bool:
        return self._watcher is not None

    async def greeting(self) -> Raw:
        """The server's InitializeResult; the handshake is made when first needed."""
        async with self._opening:
            if self._greeting is None:
                self._greeting = await self._open()
        return self._greeting

    async def _open(self) -> Raw:
        result = await self._shake_hands()
        greeting = jsonrpc.members(result.value)
        self._version = jsonrpc.text(greeting.get("protocolVersion")) or LATEST_LEGACY.version
        self._upstream.server_info = legacy.server_info(greeting)
        self._upstream.shaken_hands = True
        await self._post(jsonrpc.notification(legacy.INITIALIZED))
        await self._restore()
        return result.value

    async def _shake_hands(self) -> Result:
        session, upstream = self._session, self._upstream
        call = Call(caller=BASCULE, client=NOBODY, revision=session.revision, method=legacy.INITIALIZE, session=session)
        exchange = Exchange(upstream, call, session.hello, self)
        self._id = None
        async with upstream.opening(), upstream.open("POST", {}, exchange.body) as response:
            try:
                result = await exchange.read(response)
            except NotMcp as error:
                if not 400 <= error.status < 500 or error.status in GUARDS:
                    raise  # a guard, an outage, somebody else's page
                raise NoHandshake(error.message, status=error.status).at(upstream.name) from error
            if result.refused:
                raise NoHandshake(
                    f"refused the handshake: {modern.error_message(result.value)}",
                    status=response.status,
                    modern=modern.error_code(result.value) in modern.ERROR_CODES,
                ).at(upstream.name)
            self._id = response.headers.get(headers.SESSION)
        return result

    async def _restore(self) -> None:
        """After a loss, bring the new session to where the old one was, as far as can be known."""
        for method, params in self.settings.requests():
            call = Call(caller=BASCULE, client=NOBODY, revision=self._session.revision, method=method)
            try:
                async with self._upstream.opening():
                    restored = not (await self._send_once(Exchange(self._upstream, call, params, self))).refused
            except BasculeError:
                restored = False
            self._upstream.dropped["not_restored"] += not restored
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
            self.watch()
            for method in legacy.LIST_CHANGED:
                self._session.notify(method, {})  # nobody knows what changed meanwhile

    async def send(self, call: Call, params: Params) -> Result:
        await self.greeting()
        used = self._id
        exchange = Exchange(self._upstream, call, params, self)
        try:
            result = await self._send_once(exchange)
        except NotMcp as error:
            # 404 with a session id: the server has forgotten the session and has not looked at the request
            # (MCP 2025-11-25, Transports, "Session Management"), so a new one may carry it.
            if error.status != 404 and not (error.status in _OF_SESSIONS and await self._is_lost()):
                raise
        else:
            if not result.refused or exchange.status not in _OF_SESSIONS or not await self._is_lost():
                if call.method in SETTERS and not result.refused:
                    self.settings.note(call.method, params)
                return result
        await self._renew(used)
        return await self._send_once(Exchange(self._upstream, call, params, self))

    async def _is_lost(self) -> bool:
        """Whether not this request was refused but the session, as some servers do it with 400.

        So does a stateless server in the place of the old one. Either way a ping tells: only a session has one.
        """
        call = Call(caller=BASCULE, client=NOBODY, revision=self._session.revision, method="ping")
        exchange = Exchange(self._upstream, call, {}, self)
        try:
            async with self._upstream.opening():
                answer = await self._send_once(exchange)
        except NotMcp as error:
            return error.status in _OF_SESSIONS
        except BasculeError:
            return False
        return answer.refused and exchange.status in _OF_SESSIONS

    async def _renew(self, lost: str | None) -> None:
        """Open a new session, unless another call that lost the same one already has."""
        async with self._opening:
            if self._greeting is not None and self._id != lost:
                return
            self._greeting = None
            self._greeting = await self._open()

    async def _send_once(self, exchange: Exchange) -> Result:
        try:
            head = self._headers()
            if self._upstream.deduplicates and exchange.call.wishes.key:
                head |= key_head(exchange.call)
            head |= trace_head(exchange.call)
            exchange.opened = self._upstream.open("POST", head, exchange.body)
            async with exchange.opened as response:
                return await exchange.read(response)
        except asyncio.CancelledError:
            # A task of its own: not cancelled with us, and a server that does not listen does not hold us up.
            await asyncio.wait({asyncio.ensure_future(self._cancel(exchange.id))}, timeout=_CANCEL_S)
            raise

    async def _cancel(self, id: int) -> None:
        note = jsonrpc.notification(legacy.CANCELLED, {"requestId": jsonrpc.encode(id)})
        try:
            await self._post(note)
        except BasculeError:
            pass  # the server is out of reach; so is the call

    async def tell(self, method: str, params: Params) -> None:
        if method in (legacy.INITIALIZED, legacy.CANCELLED):
            return  # the first was said when we opened, the second is said in our ids when a call is cancelled
        await self._post(jsonrpc.notification(method, params))

    async def _post(self, message: bytes) -> None:
        opened = self._upstream.open("POST", self._headers(), message, counted=False)
        async with self._upstream.opening(), opened as response:
            await read_limited(response, self._upstream.max_message_bytes, self._upstream.name)

    def _headers(self) -> dict[str, str]:
        head = {}
        if self._id is not None:
            head[headers.SESSION] = self._id
        revision = BY_VERSION.get(self._version)
        if revision is not None and revision.version_header:
            head[headers.VERSION] = self._version
        return head

    @asynccontextmanager
    async def resume(self, last_id: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        """With *last_id* the rest of the stream that was cut there, else the standing stream from now on."""
        head = {"accept": "text/event-stream", **self._headers()}
        if last_id:
            head["last-event-id"] = last_id
        async with self._upstream.open("GET", head, counted=False) as response:
            yield response

    # ---- what the server sends

    async def asked(self, message: Request, client: Client) -> None:
        """Put the server's question to *client*, without holding up the stream it came on.

        Only a refusal, when too many wait, is delivered before the stream goes on: that slows a flood down.
        """
        if refusal := self._asks.begin(message, lambda question: self._answer(question, client)):
            await self._reply(refusal)

    def withdrawn(self, id: jsonrpc.Id) -> None:
        """The server gives up a question, whichever stream it came on."""
        self._asks.withdraw(id)

    async def _answer(self, message: Request, client: Client) -> None:
        await self._reply(await answer_to(message, lambda: client.ask(message.method, message.params)))

    async def _reply(self, line: bytes) -> None:
        try:
            await self._post(line)
        except BasculeError:
            self._upstream.dropped["answer_not_delivered"] += 1

    def watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Keep the server's standing stream open, as long as it has one, and pass on what it carries."""
        cursor = Cursor()
        pause_s = _RECHECK_S
        met = False
        while True:
            try:
                async with self.resume(cursor.last_id) as response:
                    if response.status != 200 or response.content_type != "text/event-stream":
                        if response.status == 404 and met and self._id is not None:
                            # Who only listens makes no call that would open a new session.
                            self._reopening = asyncio.ensure_future(self._reopen(self._id))
                        if response.status in (404, 405):
                            return  # no such stream, or no such session any more
                    else:
                        met = True
                        pause_s = cursor.retry_s
                        async for message in messages(response, cursor, self._upstream):
                            await self._overheard(message)
            except BasculeError:
                pass  # it is in the status; try again
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _reopen(self, lost: str) -> None:
        """Open a new session in the place of the *lost* one, as soon as the server lets us."""
        pause_s = _RECHECK_S
        while True:
            try:
                await self._renew(lost)
                return
            except NoHandshake:
                return  # another kind of server is there now: the next call finds its way to it
            except BasculeError:
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _overheard(self, message: jsonrpc.Message) -> None:
        match message:
            case Notification(method=legacy.CANCELLED):
                self.withdrawn(message.params.get("requestId", jsonrpc.NOTHING))
            case Notification():
                self._session.notify(message.method, message.params)
            case Request():
                await self.asked(message, self._session)
            case Response():
                self._upstream.dropped["unmatched_answer"] += 1

    async def close(self) -> None:
        for task in (self._watcher, self._reopening):
            if task is not None:
                task.cancel()
        self._asks.stop()
        if self._id is not None:
            try:
                async with asyncio.timeout(2), self._upstream.open("DELETE", self._headers(), counted=False):
                    pass
            except (BasculeError, TimeoutError):
                pass  # the server forgets it by itself in time
