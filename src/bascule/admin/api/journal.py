"""Calls with an idempotency key: looking at them, and saying what became of one that nobody knows the end of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import journal
from bascule.admin.actions import Operation, Said, Takes
from bascule.admin.journal import By
from bascule.call import Caller
from bascule.errors import InvalidParams
from bascule.store.journal import Entry, Kept

if TYPE_CHECKING:
    from bascule.app import Gateway

WRITE: Final = ("bascule.journal:write",)
_LISTED: Final = 100


def operations(gateway: "Gateway") -> Sequence[Operation]:
    area = _Journal(gateway)
    return [
        Operation(
            name="journal.list",
            method="GET",
            path="/api/journal",
            run=area.list_,
            about="Calls with an idempotency key, the newest first.",
            takes={
                "state": Takes(about="only those in it, such as UNKNOWN"),
                "caller": Takes(about="only those of this caller"),
                "most": Takes("integer", f"how many; {_LISTED} if it is not said"),
            },
        ),
        Operation(
            name="journal.show", method="GET", path="/api/journal/{id}", run=area.show, about="One call with a key."
        ),
        Operation(
            name="journal.resolve",
            method="POST",
            path="/api/journal/{id}/resolve",
            run=area.resolve,
            about="Says what became of a call whose outcome is unknown.",
            scopes=WRITE,
            takes={
                "never_ran": Takes("boolean", "true: it may be sent again"),
                "result": Takes("any", "what the tool answered"),
                "note": Takes(about="how you know"),
            },
            named=True,
            recorded=True,
        ),
    ]


class _Journal:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def list_(self, _: Caller, said: Said) -> Any:
        records = self._gateway.records
        if records is None:
            return {"calls": []}
        most = said.get("most", _LISTED)
        found = await journal.list_(records.journal, state=said.get("state"), caller=said.get("caller"), most=most)
        return {"calls": found}

    async def show(self, _: Caller, said: Said) -> Any:
        records = self._gateway.records
        entry = None if records is None else await records.journal.get(said["id"])
        return None if entry is None else journal.report(entry)

    async def resolve(self, caller: Caller, said: Said) -> Any:
        records = self._gateway.records
        entry = None if records is None else await records.journal.get(said["id"])
        if records is None or entry is None:
            return None
        result, note = _outcome(said), said.get("note", "")
        by = By(caller.name, caller.proof)
        resolved = await journal.resolve(records.journal, records.audit, entry, result, by=by, note=note)
        return {"id": entry.id, "resolved": "never_ran" if result is None else "answered", **_shown(resolved, result)}


def _shown(entry: Entry, result: Kept | None) -> dict[str, Any]:
    """The row as it is now; of what was never run there is none any more."""
    return {} if result is None else {"call": journal.report(entry)}


def _outcome(said: Said) -> Kept | None:
    """What became of the call. Raises InvalidParams unless exactly one thing is said."""
    if ("never_ran" in said) == ("result" in said):
        raise InvalidParams('say {"never_ran": true}, or {"result": …} with what the tool answered')
    if "result" in said:
        return journal.result_of(said["result"])
    if said["never_ran"] is not True:
        raise InvalidParams("`never_ran` is true, or not said")
    return None
