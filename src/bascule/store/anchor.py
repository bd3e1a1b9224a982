"""The anchor: a second file with all signed heads of the audit, one line each, only ever appended to.

It is what shows that the end of the chain was cut off. It shows it best where whoever can write the database cannot
write: on another machine, or on a volume that only grows. Knows lines and heads, not the chain.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bascule.store import folder
from bascule.store.chain import Head, head_of
from bascule.store.options import AuditOptions

FILE: Final = "audit.heads"
_TAIL_BYTES: Final = 65_536  # holds some hundred heads


def path_of(options: AuditOptions, state: Path) -> Path:
    """Where the anchor is: beside the database, unless the configuration says otherwise."""
    return state / Path(options.anchor or FILE).expanduser()


def append(path: Path, lines: Sequence[bytes]) -> int:
    """Add *lines*; they are on disk when this returns. How many bytes a line has that a crash tore before them.

    A torn line stays as it is, and a new one is begun. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, folder.PRIVATE_FILE)
    try:
        torn = _torn(descriptor)
        whole = b"".join([b"\n" if torn else b"", *(line + b"\n" for line in lines)])
        while whole:  # one write where the system can: lines of two processes do not mix
            whole = whole[os.write(descriptor, whole) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return torn


def read(path: Path) -> tuple[list[Head], int]:
    """All heads, as they were added, and how many lines are none. Raises OSError; a file that is not there is empty."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    found = [head_of(line) for line in lines if line]
    return [head for head in found if head is not None], found.count(None)


def last(path: Path) -> Head | None:
    """The newest head. Raises OSError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    return next((head for line in reversed(lines) if (head := head_of(line)) is not None), None)


def _torn(descriptor: int) -> int:
    """Bytes of the last line if it has no end."""
    size = os.fstat(descriptor).st_size
    tail = min(size, _TAIL_BYTES)
    os.lseek(descriptor, size - tail, os.SEEK_SET)
    end = os.read(descriptor, tail)
    return len(end) - (end.rfind(b"\n") + 1)
