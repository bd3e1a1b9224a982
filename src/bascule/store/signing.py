"""The key that heads of the audit are signed with: `audit.key` in the state folder, made when it is first needed.

Whoever has it can sign another past. So it is worth least where the audit lies: a copy of the heads on another
machine (`audit.anchor`) is what holds against somebody who has the whole of this one.
Source: RFC 8032.
"""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bascule.errors import ConfigInvalid
from bascule.store import folder

FILE: Final = "audit.key"
KEY_BYTES: Final = 32


def read(state: Path) -> Ed25519PrivateKey | None:
    """The key of the state folder, None if it has none. Raises ConfigInvalid for one that is not secret."""
    path = state / FILE
    try:
        seed = path.read_bytes()
        is_private = folder.is_private(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise folder.unusable(path, error) from error
    if not is_private:
        raise ConfigInvalid(
            f"others can read the key that the audit is signed with; chmod 600 {path}, and if anybody may have read"
            " it, put it away: the next start makes another",
            place=str(path),
        )
    if len(seed) != KEY_BYTES:
        raise ConfigInvalid(f"a signing key has {KEY_BYTES} bytes, this has {len(seed)}: restore it", place=str(path))
    return Ed25519PrivateKey.from_private_bytes(seed)


def create(state: Path) -> Ed25519PrivateKey:
    """A new key, or the one that another process has made just now."""
    with folder.locked(state):
        found = read(state)
        if found is not None:
            return found
        key = Ed25519PrivateKey.generate()
        folder.create(state / FILE, key.private_bytes_raw())
        return key
