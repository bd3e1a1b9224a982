"""Somebody who looks at the console of a real Bascule: by HTTP, or in a real browser.

`async with at_console({"crm": local("plain")}, role="reviewer") as at:` runs a gateway and signs in by a link.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from gateway import Bascule, Json, gateway
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, async_playwright

from bascule.app import Gateway
from bascule.store.console import ConsoleSessions

WIDE: Final = ViewportSize(width=1360, height=860)
NARROW: Final = ViewportSize(width=380, height=780)
_CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Reply:
    """What a page answered."""

    status: int
    html: str
    headers: Mapping[str, str]
    url: str

    @property
    def text(self) -> str:
        """What one reads of it, white space made one."""
        whole = self.html.replace("<wbr>", "")
        without = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", whole, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", without)).split())


@dataclass
class Visitor:
    """One person with one browser, signed in as *role*."""

    bascule: Bascule
    gateway: Gateway
    http: aiohttp.ClientSession
    sessions: ConsoleSessions
    name: str
    role: str

    @property
    def url(self) -> str:
        return f"{self.bascule.url}/console"

    async def get(self, path: str, *, part: bool = False, headers: Mapping[str, str] | None = None) -> Reply:
        """The page at *path*, below /console; with *part* what htmx would get. Redirects are followed."""
        head = {**({"hx-request": "true"} if part else {}), **(headers or {})}
        async with self.http.get(self.url + path, headers=head) as response:
            return await _reply(response)

    async def post(
        self,
        path: str,
        said: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Reply:
        """Post a form as a page of ours does: with its token, and its origin."""
        form = {"csrf": await self.csrf(), **(said or {})}
        head = {"origin": self.bascule.url, **(headers or {})}
        async with self.http.post(self.url + path, data=form, headers=head, allow_redirects=follow) as response:
            return await _reply(response)

    async def csrf(self) -> str:
        found = re.search(r'name="csrf" content="([0-9a-f]+)"', (await self.get("/overview")).html)
        assert found, "not signed in"
        return found[1]

    async def link(self, role: str | None = None) -> str:
        """A link as `bascule console open` prints it."""
        return f"{self.url}/open#{await self.sessions.link(self.name, [role or self.role])}"

    async def sign_in(self, role: str | None = None) -> None:
        secret = (await self.link(role)).partition("#")[2]
        said, head = {"link": secret}, {"origin": self.bascule.url}
        async with self.http.post(f"{self.url}/open", data=said, headers=head, allow_redirects=False) as response:
            assert response.status == 303, await response.text()

    async def browse(self, browser: Browser, path: str = "/overview", **options: Any) -> Page:
        """A page of a real browser, signed in, at *path*. Its mistakes are in `page.complaints`."""
        context = await browser.new_context(**{"viewport": WIDE, **options})
        page = await open_page(context)
        await page.goto(await self.link())
        await page.click("form[data-open] button")
        await page.wait_for_url(f"{self.url}/overview")
        if path != "/overview":
            await page.goto(self.url + path)
        return page


async def open_page(context: BrowserContext) -> Page:
    """A page that keeps what its console complains of: a script that fails, anything that the policy refuses."""
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.complaints = complaints  # type: ignore[attr-defined]  # kept beside the page that they are of
    return page


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    return Reply(response.status, await response.text(), dict(response.headers), str(response.url))


@asynccontextmanager
async def at_console(
    servers: Mapping[str, Json], *, role: str = "admin", name: str = "ops", **more: Any
) -> AsyncIterator[Visitor]:
    """A gateway with *servers*, and somebody at its console. *more* are members of the configuration."""
    async with gateway(servers, **more) as bascule, _browser_like() as http:
        assert bascule.gateway is not None
        assert bascule.gateway.records is not None
        sessions = ConsoleSessions(bascule.gateway.records.writer)
        visitor = Visitor(bascule, bascule.gateway, http, sessions, name, role)
        await visitor.sign_in()
        yield visitor


@asynccontextmanager
async def _browser_like() -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address without a name, too
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=30)) as http:
        yield http


# ---- browsers


def chromium() -> str:
    """The browser of this machine; skips the test where there is none."""
    said = os.environ.get("BASCULE_CHROMIUM")
    found = said or next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    if found is None or not Path(found).exists():
        pytest.skip("there is no Chromium: install it, or say where it is with BASCULE_CHROMIUM")
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield launched
        finally:
            await launched.close()
