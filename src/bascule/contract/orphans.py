"""What nobody looks after: contracts without an owner or a recent review, and tools and contracts without each other.

PURE: today's date, and what the servers list, come from the caller.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

import msgspec

from bascule.contract.model import Contract, Kind

Lack: TypeAlias = Literal[
    "no_owner",  # active or deprecated, without owner_team or owner_email
    "odd_team",  # its owner_team is nobody else's, and almost the name of a team that others have
    "not_listed",  # a contract whose server lists no such thing, or is no server here
    "no_contract",  # a listed tool that nobody says anything of
    "review_missing",  # nobody has reviewed its security
    "review_old",
]

REVIEW_DAYS: Final = 365
_ALIKE: Final = 0.85  # of 1; `sales-platfrom` and `sales-platform`
_MEND: Final[Mapping[Lack, str]] = {
    "no_owner": "publish a version with owner_team and owner_email",
    "odd_team": "correct owner_team if it is a slip of the pen",
    "not_listed": "retire the contract, or find out why its server does not list it",
    "no_contract": "`bascule contract new` writes a contract to begin with",
    "review_missing": "have it reviewed, and say when in last_security_review",
    "review_old": "have it reviewed again, and say when in last_security_review",
}


class Orphan(msgspec.Struct, frozen=True):
    lack: Lack
    kind: Kind
    id: str
    version: str
    message: str
    mend: str


class Listed(msgspec.Struct, frozen=True):
    """What a server lists, as far as it is known: *governed* things have a contract or a rule of their own."""

    things: Mapping[tuple[Kind, str], bool]  # kind and logical id -> whether it is governed
    unknown: Collection[str] = ()  # servers that have not been heard yet


def orphans(
    contracts: Sequence[Contract], listed: Listed | None, today: date, *, days: int = REVIEW_DAYS
) -> list[Orphan]:
    """All that is left alone, in the order of *contracts*, then the tools without one.

    *contracts* are the newest served version of each thing. *listed* is None where no server was asked: then nothing
    is said of what is listed.
    """
    teams = Counter(each.owner_team for each in contracts if each.owner_team)
    found = []
    for contract in contracts:
        for lack, message in _of_one(contract, teams, listed, today, days):
            version = contract.version if "version" in contract.sources else ""
            found.append(Orphan(lack, contract.kind, contract.id, version, message, _MEND[lack]))
    return found + list(_bare(listed, {(each.kind, each.id) for each in contracts}))


def _of_one(
    contract: Contract, teams: Mapping[str, int], listed: Listed | None, today: date, days: int
) -> Iterator[tuple[Lack, str]]:
    if unsaid := [field for field in ("owner_team", "owner_email") if not getattr(contract, field)]:
        yield "no_owner", f"it is {contract.status}, and has no {' and no '.join(unsaid)}"
    if (meant := _meant(contract.owner_team, teams)) is not None:
        yield "odd_team", f"nothing else belongs to {contract.owner_team!r}; is it {meant!r}?"
    asked = listed is not None and contract.namespace not in listed.unknown
    if listed is not None and asked and (contract.kind, contract.id) not in listed.things:
        yield "not_listed", f"no server lists this {contract.kind}"
    yield from _reviewed(contract.last_security_review, today, days)


def _meant(team: str, teams: Mapping[str, int]) -> str | None:
    """The team that *team*, which has one thing, was probably meant to be."""
    if teams.get(team) != 1:
        return None
    close = get_close_matches(team, [other for other, count in teams.items() if count > 1], n=1, cutoff=_ALIKE)
    return close[0] if close else None


def _reviewed(said: str | None, today: date, days: int) -> Iterator[tuple[Lack, str]]:
    day = _date(said)
    if day is None:
        yield "review_missing", "nobody has said when its security was reviewed"
    elif today - day > timedelta(days=days):
        yield "review_old", f"its last security review is {(today - day).days} days old"


def _date(said: str | None) -> date | None:
    try:
        return date.fromisoformat(said) if said and re.fullmatch(r"\d{4}-\d\d-\d\d", said) else None
    except ValueError:
        return None


def _bare(listed: Listed | None, known: Collection[tuple[Kind, str]]) -> Iterator[Orphan]:
    for (kind, id), governed in sorted(listed.things.items()) if listed is not None else ():
        if kind == "tool" and not governed and (kind, id) not in known:
            yield Orphan("no_contract", kind, id, "", "its server lists it, and no contract says anything of it",
                         _MEND["no_contract"])  # fmt: skip
