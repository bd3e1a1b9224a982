"""Server-sent events: the frames we write and the parser for the ones we read.

Source: WHATWG HTML, "Server-sent events"; MCP 2025-11-25, Transports, "Resumability".
"""

from collections.abc import Iterator
from typing import Final

import msgspec

KEEP_ALIVE: Final = b":\n\n"  # a comment: keeps idle connections open, carries nothing
_BOM: Final = b"\xef\xbb\xbf"


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
        self._id = ""
        self._started = False
        self._after_cr = False
        self.last_id = ""
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that *chunk* completes, in order."""
        for line in self._lines(chunk):
            self._bound(len(line))
            if line:
                self._field(line)
                continue
            self.last_id = self._id  # also of an event without data
            if self._data:
                yield self._dispatch()
            else:
                self._name = ""  # an event without data is none, whatever it is called

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        buffer = self._buffer + chunk
        if not self._started:
            if _BOM.startswith(buffer) and buffer != _BOM:
                self._buffer = buffer  # perhaps the start of one
                return
            self._started = True
            buffer = buffer.removeprefix(_BOM)
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._buffer = buffer.split(b"\n")
        yield from lines
        self._bound(len(self._buffer))

    def _bound(self, more: int) -> None:
        if self._size + more > self._max_bytes:
            raise ValueError(f"an event is larger than {self._max_bytes} bytes")

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
                self._size += len(line)  # with its name, or lines without a value would be free
            case b"event":
                self._name = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"retry" if value.isdigit() and len(value) < 10:
                self.retry_ms = int(value)
            case _:
                pass  # comments and unknown fields

    def _dispatch(self) -> Event:
        event = Event(b"\n".join(self._data), self._name or "message", self.last_id, self.retry_ms)
        self._data, self._size, self._name = [], 0, ""
        return event
