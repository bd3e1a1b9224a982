"""The state folder: what is in it is for the user that Bascule runs as, and for nobody else.

Knows files, not what they hold.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bascule.errors import ConfigInvalid

DATABASE: Final = "bascule.db"
PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
_LOCK: Final = "bascule.lock"
_OF_OTHERS: Final = 0o077
_IS_POSIX: Final = os.name == "posix"


def prepare(folder: Path) -> None:
    """Make *folder* if it is not there. Raises ConfigInvalid if anybody could put other files into it."""
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise unusable(folder, error) from error
    # What the group may do is the operator's choice: volumes of containers belong to one.
    if _IS_POSIX and mode & stat.S_IWOTH:
        raise ConfigInvalid(f"everybody may write into the state folder; chmod 700 {folder}", place=str(folder))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system takes back from a process that dies. Waits for it."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    except OSError as error:
        raise unusable(folder / _LOCK, error) from error
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # unlocks it


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def try_lock(descriptor: int) -> bool:
        """Lock an open file until it is closed, unless another process has; whether that went well."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def try_lock(descriptor: int) -> bool:
        """Lock an open file until it is closed, unless another process has; whether that went well."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def create(path: Path, content: bytes) -> None:
    """Write a new private file: all of it, or none. To be called under the lock. Raises ConfigInvalid."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.unlink(missing_ok=True)  # of a process that died here
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise unusable(path, error) from error


def _sync(folder: Path) -> None:
    """Make the names in *folder* outlive a power cut."""
    if _IS_POSIX:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_private(path: Path) -> bool:
    """Whether only its owner may read or write the file."""
    return not _IS_POSIX or not path.stat().st_mode & _OF_OTHERS


def unusable(path: Path, error: Exception) -> ConfigInvalid:
    why = (error.strerror if isinstance(error, OSError) else None) or error
    return ConfigInvalid(f"cannot be used: {why}; is state_dir right?", place=str(path))
