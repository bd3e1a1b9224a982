"""Private folders of processes: a home and a folder for temporary files, made for one, and removed at its end.

All of one Bascule are in one folder, which it holds a lock of while it lives: what a killed one left is removed by
whoever starts next. Knows files, not what a process is.
"""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

if sys.platform != "win32":
    import fcntl

_PREFIX: Final = "bascule-rooms-"


class Room(msgspec.Struct, frozen=True):
    path: Path

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    def remove(self) -> None:
        """Whatever is in it. What cannot be removed, because somebody has closed it, stays."""
        shutil.rmtree(self.path, ignore_errors=True)


def make() -> Room:
    """A fresh room that only this user can enter. Raises OSError."""
    room = Room(Path(tempfile.mkdtemp(dir=_house())))
    for folder in (room.home, room.tmp):
        folder.mkdir(mode=0o700)
    return room


@cache
def _house() -> Path:
    """The folder of all rooms of this process."""
    above = Path(tempfile.gettempdir()).resolve()
    _sweep(above)
    house = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))
    while not _occupied(house):  # swept by another, just when it had been made
        house = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))
    atexit.register(shutil.rmtree, house, ignore_errors=True)
    return house


def _occupied(house: Path) -> bool:
    """Lock it until this process ends, in whatever way; whether it is still there."""
    if sys.platform == "win32":
        return True
    try:
        # The folder itself: what clears old files away leaves a locked one alone (tmpfiles.d(5)).
        lock = os.open(house, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return os.path.samestat(os.fstat(lock), house.stat())
    except FileNotFoundError:
        return False


def _sweep(above: Path) -> None:
    """Remove the rooms of those who have ended without doing so."""
    if sys.platform == "win32":
        return
    for house in above.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(house, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # somebody else's
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(house, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(lock)
