"""What an operator says of callers, roles, limits and rules: the structs of the configuration. PURE."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from bascule.contract.model import Mode, Rule, rate_of
from bascule.options import Options, Seconds
from bascule.policy.scopes import is_scope

Usd: TypeAlias = Annotated[float, msgspec.Meta(gt=0, description="USD")]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]


class Budget(Options, frozen=True):
    """So much money in each window of time, which begins at midnight UTC, or with the hour or month."""

    usd: Usd
    per: Literal["hour", "day", "month"] = "day"


class CallerLimits(Options, frozen=True):
    """What one caller may use up; what is left out has no bound."""

    rate: str | None = None  # such as 600/minute
    concurrent: Whole | None = None
    budget: Budget | None = None
    session_usd: Usd | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            rate_of(self.rate)


class ServerLimits(Options, frozen=True):
    """What a server is asked to bear from all callers together."""

    rate: str | None = None
    concurrent: Whole | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            rate_of(self.rate)


class LimitsOptions(Options, frozen=True):
    """Bounds of callers and of servers. A tool's own are in its contract, or in a rule."""

    caller: CallerLimits = CallerLimits()  # of every caller that has none of its own
    servers: Mapping[str, ServerLimits] = msgspec.field(default_factory=dict)
    queued: Annotated[int, msgspec.Meta(ge=0)] = 100  # calls that may wait where all places are taken
    queue_timeout_s: Seconds = 10.0


class Grant(Options, frozen=True):
    """Roles and scopes that somebody is given."""

    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_scopes(self.scopes)


class CallerOptions(Grant, frozen=True):
    """A caller that is known by name: by its keys, or by the subject of its certificate."""

    keys: tuple[str, ...] = ()  # secrets: references; more can be made with `bascule keys create`
    certificate: str | None = None  # the subject of its client certificate, such as CN=agent,O=Example
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)  # facts for rules, such as `email`
    limits: CallerLimits | None = None


class IntrospectionOptions(Options, frozen=True, kw_only=True):
    """Where opaque tokens are looked up (RFC 7662)."""

    url: str | None = None  # default: what the issuer's own metadata says
    client_id: str
    client_secret: str  # a reference
    cache_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 60.0


class IssuerOptions(Grant, frozen=True, kw_only=True):
    """An OAuth 2.1 authorization server whose access tokens are taken. *roles* and *scopes* go to all its callers."""

    issuer: str  # exactly as in `iss`
    audiences: tuple[str, ...] = ()  # default: the URL of the endpoint that is called
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    types: tuple[str, ...] = ("at+jwt",)  # what the header `typ` may say
    jwks_url: str | None = None  # default: what the issuer's own metadata says
    introspection: IntrospectionOptions | None = None  # for tokens that are no JWT
    name_claim: str = "sub"
    scopes_claim: str = "scope"
    roles_claim: str | None = None
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)  # attribute -> claim it is taken from
    grantable: tuple[str, ...] = ()  # scopes that callers can ask it for: advertised, and named in challenges
    skew_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 60.0
    max_lifetime_s: Seconds = 86_400.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_scopes(self.grantable)


class AuthOptions(Options, frozen=True):
    """Who may call at all. With nothing said, everybody on this machine and nobody else."""

    anonymous: Grant | bool | None = None  # true: anyone, for everything; a grant: anyone, for that much
    issuers: Mapping[str, IssuerOptions] = msgspec.field(default_factory=dict)  # by a short name of ours
    required_scopes: tuple[str, ...] = ()  # without all of these nobody comes in
    key_environment: Annotated[str, msgspec.Meta(pattern="^[a-z0-9]{1,16}$")] = "live"  # stands in each API key

    def __post_init__(self) -> None:
        _check_scopes(self.required_scopes)


class PolicyOptions(Options, frozen=True):
    """Rules of the operator's, which go before what contracts say."""

    # What a caller needs for a thing whose contract names no scope: one made of its name, or none at all.
    default: Literal["deny", "allow"] = "deny"
    validate_arguments: Mode | None = None  # of every tool; default: of those with a contract or a rule
    validate_results: Mode | None = None
    rules: tuple[Rule, ...] = ()  # a later one goes before an earlier one


def _check_scopes(scopes: tuple[str, ...]) -> None:
    for scope in scopes:
        if not is_scope(scope):
            raise ValueError(f"{scope!r} is not a scope such as crm:write:lead, crm:*:lead or *")
