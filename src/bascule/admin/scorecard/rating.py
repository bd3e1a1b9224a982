"""The criteria together: points for each group, a total, a grade. PURE, as the checks are."""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.admin.scorecard import deployment, monitoring, performance, reliability, security, testing
from bascule.admin.scorecard.model import POINTS, Criterion, Group, Scene, State

Grade: TypeAlias = Literal["A", "B", "C", "D", "E"]

GROUPS: Final[Sequence[Group]] = (
    security.GROUP,
    monitoring.GROUP,
    performance.GROUP,
    reliability.GROUP,
    deployment.GROUP,
    testing.GROUP,
)
GRADES: Final[Sequence[tuple[float, Grade]]] = ((90, "A"), (75, "B"), (50, "C"), (25, "D"))  # percent, at least
BEST_WITHOUT_A_CRITICAL: Final[Grade] = "C"


class Rated(msgspec.Struct, frozen=True):
    """One criterion, answered."""

    criterion: Criterion
    state: State
    evidence: str
    gain: str

    @property
    def points(self) -> float:
        return POINTS[self.state]

    @property
    def counts(self) -> bool:
        return self.state != "not applicable"

    @property
    def is_left(self) -> bool:
        """Whether it stands between this and production."""
        return self.criterion.weight == "critical" and self.state == "not met"


class RatedGroup(msgspec.Struct, frozen=True):
    name: str
    rated: Sequence[Rated]

    @property
    def points(self) -> float:
        return sum(each.points for each in self.rated)

    @property
    def most(self) -> int:
        """A point for each criterion that is applicable."""
        return sum(each.counts for each in self.rated)


class Scorecard(msgspec.Struct, frozen=True):
    """All groups."""

    subject: str  # what was rated
    at_s: float
    groups: Sequence[RatedGroup]

    @property
    def points(self) -> float:
        return sum(each.points for each in self.groups)

    @property
    def most(self) -> int:
        return sum(each.most for each in self.groups)

    @property
    def percent(self) -> float:
        return 100 * self.points / self.most if self.most else 0.0

    @property
    def critical_left(self) -> list[Rated]:
        """What stands between this and production: critical, and not met at all."""
        return [each for group in self.groups for each in group.rated if each.is_left]

    @property
    def grade(self) -> Grade:
        found: Grade = next((grade for least, grade in GRADES if self.percent >= least), "E")
        if self.critical_left and found < BEST_WITHOUT_A_CRITICAL:
            return BEST_WITHOUT_A_CRITICAL
        return found

    @property
    def sentence(self) -> str:
        total = f"{self.points:g} of {self.most} points, {self.percent:.0f} %, grade {self.grade}"
        if not (left := self.critical_left):
            return total
        return f"{total}; not for production before: {', '.join(each.criterion.title for each in left)}"


def rate(scene: Scene) -> Scorecard:
    """Every criterion, asked."""
    groups = [RatedGroup(group.name, [_answered(each, scene) for each in group.criteria]) for group in GROUPS]
    return Scorecard(str(scene.setup.path), scene.setup.now_s, groups)


def _answered(criterion: Criterion, scene: Scene) -> Rated:
    verdict = criterion.check(scene)
    return Rated(criterion, verdict.state, verdict.evidence, verdict.gain)


def report(card: Scorecard) -> dict[str, Any]:
    """The scorecard in JSON."""
    return {
        "subject": card.subject,
        "points": card.points,
        "most": card.most,
        "percent": round(card.percent, 1),
        "grade": card.grade,
        "critical_left": [each.criterion.id for each in card.critical_left],
        "groups": [
            {"name": group.name, "points": group.points, "most": group.most, "criteria": list(map(_row, group.rated))}
            for group in card.groups
        ],
    }


def _row(rated: Rated) -> dict[str, Any]:
    criterion = rated.criterion
    return {
        "id": criterion.id,
        "title": criterion.title,
        "weight": criterion.weight,
        "state": rated.state,
        "points": rated.points,
        "evidence": rated.evidence,
        "gain": rated.gain or None,
    }
