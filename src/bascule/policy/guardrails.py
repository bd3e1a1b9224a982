"""Guardrails as people write them: CEL conditions, and ready rules that need no language. PURE.

Each says what it looks at, and what follows when it finds it: `deny`, `ask` (a person), or `warn`.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from bascule.options import Options

Effect: TypeAlias = Literal["deny", "ask", "warn"]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Guardrail(Options, frozen=True):
    """One rule. Exactly one of its conditions is said; *effect* is for the ready ones.

    `deny`, `ask`, `warn`: a CEL expression over `args`, `caller`, `tool`, `session`, `now`.
    """

    deny: str | None = None
    ask: str | None = None
    warn: str | None = None
    max_amount: "MaxAmount | None" = None
    recipients_within: "RecipientsWithin | None" = None
    path_within: "PathWithin | None" = None
    date_window: "DateWindow | None" = None
    max_per_session: Whole | None = None  # calls of this tool in one session
    max_chain_depth: Whole | None = None  # gateways that the call has passed already
    effect: Effect = "deny"
    message: str = ""  # what the caller is told; may hold places for values, such as {args.amount}

    def __post_init__(self) -> None:
        said = [name for name in CONDITIONS if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"a guardrail has exactly one of {', '.join(CONDITIONS)}")


class MaxAmount(Options, frozen=True):
    """The number at *field* is at most *limit*, and not below zero."""

    field: str  # a path into the arguments: `amount`, `order.total`, `items[].price`
    limit: float


class RecipientsWithin(Options, frozen=True):
    """Every address at *field* is of one of *domains*, or is the caller's own (*self_only*)."""

    field: str
    domains: tuple[str, ...] = ()
    self_only: bool = False  # only `caller.email`


class PathWithin(Options, frozen=True):
    """The path at *field* lies under one of *roots*, `..` resolved, as text: links are the server's affair."""

    field: str
    roots: tuple[str, ...]


class DateWindow(Options, frozen=True):
    """The date or time at *field* is at most so many days away from now."""

    field: str
    days_ahead: Whole | None = None
    days_back: Whole | None = None


CONDITIONS = (
    *("deny", "ask", "warn"),
    *("max_amount", "recipients_within", "path_within", "date_window", "max_per_session", "max_chain_depth"),
)
