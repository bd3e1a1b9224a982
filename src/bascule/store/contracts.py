"""The contracts of the registry: every version of every thing that was published, and where in its life each is.

A version that left its draft keeps what it promises. Every change is one transaction: the row, its audit record, and
the generation by which running gateways notice. Nothing is kept in memory. Works by the writer's transactions.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from bascule.contract import lifecycle
from bascule.contract.lifecycle import Action, Candidate
from bascule.contract.model import Deprecation, Document, Kind, Status
from bascule.contract.semver import parse
from bascule.contract.succession import Planned, contract_of, digest_of, planned
from bascule.contract.versions import has_ended
from bascule.errors import Internal, InvalidParams, InvalidRequest, Unavailable
from bascule.store import sign_offs
from bascule.store.generations import bump
from bascule.store.record import Record
from bascule.store.sign_offs import Decision, SignOff
from bascule.store.writer import Writer

MAX_NOTE: Final = 500  # characters
PLACE: Final = "registry"  # before the version: where a document comes from, in words

_TRIES: Final = 5  # when others publish versions of the same thing at the same moment
_COLUMNS: Final = (
    *("kind", "thing", "version", "status", "document", "digest"),
    *("published_at_s", "published_by", "changed_at_s", "changed_by", "note"),
)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM contracts"
_OF_ONE: Final = f"{_SELECT} WHERE kind = ? AND thing = ? AND version = ?"
_OF_THING: Final = f"{_SELECT} WHERE kind = ? AND thing = ?"
_UPSERT: Final = (
    f"INSERT INTO contracts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    " ON CONFLICT (kind, thing, version) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[3:])
)
_DELETE: Final = "DELETE FROM contracts WHERE kind = ? AND thing = ? AND version = ?"
_DECISIONS: Final[Mapping[Decision, Literal["allow", "deny"]]] = {"approved": "allow", "denied": "deny"}
_SERVED: Final = ("active", "deprecated", "gone")
_DIGESTS: Final = "SELECT version, status, digest FROM contracts WHERE kind = ? AND thing = ? ORDER BY version"
_ROUTED: Final = "SELECT version, canary FROM routes WHERE thing = ?"


class Key(msgspec.Struct, frozen=True):
    """One version of one thing."""

    kind: Kind
    id: str  # logical: `namespace/name`
    version: str

    def __str__(self) -> str:
        return f"{self.id}@{self.version}"

    @property
    def subject(self) -> str:
        """What sign-offs of it are about (store/sign_offs.py)."""
        return f"contract:{self.kind}:{self.id}@{self.version}"


class By(msgspec.Struct, frozen=True):
    """Who changes the registry."""

    name: str
    proof: str  # how that is known: as callers are, or "shell"

    @property
    def signer(self) -> str:
        """As sign-offs name people: `caller:ann`, `cli:ann`."""
        return f"{'cli' if self.proof == 'shell' else 'caller'}:{self.name}"


class Registration(msgspec.Struct, frozen=True):
    """One row."""

    key: Key
    status: Status
    document: Document  # with that status
    digest: str  # of what was published; its end may have been said later
    published_at_s: float
    published_by: str
    changed_at_s: float
    changed_by: str
    note: str  # of the last change


class NoSuchContract(InvalidParams):
    """The registry has no such thing, or no such version of it."""

    http = 404


class NotAllowed(InvalidRequest):
    """The registry is not in the state for it. *reasons* are all of them, in words."""

    http = 409


class Audits(Protocol):
    """store/audit.py."""

    def append(self, connection: sqlite3.Connection, record: Record, arguments: bytes | None = None) -> None:
        """Write it within the transaction that is open."""
        ...


Check: TypeAlias = Callable[[sqlite3.Connection, Registration], None]


class Contracts:
    """The contracts of a state folder. Writing raises Unavailable when the disk refuses, reading too."""

    def __init__(self, writer: Writer, audit: Audits | None, clock: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._audit = audit
        self._clock = clock

    # ---- reading

    def list_(self) -> Sequence[Registration]:
        """All of them, by kind and id, the oldest version first. Raises Internal for a row that was damaged."""
        found = map(_registration, self._writer.read(_SELECT))
        return sorted(found, key=lambda each: (each.key.kind, each.key.id, parse(each.key.version)))

    def versions(self, kind: Kind, id: str) -> Sequence[Registration]:
        """Those of one thing, the oldest version first."""
        found = map(_registration, self._writer.read(_OF_THING, (kind, id)))
        return sorted(found, key=lambda each: parse(each.key.version))

    def kinds(self, id: str) -> Sequence[Kind]:
        """The kinds of thing that have contracts under *id*."""
        return [
            kind
            for (kind,) in self._writer.read("SELECT DISTINCT kind FROM contracts WHERE thing = ? ORDER BY 1", (id,))
        ]

    def get(self, key: Key) -> Registration:
        """Raises NoSuchContract."""
        rows = self._writer.read(_OF_ONE, (key.kind, key.id, key.version))
        if not rows:
            raise _unknown(key)
        return _registration(rows[0])

    def active(self) -> list[tuple[str, Document]]:
        """What calls go by: (place, document) of all that is active, deprecated or gone, with its status."""
        served = [each for each in self.list_() if each.status in _SERVED]
        return [(f"{PLACE} {each.key.version}", each.document) for each in served]

    def signed(self, key: Key) -> Sequence[SignOff]:
        """What reviewers said of it, by aspect."""
        return sign_offs.read(self._writer, key.subject)

    # ---- publishing

    async def plan(
        self, document: Document, fixed: Sequence[Document] = (), coming: Sequence[Document] = ()
    ) -> Planned:
        """What publishing *document* would come to now, or after those that are *coming*, as drafts.

        *fixed* are the versions of it in the configuration.
        """
        known = {each.key.version: each.document for each in self.versions(document.kind, document.id)}
        for each in coming:
            if (each.kind, each.id) == (document.kind, document.id) and isinstance(each.version, str):
                known.setdefault(each.version, replace(each, status="draft"))
        return await asyncio.to_thread(planned, document, list(known.values()), fixed)

    async def publish(
        self, document: Document, by: By, note: str = "", fixed: Sequence[Document] = ()
    ) -> tuple[Planned, Registration]:
        """*document* as a draft, and what that came to. Raises NotAllowed when it must not be."""
        for _ in range(_TRIES):
            seen = self._seen(self._writer.read(_DIGESTS, (document.kind, document.id)))
            plan = await self.plan(document, fixed)
            if plan.outcome == "refused":
                raise NotAllowed(f"{document.id}: {plan.reason}", reasons=[plan.reason])
            key = _key_of(document)
            if plan.outcome == "unchanged":
                return plan, self.get(key)
            fresh = self._draft(key, document, by, note)
            # What was compared for long is what is still there, or it is compared once more.
            if await self._writer.write(partial(self._put, fresh=fresh, seen=seen, by=by), durable=True):
                return plan, fresh
        raise Unavailable("others publish versions of it at the same moment; try again")

    def _draft(self, key: Key, document: Document, by: By, note: str) -> Registration:
        bare = replace(document, status="draft", deprecation=UNSET)
        now_s = self._clock()
        return Registration(
            key, "draft", bare, digest_of(document), now_s, by.signer, now_s, by.signer, note[:MAX_NOTE]
        )

    def _seen(self, rows: Iterable[Sequence[Any]]) -> bytes:
        return hashlib.sha256(repr([tuple(row) for row in rows]).encode()).digest()

    def _put(self, connection: sqlite3.Connection, fresh: Registration, seen: bytes, by: By) -> bool:
        key = fresh.key
        if self._seen(connection.execute(_DIGESTS, (key.kind, key.id)).fetchall()) != seen:
            return False
        sign_offs.forget(connection, [key.subject])  # whoever signed has read something else
        self._write(connection, fresh, "publish", by)
        return True

    # ---- the steps of its life

    async def submit(self, key: Key, by: By, note: str = "") -> Registration:
        """Ask for its review. Raises NoSuchContract, NotAllowed, as all of these do."""
        return await self._step(key, "submit", by, note)

    async def withdraw(self, key: Key, by: By, note: str = "") -> Registration:
        """Back to a draft, which may be changed; whatever was signed off no longer is."""

        def unsigned(connection: sqlite3.Connection, row: Registration) -> None:
            sign_offs.forget(connection, [row.key.subject])

        return await self._step(key, "withdraw", by, note, check=unsigned)

    async def promote(
        self, key: Key, by: By, note: str = "", *, wanted: Sequence[str] = (), today: date, frozen: str = ""
    ) -> Registration:
        """Make it active. NotAllowed names all that is lacking: *wanted* sign-offs, an owner, a clean lint.

        *frozen* is why nothing of it is promoted now; "" when that is not so.
        """
        seen = self.get(key)
        contract = contract_of(seen.document)
        faults = await asyncio.to_thread(lifecycle.faults_of, contract, today)

        def whole(connection: sqlite3.Connection, row: Registration) -> None:
            if row.digest != seen.digest:
                raise NotAllowed(f"{key} was published anew just now; look at it again")
            if has_ended(row.document.deprecation or None, today.isoformat()):
                raise NotAllowed(f"{key}: its sunset has come, and what is gone never returns; publish a new version")
            signed = {each.aspect: each.decision for each in sign_offs.of(connection, key.subject)}
            missing = lifecycle.lacking(
                Candidate(contract=contract, faults=faults, wanted=wanted, signed=signed, frozen=frozen)
            )
            if missing:
                raise NotAllowed(f"{key} cannot be promoted: {'; '.join(missing)}", reasons=missing)

        return await self._step(key, "promote", by, note, check=whole, ends=UNSET)

    async def deprecate(self, key: Key, by: By, note: str = "", *, end: Deprecation) -> Registration:
        """Announce its *end*; said again, the new words hold."""
        return await self._step(key, "deprecate", by, note, ends=end)

    async def retire(self, key: Key, by: By, note: str = "") -> Registration:
        """Put an end to it: its calls are refused with what replaces it. Not while calls are routed to it."""

        def unrouted(connection: sqlite3.Connection, row: Registration) -> None:
            route = connection.execute(_ROUTED, (row.key.id,)).fetchone() or ()
            if row.key.version in route:
                raise NotAllowed(f"{key}: calls are routed to it; `bascule registry route` sends them elsewhere first")

        return await self._step(key, "retire", by, note, check=unrouted)

    async def discard(self, key: Key, by: By, note: str = "") -> None:
        """Throw a draft away, which was never promised to anybody."""

        def discarded(connection: sqlite3.Connection) -> None:
            row = _found(connection, key)
            if row.status != "draft":
                raise NotAllowed(f"{key} is {row.status}: only a draft can be thrown away")
            sign_offs.forget(connection, [key.subject])
            connection.execute(_DELETE, (key.kind, key.id, key.version))
            self._append(connection, self._entry(row, "discard", by, "discarded", note))
            bump(connection, "contracts")

        await self._writer.write(discarded, durable=True)

    async def sign(self, key: Key, aspect: str, decision: Decision, by: By, note: str = "") -> Sequence[SignOff]:
        """All that reviewers have said of it by now. Only while it is in review, and not by who has published it."""
        now_s = self._clock()
        said = SignOff(
            subject=key.subject, aspect=aspect, decision=decision, signer=by.signer, at_s=now_s, note=note[:MAX_NOTE]
        )

        def signed(connection: sqlite3.Connection) -> Sequence[SignOff]:
            row = _found(connection, key)
            if row.status != "in_review":
                raise NotAllowed(f"{key} is {row.status}: what is signed off is in review")
            if sign_offs.same_person(row.published_by, by.signer):
                raise NotAllowed(f"{key}: nobody signs off what they have published; somebody else has to")
            found = sign_offs.sign(connection, said)
            if found is None:
                raise NotAllowed(f"{key}: nobody speaks for two aspects of one version; somebody else has to")
            record = self._entry(row, "sign", by, f"{aspect} {decision}", said.note)
            self._append(connection, replace(record, kind="review", decision=_DECISIONS[decision]))
            return found

        return await self._writer.write(signed, durable=True)

    async def _step(
        self,
        key: Key,
        action: Action,
        by: By,
        note: str,
        *,
        check: Check | None = None,
        ends: Deprecation | msgspec.UnsetType | None = None,
    ) -> Registration:
        """*check* raises what stands in the way; *ends*, unless None, is what the document says of its end then."""
        now_s = self._clock()

        def stepped(connection: sqlite3.Connection) -> Registration:
            row = _found(connection, key)
            try:
                status = lifecycle.after(row.status, action)
            except ValueError as error:
                raise NotAllowed(f"{key}: {error}", status=row.status) from error
            if check is not None:
                check(connection, row)
            document = replace(row.document, status=status)
            if ends is not None:
                document = replace(document, deprecation=ends)
            fresh = replace(
                row, status=status, document=document, changed_at_s=now_s, changed_by=by.signer, note=note[:MAX_NOTE]
            )
            self._write(connection, fresh, action, by)
            return fresh

        return await self._writer.write(stepped, durable=True)

    def _write(self, connection: sqlite3.Connection, fresh: Registration, action: str, by: By) -> None:
        connection.execute(_UPSERT, _values(fresh))
        self._append(connection, self._entry(fresh, action, by, fresh.status, fresh.note))
        bump(connection, "contracts")

    def _entry(self, row: Registration, action: str, by: By, outcome: str, note: str) -> Record:
        return Record(
            kind="registry",
            at_us=round(self._clock() * 1_000_000),
            caller=by.name,
            proof=by.proof,
            method=f"registry.{action}",
            thing=row.key.id,
            version=row.key.version,
            decision="allow",
            rule=row.digest,  # what exactly was published, signed off or promoted
            outcome=outcome,
            note=note[:MAX_NOTE],
        )

    def _append(self, connection: sqlite3.Connection, record: Record) -> None:
        if self._audit is not None:
            self._audit.append(connection, record)


# ---- rows


def _key_of(document: Document) -> Key:
    assert isinstance(document.version, str), "a plan without a version is refused"
    return Key(document.kind, document.id, document.version)


def _found(connection: sqlite3.Connection, key: Key) -> Registration:
    row = connection.execute(_OF_ONE, (key.kind, key.id, key.version)).fetchone()
    if row is None:
        raise _unknown(key)
    return _registration(row)


def _values(row: Registration) -> Sequence[Any]:
    key = row.key
    return (
        *(key.kind, key.id, key.version, row.status, msgspec.json.encode(row.document), row.digest),
        *(row.published_at_s, row.published_by, row.changed_at_s, row.changed_by, row.note),
    )


def _registration(row: Sequence[Any]) -> Registration:
    kind, thing, version, status, document, *rest = row
    key = Key(kind, thing, version)
    try:
        found = replace(msgspec.json.decode(document, type=Document), status=status)
        if (found.kind, found.id, found.version) != (kind, thing, version):
            raise ValueError("it is about something else")
    except ValueError as error:  # msgspec.ValidationError is one
        raise Internal(f"the contract {key} of the registry is damaged, or of a newer Bascule: {error}") from error
    return Registration(key, status, found, *rest)


def _unknown(key: Key) -> NoSuchContract:
    return NoSuchContract(f"the registry has no {key.kind} {key.id} {key.version}; `bascule registry list` shows all")
