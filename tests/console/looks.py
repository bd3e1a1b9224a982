"""Whether a page can be used by everybody: nothing serious for axe, nothing that its policy refuses, in every shape."""

from axe import faults
from playwright.async_api import Browser, Page
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


async def first_paint_s(page: Page) -> float:
    """How long the page that *page* shows took until something of it could be seen."""
    script = """new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0].startTime))
        .observe({type: 'paint', buffered: true}))"""
    found = await page.evaluate(script)
    return float(found) / 1000


async def transferred_bytes(page: Page) -> int:
    """What was sent for it, with all that it loads; what the browser had kept is not counted."""
    script = """performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))
        .reduce((sum, each) => sum + each.transferSize, 0)"""
    found: int = await page.evaluate(script)
    return found
