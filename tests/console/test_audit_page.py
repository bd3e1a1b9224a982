"""Audit: found by what stands in the address, opened, exported, and verified while nobody waits for the browser."""

import csv
import io
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from gateway import local, until
from looks import first_paint_s, flaws, transferred_bytes
from playwright.async_api import Browser, Page, expect
from visiting import Visitor, at_console

from auditing import Life, call, hands, recorded, rows
from bascule.store.record import Record

LENGTH: Final = 130
MANY: Final = 100_000
FIRST_PAINT_S: Final = 0.3
MAX_BYTES: Final = 150_000
EVIL: Final = '=HYPERLINK("http://evil.example","x")'


def some() -> list[Record]:
    now_us = time.time_ns() // 1000
    records = [
        call(
            number,
            at_us=now_us - (LENGTH - number) * 1_000_000,
            took_us=number * 1000,
            trace_id=f"{number // 4:032x}",
            caller="ci" if number % 10 == 0 else "agent",
            decision="deny" if number % 5 == 0 else "allow",
            outcome="scope_denied" if number % 5 == 0 else "answered",
        )
        for number in range(1, LENGTH)
    ]
    return [*records, call(LENGTH, at_us=now_us, caller="\u202eevil", note=EVIL, trace_id="f" * 32)]


@asynccontextmanager
async def looking(folder: Path, records: Sequence[Record] = (), *, role: str = "viewer") -> AsyncIterator[Visitor]:
    """A gateway over an audit with *records*, and somebody who reads it."""
    state = folder / "state"
    await recorded(state, records or some())
    async with at_console({}, role=role, state_dir=str(state)) as at:
        yield at


def shown(html: str) -> list[int]:
    """The numbers of the entries in a list."""
    return [int(seq) for seq in re.findall(r'<th scope="row"[^>]*><a href="/console/audit/(\d+)"', html)]


def state_of(at: Visitor) -> Path:
    assert at.gateway.records is not None
    return at.gateway.records.state


# ---- finding


async def test_pages_follow_each_other_and_an_address_can_be_kept(tmp_path: Path) -> None:
    async with looking(tmp_path) as at:
        first = await at.get("/audit?kind=call")
        assert shown(first.html) == list(range(LENGTH, LENGTH - 50, -1))
        assert f"Entries {LENGTH} to {LENGTH - 49}" in first.text
        older = re.search(r'href="/console(/audit\?[^"]*before=\d+[^"]*)"', first.html)
        assert older is not None
        second = await at.get(older[1].replace("&amp;", "&"))
        assert shown(second.html) == list(range(LENGTH - 50, LENGTH - 100, -1))
        newer = re.search(r'href="/console(/audit\?[^"]*after=\d+[^"]*)"', second.html)
        assert newer is not None
        assert shown((await at.get(newer[1].replace("&amp;", "&"))).html) == shown(first.html)


@pytest.mark.parametrize(
    ("query", "count"),
    [("caller=ci", 12), ("decision=deny", 25), ("outcome=scope_denied&caller=agent", 13), ("tool=crm/*&since=1m", 50)],
)
async def test_a_filter_finds_all_that_fits(tmp_path: Path, query: str, count: int) -> None:
    async with looking(tmp_path) as at:
        assert len(shown((await at.get(f"/audit?kind=call&{query}")).html)) == count
        assert len(shown((await at.get(f"/audit?kind=call&{query}", part=True)).html)) == count


async def test_what_cannot_be_searched_says_why_and_what_finds_nothing_says_what_to_do(tmp_path: Path) -> None:
    async with looking(tmp_path) as at:
        wrong = await at.get("/audit?from=soon")
        assert wrong.status == 422
        assert "write how long ago" in wrong.text
        assert "Take a filter away" in (await at.get("/audit?caller=nobody")).text


async def test_an_entry_and_its_trace_are_opened_and_nothing_of_a_clients_is_believed(tmp_path: Path) -> None:
    async with looking(tmp_path) as at:
        page = await at.get(f"/audit/{LENGTH}")
        assert "\\u202eevil" in page.text
        assert EVIL in page.text
        assert ((await at.get("/audit/999999")).status, (await at.get("/audit/0")).status) == (404, 404)
        trace = await at.get(f"/audit/trace/{3:032x}")
        assert shown(trace.html) == [12, 13, 14, 15], "the oldest first"
        assert (await at.get(f"/audit/trace/{'e' * 32}")).status == 404


async def test_only_who_may_read_the_audit_sees_it(tmp_path: Path) -> None:
    async with looking(tmp_path, role="nobody") as at:
        for path in ("/audit", "/audit/1", "/audit/verify", "/audit/export?format=csv"):
            assert (await at.get(path)).status == 403


# ---- exporting


async def test_an_export_holds_all_that_fits_as_json_lines_and_as_csv_that_no_spreadsheet_runs(tmp_path: Path) -> None:
    async with looking(tmp_path) as at:
        lines = await at.get("/audit/export?format=jsonl&kind=call&decision=deny")
        assert 'attachment; filename="audit-' in lines.headers["Content-Disposition"]
        entries = [json.loads(line) for line in lines.html.splitlines()]
        assert [each["seq"] for each in entries] == list(range(5, LENGTH, 5))
        table = await at.get("/audit/export?format=csv&kind=call")
        assert table.headers["Content-Type"].startswith("text/csv")
        found = list(csv.DictReader(io.StringIO(table.html)))
        assert [int(each["seq"]) for each in found] == list(range(1, LENGTH + 1))
        assert found[-1]["note"] == f"'{EVIL}"
        assert found[-1]["caller"] == "\\u202eevil"
        assert (await at.get("/audit/export?format=xlsx")).status == 400


# ---- in a real browser


@pytest.mark.browser
async def test_an_audit_that_nobody_touched_is_verified_and_one_that_somebody_did_is_not(
    browser: Browser, tmp_path: Path
) -> None:
    async with looking(tmp_path) as at:
        page = await at.browse(browser, "/audit")
        await page.get_by_role("link", name="Verify").click()
        await page.get_by_role("button", name="Verify now").click()
        await expect(page.locator(".notice.ok")).to_contain_text("Nothing was changed", timeout=15_000)
        ((text,),) = rows(state_of(at), "SELECT entry FROM audit WHERE seq = 42")
        changed = text.replace(b"agent", b"nobody")
        hands(state_of(at), f"UPDATE audit SET entry = x'{changed.hex()}' WHERE seq = 42")
        await page.get_by_role("button", name="Verify again").click()
        await expect(page.locator(".notice.bad")).to_contain_text("at entry 42: it was changed", timeout=15_000)
        await page.get_by_role("link", name="Look at what stands around it").click()
        await expect(page.locator('a[href="/console/audit/42"]')).to_be_visible()
        await expect(page.locator(".badge.bad", has_text="damaged at entry 42")).to_be_visible()
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page
        actions = await at.get("/audit?kind=action")
        assert actions.text.count("audit.verify") == 2


@pytest.mark.browser
async def test_a_filter_is_typed_its_result_comes_by_itself_and_stays_in_the_address(
    browser: Browser, tmp_path: Path
) -> None:
    async with looking(tmp_path) as at:
        page = await at.browse(browser, "/audit")
        await page.get_by_label("Caller").fill("ci")
        await expect(page.locator("tbody tr")).to_have_count(12)
        await expect(page).to_have_url(re.compile(r"[?&]caller=ci\b"))
        await page.reload()
        await expect(page.locator("tbody tr")).to_have_count(12)
        async with page.expect_download() as started:
            await page.get_by_role("link", name="CSV").click()
        path = await (await started.value).path()
        assert path.read_text().count("\n") == 13
        await page.locator("tbody tr").first.get_by_role("link").last.click()
        await expect(page.get_by_role("heading", name="Trace")).to_be_visible()
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


@pytest.mark.browser
async def test_new_entries_come_by_themselves_for_who_wants_that(browser: Browser) -> None:
    async with at_console({"plain": local("plain")}) as at:
        await at.bascule.up("plain")
        page = await at.browse(browser, "/audit?tool=plain/echo")
        await page.get_by_role("link", name="Live").click()
        await at.bascule.modern("/servers/plain/mcp").call("echo", text="hello")
        await expect(page.locator("tbody tr")).to_have_count(1, timeout=15_000)


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/audit", f"/audit/{LENGTH}", f"/audit/trace/{3:032x}", "/audit/verify"])
async def test_the_pages_have_no_flaw(browser: Browser, tmp_path: Path, path: str) -> None:
    async with looking(tmp_path) as at:
        if path == "/audit/verify":
            hands(state_of(at), "DELETE FROM audit WHERE seq = 7")
            await at.post("/audit/verify")
            await until(lambda: at.get("/audit/verify"), lambda page: "entries were removed" in page.text)
        assert await flaws(at, browser, path) == []


@pytest.mark.browser
async def test_a_hundred_thousand_entries_are_shown_at_once(browser: Browser, tmp_path: Path) -> None:
    """The worst search too: what fits stands at the far end."""
    odd = [call(1, caller="rare", decision="deny", outcome="scope_denied")]
    await many(tmp_path / "state", odd + [call(number) for number in range(2, MANY + 1)])
    async with at_console({}, state_dir=str(tmp_path / "state")) as at:
        first = await at.browse(browser, "/audit")
        assert await transferred_bytes(first) < MAX_BYTES
        for query in ("", "?caller=rare", "?decision=deny", "?outcome=nothing", f"?before={MANY // 2}"):
            paints = [await painted(first, f"{at.url}/audit{query}") for _ in range(3)]
            assert min(paints) < FIRST_PAINT_S, (query, paints)  # what else the machine does is not our page's fault


async def painted(page: Page, url: str) -> float:
    await page.goto(url, wait_until="load")
    return await first_paint_s(page)


async def many(state: Path, records: Sequence[Record]) -> None:
    """More records than are taken in at once."""
    life = await Life(state).start()
    for start in range(0, len(records), 5_000):
        for each in records[start : start + 5_000]:
            life.audit.post(each)
        await life.settled()
    life.end()
