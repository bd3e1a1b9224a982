"""L04: answers of a server that grow when they are unpacked. Nothing of them is taken, and Bascule stays as small."""

import gzip
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from foreign import Asked, far
from gateway import failure_of, gateway, remote

MIB: Final = 1 << 20
WITHIN_S: Final = 5.0
GROWTH_BYTES: Final = 64 * MIB


@cache
def _deflated(wbits: int) -> bytes:
    """A GiB of zeros, in a MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(1024)), packer.flush()])


def _gzip() -> bytes:
    return _deflated(16 + zlib.MAX_WBITS)


def _deflate() -> bytes:
    return _deflated(zlib.MAX_WBITS)


def _zstd() -> bytes:
    """128 MiB of zeros in 4 KB."""
    zstd = pytest.importorskip("backports.zstd", reason="part of Python from 3.14 on")
    packed: bytes = zstd.compress(bytes(128 * MIB), level=19)
    return packed


def _brotli() -> bytes:
    """The letter a, in a way of packing that nobody asks for."""
    return bytes.fromhex("0b00806103")


def _twice() -> bytes:
    return gzip.compress(gzip.compress(bytes(8 * MIB), mtime=0), mtime=0)


def _half() -> bytes:
    """Looks whole until it ends."""
    return gzip.compress(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}' + b" " * 10_000, mtime=0)[:-12]


BOMBS: Final[dict[str, tuple[str, str, Callable[[], bytes]]]] = {
    "L04": ("gzip", "application/json", _gzip),
    "L04a": ("gzip", "text/event-stream", _gzip),
    "L04b": ("deflate", "application/json", _deflate),
    "L04c": ("zstd", "application/json", _zstd),
    "L04d": ("br", "application/json", _brotli),
    "L04e": ("gzip, gzip", "application/json", _twice),
    "L04f": ("gzip", "application/json", lambda: b"{}"),
    "L04g": ("gzip", "application/json", _half),
}


@pytest.mark.parametrize("id", BOMBS)
async def test_an_answer_that_grows_is_a_server_that_broke_the_protocol(id: str) -> None:
    coding, type, packed = BOMBS[id]
    body = packed()

    async def explode(asked: Asked) -> None:
        await asked.reply(200, body, headers={"content-encoding": coding, "content-type": type})

    async with far(modern=True) as server, gateway({"far": remote(server.url, trust="auto")}) as bascule:
        client = bascule.modern()
        assert not (await client.call("far__echo", text="before")).get("isError")
        server.on["tools/call"] = explode
        size_bytes, began_s = _rss_bytes(), time.monotonic()
        failure = failure_of(await client.call("far__echo", text="x"))
        assert (failure["kind"], failure["code"]) == ("upstream_protocol", 50006)
        assert time.monotonic() - began_s < WITHIN_S
        assert _rss_bytes() - size_bytes < GROWTH_BYTES
        del server.on["tools/call"]
        assert not (await client.call("far__echo", text="after")).get("isError")


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
