"""The tools of documents: summary, comparison, text, search, figures. Each file is read apart, in its own child."""

import asyncio
import json
from typing import Any, Final

import msgspec

from bascule.packs import apart
from bascule.packs.apart import Limits
from bascule.packs.cell import Unreadable
from bascule.packs.office import reading, searching
from bascule.packs.office.readers import READERS
from bascule.packs.office.reading import Kind
from bascule.packs.office.searching import Counted
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root

MAX_SEARCHED: Final = 100  # documents of one search
_MODULE: Final = "bascule.packs.office.readers"
_COMPARED_CHARS: Final = 1_000_000


def add(pack: Pack, root: Root, limits: Limits) -> None:
    """Have *pack* serve them, over the files below *root*, each read within *limits*."""
    tools = Documents(root, limits)
    pack.tool("document/summarize_text", tools.summarize_text)
    pack.tool("document/compare", tools.compare)
    pack.tool("document/extract_text", tools.extract_text)
    pack.tool("document/search_reports", tools.search_reports)
    pack.tool("document/extract_data", tools.extract_data)


class SummarizeText(msgspec.Struct, frozen=True):
    text: str | None = None
    path: str | None = None
    max_points: int = 3


class Compare(msgspec.Struct, frozen=True):
    first_text: str | None = None
    first_path: str | None = None
    second_text: str | None = None
    second_path: str | None = None
    max_hunks: int = 50


class ExtractText(msgspec.Struct, frozen=True):
    path: str
    first_part: int = 1
    max_chars: int = 20_000


class SearchReports(msgspec.Struct, frozen=True):
    query: str
    folder: str = "."
    max_results: int = 5


class ExtractData(msgspec.Struct, frozen=True):
    data_points: tuple[str, ...]
    text: str | None = None
    path: str | None = None


class Documents:
    def __init__(self, root: Root, limits: Limits) -> None:
        self._root = root
        self._limits = limits

    async def summarize_text(self, wanted: SummarizeText, asked: Asked) -> Any:
        del asked
        return await self._of(wanted.text, wanted.path, "summary", max_points=wanted.max_points)

    async def compare(self, wanted: Compare, asked: Asked) -> Any:
        del asked
        first = await self._text(wanted.first_text, wanted.first_path, "first")
        second = await self._text(wanted.second_text, wanted.second_path, "second")
        both = json.dumps([first, second]).encode()
        return await apart.run(
            READERS, f"{_MODULE}:compare", both, {"max_hunks": wanted.max_hunks}, limits=self._limits
        )

    async def extract_text(self, wanted: ExtractText, asked: Asked) -> Any:
        del asked
        return await self._of(None, wanted.path, "extract", first=wanted.first_part, max_chars=wanted.max_chars)

    async def extract_data(self, wanted: ExtractData, asked: Asked) -> Any:
        del asked
        return await self._of(wanted.text, wanted.path, "figure", names=list(wanted.data_points))

    async def search_reports(self, wanted: SearchReports, asked: Asked) -> Any:
        """The best documents below the folder. One that cannot be read is told, and does not stop the search."""
        del asked
        terms = searching.terms(wanted.query)
        if not terms:
            raise ToolFailed("The query has no word to look for.", "Ask with words that a report would have.")
        paths, complete = await asyncio.to_thread(self._reports, wanted.folder)
        read = await asyncio.gather(*(self._counted(path, terms) for path in paths))
        found = {each.path: each for each, _ in read if isinstance(each, Counted)}
        pages = {each.path: page for each, page in read if isinstance(each, Counted)}
        ranked = searching.ranked(list(found.values()), terms)[: wanted.max_results]
        return {
            "reports": [each.path for each, _ in ranked],
            "matches": [
                {"path": each.path, "score": score, "passage": each.passage, "line": each.line, **pages[each.path]}
                for each, score in ranked
            ],
            "searched": len(found),
            "unread": [each for each, _ in read if not isinstance(each, Counted)],
            "truncated": not complete,
        }

    def _reports(self, folder: str) -> tuple[list[str], bool]:
        """The documents below *folder*, and whether these are all."""
        paths: list[str] = []
        for entry in self._root.walk(folder):
            if entry.kind != "file" or entry.path.rpartition(".")[2].lower() not in reading.KINDS:
                continue
            if len(paths) == MAX_SEARCHED:
                return paths, False
            paths.append(entry.path)
        return paths, True

    async def _counted(self, path: str, terms: list[str]) -> tuple[Counted | dict[str, str], dict[str, int]]:
        try:
            said = await self._of(None, path, "count", terms=terms)
        except ToolFailed as error:
            return {"path": path, "why": str(error)}, {}
        page = {"page": said["page"]} if "page" in said else {}
        return Counted(path, said["counts"], said["length"], said["passage"], said["line"]), page

    async def _text(self, text: str | None, path: str | None, which: str) -> str:
        """One side of a comparison."""
        if (text is None) == (path is None):
            raise ToolFailed(f"Say either {which}_text or {which}_path.", "One of the two is what is compared.")
        if text is not None:
            return text
        said = await self._of(None, path, "extract", first=1, max_chars=_COMPARED_CHARS)
        if said["truncated"]:
            raise ToolFailed(f"{path} has more than {_COMPARED_CHARS} characters.", "Compare parts of it as texts.")
        return "\n".join(part["text"] for part in said["parts"])

    async def _of(self, text: str | None, path: str | None, reader: str, **arguments: Any) -> Any:
        """What *reader* makes of a text, or of the file *path*."""
        if (text is None) == (path is None):
            raise ToolFailed("Say either text or path.", "One of the two is what is read.")
        if text is not None:
            source = text.encode("utf-8", "replace")
            order = {"kind": _kind_of_text(), **arguments}
            return await apart.run(READERS, f"{_MODULE}:{reader}", source, order, limits=self._limits)
        assert path is not None
        order = {"kind": kind_of(path), **arguments}
        with await asyncio.to_thread(self._root.open, path) as file:
            return await apart.run(READERS, f"{_MODULE}:{reader}", file.fileno(), order, limits=self._limits)


def kind_of(path: str) -> Kind:
    """Raises ToolFailed."""
    try:
        return reading.kind_of(path)
    except Unreadable as error:
        raise ToolFailed(error.what, error.do) from error


def _kind_of_text() -> Kind:
    return "markdown"  # whose headings any text may have
