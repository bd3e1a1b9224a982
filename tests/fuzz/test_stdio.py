"""Lines on standard input: each request and each line that is none gets one answer, and only JSON comes out."""

import asyncio
import json
import os
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.call import ANONYMOUS, Call, Result
from bascule.edge.rim import Rim
from bascule.edge.stdio import StdioEdge
from bascule.errors import ProtocolError, ToolNotFound
from bascule.pipes import Input, Output
from bascule.registry.aggregate import Aggregate
from bascule.registry.sync import Registry
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Request
from fuzz.mangling import mangled

MOST_BYTES: Final = 2000
STAMP: Final = (
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
)
GOOD: Final = [
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{},%b}}' % STAMP,
    b'{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}',
    b'{"jsonrpc":"2.0","id":2,"method":"ping"}',
    b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
    b'{"jsonrpc":"2.0","id":3,"result":{}}',
]
WORDS: Final = [
    b"\r",
    b"\x00",
    b"\xff",
    b"{",
    b"}",
    b'"',
    b"[",
    b"]",
    b"null",
    b"x" * MOST_BYTES,
    b'"id":4',
    b" ",
    b"\x0b",
]
lines = mangled(st.sampled_from(GOOD), WORDS, st.binary(max_size=5)).map(lambda line: line.replace(b"\n", b""))


async def refuse(call: Call) -> Result:
    raise ToolNotFound("there is nothing here")


async def said_to(sent: bytes) -> list[bytes]:
    """The lines that come out for *sent*."""
    registry = Registry({}, {}, 0.1)
    rim = Rim(forward=refuse, registry=registry, aggregate=Aggregate(registry))
    (come_out, go_in), (out, told) = os.pipe(), os.pipe()
    edge = StdioEdge(
        rim, ANONYMOUS, "", source=Input(come_out), sink=Output(told), max_message_bytes=MOST_BYTES
    )  # the pipes hold 64 KiB, more than is ever sent or said
    os.write(go_in, sent)
    os.close(go_in)
    await edge.serve()
    os.close(told)
    with os.fdopen(out, "rb") as answers:
        heard = answers.read().split(b"\n")
    os.close(come_out)
    assert heard.pop() == b""
    return heard


@settings(deadline=None)  # threads and pipes
@given(st.lists(lines, max_size=5))
def test_each_line_gets_what_it_is_due(sent: list[bytes]) -> None:
    heard = asyncio.run(said_to(b"\n".join(sent) + b"\n"))
    for line in heard:
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        assert "error" in message or "result" in message
    assert len(heard) == sum(map(_is_due, sent))


def _is_due(line: bytes) -> bool:
    """Whether *line* has to be answered."""
    if not line or line.isspace():
        return False
    if len(line) > MOST_BYTES:
        return True
    try:
        (message,) = jsonrpc.parse(line)
    except ProtocolError:
        return True
    return isinstance(message, Request)
