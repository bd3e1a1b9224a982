"""`resolve`: from the name that a client uses to the server, and the name that the server uses."""

import msgspec

from bascule.call import Call, Forward, Result, Target
from bascule.contract.model import Kind
from bascule.errors import BasculeError, InvalidParams
from bascule.pipeline.authorize import not_found
from bascule.registry.aggregate import Aggregate
from bascule.registry.catalog import Catalog, Place
from bascule.registry.sync import Registry
from bascule.upstream.base import Upstream
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import NOTHING, Params
from bascule.wire.names import Table, versioned

_BY_URI = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})


class Resolve:
    """Sets `call.target`. An unknown name is refused here, in the words of the protocol."""

    def __init__(self, registry: Registry, aggregate: Aggregate) -> None:
        self._registry = registry
        self._aggregate = aggregate

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if call.view:
            return await forward(msgspec.structs.replace(call, target=self._in_view(call)))
        target = await self._settled_target(call)
        if target.upstream is self._aggregate and call.method in _BY_URI:
            return await self._ask_around(call, forward)
        return await forward(msgspec.structs.replace(call, target=target))

    async def _ask_around(self, call: Call, forward: Forward) -> Result:
        """A resource that nobody listed: the servers that have resources are asked in turn."""
        if not self._registry.catalog(call.era).listings:
            await self._registry.current(call.era)  # none has been asked yet what it lists, in this era
        owner = self._owner(call, jsonrpc.text(call.params.get("uri")))
        if owner is not None:
            return await forward(msgspec.structs.replace(call, target=self._at(owner, call.params)))
        for name in self._registry.catalog(call.era).readers():
            try:
                result = await forward(msgspec.structs.replace(call, target=self._at(name, call.params)))
            except BasculeError:
                continue  # down, or not for this caller; another may have it
            if not result.refused:
                return result
        uri = jsonrpc.text(call.params.get("uri"))
        raise not_found("resource", uri)

    async def _settled_target(self, call: Call) -> Target:
        try:
            return self._target(call)
        except InvalidParams:
            # Perhaps the server that has it was still being asked when we looked, or was not started.
            name = jsonrpc.text(call.params.get("name")) or ""
            if not await self._registry.find(name, call.era, call.caller.authority):
                raise
            return self._target(call)

    def _in_view(self, call: Call) -> Target:
        """The server whose own endpoint was called; it knows nothing of the version behind the `@` of a name."""
        upstream: Upstream = self._registry.upstreams[call.view]
        if call.method == "tools/call" and b"@" in bytes(call.params.get("name", NOTHING)):
            name = jsonrpc.text(call.params["name"]) or ""
            (base, version), lists = versioned(name), self._registry.lists_tool
            if version and lists(call.view, base) and not lists(call.view, name):
                return Target(upstream, {**call.params, "name": jsonrpc.encode(base)}, version)
        return Target(upstream, call.params)

    def _target(self, call: Call) -> Target:
        catalog = self._registry.catalog(call.era)
        if call.method == "tools/call":
            place, version = self._place(call, catalog.tools, "tool")
            return self._at(place.server, {**call.params, "name": jsonrpc.encode(place.name)}, version)
        if call.method == "prompts/get":
            place, _ = self._place(call, catalog.prompts, "prompt")
            return self._at(place.server, {**call.params, "name": jsonrpc.encode(place.name)})
        if call.method == "completion/complete":
            return self._completion(call, catalog)
        if call.method in _BY_URI:
            owner = self._owner(call, jsonrpc.text(call.params.get("uri")))
            if owner is not None:
                return self._at(owner, call.params)
        return Target(self._aggregate, call.params)

    def _owner(self, call: Call, uri: str | None) -> str | None:
        return self._registry.owner_of(uri or "", call.era, call.caller.authority)

    def _at(self, server: str, params: Params, version: str = "") -> Target:
        return Target(self._registry.upstreams[server], params, version)

    def _place(self, call: Call, table: Table[Place], kind: str) -> tuple[Place, str]:
        name = jsonrpc.text(call.params.get("name"))
        if name is None:
            raise InvalidParams('"name" is a string')
        place, version = table.find_version(name)
        if place is None or (version and kind != "tool"):
            raise not_found(kind, name)
        return place, version

    def _completion(self, call: Call, catalog: Catalog) -> Target:
        kind, name = completed(call.params)
        if kind == "prompt":
            place = catalog.prompts.find(name)
            if place is None:
                raise not_found("prompt", name)
            ours = jsonrpc.replaced(jsonrpc.members(call.params["ref"]), name=place.name)
            return self._at(place.server, jsonrpc.replaced(call.params, ref=ours))
        owner = self._owner(call, name)
        if owner is None:
            raise not_found("resource", name)
        return self._at(owner, call.params)


def completed(params: Params) -> tuple[Kind, str]:
    """What a `completion/complete` is about: a prompt and its name, or a resource and its URI.

    Raises InvalidParams unless its `ref` is one of both: of two names a server might mean the other one than we.
    """
    ref = jsonrpc.members(params.get("ref", jsonrpc.NOTHING))
    kinds: dict[str | None, tuple[Kind, str, str]] = {
        "ref/prompt": ("prompt", "name", "uri"),
        "ref/resource": ("resource", "uri", "name"),
    }
    kind, member, other = kinds.get(jsonrpc.text(ref.get("type")), ("prompt", "", ""))
    name = jsonrpc.text(ref.get(member))
    if name is None or other in ref:
        raise InvalidParams('"ref" is a ref/prompt with the name of a prompt, or a ref/resource with a URI, not both')
    return kind, name
