"""The upstream that every benchmark target reaches: an MCP server that does almost nothing.

Knows both protocol eras and two transports; standard library only, uvloop when it can be imported. It checks
no header and keeps no session: it is a floor to measure gateways against, not a conforming server.

    python bench/echo.py stdio [--tools N]
    python bench/echo.py http PORT [--tools N]

Tools: ``echo(text)`` returns the text, ``blob(size)`` that many characters, and ``extra_3 … extra_N`` fill
the list up to N tools, so that the cost of a long list can be seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

Json: TypeAlias = dict[str, Any]

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
SERVER: Final = {"name": "echo", "version": "1.0"}
ABILITIES: Final[Json] = {"tools": {}}
FRESH: Final[Json] = {"ttlMs": 60_000, "cacheScope": "public"}
CHUNK_BYTES: Final = 1 << 18
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)

encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class RefusedError(Exception):
    """A JSON-RPC error to answer with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def tool(name: str, description: str, argument: str, kind: str) -> Json:
    return {
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": {argument: {"type": kind}}, "required": [argument]},
    }


def catalog(count: int) -> list[Json]:
    """*count* tools (two at least), ``echo`` and ``blob`` first."""
    named = [
        tool("echo", "Return the text.", "text", "string"),
        tool("blob", "Return `size` characters.", "size", "integer"),
    ]
    fillers = (f"extra_{number}" for number in range(3, count + 1))
    return named + [tool(name, f"Return the text, as {name} would.", "text", "string") for name in fillers]


def call(params: Mapping[str, Any]) -> Json:
    """Result of ``tools/call``. Raises RefusedError for a tool or arguments that are not ours."""
    arguments = params.get("arguments") or {}
    match params.get("name"), arguments:
        case "blob", {"size": int(size)}:
            text = "x" * size
        case str(name), {"text": str(text)} if name == "echo" or name.startswith("extra_"):
            pass
        case name, _:
            raise RefusedError(-32602, f"no such tool, or bad arguments: {name}")
    return {"content": [{"type": "text", "text": text}], "isError": False}


class Echo:
    """Turns one decoded message into its reply; the transports below only move bytes."""

    def __init__(self, tools: int) -> None:
        self._tools = catalog(tools)

    def reply(self, line: bytes) -> bytes | None:
        """The encoded reply to one encoded message; None for a notification."""
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            return None
        reply: Json = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = self._result(message["method"], message.get("params") or {})
        except RefusedError as refused:
            reply["error"] = {"code": refused.code, "message": str(refused)}
        return encode(reply).encode()

    def _result(self, method: str, params: Mapping[str, Any]) -> Json:
        modern = method == "server/discover" or VERSION_KEY in params.get("_meta", ())
        fresh = FRESH if modern else {}
        match method:
            case "tools/call":
                result = call(params)
            case "tools/list":
                result = {"tools": self._tools, **fresh}
            case "server/discover":
                who = {"io.modelcontextprotocol/serverInfo": SERVER}
                result = {"supportedVersions": [MODERN], "capabilities": ABILITIES, "_meta": who, **fresh}
            case "initialize":
                asked = params.get("protocolVersion")
                version = asked if asked in LEGACY else LEGACY[0]
                result = {"protocolVersion": version, "capabilities": ABILITIES, "serverInfo": SERVER}
            case "ping":
                result = {}
            case _:
                raise RefusedError(-32601, f"no such method: {method}")
        return {**result, "resultType": "complete"} if modern else result


def serve_stdio(echo: Echo) -> None:
    """Answer until stdin ends. All lines of one read are answered by one write."""
    rest = b""
    while chunk := os.read(0, CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        replies = [reply for line in lines if line.strip() and (reply := echo.reply(line))]
        unsent = memoryview(b"".join(reply + b"\n" for reply in replies))
        while unsent:
            unsent = unsent[os.write(1, unsent) :]


def response(status: str, body: bytes = b"", session: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    return head + session + b"\r\n" + body


class HttpConnection(asyncio.Protocol):
    """Streamable HTTP with JSON replies: POST is answered, DELETE agreed to, anything else refused."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (head_end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:head_end]
            length = CONTENT_LENGTH.search(head)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if len(self._unread) < end:
                return
            body, self._unread = self._unread[head_end + 4 : end], self._unread[end:]
            self._transport.write(self._response(head, body))

    def _response(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"DELETE "):
            return response("200 OK")
        if not head.startswith(b"POST "):
            return response("405 Method Not Allowed")
        reply = self._echo.reply(body)
        if reply is None:
            return response("202 Accepted")
        session = b"Mcp-Session-Id: echo\r\n" if b'"initialize"' in body else b""
        return response("200 OK", reply, session)


def new_loop() -> asyncio.AbstractEventLoop:
    """A uvloop loop when uvloop can be imported, else asyncio's own."""
    try:
        import uvloop  # here, so that the stdio server starts without it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve_http(echo: Echo, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HttpConnection(echo), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("transport", choices=("stdio", "http"))
    parser.add_argument("port", nargs="?", type=int, default=0)
    parser.add_argument("--tools", type=int, default=5)
    options = parser.parse_args()
    echo = Echo(options.tools)
    if options.transport == "stdio":
        serve_stdio(echo)
        return
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve_http(echo, options.port))


if __name__ == "__main__":
    main()
