"""Rows of text to rows of values: which row is the header, what each column holds, which mark is decimal. Pure.

A column is a number's when every cell of it is one; else its cells stay as they are written. Nothing is guessed cell
by cell.
"""

import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bascule.packs.office import numbers
from bascule.packs.office.numbers import Style, Written

# A cell: text that is still to be read, or a value that its file already knows to be one.
Cell: TypeAlias = str | int | float | bool | None
Type: TypeAlias = Literal["text", "number", "percent", "money", "boolean", "date", "empty"]

MISSING: Final = frozenset({"-", "–", "—", "n/a", "na", "null", "none", "không có", "k/a"})  # noqa: RUF001 - dashes
_EXACT_DIGITS: Final = 15  # of a number that JSON's readers keep
_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})?)?")
_WRITTEN_DATE: Final = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})")
_LEADING_ZERO: Final = re.compile(r"0\d")


class Column(NamedTuple):
    name: str
    type: Type
    unit: str | None  # of money: ISO 4217
    values: list[Any]


class Rows(NamedTuple):
    title: str | None
    skipped: int  # rows before the header, or before the first one
    height: int  # rows from there on, header and empty ones included
    has_header: bool
    columns: list[Column]

    @property
    def row_count(self) -> int:
        return len(self.columns[0].values) if self.columns else 0


def typed(
    cells: Sequence[Sequence[Cell]], *, header: bool | None = None, dates: Literal["text", "iso"] = "text"
) -> Rows:
    """*cells* as columns of values. *header*: whether the first row is one, None to see for ourselves."""
    trimmed = _trimmed(cells)
    title, skipped, rows = _without_title(trimmed)
    if not rows:
        return Rows(title, skipped, 0, False, [])
    width = max(len(row) for row in rows)
    even = [[*row, *[None] * (width - len(row))] for row in rows]
    has_header = _is_header(even) if header is None else header
    names = _names(even[0] if has_header else [None] * width)
    body = even[1:] if has_header else even
    columns = [[row[at] for row in body] for at in range(width)]
    evidence = _style_of(columns)
    return Rows(
        title,
        skipped,
        len(trimmed) - skipped,
        has_header,
        [_column(name, cells, evidence, dates) for name, cells in zip(names, columns, strict=True)],
    )


# ---- the shape


def _trimmed(cells: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Without what is empty at the end of rows, in front of all of them, and below."""
    rows = [[_clean(cell) for cell in row] for row in cells]
    last = max((number for number, row in enumerate(rows, 1) if any(cell is not None for cell in row)), default=0)
    rows = rows[:last]
    width = max((at for row in rows for at, cell in enumerate(row, 1) if cell is not None), default=0)
    return [row[:width] for row in rows]


def _clean(cell: Cell) -> Cell:
    return cell.strip() or None if isinstance(cell, str) else cell


def _without_title(rows: list[list[Cell]]) -> tuple[str | None, int, list[list[Cell]]]:
    """(title, how many rows were left out above, the rest without empty rows)."""
    widths = [sum(cell is not None for cell in row) for row in rows]
    start = 0
    if max(widths, default=0) > 1:
        while start < len(rows) and widths[start] < 2:
            start += 1
    lone = [str(cell) for row in rows[:start] for cell in row if cell is not None]
    rest = [row for row, width in zip(rows[start:], widths[start:], strict=True) if width]
    return (" ".join(lone) or None), start, rest


def _is_header(rows: Sequence[Sequence[Cell]]) -> bool:
    """Whether the first row names what is below it."""
    first, body = rows[0], rows[1:]
    if not body or any(cell is not None and not isinstance(cell, str) for cell in first):
        return False
    said = [cell for cell in first if isinstance(cell, str)]
    if len(said) < max(1, (len(first) + 1) // 2) or len(set(said)) < len(said) / 2:
        return False
    if any(_is_value(cell) and not _is_year(cell) for cell in said):
        return False
    if any(_is_value(cell) for row in body for cell in row):
        return True
    return all(len(cell) <= 60 for cell in said)


def _is_value(cell: Cell) -> bool:
    if not isinstance(cell, str):
        return cell is not None
    return numbers.written(cell) is not None or bool(_DATE.fullmatch(cell) or _WRITTEN_DATE.fullmatch(cell))


def _is_year(cell: str) -> bool:
    return len(cell) == 4 and cell.isdigit() and cell[:2] in ("19", "20")


def _names(row: Sequence[Cell]) -> list[str]:
    """Names of columns, each of its own; `column_3` for one without."""
    found: list[str] = []
    taken: set[str] = set()
    for number, cell in enumerate(row, 1):
        base = " ".join(str(cell).split()) if cell is not None else f"column_{number}"
        name, again = base, 1
        while name in taken:
            again += 1
            name = f"{base} ({again})"
        taken.add(name)
        found.append(name)
    return found


# ---- the values


def _style_of(columns: Sequence[Sequence[Cell]]) -> Style | None:
    """The decimal mark that the numbers without doubt have, in columns of numbers; None where none tells."""
    told = [
        style
        for cells in columns
        if (found := _all_written(cells)) is not None
        and any(numbers.says_style(number) for number in found)
        and (style := numbers.shared_style(found)) is not None
    ]
    return told[0] if told and all(style == told[0] for style in told) else None


def _all_written(cells: Sequence[Cell]) -> list[Written] | None:
    """The numbers of a column in which every cell of text is one, or says that there is none."""
    found = []
    for cell in cells:
        if not isinstance(cell, str) or cell.lower() in MISSING:
            continue
        number = None if _LEADING_ZERO.match(cell) else numbers.written(cell)
        if number is None or sum(map(str.isdigit, number.digits)) > _EXACT_DIGITS:
            return None
        found.append(number)
    return found or None


def _column(name: str, cells: Sequence[Cell], evidence: Style | None, dates: str) -> Column:
    present = [cell for cell in cells if cell is not None]
    if not present:
        return Column(name, "empty", None, list(cells))
    for read in (_native, _booleans, _numbers):
        if (column := read(name, cells, evidence)) is not None:
            return column
    return _texts(name, cells, dates)


def _native(name: str, cells: Sequence[Cell], evidence: Style | None) -> Column | None:
    """What its file has as values: nothing is left to read."""
    del evidence
    present = [cell for cell in cells if cell is not None]
    if all(isinstance(cell, bool) for cell in present):
        return Column(name, "boolean", None, list(cells))
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in present):
        return Column(name, "number", None, list(cells))
    return None


def _booleans(name: str, cells: Sequence[Cell], evidence: Style | None) -> Column | None:
    del evidence
    said = [cell.lower() if isinstance(cell, str) else cell for cell in cells]
    if all(each is None or each in ("true", "false") for each in said):
        return Column(name, "boolean", None, [None if each is None else each == "true" for each in said])
    return None


def _numbers(name: str, cells: Sequence[Cell], evidence: Style | None) -> Column | None:
    found = _all_written(cells)
    if found is None or any(isinstance(cell, bool) for cell in cells):
        return None
    units = {number.unit for number in found}
    style = numbers.shared_style(found, evidence)
    if style is None or len(units - {None}) > 1 or ("%" in units and len(units) > 1):
        return None
    values = [_amount(cell, style) for cell in cells]
    unit = next((unit for unit in units if unit), None)
    kind: Type = "percent" if unit == "%" else "money" if unit else "number"
    return Column(name, kind, unit if kind == "money" else None, values)


def _amount(cell: Cell, style: Style) -> Any:
    if not isinstance(cell, str):
        return cell
    number = None if cell.lower() in MISSING else numbers.written(cell)
    return None if number is None else _json(numbers.value(number, style).value)


def _json(amount: Decimal) -> int | float:
    return numbers.as_json(amount)


def _texts(name: str, cells: Sequence[Cell], dates: str) -> Column:
    said = [None if cell is None else str(cell) for cell in cells]
    present = [each for each in said if each is not None]
    if all(_DATE.fullmatch(each) for each in present):
        return Column(name, "date", None, said)
    if all(_WRITTEN_DATE.fullmatch(each) for each in present):
        read = _as_iso(present) if dates == "iso" else None
        return Column(name, "date", None, said if read is None else [each and read[each] for each in said])
    return Column(name, "text", None, said)


def _as_iso(written: Sequence[str]) -> dict[str, str] | None:
    """Each of the dates as ISO 8601: with the day first, or the month if no other reading is left; None if none is."""
    for day_first in (True, False):
        try:
            return {each: _iso(each, day_first) for each in written}
        except ValueError:
            continue
    return None


def _iso(written: str, day_first: bool) -> str:
    match = _WRITTEN_DATE.fullmatch(written)
    assert match is not None
    one, other, year = (int(each) for each in match.groups())
    day, month = (one, other) if day_first else (other, one)
    return date(year, month, day).isoformat()


def letter(number: int) -> str:
    """What a spreadsheet calls its column *number*, from 1.

    >>> letter(1), letter(26), letter(27), letter(703)
    ('A', 'Z', 'AA', 'AAA')
    """
    name = ""
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
