"""Definitions of servers that wait for a review, and what was decided of them."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import reviews
from bascule.admin.actions import Operation, Said, Takes
from bascule.call import Caller
from bascule.errors import Unavailable
from bascule.store.definitions import Definitions

if TYPE_CHECKING:
    from bascule.app import Gateway

READ: Final = ("bascule.registry:read",)
_LISTED: Final = 100
_DECIDING: Final = {
    "aspect": Takes(about="what you speak for, where `registry.sign_offs` asks for it: security, business"),
    "note": Takes(about="why"),
}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    area = _Reviews(gateway)
    return [
        Operation(
            name="reviews.list",
            method="GET",
            path="/api/reviews",
            run=area.list_,
            about="Definitions that wait for a review, those first that were listed last.",
            scopes=READ,
            takes={
                "state": Takes(
                    about="those in it, or all; pending if it is not said", choices=(*reviews.STATES, "all")
                ),
                "server": Takes(about="only those of this server"),
                "most": Takes("integer", f"how many; {_LISTED} if it is not said"),
            },
        ),
        Operation(
            name="reviews.show",
            method="GET",
            path="/api/reviews/{id}",
            run=area.show,
            about="One of them, with what changed since the approved one, and what in it to look at twice.",
            scopes=READ,
        ),
        Operation(
            name="reviews.history",
            method="GET",
            path="/api/definitions",
            run=area.history,
            about="Every definition of one thing that is kept.",
            scopes=READ,
            takes={
                "tool": Takes(about="its logical id, such as crm/create_lead", needed=True),
                "kind": Takes(about="tool if it is not said", choices=reviews.KINDS),
            },
        ),
        *_decisions(area),
    ]


def _decisions(area: "_Reviews") -> Sequence[Operation]:
    """Which scope is needed depends on the aspect: admin/reviews.py looks."""
    return [
        Operation(
            name="reviews.approve",
            method="POST",
            path="/api/reviews/{id}/approve",
            run=partial(area.decide, approve=True),
            about="Approves exactly this definition, for an aspect where several have to sign.",
            scopes=(),
            takes=_DECIDING,
            named=True,
            recorded=True,
        ),
        Operation(
            name="reviews.deny",
            method="POST",
            path="/api/reviews/{id}/deny",
            run=partial(area.decide, approve=False),
            about="Denies exactly this definition, also one that was approved before.",
            scopes=(),
            takes=_DECIDING,
            named=True,
            recorded=True,
        ),
    ]


class _Reviews:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    @property
    def _definitions(self) -> Definitions:
        records = self._gateway.records
        if records is None:
            raise Unavailable("definitions are not kept here: the operator has to set state_dir")
        return records.definitions

    @property
    def _needed(self) -> Sequence[str]:
        return self._gateway.config.registry.sign_offs

    async def list_(self, _: Caller, said: Said) -> Any:
        state = said.get("state", "pending")
        found = reviews.list_(
            self._definitions,
            state=None if state == "all" else state,
            server=said.get("server", ""),
            most=said.get("most", _LISTED),
        )
        return {"reviews": found}

    async def show(self, _: Caller, said: Said) -> Any:
        return reviews.show(self._definitions, said["id"], self._needed)

    async def history(self, _: Caller, said: Said) -> Any:
        return {"definitions": reviews.history(self._definitions, said["tool"], said.get("kind", "tool"))}

    async def decide(self, caller: Caller, said: Said, *, approve: bool) -> Any:
        decided = await reviews.decide(
            self._definitions,
            caller,
            said["id"],
            approve=approve,
            needed=self._needed,
            aspect=said.get("aspect", ""),
            note=said.get("note", ""),
        )
        await self._gateway.judge.look()  # it counts at once
        return decided
