"""The HTTP edge, as raw ASGI: every MCP endpoint, both eras on the same URL.

A request passes the door, is read by the strict parser, takes its era's path, and is answered by the
rim. Source: MCP 2026-07-28, Streamable HTTP, and "Versioning" (dual-era servers).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from bascule.call import Caller
from bascule.edge import door, refusals
from bascule.edge.auth import metadata
from bascule.edge.auth.identify import status_of
from bascule.edge.auth.reception import Reception
from bascule.edge.dialogue import MAX_IN_FLIGHT
from bascule.edge.door import Door, Head, Headers, Refused, Rules
from bascule.edge.flights import Flights
from bascule.edge.legacy_sse import LegacySse
from bascule.edge.official import OfficialApi
from bascule.edge.pressure import Pressure
from bascule.edge.refusals import Answer
from bascule.edge.replies import JSON, Receive, Reply, respond
from bascule.edge.rest import Operations, Rest
from bascule.edge.rim import Rim, call_in, stateless_call
from bascule.edge.session import ClientSession
from bascule.edge.sessions import Sessions
from bascule.edge.streams import Send, parse_event_id
from bascule.edge.visit import Visit
from bascule.errors import BasculeError, InvalidRequest, Overloaded, Unavailable
from bascule.policy.scopes import Authority
from bascule.registry.sight import Sight
from bascule.registry.sync import Registry
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Message, Notification, Request, Response
from bascule.wire.seal import KeyRing
from bascule.wire.versions import LEGACY_VERSIONS

Scope: TypeAlias = MutableMapping[str, Any]
Page: TypeAlias = Callable[[], tuple[int, bytes]]
Scrape: TypeAlias = Callable[[str], Awaitable[tuple[str, bytes]]]  # the Accept header -> (content type, body)

METRICS: Final = "/metrics"
Application: TypeAlias = Callable[[Scope, Any, Send], Awaitable[None]]  # ASGI, whichever library types it


# How long a stream goes on after its client's key was revoked, or its token has expired.
_LOOK_AGAIN_S: Final = 3.0
_CONSOLE: Final = "/console"
_REPLAYED: Final = ((b"idempotent-replayed", b"true"),)
_UNSURE_S: Final = 60.0  # and how long while its issuer cannot be asked


class HttpEdge:
    """The ASGI application. It owns the sessions; everything else is handed to it."""

    def __init__(
        self,
        *,
        rules: Rules,
        reception: Reception,
        sight: Callable[[], Sight],
        rim: Rim,
        registry: Registry,
        ring: KeyRing,
        pages: Mapping[str, Page],
        actions: Operations[Any],
        scrape: Scrape | None = None,
        sole: str | None,
        turned_away: Callable[[BasculeError, str], None],
        directory: OfficialApi,
        console: Callable[[], Awaitable[Application | None]],
        max_sessions: int,
        session_idle_s: float,
        session_max_s: float,
    ) -> None:
        """*reception* knows callers, *sight* what they may see. *ring* seals session ids.

        *pages* are plain GET endpoints by path, *actions* what operators can ask for. *sole* is the server that
        `/mcp` stands for when there is exactly one and it has no name of its own (`bascule run -- CMD`).
        *directory* is the list of servers for other registries.
        *console* gives the pages for people, which know their visitors by themselves; it is asked when somebody comes.
        *turned_away* hears of requests that are no call, or nobody's: why, and in which words."""
        self._door = Door(rules)
        self.reception = reception
        self._sight = sight
        self._rim = rim
        self._registry = registry
        self._pages = pages
        self._rest = Rest(actions)
        self._scrape = scrape
        self._sole = sole
        self._turned_away = turned_away
        self._directory = directory
        self._console = console
        self.sessions = Sessions(
            ring=ring, limit=max_sessions, idle_s=session_idle_s, max_s=session_max_s, forget=rim.forget
        )
        self.pressure = Pressure(lambda: len(rim.flights))  # measures nothing until it is started
        self._sse = LegacySse(rim, self.sessions, self.pressure)

    @property
    def draining(self) -> bool:
        return self._rim.draining

    @property
    def leaving(self) -> bool:
        """Whether this process is about to end; at first it still serves."""
        return self._rim.leaving

    @property
    def flights(self) -> Flights:
        """The calls that are being answered."""
        return self._rim.flights

    def leave(self) -> None:
        """Say that this process is not ready any more, and go on."""
        self._rim.leaving = True

    def drain(self) -> None:
        """Take no new calls, end what would never end by itself; calls in flight may still be answered."""
        self._rim.drain()
        self.sessions.hang_up()

    def adopt(
        self,
        rules: Rules,
        reception: Reception,
        ring: KeyRing,
        *,
        max_sessions: int,
        session_idle_s: float,
        session_max_s: float,
    ) -> None:
        """From now on check requests by *rules* and *reception*, seal with *ring*, and bound sessions anew."""
        self._door = Door(rules)
        self.reception = reception
        self.sessions.ring, self.sessions.limit = ring, max_sessions
        self.sessions.idle_s, self.sessions.max_s = session_idle_s, session_max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AssertionError(
                f"the server passed on a {scope['type']!r} scope; run it with lifespan and websockets off"
            )
        extra: list[tuple[bytes, bytes]] = []
        if self._rim.draining:
            send = _closing(send)
        try:
            await self._serve(scope, receive, send, extra)
        except Refused as refused:
            extra = extra or self._door.cors_for(scope["headers"])
            broken = InvalidRequest(refused.reason)
            self._turned_away(broken, f"HTTP {refused.status}: {refused.reason}")
            body = jsonrpc.refusal(None, refusals.error_object(broken))
            await respond(send, refused.status, [JSON, *refused.headers, *extra], body)
        except BasculeError as error:
            self._turned_away(error, error.message)
            extra = extra or self._door.cors_for(scope["headers"])
            body = jsonrpc.refusal(error.request_id, refusals.error_object(error))
            told = self.reception.headers_for(error, self.reception.resource(scope, _path(scope)))
            await respond(send, status_of(error), [JSON, *told, *extra], body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
        path = _path(scope)
        if len(path) + len(scope["query_string"]) > door.MAX_TARGET_BYTES:
            raise Refused(414, "the request target is too long")
        method = scope["method"]
        if (described := metadata.well_known(path, self.reception.login.public_url or "")) is not None:
            await self._describe(described, scope, send)
            return
        if method == "OPTIONS":
            await respond(send, 204, self._door.preflight(scope["headers"]))
            return
        if path == _CONSOLE or path.startswith(f"{_CONSOLE}/"):
            door.check_host(door.read_head(scope["headers"]), self._door.rules)
            if (console := await self._console()) is not None:
                await console(scope, receive, send)
                return
        page = self._pages.get(path)
        # Probes come without a token and under an address of their own; what they hear is no secret.
        open_to_all = page is not None and path.startswith(("/health", "/ready"))
        over_sse, is_rest, is_directory = path.endswith("/sse"), self._rest.knows(path), self._directory.knows(path)
        answered = not (over_sse or is_rest or is_directory)
        head = {} if open_to_all else self._door.admit(method, scope["headers"], answered=answered)
        if "origin" in head:
            extra += door.cors(head["origin"])
        if open_to_all and page is not None:
            await self._show(page, path, method, send, extra)
            return
        if method == "POST" and (stated := head.get(headers.METHOD)) is not None:
            self.pressure.check(stated)
        resource = self.reception.resource(scope, "/mcp" if is_directory else path)
        caller = await self.reception.caller(scope, head, resource)
        if page is not None:
            self.reception.check_operator(caller)
            await self._show(page, path, method, send, extra)
            return
        if path == METRICS and self._scrape is not None:
            await self._show_metrics(self._scrape, caller, method, head, send, extra)
            return
        endpoint = path.removesuffix("/sse") + "/mcp" if over_sse else path
        unwelcome = partial(self._until_unwelcome, scope, head, resource, caller.authority)
        if is_rest or is_directory:
            visit = Visit("", head, caller, resource, receive, send, extra, unwelcome)
            await self._tell(method, path, scope, visit)
            return
        visit = Visit(self._view(endpoint, caller), head, caller, resource, receive, send, extra, unwelcome)
        if over_sse:
            await self._sse.serve(method, path, scope["query_string"], visit, self._door.rules)
            return
        match method:
            case "POST":
                await self._post(visit)
            case "GET":
                await self._get(visit)
            case "DELETE":
                await self._delete(visit)
            case _:
                raise Refused(405, f"{method} is not a method of MCP", [(b"allow", b"POST, GET, DELETE, OPTIONS")])

    async def _tell(self, method: str, path: str, scope: Scope, visit: Visit) -> None:
        """Answer a request for something else than MCP: of operators, or of other registries."""
        query = scope["query_string"]
        if self._rest.knows(path):
            await self._rest.serve(method, path, query, visit, self._door.rules, self.reception)
        else:
            await self._directory.serve(method, path, query, visit, self.reception.resource(scope, ""))

    async def _until_unwelcome(self, scope: Scope, head: Head, resource: str, authority: Authority) -> None:
        """Return once the credential would not be let in any more, or for something else than *authority*."""
        unsure_s = 0.0
        while unsure_s < _UNSURE_S:
            await asyncio.sleep(_LOOK_AGAIN_S)
            try:
                if (await self.reception.caller(scope, head, resource)).authority != authority:
                    return
                unsure_s = 0.0
            except Unavailable:
                unsure_s += _LOOK_AGAIN_S  # nobody can tell now; a rate limit, which only wrong credentials meet, tells
            except BasculeError:
                return

    async def _show(self, page: Page, path: str, method: str, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"{path} is read with GET", [(b"allow", b"GET, HEAD")])
        status, body = page()
        await respond(send, status, [JSON, (b"cache-control", b"no-store"), *extra], body if method == "GET" else b"")

    async def _show_metrics(
        self, scrape: Scrape, caller: Caller, method: str, head: Head, send: Send, extra: Headers
    ) -> None:
        self.reception.check_operator(caller)
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"{METRICS} is read with GET", [(b"allow", b"GET, HEAD")])
        kind, body = await scrape(head.get("accept", ""))
        said = [(b"content-type", kind.encode()), (b"cache-control", b"no-store"), *extra]
        await respond(send, 200, said, body if method == "GET" else b"")

    async def _describe(self, endpoint: str, scope: Scope, send: Send) -> None:
        """The metadata of an endpoint: for anybody, because nobody has logged in before reading it (RFC 9728)."""
        door.check_host(door.read_head(scope["headers"]), self._door.rules)
        if scope["method"] == "OPTIONS":
            await respond(send, 204, metadata.PUBLIC)
            return
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "metadata is read with GET", [(b"allow", b"GET, HEAD, OPTIONS")])
        document = self.reception.described(endpoint, scope)
        if document is None:
            raise Refused(404, "there is no authorization server: auth.issuers is empty")
        await respond(send, 200, [JSON, *metadata.PUBLIC], document if scope["method"] == "GET" else b"")

    def _view(self, path: str, caller: Caller) -> str:
        """The server whose endpoint *path* is, "" for the aggregate. Exact: nothing is normalised.

        Where this caller may see nothing there is no endpoint for it.
        """
        if path == "/mcp":
            return self._sole or ""
        if path.startswith("/servers/") and path.endswith("/mcp"):
            name = path[len("/servers/") : -len("/mcp")]
            if name in self._registry.upstreams and self._sight().opens(caller.authority, name):
                return name
        raise Refused(
            404,
            "no such endpoint; there are /mcp, /servers/{name}/mcp, for clients of 2024-11-05 /sse and"
            " /servers/{name}/sse; for operators /status, /health, /metrics, /api/openapi.json, and /console",
        )

    # ---- POST

    async def _post(self, visit: Visit) -> None:
        body = await visit.body(self._door.rules)
        if visit.head.get(headers.VERSION, LEGACY_VERSIONS[0]) in LEGACY_VERSIONS:
            self.pressure.check_body(body)  # no header says what it asks for
        id = _session_id(visit.head)
        session = (
            None if id is None else self.sessions.find(id, visit.caller, visit.view) or await self._restored(id, visit)
        )
        revision = session.revision if session else None
        messages = jsonrpc.parse(body, batches=revision is not None and revision.batches)
        if len(messages) == 1 and self._is_modern(visit.head, messages[0]):
            await self._post_modern(visit, messages[0])
        else:
            await self._post_legacy(visit, messages, session, batch=body.lstrip()[:1] == b"[")

    def _is_modern(self, head: Head, message: Message) -> bool:
        version = head.get(headers.VERSION)
        if version is not None and version not in LEGACY_VERSIONS:
            return True
        return isinstance(message, Request) and modern.is_modern(message.params)

    # ---- the stateless path

    async def _post_modern(self, visit: Visit, message: Message) -> None:
        if isinstance(message, Response):
            raise InvalidRequest("a stateless client answers questions by sending its request again")
        if isinstance(message, Notification):
            if message.method != legacy.CANCELLED:
                raise InvalidRequest(f"{message.method!r} is not a notification that clients send over HTTP")
            await respond(visit.send, 202, visit.extra)
            return
        reply = Reply(visit.send, visit.receive, visit.extra, None)
        call = stateless_call(visit.caller, visit.view, message, reply, visit.head)
        reply.begin()
        try:
            answer = await self._rim.answer(call, visit.head, visit.unwelcome)
        except asyncio.CancelledError:
            reply.drop()
            if not reply.abandoned:
                raise
            return  # nobody is there to read an answer
        await reply.finish([answer.message], status=answer.status, headers=self._told(answer, visit))

    def _told(self, answer: Answer, visit: Visit) -> Headers:
        """What HTTP says of an answer beside its status."""
        if answer.error is not None:
            return self.reception.headers_for(answer.error, visit.resource)
        return _REPLAYED if answer.replayed else ()

    # ---- the session path

    async def _restored(self, id: str, visit: Visit) -> ClientSession:
        """The session that is not open here, opened again. Raises Refused (404, 503)."""
        try:
            session = await self.sessions.restore(id, visit.caller, visit.view)
        except Overloaded as error:
            raise Refused(503, error.message) from error
        if session is None:
            raise Refused(404, "no such session; initialize a new one")
        return session

    async def _post_legacy(
        self, visit: Visit, messages: Sequence[Message], session: ClientSession | None, *, batch: bool
    ) -> None:
        first = messages[0]
        if isinstance(first, Request) and first.method == legacy.INITIALIZE and not batch:
            await self._initialize(visit, first)
            return
        if session is None:
            raise Refused(400, "the Mcp-Session-Id header is missing; initialize first")
        if len(messages) > MAX_IN_FLIGHT:
            raise InvalidRequest(f"a batch holds at most {MAX_IN_FLIGHT} messages")
        requests = []
        for message in messages:
            match message:
                case Request():
                    requests.append(message)
                case Notification():
                    await self._rim.told(session, message, visit.caller)
                case Response():
                    session.answered(message)
        if not requests:
            await respond(visit.send, 202, visit.extra)
            return
        reply = Reply(visit.send, visit.receive, visit.extra, session)
        reply.begin()
        if len(requests) == 1:
            answer = await self._rim.answer_in_session(session, requests[0], reply, visit.caller, visit.head)
            told = self._told(answer, visit)
            await reply.finish([answer.message], status=answer.status, headers=told, batch=batch)
            return
        answers = await asyncio.gather(
            *(self._rim.answer_in_session(session, each, reply, visit.caller, visit.head) for each in requests)
        )
        await reply.finish([answer.message for answer in answers], batch=batch)

    async def _initialize(self, visit: Visit, message: Request) -> None:
        session = ClientSession(visit.caller, visit.view, legacy.offered(message.params), message.params)
        client = Reply(visit.send, visit.receive, visit.extra, session)
        try:
            await self.sessions.add(session)
            answer = await self._rim.greet(session, message, client)
        except BasculeError as error:
            answer = refusals.answer_to(call_in(session, message, client, visit.caller), error).message
        if session.agreed:
            visit.extra.append((headers.SESSION.encode(), self.sessions.seal(session).encode()))
        else:
            await self.sessions.end(session)
        await Reply(visit.send, visit.receive, visit.extra, session).finish([answer])

    # ---- GET and DELETE

    async def _session_or_refuse(self, visit: Visit) -> ClientSession:
        version = visit.head.get(headers.VERSION)
        if version is not None and version not in LEGACY_VERSIONS:
            raise Refused(405, f"MCP {version} uses POST only", [(b"allow", b"POST")])
        id = _session_id(visit.head)
        if id is None:
            raise Refused(400, "the Mcp-Session-Id header is missing")
        return self.sessions.find(id, visit.caller, visit.view) or await self._restored(id, visit)

    async def _get(self, visit: Visit) -> None:
        if headers.SESSION not in visit.head and headers.VERSION not in visit.head:
            raise Refused(405, "this endpoint has no stream outside of a session", [(b"allow", b"POST")])
        session = await self._session_or_refuse(visit)
        if not door.accepts(visit.head, "text/event-stream"):
            raise Refused(406, "Accept has to list text/event-stream")
        last_id = visit.head.get("last-event-id")
        place = parse_event_id(last_id) if last_id else None
        if last_id and place is None:
            raise Refused(404, "that event id is not one of ours")
        stream = session.stream(place[0]) if place else session.standing
        if stream is None:
            raise Refused(404, "that stream is no longer kept")
        if stream is session.standing:
            self._rim.listen(session)
        # The number of an event counts within its own stream: in another life of the session there was another.
        after = place[1] if place and place[0] == stream.number else None
        await visit.carry(stream, after)

    async def _delete(self, visit: Visit) -> None:
        await self.sessions.end(await self._session_or_refuse(visit))
        await respond(visit.send, 204, visit.extra)


def _closing(send: Send) -> Send:
    """*send*, with the last response on its connection: the next process has a connection of its own."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return sending


def _path(scope: Scope) -> str:
    """The path as it came; nothing in it is decoded."""
    raw = scope.get("raw_path")
    path: str = raw.decode("latin-1") if raw else scope["path"]
    return path


def _session_id(head: Head) -> str | None:
    """The session that a legacy request names; what a stateless one says of sessions is ignored."""
    legacy_version = head.get(headers.VERSION, LEGACY_VERSIONS[0]) in LEGACY_VERSIONS
    return head.get(headers.SESSION) if legacy_version else None
