"""What is done with a document where it is read apart: the functions that apart.run may name, and nothing else.

Each takes the open file and says what it found as JSON can. They raise Unreadable.
"""

import json
from typing import Any, BinaryIO, Final

from bascule.packs.cell import Unreadable
from bascule.packs.office import comparing, extraction, figures, reading, searching
from bascule.packs.office.reading import Kind, Part, Read
from bascule.packs.office.sentences import language, sentences, words
from bascule.packs.office.summary import MAX_SENTENCES, picked

MAX_PARTS: Final = 1_000  # of one answer

READERS: Final = frozenset(
    f"{__name__}:{name}" for name in ("extract", "summary", "compare", "count", "figure", "table")
)


def extract(source: BinaryIO, *, kind: Kind, first: int, max_chars: int) -> dict[str, Any]:
    """The parts of a document from the *first* on."""
    read = reading.read(source, kind, first, max_chars, MAX_PARTS)
    following = first + len(read.parts)
    cut = read.truncated and following > read.part_count
    return {
        "kind": read.kind,
        "parts": [
            {"number": number, "title": part.title, "page": part.page, "text": part.text}
            for number, part in enumerate(read.parts, first)
        ],
        "part_count": read.part_count,
        "next_part": following if following <= read.part_count else None,
        "truncated": read.truncated,
        "encoding": read.encoding,
        "warnings": [*read.warnings, *(["The last part is cut: ask for more characters."] if cut else [])],
    }


def summary(source: BinaryIO, *, kind: Kind, max_points: int) -> dict[str, Any]:
    """The sentences that say most, and where they stand."""
    read = reading.beginning(source, kind)
    text = read.text
    found = sentences(text, MAX_SENTENCES + 1)
    points = picked(found[:MAX_SENTENCES], max_points)
    if not points:
        raise Unreadable("There is nothing to summarise: no sentence was found.", "Send a text with sentences.")
    said = [point.sentence.text for point in points]
    return {
        "summary_points": said,
        "places": [
            {"line": point.sentence.line, "sentence": point.number, **_page(read, point.sentence.line)}
            for point in points
        ],
        "language": language(text),
        "word_count": len(words(text)),
        "summary_word_count": sum(len(words(each)) for each in said),
        "truncated": read.truncated or len(found) > MAX_SENTENCES,
        "warnings": read.warnings,
    }


def compare(source: BinaryIO, *, max_hunks: int) -> dict[str, Any]:
    """Two texts, which come as a list in JSON."""
    first, second = json.load(source)
    return comparing.compare(first, second, max_hunks)


def count(source: BinaryIO, *, kind: Kind, terms: list[str]) -> dict[str, Any]:
    """How often a document has the terms of a question, and its best passage."""
    read = reading.beginning(source, kind)
    found = searching.counted(read.text, terms)
    return {**found, **_page(read, found["line"])}


def figure(source: BinaryIO, *, kind: Kind, names: list[str]) -> dict[str, Any]:
    """Named figures."""
    read = reading.beginning(source, kind)
    lines = [
        figures.Line(number, part.page, line)
        for part in read.parts
        for number, line in enumerate(part.text.split("\n"), part.line)
    ]
    found = figures.extract(lines, names, language(read.text))
    return {**found, "truncated": read.truncated, "warnings": read.warnings}


def table(source: BinaryIO, **wanted: Any) -> dict[str, Any]:
    """One table."""
    return extraction.table(source, **wanted)


def _page(read: Read, line: int) -> dict[str, int]:
    """The page that a line is on, in a document with pages."""
    part: Part | None = next((part for part in reversed(read.parts) if part.line <= line), None)
    return {} if part is None or part.page is None else {"page": part.page}
