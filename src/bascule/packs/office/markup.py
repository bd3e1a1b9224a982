"""HTML as text and as tables: what a person would read of it. Nothing is loaded, run or followed."""

from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Final

from bascule.packs.cell import Unreadable

MAX_DEPTH: Final = 512
_MAX_CELLS: Final = 500_000
_MAX_SPAN: Final = 200

_UNSEEN: Final = frozenset({"script", "style", "template", "noscript", "svg", "math", "head", "iframe", "object"})
_BLOCK_TAGS: Final = """
p div section article header footer main aside nav ul ol li table tr h1 h2 h3 h4 h5 h6 blockquote pre br hr figure
figcaption dl dt dd form fieldset address title
"""
_PARAGRAPH_TAGS: Final = "p h1 h2 h3 h4 h5 h6 ul ol table blockquote section article div title"
_VOID_TAGS: Final = "area base br col embed hr img input link meta param source track wbr"
_BLOCKS: Final = frozenset(_BLOCK_TAGS.split())
_PARAGRAPHS: Final = frozenset(_PARAGRAPH_TAGS.split())
_ALONE: Final = frozenset(_VOID_TAGS.split())


def text(markup: str) -> str:
    """What is shown of *markup*, a line for each block, headings marked as in Markdown."""
    page = _Page()
    page.feed(markup)
    page.close()
    return page.shown()


def tables(markup: str) -> list[list[list[str]]]:
    """The tables of *markup* as rows of cells; a cell that spans others is repeated in them."""
    page = _Page()
    page.feed(markup)
    page.close()
    return [_grid(table) for table in page.tables if table]


class _Cell:
    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.pieces: list[str] = []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[_Cell]]] = []
        self._lines: list[str] = [""]
        self._unseen = ""  # the element in which nothing is shown, and how often it is open
        self._unseen_depth = 0
        self._depth = 0
        self._open: list[list[list[_Cell]]] = []  # tables, the innermost last
        self._cell: list[_Cell | None] = []
        self._cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            self._unseen_depth += tag == self._unseen
            return
        if tag in _UNSEEN:
            self._unseen, self._unseen_depth = tag, 1
            return
        self._deeper(tag)
        if tag in _BLOCKS:
            self._break(tag in _PARAGRAPHS)
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self._lines[-1] = "#" * int(tag[1]) + " "
        elif tag == "li":
            self._lines[-1] = "- "
        elif tag == "table":
            self._open.append([])
            self._cell.append(None)
            self.tables.append(self._open[-1])
        elif tag == "tr" and self._open:
            self._open[-1].append([])
            self._cell[-1] = None
        elif tag in ("td", "th") and self._open:
            self._begin_cell(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            self._unseen_depth -= tag == self._unseen
            if not self._unseen_depth:
                self._unseen = ""
            return
        if tag not in _ALONE:
            self._depth = max(0, self._depth - 1)
        if tag in _BLOCKS:
            self._break(tag in _PARAGRAPHS)
        if tag == "table" and self._open:
            self._open.pop()
            self._cell.pop()
        elif tag in ("td", "th") and self._cell:
            self._cell[-1] = None
            self._lines[-1] += "\t"

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._cell and (cell := self._cell[-1]) is not None:
            cell.pieces.append(data)
        piece = " ".join(data.split())
        if piece:
            before = " " if data[0].isspace() and not self._lines[-1].endswith(("\t", " ")) and self._lines[-1] else ""
            self._lines[-1] += before + piece + (" " if data[-1].isspace() else "")
        elif data and self._lines[-1] and not self._lines[-1].endswith(" "):
            self._lines[-1] += " "

    def shown(self) -> str:
        lines = [line.rstrip() for line in self._lines]
        return "\n".join(line for line, before in zip(lines, ["", *lines], strict=False) if line or before).strip()

    def _deeper(self, tag: str) -> None:
        if tag not in _ALONE:
            self._depth += 1
        if len(self._open) > MAX_DEPTH:
            raise Unreadable("The HTML is nested too deep.", "Send a simpler page.")

    def _break(self, paragraph: bool) -> None:
        if self._lines[-1].strip():
            self._lines.append("")
        if paragraph and self._lines[-1] == "" and len(self._lines) > 1 and self._lines[-2]:
            self._lines.append("")

    def _begin_cell(self, attributes: dict[str, str | None]) -> None:
        self._cells += 1
        if self._cells > _MAX_CELLS:
            raise Unreadable(f"The HTML has more than {_MAX_CELLS} cells.", "Send a part of it.")
        if not self._open[-1]:
            self._open[-1].append([])
        cell = _Cell(_span(attributes.get("colspan")), _span(attributes.get("rowspan")))
        self._open[-1][-1].append(cell)
        self._cell[-1] = cell


def _span(said: str | None) -> int:
    return min(_MAX_SPAN, max(1, int(said))) if said and said.isascii() and said.isdigit() and len(said) < 6 else 1


def _grid(rows: Sequence[Sequence[_Cell]]) -> list[list[str]]:
    """Rows with every cell at each place that it spans."""
    grid: list[dict[int, str]] = [{} for _ in rows]
    written = 0
    for at, row in enumerate(rows):
        column = 0
        for cell in row:
            while column in grid[at]:
                column += 1
            words = " ".join("".join(cell.pieces).split())
            for down in range(at, min(len(rows), at + cell.rows)):
                for across in range(column, column + cell.columns):
                    grid[down][across] = words
                    written += 1
            if written > _MAX_CELLS:
                raise Unreadable(f"A table of the HTML spans more than {_MAX_CELLS} cells.", "Send a part of it.")
            column += cell.columns
    return [[places.get(column, "") for column in range(max(places, default=-1) + 1)] for places in grid]
