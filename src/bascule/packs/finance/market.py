"""Where figures come from: a sample that comes along, or a service that answers in JSON.

The sample's figures are made up, whatever the tickers, and everything that tells of them says so.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from bascule import egress
from bascule.packs.finance.credit import Report
from bascule.packs.finance.options import ProviderOptions
from bascule.packs.finance.trading import Portfolio
from bascule.packs.pack import ToolFailed

SAMPLE: Final = Path(__file__).parent / "sample.yaml"
MAX_FIGURE: Final = Decimal("1e18")
MIN_FIGURE: Final = Decimal("1e-12")
_ANSWER_BYTES: Final = 2 * 1024 * 1024

StatementType: TypeAlias = Literal["income", "balance_sheet", "cash_flow"]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
T = TypeVar("T")


class Price(msgspec.Struct, frozen=True):
    ticker: str
    date: str  # YYYY-MM-DD
    price: Decimal
    currency: str
    name: str = ""
    change_percent: Decimal | None = None
    volume: int | None = None
    volatility: Decimal = Decimal("0.3")  # a year, as a share of one


class Statement(msgspec.Struct, frozen=True):
    ticker: str
    year: int
    statement_type: StatementType
    currency: str
    items: Mapping[str, Decimal]


class AnalystReport(msgspec.Struct, frozen=True):
    title: str
    analyst: str
    rating: Literal["buy", "hold", "sell"]
    date: str
    url: str = ""
    target_price: Decimal | None = None
    confidence: Share | None = None


class Provider(Protocol):
    """Everything raises ToolFailed for what there is not."""

    source: str  # what its figures are told to come from
    sample: bool  # whether they are made up

    async def price(self, ticker: str, date: str | None) -> Price:
        """The close of *date*, or of the last trading day before it; None: the newest."""

    async def statement(self, ticker: str, year: int | None, statement_type: StatementType) -> Statement:
        """Of the fiscal *year*; None: the newest."""

    async def analyst_reports(self, ticker: str, limit: int) -> Sequence[AnalystReport]:
        """The newest first."""

    async def peer_multiples(self, ticker: str) -> Sequence[Decimal]:
        """P/E of comparable firms; none if they are not known."""

    async def customer_report(self, customer_id: str) -> Report:
        """The newest report of a customer."""


# ---- the sample


class Firm(msgspec.Struct, frozen=True):
    """One firm of the sample."""

    name: str
    currency: str
    peer_pe: Sequence[Decimal]
    volatility: Decimal
    volume: int  # on a usual day
    closes: Mapping[str, Decimal]  # by date
    statements: Mapping[int, Mapping[StatementType, Mapping[str, Decimal]]]
    analyst_reports: Sequence[AnalystReport]


class SampleInvoice(msgspec.Struct, frozen=True):
    invoice_id: str
    vendor: str
    amount: Decimal
    currency: str
    due: str
    paid: bool = False


class Sample(msgspec.Struct, frozen=True):
    firms: Mapping[str, Firm]
    customer_reports: Mapping[str, Report]
    invoices: Sequence[SampleInvoice]
    portfolios: Mapping[str, Portfolio]


@cache
def sample() -> Sample:
    return msgspec.yaml.decode(SAMPLE.read_bytes(), type=Sample)


class SampleProvider:
    source = "sample of Bascule: made-up figures, not market data"
    sample = True

    async def price(self, ticker: str, date: str | None) -> Price:
        firm = _firm(ticker)
        days = [day for day in sorted(firm.closes) if date is None or day <= date]
        if not days:
            raise ToolFailed(
                f"There is no price of {ticker} on {date}.",
                f"The sample begins on {min(firm.closes)}: ask for a later day.",
            )
        close = firm.closes[days[-1]]
        before = firm.closes[days[-2]] if len(days) > 1 else None
        change = None if before is None else (close / before - 1) * 100
        return Price(ticker, days[-1], close, firm.currency, firm.name, change, firm.volume, firm.volatility)

    async def statement(self, ticker: str, year: int | None, statement_type: StatementType) -> Statement:
        firm = _firm(ticker)
        wanted = max(firm.statements) if year is None else year
        if wanted not in firm.statements:
            years = ", ".join(map(str, sorted(firm.statements)))
            raise ToolFailed(f"There is no statement of {ticker} for {wanted}.", f"There are those of {years}.")
        return Statement(ticker, wanted, statement_type, firm.currency, firm.statements[wanted][statement_type])

    async def analyst_reports(self, ticker: str, limit: int) -> Sequence[AnalystReport]:
        return sorted(_firm(ticker).analyst_reports, key=lambda each: each.date, reverse=True)[:limit]

    async def peer_multiples(self, ticker: str) -> Sequence[Decimal]:
        return _firm(ticker).peer_pe

    async def customer_report(self, customer_id: str) -> Report:
        reports = sample().customer_reports
        if customer_id not in reports:
            known = ", ".join(sorted(reports))
            raise ToolFailed(f"There is no report of the customer {customer_id}.", f"The sample has {known}.")
        return reports[customer_id]


def _firm(ticker: str) -> Firm:
    firms = sample().firms
    if ticker not in firms:
        raise ToolFailed(f"There is no ticker {ticker}.", f"The sample has {', '.join(sorted(firms))}.")
    return firms[ticker]


# ---- a service


class _Reports(msgspec.Struct, frozen=True):
    reports: Sequence[AnalystReport]


class ServiceProvider:
    """A service that answers with the fields of the types above."""

    sample = False

    def __init__(self, options: ProviderOptions) -> None:
        self._options = options
        self.source = egress.host_of(options.url)

    async def price(self, ticker: str, date: str | None) -> Price:
        return await self._asked(self._options.price, Price, ticker=ticker, date=date)

    async def statement(self, ticker: str, year: int | None, statement_type: StatementType) -> Statement:
        return await self._asked(
            self._options.statement, Statement, ticker=ticker, year=year, statement_type=statement_type
        )

    async def analyst_reports(self, ticker: str, limit: int) -> Sequence[AnalystReport]:
        said = await self._asked(self._options.analyst_reports, _Reports, ticker=ticker, limit=limit)
        return said.reports[:limit]

    async def peer_multiples(self, ticker: str) -> Sequence[Decimal]:
        del ticker
        return ()

    async def customer_report(self, customer_id: str) -> Report:
        return await self._asked(self._options.customer_report, Report, customer_id=customer_id)

    async def _asked(self, template: str, kind: type[T], **values: Any) -> T:
        options = self._options
        headers = {} if options.api_key is None else {options.key_header: options.api_key}
        try:
            answer = await egress.ask(
                "GET",
                filled(options.url, template, values),
                base=options.url,
                headers=headers,
                limit_bytes=_ANSWER_BYTES,
                timeout_s=options.timeout_s,
            )
        except egress.FetchFailed as error:
            raise ToolFailed("The provider of market data cannot be reached.", "Try again later.") from error
        if answer.status == 404:
            raise ToolFailed(
                "The provider of market data knows nothing of it.", "Check the ticker, the year or the id."
            )
        if answer.status != 200:
            raise ToolFailed(f"The provider of market data answered HTTP {answer.status}.", "Try again later.")
        try:
            found = msgspec.json.decode(answer.body, type=kind)
            _check_figures(msgspec.to_builtins(found, builtin_types=(Decimal,)))
            return found
        except (msgspec.DecodeError, RecursionError) as error:
            raise ToolFailed(
                "The provider of market data answered with something else than was asked for.",
                "Tell the person who runs this server.",
            ) from error


def _check_figures(value: Any) -> None:
    """Raises ValidationError for a number that no firm has, and that arithmetic would choke on."""
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            _check_figures(each)
    elif isinstance(value, Decimal | int | float) and value:
        size = abs(Decimal(value))
        if not size.is_finite() or not MIN_FIGURE <= size <= MAX_FIGURE:
            raise msgspec.ValidationError("a number is out of all bounds")


def filled(base: str, template: str, values: Mapping[str, object]) -> str:
    """The URL that *template* is below *base*, each value quoted whole; a parameter that has none is left out.

    Raises FetchFailed for a value that leads elsewhere.

    >>> filled("https://a.test/v1", "of/{ticker}?year={year}&x={x}", {"ticker": "A/B", "year": 2025, "x": None})
    'https://a.test/v1/of/A%2FB?year=2025'
    """
    path, _, query = template.partition("?")
    said = {name: str(value) for name, value in values.items() if value is not None}
    missing = {name for name, value in values.items() if value is None}
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    kept = {name: value for name, _, value in pairs if not any(f"{{{each}}}" in value for each in missing)}
    return egress.below(
        base,
        *(part.format_map(said) for part in path.split("/")),
        query={name: value.format_map(said) for name, value in kept.items()},
    )
