"""What a call costs, and the windows of time that a budget is for. PURE.

Money is counted in whole nano-USD (a billionth of a dollar): sums of integers never drift, a token at a
tenth of a dollar per million is still a hundred of them, and 64 bits hold nine thousand million dollars.
Source of a reported cost: `_meta["dev.bascule/cost"]` of a result, `{"usd": 0.02}` or `{"units": 1200}`.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Raw

from bascule.contract.model import CostModel

COST_META: Final = "dev.bascule/cost"
NANO: Final = 1_000_000_000
# What no single call costs. More than that is a fault of the server's, and must not eat a caller's budget.
MOST_USD: Final = 10_000.0
_MOST_UNITS: Final = 1e12
_MOST_NANO: Final = 2**62  # what is beyond it cannot be spent anyway
_BYTES_OF_MB: Final = 1e6


def nano_of(usd: float) -> int:
    """*usd* in nano-USD. The least price is one of them: what is not free never becomes free by rounding."""
    return max(1, round(min(usd * NANO, _MOST_NANO))) if usd > 0 else 0


def usd_of(nano: int) -> float:
    return nano / NANO


# ---- what a call costs ---------------------------------------------------------------------------


class Used(msgspec.Struct, frozen=True):
    """What was measured of a call that has been answered."""

    seconds: float = 0.0  # that the server took
    size_bytes: int = 0  # of its result


class Reported(msgspec.Struct, frozen=True):
    """What the server says that the call took: money, or units of the tool's cost model."""

    usd: float | None = None
    units: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """What matters here of a result."""

    reported: Reported | None = None
    finished: bool = True  # False: the server asks for more input, and the call goes on
    warning: str = ""  # why a report is not believed


def estimate(model: CostModel | None) -> int:
    """What a call is reserved for, in nano-USD, before anything is known of it."""
    return 0 if model is None else _price(model, model.estimated_units)


def cost(model: CostModel | None, used: Used, answer: Answer) -> tuple[int | None, tuple[str, ...]]:
    """(what an answered call costs in nano-USD, or None where nobody can tell; warnings).

    What the server reports goes before what was measured, and that before the estimate.
    """
    warnings = (answer.warning,) if answer.warning else ()
    said = answer.reported
    if said is not None and said.usd is not None:
        return nano_of(said.usd), warnings
    if said is not None and said.units is not None:
        if model is None:
            return None, (*warnings, "the server reports units of cost, and the tool has no cost model to price them")
        if model.price_usd * said.units <= MOST_USD:
            return _price(model, said.units), warnings
        warnings = (*warnings, f"the cost that the server reports is not believed: more than {MOST_USD:g} USD")
    return (None if model is None else _price(model, _measured(model, used, answer))), warnings


def cost_unanswered(model: CostModel | None, seconds: float) -> int:
    """What a call costs that reached its server and got no answer: the estimate, or the time if that is more."""
    if model is None:
        return 0
    taken = seconds if model.unit == "second" else 0.0
    return _price(model, max(model.estimated_units, taken))


def _measured(model: CostModel, used: Used, answer: Answer) -> float:
    """How many units a call took, as far as that can be measured."""
    match model.unit:
        case "call":
            return 1.0 if answer.finished else 0.0  # the round that finishes it pays
        case "second":
            return used.seconds
        case "MB":
            return used.size_bytes / _BYTES_OF_MB
        case "token" | "page":
            return model.estimated_units if answer.finished else 0.0


def _price(model: CostModel, units: float) -> int:
    return nano_of(model.price_usd * units)


# ---- what a server reports -----------------------------------------------------------------------


class _Read(msgspec.Struct, frozen=True):
    resultType: Raw = Raw(b"")
    meta: Raw = msgspec.field(default=Raw(b""), name="_meta")


_reader = msgspec.json.Decoder(_Read)
_meta_reader = msgspec.json.Decoder(dict[str, Raw])
_PLAIN: Final = Answer()


def answer_of(result: Raw) -> Answer:
    """What *result* says of its own cost. Anything but a plain, possible number is ignored with a warning."""
    value = bytes(result)
    # Almost every result says nothing of the kind, and to read a large one takes long.
    if b"dev.bascule" not in value and b"input_required" not in value:
        return _PLAIN
    try:
        read = _reader.decode(value)
        finished = bytes(read.resultType) != b'"input_required"'
        # No object, no report: a result's `_meta` is not ours to find fault with.
        members = _meta_reader.decode(read.meta) if bytes(read.meta).startswith(b"{") else {}
    except (msgspec.DecodeError, RecursionError):
        return _PLAIN
    raw = members.get(COST_META)
    if raw is None:
        return Answer(finished=finished)
    try:
        return Answer(_reported(msgspec.json.decode(raw)), finished)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return Answer(None, finished, f"the cost that the server reports is not believed: {error}")


def _reported(said: Any) -> Reported:
    if not isinstance(said, dict) or not ({"usd", "units"} & said.keys()):
        raise ValueError('it is not {"usd": number} or {"units": number}')
    if "usd" in said:
        return Reported(usd=_number(said["usd"], "usd", MOST_USD))
    return Reported(units=_number(said["units"], "units", _MOST_UNITS))


def _number(said: Any, name: str, most: float) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float):
        raise ValueError(f"`{name}` is not a number")
    if not 0 <= said <= most:  # and so neither infinite nor NaN
        raise ValueError(f"`{name}` is not between 0 and {most:g}")
    return float(said)


# ---- windows -------------------------------------------------------------------------------------

Per: TypeAlias = Literal["hour", "day", "month"]


class Window(msgspec.Struct, frozen=True):
    """A stretch of time that a budget is for: *start_s* belongs to it, *end_s* to the next (Unix time)."""

    name: str  # such as 2026-11, 2026-11-20, 2026-11-20T19; no two windows have the same
    start_s: float
    end_s: float

    @property
    def end(self) -> str:
        """When the next one begins, as RFC 3339 writes it."""
        return datetime.fromtimestamp(self.end_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def window_of(per: Per, now_s: float) -> Window:
    """The hour, day or month (UTC) that *now_s* (Unix time) lies in."""
    hour = datetime.fromtimestamp(math.floor(now_s), UTC).replace(minute=0, second=0)
    day = hour.replace(hour=0)
    month = day.replace(day=1)
    match per:
        case "hour":
            return _window(hour, hour + timedelta(hours=1), "%Y-%m-%dT%H")
        case "day":
            return _window(day, day + timedelta(days=1), "%Y-%m-%d")
        case "month":
            return _window(month, (month + timedelta(days=31)).replace(day=1), "%Y-%m")


def _window(start: datetime, end: datetime, name: str) -> Window:
    return Window(start.strftime(name), start.timestamp(), end.timestamp())
