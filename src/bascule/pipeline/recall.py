"""`recall`: the last known lists of a server that is down, so that its clients do not lose their tools."""

from typing import Any, Final

from bascule.call import Call, Forward, Result
from bascule.errors import RateLimited, TimedOut, Transient, Unavailable, UpstreamBrokeProtocol
from bascule.registry.catalog import LISTS, Listing
from bascule.registry.sync import Registry
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.versions import MODERN_VERSIONS, Era

STALE_META: Final = "dev.bascule/stale"
_KINDS: Final = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "templates",
}
_REMEMBERED: Final = frozenset({*LISTS, modern.DISCOVER, legacy.INITIALIZE})


class Recall:
    """Answers a list or a greeting from memory when the server itself cannot. Never a call."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if not call.view or call.method not in _REMEMBERED:
            return await forward(call)
        try:
            return await forward(call)
        except (Unavailable, TimedOut, UpstreamBrokeProtocol, RateLimited) as error:
            listing = self._registry.listing(call.view, call.era)
            if listing is None or "cursor" in call.params:
                raise
            return Result(jsonrpc.encode(self._remembered(call, listing, error)))

    def _remembered(self, call: Call, listing: Listing, error: Transient) -> dict[str, Any]:
        """The list as it was, marked as old; caches must not keep it."""
        stale = {"reason": error.message}
        result: dict[str, Any]
        if call.method == modern.DISCOVER:
            result = {"supportedVersions": MODERN_VERSIONS, "capabilities": listing.capabilities}
        elif call.method == legacy.INITIALIZE:
            result = {"capabilities": listing.capabilities, "serverInfo": {"name": call.view, "version": ""}}
        else:
            member, _ = LISTS[call.method]
            result = {member: [item.members for item in getattr(listing, _KINDS[call.method])]}
        result["_meta"] = {STALE_META: stale}
        if call.era is Era.MODERN:
            result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        return result
