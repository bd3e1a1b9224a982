"""What of a server's lists is approved: decided in memory, at the moment in which a list is learnt.

What people decide is on disk and read from there (store/definitions.py); what is taken or put before them here is
written behind, by `run`. Without records all of it lasts as long as the process, and nobody can decide anything.
A wording that was approved once stays approved. Where it cannot be told what was approved, nothing is.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.contract.model import Kind
from bascule.errors import BasculeError
from bascule.registry import pins
from bascule.registry.catalog import Item, Listing
from bascule.registry.pins import PinKind
from bascule.store.definitions import FIRST_SIGHT, MOST_PENDING, TRUST, Definitions, State, Wording
from bascule.store.generations import Generations
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions
from bascule.wire.canonical import canonical
from bascule.wire.jsonrpc import Params

log = logging.getLogger("bascule.policy")

Trust: TypeAlias = Literal["auto", "pin", "review"]
Key: TypeAlias = tuple[Kind, str]  # as pipeline/ways.py has it
_Thing: TypeAlias = tuple[PinKind, str]

MOST_THINGS: Final = 5_000  # of one server; what it lists beyond them is withheld
MOST_BYTES: Final = 64 * 1024 * 1024  # that are taken of one server without anybody's yes
MAX_DEFINITION: Final = 256 * 1024  # bytes; nobody could review a longer one
_EVERY_S: Final = 1.0
_PIN_KINDS: Final[Mapping[str, PinKind]] = {"tool": "tool", "prompt": "prompt", "template": "template"}
_LISTS: Final[tuple[tuple[str, PinKind, Kind], ...]] = (
    ("tools", "tool", "tool"),
    ("prompts", "prompt", "prompt"),
    ("templates", "template", "resource"),
)


class Standing(msgspec.Struct, frozen=True):
    """How far a server is trusted."""

    trust: Trust
    source: str  # pins.source_of its command or address
    trusted: bool = False  # the contracts that it declares are believed, so they are pinned too


def standing_of(options: StdioOptions | HttpOptions) -> Standing:
    """What the configuration of a server says of it."""
    said = (options.command, *options.args) if isinstance(options, StdioOptions) else (options.url,)
    return Standing(options.trust, pins.source_of(*said), options.trusted)


class Unapproved(msgspec.Struct, frozen=True):
    """Why a thing must not be called as it is listed now."""

    state: Literal["new", "changed", "denied"]
    reason: str  # for operators
    id: str = ""  # under which it waits for a decision, or got one; "" where nobody can decide
    told: str = ""  # what callers are told, who know the thing as it was; "": for them there is no such thing
    changed: tuple[str, ...] = ()  # names of the members that changed


class _Wording(msgspec.Struct):
    id: str
    state: State
    by: str
    text: bytes | None = None  # as long as it is not in the records


class _Shelf:
    """What is known of one server under one source."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.things: dict[_Thing, dict[str, _Wording]] = {}  # by digest, what was seen last at the end
        self.size_bytes = 0  # of what was taken at first sight
        self.last: dict[_Thing, str] = {}  # the digest that was judged last
        self.spelt: dict[tuple[int, _Thing], tuple[Params, str]] = {}  # the pins of what is listed now
        self.withheld: dict[Key, Unapproved] = {}
        self.unread = True  # the records are still to be read
        self.stale = False  # they are to be read again
        self.complaint = ""  # why they cannot be

    def note(self, thing: _Thing, digest: str, wording: _Wording, size_bytes: int) -> None:
        wordings = self.things.setdefault(thing, {})
        before = wordings.pop(digest, None)
        if wording.by == FIRST_SIGHT and (before is None or before.by != FIRST_SIGHT):
            self.size_bytes += size_bytes
        wordings[digest] = wording
        crowd = [each for each, known in wordings.items() if known.state == "pending" or known.by == TRUST]
        for each in crowd[:-MOST_PENDING]:
            del wordings[each]

    def forget_what_is_gone(self, listed: frozenset[_Thing]) -> None:
        """What nobody ever decided of and is listed no more: the names that a server makes up have no end."""
        for thing in [each for each in self.things if each not in listed]:
            if all(wording.state == "pending" for wording in self.things[thing].values()):
                del self.things[thing]
                self.last.pop(thing, None)


class Judge:
    """Decides what may be called of what servers list. In one event loop."""

    def __init__(
        self,
        definitions: Definitions | None,
        generations: Generations | None = None,
        *,
        relearn: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*generations* tells of decisions, also of other processes. *relearn* has all lists learnt again, as something
        else is approved than when they were."""
        self.relearn = relearn
        self._definitions = definitions
        self._generations = generations
        self._clock = clock
        self._standings: Mapping[str, Standing] = {}
        self._shelves: dict[str, _Shelf] = {}
        self._listings: dict[str, Sequence[Listing]] = {}
        self._waiting: dict[tuple[str, str, _Thing], dict[str, Wording]] = {}  # by digest
        self._wake = asyncio.Event()
        self._complaint = ""

    # ---- what the configuration says

    def adopt(self, standings: Mapping[str, Standing]) -> None:
        """The servers of the configuration, before their lists are learnt under it."""
        self._standings = dict(standings)
        kept = {s: shelf for s, shelf in self._shelves.items() if standings.get(s) == shelf.standing}
        self._shelves, self._listings = kept, {s: self._listings[s] for s in kept if s in self._listings}

    def pins(self, server: str) -> bool:
        """Whether anything of *server* may be withheld."""
        standing = self._standings.get(server)
        return standing is not None and standing.trust != "auto"

    # ---- judging

    def judge(self, server: str, listings: Sequence[Listing]) -> Mapping[Key, Unapproved]:
        """What must not be called of what *server* lists, in whatever era; one wording has to hold in all of them."""
        standing = self._standings.get(server)
        if standing is None:
            return {}
        shelf = self._shelf(server, standing)
        self._listings[server] = listings
        found: dict[Key, Unapproved] = {}
        spelt: dict[tuple[int, _Thing], tuple[Params, str]] = {}
        for place, kind, key, item in _pinned_items(listings):
            thing = (kind, item.key)
            judged = self._judged(server, shelf, thing, item, spelt, place)
            if judged is not None:
                found.setdefault(key, judged)
        shelf.spelt, shelf.withheld = spelt, found
        if len(shelf.things) > MOST_THINGS // 2:
            shelf.forget_what_is_gone(frozenset(thing for _, thing in spelt))
        return found

    def fits(self, server: str, kind: Kind, item: Item | None, listed: Params) -> bool:
        """Whether *listed*, which *server* shows a client, says nothing that *item*, which it showed us, does not.

        It may say less: servers leave out what an older revision does not know.
        """
        shelf = self._shelves.get(server)
        pinned: PinKind = kind if kind != "resource" else "template"
        if shelf is None or shelf.standing.trust == "auto" or (pinned == "template" and "uriTemplate" not in listed):
            return True  # plain resources come and go
        if item is not None and kind != "resource":
            listed = {**listed, "name": item.members["name"]}  # by which it was found; on /mcp it has another
        if item is not None and listed == item.members:
            return True
        return _was_approved(shelf, pinned, item, listed)

    def pending(self, server: str) -> int:
        """How many things of *server*, as it lists them now, wait for somebody to decide."""
        shelf = self._shelves.get(server)
        return 0 if shelf is None else sum(each.state != "denied" for each in shelf.withheld.values())

    def _judged(
        self,
        server: str,
        shelf: _Shelf,
        thing: _Thing,
        item: Item,
        spelt: dict[tuple[int, _Thing], tuple[Params, str]],
        place: int,
    ) -> Unapproved | None:
        trust = shelf.standing.trust
        if shelf.unread and trust != "auto":
            return Unapproved("new", "the records cannot be read now, and with them what was approved")
        old = shelf.spelt.get((place, thing))
        text = b""
        try:
            if old is not None and old[0] == item.members:
                digest = old[1]
            else:
                text = canonical(pins.pinned(thing[0], item.members, trusted=shelf.standing.trusted))
                digest = pins.digest_of(text)
        except ValueError as error:
            return None if trust == "auto" else Unapproved("new", f"its definition cannot be pinned: {error}")
        spelt[place, thing] = item.members, digest
        known = shelf.things.get(thing, {}).get(digest)
        if known is not None and shelf.last.get(thing) == digest and not _may_be_taken(shelf, thing, known):
            return self._verdict(shelf, thing, known, text)
        text = text or canonical(pins.pinned(thing[0], item.members, trusted=shelf.standing.trusted))
        if known is None and (crowded := _no_room(shelf, thing, text)):
            return None if trust == "auto" else Unapproved("new", crowded)
        return self._verdict(shelf, thing, self._noticed(server, shelf, thing, digest, text, known), text)

    def _noticed(
        self, server: str, shelf: _Shelf, thing: _Thing, digest: str, text: bytes, known: _Wording | None
    ) -> _Wording:
        """Take it, or put it before a reviewer, and have it written down; *known* is how it stood."""
        wording = _Wording(secrets.token_hex(16), "pending", "", text) if known is None else copy(known)
        if _may_be_taken(shelf, thing, wording):
            wording.state, wording.by = "approved", TRUST if shelf.standing.trust == "auto" else FIRST_SIGHT
        shelf.note(thing, digest, wording, len(text))
        shelf.last[thing] = digest
        self._write_later(server, shelf, thing, digest, text, wording)
        return wording

    def _write_later(
        self, server: str, shelf: _Shelf, thing: _Thing, digest: str, text: bytes, wording: _Wording
    ) -> None:
        if self._definitions is None:
            return
        now_s, source = self._clock(), shelf.standing.source
        waiting = self._waiting.setdefault((server, source, thing), {})
        for old in [each for each, seen in waiting.items() if seen.state == "pending"][:-MOST_PENDING]:
            del waiting[old]  # the disk has refused for long
        waiting[digest] = Wording(
            server=server,
            source=source,
            kind=thing[0],
            name=thing[1],
            digest=digest,
            id=wording.id,
            state=wording.state,
            definition=text,
            seen_at_s=now_s,
            decided_at_s=now_s if wording.state == "approved" else None,
            decided_by=wording.by,
        )
        self._wake.set()

    def _verdict(self, shelf: _Shelf, thing: _Thing, wording: _Wording, text: bytes) -> Unapproved | None:
        if wording.state == "approved":
            return None
        id = wording.id if self._definitions is not None else ""
        look = f"; bascule review show {id}" if id else "; there are no records, so that nobody can approve it"
        before = next((w for w in reversed(shelf.things[thing].values()) if w.state == "approved"), None)
        if before is None:
            said = "it is new, and waits for a review" if wording.state == "pending" else "it was denied"
            return Unapproved("new" if wording.state == "pending" else "denied", said + look, id)
        changed = self._changed(before, wording, text)
        what = " and ".join(changed) or "definition"
        waits = "an operator has to approve that first" if wording.state == "pending" else "that was denied"
        told = f"its {what} changed after it was approved, and {waits}{look if id else ''}"
        return Unapproved("changed" if wording.state == "pending" else "denied", told, id, told, changed)

    def _changed(self, before: _Wording, after: _Wording, text: bytes) -> tuple[str, ...]:
        try:
            old, new = self._text(before), text or self._text(after)
        except BasculeError:
            return ()
        return pins.members_changed(_decoded(old), _decoded(new)) if old and new else ()

    def _text(self, wording: _Wording) -> bytes:
        if wording.text is not None or self._definitions is None:
            return wording.text or b""
        found = self._definitions.find(wording.id)
        return found.definition if found else b""

    # ---- the records

    def _shelf(self, server: str, standing: Standing) -> _Shelf:
        shelf = self._shelves.get(server)
        if shelf is None or shelf.standing != standing:
            shelf = self._shelves[server] = _Shelf(standing)
        if shelf.unread:
            self._read(server, shelf)
        return shelf

    def _read(self, server: str, shelf: _Shelf) -> None:
        """What was decided, on top of what is known here and not written yet."""
        try:
            rows = self._definitions.known(server, shelf.standing.source) if self._definitions is not None else ()
        except BasculeError as error:
            if str(error) != shelf.complaint:
                log.error("what is approved of %r cannot be read, nothing new is let through: %s", server, error)
            shelf.complaint = str(error)
            return
        for row in rows:
            thing = (_PIN_KINDS[row.kind], row.name)
            known = shelf.things.get(thing, {}).get(row.digest)
            text = known.text if known is not None and known.id == row.id else None
            shelf.note(thing, row.digest, _Wording(row.id, row.state, row.decided_by, text), row.size_bytes)
            if shelf.unread:
                shelf.last[thing] = row.digest  # which has not to be written down again
        shelf.unread = shelf.stale = False
        shelf.complaint = ""

    async def run(self) -> None:
        """Until cancelled: write behind, and notice what was decided, here or elsewhere, within a second."""
        while True:
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if not await self.look():
                await asyncio.sleep(_EVERY_S)

    async def look(self) -> bool:
        """Write what waits, and count what was decided. False for what cannot be done now, and is done later."""
        corrected: set[str] = set()
        complaint = ""
        try:
            if self._generations is not None and "definitions" in self._generations.changed():
                for shelf in self._shelves.values():
                    shelf.stale = True
            corrected = await self._flushed()
        except BasculeError as error:
            complaint = str(error)
            if complaint != self._complaint:
                log.error("what servers list is not written down now: %s", error)
        self._complaint = complaint
        concerned = [s for s, shelf in self._shelves.items() if shelf.unread or shelf.stale or s in corrected]
        changed = [server for server in concerned if self._stands_otherwise(server)]
        if changed and self.relearn is not None:
            await self.relearn()
        return not complaint

    def _stands_otherwise(self, server: str) -> bool:
        """Whether something else is approved of what *server* lists, now that the records are read again."""
        shelf = self._shelves[server]
        before, listings = shelf.withheld, self._listings.get(server)
        self._read(server, shelf)
        return listings is not None and self.judge(server, listings) != before

    async def flush(self) -> None:
        """Write what waits, before the records are closed. Raises Unavailable."""
        await self._flushed()

    async def _flushed(self) -> set[str]:
        """Write what waits; the servers of which something stands otherwise than was thought."""
        self._wake.clear()
        taken = [(key, wording) for key, waiting in self._waiting.items() for wording in waiting.values()]
        if not taken or self._definitions is None:
            return set()
        stored = await self._definitions.see([wording for _, wording in taken])
        corrected = set()
        for (key, mine), theirs in zip(taken, stored, strict=True):
            waiting = self._waiting.get(key, {})
            if waiting.get(mine.digest) is mine:
                del waiting[mine.digest]
            if not waiting:
                self._waiting.pop(key, None)
            if (mine.state, mine.id) != (theirs.state, theirs.id):
                corrected.add(mine.server)
            self._written(mine)
        return corrected

    def _written(self, wording: Wording) -> None:
        shelf = self._shelves.get(wording.server)
        kind = _PIN_KINDS[wording.kind]
        known = shelf.things.get((kind, wording.name), {}).get(wording.digest) if shelf else None
        if known is not None:
            known.text = None


def _pinned_items(listings: Sequence[Listing]) -> Iterator[tuple[int, PinKind, Key, Item]]:
    for place, listing in enumerate(listings):
        for member, pinned, kind in _LISTS:
            for item in getattr(listing, member):
                yield place, pinned, (kind, item.key), item


def _is_decided(shelf: _Shelf, thing: _Thing) -> bool:
    """Whether anything was ever decided of it, by whomever: then no other wording of it is taken at first sight."""
    return any(wording.state != "pending" for wording in shelf.things.get(thing, {}).values())


def _may_be_taken(shelf: _Shelf, thing: _Thing, wording: _Wording) -> bool:
    """Whether it need not wait, as far as its server is trusted."""
    trust = shelf.standing.trust
    return wording.state == "pending" and (trust == "auto" or (trust == "pin" and not _is_decided(shelf, thing)))


def _no_room(shelf: _Shelf, thing: _Thing, text: bytes) -> str:
    """Why it is not even put before a reviewer; "" if it is."""
    if len(text) > MAX_DEFINITION:
        return f"its definition has {len(text)} bytes; more than {MAX_DEFINITION} nobody reviews"
    if thing not in shelf.things and len(shelf.things) >= MOST_THINGS:
        return f"its server has listed more than {MOST_THINGS} things"
    if shelf.size_bytes + len(text) > MOST_BYTES:
        return f"the definitions of its server have more than {MOST_BYTES} bytes"
    return ""


def _was_approved(shelf: _Shelf, kind: PinKind, item: Item | None, listed: Params) -> bool:
    """Whether *listed* is an approved wording, or a part of *item*."""
    try:
        shown = pins.pinned(kind, listed, trusted=shelf.standing.trusted)
        name = shown.get("uriTemplate" if kind == "template" else "name")
        wording = shelf.things.get((kind, str(name)), {}).get(pins.digest_of(canonical(shown)))
        if wording is not None or item is None:
            return wording is not None and wording.state == "approved"
        known = pins.pinned(kind, item.members, trusted=shelf.standing.trusted)
        return all(name in known and canonical(value) == canonical(known[name]) for name, value in shown.items())
    except ValueError:
        return False


def _decoded(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(text)
    return found
