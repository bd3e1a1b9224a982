"""The servers behind a gateway."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import servers
from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller

if TYPE_CHECKING:
    from bascule.app import Gateway

WRITE: Final = ("bascule.servers:write",)
_NOTE: Final = {"note": Takes(about="why")}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    async def list_(_: Caller, __: Said) -> Any:
        return {"servers": servers.list_(gateway)}

    async def show(_: Caller, said: Said) -> Any:
        return servers.show(gateway, said["server"])

    async def restart(_: Caller, said: Said) -> Any:
        return await servers.restart(gateway, said["server"])

    async def disable(caller: Caller, said: Said) -> Any:
        return await servers.disable(gateway, said["server"], by=caller.name, note=said.get("note", ""))

    async def enable(_: Caller, said: Said) -> Any:
        return await servers.enable(gateway, said["server"])

    path = "/api/servers/{server}"
    return [
        Operation(
            name="servers.list", method="GET", path="/api/servers", run=list_, about="All servers, as they are now."
        ),
        Operation(name="servers.show", method="GET", path=path, run=show, about="One server."),
        Operation(
            name="servers.restart",
            method="POST",
            path=f"{path}/restart",
            run=restart,
            about="Starts a server anew; calls that run there may end first.",
            scopes=WRITE,
            takes=_NOTE,
        ),
        Operation(
            name="servers.disable",
            method="POST",
            path=f"{path}/disable",
            run=disable,
            about="Switches a server off until somebody enables it.",
            scopes=WRITE,
            takes=_NOTE,
        ),
        Operation(
            name="servers.enable",
            method="POST",
            path=f"{path}/enable",
            run=enable,
            about="Lets a server run again.",
            scopes=WRITE,
            takes=_NOTE,
        ),
    ]
