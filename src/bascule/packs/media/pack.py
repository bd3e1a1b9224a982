"""Images below one folder as a pack: rooted.py says what a path is, images.py does what is done with one, apart."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import msgspec

from bascule.packs import apart
from bascule.packs.media import naming
from bascule.packs.media.options import MediaOptions
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root

CONTRACTS: Final = Path(__file__).parent / "contracts"
READERS: Final = frozenset({"bascule.packs.media.images:inspect", "bascule.packs.media.images:process"})
MEMORY_BYTES: Final = 512 * 1024 * 1024  # for code and for what is small …
BYTES_A_PIXEL: Final = 20  # … and for a picture, turned and resized and on its way to be written

Result: TypeAlias = dict[str, Any]


class Resize(msgspec.Struct, frozen=True):
    width: int | None = None
    height: int | None = None
    percent: float | None = None
    fit: Literal["inside", "cover", "stretch"] = "inside"


class ProcessImage(msgspec.Struct, frozen=True):
    path: str
    resize: Resize | None = None
    format: Literal["jpeg", "png", "webp", "gif"] | None = None
    quality: int = 85
    rotate: Literal["exif", "none", "left", "right", "half"] = "exif"
    keep_metadata: bool = False
    name: str = "{stem}_{width}x{height}.{ext}"
    folder: str | None = None
    overwrite: bool = False


class InspectImage(msgspec.Struct, frozen=True):
    path: str


class Images:
    """The tools over one root."""

    def __init__(self, root: Root, options: MediaOptions) -> None:
        self._root = root
        self._max_pixels = options.max_megapixels * 1_000_000
        self._limits = apart.Limits(
            file_bytes=options.max_file_bytes,
            memory_bytes=MEMORY_BYTES + self._max_pixels * BYTES_A_PIXEL,
            cpu_s=max(1, int(options.max_seconds)),
            wall_s=options.max_seconds,
            result_bytes=64 * 1024,
            written_bytes=options.max_file_bytes,
        )

    async def close(self) -> None:
        self._root.close()

    async def inspect(self, wanted: InspectImage, asked: Asked) -> Result:
        del asked
        with await asyncio.to_thread(self._root.open, wanted.path) as file:
            found: Result = await self._apart("inspect", file, {})
            return {"path": wanted.path, "size_bytes": os.fstat(file.fileno()).st_size, **found}

    async def process(self, wanted: ProcessImage, asked: Asked) -> Result:
        del asked
        _check(wanted)
        arguments = {
            "resize": None if wanted.resize is None else msgspec.to_builtins(wanted.resize),
            "format": wanted.format or naming.format_of(wanted.name),
            "quality": wanted.quality,
            "rotate": wanted.rotate,
            "keep_metadata": wanted.keep_metadata,
        }
        with await asyncio.to_thread(self._root.open, wanted.path) as file, _unnamed() as into:
            made: Result = await self._apart("process", file, arguments, into)
            before = os.fstat(file.fileno()).st_size
            into.seek(0)
            content = into.read()
        path = naming.named(wanted.name, wanted.path, wanted.folder, **made)
        changed = await asyncio.to_thread(self._keep, path, content, overwrite=wanted.overwrite)
        sizes = {"size_bytes_before": before, "size_bytes": len(content)}
        return {"path": path, "source": wanted.path, **made, **sizes, "changed": changed}

    async def _apart(self, name: str, file: IO[bytes], arguments: Result, into: IO[bytes] | None = None) -> Result:
        reader = f"bascule.packs.media.images:{name}"
        arguments = {**arguments, "max_pixels": self._max_pixels}
        fd = None if into is None else into.fileno()
        found: Result = await apart.run(READERS, reader, file.fileno(), arguments, limits=self._limits, into=fd)
        return found

    def _keep(self, path: str, content: bytes, *, overwrite: bool) -> bool:
        """Write it, unless just that is there: then the call was made before. Raises ToolFailed."""
        try:
            if self._root.read(path, len(content)) == content:
                return False
        except ToolFailed:
            pass  # there is none, or another one: writing says which
        self._root.write(path, content, overwrite=overwrite, make_folders=True)
        return True


def _unnamed() -> IO[bytes]:
    """An open file without a name, in memory where that can be had: its size is bounded, and walls have no /tmp."""
    return os.fdopen(os.memfd_create("image"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile()


def _check(wanted: ProcessImage) -> None:
    """Raises ToolFailed for what does not go together."""
    naming.check_rule(wanted.name)
    size = wanted.resize
    if size is None:
        return
    if size.percent is None and size.width is None and size.height is None:
        raise ToolFailed("`resize` says no size.", "Give it width, height, or both, or percent.")
    if size.percent is not None and (size.width is not None or size.height is not None):
        raise ToolFailed("`resize` has percent and a width or height.", "Give one of the two.")
    if size.fit != "inside" and (size.width is None or size.height is None):
        raise ToolFailed(f"fit {size.fit!r} needs a width and a height.", "Give both, or leave out fit.")


def build(options: MediaOptions) -> Pack:
    pack = Pack(
        "media",
        title="Media",
        version="1.0.0",
        instructions="Images below one folder. Paths are relative to it, such as photos/team.jpg.",
        contracts=CONTRACTS,
    )
    images = Images(Root(options.root, hidden=options.hidden), options)
    pack.tool("image/inspect", images.inspect)
    pack.tool("image/process", images.process)
    pack.closing(images.close)
    return pack
