"""What is kept of calls is nobody's business who reads the disk: results and arguments are compressed and encrypted.

Everything comes from one secret of the state folder, which is made when first needed. Knows no tables.
Source: NIST SP 800-38D (AES-GCM), RFC 5869 (HKDF), RFC 8878 (Zstandard).
"""

import hashlib
import hmac
import secrets
import sys
import threading
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from bascule.errors import ConfigInvalid, Internal
from bascule.store.secret import SecretFile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILE: Final = "journal.key"
KEY_BYTES: Final = 32
_SECRET: Final = SecretFile(
    FILE,
    KEY_BYTES,
    "others can read what records are encrypted with; chmod 600 %s",
    "it has %d bytes, this has %d: restore it",
)
_NONCE_BYTES: Final = 12  # random: good for 2**32 records under one secret
_LARGEST: Final = 64 * 1024 * 1024  # bytes of anything that is sealed


class Vault:
    """Seals and opens records; finds the row of a caller's key without storing the key."""

    def __init__(self, secret: bytes) -> None:
        self._lookup = _derived(secret, b"lookup")
        self._cipher = AESGCM(_derived(secret, b"records"))
        self._threads = threading.local()  # a compressor is for one thread at a time, and dear to make

    def lookup(self, caller: str, key: str) -> bytes:
        """Where the call of *caller* with *key* is found: nobody else's key leads there, whatever it is."""
        name = caller.encode()
        said = len(name).to_bytes(8, "big") + name + key.encode()
        return hmac.digest(self._lookup, said, hashlib.sha256)

    def seal(self, purpose: str, content: bytes) -> bytes:
        """*content*, to be opened for the same *purpose* only: a row's secrets are of no use in another row."""
        if not hasattr(self._threads, "compressor"):
            self._threads.compressor = zstd.ZstdCompressor(level=3)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        packed: bytes = self._threads.compressor.compress(content, zstd.ZstdCompressor.FLUSH_FRAME)
        return nonce + self._cipher.encrypt(nonce, packed, purpose.encode())

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """Raises Internal for what was damaged, moved, or sealed with another secret."""
        try:
            packed = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
            decompressor = zstd.ZstdDecompressor()
            content: bytes = decompressor.decompress(packed, _LARGEST)
        except (InvalidTag, ValueError, zstd.ZstdError) as error:
            raise Internal("a record is damaged, or was written with another journal.key; it is not used") from error
        if not decompressor.eof:
            raise Internal(f"a record is longer than {_LARGEST} bytes; it is not used")
        return content


def vault_of(state: Path, *, is_used: bool) -> Vault:
    """The vault of a state folder; its secret is made with the first of them, and never in place of one that was lost.

    *is_used*: something was sealed with it before. Raises ConfigInvalid for a secret that is gone, or that others can
    read, or that is none.
    """
    secret = _SECRET.read(state)
    if secret is None and is_used:
        raise ConfigInvalid(
            "it is gone, and without it no idempotency key is recognised: a call that was made could be made again."
            " Restore it, from a backup of the state folder; if it is lost for good, begin with another state_dir",
            place=str(state / FILE),
        )
    return Vault(secret or _SECRET.create(state))


def _derived(secret: bytes, use: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), KEY_BYTES, b"bascule " + use).derive(secret)
