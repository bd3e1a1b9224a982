"""A browser for the tests of the console."""

from collections.abc import AsyncIterator

import pytest_asyncio
import visiting
from playwright.async_api import Browser


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """A real one, for one test. Mark the test with `browser`."""
    async with visiting.browser() as launched:
        yield launched
