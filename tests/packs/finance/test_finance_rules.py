"""The credit score and the risk of orders: laws that hold for any figures."""

from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.packs.finance import credit, trading
from bascule.packs.finance.credit import RULES, Report
from bascule.packs.finance.market import filled, sample
from bascule.packs.finance.trading import Market, Portfolio

money = st.decimals("-1e12", "1e12", places=2)
GOOD: Final = sample().customer_reports["CUST-123"]

reports = st.builds(
    Report,
    *(st.just("C"), st.just("n"), st.just(2025), st.just("USD"), st.just("2026-01-01")),
    *(money for _ in range(8)),
)


@given(reports)
def test_every_report_has_a_score_and_its_parts_make_it(report: Report) -> None:
    risk, parts = credit.score(report)
    whole = sum((part.risk * part.weight for part in parts.values()), Decimal(0))
    assert 0 <= risk <= 100
    assert sum(part.weight for part in parts.values()) == 1
    assert abs(whole - risk) <= Decimal("0.5")


@pytest.mark.parametrize(("customer", "risk"), [("CUST-123", 1), ("CUST-456", 65), ("CUST-789", 99)])
def test_the_customers_of_the_sample_are_of_three_kinds(customer: str, risk: int) -> None:
    assert credit.score(sample().customer_reports[customer])[0] == risk


@pytest.mark.parametrize(
    ("change", "ratio"),
    [
        ({"current_assets": Decimal(1)}, "liquidity_ratio"),
        ({"total_debt": Decimal(10**9)}, "debt_to_equity"),
        ({"operating_income": Decimal(1)}, "interest_cover"),
        ({"net_income": Decimal(-(10**9))}, "net_margin"),
        ({"equity": Decimal(0)}, "debt_to_equity"),
        ({"revenue": Decimal(0)}, "net_margin"),
    ],
)
def test_what_is_bad_adds_all_of_its_weight(change: dict[str, Any], ratio: str) -> None:
    _, parts = credit.score(msgspec.structs.replace(GOOD, **change))
    assert parts[ratio].risk == 100


@pytest.mark.parametrize(
    ("name", "ratio"), [("current_liabilities", "liquidity_ratio"), ("interest_expense", "interest_cover")]
)
def test_without_debts_there_is_nothing_to_fail_at(name: str, ratio: str) -> None:
    _, parts = credit.score(msgspec.structs.replace(GOOD, **{name: Decimal(0)}))
    assert parts[ratio].ratio is None
    assert parts[ratio].risk == 0


@given(st.sampled_from(sorted(RULES)), st.decimals("-10", "10", places=3))
def test_a_ratio_counts_from_good_to_bad(name: str, ratio: Decimal) -> None:
    rule = RULES[name]
    assert credit.risk_of(rule.good, rule) == 0
    assert credit.risk_of(rule.bad, rule) == 100
    assert 0 <= credit.risk_of(ratio, rule) <= 100
    assert f"{name} {rule.good} to {rule.bad}, weight {rule.weight}" in credit.FORMULA


# ---- orders

MARKETS: Final = {
    "A": Market(Decimal(10), 1000, Decimal("0.3")),
    "B": Market(Decimal(5), 10_000, Decimal("0.9")),
}
FUND: Final = Portfolio("P", "x", "USD", Decimal(10_000), {"A": 100})
FREE: Final[Any] = {"max_share": Decimal(1), "restricted": ()}


@given(st.sampled_from(["A", "B"]), st.sampled_from(["buy", "sell"]), st.integers(1, 10**6), st.decimals("0", "1e6"))
def test_every_order_is_decided_about(ticker: str, side: trading.Side, quantity: int, cash: Decimal) -> None:
    fund = msgspec.structs.replace(FUND, cash=cash)
    found = trading.assess(fund, MARKETS, ticker, side, quantity, **FREE)
    assert 0 <= found.score <= 1
    if side == "buy" and MARKETS[ticker].price * quantity > cash:
        assert found.decision == "reject"
    if side == "sell" and quantity > fund.positions.get(ticker, 0):
        assert found.decision == "reject"


def test_a_larger_order_is_never_less_risky() -> None:
    scores = [trading.assess(FUND, MARKETS, "B", "buy", quantity, **FREE).score for quantity in range(1, 2000, 50)]
    assert scores == sorted(scores)


def test_what_is_risky_goes_to_a_person_and_what_is_worse_is_rejected() -> None:
    """0.2 for the volatility, 0.5 for the share, and what the quantity is of the volume."""
    decisions = [trading.assess(FUND, MARKETS, "B", "buy", quantity, **FREE).decision for quantity in (10, 800, 1300)]
    assert decisions == ["approve", "human_review", "reject"]


@pytest.mark.parametrize(
    ("order", "limits", "said"),
    [
        (("A", "buy", 1), {"max_share": Decimal(1), "restricted": ("A",)}, "restricted"),
        (("A", "buy", 200), {"max_share": Decimal("0.1"), "restricted": ()}, "more than 0.1 of the portfolio"),
        (("A", "buy", 1001), FREE, "in cash"),
        (("A", "sell", 101), FREE, "there are 100"),
        (("B", "sell", 1), FREE, "there are 0"),
    ],
)
def test_a_broken_rule_rejects_whatever_the_score(order: Any, limits: dict[str, Any], said: str) -> None:
    found = trading.assess(FUND, MARKETS, *order, **limits)
    assert found.decision == "reject"
    assert any(said in rule for rule in found.violations)


# ---- URLs of a provider


@given(st.text(max_size=20))
def test_a_value_stays_in_its_place_of_a_url(ticker: str) -> None:
    from bascule import egress

    try:
        url = filled("https://a.test/v1", "of/{ticker}?x={ticker}", {"ticker": ticker})
    except (egress.FetchFailed, UnicodeEncodeError):
        assert ticker in ("", ".", "..") or not ticker.isascii()
        return
    assert egress.same_origin(url, "https://a.test/v1/of")
    assert url.count("/") == 5
    assert url.count("?") == 1
