"""What a share is worth, by three methods, in decimal arithmetic. PURE: figures in, figures out.

Rates are shares of one: 0.08 is 8 %. A method that says nothing about a firm is refused with the reason, and not
answered with a number.
"""

from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from statistics import mean, stdev
from typing import Final

import msgspec

MAX_YEARS: Final = 30
_CONTEXT: Final = Context(prec=34)
_POINT: Final = Decimal("0.01")  # one percentage point
ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)


class NotMeaningful(Exception):
    """Why the method says nothing here, and what to do instead: two sentences."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what} {do}")
        self.what = what
        self.do = do


class Flow(msgspec.Struct, frozen=True):
    """One year of a forecast."""

    year: int  # from now: 1, 2, …
    amount: Decimal
    present_value: Decimal


class Worth(msgspec.Struct, frozen=True):
    """What discounting a forecast comes to."""

    flows: Sequence[Flow]
    terminal: Decimal  # present value of all years behind the forecast
    enterprise: Decimal
    equity: Decimal
    per_share: Decimal


def npv(rate: Decimal, amounts: Sequence[Decimal]) -> Decimal:
    """The present value of *amounts*, the first of them now, each other a year later than the one before.

    Raises NotMeaningful for a rate of -100 % or less.
    """
    _check(rate > -1, "A discount rate of -100 % or less has no present value.", "Use a rate above zero.")
    with localcontext(_CONTEXT):
        return sum((amount / (ONE + rate) ** year for year, amount in enumerate(amounts)), ZERO)


def dcf(
    cash_flow: Decimal,
    *,
    growth: Decimal,
    years: int,
    discount: Decimal,
    terminal_growth: Decimal,
    net_debt: Decimal,
    shares: Decimal,
) -> Worth:
    """The worth of a firm by its free cash flow: *years* of *growth*, and *terminal_growth* for ever after.

    Raises NotMeaningful.
    """
    _check(shares > 0, "The number of shares is not known.", "Use another method.")
    check_cash_flow(cash_flow)
    _check(discount > 0, "The discount rate is not above zero.", "Use the cost of capital, such as 0.1.")
    _check(
        terminal_growth < discount,
        "The terminal growth is not below the discount rate, so the value has no bound.",
        "Use a terminal_growth below the discount_rate, such as 0.02.",
    )
    _check(growth > -1, "A growth of -100 % or less leaves nothing to value.", "Use the expected growth, such as 0.05.")
    _check(1 <= years <= MAX_YEARS, f"A forecast has 1 to {MAX_YEARS} years.", "Use 5 or 10.")
    with localcontext(_CONTEXT):
        amounts = [cash_flow * (ONE + growth) ** year for year in range(1, years + 1)]
        flows = [Flow(year, amount, amount / (ONE + discount) ** year) for year, amount in enumerate(amounts, 1)]
        terminal = flows[-1].present_value * (ONE + terminal_growth) / (discount - terminal_growth)
        enterprise = sum((flow.present_value for flow in flows), ZERO) + terminal
        equity = enterprise - net_debt
        _check(equity > 0, "The debts are more than the firm is worth by its cash flow.", "Use another method.")
        return Worth(flows, terminal, enterprise, equity, equity / shares)


def check_cash_flow(cash_flow: Decimal) -> None:
    """Raises NotMeaningful unless there is some."""
    _check(
        cash_flow > 0,
        "The free cash flow is not positive, so there is none to discount.",
        "Wait for a year with one: no method here values a firm by its losses.",
    )


def by_earnings(earnings: Decimal, multiple: Decimal) -> Decimal:
    """The worth of a share by its earnings and the multiple that the market pays. Raises NotMeaningful."""
    _check(earnings > 0, "Earnings per share are not positive, so P/E says nothing.", "Use the method dcf.")
    _check(multiple > 0, "The P/E to compare with is not positive.", "Use one of profitable firms, such as 15.")
    with localcontext(_CONTEXT):
        return earnings * multiple


def peg(price: Decimal, earnings: Decimal, growth: Decimal) -> tuple[Decimal, Decimal]:
    """(PEG, the worth of a share at a PEG of one): P/E by the growth of earnings in percent. Raises NotMeaningful."""
    _check(earnings > 0, "Earnings per share are not positive, so PEG says nothing.", "Use the method dcf.")
    _check(growth > 0, "Earnings do not grow, so PEG says nothing.", "Use the method pe_ratio or dcf.")
    _check(price > 0, "There is no price.", "Look the ticker up with finance/get_stock_price.")
    with localcontext(_CONTEXT):
        percent = growth * 100
        return price / earnings / percent, earnings * percent


def growth_of(first: Decimal, last: Decimal, years: int) -> Decimal:
    """The growth a year that leads from *first* to *last*. Raises NotMeaningful unless both are positive."""
    _check(
        first > 0 and last > 0 and years > 0,
        "A growth from or to a loss has no rate.",
        "Give the expected growth as growth_rate.",
    )
    with localcontext(_CONTEXT):
        return (last / first) ** (ONE / years) - ONE


# ---- how far to trust it


def confidence_of_dcf(worth: Worth, discount: Decimal, terminal_growth: Decimal) -> Decimal:
    """One, less half the width by which the value of the terminal years moves with the rate, one point each way.

    A value that rests on far years at a rate close to their growth is worth little trust.
    """
    with localcontext(_CONTEXT):
        gap = discount - terminal_growth
        share = worth.terminal / worth.enterprise
        if gap <= _POINT:
            return ZERO
        width = gap / (gap - _POINT) - gap / (gap + _POINT)
        return _within_one(ONE - share * width / 2)


def confidence_of_multiples(multiples: Sequence[Decimal]) -> Decimal:
    """One, less the deviation of the multiples by their mean; a half when there are too few to tell."""
    if len(multiples) < 2:
        return Decimal("0.5")
    with localcontext(_CONTEXT):
        middle = mean(multiples)
        return _within_one(ONE - stdev(multiples) / middle) if middle > 0 else ZERO


def confidence_of_growth(growth: Decimal) -> Decimal:
    """One, less what an error of two points of growth changes."""
    with localcontext(_CONTEXT):
        return _within_one(ONE - 2 * _POINT / growth) if growth > 0 else ZERO


def _within_one(value: Decimal) -> Decimal:
    return max(ZERO, min(ONE, value))


def _check(holds: bool, what: str, do: str) -> None:
    if not holds:
        raise NotMeaningful(what, do)
