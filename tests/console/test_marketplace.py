"""The marketplace: search and filters over many tools, cards that say what matters, pages that stay small."""

import re
import time

import pytest
from axe import faults
from gateway import until
from playwright.async_api import Browser, expect
from shopping import CONTRACTS, counted, shop, stocked
from visiting import NARROW, Visitor, at_console

LARGEST_BYTES = 150_000
MANY = 500


async def settled(at: Visitor, path: str) -> str:
    """The text of a page once its figures are there."""

    async def text() -> str:
        return (await at.get(path)).text

    found: str = await until(text, lambda said: "being added up" not in said)
    return found


async def test_a_card_says_what_a_tool_is_what_it_costs_and_how_it_does() -> None:
    async with at_console({"crm": shop()}, role="viewer", contracts=CONTRACTS) as at:
        await stocked(at)
        modern = at.bascule.modern()
        for number in range(4):
            await modern.call("crm__search_leads", query=f"a{number}")
        await modern.call("crm__search_leads", wrong="x")
        await counted(at, 5)
        text = await settled(at, "/marketplace?q=search_leads")
        assert "crm/search_leads" in text
        assert "Finds leads by words in their names." in text
        for said in ("sales · 1.0.0", "reads", "security low", "$0.001 a call", "Calls 5", "Errors 20 %", "SLO kept"):
            assert said in text, said


async def test_every_word_has_to_be_in_the_name_the_description_or_an_argument() -> None:
    async with at_console({"crm": shop(), "erp": shop(40)}, contracts=CONTRACTS) as at:
        await stocked(at, 50)
        assert "2 tools of 50" in (await at.get("/marketplace?q=create+LEAD+newsletter")).text
        assert "No tool fits" in (await at.get("/marketplace?q=create+zebra")).text
        assert "2 tools of 50" in (await at.get("/marketplace?q=picture")).text


async def test_each_filter_narrows_and_all_of_them_hold() -> None:
    async with at_console({"crm": shop(), "erp": shop(16)}, contracts=CONTRACTS) as at:
        await stocked(at, 26)

        async def found(query: str) -> int:
            text = (await at.get(f"/marketplace?{query}")).text
            said = re.search(r"(\d+) tools?\b", text)
            return int(said[1]) if said and "No tool fits" not in text else 0

        assert await found("server=erp") == 21
        assert await found("team=sales") == 2
        assert await found("team=sales&level=HIGH") == 1
        assert await found("effect=reads") == 1
        assert await found("cost=priced") == 2
        assert await found("cost=to_0.01") == 1
        assert await found("cost=free&server=crm") == 3
        assert await found("verb=delete") == 2
        assert await found("status=deprecated") == 0
        assert await found("status=withheld") == 0


async def test_an_address_that_nobody_would_make_up_is_refused_in_words() -> None:
    async with at_console({"crm": shop()}) as at:
        await stocked(at)
        reply = await at.get("/marketplace?cost=cheap")
        assert reply.status == 400
        assert "`cost` is one of free, priced" in reply.text
        assert (await at.get("/marketplace?page=99999999999999999999")).status in (200, 400)
        assert (await at.get("/marketplace?page=x&q=%00%F0%9F%92%A9&sort=name")).status == 200


async def test_what_a_server_says_cannot_become_markup() -> None:
    contract = {
        "tool": "crm/create_lead",
        "version": "1.0.0",
        "description": "<script>alert(1)</script>",
        "owner_team": '"><b>',
    }
    async with at_console({"crm": shop()}, contracts=[contract]) as at:
        await stocked(at)
        html = (await at.get("/marketplace?q=create_lead")).html
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)" in html
        assert '"><b>' not in html


async def test_letters_that_hide_or_turn_others_around_are_spelt_out() -> None:
    contract = {"tool": "crm/create_lead", "version": "1.0.0", "description": "pay \u202eevig\u200b"}
    async with at_console({"crm": shop()}, contracts=[contract]) as at:
        await stocked(at)
        for path in ("/marketplace?q=create_lead", "/tools/crm/create_lead"):
            html = (await at.get(path)).html
            assert "\u202e" not in html
            assert "pay \\u{202e}evig" in html


async def test_without_servers_the_page_says_what_to_do() -> None:
    async with at_console({}) as at:
        assert "There are no tools yet" in (await at.get("/marketplace")).text


async def test_five_hundred_tools_stay_small_and_quick() -> None:
    async with at_console({"erp": shop(MANY)}) as at:
        await stocked(at, MANY)
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            reply = await at.get("/marketplace")
            seconds.append(time.perf_counter() - began)
        assert len(reply.html) < LARGEST_BYTES
        assert min(seconds) < 0.3
        assert "505 tools" in reply.text
        assert "Next" in reply.text
        last = await at.get("/marketplace?page=22")
        assert "505 of 505" in last.text


@pytest.mark.browser
async def test_typing_finds_tools_and_the_address_can_be_kept(browser: Browser) -> None:
    async with at_console({"erp": shop(MANY)}) as at:
        await stocked(at, MANY)
        page = await at.browse(browser, "/marketplace")
        await page.get_by_label("Search").fill("every invoice 064")
        await expect(page.get_by_role("article")).to_have_count(1)
        await expect(page.get_by_role("heading", level=2)).to_have_text("erp/list_invoice_064")
        await page.get_by_label("Search").fill("")
        await page.get_by_label("Function").select_option("archive")
        await expect(page.get_by_role("status").first).to_contain_text("tools of 505")
        kept = page.url
        assert "verb=archive" in kept
        again = await page.context.new_page()
        await again.goto(kept)
        await expect(again.get_by_label("Function")).to_have_value("archive")
        await expect(again.get_by_role("heading", level=2).first).to_contain_text("erp/archive_")
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


@pytest.mark.browser
async def test_it_works_narrow_and_axe_finds_nothing_serious(browser: Browser) -> None:
    async with at_console({"crm": shop(30)}, contracts=CONTRACTS) as at:
        await stocked(at, 30)
        for scheme in ("light", "dark"):
            page = await at.browse(browser, "/marketplace", viewport=NARROW, color_scheme=scheme, bypass_csp=True)
            assert await faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
