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
from typing import Annotated, Any, Final, Literal

import aiohttp
import msgspec
from msgspec import Raw
from yarl import URL

from bascule.call import BASCULE, Call, Result, Session
from bascule.errors import (
    BasculeError,
    HeaderMismatch,
    TimedOut,
    Unavailable,
    UnsupportedVersion,
    UpstreamBrokeProtocol,
)
from bascule.options import Bytes, Options, Seconds
from bascule.upstream.base import INFO, State, Status, WrongEra, key_head, trace_head
from bascule.upstream.exchange import Broken, Exchange, NotMcp
from bascule.upstream.link import GUARDS, Link
from bascule.upstream.linked import Linked, NoHandshake
from bascule.upstream.opened import Opened, reason_of
from bascule.upstream.shared import NOBODY, Nobody
from bascule.upstream.slots import Slots
from bascule.upstream.sse_link import SseLink
from bascule.upstream.untried import Untried
from bascule.upstream.verdict import ONLY_LEGACY, ONLY_MODERN, PERHAPS_BOTH, Eras, Verdict, era_told_by
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN, Era

log = logging.getLogger("bascule.upstream")

_ACCEPT: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_LONGEST_OPENING_S: Final = 60.0  # for a probe, a handshake or a notification, which no call's deadline covers
_PROBE_S: Final = 10.0  # a server that is silent to the probe for so long gets the old handshake
# How an old server refuses what it does not know ("Backward Compatibility"), unless the error is a modern one.
_OF_OLD_SERVERS: Final = frozenset({400, 404, 405})
_MODERN_REFUSALS: Final = modern.ERROR_CODES - {UnsupportedVersion.code} | {-32601, -32602}
_PAGES: Final = 100  # of a tools/list, when a schema has to be learnt anew

_UNSAID: Final = ("user-agent", "accept-encoding")  # headers that aiohttp would add to each request


class HttpOptions(Options, frozen=True):
    """A server that is reached by URL."""

    url: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    era: Literal["auto", "legacy", "modern"] = "auto"
    transport: Literal["auto", "streamable", "sse"] = "auto"  # sse: the HTTP+SSE of 2024-11-05
    required: bool = False
    trusted: bool = False
    names: Literal["prefixed", "own"] = "prefixed"  # as of StdioOptions
    trust: Literal["auto", "pin", "review"] = "pin"  # which of the definitions that it lists need an approval
    call_timeout_s: Seconds = 60.0  # without a sign of life: progress, or a question, starts it anew
    fallback: str | None = None  # the server that takes over while this one fails, for tools of the same contract
    deduplicates: bool = False  # runs calls that have the same key once by itself, so that keys are passed on to it
    connect_timeout_s: Seconds = 10.0
    max_message_bytes: Bytes = 4 * 1024 * 1024
    # Requests that it works at, at one time; those that wait for a person's answer, or for news, do not count.
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 256

    def __post_init__(self) -> None:
        if self.transport == "sse" and self.era == "modern":
            raise ValueError("`transport: sse` is older than `era: modern`")


class _Trial(Nobody):
    """A session that is only opened to learn whether one can be."""

    id = family = "bascule-trial"
    caller = BASCULE
    revision = LATEST_LEGACY
    hello: Params = legacy.initialize_params(INFO, {})
    capabilities: Mapping[str, Any] = {}

    def announce(self, method: str, params: Params) -> None:
        pass  # nobody is there


class HttpUpstream:
    """An upstream behind a URL: one pool of keep-alive connections, one session per legacy client."""

    def __init__(self, name: str, options: HttpOptions) -> None:
        self.name = name
        self._options = options
        self.url = URL(options.url)  # parsed once, not per request
        self._http: aiohttp.ClientSession | None = None
        # Of `max_connections`: taken by requests that the server works at, not by those that wait for a
        # person or for news. These would use them up, and the answers would have no connection to go on.
        self.slots = Slots(options.max_connections)
        self._verdict = Verdict("legacy" if options.transport == "sse" else options.era, self._probe)
        self._sse = options.transport == "sse"  # the verdict on the transport of its sessions
        self._links: dict[str, Linked] = {}
        self._mirrored: Mapping[str, Sequence[headers.MirroredParam]] = {}
        self._next_id = 0
        self.in_flight = 0
        self._state = State.IDLE
        self._last_error: str | None = None
        self._changed_at = time.monotonic()
        self.dropped: Counter[str] = Counter()
        self.withheld: dict[str, str] = {}  # tools that clients must not see, and why
        self.server_info: Mapping[str, Any] = {}
        self.shaken_hands = False  # with a session: until then, that it can be is a guess

    @property
    def spare(self) -> int | None:
        return max(0, self._options.max_connections - len(self._links)) if self._sse else None

    async def start(self) -> None:
        """Nothing to bring up: the first request connects."""

    async def stop(self) -> None:
        self._verdict.stop()
        await asyncio.gather(*(link.close() for link in list(self._links.values())))
        self._enter(State.STOPPED)
        if self._http is not None:
            await self._http.close()

    # ---- eras and transports

    async def eras(self) -> Collection[Era]:
        return await self._verdict.ask()

    async def _probe(self) -> Eras:
        try:
            return await self._found_eras()
        except BasculeError as error:
            if not isinstance(error, Unavailable | Broken):
                self._last_error = error.message  # of those two, `open` has said more
            raise

    async def _found_eras(self) -> Eras:
        """MCP 2026-07-28, Streamable HTTP, "Backward Compatibility": the body decides, not the status."""
        params = modern.stamp({}, info=INFO, capabilities={})
        call = Call(caller=BASCULE, client=NOBODY, revision=LATEST_MODERN, method=modern.DISCOVER, params=params)
        try:
            async with self.opening(min(_PROBE_S, self._opening_s / 2)):
                found, _ = await self._exchange(call, params)
        except NotMcp as error:
            if 400 <= error.status < 500 and error.status not in GUARDS:
                return ONLY_LEGACY
            if error.status >= 300:
                raise  # a guard, an outage, somebody else's page
            return await self._shown_by_handshake(error)
        except Broken:
            raise
        except (TimedOut, UpstreamBrokeProtocol) as error:
            return await self._shown_by_handshake(error)
        if era_told_by(found) is Era.LEGACY:
            return ONLY_LEGACY
        if found.refused:
            return ONLY_MODERN  # who answers so has never heard of a handshake
        self.server_info = modern.server_info(jsonrpc.members(found.value))
        return PERHAPS_BOTH

    async def _shown_by_handshake(self, answered: BasculeError) -> Eras:
        """The eras of a server that was silent to the probe, or *answered* it with nothing that tells.

        Silence alone is no verdict: it would outlast the outage that it may come from.
        """
        trial = Link(self, _Trial())
        try:
            await trial.greeting()
        except NoHandshake as refusal:
            if refusal.modern:
                return ONLY_MODERN
            raise answered from refusal
        except BasculeError as error:
            raise answered from error
        await trial.close()
        return ONLY_LEGACY

    async def _doubt(self, believed: Eras | None, why: str) -> None:
        """A modern request was refused as an old server would: ask again. Raises WrongEra if it is one now."""
        if Era.MODERN not in await self._verdict.ask_again(believed):
            raise WrongEra(f"is no longer a stateless server: {why}").at(self.name)

    async def _otherwise(self, session: Session, link: Linked, refusal: NoHandshake) -> None:
        """Find the way to a server that refused the handshake of *link*; then the session may try again.

        Raises WrongEra when the server is a modern one, *refusal* when there is no other way.
        """
        believed = self._verdict.eras
        modern_only = refusal.modern or (believed is not None and Era.MODERN in believed)
        if not modern_only and self._options.transport == "auto":
            if await self._has_other_transport(session, link, refusal):
                return
            modern_only = Era.MODERN in await self._verdict.ask_again(believed)
        if self._verdict.fixed or not modern_only:
            raise refusal
        self._verdict.settle(ONLY_MODERN)
        raise WrongEra(refusal.message).at(self.name) from refusal

    async def _has_other_transport(self, session: Session, link: Linked, refusal: NoHandshake) -> bool:
        """Give *session* a link over the other transport, if the server has that."""
        if isinstance(link, SseLink):
            other: Linked = Link(self, session, link.settings)  # it may have been replaced by a newer one
        elif refusal.status in _OF_OLD_SERVERS:
            other = sse = SseLink(self, session, link.settings)
            try:
                await sse.greeting()
            except BasculeError:
                if sse.met:
                    raise  # it is one, and says what is wrong with it
                return False
        else:
            return False
        if self._links.get(session.id) is not link:  # another call was quicker
            await other.close()
            return True
        self._sse = isinstance(other, SseLink)
        self._links[session.id] = other
        if link.watching:
            other.watch()
        await link.close()
        return True

    # ---- requests

    async def send(self, call: Call) -> Result:
        assert call.target is not None
        if call.session is None:
            return await self._send_modern(call, call.target.params)
        link = self._link(call.session)
        try:
            if call.method == legacy.INITIALIZE:
                return Result(await link.greeting())
            return await link.send(call, call.target.params)
        except NoHandshake as refusal:
            await self._otherwise(call.session, link, refusal)
        return await self.send(call)  # nothing but the handshake has reached the server

    def _link(self, session: Session) -> Linked:
        link = self._links.get(session.id)
        if link is None:
            link = self._links[session.id] = (SseLink if self._sse else Link)(self, session)
        return link

    async def _send_modern(self, call: Call, params: Params) -> Result:
        believed = self._verdict.eras
        try:
            result, status = await self._exchange(call, params)
        except NotMcp as error:
            if error.status in _OF_OLD_SERVERS:
                await self._doubt(believed, error.message)
            raise
        if result.refused:
            code = modern.error_code(result.value)
            if code == UnsupportedVersion.code or (status in _OF_OLD_SERVERS and code not in _MODERN_REFUSALS):
                await self._doubt(believed, modern.error_message(result.value))
            if call.method == "tools/call" and code == HeaderMismatch.code:
                # Our copy of the schema is old. The server has not run the call, so it may be sent again.
                await self._learn_anew(call)
                result, _ = await self._exchange(call, params)
        elif call.method == "tools/list":
            return Result(self._visible(result.value))
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
            page, _ = await self._exchange(msgspec.structs.replace(call, method="tools/list", params=params), params)
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
        try:
            await link.greeting()
        except NoHandshake as refusal:
            await self._otherwise(session, link, refusal)
            await self.watch(session)
        else:
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
            eras=sorted(era.value for era in self._verdict.eras or () if era is Era.MODERN or self.shaken_hands),
            in_flight=self.in_flight,
            since_s=time.monotonic() - self._changed_at,
            last_error=self._last_error,
            dropped=self.dropped,
            server=self.server_info,
            withheld=self.withheld,
        )

    # ---- one exchange

    async def _exchange(self, call: Call, params: Params) -> tuple[Result, int]:
        """A modern request: its answer and the HTTP status. The headers are made anew from the body that is sent."""
        name = jsonrpc.text(params.get("name")) if call.method == "tools/call" else None
        mirrored = self._mirrored.get(name, ()) if name else ()
        head = {
            headers.VERSION: call.revision.version,
            **headers.for_request(call.method, params, mirrored),
        }
        if self.deduplicates and call.wishes.key:
            head |= key_head(call)
        head |= trace_head(call)
        exchange = Exchange(self, call, params)
        async with self.open("POST", head, exchange.body, counted=call.method != modern.LISTEN) as response:
            return await exchange.read(response), response.status

    @property
    def _opening_s(self) -> float:
        return min(self._options.call_timeout_s, _LONGEST_OPENING_S)

    @asynccontextmanager
    async def opening(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Bounds what no call's deadline covers. Raises TimedOut."""
        seconds = seconds or self._opening_s
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

    def open(
        self,
        method: str,
        head: Mapping[str, str],
        body: bytes | None = None,
        *,
        url: URL | None = None,
        counted: bool = True,
    ) -> "Opened":
        """One HTTP request, as a context; *counted* if the server has to work at it. Raises Unavailable if
        the server cannot be reached, Broken if the connection ends in the middle."""
        return Opened(self, method, url or self.url, head, body, counted=counted)

    def answered(self, status: int) -> None:
        """The server has answered, with this HTTP status."""
        self._enter(State.READY if status < 500 else State.DOWN)

    def failed(self, error: Exception) -> BasculeError:
        """What a failed request means, in our words."""
        self._last_error = f"{type(error).__name__}: {error}"  # with its addresses, for the operator only
        self._enter(State.DOWN)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Unavailable(f"cannot be reached: {reason_of(error)}").at(self.name)
        # The request may have arrived before the connection broke, and may have been run.
        return Broken(f"the connection broke ({type(error).__name__})").at(self.name)

    def client(self) -> aiohttp.ClientSession:
        """The pool of connections. Raises Unavailable once the upstream is stopped."""
        if self._state is State.STOPPED:
            raise Untried("is stopped").at(self.name)
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers={**_ACCEPT, **self._options.headers},
                skip_auto_headers=_UNSAID,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),  # `slots` is the limit
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
    def deduplicates(self) -> bool:
        return self._options.deduplicates

    @property
    def max_message_bytes(self) -> int:
        return self._options.max_message_bytes
