"""uvicorn's HTTP/1.1 connection, with bounds on a head, and nothing in it that two readers read in two ways.

Knows bytes and nothing of MCP. Source: RFC 9112, 3.2.2 (absolute form), 7.1.2 (trailers); RFC 9110, 6.5.1 and 7.8.
"""

import asyncio
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bascule.edge import refusals
from bascule.edge.door import MAX_TARGET_BYTES
from bascule.errors import InvalidRequest
from bascule.wire import jsonrpc

MAX_HEAD_BYTES: Final = 64 * 1024  # of the request line and all headers; tokens and session ids fit many times
HEAD_WITHIN_S: Final = 10.0  # from the connection, or the first byte of a later request, to the end of its head
BODY_WITHIN_S: Final = 30.0  # from there to the end of the body, whether or not a byte of it comes

_LINGER_S: Final = 0.5  # for a client that is still sending, to read why nobody listens


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._refused = False
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0  # of the fields that are complete
        self._unread_bytes = 0  # received since the head began, complete or not
        self._refusal = (400, "this is not HTTP/1.1")
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEAD_WITHIN_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # but read on, or the client would hear of a reset instead of the reason
        self._unset_keepalive_if_required()
        if self._in_head:
            self._unread_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(*self._refusal)
        else:
            # A field that does not end is kept by the parser, where nobody sees it grow.
            if self._in_head and self._unread_bytes > MAX_HEAD_BYTES + len(data):
                self._refuse(431, f"the head of a request is larger than {MAX_HEAD_BYTES} bytes")
            elif self._in_body and self._deadline is None:
                self._deadline = self.loop.call_later(BODY_WITHIN_S, self._too_slow)

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body, self._head_bytes, self._unread_bytes = True, False, 0, 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._too_slow)

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            self._fail(414, "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: merged into the headers, it would be believed like one (RFC 9110, 6.5.1)
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(431, f"the head of a request is larger than {MAX_HEAD_BYTES} bytes")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._clear_deadline()
        if not self.url.startswith(b"/") and self.url != b"*":
            # Its host counts, not that of the header, and what checks hosts would look at the wrong one.
            self._fail(400, "the request target has to begin with a slash")
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._in_body = True

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._in_body = False
            self._clear_deadline()
            super().on_message_complete()

    # ----

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Go on as if no other protocol had been offered (RFC 9110, 7.8): clients in Java always offer one.

        The parser has stopped at the end of the head, so the body would be lost: it is fed a head without the offer.
        """
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] not in (b"upgrade", b"http2-settings")]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _fail(self, status: int, reason: str) -> None:
        """Stop the parser, from one of its callbacks."""
        self._refusal = (status, reason)
        raise ValueError(reason)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer, unless another answer is under way, and hang up."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle = self.cycle
        # Within a body the last cycle is of this very request; before one, of a request that is complete.
        free = cycle is None or not cycle.response_started or (cycle.response_complete and not self._in_body)
        if free and not self.pipeline:
            body = jsonrpc.refusal(None, refusals.error_object(InvalidRequest(reason)))
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
            if cycle is not None:
                cycle.disconnected = True  # whatever works at the request has been spoken for
                cycle.message_event.set()
        self._clear_deadline()
        self._deadline = self.loop.call_later(_LINGER_S, self.transport.close)

    def _too_slow(self) -> None:
        self._deadline = None
        if not self._in_body:
            self._refuse(408, f"the head of a request did not arrive within {HEAD_WITHIN_S:g} s")
        elif self.flow.read_paused:  # it is we who do not read
            self._deadline = self.loop.call_later(BODY_WITHIN_S, self._too_slow)
        else:
            self._refuse(408, f"the body of a request did not arrive within {BODY_WITHIN_S:g} s")

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
