"""The kept results of tools: what they are good for, and throwing them away."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller

if TYPE_CHECKING:
    from bascule.app import Gateway

WRITE: Final = ("bascule.cache:write",)


def operations(gateway: "Gateway") -> Sequence[Operation]:
    async def report(_: Caller, __: Said) -> Any:
        return gateway.cache.report()

    async def clear(_: Caller, said: Said) -> Any:
        return {"cleared": gateway.cache.clear(server=said.get("server"), tool=said.get("tool"))}

    return [
        Operation(
            name="cache.report",
            method="GET",
            path="/api/cache",
            run=report,
            about="How well kept results serve.",
        ),
        Operation(
            name="cache.clear",
            method="DELETE",
            path="/api/cache",
            run=clear,
            about="Throws kept results away: all, those of a server, or those of a tool.",
            scopes=WRITE,
            takes={"tool": Takes(about="its logical id"), "server": Takes(about="its name")},
        ),
    ]
