"""A document as parts of text: the pages of a PDF, the sections of anything else. Runs where files are read apart."""

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, Literal, NamedTuple, TypeAlias

from bascule.packs.cell import Unreadable
from bascule.packs.office import markup, portable, word
from bascule.packs.office.encoding import Decoded, decoded

Kind: TypeAlias = Literal["pdf", "docx", "html", "markdown", "text"]

KINDS: Final[dict[str, Kind]] = {
    "pdf": "pdf",
    "docx": "docx",
    "html": "html",
    "htm": "html",
    "md": "markdown",
    "markdown": "markdown",
    "txt": "text",
    "text": "text",
    "log": "text",
    "csv": "text",
    "tsv": "text",
}
MAX_CHARS: Final = 1_000_000  # of one document that are ever looked at
MAX_PAGES: Final = 400  # of a PDF at one time
MAX_SECTIONS: Final = 100_000
PART_CHARS: Final = 8_000  # of one part, but for the pages of a PDF
_SECTION: Final = re.compile(r"#{1,6}[ \t]+(\S.*?)[ \t#]*", re.ASCII)


class Part(NamedTuple):
    title: str  # "page 3", or the heading; "" before the first one
    page: int | None
    line: int  # of the document, at which it begins
    text: str
    joint: str = "\n"  # what stands between it and the next one


class Read(NamedTuple):
    kind: Kind
    parts: list[Part]
    part_count: int  # of all of the document, as far as it was looked at
    truncated: bool
    encoding: str | None
    warnings: list[str]

    @property
    def text(self) -> str:
        """All that was read. Line n of it is line n of the document."""
        return "".join(part.text + part.joint for part in self.parts[:-1]) + "".join(
            part.text for part in self.parts[-1:]
        )


def kind_of(path: str) -> Kind:
    """What *path* is by its ending. Raises Unreadable for what is not read here."""
    ending = path.rpartition(".")[2].lower() if "." in path else ""
    if ending in KINDS:
        return KINDS[ending]
    what = f"Files ending in .{ending} are not read here." if ending else "A file without an ending is not read here."
    raise Unreadable(what, f"There are: {', '.join('.' + each for each in KINDS)}.")


def read(
    source: BinaryIO, kind: Kind, first: int = 1, max_chars: int = MAX_CHARS, max_parts: int = MAX_SECTIONS
) -> Read:
    """The parts of *source* from the *first* on (from 1), up to *max_chars*; the last one may be cut.

    Raises Unreadable for what is no such document, or has no part so far.
    """
    if kind == "pdf":
        count = portable.page_count(source)
        parts = _numbered(portable.pages(source, min(first, count + 1)))
        max_parts, found = min(max_parts, MAX_PAGES), Decoded("", "", [])
    else:
        found = _whole(source, kind)
        sections = [piece for part in _sections(found.text, marked=kind != "text") for piece in _pieces(part)]
        if len(sections) > MAX_SECTIONS:
            raise Unreadable(f"The document has more than {MAX_SECTIONS} sections.", "Split it.")
        count, parts = len(sections), iter(sections[first - 1 :])
    if first > max(count, 1):
        raise Unreadable(f"The document has {count} parts; there is no part {first}.", "Ask for a part that it has.")
    taken, truncated = _within(parts, max_chars, max_parts)
    return Read(kind, taken, count, truncated, found.encoding or None, [*found.warnings, *_pictures(kind, taken)])


def beginning(source: BinaryIO, kind: Kind) -> Read:
    """As much of *source* as is ever looked at; of anything but a PDF in one part. Raises Unreadable."""
    if kind == "pdf":
        return read(source, kind)
    found = _whole(source, kind)
    part = Part("", None, 1, found.text[:MAX_CHARS])
    return Read(kind, [part], 1, len(found.text) > MAX_CHARS, found.encoding or None, found.warnings)


def _whole(source: BinaryIO, kind: Kind) -> Decoded:
    """The text of what has no pages."""
    if kind == "docx":
        return Decoded("\n".join(_marked(source)), "", [])
    found = decoded(source.read())
    return found._replace(text=markup.text(found.text)) if kind == "html" else found


def _pictures(kind: Kind, parts: Iterable[Part]) -> list[str]:
    if kind != "pdf" or any(part.text.strip() for part in parts):
        return []
    return ["No text was found: its pages may be pictures, which are not read here."]


def _within(parts: Iterable[Part], max_chars: int, max_parts: int) -> tuple[list[Part], bool]:
    """As much as fits, and whether that is not all; of a first part that does not fit its beginning."""
    taken: list[Part] = []
    left = max_chars
    for part in parts:
        if len(part.text) > left or len(taken) == max_parts:
            if not taken:
                taken.append(part._replace(text=part.text[:left]))
            return taken, True
        taken.append(part)
        left -= len(part.text)
    return taken, False


def _numbered(pages: Iterable[tuple[int, str]]) -> Iterator[Part]:
    line = 1
    for number, text in pages:
        yield Part(f"page {number}", number, line, text)
        line += text.count("\n") + 1


def _marked(source: BinaryIO) -> Iterator[str]:
    """The lines of a DOCX, headings marked as in Markdown, an empty line between paragraphs, tables by tabs."""
    for piece in word.pieces(source):
        if isinstance(piece, word.Table):
            yield from ("\t".join(" ".join(cell.split()) for cell in row) for row in piece.rows)
        else:
            yield ("#" * min(6, piece.heading) + " " if piece.heading else "") + piece.text
        yield ""


def _pieces(part: Part) -> Iterator[Part]:
    """*part*, or parts of at most PART_CHARS that it is cut into, at the ends of lines where there are any."""
    text, line = part.text, part.line
    while len(text) > PART_CHARS:
        end = text.rfind("\n", 0, PART_CHARS)
        piece, text = (text[:end], text[end + 1 :]) if end > 0 else (text[:PART_CHARS], text[PART_CHARS:])
        yield part._replace(line=line, text=piece, joint="\n" if end > 0 else "")
        line += piece.count("\n") + (end > 0)
    yield part._replace(line=line, text=text)


def _sections(text: str, marked: bool) -> Iterator[Part]:
    """*text* cut before each heading of Markdown, if it is *marked* so."""
    if not marked:
        yield Part("", None, 1, text)
        return
    title, begin, fenced = "", 1, False
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        fenced ^= line.lstrip().startswith("```")
        heading = None if fenced else _SECTION.fullmatch(line[:300].rstrip())
        if heading is not None:
            if any(each.strip() for each in lines) or begin > 1:
                yield Part(title, None, begin, "\n".join(lines))
                lines = []
            # Else empty lines before the first heading belong to it.
            title, begin = heading[1], number - len(lines)
        lines.append(line)
    yield Part(title, None, begin, "\n".join(lines))
