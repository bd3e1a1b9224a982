"""Paper trading: what an order would risk, and making it in the ledger. No order leaves this process."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from bascule.packs.finance import trading
from bascule.packs.finance.ledger import Ledger, Order
from bascule.packs.finance.market import Price, Provider, sample
from bascule.packs.finance.numbers import decimal_of, number
from bascule.packs.finance.options import FinanceOptions
from bascule.packs.finance.payments import deed_id, different_deed, key_of
from bascule.packs.finance.trading import Assessment, Market, Portfolio, Side
from bascule.packs.pack import Asked, ToolFailed

SOURCE: Final = "paper trading of Bascule: no order leaves this process"
_USUAL_VOLUME: Final = 1_000_000  # where the provider says nothing


class CheckRisk(msgspec.Struct, frozen=True):
    portfolio_id: str
    ticker: str
    side: Side
    quantity: int


class PlaceOrder(msgspec.Struct, frozen=True):
    portfolio_id: str
    ticker: str
    side: Side
    quantity: int
    limit_price: float | None = None
    idempotency_key: str | None = None


class Orders:
    """The two tools of trading."""

    def __init__(
        self,
        provider: Provider,
        ledger: Ledger | None,
        options: FinanceOptions,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._provider = provider
        self._ledger = ledger
        self._options = options
        self._now = now

    async def check_risk(self, wanted: CheckRisk, asked: Asked) -> dict[str, Any]:
        del asked
        portfolio = self._portfolio(wanted.portfolio_id)
        prices = await self._prices(portfolio, wanted.ticker)
        found = self._assessed(portfolio, prices, wanted.ticker, wanted.side, wanted.quantity)
        price = prices[wanted.ticker]
        return {
            "portfolio_id": wanted.portfolio_id,
            "order_value": number(price.price * wanted.quantity, 2),
            "currency": price.currency,
            "risk_score": number(found.score, 4),
            "decision": found.decision,
            "violations": list(found.violations),
            "formula": trading.FORMULA,
            "thresholds": {"human_review": number(trading.REVIEW, 2), "reject": number(trading.REJECT, 2)},
            "as_of": price.date,
            "source": SOURCE,
        }

    async def place_order(self, wanted: PlaceOrder, asked: Asked) -> dict[str, Any]:
        if self._ledger is None:
            raise ToolFailed(
                "Orders are off: no folder is set for their ledger.", "Tell the person who runs this server."
            )
        key = key_of(wanted.idempotency_key, asked)
        if before := self._ledger.orders(key=key):
            return _confirmed(_same(before[0], wanted), replayed=True)
        prices = await self._prices(self._portfolio(wanted.portfolio_id), wanted.ticker)
        with self._ledger.writing():
            # Again, as another call may have come in between: with the same key, or for the same cash.
            if before := self._ledger.orders(key=key):
                return _confirmed(_same(before[0], wanted), replayed=True)
            order = self._order(wanted, key, self._portfolio(wanted.portfolio_id), prices)
            self._ledger.add_order(order)
        return _confirmed(order, replayed=False)

    def _order(self, wanted: PlaceOrder, key: str, portfolio: Portfolio, prices: dict[str, Price]) -> Order:
        """The order, if nothing forbids it. Raises ToolFailed."""
        price = prices[wanted.ticker]
        found = self._assessed(portfolio, prices, wanted.ticker, wanted.side, wanted.quantity)
        if found.decision == "reject":
            reasons = "; ".join(found.violations) or f"its risk score is {number(found.score, 4)}"
            raise ToolFailed(f"Compliance rejects the order: {reasons}.", "Nothing was ordered. Make it smaller.")
        limit = None if wanted.limit_price is None else decimal_of(wanted.limit_price, "limit_price", places=4)
        if limit is not None and (price.price > limit if wanted.side == "buy" else price.price < limit):
            raise ToolFailed(
                f"The price is {price.price} {price.currency}, which the limit of {limit} does not allow.",
                "Nothing was ordered. Change the limit, or wait.",
            )
        return Order(
            order_id=deed_id("ORD", key),
            key=key,
            portfolio_id=wanted.portfolio_id,
            ticker=wanted.ticker,
            side=wanted.side,
            quantity=wanted.quantity,
            price=price.price,
            currency=price.currency,
            limit_price=limit,
            risk_score=found.score,
            placed_at=self._now().isoformat(timespec="microseconds"),
        )

    def _portfolio(self, portfolio_id: str) -> Portfolio:
        """As it is after the orders of the ledger. Raises ToolFailed."""
        portfolios = sample().portfolios
        if portfolio_id not in portfolios:
            raise ToolFailed(f"There is no portfolio {portfolio_id}.", f"There are {', '.join(sorted(portfolios))}.")
        portfolio = portfolios[portfolio_id]
        for order in self._ledger.orders(portfolio_id=portfolio_id) if self._ledger is not None else ():
            shares = order.quantity if order.side == "buy" else -order.quantity
            portfolio = portfolio.after(order.ticker, shares, -shares * order.price)
        return portfolio

    async def _prices(self, portfolio: Portfolio, ticker: str) -> dict[str, Price]:
        held = {each for each, shares in portfolio.positions.items() if shares}
        prices = {each: await self._provider.price(each, None) for each in sorted(held | {ticker})}
        for each, price in prices.items():
            if price.currency != portfolio.currency:
                raise ToolFailed(
                    f"{each} is traded in {price.currency}, and the portfolio is in {portfolio.currency}.",
                    "Take a portfolio of that currency.",
                )
            if price.price <= 0:
                raise ToolFailed(f"{each} has no price above zero.", "Try again later.")
        return prices

    def _assessed(
        self, portfolio: Portfolio, prices: dict[str, Price], ticker: str, side: Side, quantity: int
    ) -> Assessment:
        markets = {
            each: Market(price.price, price.volume or _USUAL_VOLUME, price.volatility) for each, price in prices.items()
        }
        for each, shares in portfolio.positions.items():
            if each not in markets and not shares:
                markets[each] = Market(Decimal(0), 0, Decimal(0))
            elif each not in markets:
                raise ToolFailed("The portfolio has just changed.", "Try again.")
        return trading.assess(
            *(portfolio, markets, ticker, side, quantity),
            max_share=Decimal(repr(self._options.max_order_share)),
            restricted=self._options.restricted,
        )


def _same(before: Order, wanted: PlaceOrder) -> Order:
    limit = None if wanted.limit_price is None else Decimal(repr(wanted.limit_price))
    earlier = (before.portfolio_id, before.ticker, before.side, before.quantity, before.limit_price)
    if earlier != (wanted.portfolio_id, wanted.ticker, wanted.side, wanted.quantity, limit):
        raise different_deed()
    return before


def _confirmed(order: Order, *, replayed: bool) -> dict[str, Any]:
    return {
        "status": "filled",
        "order_id": order.order_id,
        "portfolio_id": order.portfolio_id,
        "ticker": order.ticker,
        "side": order.side,
        "quantity": order.quantity,
        "price": number(order.price, 4),
        "value": number(order.price * order.quantity, 2),
        "currency": order.currency,
        "risk_score": number(order.risk_score, 4),
        "placed_at": order.placed_at,
        "replayed": replayed,
        "simulated": True,
        "source": SOURCE,
    }
