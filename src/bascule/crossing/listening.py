"""What sessions want to hear from a stateless server: for each caller one subscription at the server.

Sessions come and go and subscribe to this and that; the server sees one `subscriptions/listen` whose
filter is what all of them want, opened anew when that changes, and again when it breaks.
Source: MCP 2026-07-28, "Subscriptions"; MCP 2025-11-25, Resources, "Subscriptions".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

import msgspec

from bascule.call import Caller, Client, Result, Session
from bascule.errors import BasculeError, InvalidParams, Unavailable
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params

log = logging.getLogger("bascule.crossing")

# Runs a `subscriptions/listen` for a caller, with these notifications wanted, until it ends.
Listen: TypeAlias = Callable[[Caller, Params, Client], Awaitable[Result]]

_ACK_S: Final = 10.0  # the acknowledgement is the first thing that a server sends
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


class _Ear:
    """The client of one `subscriptions/listen` (`call.Client`)."""

    def __init__(self, wanted: "_Wanted", heard: Callable[["_Ear", str, Params], None]) -> None:
        self.wanted = wanted
        self.uris: frozenset[str] = frozenset()  # what the server honours
        self.acknowledged = asyncio.Event()
        self.early: list[tuple[str, Params]] = []  # what came before it took the place of the one before
        self.silenced = False
        self.work: asyncio.Future[Result] | None = None
        self._heard = heard

    def notify(self, method: str, params: Params) -> None:
        if method == modern.ACKNOWLEDGED:
            honoured = jsonrpc.value_of(params.get("notifications"), dict) or {}
            uris = honoured.get("resourceSubscriptions")
            self.uris = (
                frozenset(uri for uri in uris if isinstance(uri, str)) if isinstance(uris, list) else frozenset()
            )
            self.acknowledged.set()
        else:
            self._heard(self, method, params)

    async def ask(self, method: str, params: Params) -> Result:
        raise Unavailable(f"a subscription cannot answer {method}")


class _Wanted(msgspec.Struct, frozen=True):
    """A filter: the kinds of lists, and the resources."""

    kinds: frozenset[str]
    uris: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.kinds or self.uris)

    def params(self) -> Params:
        return modern.wanting(sorted(self.kinds), sorted(self.uris))


class Channel:
    """The subscription of one caller's sessions at one server."""

    def __init__(self, caller: Caller, kinds: frozenset[str], listen: Listen) -> None:
        """*kinds* are the lists whose changes the server tells of."""
        self._caller = caller
        self._kinds = kinds
        self._listen = listen
        self._watching: dict[str, Session] = {}
        self._holders: dict[str, dict[str, Session]] = {}  # resource URI -> sessions subscribed to it
        self._ear: _Ear | None = None
        self._closed = False
        self._renewing = asyncio.Lock()
        self._tasks: set[asyncio.Future[None]] = set()
        self._again: asyncio.Future[None] | None = None  # tries to listen until it does

    async def watch(self, session: Session) -> None:
        """The session hears of lists that change. Raises nothing: a server that is down is tried again."""
        self._watching[session.id] = session
        try:
            await self._renew()
        except BasculeError as error:
            log.info("not listening yet: %s", error.message)
            self._retry()

    async def subscribe(self, session: Session, uri: str) -> None:
        """The session hears of *uri*. Raises InvalidParams if the server does not tell of it, or what went wrong."""
        self._holders.setdefault(uri, {})[session.id] = session
        try:
            await self._renew()
            if self._ear is None or uri not in self._ear.uris:
                raise InvalidParams(f"the server does not tell of changes to {uri!r}", uri=uri)
        except (BasculeError, asyncio.CancelledError):
            self._release(session, uri)
            raise

    async def unsubscribe(self, session: Session, uri: str) -> None:
        self._release(session, uri)
        await self._renew()

    def forget(self, session: Session) -> bool:
        """The session is over. Whether nobody is left."""
        self._watching.pop(session.id, None)
        for uri in list(self._holders):
            self._release(session, uri)
        if self._watching or self._holders:
            self._spawn(self._renew())  # the filter may be narrower now
            return False
        self.close()
        return True

    def close(self) -> None:
        self._closed = True
        self._silence(self._ear)
        self._ear = None
        for task in self._tasks:
            task.cancel()

    def _release(self, session: Session, uri: str) -> None:
        holders = self._holders.get(uri, {})
        holders.pop(session.id, None)
        if not holders:
            self._holders.pop(uri, None)

    # ---- the subscription at the server

    def _wanted(self) -> _Wanted:
        return _Wanted(self._kinds if self._watching else frozenset(), frozenset(self._holders))

    async def _renew(self) -> None:
        """Have the server tell of what is wanted now: open the new subscription, then end the old one."""
        async with self._renewing:
            wanted, old = self._wanted(), self._ear
            if old is not None and old.wanted == wanted:
                return
            fresh = await self._open(wanted) if wanted else None
            if self._closed:  # meanwhile the last session has ended
                self._silence(fresh)
                return
            self._ear = fresh
            self._silence(old)
            for method, params in fresh.early if fresh is not None else ():
                self._tell(method, params)

    async def _open(self, wanted: _Wanted) -> _Ear:
        ear = _Ear(wanted, self._heard)
        ear.work = asyncio.ensure_future(self._listen(self._caller, wanted.params(), ear))
        acknowledged: asyncio.Future[Any] = asyncio.ensure_future(ear.acknowledged.wait())
        either: tuple[asyncio.Future[Any], ...] = (ear.work, acknowledged)
        try:
            await asyncio.wait(either, timeout=_ACK_S, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._silence(ear)
            raise
        finally:
            acknowledged.cancel()
        if not ear.acknowledged.is_set():
            self._silence(ear)
            if ear.work.done() and not ear.work.cancelled() and (error := ear.work.exception()) is not None:
                raise error
            raise Unavailable("the server did not acknowledge a subscription")
        ear.work.add_done_callback(lambda _: self._ended(ear))
        return ear

    def _ended(self, ear: _Ear) -> None:
        """The server ended the subscription, or broke."""
        if ear.work is not None and not ear.work.cancelled():
            ear.work.exception()  # seen: whatever it was, we listen again
        if ear is self._ear:
            self._ear = None
            self._retry()

    def _retry(self) -> None:
        if self._again is None or self._again.done():
            self._again = self._spawn(self._listen_again())

    async def _listen_again(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while self._ear is None and self._wanted():
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            try:
                await self._renew()
            except BasculeError:
                continue
            for method, kind in legacy.LIST_CHANGED.items():
                if kind in self._kinds:
                    self._tell_watchers(method, {})  # nobody knows what changed meanwhile

    def _silence(self, ear: _Ear | None) -> None:
        if ear is not None:
            ear.silenced = True
            if ear.work is not None:
                ear.work.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: "asyncio.Future[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), BasculeError):
            log.info("not listening: %s", error.message)
        elif not task.cancelled() and task.exception() is not None:
            log.error("listening failed", exc_info=task.exception())

    # ---- what it tells

    def _heard(self, ear: _Ear, method: str, params: Params) -> None:
        if ear is self._ear:
            self._tell(method, params)
        elif not ear.silenced:
            ear.early.append((method, params))

    def _tell(self, method: str, params: Params) -> None:
        plain = _untagged(params)
        if method in legacy.LIST_CHANGED:
            self._tell_watchers(method, plain)
        elif method == legacy.UPDATED:
            uri = jsonrpc.text(params.get("uri")) or ""
            hearers = {
                id: s for held, those in self._holders.items() if legacy.concerns(held, uri) for id, s in those.items()
            }
            for session in hearers.values():
                session.notify(method, plain)

    def _tell_watchers(self, method: str, params: Params) -> None:
        for session in list(self._watching.values()):
            session.notify(method, params)


def _untagged(params: Params) -> Params:
    """*params* without the subscription's id, which a session knows nothing of."""
    meta = {key: value for key, value in modern.meta_of(params).items() if key != modern.SUBSCRIPTION_ID}
    bare = {key: value for key, value in params.items() if key != "_meta"}
    return jsonrpc.replaced(bare, meta_=meta) if meta else bare
