"""The roles of people at the console, and the scopes that each stands for. PURE.

Every role but `viewer` adds one thing to what a viewer sees; who needs two of them is given two. `admin` has it all.
None of these scopes opens a tool of a server: who uses the console to look after Bascule does not thereby call.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from bascule.policy.scopes import OPERATORS, Scopes

# The issuer of people whom `auth.issuers` knows nothing of: `oidc:NAME` is who they are at the console.
UNNAMED: Final = "oidc"

_VIEWER: Final = frozenset(
    (*OPERATORS, "bascule.approvals:read", "bascule.audit:read", "bascule.registry:read"),
)
_APPROVER: Final = frozenset({"bascule.approvals:write"})
_REVIEWER: Final = frozenset({"bascule.reviews:write:security", "bascule.reviews:write:business"})
_EDITOR: Final = frozenset({"bascule.registry:write"})
_ADMIN: Final = frozenset(
    {
        "bascule.registry:promote",
        "bascule.keys:write",
        "bascule.servers:write",
        "bascule.cache:write",
        "bascule.journal:write",
    }
)

ROLES: Final[Mapping[str, Scopes]] = {
    "viewer": _VIEWER,
    "approver": _VIEWER | _APPROVER,
    "reviewer": _VIEWER | _REVIEWER,
    "editor": _VIEWER | _EDITOR,
    "admin": _VIEWER | _APPROVER | _REVIEWER | _EDITOR | _ADMIN,
}


def scopes_of(roles: Iterable[str]) -> Scopes:
    """All that *roles* come to; a role that is not known here grants nothing."""
    return frozenset[str]().union(*(ROLES[role] for role in roles if role in ROLES))
