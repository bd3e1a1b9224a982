"""PDF as the text of its pages, through PDFium, and as tables, through pdfplumber, which is an extra and brings it."""

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
    with _fast(source) as pdf:
        for number in range(first, len(pdf) + 1):
            yield number, _text(pdf, number - 1)


def page_count(source: BinaryIO) -> int:
    """Raises Unreadable."""
    with _fast(source) as pdf:
        return len(pdf)


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
def _fast(source: BinaryIO) -> Iterator[Any]:
    """PDFium, which comes with pdfplumber, gives the text of a page sixty times as fast: native code, in its cell."""
    try:
        import pypdfium2  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError as error:
        raise _missing() from error
    _check(source)
    try:
        pdf = pypdfium2.PdfDocument(source)
        _check_pages(len(pdf))
        yield pdf
    except pypdfium2.PdfiumError as error:
        raise _broken(encrypted="password" in str(error).lower()) from error


def _text(pdf: Any, at: int) -> str:
    page = pdf[at]
    said: str = page.get_textpage().get_text_range()
    page.close()
    # A hyphen at the end of a line is told by a character that is none.
    return said.replace("\r\n", "\n").replace("\ufffe", "-").replace("\0", "")


@contextmanager
def _opened(source: BinaryIO) -> "Iterator[PDF]":
    try:
        import pdfplumber
        from pdfminer.pdfdocument import PDFPasswordIncorrect
        from pdfminer.pdfexceptions import PDFException
        from pdfplumber.utils.exceptions import PdfminerException
    except ImportError as error:
        raise _missing() from error
    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)  # of every odd thing in a file it tells the log
    _check(source)
    try:
        with pdfplumber.open(cast(BufferedReader, source)) as pdf:
            _check_pages(len(pdf.pages))
            yield pdf
    except (PdfminerException, PDFException) as error:
        for each in error.args:
            if isinstance(each, MemoryError | RecursionError):
                raise each from error  # what the limits do is no fault of the file
        encrypted = any(isinstance(each, PDFPasswordIncorrect) for each in (error, *error.args))
        raise _broken(encrypted=encrypted) from error


def _check(source: BinaryIO) -> None:
    source.seek(0)
    if b"%PDF-" not in source.read(_HEAD_BYTES):
        raise Unreadable("It is no PDF.", "Name a file that is one, or give it the ending of its kind.")
    source.seek(0)


def _check_pages(count: int) -> None:
    if count > _MAX_PAGES:
        raise Unreadable(f"The PDF has more than {_MAX_PAGES} pages.", "Split it.")


def _missing() -> Unreadable:
    what = "PDF is not read here: pdfplumber is not installed."
    return Unreadable(what, "Install it with: pip install 'bascule[office]'")


def _broken(*, encrypted: bool) -> Unreadable:
    if encrypted:
        return Unreadable("The PDF is encrypted.", "Save it without a password.")
    return Unreadable("The PDF is damaged.", "Save it again with the program it is from.")


def _cell(said: Any) -> str:
    return "" if said is None else " ".join(str(said).split())
