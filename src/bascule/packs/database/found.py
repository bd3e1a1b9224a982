"""What a query found, cut to what may be said of it. PURE.

A cell is JSON: numbers, texts, true and false, null. What JSON has no word for is text; bytes are written as
SQL writes them, x'00ff'.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

CUT: Final = "…"  # at the end of a cell of which not everything is there

Cell = str | int | float | bool | None


class Limits(msgspec.Struct, frozen=True):
    rows: int
    cell_chars: int
    bytes: int  # of all rows as JSON


class Found(msgspec.Struct, frozen=True):
    """Rows in the order of the query, each by the names of its columns."""

    columns: Sequence[str]
    rows: Sequence[dict[str, Cell]]
    row_count: int  # of *rows*
    truncated: bool
    note: str = ""  # what was left out, in a sentence


class Collecting:
    """Takes rows until there are enough of them; never holds more than the limits and one row."""

    def __init__(self, columns: Iterable[str], limits: Limits) -> None:
        self._columns = distinct(columns)
        self._limits = limits
        self._rows: list[dict[str, Cell]] = []
        self._bytes = 0
        self._notes: dict[str, None] = {}  # a set that keeps its order

    def take(self, row: Sequence[Any]) -> bool:
        """Whether there may be another one."""
        if len(self._rows) >= self._limits.rows:
            return self._enough(f"There are more than {self._limits.rows} rows.")
        cells = dict(zip(self._columns, (self._cell(value) for value in row), strict=True))
        self._bytes += len(msgspec.json.encode(cells))
        if self._bytes > self._limits.bytes:
            return self._enough(f"The rows after these would be more than {self._limits.bytes} bytes.")
        self._rows.append(cells)
        return True

    def found(self) -> Found:
        note = " ".join([*self._notes, "Ask for less: WHERE, LIMIT, fewer columns, substr()."] if self._notes else [])
        return Found(self._columns, self._rows, len(self._rows), bool(self._notes), note)

    def _enough(self, why: str) -> bool:
        self._notes[why] = None
        return False

    def _cell(self, value: Any) -> Cell:
        shown = cell(value, self._limits.cell_chars)
        if isinstance(shown, str) and len(shown) > self._limits.cell_chars:
            self._notes[f"Texts are cut after {self._limits.cell_chars} characters."] = None
            return shown[: self._limits.cell_chars] + CUT
        return shown


def cell(value: Any, chars: int) -> Cell:
    """*value* as JSON has it; a text may be longer than *chars*, bytes are not written much further than that."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return f"x'{value[: chars // 2].hex()}'" if len(value) * 2 + 3 <= chars else f"x'{value[:chars].hex()}"
    return str(value)


def distinct(names: Iterable[str]) -> list[str]:
    """*names*, none of them twice: a second `id` is `id_2`.

    >>> distinct(["id", "name", "id", "id_2", "id"])
    ['id', 'name', 'id_2', 'id_2_2', 'id_3']
    """
    seen: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in seen:
            number += 1
            free = f"{name}_{number}"
        seen[free] = None
    return list(seen)
