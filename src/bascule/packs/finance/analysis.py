"""What is asked of shares: prices, statements, valuation, analysts' reports. valuation.py computes."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.packs.finance import valuation
from bascule.packs.finance.market import AnalystReport, Provider, Statement, StatementType
from bascule.packs.finance.numbers import decimal_of, number
from bascule.packs.finance.valuation import NotMeaningful
from bascule.packs.pack import Asked, ToolFailed

DISCOUNT: Final = Decimal("0.10")
TERMINAL_GROWTH: Final = Decimal("0.025")
YEARS: Final = 5
MAX_GROWTH: Final = Decimal("0.25")  # that is taken over from the past: no firm keeps up more for years
REVIEW_BELOW: Final = Decimal("0.7")  # of confidence: a person looks at what is less sure

Method: TypeAlias = Literal["dcf", "pe_ratio", "peg"]
Assumptions: TypeAlias = dict[str, dict[str, Any]]


class GetStockPrice(msgspec.Struct, frozen=True):
    ticker: str
    date: str | None = None


class GetFinancialStatements(msgspec.Struct, frozen=True):
    ticker: str
    year: int | None = None
    statement_type: StatementType = "income"


class CalculateValuation(msgspec.Struct, frozen=True):
    ticker: str
    method: Method = "dcf"
    growth_rate: float | None = None
    discount_rate: float | None = None
    terminal_growth: float | None = None
    years: int | None = None
    target_pe: float | None = None


class GetAnalystReports(msgspec.Struct, frozen=True):
    ticker: str
    limit: int = 5


class Analysis:
    """The four tools of shares."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def _origin(self) -> dict[str, Any]:
        return {"source": self._provider.source, "sample": self._provider.sample}

    async def get_stock_price(self, wanted: GetStockPrice, asked: Asked) -> dict[str, Any]:
        del asked
        found = await self._provider.price(wanted.ticker, wanted.date)
        return {
            "ticker": found.ticker,
            "name": found.name,
            "price": number(found.price, 4),
            "currency": found.currency,
            "change_percent": None if found.change_percent is None else number(found.change_percent, 2),
            "volume": found.volume,
            "date": found.date,
            "timestamp": f"{found.date}T00:00:00+00:00",
            **self._origin,
        }

    async def get_financial_statements(self, wanted: GetFinancialStatements, asked: Asked) -> dict[str, Any]:
        del asked
        found = await self._provider.statement(wanted.ticker, wanted.year, wanted.statement_type)
        items = {name: number(value, 4) for name, value in found.items.items()}
        return {
            "ticker": found.ticker,
            "year": found.year,
            "statement_type": found.statement_type,
            "currency": found.currency,
            "items": items,
            **self._origin,
        }

    async def get_analyst_reports(self, wanted: GetAnalystReports, asked: Asked) -> dict[str, Any]:
        del asked
        reports = await self._provider.analyst_reports(wanted.ticker, wanted.limit)
        return {
            "ticker": wanted.ticker,
            "reports": [_told(each) for each in reports],
            **_consensus(list(reports)),
            **self._origin,
        }

    async def calculate_valuation(self, wanted: CalculateValuation, asked: Asked) -> dict[str, Any]:
        del asked
        compute = {"dcf": self._dcf, "pe_ratio": self._pe_ratio, "peg": self._peg}[wanted.method]
        price = await self._provider.price(wanted.ticker, None)
        if price.price <= 0:
            raise ToolFailed(f"{wanted.ticker} has no price above zero.", "Look at finance/get_stock_price.")
        try:
            fair, confidence, assumptions, steps = await compute(wanted, price.price)
        except NotMeaningful as error:
            raise ToolFailed(error.what, error.do) from error
        return {
            "ticker": wanted.ticker,
            "method": wanted.method,
            "fair_value": number(fair, 2),
            "price": number(price.price, 4),
            "currency": price.currency,
            "upside_downside": number((fair / price.price - 1) * 100, 2),
            "confidence": number(confidence, 2),
            "needs_review": confidence < REVIEW_BELOW,
            "assumptions": assumptions,
            "steps": steps,
            "as_of": price.date,
            **self._origin,
        }

    # ---- methods: (fair value of a share, confidence, assumptions, steps)

    async def _dcf(
        self, wanted: CalculateValuation, price: Decimal
    ) -> tuple[Decimal, Decimal, Assumptions, dict[str, Any]]:
        del price
        flows = await self._provider.statement(wanted.ticker, None, "cash_flow")
        sheet = await self._provider.statement(wanted.ticker, flows.year, "balance_sheet")
        cash_flow = _item(flows, "free_cash_flow")
        net_debt, shares = _item(sheet, "total_debt") - _item(sheet, "cash"), _item(sheet, "shares_outstanding")
        valuation.check_cash_flow(cash_flow)  # before a growth from a loss is spoken of
        growth, origin = await self._growth(wanted, flows, "free_cash_flow")
        discount = _given(wanted.discount_rate, "discount_rate", DISCOUNT)
        terminal = _given(wanted.terminal_growth, "terminal_growth", TERMINAL_GROWTH)
        years = wanted.years or YEARS
        worth = valuation.dcf(
            cash_flow,
            growth=growth,
            years=years,
            discount=discount,
            terminal_growth=terminal,
            net_debt=net_debt,
            shares=shares,
        )
        assumptions = {
            "growth_rate": _assumed(growth, origin),
            "discount_rate": _assumed(discount, _origin(wanted.discount_rate)),
            "terminal_growth": _assumed(terminal, _origin(wanted.terminal_growth)),
            "years": _assumed(Decimal(years), _origin(wanted.years)),
            "free_cash_flow": _assumed(cash_flow, f"statement of {flows.year}"),
            "net_debt": _assumed(net_debt, f"statement of {sheet.year}"),
            "shares_outstanding": _assumed(shares, f"statement of {sheet.year}"),
        }
        steps = {
            "formula": "sum of cash flows / (1 + discount_rate)^year, + terminal value, - net debt, / shares",
            "cash_flows": [
                {"year": flow.year, "amount": number(flow.amount, 2), "present_value": number(flow.present_value, 2)}
                for flow in worth.flows
            ],
            "terminal_value": number(worth.terminal, 2),
            "enterprise_value": number(worth.enterprise, 2),
            "equity_value": number(worth.equity, 2),
            "confidence": "1 - half of what the value moves by when the discount rate moves by a point each way",
        }
        return worth.per_share, valuation.confidence_of_dcf(worth, discount, terminal), assumptions, steps

    async def _pe_ratio(
        self, wanted: CalculateValuation, price: Decimal
    ) -> tuple[Decimal, Decimal, Assumptions, dict[str, Any]]:
        income = await self._provider.statement(wanted.ticker, None, "income")
        earnings = _item(income, "eps")
        peers = list(await self._provider.peer_multiples(wanted.ticker))
        if wanted.target_pe is None and not peers:
            raise ToolFailed(
                "P/E of comparable firms are not known here.", "Give the P/E to compare with as target_pe."
            )
        multiple = _given(wanted.target_pe, "target_pe", sum(peers, Decimal(0)) / max(1, len(peers)))
        fair = valuation.by_earnings(earnings, multiple)
        assumptions = {
            "eps": _assumed(earnings, f"statement of {income.year}"),
            "target_pe": _assumed(multiple, _origin(wanted.target_pe, "mean of comparable firms")),
        }
        steps = {
            "formula": "eps x target_pe",
            "pe_ratio": number(price / earnings, 2),
            "peer_pe": [number(each, 2) for each in peers],
            "confidence": "1 - deviation / mean of the P/E of comparable firms; 0.5 where they are too few",
        }
        trusted = [] if wanted.target_pe is not None else peers
        return fair, valuation.confidence_of_multiples(trusted), assumptions, steps

    async def _peg(
        self, wanted: CalculateValuation, price: Decimal
    ) -> tuple[Decimal, Decimal, Assumptions, dict[str, Any]]:
        income = await self._provider.statement(wanted.ticker, None, "income")
        earnings = _item(income, "eps")
        valuation.by_earnings(earnings, Decimal(1))  # before a growth from a loss is spoken of
        growth, origin = await self._growth(wanted, income, "eps")
        ratio, fair = valuation.peg(price, earnings, growth)
        assumptions = {
            "eps": _assumed(earnings, f"statement of {income.year}"),
            "growth_rate": _assumed(growth, origin),
            "fair_peg": _assumed(Decimal(1), "default"),
        }
        steps = {
            "formula": "peg = price / eps / (growth_rate x 100); fair value where peg is 1",
            "peg": number(ratio, 3),
            "pe_ratio": number(price / earnings, 2),
            "confidence": "1 - two points of growth / growth",
        }
        return fair, valuation.confidence_of_growth(growth), assumptions, steps

    async def _growth(self, wanted: CalculateValuation, last: Statement, item: str) -> tuple[Decimal, str]:
        """The growth that is wanted, or that of the last year, and where it is from."""
        if wanted.growth_rate is not None:
            return decimal_of(wanted.growth_rate, "growth_rate"), "given"
        before = await self._provider.statement(wanted.ticker, last.year - 1, last.statement_type)
        growth = valuation.growth_of(_item(before, item), _item(last, item), 1)
        if growth > MAX_GROWTH:
            return MAX_GROWTH, f"{item} {before.year} to {last.year}, cut off at {MAX_GROWTH}"
        return growth, f"{item} {before.year} to {last.year}"


def _item(statement: Statement, name: str) -> Decimal:
    if name not in statement.items:
        raise ToolFailed(
            f"The {statement.statement_type} of {statement.ticker} for {statement.year} does not say {name}.",
            "Use another method.",
        )
    return statement.items[name]


def _given(value: float | None, name: str, default: Decimal) -> Decimal:
    return default if value is None else decimal_of(value, name)


def _origin(value: float | None, default: str = "default") -> str:
    return default if value is None else "given"


def _assumed(value: Decimal, origin: str) -> dict[str, Any]:
    return {"value": number(value, 6), "origin": origin}


def _told(report: AnalystReport) -> dict[str, Any]:
    target = None if report.target_price is None else number(report.target_price, 2)
    return {**msgspec.structs.asdict(report), "target_price": target}


def _consensus(reports: list[AnalystReport]) -> Mapping[str, Any]:
    """What most say, and how far to trust that: the share of them, by how sure the reports themselves are."""
    if not reports:
        return {"consensus": None, "confidence": 0.0, "mean_target_price": None}
    ratings = Counter(each.rating for each in reports)
    (rating, most), *others = ratings.most_common()
    sure = [each.confidence for each in reports if each.confidence is not None]
    mean = sum(sure) / len(sure) if sure else 0.5
    targets = [each.target_price for each in reports if each.target_price is not None]
    tied = bool(others) and others[0][1] == most
    return {
        "consensus": None if tied else rating,
        "confidence": round(most / len(reports) * mean, 2),
        "mean_target_price": number(sum(targets, Decimal(0)) / len(targets), 2) if targets else None,
    }
