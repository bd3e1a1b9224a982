"""Files of configurations: read whole, written in one step, with what was there before kept aside.

Knows paths and bytes, not what they say.
"""

import contextlib
import os
import stat
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from bascule.errors import ConfigInvalid

MAX_BYTES: Final = 8 * 1024 * 1024
PRIVATE: Final = 0o600


def read(path: Path) -> str | None:
    """The text of *path*, with its line ends as they are; None if there is none. Raises ConfigInvalid."""
    try:
        # Not to wait for whoever writes into a pipe that lies where a file should.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigInvalid(f"cannot be read: {error.strerror}", place=str(path)) from error
    try:
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigInvalid("cannot be read: it is no file", place=str(path))
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigInvalid(f"is larger than {MAX_BYTES} bytes, and is not read", place=str(path))
        return content.decode()
    except OSError as error:
        raise ConfigInvalid(f"cannot be read: {error.strerror}", place=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"is not text in UTF-8: {error.reason} at byte {error.start}", place=str(path)) from error


def replace(path: Path, before: str | None, after: str) -> None:
    """Write *after* in place of *before*, all of it or none, with the mode that the file has.

    A link stays one: what it points at is replaced. Raises ConfigInvalid, also when the file is not *before* any more.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after.encode())
            _like(target, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        if read(target) != before:
            raise ConfigInvalid("was changed by somebody else just now; nothing was written", place=str(path))
        os.replace(name, target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):  # it is in its place now
            os.unlink(name)


def _like(target: Path, descriptor: int) -> None:
    """Give an open file the mode and, if we may, the owner that *target* has."""
    try:
        present = target.stat()
    except FileNotFoundError:
        return  # as mkstemp makes it: for the user alone
    if hasattr(os, "fchown"):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, present.st_uid, present.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(present.st_mode))


def keep(text: str, folder: Path, name: str, now: datetime) -> Path:
    """A private copy of *text* in *folder*, called `NAME.bak-YYYYmmdd-HHMMSS`. Raises ConfigInvalid."""
    base, number = f"{name}.bak-{now:%Y%m%d-%H%M%S}", 1
    while True:
        path = folder / (base if number == 1 else f"{base}-{number}")
        try:
            create(path, text)
        except FileExistsError:
            number += 1
        else:
            return path


def create(path: Path, text: str) -> None:
    """A new file that nobody but its user reads. Raises FileExistsError, and ConfigInvalid for the rest."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, PRIVATE), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def remove(path: Path) -> None:
    """*path* is gone afterwards. Raises ConfigInvalid."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigInvalid(f"cannot be removed: {error.strerror}", place=str(path)) from error


def _unwritable(path: Path, error: OSError) -> ConfigInvalid:
    return ConfigInvalid(f"cannot be written: {error.strerror}; nothing was changed", place=str(path))
