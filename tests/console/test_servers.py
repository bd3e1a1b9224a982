"""Servers: how each of them is, those that need somebody first, and what who may can do about it."""

import re
import sys
from typing import Final

import pytest
from gateway import Json, local, text_of, until
from looks import flaws
from playwright.async_api import Browser, expect
from visiting import Reply, Visitor, at_console

COMPLAINS: Final = "import sys; print('no such \\u202e database <b>', file=sys.stderr); sys.exit(3)"
SERVERS: Final[Json] = {
    "a": local("plain"),
    "lazy": local("plain", start="lazy"),
    "broken": {"command": sys.executable, "args": ["-c", COMPLAINS]},
}


def shown(page: Reply) -> list[str]:
    """The servers in the list, in its order."""
    return re.findall(r'<th scope="row"[^>]*><a href="/console/servers/([^"]+)"', page.html)


async def failed(at: Visitor, name: str) -> None:
    await at.bascule.until(name, lambda said: said["state"] == "failed")


# ---- looking


async def test_what_has_failed_stands_first_and_says_why() -> None:
    async with at_console(SERVERS, role="viewer") as at:
        await at.bascule.up("a")
        await failed(at, "broken")
        page = await at.get("/servers")
        assert shown(page) == ["broken", "a", "lazy"]
        assert "the process exited with code 3" in page.text
        assert "waits for a call" in page.text
        assert re.search(r"Down 1\b", page.text)
        assert shown(await at.get("/servers?q=LAZ")) == ["lazy"]
        assert shown(await at.get("/servers?state=ready", part=True)) == ["a"]
        assert "No server fits" in (await at.get("/servers?q=zzz")).text


async def test_a_server_shows_its_lists_and_the_last_of_what_it_wrote() -> None:
    async with at_console(SERVERS, role="viewer") as at:
        await at.bascule.up("a")
        await failed(at, "broken")
        page = await at.get("/servers/a")
        assert "/console/tools/a/echo" in page.html
        assert re.search(r"Tools 2\d ", page.text)
        broken = await at.get("/servers/broken")
        assert "It does not run" in broken.text
        assert "database <b>" in broken.text
        assert (await at.get("/servers/nobody")).status == 404


async def test_fifty_servers_are_listed_in_one_page_of_moderate_size() -> None:
    many = {f"server-with-quite-a-long-name{number:02}": local("plain", start="lazy") for number in range(50)}
    async with at_console(many) as at:
        page = await at.get("/servers")
        assert shown(page) == sorted(many)
        assert len(page.html.encode()) < 100_000


async def test_who_may_only_look_is_offered_nothing_and_can_do_nothing() -> None:
    async with at_console({"a": local("plain")}, role="viewer") as at:
        await at.bascule.up("a")
        for path in ("/servers", "/servers/a"):
            assert "Switch off" not in (await at.get(path)).text
        for verb in ("restart", "disable", "enable"):
            assert (await at.get(f"/servers/a/{verb}")).status == 403
            assert (await at.post(f"/servers/a/{verb}")).status == 403
        assert (await at.bascule.server("a"))["state"] == "ready"


async def test_a_gateway_without_servers_says_how_to_have_some() -> None:
    async with at_console({}) as at:
        assert "There is no server yet" in (await at.get("/servers")).text


# ---- doing


@pytest.mark.browser
async def test_a_server_is_switched_off_with_a_reason_and_on_again_by_keyboard_alone(browser: Browser) -> None:
    async with at_console({"a": local("plain"), "b": local("plain")}) as at:
        await at.bascule.up("a", "b")
        page = await at.browse(browser, "/servers")
        row = page.locator("tbody tr", has=page.get_by_role("link", name="a", exact=True))
        await row.get_by_role("link", name="Switch off").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Switch off a?")).to_be_visible()
        assert (await at.bascule.server("a"))["state"] == "ready", "nothing is done before it is confirmed"
        await expect(page.get_by_label("Why")).to_be_focused()
        await page.keyboard.type("it pays twice")
        await page.keyboard.press("Enter")
        await expect(page.locator(".notice.ok")).to_contain_text("a is switched off")
        await expect(page.locator(".notice.info")).to_contain_text("it pays twice")
        assert (await at.bascule.server("a"))["state"] == "off"
        assert text_of(await at.bascule.modern("/servers/b/mcp").call("echo", text="hello")) == "hello"
        await page.get_by_role("link", name="Switch on").click()
        await page.get_by_role("button", name="Switch on").click()
        await at.bascule.up("a")
        # By itself: the page shows the state of now.
        await expect(page.locator(".badge", has_text="ready")).to_be_visible(timeout=15_000)
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page
        audit = await until(lambda: at.get("/audit?kind=action"), lambda page: "servers.enable" in page.html)
        assert "servers.disable" in audit.html


async def test_a_restart_is_a_new_process_and_it_is_on_record_who_wanted_it() -> None:
    async with at_console({"a": local("plain")}) as at:
        await at.bascule.up("a")
        before = (await at.bascule.server("a"))["pids"]
        assert "Calls that run there may end first" in (await at.get("/servers/a/restart")).text
        reply = await at.post("/servers/a/restart", {"note": "it leaks"})
        assert "a is being started anew." in reply.text
        await at.bascule.until("a", lambda said: said["pids"] not in ([], before))
        page = await until(
            lambda: at.get("/audit/export?format=jsonl&kind=action"), lambda page: "it leaks" in page.html
        )
        assert '"caller":"ops"' in page.html


@pytest.mark.parametrize("path", ["/servers/nobody/restart", "/servers/a/explode"])
async def test_what_is_not_there_cannot_be_changed(path: str) -> None:
    async with at_console({"a": local("plain")}) as at:
        assert (await at.get(path)).status == 404
        assert (await at.post(path)).status == 404


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/servers", "/servers/broken", "/servers/a", "/servers/a/disable"])
async def test_the_pages_have_no_flaw(browser: Browser, path: str) -> None:
    async with at_console(SERVERS) as at:
        await at.bascule.up("a")
        await failed(at, "broken")
        assert await flaws(at, browser, path) == []
