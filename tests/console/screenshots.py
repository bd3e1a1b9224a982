"""Pictures of every page in both themes, for docs/screenshots: `make screenshots`.

With words, only pages whose names have one of them: `python tests/console/screenshots.py overview audit`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

_ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "tests" / each) for each in (".", "behaviour", "clients", "servers", "console")]

from playwright.async_api import Browser, Page  # noqa: E402 - found by the line above, like all that follows
from scene import scene  # noqa: E402
from visiting import NARROW, WIDE, Visitor, browser, open_page  # noqa: E402

from bascule.console.pages import pages  # noqa: E402

FOLDER: Final = _ROOT / "docs" / "screenshots"
Theme: TypeAlias = Literal["light", "dark"]
THEMES: Final[tuple[Theme, ...]] = get_args(Theme)
_SETTLED_S: Final = 0.4  # for charts to be drawn

# What is behind a link of a page, as (name, the page that has the link, a selector of it).
BEHIND: Final = (
    ("tool", "/marketplace", "main a[href*='/console/tools/crm/create_lead']"),
    ("tool-try", "/tools/crm/create_lead", ".tabs a:has-text('Try it')"),
    ("tool-contract", "/tools/crm/create_lead", ".tabs a:has-text('Contract')"),
    ("server", "/servers", "main a[href='/console/servers/crm']"),
    ("approval", "/approvals", "main a[href*='/console/approvals/']:not([href$=history])"),
    ("review", "/reviews", "main a[href*='/console/reviews/']:not([href$=all])"),
    ("trace", "/audit", "main td a[href*='/console/audit/trace']"),
)


async def main(words: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with scene() as at, browser() as launched:
        for theme in THEMES:
            async for name, page in _shown(at, launched, theme):
                if not words or any(word in name for word in words):
                    await _shoot(page, f"{name}-{theme}")


async def _shown(at: Visitor, launched: Browser, theme: Theme) -> AsyncIterator[tuple[str, Page]]:
    outside = await open_page(await launched.new_context(viewport=WIDE, color_scheme=theme))
    await outside.goto(f"{at.url}/sign-in")
    yield "sign-in", outside
    wide = await at.browse(launched, viewport=WIDE, color_scheme=theme)
    narrow = await at.browse(launched, viewport=NARROW, color_scheme=theme)
    for each in pages():
        await wide.goto(at.url + each.routes[0].path)
        yield each.name, wide
        await narrow.goto(at.url + each.routes[0].path)
        yield f"{each.name}-narrow", narrow
    for name, path, link in BEHIND:
        await wide.goto(at.url + path)
        if await wide.locator(link).count():
            await wide.locator(link).first.click()
            await wide.wait_for_load_state()
            yield name, wide
    for page in (outside, wide, narrow):
        await page.context.close()


async def _shoot(page: Page, name: str) -> None:
    await page.wait_for_timeout(_SETTLED_S * 1000)
    await page.screenshot(path=FOLDER / f"{name}.png", full_page=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
