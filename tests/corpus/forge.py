"""Access tokens as an attacker would have them: a good one of the test authority with one thing wrong."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from authority import Authority, SigningKey, base64url, compact

from corpus.cases import Shape, built

Json: TypeAlias = dict[str, Any]
Sign: TypeAlias = Callable[[bytes], bytes]

_DIGESTS: Final = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


class Token(Shape, frozen=True):
    """What is wrong with it. Members that are null are left out; `{now: -61}` is a time from now, in seconds.

    In texts `<ISS>`, `<AUD>`, `<NOW>`, `<EXP>`, `<KID>`, `<URL>` and `<CANARY>` stand for what they say.
    """

    claims: Mapping[str, Any] = {}
    header: Mapping[str, Any] = {}
    claims_raw: Any = None  # a piece, instead of the claims as JSON
    header_raw: Any = None
    signed: str = "well"  # well | not | by-stranger | by-ec | by-pss | by-pem | by-nothing
    then: str = ""  # what happens to it afterwards; see _BROKEN
    rotated: bool = False  # the authority has a new key since a moment ago


def forged(token: Token, authority: Authority, audience: str, others: Mapping[str, str]) -> str:
    """The text of *token*, made for *audience* unless it says otherwise."""
    if token.rotated:
        authority.rotate()
    key = authority.keys[0]
    now_s = int(time.time())
    words = {"<ISS>": authority.issuer, "<AUD>": audience, "<NOW>": str(now_s), "<EXP>": str(now_s + 300),
             "<KID>": key.kid, **others}  # fmt: skip
    claims = _said({**authority.claims(aud=audience, scope="far"), **token.claims}, now_s, words)
    header = _said({"alg": key.alg, "typ": "at+jwt", "kid": key.kid, **token.header}, now_s, words)
    whole = compact(
        header if token.header_raw is None else built(token.header_raw, words),
        claims if token.claims_raw is None else built(token.claims_raw, words),
        _signature(token.signed, key, header),
    )
    return _BROKEN[token.then](whole)


def _said(members: Json, now_s: int, words: Mapping[str, str]) -> Json:
    return {name: _value(value, now_s, words) for name, value in members.items() if value is not None}


def _value(value: Any, now_s: int, words: Mapping[str, str]) -> Any:
    match value:
        case {"now": int(shift_s), **rest} if not rest:
            return now_s + shift_s
        case {"repeat": _, "times": _}:
            return built(value, words).decode()
        case str():
            return built(value, words).decode()
        case list():
            return [_value(each, now_s, words) for each in value]
        case dict():
            return {name: _value(each, now_s, words) for name, each in value.items() if each is not None}
    return value


def _signature(how: str, key: SigningKey, header: Json) -> Sign:
    match how:
        case "well":
            return key.sign
        case "not":
            return lambda content: b""
        case "by-stranger":
            return SigningKey("RS256").sign
        case "by-ec":
            return SigningKey("ES256").sign
        case "by-pem" | "by-nothing":
            secret = key.private.as_pem(private=False) if how == "by-pem" else b""
            digest = _DIGESTS[str(header["alg"])]
            return lambda content: hmac.new(secret, content, digest).digest()
        case "by-pss":
            other = SigningKey("PS256")
            other.private = key.private
            return other.sign
    raise ValueError(f"not a way to sign: {how}")


# ---- afterwards


def _with_other_claims(token: str) -> str:
    header, claims, signature = token.split(".")
    said = {**json.loads(_decoded(claims)), "scope": "*"}
    return f"{header}.{base64url(json.dumps(said).encode())}.{signature}"


def _with_other_header(token: str) -> str:
    header, claims, signature = token.split(".")
    said = {**json.loads(_decoded(header)), "x": 1}
    return f"{base64url(json.dumps(said).encode())}.{claims}.{signature}"


def _with_one_bit_more(token: str) -> str:
    """The last character has bits that mean nothing: another one decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _as_json(token: str) -> str:
    header, claims, signature = token.split(".")
    return json.dumps({"protected": header, "payload": claims, "signature": signature}, separators=(",", ":"))


_BROKEN: Final[Mapping[str, Callable[[str], str]]] = {
    "": lambda token: token,
    "other-claims": _with_other_claims,
    "other-header": _with_other_header,
    "one-bit-more": _with_one_bit_more,
    "unsigned": lambda token: token.rpartition(".")[0] + ".",
    "two-parts": lambda token: token.rpartition(".")[0],
    "four-parts": lambda token: f"{token}.{token.rpartition('.')[2]}",
    "five-parts": lambda token: f"{token}.AAAA.AAAA",
    "padded": lambda token: f"{token}==",
    "cut": lambda token: token[:-8],
    "plus-slash": lambda token: token.replace("-", "+").replace("_", "/"),
    "as-json": _as_json,
    "doubled": lambda token: f"{token},{token}",
}
