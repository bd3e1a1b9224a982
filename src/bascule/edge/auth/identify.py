"""Who sends a request: the one place where credentials become callers, for every endpoint.

A caller that was found is remembered for a second, so that a busy client costs one lookup. Whatever cannot
be decided is a refusal. Source: security.md A2, A3, A9; RFC 6750.
"""

import hmac
import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bascule.call import BEARER, Caller
from bascule.config import Config, identifies
from bascule.edge.auth.attempts import Attempts
from bascule.edge.auth.callers import Callers, Credential, looks_like_jwt
from bascule.edge.auth.keys import Found, KeyBook, Reason
from bascule.errors import BasculeError, RateLimited, ScopeDenied, Transient, Unauthenticated

if TYPE_CHECKING:  # what checks signatures is loaded where there are issuers
    from bascule.edge.auth.issuers import Issuers
    from bascule.edge.auth.jwt import Claims

log = logging.getLogger("bascule.edge")

_FRESH_S: Final = 1.0  # a revoked key or token is refused after so long at the latest, once we have heard of it
_REMEMBERED: Final = 4096
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([\x21-\x7e]+)")


class Identify:
    """Decides by what the configuration, the key store and the issuers say at this moment."""

    def __init__(
        self,
        callers: Callers,
        keys: KeyBook,
        issuers: "Issuers | None",
        *,
        bearer: str | None = None,
        required: tuple[str, ...] = (),
        alone: bool = True,
        scoped: bool = True,
        attempts: Attempts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*bearer* is the one token that stands for everything; *alone*: nobody has a credential of any kind.

        *scoped*: without any scope nobody may do anything.
        """
        self.callers = callers
        self._keys = keys
        self._issuers = issuers
        self._bearer = bearer
        self._required = required
        self._scoped = scoped
        self._alone = alone
        self._anonymous = callers.anonymous(alone=alone)
        self._attempts = Attempts() if attempts is None else attempts  # an empty one is false
        self._clock = clock
        self._seen: dict[Credential, tuple[Caller, float]] = {}  # until when it need not be looked at again
        self.used: set[str] = set()  # ids of keys that came, for the store to note

    @property
    def keys_known(self) -> int:
        """Which state of the key store the keys are of."""
        return self._keys.generation

    def adopt_keys(self, keys: KeyBook) -> None:
        """From now on these are the keys there are."""
        self._keys = keys
        self._seen.clear()

    def known(self, credential: Credential) -> Caller | None:
        """The caller, if it was asked for a moment ago."""
        caller, until_s = self._seen.get(credential, (None, 0.0))
        return caller if self._clock() < until_s else None

    async def caller(self, credential: Credential) -> Caller:
        """Whose request it is. Raises Unauthenticated, ScopeDenied, or RateLimited after too many wrong tries."""
        now_s = self._clock()
        try:
            caller = await self._found(credential, now_s)
        except Unauthenticated as error:
            self._seen.pop(credential, None)
            if error.reason == "invalid_token" and not _is_token(credential):
                self._count_failure(credential.ip, now_s)
            raise
        self._check_entry(caller)
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[credential] = caller, now_s + _FRESH_S
        return caller

    def _count_failure(self, ip: str, now_s: float) -> None:
        """Note a wrong credential from *ip*. Raises RateLimited once there are too many.

        A good one still comes in from there: behind one address there may be a whole office, and one forgotten
        client with an old key must not shut all of it out.
        """
        self._refuse_if_locked(ip, now_s)
        self._attempts.failed(ip, now_s)
        if self._attempts.wait_s(ip, now_s):
            log.warning("too many wrong credentials came from %s; more are answered with 429 for a minute", ip)

    def _refuse_if_locked(self, ip: str, now_s: float) -> None:
        wait_s = self._attempts.wait_s(ip, now_s)
        if wait_s:
            raise RateLimited("too many wrong credentials came from this address", wait_s)

    async def _found(self, credential: Credential, now_s: float) -> Caller:
        if self._alone and self._anonymous is not None:
            return self._anonymous  # whatever it shows: there is nothing to compare it with
        if credential.authorization is not None:
            token = token_in(credential.authorization)
            return self._by_secret(token, credential.ip, now_s) or await self._by_token(token, credential, now_s)
        if credential.subject is not None and (caller := self.callers.of_certificate(credential.subject)):
            return caller
        if self._anonymous is not None:
            return self._anonymous
        if credential.subject is not None:
            log.warning("a client showed a certificate that is nobody's; its subject is %r", credential.subject)
            raise Unauthenticated("nobody here has this certificate")
        raise Unauthenticated("a credential is needed: an API key or an access token, as Authorization: Bearer TOKEN",
                              reason="")  # fmt: skip

    def _by_secret(self, token: str, ip: str, now_s: float) -> Caller | None:
        """The caller whose key *token* is; None if it is no key at all."""
        if self._bearer is not None and hmac.compare_digest(token.encode(), self._bearer.encode()):
            return BEARER
        found = self._keys.find(token, ip, now_s)
        if not isinstance(found, Found):
            if found.reason is Reason.NOT_A_KEY:
                return None
            raise Unauthenticated("the API key is not valid here")
        caller = self.callers.of_key(found)
        if caller is None:
            raise Unauthenticated("the API key is not valid here")
        if found.key_id:
            self.used.add(found.key_id)
        return caller

    async def _by_token(self, token: str, credential: Credential, now_s: float) -> Caller:
        if self._issuers is None:
            raise Unauthenticated("the credential is not valid here")
        claims: Claims | None = self._issuers.known(token, credential.resource, now_s)
        if claims is None:
            if not looks_like_jwt(token):
                self._refuse_if_locked(credential.ip, now_s)  # before an issuer is asked: that costs both of us
            claims = await self._issuers.claims(token, credential.resource, now_s)
        return self.callers.of_token(claims, "token" if looks_like_jwt(token) else "introspection")

    def _check_entry(self, caller: Caller) -> None:
        """Raise ScopeDenied for who may not even come in."""
        if self._required and not caller.authority.covers(self._required):
            raise ScopeDenied("the credential lacks a scope that everybody needs here", self._required)
        if self._scoped and not caller.authority.granted and caller.proof in ("token", "introspection"):
            raise ScopeDenied("the token grants nothing here", self.callers.requested())


def identify_of(
    config: Config,
    keys: KeyBook,
    issuers: "Issuers | None",
    *,
    attempts: Attempts | None = None,
    clock: Callable[[], float] = time.time,
) -> Identify:
    """What knows callers as *config* wants them known."""
    return Identify(
        Callers(config.auth, config.roles, config.callers),
        keys,
        issuers,
        bearer=config.http.bearer,
        required=config.auth.required_scopes,
        alone=not identifies(config),
        scoped=config.policy.default == "deny",
        attempts=attempts,
        clock=clock,
    )


def _is_token(credential: Credential) -> bool:
    """Whether it is a JWT: nobody guesses those, and a client whose own has expired must hear of that, not 429."""
    return looks_like_jwt((credential.authorization or "").partition(" ")[2].strip())


def token_in(authorization: str) -> str:
    """The token in an Authorization header. Raises Unauthenticated, `invalid_request` if it is malformed."""
    found = _BEARER.fullmatch(authorization)
    if found is None:
        scheme = authorization.partition(" ")[0].lower()
        if scheme != "bearer":
            raise Unauthenticated("only Authorization: Bearer … is understood", reason="")
        raise Unauthenticated("the Authorization header holds no token, or more than one", reason="invalid_request")
    return found[1]


def status_of(error: BasculeError) -> int:
    """The HTTP status that refuses a request for *error*, before there is a call (RFC 6750, 3.1; RFC 9110, 15.6.4)."""
    if isinstance(error, Unauthenticated) and error.reason == "invalid_request":
        return 400
    return 503 if isinstance(error, Transient) and error.http == 200 else error.http
