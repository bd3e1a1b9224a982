"""The pepper: 32 random bytes beside the database, without which the digests in it say nothing.

Whoever takes a copy of the database alone can neither use nor check a key.
"""

import secrets
from pathlib import Path
from typing import Final

from bascule.errors import ConfigInvalid
from bascule.policy.keys import PEPPER_BYTES
from bascule.store import folder

FILE: Final = "pepper"


def read(state: Path) -> bytes | None:
    """The pepper of the state folder, None if it has none. Raises ConfigInvalid for one that is not secret."""
    path = state / FILE
    try:
        pepper = path.read_bytes()
        is_private = folder.is_private(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise folder.unusable(path, error) from error
    if not is_private:
        raise ConfigInvalid(
            f"others can read the pepper that keys are checked with; chmod 600 {path}, and if anybody may have"
            " read it, make the keys anew",
            place=str(path),
        )
    if len(pepper) != PEPPER_BYTES:
        raise ConfigInvalid(f"a pepper has {PEPPER_BYTES} bytes, this has {len(pepper)}: restore it", place=str(path))
    return pepper


def create(state: Path) -> bytes:
    """A new pepper, or the one that another process has made just now."""
    with folder.locked(state):
        found = read(state)
        if found is not None:
            return found
        pepper = secrets.token_bytes(PEPPER_BYTES)
        folder.create(state / FILE, pepper)
        return pepper
