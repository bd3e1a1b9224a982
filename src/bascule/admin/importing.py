"""Reading an official registry, to see which of its servers could be used here. Nothing is started or written.

What fetches is handed in: it decides what may be reached at all. What comes back was written by anybody.
Source: modelcontextprotocol/registry, docs/reference/api/openapi.yaml, API v0.1, 2025-12-01.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import jiter

from bascule.errors import ConfigInvalid, UpstreamBrokeProtocol

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]

MOST: Final = 1000  # servers
_PAGE: Final = 100
_API: Final = "/v0.1/servers"


async def servers(fetch: Fetch, base: str, *, search: str = "", most: int = 30) -> list[Mapping[str, Any]]:
    """The newest version of each server whose name holds *search*, no more than *most*, as ServerResponses.

    Raises UpstreamBrokeProtocol for what is no such answer, and what *fetch* raises.
    """
    found: list[Mapping[str, Any]] = []
    seen = set()
    cursor = ""
    while len(found) < most:
        said = {"search": search, "version": "latest", "limit": str(min(_PAGE, most)), "cursor": cursor}
        query = urlencode({name: value for name, value in said.items() if value})
        page = _object(await fetch(f"{base_of(base)}{_API}?{query}"))
        entries = page.get("servers")
        if not isinstance(entries, list):
            raise _broken("its list has no `servers`")
        found += [each for each in entries if isinstance(each, dict)]
        cursor = _next(page)
        if not cursor or not entries:
            break
        if cursor in seen:
            raise _broken("it repeats a cursor")
        seen.add(cursor)
    return found[:most]


async def server(fetch: Fetch, base: str, name: str, version: str = "latest") -> Mapping[str, Any]:
    """One version of one server, as a ServerResponse."""
    return _object(await fetch(f"{base_of(base)}{_API}/{quote(name, safe='')}/versions/{quote(version, safe='')}"))


def base_of(url: str) -> str:
    """The address of a registry, without the path of its API. Raises ConfigInvalid for what has a query."""
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ConfigInvalid("the address of a registry has no query: --search looks for servers")
    path = parts.path.rstrip("/").removesuffix("/servers").removesuffix("/v0.1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _next(page: Mapping[str, Any]) -> str:
    metadata = page.get("metadata")
    cursor = metadata.get("nextCursor") if isinstance(metadata, dict) else None
    return cursor if isinstance(cursor, str) and len(cursor) <= 1024 else ""


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        found = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise _broken("its answer is not JSON") from error
    if not isinstance(found, dict):
        raise _broken("its answer is no JSON object")
    return found


def _broken(reason: str) -> UpstreamBrokeProtocol:
    return UpstreamBrokeProtocol(f"this does not answer as an MCP registry does: {reason}")
