"""Between the numbers of JSON and decimals. PURE."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from bascule.packs.pack import ToolFailed

_ROUNDING: Final = Context(prec=80, rounding=ROUND_HALF_EVEN)


def decimal_of(value: float, name: str, *, places: int | None = None) -> Decimal:
    """*value* as it was written. Raises ToolFailed if it has more than so many decimal *places*."""
    found = Decimal(repr(value))
    exponent = found.normalize().as_tuple().exponent
    if not isinstance(exponent, int) or (places is not None and -exponent > places):
        raise ToolFailed(f"The {name} {value} has more than {places} decimal places.", "Round it.")
    return found


def number(value: Decimal, places: int) -> float:
    """*value* rounded, as JSON writes it.

    >>> number(Decimal("1.005"), 2), number(Decimal("2.00"), 2)
    (1.0, 2.0)
    """
    return float(value.quantize(Decimal(1).scaleb(-places), context=_ROUNDING))
