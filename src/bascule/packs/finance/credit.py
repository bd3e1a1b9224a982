"""A credit score out of the figures of a report: a formula that can be told, no model. PURE.

0 is no risk, 100 the most. Each ratio counts from the value at which it is good to the one at which it is bad,
in a straight line, by its weight.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import msgspec

HUNDRED: Final = Decimal(100)


class Report(msgspec.Struct, frozen=True):
    """The figures of a firm for a year, in one currency."""

    customer_id: str
    name: str
    fiscal_year: int
    currency: str
    published: str
    current_assets: Decimal
    current_liabilities: Decimal
    total_debt: Decimal
    equity: Decimal
    revenue: Decimal
    operating_income: Decimal
    interest_expense: Decimal
    net_income: Decimal


class Rule(msgspec.Struct, frozen=True):
    good: Decimal
    bad: Decimal
    weight: Decimal


class Part(msgspec.Struct, frozen=True):
    """What one ratio adds."""

    ratio: Decimal | None  # none: it would divide by what is not there
    risk: Decimal  # 0 to 100
    weight: Decimal


RULES: Final[Mapping[str, Rule]] = {
    "liquidity_ratio": Rule(Decimal("2.0"), Decimal("0.8"), Decimal("0.35")),
    "debt_to_equity": Rule(Decimal("0.5"), Decimal("3.0"), Decimal("0.25")),
    "interest_cover": Rule(Decimal("6.0"), Decimal("1.0"), Decimal("0.25")),
    "net_margin": Rule(Decimal("0.10"), Decimal("-0.05"), Decimal("0.15")),
}
FORMULA: Final = (
    "risk_score = sum of weight x risk, where risk goes from 0 at the good value to 100 at the bad one: "
    + "; ".join(f"{name} {rule.good} to {rule.bad}, weight {rule.weight}" for name, rule in RULES.items())
)


def score(report: Report) -> tuple[int, Mapping[str, Part]]:
    """(0 to 100, what each ratio adds to it)."""
    owed, own = report.current_liabilities, report.equity
    ratios: Mapping[str, tuple[Decimal | None, Decimal]] = {
        # Without short debts, or interest to pay, there is nothing to fail at; without equity or sales, everything.
        "liquidity_ratio": _divided(report.current_assets, owed, otherwise=Decimal(0)),
        "debt_to_equity": _divided(report.total_debt, own, otherwise=HUNDRED),
        "interest_cover": _divided(report.operating_income, report.interest_expense, otherwise=Decimal(0)),
        "net_margin": _divided(report.net_income, report.revenue, otherwise=HUNDRED),
    }
    parts = {
        name: Part(ratio, risk if ratio is None else risk_of(ratio, RULES[name]), RULES[name].weight)
        for name, (ratio, risk) in ratios.items()
    }
    whole = sum((part.risk * part.weight for part in parts.values()), Decimal(0))
    return int(whole.quantize(Decimal(1), ROUND_HALF_UP)), parts


def risk_of(ratio: Decimal, rule: Rule) -> Decimal:
    """0 to 100: how far *ratio* is on its way from good to bad.

    >>> risk_of(Decimal("1.4"), RULES["liquidity_ratio"])
    Decimal('50')
    """
    way = (rule.good - ratio) / (rule.good - rule.bad) * HUNDRED
    return max(Decimal(0), min(HUNDRED, way.normalize()))


def _divided(above: Decimal, below: Decimal, *, otherwise: Decimal) -> tuple[Decimal | None, Decimal]:
    return (above / below, otherwise) if below > 0 else (None, otherwise)
