"""A caller that somebody describes, admitted as the edge would admit it: by a credential that is made up for it.

For whoever asks what would become of a call. The decision is `Identify`'s own. Made up are the key, which
never leaves this process, and what the issuer of a token would have said.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from bascule.call import Caller
from bascule.config import Config
from bascule.edge.auth import certificate
from bascule.edge.auth.callers import Credential
from bascule.edge.auth.identify import identify_of
from bascule.edge.auth.issuers import Issuers
from bascule.edge.auth.jwt import Claims, claims_of
from bascule.edge.auth.keys import KeyBook
from bascule.errors import ConfigInvalid, Unauthenticated
from bascule.policy.keys import PEPPER_BYTES, RANDOM_BYTES, KeyRecord, KeySnapshot, digest, new_key
from bascule.policy.options import CallerOptions
from bascule.policy.scopes import is_scope

ANONYMOUS: Final = "anonymous"
BEARER: Final = "bearer"
_RESOURCE: Final = "http://localhost/mcp"
_ADDRESS: Final = "127.0.0.1"
_JWT: Final = "eyJ.described"  # looks like one, which is all that is asked of it here
_LIFETIME_S: Final = 60.0
_NO_KEYS: Final = KeySnapshot(secrets.token_bytes(PEPPER_BYTES))


async def described(
    config: Config,
    name: str,
    now_s: float,
    *,
    options: CallerOptions | None = None,
    key_scopes: tuple[str, ...] = (),
    claims: Mapping[str, Any] | None = None,
    proof: str = "",
) -> Caller:
    """The caller *name* at *now_s* (Unix time): `anonymous`, `bearer`, one of `callers`, or `ISSUER:SUBJECT`.

    *options* are of one that the configuration does not have, which is then known by *proof*. *key_scopes* bind
    the key that it comes with, *claims* are of its token.
    Raises ConfigInvalid for a description that does not fit, Unauthenticated and ScopeDenied as the edge does.
    """
    issuer, _, subject = name.partition(":")
    if options is None and issuer in config.auth.issuers and subject:
        if key_scopes:
            raise ConfigInvalid(f"{name!r} comes with a token, which has no scopes of a key; give it claims")
        said = _claims(config, issuer, subject, claims or {}, now_s)
        return await _admitted(config, now_s, _NO_KEYS, _JWT, said=said)
    if claims is not None:
        raise ConfigInvalid(f"only tokens have claims: {name!r} is not ISSUER:SUBJECT of one of `auth.issuers`")
    if options is not None:
        _check_made_up(config, name, options)
        config = msgspec.structs.replace(config, callers={**config.callers, name: options})
        caller = await _by_name(config, name, now_s, key_scopes)
        return msgspec.structs.replace(caller, proof=proof or caller.proof)
    if key_scopes and name in (ANONYMOUS, BEARER):
        raise ConfigInvalid(f"{name!r} has no key that scopes could bind")
    if name == ANONYMOUS:
        return await _admitted(config, now_s, _NO_KEYS, None)
    if name == BEARER:
        return await _admitted(config, now_s, _NO_KEYS, _bearer(config))
    return await _by_name(config, name, now_s, key_scopes)


async def _by_name(config: Config, name: str, now_s: float, key_scopes: tuple[str, ...]) -> Caller:
    known = config.callers.get(name)
    if known is None:
        names = ", ".join([*config.callers, ANONYMOUS, *(f"{issuer}:SUBJECT" for issuer in config.auth.issuers)])
        raise ConfigInvalid(f"there is no caller {name!r}; there are {names}", field="callers")
    if known.certificate is not None and not known.keys and not key_scopes:
        subject = certificate.canonical(known.certificate)
        return await _admitted(config, now_s, _NO_KEYS, None, subject=subject)
    snapshot, key = _key(config, name, key_scopes)
    return await _admitted(config, now_s, snapshot, key)


async def _admitted(
    config: Config,
    now_s: float,
    keys: KeySnapshot,
    token: str | None,
    *,
    subject: str | None = None,
    said: Claims | None = None,
) -> Caller:
    """What the edge makes of the credential."""
    vouching = None if said is None else cast("Issuers", _Vouching(said))
    book = KeyBook(keys, config.auth.key_environment)
    identify = identify_of(config, book, vouching, clock=lambda: now_s)
    return await identify.caller(Credential(None if token is None else f"Bearer {token}", subject, _ADDRESS, _RESOURCE))


class _Vouching:
    """Stands where the issuers do, and knows one token."""

    def __init__(self, said: Claims) -> None:
        self._said = said

    def known(self, token: str, audience: str, now_s: float) -> Claims:
        return self._said


def _claims(config: Config, issuer: str, subject: str, claims: Mapping[str, Any], now_s: float) -> Claims:
    options = config.auth.issuers[issuer]
    said = {options.name_claim: subject, "aud": next(iter(options.audiences), _RESOURCE), **claims}
    try:
        return claims_of(said, issuer, options, _RESOURCE, now_s, _LIFETIME_S)
    except Unauthenticated as error:
        raise ConfigInvalid(f"a token with these claims would not be taken: {error.message}") from error


def _key(config: Config, name: str, scopes: tuple[str, ...]) -> tuple[KeySnapshot, str]:
    """A key for *name*, and the book that knows it."""
    for scope in scopes:
        if not is_scope(scope):
            raise ConfigInvalid(f"{scope!r} is not a scope such as crm:write:lead, crm:*:lead or *")
    pepper, environment = secrets.token_bytes(PEPPER_BYTES), config.auth.key_environment
    parts, key = new_key(environment, secrets.token_bytes(RANDOM_BYTES))
    record = KeyRecord(
        id=parts.id,
        caller=name,
        environment=environment,
        digest=digest(pepper, parts.secret),
        pepper_id="",
        scopes=frozenset(scopes) or None,
    )
    return KeySnapshot(pepper, (record,)), key


def _bearer(config: Config) -> str:
    if config.http.bearer is None:
        raise ConfigInvalid("there is no http.bearer that somebody could send", field="http.bearer")
    return config.http.bearer


def _check_made_up(config: Config, name: str, options: CallerOptions) -> None:
    for role in options.roles:
        if role not in config.roles:
            raise ConfigInvalid(f"there is no role {role!r}; there are {', '.join(sorted(config.roles)) or 'none'}")
    if ":" in name:
        raise ConfigInvalid(f"{name!r} is not a name for a caller that is made up: it has a colon")
