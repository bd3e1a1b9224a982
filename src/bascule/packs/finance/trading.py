"""What an order risks, and what forbids it: a score with its formula, and rules. PURE.

The score is 0 to 1. Above REVIEW a person has to look at the order, above REJECT it is not made.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import msgspec

REVIEW: Final = Decimal("0.8")
REJECT: Final = Decimal("0.9")
FORMULA: Final = (
    "risk_score = 0.5 x min(1, share of the position in the portfolio / 0.4)"
    " + 0.3 x min(1, quantity / (0.1 x usual daily volume)) + 0.2 x min(1, volatility / 0.6)"
)

Side: TypeAlias = Literal["buy", "sell"]
Decision: TypeAlias = Literal["approve", "human_review", "reject"]


class Portfolio(msgspec.Struct, frozen=True):
    id: str
    owner: str
    currency: str
    cash: Decimal
    positions: Mapping[str, int]  # shares by ticker

    def after(self, ticker: str, shares: int, cash: Decimal) -> "Portfolio":
        """With *shares* more of *ticker*, and so much more cash; either may be negative."""
        positions = {**self.positions, ticker: self.positions.get(ticker, 0) + shares}
        return msgspec.structs.replace(self, positions=positions, cash=self.cash + cash)


class Market(msgspec.Struct, frozen=True):
    """What is known of one share."""

    price: Decimal
    usual_volume: int  # a day
    volatility: Decimal  # a year, as a share of one


class Assessment(msgspec.Struct, frozen=True):
    score: Decimal
    violations: tuple[str, ...]  # of rules: any of them rejects the order

    @property
    def decision(self) -> Decision:
        if self.violations or self.score > REJECT:
            return "reject"
        return "human_review" if self.score > REVIEW else "approve"


def assess(
    portfolio: Portfolio,
    markets: Mapping[str, Market],
    ticker: str,
    side: Side,
    quantity: int,
    *,
    max_share: Decimal,
    restricted: Collection[str],
) -> Assessment:
    """What the order does to *portfolio*. *markets* knows *ticker* and every position."""
    market = markets[ticker]
    value = market.price * quantity
    held = portfolio.positions.get(ticker, 0)
    after = held + quantity if side == "buy" else held - quantity
    whole = portfolio.cash + sum(
        (markets[each].price * shares for each, shares in portfolio.positions.items()), Decimal(0)
    )
    share = max(Decimal(0), market.price * after / whole) if whole > 0 else Decimal(1)
    size = Decimal(quantity) / (Decimal("0.1") * market.usual_volume) if market.usual_volume > 0 else Decimal(1)
    score = (
        Decimal("0.5") * min(Decimal(1), share / Decimal("0.4"))
        + Decimal("0.3") * min(Decimal(1), size)
        + Decimal("0.2") * min(Decimal(1), market.volatility / Decimal("0.6"))
    )
    rules = {
        f"{ticker} is restricted": ticker in restricted,
        f"the order is worth more than {max_share} of the portfolio": value > max_share * whole,
        f"it takes {value}, and there is {portfolio.cash} in cash": side == "buy" and value > portfolio.cash,
        f"it sells {quantity}, and there are {held}": side == "sell" and quantity > held,
    }
    return Assessment(score, tuple(rule for rule, broken in rules.items() if broken))
