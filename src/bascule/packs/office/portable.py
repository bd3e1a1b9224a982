"""PDF as the text of its pages and as tables, through pdfplumber, which is an extra."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from bascule.packs.cell import Unreadable

if TYPE_CHECKING:
    from pdfplumber.pdf import PDF

_HEAD_BYTES: Final = 1024  # within which a PDF says that it is one
_LINES: Final = {"vertical_strategy": "lines", "horizontal_strategy": "lines"}
_MAX_PAGES: Final = 5_000


def pages(source: BinaryIO, first: int) -> Iterator[tuple[int, str]]:
    """(number, text) of the pages from *first* on. Raises Unreadable."""
    with _opened(source) as pdf:
        for number, page in enumerate(pdf.pages[first - 1 :], first):
            yield number, page.extract_text() or ""
            page.close()


def page_count(source: BinaryIO) -> int:
    """Raises Unreadable."""
    with _opened(source) as pdf:
        return len(pdf.pages)


def tables(source: BinaryIO, max_pages: int) -> Iterator[tuple[int, list[list[str]]]]:
    """(page, rows of cells) of each table with ruled lines on the first *max_pages*. Raises Unreadable."""
    with _opened(source) as pdf:
        for number, page in enumerate(pdf.pages[:max_pages], 1):
            for rows in page.extract_tables(_LINES):
                yield number, [[_cell(cell) for cell in row] for row in rows]
            page.close()


def layouts(source: BinaryIO, max_pages: int) -> Iterator[tuple[int, str]]:
    """(page, text) with columns as far apart as on the page, of the first *max_pages*. Raises Unreadable."""
    with _opened(source) as pdf:
        for number, page in enumerate(pdf.pages[:max_pages], 1):
            yield number, page.extract_text(layout=True) or ""
            page.close()


@contextmanager
def _opened(source: BinaryIO) -> "Iterator[PDF]":
    try:
        import pdfplumber
        from pdfminer.pdfdocument import PDFPasswordIncorrect
        from pdfminer.pdfexceptions import PDFException
        from pdfplumber.utils.exceptions import PdfminerException
    except ImportError as error:
        what = "PDF is not read here: pdfplumber is not installed."
        raise Unreadable(what, "Install it with: pip install 'bascule[office]'") from error
    logging.disable(logging.CRITICAL)  # of every odd thing in a file it tells the log
    source.seek(0)
    if b"%PDF-" not in source.read(_HEAD_BYTES):
        raise Unreadable("It is no PDF.", "Name a file that is one, or give it the ending of its kind.")
    source.seek(0)
    try:
        with pdfplumber.open(cast(BufferedReader, source)) as pdf:
            if len(pdf.pages) > _MAX_PAGES:
                raise Unreadable(f"The PDF has more than {_MAX_PAGES} pages.", "Split it.")
            yield pdf
    except (PdfminerException, PDFException) as error:
        for each in error.args:
            if isinstance(each, MemoryError | RecursionError):
                raise each from error  # what the limits do is no fault of the file
        if any(isinstance(each, PDFPasswordIncorrect) for each in (error, *error.args)):
            raise Unreadable("The PDF is encrypted.", "Save it without a password.") from error
        raise Unreadable("The PDF is damaged.", "Save it again with the program it is from.") from error


def _cell(said: Any) -> str:
    return "" if said is None else " ".join(str(said).split())
