"""Which eras a server speaks: asked once, believed until it proves wrong.

Knows what an answer to `server/discover` means, and nothing of how one is got.
Source: MCP 2026-07-28, "Versioning", and "Backward Compatibility" of stdio and of Streamable HTTP.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

from bascule.call import Result
from bascule.errors import InvalidParams, Unavailable, UnsupportedVersion
from bascule.upstream.base import shared
from bascule.wire import jsonrpc, modern
from bascule.wire.versions import LEGACY_VERSIONS, Era

Eras = frozenset[Era]

ONLY_MODERN: Final[Eras] = frozenset({Era.MODERN})
ONLY_LEGACY: Final[Eras] = frozenset({Era.LEGACY})
# After a good answer to the probe: whether the server also shakes hands is found out when a client needs it.
PERHAPS_BOTH: Final[Eras] = frozenset(Era)


class Verdict:
    """The eras of one server, by configuration or by asking it."""

    def __init__(self, era: str, probe: Callable[[], Coroutine[Any, Any, Eras]]) -> None:
        """*era* is that of the configuration, or "auto". *probe* asks the server; it raises what hinders it."""
        self.fixed = era != "auto"
        self.eras: Eras | None = frozenset({Era(era)}) if self.fixed else None
        self._probe = probe
        self._asking: asyncio.Future[Eras] | None = None

    async def ask(self) -> Eras:
        """The verdict, found out if there is none. Raises what hinders the probe."""
        if self.eras is not None:
            return self.eras
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._probe())
            self._asking.add_done_callback(self._asked)
        # Shared, so that those who wait for a silent server do not wait one after the other.
        return await shared(self._asking, "bascule")

    def _asked(self, done: "asyncio.Future[Eras]") -> None:
        self._asking = None
        if not done.cancelled() and done.exception() is None:  # raised to whoever waits
            self.eras = done.result()

    async def ask_again(self, believed: Eras | None) -> Eras:
        """The verdict after doubts in the one that was *believed*: asked anew, unless somebody has already."""
        if self.eras is believed and not self.fixed:
            self.eras = None
        return await self.ask()

    def settle(self, eras: Collection[Era]) -> None:
        """What the server itself has proved."""
        if not self.fixed:
            self.eras = frozenset(eras)

    def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


def era_told_by(found: Result) -> Era:
    """The era of a server that answers `server/discover` with *found*; not one error code alone decides.

    Raises Unavailable for a modern server that speaks no version that we know.
    """
    if not found.refused:
        try:
            offered = jsonrpc.value_of(jsonrpc.members(found.value).get("supportedVersions"), list)
        except InvalidParams:
            offered = None
        return _era_of(offered) if offered else Era.LEGACY  # without, it is no DiscoverResult, whatever else it is
    code = modern.error_code(found.value)
    if code == UnsupportedVersion.code:
        return _era_of(modern.supported_by(found.value))
    return Era.MODERN if code in modern.ERROR_CODES else Era.LEGACY


def _era_of(versions: Sequence[Any]) -> Era:
    """The era in which a server that offers *versions* can be spoken to.

    Only if it names legacy ones itself, and no modern one, is a server that knows the modern errors offered
    the handshake: a gateway in front of old servers is such a one.
    """
    if modern.shared_versions(versions):
        return Era.MODERN
    if any(version in versions for version in LEGACY_VERSIONS):
        return Era.LEGACY
    named = ", ".join(str(version) for version in versions) or "of versions that it does not name"
    raise Unavailable(f"speaks only MCP {named}")
