"""Sessions at a server with a handshake, opened for stateless clients: one per caller and capabilities.

A server decides by the capabilities of the handshake what it may ask, and a stateless client says
with every request what it can be asked: so each set of capabilities has a session of its own.
Source: MCP 2025-11-25, "Lifecycle"; docs/protocol.md, "Crossing eras".
"""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from bascule.call import Call, Caller
from bascule.crossing.conversation import Conversation, may_be_asked
from bascule.crossing.pooled import PooledSession
from bascule.errors import BasculeError, InvalidParams, Overloaded
from bascule.upstream.base import Upstream
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params

_Key: TypeAlias = tuple[str, bytes]  # caller's name, canonical capabilities
_News: TypeAlias = tuple[Caller | None, str, bytes]  # whose it is, if not everybody's; method; resource

IDLE_S: Final = 300.0  # a session that nobody used for so long is ended
_IDLE_PROCESS_S: Final = 30.0  # the same, where it occupies a process of its own
MAX_SESSIONS: Final = 1000  # of one server
MAX_OF_CALLER: Final = 100
_TICK_S: Final = 10.0
_LAST_WORD_S: Final = 2.0  # for a server to take that its sessions end
_TOGETHER_S: Final = 0.02  # the same news from several sessions within so long is one


class Pool:
    """The sessions of one server, bounded in number and in idle time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._sessions: dict[_Key, list[PooledSession]] = {}
        self._news: dict[_News, Params] = {}
        self.dropped: Counter[str] = Counter()  # what the server sent and nobody could use
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))

    def conversations_of(self, caller: Caller) -> Iterator[Conversation]:
        """The calls of *caller* that the server has."""
        for session in self._all():
            if session.caller == caller:
                yield from session.conversations

    async def conversation(self, call: Call) -> Conversation:
        """A conversation for a stateless *call*, in a session of its caller's.

        Raises Overloaded when all sessions are busy and there are too many.
        """
        # Where sessions have a process each, a call that may be asked is alone in one: a pipe does not
        # tell which call a question belongs to.
        able = self.declared_by(call)
        alone = self._upstream.spare is not None and may_be_asked(call, able)
        session = await self._session(call, able, alone=alone)
        conversation = Conversation(call, session)
        session.conversations[conversation] = None
        return conversation

    async def session(self, call: Call) -> PooledSession:
        """A session for what belongs to no conversation. Raises Overloaded as `conversation` does."""
        return await self._session(call, self.declared_by(call), alone=False)

    async def _session(self, call: Call, able: Mapping[str, Any], *, alone: bool) -> PooledSession:
        """The session of *able* clients; one that has no other call, if it has to be *alone* in it."""
        key = call.caller.name, msgspec.json.encode(able, order="deterministic")
        session = self._free(key, alone=alone)
        if session is None and self._made_room(call.caller):
            await asyncio.sleep(0)  # who has to go begins to
            session = self._free(key, alone=alone)
        if session is None:
            session = PooledSession(self, self._upstream, call, able)
            self._sessions.setdefault(key, []).append(session)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._look)
        session.used_at = time.monotonic()
        return session

    def _free(self, key: _Key, *, alone: bool) -> PooledSession | None:
        return next((each for each in self._sessions.get(key, ()) if not (alone and each.conversations)), None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* in the background, at the latest until the pool is closed."""
        task = asyncio.ensure_future(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def declared_by(self, call: Call) -> Mapping[str, Any]:
        """The capabilities that a stateless *call* declares, for a handshake."""
        declared = jsonrpc.value_of(modern.meta_of(call.params).get(modern.CLIENT_CAPABILITIES), dict) or {}
        return translate.capabilities_for_legacy(declared)

    def _all(self) -> Iterator[PooledSession]:
        for sessions in self._sessions.values():
            yield from sessions

    def news(self, caller: Caller, method: str, params: Params) -> None:
        """Tell everybody whom it concerns what a session of *caller* heard.

        Some servers tell only the session in which it happened, others every session: either way it is
        news for all of the caller's, and a changed list for everybody, and once.
        """
        if not self._news:
            asyncio.get_running_loop().call_later(_TOGETHER_S, self._tell)
        whose = caller if method == legacy.UPDATED else None
        self._news[whose, method, bytes(params.get("uri", b""))] = params

    def _tell(self) -> None:
        news, self._news = self._news, {}
        for session in list(self._all()):
            for (whose, method, _), params in news.items():
                if whose is None or whose == session.caller:
                    for hearer in list(session.hearers):
                        try:
                            hearer(method, params)
                        except InvalidParams:
                            self.dropped["malformed_notification"] += 1

    def _made_room(self, caller: Caller) -> bool:
        """Whether a session had to go, for one more of *caller* to be opened."""
        own = [session for session in self._all() if session.caller == caller]
        if len(own) >= MAX_OF_CALLER:  # capabilities are the caller's word: it could make up as many as it likes
            idle = [session for session in own if not session.busy]
            if not idle:
                raise Overloaded(f"{MAX_OF_CALLER} sessions of this caller are open at this server, and all are busy")
            self._end([min(idle, key=lambda session: session.used_at)])
            return True
        if len(self) < MAX_SESSIONS and self._upstream.spare != 0:
            return False
        idle = [session for session in self._all() if not session.busy]
        if idle:
            self._end([min(idle, key=lambda session: session.used_at)])
        elif len(self) >= MAX_SESSIONS:
            raise Overloaded(f"{MAX_SESSIONS} sessions are open at this server for stateless clients, and all are busy")
        return bool(idle)

    def _look(self) -> None:
        horizon = time.monotonic() - (IDLE_S if self._upstream.spare is None else _IDLE_PROCESS_S)
        self._end([session for session in self._all() if not session.busy and session.used_at < horizon])
        again = asyncio.get_running_loop().call_later(_TICK_S, self._look) if self._sessions else None
        self._timer = again

    def leave(self, session: PooledSession) -> None:
        """*session* is no good for further calls."""
        self._end([session])

    def _end(self, leaving: Sequence[PooledSession]) -> None:
        kept = {key: [each for each in those if each not in leaving] for key, those in self._sessions.items()}
        self._sessions = {key: those for key, those in kept.items() if those}
        for session in leaving:
            session.ended.set()
            self.spawn(self._forget(session))

    async def _forget(self, session: PooledSession) -> None:
        try:
            await self._upstream.forget(session)
        except BasculeError:
            pass  # the server is down; it forgets by itself

    async def close(self) -> None:
        """End every session."""
        if self._timer is not None:
            self._timer.cancel()
        self.clear()
        if self._leaving:  # a server that does not answer must not keep us from ending
            _, late = await asyncio.wait(set(self._leaving), timeout=_LAST_WORD_S)
            for each in late:
                each.cancel()

    def clear(self) -> None:
        """Forget every session: the server no longer speaks this way."""
        self._end(list(self._all()))
