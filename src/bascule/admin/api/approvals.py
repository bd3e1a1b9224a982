"""Questions that wait for a person. Who may see and answer them, admin/approvals.py decides."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, get_args

from bascule.admin import approvals
from bascule.admin.actions import Operation, Said, Takes
from bascule.admin.journal import MOST_LISTED
from bascule.call import Caller
from bascule.errors import Unavailable
from bascule.policy.approvals import State
from bascule.store.approvals import Approvals

if TYPE_CHECKING:
    from bascule.app import Gateway

_LISTED: Final = 100
_NOTE: Final = {"note": Takes(about="why; a caller that is denied is told it")}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    area = _Approvals(gateway)
    return [
        Operation(
            name="approvals.list",
            method="GET",
            path="/api/approvals",
            run=area.list_,
            about="Questions and answers of the last day, the newest first.",
            scopes=(),
            takes={
                "state": Takes(about="only those in it", choices=get_args(State)),
                "most": Takes("integer", f"how many; {_LISTED} if it is not said"),
            },
        ),
        Operation(
            name="approvals.show",
            method="GET",
            path="/api/approvals/{id}",
            run=area.show,
            about="One of them, with the exact arguments.",
            scopes=(),
        ),
        Operation(
            name="approvals.approve",
            method="POST",
            path="/api/approvals/{id}/approve",
            run=partial(area.decide, approve=True),
            about="Says yes to this one call.",
            scopes=(),
            takes=_NOTE,
            recorded=True,
        ),
        Operation(
            name="approvals.deny",
            method="POST",
            path="/api/approvals/{id}/deny",
            run=partial(area.decide, approve=False),
            about="Says no to this one call.",
            scopes=(),
            takes=_NOTE,
            recorded=True,
        ),
    ]


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
        most = min(said.get("most", _LISTED), MOST_LISTED)
        return {"approvals": approvals.list_(self._records, caller, state=said.get("state"), most=most)}

    async def show(self, caller: Caller, said: Said) -> Any:
        return approvals.show(self._records, caller, said["id"])

    async def decide(self, caller: Caller, said: Said, *, approve: bool) -> Any:
        return await approvals.decide(self._records, caller, said["id"], approve=approve, note=said.get("note", ""))
