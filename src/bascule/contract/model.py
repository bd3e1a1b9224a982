"""The contract of a tool, prompt or resource. PURE.

`Terms` are what people may say, each of them or none; a `Contract` is what holds once every source has
been heard (derive.py). Field names are those of the contract's own documents (design §5).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from bascule.options import Options
from bascule.policy.guardrails import Guardrail
from bascule.policy.scopes import is_scope

Kind: TypeAlias = Literal["tool", "prompt", "resource"]
Mode: TypeAlias = Literal["off", "warn", "block"]
Status: TypeAlias = Literal["draft", "in_review", "active", "deprecated", "gone"]
Level: TypeAlias = Literal["LOW", "MEDIUM", "HIGH"]
Unit: TypeAlias = Literal["call", "token", "MB", "page", "second"]
Schema: TypeAlias = dict[str, Any]

Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
NotNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]

# SemVer 2.0, without pre-releases
VERSION: Final = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)
_RATE: Final = re.compile(r"([1-9]\d{0,8})/(?:(\d{1,5}) ?)?(second|minute|hour|day)s?")
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}


class Rate(msgspec.Struct, frozen=True):
    """So many calls in so many seconds; unused ones may be made at once, no more."""

    calls: int
    per_s: float

    def __str__(self) -> str:
        return f"{self.calls} in {self.per_s:g} s"


def rate_of(text: str) -> Rate:
    """What `100/minute` or `5/10 seconds` says. Raises ValueError for anything else."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a rate such as 100/minute or 5/10 seconds")
    return Rate(int(found[1]), int(found[2] or 1) * _SECONDS[found[3]])


class ConfirmGate(Options, frozen=True):
    """A person says yes first: always, or *when* a CEL expression holds; *message* is what they are asked."""

    when: str | None = None
    message: str = ""
    four_eyes: bool = False  # it has to be another person than the one at the calling client


class CostModel(Options, frozen=True):
    price_usd: NotNegative
    unit: Unit = "call"
    estimated_units: Positive = 1.0  # what a call is reserved for, until it is known what it took


class CachePolicy(Options, frozen=True):
    ttl_seconds: Whole
    cache_key_fields: tuple[str, ...] = ()


class Deprecation(Options, frozen=True):
    sunset: str | None = None  # a date, YYYY-MM-DD
    replaced_by: str | None = None
    migration: str = ""

    @property
    def advice(self) -> str:
        """What to do instead, to be said after a sentence: `; use crm/create_lead@2: "source" became required`."""
        instead = f"; use {self.replaced_by}" if self.replaced_by else ""
        return f"{instead}: {self.migration}" if self.migration else instead


class Slo(Options, frozen=True):
    success: Annotated[float, msgspec.Meta(gt=0, lt=100)] | None = None  # percent
    latency_ms: Positive | None = None
    latency_percent: Annotated[float, msgspec.Meta(gt=0, lt=100)] = 99.0
    window_days: Whole = 30


class Terms(Options, frozen=True):
    """What one source says of a thing; what it leaves out, another may say."""

    version: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    input_schema: Schema | UnsetType = UNSET
    output_schema: Schema | UnsetType = UNSET
    side_effect: bool | UnsetType = UNSET
    idempotent: bool | UnsetType = UNSET
    require_key: bool | UnsetType = UNSET
    confirm_gate: bool | ConfirmGate | UnsetType = UNSET
    security_scope: str | tuple[str, ...] | UnsetType = UNSET
    validate_arguments: Mode | UnsetType = UNSET
    validate_results: Mode | UnsetType = UNSET
    max_timeout_seconds: Positive | UnsetType = UNSET
    latency_budget_ms: Positive | UnsetType = UNSET
    cost_model: CostModel | UnsetType = UNSET
    cache_policy: CachePolicy | UnsetType = UNSET
    rate_limit: str | UnsetType = UNSET  # of each caller
    total_rate_limit: str | UnsetType = UNSET  # of all callers together
    max_concurrent: Whole | UnsetType = UNSET
    guardrails: tuple[Guardrail, ...] | UnsetType = UNSET
    owner_team: str | UnsetType = UNSET
    owner_email: str | UnsetType = UNSET
    security_level: Level | UnsetType = UNSET
    compliance_status: tuple[str, ...] | UnsetType = UNSET
    last_security_review: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    deprecation: Deprecation | UnsetType = UNSET
    slo: Slo | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.version is not UNSET and not VERSION.fullmatch(self.version):
            raise ValueError(f"version {self.version!r} is not MAJOR.MINOR.PATCH")
        for rate in (self.rate_limit, self.total_rate_limit):
            if rate is not UNSET:
                rate_of(rate)
        for scope in () if self.security_scope is UNSET else scopes_of(self.security_scope):
            if not is_scope(scope):
                raise ValueError(f"{scope!r} is not a scope such as crm:write:lead")


class Document(Terms, frozen=True):
    """One contract document: what it is about, and its terms. A prompt or resource has fewer of them."""

    tool: str | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    resource: str | UnsetType = UNSET  # `namespace/` and its URI, or a URI template as the server lists it
    served_by: str | UnsetType = UNSET  # `server/tool` that stands behind this version; default: the tool itself

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.served_by is not UNSET and (self.tool is UNSET or not all(self.served_by.partition("/"))):
            raise ValueError("`served_by` is the server/tool behind a version of a tool")
        named = [name for name in (self.tool, self.prompt, self.resource) if name is not UNSET]
        if len(named) != 1:
            raise ValueError("a contract names exactly one `tool`, `prompt` or `resource`")
        namespace, found, name = named[0].partition("/")
        if not (namespace and found and name):
            raise ValueError(f"{named[0]!r} is not namespace/name")

    @property
    def kind(self) -> Kind:
        return "tool" if self.tool is not UNSET else "prompt" if self.prompt is not UNSET else "resource"

    @property
    def id(self) -> str:
        """The logical id, `namespace/name`."""
        return next(name for name in (self.tool, self.prompt, self.resource) if name is not UNSET)


class Rule(Terms, frozen=True, kw_only=True):
    """Terms of the operator's for everything that *match* fits: `*`, `crm/*`, `crm/create_*`, `crm/create_lead`."""

    match: str
    kinds: tuple[Kind, ...] = ("tool", "prompt", "resource")


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one tool, prompt or resource; *sources* say where each field comes from."""

    id: str  # logical: `namespace/name`
    kind: Kind = "tool"
    version: str = "0.0.0"
    description: str = ""
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    side_effect: bool = True
    idempotent: bool = False
    require_key: bool = False
    confirm_gate: ConfirmGate | None = None
    security_scope: tuple[str, ...] = ()
    validate_arguments: Mode = "off"
    validate_results: Mode = "off"
    max_timeout_seconds: float | None = None
    latency_budget_ms: float | None = None
    cost_model: CostModel | None = None
    cache_policy: CachePolicy | None = None
    rate_limit: Rate | None = None
    total_rate_limit: Rate | None = None
    max_concurrent: int | None = None
    guardrails: tuple[Guardrail, ...] = ()
    owner_team: str = ""
    owner_email: str = ""
    security_level: Level | None = None
    compliance_status: tuple[str, ...] = ()
    last_security_review: str | None = None
    status: Status = "active"
    deprecation: Deprecation | None = None
    slo: Slo | None = None
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def named(self) -> str:
        """Its id, with the version where it says one: `crm/create_lead 1.2.0`."""
        return f"{self.id} {self.version}" if "version" in self.sources else self.id

    @property
    def name(self) -> str:
        """Its server's own name or URI for it."""
        return self.id.partition("/")[2]


def scopes_of(said: str | Sequence[str]) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said)
