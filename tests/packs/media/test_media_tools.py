"""The tools of the media pack, through its own process: what comes out is looked at with Pillow."""

import io
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from bascule.packs.cell import Unreadable
from bascule.packs.media import images
from packs.media import pictures
from packs.talking import Talk, talking
from processes import ROOT

PHOTO = "in/photo.jpg"
PAGE = (ROOT / "docs" / "packs" / "media.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    pictures.photo(root / "in" / "photo.jpg")
    pictures.sticker(root / "sticker.png")
    pictures.moving(root / "moving.gif")
    return root


@pytest_asyncio.fixture
async def media(folder: Path) -> AsyncIterator[Talk]:
    async with talking("media", root=str(folder), max_seconds=20) as talk:
        yield talk


def opened(path: Path) -> Image.Image:
    """The image, and no file that stays open with it."""
    return Image.open(io.BytesIO(path.read_bytes()))


async def made(media: Talk, root: Path, path: str = PHOTO, **wanted: Any) -> tuple[dict[str, Any], Image.Image]:
    """(what the tool says, the image that it made)."""
    said = await media.call("image__process", path=path, **wanted)
    image = opened(root / said["path"])
    image.load()
    assert (image.width, image.height) == (said["width"], said["height"])
    assert str(image.format).lower() == said["format"]
    assert said["size_bytes"] == len((root / said["path"]).read_bytes())
    return said, image


async def test_its_tools_say_what_they_take_and_change(media: Talk) -> None:
    listed = {tool["name"]: tool for tool in (await media.request("tools/list"))["result"]["tools"]}
    assert list(listed) == ["image__inspect", "image__process"]
    assert listed["image__inspect"]["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
    assert listed["image__process"]["annotations"] == {"readOnlyHint": False, "idempotentHint": True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"quality": 0}, {"quality": 101}, {"quality": "high"}, {"format": "bmp"}, {"rotate": "45"}, {"other": 1},
        {"resize": {"width": 0}}, {"resize": {"width": 40_000}}, {"resize": {"percent": 0}}, {"resize": {"depth": 1}},
        {"name": ""}, {"path": 1}, {"resize": 5},
    ],
)  # fmt: skip
async def test_arguments_that_do_not_fit_are_refused(media: Talk, folder: Path, wrong: dict[str, Any]) -> None:
    assert "do not fit" in await media.refusal("image__process", **{"path": PHOTO, **wrong})
    assert [path.name for path in (folder / "in").iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resize": {}}, "says no size"),
        ({"resize": {"percent": 50, "width": 10}}, "one of the two"),
        ({"resize": {"width": 10, "fit": "cover"}}, "needs a width and a height"),
        ({"resize": {"width": 30_000, "height": 30_000, "fit": "stretch"}}, "too large"),
        ({"name": "{nothing}.png"}, "has a place {nothing}"),
        ({"name": "{stem.__class__}.png"}, "has a place {stem.__class__}"),
        ({"name": "a.txt"}, "does not end as jpeg does"),
        ({"name": "a.png", "format": "jpeg"}, "End it with .jpg"),
        ({"name": "../{stem}.{ext}"}, "is not a path below"),
        ({"name": "a/b.jpg"}, "is not a path below"),
        ({"folder": "../outside"}, "is not a path below"),
        ({"folder": "/tmp"}, "is not a path below"),
        ({"folder": ".hidden"}, "hidden"),
        ({"path": "../x.png"}, "is not a path below"),
        ({"path": "none.png"}, "There is no 'none.png'"),
        ({"path": "in"}, "is a folder"),
    ],
)
async def test_what_cannot_be_done_is_said(media: Talk, folder: Path, wrong: dict[str, Any], said: str) -> None:
    assert said in await media.refusal("image__process", **{"path": PHOTO, **wrong})
    assert names(folder) == ["in", "moving.gif", "photo.jpg", "sticker.png"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


async def test_it_is_resized_and_named_by_a_rule(media: Talk, folder: Path) -> None:
    said, image = await made(media, folder, resize={"width": 100}, name="{stem}_small_{width}.{ext}")
    assert said["path"] == "in/photo_small_100.jpg"
    assert image.size == (100, 50)
    assert said["changed"] is True
    assert (await made(media, folder, resize={"percent": 50}, folder="web/small"))[0][
        "path"
    ] == "web/small/photo_200x100.jpg"
    assert (await made(media, folder, resize={"width": 50, "height": 50}, folder="."))[0]["path"] == "photo_50x25.jpg"
    assert (await made(media, folder, resize={"width": 50, "height": 50, "fit": "cover"}))[1].size == (50, 50)
    assert (await made(media, folder, resize={"width": 60, "height": 90, "fit": "stretch"}))[1].size == (60, 90)
    assert (await made(media, folder, resize={"width": 4000, "height": 3000}, name="same.jpg"))[1].size == (400, 200)
    assert (await made(media, folder, resize={"percent": 150}))[1].size == (600, 300)
    assert (await made(media, folder, resize={"width": 1}))[1].size == (1, 1)


async def test_the_example_of_its_page_does_what_the_page_says(media: Talk, folder: Path) -> None:
    example = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    wanted = json.loads(example)
    Image.new("RGB", (1600, 900)).save(folder / wanted["path"])
    said, image = await made(media, folder, **wanted)
    assert f"makes `{said['path']}`" in PAGE
    assert image.size == (800, 450)


async def test_less_quality_is_a_smaller_file(media: Talk, folder: Path) -> None:
    best, _ = await made(media, folder, quality=95, name="q95.jpg")
    worst, _ = await made(media, folder, quality=10, name="q10.jpg")
    assert worst["size_bytes"] < best["size_bytes"]
    assert worst["size_bytes_before"] == (folder / PHOTO).stat().st_size


@pytest.mark.parametrize("source", [PHOTO, "sticker.png", "moving.gif"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "gif"])
async def test_every_kind_becomes_every_other(media: Talk, folder: Path, source: str, format: str) -> None:
    said, image = await made(media, folder, source, format=format, name="to_{format}.{ext}")
    assert said["format"] == format
    assert image.size == opened(folder / source).size
    assert getattr(image, "n_frames", 1) == 1
    again, _ = await made(media, folder, source, name=said["path"].rpartition("/")[2])
    assert again["changed"] is False


@pytest.mark.parametrize("format", ["TIFF", "BMP"])
async def test_what_is_not_written_here_becomes_a_png(media: Talk, folder: Path, format: str) -> None:
    Image.new("CMYK" if format == "TIFF" else "P", (10, 10)).save(folder / "x.bin", format)
    assert (await made(media, folder, "x.bin"))[0]["path"] == "x_10x10.png"


async def test_white_stands_behind_what_was_transparent(media: Talk, folder: Path) -> None:
    _, image = await made(media, folder, "sticker.png", format="jpeg", quality=100)
    red, green, blue = image.convert("RGB").getpixel((2, 32))  # type: ignore[misc]  # a pixel of RGB has three
    assert min(red, green, blue) > 250
    _, kept = await made(media, folder, "sticker.png", format="webp")
    assert kept.convert("RGBA").getpixel((2, 32))[3] == 0  # type: ignore[index]  # as above, of four


async def test_of_what_moves_the_first_frame_is_taken(media: Talk, folder: Path) -> None:
    _, image = await made(media, folder, "moving.gif", format="png")
    assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_photo_is_turned_upright(media: Talk, folder: Path, orientation: int) -> None:
    lying = orientation >= 5
    pictures.photo(folder / "o.jpg", orientation=orientation)
    _, image = await made(media, folder, "o.jpg", format="png")
    assert image.size == ((200, 400) if lying else (400, 200))
    assert image.getexif().get(0x0112) is None
    small, _ = await made(media, folder, "o.jpg", resize={"width": 100})
    assert (small["width"], small["height"]) == ((100, 200) if lying else (100, 50))
    _, stored = await made(media, folder, "o.jpg", rotate="none", name="stored.png")
    assert stored.size == (400, 200)


@pytest.mark.parametrize(("rotate", "red_at"), [("left", (5, 395)), ("right", (195, 5)), ("half", (395, 195))])
async def test_a_turn_more_is_one(media: Talk, folder: Path, rotate: str, red_at: tuple[int, int]) -> None:
    _, image = await made(media, folder, rotate=rotate, format="png")
    red, green, blue = image.convert("RGB").getpixel(red_at)  # type: ignore[misc]  # a pixel of RGB has three
    assert (red > 200, green < 80, blue < 80) == (True, True, True)


async def test_what_the_camera_wrote_goes_unless_it_is_kept(media: Talk, folder: Path) -> None:
    for format in ("jpeg", "png", "webp"):
        said, image = await made(media, folder, format=format, name="stripped.{ext}")
        assert b"anary" not in (folder / said["path"]).read_bytes()
        assert not image.getexif()
        _, kept = await made(media, folder, format=format, keep_metadata=True, name="kept.{ext}")
        assert kept.getexif()[0x010F] == "Canary Camera"
        assert kept.getexif().get_ifd(0x8825)[1] == "N"


async def test_nothing_is_replaced_unless_asked_and_twice_is_once(media: Talk, folder: Path) -> None:
    first, _ = await made(media, folder, resize={"width": 100}, name="n.jpg")
    before = (folder / "in" / "n.jpg").read_bytes()
    again, _ = await made(media, folder, resize={"width": 100}, name="n.jpg")
    assert again == {**first, "changed": False}
    assert "already" in await media.refusal("image__process", path=PHOTO, resize={"width": 90}, name="n.jpg")
    assert (folder / "in" / "n.jpg").read_bytes() == before
    await made(media, folder, resize={"width": 90}, name="n.jpg", overwrite=True)
    _, itself = await made(media, folder, resize={"width": 80}, name="{stem}.{ext}", overwrite=True)
    assert itself.size == (80, 40)


async def test_the_same_call_makes_the_same_bytes(media: Talk, folder: Path) -> None:
    for format in ("jpeg", "png", "webp", "gif"):
        one, _ = await made(media, folder, format=format, resize={"percent": 33}, name="one.{ext}")
        other, _ = await made(media, folder, format=format, resize={"percent": 33}, name="other.{ext}")
        assert (folder / one["path"]).read_bytes() == (folder / other["path"]).read_bytes()


async def test_an_image_is_looked_at(media: Talk, folder: Path) -> None:
    assert await media.call("image__inspect", path=PHOTO) == {
        "path": PHOTO,
        "size_bytes": (folder / PHOTO).stat().st_size,
        "format": "jpeg",
        "width": 400,
        "height": 200,
        "mode": "RGB",
        "has_transparency": False,
        "orientation": 1,
        "metadata": ["exif", "gps", "comment"],
        "has_more_frames": False,
    }
    assert (await media.call("image__inspect", path="moving.gif"))["has_more_frames"] is True
    sticker = await media.call("image__inspect", path="sticker.png")
    assert (sticker["mode"], sticker["has_transparency"], sticker["metadata"]) == ("RGBA", True, [])
    assert "There is no" in await media.refusal("image__inspect", path="none.png")
    assert "is not a path below" in await media.refusal("image__inspect", path="/etc/passwd")


def test_without_pillow_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with (folder / PHOTO).open("rb") as file, pytest.raises(Unreadable, match=r"pip install 'bascule\[image\]'"):
        images.inspect(file, max_pixels=1000)


async def test_a_name_does_not_say_what_an_image_is(media: Talk, folder: Path) -> None:
    (folder / "sticker.png").rename(folder / "sticker.jpg")
    assert (await media.call("image__inspect", path="sticker.jpg"))["format"] == "png"
    assert (await made(media, folder, "sticker.jpg"))[0]["path"] == "sticker_64x64.png"
