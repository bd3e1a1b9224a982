"""The official registry API over HTTP, read-only: paths, queries and refusals in its own shape.

It is open to the callers of `/mcp`, and each sees what it may. A server's name holds a slash, which comes as `%2F`; a
proxy that has decoded it on the way does no harm. Whatever is asked for under `/v0.1/` is answered here.
Source: modelcontextprotocol/registry, docs/reference/api/openapi.yaml, API v0.1, 2025-12-01.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from bascule.edge import door
from bascule.edge.replies import JSON, respond
from bascule.edge.visit import Visit
from bascule.registry.official import DEFAULT_LIMIT, MAX_LIMIT, Official, Query

ROOT: Final = "/v0.1/"
ENDPOINT: Final = "/mcp"
_SERVERS: Final = re.compile(r"/v0\.1/servers/?")
_VERSIONS: Final = re.compile(r"/v0\.1/servers/([^/]+(?:/[^/]+)?)/versions(?:/([^/]+))?")
_NAME: Final = re.compile(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+")
_NO_STORE: Final = (b"cache-control", b"no-store")
_LONGEST: Final = 512  # characters of anything that is asked for
_MOST_DIGITS: Final = 9


class _Wrong(Exception):
    """What is asked for wrongly: *status*, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class OfficialApi:
    """Finds what is asked for, and answers it."""

    def __init__(self, official: Official) -> None:
        self._official = official

    def knows(self, path: str) -> bool:
        return path.startswith(ROOT)

    async def serve(self, method: str, path: str, query: bytes, visit: Visit, resource: str) -> None:
        """Answer one request to a *path* that is known here; *resource* is the id of `/mcp`, in full."""
        status, told = 200, list(visit.extra)
        try:
            if method not in ("GET", "HEAD"):
                told.append((b"allow", b"GET, HEAD"))
                raise _Wrong(405, "this registry is read-only")
            if not door.accepts(visit.head, "application/json"):
                raise _Wrong(406, "Accept has to list application/json")
            answer = self._answer(path, query, visit, resource.removesuffix(ENDPOINT))
        except _Wrong as wrong:
            status, answer = wrong.status, {"error": str(wrong)}
        body = b"" if method == "HEAD" else msgspec.json.encode(answer)
        await respond(visit.send, status, [JSON, _NO_STORE, *told], body)

    def _answer(self, path: str, query: bytes, visit: Visit, base: str) -> Mapping[str, Any]:
        authority = visit.caller.authority
        if _SERVERS.fullmatch(path):
            try:
                return self._official.list_(authority, base, _query(query))
            except ValueError as error:
                raise _Wrong(400, str(error)) from error
        found = _VERSIONS.fullmatch(path)
        if found is None:
            raise _Wrong(404, "there are /v0.1/servers and /v0.1/servers/{name}/versions/{version}, names with %2F")
        name, version = _decoded(found[1]), None if found[2] is None else _decoded(found[2])
        if not _NAME.fullmatch(name):
            raise _Wrong(404, "Server not found")
        if version is None:
            answer = self._official.versions(authority, base, name)
        else:
            answer = self._official.version(authority, base, name, version)
        if answer is None:
            raise _Wrong(404, "Server not found")
        return answer


def _decoded(part: str) -> str:
    """A part of a path, decoded once."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        return ""


def _query(query: bytes) -> Query:
    """What a list is asked for; what else stands in the query is for other registries. Raises ValueError."""
    try:
        said = dict(parse_qsl(query.decode("ascii"), errors="strict", max_num_fields=32))
    except ValueError as error:  # of its encoding too
        raise ValueError("the query is NAME=VALUE, joined by &") from error
    if any(len(value) > _LONGEST for value in said.values()):
        raise ValueError(f"nothing in the query is longer than {_LONGEST} characters")
    since = said.get("updated_since", "")
    return Query(
        search=said.get("search", ""),
        updated_since_s=_time(since) if since else None,
        version=said.get("version", ""),
        cursor=said.get("cursor", ""),
        limit=_limit(said.get("limit", "")),
    )


def _limit(text: str) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) > 0):
        raise ValueError("limit is a whole number from 1 on")
    return min(int(text), MAX_LIMIT)


def _time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    try:
        found = datetime.fromisoformat(text)
        if "T" not in text.upper() or found.tzinfo is None:
            raise ValueError(text)
        return found.astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError("updated_since is a time of RFC 3339, such as 2026-11-01T00:00:00Z") from error
