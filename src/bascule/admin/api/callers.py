"""Callers, and the sessions of people at the console."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import callers, console
from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller
from bascule.errors import Unavailable
from bascule.store.console import ConsoleSessions
from bascule.store.records import Records

if TYPE_CHECKING:
    from bascule.app import Gateway

WRITE: Final = ("bascule.keys:write",)


def operations(gateway: "Gateway") -> Sequence[Operation]:
    async def list_(_: Caller, said: Said) -> Any:
        size = min(said.get("size", callers.PAGE), callers.MOST_LISTED)
        return await callers.list_(gateway, q=said.get("q", ""), page=said.get("page", 1), size=size)

    async def show(_: Caller, said: Said) -> Any:
        return await callers.show(gateway, said["caller"])

    async def sessions(_: Caller, __: Said) -> Any:
        found = ConsoleSessions(_records(gateway).writer).list_(gateway.config.console.session_idle_s)
        return {"sessions": [console.report(each) for each in found]}

    async def end(caller: Caller, said: Said) -> Any:
        records = _records(gateway)
        count = await console.end(records, ConsoleSessions(records.writer), id=said["id"], by=caller.name)
        return {"ended": count} if count else None

    return [
        Operation(
            name="callers.list",
            method="GET",
            path="/api/callers",
            run=list_,
            about="Who calls: scopes, limits, budgets and keys of each.",
            takes={
                "q": Takes(about="letters that are in their names"),
                "page": Takes("integer", "which page; the first, if it is not said"),
                "size": Takes("integer", f"callers of a page, at most {callers.MOST_LISTED}"),
            },
        ),
        Operation(
            name="callers.show",
            method="GET",
            path="/api/caller",
            run=show,
            about="One caller of the configuration, with its keys and the tools that it sees.",
            takes={"caller": Takes(about="its name in the configuration", needed=True)},
        ),
        Operation(
            name="console.sessions",
            method="GET",
            path="/api/console/sessions",
            run=sessions,
            about="Who is signed in at the console.",
            scopes=WRITE,
        ),
        Operation(
            name="console.end",
            method="POST",
            path="/api/console/sessions/{id}/end",
            run=end,
            about="Signs somebody out of the console.",
            scopes=WRITE,
            takes={"note": Takes(about="why")},
            named=True,
            recorded=True,
        ),
    ]


def _records(gateway: "Gateway") -> Records:
    if gateway.records is None:
        raise Unavailable("nobody is signed in where no records are kept: the operator has to set state_dir")
    return gateway.records
