"""What holds for all tests: none leaves anything in the state folder of whoever runs them, and one that fails says so.

At once, that is: a run of many minutes that is cut off has then told what it found.
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest.hookimpl(trylast=True)  # pytest's own makes the reporter
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None:  # the processes that xdist starts have none
        config.pluginmanager.register(_AtOnce(terminal))


class _AtOnce:
    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = crash.message.partition("\n")[0] if crash else report.longreprtext.rpartition("\n")[2]
            self._terminal.write_line(f"\n{report.when} of {report.nodeid} failed: {said}")


@pytest.fixture(autouse=True, scope="session")
def _no_state_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with mock.patch.dict(os.environ, XDG_STATE_HOME=str(tmp_path_factory.mktemp("state"))):
        yield


@pytest_asyncio.fixture
async def browser() -> "AsyncIterator[Browser]":
    """A real one, for one test of the console (tests/console/visiting.py). Mark the test with `browser`."""
    import visiting

    async with visiting.browser() as launched:
        yield launched
