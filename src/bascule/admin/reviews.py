"""What can be done with definitions that wait for a review, for the command line, REST and the console.

Who decides is either a caller of the gateway, which needs a scope of its own for the aspect it speaks for, or somebody
who can open the state folder. Knows neither HTTP nor terminals.
"""

from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec

from bascule.admin.keys import date_of
from bascule.call import Caller
from bascule.errors import InvalidParams, InvalidRequest, ScopeDenied, Unauthenticated
from bascule.policy.approvals import shown_arguments
from bascule.policy.scopes import covers
from bascule.registry import pins
from bascule.store.definitions import Definitions, State, Wording
from bascule.store.sign_offs import SignOff, missing

WRITE: Final = "bascule.reviews:write"
STATES: Final[tuple[State, ...]] = get_args(State)
KINDS: Final[tuple[str, ...]] = get_args(pins.PinKind)
MOST_LISTED: Final = 1000
_MOST_SHOWN: Final = 65_536  # characters of a whole definition
_NOBODYS: Final = frozenset({"", "anonymous", "bearer"})  # proofs that many share


class NoSuchReview(InvalidParams):
    """There is no definition of that id, or it made room for newer ones."""

    http = 404


class AlreadyDecided(InvalidRequest):
    """What is said of it holds already."""

    http = 409


def list_(
    definitions: Definitions, *, state: State | None = "pending", server: str = "", most: int = 100
) -> list[dict[str, Any]]:
    """Definitions, those first that were listed last; without what they say. Raises Unavailable."""
    found = definitions.list_(state, server, max(1, min(most, MOST_LISTED)))
    return [report(each, is_changed=definitions.approved(each) is not None) for each in found]


def show(definitions: Definitions, id: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    """One of them, with what changed, and what in it should be looked at twice.

    *needed* are the aspects for which somebody has to sign. Raises NoSuchReview, Unavailable.
    """
    wording = definitions.find(id)
    if wording is None:
        raise _unknown(id)
    before = definitions.approved(wording)
    after, old = _decoded(wording), None if before is None else _decoded(before)
    others = [name for server, name in definitions.tools() if (server, name) != (wording.server, wording.name)]
    signed = definitions.sign_offs(id)
    return {
        **report(wording, is_changed=before is not None),
        "definition": after,
        "text": shown_arguments(wording.definition, _MOST_SHOWN),
        "approved": None if before is None else report(before, is_changed=False),
        "differences": [_difference(each) for each in ([] if old is None else pins.differences(old, after))],
        "findings": [msgspec.to_builtins(each) for each in pins.findings(after, old, others)],
        "sign_offs": [_signed(each) for each in signed],
        "missing": missing(signed, needed) if wording.state == "pending" else [],
    }


def history(definitions: Definitions, thing: str, kind: str = "tool") -> list[dict[str, Any]]:
    """Every wording of *thing* (`server/name`) that is kept, those first that were listed last; each with what it
    changed of the one before it. Raises NoSuchReview, Unavailable."""
    server, _, name = thing.partition("/")
    found = definitions.history(server, kind, name)
    if not found:
        raise NoSuchReview(f"no {kind} {thing[:200]!r} was ever listed; `bascule review list --state approved` has all")
    earlier: list[Wording | None] = [*found[1:], None]
    return [
        {
            **report(each, is_changed=before is not None),
            "changed": [] if before is None else list(pins.members_changed(_decoded(before), _decoded(each))),
        }
        for each, before in zip(found, earlier, strict=True)
    ]


async def decide(
    definitions: Definitions,
    caller: Caller | None,
    id: str,
    *,
    approve: bool,
    needed: Sequence[str] = (),
    aspect: str = "",
    note: str = "",
    by: str = "",
) -> dict[str, Any]:
    """The definition after it was approved or denied; *by* is who decides, where that is no *caller*.

    Raises InvalidParams, Unauthenticated, ScopeDenied (also for who speaks for a second aspect), NoSuchReview,
    AlreadyDecided, Unavailable.
    """
    if needed and aspect not in needed:
        raise InvalidParams(f"a definition needs {' and '.join(needed)}: say for which `aspect` you speak")
    if caller is not None:
        _admit(caller, aspect)
    found = await definitions.decide(
        id,
        approve=approve,
        by=by if caller is None else f"caller:{caller.name}",
        proof="" if caller is None else caller.proof,
        aspect=aspect,
        needed=needed,
        note=note,
    )
    match found:
        case Wording():
            signed = definitions.sign_offs(id)
            left = missing(signed, needed) if found.state == "pending" else []
            changed = definitions.approved(found) is not None
            return {
                **report(found, is_changed=changed),
                "sign_offs": [_signed(each) for each in signed],
                "missing": left,
            }
        case "unknown":
            raise _unknown(id)
        case "twice":
            raise ScopeDenied("nobody speaks for two aspects of one definition: somebody else has to")
        case "decided":
            row = definitions.find(id)
            raise AlreadyDecided(f"{id} is {row.state if row else 'gone'} already")


def report(wording: Wording, *, is_changed: bool) -> dict[str, Any]:
    """What may be known of a definition, in JSON. Times are RFC 3339, in UTC."""
    return {
        "id": wording.id,
        "state": wording.state,
        "change": "changed" if is_changed else "new",
        "kind": wording.kind,
        "tool": wording.thing,
        "server": wording.server,
        "name": wording.name,
        "digest": wording.digest,
        "source": wording.source,
        "listed": date_of(wording.seen_at_s),
        "decided": date_of(wording.decided_at_s),
        "decided_by": wording.decided_by,
        "note": wording.note,
    }


def _difference(difference: pins.Difference) -> dict[str, Any]:
    return {
        "where": difference.where,
        "before": difference.before,
        "after": difference.after,
        "words": [list(each) for each in difference.words],
    }


def _signed(said: SignOff) -> dict[str, Any]:
    return {
        "aspect": said.aspect,
        "decision": said.decision,
        "signer": said.signer,
        "at": date_of(said.at_s),
        "note": said.note,
    }


def _decoded(wording: Wording) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(wording.definition)
    return found


def _admit(caller: Caller, aspect: str) -> None:
    if caller.proof in _NOBODYS:
        raise Unauthenticated("who reviews has to say who they are", reason="")
    # By its name: an agent that may call everything must not approve what the tools that it calls say of themselves.
    mine = [each for each in caller.authority.held if each.split(":")[0] == WRITE.split(":")[0]]
    wanted = f"{WRITE}:{aspect}" if aspect else WRITE
    if any(covers(each, wanted) or (not aspect and each.startswith(f"{WRITE}:")) for each in mine):
        return
    raise ScopeDenied(f"this needs the scope {wanted}, granted by that name", [wanted])


def _unknown(id: str) -> NoSuchReview:
    return NoSuchReview(f"there is no definition {id[:64]!r}; `bascule review list` shows what waits")
