"""The tools of finance through their real process: what they give, what they refuse, and what is done once."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from packs.research.webserver import site
from packs.talking import talking

KEY: Final = "invoice-payment-INV-456-user-789"
PAYMENT: Final[dict[str, Any]] = {"invoice_id": "INV-456", "amount": 1250, "payment_method": "card"}
ORDER: Final[dict[str, Any]] = {"portfolio_id": "PF-1", "ticker": "FPT", "side": "buy", "quantity": 100}


# ---- shares


async def test_a_price_is_the_newest_or_that_of_a_day() -> None:
    async with talking("finance") as finance:
        newest = await finance.call("get_stock_price", ticker="VNM")
        assert (newest["date"], newest["currency"], newest["sample"]) == ("2026-11-20", "VND", True)
        friday = await finance.call("get_stock_price", ticker="VNM", date="2026-11-13")
        sunday = await finance.call("get_stock_price", ticker="VNM", date="2026-11-15")
        assert friday == sunday
        first = await finance.call("get_stock_price", ticker="VNM", date="2026-11-02")
        assert first["change_percent"] is None
        assert "begins on 2026-11-02" in await finance.refusal("get_stock_price", ticker="VNM", date="2026-11-01")


async def test_statements_are_of_a_year_and_a_kind() -> None:
    async with talking("finance") as finance:
        newest = await finance.call("get_financial_statements", ticker="FPT")
        assert (newest["year"], newest["statement_type"]) == (2025, "income")
        assert newest["items"]["revenue"] == 72e12
        for kind in ("income", "balance_sheet", "cash_flow"):
            assert await finance.call("get_financial_statements", ticker="FPT", year=2024, statement_type=kind)
        said = await finance.refusal("get_financial_statements", ticker="FPT", year=1999)
        assert "2023, 2024, 2025" in said


async def test_a_valuation_comes_with_every_assumption_and_where_it_is_from() -> None:
    async with talking("finance") as finance:
        found = await finance.call("calculate_valuation", ticker="VNM", discount_rate=0.09, years=8)
    assumed = found["assumptions"]
    assert assumed["discount_rate"] == {"value": 0.09, "origin": "given"}
    assert assumed["years"] == {"value": 8.0, "origin": "given"}
    assert assumed["terminal_growth"] == {"value": 0.025, "origin": "default"}
    assert assumed["growth_rate"]["origin"] == "free_cash_flow 2024 to 2025"
    assert assumed["net_debt"]["value"] == -4e12
    assert len(found["steps"]["cash_flows"]) == 8
    whole = sum(each["present_value"] for each in found["steps"]["cash_flows"]) + found["steps"]["terminal_value"]
    assert whole == pytest.approx(found["steps"]["enterprise_value"])
    assert found["fair_value"] == pytest.approx((whole + 4e12) / 2e9, abs=0.01)
    assert found["upside_downside"] == pytest.approx((found["fair_value"] / found["price"] - 1) * 100, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "needs_review"),
    [
        ({"ticker": "VNM", "method": "pe_ratio"}, False),
        ({"ticker": "FPT", "method": "pe_ratio"}, True),
        ({"ticker": "FPT", "method": "peg"}, False),
        ({"ticker": "VNM", "method": "peg"}, True),
        ({"ticker": "FLAT", "discount_rate": 0.04}, True),
        ({"ticker": "LOSS", "method": "pe_ratio", "target_pe": 20}, None),
    ],
)
async def test_what_is_not_sure_says_that_a_person_should_look(
    arguments: dict[str, Any], needs_review: bool | None
) -> None:
    async with talking("finance") as finance:
        if needs_review is None:
            assert await finance.refusal("calculate_valuation", **arguments)
            return
        found = await finance.call("calculate_valuation", **arguments)
    assert found["needs_review"] is needs_review
    assert (found["confidence"] < 0.7) is needs_review


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ticker": "LOSS"}, "free cash flow is not positive"),
        ({"ticker": "LOSS", "method": "pe_ratio"}, "Earnings per share are not positive"),
        ({"ticker": "LOSS", "method": "peg", "growth_rate": 0.1}, "Earnings per share are not positive"),
        ({"ticker": "FLAT", "method": "peg"}, "do not grow"),
        ({"ticker": "FLAT", "method": "peg", "growth_rate": -0.1}, "do not grow"),
        ({"ticker": "VNM", "discount_rate": 0.02}, "below the discount rate"),
        ({"ticker": "VNM", "discount_rate": 0.02, "terminal_growth": 0.02}, "below the discount rate"),
        ({"ticker": "NONE"}, "no ticker NONE"),
    ],
)
async def test_a_method_that_says_nothing_is_refused_with_what_to_do(arguments: dict[str, Any], said: str) -> None:
    async with talking("finance") as finance:
        refusal = await finance.refusal("calculate_valuation", **arguments)
    assert said in refusal
    assert refusal.count(".") >= 2


async def test_reports_of_analysts_say_what_most_of_them_say_and_how_sure() -> None:
    async with talking("finance") as finance:
        agreed = await finance.call("get_analyst_reports", ticker="VNM")
        split = await finance.call("get_analyst_reports", ticker="FPT")
        none = await finance.call("get_analyst_reports", ticker="FLAT")
        one = await finance.call("get_analyst_reports", ticker="VNM", limit=1)
    assert (agreed["consensus"], agreed["confidence"], agreed["mean_target_price"]) == ("hold", 0.5, 70333.33)
    assert (split["consensus"], split["confidence"]) == (None, 0.2)
    assert (none["reports"], none["consensus"], none["confidence"]) == ([], None, 0.0)
    assert [each["date"] for each in agreed["reports"]] == ["2026-11-05", "2026-10-21", "2026-09-30"]
    assert one["reports"] == agreed["reports"][:1]


BAD: Final[Any] = [
    ("get_stock_price", {}),
    ("get_stock_price", {"ticker": "vnm"}),
    ("get_stock_price", {"ticker": "../x"}),
    ("get_stock_price", {"ticker": "A" * 13}),
    ("get_stock_price", {"ticker": "VNM", "date": "yesterday"}),
    ("get_financial_statements", {"ticker": "VNM", "statement_type": "all"}),
    ("get_financial_statements", {"ticker": "VNM", "year": 2025.5}),
    ("calculate_valuation", {"ticker": "VNM", "method": "guess"}),
    ("calculate_valuation", {"ticker": "VNM", "years": 0}),
    ("calculate_valuation", {"ticker": "VNM", "discount_rate": 0}),
    ("calculate_valuation", {"ticker": "VNM", "growth_rate": 1e308}),
    ("get_analyst_reports", {"ticker": "VNM", "limit": 11}),
    ("get_report", {"customer_id": "../../etc/passwd"}),
    ("risk__analyze_report", {"report_path": "/etc/passwd"}),
    ("risk__analyze_report", {"report_path": "finance://reports/../x"}),
    ("invoice__list_invoices", {"limit": 0}),
    ("invoice__process_payment", {**PAYMENT, "amount": 0}),
    ("invoice__process_payment", {**PAYMENT, "amount": -5}),
    ("invoice__process_payment", {**PAYMENT, "amount": "1250"}),
    ("invoice__process_payment", {**PAYMENT, "invoice_id": "INV-1; DROP TABLE invoices"}),
    ("invoice__process_payment", {**PAYMENT, "payment_method": "cash"}),
    ("invoice__process_payment", {**PAYMENT, "idempotency_key": "short"}),
    ("trading__check_risk", {**ORDER, "quantity": 0}),
    ("trading__check_risk", {**ORDER, "side": "short"}),
    ("trading__place_order", {**ORDER, "limit_price": 0}),
]


async def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        for tool, arguments in BAD:
            assert "rgument" in await finance.refusal(tool, **arguments), (tool, arguments)
    assert payments(tmp_path) == []


# ---- reports of customers


async def test_a_report_is_found_scored_and_read() -> None:
    async with talking("finance") as finance:
        report = await finance.call("get_report", customer_id="CUST-456")
        scored = await finance.call("risk__analyze_report", report_path=report["report_path"])
        assert (scored["risk_score"], scored["liquidity_ratio"]) == (65, 1.2)
        assert "weight" in scored["formula"]
        answer = await finance.request("resources/read", {"uri": report["report_path"]})
        text = answer["result"]["contents"][0]["text"]
        assert len(text.encode()) == report["size_bytes"]
        assert "| current assets | 3,000,000 |" in text
        listed = await finance.request("resources/read", {"uri": "finance://reports"})
        assert report["report_path"] in listed["result"]["contents"][0]["text"]
        templates = await finance.request("resources/templates/list")
        (template,) = templates["result"]["resourceTemplates"]
        assert template["uriTemplate"] == "finance://reports/{customer_id}"


@pytest.mark.parametrize("uri", ["finance://reports/NONE", "finance://reports/..%2Fx", "finance://reports/a%20b"])
async def test_a_report_that_is_not_there_is_no_resource(uri: str) -> None:
    async with talking("finance") as finance:
        assert "CUST" in (await finance.request("resources/read", {"uri": uri}))["error"]["message"]
        said = await finance.refusal("get_report", customer_id="CUST-1")
        assert "CUST-123, CUST-456, CUST-789" in said


# ---- invoices


def payments(folder: Path) -> list[tuple[Any, ...]]:
    base = sqlite3.connect(folder / "finance.sqlite")
    try:
        return base.execute("SELECT invoice_id, amount FROM payments WHERE key IS NOT NULL ORDER BY 1").fetchall()
    finally:
        base.close()


async def test_invoices_are_listed_by_whether_they_are_paid(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        opened = await finance.call("invoice__list_invoices")
        assert [each["invoice_id"] for each in opened["invoices"]] == ["INV-456", "INV-457", "INV-458", "INV-459"]
        await finance.call("invoice__process_payment", key=KEY, **PAYMENT)
        paid = await finance.call("invoice__list_invoices", status="paid")
        assert [each["invoice_id"] for each in paid["invoices"]] == ["INV-455", "INV-456"]
        some = await finance.call("invoice__list_invoices", status="all", limit=2)
        assert (len(some["invoices"]), some["total"], some["truncated"]) == (2, 5, True)
    async with talking("finance") as finance:
        assert (await finance.call("invoice__list_invoices"))["total"] == 4


async def test_a_payment_is_made_once_for_its_key_also_after_the_process_has_ended(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        first = await finance.call("invoice__process_payment", key=KEY, **PAYMENT)
        again = await finance.call("invoice__process_payment", key=KEY, **{**PAYMENT, "amount": 1250.0})
    async with talking("finance", folder=str(tmp_path)) as finance:
        later = await finance.call("invoice__process_payment", key=KEY, **PAYMENT)
    assert (first["replayed"], again["replayed"], later["replayed"]) == (False, True, True)
    assert {**first, "replayed": True} == again == later
    assert payments(tmp_path) == [("INV-456", "1250.00")]
    assert (tmp_path / "finance.sqlite").stat().st_mode & 0o777 == 0o600


async def test_the_key_may_be_an_argument(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        first = await finance.call("invoice__process_payment", **PAYMENT, idempotency_key=KEY)
        again = await finance.call("invoice__process_payment", key="x" * 20, **PAYMENT, idempotency_key=KEY)
        assert "no idempotency key" in await finance.refusal("invoice__process_payment", **PAYMENT)
    assert first["payment_id"] == again["payment_id"]
    assert payments(tmp_path) == [("INV-456", "1250.00")]


async def test_an_invoice_that_is_paid_is_a_conflict(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        paid = await finance.call("invoice__process_payment", key=KEY, **PAYMENT)
        said = await finance.refusal("invoice__process_payment", key="another-key-1234", **PAYMENT)
        assert "409 Conflict" in said
        assert paid["payment_id"] in said
        earlier = {**PAYMENT, "invoice_id": "INV-455", "amount": 318.4}
        assert "409 Conflict" in await finance.refusal("invoice__process_payment", key="another-key-1234", **earlier)
    assert len(payments(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [{"amount": 1250.01}, {"payment_method": "bank_transfer"}, {"invoice_id": "INV-457"}, {"invoice_id": "INV-1"}],
)
async def test_a_key_is_for_one_deed(change: Mapping[str, Any], tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        await finance.call("invoice__process_payment", key=KEY, **PAYMENT)
        said = await finance.refusal("invoice__process_payment", key=KEY, **{**PAYMENT, **change})
    assert "used for something else" in said
    assert len(payments(tmp_path)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amount": 1249.99}, "is not the 1250.00 USD"),
        ({"amount": 12500}, "is not the 1250.00 USD"),
        ({"amount": 1250.001}, "more than 2 decimal places"),
        ({"amount": 1e-9}, "more than 2 decimal places"),
        ({"invoice_id": "INV-999"}, "no invoice INV-999"),
    ],
)
async def test_a_payment_that_is_refused_leaves_its_key_free(
    change: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        assert said in await finance.refusal("invoice__process_payment", key=KEY, **{**PAYMENT, **change})
        assert (await finance.call("invoice__process_payment", key=KEY, **PAYMENT))["replayed"] is False


async def test_many_tries_at_once_from_two_processes_pay_once(tmp_path: Path) -> None:
    async with (
        talking("finance", folder=str(tmp_path)) as one,
        talking("finance", folder=str(tmp_path)) as other,
    ):
        for _ in range(5):
            results = await asyncio.gather(
                one.call("invoice__process_payment", key=KEY, **PAYMENT),
                other.call("invoice__process_payment", key=KEY, **PAYMENT),
            )
            assert len({each["payment_id"] for each in results}) == 1
    assert payments(tmp_path) == [("INV-456", "1250.00")]


async def test_without_a_folder_nothing_is_paid_and_nothing_ordered() -> None:
    async with talking("finance") as finance:
        assert "Payments are off" in await finance.refusal("invoice__process_payment", key=KEY, **PAYMENT)
        assert "Orders are off" in await finance.refusal("trading__place_order", key=KEY, **ORDER)


async def test_a_ledger_that_cannot_be_written_pays_nothing(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path)) as finance:
        await finance.call("invoice__list_invoices")
        other = sqlite3.connect(tmp_path / "finance.sqlite", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        said = await finance.refusal("invoice__process_payment", key=KEY, **PAYMENT)
        other.execute("ROLLBACK")
        other.close()
        assert "nothing was done" in said
        assert (await finance.call("invoice__process_payment", key=KEY, **PAYMENT))["replayed"] is False


# ---- trading


async def test_an_order_is_checked_before_it_is_placed(tmp_path: Path) -> None:
    risky = {"portfolio_id": "PF-2", "ticker": "LOSS", "side": "buy"}
    async with talking("finance", folder=str(tmp_path)) as finance:
        decisions = {
            quantity: (await finance.call("trading__check_risk", **risky, quantity=quantity))["decision"]
            for quantity in (100, 50_000, 1_000_000)
        }
        assert decisions == {100: "approve", 50_000: "human_review", 1_000_000: "reject"}
        said = await finance.refusal("trading__place_order", key=KEY, **risky, quantity=1_000_000)
        assert "Compliance rejects the order" in said


async def test_an_order_is_placed_once_for_its_key_and_changes_the_portfolio(tmp_path: Path) -> None:
    sell = {**ORDER, "side": "sell", "quantity": 10_100}
    async with talking("finance", folder=str(tmp_path)) as finance:
        assert "there are 10000" in await finance.refusal("trading__place_order", key="sell-key-12345678", **sell)
        first = await finance.call("trading__place_order", key=KEY, **ORDER)
    async with talking("finance", folder=str(tmp_path)) as finance:
        again = await finance.call("trading__place_order", key=KEY, **ORDER)
        assert {**first, "replayed": True} == again
        said = await finance.refusal("trading__place_order", key=KEY, **{**ORDER, "quantity": 101})
        assert "used for something else" in said
        assert (await finance.call("trading__place_order", key="sell-key-12345678", **sell))["quantity"] == 10_100


async def test_an_order_keeps_to_its_limit_and_to_what_is_restricted(tmp_path: Path) -> None:
    async with talking("finance", folder=str(tmp_path), restricted=["VNM"]) as finance:
        said = await finance.refusal("trading__place_order", key=KEY, **ORDER, limit_price=100)
        assert "limit of 100" in said
        assert "restricted" in await finance.refusal("trading__place_order", key=KEY, **{**ORDER, "ticker": "VNM"})
        assert "portfolio is in VND" in await finance.refusal("trading__check_risk", **{**ORDER, "ticker": "FLAT"})
        assert "PF-1, PF-2" in await finance.refusal("trading__check_risk", **{**ORDER, "portfolio_id": "PF-9"})
        assert (await finance.call("trading__place_order", key=KEY, **ORDER, limit_price=123_100))["status"] == "filled"


# ---- a provider

INCOME: Final = {
    "ticker": "ACME",
    "year": 2025,
    "statement_type": "income",
    "currency": "USD",
    "items": {"eps": 2.5, "revenue": 100},
}


def pages(**changed: Any) -> dict[str, web.Response]:
    said: dict[str, Any] = {
        "/v1/stocks/price": {"ticker": "ACME", "date": "2026-11-20", "price": 50.25, "currency": "USD", "volume": 7},
        "/v1/financials/ACME": INCOME,
        "/v1/reports/search": {"reports": [{"title": "t", "analyst": "a", "rating": "buy", "date": "2026-01-01"}]},
        **changed,
    }
    return {
        path: web.Response(body=each if isinstance(each, bytes) else json.dumps(each).encode())
        for path, each in said.items()
    }


async def test_a_provider_is_asked_at_its_own_places_with_its_key() -> None:
    async with (
        site(pages()) as service,
        talking("finance", provider={"url": f"{service.url}/v1", "api_key": "k"}) as finance,
    ):
        price = await finance.call("get_stock_price", ticker="ACME", date="2026-11-21")
        await finance.call("get_stock_price", ticker="ACME")
        worth = await finance.call("calculate_valuation", ticker="ACME", method="pe_ratio", target_pe=20)
        reports = await finance.call("get_analyst_reports", ticker="ACME")
        assert "Give the P/E" in await finance.refusal("calculate_valuation", ticker="ACME", method="pe_ratio")
        assert "knows nothing" in await finance.refusal("get_report", customer_id="CUST-456")
    assert (price["price"], price["sample"], price["source"]) == (50.25, False, "127.0.0.1")
    assert (worth["fair_value"], worth["upside_downside"]) == (50.0, -0.5)
    assert (reports["consensus"], reports["confidence"]) == ("buy", 0.5)
    assert [each.path_qs for each in service.asked[:2]] == [
        *("/v1/stocks/price?ticker=ACME&date=2026-11-21", "/v1/stocks/price?ticker=ACME")
    ]
    assert all(each.headers["x-api-key"] == "k" for each in service.asked)
    assert "/v1/customers/CUST-456/report" in [each.path for each in service.asked]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"ticker": "A", "date": "d", "price": "x", "currency": "USD"}',
        b'{"ticker": "A", "date": "d", "price": 1e99999, "currency": "USD"}',
        b'{"ticker": "A", "date": "d", "price": "NaN", "currency": "USD"}',
        b'{"ticker": "A", "date": "d", "price": "Infinity", "currency": "USD"}',
        b'{"ticker": "A", "date": "d", "price": 1e-300, "currency": "USD"}',
        b'{"ticker": "A", "date": "d", "price": 1, "currency": "USD", "volume": 1' + b"0" * 400 + b"}",
        b"[" * 100_000,
    ],
    ids=range(11),
)
async def test_a_provider_that_answers_nonsense_is_a_clear_failure(content: bytes) -> None:
    async with (
        site(pages(**{"/v1/stocks/price": content})) as service,
        talking("finance", provider={"url": f"{service.url}/v1"}) as finance,
    ):
        for tool in ("get_stock_price", "calculate_valuation"):
            assert "The provider of market data" in await finance.refusal(tool, ticker="ACME")


async def test_a_provider_that_is_not_there_is_a_clear_failure() -> None:
    async with site() as service:
        pass
    async with talking("finance", provider={"url": service.url}) as finance:
        said = await finance.refusal("get_stock_price", ticker="ACME")
    assert "cannot be reached" in said
    assert "127.0.0.1" not in said
