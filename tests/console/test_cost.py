"""Cost and budgets: by whom, for what, what is left; and a list that no spreadsheet runs anything of."""

import csv
import io
from datetime import UTC, datetime

import pytest
from axe import faults
from gateway import Json
from playwright.async_api import Browser, expect
from shopping import AGENT, BATCH, CALLERS, CONTRACTS, ENVIRON, call, counted, shop, stocked
from visiting import NARROW, Visitor, at_console

OPTIONS: Json = {"contracts": CONTRACTS, "callers": CALLERS, "environ": ENVIRON}


async def spend(at: Visitor) -> None:
    """Nine calls of one caller and one of another, at a tenth of a cent."""
    await stocked(at)
    for number in range(9):
        await call(at, AGENT, query=f"a{number}")
    await call(at, BATCH, query="x")
    await counted(at, 10)


async def test_costs_are_added_up_by_what_is_asked_for() -> None:
    async with at_console({"crm": shop()}, role="viewer", **OPTIONS) as at:
        await spend(at)
        text = (await at.get("/cost")).text
        assert "Cost $0.01" in text
        assert "agent $0.009 90 % 9 0 % batch $0.001 10 % 1 0 %" in text
        assert "sales $0.01 100 % 10 0 %" in (await at.get("/cost?by=team")).text
        assert "crm/search_leads $0.01 100 %" in (await at.get("/cost?by=tool")).text
        assert "crm/search_leads 1.0.0 $0.01" in (await at.get("/cost?by=version")).text


async def test_a_budget_is_shown_with_what_is_left_of_it() -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await spend(at)
        text = (await at.get("/cost")).text
        assert "agent $0.009 of $0.01 a month, 90 % $0.001 nearly spent" in text
        await call(at, AGENT, query="x")
        assert "a month, 100 % $0.00 spent" in (await at.get("/cost")).text


async def test_another_month_is_another_sum() -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await spend(at)
        text = (await at.get("/cost?month=2020-02")).text
        assert "No calls in 2020-02" in text
        assert "February 2020" in text
        for wrong in ("2020-13", "x", "2020-2", "0000-01"):
            assert (await at.get(f"/cost?month={wrong}")).status == 400, wrong
        assert (await at.get("/cost?by=weather")).status == 400


async def test_the_charge_back_is_a_list_that_runs_nothing() -> None:
    callers = {"agent": CALLERS["agent"], "b@formula": {"scopes": ["crm"], "keys": ["${env:BATCH_KEY}"]}}
    contracts = [{**CONTRACTS[1], "owner_team": '=HYPERLINK("http://evil")'}]
    async with at_console({"crm": shop()}, contracts=contracts, callers=callers, environ=ENVIRON) as at:
        await spend(at)
        month = datetime.now(UTC).strftime("%Y-%m")
        reply = await at.get(f"/cost/charge-back.csv?month={month}")
        assert reply.headers["Content-Type"].startswith("text/csv")
        assert f'filename="bascule-charge-back-{month}.csv"' in reply.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(reply.html)))
        assert [(row["caller"], row["tool"], row["calls"], row["cost_usd"]) for row in rows] == [
            ("agent", "crm/search_leads", "9", "0.009"),
            ("b@formula", "crm/search_leads", "1", "0.001"),
        ]
        assert all(row["team"].startswith("'=HYPERLINK") for row in rows)


async def test_where_nobody_counts_the_page_says_so() -> None:
    async with at_console({"crm": shop()}, audit="off") as at:
        text = (await at.get("/cost")).text
        assert "Nobody counts" in text


@pytest.mark.browser
async def test_a_month_is_picked_and_the_list_is_taken_home(browser: Browser) -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await spend(at)
        page = await at.browse(browser, "/cost")
        async with page.expect_download() as coming:
            await page.get_by_role("link", name="Charge-back (CSV)").click()
        path = await (await coming.value).path()
        assert path.read_text().splitlines()[0] == "caller,team,tool,version,calls,cost_usd"
        await page.get_by_label("Month").last.select_option(index=1)
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_text("No calls in")).to_be_visible()
        await page.get_by_role("link", name="Teams").click()
        await expect(page.get_by_text("No calls in")).to_be_visible()
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


@pytest.mark.browser
async def test_it_works_narrow_and_axe_finds_nothing_serious(browser: Browser) -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await spend(at)
        for scheme in ("light", "dark"):
            page = await at.browse(browser, "/cost", viewport=NARROW, color_scheme=scheme, bypass_csp=True)
            assert await faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
