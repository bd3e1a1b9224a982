"""Signing in by an OpenID provider: the authorization code flow with PKCE, state and nonce.

What has to be remembered until the browser comes back travels with it, sealed, in a cookie: a process keeps nothing,
and a code that somebody else's browser brings is good for nobody. The provider is found, its keys are fetched and its
tokens checked by what the edge has for access tokens (edge/auth).
Source: OpenID Connect Core 1.0 (3.1); RFC 7636; RFC 9207; OAuth 2.0 Security Best Current Practice (RFC 9700).
"""

import asyncio
import base64
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import jiter
import msgspec

from bascule import egress
from bascule.console.entrance import WITHIN_S
from bascule.console.options import ConsoleLogin
from bascule.edge.auth import jwt
from bascule.edge.auth.discovery import well_known
from bascule.edge.auth.issuers import Issuer
from bascule.edge.auth.jwt import Unverified
from bascule.egress import FetchFailed
from bascule.errors import ScopeDenied, Unauthenticated, Unavailable
from bascule.policy.options import IssuerOptions
from bascule.policy.roles import UNNAMED
from bascule.wire.seal import NONCE_BYTES, KeyRing

log = logging.getLogger("bascule.console")

_MAX_BYTES: Final = 256 * 1024
_FRESH_S: Final = 600.0  # how long what the provider says of itself is believed
_AT_ONCE: Final = 8  # codes that are being redeemed
_PURPOSE: Final = "console login"


class Pending(msgspec.Struct, frozen=True):
    """What has to be the same when the browser comes back."""

    state: str
    nonce: str
    verifier: str
    redirect_url: str
    back: str
    until_s: float


class Person(msgspec.Struct, frozen=True):
    """Who has signed in at the provider, and what they are here."""

    name: str
    roles: tuple[str, ...]


class Provider(msgspec.Struct, frozen=True):
    """The endpoints of the provider."""

    authorization: str
    token: str
    takes_basic: bool


class Oidc:
    """One OpenID provider."""

    def __init__(
        self,
        options: ConsoleLogin,
        ring: Callable[[], KeyRing],
        *,
        known_as: str = UNNAMED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*known_as* is what `auth.issuers` calls it: who calls with its tokens is the same person here.

        Raises ConfigInvalid for an issuer that could never be asked.
        """
        self.options = options
        self._ring = ring
        self._known_as = known_as
        self._clock = clock
        self._issuer = Issuer(known_as, _as_issuer(options), time.monotonic)
        self._provider: tuple[float, Provider] | None = None
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def begin(self, redirect_url: str, back: str) -> tuple[str, str]:
        """(where to send the browser, what it has to keep). Raises Unavailable when the provider cannot be asked."""
        provider = await self._found()
        pending = Pending(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            redirect_url=redirect_url,
            back=back,
            until_s=self._clock() + WITHIN_S,
        )
        asked = {
            "response_type": "code",
            "client_id": self.options.client_id,
            "redirect_uri": redirect_url,
            "scope": " ".join(self.options.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": _base64url(sha256(pending.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(provider.authorization).query else "?"
        kept = self._ring().seal(_PURPOSE, msgspec.json.encode(pending), os.urandom(NONCE_BYTES))
        return f"{provider.authorization}{joint}{urlencode(asked)}", kept

    async def end(self, kept: str, said: Mapping[str, str]) -> tuple[Person, str]:
        """(who it is, where they wanted to go), of what the provider *said* to the browser that *kept* its secret.

        Raises Unauthenticated, ScopeDenied for who is nobody here, Unavailable.
        """
        pending = self._pending(kept, said)
        if "error" in said:
            log.warning("the OpenID provider refused to sign somebody in: %s", _short(said))
            raise Unauthenticated("the provider did not sign you in")
        async with self._places:
            token = await self._token(said.get("code", ""), pending)
        return await self._person(token, pending.nonce), pending.back

    # ---- steps

    def _pending(self, kept: str, said: Mapping[str, str]) -> Pending:
        opened = self._ring().open(_PURPOSE, kept)
        pending = None if opened is None else msgspec.json.decode(opened, type=Pending)
        if pending is None or self._clock() > pending.until_s:
            raise Unauthenticated("this sign-in was begun too long ago, or in another browser: begin again")
        if not secrets.compare_digest(pending.state.encode(), said.get("state", "").encode()):
            raise Unauthenticated("this is the answer to another sign-in: begin again")
        # RFC 9207: an answer of another provider, mixed up with ours.
        if said.get("iss", self.options.issuer) != self.options.issuer:
            raise Unauthenticated("the answer is of another provider: begin again")
        return pending

    async def _found(self) -> Provider:
        now_s = time.monotonic()
        if self._provider is not None and now_s - self._provider[0] < _FRESH_S:
            return self._provider[1]
        issuer, failures = self.options.issuer, []
        for url in reversed(well_known(issuer)):  # OpenID's own place first
            try:
                document = await egress.get(url, origin_host=egress.host_of(issuer), limit_bytes=_MAX_BYTES)
                self._provider = now_s, _provider(document, issuer)
                return self._provider[1]
            except (FetchFailed, ValueError) as error:
                failures.append(f"{url}: {error}")
        log.warning("the OpenID provider cannot be found: %s", "; ".join(failures))
        raise Unavailable("the OpenID provider cannot be reached now; the log has the reason")

    async def _token(self, code: str, pending: Pending) -> str:
        """The ID token for *code*."""
        provider, options = await self._found(), self.options
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.redirect_url,
            "code_verifier": pending.verifier,
        }
        headers = {}
        if provider.takes_basic:
            pair = f"{quote_plus(options.client_id)}:{quote_plus(options.client_secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": options.client_id, "client_secret": options.client_secret}
        try:
            async with egress.session(provider.token, origin_host=egress.host_of(options.issuer)) as http:
                answer = await egress.answer(
                    http, "POST", provider.token, limit_bytes=_MAX_BYTES, headers=headers, form=form
                )
            token = _id_token(answer)
        except FetchFailed as error:
            log.warning("the OpenID provider did not take a code: %s", error)
            if error.missing:
                raise Unauthenticated("the provider did not take the code: begin again") from error
            raise Unavailable("the OpenID provider cannot be asked now; the log has the reason") from error
        except ValueError as error:
            log.warning("the OpenID provider answered with no ID token: %s", error)
            raise Unavailable("the OpenID provider answered with no ID token") from error
        return token

    async def _person(self, token: str, nonce: str) -> Person:
        options = self.options
        parsed = jwt.parse(token)
        claims = jwt.admit(parsed, self._known_as, self._issuer.options, options.client_id, self._clock())
        _check_nonce(parsed, nonce)
        _check_party(parsed, options.client_id)
        if options.name_claim == "email" and parsed.members.get("email_verified") is not True:
            raise Unauthenticated("the provider has not verified your e-mail address")
        await self._issuer.check_signature(parsed)
        roles = tuple(dict.fromkeys(role for group, role in options.roles.items() if group in claims.roles))
        if not roles:
            log.warning("%r signed in at the OpenID provider and has no role at the console", claims.name)
            raise ScopeDenied("your account has no role here: an operator gives one, by console.oidc.roles")
        return Person(f"{self._known_as}:{claims.name}", roles)


def oidc_of(options: ConsoleLogin, ring: Callable[[], KeyRing], issuers: Mapping[str, IssuerOptions]) -> Oidc:
    """The provider of *options*, under the name that *issuers* have for it."""
    known_as = next((name for name, issuer in issuers.items() if issuer.issuer == options.issuer), UNNAMED)
    return Oidc(options, ring, known_as=known_as)


# ---- documents and tokens


def _as_issuer(options: ConsoleLogin) -> IssuerOptions:
    """How an ID token is judged: it is made for us as a client (OpenID Connect Core, 3.1.3.7)."""
    return IssuerOptions(
        issuer=options.issuer,
        audiences=(options.client_id,),
        types=("JWT", ""),
        name_claim=options.name_claim,
        roles_claim=options.roles_claim,
    )


def _provider(document: bytes, issuer: str) -> Provider:
    """What *document* says of *issuer*. Raises ValueError unless it is about that issuer, with sound URLs."""
    content = jiter.from_json(document, catch_duplicate_keys=True, allow_inf_nan=False)
    if not isinstance(content, dict) or content.get("issuer") != issuer:
        raise ValueError("the metadata are of another issuer")
    urls = []
    for name in ("authorization_endpoint", "token_endpoint"):
        url = content.get(name)
        reason = (
            "there is none" if not isinstance(url, str) else egress.acceptable(url, origin_host=egress.host_of(issuer))
        )
        if reason is not None:
            raise ValueError(f"{name} cannot be used: {reason}")
        urls.append(url)
    methods = content.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    takes_basic = not isinstance(methods, list) or "client_secret_basic" in methods
    return Provider(str(urls[0]), str(urls[1]), takes_basic)


def _id_token(answer: bytes) -> str:
    content = jiter.from_json(answer, catch_duplicate_keys=True, allow_inf_nan=False)
    token = content.get("id_token") if isinstance(content, dict) else None
    if not isinstance(token, str):
        raise ValueError("it has no id_token; is `openid` among the scopes?")
    return token


def _check_nonce(token: Unverified, nonce: str) -> None:
    said = token.members.get("nonce")
    if not isinstance(said, str) or not secrets.compare_digest(said.encode(), nonce.encode()):
        raise Unauthenticated("the ID token is the answer to another sign-in: begin again")


def _check_party(token: Unverified, client_id: str) -> None:
    """OpenID Connect Core, 3.1.3.7, 4 and 5."""
    audiences, party = token.members.get("aud"), token.members.get("azp")
    if (party is not None or (isinstance(audiences, list) and len(audiences) > 1)) and party != client_id:
        raise Unauthenticated("the ID token was made for another application")


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _short(said: Mapping[str, Any]) -> str:
    words = (str(said.get(name, "")) for name in ("error", "error_description"))
    return "".join(c if c.isprintable() else "�" for c in ": ".join(filter(None, words)))[:300]
