"""Several versions of one thing side by side: which of them a call goes to. PURE.

A caller names a version, exactly or by a range; else the operator's route decides, else it is the highest that is
active. A version that nobody has is an error and never another one. Source: design §5; docs/versions.md.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bascule.contract.model import Contract, Deprecation, Document, Status
from bascule.contract.semver import Version, parse
from bascule.errors import VersionNotFound

LATEST: Final = "latest"

_PART: Final = re.compile(r"(\^|~|>=|<=|>|<|=)?v?(\d{1,9})(?:\.(\d{1,9}|[xX*]))?(?:\.(\d{1,9}|[xX*]))?", re.ASCII)
_LONGEST: Final = 100  # characters of a range
_SERVED: Final = ("active", "deprecated", "gone")  # the best first
_LAST: Final = Version(10**9, 0, 0)  # after all that can be written


class Span(msgspec.Struct, frozen=True):
    """The versions from *least* on, up to but not *below*."""

    least: Version
    below: Version

    def holds(self, version: Version) -> bool:
        return self.least <= version < self.below


def range_of(text: str) -> Sequence[Span]:
    """What `1`, `1.2`, `1.2.3`, `^1.2`, `~1.2.3`, `>=1.2 <2` or `latest` asks for: all of the spans have to hold.

    Raises ValueError for anything else.
    """
    if text in (LATEST, "*"):
        return (Span(Version(0, 0, 0), _LAST),)
    parts = text.split()
    found = [_PART.fullmatch(part) for part in parts]
    if not parts or len(text) > _LONGEST or None in found:
        raise ValueError(f"{text[:_LONGEST]!r} is no version: write 1, 1.2, 1.2.3, ^1.2, ~1.2.3 or '>=1.2 <2'")
    return [_span(match) for match in found if match is not None]


def _span(match: "re.Match[str]") -> Span:
    operator, numbers = match[1] or "", [int(each) for each in match.groups()[1:] if each and each.isdigit()]
    least = Version(*[*numbers, 0, 0][:3])
    widest = _after(least, len(numbers))  # what the text, as far as it goes, leaves open
    match operator:
        case ">=":
            return Span(least, _LAST)
        case ">":
            return Span(widest, _LAST)
        case "<":
            return Span(Version(0, 0, 0), least)
        case "<=":
            return Span(Version(0, 0, 0), widest)
        case "^":
            return Span(least, _after(least, 1 if least.major else 2 if least.minor else len(numbers)))
        case "~":
            return Span(least, _after(least, min(2, len(numbers))))
        case _:
            return Span(least, widest)


def _after(version: Version, kept: int) -> Version:
    """The first version that differs from *version* in the numbers that are *kept*."""
    if kept == 1:
        return Version(version.major + 1, 0, 0)
    if kept == 2:
        return Version(version.major, version.minor + 1, 0)
    return Version(version.major, version.minor, version.patch + 1)


class Route(msgspec.Struct, frozen=True):
    """Where the operator sends calls that name no version."""

    version: str = ""  # "": the highest that is active
    canary: str = ""  # a version that some callers try
    percent: int = 0  # how many of them: 0 to 100


class Known(msgspec.Struct, frozen=True):
    """One version that can be called, or could be."""

    version: Version
    status: Status
    served_by: str = ""  # `server/name` that stands behind it; "": the thing itself


class Choice(msgspec.Struct, frozen=True):
    """The versions of one thing, the oldest first, and which goes without being named."""

    id: str
    versions: tuple[Known, ...]
    default: Known
    canary: Known | None = None
    percent: int = 0

    def pick(self, wanted: str, caller: str) -> Known:
        """The version for a call of *caller*, who asks for *wanted*; "" for nothing. Raises VersionNotFound."""
        if not wanted:
            is_trying = self.canary is not None and share_of(self.id, caller) < self.percent
            return self.canary if self.canary is not None and is_trying else self.default
        try:
            spans = range_of(wanted)
        except ValueError as error:
            raise VersionNotFound(str(error), versions=self.said) from error
        found = [each for each in self.versions if all(span.holds(each.version) for span in spans)]
        if not found:
            raise VersionNotFound(
                f"{self.id} has no version {wanted!r}; there are {', '.join(self.said)}", versions=self.said
            )
        return _best(found)

    def needs(self, server: str) -> bool:
        """Whether *server* stands behind one of them."""
        return any(each.served_by.startswith(f"{server}/") for each in self.versions)

    @property
    def said(self) -> list[str]:
        """The versions that are there for callers."""
        return [str(each.version) for each in self.versions if each.status != "gone"]


def share_of(id: str, caller: str) -> int:
    """A number from 0 to 99 that is the same for a caller as long as it calls *id*."""
    return int.from_bytes(hashlib.sha256(f"{id}\0{caller}".encode()).digest()[:8]) % 100


def _best(found: Sequence[Known]) -> Known:
    """The highest that is active; else deprecated; else gone."""
    return min(found, key=lambda each: (_SERVED.index(each.status), tuple(-number for number in each.version)))


def choice_of(id: str, documents: Sequence[Document], route: Route, today: str) -> Choice | None:
    """What can be chosen among *documents*, of one thing; None where nobody has anything to choose.

    A route to what is not there, or not there any more, counts as none: see `faults_of`.
    """
    known = tuple(
        Known(parse(each.version), status_on(each, today), each.served_by or "")
        for each in documents
        if isinstance(each.version, str) and status_on(each, today) in _SERVED
    )
    if not known or (len(documents) == 1 and not known[0].served_by):
        return None
    by_name = {str(each.version): each for each in known if each.status != "gone"}
    canary = by_name.get(route.canary)
    return Choice(id, known, by_name.get(route.version) or _best(known), canary, route.percent if canary else 0)


def status_on(document: Document, today: str) -> Status:
    """The status of a document on a day, YYYY-MM-DD: what is deprecated is gone when its sunset comes."""
    status: Status = document.status or "active"
    return "gone" if status == "deprecated" and has_ended(document.deprecation or None, today) else status


def has_ended(end: Deprecation | None, today: str) -> bool:
    """Whether the day has come on which a deprecated thing goes. Without a day, "", it has not."""
    return end is not None and end.sunset is not None and bool(today) and end.sunset <= today


def only(contract: Contract, wanted: str) -> None:
    """Raise VersionNotFound unless *wanted* is what *contract*, the only one of its thing, is a version of."""
    versioned = "version" in contract.sources
    said = [contract.version] if versioned and contract.status != "gone" else []
    try:
        fits = versioned and all(span.holds(parse(contract.version)) for span in range_of(wanted))
    except ValueError as error:
        raise VersionNotFound(str(error), versions=said) from error
    if not fits:
        has = f"there is {contract.version}" if versioned else "no contract says of which version it is"
        raise VersionNotFound(f"{contract.id} has no version {wanted!r}: {has}", versions=said)


class Registered(msgspec.Struct, frozen=True):
    """What the registry says beside the configuration."""

    documents: tuple[tuple[str, Document], ...] = ()  # with their places
    routes: Mapping[str, Route] = {}  # by logical id


NOTHING_REGISTERED: Final = Registered()
