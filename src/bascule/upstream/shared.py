"""The sessions that share one process: who hears what the server says outside of calls.

The rule (design §4): an untagged message belongs to the only call in flight, else to the only
session there is, else to nobody; it is never sent to several clients in the hope that one fits.
"""

import asyncio
from collections.abc import Iterator
from typing import Final, Protocol

from msgspec import Raw

from bascule.call import BASCULE, Call, Client, Result, Session
from bascule.errors import MethodNotFound, Unavailable
from bascule.wire import jsonrpc, legacy
from bascule.wire.jsonrpc import Params

# Requests whose effect is on the process, not on the session that makes them.
SHARED_EFFECTS: Final = frozenset({"resources/subscribe", "resources/unsubscribe", "logging/setLevel"})

_DONE: Final = Result(Raw(b"{}"))
_UNSUBSCRIBE_S: Final = 2.0


class SharedServer(Protocol):
    """What is needed of the process that is shared."""

    @property
    def private(self) -> bool:
        """Whether it serves one session only, and always will."""
        ...

    async def own(self, method: str, params: Params) -> Result: ...

    def sessions_in_flight(self) -> set[str]: ...

    def count_dropped(self, what: str) -> None: ...


class Attached:
    """Sessions, their subscriptions and log levels on one process."""

    def __init__(self, server: SharedServer) -> None:
        self._server = server
        self._sessions: dict[str, Session] = {}
        self._watching: set[str] = set()
        self._holders: dict[str, set[str]] = {}  # resource URI -> ids of the sessions subscribed to it
        self._levels: dict[str, str] = {}
        self._level: str | None = None  # what the server was last told

    def add(self, session: Session, *, watching: bool = False) -> None:
        self._sessions[session.id] = session
        if watching:
            self._watching.add(session.id)

    async def remove(self, session: Session) -> None:
        """Forget a session; what only it had subscribed to is unsubscribed."""
        self._sessions.pop(session.id, None)
        self._watching.discard(session.id)
        self._levels.pop(session.id, None)
        for uri in [uri for uri, holders in self._holders.items() if session.id in holders]:
            try:
                async with asyncio.timeout(_UNSUBSCRIBE_S):  # no call's deadline covers it
                    await self._unsubscribe(session, {"uri": jsonrpc.encode(uri)})
            except TimeoutError:
                pass  # the server will tell of it, and nobody will hear

    @property
    def watched(self) -> bool:
        """Whether a client waits for news, so that the process must not be stopped for idling."""
        return any(session.caller is not BASCULE for session in self._clients() if session.id in self._watching)

    async def resume(self) -> None:
        """Restore on a fresh process what the sessions had on the one before."""
        if self._level is not None:
            await self._server.own("logging/setLevel", {"level": jsonrpc.encode(self._level)})
        for uri in self._holders:
            await self._server.own("resources/subscribe", {"uri": jsonrpc.encode(uri)})
        for method in legacy.LIST_CHANGED if self._watching else ():
            self.heard(method, {}, None)  # nobody knows what changed while it was away

    # ---- requests that one process can take only once for all

    async def local(self, session: Session, method: str, params: Params) -> Result:
        """The answer to one of SHARED_EFFECTS."""
        match method:
            case "resources/subscribe":
                return await self._subscribe(session, params)
            case "resources/unsubscribe":
                return await self._unsubscribe(session, params)
            case _:
                return await self._set_level(session, params)

    async def _subscribe(self, session: Session, params: Params) -> Result:
        uri = jsonrpc.text(params.get("uri")) or ""
        if not self._holders.get(uri):
            answer = await self._server.own("resources/subscribe", params)
            if answer.refused:
                return answer
        self._holders.setdefault(uri, set()).add(session.id)
        return _DONE

    async def _unsubscribe(self, session: Session, params: Params) -> Result:
        uri = jsonrpc.text(params.get("uri")) or ""
        holders = self._holders.get(uri, set())
        holders.discard(session.id)
        if holders:
            return _DONE
        self._holders.pop(uri, None)
        return await self._server.own("resources/unsubscribe", params)

    async def _set_level(self, session: Session, params: Params) -> Result:
        level = jsonrpc.text(params.get("level"))
        if level not in legacy.LEVELS:
            return await self._server.own("logging/setLevel", params)  # its refusal, in its words
        self._levels[session.id] = level
        lowest = legacy.lowest_level(self._levels.values())
        if lowest == self._level:
            return _DONE
        answer = await self._server.own("logging/setLevel", {**params, "level": jsonrpc.encode(lowest)})
        if not answer.refused:
            self._level = lowest
        return answer

    # ---- what the server sends outside of calls (multiplexer.Host)

    def heard(self, method: str, params: Params, sole: Call | None) -> None:
        """Hand a notification to whom it belongs."""
        if method in legacy.LIST_CHANGED:
            for id in list(self._watching):
                self._sessions[id].notify(method, params)
        elif method == legacy.UPDATED:
            for session in self._subscribed(jsonrpc.text(params.get("uri")) or ""):
                session.notify(method, params)
        elif (client := self._owner(sole)) is None:
            self._server.count_dropped("ownerless_notification")
        elif method != legacy.LOG or self._wants_log(sole, params):
            client.notify(method, params)

    async def asked(self, method: str, params: Params, sole: Call | None) -> Result:
        """Put a server's question to the client it belongs to.

        A question for a client that did not declare the capability is declined on its behalf.
        """
        session = sole.session if sole else self._only_session()
        client = self._owner(sole)
        if not any(self._clients()):
            raise MethodNotFound(f"no client is connected that could answer {method}")
        if method == "roots/list" and not self._server.private and not self._server.sessions_in_flight():
            # A server asks for them once and keeps them: one client's would then hold for all.
            raise MethodNotFound("roots are one client's, and no call of a client is in flight")
        if client is None or session is None:
            self._server.count_dropped("ownerless_question")
            raise MethodNotFound(
                f"{method} could belong to several clients; run this server with sharing: per_session (--per-session)"
            )
        if not legacy.may_ask(session.capabilities, method, params):
            if method == "elicitation/create":
                return Result(Raw(b'{"action":"decline"}'))
            raise MethodNotFound(f"the client did not declare what {method} needs")
        return await client.ask(method, params)

    def _owner(self, sole: Call | None) -> Client | None:
        return sole.client if sole else self._only_session()

    def _only_session(self) -> Session | None:
        busy = self._server.sessions_in_flight()
        sessions = [s for s in self._clients() if s.id in busy] if busy else list(self._clients())
        return sessions[0] if len({session.family for session in sessions}) == 1 else None

    def _clients(self) -> Iterator[Session]:
        return (session for session in self._sessions.values() if session.caller is not BASCULE)

    def _subscribed(self, uri: str) -> list[Session]:
        ids = {id for held, holders in self._holders.items() if legacy.concerns(held, uri) for id in holders}
        return [self._sessions[id] for id in ids if id in self._sessions]

    def _wants_log(self, sole: Call | None, params: Params) -> bool:
        session = sole.session if sole else self._only_session()
        wanted = self._levels.get(session.id) if session else None
        return wanted is None or legacy.reaches(params.get("level"), wanted)


class Nobody:
    """The client of the gateway's own requests: it hears nothing and answers nothing."""

    def notify(self, method: str, params: Params) -> None:
        pass  # own requests ask for no progress and no logs

    async def ask(self, method: str, params: Params) -> Result:
        raise Unavailable(f"nobody is there to answer {method}")


NOBODY: Final = Nobody()
