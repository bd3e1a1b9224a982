"""The key that heads of the audit are signed with: `audit.key` in the state folder, made when it is first needed.

Whoever has it can sign another past. So it is worth least where the audit lies: a copy of the heads on another
machine (`audit.anchor`) is what holds against somebody who has the whole of this one.
Source: RFC 8032.
"""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bascule.store.secret import SecretFile

FILE: Final = "audit.key"
KEY_BYTES: Final = 32

_SECRET: Final = SecretFile(
    FILE,
    KEY_BYTES,
    "others can read the key that the audit is signed with; chmod 600 %s, and if anybody may have read it, put it away:"
    " the next start makes another",
    "a signing key has %d bytes, this has %d: restore it",
)


def read(state: Path) -> Ed25519PrivateKey | None:
    """The key of the state folder, None if it has none. Raises ConfigInvalid for one that is not secret."""
    seed = _SECRET.read(state)
    return None if seed is None else Ed25519PrivateKey.from_private_bytes(seed)


def create(state: Path) -> Ed25519PrivateKey:
    """A new key, or the one that another process has made just now."""
    return Ed25519PrivateKey.from_private_bytes(_SECRET.create(state))
