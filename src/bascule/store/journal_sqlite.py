"""The journal in SQLite. Every method is one transaction, or one short read.

A row belongs to the process that has `boot`, and within it to whoever has its latest `fence`: one that comes
late with an older fence changes nothing. A process that died gives up its rows: what it had only reserved may
be run by the next, what it had sent is of unknown outcome.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Raw

from bascule.errors import InFlight, Internal, RateLimited
from bascule.store import approvals, moment
from bascule.store.boots import Boot
from bascule.store.journal import Entry, Hold, Kept, Start, State, Wanted, Yes
from bascule.store.moment import Moment
from bascule.store.options import JournalOptions
from bascule.store.record import Record
from bascule.store.vault import Vault
from bascule.store.writer import Writer

UNKNOWN_KEPT_S: Final = 30 * 86_400.0  # time enough for a person to find out what became of a call
_LOOK_EVERY_S: Final = 0.1  # at a call that runs in another process
_RESERVED_S: Final = 120.0  # a reservation is followed by its start within milliseconds
_ENTRY: Final = Entry.__struct_fields__
_COLUMNS: Final = (
    *("lookup", "id", "caller", "method", "thing", "fingerprint", "state", "fence", "boot", "pin", "trace_id"),
    *("created_at_s", "changed_at_s", "machine", "changed_up_s", "round", "era", "refused", "result_bytes", "note"),
)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)}, result IS NOT NULL AS has_result FROM journal"
_CHANGED: Final = "changed_at_s = ?, machine = ?, changed_up_s = ?"
_INSERT: Final = (
    "INSERT INTO journal (lookup, id, caller, method, thing, fingerprint, state, fence, boot, pin, trace_id,"
    " created_at_s, changed_at_s, machine, changed_up_s, refused, note)"
    " VALUES (?, ?, ?, ?, ?, ?, 'RESERVED', ?, ?, ?, ?, ?, ?, ?, ?, 0, '') ON CONFLICT (lookup) DO NOTHING"
)
# Retention is counted by the machine's clock where the row is of this run of the machine (moment.py).
_AGE: Final = "(CASE WHEN machine = ? AND machine <> '' THEN ? - changed_up_s ELSE ? - changed_at_s END)"


class Auditing(Protocol):
    """What the journal needs of the audit."""

    def append(self, connection: sqlite3.Connection, record: Record, arguments: bytes | None = None) -> None: ...


class SqliteJournal:
    """`store.journal.Journal` over the one writer of a state folder."""

    def __init__(
        self,
        writer: Writer,
        vault: Vault,
        boot: Boot,
        options: JournalOptions,
        audit: Auditing | None,
        clock: Callable[[], Moment] = moment.now,
    ) -> None:
        """*audit*: None where no records of calls are kept."""
        self.options = options
        self._writer = writer
        self._vault = vault
        self._boot = boot
        self._audit = audit
        self._clock = clock
        # The calls that run here now, by their lookup, each with its fence. Written by the writer's thread, in the
        # very transaction that gives the right to run: of a hundred first sends only one may find nobody there.
        self._held: dict[bytes, int] = {}
        self._ended: dict[bytes, asyncio.Event] = {}  # for those who wait for a call of somebody else

    # ---- what became of a call

    async def find(self, caller: str, key: str) -> Entry | None:
        rows = self._writer.read(f"{_SELECT} WHERE lookup = ?", (self._vault.lookup(caller, key),))
        row = _Row(rows[0]) if rows else None
        if row is None or self._is_over(row) or self._is_abandoned(row):
            return None
        return self._entry(row)

    async def result(self, entry: Entry) -> Kept | None:
        rows = self._writer.read("SELECT lookup, result, result_hash FROM journal WHERE id = ?", (entry.id,))
        if not rows or rows[0][1] is None:
            return None
        lookup, sealed, expected = rows[0]
        value = self._vault.open(_purpose(lookup), sealed)
        if not hmac.compare_digest(_digest(value, refused=entry.refused), expected):
            raise Internal(f"the journal's row {entry.id} is damaged; its result is not used")
        return Kept(Raw(value), entry.refused, entry.era or "")

    # ---- one call

    async def reserve(self, wanted: Wanted) -> Hold | Entry:
        lookup = self._vault.lookup(wanted.caller, wanted.key)
        return await self._writer.write(lambda connection: self._reserved(connection, lookup, wanted), durable=False)

    def _reserved(self, connection: sqlite3.Connection, lookup: bytes, wanted: Wanted) -> Hold | Entry:
        reserved = self._reserve(connection, lookup, wanted)
        if isinstance(reserved, Hold):
            self._held[lookup] = reserved.fence
        return reserved

    def _reserve(self, connection: sqlite3.Connection, lookup: bytes, wanted: Wanted) -> Hold | Entry:
        now = self._clock()
        row = self._row(connection, lookup)
        if row is not None and not self._is_over(row):
            return self._taken_over(connection, row, wanted, now) or self._entry(row)
        if row is not None:
            connection.execute("DELETE FROM journal WHERE lookup = ?", (lookup,))
        self._check_quota(connection, wanted.caller)
        # Random, so that no hold on a row that was deleted fits the one that comes after it.
        fence = secrets.randbits(48)
        id = f"j{secrets.token_hex(10)}"
        values = (lookup, id, wanted.caller, wanted.method, wanted.thing, wanted.fingerprint, fence, self._boot.id)
        connection.execute(
            _INSERT, (*values, wanted.pin, wanted.trace_id, now.wall_s, now.wall_s, now.machine, now.up_s)
        )
        return Hold(lookup, id, fence, None)

    def _taken_over(self, connection: sqlite3.Connection, row: "_Row", wanted: Wanted, now: Moment) -> Hold | None:
        """The right to go on with a call that is there already, under a new fence; None if there is no such right."""
        state = self._state(row)
        if self._is_abandoned(row):
            return self._adopted(connection, row, wanted, now)
        if row.fingerprint != wanted.fingerprint:
            return None
        if state == "UNKNOWN" and wanted.rerun:
            before: State = "UNKNOWN"
        elif state == "AWAITING_INPUT" and wanted.round is not None and row.round == wanted.round:
            before = "AWAITING_INPUT"
        else:
            return None
        # What had been sent once stays in its state until it is sent again: a crash in between must not forget it.
        connection.execute(
            f"UPDATE journal SET state = ?, fence = ?, boot = ?, {_CHANGED} WHERE lookup = ?",
            (before, row.fence + 1, self._boot.id, now.wall_s, now.machine, now.up_s, row.lookup),
        )
        return Hold(row.lookup, row.id, row.fence + 1, before)

    def _adopted(self, connection: sqlite3.Connection, row: "_Row", wanted: Wanted, now: Moment) -> Hold:
        """The row of whoever died before it sent anything, for another call: only its fence goes on."""
        connection.execute(
            "UPDATE journal SET fingerprint = ?, method = ?, thing = ?, pin = ?, trace_id = ?, fence = ?, boot = ?,"
            f" {_CHANGED} WHERE lookup = ?",
            (
                *(wanted.fingerprint, wanted.method, wanted.thing, wanted.pin, wanted.trace_id, row.fence + 1),
                *(self._boot.id, now.wall_s, now.machine, now.up_s, row.lookup),
            ),
        )
        return Hold(row.lookup, row.id, row.fence + 1, None)

    def _check_quota(self, connection: sqlite3.Connection, caller: str) -> None:
        (rows,) = connection.execute("SELECT count(*) FROM journal WHERE caller = ?", (caller,)).fetchone()
        if rows >= self.options.max_per_caller:
            raise RateLimited(
                f"{rows} calls with a key of this caller are on record, as many as journal.max_per_caller allows;"
                f" they are forgotten {self.options.keep_s / 3600:g} h after they ended",
                retry_after_s=60.0,
                limit="journal",
            )

    async def start(self, start: Start) -> bool:
        return await self._writer.write(lambda connection: self._started(connection, start), durable=True)

    def _started(self, connection: sqlite3.Connection, start: Start) -> bool:
        now = self._clock()
        if start.yes is not None and not approvals.use(connection, start.yes, now.wall_s):
            return False
        if start.hold is not None and not self._change(
            connection, start.hold, "DISPATCHED", now, "state IN ('RESERVED', 'UNKNOWN', 'AWAITING_INPUT')"
        ):
            raise InFlight("the same call has been sent again meanwhile, and that one runs")
        if start.intent is not None and self._audit is not None:
            self._audit.append(connection, start.intent, start.arguments)
        return True

    async def complete(self, hold: Hold, result: Kept, round: bytes | None = None) -> bool:
        state: State = "COMPLETED" if round is None else "AWAITING_INPUT"
        return await self._settle(hold, lambda connection: self._completed(connection, hold, state, result, round))

    def _completed(
        self, connection: sqlite3.Connection, hold: Hold, state: State, result: Kept, round: bytes | None
    ) -> bool:
        if not self._change(connection, hold, state, self._clock()):
            return False
        value = bytes(result.value)
        keeps = len(value) <= self.options.max_result_bytes
        connection.execute(
            "UPDATE journal SET round = ?, era = ?, refused = ?, result = ?, result_hash = ?, result_bytes = ?"
            " WHERE lookup = ?",
            (
                *(round, result.era, result.refused, self._vault.seal(_purpose(hold.lookup), value) if keeps else None),
                *(_digest(value, refused=result.refused), len(value), hold.lookup),
            ),
        )
        return True

    async def lose(self, hold: Hold) -> bool:
        return await self._settle(hold, lambda connection: self._change(connection, hold, "UNKNOWN", self._clock()))

    async def _settle(self, hold: Hold, work: Callable[[sqlite3.Connection], bool]) -> bool:
        try:
            return await self._writer.write(work, durable=True)
        finally:
            # Where even this could not be written, the row is of unknown outcome: it is held by nobody.
            self._let_go(hold)

    async def changed(self, caller: str, key: str, within_s: float) -> None:
        lookup = self._vault.lookup(caller, key)
        if lookup not in self._held:  # it runs in another process, which tells nobody
            await asyncio.sleep(min(within_s, _LOOK_EVERY_S))
            return
        ended = self._ended.setdefault(lookup, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), within_s)

    def _let_go(self, hold: Hold) -> None:
        ended = self._ended.pop(hold.lookup, None)
        if ended is not None:
            ended.set()
        if self._held.get(hold.lookup) == hold.fence:
            del self._held[hold.lookup]

    async def release(self, hold: Hold | None, yes: Yes | None = None) -> None:
        def released(connection: sqlite3.Connection) -> None:
            if yes is not None:
                approvals.unuse(connection, yes.id)
            if hold is not None and hold.before is None:
                connection.execute("DELETE FROM journal WHERE lookup = ? AND fence = ?", (hold.lookup, hold.fence))
            elif hold is not None:
                # Not of what a person has said meanwhile: that stands.
                self._change(connection, hold, hold.before or "UNKNOWN", self._clock(), "state <> 'COMPLETED'")

        try:
            await self._writer.write(released, durable=False)
        finally:
            if hold is not None:
                self._let_go(hold)

    def _change(
        self, connection: sqlite3.Connection, hold: Hold, state: State, now: Moment, where: str = "state = 'DISPATCHED'"
    ) -> bool:
        changed = connection.execute(
            f"UPDATE journal SET state = ?, {_CHANGED} WHERE lookup = ? AND fence = ? AND {where}",
            (state, now.wall_s, now.machine, now.up_s, hold.lookup, hold.fence),
        )
        return changed.rowcount == 1

    # ---- for operators

    async def list_(self, *, state: State | None = None, caller: str | None = None, most: int = 100) -> Sequence[Entry]:
        where, values = ["1"], list[Any]()
        if caller is not None:
            where.append("caller = ?")
            values.append(caller)
        if state is not None:  # a row that is sent may be of unknown outcome by now
            where.append("state IN (?, 'DISPATCHED')" if state == "UNKNOWN" else "state = ?")
            values.append(state)
        # Read in the event loop's thread, so never more than is wanted.
        sql = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY created_at_s DESC LIMIT ? OFFSET ?"
        found: list[Entry] = []
        read = 0
        while len(found) < most and (rows := self._writer.read(sql, (*values, most, read))):
            read += len(rows)
            entries = (self._entry(row) for each in rows if not self._is_over(row := _Row(each)))
            found += [entry for entry in entries if state in (None, entry.state)]
        return found[:most]

    async def get(self, id: str) -> Entry | None:
        rows = self._writer.read(f"{_SELECT} WHERE id = ?", (id,))
        return self._entry(_Row(rows[0])) if rows else None

    async def resolve(self, id: str, result: Kept | None, note: str) -> Entry | None:
        def resolved(connection: sqlite3.Connection) -> Entry | None:
            found = connection.execute(f"{_SELECT} WHERE id = ?", (id,)).fetchone()
            row = None if found is None else _Row(found)
            if row is None or self._state(row) != "UNKNOWN":
                return None
            hold = Hold(row.lookup, row.id, row.fence, None)
            if result is None:
                connection.execute("DELETE FROM journal WHERE lookup = ?", (row.lookup,))
                return self._entry(row)
            connection.execute("UPDATE journal SET state = 'DISPATCHED', note = ? WHERE lookup = ?", (note, row.lookup))
            self._completed(connection, hold, "COMPLETED", result, None)
            return self._entry(_Row(connection.execute(f"{_SELECT} WHERE id = ?", (id,)).fetchone()))

        return await self._writer.write(resolved, durable=True)

    # ---- upkeep

    async def sweep(self) -> tuple[int, int]:
        """(calls of dead processes that are of unknown outcome from now on, rows that were forgotten)."""
        return await self._writer.write(self._swept, durable=False)

    def _swept(self, connection: sqlite3.Connection) -> tuple[int, int]:
        now = self._clock()
        running = connection.execute("SELECT DISTINCT boot FROM journal WHERE state IN ('RESERVED', 'DISPATCHED')")
        dead = [boot for (boot,) in running.fetchall() if not self._boot.is_alive(boot)]
        lost = 0
        for boot in dead:
            lost += connection.execute(
                f"UPDATE journal SET state = 'UNKNOWN', {_CHANGED} WHERE boot = ? AND state = 'DISPATCHED'",
                (now.wall_s, now.machine, now.up_s, boot),
            ).rowcount
            connection.execute("DELETE FROM journal WHERE boot = ? AND state = 'RESERVED'", (boot,))
        age = (now.machine, now.up_s, now.wall_s)
        over = f"(state IN ('COMPLETED', 'AWAITING_INPUT') AND {_AGE} >= ?) OR (state = 'UNKNOWN' AND {_AGE} >= ?)"
        forgotten = connection.execute(
            f"DELETE FROM journal WHERE {over}",
            (*age, self.options.keep_s, *age, max(UNKNOWN_KEPT_S, self.options.keep_s)),
        )
        return lost, forgotten.rowcount

    # ---- rows

    def _row(self, connection: sqlite3.Connection, lookup: bytes) -> "_Row | None":
        found = connection.execute(f"{_SELECT} WHERE lookup = ?", (lookup,)).fetchone()
        return None if found is None else _Row(found)

    def _is_held(self, row: "_Row") -> bool:
        """Whether somebody still works at it."""
        if row.state == "RESERVED" and self._age(row) > _RESERVED_S:
            return False  # it will find its fence gone, should it ever wake up
        return self._held.get(row.lookup) == row.fence if row.boot == self._boot.id else self._boot.is_alive(row.boot)

    def _age(self, row: "_Row") -> float:
        return self._clock().since(row.changed_at_s, row.machine, row.changed_up_s)

    def _state(self, row: "_Row") -> State:
        return "UNKNOWN" if row.state == "DISPATCHED" and not self._is_held(row) else row.state

    def _is_abandoned(self, row: "_Row") -> bool:
        """Whether whoever reserved it died before it sent anything: as if it had never been seen."""
        return row.state == "RESERVED" and not self._is_held(row)

    def _is_over(self, row: "_Row") -> bool:
        """Whether its time is over: as if it had never been seen."""
        state = self._state(row)
        if state in ("RESERVED", "DISPATCHED"):
            return False
        keep_s = max(UNKNOWN_KEPT_S, self.options.keep_s) if state == "UNKNOWN" else self.options.keep_s
        return self._age(row) >= keep_s

    def _entry(self, row: "_Row") -> Entry:
        values = {name: getattr(row, name) for name in _ENTRY if name not in ("state", "refused", "has_result")}
        return Entry(**values, state=self._state(row), refused=bool(row.refused), has_result=bool(row.has_result))


class _Row:
    """A row as it was read."""

    __slots__ = (*_COLUMNS, "has_result")
    lookup: bytes
    id: str
    fingerprint: bytes
    state: State
    fence: int
    boot: str
    changed_at_s: float
    machine: str
    changed_up_s: float
    round: bytes | None
    refused: int
    has_result: int

    def __init__(self, values: Sequence[Any]) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            setattr(self, name, value)


def _purpose(lookup: bytes) -> str:
    return f"result of {lookup.hex()}"


def _digest(value: bytes, *, refused: bool) -> bytes:
    return hashlib.sha256((b"refused" if refused else b"result") + value).digest()
