"""The overview: what it counts is what happened, and it says what somebody has to look at."""

import asyncio
import json
import re
import time

import pytest
from axe import faults
from gateway import local
from msgspec.structs import replace
from playwright.async_api import Browser
from scene import history, record, scene, server
from visiting import NARROW, WIDE, Visitor, at_console

SERVERS = {"plain": local("plain")}


async def test_before_the_first_call_it_says_that_there_was_none() -> None:
    async with at_console(SERVERS, role="viewer") as at:
        await at.bascule.up("plain")
        page = await at.get("/overview")
        assert "No calls in the last hour" in page.text
        assert "Servers up 1 / 1 all of them" in page.text
        assert "none" not in page.text.lower().replace("none is configured", "")


async def test_it_counts_what_was_called_by_whom_and_how_it_ended() -> None:
    async with at_console({}) as at:
        await record(at, history(hours=0.9))
        assert at.gateway.records is not None
        sums = at.gateway.records.usage.sums((), time.time() - 3600, time.time())[()]
        page = await at.get("/overview")
        assert f"Calls {sums.calls} " in page.text
        assert f"{sums.calls - sums.categories['ok']} of {sums.calls} calls" in page.text
        for name in ("docs/search", "crm/find_customer", "sales-agent", "support-agent"):
            assert name in page.text
        assert ("Nothing went wrong" in page.text) == (sums.calls == sums.categories["ok"])
        assert ("How it ended" in page.text) == (sums.calls > sums.categories["ok"])


async def test_a_span_shows_no_more_than_itself() -> None:
    async with at_console({}) as at:
        await record(at, (each for each in history(hours=5) if each.at_us < (time.time() - 2 * 3600) * 1_000_000))
        assert "No calls in the last hour" in (await at.get("/overview?span=1h")).text
        assert "No calls in the last 15 minutes" in (await at.get("/overview?span=15m")).text
        assert "docs/search" in (await at.get("/overview?span=24h", part=True)).text
        assert "docs/search" in (await at.get("/overview?span=7d&whole=1")).text
        assert "the last hour" in (await at.get("/overview?span=nonsense")).text.lower()


async def test_a_server_that_is_down_is_named_with_its_reason() -> None:
    servers = {"plain": local("plain"), "erp": {"command": "false"}}
    async with at_console(servers) as at:
        await at.bascule.up("plain")
        await at.bascule.until("erp", lambda said: said["state"] in ("down", "failed"))
        page = await at.get("/overview")
        assert "Servers up 1 / 2 not erp" in page.text
        assert re.search(r"erp (is down|has failed): \w+", page.text)


async def test_where_nothing_is_recorded_it_says_so_and_still_shows_the_servers() -> None:
    async with at_console(SERVERS, audit="off") as at:
        await at.bascule.up("plain")
        page = await at.get("/overview")
        assert page.status == 200
        assert "Calls are not counted here" in page.text
        assert "Servers up 1 / 1" in page.text


async def test_a_name_of_a_caller_is_text_and_never_markup() -> None:
    async with at_console({}) as at:
        hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
        await record(at, (replace(each, caller=hostile) for each in history(hours=0.2)))
        page = await at.get("/overview")
        assert "<script>alert" not in page.html
        assert "<img" not in page.html
        assert "alert(1)" in page.text.replace(" ", "")


async def test_a_chart_has_a_number_for_each_step() -> None:
    async with at_console({}) as at:
        await record(at, history(hours=0.9))
        reply = await at.get("/overview/series?span=1h&lines=calls,errors,p95_ms")
        found = json.loads(reply.html)
        assert len(found["lines"]) == 3
        assert {len(line) for line in found["lines"]} == {len(found["at"])}
        assert sum(found["lines"][0]) > sum(found["lines"][1])
        assert found["at"] == sorted(found["at"])
        assert (await at.get("/overview/series?lines=passwords")).status == 404


@pytest.mark.browser
async def test_it_follows_what_happens_without_losing_the_place_of_the_keyboard(browser: Browser) -> None:
    async with at_console(SERVERS) as at:
        await at.bascule.up("plain")
        page = await at.browse(browser)
        await page.focus("nav[aria-label='Span of time'] a >> nth=2")
        await page.evaluate("window.stayed = true")
        client = at.bascule.modern()
        for _ in range(3):
            await client.ask("tools/call", {"name": "plain__echo", "arguments": {"value": 1}})
        await page.wait_for_selector("main a[href$='/tools/plain/echo']", timeout=20_000)
        assert await page.evaluate("window.stayed")
        assert await page.evaluate("document.activeElement.textContent") == "24 h"
        assert await page.locator("#calls canvas").count() == 1
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


@pytest.mark.browser
async def test_a_day_of_a_company_fits_on_wide_and_narrow_screens_and_axe_is_content(browser: Browser) -> None:
    async with scene(hours=6) as at:
        for size, theme in ((WIDE, "dark"), (NARROW, "light")):
            page = await at.browse(browser, "/overview?span=24h", viewport=size, color_scheme=theme, bypass_csp=True)
            await page.wait_for_selector(".chart canvas")
            assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            assert await faults(page) == []
            label = await page.get_attribute("#latency", "aria-label")
            assert label
            assert re.search(r"p95 at most \d", label)


@pytest.mark.browser
async def test_a_chart_shows_the_numbers_at_the_pointer(browser: Browser) -> None:
    async with at_console({"crm": server("crm")}) as at:
        await record(at, history(hours=0.9))
        page = await at.browse(browser)
        await page.wait_for_selector("#calls canvas")
        latest = await page.inner_text("[data-now=calls] >> nth=0")
        box = await page.locator("#calls .u-over").bounding_box()
        assert box
        seen = set()
        for part in range(1, 9):
            await page.mouse.move(box["x"] + box["width"] * part / 10, box["y"] + 20)
            seen.add(await page.inner_text("[data-now=calls] >> nth=0"))
        assert len(seen | {latest}) > 2


async def test_many_who_look_are_told_and_one_too_many_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bascule.console.live.MOST", 3)
    async with at_console(SERVERS) as at:
        streams = [await at.http.get(f"{at.url}/events") for _ in range(3)]
        assert [stream.status for stream in streams] == [200, 200, 200]
        for stream in streams:
            await stream.content.readline()
        async with at.http.get(f"{at.url}/events") as refused:
            assert refused.status == 503
            assert refused.headers["retry-after"]
        for stream in streams:
            stream.close()
        await _free(at)


async def _free(at: Visitor) -> None:
    """Wait until a stream can be had again: those that were closed are noticed."""
    async with asyncio.timeout(15):
        while True:
            async with at.http.get(f"{at.url}/events") as stream:
                if stream.status == 200:
                    return
            await asyncio.sleep(0.1)
