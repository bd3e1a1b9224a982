"""The servers of this gateway in the words of the official registry API, as far as the asking caller may see them.

Each server has one version: its digest is in it, so that it is another one whenever what this caller sees of the
server has changed. Knows neither HTTP nor callers beyond what they may see. Nobody is waited for: what a server has
not said yet is not told.
Source: modelcontextprotocol/registry, docs/reference/api/openapi.yaml, API v0.1, 2025-12-01.
"""

import base64
import binascii
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from bascule.contract.derive import CONTRACT_META
from bascule.contract.model import Kind
from bascule.policy.scopes import Authority
from bascule.registry.catalog import Listing
from bascule.registry.sight import KINDS
from bascule.wire import jsonrpc
from bascule.wire.canonical import canonical
from bascule.wire.jsonrpc import Params
from bascule.wire.names import PREFIXED, Naming
from bascule.wire.versions import Era

SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
OFFICIAL_META: Final = "io.modelcontextprotocol.registry/official"
CONTRACTS_META: Final = "dev.bascule/contracts"
LATEST: Final = "latest"
DEFAULT_LIMIT: Final = 30
MAX_LIMIT: Final = 100
MAX_DESCRIPTION: Final = 100  # characters

_REMEMBERED: Final = 4096  # since when callers see what they see
_UNFIT: Final = re.compile(r"[^a-zA-Z0-9.-]+")
_DIGEST_CHARS: Final = 12


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is asked for."""

    search: str = ""
    updated_since_s: float | None = None
    version: str = ""  # `latest`, or exact
    cursor: str = ""
    limit: int = DEFAULT_LIMIT


class Servers(Protocol):
    """registry/sync.py."""

    @property
    def upstreams(self) -> Mapping[str, Any]: ...
    @property
    def sight(self) -> "Seeing | None": ...
    def listing(self, server: str, era: Era) -> Listing | None: ...


class Seeing(Protocol):
    """The part of registry/sight.py that matters here."""

    naming: Naming

    def opens(self, authority: Authority, server: str) -> bool: ...
    def sees(self, authority: Authority, kind: Kind, server: str, name: str) -> bool: ...
    def entry(self, kind: Kind, server: str, name: str, members: Params) -> Params | None: ...


class _Entry(msgspec.Struct, frozen=True):
    """One server as a caller sees it."""

    name: str
    version: str
    server: Mapping[str, Any]  # its server.json
    contracts: Mapping[str, Any]  # by logical id
    published_s: float
    updated_s: float

    def response(self) -> dict[str, Any]:
        official = {
            "status": "active",
            "statusChangedAt": _date(self.published_s),
            "publishedAt": _date(self.published_s),
            "updatedAt": _date(self.updated_s),
            "isLatest": True,
        }
        return {"server": dict(self.server), "_meta": {OFFICIAL_META: official, CONTRACTS_META: dict(self.contracts)}}


class Official:
    """The answers of the API. Times are those of this process: it is what it has seen."""

    def __init__(self, servers: Servers, clock: Callable[[], float] = time.time) -> None:
        self._servers = servers
        self._clock = clock
        self._began_s = clock()
        self._since: OrderedDict[tuple[str, Authority], tuple[str, float]] = OrderedDict()

    def list_(self, authority: Authority, base: str, query: Query) -> dict[str, Any]:
        """A ServerList: a page of it. *base* is the address of the gateway. Raises ValueError for a foreign cursor."""
        after = _name_in(query.cursor)
        found = [each for each in self._entries(authority, base) if each.name > after and _fits(each, query)]
        page = found[: query.limit]
        more = {"nextCursor": _cursor_of(page[-1].name)} if len(found) > len(page) else {}
        return {"servers": [each.response() for each in page], "metadata": {"count": len(page), **more}}

    def versions(self, authority: Authority, base: str, name: str) -> dict[str, Any] | None:
        """A ServerList of all versions of one server; None if there is none of that *name* for this caller."""
        found = [each.response() for each in self._entries(authority, base) if each.name == name]
        return {"servers": found, "metadata": {"count": len(found)}} if found else None

    def version(self, authority: Authority, base: str, name: str, version: str) -> dict[str, Any] | None:
        """A ServerResponse; None if there is no such version for this caller."""
        found = (each for each in self._entries(authority, base) if each.name == name)
        return next((each.response() for each in found if version in (LATEST, each.version)), None)

    # ---- making

    def _entries(self, authority: Authority, base: str) -> Iterator[_Entry]:
        """By name."""
        namespace, sight = namespace_of(base), self._servers.sight
        for server in sorted(self._servers.upstreams):
            if sight is None or sight.opens(authority, server):
                yield self._entry(authority, base, f"{namespace}/{server}", server)

    def _entry(self, authority: Authority, base: str, name: str, server: str) -> _Entry:
        counts, contracts = self._seen(authority, server)
        said: dict[str, Any] = {
            "$schema": SCHEMA,
            "name": name,
            "description": _description(server, counts),
            "title": server,
            "remotes": [{"type": "streamable-http", "url": f"{base}/servers/{server}/mcp"}],
        }
        digest = hashlib.sha256(canonical([said, contracts])).hexdigest()[:_DIGEST_CHARS]
        version = f"1.0.0+{digest}"
        updated_s = self._updated(server, authority, version)
        return _Entry(name, version, {**said, "version": version}, contracts, self._began_s, updated_s)

    def _seen(self, authority: Authority, server: str) -> tuple[Mapping[Kind, int], Mapping[str, Any]]:
        """(how many things of each kind there are, what is published of their contracts) for one caller."""
        counts: dict[Kind, int] = {"tool": 0, "prompt": 0, "resource": 0}
        contracts: dict[str, Any] = {}
        for kind, name, members in self._things(authority, server):
            counts[kind] += 1
            meta = jsonrpc.value_of(members.get("_meta"), dict) or {}
            if CONTRACT_META in meta:
                contracts[self._named(server, name)] = meta[CONTRACT_META]
        return counts, contracts

    def _named(self, server: str, name: str) -> str:
        sight = self._servers.sight
        return (PREFIXED if sight is None else sight.naming).id(server, name)

    def _things(self, authority: Authority, server: str) -> Iterator[tuple[Kind, str, Params]]:
        listings = [self._servers.listing(server, era) for era in (Era.MODERN, Era.LEGACY)]
        listing, sight = next((each for each in listings if each is not None), Listing()), self._servers.sight
        for member, kind in KINDS:
            for item in getattr(listing, member):
                if sight is None:
                    yield kind, item.key, item.members
                elif sight.sees(authority, kind, server, item.key):
                    members = sight.entry(kind, server, item.key, item.members)
                    if members is not None:
                        yield kind, item.key, members

    def _updated(self, server: str, authority: Authority, version: str) -> float:
        """Since when this caller sees this *version*, as far as that is remembered."""
        key = (server, authority)
        before = self._since.pop(key, None)
        if before is None:
            before = (version, self._began_s)
        elif before[0] != version:
            before = (version, self._clock())
        self._since[key] = before
        while len(self._since) > _REMEMBERED:
            self._since.popitem(last=False)
        return before[1]


def namespace_of(base: str) -> str:
    """The namespace of all servers at an address, in reverse-DNS form: `com.example.mcp`."""
    host = urlsplit(base).hostname or "localhost"
    if re.fullmatch(r"[0-9.]+", host) or ":" in host:
        return _UNFIT.sub("-", host).strip("-") or "localhost"  # an address is not read backwards
    return _UNFIT.sub("-", ".".join(reversed(host.split("."))))


def _description(server: str, counts: Mapping[Kind, int]) -> str:
    said = [f"{count} {kind if count == 1 else kind + 's'}" for kind, count in counts.items() if count]
    return f"{server}, governed by Bascule: {', '.join(said) or 'nothing known yet'}"[:MAX_DESCRIPTION]


def _fits(entry: _Entry, query: Query) -> bool:
    if query.search.lower() not in entry.name.lower():
        return False
    if query.version not in ("", LATEST, entry.version):
        return False
    return query.updated_since_s is None or entry.updated_s >= query.updated_since_s


def _cursor_of(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _name_in(cursor: str) -> str:
    """The name behind which a page begins. Raises ValueError for a cursor that is none of ours."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("that cursor is none of ours") from error


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(int(at_s), UTC).isoformat().replace("+00:00", "Z")
