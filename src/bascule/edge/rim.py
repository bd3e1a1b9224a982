"""The rim: from a client's message to a call of the pipeline, and from whatever comes of it to an answer.

Knows sessions and both eras, but no transport: HTTP, HTTP+SSE and stdio all answer through it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from bascule.call import Call, Caller, Client, Forward, Result
from bascule.edge import refusals
from bascule.edge.door import Head
from bascule.edge.flights import Flights
from bascule.edge.refusals import Answer
from bascule.edge.session import ClientSession
from bascule.errors import (
    BasculeError,
    Cancelled,
    Draining,
    Internal,
    InvalidRequest,
    MethodNotFound,
    TimedOut,
)
from bascule.registry.aggregate import Aggregate
from bascule.registry.sync import Registry
from bascule.upstream.base import Upstream
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Notification, Request
from bascule.wire.versions import BY_VERSION, LATEST_MODERN, Era, earlier
from bascule.wire.wishes import NO_WISHES, unkeyed, wishes_of

log = logging.getLogger("bascule.edge")

Waiting: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_NOTIFICATIONS: Final = frozenset(
    f"notifications/{name}" for name in ("initialized", "progress", "roots/list_changed", "tasks/status")
)
_GONE_IN_MODERN: Final = frozenset(
    (
        *("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"),
        *("tasks/list", "tasks/result"),
    )
)


class Rim:
    """Whatever happens to a request, its client gets an answer."""

    def __init__(
        self,
        *,
        forward: Forward,
        registry: Registry,
        aggregate: Aggregate,
        refused: Callable[[Call, BasculeError], None] = lambda call, error: None,
    ) -> None:
        """*refused* hears of calls that never reach *forward*, which sees all others."""
        self._forward = forward
        self._refused = refused
        self._registry = registry
        self._aggregate = aggregate
        self._closing = asyncio.Event()
        self.flights = Flights()  # subscriptions, which end with a word, are none
        self.leaving = False  # it serves, and balancers are told to look elsewhere
        self.draining = False  # it takes no new calls

    def drain(self) -> None:
        """Take no new calls and end subscriptions; calls in flight may still be answered."""
        self.leaving = self.draining = True
        self.end_subscriptions()

    def end_subscriptions(self) -> None:
        """End what would never end by itself."""
        self._closing.set()

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    # ---- one request

    async def answer(self, call: Call, head: Head | None = None, unwelcome: Waiting | None = None) -> Answer:
        """What the client hears of one request, whatever happens.

        *head* are the headers that a stateless request came with; None where the transport has none.
        *unwelcome* returns when its client may listen no longer.
        """
        try:
            call = await self._admitted(call, head)
        except BasculeError as error:
            self._refused(call, error)
            return refusals.answer_to(call, error)
        try:
            result = await (self._subscription(call, unwelcome) if call.method == modern.LISTEN else self._flown(call))
            return self._delivered(call, result)
        except BasculeError as error:
            return refusals.answer_to(call, error)
        except Exception:  # the rim: a fault of ours must not leave the client without an answer
            log.exception("internal error in %r", call.method)
            return refusals.answer_to(call, Internal("an internal error; the operator's log has the details"))

    async def _admitted(self, call: Call, head: Head | None) -> Call:
        """*call*, with what it asks of Bascule itself. Raises what it is refused with."""
        if self.draining:
            raise _draining()
        if call.session is None:
            await self._check_stateless(call, head)
        wishes = wishes_of(call.params, call.headers)
        if wishes is NO_WISHES:
            return call
        if wishes.deadline_s is not None:
            call.trip.due = asyncio.get_running_loop().time() + wishes.deadline_s
        params = unkeyed(call.params) if wishes.key and call.method != "tools/call" else call.params
        return msgspec.structs.replace(call, wishes=wishes, params=params)

    async def _flown(self, call: Call) -> Result:
        """The result of a call that the end of the process waits for, and cuts off when it takes too long."""
        flight = self.flights.take_off()
        try:
            return await self._forward(call)
        except asyncio.CancelledError:
            if not self.flights.was_struck(flight):
                raise
            if not call.trip.sent:
                raise _draining() from None
            raise TimedOut("this process is shutting down, and the call did not end in time", limit="drain") from None
        finally:
            self.flights.land(flight)

    async def _check_stateless(self, call: Call, head: Head | None) -> None:
        if head is None:
            # Nothing but the body says the version, so nothing can disagree with it.
            said = jsonrpc.text(modern.meta_of(call.params).get(modern.PROTOCOL_VERSION))
            modern.check_request({headers.VERSION: said or ""}, call.method, call.params)
        else:
            modern.check_request(head, call.method, call.params)
            mirrored: Sequence[headers.MirroredParam] = ()
            if call.method == "tools/call":
                name = jsonrpc.text(call.params.get("name")) or ""
                mirrored = await self._registry.mirrored(call.view, name, call.caller.authority)
            headers.check(head, call.method, call.params, mirrored)
        if call.method in _GONE_IN_MODERN:
            raise MethodNotFound(f"{call.method!r} is not part of {LATEST_MODERN.version}")

    async def _subscription(self, call: Call, unwelcome: Waiting | None) -> Result:
        """A `subscriptions/listen` call, which ends well when we shut down ("Graceful Closure")."""
        call_ends = asyncio.ensure_future(self._forward(call))
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._closing.wait())]
        if unwelcome is not None:
            ends.append(asyncio.ensure_future(unwelcome()))
        try:
            await asyncio.wait({call_ends, *ends}, return_when=asyncio.FIRST_COMPLETED)
            return call_ends.result() if call_ends.done() else Result(modern.subscription_end(call.id))
        finally:
            for each in (call_ends, *ends):
                each.cancel()

    def _delivered(self, call: Call, result: Result) -> Answer:
        if result.refused:
            status = modern.http_status(result.value) if call.era is Era.MODERN else 200
            return Answer(status, jsonrpc.refusal(call.id, result.value), replayed=call.trip.replayed)
        value = result.value
        if call.method == modern.DISCOVER and call.view:
            value = modern.discovered(value)
        elif call.method == legacy.INITIALIZE and isinstance(call.session, ClientSession):
            value = _agreed(call.session, value)
        return Answer(200, jsonrpc.answer(call.id, value), replayed=call.trip.replayed)

    # ---- in a session

    async def greet(self, session: ClientSession, message: Request, client: Client) -> bytes:
        """The answer to the `initialize` that opens *session*, which has `agreed` if that went well."""
        return (await self.answer(call_in(session, message, client, session.caller))).message

    async def answer_in_session(
        self,
        session: ClientSession,
        message: Request,
        client: Client,
        caller: Caller,
        head: Head | None = None,
        *,
        silent: bool = False,
    ) -> Answer:
        """The answer to one request; while it runs, the client can cancel it by its id.

        *caller* is the session's, as the credential of this very request makes it; *head* are its headers.
        *silent*: then there is none, b"". HTTP needs one even so (MCP 2025-11-25, "Cancellation").
        """
        if message.method == "ping":
            return Answer(200, jsonrpc.answer(message.id, Raw(b"{}")))
        if message.method == legacy.INITIALIZE:  # MCP 2025-03-26, Lifecycle: never part of a batch
            refusal = refusals.error_object(InvalidRequest("initialize is sent alone, first"))
            return Answer(200, jsonrpc.refusal(message.id, refusal))
        call = call_in(session, message, client, caller, head)
        key = bytes(message.id)
        flight = session.take_off(key)
        try:
            answer = await self.answer(call)
        except asyncio.CancelledError:
            # Cancelled from elsewhere too? Then that comes first.
            if not flight.cancelled or flight.task.uncancel() > 0:
                raise
            answer = Answer(200, b"") if silent else refusals.answer_to(call, Cancelled(session.why_cancelled))
        finally:
            session.land(key, flight)
        return answer

    async def told(self, session: ClientSession, message: Notification, caller: Caller | None = None) -> None:
        """Take a client's notification, or pass it on to the server.

        *caller* is the session's, as the credential of this very request makes it.
        """
        if message.method == legacy.CANCELLED:
            session.cancel(message.params.get("requestId"))
            return
        if not message.method.startswith("notifications/"):
            return  # a call without an id: some servers act on it, and no rule has been asked whether they may
        # What MCP does not know, a server may act on: only who may do everything there can say it.
        authority = (caller or session.caller).authority
        if message.method not in _NOTIFICATIONS and not authority.covers((session.view or "*",)):
            return
        upstream = self._behind(session)
        if upstream is None:
            return
        try:
            await upstream.tell(session, message.method, message.params)
        except BasculeError as error:
            log.warning("%s could not be told %r: %s", session.view or "a server", message.method, error)

    def listen(self, session: ClientSession) -> None:
        """From now on the session hears what its server sends outside of calls. Does not wait for the server."""
        upstream = self._behind(session)
        if upstream is not None:
            asyncio.ensure_future(_watch(upstream, session)).add_done_callback(_consume)

    async def forget(self, session: ClientSession) -> None:
        """Free what servers keep for a session that has ended."""
        upstream = self._behind(session)
        if upstream is not None:
            await upstream.forget(session)

    def _behind(self, session: ClientSession) -> Upstream | None:
        """What the session's endpoint stands for; None if that server has left the configuration."""
        return self._registry.upstreams.get(session.view) if session.view else self._aggregate


def _draining() -> Draining:
    error = Draining("this process is shutting down; send the call again, to the one that takes over")
    error.retry_after_s = 1.0
    return error


def call_in(session: ClientSession, message: Request, client: Client, caller: Caller, head: Head | None = None) -> Call:
    """A request of *session*; what the server says while it runs goes to *client*."""
    return Call(
        caller=caller,
        client=client,
        revision=session.revision,
        method=message.method,
        params=message.params,
        id=message.id,
        session=session,
        view=session.view,
        headers=head or {},
        trace_id=refusals.trace_id_of(message.params, head),
    )


def stateless_call(caller: Caller, view: str, message: Request, client: Client, head: Head | None = None) -> Call:
    """A request that carries all there is to know, with the headers it came with."""
    return Call(
        caller=caller,
        client=client,
        revision=LATEST_MODERN,
        method=message.method,
        params=message.params,
        id=message.id,
        view=view,
        headers=head or {},
        trace_id=refusals.trace_id_of(message.params, head),
    )


def _agreed(session: ClientSession, greeting: Raw) -> Raw:
    """The greeting with the version that client, server and Bascule all know; the session takes it."""
    members = jsonrpc.members(greeting)
    theirs = jsonrpc.text(members.get("protocolVersion")) or session.revision.version
    revision = BY_VERSION.get(earlier(theirs, session.revision.version), session.revision)
    session.agree(revision)
    return jsonrpc.encode(jsonrpc.replaced(members, protocolVersion=revision.version))


async def _watch(upstream: Upstream, session: ClientSession) -> None:
    await upstream.watch(session)
    if session.ended:  # meanwhile, and what it has opened at the server nobody else would close
        await upstream.forget(session)


def _consume(done: "asyncio.Future[None]") -> None:
    """Look at the outcome of a watch that nobody waits for; a server that is down says so in /status."""
    if (
        not done.cancelled()
        and isinstance(done.exception(), Exception)
        and not isinstance(done.exception(), BasculeError)
    ):
        log.error("watching failed", exc_info=done.exception())
