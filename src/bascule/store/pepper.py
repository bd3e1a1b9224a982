"""The pepper: 32 random bytes beside the database, without which the digests in it say nothing.

Whoever takes a copy of the database alone can neither use nor check a key.
"""

from pathlib import Path
from typing import Final

from bascule.policy.keys import PEPPER_BYTES
from bascule.store.secret import SecretFile

FILE: Final = "pepper"

_SECRET: Final = SecretFile(
    FILE,
    PEPPER_BYTES,
    "others can read the pepper that keys are checked with; chmod 600 %s, and if anybody may have read it, make the"
    " keys anew",
    "a pepper has %d bytes, this has %d: restore it",
)


def read(state: Path) -> bytes | None:
    """The pepper of the state folder, None if it has none. Raises ConfigInvalid for one that is not secret."""
    return _SECRET.read(state)


def create(state: Path) -> bytes:
    """A new pepper, or the one that another process has made just now."""
    return _SECRET.create(state)
