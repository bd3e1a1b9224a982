"""Server-sent events: the frames we write and the parser for the ones we read.

Source: WHATWG HTML, "Server-sent events"; MCP 2025-11-25, Transports, "Resumability".
"""

from collections.abc import Iterator
from typing import Final

import msgspec

KEEP_ALIVE: Final = b":\n\n"  # a comment: keeps idle connections open, carries nothing


class Event(msgspec.Struct, frozen=True):
    """One dispatched event. *id* is the last id seen on the stream, as the standard says."""

    data: bytes
    name: str = "message"
    id: str = ""
    retry_ms: int | None = None


def frame(data: bytes, *, id: str = "", name: str = "", retry_ms: int | None = None) -> bytes:
    """One event as bytes. Newlines in *data* become several `data:` lines."""
    head = b""
    if name:
        head += b"event: %b\n" % name.encode()
    if id:
        head += b"id: %b\n" % id.encode()
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    return b"%bdata: %b\n\n" % (head, data)


class Parser:
    """Turns the bytes of a stream into events, whatever the chunks are cut into.

    Raises ValueError from `feed` when one event grows over *max_bytes*.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = b""
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._started = False
        self._after_cr = False
        self.last_id = ""
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that *chunk* completes, in order."""
        for line in self._lines(chunk):
            if line:
                self._field(line)
            elif self._data or self._name:
                yield self._dispatch()

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]  # the second half of a CRLF that was cut in two
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        buffer = self._buffer + chunk
        if not self._started:
            self._started = True
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._buffer = buffer.split(b"\n")
        if len(self._buffer) + self._size > self._max_bytes:
            raise ValueError(f"an event is larger than {self._max_bytes} bytes")
        yield from lines

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
                self._size += len(value)
                if self._size > self._max_bytes:
                    raise ValueError(f"an event is larger than {self._max_bytes} bytes")
            case b"event":
                self._name = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self.last_id = value.decode(errors="replace")
            case b"retry" if value.isdigit():
                self.retry_ms = int(value)
            case _:
                pass  # comments and unknown fields

    def _dispatch(self) -> Event:
        event = Event(b"\n".join(self._data), self._name or "message", self.last_id, self.retry_ms)
        self._data, self._size, self._name = [], 0, ""
        return event
