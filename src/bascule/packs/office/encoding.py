"""Bytes to text: what the encoding is, and how sure that is. Pure, but for a library that guesses when it is there."""

import codecs
import re
import unicodedata
from itertools import pairwise
from typing import Final, NamedTuple

from bascule.packs.cell import Unreadable

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,4}=\s{0,4}["']?([A-Za-z0-9_-]{2,20})""", re.IGNORECASE)
_TRUSTED: Final = frozenset({"utf-8", "cp1258", "cp1252", "iso8859-1", "ascii", "utf-16"})
_SAMPLE_BYTES: Final = 65_536
_VIETNAMESE: Final = re.compile(r"[ăđơưĂĐƠƯ]")
_TONES: Final = frozenset("\u0300\u0301\u0303\u0309\u0323")  # which cp1258 writes behind their letter


class Decoded(NamedTuple):
    text: str
    encoding: str
    warnings: list[str]


def decoded(content: bytes) -> Decoded:
    """*content* as text. Raises Unreadable for what is no text."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return Decoded(content.decode(encoding, "replace"), encoding.removesuffix("-sig"), [])
    if b"\0" in content[:_SAMPLE_BYTES]:
        raise Unreadable("It is no text: it has zero bytes.", "Name a text file, or one with the ending of its kind.")
    try:
        return Decoded(content.decode("utf-8"), "utf-8", [])
    except UnicodeDecodeError:
        encoding = _declared(content) or _guessed(content)
    text = content.decode(encoding, "replace")
    if encoding == "cp1258":
        text = unicodedata.normalize("NFC", text)  # its tones stand behind the letters
    return Decoded(text, encoding, [f"The text is not UTF-8; it was read as {encoding}, which is a guess."])


def _declared(content: bytes) -> str | None:
    """What a page of HTML says of itself, if it is one that can be."""
    match = _DECLARED.search(content[:2048])
    if match is None:
        return None
    try:
        encoding = codecs.lookup(match[1].decode()).name
    except LookupError:
        return None
    return encoding if encoding in _TRUSTED - {"utf-8", "utf-16", "ascii"} else None


def _guessed(content: bytes) -> str:
    """cp1258 for what is Vietnamese in it; else what the library says, or Latin-1, in which everything is something."""
    sample = content[:_SAMPLE_BYTES]
    vietnamese = sample.decode("cp1258", "replace")
    # Tones behind letters are rare in any other reading, as are its own letters beside them.
    toned = sum(1 for before, mark in pairwise(vietnamese) if mark in _TONES and before.isalpha())
    if toned >= 2 and _VIETNAMESE.search(vietnamese):
        return "cp1258"
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return "cp1252" if _fits(content, "cp1252") else "latin-1"
    best = from_bytes(sample).best()
    if best is not None and _fits(content, best.encoding):
        return str(best.encoding)
    return "cp1252" if _fits(content, "cp1252") else "latin-1"


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
