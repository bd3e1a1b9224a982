"""What of a file's content is shown, and where a text stands in it. PURE."""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Final

import msgspec

from bascule.packs.pack import ToolFailed
from bascule.packs.paths import shown

LINE_SHOWN: Final = 200  # characters of a line that a text stands in
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")


class Part(msgspec.Struct, frozen=True):
    """Some lines of a text, as they are."""

    text: str
    lines: int
    lines_of_all: int


def decoded(path: str, content: bytes, encoding: str) -> str:
    """*content* as text; a byte order mark is none of it. Raises ToolFailed for what is no text."""
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    # A file that says itself what it is, is believed: programs on Windows write so.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        what = f"{shown(path)} is not text in {encoding}: {error.reason} at byte {error.start}."
        raise ToolFailed(what, "Name another encoding, or ask for it as base64.") from error
    if "\0" in text:
        raise ToolFailed(f"{shown(path)} is not text.", "Ask for it as base64.")
    return text


def lines_of(text: str) -> list[str]:
    r"""The lines with their ends, which are \n, \r\n or \r: what editors count, not all that Unicode calls one."""
    return _LINE.findall(text)


def part_of(path: str, text: str, first: int, count: int, max_bytes: int) -> Part:
    """At most *count* lines of *text* from the line *first* on (1 is the first), whole ones, as far as *max_bytes* go.

    Raises ToolFailed if there is no such line, or it is larger than that itself.
    """
    lines = lines_of(text)
    if first > max(len(lines), 1):
        raise ToolFailed(f"{shown(path)} has {len(lines)} lines, and no line {first}.", "Begin at an earlier line.")
    wanted = lines[first - 1 : first - 1 + count]
    sizes = accumulate(len(line.encode()) for line in wanted)
    fitting = sum(size <= max_bytes for size in sizes)
    if wanted and not fitting:
        raise ToolFailed(f"Line {first} of {shown(path)} is longer than {max_bytes} bytes.", "Ask for another line.")
    return Part("".join(wanted[:fitting]), fitting, len(lines))


def folded(text: str) -> str:
    """The same for texts that differ in case or in Unicode's form only."""
    return unicodedata.normalize("NFC", text).casefold()


def is_named(path: str, pattern: str) -> bool:
    """Whether *pattern*, with `*`, `?` and `[…]`, is the name of *path*; all of the path if it has a slash.

    >>> is_named("reports/Q1.md", "*.MD"), is_named("reports/q1.md", "reports/*"), is_named("a/q1.md", "reports/*")
    (True, True, False)
    """
    whole = path if "/" in pattern else path.rpartition("/")[2]
    return fnmatchcase(folded(whole), folded(pattern))


def found_in(content: bytes, text: str) -> Iterator[tuple[int, str]]:
    """(number, beginning) of each line that *text*, which is folded, stands in; none where *content* is no text."""
    try:
        whole = decoded("", content, "utf-8")
    except ToolFailed:
        return
    if text not in folded(whole):
        return
    for number, line in enumerate(lines_of(whole), 1):
        if text in folded(line):
            yield number, line.strip()[:LINE_SHOWN]
