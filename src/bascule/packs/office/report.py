"""The tool for reports: Markdown below the folder of the office, which replaces nothing unasked."""

import asyncio
from typing import Any, Final

import msgspec

from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root

WRITE: Final = "report/write_markdown"
ENDING: Final = ".md"


class WriteMarkdown(msgspec.Struct, frozen=True):
    path: str
    content: str
    overwrite: bool = False


class Reports:
    """The tool, and the folder that it writes to."""

    def __init__(self, root: Root) -> None:
        self._root = root

    async def write_markdown(self, wanted: WriteMarkdown, asked: Asked) -> dict[str, Any]:
        """Writing the same once more changes nothing, with a key or without."""
        del asked
        return await asyncio.to_thread(self._write, wanted)

    def _write(self, wanted: WriteMarkdown) -> dict[str, Any]:
        content = _encoded(wanted.content)
        if not wanted.path.endswith(ENDING) or wanted.path.rpartition("/")[2] == ENDING:
            raise ToolFailed(f"{wanted.path!r:.200} is no path of a Markdown file.", f"Let it end in {ENDING}.")
        before = self._before(wanted.path, len(content))
        status = "created" if before is None else "unchanged" if before == content else "overwritten"
        if status == "overwritten" and not wanted.overwrite:
            raise ToolFailed(
                f"There is another text at {wanted.path!r:.200} already, and nothing was written.",
                "Choose another path, or say overwrite: true to replace it; a person is asked about that.",
            )
        if status != "unchanged":
            self._root.write(wanted.path, content, overwrite=wanted.overwrite, make_folders=True)
        return {"path": wanted.path, "status": status, "size_bytes": len(content)}

    def _before(self, path: str, size_bytes: int) -> bytes | None:
        """What is at *path*, as far as it matters to a text of *size_bytes*; None if nothing is."""
        try:
            found = self._root.stat(path)
        except ToolFailed:
            return None  # if it is more than not there, writing says so
        return self._root.read(path, size_bytes) if found.size_bytes == size_bytes else b"\0"


def add(pack: Pack, root: Root) -> None:
    """Have *pack* keep the contract for reports."""
    pack.tool(WRITE, Reports(root).write_markdown)


def _encoded(text: str) -> bytes:
    if "\0" in text:
        raise ToolFailed("The content has a null character.", "Write plain Markdown.")
    content = text.replace("\r\n", "\n").encode()
    return content if content.endswith(b"\n") else content + b"\n"
