"""MCP as bytes: the requests of a load, and whether what comes back is good. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

from echo import LEGACY, MODERN, Json

Era: TypeAlias = Literal["legacy", "modern"]

CLIENT: Final = {"name": "bascule-bench", "version": "1"}
META: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE: Final[Json] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT},
}
INITIALIZED: Final[Json] = {"jsonrpc": "2.0", "method": "notifications/initialized"}
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
SESSION_ID: Final = re.compile(rb"\r\nmcp-session-id:[ \t]*([^\r]+)", re.IGNORECASE)
CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
EVENT_STREAM: Final = re.compile(rb"\r\ncontent-type:[ \t]*text/event-stream", re.IGNORECASE)


class Load(NamedTuple):
    """What is asked of a target in one measurement."""

    era: Era
    connections: int
    chars: int = 32
    seconds: float = 3.0
    warmup_s: float = 0.7
    timeout_s: float = 15.0

    @property
    def text(self) -> str:
        return ("a bridge with a counterweight. " * (self.chars // 31 + 1))[: self.chars]


def compact(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


class Reply(NamedTuple):
    status: int
    head: bytes
    body: bytes


def split_reply(unread: bytes) -> tuple[Reply, bytes] | None:
    """The first HTTP response in *unread* and the bytes after it; None while it is not all there.

    Raises ValueError for a response whose end nothing announces.
    """
    head_end = unread.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head, start = unread[:head_end], head_end + 4
    status = int(head[9:12])
    if length := CONTENT_LENGTH.search(head):
        end = start + int(length[1])
        return (Reply(status, head, unread[start:end]), unread[end:]) if len(unread) >= end else None
    if CHUNKED.search(head):
        body = unchunked(unread, start)
        return body and (Reply(status, head, body[0]), body[1])
    if status in (202, 204):
        return Reply(status, head, b""), unread[start:]
    raise ValueError("response without a length")


def unchunked(unread: bytes, at: int) -> tuple[bytes, bytes] | None:
    """The body whose first chunk begins at *at*, and the bytes after it; None while it is not all there."""
    parts: list[bytes] = []
    while (line_end := unread.find(b"\r\n", at)) >= 0:
        size = int(unread[at:line_end].partition(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(unread) < at:
            return None
        if not size:
            return b"".join(parts), unread[at:]
        parts.append(unread[line_end + 2 : at - 2])
    return None


def messages(reply: Reply) -> Iterable[Json]:
    """The JSON-RPC messages of *reply*, one JSON body or the data of server-sent events."""
    if not EVENT_STREAM.search(reply.head):
        yield json.loads(reply.body)
        return
    for event in reply.body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
        if data := b"\n".join(lines).strip():
            yield json.loads(data)


def http_fault(reply: Reply, request_id: int, text: str) -> str | None:
    """None when *reply* is good, else the kind of error."""
    if reply.status != 200:
        return f"HTTP {reply.status}: {without_digits(reply.body)}"
    try:
        for message in messages(reply):
            if "method" not in message:
                return fault(message, request_id, text)
    except ValueError:
        return f"not JSON: {without_digits(reply.body)}"
    return "no response in the event stream"


def fault(message: Json, request_id: int, text: str) -> str | None:
    """None when *message* answers the call *request_id* with *text*, else the kind of error."""
    if message.get("id") != request_id:
        return "wrong id"
    result = message.get("result")
    if result is None:
        error = message.get("error", {})
        return f"error {error.get('code')}: {str(error.get('message'))[:60]}"
    if result.get("isError"):
        return f"isError: {str(result.get('content'))[:80]}"
    if not any(part.get("text") == text for part in result.get("content", ())):
        return "another text came back"
    return None


def without_digits(body: bytes) -> str:
    """The start of *body* with its digits masked, so that ids and times do not make each error a new kind."""
    return re.sub(r"\d+", "#", body[:80].decode(errors="replace"))


def call_tail(load: Load) -> bytes:
    """A `tools/call` request from after its id to its end."""
    params: Json = {"name": "echo", "arguments": {"text": load.text}}
    if load.era == "modern":
        params["_meta"] = META
    return b',"method":"tools/call","params":' + compact(params) + b"}"


def call(request_id: int, tail: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d' % request_id + tail
