"""Which processes that write records are alive: each holds a locked file, which the system unlocks when it dies.

A process id would not tell: it is given to another one again, and is unknown to other containers.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from bascule.store import folder

FOLDER: Final = "boots"
IsAlive: TypeAlias = Callable[[str], bool]


class Boot:
    """The life of this process, under an id of its own."""

    def __init__(self, state: Path) -> None:
        """Raises ConfigInvalid where no file can be made."""
        self.id = secrets.token_hex(16)
        self._folder = state / FOLDER
        folder.prepare(self._folder)
        self._path = self._folder / self.id
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, folder.PRIVATE_FILE)
        except OSError as error:
            raise folder.unusable(self._path, error) from error
        folder.try_lock(self._descriptor)

    def is_alive(self, id: str) -> bool:
        """Whether the process of that *id* still lives. Of one that has ended, the file is removed."""
        if id == self.id:
            return True
        path = self._folder / id
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return False  # it has ended well, or was found dead before
        try:
            if not folder.try_lock(descriptor):
                return True
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def end(self) -> None:
        """From now on it counts as dead."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
