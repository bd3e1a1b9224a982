"""The journal: what makes a call with an idempotency key happen at most once. The protocol, and the shapes in it.

States (docs/reliability.md). RESERVED: nothing has been sent. DISPATCHED: it may have been sent. AWAITING_INPUT:
its server has asked something. COMPLETED: its server has answered. UNKNOWN: it was sent, and nobody knows what
became of it. A call that its server never saw leaves no row.
`store/journal_sqlite.py` keeps it in SQLite; PostgreSQL will implement the same.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec
from msgspec import Raw

from bascule.store.record import Record

State: TypeAlias = Literal["RESERVED", "DISPATCHED", "AWAITING_INPUT", "COMPLETED", "UNKNOWN"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A call that asks to be the one call of its key."""

    caller: str
    key: str
    fingerprint: bytes  # SHA-256 of server, method, name and arguments
    method: str
    thing: str
    pin: bytes  # SHA-256 of the tool's definition
    trace_id: str
    round: bytes | None = None  # SHA-256 of the `requestState` that it brings back
    rerun: bool = False  # a call of unknown outcome may be made again: it does no harm


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row, as it stands."""

    id: str
    state: State
    fence: int
    caller: str
    method: str
    thing: str
    fingerprint: bytes
    pin: bytes
    trace_id: str
    created_at_s: float
    changed_at_s: float
    round: bytes | None
    era: str | None
    refused: bool
    has_result: bool
    result_bytes: int | None
    note: str


class Kept(msgspec.Struct, frozen=True):
    """A result, as it was given."""

    value: Raw
    refused: bool
    era: str


class Hold(msgspec.Struct, frozen=True):
    """The right to run the one call of a key, until it is settled or released."""

    lookup: bytes
    id: str
    fence: int
    before: State | None  # what a release goes back to; None: no row


class Yes(msgspec.Struct, frozen=True, kw_only=True):
    """A confirmation that is used up by the call that goes out with it (store/approvals.py)."""

    id: str
    caller: str
    thing: str
    pin: bytes
    fingerprint: bytes


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be on disk before the first byte goes out, all of it or nothing."""

    hold: Hold | None = None
    yes: Yes | None = None
    intent: Record | None = None
    arguments: bytes | None = None  # of the intent


class Journal(Protocol):
    """Records of calls with keys. All methods raise Unavailable when the records cannot be read or written."""

    async def find(self, caller: str, key: str) -> Entry | None:
        """The row of a caller's key; one that a dead process left behind counts as what is known of it."""
        ...

    async def changed(self, caller: str, key: str, within_s: float) -> None:
        """Wait until the call of that key has ended, no longer than *within_s*; less where that cannot be noticed."""
        ...

    async def reserve(self, wanted: Wanted) -> Hold | Entry:
        """The right to run the call; or the row that has it, or had it. Raises RateLimited at the quota."""
        ...

    async def start(self, start: Start) -> bool:
        """Make it durable that the call goes out now. False when its `yes` is of no use any more: nothing is kept then.

        Raises InFlight when its hold has been lost.
        """
        ...

    async def complete(self, hold: Hold, result: Kept, round: bytes | None = None) -> bool:
        """The server has answered; with *round*, only with a question. False when the hold was lost: not stored."""
        ...

    async def lose(self, hold: Hold) -> bool:
        """Nobody knows what became of it."""
        ...

    async def release(self, hold: Hold | None, yes: Yes | None = None) -> None:
        """Its server saw nothing of it: as if it had never been sent, and *yes* had not been used."""
        ...

    async def result(self, entry: Entry) -> Kept | None:
        """What the call brought; None when it was too large to be kept. Raises Internal for one that is damaged."""
        ...

    async def list_(self, *, state: State | None = None, caller: str | None = None, most: int = 100) -> Sequence[Entry]:
        """The newest first."""
        ...

    async def get(self, id: str) -> Entry | None: ...

    async def resolve(self, id: str, result: Kept | None, note: str) -> Entry | None:
        """A person says what became of a call of unknown outcome: it brought *result*, or (None) it was never run.

        None when there is no such row of unknown outcome.
        """
        ...
