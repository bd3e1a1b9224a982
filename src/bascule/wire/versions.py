"""The protocol revisions and how they differ: one table, so that no other file compares versions.

Source: MCP specification, "Versioning" of each revision.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec


class Era(Enum):
    """The two ways of speaking: with a handshake and sessions, or stateless with `_meta` per request."""

    LEGACY = "legacy"
    MODERN = "modern"


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """What one dated revision of MCP allows on the wire."""

    version: str
    era: Era
    batches: bool = False  # JSON-RPC arrays are legal in a POST
    priming: bool = False  # an SSE stream starts with an empty event that carries an id (SEP-1699)
    version_header: bool = False  # requests after the handshake carry MCP-Protocol-Version
    elicits_url: bool = False  # elicitation knows the url mode
    contents: frozenset[str] = frozenset({"text", "image", "resource"})  # kinds of content blocks


_WITH_AUDIO: Final = frozenset({"text", "image", "resource", "audio"})
_WITH_LINKS: Final = _WITH_AUDIO | {"resource_link"}

REVISIONS: Final = (
    Revision(version="2024-11-05", era=Era.LEGACY),
    Revision(version="2025-03-26", era=Era.LEGACY, batches=True, contents=_WITH_AUDIO),
    Revision(version="2025-06-18", era=Era.LEGACY, version_header=True, contents=_WITH_LINKS),
    Revision(
        version="2025-11-25",
        era=Era.LEGACY,
        version_header=True,
        priming=True,
        elicits_url=True,
        contents=_WITH_LINKS | {"tool_use", "tool_result"},
    ),
    Revision(
        version="2026-07-28",
        era=Era.MODERN,
        version_header=True,
        elicits_url=True,
        contents=_WITH_LINKS | {"tool_use", "tool_result"},
    ),
)
BY_VERSION: Final = {revision.version: revision for revision in REVISIONS}
LEGACY: Final = tuple(r for r in REVISIONS if r.era is Era.LEGACY)
MODERN: Final = tuple(r for r in REVISIONS if r.era is Era.MODERN)
LATEST_LEGACY: Final = LEGACY[-1]
LATEST_MODERN: Final = MODERN[-1]

LEGACY_VERSIONS: Final = tuple(r.version for r in reversed(LEGACY))
MODERN_VERSIONS: Final = tuple(r.version for r in reversed(MODERN))


def agree(offered: str, known: Sequence[Revision] = LEGACY) -> Revision:
    """The revision to answer an `initialize` with: the offered one if *known* has it, else its latest.

    Source: MCP 2025-11-25, Lifecycle, "Version Negotiation".
    """
    return next((r for r in known if r.version == offered), known[-1])


def earlier(one: str, other: str) -> str:
    """The older of two revision dates (they sort as text)."""
    return min(one, other)
