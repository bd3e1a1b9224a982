"""The audit, read: found, followed, exported, verified, proven. Without a gateway, and while gateways write to it."""

import csv
import io
import itertools
import re
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.errors import ConfigInvalid, InvalidArgument, InvalidParams
from bascule.store import anchor, chain, folder, signing
from bascule.store.chain import GENESIS, Head, Keys, Proof, Row, Verdict
from bascule.store.files import BUSY_S, FILE
from bascule.store.record import Record
from bascule.wire.canonical import canonical

_LOOK_EVERY_S: Final = 0.25
_ROWS_AT_ONCE: Final = 500
_TELL_EVERY: Final = 50  # entries; between two of them others of this process get their turn
_LONGEST_S: Final = 15.0  # a search while somebody waits
_STEPS: Final = 20_000  # of SQLite's machine, between two looks at the clock
MOST_OF_TRACE: Final = 1000
_ROW: Final = f"SELECT seq, hash, entry, {', '.join(chain.COLUMNS)} FROM audit"
_HAS_END: Final = "SELECT 1 FROM audit WHERE call = ? AND kind IN ('call', 'outcome_recovered') LIMIT 1"
CSV_COLUMNS: Final = ("seq", "time", *Record.__struct_fields__, "hash")
# What a spreadsheet would run; some read the wide forms of East Asian keyboards alike.
_FORMULA: Final = (*"=+-@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_AGO: Final = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # Unicode: control, format, none at all


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are wanted: those that fit all that is said. `thing` may hold `*`."""

    caller: str = ""
    thing: str = ""
    outcome: str = ""
    decision: str = ""
    trace: str = ""
    kind: str = ""
    since_us: int | None = None
    until_us: int | None = None


class Seen(msgspec.Struct, frozen=True):
    """An entry, and what is to be known beside it."""

    seq: int
    hash: str  # hex
    entry: Mapping[str, Any]
    endless: bool = False  # an intent that nothing has followed


class Part(msgspec.Struct, frozen=True):
    """Some of the entries that fit, the newest first."""

    entries: Sequence[Seen]
    has_newer: bool
    has_older: bool


class Log:
    """The audit of a state folder, for reading. One that was never written is empty."""

    def __init__(self, state: Path, *, any_thread: bool = False) -> None:
        """Raises ConfigInvalid if there is something that cannot be read. *any_thread*: others may use it, in turn."""
        self.state = state
        self._any_thread = any_thread
        self._connection: sqlite3.Connection | None = None
        self._open()

    def _open(self) -> None:
        path = self.state / FILE
        if not path.exists():
            return
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=not self._any_thread,
            )
            if not self._read("SELECT 1 FROM sqlite_master WHERE name = 'audit_heads'"):
                self.close()  # of a version that knew no audit
        except sqlite3.Error as error:
            raise folder.unusable(path, OSError(str(error))) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- finding

    def search(self, filters: Filters, most: int, *, intents: bool = False) -> list[Seen]:
        """The newest *most* entries that fit, the newest last; with *intents*, those whose calls have ended too."""
        found: list[Seen] = []
        for each in self._fitting(filters, "ORDER BY seq DESC"):
            if len(found) >= most:
                break
            if intents or _is_of_interest(each):
                found.append(each)
        return found[::-1]

    def part(
        self,
        filters: Filters,
        most: int,
        *,
        before: int | None = None,
        after: int | None = None,
        intents: bool = False,
        longest_s: float = _LONGEST_S,
    ) -> Part:
        """The *most* entries that fit just *before* an entry, or just *after* one; the newest, if neither is said.

        Of calls that have ended the intents are left out, unless they are wanted. Raises SearchTooLong.
        """
        self._end_after(longest_s)
        if after is not None:
            found = list(self._some(filters, "ORDER BY seq", most + 1, after=after, intents=intents))
            if len(found) >= most:
                return Part(found[:most][::-1], has_newer=len(found) > most, has_older=True)
            before = None  # so near the end the newest are as good, and more
        up_to = None if before is None else before - 1
        found = list(self._some(filters, "ORDER BY seq DESC", most + 1, up_to=up_to, intents=intents))
        return Part(found[:most], has_newer=before is not None, has_older=len(found) > most)

    def _some(
        self, filters: Filters, order: str, most: int, *, after: int = 0, up_to: int | None = None, intents: bool
    ) -> Iterator[Seen]:
        fitting = self._fitting(filters, order, after=after, up_to=up_to)
        return itertools.islice((each for each in fitting if intents or _is_of_interest(each)), most)

    def entry(self, seq: int) -> Seen | None:
        return next(self._fitting(Filters(), "ORDER BY seq", after=seq - 1, up_to=seq), None)

    def trace(self, id: str, most: int = MOST_OF_TRACE) -> list[Seen]:
        """All entries of a trace, the oldest first."""
        return list(itertools.islice(self._fitting(Filters(trace=id), "ORDER BY seq"), most))

    def _end_after(self, longest_s: float) -> None:
        """Give a search up that takes longer: nobody waits for it any more."""
        if self._connection is not None:
            end_s = time.monotonic() + longest_s
            self._connection.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS)

    def everything(self, filters: Filters) -> Iterator[Seen]:
        """All entries that fit, the oldest first."""
        return self._fitting(filters, "ORDER BY seq")

    def follow(self, filters: Filters, after: int, *, intents: bool = False) -> Iterator[Seen]:
        """Entries that fit, as they are written *after* an entry. For ever."""
        last = after
        while True:
            if self._connection is None:
                self._open()  # perhaps a gateway has made it by now
            seen = self.last()
            if seen > last:
                for each in self._fitting(filters, "ORDER BY seq", after=last, up_to=seen):
                    if intents or each.entry.get("kind") != "intent":
                        yield each
                last = seen
            time.sleep(_LOOK_EVERY_S)

    def last(self) -> int:
        """The number of the newest entry, 0 if there is none."""
        return int(self._read("SELECT coalesce(max(seq), 0) FROM audit")[0][0]) if self._connection else 0

    def _fitting(self, filters: Filters, order: str, *, after: int = 0, up_to: int | None = None) -> Iterator[Seen]:
        where, values = _where(filters, after, up_to)
        for row in self._rows(f"{_ROW} WHERE {where} {order}", values):
            try:
                entry = chain.entry_of(row.entry)
            except ValueError:
                entry = {"seq": row.seq, "kind": "damaged", "note": "this entry was changed: bascule audit verify"}
            if filters.decision and entry.get("decision", "") != filters.decision:
                continue
            endless = entry.get("kind") == "intent" and not self._read(_HAS_END, (str(entry.get("call", "")),))
            yield Seen(row.seq, row.hash.hex(), entry, endless)

    # ---- verifying

    def verify(
        self, anchored: Path, keys: Keys, since: int | None = None, looked: Callable[[int], None] = lambda count: None
    ) -> Verdict:
        """What is wrong first: from the beginning, or after the head of entry *since*, which has to be a good one.

        *looked* hears now and then how many entries were looked at, and may take its time.
        Raises ConfigInvalid if there is no such head, or the anchor cannot be read.
        """
        try:  # before the database: what is written in between is in the second only
            copies, torn = anchor.read(anchored)
        except OSError as error:
            raise folder.unusable(anchored, error) from error
        with self._one_moment():
            stored = self._heads()
            start = None if since is None else _good_head(since, [*stored, *copies], keys)
            rows = self._rows(f"{_ROW} WHERE seq > ? ORDER BY seq", (start.seq if start else 0,))
            verdict = chain.verify(_counted(rows, looked), stored, copies, keys, start)
        notes = list(verdict.notes)
        if torn:
            notes.append(f"{anchored}: {torn} lines are no heads; after a crash, one may be torn")
        if not copies and verdict.last:
            notes.append(f"{anchored}: there is no head in it: if the end of the audit was cut off, nothing shows it")
        return msgspec.structs.replace(verdict, notes=tuple(notes))

    def prove(self, trace: str, seq: int | None = None) -> Proof:
        """What shows that the call of a trace, or entry *seq* of it, stands in the audit.

        Raises InvalidArgument if there is none, or more than one, or it is not signed yet; ConfigInvalid without
        the signing key.
        """
        private = signing.read(self.state)
        if private is None:
            raise ConfigInvalid("there is no signing key, so nothing was ever signed here",
                                place=str(self.state / signing.FILE))  # fmt: skip
        with self._one_moment():
            seq = self._entry_of_trace(trace, seq)
            head = next((head for head in self._heads(seq) if head.first <= seq), None)
            if head is None:
                raise InvalidArgument(f"entry {seq} is in no signed head yet: try again in a minute")
            rows = list(self._rows(f"{_ROW} WHERE seq BETWEEN ? AND ? ORDER BY seq", (head.first, head.seq)))
            before = self._read("SELECT hash FROM audit WHERE seq = ?", (seq - 1,))
        index = next((place for place, row in enumerate(rows) if row.seq == seq), 0)
        made = chain.prove(rows, bytes(before[0][0]) if before else GENESIS, index, head, private.public_key())
        if (why := chain.fault_of_proof(made, private.public_key())) is not None:
            raise InvalidArgument(f"entry {seq} cannot be proven: {why}; see `bascule audit verify`")
        return made

    def _entry_of_trace(self, trace: str, seq: int | None) -> int:
        found = self._read("SELECT seq, kind FROM audit WHERE trace_id = ? ORDER BY kind = 'call', seq", (trace,))
        if not found:
            raise InvalidArgument(f"no entry has the trace {trace!r}")
        calls = [number for number, kind in found if kind == "call"]
        if seq is None and len(calls) > 1:
            # Trace ids come from clients, and one may have taken another's.
            numbers = ", ".join(str(number) for number in calls[:20])
            raise InvalidArgument(f"{len(calls)} calls have this trace, entries {numbers}: say which one with --seq")
        if seq is None:
            return int(found[-1][0])
        if seq not in {number for number, _ in found}:
            raise InvalidArgument(f"entry {seq} is none of this trace; there are {', '.join(str(n) for n, _ in found)}")
        return seq

    def _heads(self, least: int = 0) -> list[Head]:
        texts = self._read("SELECT head FROM audit_heads WHERE seq >= ? ORDER BY seq", (least,))
        return [head for (text,) in texts if (head := chain.head_of(bytes(text))) is not None]

    # ---- SQL

    def _one_moment(self) -> "_Moment":
        return _Moment(self._connection)

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise folder.unusable(self.state / FILE, OSError(str(error))) from error

    def _rows(self, sql: str, values: Sequence[Any]) -> Iterator[Row]:
        if self._connection is None:
            return
        try:
            found = self._connection.execute(sql, values)
            while rows := found.fetchmany(_ROWS_AT_ONCE):
                for seq, hash, entry, *columns in rows:
                    yield Row(seq, _bytes(hash), _bytes(entry), tuple(columns))
        except sqlite3.Error as error:  # a damaged file, for example
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise SearchTooLong("there is too much to look through: say a shorter time, or a trace") from error
            raise folder.unusable(self.state / FILE, OSError(str(error))) from error


class SearchTooLong(InvalidParams):
    """Nobody waits as long as it would take to look through all of it."""

    http = 422


def _counted(rows: Iterator[Row], looked: Callable[[int], None]) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number % _TELL_EVERY == 0:
            looked(number)
        yield row


def _is_of_interest(seen: Seen) -> bool:
    """Whether it is no intent of a call that has ended: its end says more."""
    return seen.entry.get("kind") != "intent" or seen.endless


class _Moment:
    """All that is read within is of one moment, whatever is written meanwhile."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        if self._connection is not None:
            self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _bytes(value: Any) -> bytes:
    """What a column of bytes holds, whatever somebody has put there by hand."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def _where(filters: Filters, after: int, up_to: int | None) -> tuple[str, list[Any]]:
    conditions: list[str] = ["seq > ?"]
    values: list[Any] = [after]
    for column, wanted in (
        ("seq <= ?", up_to),
        ("caller = ?", filters.caller or None),
        ("thing GLOB ?" if "*" in filters.thing else "thing = ?", filters.thing or None),
        ("outcome = ?", filters.outcome or None),
        ("trace_id = ?", filters.trace or None),
        ("kind = ?", filters.kind or None),
        ("at_us >= ?", filters.since_us),
        ("at_us < ?", filters.until_us),
        # What is hashed is canonical, so that this finds it without decoding all the others.
        ("instr(entry, ?)", b'"decision":%b' % canonical(filters.decision) if filters.decision else None),
    ):
        if wanted is not None:
            conditions.append(column)
            values.append(wanted)
    return " AND ".join(conditions), values


def _good_head(seq: int, heads: Sequence[Head], keys: Keys) -> Head:
    of_entry = [head for head in heads if head.seq == seq]
    for head in of_entry:
        if chain.fault_of(head, keys) is None:
            return head
    why = chain.fault_of(of_entry[0], keys) if of_entry else None
    known = ", ".join(str(head.seq) for head in heads[-5:]) or "none"
    raise ConfigInvalid(f"the head of entry {seq}: {why}" if why else f"no head of entry {seq}; the last are {known}")


# ---- keys and proofs -----------------------------------------------------------------------------


def keys_of(state: Path, texts: Sequence[str] = ()) -> Keys:
    """Whose signatures count: the keys in *texts*, or the folder's own if there are none. Raises ConfigInvalid."""
    try:
        given = [chain.public_key(text) for text in texts]
    except ValueError as error:
        raise ConfigInvalid(str(error), field="--key") from error
    if not given and (own := signing.read(state)) is not None:
        given = [own.public_key()]
    return {chain.key_id(key): key for key in given}


def key_report(state: Path) -> dict[str, str]:
    """The public half of the signing key. Raises ConfigInvalid if there is none yet."""
    own = signing.read(state)
    if own is None:
        raise ConfigInvalid("there is no signing key yet; a gateway makes it when it starts",
                            place=str(state / signing.FILE))  # fmt: skip
    public = own.public_key()
    return {"id": chain.key_id(public), "algorithm": "Ed25519", "public_key": chain.public_text(public)}


def check_proof(text: bytes, keys: Sequence[str]) -> tuple[Proof, str | None]:
    """(the proof in *text*, why it proves nothing), by one of *keys*, or else by the key that it brings itself.

    Raises ConfigInvalid for what is no proof.
    """
    try:
        proof = msgspec.json.decode(text, type=Proof)
        known = [chain.public_key(each) for each in keys] or [chain.public_key(proof.public_key)]
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ConfigInvalid(f"it is no proof: {error}") from error
    fitting = next((key for key in known if chain.key_id(key) == proof.head.key), None)
    if fitting is None:
        return proof, f"it is signed with the key {proof.head.key}, which is none of those that were given"
    return proof, chain.fault_of_proof(proof, fitting)


# ---- on paper ------------------------------------------------------------------------------------


def report(seen: Seen) -> dict[str, Any]:
    """An entry for a program: canonical JSON of `entry` is what was hashed."""
    return {"seq": seen.seq, "hash": seen.hash, "entry": dict(seen.entry)}


def verdict_report(verdict: Verdict) -> dict[str, Any]:
    problem = verdict.problem
    return {
        "ok": problem is None,
        "problem": None if problem is None else msgspec.to_builtins(problem),
        "entries": verdict.entries,
        "last": verdict.last,
        "heads": verdict.heads,
        "signed_to": verdict.signed_to,
        "notes": list(verdict.notes),
    }


def proof_report(proof: Proof) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(proof)
    return found


def csv_head() -> str:
    return csv_line(CSV_COLUMNS)


def csv_row(seen: Seen) -> str:
    """An entry as a line of CSV (RFC 4180), of which a spreadsheet runs nothing."""
    at_us = seen.entry.get("at_us")
    cells = {**seen.entry, "seq": seen.seq, "hash": seen.hash, "time": date_of(at_us)}
    return csv_line([harmless(cells.get(name, "")) for name in CSV_COLUMNS])


def moment_us(text: str, now_s: float) -> int | None:
    """`2h` ago, or a date with or without a time, in UTC unless it says otherwise. Raises ValueError."""
    if not (text := text.strip()):
        return None
    try:
        if (ago := _AGO.fullmatch(text)) is not None:
            return int((now_s - int(ago[1]) * _UNITS_S[ago[2]]) * 1_000_000)
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:64]!r}: write how long ago, such as 2h, or 2026-11-20T08:00Z") from error


def date_of(at_us: Any) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    try:
        return datetime.fromtimestamp(int(at_us) / 1_000_000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def harmless(value: Any) -> str:
    text = escaped(str(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not isinstance(value, int) else text


def escaped(text: str) -> str:
    """*text* without what could move a cursor, hide, or turn the order of letters around: that is spelled out."""
    if text.isascii() and text.isprintable():
        return text  # almost all, and an export has millions of them
    return "".join(f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char for char in text)


def csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
