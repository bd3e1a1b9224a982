"""Sealed tokens: what we hand to clients to keep for us, and only we can read or make. PURE.

A token names no key but hints at one, so that keys can be rotated: the first of the ring seals, all
of them open. Source: NIST SP 800-38D (AES-GCM); MCP 2026-07-28, "Multi Round-Trip Requests", `requestState`.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32  # AES-256
NONCE_BYTES: Final = 12  # random: good for 2**32 tokens under one key
_HINT_BYTES: Final = 4
_HEAD_BYTES: Final = _HINT_BYTES + NONCE_BYTES
LONGEST: Final = 16 * 1024  # characters of most tokens; a client's text is not decoded beyond


class KeyRing:
    """The keys of this gateway, newest first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """*keys* are of KEY_BYTES each; there is at least one."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key ring needs keys of {KEY_BYTES} bytes")
        self._keys = {_hint(key): AESGCM(key) for key in keys}
        self._first = _hint(keys[0])

    def seal(self, purpose: str, content: bytes, nonce: bytes) -> str:
        """A token for *content* in characters that a header can carry; it opens for the same *purpose* only.

        *nonce* are NONCE_BYTES random bytes, never used twice.
        """
        sealed = self._keys[self._first].encrypt(nonce, content, purpose.encode())
        return _text(self._first + nonce + sealed)

    def open(self, purpose: str, token: str, longest: int = LONGEST) -> bytes | None:
        """The content of a token that this ring sealed for *purpose*; None for any other text.

        A text of more than *longest* characters is not looked at.
        """
        if len(token) > longest:
            return None
        try:
            whole = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        # The last character has bits to spare: of all spellings only the one that we wrote is good.
        key = self._keys.get(whole[:_HINT_BYTES])
        if key is None or len(whole) <= _HEAD_BYTES or _text(whole) != token:
            return None
        try:
            return key.decrypt(whole[_HINT_BYTES:_HEAD_BYTES], whole[_HEAD_BYTES:], purpose.encode())
        except InvalidTag:
            return None


def _hint(key: bytes) -> bytes:
    return hashlib.sha256(b"bascule key hint" + key).digest()[:_HINT_BYTES]


def _text(whole: bytes) -> str:
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()
