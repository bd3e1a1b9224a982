"""What the audit keeps of a call's arguments: a digest of all of them, and what may be read of them. PURE."""

import hashlib
import re
from collections.abc import Collection
from typing import Any, Final

import msgspec

from bascule.wire.canonical import canonical

HIDDEN: Final = "***"
MAX_TEXT_BYTES: Final = 16_384

# Names that promise a secret, in any spelling: `apiKey`, `API_KEY`, `x-api-key`.
_NAMES: Final = re.compile(
    "passw|passphrase|pwd|secret|token|apikey|accesskey|privatekey|authorization|credential|cookie|bearer"
    "|signature|cvv|cvc|pincode|otp$|^pin$|^auth$"
)
_SEPARATORS: Final = re.compile(r"[^a-z0-9]")
# Values that are a secret whatever they are called: of HTTP, of well-known issuers, ours, private keys, URLs with
# passwords. However a text is made, none of these patterns takes more than time in proportion to it.
_VALUES: Final = re.compile(
    r"\b(?:bearer|basic)\s+[\w.~+/=-]{8}|\b(?:sk|pk|rk)[-_](?:live|test|proj|ant)[-_]\w|\bgh[pousr]_\w{16}"
    r"|\bgithub_pat_\w|\bglpat-\w|\bxox[abeprs]-\w|\bAKIA[0-9A-Z]{12}|\bAIza[\w-]{30}|\bgw_[a-z0-9]{1,16}_\w{12}_"
    r"|\beyJ[\w-]{8}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]*:[^/\s@]+@",
    re.IGNORECASE,
)


def kept(arguments: bytes, *, text: bool, hide: Collection[str] = ()) -> tuple[str, str | None]:
    """(SHA-256 of the canonical *arguments* in hex, what is kept of them when a *text* is wanted).

    Arguments that Python cannot hold, such as `1e400`, have a digest of their bytes instead, which says so.
    *hide* are names in lower case.
    """
    try:
        value = msgspec.json.decode(arguments)
        digest = hashlib.sha256(canonical(value)).hexdigest()
        return digest, _readable(value, hide) if text else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return f"raw:{hashlib.sha256(arguments).hexdigest()}", None


def _readable(value: Any, hide: Collection[str]) -> str:
    found = canonical(redacted(value, hide))
    if len(found) > MAX_TEXT_BYTES:
        return canonical(f"({len(found)} bytes, not kept)").decode()
    return found.decode()


def redacted(value: Any, hide: Collection[str] = ()) -> Any:
    """A decoded JSON *value* with `***` for what has a name in *hide* (lower case), or may be a secret."""
    match value:
        case dict():
            return {name: HIDDEN if _is_secret(name, hide) else redacted(inner, hide) for name, inner in value.items()}
        case list():
            return [redacted(inner, hide) for inner in value]
        case str() if _VALUES.search(value):
            return HIDDEN
        case _:
            return value


def _is_secret(name: str, hide: Collection[str]) -> bool:
    lower = name.lower()
    return lower in hide or _NAMES.search(_SEPARATORS.sub("", lower)) is not None
