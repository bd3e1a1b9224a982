"""A proxy on loopback that does to HTTP what networks do, and worse: between Bascule and a server of MCP.

Each fault is drawn from one seed. Connections of clients are kept alive, so that what comes too much on one is there
when the next request uses it. Knows HTTP and the frames of event streams, and of MCP only where a call stands.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

FAULTS: Final = ("latency", "reset", "black hole", "drip", "duplicate", "reorder")
CALM: Final = "calm"
CANARY: Final = re.compile(rb"canary-[0-9a-f]{16}")

_LATENCY_S: Final = (0.02, 0.4)
_DRIPS: Final = 25  # parts of a dripped answer
_DRIP_S: Final = (0.01, 0.3)  # between two of them; the longest take longer than any deadline of the storm
_PARTNER_WITHIN_S: Final = 0.25
_STREAM: Final = b"text/event-stream"


@dataclass(frozen=True)
class Request:
    method: str
    whole: bytes  # head and body

    @property
    def stays_open(self) -> bool:
        """Whether it only listens."""
        return self.method == "GET"


@dataclass(frozen=True)
class Answer:
    """What the server said: a whole body, or events as they come."""

    status: bytes  # the first line, without its version
    headers: Mapping[bytes, bytes]
    next: Callable[[], Awaitable[bytes]]  # the next part; b"" at the end

    @property
    def streams(self) -> bool:
        return self.headers.get(b"content-type", b"").startswith(_STREAM)

    def head(self, length: int | None) -> bytes:
        kept = {name: value for name, value in self.headers.items() if name not in (b"content-length", b"connection")}
        framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
        lines = [b"%b: %b\r\n" % each for each in [*kept.items(), framing]]
        return b"HTTP/1.1 " + self.status + b"\r\n" + b"".join(lines) + b"\r\n"


class Proxy:
    """Between one server and its clients. `fault` is what happens to that share of requests which `rate` says."""

    def __init__(self, target: str, seed: int, rate: float = 0.35) -> None:
        parts = urlsplit(target)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path
        self._dice = random.Random(seed)
        self.fault = CALM
        self.rate = rate
        self.passed: Counter[str] = Counter()  # calls that came, by canary: before anything was done to them
        self.done: Counter[str] = Counter()  # faults
        self._partner: asyncio.Future[tuple[bytes, asyncio.Future[bytes]]] | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Serves while the context lasts; its URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self._path}"
        finally:
            server.close()
            serving = [task for task in self._connections.values() if task is not None]
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    def hang_up(self) -> None:
        """End every connection."""
        for each in list(self._connections):
            each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[writer] = asyncio.current_task()
        try:
            while True:
                request = await _read(reader)
                fault = self._drawn(request)
                if not await self._exchange(request, fault, reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left, or its server
        finally:
            del self._connections[writer]
            writer.close()

    def _drawn(self, request: Request) -> str:
        if canary := CANARY.search(request.whole):
            self.passed[canary[0].decode()] += 1
        if self._dice.random() >= self.rate:
            return CALM
        fault = self._dice.choice(FAULTS) if self.fault == "all" else self.fault
        self.done[fault] += fault != CALM
        return fault

    # ---- one exchange

    async def _exchange(
        self, request: Request, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection can be used again."""
        moment = self._dice.choice(("before", "between", "within")) if fault == "reset" else ""
        if moment == "before":
            return _reset(writer)
        if fault == "black hole":
            if self._dice.random() < 0.5:
                async with self._asked(request):
                    await reader.read(1)
            await reader.read(1)  # until the client has had enough
            return False
        if fault == "latency":
            await self._pause()
        if fault == "duplicate" and not request.stays_open and self._dice.random() < 0.5:
            async with self._asked(request) as answer:
                await _all(answer)
        async with self._asked(request) as answer:
            if moment == "between":
                return _reset(writer)
            if answer.streams:
                return await self._stream(answer, fault, reader, writer)
            return await self._whole(answer, await _all(answer), fault, writer)

    @contextlib.asynccontextmanager
    async def _asked(self, request: Request) -> AsyncIterator[Answer]:
        """The server's answer to *request*, on a connection of its own."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request.whole)
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.rstrip().split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
            streams = headers.get(b"content-type", b"").startswith(_STREAM)
            following = partial(_event, reader) if streams else partial(reader.read, 65_536)
            yield Answer(first.partition(b" ")[2], headers, following)
        finally:
            writer.close()

    async def _whole(self, answer: Answer, body: bytes, fault: str, writer: asyncio.StreamWriter) -> bool:
        if fault == "reorder" and body:
            body = await self._with_partner(body)
        said = answer.head(len(body)) + body
        match fault:
            case "latency":
                await self._pause()
            case "reset":
                writer.write(said[: len(said) // 2])
                await writer.drain()
                return _reset(writer)
            case "duplicate":
                said += said
            case "drip":
                await self._drip(said, writer)
                return True
        writer.write(said)
        await writer.drain()
        return True

    async def _stream(
        self, answer: Answer, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Events, while the client listens."""
        writer.write(answer.head(None))
        passing = asyncio.ensure_future(self._pass_events(answer, fault, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return passing.done() and passing.result() and not leaving.done()
        finally:
            passing.cancel()
            leaving.cancel()
            await asyncio.wait({passing, leaving})

    async def _pass_events(self, answer: Answer, fault: str, writer: asyncio.StreamWriter) -> bool:
        held = b""
        while event := await answer.next():
            match fault:
                case "latency":
                    await self._pause()
                case "reset" if self._dice.random() < 0.5:
                    writer.write(_chunk(event[: len(event) // 2]))
                    await writer.drain()
                    return _reset(writer)
                case "drip":
                    await self._drip(_chunk(event), writer)
                    continue
                case "duplicate":
                    writer.write(_chunk(event))
                case "reorder" if not held:
                    held = event  # it comes after the next one
                    continue
            writer.write(_chunk(event))
            await writer.drain()
        writer.write((_chunk(held) if held else b"") + b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _pause(self) -> None:
        await asyncio.sleep(self._dice.uniform(*_LATENCY_S))

    async def _drip(self, said: bytes, writer: asyncio.StreamWriter) -> None:
        size, pause_s = max(1, len(said) // _DRIPS), self._dice.uniform(*_DRIP_S)
        for start in range(0, len(said), size):
            writer.write(said[start : start + size])
            await writer.drain()
            await asyncio.sleep(pause_s)

    async def _with_partner(self, body: bytes) -> bytes:
        """The body of another answer of the same moment, which gets this one; or this one, but later than that."""
        loop = asyncio.get_running_loop()
        if self._partner is not None and not self._partner.done():
            mine: asyncio.Future[bytes] = loop.create_future()
            self._partner.set_result((body, mine))
            return await mine
        partner: asyncio.Future[tuple[bytes, asyncio.Future[bytes]]] = loop.create_future()
        self._partner = partner
        await asyncio.wait({partner}, timeout=_PARTNER_WITHIN_S)
        if not partner.done():
            partner.cancel()
            return body
        other, theirs = partner.result()
        if self._dice.random() < 0.5:
            theirs.set_result(body)
            return other
        theirs.set_result(other)
        await self._pause()
        return body


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length:\s*(\d+)", head, re.IGNORECASE)
    body = await reader.readexactly(int(length[1])) if length else b""
    return Request(head.split(b" ", 1)[0].decode(), head + body)


async def _all(answer: Answer) -> bytes:
    whole = b""
    while part := await answer.next():
        whole += part
    return whole


async def _event(reader: asyncio.StreamReader) -> bytes:
    """The next whole event; b"" when there is none."""
    try:
        return await reader.readuntil(b"\n\n")
    except asyncio.IncompleteReadError:
        return b""


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""


def _reset(writer: asyncio.StreamWriter) -> bool:
    """End the connection by RST. False: it cannot be used again."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
