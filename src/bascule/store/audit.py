"""The audit: every record gets its number, its place in the chain, and lies on disk before anybody could miss it.

`post` is for the event loop, and costs it next to nothing: a record is encoded, hashed and written by the writer's
thread, with whatever is written next, at the latest 200 ms later. `append` puts one into a transaction of somebody
else's, such as the one that lets a call go out. Nothing is ever dropped in silence: whoever makes records waits
for `room`, and what could not be taken in is counted, and the number is recorded.
Several processes may write to one database: each transaction begins where the last one of anybody has ended.
Source: security.md §2.9.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from bascule.errors import Unavailable
from bascule.store import anchor, chain, redaction, signing
from bascule.store.chain import GENESIS, Hash, Head
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.writer import Writer
from bascule.unhurried import unhurried
from bascule.wire.canonical import canonical, flat

log = logging.getLogger("bascule.store")

BATCH: Final = 500  # records that are written without waiting for more
FLUSH_S: Final = 0.2  # how long a record may wait for others
QUEUE: Final = 10_000  # records; a call that comes on top has to wait
QUEUE_BYTES: Final = 64 * 1024 * 1024  # of arguments
HEAD_EVERY: Final = 1000  # entries
HEAD_EVERY_S: Final = 60.0
MAX_TEXT_CHARS: Final = 1024  # of a field: names that clients make up are as long as they like

_INTO: Final = "INSERT INTO audit (seq, at_us, kind, trace_id, call, caller, thing, outcome, entry, hash) VALUES "
_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT: Final = _INTO + _ROW
# After each statement the thread has to get the interpreter back from the event loop's, which costs both of them
# more than the row does: so that many rows are one statement.
_MANY: Final = 50
_INSERT_MANY: Final = _INTO + ", ".join([_ROW] * _MANY)
_SINCE_HEAD: Final = "SELECT seq, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
_UNFINISHED: Final = (
    "SELECT entry FROM audit AS meant WHERE kind = 'intent' AND NOT EXISTS (SELECT 1 FROM audit AS ended"
    " WHERE ended.call = meant.call AND ended.kind IN ('call', 'outcome_recovered')) ORDER BY seq"
)

# What the end of a call has from its intent, when nobody else can say it any more.
_OF_THE_CALL: Final = ("call", "trace_id", "caller", "proof", "method", "thing", "version", "server", "era", "session",
                       "journal")  # fmt: skip

Posted: TypeAlias = tuple[Record, bytes | None]


class Sums(Protocol):
    """What is added up of records (store/usage.py), in the transactions that write them."""

    @property
    def behind(self) -> bool:
        """Whether something is not written yet."""
        ...

    def add(self, connection: sqlite3.Connection, records: Sequence[Record], before: int, after: int) -> None:
        """*records* are the entries after *before*, up to *after*."""
        ...

    def flush(self, connection: sqlite3.Connection) -> bool: ...

    def undone(self) -> None: ...


class _Place(NamedTuple):
    """Where the chain has come to."""

    seq: int = 0
    hash: Hash = GENESIS
    signed: int = 0  # the last entry that a head covers


class Audit:
    """`writer.Bulk` for the records of calls."""

    def __init__(
        self,
        writer: Writer,
        state: Path,
        options: AuditOptions,
        *,
        boot: str = "",
        sums: Sums | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*boot*: the id of this process, for its intents. Raises ConfigInvalid for a key that cannot be used."""
        self._writer = writer
        self._sums = sums
        self._options = options
        self._hide = frozenset(name.lower() for name in options.redact)
        self._boot = boot
        self._clock = clock
        self._key = signing.read(state) or signing.create(state)
        self.key_id = chain.key_id(self._key.public_key())
        self.anchor = anchor.path_of(options, state)
        self.anchor_problem: str | None = None  # why heads are not copied; None while they are
        self.unrecorded = 0  # records that nobody waited with, and that found no room; since the start
        # Of the loop's thread. Each number is written by one thread alone.
        self._waiting: deque[Posted] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._since_flush = 0
        self._bytes_in = 0
        self._missed = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = asyncio.Event()
        self._crowded = False  # somebody waits for room
        # Of the writer's thread.
        self._bytes_out = 0
        self._version: int | None = None  # of the database, as we left it
        self._place = self._began_at = self._kept = _Place()  # as it is, was before this transaction, is on disk
        self._taken: list[Posted] = []
        self._signed: list[Head] = []
        self._behind: list[Head] = []  # signed, and not in the anchor yet
        self._sign_now = self._signs = False  # wanted; being done
        self._ending = False

    # ---- in the event loop

    def post(self, record: Record, arguments: bytes | None = None) -> None:
        """Take *record* in; its digest of *arguments*, raw JSON, is computed later. Never waits, never raises."""
        waiting = self._waiting
        if len(waiting) >= 2 * QUEUE:  # half of it is for calls that have been let in
            self._miss()
            return
        waiting.append((record, arguments))
        if arguments is not None:
            self._bytes_in += len(arguments)
        self._since_flush += 1
        if self._since_flush >= BATCH:
            self._flush()
        elif self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    @property
    def full(self) -> bool:
        """Whether a call that is still to begin has to wait for `room`."""
        return len(self._waiting) >= QUEUE or self._bytes_in - self._bytes_out >= QUEUE_BYTES

    async def room(self) -> None:
        """Wait until there is room for the record of one more call. Raises Unavailable if there will be none."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._crowded = True  # before looking: or the writer makes room, and tells nobody
            self._room.clear()
            if not self.full:
                return
            if self.problem is not None:
                raise Unavailable(f"{self.problem}; no more calls are taken in before they can be recorded")
            self._writer.wake()
            await self._room.wait()

    @property
    def problem(self) -> str | None:
        """Why the audit cannot be written now, so that what must be recorded is refused; None while it can be."""
        if self._writer.broken is not None:
            return f"the audit cannot be written: {self._writer.broken}"
        if self._options.mode == "strict" and self.anchor_problem is not None:
            return f"the heads of the audit cannot be copied: {self.anchor_problem}"
        return None

    async def start(self, alive: Callable[[str], bool]) -> None:
        """Begin where the chain has ended; give calls that died with another process their end.

        *alive* says of the id of a boot whether it is. To be called once the writer runs. Raises Unavailable if
        nothing can be written.
        """
        await self._writer.write(lambda connection: self.recover(connection, alive), durable=True)

    async def keep_heads(self) -> None:
        """Sign what has come since the last head, every minute, for as long as the process lives."""
        while True:
            await asyncio.sleep(HEAD_EVERY_S)
            self.sign_soon()

    def sign_soon(self) -> None:
        """Sign with the next transaction, which is now; and copy what the anchor lacks."""
        self._sign_now = True
        self._writer.wake()

    def stop(self) -> None:
        """Nothing will be posted any more. To be called before the writer is closed, which writes the last head."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._note_missed()
        self._ending = True

    def close(self) -> None:
        """The writer is closed: whatever it could not write is lost, and this says so."""
        if lost := len(self._waiting) + self._missed:
            log.critical("%d records of the audit could not be written, and are lost", lost)

    def status(self) -> dict[str, Any]:
        """For /status."""
        return {
            "mode": self._options.mode,
            "entries": self._kept.seq,
            "signed": self._kept.signed,
            "queued": len(self._waiting),
            "unrecorded": self.unrecorded,
            "problem": self.problem,
            "anchor": str(self.anchor),
            "anchor_problem": self.anchor_problem,
        }

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._since_flush = 0
        self._note_missed()
        self._writer.wake()

    def _note_missed(self) -> None:
        """Once there is room again: how many there are that nobody will ever read."""
        if self._missed and len(self._waiting) < QUEUE:
            missed, self._missed = self._missed, 0
            self._waiting.append((self._noted(f"{missed} records found no room in the queue, and are missing"), None))

    def _miss(self) -> None:
        if not self._missed:
            log.critical("the queue of the audit is full: records of requests that were refused are being counted only")
        self._missed += 1
        self.unrecorded += 1

    def _let_in(self) -> None:
        self._crowded = False
        self._room.set()

    # ---- in the writer's thread: writer.Bulk

    def waiting(self) -> bool:
        place = self._place
        signs = self._sign_now or self._ending
        if self._ending and self._sums is not None and self._sums.behind:
            return True
        return bool(self._waiting) or (signs and (place.seq > place.signed or bool(self._behind)))

    def begin(self, connection: sqlite3.Connection) -> None:
        # Source: SQLite, "PRAGMA data_version": another number when another connection has committed.
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            is_first = self._version is None
            self._version = version
            self._look_again(connection, is_first=is_first)
        self._began_at = self._place

    def append(self, connection: sqlite3.Connection, record: Record, arguments: bytes | None = None) -> None:
        """Write *record* within the transaction that is open: it is kept if everything else in there is."""
        connection.execute(_INSERT, self._row(record, arguments))
        if self._sums is not None:
            self._sums.add(connection, (record,), self._place.seq - 1, self._place.seq)

    def write(self, connection: sqlite3.Connection) -> None:
        waiting, taken = self._waiting, self._taken
        for _ in range(len(waiting)):  # what comes while this runs is for the next time
            taken.append(waiting.popleft())
        rows = [self._row(record, arguments) for record, arguments in unhurried(taken)]
        whole = len(rows) - len(rows) % _MANY
        for start in range(0, whole, _MANY):
            connection.execute(_INSERT_MANY, [value for row in rows[start : start + _MANY] for value in row])
        connection.executemany(_INSERT, rows[whole:])
        if self._sums is not None:
            self._add_up(connection, self._sums)
        self._signs, self._sign_now = self._sign_now, False
        self._sign(connection, to_the_end=self._signs or self._ending)

    def _add_up(self, connection: sqlite3.Connection, sums: Sums) -> None:
        if taken := self._taken:
            sums.add(connection, [record for record, _ in taken], self._place.seq - len(taken), self._place.seq)
        if self._ending:
            sums.flush(connection)

    def committed(self) -> None:
        self._bytes_out += sum(len(arguments) for _, arguments in self._taken if arguments is not None)
        self._taken = []
        self._behind += self._signed
        self._signed = []
        if self._behind:
            self._anchor()
        self._kept = self._place
        self._tell()

    def undone(self) -> None:
        self._place = self._began_at
        self._waiting.extendleft(reversed(self._taken))
        self._taken = []
        self._signed = []
        self._sign_now = self._sign_now or self._signs
        self._version = None  # the next transaction looks for itself: this one may have failed anywhere
        if self._sums is not None:
            self._sums.undone()
        self._tell()

    def recover(self, connection: sqlite3.Connection, alive: Callable[[str], bool]) -> None:
        """Give every call that has an intent and no end one: of processes that are not *alive* any more."""
        for (text,) in connection.execute(_UNFINISHED).fetchall():
            try:
                intent = chain.entry_of(text)
            except ValueError:
                continue  # somebody has changed it: `audit verify` says so
            if not alive(str(intent.get("boot", ""))):
                self.append(connection, self._ended(connection, intent))

    # ---- entries

    def _row(self, record: Record, arguments: bytes | None) -> tuple[Any, ...]:
        """The next row, with its place in the chain."""
        fields = {name: value for name, value in msgspec.structs.asdict(record).items() if value}  # defaults are falsy
        if arguments is not None:
            fields["arguments_sha256"], text = redaction.kept(
                arguments, text=self._options.arguments == "redacted", hide=self._hide
            )
            if text is not None:
                fields["arguments"] = text
        if record.kind == "intent" and not record.boot and self._boot:
            fields["boot"] = self._boot
        seq = self._place.seq + 1
        fields["v"], fields["seq"] = chain.VERSION, seq
        fields, entry = _entry(fields)
        hash = chain.link(self._place.hash, entry)
        self._place = _Place(seq, hash, self._place.signed)
        return (seq, *chain.columns_of(fields), entry, hash)

    def _noted(self, note: str) -> Record:
        return Record(kind="recovered", at_us=self._now_us(), note=note)

    def _ended(self, connection: sqlite3.Connection, intent: dict[str, Any]) -> Record:
        """What is known of the call that *intent* announced."""
        journal = str(intent.get("journal", ""))
        row = connection.execute("SELECT state FROM journal WHERE id = ?", (journal,)).fetchone() if journal else None
        state = row[0] if row else ""
        known = {name: str(intent[name]) for name in _OF_THE_CALL if name in intent}
        ended = Record(
            kind="outcome_recovered",
            at_us=self._now_us(),
            outcome="completed" if state == "COMPLETED" else "unknown",
            sent=True,  # it may have been
            note=f"its process ended; the journal says {state}" if state else "its process ended",
        )
        return msgspec.structs.replace(ended, **known)

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    # ---- the chain and its heads

    def _look_again(self, connection: sqlite3.Connection, *, is_first: bool) -> None:
        """Find the end of the chain, where somebody else may have written."""
        found = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone() or (0, GENESIS)
        (signed,) = connection.execute("SELECT coalesce(max(seq), 0) FROM audit_heads").fetchone()
        place = _Place(found[0], bytes(found[1]), signed)
        if is_first and self._place.seq == 0:
            place = self._after_a_start(connection, place)
        if place.seq < self._place.seq:
            log.critical("the audit ended at entry %d, and now at %d: entries were removed", self._place.seq, place.seq)
            place = self._place  # goes on with its own numbers, so that what is missing shows
        self._place = place

    def _after_a_start(self, connection: sqlite3.Connection, place: _Place) -> _Place:
        """Where to go on: behind the last head, if the chain ends before it, so that what is missing shows.

        Heads that the last life signed, and could not copy any more, are copied now.
        """
        texts = connection.execute("SELECT head FROM audit_heads WHERE seq >= ? ORDER BY seq", (place.signed,))
        stored = [head for (text,) in texts if (head := chain.head_of(bytes(text))) is not None]
        try:
            last = anchor.last(self.anchor)
        except OSError as error:
            self._not_anchored(error)
            return place
        if stored and stored[-1].key != self.key_id:
            log.warning("heads of the audit were signed with the key %s, and are with %s from now on: `bascule audit"
                        " verify` needs both", stored[-1].key, self.key_id)  # fmt: skip
            self._waiting.append((self._noted(f"signed with {stored[-1].key} before, with {self.key_id} now"), None))
        keys = {self.key_id: self._key.public_key()}
        newest = max((each for each in (last, *stored) if each and chain.fault_of(each, keys) is None),
                     key=lambda head: head.seq, default=None)  # fmt: skip
        if newest is not None and newest.seq > place.seq:
            log.critical("the audit ends at entry %d, but entry %d was signed: its end was cut off; `bascule audit"
                         " verify` says more", place.seq, newest.seq)  # fmt: skip
            place = _Place(newest.seq, bytes.fromhex(newest.hash), newest.seq)
        texts = connection.execute(
            "SELECT head FROM audit_heads WHERE seq > ? ORDER BY seq", (last.seq if last else 0,)
        )
        self._behind = [head for (text,) in texts if (head := chain.head_of(bytes(text))) is not None]
        self._anchor()
        return place

    def _sign(self, connection: sqlite3.Connection, *, to_the_end: bool) -> None:
        """A head for each HEAD_EVERY entries that have none; and one for the rest, if it goes *to_the_end*."""
        place = self._place
        while (unsigned := place.seq - place.signed) >= HEAD_EVERY or (to_the_end and unsigned > 0):
            rows = connection.execute(_SINCE_HEAD, (place.signed, HEAD_EVERY)).fetchall()
            if not rows:
                return  # somebody has removed them
            last, hashes = rows[-1][0], [bytes(hash) for _, hash in rows]
            head = chain.sign(self._key, last - len(hashes) + 1, hashes, self._now_us())
            connection.execute("INSERT INTO audit_heads (seq, head) VALUES (?, ?)", (head.seq, chain.written(head)))
            self._signed.append(head)
            self._place = place = place._replace(signed=head.seq)

    def _anchor(self) -> None:
        """Copy the heads that are behind. Failing is no reason to stop a gateway, unless the audit is strict."""
        try:
            _sync(self._writer.path.with_name(f"{self._writer.path.name}-wal"))
            torn = anchor.append(self.anchor, [chain.written(head) for head in self._behind])
        except OSError as error:
            self._not_anchored(error)
            return
        self._behind = []
        if self.anchor_problem is not None:
            log.warning("heads of the audit are copied to %s again", self.anchor)
            self.anchor_problem = None
        if torn:
            self._waiting.append((self._noted(f"{self.anchor.name}: its last line was torn, {torn} bytes"), None))
            self._writer.wake()

    def _not_anchored(self, error: OSError) -> None:
        if self.anchor_problem is None:
            log.error("heads of the audit cannot be copied to %s: %s; nothing would show if its end were cut off",
                      self.anchor, error.strerror or error)  # fmt: skip
        self.anchor_problem = f"{self.anchor}: {error.strerror or error}"

    def _tell(self) -> None:
        """Whoever waits for room looks again."""
        if self._crowded and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._let_in)
            except RuntimeError:
                self._loop = None  # it is closed, and nobody waits


def _entry(fields: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """*fields* as they can be kept, and their canonical text: whatever a client has made up, a record is written."""
    try:
        entry = (flat if type(fields.get("arguments", "")) is str else canonical)(fields)
        if len(entry) <= MAX_TEXT_CHARS:  # then no field of it is longer
            return fields, entry
        for name, value in fields.items():
            if type(value) is str and len(value) > MAX_TEXT_CHARS and name != "arguments":
                fields[name] = value[:MAX_TEXT_CHARS] + "\N{HORIZONTAL ELLIPSIS}"
        return fields, canonical(fields)
    except ValueError:  # half of a surrogate pair, or what no record should hold: better odd than missing
        whole = {name: value if isinstance(value, int) else _mended(str(value)) for name, value in fields.items()}
        return whole, canonical(whole)


def _mended(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _sync(wal: Path) -> None:
    """Make what was committed outlive a power cut, before a head of it is copied: or its end would seem cut off.

    SQLite keeps its locks on other files, so that closing this one gives none of them up.
    """
    try:
        descriptor = os.open(wal, os.O_RDWR)
    except FileNotFoundError:
        return  # all of it has been moved to the database, and synced there
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
