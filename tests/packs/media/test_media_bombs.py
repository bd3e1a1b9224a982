"""L05, L07: images that are too much, too little, or none. Each is refused with a sentence within five seconds.

Through Bascule, with the pack within its walls: it and the pack stay the same processes and do not grow.
"""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from zlib import compress

import pytest
import pytest_asyncio
from gateway import Bascule, Json, gateway
from PIL import Image

from packs.media import pictures
from packs.talking import talking

WITHIN_S: Final = 5.0
GROWTH_BYTES: Final = 64 * 1024 * 1024

LARGE: Final = "more than 50000000 pixels"
DAMAGED: Final = "damaged or ends too early"
NO_IMAGE: Final = "no image of a kind that is read here"

# id: (name, content, what is said)
BOMBS: Final[dict[str, tuple[str, bytes, str]]] = {
    "L05": ("a.png", pictures.png(100_000, 100_000, compress(b"\0" * 10_000_000, 9)), LARGE),
    "L05a": ("a.png", pictures.png(2**31 - 1, 2**31 - 1), LARGE),
    "L05b": ("a.png", pictures.png(50_001, 1_000), LARGE),
    "L05c": ("a.tif", pictures.tiff(100_000, 100_000), LARGE),
    "L05d": ("a.gif", pictures.gif(65_535, 65_535), LARGE),
    "L05e": ("a.webp", pictures.webp(16_384, 16_384), ""),
    "L05f": ("a.bmp", pictures.bmp(100_000, 100_000), LARGE),
    "L05g": ("a.bmp", pictures.bmp(2**31 - 1, -(2**31) + 1), LARGE),
    "L05h": ("a.jpg", pictures.jpeg(65_500, 65_500), LARGE),
    "L05j": ("a.png", pictures.png(7_000, 7_000, compress(b"\0" * 1_000_000, 9)), DAMAGED),
    "L05k": ("a.png", pictures.png_with_text(200_000_000), ""),
    "L05l": ("a.png", pictures.png_with_profile(200_000_000), ""),
    "L05m": ("a.tif", pictures.tiff(7_000, 7_000), DAMAGED),
    "L05n": ("a.png", b"just a text\n", NO_IMAGE),
    "L05o": ("a.png", b"", NO_IMAGE),
    "L05p": ("a.png", pictures.png(8, 8)[:40], ""),
    "L05q": ("a.png", b"\x89PNG\r\n\x1a\n" + b"\xff" * 1000, ""),
    "L05r": ("a.png", pictures.EPS, "PostScript"),
    "L05s": ("a.eps", b"  " + pictures.EPS, "PostScript"),
    "L05t": ("a.png", b"%PDF-1.7", "PDF"),
    "L05u": ("a.png", b"PK\x03\x04", "archive"),
    "L05v": ("a.psd", b"8BPS\0\1" + bytes(40), NO_IMAGE),
    "L05w": ("a.ico", b"\0\0\1\0\1\0" + bytes(40), NO_IMAGE),
    "L05x": ("a.fits", b"SIMPLE  =                    T" + bytes(2880), NO_IMAGE),
    "L07": ("a.svg", pictures.SVG, "SVG"),
    "L07a": ("a.png", pictures.SVG, "SVG"),
    "L07b": ("a.svg", pictures.SVG_ENTITY, "SVG"),
    "L07c": ("a.svg", b"\xef\xbb\xbf" + pictures.SVG_ENTITY, "SVG"),
    "L07d": ("a.svgz", b"\x1f\x8b\x08" + bytes(20), "SVG"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    pictures.photo(root / "good.jpg")
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bascule(folder: Path) -> AsyncIterator[Bascule]:
    servers = {"media": {"pack": "media", "sandbox": "required", "settings": {"root": str(folder)}}}
    async with gateway(servers, policy={"rules": [{"match": "image/*", "rate_limit": "10000/minute"}]}) as found:
        await found.up("media")
        yield found


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def refused(bascule: Bascule, tool: str, path: str) -> str:
    """What is said instead of a result."""
    began = time.monotonic()
    answer: Json = await bascule.modern().call(tool, path=path)
    took_s = time.monotonic() - began
    text: str = answer["content"][0]["text"]
    assert answer.get("isError") is True, text
    assert took_s < WITHIN_S, text
    assert "Traceback" not in text
    return text


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("id", BOMBS)
async def test_a_hostile_image_is_refused_in_time(bascule: Bascule, folder: Path, id: str) -> None:
    name, content, said = BOMBS[id]
    pids = [os.getpid(), *(await bascule.server("media"))["pids"]]
    before = [rss_bytes(pid) for pid in pids]
    there = names(folder)
    (folder / name).write_bytes(content)
    try:
        text = await refused(bascule, "image__process", name)
        assert said in text
    finally:
        (folder / name).unlink()
    assert names(folder) == there
    good = await bascule.modern().call("image__process", path="good.jpg", resize={"width": 10}, name="good.png")
    assert not good.get("isError"), good
    assert [os.getpid(), *(await bascule.server("media"))["pids"]] == pids
    assert all(rss_bytes(pid) - was < GROWTH_BYTES for pid, was in zip(pids, before, strict=True))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"good.png"}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("id", [id for id, (_, _, said) in BOMBS.items() if said and said != DAMAGED])
async def test_to_look_at_it_is_refused_as_well(bascule: Bascule, folder: Path, id: str) -> None:
    name, content, said = BOMBS[id]
    (folder / name).write_bytes(content)
    try:
        assert said in await refused(bascule, "image__inspect", name)
    finally:
        (folder / name).unlink()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
async def test_an_image_that_ends_too_early_is_refused(bascule: Bascule, folder: Path, kind: str) -> None:
    path = folder / f"cut.{kind.lower()}"
    Image.effect_noise((300, 300), 80).convert("RGB").save(path, kind)
    whole = path.read_bytes()
    try:
        for part in (0.3, 0.9):
            path.write_bytes(whole[: int(len(whole) * part)])
            await refused(bascule, "image__process", path.name)
    finally:
        path.unlink()


# What is less than it seems: only its first frame is looked at, and so nothing is wrong with it.
@pytest.mark.parametrize(
    "content",
    [
        pictures.gif(8, 8, frames=100_000),
        pictures.tiff_with_itself(),
        pictures.gif(8, 8, frames=2, frame=(60_000, 60_000)),
    ],
    ids=["a hundred thousand frames", "pages in a ring", "frames larger than the image"],
)
async def test_frames_without_end_are_not_counted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gif").write_bytes(content)
    began = time.monotonic()
    async with talking("media", root=str(tmp_path)) as media:
        await media.try_call("image__inspect", path="a.gif")
        await media.try_call("image__process", path="a.gif")
    assert time.monotonic() - began < 2 * WITHIN_S


async def test_what_would_be_too_large_to_write_is_not_written(tmp_path: Path) -> None:
    Image.effect_noise((1000, 1000), 200).save(tmp_path / "a.webp", quality=1)
    async with talking("media", root=str(tmp_path), max_file_bytes=300_000, max_seconds=20) as media:
        assert "too large" in await media.refusal("image__process", path="a.webp", format="png")
        (tmp_path / "b.png").write_bytes(bytes(300_001))
        assert "at most 300000" in await media.refusal("image__inspect", path="b.png")
    assert names(tmp_path) == {"a.webp", "b.png"}
