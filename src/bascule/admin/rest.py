"""The table of what operators can ask a running gateway for over HTTP (edge/rest.py answers; docs/operations.md).

Reading needs the scope of `/status`, changing one of its own. What becomes of a call is said under a name.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import msgspec

from bascule.admin import approvals, journal
from bascule.admin.journal import By
from bascule.call import Caller
from bascule.errors import InvalidParams, Unavailable
from bascule.policy import approvals as approving
from bascule.policy.scopes import OPERATORS
from bascule.store.approvals import Approvals
from bascule.store.journal import Entry, Kept

if TYPE_CHECKING:
    from bascule.app import Gateway

Said: TypeAlias = Mapping[str, Any]
Run: TypeAlias = Callable[[Caller, Said], Awaitable[Any]]

CACHE_WRITE: Final = ("bascule.cache:write",)
JOURNAL_WRITE: Final = ("bascule.journal:write",)
_LISTED: Final = 100


class Operation(msgspec.Struct, frozen=True):
    """What can be asked for; as edge/rest.py reads it."""

    method: str
    path: str
    run: Run
    scopes: tuple[str, ...] = OPERATORS
    takes: frozenset[str] = frozenset()
    named: bool = False


def operations(gateway: "Gateway") -> Sequence[Operation]:
    """All that *gateway* can be asked for."""
    cache, records, asked = _Cache(gateway), _Journal(gateway), _Approvals(gateway)
    listing, noting = frozenset({"state", "caller", "most"}), frozenset({"note"})
    return [
        Operation("GET", "/cache", cache.report),
        Operation("DELETE", "/cache", cache.clear, CACHE_WRITE, frozenset({"tool", "server"})),
        Operation("GET", "/journal", records.list_, takes=listing),
        Operation("GET", "/journal/{id}", records.show),
        Operation(
            *("POST", "/journal/{id}/resolve", records.resolve, JOURNAL_WRITE),
            takes=frozenset({"never_ran", "result", "note"}),
            named=True,
        ),
        # Who may see and answer questions, admin/approvals.py decides: callers known by name, with scopes of its own.
        Operation("GET", "/approvals", asked.list_, (), frozenset({"state", "most"})),
        Operation("GET", "/approvals/{id}", asked.show, ()),
        Operation("POST", "/approvals/{id}/approve", partial(asked.decide, approve=True), (), noting),
        Operation("POST", "/approvals/{id}/deny", partial(asked.decide, approve=False), (), noting),
    ]


class _Cache:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def report(self, _: Caller, __: Said) -> Any:
        return self._gateway.cache.report()

    async def clear(self, _: Caller, said: Said) -> Any:
        return {"cleared": self._gateway.cache.clear(server=said.get("server"), tool=said.get("tool"))}


class _Journal:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def list_(self, _: Caller, said: Said) -> Any:
        records = self._gateway.records
        if records is None:
            return {"calls": []}
        most = count_of(said, "most", _LISTED)
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
        result, note = _outcome(said), text_of(said, "note")
        by = By(caller.name, caller.proof)
        resolved = await journal.resolve(records.journal, records.audit, entry, result, by=by, note=note)
        return {"id": entry.id, "resolved": "never_ran" if result is None else "answered", **_shown(resolved, result)}


class _Approvals:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    @property
    def _records(self) -> Approvals:
        records = self._gateway.records
        if records is None:
            raise Unavailable("questions are not kept here: the operator has to set state_dir")
        return records.approvals

    async def list_(self, caller: Caller, said: Said) -> Any:
        state, most = _state_of(said.get("state")), count_of(said, "most", _LISTED)
        return {"approvals": approvals.list_(self._records, caller, state=state, most=min(most, journal.MOST_LISTED))}

    async def show(self, caller: Caller, said: Said) -> Any:
        return approvals.show(self._records, caller, said["id"])

    async def decide(self, caller: Caller, said: Said, *, approve: bool) -> Any:
        return await approvals.decide(self._records, caller, said["id"], approve=approve, note=text_of(said, "note"))


def _state_of(said: str | None) -> approving.State | None:
    """A state of questions. Raises InvalidParams for what is none."""
    found: approving.State
    for found in get_args(approving.State):
        if said == found:
            return found
    if said is not None:
        raise InvalidParams(f"there is no state {said!r}; there are {', '.join(get_args(approving.State))}")
    return None


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


def text_of(said: Said, name: str) -> str:
    """What is said under *name*, "" for nothing. Raises InvalidParams for what is no text."""
    found = said.get(name, "")
    if not isinstance(found, str):
        raise InvalidParams(f"`{name}` is a text")
    return found


def count_of(said: Said, name: str, default: int) -> int:
    """The number that a query says under *name*. Raises InvalidParams for what is none."""
    found = said.get(name, str(default))
    if not (isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 10 and int(found)):
        raise InvalidParams(f"`{name}` is a number from 1 on")
    return int(found)
