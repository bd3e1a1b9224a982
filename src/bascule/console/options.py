"""What an operator says of the console. PURE: the configuration reads it without loading the console."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from bascule.options import Options, Seconds

Role: TypeAlias = Literal["viewer", "approver", "reviewer", "editor", "admin"]  # as policy/roles.py knows them


class ConsoleLogin(Options, frozen=True):
    """An OpenID provider that people sign in with (OpenID Connect Core, code flow with PKCE)."""

    issuer: str  # exactly as in `iss`
    client_id: str
    client_secret: str  # a reference such as ${env:CONSOLE_SECRET}
    redirect_url: str | None = None  # as registered there; default: http.public_url and /console/oidc/callback
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    name_claim: str = "sub"  # who somebody is; what is not unique and for ever is no name
    roles_claim: str = "groups"
    roles: Mapping[str, Role] = msgspec.field(default_factory=dict)  # what a group is here; in none: no entry


class ConsoleOptions(Options, frozen=True):
    """The pages under /console."""

    enabled: bool = True
    session_idle_s: Seconds = 1800.0
    session_max_s: Annotated[float, msgspec.Meta(gt=0, le=604_800, description="seconds")] = 43_200.0
    oidc: ConsoleLogin | None = None
    # Scopes of tools that people of a role have beside its own when they try one, and at no other time.
    try_scopes: Mapping[Role, tuple[str, ...]] = msgspec.field(default_factory=dict)
