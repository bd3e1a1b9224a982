"""Valuation: laws that hold for any figures, values known from elsewhere, and what is refused."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bascule.packs.finance import valuation
from bascule.packs.finance.valuation import NotMeaningful

rates = st.decimals("0.01", "0.6", places=4)
amounts = st.decimals("-1e9", "1e9", places=2)
flows = st.lists(amounts, min_size=1, max_size=20)
CLOSE = Decimal("1e-9")

FIRM: dict[str, Any] = {
    "growth": Decimal("0.05"),
    "years": 5,
    "discount": Decimal("0.10"),
    "terminal_growth": Decimal("0.02"),
    "net_debt": Decimal(0),
    "shares": Decimal(10),
}


def close(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= CLOSE * max(Decimal(1), abs(one), abs(other))


# ---- net present value


def test_a_known_present_value() -> None:
    found = valuation.npv(Decimal("0.1"), [Decimal(-1000), Decimal(500), Decimal(500), Decimal(500)])
    assert round(found, 2) == Decimal("243.43")


@given(flows)
def test_without_interest_the_present_value_is_the_sum(values: list[Decimal]) -> None:
    assert close(valuation.npv(Decimal(0), values), sum(values, Decimal(0)))


@given(rates, flows, flows)
def test_present_values_add_up(rate: Decimal, one: list[Decimal], other: list[Decimal]) -> None:
    longest = max(len(one), len(other))
    padded = [values + [Decimal(0)] * (longest - len(values)) for values in (one, other)]
    both = [a + b for a, b in zip(*padded, strict=True)]
    assert abs(valuation.npv(rate, both) - valuation.npv(rate, one) - valuation.npv(rate, other)) < Decimal("1e-6")


@given(rates, flows)
def test_a_year_later_is_worth_less_by_the_rate(rate: Decimal, values: list[Decimal]) -> None:
    later = valuation.npv(rate, [Decimal(0), *values])
    assert abs(later * (1 + rate) - valuation.npv(rate, values)) < Decimal("1e-6")


@given(st.floats(0.001, 0.9), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=15))
def test_present_values_are_those_of_another_library(rate: float, values: list[float]) -> None:
    pyxirr = pytest.importorskip("pyxirr", reason="a cross-check, not installed here")
    ours = valuation.npv(Decimal(repr(rate)), [Decimal(repr(value)) for value in values])
    assert float(ours) == pytest.approx(pyxirr.npv(rate, values), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("rate", ["-1", "-1.5"])
def test_a_rate_that_leaves_nothing_has_no_present_value(rate: str) -> None:
    with pytest.raises(NotMeaningful, match="-100 %"):
        valuation.npv(Decimal(rate), [Decimal(1)])


# ---- discounted cash flow


def test_a_known_valuation() -> None:
    """A hundred that grows by 5 % for five years, then by 2 %, at 10 %."""
    worth = valuation.dcf(Decimal(100), **FIRM)
    assert [round(flow.amount, 2) for flow in worth.flows] == [
        *(Decimal("105.00"), Decimal("110.25"), Decimal("115.76"), Decimal("121.55"), Decimal("127.63"))
    ]
    assert round(worth.terminal, 1) == Decimal("1010.4")
    assert round(worth.enterprise, 0) == Decimal(1446)
    assert close(worth.per_share * 10, worth.equity)


@given(st.decimals("1", "1e12", places=2), rates, rates, st.integers(1, 30))
def test_a_firm_that_grows_as_for_ever_is_a_perpetuity(
    cash_flow: Decimal, growth: Decimal, discount: Decimal, years: int
) -> None:
    """However many years are written out, it comes to what Gordon's formula says."""
    assume(growth < discount)
    terms = {**FIRM, "growth": growth, "terminal_growth": growth, "discount": discount, "years": years}
    worth = valuation.dcf(cash_flow, **terms)
    assert close(worth.enterprise, cash_flow * (1 + growth) / (discount - growth))


@given(st.decimals("1", "1e12", places=2), rates, rates, rates, st.integers(1, 15))
def test_the_forecast_is_a_present_value(
    cash_flow: Decimal, growth: Decimal, discount: Decimal, terminal: Decimal, years: int
) -> None:
    assume(terminal < discount)
    terms = {**FIRM, "growth": growth, "terminal_growth": terminal, "discount": discount, "years": years}
    worth = valuation.dcf(cash_flow, **terms)
    amounts = [Decimal(0), *(flow.amount for flow in worth.flows)]
    assert close(valuation.npv(discount, amounts), worth.enterprise - worth.terminal)
    assert close(sum((flow.present_value for flow in worth.flows), worth.terminal), worth.enterprise)


@given(rates, rates, rates)
def test_more_growth_is_worth_more_and_a_higher_rate_less(one: Decimal, other: Decimal, rate: Decimal) -> None:
    assume(one < other)
    low, high = Decimal("0.3") + one, Decimal("0.3") + other
    slow, fast = (valuation.dcf(Decimal(100), **{**FIRM, "growth": growth}) for growth in (one, other))
    assert slow.per_share < fast.per_share
    cheap, dear = (valuation.dcf(Decimal(100), **{**FIRM, "growth": rate, "discount": each}) for each in (low, high))
    assert dear.per_share < cheap.per_share


@given(st.decimals("-500", "1000", places=2))
def test_debts_are_taken_off_and_cash_is_added(net_debt: Decimal) -> None:
    worth = valuation.dcf(Decimal(100), **{**FIRM, "net_debt": net_debt})
    assert close(worth.enterprise - net_debt, worth.equity)


@pytest.mark.parametrize(
    ("cash_flow", "change", "said"),
    [
        ("0", {}, "not positive"),
        ("-5", {}, "not positive"),
        ("100", {"discount": Decimal(0)}, "not above zero"),
        ("100", {"terminal_growth": Decimal("0.10")}, "no bound"),
        ("100", {"terminal_growth": Decimal("0.2")}, "no bound"),
        ("100", {"growth": Decimal(-1)}, "leaves nothing"),
        ("100", {"years": 0}, "1 to 30"),
        ("100", {"years": 31}, "1 to 30"),
        ("100", {"shares": Decimal(0)}, "number of shares"),
        ("100", {"net_debt": Decimal("1e6")}, "debts are more"),
    ],
)
def test_a_valuation_that_says_nothing_is_refused(cash_flow: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(NotMeaningful, match=said) as caught:
        valuation.dcf(Decimal(cash_flow), **{**FIRM, **change})
    assert caught.value.do


# ---- multiples


@given(st.decimals("0.01", "1e6", places=2), st.decimals("0.1", "500", places=2))
def test_at_its_own_multiple_a_share_is_worth_its_price(earnings: Decimal, multiple: Decimal) -> None:
    price = valuation.by_earnings(earnings, multiple)
    assert close(price / earnings, multiple)


@given(st.decimals("1", "1e6", places=2), st.decimals("0.1", "1e4", places=2), st.decimals("0.01", "1", places=3))
def test_a_share_at_a_peg_of_one_is_worth_its_price(price: Decimal, earnings: Decimal, growth: Decimal) -> None:
    ratio, fair = valuation.peg(price, earnings, growth)
    assert close(ratio * fair, price)
    assert close(valuation.peg(fair, earnings, growth)[0], Decimal(1))


def test_a_known_peg() -> None:
    assert valuation.peg(Decimal(30), Decimal(2), Decimal("0.15")) == (Decimal(1), Decimal(30))


@pytest.mark.parametrize(
    ("price", "earnings", "growth", "said"),
    [
        *(("30", "0", "0.1", "Earnings"), ("30", "-2", "0.1", "Earnings"), ("30", "2", "0", "do not grow")),
        *(("30", "2", "-0.1", "do not grow"), ("0", "2", "0.1", "no price")),
    ],
)
def test_a_peg_that_says_nothing_is_refused(price: str, earnings: str, growth: str, said: str) -> None:
    with pytest.raises(NotMeaningful, match=said):
        valuation.peg(Decimal(price), Decimal(earnings), Decimal(growth))


@pytest.mark.parametrize(("earnings", "multiple"), [("0", "15"), ("-1", "15"), ("1", "0"), ("1", "-3")])
def test_a_price_by_earnings_that_says_nothing_is_refused(earnings: str, multiple: str) -> None:
    with pytest.raises(NotMeaningful):
        valuation.by_earnings(Decimal(earnings), Decimal(multiple))


@given(st.decimals("1", "1e9", places=2), rates, st.integers(1, 10))
def test_a_growth_leads_from_the_first_to_the_last(first: Decimal, growth: Decimal, years: int) -> None:
    last = first * (1 + growth) ** years
    assert abs(valuation.growth_of(first, last, years) - growth) < Decimal("1e-6")


@pytest.mark.parametrize(("first", "last"), [("-1", "1"), ("1", "-1"), ("0", "1"), ("1", "0")])
def test_a_growth_from_or_to_a_loss_has_no_rate(first: str, last: str) -> None:
    with pytest.raises(NotMeaningful, match="no rate"):
        valuation.growth_of(Decimal(first), Decimal(last), 1)


# ---- confidence


@given(rates, rates, rates)
def test_confidence_is_a_share_of_one(growth: Decimal, discount: Decimal, terminal: Decimal) -> None:
    assume(terminal < discount)
    terms = {**FIRM, "growth": growth, "discount": discount, "terminal_growth": terminal}
    found = valuation.confidence_of_dcf(valuation.dcf(Decimal(100), **terms), discount, terminal)
    assert 0 <= found <= 1
    assert 0 <= valuation.confidence_of_growth(growth) <= 1


def test_confidence_falls_where_the_rate_comes_close_to_the_growth() -> None:
    found = []
    for discount in ("0.12", "0.08", "0.05", "0.035", "0.03"):
        terms = {**FIRM, "discount": Decimal(discount)}
        worth = valuation.dcf(Decimal(100), **terms)
        found.append(valuation.confidence_of_dcf(worth, Decimal(discount), Decimal("0.02")))
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert found[0] > Decimal("0.9")


@given(st.lists(st.decimals("1", "100", places=1), max_size=8))
def test_confidence_of_multiples_is_full_only_if_they_agree(multiples: list[Decimal]) -> None:
    found = valuation.confidence_of_multiples(multiples)
    assert 0 <= found <= 1
    if len(multiples) > 1:
        assert (found == 1) == (len(set(multiples)) == 1)
