"""The HTTP edge, as raw ASGI: every MCP endpoint, both eras on the same URL.

A request passes the door, is read by the strict parser, takes its era's path, and runs through the
one pipeline. Source: MCP 2026-07-28, Streamable HTTP, and "Versioning" (dual-era servers).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Raw

from bascule.call import ANONYMOUS, BEARER, Call, Caller, Forward, Result
from bascule.edge import door, refusals
from bascule.edge.door import Door, Head, Refused, Rules
from bascule.edge.replies import JSON, Receive, Reply, carry, respond
from bascule.edge.sessions import ClientSession, Sessions
from bascule.edge.streams import Send, parse_event_id
from bascule.errors import (
    BasculeError,
    Cancelled,
    Draining,
    Internal,
    InvalidRequest,
    MethodNotFound,
)
from bascule.registry.aggregate import Aggregate
from bascule.registry.sync import Registry
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Message, Notification, Request, Response
from bascule.wire.versions import BY_VERSION, LATEST_MODERN, LEGACY_VERSIONS, Era, earlier

log = logging.getLogger("bascule.edge")

Scope: TypeAlias = MutableMapping[str, Any]
Page: TypeAlias = Callable[[], tuple[int, bytes]]

BODY_TIMEOUT_S: Final = 30.0
_GONE_IN_MODERN: Final = frozenset(
    (
        *("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"),
        *("tasks/list", "tasks/result"),
    )
)


class HttpEdge:
    """The ASGI application. It owns the sessions; everything else is handed to it."""

    def __init__(
        self,
        *,
        rules: Rules,
        forward: Forward,
        registry: Registry,
        aggregate: Aggregate,
        pages: Mapping[str, Page],
        sole: str | None,
        max_sessions: int,
        session_idle_s: float,
    ) -> None:
        """*pages* are plain GET endpoints by path. *sole* is the server that `/mcp` stands for when
        there is exactly one and it has no name of its own (`bascule run -- CMD`)."""
        self._door = Door(rules)
        self._forward = forward
        self._registry = registry
        self._aggregate = aggregate
        self._pages = pages
        self._sole = sole
        self.sessions = Sessions(limit=max_sessions, idle_s=session_idle_s, forget=self._forget)
        self._drained = asyncio.Event()

    @property
    def draining(self) -> bool:
        return self._drained.is_set()

    def drain(self) -> None:
        """Take no new calls, end what would never end by itself; calls in flight may still be answered."""
        self._drained.set()
        self.sessions.hang_up()

    def adopt(self, rules: Rules, *, max_sessions: int, session_idle_s: float) -> None:
        """Check requests by *rules* from now on, and bound sessions anew."""
        self._door = Door(rules)
        self.sessions.limit, self.sessions.idle_s = max_sessions, session_idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AssertionError(
                f"the server passed on a {scope['type']!r} scope; run it with lifespan and websockets off"
            )
        extra: list[tuple[bytes, bytes]] = []
        try:
            await self._serve(scope, receive, send, extra)
        except Refused as refused:
            extra = extra or self._door.cors_for(scope["headers"])
            error = refusals.error_object(InvalidRequest(refused.reason))
            await respond(send, refused.status, [JSON, *refused.headers, *extra], jsonrpc.refusal(None, error))
        except BasculeError as error:
            extra = extra or self._door.cors_for(scope["headers"])
            body = jsonrpc.refusal(None, refusals.error_object(error))
            await respond(send, error.http, [JSON, *refusals.challenge(error), *extra], body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
        path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"]
        if len(path) + len(scope["query_string"]) > door.MAX_TARGET_BYTES:
            raise Refused(414, "the request target is too long")
        method = scope["method"]
        if method == "OPTIONS":
            await respond(send, 204, self._door.preflight(scope["headers"]))
            return
        page = self._pages.get(path)
        # Probes come without a token and under an address of their own; what they hear is no secret.
        open_to_all = page is not None and path.startswith("/health/")
        head = {} if open_to_all else self._door.admit(method, scope["headers"])
        if "origin" in head:
            extra += door.cors(head["origin"])
        if page is not None:
            await self._show(page, path, method, send, extra)
            return
        visit = Visit(self._view(path), head, self._caller(), receive, send, extra)
        match method:
            case "POST":
                await self._post(visit)
            case "GET":
                await self._get(visit)
            case "DELETE":
                await self._delete(visit)
            case _:
                raise Refused(405, f"{method} is not a method of MCP", [(b"allow", b"POST, GET, DELETE, OPTIONS")])

    async def _show(self, page: Page, path: str, method: str, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"{path} is read with GET", [(b"allow", b"GET, HEAD")])
        status, body = page()
        await respond(send, status, [JSON, (b"cache-control", b"no-store"), *extra], body if method == "GET" else b"")

    def _view(self, path: str) -> str:
        """The server whose endpoint *path* is, "" for the aggregate. Exact: nothing is normalised."""
        if path == "/mcp":
            return self._sole or ""
        if path.startswith("/servers/") and path.endswith("/mcp"):
            name = path[len("/servers/") : -len("/mcp")]
            if name in self._registry.upstreams:
                return name
        raise Refused(
            404, "no such endpoint; there are /mcp, /servers/{name}/mcp, /status, /health/live, /health/ready"
        )

    def _caller(self) -> Caller:
        return ANONYMOUS if self._door.rules.token is None else BEARER

    async def _forget(self, session: ClientSession) -> None:
        if not session.view:
            await self._aggregate.forget(session)
        elif upstream := self._registry.upstreams.get(session.view):
            await upstream.forget(session)

    # ---- POST

    async def _post(self, visit: "Visit") -> None:
        body = await self._body(visit)
        session = self._session_of(visit)
        revision = session.revision if session else None
        messages = jsonrpc.parse(body, batches=revision is not None and revision.batches)
        if len(messages) == 1 and self._is_modern(visit.head, messages[0]):
            await self._post_modern(visit, messages[0])
        else:
            await self._post_legacy(visit, messages, session, batch=body.lstrip()[:1] == b"[")

    async def _body(self, visit: "Visit") -> bytes:
        message = await visit.receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest_of_body(visit, body)
        if len(body) > self._door.rules.max_body_bytes:
            raise door.too_large(self._door.rules)
        return body

    async def _rest_of_body(self, visit: "Visit", start: bytes) -> bytes:
        body = bytearray(start)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                more = True
                while more:
                    message = await visit.receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the client left before its request was complete")
                    body += message.get("body", b"")
                    if len(body) > self._door.rules.max_body_bytes:
                        raise door.too_large(self._door.rules)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None
        return bytes(body)

    def _is_modern(self, head: Head, message: Message) -> bool:
        version = head.get(headers.VERSION)
        if version is not None and version not in LEGACY_VERSIONS:
            return True
        return isinstance(message, Request) and modern.is_modern(message.params)

    # ---- the stateless path

    async def _post_modern(self, visit: "Visit", message: Message) -> None:
        if isinstance(message, Response):
            raise InvalidRequest("a stateless client answers questions by sending its request again")
        if isinstance(message, Notification):
            if message.method != legacy.CANCELLED:
                raise InvalidRequest(f"{message.method!r} is not a notification that clients send over HTTP")
            await respond(visit.send, 202, visit.extra)
            return
        reply = Reply(visit.send, visit.receive, visit.extra, None)
        call = Call(
            caller=visit.caller,
            client=reply,
            revision=LATEST_MODERN,
            method=message.method,
            params=message.params,
            id=message.id,
            view=visit.view,
        )
        reply.begin()
        try:
            status, answer = await self._answer(call, visit.head)
        except asyncio.CancelledError:
            reply.drop()
            if not reply.abandoned:
                raise
            return  # nobody is there to read an answer
        await reply.finish([answer], status=status)

    async def _check_modern(self, call: Call, head: Head) -> None:
        modern.check_request(head, call.method, call.params)
        mirrored: Sequence[headers.MirroredParam] = ()
        if call.method == "tools/call":
            name = jsonrpc.text(call.params.get("name")) or ""
            mirrored = await self._registry.mirrored(call.view, name)
        headers.check(head, call.method, call.params, mirrored)
        if call.method in _GONE_IN_MODERN:
            raise MethodNotFound(f"{call.method!r} is not part of {LATEST_MODERN.version}")

    # ---- the session path

    def _session_of(self, visit: "Visit") -> ClientSession | None:
        id = visit.head.get(headers.SESSION)
        if id is None or visit.head.get(headers.VERSION, LEGACY_VERSIONS[0]) not in LEGACY_VERSIONS:
            return None
        session = self.sessions.find(id, visit.caller, visit.view)
        if session is None:
            raise Refused(404, "no such session; initialize a new one")
        return session

    async def _post_legacy(
        self, visit: "Visit", messages: Sequence[Message], session: ClientSession | None, *, batch: bool
    ) -> None:
        first = messages[0]
        if isinstance(first, Request) and first.method == legacy.INITIALIZE and not batch:
            await self._initialize(visit, first)
            return
        if session is None:
            raise Refused(400, "the Mcp-Session-Id header is missing; initialize first")
        requests = []
        for message in messages:
            match message:
                case Request():
                    requests.append(message)
                case Notification():
                    await self._told(visit, session, message)
                case Response():
                    session.answered(message)
        if not requests:
            await respond(visit.send, 202, visit.extra)
            return
        reply = Reply(visit.send, visit.receive, visit.extra, session)
        reply.begin()
        if len(requests) == 1:
            answers = [(await self._answer_in_session(visit, session, requests[0], reply))]
        else:
            answers = await asyncio.gather(*(self._answer_in_session(visit, session, r, reply) for r in requests))
        await reply.finish(answers, batch=batch)

    async def _initialize(self, visit: "Visit", message: Request) -> None:
        session = ClientSession(visit.caller, visit.view, legacy.offered(message.params), message.params)
        call = self._legacy_call(visit, session, message, Reply(visit.send, visit.receive, visit.extra, session))
        try:
            await self.sessions.add(session)
            _, answer = await self._answer(call, visit.head)
        except BasculeError as error:
            _, answer = refusals.answer_to(call, error)
        if session.agreed:
            visit.extra.append((headers.SESSION.encode(), session.id.encode()))
        else:
            await self.sessions.end(session)
        await Reply(visit.send, visit.receive, visit.extra, session).finish([answer])

    def _agree(self, session: ClientSession, greeting: Raw) -> Raw:
        """The greeting with the version that client, server and Bascule all know; the session takes it."""
        members = jsonrpc.members(greeting)
        theirs = jsonrpc.text(members.get("protocolVersion")) or session.revision.version
        revision = BY_VERSION.get(earlier(theirs, session.revision.version), session.revision)
        session.agree(revision)
        return jsonrpc.encode(jsonrpc.replaced(members, protocolVersion=revision.version))

    async def _told(self, visit: "Visit", session: ClientSession, message: Notification) -> None:
        if message.method == legacy.CANCELLED:
            session.cancel(message.params.get("requestId"))
            return
        upstream = self._registry.upstreams.get(visit.view) if visit.view else self._aggregate
        if upstream is None:
            return
        try:
            await upstream.tell(session, message.method, message.params)
        except BasculeError as error:
            log.warning("%s could not be told %s: %s", visit.view or "a server", message.method, error)

    async def _answer_in_session(self, visit: "Visit", session: ClientSession, message: Request, reply: Reply) -> bytes:
        """Answer one request; while it runs, the client can cancel it by its id."""
        if message.method == "ping":
            return jsonrpc.answer(message.id, Raw(b"{}"))
        if message.method == legacy.INITIALIZE:  # MCP 2025-03-26, Lifecycle: never part of a batch
            return jsonrpc.refusal(message.id, refusals.error_object(InvalidRequest("initialize is sent alone")))
        call = self._legacy_call(visit, session, message, reply)
        key = bytes(message.id)
        flight = session.take_off(key)
        try:
            _, answer = await self._answer(call, visit.head)
        except asyncio.CancelledError:
            # Cancelled from elsewhere too? Then that comes first.
            if not flight.cancelled or flight.task.uncancel() > 0:
                raise
            _, answer = refusals.answer_to(call, Cancelled(session.why_cancelled))
        finally:
            session.land(key, flight)
        return answer

    def _legacy_call(self, visit: "Visit", session: ClientSession, message: Request, reply: Reply) -> Call:
        return Call(
            caller=visit.caller,
            client=reply,
            revision=session.revision,
            method=message.method,
            params=message.params,
            id=message.id,
            session=session,
            view=visit.view,
        )

    # ---- both

    async def _answer(self, call: Call, head: Head) -> tuple[int, bytes]:
        """(HTTP status, message) for one request. The rim: whatever happens, the client gets an answer."""
        try:
            if self.draining:
                raise Draining("this process is shutting down")
            if call.session is None:
                await self._check_modern(call, head)
            result = await (self._subscription(call) if call.method == modern.LISTEN else self._forward(call))
            return self._delivered(call, result)
        except BasculeError as error:
            return refusals.answer_to(call, error)
        except Exception:  # the rim: a fault of ours must not leave the client without an answer
            log.exception("internal error in %s", call.method)
            return refusals.answer_to(call, Internal("an internal error; the operator's log has the details"))

    async def _subscription(self, call: Call) -> Result:
        """A `subscriptions/listen` call, which ends well when we shut down ("Graceful Closure")."""
        call_ends = asyncio.ensure_future(self._forward(call))
        drained = asyncio.ensure_future(self._drained.wait())
        try:
            await asyncio.wait({call_ends, drained}, return_when=asyncio.FIRST_COMPLETED)
            return call_ends.result() if call_ends.done() else Result(modern.subscription_end(call.id))
        finally:
            call_ends.cancel()
            drained.cancel()

    def _delivered(self, call: Call, result: Result) -> tuple[int, bytes]:
        if result.refused:
            status = modern.http_status(result.value) if call.era is Era.MODERN else 200
            return status, jsonrpc.refusal(call.id, result.value)
        value = result.value
        if call.method == modern.DISCOVER and call.view:
            value = modern.discovered(value)
        elif call.method == legacy.INITIALIZE and isinstance(call.session, ClientSession):
            value = self._agree(call.session, value)
        return 200, jsonrpc.answer(call.id, value)

    # ---- GET and DELETE

    def _session_or_refuse(self, visit: "Visit") -> ClientSession:
        version = visit.head.get(headers.VERSION)
        if version is not None and version not in LEGACY_VERSIONS:
            raise Refused(405, f"MCP {version} uses POST only", [(b"allow", b"POST")])
        session = self._session_of(visit)
        if session is None:
            raise Refused(400, "the Mcp-Session-Id header is missing")
        return session

    async def _get(self, visit: "Visit") -> None:
        if headers.SESSION not in visit.head and headers.VERSION not in visit.head:
            raise Refused(405, "this endpoint has no stream outside of a session", [(b"allow", b"POST")])
        session = self._session_or_refuse(visit)
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
            asyncio.ensure_future(self._listen(session)).add_done_callback(_consume)
        pump = asyncio.ensure_future(carry(stream, visit.send, visit.extra, place[1] if place else None))
        try:
            while not pump.done():
                receive = asyncio.ensure_future(visit.receive())
                await asyncio.wait({pump, receive}, return_when=asyncio.FIRST_COMPLETED)
                if receive.done() and receive.result()["type"] == "http.disconnect":
                    stream.detach(visit.send)
                    break
                receive.cancel()
            await pump
        finally:
            pump.cancel()

    async def _listen(self, session: ClientSession) -> None:
        upstream = self._registry.upstreams.get(session.view) if session.view else self._aggregate
        if upstream is not None:
            await upstream.watch(session)

    async def _delete(self, visit: "Visit") -> None:
        await self.sessions.end(self._session_or_refuse(visit))
        await respond(visit.send, 204, visit.extra)


class Visit:
    """One HTTP request on its way through the edge."""

    __slots__ = ("caller", "extra", "head", "receive", "send", "view")

    def __init__(
        self, view: str, head: Head, caller: Caller, receive: Receive, send: Send, extra: list[tuple[bytes, bytes]]
    ) -> None:
        self.view = view
        self.head = head
        self.caller = caller
        self.receive = receive
        self.send = send
        self.extra = extra


def _consume(done: "asyncio.Future[None]") -> None:
    """Look at the outcome of a watch that nobody waits for; a server that is down says so in /status."""
    if (
        not done.cancelled()
        and isinstance(done.exception(), Exception)
        and not isinstance(done.exception(), BasculeError)
    ):
        log.error("watching failed", exc_info=done.exception())
