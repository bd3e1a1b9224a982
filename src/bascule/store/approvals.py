"""What people were asked before calls went out, and what they said. Works by the writer's transactions.

A question is pending, then approved or denied; an approved one is used, once, in the very transaction in which its
call is written down as sent (`use`). What a person saw of the arguments is kept encrypted, for a day.
"""

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

from msgspec.structs import replace

from bascule.errors import RateLimited
from bascule.policy.approvals import MAX_TTL_S, MOST_STORED, Approval, Asked, Channel, State, shown_arguments
from bascule.store.journal import Yes
from bascule.store.options import ApprovalOptions
from bascule.store.record import Record
from bascule.store.writer import Writer

log = logging.getLogger("bascule.approvals")

KEPT_S: Final = 86_400.0  # the audit keeps what was decided for longer
MAX_NOTE: Final = 500  # characters
Refused: TypeAlias = Literal["unknown", "decided", "own"]

_DECISIONS: Final[Mapping[str, Literal["allow", "deny"]]] = {"approved": "allow", "denied": "deny"}

_COLUMNS: Final = (
    *("id", "state", "caller", "thing", "version", "pin", "fingerprint", "question", "rule", "four_eyes", "channel"),
    *("trace_id", "created_at_s", "expires_at_s", "decided_at_s", "decided_by", "used_at_s", "note"),
)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM approvals"
_INSERT: Final = (
    f"INSERT INTO approvals ({', '.join(_COLUMNS)}, arguments) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"
    " ON CONFLICT DO NOTHING"
)
# By the index of states and times (schema.py): how many questions there were in a day makes no difference.
_FORGET: Final = "DELETE FROM approvals WHERE state IN ('pending', 'approved', 'denied', 'used') AND created_at_s < ?"
_WAITING: Final = f"{_SELECT} WHERE state = 'pending' AND created_at_s >= ? AND +caller = ?"
_LISTED: Final = f"{_SELECT} WHERE channel != 'round' AND %s ORDER BY created_at_s DESC, rowid DESC LIMIT ?2"
_IN: Final[Mapping[State | None, str]] = {
    None: "?1 IS NOT NULL",
    "pending": "state = 'pending' AND expires_at_s > ?1",
    "approved": "state = 'approved' AND expires_at_s > ?1",
    "denied": "state = 'denied' AND ?1 IS NOT NULL",
    "used": "state = 'used' AND ?1 IS NOT NULL",
    "expired": "state IN ('pending', 'approved') AND expires_at_s <= ?1",
}
_PENDING: Final = "SELECT count(*) FROM approvals WHERE channel != 'round' AND state = 'pending' AND expires_at_s > ?"


class Seals(Protocol):
    """store/vault.py."""

    def seal(self, purpose: str, content: bytes) -> bytes: ...

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """Raises Internal for what was damaged."""
        ...


class Audits(Protocol):
    """store/audit.py."""

    def append(self, connection: sqlite3.Connection, record: Record, arguments: bytes | None = None) -> None:
        """Write it within the transaction that is open."""
        ...


class Approvals:
    """The questions of a state folder. Writing raises Unavailable when the disk refuses, reading too."""

    def __init__(
        self,
        writer: Writer,
        vault: Seals,
        audit: Audits | None,
        options: ApprovalOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._writer = writer
        self._vault = vault
        self._audit = audit
        self._clock = clock

    # ---- for calls

    def now_s(self) -> float:
        return self._clock()

    async def ask(self, asked: Asked) -> Approval:
        """The question that waits for an answer to *asked*: the same one as long as nobody has answered it.

        Raises RateLimited when as many of the caller's questions wait as may.
        """
        fresh = self._row(asked, secrets.token_hex(16), "inbox", self._clock() + self.options.ttl_s)
        sealed = self._sealed(fresh.id, asked)
        found = await self._writer.write(
            lambda connection: self._asked(connection, fresh, sealed, asked.arguments), durable=False
        )
        if found.id == fresh.id:
            log.info("%r asks for %r: bascule approvals show %s", asked.caller, asked.thing, fresh.id)
        return found

    async def asks(self, asked: Asked, id: str) -> None:
        """The person at the calling client is asked: what they say will be settled under *id*."""
        row = self._row(asked, id, "client", self._clock())
        await self._writer.write(
            lambda connection: self._record(connection, row, "asked", asked.arguments), durable=False
        )

    async def settle(
        self, asked: Asked, id: str, *, approve: bool, by: str, channel: Channel, ttl_s: float | None = None
    ) -> Approval:
        """The answer *by* somebody who was not asked by the inbox, under an *id* that is good once.

        It counts the first time: later it is as it stands by then.
        """
        now_s = self._clock()
        expires_at_s = now_s + (self.options.ttl_s if ttl_s is None else ttl_s)
        state: State = "approved" if approve else "denied"
        row = replace(self._row(asked, id, channel, expires_at_s), state=state, decided_at_s=now_s, decided_by=by)
        sealed = b"" if channel == "round" else self._sealed(id, asked)

        def settled(connection: sqlite3.Connection) -> Approval:
            connection.execute(_FORGET, (now_s - KEPT_S,))
            if not _insert(connection, row, sealed):
                return _found(connection, id) or row
            if channel != "round":  # in a later round nobody has said anything new
                self._record(connection, row, state)
            return row

        return await self._writer.write(settled, durable=False)

    def find(self, id: str) -> Approval | None:
        rows = self._writer.read(f"{_SELECT} WHERE id = ?", (id,))
        return _approval(rows[0]) if rows else None

    # ---- for people

    def list_(self, state: State | None = None, most: int = 100) -> Sequence[Approval]:
        """The newest first."""
        now_s = self._clock()
        found = map(_approval, self._writer.read(_LISTED % _IN[state], (now_s, most)))
        return [each for each in found if state is None or each.state_at(now_s) == state]

    def pending(self) -> int:
        """How many questions wait for an answer."""
        ((count,),) = self._writer.read(_PENDING, (self._clock(),))
        return int(count)

    def arguments(self, approval: Approval) -> str:
        """What a person sees of the arguments. Raises Internal when the record is damaged."""
        rows = self._writer.read("SELECT arguments FROM approvals WHERE id = ?", (approval.id,))
        if not rows or not rows[0][0]:
            return ""
        return self._vault.open(_purpose(approval.id), rows[0][0]).decode()

    async def decide(
        self, id: str, *, approve: bool, by: str, caller: str | None = None, note: str = ""
    ) -> Approval | Refused:
        """The question after *by* has answered it; why it could not be answered otherwise.

        *caller* is who decides, where that is one of the gateway's callers: nobody answers their own question.
        """
        now_s = self._clock()

        def decided(connection: sqlite3.Connection) -> Approval | Refused:
            row = _found(connection, id)
            if row is None:
                return "unknown"
            if caller is not None and caller.casefold() == row.caller.casefold():  # as people read names
                return "own"
            if row.channel != "inbox" or row.state_at(now_s) != "pending":
                return "decided"
            state: State = "approved" if approve else "denied"
            after = replace(row, state=state, decided_at_s=now_s, decided_by=by, note=note[:MAX_NOTE])
            connection.execute(
                "UPDATE approvals SET state = ?, decided_at_s = ?, decided_by = ?, note = ? WHERE id = ?",
                (after.state, now_s, by, after.note, id),
            )
            self._record(connection, after, state)
            return after

        return await self._writer.write(decided, durable=True)

    # ---- parts

    def _row(self, asked: Asked, id: str, channel: Channel, expires_at_s: float) -> Approval:
        return Approval(
            id=id,
            state="pending",
            caller=asked.caller,
            thing=asked.thing,
            version=asked.version,
            pin=asked.pin,
            fingerprint=asked.fingerprint,
            question=asked.question,
            rule=asked.rule,
            four_eyes=asked.four_eyes,
            channel=channel,
            trace_id=asked.trace_id,
            created_at_s=self._clock(),
            expires_at_s=expires_at_s,
            decided_at_s=None,
            decided_by="",
            used_at_s=None,
            note="",
        )

    def _sealed(self, id: str, asked: Asked) -> bytes:
        return self._vault.seal(_purpose(id), shown_arguments(asked.arguments, MOST_STORED).encode())

    def _asked(self, connection: sqlite3.Connection, fresh: Approval, sealed: bytes, arguments: bytes) -> Approval:
        now_s = fresh.created_at_s
        connection.execute(_FORGET, (now_s - KEPT_S,))
        rows = connection.execute(_WAITING, (now_s - MAX_TTL_S, fresh.caller))
        waiting = [each for each in map(_approval, rows) if each.state_at(now_s) == "pending"]
        for each in waiting:
            if _same(each, fresh):
                return each
        if len(waiting) >= self.options.max_pending:
            raise RateLimited(
                f"{len(waiting)} questions of this caller wait for an answer, as many as approvals.max_pending allows",
                retry_after_s=max(0.0, min(each.expires_at_s for each in waiting) - now_s),
                limit="approvals",
            )
        _insert(connection, fresh, sealed)
        self._record(connection, fresh, "asked", arguments)
        return fresh

    def _record(
        self, connection: sqlite3.Connection, row: Approval, outcome: str, arguments: bytes | None = None
    ) -> None:
        """Put it into the audit in the same transaction: nothing is decided that is not on record."""
        if self._audit is not None:
            self._audit.append(connection, _record(row, self._clock(), outcome), arguments)


# ---- in the transaction of whoever sends the call (store/journal.py)


def use(connection: sqlite3.Connection, yes: Yes, now_s: float) -> bool:
    """Use up the approval that *yes* names. False, and nothing changes, unless it is for just this call, now."""
    row = _found(connection, yes.id)
    if row is None or row.state_at(now_s) != "approved":
        return False
    if (row.caller, row.thing, row.pin, row.fingerprint) != (yes.caller, yes.thing, yes.pin, yes.fingerprint):
        return False
    changed = connection.execute(
        "UPDATE approvals SET state = 'used', used_at_s = ? WHERE id = ? AND state = 'approved'", (now_s, yes.id)
    )
    return changed.rowcount == 1


def unuse(connection: sqlite3.Connection, id: str) -> None:
    """The call that had used it was never sent, so it may be sent yet. Only for who got True from `use`."""
    connection.execute(
        "UPDATE approvals SET state = 'approved', used_at_s = NULL WHERE id = ? AND state = 'used'", (id,)
    )


# ---- rows


def _insert(connection: sqlite3.Connection, row: Approval, sealed: bytes) -> bool:
    values = [getattr(row, name) for name in _COLUMNS]
    return connection.execute(_INSERT, (*values, sealed)).rowcount == 1


def _found(connection: sqlite3.Connection, id: str) -> Approval | None:
    row = connection.execute(f"{_SELECT} WHERE id = ?", (id,)).fetchone()
    return None if row is None else _approval(row)


def _approval(row: Sequence[Any]) -> Approval:
    members = dict(zip(_COLUMNS, row, strict=True))
    return Approval(**{**members, "four_eyes": bool(members["four_eyes"])})


def _same(one: Approval, other: Approval) -> bool:
    return (one.thing, one.fingerprint, one.pin, one.rule, one.four_eyes, one.channel) == (
        *(other.thing, other.fingerprint, other.pin, other.rule, other.four_eyes, other.channel),
    )


def _record(row: Approval, now_s: float, outcome: str) -> Record:
    return Record(
        kind="approval",
        at_us=round(now_s * 1_000_000),
        trace_id=row.trace_id,
        caller=row.caller,
        thing=row.thing,
        version=row.version,
        decision=_DECISIONS.get(outcome, ""),
        rule=row.rule,
        approval=row.id,
        approved_by=row.decided_by,
        outcome=outcome,
        note=row.note,
    )


def _purpose(id: str) -> str:
    return f"approval {id}"
