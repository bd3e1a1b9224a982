"""Which version of a thing calls go to that name none: the default, the one before it, and a canary.

A canary goes to a share of the callers. Every change is one transaction, with its audit record and the generation by
which running gateways notice. Which versions there are, the caller of this file knows; what the registry itself says
of them is looked at in the same transaction.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from bascule.contract.versions import Route
from bascule.store.contracts import MAX_NOTE, Audits, By, NotAllowed
from bascule.store.generations import bump
from bascule.store.record import Record
from bascule.store.writer import Writer

_COLUMNS: Final = ("thing", "version", "previous", "canary", "percent", "changed_at_s", "changed_by", "note")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM routes"
_UPSERT: Final = (
    f"INSERT INTO routes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    " ON CONFLICT (thing) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
)
_STATUS: Final = "SELECT status FROM contracts WHERE thing = ? AND version = ?"
_CALLED: Final = ("active", "deprecated")


class Routing(msgspec.Struct, frozen=True):
    """One row."""

    thing: str  # logical id
    version: str = ""  # "": the highest that is active
    previous: str = ""  # what `rollback` goes back to; "": nothing
    canary: str = ""
    percent: int = 0  # of the callers, that the canary gets
    changed_at_s: float = 0.0
    changed_by: str = ""
    note: str = ""

    @property
    def is_trying(self) -> bool:
        """Whether a canary runs."""
        return bool(self.canary) and self.percent > 0


class Routes:
    """The routes of a state folder. Writing raises Unavailable when the disk refuses, reading too."""

    def __init__(self, writer: Writer, audit: Audits | None, clock: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._audit = audit
        self._clock = clock

    def list_(self) -> Sequence[Routing]:
        """All of them, by id."""
        return [Routing(*row) for row in self._writer.read(f"{_SELECT} ORDER BY thing")]

    def of(self, thing: str) -> Routing:
        """The route of *thing*: where nobody has said one, that of the highest active version."""
        rows = self._writer.read(f"{_SELECT} WHERE thing = ?", (thing,))
        return Routing(*rows[0]) if rows else Routing(thing)

    def known(self) -> Mapping[str, Route]:
        """What calls go by, by logical id."""
        return {each.thing: Route(each.version, each.canary, each.percent) for each in self.list_()}

    async def set(self, thing: str, version: str, by: By, note: str = "", *, current: str = "") -> Routing:
        """Send calls to *version*; a canary ends. *current*: where they go as long as nobody has said it.

        *version* "" leaves it to the highest active one again. Raises NotAllowed for a version that cannot be called.
        """

        def changed(row: Routing) -> Routing:
            before, after = row.version or current, version or current
            previous = row.previous if before == after else before
            return replace(row, version=version, previous=previous, canary="", percent=0)

        return await self._change(thing, "route", by, note, changed, called=version)

    async def canary(
        self, thing: str, version: str, percent: int, by: By, note: str = "", *, current: str = ""
    ) -> Routing:
        """Send *percent* of the callers to *version*, the others to where they went; with 0 the canary ends.

        Raises NotAllowed for a version that cannot be called, and for the one that all calls go to anyway.
        """
        if not 0 <= percent < 100:
            raise NotAllowed(f"a canary gets from 0 to 99 percent, not {percent}; `bascule registry route` sends all")

        def changed(row: Routing) -> Routing:
            default = row.version or current
            if percent == 0:
                return replace(row, canary="", percent=0)
            if not default:
                raise NotAllowed(f"{thing}: no other version could take the rest of the calls")
            if default == version:
                raise NotAllowed(f"{thing}: all calls go to {version} anyway; a canary is another version")
            # The default is said from now on: a canary must not become it by being the highest.
            return replace(row, version=default, canary=version, percent=percent)

        return await self._change(thing, "canary", by, note, changed, called=version if percent else "")

    async def rollback(self, thing: str, by: By, note: str = "", *, current: str = "", before: str = "") -> Routing:
        """Undo the last roll-out: end the canary if one runs, else go back to the version before, in one step.

        *current* and *before* are the two highest active versions, for a thing that was never routed by hand. Raises
        NotAllowed when there is nothing to go back to.
        """

        def changed(row: Routing) -> Routing:
            if row.is_trying:
                return replace(row, canary="", percent=0)
            now = row.version or current
            known = [row.previous] if row.version else [row.previous, before]
            target = next((each for each in known if each not in ("", now)), "")
            if not target:
                raise NotAllowed(_nowhere(thing, row, current))
            return replace(row, version=target, previous="", canary="", percent=0)

        return await self._change(thing, "rollback", by, note, changed)

    async def _change(
        self, thing: str, action: str, by: By, note: str, change: Callable[[Routing], Routing], *, called: str = ""
    ) -> Routing:
        now_s = self._clock()

        def work(connection: sqlite3.Connection) -> Routing:
            found = connection.execute(f"{_SELECT} WHERE thing = ?", (thing,)).fetchone()
            row = Routing(*found) if found is not None else Routing(thing)
            fresh = replace(change(row), changed_at_s=now_s, changed_by=by.signer, note=note[:MAX_NOTE])
            for version in {called, fresh.version} - {""}:
                _check_called(connection, thing, version)
            connection.execute(_UPSERT, [getattr(fresh, name) for name in _COLUMNS])
            self._record(connection, action, row, fresh, by)
            bump(connection, "routes")
            return fresh

        return await self._writer.write(work, durable=True)

    def _record(self, connection: sqlite3.Connection, action: str, before: Routing, after: Routing, by: By) -> None:
        if self._audit is None:
            return
        words = f"{_said(before)} -> {_said(after)}"
        record = Record(
            kind="registry",
            at_us=round(self._clock() * 1_000_000),
            caller=by.name,
            proof=by.proof,
            method=f"registry.{action}",
            thing=after.thing,
            version=after.version,
            decision="allow",
            outcome="routed",
            note=f"{words}: {after.note}" if after.note else words,
        )
        self._audit.append(connection, record)


def _check_called(connection: sqlite3.Connection, thing: str, version: str) -> None:
    """Raise NotAllowed for a version of the registry's that is not there for calls; of others it knows nothing."""
    statuses: list[Any] = [status for (status,) in connection.execute(_STATUS, (thing, version)).fetchall()]
    if statuses and not any(status in _CALLED for status in statuses):
        raise NotAllowed(f"{thing}@{version} is {statuses[0]}: calls go to what is active or deprecated")


def _said(row: Routing) -> str:
    default = row.version or "highest active"
    return f"{default}, {row.canary} for {row.percent} %" if row.is_trying else default


def _nowhere(thing: str, row: Routing, current: str) -> str:
    now = row.version or current
    at = f"calls go to {now}" if now else "the registry has no active version of it"
    return (
        f"{thing}: there is nothing to go back to; {at}, and no version was the default before it."
        f" `bascule registry show {thing}` lists the versions, `bascule registry route {thing} VERSION` chooses one"
    )
