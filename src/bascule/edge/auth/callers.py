"""From an identity that has been proved to a caller with what it may do. PURE."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bascule.call import ANONYMOUS, Caller
from bascule.edge.auth.keys import Found
from bascule.errors import ConfigInvalid
from bascule.policy.fit import scopes_of
from bascule.policy.options import AuthOptions, CallerOptions, Grant
from bascule.policy.scopes import Authority, Scopes

if TYPE_CHECKING:
    from bascule.edge.auth.jwt import Claims

# What every client may ask an OpenID provider for says who somebody is, not what they may do here; a server
# that happens to be called `email` must not be opened by it (OpenID Connect Core, 5.4 and 11).
_NOT_OURS: Final = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})


class Callers:
    """All that the configuration says of who may do what."""

    def __init__(
        self, auth: AuthOptions, roles: Mapping[str, tuple[str, ...]], callers: Mapping[str, CallerOptions]
    ) -> None:
        self._auth = auth
        self._roles = roles
        self._granted = {name: scopes_of(options, roles) for name, options in callers.items()}
        self._callers = callers
        self._subjects = {
            _subject(name, options.certificate): name for name, options in callers.items() if options.certificate
        }

    def anonymous(self, *, alone: bool) -> Caller | None:
        """Who comes without any credential, if they may. *alone*: nobody here has a credential at all."""
        said = self._auth.anonymous
        if isinstance(said, Grant):
            return self._caller(ANONYMOUS.name, said, scopes_of(said, self._roles), proof="anonymous")
        return ANONYMOUS if said or (said is None and alone) else None

    def of_key(self, found: Found) -> Caller | None:
        """Whose key it is; None if the configuration does not know them any more."""
        return self._named(found.caller, found.scopes, "key")

    def of_certificate(self, subject: str) -> Caller | None:
        name = self._subjects.get(subject)
        return None if name is None else self._named(name, None, "certificate")

    def of_token(self, claims: "Claims", proof: str) -> Caller:
        """The bearer of a good token: what the token grants, what its roles grant, what its issuer gives to all."""
        issuer = self._auth.issuers[claims.issuer]
        known = (role for role in claims.roles if role in self._roles)
        granted = (claims.scopes - _NOT_OURS).union(scopes_of(issuer, self._roles), *(self._roles[r] for r in known))
        return Caller(
            name=f"{claims.issuer}:{claims.name}",
            authority=Authority(granted, grantable=frozenset(issuer.grantable)),
            roles=claims.roles | frozenset(issuer.roles),
            attributes=claims.attributes,
            proof=proof,
        )

    def _named(self, name: str, bound: Scopes | None, proof: str) -> Caller | None:
        options = self._callers.get(name)
        if options is None:
            return None
        return self._caller(name, options, self._granted[name], bound=bound, proof=proof, about=options.attributes)

    def _caller(
        self,
        name: str,
        grant: Grant,
        granted: Scopes,
        *,
        proof: str,
        bound: Scopes | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Caller:
        return Caller(name, Authority(granted, bound), frozenset(grant.roles), about or {}, proof)

    def requested(self) -> tuple[str, ...]:
        """The scopes that clients are told to ask for."""
        grantable = (scope for issuer in self._auth.issuers.values() for scope in issuer.grantable)
        return tuple(dict.fromkeys((*self._auth.required_scopes, *grantable)))


def _subject(caller: str, written: str) -> str:
    from bascule.edge.auth import certificate  # costs 3 MiB, where anybody has one

    try:
        return certificate.canonical(written)
    except ValueError as error:
        raise ConfigInvalid(str(error), field=f"callers.{caller}.certificate") from error


def looks_like_jwt(token: str) -> bool:
    """Whether *token* is meant as a JWT, good or bad: its first part begins as a JSON object does in base64."""
    return token[:2] in ("ey", "ew") and "." in token


class Credential(msgspec.Struct, frozen=True):
    """What a request shows of who sends it."""

    authorization: str | None  # the header
    subject: str | None  # of the client's certificate (RFC 4514), proven in the handshake
    ip: str
    resource: str  # the URL of the endpoint that it calls
