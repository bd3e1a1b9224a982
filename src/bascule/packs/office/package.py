"""A DOCX or an XLSX before anything reads it: a ZIP that does not grow beyond bounds, of XML without a DTD.

Source: ECMA-376 part 2: no part of a package has a document type declaration.
"""

import zipfile
import zlib
from typing import IO, Any, BinaryIO, Final
from xml.parsers import expat

from bascule.packs.cell import Unreadable

_MAX_PARTS: Final = 4_000
_MAX_PART_BYTES: Final = 96 * 1024 * 1024
_MAX_BYTES: Final = 160 * 1024 * 1024
_MAX_RATIO: Final = 120  # of what is large: text in XML shrinks to a twentieth, and rarely to less
_LARGE_BYTES: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 65_536


def opened(source: BinaryIO, needed: str, kind: str) -> zipfile.ZipFile:
    """The ZIP in *source*, which has the part *needed* that makes it a *kind*. Raises Unreadable."""
    try:
        package = zipfile.ZipFile(source)
        entries = package.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise Unreadable(f"It is no {kind}: it is not a ZIP package.", "Save it again as such.") from error
    if needed not in package.namelist():
        raise Unreadable(f"It is no {kind}: it has no {needed}.", "Save it again as such.")
    if len(entries) > _MAX_PARTS or len({entry.filename for entry in entries}) < len(entries):
        raise Unreadable(f"It is no {kind} of an office: it has too many parts, or two of a name.")
    if sum(entry.file_size for entry in entries) > _MAX_BYTES or any(map(_is_bomb, entries)):
        raise Unreadable(f"The {kind} grows beyond bounds when it is unpacked.", "Take a smaller one.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unreadable(f"The {kind} is encrypted.", "Save it without a password.")
    for entry in entries:
        if entry.filename.endswith((".xml", ".rels")):
            with package.open(entry) as part:
                _check(part, kind)
    return package


def _is_bomb(entry: zipfile.ZipInfo) -> bool:
    grows = entry.file_size > _MAX_RATIO * max(1, entry.compress_size)
    return entry.file_size > _MAX_PART_BYTES or (entry.file_size > _LARGE_BYTES and grows)


class _Begun(Exception):
    """The first element: a document type would have come before it."""


def _check(part: IO[bytes], kind: str) -> None:
    """Look at what is before the first element. Raises Unreadable."""

    def refuse(*said: Any) -> None:
        raise Unreadable(f"The {kind} has a document type declaration, which no office writes.", "Save it again.")

    def stop(*said: Any) -> None:
        raise _Begun

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        while chunk := part.read(_CHUNK_BYTES):
            parser.Parse(chunk)
    except _Begun:
        return
    except (expat.ExpatError, zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
        raise Unreadable(f"A part of the {kind} is damaged.", "Save it again with the program it is from.") from error
