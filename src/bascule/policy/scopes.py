"""Scopes: `resource:action:modifier`, what one covers of another, and what a caller holds. PURE.

A scope covers itself and everything below it: `crm:write` covers `crm:write:lead`. A part `*` covers any
part, so `crm:*:lead` covers `crm:write:lead`, and `*` covers everything. Nothing covers what is above it,
and no action implies another: who may write may not read unless a scope says so.
Source: MCP 2026-07-28, Authorization, "Scope Challenge Handling"; RFC 6749, 3.3.
"""

import re
from enum import Enum
from functools import lru_cache
from itertools import zip_longest
from typing import Final, TypeAlias

import msgspec

Scopes: TypeAlias = frozenset[str]

EVERYTHING: Final = "*"
# What shows how things stand. No server has a dot in its name, so no server's scopes open it.
OPERATORS: Final = ("bascule.status:read",)
# RFC 6749, 3.3: printable ASCII but the quote, the backslash and the space that separates scopes.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")


def is_scope(text: str) -> bool:
    """Whether *text* is a scope: parts without spaces, none of them empty, `*` only as a whole part."""
    parts = text.split(":")
    return bool(_SCOPE.fullmatch(text)) and all(part and (part == EVERYTHING or "*" not in part) for part in parts)


def covers(granted: str, wanted: str) -> bool:
    """Whether who holds *granted* has *wanted*."""
    have, need = granted.split(":"), wanted.split(":")
    if any(mine not in (EVERYTHING, theirs) for mine, theirs in zip(have, need, strict=False)):
        return False
    # What is longer than the wanted scope is narrower than it, unless it is only longer by wildcards.
    return all(part == EVERYTHING for part in have[len(need) :])


def common(one: str, other: str) -> str | None:
    """The scope that both cover: `crm:write:lead` of `crm:write` and `crm:*:lead`; None if there is none."""
    pairs = list(zip_longest(one.split(":"), other.split(":"), fillvalue=EVERYTHING))
    if any(mine != theirs and EVERYTHING not in (mine, theirs) for mine, theirs in pairs):
        return None
    return ":".join(theirs if mine == EVERYTHING else mine for mine, theirs in pairs)


@lru_cache(maxsize=65_536)
def _covered(granted: Scopes, wanted: tuple[str, ...]) -> bool:
    return all(any(covers(mine, need) for mine in granted) for need in wanted)


class Access(Enum):
    """What a caller may do with a thing that needs scopes."""

    ALLOWED = "allowed"
    LACKING = "lacking"  # it could get the scopes by asking for them, so it may know of the thing
    HIDDEN = "hidden"  # for this caller there is no such thing


class Authority(msgspec.Struct, frozen=True):
    """What a caller may do: *granted*, but no more than the *bound* of the credential it came with."""

    granted: Scopes = frozenset()
    bound: Scopes | None = None
    grantable: Scopes = frozenset()  # what it would be granted if it asked (step-up)

    def covers(self, wanted: tuple[str, ...]) -> bool:
        """Whether all of *wanted* are held."""
        return _covered(self.granted, wanted) and (self.bound is None or _covered(self.bound, wanted))

    def access(self, wanted: tuple[str, ...]) -> Access:
        """The one decision behind calls and lists alike."""
        if self.covers(wanted):
            return Access.ALLOWED
        return Access.LACKING if self.grantable and _covered(self.granted | self.grantable, wanted) else Access.HIDDEN

    @property
    def held(self) -> Scopes:
        """What it comes to: *granted* as far as the *bound* goes."""
        if self.bound is None:
            return self.granted
        return frozenset(both for one in self.granted for other in self.bound if (both := common(one, other)))


UNLIMITED: Final = Authority(frozenset({EVERYTHING}))
