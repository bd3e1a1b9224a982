"""Bytes that come in pieces: events, lines, and what clients keep for us."""

import asyncio
import hashlib
from itertools import pairwise
from typing import Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bascule.call import ANONYMOUS
from bascule.crossing.parking import Parking
from bascule.edge import capsule
from bascule.edge.capsule import Capsule
from bascule.errors import InvalidParams
from bascule.wire import jsonrpc, sse
from bascule.wire.seal import KEY_BYTES, NONCE_BYTES, KeyRing
from fuzz.mangling import mangled

RING: Final = KeyRing([bytes(KEY_BYTES)])
NONCE: Final = bytes(NONCE_BYTES)

STREAMS: Final = [
    b"event: message\nid: 1\ndata: {}\n\n",
    b"data:a\r\ndata: b\r\n\r\n",
    b": c\n\ndata\n\nretry: 5\rdata:x\r\r",
]
PARTS: Final = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b":",
    b"data",
    b"data:",
    b"id: \x00",
    b"\xef\xbb\xbf",
    b"retry: -1",
    b"\xff",
]
streams = mangled(st.sampled_from(STREAMS), PARTS, st.binary(max_size=6))


@given(streams, st.lists(st.integers(0, 80), max_size=6))
def test_a_stream_of_events_reads_as_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    parser = sse.Parser(10_000)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    found = [(event.data, event.name) for chunk in chunks for event in parser.feed(chunk)]
    assert found == _read(stream)


def _read(stream: bytes) -> list[tuple[bytes, str]]:
    """(data, name) of each event, by the letter of WHATWG HTML, 9.2.6, on the whole stream at once."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data, name = [], b"", ""
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                events.append((data.removesuffix(b"\n"), name or "message"))
            data, name = b"", ""
        elif field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value.decode(errors="replace")
    return events


# ---- what clients keep for us

HELD: Final = Capsule(
    id="i", caller="c", view="", version="2025-11-25", issued_s=1.0, hello=jsonrpc.encode({"capabilities": {}})
)
contents = mangled(
    st.just(msgspec.json.encode(HELD)), [b"[", b"]", b"null", b'"', b"\xff", b"1e999"], st.binary(max_size=6)
)


@given(contents)
def test_whatever_was_sealed_opens_to_a_capsule_or_to_nothing(content: bytes) -> None:
    """Of another version, say: only the key has to be ours."""
    found = capsule.opened(RING, RING.seal(capsule.PURPOSE, content, NONCE))
    assert found is None or isinstance(found, Capsule)


@given(mangled(st.just(capsule.sealed(RING, HELD, NONCE)), ["=", "A", "é", "-", "\n"], st.text(max_size=4)))
def test_no_session_id_but_ours_opens(id: str) -> None:
    assert capsule.opened(RING, id) == (HELD if id == capsule.sealed(RING, HELD, NONCE) else None)


tickets = mangled(
    st.just(msgspec.msgpack.encode(["place", "anonymous", b"d" * 32, 1e12])),
    [b"\x94", b"\xa5place", b"\xc0", b"\xdf\xff\xff\xff\xff", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"],
    st.binary(max_size=6),
)


@given(tickets, st.sampled_from(["parked call", "parked call", "session", "sse"]))
def test_no_ticket_but_ours_resumes_a_call(content: bytes, purpose: str) -> None:
    async def resume() -> Any:
        parking = Parking(lambda: RING, ttl_s=10, max_per_caller=1)
        return parking.resume(RING.seal(purpose, content, NONCE), ANONYMOUS, hashlib.sha256(b"").digest())

    try:
        asyncio.run(resume())
    except InvalidParams:
        return
    raise AssertionError("a ticket that nobody gave out was good")
