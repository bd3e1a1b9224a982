"""A remote MCP server over HTTP, written with nothing but sockets, so that it can answer as no library would.

`far()` runs one in the loop of the test. It is a well-behaved server of one tool (`echo`) until a test puts
something else into `on`, by JSON-RPC method, or by HTTP method for what is no JSON-RPC. It remembers what it was asked.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

from bascule.call import ANONYMOUS, Call, Caller, Result, Target
from bascule.upstream.base import Upstream, reach
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN, Revision

Json: TypeAlias = dict[str, Any]
Handler: TypeAlias = "Callable[[Asked], Awaitable[None]]"

ECHO: Final[Json] = {
    "name": "echo",
    "description": "Returns the text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
}
INFO: Final[Json] = {"name": "far", "version": "1.0.0"}
CACHE: Final[Json] = {"ttlMs": 60_000, "cacheScope": "private"}


@dataclass
class Asked:
    """One HTTP request, and the way back."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    streaming: bool = False

    @property
    def message(self) -> Json:
        found: Any = json.loads(self.body) if self.body else {}
        return found if isinstance(found, dict) else {}

    @property
    def id(self) -> Any:
        return self.message.get("id")

    @property
    def name(self) -> str:
        """What it asks for: the JSON-RPC method, or the HTTP one."""
        return str(self.message.get("method", self.method))

    @property
    def text(self) -> str:
        return str(self.message["params"]["arguments"].get("text"))

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(
        self, status: int, body: bytes = b"", kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole HTTP response."""
        head = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
        await self.write(_head(status, head) + body)

    async def say(self, message: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.reply(status, json.dumps(message).encode(), headers=headers)

    async def answer(self, result: Json, headers: Mapping[str, str] | None = None) -> None:
        await self.say({"jsonrpc": "2.0", "id": self.id, "result": result}, headers=headers)

    async def refuse(self, code: int, message: str, status: int = 200) -> None:
        await self.say({"jsonrpc": "2.0", "id": self.id, "error": {"code": code, "message": message}}, status)

    async def stream(self) -> None:
        """Begin a stream of events."""
        self.streaming = True
        await self.write(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(
        self, message: Json | None = None, *, id: str = "", retry_ms: int | None = None, name: str = ""
    ) -> None:
        """One event, without any data if there is no message."""
        lines = [f"event: {name}"] if name else []
        lines += [f"id: {id}"] if id else []
        lines += [f"retry: {retry_ms}"] if retry_ms is not None else []
        lines += [f"data: {json.dumps(message)}"] if message is not None else []
        await self.chunk("".join(f"{line}\n" for line in [*lines, ""]).encode())

    async def end(self) -> None:
        """End the stream as HTTP wants it."""
        await self.chunk(b"")

    def reset(self) -> None:
        """Break the connection as a crash does."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def left(self) -> None:
        """Wait until the client is gone."""
        while not (self.reader.at_eof() or self.reader.exception() or self.writer.transport.is_closing()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a reader has no event for its end


@dataclass
class Foreign:
    """The server: what it was asked, and what it does."""

    modern: bool
    listener: asyncio.Server = field(init=False)
    url: str = ""
    seen: list[Asked] = field(default_factory=list)
    on: dict[str, Handler] = field(default_factory=dict)
    tools: list[Json] = field(default_factory=lambda: [ECHO])
    sessions: int = 0

    def asked(self, name: str) -> list[Asked]:
        return [each for each in self.seen if each.name == name]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        try:
            while (asked := await _read(reader, writer)) is not None:
                self.seen.append(asked)
                handler = self.on.get(asked.name) or self.on.get(asked.method) or self.on.get("*")
                await (handler or self.answer)(asked)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def answer(self, asked: Asked) -> None:
        """Do it right."""
        match asked.name:
            case "tools/list":
                await asked.answer({"resultType": "complete", "tools": self.tools, **CACHE})
            case "tools/call":
                await asked.answer({"resultType": "complete", "content": [{"type": "text", "text": asked.text}]})
            case "server/discover" if self.modern:
                offer = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
                meta = {"_meta": {"io.modelcontextprotocol/serverInfo": INFO}}
                await asked.answer({"resultType": "complete", **offer, **CACHE, **meta})
            case "initialize" if not self.modern:
                self.sessions += 1
                spoken = {"protocolVersion": asked.message["params"]["protocolVersion"], "serverInfo": INFO}
                head = {"mcp-session-id": f"session-{self.sessions}"}
                await asked.answer({**spoken, "capabilities": {"tools": {}}}, head)
            case "initialize":
                await asked.refuse(-32022, "Unsupported protocol version", 400)
            case "GET":
                await asked.reply(405)
            case "DELETE":
                await asked.reply(204)
            case _ if asked.id is None:
                await asked.reply(202)
            case _:
                await asked.refuse(-32601, "Method not found", 404 if self.modern else 200)


@dataclass
class OldForeign(Foreign):
    """A server of 2024-11-05: GET opens a stream, which names where to POST; what is POSTed is answered on the stream.

    `says` has the exceptions, by JSON-RPC method: they get the message and the stream of its session.
    """

    endpoint: str = "/messages?session={session}"
    streams: list[Asked] = field(default_factory=list)
    says: dict[str, Callable[[Asked, Asked], Awaitable[None]]] = field(default_factory=dict)

    async def answer(self, asked: Asked) -> None:
        if asked.method == "GET":
            await self.open(asked)
        elif asked.method != "POST" or "session=" not in asked.path:
            await asked.reply(405, b"Method Not Allowed", "text/plain")
        else:
            await asked.reply(202, b"Accepted", "text/plain")
            await self.say(asked)

    async def open(self, asked: Asked) -> None:
        self.streams.append(asked)
        await asked.stream()
        await asked.chunk(f"event: endpoint\ndata: {self.endpoint.format(session=len(self.streams))}\n\n".encode())
        await asked.left()

    def stream_of(self, asked: Asked) -> Asked:
        return self.streams[int(asked.path.rpartition("session=")[2]) - 1]

    async def say(self, asked: Asked) -> None:
        """Answer a message on the stream of its session."""
        stream = self.stream_of(asked)
        if (handler := self.says.get(asked.name)) is not None:
            await handler(asked, stream)
        elif asked.id is not None and "method" in asked.message:
            await stream.event({"jsonrpc": "2.0", "id": asked.id, "result": self.result(asked)}, name="message")

    def result(self, asked: Asked) -> Json:
        match asked.name:
            case "initialize":
                return {"protocolVersion": "2024-11-05", "serverInfo": INFO, "capabilities": {"tools": {}}}
            case "tools/list":
                return {"tools": self.tools}
            case "tools/call":
                return {"content": [{"type": "text", "text": asked.text}]}
            case _:
                return {}


@dataclass
class Visitor:
    """A legacy client's session in front of an upstream and of nothing else. It keeps what it hears."""

    id: str = "visitor"
    caller: Caller = ANONYMOUS
    revision: Revision = LATEST_LEGACY
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    news: "asyncio.Queue[tuple[str, Json]]" = field(default_factory=asyncio.Queue)
    asked: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)  # methods of questions
    withdrawn: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # to answer what is asked

    family: str = field(init=False)
    hello: Params = field(init=False)

    def __post_init__(self) -> None:
        self.family = self.id
        self.hello = legacy.initialize_params({"name": self.id, "version": "1"}, self.capabilities)

    def notify(self, method: str, params: Params) -> None:
        self.news.put_nowait((method, {key: jsonrpc.decode(raw) for key, raw in params.items()}))

    announce = notify

    async def ask(self, method: str, params: Params) -> Result:
        self.asked.put_nowait(method)
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.withdrawn.put_nowait(method)
            raise
        return Result(jsonrpc.encode({"from": self.id}))

    async def heard(self, method: str) -> Json:
        """The parameters of the next notification, which has to be this one."""
        async with asyncio.timeout(15):
            said, params = await self.news.get()
        assert said == method
        return params


async def ask(
    upstream: Upstream,
    method: str,
    params: Json | None = None,
    *,
    session: Visitor | None = None,
    client: Visitor | None = None,
) -> Json:
    """What *upstream* answers: in the session if there is one, else statelessly. An error is `{"error": …}`."""
    raws: Params = {key: jsonrpc.encode(value) for key, value in (params or {}).items()}
    if method == "initialize" and session is not None:
        raws = session.hello
    if session is None:
        raws = modern.stamp(raws, info={"name": "t", "version": "1"}, capabilities={})
    call = Call(
        caller=ANONYMOUS,
        client=client or session or Visitor(),
        revision=session.revision if session else LATEST_MODERN,
        method=method,
        params=raws,
        id=jsonrpc.encode("theirs"),
        session=session,
        target=Target(upstream, raws),
    )
    async with asyncio.timeout(30):
        result = await reach(call)
    found: Json = jsonrpc.decode(result.value)
    return {"error": found} if result.refused else found


async def echoed(upstream: Upstream, text: str, session: Visitor | None = None, client: Visitor | None = None) -> str:
    """What the tool `echo` returns."""
    params = {"name": "echo", "arguments": {"text": text}}
    result = await ask(upstream, "tools/call", params, session=session, client=client)
    said: str = result["content"][0]["text"]
    return said


@asynccontextmanager
async def far(*, modern: bool = False) -> AsyncIterator[Foreign]:
    """One such server on a free port, of the handshake or of 2026-07-28."""
    async with listening(Foreign(modern)) as foreign:
        yield foreign


Some = TypeVar("Some", bound=Foreign)


@asynccontextmanager
async def listening(foreign: Some) -> AsyncIterator[Some]:
    """*foreign* on a free port."""
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(foreign.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    foreign.listener = server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 24)
    foreign.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    try:
        yield foreign
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


@asynccontextmanager
async def reaching(foreign: Foreign, **more: Any) -> AsyncIterator[HttpUpstream]:
    """The upstream alone, without a gateway before it; *more* are its options."""
    upstream = HttpUpstream("far", HttpOptions(url=foreign.url, **more))
    try:
        yield upstream
    finally:
        await upstream.stop()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked | None:
    """The next request of a connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body, reader, writer)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *(f"{n}: {v}" for n, v in headers.items()), "", ""]).encode()
