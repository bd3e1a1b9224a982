"""What a legacy session's id holds, sealed: enough to open the session again after a restart. PURE.

Source: MCP 2025-11-25, Transports, "Session Management" (an id is unguessable and visible ASCII).
"""

from typing import Final

import msgspec
from msgspec import Raw

from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.seal import KeyRing

PURPOSE: Final = "session"
MAX_HELLO_BYTES: Final = 2048  # ids stand in a header of every request, and proxies bound headers at 8 KiB
_HELLO: Final = ("protocolVersion", "capabilities", "clientInfo")  # all that a server needs of an `initialize`


class Capsule(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A session, as its client keeps it for us."""

    id: str
    caller: str
    view: str
    version: str
    issued_s: float  # seconds since 1970: replicas have no other clock in common
    hello: Raw  # `null` when it was too large to keep: then the session ends with the process that knows it


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Capsule)


def reduced(hello: Params) -> Raw:
    """The parameters of an `initialize` as far as they fit a capsule, else `null`."""
    kept = jsonrpc.encode({name: hello[name] for name in _HELLO if name in hello})
    return kept if len(bytes(kept)) <= MAX_HELLO_BYTES else jsonrpc.NULL


def sealed(ring: KeyRing, capsule: Capsule, nonce: bytes) -> str:
    """The session id that the client gets. *nonce* as KeyRing.seal wants it."""
    return ring.seal(PURPOSE, _encode(capsule), nonce)


def opened(ring: KeyRing, id: str) -> Capsule | None:
    """What the session id *id* holds, if a gateway with this key ring made it."""
    content = ring.open(PURPOSE, id)
    if content is None:
        return None
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # made by a version of Bascule that put something else into it
