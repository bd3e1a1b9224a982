"""What servers list, each wording of it once, and whether it may be called. Works by the writer's transactions.

A wording is pending, approved or denied. What was approved at some time stays so: a server that goes back to it needs
no new review. Decisions of people are on disk, with their records in the audit, before anybody hears of them; what
was taken without anybody's yes (at first sight, or because a server is trusted) is written behind.
Bounded: a server that makes up a new wording each time it is asked pushes out its own oldest ones, and no others.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from bascule.store import sign_offs
from bascule.store.generations import bump
from bascule.store.record import Record
from bascule.store.sign_offs import SignOff
from bascule.store.writer import Writer

State: TypeAlias = Literal["pending", "approved", "denied"]
Refused: TypeAlias = Literal["unknown", "decided", "twice"]

FIRST_SIGHT: Final = "first sight"  # who decided: nobody, it was the first wording of the thing
TRUST: Final = "trust: auto"  # who decided: the configuration
MOST_PENDING: Final = 20  # wordings of one thing that wait; as many that were taken by trust are kept
MOST_OF_SERVER: Final = 5_000  # wordings of one server that wait, or were taken by trust
MOST_BYTES: Final = 64 * 1024 * 1024  # of all of them
MOST_NOTED: Final = 1_000  # changes of one server that are put on record one by one within an hour

_HOUR_S: Final = 3600.0
_COLUMNS: Final = (
    *("server", "source", "kind", "name", "digest", "id", "state", "definition", "seen_at_s", "decided_at_s"),
    *("decided_by", "note"),
)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM definitions"
_THING: Final = "server = ? AND source = ? AND kind = ? AND name = ?"
_INSERT: Final = f"INSERT INTO definitions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_UPDATE: Final = (
    "UPDATE definitions SET state = ?, seen_at_s = ?, decided_at_s = ?, decided_by = ?, note = ? WHERE id = ?"
)
_KNOWN: Final = (
    "SELECT kind, name, digest, id, state, decided_by, length(definition) FROM definitions"
    " WHERE server = ? AND source = ? ORDER BY seen_at_s"
)
_LISTED: Final = (
    f"{_SELECT} WHERE (?1 = '' OR state = ?1) AND (?2 = '' OR server = ?2) ORDER BY seen_at_s DESC, id LIMIT ?3"
)
_HISTORY: Final = f"{_SELECT} WHERE server = ? AND kind = ? AND name = ? ORDER BY seen_at_s DESC, id"
# `+state`: by the key of the thing. The index of states would lead through all that waits, for each thing again.
_CROWD: Final = (
    f"DELETE FROM definitions WHERE id IN (SELECT id FROM definitions WHERE {_THING} AND +state = ? AND decided_by = ?"
    " ORDER BY seen_at_s DESC, id LIMIT -1 OFFSET ?) RETURNING id"
)
_MASS: Final = (
    "DELETE FROM definitions WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER newest AS place,"
    " sum(length(definition)) OVER newest AS bytes FROM definitions WHERE server = ? AND source = ?"
    " AND (state = 'pending' OR decided_by = ?) WINDOW newest AS (ORDER BY seen_at_s DESC, id))"
    " WHERE place > ? OR bytes > ?) RETURNING id"
)


class Audits(Protocol):
    """store/audit.py."""

    def append(self, connection: sqlite3.Connection, record: Record, arguments: bytes | None = None) -> None:
        """Write it within the transaction that is open."""
        ...


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """One wording of one thing, and what was decided of it."""

    server: str
    source: str  # digest of the server's command or address
    kind: str  # tool, prompt, template
    name: str
    digest: str
    id: str
    state: State
    definition: bytes  # canonical JSON of what is pinned
    seen_at_s: float  # when it was last listed anew
    decided_at_s: float | None = None
    decided_by: str = ""
    note: str = ""

    @property
    def thing(self) -> str:
        return f"{self.server}/{self.name}"


class Known(msgspec.Struct, frozen=True):
    """What a gateway has to know of a wording while it runs."""

    kind: str
    name: str
    digest: str
    id: str
    state: State
    decided_by: str
    size_bytes: int


class _Noted(msgspec.Struct):
    """How many changes of a server were put on record in the present hour."""

    since_s: float
    count: int = 0


class Definitions:
    """The wordings of a state folder. Writing raises Unavailable when the disk refuses, reading too."""

    def __init__(self, writer: Writer, audit: Audits | None, clock: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._audit = audit
        self._clock = clock
        self._noted: dict[str, _Noted] = {}  # by server

    # ---- for the gateway (registry/judge.py)

    def known(self, server: str, source: str) -> Sequence[Known]:
        """All wordings of what *server* lists, those seen last at the end."""
        return [Known(*row) for row in self._writer.read(_KNOWN, (server, source))]

    async def see(self, wordings: Sequence[Wording]) -> Sequence[Wording]:
        """Write down what was seen, or seen again; how it stands now, which may be otherwise than was thought.

        Another process may have taken another wording of the same thing at first sight: of the two, this one waits.
        """
        return await self._writer.write(lambda connection: self._seen(connection, wordings), durable=False)

    # ---- for people

    def list_(self, state: State | None = "pending", server: str = "", most: int = 100) -> Sequence[Wording]:
        """The newest first."""
        return [_wording(row) for row in self._writer.read(_LISTED, (state or "", server, most))]

    def find(self, id: str) -> Wording | None:
        rows = self._writer.read(f"{_SELECT} WHERE id = ?", (id,))
        return _wording(rows[0]) if rows else None

    def history(self, server: str, kind: str, name: str) -> Sequence[Wording]:
        """Every wording of one thing that is kept, under whatever source, the newest first."""
        return [_wording(row) for row in self._writer.read(_HISTORY, (server, kind, name))]

    def approved(self, wording: Wording) -> Wording | None:
        """What holds, or held last, in the place of *wording*."""
        alike = (wording.server, wording.source, wording.kind, wording.name, wording.id)
        rows = self._writer.read(
            f"{_SELECT} WHERE {_THING} AND id <> ? AND state = 'approved'"
            " ORDER BY coalesce(decided_at_s, 0) DESC, seen_at_s DESC LIMIT 1",
            alike,
        )
        return _wording(rows[0]) if rows else None

    def tools(self, most: int = 10_000) -> Sequence[tuple[str, str]]:
        """(server, name) of every tool that was ever listed."""
        found = self._writer.read("SELECT DISTINCT server, name FROM definitions WHERE kind = 'tool' LIMIT ?", (most,))
        return [(server, name) for server, name in found]

    def sign_offs(self, id: str) -> Sequence[SignOff]:
        return sign_offs.read(self._writer, id)

    async def decide(
        self,
        id: str,
        *,
        approve: bool,
        by: str,
        proof: str = "",
        aspect: str = "",
        needed: Sequence[str] = (),
        note: str = "",
    ) -> Wording | Refused:
        """The wording after *by* has spoken; why nothing came of it otherwise.

        An approval for *aspect* counts once there is one for each that is *needed*, by different people; one denial is
        enough. What was decided can be decided otherwise; then all aspects are asked anew.
        """
        return await self._writer.write(
            lambda connection: self._decided(
                connection, id, approve=approve, by=by, proof=proof, aspect=aspect, needed=needed, note=note
            ),
            durable=True,
        )

    # ---- in a transaction

    def _seen(self, connection: sqlite3.Connection, wordings: Sequence[Wording]) -> list[Wording]:
        found = [self._seen_one(connection, each) for each in wordings]
        self._make_room(connection, found)
        taken = [each for each in found if each.decided_by == FIRST_SIGHT]
        for server in sorted({each.server for each in taken}):
            names = [each.name for each in taken if each.server == server]
            self._record(connection, server, "first_sight", "", f"{len(names)} taken: {', '.join(names)}")
        return found

    def _seen_one(self, connection: sqlite3.Connection, wording: Wording) -> Wording:
        alike = (wording.server, wording.source, wording.kind, wording.name)
        row = connection.execute(f"{_SELECT} WHERE {_THING} AND digest = ?", (*alike, wording.digest)).fetchone()
        before = None if row is None else _wording(row)
        if wording.decided_by == FIRST_SIGHT and _is_decided(connection, alike):
            wording = replace(wording, state="pending", decided_by="", decided_at_s=None)
        if before is None:
            connection.execute(_INSERT, tuple(getattr(wording, name) for name in _COLUMNS))
            if wording.state == "pending":
                self._note_change(connection, wording)
            return wording
        # What was decided is not decided anew by being seen again; what waits may be taken, if it is trusted now.
        after = wording if before.state == "pending" else before
        after = replace(after, id=before.id, seen_at_s=wording.seen_at_s)
        _update(connection, after)
        return after

    def _note_change(self, connection: sqlite3.Connection, wording: Wording) -> None:
        """Put it on record that something waits; not each time when a server never stops making up new wordings."""
        alike = (wording.server, wording.source, wording.kind, wording.name)
        (waiting,) = connection.execute(
            f"SELECT count(*) FROM definitions WHERE {_THING} AND state = 'pending'", alike
        ).fetchone()
        if waiting > MOST_PENDING:
            return
        noted, now_s = self._noted.get(wording.server), self._clock()
        if noted is None or not 0 <= now_s - noted.since_s < _HOUR_S:
            noted = self._noted[wording.server] = _Noted(now_s)
        noted.count += 1
        if noted.count <= MOST_NOTED:
            outcome = "changed" if _is_decided(connection, alike) else "new"
            self._record(connection, wording.thing, outcome, wording.id, wording.digest)
        elif noted.count == MOST_NOTED + 1:
            more = f"more than {MOST_NOTED} changes within an hour: the rest of them is not put on record one by one"
            self._record(connection, wording.server, "changed", "", more)

    def _make_room(self, connection: sqlite3.Connection, wordings: Sequence[Wording]) -> None:
        gone: list[str] = []
        things = {
            (each.server, each.source, each.kind, each.name, each.state, each.decided_by)
            for each in wordings
            if each.state == "pending" or each.decided_by == TRUST
        }
        for thing in things:
            gone += [id for (id,) in connection.execute(_CROWD, (*thing, MOST_PENDING))]
        for server, source in {(thing[0], thing[1]) for thing in things}:
            gone += [id for (id,) in connection.execute(_MASS, (server, source, TRUST, MOST_OF_SERVER, MOST_BYTES))]
        sign_offs.forget(connection, gone)

    def _decided(
        self,
        connection: sqlite3.Connection,
        id: str,
        *,
        approve: bool,
        by: str,
        proof: str,
        aspect: str,
        needed: Sequence[str],
        note: str,
    ) -> Wording | Refused:
        row = connection.execute(f"{_SELECT} WHERE id = ?", (id,)).fetchone()
        if row is None:
            return "unknown"
        before, note = _wording(row), note[: sign_offs.MAX_NOTE]
        decision: sign_offs.Decision = "approved" if approve else "denied"
        if before.state == decision:
            return "decided"
        if before.state != "pending":
            sign_offs.take_back(connection, id, before.state)
        said = SignOff(subject=id, aspect=aspect, decision=decision, signer=by, at_s=self._clock(), note=note)
        all_said = sign_offs.sign(connection, said) if needed else [said]
        if all_said is None:
            return "twice"
        after = before
        if not approve or not sign_offs.missing(all_said, needed):
            signers = ", ".join(f"{each.signer} ({each.aspect})" for each in all_said if each.decision == decision)
            after = replace(
                before, state=decision, decided_at_s=said.at_s, decided_by=signers if needed else by, note=note
            )
            _update(connection, after)
            bump(connection, "definitions")
        outcome = decision if after.state == decision else "signed"
        self._record(connection, before.thing, outcome, id, before.digest, by=by, proof=proof, note=note, aspect=aspect)
        return after

    def _record(
        self,
        connection: sqlite3.Connection,
        thing: str,
        outcome: str,
        id: str,
        about: str,
        *,
        by: str = "",
        proof: str = "",
        note: str = "",
        aspect: str = "",
    ) -> None:
        """Put it into the audit in the same transaction: nothing is decided that is not on record."""
        if self._audit is None:
            return
        record = Record(
            kind="review",
            at_us=round(self._clock() * 1_000_000),
            thing=thing,
            approval=id,
            approved_by=by,
            proof=proof,
            rule=aspect,
            decision={"approved": "allow", "signed": "allow", "denied": "deny"}.get(outcome, ""),  # type: ignore[arg-type]  # words of Record.decision
            outcome=outcome,
            note=f"{about}: {note}" if note else about,
        )
        self._audit.append(connection, record)


def _is_decided(connection: sqlite3.Connection, thing: Iterable[str]) -> bool:
    """Whether anything was ever decided of a thing, by whomever."""
    found = connection.execute(f"SELECT 1 FROM definitions WHERE {_THING} AND state <> 'pending' LIMIT 1", tuple(thing))
    return found.fetchone() is not None


def _update(connection: sqlite3.Connection, wording: Wording) -> None:
    connection.execute(
        _UPDATE,
        (*(wording.state, wording.seen_at_s, wording.decided_at_s, wording.decided_by, wording.note), wording.id),
    )


def _wording(row: Sequence[Any]) -> Wording:
    return Wording(**dict(zip(_COLUMNS, row, strict=True)))
