"""The pages of the console, in the order of the navigation: a file for each, with its `PAGE`."""

from importlib import import_module
from typing import Final

from bascule.console.page import Page

_NAMES: Final = (
    "overview",
    "marketplace",
    "servers",
    "approvals",
    "reviews",
    "audit",
    "callers",
    "cost",
    "account",
)


def pages() -> tuple[Page, ...]:
    """All of them; the first is where people come in."""
    return tuple(import_module(f"{__name__}.{name}").PAGE for name in _NAMES)
