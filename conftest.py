"""What holds for all tests: none of them leaves anything in the state folder of whoever runs them."""

import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest.fixture(autouse=True, scope="session")
def _no_state_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest_asyncio.fixture
async def browser() -> "AsyncIterator[Browser]":
    """A real one, for one test of the console (tests/console/visiting.py). Mark the test with `browser`."""
    import visiting

    async with visiting.browser() as launched:
        yield launched
