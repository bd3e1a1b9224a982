"""The keys of one authorization server, fetched when they are needed and kept no longer than is safe.

They are fresh for ten minutes, and fetched anew a little before that, in the background, by whoever comes for
one. While the server cannot be reached they serve for an hour at most. Then nobody is let in: whether a token
is good cannot be known, which is not the fault of its bearer, so the answer is Unavailable (503, with a time to
come back) and not Unauthenticated, at which a client would throw a good token away and log in again.
Source: security.md, A7; RFC 7517.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from bascule.edge.auth import jwk
from bascule.edge.auth.jwk import VerificationKey
from bascule.egress import FetchFailed
from bascule.errors import Unavailable

log = logging.getLogger("bascule.auth")

FRESH_S: Final = 600.0
AHEAD_S: Final = 120.0  # so long before they stop being fresh they are fetched without making anybody wait
USABLE_S: Final = 3600.0
ANEW_EVERY_S: Final = 30.0  # for keys nobody has heard of: anybody can make up as many as they like
RETRY_S: Final = 5.0  # after a fetch that failed
DOWN_S: Final = 60.0  # so long after one nobody waits for another, while there are keys that may serve
FETCH_WITHIN_S: Final = 10.0  # metadata and keys together
MAX_BYTES: Final = 256 * 1024
_VERDICT_S: Final = 60.0

Fetch: TypeAlias = Callable[[], Awaitable[bytes]]  # the JWKS document of now; raises FetchFailed


def unavailable(retry_after_s: float = RETRY_S) -> Unavailable:
    """What is said when a token cannot be judged, to everybody alike: the log has the reason."""
    error = Unavailable("the issuer of the token cannot be asked about it right now; the token may be good")
    error.retry_after_s = retry_after_s
    return error


class KeySource:
    """The keys of the issuer *name*. One fetch at a time, whoever waits for it."""

    def __init__(self, name: str, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._name = name
        self._fetch = fetch
        self._clock = clock  # seconds, never stepping back
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_at_s: float | None = None
        self._failed_at_s: float | None = None  # None: the last fetch went well
        self._anew_at_s: float | None = None
        self._running: asyncio.Task[None] | None = None
        self.revision = 0  # grows when a key that was good no longer is: what was decided with it is void then

    async def fitting(self, kid: str | None, alg: str) -> tuple[VerificationKey, ...]:
        """The keys that a token of this *kid* and *alg* may be signed with; none if the issuer has no such key.

        Raises Unavailable when that cannot be known.
        """
        await self._freshen()
        if self._running is not None and not self._knows(kid, alg):
            await self.refresh()
        if not self._knows(kid, alg):
            await self.anew()
            if self._failed_at_s is not None and not self._knows(kid, alg):
                raise unavailable()
        return jwk.fitting(self._keys, kid, alg)

    async def anew(self) -> bool:
        """Whether the keys have been fetched again just now, which happens once in 30 s however many ask."""
        now_s = self._clock()
        if self._anew_at_s is not None and now_s - self._anew_at_s < ANEW_EVERY_S:
            return False
        self._anew_at_s = now_s
        await self.refresh()
        return self._failed_at_s is None

    async def refresh(self) -> None:
        """Fetch the keys, or wait for the fetch that is under way. What went wrong is in the log."""
        # The task itself is not awaited: one client that goes away must not cancel what others wait for.
        await asyncio.wait({self._refreshing()})

    @property
    def verdict_s(self) -> float:
        """For how long a verdict reached with these keys may be kept."""
        age_s = self._age_s()
        return max(0.0, min(_VERDICT_S, (FRESH_S if age_s < FRESH_S else USABLE_S) - age_s))

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def _knows(self, kid: str | None, alg: str) -> bool:
        """Whether to fetch again could tell nothing new: a known key of another kind stays that."""
        return any(key.kid == kid if kid is not None else key.fits(alg) for key in self._keys)

    def _age_s(self) -> float:
        return float("inf") if self._fetched_at_s is None else self._clock() - self._fetched_at_s

    async def _freshen(self) -> None:
        """Keys that may be used, or Unavailable."""
        age_s = self._age_s()
        if age_s < FRESH_S - AHEAD_S:
            return
        failed_s = float("inf") if self._failed_at_s is None else self._clock() - self._failed_at_s
        if failed_s >= RETRY_S:
            refreshing = self._refreshing()
            if age_s >= USABLE_S or (age_s >= FRESH_S and failed_s >= DOWN_S):
                await asyncio.wait({refreshing})
        if self._age_s() >= USABLE_S:
            self._replace(())
            raise unavailable()

    def _refreshing(self) -> asyncio.Task[None]:
        if self._running is None:
            self._running = asyncio.ensure_future(self._refresh())
        return self._running

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                keys = jwk.keys_in(await self._fetch())
        except (FetchFailed, TimeoutError, ValueError) as error:
            self._failed_at_s = self._clock()
            reason = str(error) or "no answer in time"
            log.warning("issuer %r: its keys cannot be fetched, so older ones are used: %s", self._name, reason)
        else:
            if not keys:
                log.warning("issuer %r: it publishes no key that can be used, so no token of it is good", self._name)
            self._fetched_at_s, self._failed_at_s = self._clock(), None
            self._replace(keys)
        finally:
            self._running = None

    def _replace(self, keys: tuple[VerificationKey, ...]) -> None:
        if {key.identity for key in self._keys} - {key.identity for key in keys}:
            self.revision += 1
        self._keys = keys
