"""Files below one folder as a pack: each tool is what rooted.py does, with its bounds and its words."""

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.packs.files import reading
from bascule.packs.files.deeds import Deeds
from bascule.packs.files.options import FilesOptions
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.paths import FOLDER, shown
from bascule.packs.rooted import Entry, Root

CONTRACTS: Final = Path(__file__).parent / "contracts"

# A text file is read whole to count its lines, whatever part of it is wanted.
MAX_FILE_BYTES: Final = 32 * 1024 * 1024
# A search ends where a person would stop waiting for it.
SEARCH_S: Final = 5.0
SEARCH_FILES: Final = 20_000
SEARCH_FILE_BYTES: Final = 1024 * 1024

Encoding: TypeAlias = Literal["utf-8", "utf-16", "windows-1252", "windows-1258", "latin-1", "shift_jis", "gb18030"]
Form: TypeAlias = Literal["text", "base64"]
Result: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[Any, Asked], Result]


class ListFolder(msgspec.Struct, frozen=True):
    path: str = FOLDER
    after: str = ""
    max_entries: int = 200


class SearchFiles(msgspec.Struct, frozen=True):
    path: str = FOLDER
    name: str = "*"
    text: str = ""
    max_matches: int = 50


class ReadFile(msgspec.Struct, frozen=True, rename={"form": "as"}):
    path: str
    form: Form = "text"
    encoding: Encoding = "utf-8"
    first_line: int = 1
    max_lines: int = 2000


class WriteFile(msgspec.Struct, frozen=True, rename={"form": "as"}):
    path: str
    content: str
    form: Form = "text"
    overwrite: bool = False
    make_folders: bool = False


class MakeFolder(msgspec.Struct, frozen=True):
    path: str


class MoveFile(msgspec.Struct, frozen=True):
    path: str
    to: str
    make_folders: bool = False


class DeleteFile(msgspec.Struct, frozen=True):
    path: str


class RestoreFile(msgspec.Struct, frozen=True):
    kept_as: str


class Files:
    """The tools over one root. Blocking, each in a thread of its own."""

    def __init__(self, root: Root, options: FilesOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._options = options
        self._deeds = Deeds(root)
        self._clock = clock
        if not options.read_only:
            self._deeds.sweep()

    async def close(self) -> None:
        self._root.close()

    # ---- to look

    def list_folder(self, wanted: ListFolder, asked: Asked) -> Result:
        del asked
        listing = self._root.list(wanted.path)
        entries = [each for each in listing.entries if each.path > wanted.after]
        complete = listing.complete and len(entries) <= wanted.max_entries
        return {"path": wanted.path, "entries": entries[: wanted.max_entries], "complete": complete}

    def search_files(self, wanted: SearchFiles, asked: Asked) -> Result:
        del asked
        until = self._clock() + SEARCH_S
        text = reading.folded(wanted.text)
        matches: list[Result] = []
        missed: list[str] = []
        looked_at, ended = 0, ""
        for entry in self._root.walk(wanted.path, missed=missed.append):
            if len(matches) > wanted.max_matches:
                ended = "there are more matches"
            elif looked_at >= SEARCH_FILES:
                ended = f"there are more than {SEARCH_FILES} files and folders"
            elif self._clock() > until:
                ended = f"it took longer than {SEARCH_S:g} s"
            if ended:
                break
            looked_at += 1
            if reading.is_named(entry.path, wanted.name):
                matches += islice(self._matches(entry, text), wanted.max_matches + 1 - len(matches))
        if not ended and len(matches) > wanted.max_matches:
            ended = "there are more matches"
        if not ended and missed:
            ended = f"not all of {shown(missed[0])} could be seen"
        result: Result = {"matches": matches[: wanted.max_matches], "looked_at": looked_at, "complete": not ended}
        return result | ({"ended_because": ended} if ended else {})

    def _matches(self, entry: Entry, text: str) -> Iterator[Result]:
        if not text:
            yield {"path": entry.path, "kind": entry.kind}
        elif entry.kind == "file" and entry.size_bytes <= SEARCH_FILE_BYTES:
            try:
                content = self._root.read(entry.path, SEARCH_FILE_BYTES)
            except ToolFailed:
                return  # gone, or no longer to be read: it has no match
            for number, line in reading.found_in(content, text):
                yield {"path": entry.path, "kind": entry.kind, "line": number, "text": line}

    def read_file(self, wanted: ReadFile, asked: Asked) -> Result:
        del asked
        limit_bytes = self._options.max_bytes
        if wanted.form == "base64":
            content = self._root.read(wanted.path, limit_bytes)
            encoded = base64.b64encode(content).decode()
            return {"path": wanted.path, "content": encoded, "size_bytes": len(content), "complete": True}
        content = self._root.read(wanted.path, MAX_FILE_BYTES)
        text = reading.decoded(wanted.path, content, wanted.encoding)
        part = reading.part_of(wanted.path, text, wanted.first_line, wanted.max_lines, limit_bytes)
        next_line = wanted.first_line + part.lines
        complete = wanted.first_line == 1 and next_line > part.lines_of_all
        return {
            "path": wanted.path,
            "content": part.text,
            "size_bytes": len(content),
            "first_line": wanted.first_line,
            "lines": part.lines,
            "lines_of_all": part.lines_of_all,
            "complete": complete,
            **({"next_line": next_line} if next_line <= part.lines_of_all else {}),
        }

    # ---- to change

    def write_file(self, wanted: WriteFile, asked: Asked) -> Result:
        content = _content(wanted)
        if len(content) > self._options.max_bytes:
            what = f"The content has {len(content)} bytes; at most {self._options.max_bytes} are written."
            raise ToolFailed(what, "Write several smaller files.")

        def do(facts: None) -> Result:
            if (same := was_done(facts)) is not None:
                return same
            self._root.write(wanted.path, content, overwrite=wanted.overwrite, make_folders=wanted.make_folders)
            return {"path": wanted.path, "size_bytes": len(content), "changed": True}

        def was_done(facts: None) -> Result | None:
            del facts
            if not self._holds(wanted.path, content):
                return None
            return {"path": wanted.path, "size_bytes": len(content), "changed": False}

        return self._deeds.once(asked.key, wanted, lambda: None, do, was_done)

    def _holds(self, path: str, content: bytes) -> bool:
        try:
            return self._root.read(path, len(content)) == content
        except ToolFailed:
            return False  # it is not there, or larger, or none to be read: writing it says which

    def make_folder(self, wanted: MakeFolder, asked: Asked) -> Result:
        del asked
        return {"path": wanted.path, "changed": self._root.make_folder(wanted.path)}

    def move_file(self, wanted: MoveFile, asked: Asked) -> Result:
        result = {"path": wanted.path, "moved_to": wanted.to}

        def do(identity: list[int]) -> Result:
            del identity
            self._root.move(wanted.path, wanted.to, make_folders=wanted.make_folders)
            return result

        def was_done(identity: list[int]) -> Result | None:
            try:
                return result if self._root.identity(wanted.to) == tuple(identity) else None
            except ToolFailed:
                return None

        return self._deeds.once(asked.key, wanted, lambda: self._root.identity(wanted.path), do, was_done)

    def delete_file(self, wanted: DeleteFile, asked: Asked) -> Result:
        def facts() -> list[str | None]:
            is_file = self._root.stat(wanted.path).kind == "file"
            return [self._root.kept_as(wanted.path) if is_file else None]

        def do(facts: list[str | None]) -> Result:
            return _deleted(wanted.path, self._root.delete(wanted.path, facts[0]))

        def was_done(facts: list[str | None]) -> Result | None:
            (kept,) = facts
            done = self._root.is_kept(kept) if kept else not self._is_there(wanted.path)
            return _deleted(wanted.path, kept) if done else None

        return self._deeds.once(asked.key, wanted, facts, do, was_done)

    def restore_file(self, wanted: RestoreFile, asked: Asked) -> Result:
        def do(path: str) -> Result:
            del path
            return {"path": self._root.restore(wanted.kept_as)}

        def was_done(path: str) -> Result | None:
            done = not self._root.is_kept(wanted.kept_as) and self._is_there(path)
            return {"path": path} if done else None

        return self._deeds.once(asked.key, wanted, lambda: self._root.kept_path(wanted.kept_as), do, was_done)

    def _is_there(self, path: str) -> bool:
        try:
            self._root.stat(path)
        except ToolFailed:
            return False
        return True


def _content(wanted: WriteFile) -> bytes:
    if wanted.form == "text":
        return wanted.content.encode()
    try:
        return base64.b64decode(wanted.content, validate=True)
    except binascii.Error as error:
        raise ToolFailed(f"The content is not base64: {error}.", "Encode it anew, without line breaks.") from error


def _deleted(path: str, kept: str | None) -> Result:
    return {"path": path, "deleted": True} | ({"kept_as": kept} if kept else {})


def build(options: FilesOptions) -> Pack:
    root = Root(options.root, hidden=options.hidden, trash=options.trash)
    pack = Pack(
        "files",
        title="Files",
        version="1.0.0",
        instructions="Files below one folder. Paths are relative to it, such as reports/2026.md.",
        contracts=CONTRACTS,
    )
    files = Files(root, options)
    looking: list[Run] = [files.list_folder, files.search_files, files.read_file]
    changing: list[Run] = [
        files.write_file,
        files.make_folder,
        files.move_file,
        files.delete_file,
        files.restore_file,
    ]
    for run in (*looking, *changing):
        pack.tool(f"files/{run.__name__}", in_a_thread(run))
    if options.read_only:
        for run in changing:
            del pack.tools[run.__name__]
    pack.closing(files.close)
    return pack


def in_a_thread(run: Run) -> Callable[[Any, Asked], Awaitable[Result]]:
    """*run*, which blocks, as a function that does not."""

    @wraps(run)
    async def running(wanted: Any, asked: Asked) -> Result:
        return await asyncio.to_thread(run, wanted, asked)

    return running
