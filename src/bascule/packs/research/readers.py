"""What reads a document that came from the web, in a child that may be killed (packs/apart.py).

Each takes the open file and gives its title, a piece of its text, and how long the whole text is.
"""

import codecs
import re
from io import BufferedReader
from typing import IO, Final, TypedDict

from bascule.packs.cell import Unreadable
from bascule.packs.research import pages

MAX_PDF_PAGES: Final = 200
_DECLARED: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Encodings of pages. Python knows others by name, of which some compute for long or mean something else.
_ENCODINGS: Final = frozenset(
    (
        *("utf-8", "ascii", "iso8859-1", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15"),
        *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1256", "cp1257", "cp1258", "koi8-r", "koi8-u"),
        *("shift_jis", "euc_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5", "tis-620", "utf-16-le", "utf-16-be"),
    )
)


class Piece(TypedDict):
    title: str
    text: str
    total_chars: int


def html(file: IO[bytes], *, charset: str, offset: int, max_chars: int) -> Piece:
    """A page as a reader would see it."""
    content = file.read()
    declared = _DECLARED.search(content[:2048])
    title, text = pages.page(_decoded(content, charset or (declared[1].decode() if declared else "")))
    return _piece(title, text, offset, max_chars)


def text(file: IO[bytes], *, charset: str, offset: int, max_chars: int) -> Piece:
    """Plain text, JSON, CSV, Markdown: as it is, without what nobody sees."""
    return _piece("", pages.plain(_decoded(file.read(), charset)).strip(), offset, max_chars)


def pdf(file: BufferedReader, *, charset: str, offset: int, max_chars: int) -> Piece:
    """The text layer of a PDF. Raises Unreadable."""
    del charset
    try:
        import pdfplumber
        from pdfminer.pdfexceptions import PDFException
        from pdfminer.psexceptions import PSException
        from pdfplumber.utils.exceptions import PdfminerException
    except ImportError as error:
        raise Unreadable(
            "PDF is not read here: pdfplumber is not installed.", "Install it with: pip install 'bascule[office]'"
        ) from error
    found: list[str] = []
    try:
        with pdfplumber.open(file) as document:
            for page in document.pages[:MAX_PDF_PAGES]:
                found.append(page.extract_text() or "")
                page.close()
            title = (document.metadata or {}).get("Title", "")
    # The last ones are what pdfminer lets through where a file lies about its own structure.
    except (PdfminerException, PDFException, PSException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable("The PDF cannot be read.", "It is damaged or protected: look for another copy.") from error
    whole = pages.tidy("\n\n".join(found))
    if not whole:
        raise Unreadable("The PDF has no text, only pictures of it.", "Look for a copy with a text layer.")
    return _piece(pages.plain(str(title))[:300], whole, offset, max_chars)


def _piece(title: str, text: str, offset: int, max_chars: int) -> Piece:
    return {"title": title, "text": text[offset : offset + max_chars], "total_chars": len(text)}


def _decoded(content: bytes, charset: str) -> str:
    """As its first bytes, who sent it, or the page itself say; UTF-8 else. What does not fit is replaced."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    try:
        encoding = codecs.lookup(charset).name
    except (LookupError, ValueError):
        encoding = "utf-8"
    return content.decode(encoding if encoding in _ENCODINGS else "utf-8", "replace")
