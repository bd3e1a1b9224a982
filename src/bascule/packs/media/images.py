"""What is done with an image, in a child that may be killed (apart.py): nothing here trusts a byte of it.

Only formats that are named here are opened, the first frame alone, and its pixels are counted before one is decoded.
The same call makes the same bytes.
"""

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from bascule.packs.cell import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

# Not EPS, which Ghostscript would run; not PSD, FITS, ICNS, WMF …, which nobody sends on purpose.
READ: Final = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
MAX_SIDE: Final = 32_767
MAX_PROFILE_BYTES: Final = 512 * 1024
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})

# What is no image for us, by how it begins: it is worth a sentence of its own.
_KINDS: Final = (
    ((b"<svg", b"<?xml", b"<!DOCTYPE svg", b"\xef\xbb\xbf<svg", b"\xef\xbb\xbf<?xml", b"\x1f\x8b"), "SVG or XML"),
    ((b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF"), "PostScript or PDF"),
    ((b"PK\x03\x04",), "an archive"),
)
# What Pillow raises for a file that is not as it should be, besides memory and recursion.
_DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
)


def inspect(source: IO[bytes], *, max_pixels: int) -> dict[str, Any]:
    """Its format, size and mode, and what it says besides its picture."""
    with _opened(source, max_pixels) as image:
        found = {
            "format": _format(image),
            "width": image.width,
            "height": image.height,
            "mode": image.mode,
            "has_transparency": image.has_transparency_data,
            "orientation": 1,
            "metadata": [],
        }
        with _lenient():
            exif = image.getexif()
            found["orientation"] = int(exif.get(_ORIENTATION, 1))
            found["metadata"] = _metadata(image, exif)
        found["has_more_frames"] = _has_more(image)
    return found


def process(
    source: IO[bytes],
    into: IO[bytes],
    *,
    max_pixels: int,
    resize: dict[str, Any] | None,
    format: str | None,
    quality: int,
    rotate: str,
    keep_metadata: bool,
) -> dict[str, Any]:
    """Write to *into* what is made of the first frame of *source*; its format and size."""
    with _opened(source, max_pixels) as image:
        saved = format or (_format(image) if _format(image) in _SAVING else "png")
        if image.mode not in _MODES:
            raise Unreadable(f"The image has the mode {image.mode}.", "Save it with 8 bits for each colour first.")
        size = _size(_upright_size(image, rotate), resize, max_pixels)
        if image.format == "JPEG" and size is not None:
            image.draft(None, (max(size), max(size)))  # decodes an eighth where an eighth is enough
        with _damaged():
            image.load()
        profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "L", "LA") else None
        made, exif = _turned(image, rotate)
        made = _plain(made, saved)
        if size is not None:
            made = _resized(made, size, (resize or {}).get("fit", "inside"))
        made.info.clear()  # what some formats would write of it unasked, such as a comment
        options = _SAVING[saved](quality)
        if profile and len(profile) <= MAX_PROFILE_BYTES:
            options["icc_profile"] = profile
        if keep_metadata and exif and saved != "gif":
            options["exif"] = exif
        written = io.BytesIO()
        made.save(written, saved.upper(), **options)
    into.write(written.getbuffer())
    return {"format": saved, "width": made.width, "height": made.height}


# ---- to open


@contextmanager
def _opened(source: IO[bytes], max_pixels: int) -> Iterator["Image"]:
    """The image, of which nothing is decoded yet. Raises Unreadable."""
    try:
        from PIL import Image
    except ImportError as error:
        missing = "Install it with: pip install 'bascule[image]'"
        raise Unreadable("Images are not read here: Pillow is not installed.", missing) from error
    head = source.read(64).lstrip()
    source.seek(0)
    for begins, kind in _KINDS:
        if head.startswith(begins):
            raise Unreadable(f"The file is {kind}, which is not read as an image.", _EXPORT)
    # Checked when a file is opened, and again by decoders that find another size in a frame.
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        with _damaged():
            image = Image.open(source, formats=READ)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"The image has more than {max_pixels} pixels.", "Take a smaller one.") from error
    with image:
        if image.width * image.height > max_pixels:
            raise Unreadable(f"The image has more than {max_pixels} pixels.", "Take a smaller one.")
        yield image


_EXPORT: Final = "Export it as PNG, JPEG, WebP, GIF, TIFF or BMP."


def _format(image: "Image") -> str:
    return "jpeg" if image.format == "MPO" else str(image.format).lower()  # MPO: with more pictures behind the first


@contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        from PIL import UnidentifiedImageError

        if isinstance(error, UnidentifiedImageError):
            raise Unreadable("The file is no image of a kind that is read here.", _EXPORT) from error
        raise Unreadable("The image is damaged or ends too early.", "Save it again, or take another one.") from error


@contextmanager
def _lenient() -> Iterator[None]:
    """What is said beside the picture may be broken: many cameras write it so."""
    try:
        yield
    except _DAMAGED:
        pass


_ORIENTATION: Final = 0x0112
_GPS: Final = 0x8825


def _metadata(image: "Image", exif: Any) -> list[str]:
    said = {
        "exif": bool(exif),
        "gps": bool(exif.get_ifd(_GPS)),
        "icc_profile": "icc_profile" in image.info,
        "xmp": "xmp" in image.info or "XML:com.adobe.xmp" in image.info,
        "comment": "comment" in image.info,
    }
    return [name for name, there in said.items() if there]


def _has_more(image: "Image") -> bool:
    """Whether there is a second frame or page; how many, only a walk through all of them would say."""
    try:
        image.seek(1)
    except _DAMAGED:
        return False
    return True


# ---- to change

_TURNS: Final = {"left": "ROTATE_90", "right": "ROTATE_270", "half": "ROTATE_180"}
_LYING: Final = (5, 6, 7, 8)  # orientations whose width is a height


def _upright_size(image: "Image", rotate: str) -> tuple[int, int]:
    width, height = image.size
    orientation = 1
    if rotate != "none":
        with _lenient():
            orientation = image.getexif().get(_ORIENTATION, 1)
    lying = (orientation in _LYING) != (rotate in ("left", "right"))
    return (height, width) if lying else (width, height)


def _turned(image: "Image", rotate: str) -> tuple["Image", Any]:
    """The image as it is to be seen, and its EXIF without an orientation."""
    from PIL import Image, ImageOps

    made = image
    if rotate != "none":
        with _lenient():
            made = ImageOps.exif_transpose(image)
    exif = None
    with _lenient():
        exif = made.getexif()
        if rotate in _TURNS:
            made = made.transpose(Image.Transpose[_TURNS[rotate]])
    return made, exif


def _plain(image: "Image", format: str) -> "Image":
    """In colours that can be resized, and that *format* has; white stands behind what is transparent in JPEG."""
    from PIL import Image

    see_through = image.has_transparency_data
    if format == "jpeg" and see_through:
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(under, over).convert("RGB")
    if image.mode in ("L", "1") and not see_through:
        return image.convert("L")
    return image.convert("RGBA" if see_through else "RGB")


def _size(of: tuple[int, int], resize: dict[str, Any] | None, max_pixels: int) -> tuple[int, int] | None:
    """The size of what is made. Raises Unreadable for one that is too large."""
    if not resize:
        return None
    width, height = of
    if percent := resize.get("percent"):
        size = (_scaled(width, percent / 100), _scaled(height, percent / 100))
    else:
        wide, high = resize.get("width"), resize.get("height")
        if wide and high and resize.get("fit", "inside") != "inside":
            size = (wide, high)
        else:
            factor = min(*(asked / side for asked, side in ((wide, width), (high, height)) if asked), 1.0)
            size = (_scaled(width, factor), _scaled(height, factor))
    if size[0] * size[1] > max_pixels or max(size) > MAX_SIDE:
        raise Unreadable(f"It would be {size[0]} x {size[1]}, which is too large.", f"At most {max_pixels} pixels.")
    return size


def _scaled(side: int, factor: float) -> int:
    return max(1, round(side * factor))


def _resized(image: "Image", size: tuple[int, int], fit: str) -> "Image":
    from PIL import Image, ImageOps

    if fit == "cover":  # cut to the proportions, about the middle
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


_SAVING: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "jpeg": lambda quality: {"quality": quality, "optimize": True, "progressive": True},
    "webp": lambda quality: {"quality": quality, "method": 2},  # 4, the default, takes twice as long for little
    "png": lambda quality: {"compress_level": 6},  # `optimize` takes ten times as long for a twentieth
    "gif": lambda quality: {"optimize": True},
}
