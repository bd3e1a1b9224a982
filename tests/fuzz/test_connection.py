"""The head of HTTP: however its bytes are cut, a connection comes to the same, and trailers are never headers."""

import asyncio
from itertools import pairwise
from typing import Any, Final

import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from bascule.edge.protocol import Connection
from fuzz.mangling import mangled

HEAD: Final = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD: Final = [
    HEAD + b"Content-Length: 2\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: canary\r\nAuthorization: canary\r\n\r\n",
    HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\nGET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
]
WORDS: Final = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\x00",
        b"0\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Upgrade: websocket\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"http://evil.com",
        b"*",
    ),
    *(
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"CONNECT",
        b"GET /",
        b"X: " + b"x" * 3000 + b"\r\n",
        b"%00",
        b"\xff",
        b"PRI * HTTP/2.0\r\n",
    ),
]
requests = mangled(st.sampled_from(GOOD), WORDS, st.binary(max_size=6))


class Wire(asyncio.Transport):
    """What the connection writes to, and nothing behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.closed = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        if not self.closed:
            self.said += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked, as it sees it."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    asked = repr((scope["method"], scope["raw_path"], [name for name, _ in scope["headers"]], body)).encode()
    head = [(b"content-length", b"%d" % len(asked))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": asked})


async def answered(chunks: list[bytes]) -> bytes:
    """All that a connection says to *chunks*."""
    config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off", server_header=False, date_header=False)
    config.load()
    connection = Connection(config, ServerState(), {}, asyncio.get_running_loop())
    wire = Wire()
    connection.connection_made(wire)
    for chunk in chunks:
        connection.data_received(chunk)
        for _ in range(6):  # turns of the loop: the application has none to wait for
            await asyncio.sleep(0)
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    return wire.said


@given(requests)
@example(GOOD[2])
@example(GOOD[3])
def test_trailers_are_never_headers_and_what_is_refused_is_refused_in_our_shape(request: bytes) -> None:
    said = asyncio.run(answered([request]))
    first = said.partition(b"\r\n")[0]
    assert first == b"" or first.split(b" ")[1] in (b"100", b"200", b"400", b"414", b"431")
    if request == GOOD[2]:
        assert b"x-trailer" not in said
    if first.split(b" ")[1:2] == [b"400"]:
        assert b'"jsonrpc":"2.0"' in said


@given(requests, st.lists(st.integers(1, 200), max_size=5))
def test_the_cuts_do_not_matter(request: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(request), *(cut for cut in cuts if cut < len(request))})
    chunks = [request[start:end] for start, end in pairwise(places)]
    whole, cut = asyncio.run(answered([request])), asyncio.run(answered(chunks))
    # Where the rest of a body is broken, the application may have been heard before that came.
    assert _statuses(whole)[:1] == _statuses(cut)[:1] or b" 400 " in whole + cut


def _statuses(said: bytes) -> list[bytes]:
    return [line.split(b" ")[1] for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
