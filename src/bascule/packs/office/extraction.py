"""One table of a document or a text as JSON: found, read, bounded. Runs where files are read apart."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final, Literal, NamedTuple, TypeAlias

from bascule.packs.cell import Unreadable
from bascule.packs.office import columns, markup, portable, sheets, tables, word
from bascule.packs.office.columns import Cell, Rows
from bascule.packs.office.encoding import decoded

Format: TypeAlias = Literal["csv", "tsv", "markdown", "html", "text", "xlsx", "docx", "pdf"]

FORMATS: Final[dict[str, Format]] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "md": "markdown",
    "markdown": "markdown",
    "html": "html",
    "htm": "html",
    "txt": "text",
    "text": "text",
    "xlsx": "xlsx",
    "xlsm": "xlsx",
    "docx": "docx",
    "pdf": "pdf",
}
_MAX_TABLES: Final = 500
_MAX_COLUMNS: Final = 2_000
_MAX_PAGES: Final = 20  # of a PDF that are looked at for tables: each takes a while
_MAX_CHARS: Final = 300_000  # of values in one answer
_HTML_SIGN: Final = "<table"


class Grid(NamedTuple):
    """A table before its values are read, and where its cells stand."""

    format: str
    place: str  # "sheet 'Sales'", "page 2", "line 14"
    cells: Sequence[Sequence[Cell]]
    first_row: int = 1  # in a spreadsheet
    first_column: int = 1
    percent: frozenset[int] = frozenset()


def format_of(path: str) -> Format:
    """What *path* is by its ending. Raises Unreadable for what has no tables here."""
    ending = path.rpartition(".")[2].lower() if "." in path else ""
    if ending in FORMATS:
        return FORMATS[ending]
    what = f"No tables are read from files ending in .{ending}." if ending else "The file has no ending."
    raise Unreadable(what, f"There are: {', '.join('.' + each for each in FORMATS)}.")


def table(
    source: BinaryIO,
    *,
    format: Format | Literal["auto"],
    table: int = 1,
    sheet: str | None = None,
    header: bool | None = None,
    dates: Literal["text", "iso"] = "text",
    shape: Literal["objects", "arrays"] = "objects",
    max_rows: int = 200,
    first_row: int = 1,
) -> dict[str, Any]:
    """The table number *table* of *source* (from 1) as values, *max_rows* of them from the *first_row*.

    Raises Unreadable if there is none.
    """
    grids, others, warnings = _grids(source, format, sheet)
    if not grids:
        raise Unreadable("No table was found.", "Say the format, or send the text of the table alone.")
    if table > len(grids):
        raise Unreadable(f"There are {len(grids)} tables; there is no table {table}.", "Ask for one that there is.")
    grid = grids[table - 1]
    if max(map(len, grid.cells), default=0) > _MAX_COLUMNS or len(grid.cells) > tables.MAX_ROWS:
        what = f"The table has more than {_MAX_COLUMNS} columns or {tables.MAX_ROWS} rows."
        raise Unreadable(what, "Take a part of it.")
    rows = columns.typed(grid.cells, header=header, dates=dates)
    shown, truncated = _shown(rows, first_row, max_rows)
    return {
        "rows": [dict(zip(_names(rows), row, strict=True)) for row in shown] if shape == "objects" else shown,
        "columns": _columns(rows, grid),
        "row_count": rows.row_count,
        "truncated": truncated,
        "table": table,
        "table_count": len(grids),
        "source": {
            "format": grid.format,
            "place": grid.place,
            "range": _range(rows, grid),
            **({"title": rows.title} if rows.title else {}),
            **({"sheets": others} if others else {}),
        },
        "warnings": warnings,
    }


# ---- where they come from


def _grids(
    source: BinaryIO, format: Format | Literal["auto"], sheet: str | None
) -> tuple[list[Grid], list[str], list[str]]:
    """(tables, names of sheets, warnings)."""
    match format:
        case "xlsx":
            found = sheets.sheet(source, sheet)
            hidden = [f"The sheet {found.name!r} is hidden."] if found.hidden else []
            return list(_blocks(found)), sheets.sheets(source), hidden
        case "docx":
            grids = [
                Grid("docx", f"table {number}", piece.rows)
                for number, piece in enumerate((p for p in word.pieces(source) if isinstance(p, word.Table)), 1)
            ]
            return grids[:_MAX_TABLES], [], []
        case "pdf":
            return _of_pdf(source), [], []
    text = decoded(source.read())
    return list(_of_text(text.text, format))[:_MAX_TABLES], [], text.warnings


def _blocks(found: sheets.Sheet) -> Iterator[Grid]:
    """The tables of a sheet: what an empty row keeps apart, if it looks like another one."""
    place = f"sheet {found.name!r}"
    begin = 0
    for at in range(1, len(found.cells) + 1):
        ends = at == len(found.cells) or (not _width(found.cells[at - 1]) and _begins(found.cells, begin, at))
        if ends and any(_width(row) for row in found.cells[begin:at]):
            rows = found.cells[begin:at]
            yield Grid("xlsx", place, rows, found.first_row + begin, found.first_column, found.percent)
            begin = at


def _width(row: Sequence[Cell]) -> int:
    return sum(cell is not None for cell in row)


def _begins(cells: Sequence[Sequence[Cell]], begin: int, at: int) -> bool:
    """Whether another table begins at row *at*, behind an empty one: with a header of names, after rows of values."""
    above = [row for row in cells[begin:at] if _width(row) > 1]
    row = cells[at]
    names = [cell for cell in row if cell is not None]
    following = cells[at + 1] if at + 1 < len(cells) else ()
    if len(above) < 2 or not names or not all(isinstance(cell, str) for cell in names):
        return False
    if len(names) == 1:  # a title above the next one, then
        return _width(following) > 1
    return any(not isinstance(cell, str) and cell is not None for cell in following) and _width(following) > 1


def _of_pdf(source: BinaryIO) -> list[Grid]:
    """Ruled tables; where a PDF has none, what is aligned on its pages."""
    grids: list[Grid] = []
    for page, rows in portable.tables(source, _MAX_PAGES):
        if sum(any(row) for row in rows) < 2 or max(map(len, rows)) < 2:
            continue
        before = grids[-1] if grids else None
        if before is not None and before.place != f"page {page}" and list(before.cells[0]) == rows[0]:
            # The same header on the next page: the same table.
            grids[-1] = before._replace(cells=[*before.cells, *rows[1:]])
        else:
            grids.append(Grid("pdf", f"page {page}", rows))
    if grids:
        return grids[:_MAX_TABLES]
    layouts = portable.layouts(source, _MAX_PAGES)
    return [
        Grid("pdf", f"page {page}", found.rows)
        for page, text in layouts
        for found in tables.find("\n".join(line for line in text.splitlines() if line.strip()))
    ][:_MAX_TABLES]


def _of_text(text: str, format: str) -> Iterator[Grid]:
    if format in ("csv", "tsv"):
        found = tables.delimited(text, "\t" if format == "tsv" else None)
        yield Grid(found.format, "line 1", found.rows)
        return
    if format == "html" or (format in ("auto", "text", "markdown") and _HTML_SIGN in text.lower()):
        for number, rows in enumerate(markup.tables(text), 1):
            yield Grid("html", f"table {number}", rows)
        if format == "html":
            return
    whole = tables.even(text)
    for found in tables.find(text) if whole is None else [whole]:
        yield Grid(found.format, f"line {found.line}", found.rows)


# ---- what is shown


def _shown(rows: Rows, first_row: int, max_rows: int) -> tuple[list[list[Any]], bool]:
    """Rows from *first_row* on, as many as fit, and whether there are more behind them."""
    end = min(rows.row_count, first_row - 1 + max_rows)
    shown: list[list[Any]] = []
    chars = 0
    for at in range(first_row - 1, end):
        row = [column.values[at] for column in rows.columns]
        chars += sum(len(str(value)) for value in row)
        if chars > _MAX_CHARS and shown:
            return shown, True
        shown.append(row)
    return shown, end < rows.row_count


def _names(rows: Rows) -> list[str]:
    return [column.name for column in rows.columns]


def _columns(rows: Rows, grid: Grid) -> list[dict[str, Any]]:
    """What each column is, and what a spreadsheet calls its cells: `SUM(C2:C10)` can be made of it."""
    first = _first_row(rows, grid)
    found = []
    for at, column in enumerate(rows.columns):
        name = columns.letter(grid.first_column + at)
        share = at in grid.percent and column.type == "number"
        entry = {"name": column.name, "type": "percent" if share else column.type, "letter": name}
        if rows.row_count:
            entry["range"] = f"{name}{first}:{name}{_last_row(rows, grid)}"
        found.append({**entry, **({"unit": column.unit} if column.unit else {})})
    return found


def _first_row(rows: Rows, grid: Grid) -> int:
    return grid.first_row + rows.skipped + rows.has_header


def _last_row(rows: Rows, grid: Grid) -> int:
    return grid.first_row + rows.skipped + rows.height - 1


def _range(rows: Rows, grid: Grid) -> str:
    if not rows.columns:
        return ""
    begin, end = columns.letter(grid.first_column), columns.letter(grid.first_column + len(rows.columns) - 1)
    return f"{begin}{grid.first_row + rows.skipped}:{end}{_last_row(rows, grid)}"
