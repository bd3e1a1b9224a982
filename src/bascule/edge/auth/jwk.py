"""The public keys of an authorization server: what of a JWKS document can be used, and which key fits a token. PURE.

Knows nothing of where the document came from or of how old it is.
Source: RFC 7517, RFC 7518 (6), RFC 8037 (2), RFC 8725 (3.1, 3.2).
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import jiter
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

MAX_KEYS: Final = 64
MAX_KID_CHARS: Final = 256
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # what checks a signature in a millisecond; a larger key is made to keep us busy
MAX_RSA_EXPONENT_BITS: Final = 64

# What each algorithm needs of a key: its type, and its curve where it has one.
FITTING: Final[Mapping[str, tuple[str, str | None]]] = {
    **{f"{kind}{bits}": ("RSA", None) for kind in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
_SYNONYMS: Final = frozenset({"EdDSA", "Ed25519"})  # RFC 9864 gave the same signature another name

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")

NativeKey: TypeAlias = RSAKey | ECKey | OKPKey


class VerificationKey(msgspec.Struct, frozen=True):
    """A public key that signatures can be checked with."""

    kid: str | None
    kty: str
    curve: str | None
    alg: str | None  # the only algorithm it is for, where the server says one
    thumbprint: str  # RFC 7638: which key it is, whatever it is called
    native: NativeKey

    @property
    def identity(self) -> tuple[str | None, str | None, str]:
        """What makes it the same key for the same tokens."""
        return self.kid, self.alg, self.thumbprint

    def fits(self, alg: str) -> bool:
        """Whether *alg* is an algorithm of this key: of its type, its curve, and the one it was made for."""
        if FITTING.get(alg) != (self.kty, self.curve):
            return False
        return self.alg in (None, alg) or {self.alg, alg} <= _SYNONYMS


def from_base64url(text: str) -> bytes | None:
    """The bytes of unpadded base64url; None for anything that is not exactly what an encoder writes (RFC 7515, 2)."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The last character may carry bits that mean nothing: two texts of one signature must not both be good.
    return decoded if base64.urlsafe_b64encode(decoded).rstrip(b"=") == text.encode() else None


def keys_in(document: bytes) -> tuple[VerificationKey, ...]:
    """The usable keys of a JWKS *document*; keys of other types and uses are left out (RFC 7517, 5).

    Raises ValueError when it is no JWKS at all, or has more than 64 keys.
    """
    content = jiter.from_json(document, catch_duplicate_keys=True, allow_inf_nan=False)
    members = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(members, list):
        raise ValueError("it has no list of keys")
    if len(members) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    return tuple(key for member in members if (key := _key(member)) is not None)


def fitting(keys: Sequence[VerificationKey], kid: str | None, alg: str) -> tuple[VerificationKey, ...]:
    """Those of *keys* that a token of this *kid* and *alg* may be signed with; without a kid, any of that kind."""
    return tuple(key for key in keys if kid in (None, key.kid) and key.fits(alg))


def is_kid(value: object) -> bool:
    """Whether *value* can be the name of a key: short, and printable on one line."""
    return isinstance(value, str) and 0 < len(value) <= MAX_KID_CHARS and value.isprintable()


def _key(member: object) -> VerificationKey | None:
    if not isinstance(member, dict) or not _is_for_signatures(member):
        return None
    kid, alg = member.get("kid"), member.get("alg")
    if not (kid is None or is_kid(kid)) or not (alg is None or (isinstance(alg, str) and alg in FITTING)):
        return None
    native = _native(member)
    if native is None:
        return None
    curve = member["crv"] if member["kty"] != "RSA" else None
    return VerificationKey(kid, member["kty"], curve, alg, native.thumbprint(), native)


def _is_for_signatures(member: Mapping[str, Any]) -> bool:
    """Whether it is public and meant to check signatures."""
    if "d" in member or "k" in member:
        return False  # what is secret and published is not secret: anyone could sign with it
    operations = member.get("key_ops")
    meant = operations is None or (isinstance(operations, list) and "verify" in operations)
    return meant and member.get("use", "sig") == "sig"


def _native(member: Mapping[str, Any]) -> NativeKey | None:
    # Only what makes the key crosses into the library: its names and uses were read here.
    kty, curve = member.get("kty"), member.get("crv")
    try:
        if kty == "RSA" and _is_sound_rsa(member):
            return RSAKey.import_key({"kty": "RSA", "n": member["n"], "e": member["e"]})
        if kty == "EC" and (kty, curve) in FITTING.values():
            return ECKey.import_key({"kty": "EC", "crv": member["crv"], "x": member["x"], "y": member["y"]})
        if kty == "OKP" and (kty, curve) in FITTING.values():
            return OKPKey.import_key({"kty": "OKP", "crv": member["crv"], "x": member["x"]})
    except (JoseError, UnsupportedAlgorithm, ValueError, KeyError, TypeError):
        pass  # no such point on the curve, a coordinate that is no text: not a key
    return None


def _is_sound_rsa(member: Mapping[str, Any]) -> bool:
    modulus, exponent = _bits(member.get("n")), _bits(member.get("e"))
    return MIN_RSA_BITS <= modulus <= MAX_RSA_BITS and 1 < exponent <= MAX_RSA_EXPONENT_BITS


def _bits(value: object) -> int:
    """The size of a number in base64url; 0 when it is none."""
    decoded = from_base64url(value) if isinstance(value, str) else None
    return int.from_bytes(decoded).bit_length() if decoded else 0
