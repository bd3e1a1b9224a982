"""Keeps the catalog fresh: what each server lists, fetched once, again when it changes, kept when it is down."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.call import BASCULE, Call, Result, Target
from bascule.errors import BasculeError, MethodNotFound, TimedOut, UpstreamBrokeProtocol
from bascule.policy.scopes import UNLIMITED, Authority
from bascule.registry.catalog import LISTS, Catalog, Item, Listing, items
from bascule.registry.sight import KINDS, LISTED, Sight
from bascule.upstream.base import INFO, State, Upstream, reach
from bascule.wire import headers, jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.names import PREFIXED, SEPARATOR, Naming, versioned
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN, Era

MAX_PAGES: Final = 1000  # of one list; a server whose cursors never end is cut off here
_ANSWER_S: Final = 60.0  # for one page of a list
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_REST: Final = 9  # times as long as learning the lists took, before they are fetched again
_RECHECK_S: Final = 60.0  # servers that cannot say that their lists changed are asked again after so long


class Follower:
    """Knows the lists of one server in one era. To a legacy server it is a session like any other."""

    def __init__(self, upstream: Upstream, era: Era, changed: Callable[[], None]) -> None:
        self.upstream = upstream
        self.era = era
        self.listing: Listing | None = None
        self.error: BasculeError | None = None
        self.mirrored: Mapping[str, Sequence[headers.MirroredParam]] = {}
        self.settled = asyncio.Event()  # the first attempt is over, for better or worse
        self.id = self.family = f"bascule-{upstream.name}-{era.value}"
        self.caller = BASCULE
        self.revision = LATEST_MODERN if era is Era.MODERN else LATEST_LEGACY
        self.hello: Params = legacy.initialize_params(INFO, {})
        self.capabilities: Mapping[str, Any] = {}
        self._changed = changed
        self._dirty = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._fetching: asyncio.Future[None] | None = None
        self._fetched_at = 0.0
        self._learning_s = 0.0  # how long the loop was busy with the last change

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        for task in (self._task, self._listener):
            if task is not None:
                task.cancel()
        if self.era is Era.LEGACY:
            await self.upstream.forget(self)

    @property
    def stale(self) -> bool:
        """Whether the last fetch failed, so that the lists are the last known ones."""
        return self.error is not None

    # ---- call.Session: what the server tells us

    def notify(self, method: str, params: Params) -> None:
        if method in legacy.LIST_CHANGED:
            self._dirty.set()

    def announce(self, method: str, params: Params) -> None:
        pass  # only the aggregate announces, to clients

    async def ask(self, method: str, params: Params) -> Result:
        raise MethodNotFound(f"{method} is for clients; this is the gateway's own session")

    # ---- the loop

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            # A server that says all the time that its lists have changed must not keep the loop busy learning them.
            await asyncio.sleep(min(_LONGEST_PAUSE_S, _REST * self._learning_s))
            self._dirty.clear()
            try:
                await self.refresh()
                pause_s = _FIRST_PAUSE_S
                wait_s = None if self.upstream.status().kind == "stdio" else _RECHECK_S
            except BasculeError:
                wait_s = pause_s
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            try:
                async with asyncio.timeout(wait_s):
                    await self._dirty.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Fetch the lists now; callers at the same moment share one fetch. Raises what went wrong."""
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._fetch_and_publish())
            self._fetching.add_done_callback(self._fetched)
        await asyncio.shield(self._fetching)

    def age_s(self) -> float:
        return time.monotonic() - self._fetched_at

    def _fetched(self, done: "asyncio.Future[None]") -> None:
        self._fetching = None
        if not done.cancelled():
            done.exception()  # raised to whoever waits, and kept in self.error

    async def _fetch_and_publish(self) -> None:
        try:
            listing = await self._fetch()
        except BasculeError as error:
            self.error = error
            raise
        else:
            self._fetched_at = time.monotonic()
            self.error = None
            if listing != self.listing:
                self.listing = listing
                self.mirrored = {tool.key: tool.mirrored for tool in listing.tools if tool.mirrored}
                self.upstream.learn(self.mirrored)
                began = time.perf_counter()
                self._changed()
                self._learning_s = time.perf_counter() - began
        finally:
            self.settled.set()

    async def _fetch(self) -> Listing:
        greeting = jsonrpc.members(await self._greeting())
        declared = jsonrpc.value_of(greeting.get("capabilities"), dict) or {}
        lists: dict[str, list[Item]] = {}
        hints: list[tuple[int, bool]] = []
        for method, (member, capability) in LISTS.items():
            raws = [raw async for raw in self._pages(method, member, hints)] if capability in declared else []
            lists[method] = items(method, raws)
        return Listing(
            tools=lists["tools/list"],
            prompts=lists["prompts/list"],
            resources=lists["resources/list"],
            templates=lists["resources/templates/list"],
            capabilities=declared,
            instructions=jsonrpc.text(greeting.get("instructions")) or "",
            ttl_ms=min((ttl for ttl, _ in hints), default=0),
            shared=bool(hints) and all(shared for _, shared in hints),
        )

    async def _greeting(self) -> Raw:
        if self.era is Era.LEGACY:
            greeting = await self._send(legacy.INITIALIZE, self.hello)
            await self.upstream.watch(self)
            return greeting
        found = await self._send(modern.DISCOVER, {})
        self._listen(jsonrpc.value_of(jsonrpc.members(found).get("capabilities"), dict) or {})
        return found

    async def _pages(self, method: str, member: str, hints: list[tuple[int, bool]]) -> Any:
        """Every entry of a list, page by page; the pages' cache hints are added to *hints*."""
        cursor: Raw | None = None
        seen: set[bytes] = set()
        for _ in range(MAX_PAGES):
            try:
                page = jsonrpc.members(await self._send(method, {"cursor": cursor} if cursor is not None else {}))
            except MethodNotFound:
                return  # templates are an optional part of resources
            for raw in jsonrpc.items(page.get(member, Raw(b"[]"))):
                yield raw
            if "ttlMs" in page:
                hints.append(
                    (
                        max(0, jsonrpc.value_of(page["ttlMs"], int) or 0),
                        jsonrpc.text(page.get("cacheScope")) == "public",
                    )
                )
            cursor = page.get("nextCursor")
            if cursor is None or cursor == jsonrpc.NULL:
                return
            if bytes(cursor) in seen:
                raise UpstreamBrokeProtocol(f"{method} repeats a cursor").at(self.upstream.name)
            seen.add(bytes(cursor))
        raise UpstreamBrokeProtocol(f"{method} has more than {MAX_PAGES} pages").at(self.upstream.name)

    async def _send(self, method: str, params: Params) -> Raw:
        if self.era is Era.MODERN:
            params = modern.stamp(params, info=INFO, capabilities={})
        try:
            async with asyncio.timeout(_ANSWER_S) as scope:
                result = await reach(self._call(method, params))
        except TimeoutError:
            if not scope.expired():
                raise
            raise TimedOut(f"no answer to {method} within {_ANSWER_S:g} s").at(self.upstream.name) from None
        if not result.refused:
            return result.value
        if modern.error_code(result.value) == MethodNotFound.code:
            raise MethodNotFound(f"{self.upstream.name} does not know {method}")
        raise UpstreamBrokeProtocol(f"refused {method}: {bytes(result.value).decode()}").at(self.upstream.name)

    def _call(self, method: str, params: Params) -> Call:
        return Call(
            caller=BASCULE,
            client=self,
            revision=self.revision,
            method=method,
            id=Raw(b"0"),
            session=self if self.era is Era.LEGACY else None,
            target=Target(self.upstream, params),
        )

    # ---- news from a modern server

    def _listen(self, capabilities: Any) -> None:
        wanted = {
            f"{kind}ListChanged": True
            for kind in ("tools", "prompts", "resources")
            if isinstance(capabilities.get(kind), dict) and capabilities[kind].get("listChanged")
        }
        if wanted and (self._listener is None or self._listener.done()):
            self._listener = asyncio.ensure_future(self._hear(wanted))

    async def _hear(self, wanted: Mapping[str, bool]) -> None:
        params = modern.stamp({"notifications": jsonrpc.encode(wanted)}, info=INFO, capabilities={})
        try:
            answer = await reach(self._call(modern.LISTEN, params))
        except BasculeError:
            answer = None
        if answer is None or not answer.refused:
            # The stream ended, so news may have been missed: look again, which also listens again.
            await asyncio.sleep(_FIRST_PAUSE_S)
            self._listener = None
            self._dirty.set()


class Registry:
    """All followers, and the catalog of each era made of what they know."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        aliases: Mapping[str, str],
        patience_s: float,
        sight: Sight | None = None,
    ) -> None:
        """*sight* says what callers may see; without it everybody sees everything."""
        self.upstreams = dict(upstreams)
        self.sight = sight
        self._aliases = aliases
        self._patience_s = patience_s
        self._followers: dict[tuple[str, Era], Follower] = {}
        self._catalogs = {era: Catalog(era, {}, aliases) for era in Era}
        self._listeners: set[Callable[[Catalog, Sequence[str]], None]] = set()
        self._openers: set[asyncio.Task[None]] = set()

    def start(self, upstream: Upstream) -> None:
        """Follow *upstream* in its own era, in the background."""
        task = asyncio.ensure_future(self._open(upstream))
        self._openers.add(task)
        task.add_done_callback(self._openers.discard)

    async def _open(self, upstream: Upstream) -> None:
        pause_s = _FIRST_PAUSE_S
        while upstream.name in self.upstreams:
            try:
                eras = await upstream.eras()
            except BasculeError:
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
                continue
            self.follow(upstream, Era.MODERN if Era.MODERN in eras else Era.LEGACY)
            return

    def follow(self, upstream: Upstream, era: Era) -> Follower:
        key = (upstream.name, era)
        follower = self._followers.get(key)
        if follower is None:
            follower = self._followers[key] = Follower(upstream, era, lambda: self._learnt(upstream.name, era))
            follower.start()
        return follower

    def _learnt(self, server: str, era: Era) -> None:
        others = self._tell_sight(server)
        for each in Era if others else (era,):
            self._rebuild(each)

    def _tell_sight(self, server: str) -> bool:
        """Whether what is to be seen of other servers has changed."""
        listings = [follower.listing for follower in self.followers(server) if follower.listing is not None]
        return self.sight is not None and bool(listings) and self.sight.learn(server, listings)

    async def stop(self) -> None:
        for task in self._openers:
            task.cancel()
        await asyncio.gather(*(follower.stop() for follower in self._followers.values()))

    async def adopt(
        self,
        upstreams: Mapping[str, Upstream],
        aliases: Mapping[str, str],
        patience_s: float,
        sight: Sight | None = None,
    ) -> None:
        """Replace the set of servers; those that stay the same object keep what is known of them."""
        self.sight = sight
        gone = [key for key, follower in self._followers.items() if upstreams.get(key[0]) is not follower.upstream]
        leaving = [self._followers.pop(key) for key in gone]
        self.upstreams, self._aliases, self._patience_s = dict(upstreams), aliases, patience_s
        for server in self.upstreams:
            self._tell_sight(server)
        for era in Era:
            self._rebuild(era)
        await asyncio.gather(*(follower.stop() for follower in leaving))

    def catalog(self, era: Era) -> Catalog:
        """The present snapshot; no waiting."""
        return self._catalogs[era]

    async def current(self, era: Era) -> Catalog:
        """The snapshot once every server has been asked in this era, or has taken too long."""
        await self._settle([follower async for follower in self._wanted(era, self.upstreams)])
        return self._catalogs[era]

    async def _settle(self, followers: Sequence[Follower]) -> None:
        waiting = [f.settled.wait() for f in followers if not f.settled.is_set()]
        if waiting:
            try:
                async with asyncio.timeout(self._patience_s):
                    await asyncio.gather(*waiting)
            except TimeoutError:
                pass  # one slow server must not hold back the others' tools

    async def _wanted(self, era: Era, upstreams: Mapping[str, Upstream]) -> Any:
        for upstream in list(upstreams.values()):
            known = self._followers.get((upstream.name, era))
            if known is not None:
                yield known
                continue
            try:
                async with asyncio.timeout(self._patience_s):
                    await asyncio.shield(asyncio.ensure_future(upstream.eras()))
            except (TimeoutError, BasculeError):
                continue  # its own status says why
            yield self.follow(upstream, era)

    async def find(self, name: str, era: Era, authority: Authority = UNLIMITED) -> bool:
        """Ask the servers that *name* may lead to and whose lists are not known yet; False if there are none.

        Only those: a made-up name must not start every lazy server, nor one that a caller with *authority*
        must not know of. Raises Unavailable when it leads to one that is switched off.
        """
        logical = next((id for id, wire in self._aliases.items() if wire == name), name)
        unknown = {
            server: upstream
            for server, upstream in self.upstreams.items()
            if self._may_lead(logical, server)
            and self.listing(server, era) is None
            and (self.sight is None or self.sight.opens(authority, server))
        }
        for upstream in unknown.values():
            if upstream.status().state is State.OFF:
                await upstream.eras()  # which says who has switched it off: a maintenance is not the end of a tool
        await self._settle([follower async for follower in self._wanted(era, unknown)])
        return bool(unknown)

    def _may_lead(self, name: str, server: str) -> bool:
        """Whether *name* could be that of a thing of *server*."""
        if name.startswith((f"{server}/", f"{server}{SEPARATOR}")):
            return True
        space = name.partition("/")[0].partition(SEPARATOR)[0]
        return server in self._naming.own and space != name and space not in self.upstreams

    def listing(self, server: str, era: Era) -> Listing | None:
        """The last known lists of one server."""
        follower = self._followers.get((server, era))
        return follower.listing if follower else None

    def lists_tool(self, server: str, name: str) -> bool:
        """Whether *server* lists a tool of just this name, in any era."""
        listings = (follower.listing for follower in self.followers(server))
        return any(tool.key == name for listing in listings if listing is not None for tool in listing.tools)

    async def mirrored(self, view: str, name: str, authority: Authority = UNLIMITED) -> Sequence[headers.MirroredParam]:
        """Which arguments of tool *name*, as clients of *view* call it, they repeat in headers.

        None of a tool that a caller with *authority* must not know of: what is wrong with its headers would tell.
        """
        if not view:
            place, _ = self._catalogs[Era.MODERN].tools.find_version(name)
            if place is None and await self.find(name, Era.MODERN, authority):
                place, _ = self._catalogs[Era.MODERN].tools.find_version(name)
            return place.mirrored if place and self._sees(authority, place.server, place.name) else ()
        # A tool's schema is the same in both eras, so whoever follows the server knows it.
        follower = self._followers.get((view, Era.MODERN)) or self._followers.get((view, Era.LEGACY))
        if follower is None:
            return ()
        if not follower.settled.is_set():
            await self._settle([follower])
        if name not in follower.mirrored:
            name, _ = versioned(name)
        return follower.mirrored.get(name, ()) if self._sees(authority, view, name) else ()

    def _sees(self, authority: Authority, server: str, tool: str) -> bool:
        return self.sight is None or self.sight.sees(authority, "tool", server, tool)

    def owner_of(self, uri: str, era: Era, authority: Authority) -> str | None:
        """The server that a resource URI leads a caller to: the first one that has it and may be known to have it."""
        sight = self.sight
        if sight is None or not sight.private:
            return self._catalogs[era].owner_of(uri)
        return self._catalogs[era].owner_of(uri, lambda server: sight.sees(authority, "resource", server, uri))

    def followers(self, server: str) -> Iterator[Follower]:
        return (follower for (name, _), follower in self._followers.items() if name == server)

    async def settled(self, server: str, era: Era) -> None:
        """Wait, not for ever, until it is known what *server* lists; it is asked in *era* if nobody has asked yet."""
        following = list(self.followers(server))
        await self._settle(following or [f async for f in self._wanted(era, {server: self.upstreams[server]})])

    def _admitted(self, server: str, listing: Listing) -> Listing:
        """*listing* without what nobody may see."""
        sight = self.sight
        if sight is None:
            return listing
        return msgspec.structs.replace(
            listing,
            **{
                member: [item for item in getattr(listing, member) if not sight.withholds(kind, server, item.key)]
                for member, kind in KINDS
            },
        )

    def _shown(self, method: str, server: str, key: str, members: Params) -> Params | None:
        assert self.sight is not None, "it is only asked for where there is one"
        return self.sight.entry(LISTED[method], server, key, members)

    @property
    def _naming(self) -> Naming:
        return PREFIXED if self.sight is None else self.sight.naming

    def subscribe(self, listener: Callable[[Catalog, Sequence[str]], None]) -> Callable[[], None]:
        """Call *listener* with each new catalog and the lists that changed; returns the way to stop it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _rebuild(self, era: Era) -> None:
        listings = {
            name: self._admitted(name, follower.listing)
            for name in self.upstreams
            if (follower := self._followers.get((name, era))) and follower.listing is not None
        }
        old = self._catalogs[era]
        new = Catalog(
            era,
            listings,
            self._aliases,
            shown=self._shown if self.sight else None,
            private=self.sight is not None and self.sight.private,
            naming=self._naming,
        )
        self._catalogs[era] = new
        changed = sorted({LISTS[method][1] for method in LISTS if old.page(method) != new.page(method)})
        if changed:
            for listener in list(self._listeners):
                listener(new, changed)
