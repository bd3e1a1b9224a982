"""One legacy client's session at a server of 2024-11-05: a stream of events down, a POST for each message up.

The session lives as long as its stream. Source: MCP 2024-11-05, Transports, "HTTP with SSE".
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import aiohttp
from msgspec import Raw
from yarl import URL

from bascule.call import BASCULE, Call, Client, Result, Session
from bascule.errors import BasculeError, Overloaded, TimedOut, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.exchange import NotMcp, http_problem, read_limited, refused_by_http
from bascule.upstream.link import GUARDS
from bascule.upstream.linked import SETTERS, NoHandshake, Settings
from bascule.upstream.multiplexer import Multiplexer
from bascule.upstream.shared import NOBODY
from bascule.wire import jsonrpc, legacy, modern, sse
from bascule.wire.jsonrpc import Params, Request, Response

if TYPE_CHECKING:
    from bascule.upstream.http import HttpUpstream

_ENDPOINT_S: Final = 5.0  # for the first event, which a server sends at once
_IN_ORDER_S: Final = 1.0  # how long a message waits for the one before it to be taken
_MAX_UNSENT: Final = 1000  # messages that a server has not taken yet; then calls are refused
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


class SseLink:
    """One session; it is opened again, on a new stream, when its stream has ended."""

    def __init__(self, upstream: "HttpUpstream", session: Session, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.watching = False
        self.met = False  # the server has shown that it speaks this transport
        self._upstream = upstream
        self._session = session
        self._greeting: Raw = jsonrpc.NOTHING
        self._opening = asyncio.Lock()
        self._stream: _Stream | None = None
        self._opened_before = False
        self._reviver: asyncio.Task[None] | None = None
        self._many = Multiplexer(upstream.name, self._write, self)
        self._many.dropped = upstream.dropped

    async def greeting(self) -> Raw:
        """The server's InitializeResult; stream and session are opened when first needed."""
        async with self._opening:
            if self._stream is None:
                self._greeting = await self._open()
        return self._greeting

    async def _open(self) -> Raw:
        stream = self._stream = _Stream(self._upstream, self._many, self._lost)
        opened = False
        try:
            async with self._upstream.opening():
                async with self._upstream.opening(_ENDPOINT_S):
                    await stream.endpoint
                answer = await self._own(legacy.INITIALIZE, self._session.hello)
            if answer.refused:
                raise NoHandshake(
                    f"refused the handshake: {modern.error_message(answer.value)}",
                    status=200,
                    modern=modern.error_code(answer.value) in modern.ERROR_CODES,
                ).at(self._upstream.name)
            opened = True
        finally:
            self.met = self.met or stream.met
            if not opened:
                self._hang_up()
        self._upstream.server_info = legacy.server_info(jsonrpc.members(answer.value))
        self._upstream.shaken_hands = True
        self._many.tell(legacy.INITIALIZED)
        await self._restore()
        return answer.value

    async def _own(self, method: str, params: Params) -> Result:
        call = Call(caller=BASCULE, client=NOBODY, revision=self._session.revision, method=method)
        return await self._many.request(call, params)

    async def _restore(self) -> None:
        """After a loss, bring the new session to where the old one was, as far as can be known."""
        for method, params in self.settings.requests():
            try:
                async with self._upstream.opening():
                    restored = not (await self._own(method, params)).refused
            except BasculeError:
                restored = False
            self._upstream.dropped["not_restored"] += not restored
        again, self._opened_before = self._opened_before, True
        for method in legacy.LIST_CHANGED if again and self.watching else ():
            self._session.notify(method, {})  # nobody knows what changed meanwhile

    async def send(self, call: Call, params: Params) -> Result:
        await self.greeting()
        self._upstream.in_flight += 1
        try:
            result = await self._many.request(call, params)
        finally:
            self._upstream.in_flight -= 1
        if call.method in SETTERS and not result.refused:
            self.settings.note(call.method, params)
        return result

    async def tell(self, method: str, params: Params) -> None:
        # These are said in our own words and ids; and a session yet to be opened has missed nothing.
        if method not in (legacy.INITIALIZED, legacy.CANCELLED) and self._stream is not None:
            self._many.tell(method, params)

    def _write(self, line: bytes) -> None:
        if self._stream is None:
            raise Unavailable("its stream of events has ended").at(self._upstream.name)
        self._stream.write(line)

    # ---- what the server sends (multiplexer.Host)

    def heard(self, method: str, params: Params, sole: Call | None) -> None:
        standing = method in legacy.LIST_CHANGED or method == legacy.UPDATED
        (self._session if standing else self._client(sole)).notify(method, params)

    async def asked(self, method: str, params: Params, sole: Call | None) -> Result:
        return await self._client(sole).ask(method, params)

    def _client(self, sole: Call | None) -> Client:
        return sole.client if sole else self._session

    # ---- life

    def watch(self) -> None:
        self.watching = True
        if self._stream is None:
            self._revive()

    def _lost(self, stream: "_Stream", error: BasculeError) -> None:
        """A stream has ended, and its session with it."""
        if stream is not self._stream:
            return
        self._hang_up()
        # Not Unavailable: the calls in flight had been sent, and nobody knows whether they were run.
        broke = UpstreamBrokeProtocol(f"the stream of events ended: {error.message}").at(self._upstream.name)
        self._many.fail(broke)
        if self.watching:
            self._revive()

    def _revive(self) -> None:
        if self._reviver is None or self._reviver.done():
            self._reviver = asyncio.ensure_future(self._open_again())

    async def _open_again(self) -> None:
        """A client waits for news, so the next call, which would open a stream, may come too late."""
        pause_s = _FIRST_PAUSE_S
        while self._stream is None:
            await asyncio.sleep(pause_s)
            try:
                await self.greeting()
            except BasculeError:
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)  # it is in the status; try again

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def close(self) -> None:
        self.watching = False
        if self._reviver is not None:
            self._reviver.cancel()
        stream = self._stream
        self._hang_up()
        # Not Unavailable: what is in flight had been sent.
        self._many.fail(UpstreamBrokeProtocol("the session was ended during the call").at(self._upstream.name))
        if stream is not None:
            await stream.closed()


class _Stream:
    """One stream of events, and the POSTs that belong to it."""

    def __init__(
        self, upstream: "HttpUpstream", many: Multiplexer, lost: Callable[["_Stream", BasculeError], None]
    ) -> None:
        self.endpoint: asyncio.Future[URL] = asyncio.get_running_loop().create_future()
        self.met = False  # the event that names the endpoint has come, whatever is in it
        self._upstream = upstream
        self._many = many
        self._lost = lost
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue(_MAX_UNSENT)
        self._posting: set[asyncio.Future[None]] = set()
        self._tasks = [asyncio.ensure_future(self._hear())]

    def write(self, line: bytes) -> None:
        try:
            self._unsent.put_nowait(line)
        except asyncio.QueueFull:
            raise Overloaded("the server does not take what is sent to it").at(self._upstream.name) from None

    def close(self) -> None:
        if not self.endpoint.done():
            self.endpoint.set_exception(Unavailable("the session has ended").at(self._upstream.name))
        if not self.endpoint.cancelled():
            self.endpoint.exception()  # told to whoever waited; nobody else has to hear it
        for task in [*self._tasks, *self._posting]:
            task.cancel()

    async def closed(self) -> None:
        """Wait until its connections are."""
        await asyncio.wait([*self._tasks, *self._posting])

    # ---- down

    async def _hear(self) -> None:
        try:
            head = {"accept": "text/event-stream"}
            async with self._upstream.open("GET", head, counted=False) as response:
                await self._check(response)
                await self._follow(response)
            raise UpstreamBrokeProtocol("the server closed it").at(self._upstream.name)
        except BasculeError as error:
            if not self.endpoint.done():
                self.endpoint.set_exception(error)
            self._lost(self, error)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        body = await read_limited(response, self._upstream.max_message_bytes, self._upstream.name)
        if 400 <= response.status < 500 and response.status not in GUARDS:
            raise NoHandshake(http_problem(response, body), status=response.status).at(self._upstream.name)
        raise refused_by_http(response, body).at(self._upstream.name)

    async def _follow(self, response: aiohttp.ClientResponse) -> None:
        parser = sse.Parser(self._upstream.max_message_bytes)
        try:
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk):
                    if event.name == "message" and event.data:
                        self._many.receive(event.data)
                    elif event.name == "endpoint" and not self.endpoint.done():
                        self.met = True
                        url = self._endpoint(event.data)
                        self.endpoint.set_result(url)
                        self._tasks.append(asyncio.ensure_future(self._send_all(url)))
        except aiohttp.ClientPayloadError:
            return  # cut off in the middle: the same to us as an early end
        except ValueError as error:
            raise UpstreamBrokeProtocol(str(error)).at(self._upstream.name) from error

    def _endpoint(self, named: bytes) -> URL:
        """The URL to POST to. What the operator trusts is one origin, and our credentials go nowhere else.

        Raises ValueError for what is no URL, UpstreamBrokeProtocol for one of another origin.
        """
        own = self._upstream.url.origin()
        url = self._upstream.url.join(URL(named.decode(), encoded=True))
        if url.scheme not in ("http", "https") or url.origin() != own:
            raise UpstreamBrokeProtocol(
                f"names an endpoint at {url.scheme}://{url.host}:{url.port}, which is not where it is reached ({own})"
            ).at(self._upstream.name)
        return own.join(url.relative())  # without what else an origin may be written with, such as a user

    # ---- up

    async def _send_all(self, url: URL) -> None:
        while True:
            posting = asyncio.ensure_future(self._post(url, await self._unsent.get()))
            self._posting.add(posting)
            posting.add_done_callback(self._posting.discard)
            # In order, but not for ever: a server may take a message only when it has dealt with it, and for
            # that it may need an answer that stands behind it in the queue.
            await asyncio.wait({posting}, timeout=_IN_ORDER_S)

    async def _post(self, url: URL, line: bytes) -> None:
        try:
            async with (
                self._upstream.opening(),
                self._upstream.open("POST", {}, line, url=url, counted=False) as response,
            ):
                body = await read_limited(response, self._upstream.max_message_bytes, self._upstream.name)
                if response.status >= 300:
                    raise refused_by_http(response, body).at(self._upstream.name)
        except TimedOut:
            pass  # it may still be at it; the call has a deadline of its own
        except BasculeError as error:
            self._undelivered(line, error)

    def _undelivered(self, line: bytes, error: BasculeError) -> None:
        match jsonrpc.read(line):
            case Request(id=id):
                self._many.abandon(id, error)
            case Response():
                self._upstream.dropped["answer_not_delivered"] += 1
        if isinstance(error, NotMcp) and error.status == 404:
            self._lost(self, error)  # it has forgotten the session, so nothing more will come
