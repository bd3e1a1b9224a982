"""The endpoint that joins all servers: lists from the catalog, everything else to the server it names.

It is an `Upstream` like the others, so that the edge knows one kind of thing behind an endpoint.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.call import Call, Caller, Result, Session, Target
from bascule.errors import BasculeError, InvalidParams, MethodNotFound
from bascule.policy.scopes import Authority
from bascule.registry.catalog import LISTS, Catalog
from bascule.registry.sight import LISTED, Sight
from bascule.registry.sync import Follower, Registry
from bascule.upstream.base import INFO, State, Status, Upstream, reach
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import NOTHING, Params
from bascule.wire.versions import MODERN_VERSIONS, Era

_STALE_AFTER_S: Final = 5.0  # a list asked for again after so long is fetched anew from servers without news
_PAGES_KEPT: Final = 1024  # lists, one for each set of scopes
_DONE: Final = Result(Raw(b"{}"))


class Aggregate:
    """All servers as one. Answers what concerns all of them; `resolve` sends the rest where it belongs."""

    name = ""
    spare = None

    def __init__(self, registry: Registry, sight: Sight | None = None) -> None:
        """*sight* says what callers may see; without it everybody sees everything."""
        self._registry = registry
        self.sight = sight
        self._pages: dict[tuple[Era, str, Authority], tuple[Catalog, Raw]] = {}
        self._watching: dict[str, tuple[Session, Callable[[], None]]] = {}
        self._opened: dict[str, set[str]] = {}  # session id -> servers that know the session
        self._levels: dict[str, Params] = {}

    async def start(self) -> None:
        """Nothing to bring up: the servers are started by themselves."""

    async def stop(self) -> None:
        for _, unsubscribe in self._watching.values():
            unsubscribe()

    async def eras(self) -> Collection[Era]:
        return frozenset(Era)

    async def _greet(self, session: Session, caller: Caller) -> Result:
        catalog = await self._registry.current(Era.LEGACY)
        greeting: dict[str, Any] = {
            "protocolVersion": session.revision.version,
            "capabilities": catalog.capabilities,
            "serverInfo": INFO,
        }
        if told := self._instructions(catalog, caller):
            greeting["instructions"] = told
        return Result(jsonrpc.encode(greeting))

    async def send(self, call: Call) -> Result:
        if call.method in LISTS:
            return await self._list(call)
        match call.method:
            case legacy.INITIALIZE if call.session is not None:
                return await self._greet(call.session, call.caller)
            case modern.DISCOVER:
                return Result(self._discovered(await self._registry.current(Era.MODERN), call.caller))
            case modern.LISTEN:
                return await self._listen(call)
            case "logging/setLevel" if call.session is not None:
                return await self._set_level(call, call.session)
            case _:
                raise MethodNotFound(f"no method {call.method!r}")

    async def tell(self, session: Session, method: str, params: Params) -> None:
        await self._everywhere(session, lambda upstream: upstream.tell(session, method, params))

    async def watch(self, session: Session) -> None:
        """The session hears of list changes of the whole, and what its own servers send it."""
        if session.id not in self._watching:
            unsubscribe = self._registry.subscribe(lambda catalog, changed: self._announce(session, catalog, changed))
            self._watching[session.id] = session, unsubscribe
        await self._everywhere(session, lambda upstream: upstream.watch(session))

    async def forget(self, session: Session) -> None:
        _, unsubscribe = self._watching.pop(session.id, (None, None))
        if unsubscribe is not None:
            unsubscribe()
        await self._everywhere(session, lambda upstream: upstream.forget(session))
        self._opened.pop(session.id, None)
        self._levels.pop(session.id, None)

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None:
        pass  # the catalog knows it per tool

    def status(self) -> Status:
        return Status(name=self.name, kind="aggregate", state=State.READY)

    # ---- sessions on several servers

    async def open(self, call: Call, upstream: Upstream) -> None:
        """Make sure that *upstream* knows the call's session, with the log level and ears it has here."""
        session = call.session
        assert session is not None
        known = self._opened.setdefault(session.id, set())
        if upstream.name in known:
            return
        known.add(upstream.name)
        try:
            await reach(_to(call, upstream, method=legacy.INITIALIZE, params=session.hello))
            if session.id in self._watching:
                await upstream.watch(session)
            if session.id in self._levels and self._declares(upstream.name, "logging"):
                await reach(_to(call, upstream, method="logging/setLevel", params=self._levels[session.id]))
        except BasculeError:
            known.discard(upstream.name)
            raise

    async def _everywhere(self, session: Session, act: Callable[[Upstream], Awaitable[None]]) -> None:
        """Do *act* with every server that knows the session; one that is down does not stop the others."""
        for name in list(self._opened.get(session.id, ())):
            upstream = self._registry.upstreams.get(name)
            if upstream is not None:
                try:
                    await act(upstream)
                except BasculeError:
                    continue  # it is down, and says so in its status

    def _announce(self, session: Session, catalog: Catalog, changed: Sequence[str]) -> None:
        if catalog.era is Era.LEGACY:
            for kind in changed:
                session.announce(f"notifications/{kind}/list_changed", {})

    def _declares(self, server: str, capability: str) -> bool:
        listing = self._registry.listing(server, Era.LEGACY)
        return listing is not None and capability in listing.capabilities

    # ---- answers of the whole

    async def _list(self, call: Call) -> Result:
        if "cursor" in call.params:
            raise InvalidParams("no such cursor: this list has one page")
        await self._freshen(call.era)
        catalog = await self._registry.current(call.era)
        return Result(self._page(catalog, call.method, call.caller.authority))

    def _page(self, catalog: Catalog, method: str, authority: Authority) -> Raw:
        """The list as this caller sees it; made once for all who may do the same."""
        sight = self.sight
        if sight is None or not sight.private:
            return catalog.page(method)
        key = catalog.era, method, authority
        made, page = self._pages.get(key, (None, NOTHING))
        if made is not catalog:
            if len(self._pages) >= _PAGES_KEPT:
                self._pages.clear()
            page = catalog.page_of(method, lambda m, server, name: sight.sees(authority, LISTED[m], server, name))
            self._pages[key] = catalog, page
        return page

    def _instructions(self, catalog: Catalog, caller: Caller) -> str:
        sight = self.sight
        return catalog.instructions(lambda server: sight is None or sight.opens(caller.authority, server))

    async def _freshen(self, era: Era) -> None:
        """Fetch anew what is older than its server's cache hint allows; a slow server keeps its old list."""
        old = [
            follower.refresh()
            for name in self._registry.upstreams
            for follower in self._registry.followers(name)
            if follower.era is era and _may_be_old(follower)
        ]
        if old:
            await asyncio.wait([asyncio.ensure_future(_quietly(each)) for each in old], timeout=1.0)

    def _discovered(self, catalog: Catalog, caller: Caller) -> Raw:
        found: dict[str, Any] = {"supportedVersions": MODERN_VERSIONS, "capabilities": catalog.capabilities}
        if told := self._instructions(catalog, caller):
            found["instructions"] = told
        found["_meta"] = {modern.SERVER_INFO: INFO}
        return modern.complete(found, ttl_ms=catalog.ttl_ms, shared=catalog.shared)

    async def _set_level(self, call: Call, session: Session) -> Result:
        level = jsonrpc.text(call.params.get("level"))
        if level not in legacy.LEVELS:
            raise InvalidParams(f"no log level {level!r}; there are {', '.join(legacy.LEVELS)}")
        self._levels[session.id] = call.params
        await self._everywhere(session, lambda upstream: self._pass_level(call, upstream))
        return _DONE

    async def _pass_level(self, call: Call, upstream: Upstream) -> None:
        if self._declares(upstream.name, "logging"):
            await reach(_to(call, upstream))

    # ---- subscriptions/listen

    async def _listen(self, call: Call) -> Result:
        """One stream for the client, fed by the catalog and by a stream to each server it concerns."""
        kinds, uris = modern.wanted_by(call.params)
        await self._registry.current(Era.MODERN)
        owners = {
            uri: owner
            for uri in uris
            if (owner := self._registry.owner_of(uri, Era.MODERN, call.caller.authority)) is not None
            and (self.sight is None or self.sight.allows(call.caller.authority, "resource", owner, uri))
        }
        self._tell_listener(call, modern.ACKNOWLEDGED, modern.wanting(kinds, list(owners)))

        def announce(changed_catalog: Catalog, changed: Sequence[str]) -> None:
            for kind in changed if changed_catalog.era is Era.MODERN else ():
                if kind in kinds:
                    self._tell_listener(call, f"notifications/{kind}/list_changed", {})

        unsubscribe = self._registry.subscribe(announce)
        try:
            async with asyncio.TaskGroup() as group:
                for server in sorted(set(owners.values())):
                    theirs = [uri for uri, owner in owners.items() if owner == server]
                    group.create_task(self._relay_updates(call, server, theirs))
                await asyncio.Event().wait()  # until the client leaves
        finally:
            unsubscribe()
        return _DONE

    async def _relay_updates(self, call: Call, server: str, uris: list[str]) -> None:
        """Keep one subscription at *server* for the client's, through restarts of the server."""
        params = {**call.params, **modern.wanting((), uris)}
        while True:
            upstream = self._registry.upstreams.get(server)
            if upstream is None:
                return
            try:
                await reach(_to(call, upstream, params=params, client=_Updates(call)))
            except BasculeError:
                pass  # down for now
            await asyncio.sleep(1.0)

    def _tell_listener(self, call: Call, method: str, params: Params) -> None:
        call.client.notify(method, modern.retag(params, call.id))


class _Updates:
    """Lets through what one server's subscription carries, but not its acknowledgement: ours was sent."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def notify(self, method: str, params: Params) -> None:
        if method == legacy.UPDATED:
            self._call.client.notify(method, params)

    async def ask(self, method: str, params: Params) -> Result:
        return await self._call.client.ask(method, params)


def _may_be_old(follower: Follower) -> bool:
    """Whether a server should be asked for its lists again: not if it tells of changes itself, or rests."""
    listing = follower.listing
    if listing is None or follower.stale or follower.upstream.status().state is State.IDLE:
        return False
    tells = any(isinstance(each, dict) and each.get("listChanged") for each in listing.capabilities.values())
    return not tells and follower.age_s() > max(_STALE_AFTER_S, listing.ttl_ms / 1000)


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except BasculeError:
        pass  # the follower keeps the error and the old list


def _to(call: Call, upstream: Upstream, **changes: Any) -> Call:
    params = changes.pop("params", call.params)
    return msgspec.structs.replace(call, target=Target(upstream, params), params=params, **changes)
