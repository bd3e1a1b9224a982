"""A call of a tool, for whoever speaks REST and no MCP."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bascule.admin import catalog, tryout
from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller

if TYPE_CHECKING:
    from bascule.app import Gateway


def operations(gateway: "Gateway") -> Sequence[Operation]:
    async def call(caller: Caller, said: Said) -> Any:
        if caller.proof == tryout.CONSOLE:
            found = catalog.entry(gateway, said["tool"])
            if found is None:
                return None  # what a person there can try is on a page
            tryout.check(gateway, caller, found, said.get("version", ""))
        return await tryout.call(
            gateway,
            caller,
            said["tool"],
            said.get("arguments", {}),
            version=said.get("version", ""),
            key=said.get("idempotency_key", ""),
            token=said.get("confirmation_token", ""),
        )

    return [
        Operation(
            name="tools.call",
            method="POST",
            path="/api/tools/call",
            run=call,
            about="Calls a tool under the caller's own name and scopes; the answer says what came of it.",
            takes={
                "tool": Takes(about="its logical id, such as crm/create_lead, or its name for clients", needed=True),
                "arguments": Takes("object", "what it is called with; nothing, if it is not said"),
                "version": Takes(about="which of its versions, or a range such as ^1.2"),
                "idempotency_key": Takes(about="calls with the same key are one call; 16 to 255 characters"),
                "confirmation_token": Takes(about="of the confirmation that an earlier try of it asked for"),
            },
            recorded=True,  # as a call, with all that the audit says of calls
        )
    ]
