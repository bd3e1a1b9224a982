"""The life of one version of a contract in the registry: its states, the steps between them, what a step needs. PURE.

draft → in_review → active → deprecated → gone; back from in_review to draft, and from deprecated to active. What is
gone never returns: callers were told that it is, and have moved on.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final, Literal, TypeAlias

import msgspec

from bascule.contract.lint import Subject, lint
from bascule.contract.model import Contract, Status

Action: TypeAlias = Literal["submit", "withdraw", "promote", "deprecate", "retire"]

STEPS: Final[Mapping[Action, Mapping[Status, Status]]] = {
    "submit": {"draft": "in_review"},
    "withdraw": {"in_review": "draft"},
    "promote": {"in_review": "active", "deprecated": "active"},
    "deprecate": {"active": "deprecated", "deprecated": "deprecated"},  # the second says its end anew
    "retire": {"deprecated": "gone"},
}
APPROVED: Final = "approved"

_DONE: Final[Mapping[Action, str]] = {
    "submit": "submitted for review",
    "withdraw": "taken back",
    "promote": "promoted",
    "deprecate": "deprecated",
    "retire": "retired",
}
_NEXT: Final[Mapping[Status, str]] = {
    "draft": "submit it for review",
    "in_review": "promote it, or take it back to change it",
    "active": "deprecate it when it is to end",
    "deprecated": "retire it when nobody calls it any more, or promote it again",
    "gone": "publish a new version: a version that is gone never returns",
}


def after(status: Status, action: Action) -> Status:
    """The state that *action* leads to. Raises ValueError, which says what can be done instead."""
    found = STEPS[action].get(status)
    if found is None:
        raise ValueError(f"it is {status} and cannot be {_DONE[action]}; {_NEXT[status]}")
    return found


def possible(status: Status) -> Sequence[Action]:
    """What can be done with a version in *status*."""
    return [action for action, steps in STEPS.items() if status in steps]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is to be active, and what is known of it."""

    contract: Contract
    faults: Sequence[str] = ()  # what `contract lint` calls errors
    wanted: Sequence[str] = ()  # the aspects that somebody has to sign off: `security`, `business`
    signed: Mapping[str, str] = {}  # the decision on each aspect
    frozen: str = ""  # why nothing is promoted now; "" when that is not so


def lacking(candidate: Candidate) -> list[str]:
    """All that stands in the way of a promotion, in words; nothing when it may be."""
    contract = candidate.contract
    missing = [f"contract lint: {fault}" for fault in candidate.faults]
    unsaid = [field for field in ("owner_team", "owner_email") if not getattr(contract, field)]
    if unsaid:
        missing.append(f"nobody answers for it: say {' and '.join(unsaid)}")
    for aspect in candidate.wanted:
        decision = candidate.signed.get(aspect)
        if decision is None:
            missing.append(f"nobody has signed off {aspect}")
        elif decision != APPROVED:
            missing.append(f"{aspect} was {decision}")
    if candidate.frozen:
        missing.append(candidate.frozen)
    return missing


def faults_of(contract: Contract, today: date) -> list[str]:
    """What `bascule contract lint` calls errors, each with its place in the contract."""
    found = lint([Subject(contract, lambda field: field)], today)
    return [f"{each.message} [{each.rule}]" for each in found if each.level == "error"]
