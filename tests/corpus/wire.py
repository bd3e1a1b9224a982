"""A client that says exactly the bytes it is given, and reads whatever comes back. Nothing here is polite."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from corpus.cases import Drip

ROOM_BYTES: Final = 1 << 26  # an answer may be large; that it must not be is for the case to say


@dataclass(frozen=True)
class Answer:
    """What came back. *messages* are JSON-RPC messages as bytes; *closed*: there was no answer."""

    status: int | None = None
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    closed: bool = False
    took_s: float = 0.0

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)

    @property
    def raw(self) -> bytes:
        """The last message of it: a stream tells other things before the answer."""
        if self.header("content-type") == "text/event-stream":
            events = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ") and line[6:]]
            return events[-1] if events else b""
        return self.body

    @property
    def message(self) -> Any:
        return json.loads(self.raw) if self.raw[:1] in (b"{", b"[") else None

    @property
    def only_message(self) -> Any:
        """The message, or the only one of a batch."""
        found = self.message
        return found[0] if isinstance(found, list) and len(found) == 1 else found


@dataclass
class Connection:
    """One TCP connection to Bascule."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    leftover: list[bytes] = field(default_factory=list)

    async def say(self, request: bytes, within_s: float, drip: Drip | None = None, answers: int = 1) -> Answer:
        """The last of the *answers* to *request*, which may come before all of it is sent. Raises TimeoutError."""
        began = asyncio.get_running_loop().time()
        writing = asyncio.ensure_future(self._write(request) if drip is None else self._drip(request, drip))
        try:
            async with asyncio.timeout(within_s):
                for _ in range(answers):
                    answer = await self._answer()
        finally:
            writing.cancel()
        return Answer(
            answer.status, answer.headers, answer.body, answer.closed, asyncio.get_running_loop().time() - began
        )

    async def _write(self, request: bytes) -> None:
        try:
            for start in range(0, len(request), 1 << 16):
                self.writer.write(request[start : start + (1 << 16)])
                await self.writer.drain()
        except ConnectionError:
            pass  # it hung up on us; what it said before is still to be read

    async def _drip(self, request: bytes, drip: Drip) -> None:
        """Say the rest of *request* slowly, and then nothing more."""
        start = (request.index(drip.from_.encode()) + len(drip.from_.encode()) if drip.from_ else 0) + drip.after
        await self._write(request[:start])
        for at in range(start, len(request), drip.bytes) if drip.bytes else ():
            await asyncio.sleep(drip.every_s)
            await self._write(request[at : at + drip.bytes])

    async def _answer(self) -> Answer:
        try:
            status, headers = await self.head()
            return Answer(status, headers, await self._body(status, headers))
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(closed=True)

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        return int(lines[0].split()[1]), [(name.strip().lower(), value.strip()) for name, _, value in pairs]

    async def _body(self, status: int, headers: Sequence[tuple[str, str]]) -> bytes:
        found = dict(headers)
        if status in (204, 304):
            return b""
        if found.get("transfer-encoding") == "chunked":
            parts = []
            while part := await self.chunk():
                parts.append(part)
            return b"".join(parts)
        if "content-length" in found:
            return await self.reader.readexactly(int(found["content-length"]))
        return await self.reader.read()

    async def chunk(self) -> bytes:
        """The next chunk of a body in chunks; b"" at its end."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    def close(self) -> None:
        self.writer.close()


async def connect(port: int, source: str = "127.0.0.1") -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port, limit=ROOM_BYTES, local_addr=(source, 0)))


def request(
    verb: str, path: str, headers: Mapping[str, bytes | Sequence[bytes] | None], body: bytes | None, host: str
) -> bytes:
    """An HTTP/1.1 request; a header that is None is left out, one that is a list stands as often."""
    whole: dict[str, bytes | Sequence[bytes] | None] = {"host": host.encode()}
    if body is not None:
        whole["content-length"] = b"%d" % len(body)
    whole |= headers
    lines = [f"{verb} {path} HTTP/1.1".encode()]
    for name, values in whole.items():
        each = [values] if isinstance(values, bytes) else values or ()
        lines += [name.encode() + b": " + value for value in each]
    return b"\r\n".join([*lines, b"", body or b""])
