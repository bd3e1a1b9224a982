"""Where the tables of a text are: CSV, Markdown, drawn and aligned ones. Pure: text in, rows of cells out.

The work grows with the length of the text, whatever is in it.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from bascule.packs.cell import Unreadable

MAX_ROWS: Final = 100_000
MAX_COLUMNS: Final = 1_000
DELIMITERS: Final = (",", ";", "\t", "|")
_SNIFFED_ROWS: Final = 60
_FIELD_CHARS: Final = 131_072
_LONGEST_LINE: Final = 4_000_000  # of a CSV
_MAX_LINE_CHARS: Final = 20_000

_PIPE_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_GRID_RULE: Final = re.compile(r"[ \t]*[+├┌└╔╚╠|][-=─═+┬┼┴┤┐┘╦╬╩╣╗╝:]+[ \t]*")
_BARS: Final = str.maketrans("│║┃", "|||")
_GAP: Final = re.compile(r" {2,}|\t+")
_DASHES: Final = re.compile(r"[ \t]*[-=]{2,}(?:[ \t]+[-=]{2,})*[ \t]*")


class Found(NamedTuple):
    format: str
    line: int  # of the text, at which it begins
    rows: list[list[str]]


def find(text: str) -> list[Found]:
    """The tables of *text* in its order, each by the first way of writing that it fits. Raises Unreadable."""
    lines = text.splitlines()
    taken = [len(line) > _MAX_LINE_CHARS for line in lines]
    found: list[Found] = []
    for ways in (_drawn, _piped, _tabbed, _separated, _aligned):
        for begin, end, table in ways(lines, taken):
            found.append(table)
            taken[begin:end] = [True] * (end - begin)
    return sorted(found, key=lambda table: table.line)


# ---- CSV


def delimited(text: str, delimiter: str | None = None) -> Found:
    """All of *text* as one CSV, its delimiter found if it is not said. Raises Unreadable."""
    delimiter = delimiter or sniffed(text)
    rows = []
    for row in _records(text, delimiter):
        rows.append(row)
        if len(row) > MAX_COLUMNS:
            raise Unreadable(f"A row has more than {MAX_COLUMNS} columns.", "Say its delimiter, or take a part of it.")
        if len(rows) > MAX_ROWS:
            raise Unreadable(f"The table has more than {MAX_ROWS} rows.", "Take a part of it.")
    return Found("tsv" if delimiter == "\t" else "csv", 1, rows)


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(_FIELD_CHARS)
    lines = text.splitlines(keepends=True)
    if max(map(len, lines), default=0) > _LONGEST_LINE:
        what = f"It is no table: a line of it is longer than {_LONGEST_LINE} characters."
        raise Unreadable(what, "Repair the file, or take a part of it.")
    try:
        yield from csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    except csv.Error as error:
        what = f"It is no table: a field of it is longer than {_FIELD_CHARS} characters, or a quote is not closed."
        raise Unreadable(what, "Say its delimiter, or repair the file.") from error


def sniffed(text: str) -> str:
    """The delimiter that cuts the first rows most evenly into most columns; a comma if none does."""
    head = _head(text)
    best, best_score = ",", 0.0
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in _records(head, delimiter) if any(cell.strip() for cell in row)]
        except Unreadable:
            continue
        wide = [width for width in widths if width > 1]
        if not wide:
            continue
        width, times = Counter(wide).most_common(1)[0]
        score = times / len(widths) + min(width, 20) / 1000
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _head(text: str) -> str:
    end = 0
    for _ in range(_SNIFFED_ROWS):
        following = text.find("\n", end)
        if following < 0:
            return text[: _SNIFFED_ROWS * _FIELD_CHARS]
        end = following + 1
    return text[:end]


def even(text: str) -> Found | None:
    """All of *text* as one CSV, if every row of it has as many cells; None if not."""
    delimiter = sniffed(text)
    if delimiter == "|":
        return None
    try:
        found = delimited(text, delimiter)
    except Unreadable:
        return None
    rows = [row for row in found.rows if any(cell.strip() for cell in row)]
    is_even = len(rows) > 1 and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)
    return found if is_even and _is_table(rows, delimiter) else None


# ---- tables within a text: each way yields (first line, line behind it, table) of lines that nobody has taken

Ways = Iterator[tuple[int, int, Found]]


def _runs(lines: Sequence[str], taken: Sequence[bool], fits: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """(begin, end) of lines one below the other that all fit."""
    begin: int | None = None
    for at, line in enumerate(lines):
        if not taken[at] and fits(line):
            begin = at if begin is None else begin
        elif begin is not None:
            yield begin, at
            begin = None
    if begin is not None:
        yield begin, len(lines)


def _drawn(lines: Sequence[str], taken: Sequence[bool]) -> Ways:
    """Tables with lines of dashes and corners around their rows."""
    for begin, end in _runs(
        lines, taken, lambda line: line.translate(_BARS).strip()[:1] in "|+├┌└╔╚╠" and bool(line.strip())
    ):
        rules = [
            bool(_GRID_RULE.fullmatch(lines[at])) and "|" not in lines[at].strip()[1:-1] for at in range(begin, end)
        ]
        if sum(rules) < 2:
            continue
        rows = _merged([None if rule else _barred(line) for rule, line in zip(rules, lines[begin:end], strict=True)])
        if rows:
            yield begin, end, Found("grid", begin + 1, rows)


def _merged(said: Sequence[list[str] | None]) -> list[list[str]]:
    """The lines between two rules as one row each, if there is a rule between all rows; else a row for each line."""
    groups: list[list[list[str]]] = [[]]
    for line in said:
        if line is None:
            groups.append([])
        else:
            groups[-1].append(line)
    filled = [group for group in groups if group]
    if len(filled) <= 2:  # a header and a body
        return [row for group in filled for row in group]
    return [[" ".join(filter(None, parts)).strip() for parts in zip(*_even(group), strict=True)] for group in filled]


def _even(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    width = max(len(row) for row in rows)
    return [[*row, *[""] * (width - len(row))] for row in rows]


def _piped(lines: Sequence[str], taken: Sequence[bool]) -> Ways:
    """Tables of Markdown: a row, a rule, and what follows with bars in it."""
    at = 1
    while at < len(lines):
        rule = lines[at]
        if taken[at] or taken[at - 1] or "|" not in lines[at - 1] or "-" not in rule or not _PIPE_RULE.fullmatch(rule):
            at += 1
            continue
        end = at + 1
        while end < len(lines) and "|" in lines[end] and not taken[end]:
            end += 1
        header = _barred(lines[at - 1])
        rows = [header, *(_barred(line)[: len(header)] for line in lines[at + 1 : end])]
        if len(header) == len(_barred(rule)):
            yield at - 1, end, Found("markdown", at, rows)
        at = end + 1


def _barred(line: str) -> list[str]:
    """The cells between bars; a bar behind a backslash, or within backticks, is none."""
    inner = line.translate(_BARS).strip()
    inner = inner.removeprefix("|")
    cells, cell, quoted, escaped = [], "", False, False
    for character in inner:
        if character == "|" and not escaped and not quoted:
            cells.append(cell.strip())
            cell = ""
            continue
        if character == "|" and escaped:
            cell = cell[:-1]
        quoted ^= character == "`"
        escaped = character == "\\" and not escaped
        cell += character
    if cell.strip() or not inner.endswith("|"):
        cells.append(cell.strip())
    return [_unmarked(each) for each in cells]


def _unmarked(cell: str) -> str:
    """Without the marks of bold and code around all of it."""
    for mark in ("**", "__", "`"):
        if len(cell) > 2 * len(mark) and cell.startswith(mark) and cell.endswith(mark) and mark not in cell[2:-2]:
            return cell[len(mark) : -len(mark)]
    return cell


def _tabbed(lines: Sequence[str], taken: Sequence[bool]) -> Ways:
    yield from _by(lines, taken, ("\t",))


def _separated(lines: Sequence[str], taken: Sequence[bool]) -> Ways:
    yield from _by(lines, taken, (";", "|", ","))


def _by(lines: Sequence[str], taken: Sequence[bool], delimiters: Sequence[str]) -> Ways:
    """Lines that one delimiter cuts into the same number of cells each."""
    for delimiter in delimiters:
        for begin, end in _runs(lines, taken, _holding(delimiter)):
            for start, stop, rows in _even_runs(lines, begin, end, delimiter):
                if _is_table(rows, delimiter):
                    yield start, stop, Found("tsv" if delimiter == "\t" else "csv", start + 1, rows)


def _holding(delimiter: str) -> Callable[[str], bool]:
    return lambda line: delimiter in line


def _even_runs(
    lines: Sequence[str], begin: int, end: int, delimiter: str
) -> Iterator[tuple[int, int, list[list[str]]]]:
    """(begin, end, rows) of neighbours with equally many cells, at least two lines of two."""
    rows = [next(iter(_records(line, delimiter)), []) for line in lines[begin:end]]
    start = 0
    for at in range(1, len(rows) + 1):
        if at < len(rows) and len(rows[at]) == len(rows[start]):
            continue
        if at - start >= 2 and len(rows[start]) >= 2:
            yield begin + start, begin + at, [[cell.strip() for cell in row] for row in rows[start:at]]
        start = at


def _is_table(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether it is one, and no prose with as many commas in each of its lines."""
    if delimiter != ",":
        return True
    cells = [cell for row in rows for cell in row]
    return max(map(len, cells)) <= 80 and sum(len(cell.split()) <= 4 for cell in cells) >= 0.8 * len(cells)


def _aligned(lines: Sequence[str], taken: Sequence[bool]) -> Ways:
    """Columns kept apart by spaces that stand below each other."""
    for begin, end in _runs(
        lines, taken, lambda line: bool(_GAP.search(line.strip())) or bool(_DASHES.fullmatch(line))
    ):
        kept = [line.expandtabs() for line in lines[begin:end] if not _DASHES.fullmatch(line)]
        if len(kept) < 2:
            continue
        rows = [_GAP.split(line.strip()) for line in kept]
        if len({len(row) for row in rows}) > 1:  # a cell is empty somewhere: where columns stand must tell
            cuts = _cuts(kept)
            rows = [_cut(line, cuts) for line in kept]
        filled = sum(sum(bool(cell) for cell in row) >= 2 for row in rows)
        if filled >= 2 and filled >= 0.7 * len(rows):
            yield begin, end, Found("aligned", begin + 1, rows)


def _cuts(lines: Sequence[str]) -> list[int]:
    """Where a column ends: the last place of each strip of two spaces or more that goes through all lines."""
    width = max(len(line) for line in lines)
    used = bytearray(width)
    for line in lines:
        for at, character in enumerate(line):
            if character != " ":
                used[at] = 1
    cuts, run = [], 0
    seen = False
    for at in range(width):
        if used[at]:
            if seen and run >= 2:
                cuts.append(at)
            seen, run = True, 0
        else:
            run += 1
    return cuts


def _cut(line: str, cuts: Sequence[int]) -> list[str]:
    edges = [0, *cuts, max(len(line), cuts[-1] if cuts else 0)]
    return [line[begin:end].strip() for begin, end in pairwise(edges)]
