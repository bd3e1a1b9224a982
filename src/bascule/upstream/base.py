"""What every kind of upstream offers, and the one function through which calls reach it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Raw

import bascule
from bascule.call import Call, Result, Session
from bascule.errors import BasculeError, Internal, InvalidParams, Unavailable, UpstreamBrokeProtocol
from bascule.wire import headers, modern
from bascule.wire.jsonrpc import Params, Request, Response, answer, encode, members, refusal, replaced, text
from bascule.wire.versions import Era
from bascule.wire.wishes import KEY_HEADER, KEY_META

Kind = TypeVar("Kind")

INFO: Final = {"name": "bascule", "version": bascule.__version__}
_PONG: Final = Result(Raw(b"{}"))


class WrongEra(Unavailable):
    """The verdict on the server's era has proved wrong; it is forgotten, and `eras()` asks anew.

    The request was not run, so it may be sent again in another era.
    """


class State(Enum):
    """Where an upstream stands; the words that /status and the console show."""

    IDLE = "idle"  # not started: lazy, or stopped after idling
    STARTING = "starting"
    READY = "ready"
    DOWN = "down"  # failed; tried again after a pause
    FAILED = "failed"  # failed too often; tried again only on demand
    STOPPED = "stopped"
    OFF = "off"  # an operator has switched it off


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one upstream at one moment."""

    name: str
    kind: str  # "stdio" or "http"
    state: State
    eras: Sequence[str] = ()
    pids: Sequence[int] = ()
    restarts: int = 0
    in_flight: int = 0
    since_s: float | None = None  # seconds in this state
    retry_in_s: float | None = None
    last_error: str | None = None
    sandbox: str | None = None  # what is around its process, in words
    stderr: Sequence[str] = ()
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)  # what the server sent and nobody could use
    server: Mapping[str, Any] = msgspec.field(default_factory=dict)  # its own name and version
    withheld: Mapping[str, str] = msgspec.field(default_factory=dict)  # tools that clients must not see, and why


class Upstream(Protocol):
    """An MCP server that we reach. Implementations turn every foreign exception into one of ours."""

    name: str

    @property
    def spare(self) -> int | None:
        """How many more sessions can be opened, where what the server asks is known by its session alone.

        None where sessions share one pipe, or where a question comes on the stream of its call.
        """
        ...

    async def start(self) -> None:
        """Begin to bring the server up. Returns at once when it is lazy; never raises for its failures."""
        ...

    async def stop(self) -> None:
        """End everything, children and sockets included. In-flight calls get Unavailable."""
        ...

    async def eras(self) -> Collection[Era]:
        """The eras the server speaks, found out when first needed. Raises Unavailable if it cannot tell.

        Of a server that answered the modern probe the handshake is a guess, until a legacy client needs it.
        """
        ...

    async def send(self, call: Call) -> Result:
        """Send one request; `call.target.params` are the parameters. Cancelling it cancels the request.

        `initialize` opens the call's session here and gives the server's InitializeResult.
        Raises WrongEra when the server does not speak the call's era after all.
        """
        ...

    async def tell(self, session: Session, method: str, params: Params) -> None:
        """Pass on a notification of a legacy client."""
        ...

    async def watch(self, session: Session) -> None:
        """From now on the session hears what the server sends outside of calls."""
        ...

    async def forget(self, session: Session) -> None:
        """The session is over: free what was kept for it."""
        ...

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None:
        """Which arguments of which tool (by the server's own name) its clients repeat in headers."""
        ...

    def status(self) -> Status: ...


async def reach(call: Call) -> Result:
    """Send a resolved call to its upstream. No other code in Bascule does (tests/test_architecture.py)."""
    assert call.target is not None, "the resolve stage sets the target"
    if call.question is not None and not call.trip.approval:
        raise Internal("a call that a person has to confirm came here without a yes; it was not sent")
    result = await call.target.upstream.send(call)
    if call.era is Era.MODERN and not result.refused:
        try:
            modern.check_result(result.value, call.target.params)
        except ValueError as error:
            raise UpstreamBrokeProtocol(f"answered with no result of this protocol: {error}").at(
                call.target.upstream.name
            ) from error
    return result


async def shared(work: "asyncio.Future[Kind]", source: str) -> Kind:
    """What *work* comes to, for one of many who wait: one impatient caller does not stop it for the others.

    Raises Unavailable, at *source*, when it was stopped itself: nobody has cancelled who waits.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if work.cancelled() and task is not None and not task.cancelling():
            raise Unavailable("was stopped while it started").at(source) from None
        raise


def key_head(call: Call) -> dict[str, str]:
    """The header that repeats the idempotency key of a call, for a server that is given one (pipeline/reserve.py)."""
    assert call.target is not None, "the resolve stage sets the target"
    key = text(modern.meta_of(call.target.params).get(KEY_META))
    return {} if key is None else {KEY_HEADER: key}


def trace_head(call: Call) -> Mapping[str, str]:
    """The headers that say which span a request comes from; none where calls are not traced (pipeline/trace.py)."""
    span = call.trip.span
    return {} if span is None else span.head


def with_token(params: Params, token: int) -> tuple[Params, Raw | None]:
    """*params* with the client's progress token replaced by *token*, and the one it had.

    Two clients may use the same token; on one connection upstream it has to be unique.
    """
    meta = params.get("_meta")
    if meta is None or (b"progressToken" not in bytes(meta) and b"\\" not in bytes(meta)):
        return params, None  # a name may be spelt with escapes: what is not seen here would pass for a token of ours
    inner = members(meta)
    theirs = inner.get("progressToken")
    if theirs is None:
        return params, None
    return replaced(params, meta_=replaced(inner, progressToken=token)), theirs


def restored_token(params: Params, token: Raw) -> Params:
    """A progress notification's *params* with the client's own token back in place."""
    return {**params, "progressToken": token}


def result_of(call: Call, response: Response, source: str) -> Result:
    """What a server's *response* to *call* comes to; a subscription's end carries the client's own id.

    Raises UpstreamBrokeProtocol, said to have happened at *source*, for a response that is none.
    """
    if bool(response.result) == bool(response.error):
        broken = "both a result and an error" if response.result else "neither a result nor an error"
        raise UpstreamBrokeProtocol(f"the server's answer holds {broken}").at(source)
    if response.error:
        if not modern.is_error(response.error):
            raise UpstreamBrokeProtocol("the server's answer is an error without a code and a message").at(source)
        return Result(response.error, refused=True)
    if not bytes(response.result).startswith(b"{"):
        raise UpstreamBrokeProtocol("the server's answer is a result that is no object").at(source)
    if call.method != modern.LISTEN:
        return Result(response.result)
    try:
        return Result(encode(modern.retag(members(response.result), call.id)))
    except InvalidParams as error:
        raise UpstreamBrokeProtocol(f"the server's answer is no result: {error}").at(source) from error


async def answer_to(question: Request, ask: Callable[[], Awaitable[Result]]) -> bytes:
    """The message that answers a server's *question*: a ping at once, anything else with what *ask* gives."""
    try:
        result = _PONG if question.method == "ping" else await ask()
    except BasculeError as error:
        result = Result(error_object(error.family, error.message), refused=True)
    return (refusal if result.refused else answer)(question.id, result.value)


def error_object(code: int, message: str) -> Raw:
    """A JSON-RPC error that we answer a server with."""
    return encode({"code": code, "message": message})
