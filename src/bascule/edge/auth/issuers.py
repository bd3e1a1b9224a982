"""All authorization servers whose access tokens are taken: which of them a token belongs to, and what it says.

A verdict is kept for a minute at most, under a digest of the token and the audience it was judged for. It is void
when the token expires, and as soon as a key of its issuer is known to be gone, which is noticed within ten minutes.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from bascule import egress
from bascule.edge.auth import jwt
from bascule.edge.auth.callers import looks_like_jwt
from bascule.edge.auth.discovery import discover
from bascule.edge.auth.introspection import Introspection
from bascule.edge.auth.jwks import MAX_BYTES, KeySource
from bascule.edge.auth.jwt import Claims, Unverified
from bascule.egress import FetchFailed
from bascule.errors import ConfigInvalid, Unauthenticated, Unavailable
from bascule.policy.options import IssuerOptions

MAX_VERDICTS: Final = 10_000


class Issuer:
    """One authorization server."""

    def __init__(self, name: str, options: IssuerOptions, clock: Callable[[], float]) -> None:
        _check(name, options)
        self.name = name
        self.options = options
        self.keys = KeySource(name, self._keys_document, clock)
        self.introspection = Introspection(name, options) if options.introspection else None

    async def check_signature(self, token: Unverified) -> None:
        """Raises Unauthenticated unless this issuer signed it, Unavailable when that cannot be known."""
        keys = await self.keys.fitting(token.kid, token.alg)
        signed = jwt.is_signed_by(token, keys)
        if not signed and token.kid is None and await self.keys.anew():
            # Without the name of a key, a bad signature is all that tells of a new one.
            keys = await self.keys.fitting(token.kid, token.alg)
        if not signed:
            jwt.check_signature(token, keys)

    async def close(self) -> None:
        await self.keys.close()
        if self.introspection is not None:
            await self.introspection.close()

    async def _keys_document(self) -> bytes:
        url, wrote = self.options.jwks_url, self.options.jwks_url
        if url is None:
            url, wrote = (await discover(self.options.issuer)).jwks_uri, self.options.issuer
        if url is None or wrote is None:
            raise FetchFailed("its metadata name no jwks_uri: write jwks_url")
        return await egress.get(url, origin_host=egress.host_of(wrote), limit_bytes=MAX_BYTES)


class _Verdict(msgspec.Struct, frozen=True):
    claims: Claims
    from_s: float
    until_s: float
    keys: KeySource
    revision: int  # of the keys


class Issuers:
    """The issuers of the configuration, by the short names that it gives them.

    Raises ConfigInvalid for an issuer that could never be asked, and for two that are the same.
    """

    def __init__(self, options: Mapping[str, IssuerOptions], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuers = [Issuer(name, issuer, clock) for name, issuer in options.items()]
        self._by_url = {issuer.options.issuer: issuer for issuer in self._issuers}
        if len(self._by_url) < len(self._issuers):
            raise ConfigInvalid("two issuers are the same server; make them one", field="auth.issuers")
        self._verdicts: dict[tuple[bytes, str], _Verdict] = {}

    def known(self, token: str, audience: str, now_s: float) -> Claims | None:
        """What *token* was found to say a moment ago; None when that has to be found out, by `claims`."""
        if len(token) > jwt.MAX_TOKEN_CHARS:
            return None
        verdict = self._verdicts.get((_digest(token), audience))
        if verdict is None or verdict.revision != verdict.keys.revision:
            return None
        # A clock that was set back must not make an old verdict young again.
        return verdict.claims if verdict.from_s <= now_s < verdict.until_s else None

    async def claims(self, token: str, audience: str, now_s: float) -> Claims:
        """What *token* says, when it is good at the endpoint *audience* at *now_s* (Unix time).

        Raises Unauthenticated when it is not, Unavailable when nobody can tell now: answer 503, with Retry-After.
        """
        if (known := self.known(token, audience, now_s)) is not None:
            return known
        if len(token) > jwt.MAX_TOKEN_CHARS or not token.isascii() or not token.isprintable():
            raise Unauthenticated(f"a token is at most {jwt.MAX_TOKEN_CHARS} characters of plain ASCII")
        if looks_like_jwt(token):
            return await self._of_jwt(token, audience, now_s)
        return await self._of_opaque(token, audience, now_s)

    async def warm(self) -> None:
        """Fetch all keys now, so that the first caller does not wait and the log tells early what is wrong."""
        await asyncio.gather(*(issuer.keys.refresh() for issuer in self._issuers))

    async def close(self) -> None:
        await asyncio.gather(*(issuer.close() for issuer in self._issuers))

    async def _of_jwt(self, token: str, audience: str, now_s: float) -> Claims:
        parsed = jwt.parse(token)
        issuer = self._by_url.get(parsed.issuer)
        if issuer is None:
            raise Unauthenticated("the token is of an issuer that is not trusted here")
        # First what costs nothing, so that only a token that could be good makes us ask for keys.
        claims = jwt.admit(parsed, issuer.name, issuer.options, audience, now_s)
        await issuer.check_signature(parsed)
        self._remember(token, audience, issuer, claims, now_s, now_s + issuer.keys.verdict_s)
        return claims

    async def _of_opaque(self, token: str, audience: str, now_s: float) -> Claims:
        """Each issuer that can be asked is, in the order of the configuration, until one knows the token."""
        refusal: Unauthenticated | Unavailable = Unauthenticated("the token is not one that is taken here")
        for issuer in self._issuers:
            if issuer.introspection is None:
                continue
            try:
                claims, until_s = await issuer.introspection.claims(token, audience, now_s)
            except Unavailable as error:
                refusal = error
            except Unauthenticated as error:
                # What one issuer does not know, another that cannot be reached may.
                refusal = refusal if isinstance(refusal, Unavailable) else error
            else:
                self._remember(token, audience, issuer, claims, now_s, until_s)
                return claims
        raise refusal

    def _remember(
        self, token: str, audience: str, issuer: Issuer, claims: Claims, now_s: float, until_s: float
    ) -> None:
        key = (_digest(token), audience)
        self._verdicts.pop(key, None)
        if len(self._verdicts) >= MAX_VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]  # the oldest
        until_s = min(until_s, claims.expires_at_s)
        self._verdicts[key] = _Verdict(claims, now_s, until_s, issuer.keys, issuer.keys.revision)


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()


def _check(name: str, options: IssuerOptions) -> None:
    """Raises ConfigInvalid for URLs that would never be fetched."""
    asked = options.introspection.url if options.introspection else None
    urls = {"issuer": options.issuer, "jwks_url": options.jwks_url, "introspection.url": asked}
    for field, url in urls.items():
        if url is None:
            continue
        reason = egress.acceptable(url, origin_host=egress.host_of(url))
        if reason is None and field == "issuer" and "?" in url:
            reason = "an issuer has no query (RFC 8414, 2)"
        if reason is not None:
            raise ConfigInvalid(f"{url!r} cannot be used: {reason}", field=f"auth.issuers.{name}.{field}")
