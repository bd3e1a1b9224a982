"""The catalog of tools: search it, look at one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bascule.admin import catalog
from bascule.admin.actions import Operation, Said, Takes
from bascule.admin.catalog import PATIENCE_S, FiguresKept, Wanted
from bascule.call import Caller

if TYPE_CHECKING:
    from bascule.app import Gateway

_PATIENCE: Final = Takes("integer", "how long to wait for figures of use; what is `pending` was added up before")
_SEARCH: Final = {
    "q": Takes(about="words that are all in its name, its description or the names of its arguments"),
    "server": Takes(about="only those of this server"),
    "verb": Takes(about="what it does: the first word of its name, such as create"),
    "team": Takes(about="only those that this owner_team answers for"),
    "cost": Takes(about="what a call is estimated to cost, in USD", choices=catalog.COSTS),
    "level": Takes(about="its security_level", choices=catalog.LEVELS),
    "status": Takes(about="how far it is in its life", choices=catalog.STATUSES),
    "effect": Takes(about="whether it changes anything", choices=catalog.EFFECTS),
    "sort": Takes(about="the order; by name, if it is not said", choices=catalog.SORTS),
    "page": Takes("integer", "which page; the first, if it is not said"),
    "patience_ms": _PATIENCE,
    "size": Takes("integer", f"tools of a page, at most {catalog.MOST_LISTED}"),
}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    figures = FiguresKept(gateway)

    async def search(_: Caller, said: Said) -> Any:
        wanted = msgspec.convert({name: said[name] for name in Wanted.__struct_fields__ if name in said}, Wanted)
        size = min(said.get("size", catalog.PAGE), catalog.MOST_LISTED)
        known = await figures.now(_patience(said))
        return catalog.page(gateway, wanted, known, number=said.get("page", 1), size=size)

    async def tool(_: Caller, said: Said) -> Any:
        calls = min(said.get("calls", catalog.LAST_CALLS), catalog.MOST_LISTED)
        return await catalog.tool(gateway, said["tool"], await figures.now(_patience(said)), calls=calls)

    return [
        Operation(
            name="catalog.search",
            method="GET",
            path="/api/catalog",
            run=search,
            about="Tools that fit what is said, with what they cost and how they are used.",
            takes=_SEARCH,
        ),
        Operation(
            name="catalog.tool",
            method="GET",
            path="/api/tool",
            run=tool,
            about="All that there is to say of one tool.",
            takes={
                "tool": Takes(about="its logical id, such as crm/create_lead", needed=True),
                "calls": Takes("integer", "how many of its last calls", least=0),
                "patience_ms": _PATIENCE,
            },
        ),
    ]


def _patience(said: Said) -> float:
    asked_ms: int | None = said.get("patience_ms")
    return PATIENCE_S if asked_ms is None else min(asked_ms / 1000, PATIENCE_S)
