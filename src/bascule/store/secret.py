"""A secret of a state folder: random bytes in a file of their own, for nobody but its user."""

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from bascule.errors import ConfigInvalid
from bascule.store import folder


class SecretFile(msgspec.Struct, frozen=True):
    """One of them, and what is said when it is not as it has to be."""

    name: str
    size_bytes: int
    exposed: str  # `others can read …; chmod 600 %s …`, where %s is its path
    wrong: str  # `a pepper has %d bytes, this has %d: restore it`

    def read(self, state: Path) -> bytes | None:
        """The secret of the state folder, None if it has none. Raises ConfigInvalid for one that is not secret."""
        path = state / self.name
        try:
            found = path.read_bytes()
            is_private = folder.is_private(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise folder.unusable(path, error) from error
        if not is_private:
            raise ConfigInvalid(self.exposed % path, place=str(path))
        if len(found) != self.size_bytes:
            raise ConfigInvalid(self.wrong % (self.size_bytes, len(found)), place=str(path))
        return found

    def create(self, state: Path, make: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
        """A new secret, or the one that another process has made just now."""
        with folder.locked(state):
            found = self.read(state)
            if found is None:
                found = make(self.size_bytes)
                folder.create(state / self.name, found)
            return found
