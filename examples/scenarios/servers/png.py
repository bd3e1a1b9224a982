"""A PNG of two colours, made with nothing but Python (ISO/IEC 15948)."""

import struct
import zlib


def png(width: int, height: int) -> bytes:
    """Orange, with a white circle in the middle."""
    rows = b"".join(b"\0" + bytes(_row(width, height, y)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _row(width: int, height: int, y: int) -> list[int]:
    radius = min(width, height) / 3
    found: list[int] = []
    for x in range(width):
        inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < radius**2
        found += (255, 255, 255) if inside else (230, 120, 20)
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
