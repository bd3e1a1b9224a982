"""All legacy sessions of this process: found by what their clients hold, bounded in number and in time.

A client holds a sealed capsule. One that we do not know comes from before a restart, or from another
replica, and its session is opened again: the client does not notice.
Source: MCP 2025-11-25, Transports, "Session Management".
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from bascule.call import Caller
from bascule.edge.capsule import Capsule, opened, reduced, sealed
from bascule.edge.session import ClientSession
from bascule.edge.streams import Stream
from bascule.errors import BasculeError, Overloaded
from bascule.wire import jsonrpc
from bascule.wire.seal import NONCE_BYTES, KeyRing
from bascule.wire.versions import BY_VERSION, Era

_LOOK_EVERY_S: Final = 30.0
_ENDED_KEPT: Final = 100_000


class Sessions:
    """The sessions that are open here."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        limit: int,
        idle_s: float,
        max_s: float,
        forget: Callable[[ClientSession], Awaitable[None]],
    ) -> None:
        """*forget* frees what upstreams keep for a session that has ended."""
        self.ring = ring
        self.limit = limit
        self.idle_s = idle_s
        self.max_s = max_s
        self._forget = forget
        self._open: dict[str, ClientSession] = {}  # by their own id
        self._by_capsule: dict[str, ClientSession] = {}  # those that a client may come back to
        self._ended = Ended(_ENDED_KEPT)

    def __len__(self) -> int:
        return len(self._open)

    async def add(self, session: ClientSession) -> None:
        """Keep *session*. Raises Overloaded when there are too many and none is idle."""
        await self._make_room()
        self._open[session.id] = session

    async def _make_room(self) -> None:
        """End one, of whoever has most: nobody pushes out the sessions of others by opening many."""
        if len(self._open) >= self.limit:
            idle = [s for s in self._open.values() if not s.connected]
            if not idle:
                raise Overloaded(f"{self.limit} sessions are open, as many as http.max_sessions allows")
            held = Counter(s.caller.name for s in self._open.values())
            await self.end(min(idle, key=lambda s: (-held[s.caller.name], s.used_at)))

    def seal(self, session: ClientSession) -> str:
        """What the client of *session*, whose handshake went well, finds it by from now on."""
        capsule = Capsule(
            id=session.id,
            caller=session.caller.name,
            view=session.view,
            version=session.revision.version,
            issued_s=session.issued_s,
            hello=reduced(session.hello),
        )
        session.capsule = sealed(self.ring, capsule, os.urandom(NONCE_BYTES))
        self._by_capsule[session.capsule] = session
        return session.capsule

    def find(self, capsule: str, caller: Caller, view: str) -> ClientSession | None:
        """The session, if it is open here and is this caller's at this endpoint; a stranger's looks unknown."""
        session = self._by_capsule.get(capsule)
        if session is None or session.caller != caller or session.view != view:
            return None
        now = time.monotonic()
        if now - session.began_at > self.max_s:
            return None  # `expire` ends it within the minute
        session.used_at = now
        return session

    async def restore(self, capsule: str, caller: Caller, view: str) -> ClientSession | None:
        """The session that *capsule* holds, opened again; None unless it may live on, here, for this caller.

        Raises Overloaded as `add` does.
        """
        held = self._living(capsule, caller, view)
        if held is None:
            return None
        await self._make_room()
        # Making room takes time: meanwhile another request may have brought the same session.
        return self.find(capsule, caller, view) or self._again(held, capsule, caller)

    def _living(self, capsule: str, caller: Caller, view: str) -> Capsule | None:
        held = opened(self.ring, capsule)
        if held is None or held.caller != caller.name or held.view != view or held.hello == jsonrpc.NULL:
            return None
        revision = BY_VERSION.get(held.version)
        known = revision is not None and revision.era is Era.LEGACY
        expired = time.time() - held.issued_s > self.max_s
        return held if known and not expired and held.id not in self._open and not self._ended.holds(held) else None

    def _again(self, held: Capsule, capsule: str, caller: Caller) -> ClientSession:
        revision = BY_VERSION[held.version]
        # Event ids of the life before are still with the client: no stream of this one may have the same.
        standing = Stream(int(time.time()), resumable=revision.priming)
        session = ClientSession(caller, held.view, revision, jsonrpc.members(held.hello), standing=standing)
        session.agree(revision)
        session.began_at -= max(0.0, session.issued_s - held.issued_s)
        session.id = session.family = held.id  # what was counted in it stays counted
        session.capsule, session.issued_s = capsule, held.issued_s
        self._open[session.id] = self._by_capsule[capsule] = session
        return session

    async def end(self, session: ClientSession) -> None:
        self._open.pop(session.id, None)
        if self._by_capsule.pop(session.capsule, None) is not None:
            self._ended.add(session.id, session.issued_s)
        session.end()
        try:
            await self._forget(session)
        except BasculeError:
            pass  # the upstream is down; it forgets by itself

    async def expire(self) -> None:
        """End the sessions that nobody used for too long, and the old ones. Runs until cancelled."""
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self.idle_s, self.max_s))
            now = time.monotonic()
            for session in list(self._open.values()):
                idle = now - session.used_at > self.idle_s and not session.connected
                if idle or now - session.began_at > self.max_s:
                    await self.end(session)
            self._ended.drop_before(time.time() - self.max_s)

    def hang_up(self) -> None:
        """End the standing streams, which would otherwise stay open for ever."""
        for session in self._open.values():
            session.hang_up()

    async def end_all(self) -> None:
        await asyncio.gather(*(self.end(session) for session in list(self._open.values())))


class Ended:
    """The sessions that have ended while their capsules could still be opened: they stay dead.

    Of more than *limit*, the first is not remembered by itself, but every unknown capsule that is as
    old counts as ended: to begin anew costs a client little.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._issued_s: dict[str, float] = {}  # by session id, in the order they ended
        self._dead_until_s = -1.0

    def __len__(self) -> int:
        return len(self._issued_s)

    def add(self, id: str, issued_s: float) -> None:
        self._issued_s[id] = issued_s
        if len(self._issued_s) > self._limit:
            first = next(iter(self._issued_s))
            self._dead_until_s = max(self._dead_until_s, self._issued_s.pop(first))

    def holds(self, capsule: Capsule) -> bool:
        return capsule.id in self._issued_s or capsule.issued_s <= self._dead_until_s

    def drop_before(self, issued_s: float) -> None:
        """Forget those that began before; their capsules are too old to be opened by now, and stay so."""
        self._dead_until_s = max(self._dead_until_s, issued_s)
        self._issued_s = {id: at for id, at in self._issued_s.items() if at >= issued_s}
