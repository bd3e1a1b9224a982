"""What there is to say of each stage to whoever wants to know why a call would be let through, or not.

One line function for each type of stage, in one table; a stage without one cannot be explained, and a test says
so. Decisions are the stages' own: they are asked (`peek`), or run by themselves, on counters that nobody shares.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from bascule.call import Call, Caller, Result
from bascule.config import Config
from bascule.errors import BasculeError, InvalidArgument
from bascule.pipeline.authorize import Authorize
from bascule.pipeline.breaker import Breaker, Look
from bascule.pipeline.cache import Cache
from bascule.pipeline.chain import Stage
from bascule.pipeline.check import Check
from bascule.pipeline.confirm import Confirm
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.depth import Deepen, depth_of
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.fallback import Fallback
from bascule.pipeline.guard import Guard
from bascule.pipeline.label import Label
from bascule.pipeline.limit import Limit
from bascule.pipeline.place import Place
from bascule.pipeline.replay import Replay
from bascule.pipeline.reserve import Reserve
from bascule.pipeline.retry import Retry
from bascule.pipeline.rounds import Rounds
from bascule.pipeline.spend import Spend
from bascule.pipeline.validate import Validate
from bascule.pipeline.ways import Way
from bascule.policy.scopes import Access, covers

# A failure, about which no contract promises anything: no stage finds fault with it on the way back.
ANSWER: Final = Result(Raw(b'{"content":[],"isError":true}'))


class Ruled(msgspec.Struct, frozen=True):
    """One guardrail or gate, and what it says of the call."""

    rule: str  # such as `guardrails.2: deny args.amount > 10000`
    origin: str  # where it is written, such as `policy.rules.0.guardrails.0`
    outcome: str  # `does not apply`, or the effect and the message
    counts: bool  # whether it was heard: it applies, and nothing before it has decided


class Seen(msgspec.Struct, frozen=True):
    """A call on its way, as far as lines look at it."""

    config: Config
    call: Call
    way: Way
    ruled: tuple[Ruled, ...]

    @property
    def caller(self) -> Caller:
        return self.call.caller


Line: TypeAlias = Callable[[Seen, Any], Awaitable[Sequence[str]]]


async def said(seen: Seen, stage: Stage) -> tuple[str, ...]:
    """What there is to say of *stage*; a refusal is one way to say it."""
    _, line = LINES[type(stage)]
    try:
        return tuple(await line(seen, stage))
    except BasculeError as error:
        return (error.message,)


def name_of(stage: Stage) -> str:
    return LINES[type(stage)][0]


async def answered(call: Call) -> Result:
    """Stands behind a stage that is run by itself."""
    return ANSWER


async def _label(seen: Seen, stage: Label) -> Sequence[str]:
    contract = seen.way.contract
    version = f" {contract.version}" if "version" in contract.sources else ""
    effects = {"active": "", "deprecated": ": every result says so", "gone": ": nobody can call it any more"}
    return (
        f"{contract.id}{version}, status {contract.status}{effects.get(contract.status, ', which changes nothing')}",
    )


async def _authorize(seen: Seen, stage: Authorize) -> Sequence[str]:
    way, authority = seen.way, seen.caller.authority
    if way.withheld:
        return (f"withheld from everybody: {way.withheld}",)
    lines = [_reason(seen, scope) for scope in way.scopes]
    access = authority.access(way.scopes)
    if access is Access.LACKING:
        lines.append(f"the issuer grants what is missing: HTTP 403 asks the client to log in for {listed(way.scopes)}")
    elif access is Access.HIDDEN:
        lines.append("the client hears that there is no such thing, and no list shows it")
    elif way.contract.status == "gone":
        lines.append("it has been withdrawn: nobody can call it any more")
    return lines


def _reason(seen: Seen, wanted: str) -> str:
    """Which scope of the caller's covers *wanted*, and which role it comes from."""
    authority, roles = seen.caller.authority, seen.config.roles
    mine = [scope for scope in sorted(authority.granted) if covers(scope, wanted)]
    if not mine:
        return f"{wanted}: none of the caller's scopes covers it"
    if authority.bound is not None and not any(covers(scope, wanted) for scope in authority.bound):
        return f"{wanted}: covered by {mine[0]}, but the key was made for {listed(authority.bound)} alone"
    given = sorted(role for role in seen.caller.roles if mine[0] in roles.get(role, ()))
    return f"{wanted}: covered by {mine[0]}" + (f", of the role {listed(given)}" if given else "")


async def _limit(seen: Seen, stage: Limit) -> Sequence[str]:
    return await stage.peek(seen.call) or ("no limit holds for this caller",)


async def _validate(seen: Seen, stage: Validate) -> Sequence[str]:
    try:
        result = await stage(seen.call, answered)
    except InvalidArgument as error:
        return [f"{each['path'] or 'the arguments'}: {each['problem']}" for each in error.details["problems"]]
    return result.warnings or ("the arguments fit the schema",)


async def _guard(seen: Seen, stage: Guard) -> Sequence[str]:
    odd = [f"odd: {warning}" for warning in stage.rules.warnings]
    return [*(f"{each.rule} → {each.outcome} [{each.origin}]" for each in seen.ruled), *odd]


async def _place(seen: Seen, stage: Place) -> Sequence[str]:
    return stage.peek(seen.call)


async def _spend(seen: Seen, stage: Spend) -> Sequence[str]:
    return await stage.peek(seen.call)


async def _check(seen: Seen, stage: Check) -> Sequence[str]:
    mode = seen.way.contract.validate_results
    what = "is held back" if mode == "block" else "gets a warning"
    return (f"a result that does not fit the output schema {what}",)


async def _deepen(seen: Seen, stage: Deepen) -> Sequence[str]:
    return (f"the call has passed {depth_of(seen.call)} gateways; its server hears of one more",)


async def _dispatch(seen: Seen, stage: Dispatch) -> Sequence[str]:
    return ("counted in its session from here on",)


LINES: Final[Mapping[type[Any], tuple[str, Line]]] = {
    Label: ("label", _label),
    Authorize: ("authorize", _authorize),
    Limit: ("limit", _limit),
    Validate: ("validate", _validate),
    Guard: ("guard", _guard),
    Place: ("place", _place),
    Spend: ("spend", _spend),
    Check: ("check", _check),
    Deepen: ("deepen", _deepen),
    Dispatch: ("dispatch", _dispatch),
}


# Stages that say how a call is made, and not whether: of what is down, kept or asked now, nobody can tell beforehand.
MECHANICAL: Final = frozenset(
    {Rounds, Replay, Cache, Look, Confirm, Reserve, Deadline, Fallback, Retry, Breaker}  # the gate speaks in `guard`
)


def listed(words: Iterable[str]) -> str:
    """*words* in one line, in an order that stays."""
    return ", ".join(sorted(words)) or "none"
