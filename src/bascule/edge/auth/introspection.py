"""Opaque tokens: what their issuer says about them when it is asked (RFC 7662).

Its answer is kept for a minute at most, under a digest of the token, so a revoked token is refused within a minute.
While the issuer cannot be asked, nobody new is let in: the answer is Unavailable (see jwks.py for why).
Source: RFC 7662; RFC 6749 (2.3.1); security.md, A8.
"""

import asyncio
import base64
import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
import jiter
import msgspec

from bascule import egress
from bascule.edge.auth import jwt
from bascule.edge.auth.discovery import discover
from bascule.edge.auth.jwks import unavailable
from bascule.edge.auth.jwt import Claims
from bascule.egress import FetchFailed
from bascule.errors import ConfigInvalid, Unauthenticated
from bascule.policy.options import IssuerOptions

log = logging.getLogger("bascule.auth")

MAX_BYTES: Final = 64 * 1024
MAX_AT_ONCE: Final = 64  # questions on their way; with more of them, whoever asks is told to come back
CONNECTIONS: Final = 8
_INACTIVE_S: Final = 10.0  # shorter: a token that was not good yet should not be refused for a minute
_UNSAID_S: Final = 60.0  # the life of a token that the issuer gives no end: until it has to be asked again
_MOST_KEPT: Final = 10_000


class Answer(msgspec.Struct, frozen=True):
    """What the issuer said of one token; *members* is None when it is not active."""

    members: Mapping[str, Any] | None
    from_s: float
    until_s: float

    def holds(self, now_s: float) -> bool:
        # A clock that was set back must not make an old answer young again.
        return self.from_s <= now_s < self.until_s


class Introspection:
    """The introspection endpoint of the issuer *name*."""

    def __init__(self, name: str, options: IssuerOptions) -> None:
        if options.introspection is None:
            raise ConfigInvalid("introspection is not configured", field=f"auth.issuers.{name}.introspection")
        self._name = name
        self._options = options
        self._asking = options.introspection
        self._http: aiohttp.ClientSession | None = None
        self._discovered: str | None = None
        self._answers: dict[bytes, Answer] = {}
        self._running: dict[bytes, asyncio.Task[Answer | None]] = {}

    async def claims(self, token: str, audience: str, now_s: float) -> tuple[Claims, float]:
        """What the issuer says of *token*, and until when that may be believed (Unix time).

        Raises Unauthenticated when the token is not active or not for *audience*, Unavailable when the issuer
        cannot be asked.
        """
        answer = await self._answer(token, now_s)
        if answer.members is None:
            raise Unauthenticated("the token is unknown to its issuer, has expired, or was revoked")
        _check_type(answer.members)
        claims = jwt.claims_of(answer.members, self._name, self._options, audience, now_s, default_s=_UNSAID_S)
        return claims, answer.until_s

    async def close(self) -> None:
        tasks = set(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._http is not None:
            await self._http.close()

    # ---- one answer for all who ask about the same token

    async def _answer(self, token: str, now_s: float) -> Answer:
        digest = sha256(token.encode()).digest()
        kept = self._answers.get(digest)
        if kept is not None and kept.holds(now_s):
            return kept
        task = self._running.get(digest)
        if task is None:
            if len(self._running) >= MAX_AT_ONCE:
                raise unavailable(1.0)
            task = self._running[digest] = asyncio.ensure_future(self._asked(token, digest, now_s))
        await asyncio.wait({task})
        answer = None if task.cancelled() else task.result()
        if answer is None:
            raise unavailable()
        return answer

    async def _asked(self, token: str, digest: bytes, now_s: float) -> Answer | None:
        """The issuer's answer, which is kept; None when there is none, and the log says why."""
        try:
            answer = self._read(await self._post(token), now_s)
        except (FetchFailed, ValueError) as error:
            log.warning("issuer %r: it cannot be asked about tokens, so they are refused: %s", self._name, error)
            return None
        finally:
            del self._running[digest]
        self._answers.pop(digest, None)
        if len(self._answers) >= _MOST_KEPT:
            del self._answers[next(iter(self._answers))]
        self._answers[digest] = answer
        return answer

    def _read(self, document: bytes, now_s: float) -> Answer:
        """Raises ValueError when *document* is no answer to such a question."""
        members = jiter.from_json(document, catch_duplicate_keys=True, allow_inf_nan=False)
        if not isinstance(members, dict) or not isinstance(members.get("active"), bool):
            raise ValueError("the answer does not say whether the token is active")
        if not members["active"]:
            return Answer(None, now_s, now_s + min(_INACTIVE_S, self._asking.cache_s))
        until_s = now_s + self._asking.cache_s
        expires_s = members.get("exp")
        if isinstance(expires_s, int | float):
            until_s = min(until_s, expires_s)
        return Answer(members, now_s, until_s)

    async def _post(self, token: str) -> bytes:
        url, origin_host = await self._place()
        if self._http is None:
            self._http = egress.session(url, origin_host=origin_host, connections=CONNECTIONS)
        return await egress.answer(
            self._http,
            "POST",
            url,
            limit_bytes=MAX_BYTES,
            headers={"authorization": self._credentials()},
            form={"token": token, "token_type_hint": "access_token"},
        )

    async def _place(self) -> tuple[str, str]:
        """The URL to ask, and the host that the operator wrote for it."""
        if self._asking.url is not None:
            return self._asking.url, egress.host_of(self._asking.url)
        if self._discovered is None:
            self._discovered = (await discover(self._options.issuer)).introspection_endpoint
        if self._discovered is None:
            raise FetchFailed("its metadata name no introspection_endpoint: write introspection.url")
        return self._discovered, egress.host_of(self._options.issuer)

    def _credentials(self) -> str:
        pair = f"{quote_plus(self._asking.client_id)}:{quote_plus(self._asking.client_secret)}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _check_type(members: Mapping[str, Any]) -> None:
    kind = members.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.casefold() not in ("bearer", "access_token"):
        raise Unauthenticated("the token is not a bearer token")
