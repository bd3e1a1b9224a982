"""Images for tests: good ones by Pillow, and hostile ones byte by byte."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image


def photo(path: Path, size: tuple[int, int] = (400, 200), orientation: int = 1, **saving: Any) -> Path:
    """A JPEG with a gradient, an orientation, a place and a comment; its left upper corner is red."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.paste((255, 0, 0), (0, 0, size[0] // 4, size[1] // 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Canary Camera"
    exif[0x8825] = {1: "N", 2: (21.0, 1.0, 42.0)}
    image.save(path, "JPEG", exif=exif, comment=b"canary comment", **saving)
    return path


def sticker(path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    """A PNG of which the left half is transparent."""
    image = Image.new("RGBA", size, (0, 0, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    image.save(path)
    return path


def moving(path: Path, format: str = "GIF") -> Path:
    """Three frames: red, green, blue."""
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, format, save_all=True, append_images=frames[1:])
    return path


# ---- hostile ones


def png(width: int, height: int, pixels: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG whose header says so, with *pixels* as its compressed content."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with_text(size: int) -> bytes:
    """A small PNG with a compressed text that grows to *size* bytes."""
    return png(8, 8, zlib.compress(b"\0" * 25 * 8), _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * size, 9)))


def png_with_profile(size: int) -> bytes:
    return png(8, 8, zlib.compress(b"\0" * 25 * 8), _chunk(b"iCCP", b"ICC\0\0" + zlib.compress(b"a" * size, 9)))


def tiff(width: int, height: int, compression: int = 8, content: bytes = b"") -> bytes:
    """A TIFF of one strip whose header says so."""
    content = content or zlib.compress(b"\0" * 1_000_000, 9)
    tags = (
        *((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 200)),
        *((277, 3, 1), (278, 4, height), (279, 4, len(content))),
    )
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return head.ljust(200, b"\0") + content


def tiff_with_itself() -> bytes:
    """A TIFF whose list of pages comes back to its first one."""
    whole = bytearray(tiff(8, 8, 1, b"\0" * 64))
    at = 8 + 2 + 9 * 12
    whole[at : at + 4] = struct.pack("<I", 8)
    return bytes(whole)


def gif(width: int, height: int, frames: int = 1, frame: tuple[int, int] | None = None) -> bytes:
    """A GIF whose screen, and each of whose frames, has this size, with next to nothing in them."""
    wide, high = frame or (width, height)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, wide, high, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + image * frames + b"\x3b"


def webp(width: int, height: int) -> bytes:
    """An extended WebP with a canvas of this size, and nothing on it."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = b"ANMF" + struct.pack("<I", 16 + 8) + bytes(6) + size + bytes(4) + b"VP8L" + struct.pack("<I", 0)
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + b"ANIM" + struct.pack("<I", 6) + bytes(6) + frame
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header is changed to say so."""
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "JPEG")
    whole = bytearray(written.getvalue())
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("http://127.0.0.1/")</script></svg>"""
SVG_ENTITY = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>"""
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(%pipe%touch /tmp/canary) (w) file
"""
