"""Which processes that write records are alive: each holds a locked file, which the system unlocks when it dies.

A process id would not tell: it is given to another one again, and is unknown to other containers.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from bascule.errors import ConfigInvalid
from bascule.store import folder

FOLDER: Final = "boots"
_NEW: Final = ".new-"
_ID: Final = re.compile("[0-9a-f]{32}")
IsAlive: TypeAlias = Callable[[str], bool]


class Boot:
    """The life of this process, under an id of its own."""

    def __init__(self, state: Path) -> None:
        """Raises ConfigInvalid where no file can be made."""
        self.id = secrets.token_hex(16)
        self._folder = state / FOLDER
        folder.prepare(self._folder)
        self._path = self._folder / self.id
        # Under its name only once it is locked: who looks in between would take it for a dead one's.
        beside = self._folder / f"{_NEW}{self.id}"
        try:
            self._descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, folder.PRIVATE_FILE)
            if not folder.try_lock(self._descriptor):
                raise ConfigInvalid("files cannot be locked here: set state_dir to a local disk", place=str(beside))
            beside.rename(self._path)
        except OSError as error:
            raise folder.unusable(self._path, error) from error

    def is_alive(self, id: str) -> bool:
        """Whether the process of that *id* still lives."""
        if id == self.id:
            return True
        try:
            descriptor = os.open(self._folder / id, os.O_RDWR)
        except OSError:
            return False  # it has ended well, or was found dead before
        try:
            return not folder.try_lock(descriptor)
        finally:
            os.close(descriptor)

    def dead(self) -> frozenset[str]:
        """The processes that have died without a word, and were not buried yet."""
        named = (id for id in os.listdir(self._folder) if _ID.fullmatch(id))  # whatever else somebody put there
        return frozenset(id for id in named if not self.is_alive(id))

    def bury(self, dead: Iterable[str]) -> None:
        """What they left behind has been looked after."""
        for id in dead:
            (self._folder / id).unlink(missing_ok=True)

    def end(self) -> None:
        """From now on it counts as dead."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
