"""What a step from one version to the next says to callers. PURE.

Source: Semantic Versioning 2.0.0, items 4 and 6 to 8. Pre-releases and build metadata are not used here.
"""

from enum import IntEnum
from typing import NamedTuple

from bascule.contract.model import VERSION


class Step(IntEnum):
    """How much a change asks of callers; a larger one covers the smaller."""

    PATCH = 1  # words only: nothing that a caller does or gets is different
    MINOR = 2  # what was right before is right now, and there is something new
    MAJOR = 3  # what was right before may be refused now, or mean something else


class Version(NamedTuple):
    """Ordered as SemVer orders them."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def after(self, step: Step) -> "Version":
        """The least version that may follow this one with a change of *step*.

        Below 1.0.0 nothing is promised yet; as everywhere, its second number stands for the first there.
        """
        if self.major == 0:
            step = Step(max(step - 1, Step.PATCH))
        match step:
            case Step.MAJOR:
                return Version(self.major + 1, 0, 0)
            case Step.MINOR:
                return Version(self.major, self.minor + 1, 0)
            case _:
                return Version(self.major, self.minor, self.patch + 1)


def parse(text: str) -> Version:
    """The version that *text* is. Raises ValueError."""
    found = VERSION.fullmatch(text)
    if found is None:
        raise ValueError(f"version {text!r} is not MAJOR.MINOR.PATCH")
    return Version(int(found[1]), int(found[2]), int(found[3]))


def step_between(before: Version, after: Version) -> Step | None:
    """The step that two versions say was taken; None when they are the same or the second is older."""
    if after <= before:
        return None
    if after.major != before.major:
        return Step.MAJOR
    return Step.MINOR if after.minor != before.minor else Step.PATCH
