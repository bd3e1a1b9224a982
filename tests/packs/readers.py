"""Readers that do what a hostile file would make a reader do (test_apart.py)."""

import os
import socket
import time
from pathlib import Path
from typing import BinaryIO

from bascule.packs.cell import Unreadable


def text(source: BinaryIO) -> str:
    return source.read().decode()


def said(source: BinaryIO, **arguments: object) -> dict[str, object]:
    return arguments


def copied(source: BinaryIO, into: BinaryIO, times: int) -> int:
    return into.write(source.read() * times)


def refusing(source: BinaryIO) -> None:
    raise Unreadable("It is no poem.", "Send a poem.")


def breaking(source: BinaryIO) -> None:
    raise KeyError("nothing of this is for a model to see")


def hoarding(source: BinaryIO, size_bytes: int) -> int:
    return len(b"x" * size_bytes)


def spinning(source: BinaryIO) -> None:
    while True:
        pass


def sleeping(source: BinaryIO) -> None:
    time.sleep(60)


def chattering(source: BinaryIO, size_bytes: int) -> str:
    return "x" * size_bytes


def flooding(source: BinaryIO) -> None:
    while True:
        os.write(1, b"x" * 65_536)


def complaining(source: BinaryIO) -> str:
    os.write(2, b"x" * (1 << 20))
    return "done"


def crashing(source: BinaryIO) -> None:
    os.abort()


def sinking(source: BinaryIO) -> object:
    return sinking(source)


def half(source: BinaryIO) -> str:
    return "a\ud800b"


def opening(source: BinaryIO, path: str) -> str:
    return _tried(lambda: Path(path).read_text())


def writing(source: BinaryIO, path: str) -> str:
    return _tried(lambda: Path(path).write_text("x"))


def calling(source: BinaryIO, port: int) -> str:
    return _tried(lambda: socket.create_connection(("127.0.0.1", port), 5))


def asking_for(source: BinaryIO, family: int, kind: int, protocol: int) -> str:
    return _tried(lambda: socket.socket(family, kind, protocol))


def killing(source: BinaryIO) -> str:
    return _tried(lambda: os.kill(os.getppid(), 0))


def executing(source: BinaryIO) -> str:
    return _tried(lambda: os.execv("/bin/true", ["true"]))


def hogging(source: BinaryIO) -> str:
    return _tried(lambda: [os.dup(0) for _ in range(100)])


def environment(source: BinaryIO) -> dict[str, str]:
    return dict(os.environ)


def process(source: BinaryIO) -> int:
    return os.getpid()


def announcing(source: BinaryIO, into: BinaryIO) -> None:
    """Tells its own number, and never ends."""
    into.write(b"%d" % os.getpid())
    into.flush()
    time.sleep(60)


def _tried(act: object) -> str:
    assert callable(act)
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
