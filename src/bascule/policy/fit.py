"""Whether what an operator says of callers, roles and limits fits together. PURE."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from bascule.errors import ConfigInvalid
from bascule.policy.options import AuthOptions, CallerOptions, Grant, LimitsOptions
from bascule.policy.scopes import is_scope

LEAST_KEY: Final = 32  # characters of a key that is written by hand; less can be guessed
_LEAST_DISTINCT: Final = 10  # of them; "changeme" again and again has fewer
_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # no colon: `issuer:subject` is a caller too
_RESERVED: Final = frozenset({"anonymous", "bearer", "bascule", "operator"})


def check(
    auth: AuthOptions,
    roles: Mapping[str, tuple[str, ...]],
    callers: Mapping[str, CallerOptions],
    limits: LimitsOptions,
    servers: Collection[str],
) -> None:
    """Raise ConfigInvalid, with the field, for what does not fit."""
    _check_roles(roles)
    _check_callers(callers)
    for field, grant in _grants(auth, callers):
        for role in grant.roles:
            if role not in roles:
                raise ConfigInvalid(f"there is no role {role!r}; there are {_listed(roles)}", field=field)
    for name, issuer in auth.issuers.items():
        if not _NAME.fullmatch(name) or name in callers or name in _RESERVED:
            raise ConfigInvalid("an issuer's name is of A-Z a-z 0-9 . _ @ - and no caller's",
                                field=f"auth.issuers.{name}")  # fmt: skip
        if not issuer.issuer.startswith(("https://", "http://")):
            raise ConfigInvalid(f"{issuer.issuer!r} is not the URL of an issuer", field=f"auth.issuers.{name}.issuer")
    said = [issuer.issuer for issuer in auth.issuers.values()]
    if len(set(said)) != len(said):
        raise ConfigInvalid("two of them are the same issuer", field="auth.issuers")
    for name in limits.servers:
        if name not in servers:
            raise ConfigInvalid(f"there is no server {name!r}; there are {_listed(servers)}",
                                field=f"limits.servers.{name}")  # fmt: skip


def scopes_of(grant: Grant, roles: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """All the scopes that *grant* comes to."""
    return frozenset(grant.scopes).union(*(roles[role] for role in grant.roles))


def _check_roles(roles: Mapping[str, tuple[str, ...]]) -> None:
    for role, scopes in roles.items():
        for scope in scopes:
            if not is_scope(scope):
                raise ConfigInvalid(f"{scope!r} is not a scope such as crm:write:lead, crm:*:lead or *",
                                    field=f"roles.{role}")  # fmt: skip


def _check_callers(callers: Mapping[str, CallerOptions]) -> None:
    owners: dict[str, str] = {}
    for name, caller in callers.items():
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ConfigInvalid(
                f"a caller's name is at most 64 of A-Z a-z 0-9 . _ @ -, and none of {_listed(_RESERVED)}",
                field=f"callers.{name}",
            )
        for number, key in enumerate(caller.keys):
            field = f"callers.{name}.keys.{number}"
            if len(key) < LEAST_KEY or not _KEY.fullmatch(key) or len(set(key)) < _LEAST_DISTINCT:
                raise ConfigInvalid(
                    f"a key is at least {LEAST_KEY} visible characters that nobody can guess:"
                    " `openssl rand -base64 32`, or `bascule keys create`",
                    field=field,
                )
            if owners.setdefault(key, name) != name:
                raise ConfigInvalid(f"{owners[key]!r} has the same key", field=field)
        if caller.certificate is not None and owners.setdefault(f"certificate {caller.certificate}", name) != name:
            raise ConfigInvalid("another caller has the same certificate", field=f"callers.{name}.certificate")


def _grants(auth: AuthOptions, callers: Mapping[str, CallerOptions]) -> Iterable[tuple[str, Grant]]:
    yield from ((f"callers.{name}.roles", caller) for name, caller in callers.items())
    yield from ((f"auth.issuers.{name}.roles", issuer) for name, issuer in auth.issuers.items())
    if isinstance(auth.anonymous, Grant):
        yield "auth.anonymous.roles", auth.anonymous


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
