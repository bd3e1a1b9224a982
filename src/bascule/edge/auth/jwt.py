"""Access tokens that are JWTs: every check that can be made with the token and the issuer's keys in hand. PURE.

In this order: the form, before any library sees the token (`parse`), what the header and the claims say
(`admit`), and the signature (`check_signature`). Nothing here fetches anything, whatever a token asks for.
Each refusal is an Unauthenticated whose message may be shown to the client: it quotes nothing of the token.
Source: RFC 7515, RFC 7519, RFC 8725, RFC 9068; MCP 2026-07-28, "Token Handling".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import jiter
import msgspec
from joserfc.jws import JWSRegistry

from bascule.edge.auth.jwk import VerificationKey, from_base64url, is_kid
from bascule.errors import Unauthenticated
from bascule.policy.options import IssuerOptions
from bascule.policy.scopes import is_scope

MAX_TOKEN_CHARS: Final = 8192
MAX_NAME_CHARS: Final = 256
MAX_AUDIENCES: Final = 64
_MOST_TRIED: Final = 8  # keys, for a token that does not say which one it was signed with
_LATEST_S: Final = 1e12  # later than any time in seconds; a count of microseconds is a mistake of the issuer's
_TYPE_PREFIX: Final = "application/"


class Claims(msgspec.Struct, frozen=True):
    """What a good token says of its bearer. Grants that the operator adds to it are not in here."""

    issuer: str  # by the short name of ours
    name: str
    scopes: frozenset[str]
    roles: frozenset[str]
    attributes: Mapping[str, Any]
    expires_at_s: float  # Unix time


class Unverified(msgspec.Struct, frozen=True):
    """A token taken apart. Nobody has vouched for any of it."""

    alg: str
    typ: str  # "" when absent
    kid: str | None
    issuer: str
    members: Mapping[str, Any]  # the claims
    signed: bytes
    signature: bytes


# ---- form


def parse(token: str) -> Unverified:
    """*token* taken apart. Raises Unauthenticated unless it has the form of a signed JWT of one issuer."""
    if len(token) > MAX_TOKEN_CHARS:
        raise Unauthenticated(f"the token is longer than {MAX_TOKEN_CHARS} characters")
    parts = token.split(".")
    if len(parts) == 5:
        raise Unauthenticated("the token is encrypted; only signed ones are taken")
    if len(parts) != 3:
        raise Unauthenticated("the token is not a signed JWT")
    header, claims = _object(parts[0], "header"), _object(parts[1], "claims")
    signature = from_base64url(parts[2])
    if signature is None:
        raise Unauthenticated("the token has no signature, or one that is not base64url")
    _check_header(header)
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise Unauthenticated("the token does not say who issued it")
    return Unverified(
        alg=header["alg"],
        typ=header.get("typ", ""),
        kid=header.get("kid"),
        issuer=issuer,
        members=claims,
        signed=f"{parts[0]}.{parts[1]}".encode(),
        signature=signature,
    )


def _object(part: str, what: str) -> dict[str, Any]:
    """The JSON object in one part of a token. A name that stands in it twice is refused, at any depth."""
    encoded = from_base64url(part)
    if encoded is None:
        raise Unauthenticated(f"the {what} of the token are not base64url")
    try:
        value = jiter.from_json(encoded, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unauthenticated(f"the {what} of the token are not a JSON object with each name once")
    return value


def _check_header(header: Mapping[str, Any]) -> None:
    """What holds for tokens of every issuer. `jku`, `x5u`, `jwk` and `x5c` are not read: keys come from the issuer."""
    if not isinstance(header.get("alg"), str) or not isinstance(header.get("typ", ""), str):
        raise Unauthenticated("the header of the token names no algorithm, or a type that is no text")
    if "crit" in header:
        raise Unauthenticated("the token demands extensions (crit) that are not known here")
    if "enc" in header or _bare_type(header.get("cty", "")).endswith("jwt"):
        raise Unauthenticated("the token is encrypted or nested; only plain signed ones are taken")
    if "kid" in header and not is_kid(header["kid"]):
        raise Unauthenticated("the token names its key with something that is no short text")


def _bare_type(value: object) -> str:
    """A media type as RFC 7515 (4.1.9) compares it: without `application/`, and in whichever case."""
    return value.casefold().removeprefix(_TYPE_PREFIX) if isinstance(value, str) else ""


# ---- header and claims


def admit(token: Unverified, name: str, options: IssuerOptions, audience: str, now_s: float) -> Claims:
    """What *token* says, if the issuer's options let it in; whether it is true, its signature has yet to show.

    *name* is the issuer's short name, *audience* the URL of the endpoint that is called.
    Raises Unauthenticated.
    """
    if token.alg not in options.algorithms:
        raise Unauthenticated("the token is signed with an algorithm that is not taken from its issuer")
    if _bare_type(token.typ) not in map(_bare_type, options.types):
        raise Unauthenticated("the token is not of a type that is taken from its issuer")
    if "exp" not in token.members:
        raise Unauthenticated("the token does not say when it expires")
    return claims_of(token.members, name, options, audience, now_s)


def claims_of(
    members: Mapping[str, Any], name: str, options: IssuerOptions, audience: str, now_s: float, default_s: float = 0.0
) -> Claims:
    """What the *members* of a token, or of an answer about one, say, checked alike.

    Without `exp` it is good for *default_s*; without `iss` it is the issuer's, which the caller must know.
    Raises Unauthenticated.
    """
    if members.get("iss", options.issuer) != options.issuer:
        raise Unauthenticated("the token was issued by somebody else")
    _check_audience(members.get("aud"), options.audiences or (audience,))
    expires_at_s = _check_times(members, options, now_s, default_s)
    if "cnf" in members:
        # RFC 7800: good only with a proof of possession, which is not checked here. A thief has none either.
        raise Unauthenticated("the token is bound to a key (cnf), which cannot be checked here")
    return Claims(
        issuer=name,
        name=_name_of(members, options.name_claim),
        # `*` is our word, which no issuer knows: one that passes on what a client asked for must not grant everything.
        scopes=frozenset(w for w in _words(_claim(members, options.scopes_claim)) if is_scope(w) and w[0] != "*"),
        roles=frozenset(_roles(_claim(members, options.roles_claim))) if options.roles_claim else frozenset(),
        attributes={
            attribute: value
            for attribute, claim in options.attributes.items()
            if (value := _claim(members, claim)) is not None
        },
        expires_at_s=expires_at_s,
    )


def _check_audience(said: object, wanted: Sequence[str]) -> None:
    """RFC 7519, 4.1.3: one of the audiences is ours, letter for letter (no slash or case is forgiven)."""
    audiences = [said] if isinstance(said, str) else said
    if not isinstance(audiences, list) or len(audiences) > MAX_AUDIENCES:
        raise Unauthenticated("the token does not say whom it is for")
    if not all(isinstance(audience, str) for audience in audiences) or not set(wanted) & set(audiences):
        raise Unauthenticated("the token is for somebody else: ask for one with this endpoint as its resource")


def _check_times(members: Mapping[str, Any], options: IssuerOptions, now_s: float, default_s: float) -> float:
    """When it expires, in Unix time."""
    expires_s = _time(members, "exp")
    begins_s = _time(members, "nbf")
    issued_s = _time(members, "iat")
    if expires_s is None:
        expires_s = now_s + default_s
    if now_s >= expires_s + options.skew_s:
        raise Unauthenticated("the token has expired")
    if max(begins_s or now_s, issued_s or now_s) > now_s + options.skew_s:
        raise Unauthenticated("the token is not good yet; is the clock of its issuer right?")
    if expires_s - (now_s if issued_s is None else issued_s) > options.max_lifetime_s:
        raise Unauthenticated(f"the token lives longer than the {options.max_lifetime_s:g} s that are allowed here")
    return expires_s


def _time(members: Mapping[str, Any], claim: str) -> float | None:
    """A time of the token's, None when it is absent. A text, a truth value or a number without end is refused."""
    value = members.get(claim)
    if value is None and claim not in members:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LATEST_S < value < _LATEST_S:
        raise Unauthenticated(f"the token has an {claim} that is not a time")
    return float(value)


def _name_of(members: Mapping[str, Any], claim: str) -> str:
    name = _claim(members, claim)
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise Unauthenticated("the token does not say whose it is, or says it in no short plain text")
    return name


def _claim(members: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or what a dotted path such as `realm_access.roles` leads to; None if there is none."""
    if path in members:
        return members[path]
    found: Any = members
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _words(value: object) -> Iterator[str]:
    """The texts of a list, or of one text with spaces (RFC 6749, 3.3). What is neither holds none."""
    if isinstance(value, str):
        yield from value.split(" ")
    elif isinstance(value, list):
        yield from (word for word in value if isinstance(word, str))


def _roles(value: object) -> Iterator[str]:
    """Roles may have spaces in them, so one text is one role."""
    words = (value,) if isinstance(value, str) else _words(value)
    return (role for role in words if role.strip() and len(role) <= MAX_NAME_CHARS and role.isprintable())


# ---- signature


def check_signature(token: Unverified, keys: Sequence[VerificationKey]) -> None:
    """That one of *keys* signed it; they must be of its `kid` and `alg`. Raises Unauthenticated."""
    if not is_signed_by(token, keys):
        raise Unauthenticated("the signature of the token is not its issuer's")


def is_signed_by(token: Unverified, keys: Sequence[VerificationKey]) -> bool:
    """Whether one of *keys*, the first eight of them, signed *token*. A key of another kind never did."""
    # The registry's own checks are not used: they know a fixed list of headers, and warn of the name EdDSA.
    fitting = [key for key in keys[:_MOST_TRIED] if key.fits(token.alg)]
    return any(JWSRegistry.algorithms[token.alg].verify(token.signed, token.signature, key.native) for key in fitting)
