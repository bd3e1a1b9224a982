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
from types import TracebackType
from typing import Any, Final, Literal

import aiohttp
import msgspec
from msgspec import Raw
from yarl import URL

from bascule.call import BASCULE, Call, Result, Session
from bascule.errors import BasculeError, HeaderMismatch, TimedOut, Unavailable, UpstreamBrokeProtocol
from bascule.options import Bytes, Count, Options, Seconds
from bascule.upstream.base import INFO, State, Status
from bascule.upstream.exchange import Broken, Exchange, NotMcp
from bascule.upstream.link import Link
from bascule.upstream.shared import NOBODY
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_MODERN, Era

log = logging.getLogger("bascule.upstream")

_ACCEPT: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_LONGEST_OPENING_S: Final = 60.0  # for a probe, a handshake or a notification, which no call's deadline covers
# Answers of a guard or a proxy: they say nothing about the server's era.
_NO_VERDICT: Final = frozenset({401, 403, 407, 408, 429})
_PAGES: Final = 100  # of a tools/list, when a schema has to be learnt anew

_UNSAID: Final = ("user-agent", "accept-encoding")  # headers that aiohttp would add to each request


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
        self._probing: asyncio.Future[frozenset[Era]] | None = None
        self._links: dict[str, Link] = {}
        self._mirrored: Mapping[str, Sequence[headers.MirroredParam]] = {}
        self._next_id = 0
        self.in_flight = 0
        self._state = State.IDLE
        self._last_error: str | None = None
        self._changed_at = time.monotonic()
        self.dropped: Counter[str] = Counter()
        self.withheld: dict[str, str] = {}  # tools that clients must not see, and why
        self.server_info: Mapping[str, Any] = {}

    async def start(self) -> None:
        """Nothing to bring up: the first request connects."""

    async def stop(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
        await asyncio.gather(*(link.close() for link in list(self._links.values())))
        self._enter(State.STOPPED)
        if self._http is not None:
            await self._http.close()

    async def eras(self) -> Collection[Era]:
        if self._eras is not None:
            return self._eras
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._probe())
            self._probing.add_done_callback(self._probed)
        # Shared, so that those who wait for a silent server do not wait one after the other.
        return await asyncio.shield(self._probing)

    def _probed(self, done: "asyncio.Future[frozenset[Era]]") -> None:
        self._probing = None
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._eras = done.result()
        elif isinstance(error, BasculeError) and not isinstance(error, Unavailable | Broken):
            self._last_error = error.message  # of those two, `open` has said more

    async def _probe(self) -> frozenset[Era]:
        """MCP 2026-07-28, Streamable HTTP, "Backward Compatibility": the body decides, not the status."""
        params = modern.stamp({}, info=INFO, capabilities={})
        call = Call(caller=BASCULE, client=NOBODY, revision=LATEST_MODERN, method=modern.DISCOVER, params=params)
        try:
            async with self.opening():
                found = await self._exchange(call, params)
        except NotMcp as error:
            if not 400 <= error.status < 500 or error.status in _NO_VERDICT:
                raise  # a guard, an outage, somebody else's page
            return frozenset({Era.LEGACY})
        except Broken:
            raise
        except UpstreamBrokeProtocol:
            return frozenset({Era.LEGACY})
        if found.refused and modern.error_code(found.value) not in modern.ERROR_CODES:
            return frozenset({Era.LEGACY})
        if found.refused or not modern.shared_versions(_versions(found.value)):
            return frozenset({Era.LEGACY})
        self.server_info = modern.server_info(jsonrpc.members(found.value))
        return frozenset({Era.MODERN, Era.LEGACY})  # the handshake is tried when a legacy client comes

    async def send(self, call: Call) -> Result:
        assert call.target is not None
        if call.session is None:
            return await self._send_modern(call, call.target.params)
        link = self._link(call.session)
        if call.method == legacy.INITIALIZE:
            return Result(await link.greeting())
        return await link.send(call, call.target.params)

    def _link(self, session: Session) -> "Link":
        link = self._links.get(session.id)
        if link is None:
            link = self._links[session.id] = Link(self, session)
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
            in_flight=self.in_flight,
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

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """Bounds what no call's deadline covers. Raises TimedOut."""
        seconds = min(self._options.call_timeout_s, _LONGEST_OPENING_S)
        try:
            async with asyncio.timeout(seconds) as scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise TimedOut(f"no answer within {seconds:g} s").at(self.name) from None

    def mint_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def open(self, method: str, head: Mapping[str, str], body: bytes | None = None) -> "Opened":
        """One HTTP request, as a context. Raises Unavailable if the server cannot be reached, Broken if
        the connection ends in the middle."""
        request = self._client().request(method, self._url, headers=head, data=body, allow_redirects=False)
        return Opened(self, request)

    def answered(self, status: int) -> None:
        """The server has answered, with this HTTP status."""
        self._enter(State.READY if status < 500 else State.DOWN)

    def failed(self, error: Exception) -> BasculeError:
        """What a failed request means, in our words."""
        self._last_error = f"{type(error).__name__}: {error}"  # with its addresses, for the operator only
        self._enter(State.DOWN)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Unavailable(f"cannot be reached ({type(error).__name__})").at(self.name)
        # The request may have arrived before the connection broke, and may have been run.
        return Broken(f"the connection broke ({type(error).__name__})").at(self.name)

    def _client(self) -> aiohttp.ClientSession:
        if self._state is State.STOPPED:
            raise Unavailable("is stopped").at(self.name)
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers={**_ACCEPT, **self._options.headers},
                skip_auto_headers=_UNSAID,
                connector=aiohttp.TCPConnector(limit=self._options.max_connections, keepalive_timeout=60),
                # The pipeline owns the deadline of a call; only the connection is timed here.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._options.connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                read_bufsize=256 * 1024,
            )
        return self._http

    def _enter(self, state: State) -> None:
        if state is not self._state and self._state is not State.STOPPED:
            if state is State.DOWN:
                log.warning("%s: %s", self.name, self._last_error or "answers with HTTP 5xx")
            elif self._state is State.DOWN and state is State.READY:
                log.info("%s: answers again", self.name)
            self._state = state
            self._changed_at = time.monotonic()

    @property
    def max_message_bytes(self) -> int:
        return self._options.max_message_bytes


def _versions(discovered: Raw) -> Any:
    raw = jsonrpc.members(discovered).get("supportedVersions")
    return jsonrpc.decode(raw) if raw else None


class Opened:
    """An HTTP request while its response is being read; foreign errors leave it as ours.

    A class, because as a generator it would cost every call a few microseconds more.
    """

    __slots__ = ("_request", "_upstream")

    def __init__(self, upstream: HttpUpstream, request: Any) -> None:
        self._upstream = upstream
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse | None = None
        self._upstream.in_flight += 1
        try:
            response = await self._request.__aenter__()
        except (aiohttp.ClientError, OSError) as error:
            raise self._upstream.failed(error) from error
        finally:
            if response is None:
                self._upstream.in_flight -= 1
        self._upstream.answered(response.status)
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._upstream.in_flight -= 1
        await self._request.__aexit__(kind, error, trace)
        if isinstance(error, aiohttp.ClientError | OSError):
            raise self._upstream.failed(error) from error
