"""Work in a thread that gives way to the event loop."""

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

Item = TypeVar("Item")

# While a thread works the event loop cannot run, and Python hands the interpreter on after 5 ms only: every call that
# waits for it would be late by that. So work of many pieces steps aside after so many.
_IN_ONE_GO: Final = 8
_BREATH_S: Final = 20e-6


def unhurried(items: Iterable[Item]) -> Iterator[Item]:
    """*items*, with a short sleep after every few of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _IN_ONE_GO == 0:
            time.sleep(_BREATH_S)
