"""Whether a page can be used by everybody: nothing serious for axe, nothing that its policy refuses, in every shape."""

from axe import faults
from playwright.async_api import Browser
from visiting import NARROW, Visitor

_BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def flaws(at: Visitor, browser: Browser, path: str) -> list[str]:
    """What is wrong with the page at *path*: light and dark, wide and at 380 px, with its policy in force."""
    page = await at.browse(browser, path, bypass_csp=True, reduced_motion="reduce")
    found = [f"light: {each}" for each in await faults(page)]
    await page.emulate_media(color_scheme="dark")
    found += [f"dark: {each}" for each in await faults(page)]
    await page.set_viewport_size(NARROW)
    found += [f"narrow: {each}" for each in await faults(page)]
    if (beyond := await page.evaluate(_BEYOND)) > 0:
        found.append(f"narrow: {beyond} px stand beyond the edge")
    await page.context.close()
    strict = await at.browse(browser, path)
    found += strict.complaints  # type: ignore[attr-defined]  # visiting.open_page
    await strict.context.close()
    return found
