"""Addresses of lists: what is looked for, and which page of it. PURE."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

_LAST: Final = 100_000


def address(path: str, asked: Mapping[str, str], **more: Any) -> str:
    """*path* with all that is asked for, and what is said *more*; what is empty is left out."""
    said = {**asked, **more}
    query = urlencode({name: value for name, value in said.items() if value not in ("", None)})
    return f"{path}?{query}" if query else path


def numbered(path: str, asked: Mapping[str, str], number: int) -> str:
    """The address of a page by its number, from 1 on."""
    return address(path, asked, page=number if number > 1 else "")


def number_of(text: str) -> int:
    """The number of the page that *text* names, 1 for what names none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 and 0 < int(text) < _LAST else 1


def places(path: str, asked: Mapping[str, str], number: int, size: int, count: int) -> tuple[str, str, str]:
    """(newer, older, where one is) of page *number* of *count* things, *size* on each: for ui.pagination."""
    if count <= size and number == 1:
        return "", "", ""
    first, last = (number - 1) * size + 1, min(number * size, count)
    newer = numbered(path, asked, number - 1) if number > 1 else ""
    older = numbered(path, asked, number + 1) if last < count else ""
    return newer, older, f"{first} to {last} of {count}" if last >= first else f"{count} in all"
