"""Answers on their way to a client: plain JSON when they are quick and alone, else a stream of events.

A stream to a client that can resume keeps what it sent, within bounds, until the session ends.
Source: MCP 2025-11-25, Transports, "Resumability and Redelivery" (SEP-1699); WHATWG SSE.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from bascule.wire import sse

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEEP_ALIVE_S: Final = 15.0  # between comments on a quiet stream; proxies often cut at 60
RETRY_MS: Final = 1000  # how long a client waits before it resumes
MAX_KEPT_BYTES: Final = 1024 * 1024  # per stream: unsent, or kept for a client that resumes

STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """An ordered, bounded log of events, and at most one response that carries it."""

    def __init__(self, number: int, *, resumable: bool, event: str = "", bound_bytes: int = MAX_KEPT_BYTES) -> None:
        """*event* is what every message is called on the wire; without it, it is a `message` as well."""
        self.number = number
        self.resumable = resumable
        self._event = event
        self._bound = bound_bytes
        self.lost = False  # more was waiting than we keep: the oldest is gone
        self._events: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._last = 0
        self._sent = 0
        self._closed = False
        self._wake = asyncio.Event()
        self._carrier: object | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def carried(self) -> bool:
        """Whether a client is connected to this stream."""
        return self._carrier is not None

    def put(self, message: bytes) -> None:
        """Append one message."""
        self._append(sse.frame(message, id=self._id(self._last + 1), name=self._event))

    def point(self, uri: str) -> None:
        """Start by telling a client of 2024-11-05 where it sends its messages."""
        self._append(sse.frame(uri.encode(), name="endpoint"))

    def prime(self) -> None:
        """Start with an empty event whose id lets the client resume even before the first message."""
        self._append(sse.frame(b"", id=self._id(self._last + 1), retry_ms=RETRY_MS))

    def close(self) -> None:
        """No more events follow; the carrier ends once it has sent what is there."""
        self._closed = True
        self._wake.set()

    def detach(self, send: Send | None = None) -> None:
        """The client behind *send*, or whoever is there, is gone; events are kept for its return if it can resume.

        It may be back already, on another connection: that one stays.
        """
        if send is None or self._carrier is send:
            self._carrier = None
            self._wake.set()

    async def pump(self, send: Send, after: int | None = None) -> None:
        """Carry events to *send* until the stream closes or another carrier takes over.

        *after* is the number of the last event that the client has; None continues where the last
        carrier stopped.
        """
        self._carrier = send
        self._wake.set()  # a former carrier sees that it is replaced
        if after is not None:
            self._sent = min(after, self._last)
        while self._carrier is send:
            unsent = self._unsent()
            for number, data in unsent:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                if self._carrier is not send:
                    return
                self._sent = number
                if not self.resumable:
                    self._drop_sent()
            if unsent:
                continue  # more may have come while the client was slow to take what there was
            if self._closed:
                self._carrier = None
                return
            await self._more(send)

    async def _more(self, send: Send) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await self._wake.wait()
        except TimeoutError:
            await send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})

    def _unsent(self) -> list[tuple[int, bytes]]:
        return [event for event in self._events if event[0] > self._sent]

    def _append(self, data: bytes) -> None:
        self._last += 1
        self._events.append((self._last, data))
        self._size += len(data)
        while self._size > self._bound and len(self._events) > 1:
            if self._events[0][0] > self._sent:
                self.lost = True
            self._drop_oldest()
        self._wake.set()

    def _drop_sent(self) -> None:
        while self._events and self._events[0][0] <= self._sent:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, data = self._events.popleft()
        self._size -= len(data)

    def _id(self, number: int) -> str:
        return f"{self.number}-{number}" if self.resumable else ""


def parse_event_id(id: str) -> tuple[int, int] | None:
    """(stream number, event number) of an id that we made; None for any other text."""
    stream, found, event = id.partition("-")
    if not (found and stream.isascii() and stream.isdigit() and event.isascii() and event.isdigit()):
        return None
    return (int(stream), int(event)) if len(id) < 40 else None
