"""Files of an office, built of what a test says: XLSX, DOCX, and PDF with Vietnamese text."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final
from xml.sax.saxutils import escape

_W: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_TYPES: Final = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/></Types>'
)


def xlsx(sheets: Mapping[str, Sequence[Sequence[Any]]]) -> bytes:
    """A workbook; a cell is a value, or {value, format}, or {date}."""
    from openpyxl import Workbook

    book = Workbook()
    for empty in book.worksheets:
        book.remove(empty)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for at, row in enumerate(rows, 1):
            for column, said in enumerate(row, 1):
                cell = sheet.cell(at, column)
                if isinstance(said, dict) and "date" in said:
                    day = said["date"]
                    cell.value = day if isinstance(day, date) else date.fromisoformat(day)
                elif isinstance(said, dict):
                    cell.value, cell.number_format = said["value"], said["format"]
                else:
                    cell.value = said
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def docx(*pieces: str | Sequence[Sequence[str]], document: str | None = None) -> bytes:
    """A document of paragraphs (`# ` begins a heading) and tables; or with this XML for its main part."""
    body = "".join(_paragraph(piece) if isinstance(piece, str) else _table(piece) for piece in pieces)
    return package(
        {
            "[Content_Types].xml": _TYPES,
            "word/document.xml": document or f'<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>',
        }
    )


def package(parts: Mapping[str, str | bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return written.getvalue()


def _paragraph(text: str) -> str:
    style = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>' if text.startswith("# ") else ""
    return f'<w:p>{style}<w:r><w:t xml:space="preserve">{escape(text.removeprefix("# "))}</w:t></w:r></w:p>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = ("".join(f"<w:tc>{_paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


# ---- PDF


def pdf(*pages: Sequence[str] | Sequence[Sequence[str]], ruled: bool = True) -> bytes:
    """A PDF; a page is its lines, or the rows of a table, with lines around the cells if it is *ruled*."""
    contents = [_lines(page) if all(isinstance(each, str) for each in page) else _grid(page, ruled) for page in pages]
    return raw_pdf([content.encode() for content in contents])


def raw_pdf(contents: Sequence[bytes], filters: str = "") -> bytes:
    """A PDF with these streams as the contents of its pages."""
    count = len(contents)
    kids = " ".join(f"{5 + 2 * at} 0 R" for at in range(count))
    objects: list[bytes] = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {count}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type0/BaseFont/Any/Encoding/Identity-H/ToUnicode 4 0 R/DescendantFonts[<</Type/Font"
        b"/Subtype/CIDFontType2/BaseFont/Any/DW 500/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        b"/FontDescriptor<</Type/FontDescriptor/FontName/Any/Flags 4/FontBBox[0 -200 1000 800]/Ascent 800"
        b"/Descent -200/CapHeight 700/ItalicAngle 0/StemV 80>>>>]>>",
        _stream(_to_unicode()),
    ]
    for at, content in enumerate(contents):
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents {6 + 2 * at} 0 R"
            f"/Resources<</Font<</F1 3 0 R>>>>>>".encode()
        )
        objects.append(_stream(content, filters))
    return pdf_of(objects)


def pdf_of(objects: Sequence[bytes]) -> bytes:
    """A PDF of these objects, the first of which is its catalogue."""
    written = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % place for place in places)
    written += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(written)


def _stream(content: bytes, filters: str = "") -> bytes:
    return b"<</Length %d%b>>\nstream\n%b\nendstream" % (len(content), filters.encode(), content)


def _to_unicode() -> bytes:
    """Codes are what they stand for: a map in ranges of 256, as a map has to be."""
    ranges = [f"<{high:02x}00> <{high:02x}ff> <{high:02x}00>" for high in (0, 1, 3, 0x1E, 0x20)]
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def\n"
        "1 begincodespacerange <0000> <ffff> endcodespacerange\n"
        f"{len(ranges)} beginbfrange {' '.join(ranges)} endbfrange\nendcmap end end"
    ).encode()


def _shown(x: float, y: float, text: str, size: int = 10) -> str:
    return f"BT /F1 {size} Tf {x} {y} Td <{text.encode('utf-16-be').hex()}> Tj ET\n"


def _lines(lines: Sequence[Any]) -> str:
    return "".join(_shown(50, 800 - 15 * at, line) for at, line in enumerate(lines) if line)


def _grid(rows: Sequence[Any], ruled: bool) -> str:
    left, top, wide, high = 50, 780, 150, 20
    shown = [
        _shown(left + wide * column + 4, top - high * at - 14, cell)
        for at, row in enumerate(rows)
        for column, cell in enumerate(row)
    ]
    width, height = wide * max(len(row) for row in rows), high * len(rows)
    if ruled:
        shown += [f"{left} {top - high * at} m {left + width} {top - high * at} l S\n" for at in range(len(rows) + 1)]
        shown += [
            f"{left + wide * at} {top} m {left + wide * at} {top - height} l S\n" for at in range(width // wide + 1)
        ]
    return "".join(shown)
