"""`cache`: what a tool without a side effect answered just now is given again; equal calls at one time are one call.

Kept are finished results alone: no error, no question, nothing that belongs to a longer conversation. Who may have a
result was decided before, for each call: this stage stands behind authorization and the rules. Callers share a
result only if they hold the same scopes, known in the same way; where each has a server's process to itself, or the
server calls the result private, they share none. In the memory of this process.
Source: docs/caching.md; MCP 2026-07-28, "Caching".
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import cachetools
import msgspec
from msgspec import Raw

from bascule.call import Call, Forward, Result
from bascule.contract.model import CachePolicy, Contract
from bascule.errors import InvalidParams
from bascule.pipeline.fingerprint import pin_of
from bascule.pipeline.validate import arguments_of
from bascule.upstream.base import Upstream
from bascule.wire import jsonrpc, modern
from bascule.wire.canonical import canonical
from bascule.wire.versions import Era

Sharing: TypeAlias = Literal["shared", "per_caller", "per_session"]

# What each method may say for its result to be kept; with anything more it is another kind of call: a continuation
# (`requestState`, `inputResponses`), the beginning of a `task`, or something that nobody has thought of yet.
_SAID: Final = {
    "tools/call": frozenset({"name", "arguments", "_meta"}),
    "prompts/get": frozenset({"name", "arguments", "_meta"}),
    "resources/read": frozenset({"uri", "_meta"}),
}
# What of a request's `_meta` says nothing about its result. The rest a server might act on, so it is part of the key.
_NEUTRAL: Final = ("io.modelcontextprotocol/", "dev.bascule/")
_NEUTRAL_NAMES: Final = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})

_MOST_FAILURES: Final = 2  # of others that a call waits for before it goes by itself
_MOST_COUNTED: Final = 10_000  # tools; there are more only where callers make up their names
_LARGEST_PART: Final = 8  # no result takes more than the eighth part of all room
_ENTRY_BYTES: Final = 600  # that an entry takes beside its result, roughly


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A result, and for how long it is good for whom."""

    value: Raw
    server: str
    tool: str  # the logical id
    owner: str | None  # the only caller that may have it; None: whoever has the same key
    began_s: float
    until_s: float
    ttl_ms: int | None  # what its server says of it
    paid: bool  # whether it had a price

    @property
    def size_bytes(self) -> int:
        return len(bytes(self.value)) + _ENTRY_BYTES


class Counts(msgspec.Struct):
    """What became of the calls of one tool."""

    hits: int = 0
    misses: int = 0
    shared: int = 0  # with an equal call that was under way
    evictions: int = 0  # results that made room for others
    entries: int = 0  # that are kept now
    bytes: int = 0  # that they take


class Flight:
    """A call under way, and the equal calls that wait for it."""

    __slots__ = ("landed", "server", "tool")

    def __init__(self, server: str, tool: str) -> None:
        self.server = server
        self.tool = tool
        self.landed: asyncio.Future[Landing] = asyncio.get_running_loop().create_future()


# What the others hear: the result; that it cannot be shared; that the call failed; that its client gave it up.
Landing: TypeAlias = Kept | Literal["unshared", "failed", "given up"]


class Results:
    """What is kept, for all tools together, in so many bytes: what was used least of late goes first."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.flights: dict[bytes, Flight] = {}
        self._counts: dict[tuple[str, str], Counts] = {}
        self._serials: WeakKeyDictionary[Upstream, int] = WeakKeyDictionary()
        self._next = 0
        self._kept = _Bounded(max_bytes, clock, self._count)

    # ---- for the stages

    def counts(self, server: str, tool: str) -> Counts:
        found = self._counts.get((server, tool))
        if found is None:
            if len(self._counts) >= _MOST_COUNTED:
                self._counts = {key: counts for key, counts in self._counts.items() if counts.entries}
            found = self._counts[server, tool] = Counts()
        return found

    def serial(self, upstream: Upstream) -> int:
        """Which server this is: one that takes the place of another of the same name has a number of its own."""
        found = self._serials.get(upstream)
        if found is None:
            self._next += 1
            found = self._serials[upstream] = self._next
        return found

    def find(self, *keys: bytes) -> Kept | None:
        """The result under the first of *keys* that has one."""
        for key in keys:
            if (kept := self._kept.get(key)) is not None:
                return kept
        return None

    def take_off(self, key: bytes, server: str, tool: str) -> Flight:
        flight = self.flights[key] = Flight(server, tool)
        return flight

    def land(self, at: bytes, flight: Flight, landing: Landing, key: bytes) -> None:
        """End the *flight* that began at *at*; its result is kept under *key*, unless it was cleared meanwhile."""
        if self.flights.get(at) is flight:
            del self.flights[at]
            if isinstance(landing, Kept):
                self._kept.keep(key, landing)
        flight.landed.set_result(landing)

    # ---- for operators

    def adopt(self, max_bytes: int) -> None:
        """From now on hold at most so many bytes."""
        if max_bytes == self._kept.maxsize:
            return
        old = self._kept
        self._kept = _Bounded(max_bytes, self.clock, self._count)
        for key, kept in old.all():
            self._count(kept, -1)
            self._kept.keep(key, kept)

    def clear(self, *, server: str | None = None, tool: str | None = None) -> int:
        """Forget what *server*, *tool* (by its logical id) or everybody has answered; returns how many results.

        What is under way is neither kept nor shared with calls that begin later.
        """

        def fits(each: Kept | Flight) -> bool:
            return server in (None, each.server) and tool in (None, each.tool)

        gone = [key for key, kept in self._kept.all() if fits(kept)]
        for key in gone:
            self._kept.remove(key)
        self.flights = {key: flight for key, flight in self.flights.items() if not fits(flight)}
        return len(gone)

    def report(self) -> dict[str, Any]:
        """Statistics, in JSON."""
        self._kept.expire()
        total = Counts()
        for each in self._counts.values():
            for name in Counts.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(each, name))
        tools = [
            {"tool": tool, "server": server, **_told(counts)} for (server, tool), counts in sorted(self._counts.items())
        ]
        return {"max_bytes": int(self._kept.maxsize), **_told(total), "tools": tools}

    def _count(self, kept: Kept, by: int, *, evicted: bool = False) -> None:
        counts = self.counts(kept.server, kept.tool)
        counts.entries += by
        counts.bytes += by * kept.size_bytes
        counts.evictions += evicted


def _told(counts: Counts) -> dict[str, Any]:
    asked = counts.hits + counts.shared + counts.misses
    rate = round((counts.hits + counts.shared) / asked, 4) if asked else None
    return {**msgspec.structs.asdict(counts), "hit_rate": rate}


class _Count(Protocol):
    """Hears of each result that comes (1) and goes (-1)."""

    def __call__(self, kept: Kept, by: int, *, evicted: bool = False) -> None: ...


class _Bounded(cachetools.TLRUCache[bytes, Kept]):
    """As many results as there is room for, none longer than it is good."""

    def __init__(self, max_bytes: int, clock: Callable[[], float], count: _Count) -> None:
        super().__init__(max_bytes, ttu=lambda _, kept, __: kept.until_s, timer=clock, getsizeof=lambda k: k.size_bytes)
        self._count = count

    def keep(self, key: bytes, kept: Kept) -> None:
        with self.timer:  # time stands still: what was put in is in
            self.remove(key)
            if kept.size_bytes <= self.maxsize / _LARGEST_PART:
                self[key] = kept
            if key in self:
                self._count(kept, 1)

    def remove(self, key: bytes) -> None:
        kept = self.pop(key, None)
        if kept is not None:
            self._count(kept, -1)

    def all(self) -> list[tuple[bytes, Kept]]:
        """Everything, the order of use untouched."""
        with self.timer:  # time stands still: nothing expires in between
            return [(key, cachetools.Cache.__getitem__(self, key)) for key in self]

    # The library calls these two by itself.

    def popitem(self) -> tuple[bytes, Kept]:
        key, kept = super().popitem()
        self._count(kept, -1, evicted=True)
        return key, kept

    def expire(self, time: float | None = None) -> list[tuple[bytes, Kept]]:
        gone = list(super().expire(time))
        for _, kept in gone:
            self._count(kept, -1)
        return gone


class Cache:
    """Gives what is kept; of equal calls at one time lets one through, and the others have its result."""

    def __init__(
        self,
        contract: Contract,
        server: str,
        results: Results,
        *,
        sharing: Sharing = "shared",
        is_sound: Callable[[Result], bool] | None = None,
    ) -> None:
        """*contract* has a cache policy (`is_cached`). *sharing* is how its server's processes are shared.

        *is_sound* tells what the check of results would let pass: nothing else is kept.
        """
        assert contract.cache_policy is not None, "only what has a policy is cached"
        self._policy: CachePolicy = contract.cache_policy
        self._server = server
        self._tool = contract.id
        self._results = results
        self._sharing = sharing
        self._is_sound = is_sound
        self._about = f"{contract.kind} {contract.id}@{contract.version} {pin_of(contract).hex()}"

    @property
    def _counts(self) -> Counts:
        return self._results.counts(self._server, self._tool)

    async def __call__(self, call: Call, forward: Forward) -> Result:
        try:
            key = self._key(call)
        except (ValueError, InvalidParams):  # what has no canonical form: its server may know better
            key = None
        if key is None:
            return await forward(call)
        own = _hash(key, call.caller.name)
        at, failures, results = key, 0, self._results
        while True:
            if (kept := results.find(key, own)) is not None:
                self._counts.hits += 1
                return self._given(call, kept)
            flight = results.flights.get(at)
            if flight is None:
                self._counts.misses += 1
                return await self._lead(call, forward, at, key, own)
            if failures == _MOST_FAILURES or _wants_progress(call):
                self._counts.misses += 1
                return await forward(call)  # what others wait for would tell this client nothing while it runs
            landing = await asyncio.shield(flight.landed)
            if isinstance(landing, Kept) and landing.owner in (None, call.caller.name):
                self._counts.shared += 1
                return self._given(call, landing)
            if isinstance(landing, Kept):
                at = own  # it is for its caller alone
            elif landing == "unshared":
                failures = _MOST_FAILURES  # nor will the next be: all go at once, as if there were no cache
            elif landing == "failed":
                failures += 1

    async def _lead(self, call: Call, forward: Forward, at: bytes, key: bytes, own: bytes) -> Result:
        """Make the call, for all that wait for it: when it goes wrong, the first of them makes it anew."""
        flight = self._results.take_off(at, self._server, self._tool)
        landing: Landing = "failed"
        try:
            result = await forward(call)
            landing = self._kept(call, result) or "unshared"
            return result
        except asyncio.CancelledError:
            landing = "given up"
            raise
        finally:
            is_own = isinstance(landing, Kept) and landing.owner is not None
            self._results.land(at, flight, landing, own if is_own else key)

    # ---- results

    def _kept(self, call: Call, result: Result) -> Kept | None:
        """*result*, if others may have it too, or this caller again."""
        if result.refused or (self._is_sound is not None and not self._is_sound(result)):
            return None
        try:
            answer = _decoder.decode(result.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        ttl_s: float = self._policy.ttl_seconds
        ttl_ms = answer.ttlMs
        if ttl_ms is not None:
            ttl_s = min(ttl_s, ttl_ms / 1000)
        if answer.isError or answer.resultType != "complete" or ttl_s <= 0:
            return None
        # A legacy client's results have lost their server's hints: what may be private is not shared.
        private = answer.cacheScope not in (None, "public") or (
            call.era is Era.LEGACY and call.method == "resources/read"
        )
        now_s = self._results.clock()
        return Kept(
            value=result.value.copy(),  # without the message around it
            server=self._server,
            tool=self._tool,
            owner=call.caller.name if private else None,
            began_s=now_s,
            until_s=now_s + ttl_s,
            ttl_ms=ttl_ms,
            paid=result.cost_usd is not None,
        )

    def _given(self, call: Call, kept: Kept) -> Result:
        """What was kept, once more: it costs nothing, and warnings were about the call that it was made for."""
        call.trip.cached = True
        value = kept.value
        if kept.ttl_ms is not None:
            left_ms = max(0, kept.ttl_ms - round((self._results.clock() - kept.began_s) * 1000))
            value = jsonrpc.encode(jsonrpc.replaced(jsonrpc.members(value), ttlMs=left_ms))
        return Result(value, cost_usd=0.0 if kept.paid else None)

    # ---- keys

    def _key(self, call: Call) -> bytes | None:
        """What equal calls have in common; None for a call that is always made."""
        said = _SAID.get(call.method)
        if said is None or not call.params.keys() <= said or _is_unique(call):
            return None
        assert call.target is not None, "the resolve stage sets the target"
        whole: dict[str, Any] = {
            "about": self._about,
            "server": self._results.serial(call.target.upstream),
            "method": call.method,
            "revision": call.revision.version,
            "view": call.view,
            "scopes": sorted(call.caller.authority.held),
            "proof": call.caller.proof,
            "whose": self._whose(call),
            "fields": self._fields(call),
            "meta": _acted_on(call),
        }
        return _hash(canonical(whole))

    def _whose(self, call: Call) -> list[str]:
        """Who alone may have the result, where a server's process is not for everybody."""
        if self._sharing == "shared":
            return []
        session = call.session.id if call.session is not None and self._sharing == "per_session" else ""
        return [call.caller.name, session]

    def _fields(self, call: Call) -> Any:
        arguments = arguments_of(call)
        if call.method == "resources/read" or not self._policy.cache_key_fields:
            return arguments
        return [[name, *_at(arguments, name)] for name in self._policy.cache_key_fields]


def is_cached(contract: Contract) -> bool:
    """Whether results of *contract* may be kept at all."""
    return contract.cache_policy is not None and not contract.side_effect and not contract.require_key


def _is_unique(call: Call) -> bool:
    """Whether the call is one of its kind: the journal answers for its key, and a person's yes is for it alone."""
    asked = call.question is not None or call.yes is not None or call.wishes.token
    return bool(call.wishes.key or asked)


class _Answer(msgspec.Struct, frozen=True):
    """What a result says of itself; one that says it wrongly is not kept."""

    resultType: str = "complete"
    isError: bool = False
    ttlMs: int | None = None
    cacheScope: str | None = None


_decoder = msgspec.json.Decoder(_Answer)


def _at(arguments: Any, path: str) -> Iterator[Any]:
    """What the dotted *path* leads to, after the number of steps that could be taken: what is missing is no null.

    Where it leads into something that is no object, all of that counts: no two different values are taken for one.
    """
    parts = path.split(".")
    for steps, name in enumerate(parts):
        if not isinstance(arguments, dict):
            yield from (steps, arguments)
            return
        if name not in arguments:
            yield steps
            return
        arguments = arguments[name]
    yield from (len(parts), arguments)


def _acted_on(call: Call) -> Mapping[str, Any]:
    """What of `_meta` a server might act on: neither the protocol's own members nor those of traces."""
    return {
        name: jsonrpc.decode(raw)
        for name, raw in modern.meta_of(call.params).items()
        if name not in _NEUTRAL_NAMES and not name.startswith(_NEUTRAL)
    }


def _wants_progress(call: Call) -> bool:
    raw = call.params.get("_meta")
    return raw is not None and b"progressToken" in bytes(raw) and "progressToken" in modern.meta_of(call.params)


def _hash(*parts: bytes | str) -> bytes:
    """SHA-256 of *parts*, the length of each before it."""
    found = hashlib.sha256()
    for part in parts:
        text = part.encode() if isinstance(part, str) else part
        found.update(len(text).to_bytes(8, "big") + text)
    return found.digest()
