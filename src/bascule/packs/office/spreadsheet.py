"""The tool of tables. What holds the table is read apart, in a child of its own."""

import asyncio
from typing import Any, Final, Literal

import msgspec

from bascule.packs import apart
from bascule.packs.apart import Limits
from bascule.packs.cell import Unreadable
from bascule.packs.office import extraction
from bascule.packs.office.readers import READERS
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root

_READER: Final = "bascule.packs.office.readers:table"
_OF_FILES: Final = frozenset({"xlsx", "docx", "pdf"})


def add(pack: Pack, root: Root, limits: Limits) -> None:
    """Have *pack* serve it, over the files below *root*, each read within *limits*."""
    pack.tool("spreadsheet/extract_table_to_json", Spreadsheet(root, limits).extract_table_to_json)


class ExtractTable(msgspec.Struct, frozen=True):
    text: str | None = None
    path: str | None = None
    format: Literal["auto", "csv", "tsv", "markdown", "html", "text", "xlsx", "docx", "pdf"] = "auto"
    table: int = 1
    sheet: str | None = None
    header: bool | None = None
    dates: Literal["text", "iso"] = "text"
    shape: Literal["objects", "arrays"] = "objects"
    first_row: int = 1
    max_rows: int = 200


class Spreadsheet:
    def __init__(self, root: Root, limits: Limits) -> None:
        self._root = root
        self._limits = limits

    async def extract_table_to_json(self, wanted: ExtractTable, asked: Asked) -> Any:
        del asked
        order = {name: value for name, value in msgspec.structs.asdict(wanted).items() if name not in ("text", "path")}
        if (wanted.text is None) == (wanted.path is None):
            raise ToolFailed("Say either text or path.", "One of the two is what the table is in.")
        if wanted.text is not None:
            if wanted.format in _OF_FILES:
                raise ToolFailed(f"A text is no {wanted.format}.", "Say path for a file, or leave the format out.")
            source = wanted.text.encode("utf-8", "replace")
            return await apart.run(READERS, _READER, source, order, limits=self._limits)
        assert wanted.path is not None
        order["format"] = _format(wanted.path) if wanted.format == "auto" else wanted.format
        with await asyncio.to_thread(self._root.open, wanted.path) as file:
            return await apart.run(READERS, _READER, file.fileno(), order, limits=self._limits)


def _format(path: str) -> str:
    try:
        return extraction.format_of(path)
    except Unreadable as error:
        raise ToolFailed(error.what, error.do) from error
