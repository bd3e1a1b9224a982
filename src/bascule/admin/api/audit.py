"""The record of every call, searched and verified while the gateway writes to it.

It is read by a connection of its own, in another thread: whoever looks something up holds up no call.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from bascule.admin import audit
from bascule.admin.actions import Operation, Said, Takes
from bascule.admin.audit import Filters, Log, Seen
from bascule.admin.verification import Verification
from bascule.call import Caller
from bascule.config import audit_of
from bascule.errors import InvalidParams, Unavailable
from bascule.store.anchor import path_of
from bascule.store.record import Kind

if TYPE_CHECKING:
    from bascule.app import Gateway
    from bascule.store.records import Records

Found = TypeVar("Found")

READ: Final = ("bascule.audit:read",)
_LISTED: Final = 100
MOST_LISTED: Final = 1000
_FILTERS: Final[Mapping[str, Takes]] = {
    "caller": Takes(about="only of this caller"),
    "tool": Takes(about="only of this tool, or what else was called; crm/* works"),
    "outcome": Takes(about="only with this outcome, such as answered or scope_denied"),
    "decision": Takes(about="only with this decision", choices=("allow", "deny")),
    "kind": Takes(about="only of this kind", choices=get_args(Kind)),
    "trace": Takes(about="only of this trace"),
    "since": Takes(about="from then on: 2h ago, or 2026-11-20T08:00Z"),
    "until": Takes(about="before then"),
}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    area = _Audit(gateway)
    return [
        Operation(
            name="audit.search",
            method="GET",
            path="/api/audit",
            run=area.search,
            about="Entries of the audit, the newest first; `older` of the answer is the next `before`.",
            scopes=READ,
            takes={
                **_FILTERS,
                "intents": Takes("boolean", "true: those of calls that have ended too"),
                "before": Takes("integer", "only entries before the one of this number"),
                "after": Takes("integer", "those that follow the entry of this number", least=0),
                "most": Takes("integer", f"how many; {_LISTED} if it is not said"),
            },
        ),
        Operation(
            name="audit.entry",
            method="GET",
            path="/api/audit/entries/{id}",
            run=area.entry,
            about="One entry, by its number.",
            scopes=READ,
        ),
        Operation(
            name="audit.trace",
            method="GET",
            path="/api/audit/trace/{id}",
            run=area.trace,
            about="All entries of a trace, the oldest first.",
            scopes=READ,
        ),
        Operation(
            name="audit.verification",
            method="GET",
            path="/api/audit/verify",
            run=area.verification,
            about="How far the look along the chain has come, or what came of the last one.",
            scopes=READ,
        ),
        Operation(
            name="audit.verify",
            method="POST",
            path="/api/audit/verify",
            run=area.verify,
            about="Begins to look whether an entry was changed, removed, inserted, reordered or cut off.",
            scopes=READ,
            takes={"wait": Takes("boolean", "true: answer when it has ended")},
        ),
    ]


class _Audit:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._options = audit_of(gateway.config)  # the folder and the anchor are the same as long as the process lives
        self._verification: Verification | None = None

    async def search(self, _: Caller, said: Said) -> Any:
        filters, most = filters_of(said, time.time()), min(said.get("most", _LISTED), MOST_LISTED)
        intents = said.get("intents", False) or filters.kind == "intent"

        def found(log: Log) -> audit.Part:
            return log.part(filters, most, before=said.get("before"), after=said.get("after"), intents=intents)

        part = await self._read(found)
        entries = part.entries
        return {
            "entries": [_shown(each) for each in entries],
            "older": entries[-1].seq if entries and part.has_older else None,
            "newer": entries[0].seq if entries and part.has_newer else None,
        }

    async def entry(self, _: Caller, said: Said) -> Any:
        number = said["id"]
        if not (number.isascii() and number.isdigit() and len(number) < 17):
            return None
        found = await self._read(lambda log: log.entry(int(number)))
        return None if found is None else _shown(found)

    async def trace(self, _: Caller, said: Said) -> Any:
        found = await self._read(lambda log: log.trace(said["id"]))
        return {"trace_id": said["id"], "entries": [_shown(each) for each in found]} if found else None

    async def verification(self, _: Caller, __: Said) -> Any:
        return self._verifying().report()

    async def verify(self, caller: Caller, said: Said) -> Any:
        verification = self._verifying()
        look = verification.begin(caller.name)
        if said.get("wait", False):
            await verification.ended(look)
        return verification.report()

    def _verifying(self) -> Verification:
        if self._verification is None:
            state = self._records.state
            self._verification = Verification(state, path_of(self._options, state))
        return self._verification

    @property
    def _records(self) -> "Records":
        if self._gateway.records is None:
            raise Unavailable("nothing is recorded here: the operator has to set state_dir")
        return self._gateway.records

    async def _read(self, look: Callable[[Log], Found]) -> Found:
        state = self._records.state

        def read() -> Found:
            with Log(state) as log:
                return look(log)

        return await asyncio.to_thread(read)


def filters_of(said: Said, now_s: float) -> Filters:
    """The entries that are wanted. Raises InvalidParams for what is no time."""
    try:
        since_us, until_us = (audit.moment_us(said.get(name, ""), now_s) for name in ("since", "until"))
    except ValueError as error:
        raise InvalidParams(str(error)) from error
    return Filters(
        caller=said.get("caller", ""),
        thing=said.get("tool", ""),
        outcome=said.get("outcome", ""),
        decision=said.get("decision", ""),
        trace=said.get("trace", ""),
        kind=said.get("kind", ""),
        since_us=since_us,
        until_us=until_us,
    )


def _shown(seen: Seen) -> dict[str, Any]:
    return {**audit.report(seen), "time": audit.date_of(seen.entry.get("at_us")), "endless": seen.endless}
