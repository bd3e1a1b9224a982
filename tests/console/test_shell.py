"""What every page of the console has: a frame, a policy, themes, a menu, nothing serious for axe."""

import pytest
from axe import faults
from gateway import local
from playwright.async_api import Browser
from visiting import at_console

SERVERS = {"plain": local("plain")}


@pytest.mark.browser
async def test_a_page_obeys_its_own_policy_and_axe_finds_nothing_serious(browser: Browser) -> None:
    async with at_console(SERVERS) as at:
        page = await at.browse(browser, bypass_csp=True)
        assert await faults(page) == []
        strict = await at.browse(browser)
        assert strict.complaints == []  # type: ignore[attr-defined]  # visiting.open_page
