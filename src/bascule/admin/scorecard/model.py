"""What a criterion is, what it looks at, and what it can say. PURE.

Nothing is claimed that was not seen: what cannot be seen from here scores nothing, and says what would show it.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from bascule.admin.doctor.examine import Running
from bascule.admin.doctor.setup import Setup
from bascule.admin.scorecard.surroundings import Surroundings

State: TypeAlias = Literal["met", "partly", "not met", "not applicable"]
Weight: TypeAlias = Literal["critical", "important", "nice"]

POINTS: Final[dict[State, float]] = {"met": 1.0, "partly": 0.5, "not met": 0.0, "not applicable": 0.0}


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """All that is looked at."""

    setup: Setup
    gateway: Running | None  # that runs
    files: Surroundings  # beside the configuration


class Verdict(msgspec.Struct, frozen=True):
    """What was seen, and how to gain what is missing."""

    state: State
    evidence: str
    gain: str = ""


class Criterion(msgspec.Struct, frozen=True):
    """One question. It is worth a point; its weight says what the answer means for production."""

    id: str
    title: str
    weight: Weight
    check: Callable[[Scene], Verdict]


class Group(msgspec.Struct, frozen=True):
    name: str
    criteria: Sequence[Criterion]


def met(evidence: str) -> Verdict:
    return Verdict("met", evidence)


def partly(evidence: str, gain: str) -> Verdict:
    return Verdict("partly", evidence, gain)


def missing(evidence: str, gain: str) -> Verdict:
    return Verdict("not met", evidence, gain)


def idle(evidence: str) -> Verdict:
    """There is nothing here that it could be about."""
    return Verdict("not applicable", evidence)
