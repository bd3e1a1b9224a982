"""DOCX as paragraphs and tables, in the order of the document, read as a stream. The standard library is enough.

What is deleted in tracked changes is left out, what is inserted is in. Source: ECMA-376 part 1, WordprocessingML.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple, TypeAlias
from xml.etree import ElementTree

from bascule.packs.cell import Unreadable
from bascule.packs.office import package

MAX_PARAGRAPHS: Final = 100_000
_NAMESPACES: Final = (
    "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}",
    "{http://purl.oclc.org/ooxml/wordprocessingml/main}",
)
_SPACES: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Not what a reader of the page sees: deleted text, the code of fields, a fallback beside what it is for.
_UNSEEN: Final = frozenset({"del", "moveFrom", "instrText", "Fallback", "pPrChange", "rPrChange", "txbxContent"})


class Paragraph(NamedTuple):
    text: str
    heading: int  # 1 to 9; 0: it is none


class Table(NamedTuple):
    rows: list[list[str]]


Piece: TypeAlias = Paragraph | Table


def pieces(source: BinaryIO) -> Iterator[Piece]:
    """What stands in the DOCX *source*. Raises Unreadable."""
    with package.opened(source, "word/document.xml", "DOCX") as found, found.open("word/document.xml") as part:
        try:
            yield from _Body().read(ElementTree.iterparse(part, ("start", "end")))
        except ElementTree.ParseError as error:
            raise Unreadable("The DOCX is damaged.", "Save it again with the program it is from.") from error


class _Body:
    """Where in the document the stream is."""

    def __init__(self) -> None:
        self._seen = 0
        self._unseen = 0  # how deep in what is not shown
        self._tables: list[Table] = []  # open ones, the innermost last
        self._cell: list[list[str]] = []  # paragraphs of each table's open cell
        self._texts: list[list[str]] = []  # of each open paragraph
        self._heading = 0

    def read(self, events: Iterator[tuple[str, ElementTree.Element]]) -> Iterator[Piece]:
        path: list[ElementTree.Element] = []
        for event, element in events:
            name = _name(element)
            if event == "start":
                path.append(element)
                self._start(name, element)
                continue
            path.pop()
            yield from self._end(name, element)
            element.clear()
            if path and name in ("p", "tr", "tbl", "r"):
                path[-1].remove(element)  # what has been read is not kept

    def _start(self, name: str, element: ElementTree.Element) -> None:
        if name in _UNSEEN:
            self._unseen += 1
        elif name == "p":
            self._texts.append([])
            self._heading = 0
        elif name == "tbl":
            self._tables.append(Table([]))
            self._cell.append([])
        elif name == "tr" and self._tables:
            self._tables[-1].rows.append([])
        elif name == "tc" and self._cell:
            self._cell[-1] = []

    def _end(self, name: str, element: ElementTree.Element) -> Iterator[Piece]:
        if name in _UNSEEN:
            self._unseen -= 1
        elif name == "pStyle":
            self._heading = _level(element)
        elif name == "t" and self._texts and not self._unseen:
            self._texts[-1].append(element.text or "")
        elif name in _SPACES and self._texts and not self._unseen:
            self._texts[-1].append(_SPACES[name])
        elif name == "p" and self._texts:
            yield from self._paragraph("".join(self._texts.pop()))
        elif name == "tc" and self._tables and self._tables[-1].rows:
            self._tables[-1].rows[-1].append("\n".join(self._cell[-1]).strip())
        elif name == "tbl" and self._tables:
            yield from self._table()

    def _paragraph(self, text: str) -> Iterator[Piece]:
        self._seen += 1
        if self._seen > MAX_PARAGRAPHS:
            raise Unreadable(f"The DOCX has more than {MAX_PARAGRAPHS} paragraphs.", "Split it.")
        if self._cell:
            self._cell[-1].append(text)
        elif text.strip():
            yield Paragraph(text, self._heading)

    def _table(self) -> Iterator[Piece]:
        table = self._tables.pop()
        self._cell.pop()
        if self._cell:  # a table in a cell is text of it
            self._cell[-1].extend("\t".join(row) for row in table.rows)
        elif table.rows:
            yield table


def _name(element: ElementTree.Element) -> str:
    """The name of an element of WordprocessingML; of another one with its namespace, but for what is unseen."""
    for namespace in _NAMESPACES:
        if element.tag.startswith(namespace):
            return element.tag[len(namespace) :]
    local = element.tag.rpartition("}")[2]
    return local if local in _UNSEEN else element.tag


def _level(style: ElementTree.Element) -> int:
    """Of `Heading2` or `Title`: 2, or 1; 0 for a style that is no heading's."""
    value = next((value for name, value in style.attrib.items() if name.endswith("}val")), "")
    lower = value.lower().replace(" ", "")
    if lower == "title":
        return 1
    for prefix in ("heading", "tiêuđề", "u"):
        if lower.startswith(prefix) and lower[len(prefix) :].isdigit():
            return max(1, min(9, int(lower[len(prefix) :][:2])))
    return 0
