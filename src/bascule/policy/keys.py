"""What an API key is: its text, its digest, and the record that stays of it. PURE.

    gw_live_4m1x0e9q7c2k_<43 characters>_<6 characters>
       │    │            │               └ CRC-32 of all before it: a mistyped key is known before any lookup
       │    │            └ the secret, 256 bits
       │    └ the id, by which the record is found; it may stand in logs
       └ the environment, so that a key made for tests opens nothing else

The secret itself is kept nowhere, only its HMAC under a pepper that is not in the database. A slow hash
would add nothing: there is no guessing 256 random bits, and checking them must not cost an attacker's while.
Source: security.md A10.
"""

import binascii
import hmac
import re
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from bascule.policy.scopes import Scopes

State: TypeAlias = Literal["active", "expired", "revoked"]

PREFIX: Final = "gw_"
PEPPER_BYTES: Final = 32
RANDOM_BYTES: Final = 44  # what a new key is made from: 12 for its id, 32 for its secret

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE32: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # ids are read aloud and typed: no i, l, o, u
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43  # 62**43 > 2**256
_CRC_LENGTH: Final = 6  # 62**6 > 2**32

_KEY: Final = re.compile(
    rf"(?P<body>gw_(?P<environment>[a-z0-9]{{1,16}})_(?P<id>[{_BASE32}]{{{_ID_LENGTH}}})"
    rf"_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}}))_(?P<crc>[0-9A-Za-z]{{{_CRC_LENGTH}}})"
)


class KeyParts(NamedTuple):
    """A key, taken apart."""

    environment: str
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyParts(environment={self.environment!r}, id={self.id!r}, secret='***')"


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key. Times are seconds since 1970."""

    id: str
    caller: str
    environment: str
    digest: bytes  # HMAC-SHA-256 of the secret
    pepper_id: str  # of the pepper that it was made with
    scopes: Scopes | None = None  # no more than these of the caller's; None: all of them
    networks: tuple[str, ...] = ()  # where it may be used from; none: everywhere
    note: str = ""
    created_at_s: float = 0.0
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    last_used_at_s: float | None = None
    replaced_by: str | None = None  # the id of the key that it was rotated to

    def __repr__(self) -> str:
        return f"KeyRecord(id={self.id!r}, caller={self.caller!r}, environment={self.environment!r})"


class KeySnapshot(msgspec.Struct, frozen=True):
    """All keys at one moment, and what their digests were made with."""

    pepper: bytes
    records: tuple[KeyRecord, ...] = ()
    generation: int = 0  # grows with each change

    def __repr__(self) -> str:
        return f"KeySnapshot({len(self.records)} keys)"


def new_key(environment: str, random: bytes) -> tuple[KeyParts, str]:
    """A key made of RANDOM_BYTES of *random* bytes: its parts, and its text."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} random bytes")
    # 256 is a multiple of 32, so every character of the id is as likely as any other.
    id = "".join(_BASE32[byte % 32] for byte in random[:_ID_LENGTH])
    secret = _base62(int.from_bytes(random[_ID_LENGTH:], "big"), _SECRET_LENGTH)
    text = f"{PREFIX}{environment}_{id}_{secret}"
    return KeyParts(environment, id, secret), f"{text}_{_checksum(text)}"


def parse(text: str) -> KeyParts | None:
    """The parts of the key *text*; None if it is none, or was mistyped."""
    found = _KEY.fullmatch(text)
    if found is None or _checksum(found["body"]) != found["crc"]:
        return None
    return KeyParts(found["environment"], found["id"], found["secret"])


def digest(pepper: bytes, secret: str) -> bytes:
    """HMAC-SHA-256 of *secret* under *pepper*."""
    return hmac.digest(pepper, secret.encode(), "sha256")


def pepper_id(pepper: bytes) -> str:
    """What tells one pepper from another, and says nothing of either."""
    return hmac.digest(pepper, b"bascule pepper id", "sha256")[:8].hex()


def state_of(record: KeyRecord, now_s: float) -> State:
    """Whether the key can be used at *now_s*."""
    if record.revoked_at_s is not None:
        return "revoked"
    return "expired" if record.expires_at_s is not None and now_s >= record.expires_at_s else "active"


def _checksum(text: str) -> str:
    return _base62(binascii.crc32(text.encode()), _CRC_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
