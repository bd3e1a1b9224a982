"""`govern`: each call goes the way that was compiled for what it names; lists show what their caller may call.

Nothing reaches a server past this stage without a decision: what names a thing is decided by its way, lists
are filtered by the same function, and what is neither is left to those who may do everything at the server.
"""

from typing import Final

import msgspec

from bascule.call import Call, Forward, Result
from bascule.contract.derive import listed
from bascule.contract.model import Kind
from bascule.errors import InvalidParams, MethodNotFound
from bascule.pipeline.ways import Way, Ways
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
        if not server:
            return await forward(call)  # the aggregate, which shows each caller its own part
        if call.method in _NAMING or call.method == "completion/complete":
            way = await self._way(call, server, *_named(call.method, call.target.params))
            return await way.forward(msgspec.structs.replace(call, contract=way.contract))
        if call.method in LISTS:
            return await self._list(call, server, forward)
        if call.method == modern.LISTEN:
            return await forward(self._listening(call, server))
        if call.method not in _HARMLESS and not call.caller.authority.covers((server,)):
            raise MethodNotFound(f"no method {call.method!r}")
        return await forward(call)

    async def _way(self, call: Call, server: str, kind: Kind, name: str) -> Way:
        if not self.ways.knows(server):
            await self._registry.settled(server, call.era)
        return self.ways.way(kind, server, name)

    async def _list(self, call: Call, server: str, forward: Forward) -> Result:
        if self.ways.private and not self.ways.knows(server):
            await self._registry.settled(server, call.era)
        result = await forward(call)
        if result.refused or self.ways.plain(server, call.caller.authority):
            return result
        found = jsonrpc.members(result.value)
        member, _ = LISTS[call.method]
        entries = [jsonrpc.members(raw) for raw in jsonrpc.items(found[member])] if member in found else []
        seen = [each for entry in entries if (each := self._shown(call, server, entry)) is not None]
        shown: dict[str, object] = {member: seen}
        if call.era is Era.MODERN and self.ways.private:
            shown["cacheScope"] = "private"
        return msgspec.structs.replace(result, value=jsonrpc.encode(jsonrpc.replaced(found, **shown)))

    def _shown(self, call: Call, server: str, entry: Params) -> Params | None:
        kind, key = LISTED[call.method], jsonrpc.text(entry.get(KEYS[call.method]))
        if key is None or not self.ways.sees(call.caller.authority, kind, server, key):
            return None
        return listed(self.ways.contract(kind, server, key), entry)

    def _listening(self, call: Call, server: str) -> Call:
        """*call* without the resources that its caller may not read."""
        kinds, uris = modern.wanted_by(call.params)
        seen = [uri for uri in uris if self.ways.allows(call.caller.authority, "resource", server, uri)]
        if seen == uris or call.target is None:
            return call
        params = {**call.target.params, **modern.wanting(kinds, seen)}
        return msgspec.structs.replace(call, target=msgspec.structs.replace(call.target, params=params))


def _named(method: str, params: Params) -> tuple[Kind, str]:
    """What kind of thing the call names, and the server's own name for it. Raises InvalidParams."""
    kind: Kind
    if method == "completion/complete":
        params = jsonrpc.members(params.get("ref", jsonrpc.NOTHING))
        kind, member = ("prompt", "name") if "name" in params else ("resource", "uri")
    else:
        kind, member = _NAMING[method]
    name = jsonrpc.text(params.get(member))
    if name is None:
        raise InvalidParams(f'"{member}" is a string')
    return kind, name
