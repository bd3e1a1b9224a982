"""Callers and keys: who may what, and keys that are made, rotated and revoked in a browser."""

import asyncio
import re

import pytest
from axe import faults
from gateway import Json
from playwright.async_api import Browser, expect
from shopping import AGENT, BATCH, CALLERS, CONTRACTS, ENVIRON, call, counted, shop, status_of, stocked
from visiting import NARROW, Visitor, at_console

OPTIONS: Json = {"contracts": CONTRACTS, "callers": CALLERS, "environ": ENVIRON}


def key_in(html: str) -> str:
    found = re.search(r'id="key">(gw_[^<]+)<', html)
    assert found, html[:3000]
    return found[1]


async def form_of(at: Visitor) -> dict[str, str]:
    """What stands hidden in the form of a new key."""
    found = re.search(r'name="once" value="([0-9a-f]{32})"', (await at.get("/callers/agent")).html)
    assert found
    return {"once": found[1]}


async def answered(at: Visitor, key: str, wanted: int) -> None:
    """Wait until a call with *key* has that status: gateways look for changes once a second."""
    # Not as often as can be: who comes with a wrong key again and again is turned away for a while.
    async with asyncio.timeout(15):
        while await status_of(at, key) != wanted:  # noqa: ASYNC110 - a key has no event
            await asyncio.sleep(0.3)


# ---- who there is


async def test_callers_are_listed_with_what_they_may_and_spend() -> None:
    async with at_console({"crm": shop()}, role="viewer", **OPTIONS) as at:
        await stocked(at)
        for _ in range(3):
            await call(at, AGENT, query="x")
        await counted(at, 3)
        text = (await at.get("/callers")).text
        assert "agent crm 5 1 $0.003 of $0.01 a month 3 never" in text
        assert "batch crm:read 1 1 no limit 0 never" in text
        assert "Signed in here" not in text  # that is for who may sign them out
        one = (await at.get("/callers/agent")).text
        assert "$0.003 of $0.01 this month" in one
        assert "crm/delete_lead crm:write:delete_lead yes" in one
        other = (await at.get("/callers/batch")).text
        assert "crm/search_leads" in other
        assert "crm/delete_lead" not in other


async def test_without_callers_the_page_says_what_that_means() -> None:
    async with at_console({"crm": shop()}) as at:
        assert "Everybody on this machine may call everything" in (await at.get("/callers")).text
        assert (await at.get("/callers/nobody")).status == 404


async def test_whoever_else_has_called_is_listed_too() -> None:
    async with at_console({"crm": shop()}, contracts=CONTRACTS) as at:
        await stocked(at)
        await at.bascule.modern().call("crm__search_leads", query="x")
        await counted(at, 1)
        assert "anonymous 1 0 $0.001" in (await at.get("/callers")).text


# ---- keys


async def test_a_new_key_is_shown_once_and_opens_the_door() -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await stocked(at)
        said = await form_of(at) | {
            "note": "laptop",
            "expires": "30d",
            "scopes": "crm:read",
            "networks": "127.0.0.0/8, ::1",
        }
        made = await at.post("/callers/agent/keys", said)
        key = key_in(made.html)
        assert "It is shown this once" in made.text
        assert made.headers["Cache-Control"] == "no-store"
        await answered(at, key, 200)
        assert "error" in await call(at, key, "crm__create_lead", name="x", source="web")  # bound to crm:read
        after = await at.get("/callers/agent")
        assert key not in after.html
        assert "127.0.0.0/8, ::1/128 crm:read laptop" in after.text
        again = await at.post("/callers/agent/keys", said)  # the page of the key, loaded once more
        assert again.status == 400
        assert "this form was sent before" in again.text


async def test_what_makes_no_sense_is_said_in_the_form() -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await stocked(at)
        for wrong, said in (
            ({"scopes": "a::b"}, "is not a scope"),
            ({"networks": "here"}, "network"),
            ({"expires": "soon"}, "is no time"),
            ({"note": "x" * 300}, "a note is one line"),
        ):
            reply = await at.post("/callers/agent/keys", await form_of(at) | {"note": "kept", **wrong})
            assert reply.status == 400, reply.text
            assert said in reply.text
            assert "gw_" not in reply.html
        assert (await at.post("/callers/nobody/keys", {"once": "1"})).status == 404


async def test_only_who_may_look_after_keys_can() -> None:
    async with at_console({"crm": shop()}, role="approver", **OPTIONS) as at:
        page = await at.get("/callers/agent")
        assert "Make a key" not in page.text
        for path in (
            "/callers/agent/keys",
            "/callers/agent/keys/x/rotate",
            "/callers/agent/keys/x/revoke",
            "/sessions/x/end",
        ):
            assert (await at.post(path, {"once": "1"})).status == 403, path


async def test_who_is_signed_in_is_listed_and_others_can_be_signed_out() -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        _, other = await at.sessions.begin("mallory", ["viewer"], "link", 600)
        text = (await at.get("/callers")).text
        assert "ops (you) admin a link" in text
        assert "mallory viewer a link" in text
        assert "session is over" in (await at.post(f"/sessions/{other.id}/end")).text
        assert "mallory" not in (await at.get("/callers")).text
        assert (await at.post(f"/sessions/{other.id}/end")).status == 404


@pytest.mark.browser
async def test_a_key_is_rotated_and_both_are_good_for_the_overlap(browser: Browser) -> None:
    async with at_console({"crm": shop()}, **OPTIONS) as at:
        await stocked(at)
        page = await at.browse(browser, "/callers/agent")
        await page.get_by_label("Note").last.fill("laptop of Ada")
        await page.get_by_role("button", name="Make a key").click()
        old = await page.locator("#key").inner_text()
        await answered(at, old, 200)

        await page.get_by_role("button", name="Rotate").click()
        await page.get_by_role("dialog").get_by_label("How long the old one goes on").select_option("1h")
        await page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
        await expect(page.get_by_text("The old key")).to_be_visible()
        new = await page.locator("#key").inner_text()
        assert new != old
        await answered(at, new, 200)
        assert await status_of(at, old) == 200
        await expect(page.get_by_text("replaced by")).to_be_visible()

        # Then the old one goes for good, and the new one stays.
        await page.goto(at.url + "/callers/agent")
        await page.get_by_role("row", name=re.compile(old.split("_")[2])).get_by_role("button", name="Revoke").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Why").fill("the laptop is gone")
        await dialog.get_by_role("button", name="Revoke").click()
        await expect(page.get_by_text("is revoked: it is refused within seconds")).to_be_visible()
        await answered(at, old, 401)
        assert await status_of(at, new) == 200
        assert await status_of(at, BATCH) == 200
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


@pytest.mark.browser
async def test_they_work_narrow_and_axe_finds_nothing_serious(browser: Browser) -> None:
    async with at_console({"crm": shop(60)}, **OPTIONS) as at:
        await stocked(at, 65)
        for scheme in ("light", "dark"):
            page = await at.browse(browser, "/callers", viewport=NARROW, color_scheme=scheme, bypass_csp=True)
            assert await faults(page) == []
            await page.goto(at.url + "/callers/agent")
            await page.get_by_role("button", name="Make a key").click()
            assert await faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
