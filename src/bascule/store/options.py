"""What an operator says of the records that are kept: the audit, the journal, approvals. PURE."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from bascule.options import Bytes, Options

AuditMode: TypeAlias = Literal["off", "batched", "strict"]

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
Retention: TypeAlias = Annotated[float, msgspec.Meta(ge=_HOUR_S, le=30 * _DAY_S, description="seconds")]


class AuditOptions(Options, frozen=True):
    """The record of every call."""

    # strict: no call with a side effect goes out before its intent is on disk. batched: only those with a key wait.
    mode: AuditMode = "batched"
    anchor: str | None = None  # a second file for signed heads, best on another machine; default: beside the database
    arguments: Literal["digest", "redacted"] = "digest"  # what of a call's arguments is kept
    redact: tuple[str, ...] = ()  # names of arguments, at any depth, whose values are never kept


class JournalOptions(Options, frozen=True):
    """What is known of calls with an idempotency key."""

    keep_s: Retention = _DAY_S  # after a call ended; a result of unknown outcome stays 30 days
    max_per_caller: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    max_result_bytes: Annotated[int, msgspec.Meta(ge=0, le=16_777_216)] = 1_048_576  # a larger one is not kept


class ApprovalOptions(Options, frozen=True):
    """How a person is asked whether a call may be made."""

    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=300, description="seconds")] = 300.0
    channels: tuple[Literal["client", "inbox"], ...] = ("client", "inbox")  # in the order in which they are tried
    max_pending: Annotated[int, msgspec.Meta(ge=1)] = 100  # of one caller


class RegistryOptions(Options, frozen=True):
    """What it takes that a published contract, or a definition that waits, may be used."""

    # Who has to have signed off: each has a scope of its own, such as bascule.reviews:write:security.
    sign_offs: tuple[Literal["security", "business"], ...] = ()
    freeze: bool = False  # no promotion of a tool whose error budget is spent


class CacheOptions(Options, frozen=True):
    """Results of tools whose contract has a `cache_policy`."""

    max_bytes: Bytes = 67_108_864  # of all tools together; what was used least of late makes room
