"""Coming in and going out: links that are good once, an OpenID provider, roles, sessions that end."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from command import bascule
from gateway import local, serving
from playwright.async_api import Browser
from provider import Provider
from visiting import Visitor, at_console, open_page

from bascule.store.console import ConsoleSessions

SERVERS = {"plain": local("plain")}
_LINK = re.compile(r"http://127\.0\.0\.1:\d+/console/open#[\w-]{43}")


# ---- by a link


async def test_who_is_not_signed_in_is_asked_to_and_comes_back_to_where_they_wanted_to_go() -> None:
    async with at_console(SERVERS) as at:
        at.http.cookie_jar.clear()
        asked = await at.get("/overview?span=24h")
        assert urlsplit(asked.url).path == "/console/sign-in"
        assert "bascule console open" in asked.text
        secret = await at.sessions.link("mai", ["viewer"])
        async with at.http.post(
            f"{at.url}/open",
            data={"link": secret, "next": parse_qs(urlsplit(asked.url).query)["next"][0]},
            headers={"origin": at.bascule.url},
        ) as response:
            assert str(response.url) == f"{at.url}/overview?span=24h"
            assert "mai" in await response.text()


async def test_to_look_at_a_link_does_not_use_it_up_and_to_use_it_twice_does_not_work() -> None:
    async with at_console(SERVERS) as at:
        at.http.cookie_jar.clear()
        secret = await at.sessions.link("mai", ["viewer"])
        for _ in range(3):
            assert (await at.get("/open")).status == 200
        head = {"origin": at.bascule.url}
        async with at.http.post(f"{at.url}/open", data={"link": secret}, headers=head) as first:
            assert first.status == 200
        at.http.cookie_jar.clear()
        async with at.http.post(f"{at.url}/open", data={"link": secret}, headers=head) as again:
            assert again.status == 403
            assert "not good any more" in await again.text()


async def test_of_two_who_use_a_link_at_once_one_is_signed_in() -> None:
    async with at_console(SERVERS) as at:
        secret = await at.sessions.link("mai", ["viewer"])
        found = await asyncio.gather(*(at.sessions.redeem(secret, 60) for _ in range(8)))
        assert [each for each in found if each is not None][1:] == []
        assert any(found)


async def test_a_link_is_good_for_a_minute() -> None:
    async with at_console(SERVERS) as at:
        now_s = [1_000_000.0]
        assert at.gateway.records is not None
        sessions = ConsoleSessions(at.gateway.records.writer, clock=lambda: now_s[0])
        early, late = await sessions.link("mai", ["viewer"]), await sessions.link("mai", ["viewer"])
        now_s[0] += 59
        assert await sessions.redeem(early, 60) is not None
        now_s[0] += 2
        assert await sessions.redeem(late, 60) is None


async def test_a_link_is_no_session_and_a_session_is_no_link() -> None:
    async with at_console(SERVERS) as at:
        link = await at.sessions.link("mai", ["viewer"])
        assert at.sessions.look(link, 60) is None
        found = await at.sessions.redeem(link, 60)
        assert found is not None
        assert await at.sessions.redeem(found[0], 60) is None


async def test_the_database_holds_no_secret_of_anybody() -> None:
    async with at_console(SERVERS) as at:
        link = await at.sessions.link("mai", ["viewer"])
        (cookie,) = [each.value for each in at.http.cookie_jar if each.key.startswith("bascule-console")]
        assert at.gateway.records is not None
        rows = repr(at.gateway.records.writer.read("SELECT * FROM console_sessions"))
        assert "mai" in rows
        assert link not in rows
        assert cookie not in rows


async def test_the_cookie_is_for_us_alone() -> None:
    async with at_console(SERVERS) as at:
        secret = await at.sessions.link("mai", ["viewer"])
        async with at.http.post(
            f"{at.url}/open", data={"link": secret}, headers={"origin": at.bascule.url}, allow_redirects=False
        ) as response:
            said = response.headers["set-cookie"].lower()
        for wanted in ("httponly", "samesite=strict", "path=/console", "max-age=43200"):
            assert wanted in said
        assert "secure" not in said


async def test_behind_https_the_cookie_never_leaves_it() -> None:
    http = {"public_url": "https://mcp.example.com"}
    async with at_console(SERVERS, http=http) as at:
        secret = await at.sessions.link("mai", ["viewer"])
        async with at.http.post(
            f"{at.url}/open",
            data={"link": secret},
            headers={"origin": "https://mcp.example.com", "host": "mcp.example.com"},
            allow_redirects=False,
        ) as response:
            said = response.headers["set-cookie"]
        assert said.startswith("__Host-bascule-console=")
        for wanted in ("Secure", "HttpOnly", "Path=/;"):
            assert wanted.lower() in f"{said};".lower()
        assert "domain" not in said.lower()


async def test_after_signing_in_nobody_is_sent_to_another_site() -> None:
    async with at_console(SERVERS) as at:
        for bad in ("https://evil.example", "//evil.example", "/console//evil.example", "/consoles", "/console\\x", ""):
            secret = await at.sessions.link("mai", ["viewer"])
            async with at.http.post(
                f"{at.url}/open",
                data={"link": secret, "next": bad},
                headers={"origin": at.bascule.url},
                allow_redirects=False,
            ) as response:
                assert response.headers["location"] == "/console"


async def test_who_tries_links_again_and_again_has_to_wait_and_a_good_one_still_works() -> None:
    async with at_console(SERVERS) as at:
        head = {"origin": at.bascule.url}
        said = []
        for _ in range(12):
            async with at.http.post(f"{at.url}/open", data={"link": "x" * 43}, headers=head) as wrong:
                said.append((wrong.status, wrong.headers.get("retry-after")))
        assert [status for status, _ in said] == [403] * 10 + [429] * 2
        assert int(said[-1][1] or 0) > 0
        await at.sign_in()


# ---- sessions


async def test_a_session_ends_when_nobody_uses_it_and_however_much_it_is_used() -> None:
    async with at_console(SERVERS) as at:
        now_s = [1_000_000.0]
        assert at.gateway.records is not None
        sessions = ConsoleSessions(at.gateway.records.writer, clock=lambda: now_s[0])
        idle, _ = await sessions.begin("mai", ["viewer"], "link", 43_200)
        used, _ = await sessions.begin("an", ["viewer"], "link", 43_200)
        for _ in range(25):
            now_s[0] += 1700
            assert await sessions.find(used, 1800) is not None
            assert sessions.look(idle, 1800) is None or now_s[0] < 1_001_800
        now_s[0] += 1000
        assert await sessions.find(used, 1800) is None  # it is older than twelve hours


async def test_what_a_page_loads_by_itself_keeps_nobody_signed_in() -> None:
    async with at_console(SERVERS, console={"session_idle_s": 600}) as at:
        assert at.gateway.records is not None
        writer = at.gateway.records.writer

        async def idle_for(seconds: float) -> None:
            await writer.write(
                lambda connection: connection.execute(
                    "UPDATE console_sessions SET seen_at_s = seen_at_s - ?", (seconds,)
                ),
                durable=False,
            )

        await idle_for(400)
        assert (await at.get("/overview", part=True, headers={"bascule-live": "1"})).status == 200
        await idle_for(150)
        assert (await at.get("/overview", part=True)).status == 200  # somebody is there
        await idle_for(400)
        assert (await at.get("/overview", part=True, headers={"bascule-live": "1"})).status == 200
        await idle_for(300)
        assert (await at.get("/overview", part=True, headers={"bascule-live": "1"})).status == 401


async def test_who_signs_out_is_out_with_a_copy_of_the_cookie_too() -> None:
    async with at_console(SERVERS) as at:
        (cookie,) = [each for each in at.http.cookie_jar if each.key.startswith("bascule-console")]
        out = await at.post("/sign-out")
        assert "You are signed out" in out.text
        async with (
            aiohttp.ClientSession(cookies={cookie.key: cookie.value}) as thief,
            thief.get(f"{at.url}/overview", allow_redirects=False) as response,
        ):
            assert response.status == 303


async def test_a_session_that_another_process_ends_is_over_at_once() -> None:
    async with at_console(SERVERS) as at:
        (session,) = at.sessions.list_(1800)
        assert await at.sessions.end(session.id)
        assert not await at.sessions.end(session.id)
        assert "/sign-in" in (await at.get("/overview")).url


async def test_coming_and_going_is_on_record() -> None:
    async with at_console(SERVERS) as at:
        await at.post("/sign-out")
        async with at.http.post(f"{at.url}/open", data={"link": "x" * 43}, headers={"origin": at.bascule.url}) as wrong:
            assert wrong.status == 403
        assert at.gateway.records is not None
        assert at.gateway.records.audit is not None
        await at.gateway.records.audit.room()
        rows = await _audited(at, 3)
        assert [(row["method"], row["outcome"]) for row in rows] == [
            ("console.sign_in", "done"),
            ("console.sign_out", "done"),
            ("console.sign_in", "unauthenticated"),
        ]
        assert [row.get("caller", "") for row in rows] == ["ops", "ops", ""]
        assert rows[0]["proof"] == "console"


async def _audited(at: Visitor, many: int) -> list[dict[str, str]]:
    assert at.gateway.records is not None
    async with asyncio.timeout(10):
        while True:
            rows = at.gateway.records.writer.read("SELECT entry FROM audit WHERE kind = 'action' ORDER BY seq")
            if len(rows) >= many:
                return [json.loads(entry) for (entry,) in rows]
            await asyncio.sleep(0.05)


# ---- roles


async def test_a_role_opens_its_pages_and_no_tool() -> None:
    async with at_console(SERVERS, role="viewer") as at:
        assert (await at.get("/overview")).status == 200
        async with at.http.get(f"{at.bascule.url}/status") as response:
            assert response.status in (200, 401)  # as anybody without a credential: the cookie means nothing there
        async with at.http.get(f"{at.bascule.url}/mcp") as response:
            assert "bascule-console" not in str(response.request_info.headers.get("set-cookie"))


async def test_somebody_of_no_known_role_sees_nothing() -> None:
    async with at_console(SERVERS, role="viewer") as at:
        await at.sign_in("stranger")
        refused = await at.get("/overview")
        assert refused.status == 403
        assert "bascule.status:read" in refused.text


# ---- the command line


async def test_the_command_line_prints_a_link_that_signs_in_at_a_running_gateway(tmp_path: Path) -> None:
    path = tmp_path / "bascule.yaml"
    path.write_text(json.dumps({"servers": SERVERS, "state_dir": str(tmp_path / "state"), "drain": {"delay_s": 0}}))
    async with serving(path) as running:
        words = ("console", "open", "--role", "reviewer", "--as", "mai", "--url", running.url, "-c", str(path))
        done = await asyncio.to_thread(bascule, *words)
        assert done.code == 0, done.err
        assert _LINK.fullmatch(done.out.strip())
        assert "once, within 60 s" in done.err
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            url, _, secret = done.out.strip().partition("#")
            async with http.post(url, data={"link": secret}, headers={"origin": running.url}) as response:
                page = await response.text()
            assert "mai" in page
            assert "reviewer" in page
            sessions = await asyncio.to_thread(bascule, "console", "sessions", "--json", "-c", str(path))
            (session,) = json.loads(sessions.out)
            assert (session["name"], session["roles"], session["how"]) == ("mai", ["reviewer"], "link")
            ended = await asyncio.to_thread(bascule, "console", "end", session["id"], "-c", str(path))
            assert ended.code == 0, ended.err
            async with http.get(f"{running.url}/console/overview", allow_redirects=False) as response:
                assert response.status == 303


def test_the_command_line_says_what_a_role_is_and_where_records_are_missing(tmp_path: Path) -> None:
    wrong = bascule("console", "open", "--role", "king", cwd=tmp_path)
    assert wrong.code == 2
    assert "viewer, approver, reviewer, editor, admin" in wrong.err
    (tmp_path / "bascule.yaml").write_text("servers: {}\nstate_dir: nowhere\n")
    missing = bascule("console", "open", cwd=tmp_path)
    assert missing.code == 2
    assert "no gateway has kept its records in it" in missing.err


@pytest.mark.browser
async def test_a_link_opens_in_a_browser_and_leaves_no_secret_in_its_address(browser: Browser) -> None:
    async with at_console(SERVERS) as at:
        page = await open_page(await browser.new_context())
        await page.goto(await at.link())
        assert "#" not in page.url
        await page.keyboard.press("Enter")  # the button has the focus
        await page.wait_for_url(f"{at.url}/overview")
        await page.go_back()
        assert await page.locator("input[name=link]").input_value() == ""
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


# ---- by an OpenID provider


@asynccontextmanager
async def at_provider(**more: object) -> AsyncIterator[tuple[Visitor, Provider]]:
    """A console whose people sign in at a provider; *more* are members of `console.oidc`."""
    async with Provider() as provider:
        console = {"oidc": provider.config(**more)}
        async with at_console(SERVERS, console=console, environ={"CONSOLE_SECRET": "console-secret"}) as at:
            provider.register(f"{at.url}/oidc/callback")
            at.http.cookie_jar.clear()
            yield at, provider


async def _came_back(at: Visitor) -> tuple[int, str]:
    """(status, page) of what the provider's answer comes to."""
    async with at.http.get(f"{at.url}/oidc?next=/console/overview") as response:
        return response.status, await response.text()


async def test_who_is_somebody_at_the_provider_has_the_role_of_their_group() -> None:
    async with at_provider() as (at, _):
        status, page = await _came_back(at)
        assert (status, 'content="0; url=/console/overview"' in page) == (200, True)
        assert "oidc:u-17" in (await at.get("/overview")).text
        (session,) = [each for each in at.sessions.list_(1800) if each.how == "oidc"]
        assert (session.name, session.roles) == ("oidc:u-17", ("admin",))


@pytest.mark.browser
async def test_a_browser_that_comes_back_from_the_provider_is_signed_in(browser: Browser) -> None:
    async with at_provider() as (at, provider):
        page = await open_page(await browser.new_context())
        # By another name of this machine, so that the provider is another site, as it is in life.
        url = at.url.replace("127.0.0.1", "localhost")
        await page.goto(f"{url}/sign-in?next=/console/overview")
        provider.register(f"{url}/oidc/callback")
        await page.click("text=Sign in with your organisation")
        await page.wait_for_url(f"{url}/overview")
        assert "oidc:u-17" in await page.inner_text("body")
        assert page.complaints == []  # type: ignore[attr-defined]  # visiting.open_page


async def test_somebody_whose_groups_are_nothing_here_is_not_let_in() -> None:
    async with at_provider() as (at, provider):
        provider.person = {"sub": "u-18", "groups": ["kitchen"]}
        status, page = await _came_back(at)
        assert status == 403
        assert "no role here" in page
        assert "/sign-in" in (await at.get("/overview")).url


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"aud": "another-application"},
        {"aud": ["console", "another"], "azp": "another"},
        {"iss": "https://elsewhere.example"},
        {"exp": 1},
        {"sub": ""},
    ],
    ids=lambda claims: ",".join(claims),
)
async def test_an_id_token_that_is_not_for_this_sign_in_signs_nobody_in(claims: dict[str, object]) -> None:
    async with at_provider() as (at, provider):
        provider.id_claims = claims
        status, _ = await _came_back(at)
        assert status == 403
        assert "/sign-in" in (await at.get("/overview")).url


async def test_a_token_that_somebody_else_signed_signs_nobody_in() -> None:
    async with at_provider() as (at, provider):
        assert (await _came_back(at))[0] == 200
        at.http.cookie_jar.clear()
        published = provider.jwks()
        provider.rotate(keep=False)
        provider.jwks = lambda: published  # type: ignore[method-assign]  # it still publishes the old key alone
        assert (await _came_back(at))[0] == 403


async def test_an_answer_that_another_browser_asked_for_signs_nobody_in() -> None:
    async with at_provider() as (at, _):
        async with at.http.get(f"{at.url}/oidc", allow_redirects=False) as begun:
            away = begun.headers["location"]
        async with at.http.get(away, allow_redirects=False) as response:
            back = response.headers["location"]
        async with aiohttp.ClientSession() as victim, victim.get(back) as response:
            assert response.status == 403
        async with at.http.get(f"{back}x") as response:  # its own browser, with another state
            assert response.status == 403


async def test_a_code_is_good_once() -> None:
    async with at_provider() as (at, _):
        async with at.http.get(f"{at.url}/oidc", allow_redirects=False) as begun:
            away = begun.headers["location"]
            kept = [(each.key, each.value) for each in at.http.cookie_jar]
        async with at.http.get(away, allow_redirects=False) as response:
            back = response.headers["location"]
        async with at.http.get(back) as response:
            assert response.status == 200
        async with aiohttp.ClientSession(cookies=dict(kept)) as again, again.get(back) as response:
            assert response.status == 403


async def test_a_provider_that_is_down_is_said_to_be() -> None:
    async with at_provider() as (at, provider):
        provider.trouble = "500"
        status, page = await _came_back(at)
        assert status == 503
        assert "cannot be reached now" in page
        assert "console-secret" not in page


async def test_an_address_that_nobody_has_verified_is_no_name() -> None:
    async with at_provider(name_claim="email") as (at, provider):
        provider.person = {"sub": "u-17", "email": "boss@example.com", "groups": ["ops"]}
        assert (await _came_back(at))[0] == 403
        provider.person |= {"email_verified": True}
        assert (await _came_back(at))[0] == 200


async def test_who_calls_with_tokens_of_the_same_issuer_is_the_same_person() -> None:
    async with Provider() as provider:
        more: dict[str, Any] = {
            "console": {"oidc": provider.config()},
            "auth": {"issuers": {"corp": {"issuer": provider.issuer}}},
        }
        async with at_console(SERVERS, environ={"CONSOLE_SECRET": "console-secret"}, **more) as at:
            provider.register(f"{at.url}/oidc/callback")
            assert (await _came_back(at))[0] == 200
            assert "corp:u-17" in (await at.get("/overview")).text
