"""A remote MCP server over Streamable HTTP, of either era.

A legacy client has a session of its own at the server, opened with the client's own `initialize`,
so that nothing of what the two agreed on is lost. Modern requests share the connection pool.
Source: MCP 2025-11-25, "Transports"; MCP 2026-07-28, "Streamable HTTP".
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import aiohttp
import msgspec
from msgspec import Raw
from yarl import URL

from bascule.call import BASCULE, Call, Client, Result, Session
from bascule.errors import BasculeError, HeaderMismatch, Unavailable, UnsupportedVersion, UpstreamBrokeProtocol
from bascule.options import Bytes, Count, Options, Seconds
from bascule.upstream.base import INFO, State, Status, error_object, restored_token, with_token
from bascule.upstream.shared import NOBODY
from bascule.wire import headers, jsonrpc, legacy, modern, sse
from bascule.wire.jsonrpc import Notification, Params, Request, Response
from bascule.wire.versions import BY_VERSION, LATEST_LEGACY, LATEST_MODERN, MODERN_VERSIONS, Era

log = logging.getLogger("bascule.upstream")

_ACCEPT: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_RESUMES: Final = 20  # reconnections for one answer of a server that closes its streams (SEP-1699)
_DEFAULT_RETRY_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_RECHECK_S: Final = 1.0
_PAGES: Final = 100  # of a tools/list, when a schema has to be learnt anew


class HttpOptions(Options, frozen=True):
    """A server that is reached by URL."""

    url: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    era: Literal["auto", "legacy", "modern"] = "auto"
    required: bool = False
    call_timeout_s: Seconds = 300.0
    connect_timeout_s: Seconds = 10.0
    max_message_bytes: Bytes = 4 * 1024 * 1024
    max_connections: Count = 256


class HttpUpstream:
    """An upstream behind a URL: one pool of keep-alive connections, one session per legacy client."""

    def __init__(self, name: str, options: HttpOptions) -> None:
        self.name = name
        self._options = options
        self._url = URL(options.url)  # parsed once, not per request
        self._http: aiohttp.ClientSession | None = None
        self._eras: frozenset[Era] | None = None if options.era == "auto" else frozenset({Era(options.era)})
        self._verdict = asyncio.Lock()
        self._links: dict[str, _Link] = {}
        self._mirrored: Mapping[str, Sequence[headers.MirroredParam]] = {}
        self._next_id = 0
        self._in_flight = 0
        self._state = State.IDLE
        self._last_error: str | None = None
        self._changed_at = time.monotonic()
        self._retry_at = 0.0
        self.dropped: Counter[str] = Counter()
        self.withheld: dict[str, str] = {}  # tools that clients must not see, and why
        self.server_info: Mapping[str, Any] = {}

    async def start(self) -> None:
        """Nothing to bring up: the first request connects."""

    async def stop(self) -> None:
        await asyncio.gather(*(link.close() for link in list(self._links.values())))
        self._enter(State.STOPPED)
        if self._http is not None:
            await self._http.close()

    async def eras(self) -> Collection[Era]:
        if self._eras is None:
            async with self._verdict:
                if self._eras is None:
                    self._eras = await self._probe()
        return self._eras

    async def _probe(self) -> frozenset[Era]:
        """MCP 2026-07-28, Streamable HTTP, "Backward Compatibility": the body decides, not the status."""
        params = modern.stamp({}, info=INFO, capabilities={})
        call = Call(caller=BASCULE, client=NOBODY, revision=LATEST_MODERN, method=modern.DISCOVER, params=params)
        try:
            found = await self._exchange(call, params)
        except _NotMcp as error:
            if error.status in (401, 403) or error.status >= 500:
                raise  # needs authority, or an outage: neither says anything about the era
            return frozenset({Era.LEGACY})
        except _Broken:
            raise
        except UpstreamBrokeProtocol:
            return frozenset({Era.LEGACY})
        if found.refused and modern.error_code(found.value) not in modern.ERROR_CODES:
            return frozenset({Era.LEGACY})
        if found.refused or not modern.shared_versions(_versions(found.value)):
            return frozenset({Era.LEGACY})
        self.server_info = _info(found.value)
        return frozenset({Era.MODERN, Era.LEGACY})  # the handshake is tried when a legacy client comes

    async def send(self, call: Call) -> Result:
        assert call.target is not None
        if call.session is None:
            return await self._send_modern(call, call.target.params)
        link = self._link(call.session)
        if call.method == legacy.INITIALIZE:
            return Result(await link.greeting())
        return await link.send(call, call.target.params)

    def _link(self, session: Session) -> "_Link":
        link = self._links.get(session.id)
        if link is None:
            link = self._links[session.id] = _Link(self, session)
        return link

    async def _send_modern(self, call: Call, params: Params) -> Result:
        result = await self._exchange(call, params)
        if call.method == "tools/list" and not result.refused:
            return Result(self._visible(result.value))
        if call.method == "tools/call" and result.refused and modern.error_code(result.value) == HeaderMismatch.code:
            # Our copy of the schema is old. The server has not run the call, so it may be sent again.
            await self._learn_anew(call)
            return await self._exchange(call, params)
        return result

    def _visible(self, page: Raw) -> Raw:
        """A page of tools without those whose `x-mcp-header` is invalid: clients over HTTP must not see them."""
        if b"x-mcp-header" not in bytes(page):
            return page
        members = jsonrpc.members(page)
        kept = [tool for tool in jsonrpc.items(members.get("tools", Raw(b"[]"))) if self._usable(tool)]
        return jsonrpc.encode(jsonrpc.replaced(members, tools=kept))

    def _usable(self, tool: Raw) -> bool:
        try:
            headers.mirrored_of(tool)
        except ValueError as error:
            name = jsonrpc.text(jsonrpc.members(tool).get("name")) or "?"
            self.withheld[name] = str(error)
            return False
        return True

    async def _learn_anew(self, call: Call) -> None:
        cursor: dict[str, Raw] = {}
        fresh: dict[str, Sequence[headers.MirroredParam]] = {}
        for _ in range(_PAGES):
            params = {"_meta": call.params["_meta"], **cursor}
            page = await self._exchange(msgspec.structs.replace(call, method="tools/list", params=params), params)
            if page.refused:
                return
            members = jsonrpc.members(self._visible(page.value))
            for tool in jsonrpc.items(members.get("tools", Raw(b"[]"))):
                fresh[jsonrpc.text(jsonrpc.members(tool).get("name")) or ""] = headers.mirrored_of(tool)
            if "nextCursor" not in members:
                break
            cursor = {"cursor": members["nextCursor"]}
        self._mirrored = fresh

    async def tell(self, session: Session, method: str, params: Params) -> None:
        link = self._links.get(session.id)
        if link is not None:
            await link.tell(method, params)

    async def watch(self, session: Session) -> None:
        link = self._link(session)
        await link.greeting()
        link.watch()

    async def forget(self, session: Session) -> None:
        link = self._links.pop(session.id, None)
        if link is not None:
            await link.close()

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None:
        self._mirrored = mirrored

    def status(self) -> Status:
        return Status(
            name=self.name,
            kind="http",
            state=self._state,
            eras=sorted(era.value for era in self._eras or ()),
            in_flight=self._in_flight,
            since_s=time.monotonic() - self._changed_at,
            last_error=self._last_error,
            dropped=self.dropped,
            server=self.server_info,
            withheld=self.withheld,
        )

    # ---- one exchange

    async def _exchange(self, call: Call, params: Params) -> Result:
        """A modern request and its answer, with the headers made anew from the body that is sent."""
        name = jsonrpc.text(params.get("name")) if call.method == "tools/call" else None
        mirrored = self._mirrored.get(name, ()) if name else ()
        head = {
            headers.VERSION: call.revision.version,
            **headers.for_request(call.method, params, mirrored),
        }
        exchange = Exchange(self, call, params)
        async with self.open("POST", head, exchange.body) as response:
            return await exchange.read(response)

    def mint_id(self) -> int:
        self._next_id += 1
        return self._next_id

    @asynccontextmanager
    async def open(
        self, method: str, head: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One HTTP request. Raises Unavailable if the server cannot be reached or the connection breaks."""
        self._in_flight += 1
        try:
            async with self._client().request(
                method, self._url, headers={**_ACCEPT, **head}, data=body, allow_redirects=False
            ) as response:
                self._enter(State.READY if response.status < 500 else State.DOWN)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            self._last_error = f"{type(error).__name__}: {error}"  # with its addresses, for the operator only
            self._enter(State.DOWN)
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                raise Unavailable(f"cannot be reached ({type(error).__name__})").at(self.name) from error
            # The request may have arrived before the connection broke, and may have been run.
            raise _Broken(f"the connection broke ({type(error).__name__})").at(self.name) from error
        finally:
            self._in_flight -= 1

    def _client(self) -> aiohttp.ClientSession:
        if self._state is State.STOPPED:
            raise Unavailable("is stopped").at(self.name)
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers=self._options.headers,
                connector=aiohttp.TCPConnector(limit=self._options.max_connections, keepalive_timeout=60),
                # The pipeline owns the deadline of a call; only the connection is timed here.
                timeout=aiohttp.ClientTimeout(total=None, connect=self._options.connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                read_bufsize=256 * 1024,
            )
        return self._http

    def _enter(self, state: State) -> None:
        if state is not self._state and self._state is not State.STOPPED:
            if state is State.DOWN:
                log.warning("%s: %s", self.name, self._last_error or "answers with HTTP 5xx")
            elif self._state is State.DOWN:
                log.info("%s: answers again", self.name)
            self._state = state
            self._changed_at = time.monotonic()

    @property
    def max_message_bytes(self) -> int:
        return self._options.max_message_bytes


class _Broken(UpstreamBrokeProtocol):
    """The connection ended in the middle."""


class _NotMcp(UpstreamBrokeProtocol):
    """An HTTP answer that carries no JSON-RPC."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, http_status=status)
        self.status = status


class Exchange:
    """One request on its own HTTP response: JSON, or a stream of events that ends with the answer."""

    def __init__(self, upstream: HttpUpstream, call: Call, params: Params, link: "_Link | None" = None) -> None:
        self.id = upstream.mint_id()
        params, self._token = with_token(params, self.id)
        self.body = jsonrpc.request(self.id, call.method, params)
        self._upstream = upstream
        self._call = call
        self._link = link

    async def read(self, response: aiohttp.ClientResponse) -> Result:
        """The answer. Raises _NotMcp, UpstreamBrokeProtocol or Unavailable (the stream broke)."""
        if response.content_type == "text/event-stream" and response.status == 200:
            return await self._read_events(response)
        body = await read_limited(response, self._upstream.max_message_bytes, self._upstream.name)
        if response.content_type != "application/json":
            raise _NotMcp(_http_problem(response, body), response.status).at(self._upstream.name)
        try:
            message = jsonrpc.read(body)
        except ValueError as error:
            raise _NotMcp(_http_problem(response, body), response.status).at(self._upstream.name) from error
        # An error about the envelope may come without the id; on its own response it can only be ours.
        if isinstance(message, Response) and (self._is_ours(message) or (message.error and not self._foreign(message))):
            return self._result(message)
        raise UpstreamBrokeProtocol("answered with something else than a response to the request").at(
            self._upstream.name
        )

    async def _read_events(self, response: aiohttp.ClientResponse) -> Result:
        cursor = Cursor()
        result = await self._follow(response, cursor)
        for _ in range(_RESUMES):
            if result is not None:
                return result
            if self._link is None or not cursor.last_id:
                break
            await asyncio.sleep(cursor.retry_s)
            async with self._link.resume(cursor.last_id) as resumed:
                if resumed.status != 200:
                    break
                result = await self._follow(resumed, cursor)
        if result is not None:
            return result
        raise UpstreamBrokeProtocol("closed its stream before it answered").at(self._upstream.name)

    async def _follow(self, response: aiohttp.ClientResponse, cursor: "Cursor") -> Result | None:
        async for message in messages(response, cursor, self._upstream):
            match message:
                case Response() if self._is_ours(message):
                    return self._result(message)
                case Response():
                    self._upstream.dropped["unmatched_answer"] += 1
                case Notification():
                    self._notified(message)
                case Request():
                    if self._link is not None:
                        self._link.asked(message, self._call.client)
        return None

    def _notified(self, message: Notification) -> None:
        params = message.params
        if message.method == legacy.PROGRESS:
            if self._token is None:
                return
            params = restored_token(params, self._token)
        elif self._call.method == modern.LISTEN:
            params = modern.retag(params, self._call.id)
        self._call.client.notify(message.method, params)

    def _is_ours(self, message: Response) -> bool:
        return bytes(message.id) == b"%d" % self.id

    def _foreign(self, message: Response) -> bool:
        return bool(message.id) and bytes(message.id) != b"null"

    def _result(self, message: Response) -> Result:
        if bool(message.result) == bool(message.error):
            raise UpstreamBrokeProtocol("answered with both or neither of a result and an error").at(
                self._upstream.name
            )
        if message.error:
            return Result(message.error, refused=True)
        if self._call.method == modern.LISTEN:
            return Result(jsonrpc.encode(modern.retag(jsonrpc.members(message.result), self._call.id)))
        return Result(message.result)


class Cursor:
    """Where we stand in a stream that may be cut and resumed."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_s = _DEFAULT_RETRY_S


async def messages(
    response: aiohttp.ClientResponse, cursor: Cursor, upstream: HttpUpstream
) -> AsyncIterator[jsonrpc.Message]:
    """The JSON-RPC messages of an event stream; *cursor* follows it. Ends quietly when the stream breaks."""
    parser = sse.Parser(upstream.max_message_bytes)
    try:
        async for chunk in response.content.iter_any():
            for event in parser.feed(chunk):
                cursor.last_id = event.id or cursor.last_id
                if event.retry_ms is not None:
                    cursor.retry_s = min(_LONGEST_PAUSE_S, event.retry_ms / 1000)
                if not event.data or event.name != "message":
                    continue
                try:
                    yield jsonrpc.read(event.data)
                except ValueError:
                    upstream.dropped["not_json_rpc"] += 1
    except aiohttp.ClientPayloadError:
        return  # cut off in the middle: the same to us as an early end
    except ValueError as error:
        raise UpstreamBrokeProtocol(str(error)).at(upstream.name) from error


async def read_limited(response: aiohttp.ClientResponse, limit: int, name: str) -> bytes:
    """The whole body. Raises UpstreamBrokeProtocol when it is larger than *limit* bytes."""
    if response.content_length is not None and response.content_length <= limit:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise UpstreamBrokeProtocol(f"the answer is larger than max_message_bytes ({limit})").at(name)
    return bytes(body)


class _Link:
    """One legacy client's session at the server."""

    def __init__(self, upstream: HttpUpstream, session: Session) -> None:
        self._upstream = upstream
        self._session = session
        self._id: str | None = None
        self._greeting: Raw | None = None
        self._version = session.revision.version
        self._opening = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._asks: dict[bytes, asyncio.Task[None]] = {}
        self._sent: dict[bytes, int] = {}  # the client's request ids and ours, for cancellation

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
        async with upstream.open("POST", {}, exchange.body) as response:
            result = await exchange.read(response)
            if result.refused:
                raise _refused_handshake(result.value, session).at(upstream.name)
            self._id = response.headers.get(headers.SESSION)
        greeting = jsonrpc.members(result.value)
        self._version = jsonrpc.text(greeting.get("protocolVersion")) or LATEST_LEGACY.version
        info = greeting.get("serverInfo")
        upstream.server_info = jsonrpc.decode(info) if info else {}
        await self._post(jsonrpc.notification(legacy.INITIALIZED))
        return result.value

    async def send(self, call: Call, params: Params) -> Result:
        await self.greeting()
        try:
            return await self._send_once(call, params)
        except _NotMcp as error:
            if error.status != 404:
                raise
        # 404 with a session id: the server has forgotten the session and has not looked at the request
        # (MCP 2025-11-25, Transports, "Session Management"), so a new one may carry it.
        async with self._opening:
            self._greeting = await self._open()
        if self._watcher is not None:
            self._watcher.cancel()
            self.watch()
        return await self._send_once(call, params)

    async def _send_once(self, call: Call, params: Params) -> Result:
        exchange = Exchange(self._upstream, call, params, self)
        key = bytes(call.id)
        self._sent[key] = exchange.id
        try:
            async with self._upstream.open("POST", self._headers(), exchange.body) as response:
                return await exchange.read(response)
        except asyncio.CancelledError:
            # Shielded from the cancellation that it reports.
            await asyncio.shield(asyncio.ensure_future(self._cancel(exchange.id)))
            raise
        finally:
            self._sent.pop(key, None)

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
        async with self._upstream.open("POST", self._headers(), message) as response:
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
        try:
            result = (
                Result(Raw(b"{}")) if message.method == "ping" else await client.ask(message.method, message.params)
            )
        except BasculeError as error:
            result = Result(error_object(error.family, error.message), refused=True)
        make = jsonrpc.refusal if result.refused else jsonrpc.answer
        try:
            await self._post(make(message.id, result.value))
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
    return UpstreamBrokeProtocol(f"refused the handshake: {bytes(error).decode()}")


def _http_problem(response: aiohttp.ClientResponse, body: bytes) -> str:
    said = body[:200].decode(errors="replace").strip()
    return f"answered HTTP {response.status} {response.reason or ''}{': ' + said if said else ''}".strip()


def _versions(discovered: Raw) -> Any:
    raw = jsonrpc.members(discovered).get("supportedVersions")
    return jsonrpc.decode(raw) if raw else None


def _info(discovered: Raw) -> Mapping[str, Any]:
    info = modern.meta_of(jsonrpc.members(discovered)).get(modern.SERVER_INFO)
    return jsonrpc.decode(info) if info else {}
