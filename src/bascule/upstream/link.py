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
from bascule.errors import BasculeError, UnsupportedVersion, UpstreamBrokeProtocol
from bascule.upstream.base import answer_to
from bascule.upstream.exchange import Cursor, Exchange, NotMcp, messages, read_limited
from bascule.upstream.shared import NOBODY
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Notification, Params, Request, Response
from bascule.wire.versions import BY_VERSION, LATEST_LEGACY, MODERN_VERSIONS

if TYPE_CHECKING:
    from bascule.upstream.http import HttpUpstream

_LONGEST_PAUSE_S: Final = 30.0
_RECHECK_S: Final = 1.0
_CANCEL_S: Final = 0.5  # how long who gives a call up waits for the server to take it


class Link:
    """One legacy client's session at the server."""

    def __init__(self, upstream: "HttpUpstream", session: Session) -> None:
        self._upstream = upstream
        self._session = session
        self._id: str | None = None
        self._greeting: Raw | None = None
        self._version = session.revision.version
        self._opening = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._asks: dict[bytes, asyncio.Task[None]] = {}

    async def greeting(self) -> Raw:
        """The server's InitializeResult; the handshake is made when first needed."""
        async with self._opening:
            if self._greeting is None:
                self._greeting = await self._open()
        return self._greeting

    async def _open(self) -> Raw:
        session, upstream = self._session, self._upstream
        call = Call(caller=BASCULE, client=NOBODY, revision=session.revision, method=legacy.INITIALIZE, session=session)
        exchange = Exchange(upstream, call, session.hello, self)
        self._id = None
        async with upstream.opening(), upstream.open("POST", {}, exchange.body) as response:
            result = await exchange.read(response)
            if result.refused:
                raise _refused_handshake(result.value, session).at(upstream.name)
            self._id = response.headers.get(headers.SESSION)
        greeting = jsonrpc.members(result.value)
        self._version = jsonrpc.text(greeting.get("protocolVersion")) or LATEST_LEGACY.version
        upstream.server_info = legacy.server_info(greeting)
        await self._post(jsonrpc.notification(legacy.INITIALIZED))
        return result.value

    async def send(self, call: Call, params: Params) -> Result:
        await self.greeting()
        used = self._id
        try:
            return await self._send_once(call, params)
        except NotMcp as error:
            if error.status != 404:
                raise
        # 404 with a session id: the server has forgotten the session and has not looked at the request
        # (MCP 2025-11-25, Transports, "Session Management"), so a new one may carry it.
        await self._renew(used)
        return await self._send_once(call, params)

    async def _renew(self, lost: str | None) -> None:
        """Open a new session, unless another call that lost the same one already has."""
        async with self._opening:
            if self._greeting is not None and self._id != lost:
                return
            self._greeting = None
            self._greeting = await self._open()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
            self.watch()

    async def _send_once(self, call: Call, params: Params) -> Result:
        exchange = Exchange(self._upstream, call, params, self)
        try:
            async with self._upstream.open("POST", self._headers(), exchange.body) as response:
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
        async with self._upstream.opening(), self._upstream.open("POST", self._headers(), message) as response:
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
        """The standing stream, or with *last_id* the rest of the stream that was cut there."""
        head = {"accept": "text/event-stream", **self._headers()}
        if last_id:
            head["last-event-id"] = last_id
        async with self._upstream.open("GET", head) as response:
            yield response

    # ---- what the server sends

    def asked(self, message: Request, client: Client) -> None:
        """Put the server's question to *client*, without holding up the stream it came on."""
        key = bytes(message.id)
        task = asyncio.ensure_future(self._answer(message, client))
        self._asks[key] = task
        task.add_done_callback(lambda _: self._asks.pop(key, None))

    async def _answer(self, message: Request, client: Client) -> None:
        line = await answer_to(message, lambda: client.ask(message.method, message.params))
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
        while True:
            try:
                async with self.resume(cursor.last_id) as response:
                    if response.status != 200 or response.content_type != "text/event-stream":
                        if response.status in (404, 405):
                            return  # no such stream (405), or no such session any more: the next call opens one
                    else:
                        pause_s = cursor.retry_s
                        async for message in messages(response, cursor, self._upstream):
                            self._overheard(message)
            except BasculeError:
                pass  # it is in the status; try again
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def _overheard(self, message: jsonrpc.Message) -> None:
        match message:
            case Notification(method=legacy.CANCELLED):
                if task := self._asks.get(bytes(message.params.get("requestId", jsonrpc.NOTHING))):
                    task.cancel()
            case Notification():
                self._session.notify(message.method, message.params)
            case Request():
                self.asked(message, self._session)
            case Response():
                self._upstream.dropped["unmatched_answer"] += 1

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        for task in list(self._asks.values()):
            task.cancel()
        if self._id is not None:
            try:
                async with asyncio.timeout(2), self._upstream.open("DELETE", self._headers()):
                    pass
            except (BasculeError, TimeoutError):
                pass  # the server forgets it by itself in time


def _refused_handshake(error: Raw, session: Session) -> BasculeError:
    if modern.error_code(error) in modern.ERROR_CODES:
        return UnsupportedVersion(
            "speaks only the stateless protocol",
            requested=session.revision.version,
            supported=modern.supported_by(error) or MODERN_VERSIONS,
        )
    return UpstreamBrokeProtocol(f"refused the handshake: {modern.error_message(error)}")
