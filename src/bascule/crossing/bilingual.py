"""A server, whatever era it speaks, served in both: natively where it can, translated where it cannot.

Wrapped around every upstream, so that the registry, the pipeline and the edge never ask what a
server speaks. Translation is per call, and a call of the server's own era passes straight through.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

from bascule.call import Call, Result, Session
from bascule.crossing.as_legacy import AsLegacy
from bascule.crossing.as_modern import AsModern
from bascule.crossing.parking import Parking
from bascule.upstream.base import Status, Upstream, WrongEra
from bascule.wire import headers
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era


class Bilingual:
    """An upstream that answers clients of either era (`upstream.base.Upstream`)."""

    def __init__(self, upstream: Upstream, parking: Parking) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._spoken: Collection[Era] = ()  # by the server itself; empty until it is known
        self._as_modern = AsModern(upstream, parking)
        self._as_legacy = AsLegacy(upstream)

    @property
    def spare(self) -> int | None:
        return self._upstream.spare

    async def start(self) -> None:
        await self._upstream.start()

    async def stop(self) -> None:
        self._as_legacy.close()
        await self._as_modern.close()
        await self._upstream.stop()

    async def eras(self) -> Collection[Era]:
        """The eras that the server itself speaks: what is fetched in these is not translated."""
        self._spoken = await self._upstream.eras()
        return self._spoken

    async def send(self, call: Call) -> Result:
        if not self._spoken:
            await self.eras()
        try:
            return await self._way(call).send(call)
        except WrongEra:
            # Nothing was run: the server is another than we thought, so it is asked anew.
            await self._think_again()
            return await self._way(call).send(call)

    def _way(self, call: Call) -> Upstream | AsModern | AsLegacy:
        if call.era in self._spoken:
            return self._upstream
        return self._as_modern if call.era is Era.MODERN else self._as_legacy

    async def _think_again(self) -> None:
        self._spoken = ()
        await self.eras()
        if Era.LEGACY not in self._spoken:
            self._as_modern.pool.clear()
        if Era.MODERN not in self._spoken:
            self._as_legacy.clear()

    async def tell(self, session: Session, method: str, params: Params) -> None:
        # A stateless server hears nothing of what a client tells: no handshake, no roots, no sessions.
        if Era.LEGACY in self._spoken:
            await self._upstream.tell(session, method, params)

    async def watch(self, session: Session) -> None:
        if not self._spoken:
            await self.eras()
        try:
            await (self._upstream if Era.LEGACY in self._spoken else self._as_legacy).watch(session)
        except WrongEra:
            await self._think_again()
            await (self._upstream if Era.LEGACY in self._spoken else self._as_legacy).watch(session)

    async def forget(self, session: Session) -> None:
        self._as_legacy.forget(session)
        await self._upstream.forget(session)

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None:
        self._upstream.learn(mirrored)

    def status(self) -> Status:
        status = self._upstream.status()
        dropped = Counter(status.dropped) + self._as_modern.pool.dropped
        return msgspec.structs.replace(status, dropped=dropped) if self._as_modern.pool.dropped else status
