"""Where calls wait, at a server with a handshake, while their stateless client asks a person.

The client carries a sealed ticket away and brings it back with the answers. A ticket is good once,
for the same call of the same caller, for a while; everything else is refused here, before the server
hears of it. Source: MCP 2026-07-28, "Multi Round-Trip Requests", "Security Considerations".
"""

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from bascule.call import Call, Caller
from bascule.errors import InvalidParams, Overloaded
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.seal import NONCE_BYTES, KeyRing

_PURPOSE: Final = "parked call"
_EACH_ROUND: Final = frozenset({"_meta", "inputResponses", "requestState"})  # what a retry may change


class Guest(Protocol):
    """A call that can be parked."""

    caller: Caller

    async def give_up(self) -> None:
        """Nobody came back in time: end the call at the server. Never raises."""
        ...


class _Ticket(msgspec.Struct, frozen=True):
    """What the client carries, sealed."""

    place: str
    caller: str
    digest: bytes
    expires_at: float  # of the wall clock, in seconds: replicas have to agree on it


_tickets = msgspec.msgpack.Decoder(_Ticket)


class _Place:
    __slots__ = ("expiry", "guest")

    def __init__(self, guest: Guest, expiry: asyncio.TimerHandle) -> None:
        self.guest = guest
        self.expiry = expiry


class Parking:
    """The parked calls of this process, bounded per caller and in time."""

    def __init__(self, ring: Callable[[], KeyRing], *, ttl_s: float, max_per_caller: int) -> None:
        """*ring* gives the present keys: the configuration may rotate them."""
        self.ttl_s = ttl_s
        self.max_per_caller = max_per_caller
        self._ring = ring
        self._places: dict[str, _Place] = {}
        self._held: Counter[str] = Counter()  # by caller's name
        self._leaving: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._places)

    def park(self, guest: Guest, digest: bytes) -> str:
        """Keep *guest* until a call of the same *digest* comes back with the ticket that this returns.

        Raises Overloaded when its caller has as many parked calls as it may.
        """
        caller = guest.caller.name
        if self._held[caller] >= self.max_per_caller:
            raise Overloaded(
                f"{self.max_per_caller} calls of this caller wait for answers, as many as parking.max_per_caller allows"
            ).half_way()
        place = secrets.token_urlsafe(12)  # a new one each time, so that no ticket is good twice
        expiry = asyncio.get_running_loop().call_later(self.ttl_s, self._expire, place)
        self._places[place] = _Place(guest, expiry)
        self._held[caller] += 1
        ticket = _Ticket(place, caller, digest, time.time() + self.ttl_s)
        return self._ring().seal(_PURPOSE, msgspec.msgpack.encode(ticket), secrets.token_bytes(NONCE_BYTES))

    def resume(self, state: str, caller: Caller, digest: bytes) -> Guest:
        """The call that *state* is the ticket of; it is parked no longer. Raises InvalidParams for any other text."""
        ticket = self._opened(state)
        if ticket is None or ticket.caller != caller.name:
            # Somebody else's looks like nobody's.
            raise InvalidParams("requestState is not one that was given to this caller here")
        if ticket.digest != digest:
            raise InvalidParams("requestState belongs to another call: send the same call again, with the answers")
        if time.time() > ticket.expires_at:
            raise InvalidParams(
                f"requestState has expired: the call was given up after {self.ttl_s:g} s; start it anew"
            )
        if ticket.place not in self._places:
            raise InvalidParams("requestState was used before, or its call waits in another process; start it anew")
        return self._free(ticket.place).guest

    def _opened(self, state: str) -> _Ticket | None:
        sealed = self._ring().open(_PURPOSE, state)
        try:
            return _tickets.decode(sealed) if sealed is not None else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # of a version of Bascule that put something else into it

    async def close(self) -> None:
        """Give up every parked call: the process ends."""
        for name in list(self._places):
            self._expire(name)
        await asyncio.gather(*self._leaving)

    def _expire(self, name: str) -> None:
        leaving = asyncio.ensure_future(self._free(name).guest.give_up())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _free(self, name: str) -> _Place:
        place = self._places.pop(name)
        place.expiry.cancel()
        caller = place.guest.caller.name
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        return place


def digest_of(server: str, call: Call, params: Params) -> bytes:
    """What makes two requests the same call: server, method and parameters, however they are spelt."""
    said = {key: value for key, value in params.items() if key not in _EACH_ROUND}
    canonical: bytes
    try:
        # Clients that decode and encode between rounds may change the order of members and their spacing.
        canonical = msgspec.json.encode(jsonrpc.decode(jsonrpc.encode(said)), order="deterministic")
    except InvalidParams:  # numbers that Python has no value for: compared as they are written
        canonical = bytes(jsonrpc.encode(said))
    return hashlib.sha256(b"\0".join((server.encode(), call.method.encode(), canonical))).digest()
