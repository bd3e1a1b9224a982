"""One request over HTTP and its answer: a JSON body, or a stream of events that ends with the answer.

Source: MCP 2025-11-25, "Transports" (resumption: SEP-1699); MCP 2026-07-28, "Streamable HTTP".
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp

from bascule.call import Call, Result
from bascule.errors import BasculeError, InvalidParams, RateLimited, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.base import restored_token, result_of, with_token
from bascule.wire import jsonrpc, legacy, modern, sse
from bascule.wire.jsonrpc import Notification, Params, Request, Response

if TYPE_CHECKING:
    from bascule.upstream.http import HttpUpstream
    from bascule.upstream.link import Link
    from bascule.upstream.opened import Opened

_RESUMES: Final = 20  # reconnections for one answer of a server that closes its streams (SEP-1699)
_DEFAULT_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 30.0
_LONGEST_DELAY_S: Final = 86_400.0  # that a Retry-After is believed


class Broken(UpstreamBrokeProtocol):
    """The connection ended in the middle."""


class NotMcp(UpstreamBrokeProtocol):
    """An HTTP answer that carries no JSON-RPC."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, http_status=status)
        self.status = status


class Exchange:
    """One request on its own HTTP response: JSON, or a stream of events that ends with the answer."""

    def __init__(self, upstream: "HttpUpstream", call: Call, params: Params, link: "Link | None" = None) -> None:
        self.id = upstream.mint_id()
        params, self._token = with_token(params, self.id)
        self.body = jsonrpc.request(self.id, call.method, params)
        self._upstream = upstream
        self.call = call
        self._link = link
        self.opened: Opened | None = None  # while it is under way in a session
        self.status = 0  # of HTTP, once it is answered

    async def read(self, response: aiohttp.ClientResponse) -> Result:
        """The answer. Raises NotMcp, or UpstreamBrokeProtocol for another bad answer or a stream that is lost."""
        self.status = response.status
        if response.content_type == "text/event-stream" and response.status == 200:
            return await self._read_events(response)
        body = await read_limited(response, self._upstream.max_message_bytes, self._upstream.name)
        if response.content_type != "application/json":
            raise refused_by_http(response, body).at(self._upstream.name)
        try:
            message = jsonrpc.read(body)
        except ValueError as error:
            raise refused_by_http(response, body).at(self._upstream.name) from error
        if isinstance(message, Response) and (self._is_ours(message) or _is_nameless(message, response)):
            return result_of(self.call, message, self._upstream.name)
        if response.status >= 400:
            raise refused_by_http(response, body).at(self._upstream.name)
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
            try:
                async with self._link.resume(cursor.last_id) as resumed:
                    if resumed.status != 200:
                        break
                    result = await self._follow(resumed, cursor)
            except (Unavailable, Broken):
                continue  # perhaps it restarts; to ask for the rest again does no harm
        if result is not None:
            return result
        raise UpstreamBrokeProtocol("closed its stream before it answered").at(self._upstream.name)

    async def _follow(self, response: aiohttp.ClientResponse, cursor: "Cursor") -> Result | None:
        async for message in messages(response, cursor, self._upstream):
            match message:
                case Response() if self._is_ours(message):
                    return result_of(self.call, message, self._upstream.name)
                case Response():
                    self._upstream.dropped["unmatched_answer"] += 1
                case Notification():
                    try:
                        self._notified(message)
                    except InvalidParams:
                        self._upstream.dropped["malformed_notification"] += 1
                case Request():
                    if self._link is not None:
                        if self.opened is not None:
                            self.opened.yield_slot()
                        await self._link.asked(message, self.call.client)
        return None

    def _notified(self, message: Notification) -> None:
        params = message.params
        if message.method == legacy.PROGRESS:
            if self._token is None:
                return
            params = restored_token(params, self._token)
        elif message.method == legacy.CANCELLED:
            self._withdrawn(params.get("requestId", jsonrpc.NOTHING))
            return
        elif self.call.method == modern.LISTEN:
            params = modern.retag(params, self.call.id)
        self.call.client.notify(message.method, params)

    def _withdrawn(self, id: jsonrpc.Id) -> None:
        """The server gives up a question that it asked, on this stream or another, or ends a subscription."""
        if self._link is not None:
            self._link.withdrawn(id)
        elif self.call.method == modern.LISTEN and bytes(id) == b"%d" % self.id:
            raise Unavailable("the server ended the subscription").at(self._upstream.name)

    def _is_ours(self, message: Response) -> bool:
        return bytes(message.id) == b"%d" % self.id


class Cursor:
    """Where we stand in a stream that may be cut and resumed."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_s = _DEFAULT_RETRY_S


async def messages(
    response: aiohttp.ClientResponse, cursor: Cursor, upstream: "HttpUpstream"
) -> AsyncIterator[jsonrpc.Message]:
    """The JSON-RPC messages of an event stream; *cursor* follows it. Ends quietly when the stream breaks."""
    parser = sse.Parser(upstream.max_message_bytes)
    try:
        async for chunk in response.content.iter_any():
            for event in parser.feed(chunk):
                cursor.last_id = event.id or cursor.last_id
                if not event.data or event.name != "message":
                    continue
                try:
                    yield jsonrpc.read(event.data)
                except ValueError:
                    upstream.dropped["not_json_rpc"] += 1
            cursor.last_id = parser.last_id or cursor.last_id  # also of an event without data, which is none
            if parser.retry_ms is not None:
                cursor.retry_s = min(_LONGEST_RETRY_S, parser.retry_ms / 1000)
    except aiohttp.ClientPayloadError:
        return  # cut off in the middle: the same to us as an early end
    except ValueError as error:
        raise UpstreamBrokeProtocol(str(error)).at(upstream.name) from error


def refused_by_http(response: aiohttp.ClientResponse, body: bytes) -> BasculeError:
    """What an HTTP answer with *body*, which is no answer to us, means: RateLimited for 429, NotMcp for all others.

    Whoever says 429 has not looked at the request (RFC 6585, 4), so it may be sent again; of other answers, a 503
    with a time to come back included, nobody knows.
    """
    problem, delay_s = http_problem(response, body), retry_after_s(response.headers.get("retry-after", ""), time.time())
    if response.status == 429:
        return RateLimited(problem, delay_s, http_status=429)
    error = NotMcp(problem, response.status)
    error.retry_after_s = delay_s
    return error


def retry_after_s(said: str, now_s: float) -> float | None:
    """Seconds of a Retry-After: a number of them, or a date; None for neither. Source: RFC 9110, 10.2.3."""
    said = said.strip()
    if said.isascii() and said.isdigit():
        return min(float(said[:9]), _LONGEST_DELAY_S)
    try:
        date = parsedate_to_datetime(said)
    except ValueError:
        return None
    # Without a zone, or with -0000, it is what an HTTP date always is: in UTC.
    at_s = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    return min(max(0.0, at_s - now_s), _LONGEST_DELAY_S)


def http_problem(response: aiohttp.ClientResponse, body: bytes) -> str:
    """What an HTTP answer with *body*, which is no answer to us, says to a person."""
    try:
        message = jsonrpc.read(body)
        said = modern.error_message(message.error) if isinstance(message, Response) else ""
    except ValueError:
        said = body[:200].decode(errors="replace").strip()
    return f"answered HTTP {response.status} {response.reason or ''}{': ' + said if said else ''}".strip()


async def read_limited(response: aiohttp.ClientResponse, limit: int, name: str) -> bytes:
    """The whole body. Raises UpstreamBrokeProtocol when it is larger than *limit* bytes."""
    # The length is that of the compressed body, if a server compresses although we did not ask it to.
    length = None if "content-encoding" in response.headers else response.content_length
    if length is not None and length <= limit:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise UpstreamBrokeProtocol(f"the answer is larger than max_message_bytes ({limit})", too_large=limit).at(
                name
            )
    return bytes(body)


def _is_nameless(message: Response, response: aiohttp.ClientResponse) -> bool:
    """Whether it is an error about the envelope, which may come without the id: here it can only be ours.

    With a status of HTTP's own it is about more than the message: 401, 404 for a lost session, 5xx.
    """
    about_message = response.status < 400 or response.status in (400, 422)
    return bool(message.error) and bytes(message.id) in (b"", b"null") and about_message
