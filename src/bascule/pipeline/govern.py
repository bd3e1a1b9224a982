"""`govern`: each call goes the way that was compiled for what it names; lists show what their caller may call.

Nothing reaches a server past this stage without a decision: what names a thing is decided by its way, lists
are filtered by the same function, and what is neither is left to those who may do everything at the server.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from bascule.call import Call, Forward, Result, Target
from bascule.contract.model import Kind
from bascule.contract.versions import only
from bascule.errors import BasculeError, InvalidParams, MethodNotFound, Unavailable, VersionNotFound
from bascule.pipeline.guard import Guard
from bascule.pipeline.resolve import completed
from bascule.pipeline.ways import Behind, Way, Ways
from bascule.registry.catalog import KEYS, LISTS
from bascule.registry.sight import LISTED
from bascule.registry.sync import Registry
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era

_NAMING: Final[dict[str, tuple[Kind, str]]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
}
_LONGEST_NAME: Final = 8192  # characters; ways of unlisted things are kept under it, whoever made it up
_NEWS_WITHIN_S: Final = 5.0  # a list that says other things than we have heard waits until we have heard them
_MOST_URIS: Final = 1000  # of one subscription; each is judged before anything else runs
# What concerns a server as a whole and does nothing there that its lists would not say.
_HARMLESS: Final = frozenset({legacy.INITIALIZE, modern.DISCOVER, "ping", "logging/setLevel"})


class Govern:
    """Finds the way of a call. Behind it stand the server's deadline and the server."""

    def __init__(self, ways: Ways, registry: Registry) -> None:
        self.ways = ways
        self._registry = registry

    async def __call__(self, call: Call, forward: Forward) -> Result:
        assert call.target is not None, "the resolve stage sets the target"
        server = call.target.upstream.name
        if call.method == modern.LISTEN:
            return await forward(await self._listening(call, call.target))
        if not server:
            return await forward(call)  # the aggregate, which shows each caller its own part
        if call.method in _NAMING or call.method == "completion/complete":
            kind, name = _named(call.method, call.target.params)
            way = await self._way(call, server, kind, name)
            if way.choice is not None or call.target.version or call.wishes.version:
                way = await self._chosen(call, server, kind, name, way)
            call.trip.contract, call.trip.server = way.contract, server
            call.trip.listed = way.listed
            if way.elsewhere is not None:
                call = self._sent_elsewhere(call, way.elsewhere)
            result = await way.forward(msgspec.structs.replace(call, contract=way.contract))
            return self._unshared(call, result) if call.method == "resources/read" else result
        if call.method in LISTS:
            return self._unshared(call, await self._list(call, server, forward))
        if call.method not in _HARMLESS and not call.caller.authority.covers((server,)):
            raise MethodNotFound(f"no method {call.method!r}")
        return self._unshared(call, await forward(call))

    def _unshared(self, call: Call, result: Result) -> Result:
        """*result* as no cache may give it to another caller, who may see other things."""
        if not self.ways.private or call.era is not Era.MODERN or b'"public"' not in bytes(result.value):
            return result
        found = jsonrpc.members(result.value)
        if jsonrpc.text(found.get("cacheScope")) != "public":
            return result
        return msgspec.structs.replace(result, value=jsonrpc.encode(jsonrpc.replaced(found, cacheScope="private")))

    async def _way(self, call: Call, server: str, kind: Kind, name: str) -> Way:
        if not self.ways.knows(server):
            await self._registry.settled(server, call.era)
            if not self.ways.knows(server) and self.ways.governs(kind, server, name):
                raise Unavailable("its lists are not known yet, and with them what holds for this call").at(server)
        return self.ways.way(kind, server, name)

    async def _chosen(self, call: Call, server: str, kind: Kind, name: str, way: Way) -> Way:
        """The way of the version that *call* asks for, or is to have. Raises VersionNotFound, InvalidParams."""
        assert call.target is not None, "the resolve stage sets the target"
        wanted, said = call.target.version or call.wishes.version, call.wishes.version
        if said and said != wanted:
            raise InvalidParams(f"the name asks for version {wanted!r}, and _meta for {said!r}")
        choice, authority = way.choice, call.caller.authority
        others = () if choice is None else (self.ways.version(kind, server, name, each) for each in choice.versions)
        if not any(each.is_seen(authority) for each in (way, *others)):
            return way  # it refuses, as what does not exist
        if choice is None:
            only(way.contract, wanted)
            return way
        picked = choice.pick(wanted, call.caller.name)
        return way if picked == choice.default else self.ways.version(kind, server, name, picked)

    def _sent_elsewhere(self, call: Call, behind: Behind) -> Call:
        """*call* on its way to what answers in its place. Raises Unavailable, VersionNotFound."""
        assert call.target is not None, "the resolve stage sets the target"
        if call.session is not None and call.view:
            raise VersionNotFound(f"this version is served by another server than {call.view!r}: call it on /mcp")
        upstream = self._registry.upstreams.get(behind.server)
        if upstream is None:
            raise Unavailable("it has left the configuration").at(behind.server)
        call.trip.server = behind.server
        params = {**call.target.params, "name": jsonrpc.encode(behind.name)}
        return msgspec.structs.replace(call, target=Target(upstream, params))

    async def _list(self, call: Call, server: str, forward: Forward) -> Result:
        if (self.ways.private or self.ways.pins(server)) and not self.ways.knows(server):
            await self._registry.settled(server, call.era)
        result = await forward(call)
        if result.refused or self.ways.plain(server, call.caller.authority):
            return result
        found = jsonrpc.members(result.value)
        member, _ = LISTS[call.method]
        entries = [jsonrpc.members(raw) for raw in jsonrpc.items(found[member])] if member in found else []
        await self._heard(call, server, entries)
        seen = [each for entry in entries if (each := self._shown(call, server, entry)) is not None]
        return msgspec.structs.replace(result, value=jsonrpc.encode(jsonrpc.replaced(found, **{member: seen})))

    async def _heard(self, call: Call, server: str, entries: Sequence[Params]) -> None:
        """Have *server* list to us what it lists to a client, so that it is judged before anybody sees or calls it."""
        kind, key = LISTED[call.method], KEYS[call.method]
        for _ in range(2):  # the first may be one that had begun before the list changed
            named = [(jsonrpc.text(entry.get(key)) or "", entry) for entry in entries]
            if not any(self.ways.is_news(kind, server, name, entry) for name, entry in named):
                return
            try:
                async with asyncio.timeout(_NEWS_WITHIN_S):
                    await asyncio.gather(*(follower.refresh() for follower in self._registry.followers(server)))
            except (BasculeError, TimeoutError):
                return  # what it does not tell us is shown to nobody

    def _shown(self, call: Call, server: str, entry: Params) -> Params | None:
        kind, key = LISTED[call.method], jsonrpc.text(entry.get(KEYS[call.method]))
        if key is None or not self.ways.sees(call.caller.authority, kind, server, key):
            return None
        return self.ways.entry(kind, server, key, entry)

    async def _listening(self, call: Call, target: Target) -> Call:
        """*call* without the resources that its caller may not hear of."""
        kinds, uris = modern.wanted_by(call.params)
        if len(uris) > _MOST_URIS:
            raise InvalidParams(f"one subscription is for at most {_MOST_URIS} resources")
        if uris and not target.upstream.name:
            await self._registry.current(call.era)  # perhaps nobody has asked the servers yet, in this era
        heard = [uri for uri in uris if await self._may_hear(call, target.upstream.name, uri)]
        if heard == uris:
            return call
        params = {**target.params, **modern.wanting(kinds, heard)}
        target = msgspec.structs.replace(target, params=params)
        return msgspec.structs.replace(call, params={**call.params, **params}, target=target)

    async def _may_hear(self, call: Call, server: str, uri: str) -> bool:
        """Whether a rule lets the caller read *uri* now; nothing is taken from its limits."""
        owner = server or self._registry.owner_of(uri, call.era, call.caller.authority)
        if owner is None:
            return False  # nobody would tell of it
        way = await self._way(call, owner, "resource", uri)
        if not self.ways.allows(call.caller.authority, "resource", owner, uri):
            return False
        params = {**call.params, "uri": jsonrpc.encode(uri)}
        reading = msgspec.structs.replace(call, params=params, contract=way.contract)
        guards = [stage for stage in way.stages if isinstance(stage, Guard)]
        verdicts = [verdict for guard in guards for _, verdict in [await guard.judged(reading)]]
        return all(verdict.effect in ("allow", "warn") for verdict in verdicts)


def _named(method: str, params: Params) -> tuple[Kind, str]:
    """What kind of thing the call names, and the server's own name for it. Raises InvalidParams."""
    if method == "completion/complete":
        return completed(params)
    kind, member = _NAMING[method]
    name = jsonrpc.text(params.get(member))
    if name is None or len(name) > _LONGEST_NAME:
        raise InvalidParams(f'"{member}" is a string of at most {_LONGEST_NAME} characters')
    return kind, name
