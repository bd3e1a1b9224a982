"""The audit, read: found, followed, exported, verified, proven. Without a gateway, and while gateways write to it."""

import csv
import io
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.errors import ConfigInvalid, InvalidArgument
from bascule.store import anchor, chain, folder, signing
from bascule.store.chain import GENESIS, Head, Keys, Proof, Row, Verdict
from bascule.store.files import BUSY_S, FILE
from bascule.store.record import Record

_LOOK_EVERY_S: Final = 0.25
_ROWS_AT_ONCE: Final = 500
_ROW: Final = f"SELECT seq, hash, entry, {', '.join(chain.COLUMNS)} FROM audit"
_HAS_END: Final = "SELECT 1 FROM audit WHERE call = ? AND kind IN ('call', 'outcome_recovered') LIMIT 1"
CSV_COLUMNS: Final = ("seq", "time", *Record.__struct_fields__, "hash")
_FORMULA: Final = ("=", "+", "-", "@")  # what a spreadsheet would run
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


class Log:
    """The audit of a state folder, for reading. One that was never written is empty."""

    def __init__(self, state: Path) -> None:
        """Raises ConfigInvalid if there is something that cannot be read."""
        self.state = state
        self._connection: sqlite3.Connection | None = None
        self._open()

    def _open(self) -> None:
        path = self.state / FILE
        if not path.exists():
            return
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
            self._connection.isolation_level = None
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
            if intents or each.entry.get("kind") != "intent" or each.endless:
                found.append(each)
        return found[::-1]

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

    def verify(self, anchored: Path, keys: Keys, since: int | None = None) -> Verdict:
        """What is wrong first: from the beginning, or after the head of entry *since*, which has to be a good one.

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
            verdict = chain.verify(rows, stored, copies, keys, start)
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
            raise folder.unusable(self.state / FILE, OSError(str(error))) from error


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
    return _csv_line(CSV_COLUMNS)


def csv_row(seen: Seen) -> str:
    """An entry as a line of CSV (RFC 4180), of which a spreadsheet runs nothing."""
    at_us = seen.entry.get("at_us")
    cells = {**seen.entry, "seq": seen.seq, "hash": seen.hash, "time": date_of(at_us)}
    return _csv_line([_harmless(cells.get(name, "")) for name in CSV_COLUMNS])


def date_of(at_us: Any) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    try:
        return datetime.fromtimestamp(int(at_us) / 1_000_000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def _harmless(value: Any) -> str:
    text = escaped(str(value))
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, int) else text


def escaped(text: str) -> str:
    """*text* without what could move a cursor, hide, or turn the order of letters around: that is spelled out."""
    return "".join(f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char for char in text)


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
