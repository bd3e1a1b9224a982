"""What can be done with questions that wait for a person, for the command line, REST and the console.

Who decides is either a caller of the gateway, which needs a scope of its own for it, or somebody who can open the
state folder. Knows neither HTTP nor terminals.
"""

from collections.abc import Sequence
from typing import Any, Final

from bascule.admin.keys import date_of
from bascule.call import Caller
from bascule.errors import InvalidParams, InvalidRequest, ScopeDenied, Unauthenticated
from bascule.policy.approvals import Approval, State
from bascule.policy.scopes import covers
from bascule.store.approvals import Approvals

READ: Final = "bascule.approvals:read"
WRITE: Final = "bascule.approvals:write"
_RESOURCE: Final = "bascule.approvals"
_NOBODYS: Final = frozenset({"", "anonymous", "bearer"})  # proofs that many share


class NoSuchApproval(InvalidParams):
    """There is no question of that id, or it was answered long ago."""

    http = 404


class NotPending(InvalidRequest):
    """The question cannot be answered any more."""

    http = 409


def list_(
    approvals: Approvals, caller: Caller | None, *, state: State | None = None, most: int = 100
) -> Sequence[dict[str, Any]]:
    """Questions and answers, the newest first, without arguments.

    *caller* is who wants to know; None for who can open the state folder. Raises Unauthenticated, ScopeDenied.
    """
    _admit(caller, READ)
    return [report(each, approvals.now_s()) for each in approvals.list_(state, most)]


def show(approvals: Approvals, caller: Caller | None, id: str) -> dict[str, Any]:
    """One of them, with the arguments as whoever decides has to see them. Raises NoSuchApproval besides."""
    _admit(caller, READ)
    found = approvals.find(id)
    if found is None or found.channel == "round":
        raise _unknown(id)
    return {**report(found, approvals.now_s()), "arguments": approvals.arguments(found)}


async def decide(
    approvals: Approvals, caller: Caller | None, id: str, *, approve: bool, note: str = "", by: str = ""
) -> dict[str, Any]:
    """The question after it was answered; *by* is who decides, where that is no *caller*.

    Raises Unauthenticated, ScopeDenied (also for one's own question), NoSuchApproval, NotPending.
    """
    _admit(caller, WRITE)
    name = None if caller is None else caller.name
    found = await approvals.decide(id, approve=approve, by=f"caller:{name}" if name else by, caller=name, note=note)
    match found:
        case Approval():
            return report(found, approvals.now_s())
        case "unknown":
            raise _unknown(id)
        case "own":
            raise ScopeDenied("nobody answers the question that their own call has raised: somebody else has to")
        case "decided":
            row = approvals.find(id)
            state = "gone" if row is None else row.state_at(approvals.now_s())
            raise NotPending(f"{id} is {state}: it cannot be answered any more", state=state)


def report(approval: Approval, now_s: float) -> dict[str, Any]:
    """What may be known of a question, in JSON. Times are RFC 3339, in UTC."""
    return {
        "id": approval.id,
        "state": approval.state_at(now_s),
        "caller": approval.caller,
        "tool": approval.thing,
        "version": approval.version,
        "question": approval.question,
        "rule": approval.rule,
        "four_eyes": approval.four_eyes,
        "channel": approval.channel,
        "trace_id": approval.trace_id,
        "definition_sha256": approval.pin.hex(),
        "call_sha256": approval.fingerprint.hex(),
        "created": date_of(approval.created_at_s),
        "expires": date_of(approval.expires_at_s),
        "decided": date_of(approval.decided_at_s),
        "decided_by": approval.decided_by,
        "used": date_of(approval.used_at_s),
        "note": approval.note,
    }


def _admit(caller: Caller | None, wanted: str) -> None:
    if caller is None:
        return
    if caller.proof in _NOBODYS:
        raise Unauthenticated("who looks after approvals has to say who they are", reason="")
    # By its name: who may call everything, as agents often do, may not for that reason say yes to others' calls.
    granted = [mine for mine in caller.authority.granted if mine.split(":")[0] == _RESOURCE]
    enough = (wanted, WRITE) if wanted == READ else (wanted,)
    if not any(covers(mine, each) and caller.authority.covers((each,)) for mine in granted for each in enough):
        raise ScopeDenied(f"this needs the scope {wanted}, granted by that name", [wanted])


def _unknown(id: str) -> NoSuchApproval:
    return NoSuchApproval(f"there is no question {id[:64]!r}; `bascule approvals list` shows what there is")
