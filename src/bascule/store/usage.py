"""What was used: sums of the audit's calls by minute, hour and day.

They say what the audit says, whatever happens: in one transaction with sums stands up to which entry of the audit
they go, and whoever finds entries behind that adds them. What a process has just written itself it need not read
again, and writes its sums every few seconds, since rows cost more than calls. `recount` computes them anew.
Counted is each call of a tool, prompt or resource, once, when it is over: an intent is not, and what a client asks
of a gateway as a whole (lists, pings) is not. Names that clients make up are all counted as "".

Latencies are counted in buckets, each the root of two times as wide as the one before: bucket b holds what took from
2 ** (b / 2) to 2 ** ((b + 1) / 2) microseconds. A quantile that is read from them is wrong by a fifth at most.
"""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from bascule.errors import Unavailable
from bascule.policy.outcome import UNTIMED, category_of
from bascule.store.files import BUSY_S
from bascule.store.writer import Writer

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
MINUTES_KEPT_S: Final = 48 * HOUR  # then they are hours
HOURS_KEPT_S: Final = 90 * DAY  # then they are days
KEPT_DAYS: Final = 400  # of everything: a year, and the month that it is compared with

COUNTED_KINDS: Final = frozenset({"call", "outcome_recovered"})
COUNTED_METHODS: Final = frozenset({
    *("tools/call", "prompts/get", "resources/read", "completion/complete"),
    *("resources/subscribe", "resources/unsubscribe"),
})  # fmt: skip

MOST_TEXT_CHARS: Final = 1024  # as in the audit
_MOST_NANO: Final = 10_000 * 1_000_000_000  # of one call: sums of it have to fit into 64 bits
_MOST_US: Final = 2**40  # of one call: twelve days
_MINUTE_US: Final = MINUTE * 1_000_000
_AT_ONCE: Final = 40  # rows of one statement
_FLUSH_S: Final = 5.0  # how long a call may wait for others to be counted with
_FLUSH_ROWS: Final = 5_000  # then it does not: that many take a hundredth of a second
_MOST_READ: Final = 5_000  # entries of one transaction, when it is behind
_MOST_FOLDED: Final = 20_000  # rows of one transaction, for which calls wait

Column: TypeAlias = Literal["thing", "version", "caller"]
Buckets: TypeAlias = Mapping[int, int]  # bucket -> calls
_Key: TypeAlias = tuple[int, str, str, str, str]  # at, thing, version, caller, category (or outcome)
_Sums: TypeAlias = dict[_Key, list[int]]  # calls, took_us, cost_nano_usd
_Timed: TypeAlias = dict[tuple[int, str, int], int]  # at, thing, bucket -> calls
_Marks: TypeAlias = Mapping[tuple[str, int], int]  # table and span -> what begins before is folded


class Counted(Protocol):
    """What is looked at of a record."""

    @property
    def kind(self) -> str: ...
    @property
    def at_us(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def thing(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def caller(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def took_us(self) -> int: ...
    @property
    def cost_nano_usd(self) -> int: ...


class _Entry(msgspec.Struct, frozen=True):
    """An entry of the audit, as far as it is counted."""

    kind: str = ""
    at_us: int = 0
    method: str = ""
    thing: str = ""
    version: str = ""
    caller: str = ""
    outcome: str = ""
    took_us: int = 0
    cost_nano_usd: int = 0


class Sum(msgspec.Struct, frozen=True):
    """What some calls come to."""

    categories: Mapping[str, int] = msgspec.field(default_factory=dict)  # category -> calls
    took_us: int = 0
    cost_nano_usd: int = 0

    @property
    def calls(self) -> int:
        return sum(self.categories.values())

    def __add__(self, other: "Sum") -> "Sum":
        names = {**self.categories, **other.categories}
        categories = {name: self.categories.get(name, 0) + other.categories.get(name, 0) for name in names}
        return Sum(categories, self.took_us + other.took_us, self.cost_nano_usd + other.cost_nano_usd)


class Point(msgspec.Struct, frozen=True):
    """The calls of one step of a series."""

    at: int  # when it begins, in seconds since 1970
    sum: Sum
    latencies: Buckets


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sums of a day are not what the audit says."""

    at: int  # the day
    what: str  # `calls`, `took_us`, `cost_nano_usd`, or `latency` and the bucket
    thing: str
    version: str = ""
    caller: str = ""
    category: str = ""
    audited: int  # what the audit comes to
    summed: int  # what is in the sums


# ---- buckets -------------------------------------------------------------------------------------


def bucket_of(took_us: int) -> int:
    """The bucket of a call: the whole part of twice the binary logarithm, exactly."""
    return (took_us * took_us).bit_length() - 1 if took_us > 0 else -1


def top_of(bucket: int) -> float:
    """Where a bucket ends, in microseconds."""
    return float(2 ** ((bucket + 1) / 2))


def quantile(buckets: Buckets, share: float) -> float | None:
    """The time in microseconds within which that *share* of the calls ended; None of no calls.

    It is the middle of its bucket, on the scale of the buckets: at most a factor of 2 ** (1/4), 19 %, from the
    true one.
    """
    wanted = share * sum(buckets.values())
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if buckets[bucket] and seen >= wanted:
            return float(2 ** (bucket / 2 + 0.25)) if bucket >= 0 else 0.5
    return None


def within(buckets: Buckets, limit_us: float) -> int:
    """How many calls ended within *limit_us*: of the bucket that it falls into, in proportion."""
    whole = sum(calls for bucket, calls in buckets.items() if top_of(bucket) <= limit_us)
    split = bucket_of(int(limit_us))
    low, high = (0.0 if split < 0 else float(2 ** (split / 2))), top_of(split)
    return whole + (int(buckets.get(split, 0) * (limit_us - low) / (high - low)) if high > limit_us else 0)


# ---- summing -------------------------------------------------------------------------------------


class Tally:
    """What calls come to, minute by minute: one row for all that are alike."""

    def __init__(self) -> None:
        # By outcome: to look up the category of each call would cost more than to add it up.
        self._sums: _Sums = {}
        self._timed: dict[tuple[int, str, str, int], int] = {}

    def __len__(self) -> int:
        """How many rows it will be, about."""
        return len(self._sums) + len(self._timed)

    def add(self, records: Iterable[Counted]) -> None:
        all_sums, timed = self._sums, self._timed
        for record in records:
            if record.kind not in COUNTED_KINDS or record.method not in COUNTED_METHODS:
                continue
            at = record.at_us // _MINUTE_US * MINUTE
            version, outcome, took_us = record.version, record.outcome, min(record.took_us, _MOST_US)
            # What is not known to be there has no version: its name may be made up.
            thing = record.thing if version else ""
            key = (at, thing, version, record.caller, outcome)
            sums = all_sums.get(key)
            if sums is None:
                sums = all_sums[key] = [0, 0, 0]
            sums[0] += 1
            sums[1] += took_us
            sums[2] += min(record.cost_nano_usd, _MOST_NANO)
            bucket = (at, thing, outcome, bucket_of(took_us))
            timed[bucket] = timed.get(bucket, 0) + 1

    def sums(self) -> _Sums:
        found: _Sums = {}
        for (at, thing, version, caller, outcome), sums in self._sums.items():
            key = (at, kept(thing), kept(version), kept(caller), _category(outcome))
            before = found.get(key, (0, 0, 0))
            found[key] = [one + other for one, other in zip(before, sums, strict=True)]
        return found

    def timed(self) -> _Timed:
        found: _Timed = {}
        for (at, thing, outcome, bucket), calls in self._timed.items():
            if _category(outcome) not in UNTIMED:
                key = (at, kept(thing), bucket)
                found[key] = found.get(key, 0) + calls
        return found


def _category(outcome: str) -> str:
    return "ok" if outcome == "completed" else category_of(outcome)  # what the journal says after a crash


def kept(text: str) -> str:
    """*text* as it can be kept and found again: no half surrogate pairs, no longer than in the audit."""
    if len(text) > MOST_TEXT_CHARS:
        text = text[:MOST_TEXT_CHARS] + "\N{HORIZONTAL ELLIPSIS}"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# ---- tables --------------------------------------------------------------------------------------


class _Table(msgspec.Struct, frozen=True):
    """One of the two tables: rows with the same keys are one row, in which the sums are added up."""

    name: str
    keys: tuple[str, ...]  # after `at` and `span`
    sums: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return ("at", "span", *self.keys, *self.sums)

    @property
    def totals(self) -> str:
        return ", ".join(f"sum({name})" for name in self.sums)

    @property
    def _into(self) -> str:
        return f"INSERT INTO {self.name} ({', '.join(self.columns)})"

    @property
    def _onto(self) -> str:
        added = ", ".join(f"{name} = {name} + excluded.{name}" for name in self.sums)
        return f"ON CONFLICT (at, span, {', '.join(self.keys)}) DO UPDATE SET {added}"

    def insert(self, rows: int) -> str:
        row = f"({', '.join('?' * len(self.columns))})"
        return f"{self._into} VALUES {', '.join([row] * rows)} {self._onto}"

    @property
    def fold(self) -> str:
        """Takes the wider span three times, then the span, and from when to when."""
        keys = ", ".join(self.keys)
        return (
            f"{self._into} SELECT at / ? * ?, ?, {keys}, {self.totals} FROM {self.name}"
            f" WHERE span = ? AND at >= ? AND at < ? GROUP BY 1, {keys} {self._onto}"
        )


_USAGE: Final = _Table("usage", ("thing", "version", "caller", "category"), ("calls", "took_us", "cost_nano_usd"))
_LATENCIES: Final = _Table("latencies", ("thing", "bucket"), ("calls",))
_TABLES: Final = (_USAGE, _LATENCIES)
_INSERT_ONE: Final = {table: table.insert(1) for table in _TABLES}
_INSERT_MANY: Final = {table: table.insert(_AT_ONCE) for table in _TABLES}
_ENTRIES: Final = (
    "SELECT entry FROM audit WHERE at_us >= ? AND at_us < ? AND kind IN ('call', 'outcome_recovered') AND seq <= ?"
)
_BEHIND: Final = "SELECT seq, kind, entry FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
# The last entry that is counted. It changes whenever the sums do, as the number of each kind in that table.
_COUNTED_TO: Final = "SELECT number FROM generations WHERE kind = 'usage'"
_SET_COUNTED_TO: Final = (
    "INSERT INTO generations (kind, number) VALUES ('usage', ?)"
    " ON CONFLICT (kind) DO UPDATE SET number = excluded.number"
)
_EXTENT: Final = (
    "SELECT min(at), max(at) FROM (SELECT min(at_us) / 1000000 AS at FROM audit"
    " UNION ALL SELECT max(at_us) / 1000000 FROM audit"
    " UNION ALL SELECT min(at) FROM usage UNION ALL SELECT max(at) FROM usage)"
)
_OF_DAY: Final = "WHERE at >= ? AND at < ?"


def _add(connection: sqlite3.Connection, table: _Table, rows: Iterator[tuple[Any, ...]]) -> None:
    while group := list(islice(rows, _AT_ONCE)):
        if len(group) == _AT_ONCE:
            connection.execute(_INSERT_MANY[table], [value for row in group for value in row])
        else:
            connection.executemany(_INSERT_ONE[table], group)


def _write(connection: sqlite3.Connection, tally: Tally) -> None:
    _add(connection, _USAGE, ((at, MINUTE, *keys, *values) for (at, *keys), values in tally.sums().items()))
    timed = tally.timed().items()
    _add(connection, _LATENCIES, ((at, MINUTE, thing, bucket, calls) for (at, thing, bucket), calls in timed))


class Usage:
    """The sums of one state folder. Who reads them may be another process than who writes."""

    def __init__(self, path: Path, *, keep_days: int = KEPT_DAYS, clock: Callable[[], float] = time.monotonic) -> None:
        """*path*: of the database, which is opened when something is read."""
        self.path = path
        self.keep_days = keep_days
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._folded: _Marks = {}
        self._clock = clock
        # Of the writer's thread: what is counted of the entries after _from up to _to, if those are all in between.
        self._tally: Tally | None = None
        self._from = self._to = -1
        self._since_s = 0.0

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # ---- in the writer's thread

    def add(self, connection: sqlite3.Connection, records: Iterable[Counted], before: int, after: int) -> None:
        """Count *records*, which the open transaction writes as the entries after *before*, up to *after*."""
        if self._tally is not None and before == self._to:
            self._tally.add(records)
        else:
            self._tally = None  # somebody else has written, too: it has to be read
        self._to = after
        if (self._tally is not None and len(self._tally) >= _FLUSH_ROWS) or self._clock() - self._since_s >= _FLUSH_S:
            self.flush(connection)

    def flush(self, connection: sqlite3.Connection) -> bool:
        """Write the sums of what is not written yet, in an open transaction. True: there is more of it."""
        self._since_s = self._clock()
        counted_to = _counted_to(connection)
        if self._tally is not None and counted_to == self._from:
            tally, last, more = self._tally, self._to, False
        else:
            tally, last, more = _missed(connection, counted_to)
        if last > counted_to:
            _write(connection, tally)
            connection.execute(_SET_COUNTED_TO, (last,))
        self._tally, self._from, self._to = (None if more else Tally()), last, last
        return more

    def undone(self) -> None:
        """The transaction was undone, and with it what may have been written of sums: it has to be read."""
        self._tally = None

    @property
    def behind(self) -> bool:
        """Whether there may be calls that are not in the sums."""
        return self._tally is None or self._to > self._from

    def rebuild(self, connection: sqlite3.Connection, day: int, now_s: float) -> int:
        """Replace the sums of the *day* that begins then by what the audit says. Returns the calls that it has.

        To be called in a transaction, by a Usage that no audit adds to.
        """
        while self.flush(connection):
            pass
        tally = _tally_of(connection, day, _counted_to(connection))
        for table in _TABLES:
            connection.execute(f"DELETE FROM {table.name} {_OF_DAY}", (day, day + DAY))
        _write(connection, tally)
        for table in _TABLES:
            for span, wider, before in _folds(now_s):
                if before > day:
                    _fold(connection, table, span, wider, day, min(day + DAY, before))
        return sum(calls for calls, _, _ in tally.sums().values())

    # ---- upkeep

    async def keep_up(self, writer: Writer) -> None:
        """See to it that calls are counted, also when none follow: for as long as the process lives."""
        while True:
            try:
                while self.behind and await writer.write(self.flush, durable=False):
                    pass
            except Unavailable:
                pass  # the writer says so, and tries again
            await asyncio.sleep(_FLUSH_S)

    async def sweep(self, writer: Writer, now_s: float) -> int:
        """Fold old minutes into hours and old hours into days, and forget what is too old. Returns rows folded.

        To be called every minute. Of a long time away only a part is folded at once, as calls wait for it.
        """
        folded, self._folded = await writer.write(lambda connection: self._swept(connection, now_s), durable=False)
        return folded

    def _swept(self, connection: sqlite3.Connection, now_s: float) -> tuple[int, _Marks]:
        folded, marks = 0, dict(self._folded)
        for table in _TABLES:
            for span, wider, before in _folds(now_s):
                start = marks.get((table.name, span), 0)
                if span == HOUR:  # what minutes are still to come of a long time away are hours first
                    before = min(before, marks[table.name, MINUTE] // HOUR * HOUR)
                end = _end_of_fold(connection, table, span, start, before)
                folded += _fold(connection, table, span, wider, start, end)
                marks[table.name, span] = end
            connection.execute(f"DELETE FROM {table.name} WHERE at < ?", (self.kept_since(now_s),))
        return folded, marks

    def kept_since(self, now_s: float) -> int:
        """The first day of which anything is kept."""
        return (int(now_s) // DAY - self.keep_days) * DAY

    # ---- reading, in any thread

    def sums(
        self, by: Sequence[Column], since_s: float, until_s: float, *, thing: str | None = None
    ) -> dict[tuple[str, ...], Sum]:
        """What calls come to, for each combination of the columns *by*; () for all of them together.

        What is older than two days is kept by the hour, and after 90 days by the day: all of an hour or a day counts
        that reaches into the time asked for.
        """
        names = ", ".join((*by, "category"))
        where, values = _where(_USAGE, since_s, until_s, thing)
        sql = f"SELECT {names}, {_USAGE.totals} FROM usage WHERE {where} GROUP BY {names}"
        found: dict[tuple[str, ...], Sum] = {}
        for *keys, category, calls, took_us, cost in self._read(sql, values):
            key = tuple(keys)
            found[key] = found.get(key, Sum()) + Sum({category: calls}, took_us, cost)
        return found

    def latencies(self, since_s: float, until_s: float, *, thing: str | None = None) -> dict[str, Buckets]:
        """How long calls took, for each thing."""
        where, values = _where(_LATENCIES, since_s, until_s, thing)
        sql = f"SELECT thing, bucket, {_LATENCIES.totals} FROM latencies WHERE {where} GROUP BY thing, bucket"
        found: dict[str, dict[int, int]] = {}
        for name, bucket, calls in self._read(sql, values):
            found.setdefault(name, {})[bucket] = calls
        return dict(found)

    def series(self, since_s: float, until_s: float, step_s: int, *, thing: str | None = None) -> list[Point]:
        """The calls of each step of *step_s* seconds that has any, in order."""
        where, values = _where(_USAGE, since_s, until_s, thing)
        step = f"at / {step_s:d} * {step_s:d}"
        sums: dict[int, Sum] = {}
        sql = f"SELECT {step}, category, {_USAGE.totals} FROM usage WHERE {where} GROUP BY 1, category"
        for at, category, calls, took_us, cost in self._read(sql, values):
            sums[at] = sums.get(at, Sum()) + Sum({category: calls}, took_us, cost)
        buckets: dict[int, dict[int, int]] = {}
        where, values = _where(_LATENCIES, since_s, until_s, thing)
        sql = f"SELECT {step}, bucket, {_LATENCIES.totals} FROM latencies WHERE {where} GROUP BY 1, bucket"
        for at, bucket, calls in self._read(sql, values):
            buckets.setdefault(at, {})[bucket] = calls
        return [Point(at, sums[at], buckets.get(at, {})) for at in sorted(sums)]

    def things(self) -> list[str]:
        """All that was called, as long as it is remembered."""
        return [thing for (thing,) in self._read("SELECT DISTINCT thing FROM usage WHERE thing <> '' ORDER BY thing")]

    # ---- against the audit

    def waiting(self) -> int:
        """How many entries of the audit are not looked at yet."""
        return int(self._read(f"SELECT count(*) FROM audit WHERE seq > coalesce(({_COUNTED_TO}), 0)")[0][0])

    def days(self, since_s: float, until_s: float) -> range:
        """The days that reach into that time, of those from the first call to the last."""
        first, last = self._read(_EXTENT)[0]
        if first is None:
            return range(0)
        return range(max(int(since_s), first) // DAY * DAY, min(math.ceil(until_s), last + 1), DAY)

    def recount(self, since_s: float, until_s: float) -> list[Difference]:
        """Where the sums are not what the entries of the audit come to. Whole days are looked at."""
        return [each for day in self.days(since_s, until_s) for each in self._differences(day)]

    def _differences(self, day: int) -> Iterator[Difference]:
        with self._lock, self._refusing():
            connection = self._opened()
            connection.execute("BEGIN")  # one moment: a call is in both, or in neither
            try:
                tally = _tally_of(connection, day, _counted_to(connection))
                usage, latencies = (_totals(connection, table, day) for table in _TABLES)
            finally:
                connection.execute("ROLLBACK")
        yield from _unlike(day, _whole(tally.sums().items()), usage)
        yield from _unlike(day, _whole((key, (calls,)) for key, calls in tally.timed().items()), latencies)

    # ---- SQL

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, check_same_thread=False
            )
            self._connection.isolation_level = None
        return self._connection

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._refusing():
            return self._opened().execute(sql, values).fetchall()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise Unavailable(f"{self.path}: the sums of calls cannot be read now: {error}") from error


def _folds(now_s: float) -> tuple[tuple[int, int, int], ...]:
    """(span, the wider one, before when) of what is to be folded."""
    now = int(now_s)
    return (
        (MINUTE, HOUR, (now - MINUTES_KEPT_S) // MINUTE * MINUTE),
        (HOUR, DAY, (now - HOURS_KEPT_S) // HOUR * HOUR),
    )


def _end_of_fold(connection: sqlite3.Connection, table: _Table, span: int, start: int, before: int) -> int:
    """Up to where it is folded at once: as many rows as may be, but at least those that begin together."""
    found = connection.execute(
        f"SELECT at FROM {table.name} WHERE span = ? AND at >= ? AND at < ? ORDER BY at LIMIT 1 OFFSET {_MOST_FOLDED}",
        (span, start, before),
    ).fetchone()
    return max(start, before) if found is None else max(int(found[0]), start + span)


def _fold(connection: sqlite3.Connection, table: _Table, span: int, wider: int, start: int, end: int) -> int:
    connection.execute(table.fold, (wider, wider, wider, span, start, end))
    gone = connection.execute(f"DELETE FROM {table.name} WHERE span = ? AND at >= ? AND at < ?", (span, start, end))
    return gone.rowcount


def _where(table: _Table, since_s: float, until_s: float, thing: str | None) -> tuple[str, list[Any]]:
    """Rows that begin within the time, and those that reach into it: of each span it can be one moment alone."""
    since, until = int(since_s), math.ceil(until_s)
    began = [since // span * span for span in (MINUTE, HOUR, DAY)]
    first = f"SELECT min(at) FROM {table.name} WHERE at IN (?, ?, ?) AND at + span > ?"
    sql, values = f"at >= coalesce(({first}), ?) AND at < ? AND at + span > ?", [*began, since, since, until, since]
    return (sql, values) if thing is None else (f"{sql} AND thing = ?", [*values, kept(thing)])


def _counted_to(connection: sqlite3.Connection) -> int:
    row = connection.execute(_COUNTED_TO).fetchone()
    return 0 if row is None else int(row[0])


def _missed(connection: sqlite3.Connection, counted_to: int) -> tuple[Tally, int, bool]:
    """(what comes after an entry, up to which, whether there is more)."""
    rows = connection.execute(_BEHIND, (counted_to, _MOST_READ)).fetchall()
    tally = Tally()
    tally.add(_entries(text for _, kind, text in rows if kind in COUNTED_KINDS))
    return tally, (rows[-1][0] if rows else counted_to), len(rows) == _MOST_READ


def _tally_of(connection: sqlite3.Connection, day: int, counted_to: int) -> Tally:
    tally = Tally()
    rows = connection.execute(_ENTRIES, (day * 1_000_000, (day + DAY) * 1_000_000, counted_to))
    tally.add(_entries(text for (text,) in rows))
    return tally


def _entries(texts: Iterable[bytes]) -> Iterator[_Entry]:
    """Entries of the audit. What somebody has damaged is no call any more: `bascule audit verify` names it."""
    for text in texts:
        try:
            yield msgspec.json.decode(text, type=_Entry)
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
            continue


def _totals(connection: sqlite3.Connection, table: _Table, day: int) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The sums of a day, without its spans, by the table's keys."""
    keys = ", ".join(table.keys)
    rows = connection.execute(
        f"SELECT {keys}, {table.totals} FROM {table.name} {_OF_DAY} GROUP BY {keys}", (day, day + DAY)
    )
    many = len(table.keys)
    return {row[:many]: row[many:] for row in rows}


def _whole(rows: Iterable[tuple[tuple[Any, ...], Sequence[int]]]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The sums of a day's minutes."""
    found: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for (_, *keys), values in rows:
        before = found.get(tuple(keys), (0,) * len(values))
        found[tuple(keys)] = tuple(one + other for one, other in zip(before, values, strict=True))
    return found


def _unlike(
    day: int, audited: Mapping[tuple[Any, ...], tuple[int, ...]], summed: Mapping[tuple[Any, ...], tuple[int, ...]]
) -> Iterator[Difference]:
    for keys in sorted({*audited, *summed}, key=repr):
        names: tuple[str, ...] = _USAGE.sums
        if len(keys) == len(_USAGE.keys):
            words = dict(zip(_USAGE.keys, keys, strict=True))
        else:
            words, names = {"thing": keys[0]}, (f"latency {keys[1]}",)
        one, other = (side.get(keys, (0,) * len(names)) for side in (audited, summed))
        for what, is_audited, is_summed in zip(names, one, other, strict=True):
            if is_audited != is_summed:
                yield Difference(at=day, what=what, audited=is_audited, summed=is_summed, **words)
