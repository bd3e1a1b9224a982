"""XLSX as rows of cells, through openpyxl, which is an extra; values only, no formula is computed."""

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO, Final, NamedTuple

from bascule.packs.cell import Unreadable
from bascule.packs.office import package
from bascule.packs.office.columns import Cell
from bascule.packs.office.tables import MAX_COLUMNS, MAX_ROWS

_LAST_ROW: Final = 1_048_576  # of a sheet; source: ECMA-376, and Excel's limits
_MAX_CELLS: Final = 2_000_000
_GAP_ROWS: Final = 2_000  # empty ones at a stretch, behind which nothing is expected


class Sheet(NamedTuple):
    name: str
    first_row: int  # of the sheet
    first_column: int
    cells: list[list[Cell]]
    percent: frozenset[int]  # columns of *cells*, from 0, that are shown as percentages
    hidden: bool


def sheets(source: BinaryIO) -> list[str]:
    """The names of the worksheets. Raises Unreadable."""
    return [sheet.title for sheet in _opened(source).worksheets]


def sheet(source: BinaryIO, name: str | None) -> Sheet:
    """The worksheet *name*, or the first one that is shown and has cells. Raises Unreadable."""
    book = _opened(source)
    found = {each.title: each for each in book.worksheets}
    if name is not None and name not in found:
        raise Unreadable(f"There is no sheet {name[:60]!r}.", f"There are: {', '.join(map(repr, list(found)[:20]))}.")
    candidates = (
        [found[name]] if name is not None else [each for each in found.values() if each.sheet_state == "visible"]
    )
    for each in candidates or found.values():
        rows = _rows(each)
        if rows or name is not None:
            return _cropped(each.title, rows, each.sheet_state != "visible")
    raise Unreadable("The workbook has no cell with a value.", "Name another file.")


def _opened(source: BinaryIO) -> Any:
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        what = "XLSX is not read here: openpyxl is not installed."
        raise Unreadable(what, "Install it with: pip install 'bascule[office]'") from error
    package.opened(source, "xl/workbook.xml", "XLSX")
    try:
        return openpyxl.load_workbook(source, read_only=True, data_only=True)
    except (InvalidFileException, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        # What openpyxl raises for a workbook that breaks the rules of its format.
        raise Unreadable("The XLSX is damaged.", "Save it again with the program it is from.") from error


def _rows(found: Any) -> list[tuple[int, tuple[Any, ...]]]:
    """(number, cells) of the rows that have any, as far as the sheet goes and not as far as it says."""
    if (found.max_row or 0) > _LAST_ROW:
        raise Unreadable(f"The sheet says that it has {found.max_row} rows; no sheet has so many.", "Save it again.")
    found.reset_dimensions()
    rows, empty, cells = [], 0, 0
    for number, row in enumerate(_each(found), 1):
        empty = 0 if any(cell.value is not None for cell in row) else empty + 1
        if not empty:
            rows.append((number, row))
            cells += len(row)
        if len(row) > 2 * MAX_COLUMNS or len(rows) > MAX_ROWS or cells > _MAX_CELLS:
            what = f"The sheet has more than {MAX_ROWS} rows, {2 * MAX_COLUMNS} columns or {_MAX_CELLS} cells."
            raise Unreadable(what, "Take a part of it.")
        if empty > _GAP_ROWS:
            break
    return rows


def _each(found: Any) -> Iterator[tuple[Any, ...]]:
    try:
        yield from found.iter_rows()
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, SyntaxError, OverflowError) as error:
        # As above; SyntaxError is what its parser of XML raises.
        raise Unreadable("The sheet is damaged.", "Save it again with the program it is from.") from error


def _cropped(name: str, rows: list[tuple[int, tuple[Any, ...]]], hidden: bool) -> Sheet:
    """The rows from the first one to the last with a cell, empty ones between them included, as plain values."""
    if not rows:
        return Sheet(name, 1, 1, [], frozenset(), hidden)
    left = min(at for _, row in rows for at, cell in enumerate(row) if cell.value is not None)
    first, last = rows[0][0], rows[-1][0]
    cells: list[list[Cell]] = [[] for _ in range(last - first + 1)]
    shares: dict[int, bool] = {}
    for number, row in rows:
        cells[number - first] = [_plain(cell.value) for cell in row[left:]]
        for at, cell in enumerate(row[left:]):
            if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
                shares[at] = shares.get(at, True) and "%" in (cell.number_format or "")
    return Sheet(name, first, left + 1, cells, frozenset(at for at, share in shares.items() if share), hidden)


def _plain(value: Any) -> Cell:
    """A value as JSON has it; dates and times as ISO 8601 writes them."""
    if isinstance(value, datetime):
        midnight = value.time() == time() and value.tzinfo is None
        return value.date().isoformat() if midnight else value.isoformat(sep="T", timespec="seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    return value if value is None or isinstance(value, str | int | bool) else str(value)
