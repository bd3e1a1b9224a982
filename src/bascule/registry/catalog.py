"""The catalog: an immutable snapshot of everything that can be called in one era. PURE.

Source: MCP 2026-07-28, "Tool Names", "Pagination", "Caching"; RFC 6570 for resource templates.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from bascule.wire import headers, jsonrpc, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.names import PREFIXED, Clash, Naming, Table
from bascule.wire.versions import Era

# The four lists: method, member of the result, and the capability that a server declares for it.
LISTS: Final = {
    "tools/list": ("tools", "tools"),
    "prompts/list": ("prompts", "prompts"),
    "resources/list": ("resources", "resources"),
    "resources/templates/list": ("resourceTemplates", "resources"),
}


class Item(msgspec.Struct, frozen=True):
    """One tool, prompt, resource or template as its server lists it."""

    key: str  # its name, URI or URI template
    members: Params
    mirrored: Sequence[headers.MirroredParam] = ()


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All that one server offers in one era."""

    tools: Sequence[Item] = ()
    prompts: Sequence[Item] = ()
    resources: Sequence[Item] = ()
    templates: Sequence[Item] = ()
    capabilities: Mapping[str, Any] = msgspec.field(default_factory=dict)
    instructions: str = ""
    ttl_ms: int = 0  # the shortest that the server's cache hints allow
    shared: bool = False  # the hints let every caller share the lists


# Whether an entry of the list that *method* asks for is seen: (method, server, its own name for it).
Seen: TypeAlias = Callable[[str, str, str], bool]
# An entry as clients are shown it, None if it is not: (method, server, its own name for it, members).
Shown: TypeAlias = Callable[[str, str, str, Params], Params | None]


class Entry(msgspec.Struct, frozen=True):
    """One line of a list, and whose it is."""

    server: str
    key: str  # the server's own name or URI for it
    members: Params


class Place(msgspec.Struct, frozen=True):
    """Where a name leads: the server, and its own name for the thing."""

    server: str
    name: str
    mirrored: Sequence[headers.MirroredParam] = ()


def items(method: str, raws: Iterable[Raw]) -> list[Item]:
    """The listed *raws* as items; an entry without a name or URI is nothing that could be called."""
    named = ((raw, jsonrpc.members(raw)) for raw in raws if bytes(raw)[:1] == b"{")
    found = ((raw, members, jsonrpc.text(members.get(KEYS[method]))) for raw, members in named)
    return [
        Item(key, members, _mirrored(raw) if method == "tools/list" else ())
        for raw, members, key in found
        if key is not None
    ]


KEYS: Final = {
    "tools/list": "name",
    "prompts/list": "name",
    "resources/list": "uri",
    "resources/templates/list": "uriTemplate",
}


def _mirrored(tool: Raw) -> Sequence[headers.MirroredParam]:
    try:
        return headers.mirrored_of(tool)
    except ValueError:
        return ()  # a local server's; over HTTP such a tool was left out before (SEP-2243)


class Catalog:
    """Everything callable through the aggregate endpoint, and its lists as finished bytes."""

    def __init__(
        self,
        era: Era,
        listings: Mapping[str, Listing],
        aliases: Mapping[str, str],
        *,
        shown: Shown | None = None,
        private: bool = False,
        naming: Naming = PREFIXED,
    ) -> None:
        """*listings* by server, in order of precedence; *aliases* from logical id to wire name.

        *private*: callers see different lists, so that no cache may share one.
        """
        self.era = era
        self.listings = listings
        self._private = private
        self.tools = _table(listings, aliases, "tools", naming)
        self.prompts = _table(listings, aliases, "prompts", naming)
        self._resources: dict[str, list[str]] = {}  # URI -> the servers that list it, in order of precedence
        self._templates: list[tuple[Template, str]] = []
        self._owners: dict[str, list[str]] = {}  # template text -> servers
        self.shadowed: list[str] = []
        self._index_resources()
        self._entries = {method: self._listed(method, shown) for method in LISTS}
        self._pages = {method: self._page(method, entries) for method, entries in self._entries.items()}
        self.capabilities = self._capabilities()

    @property
    def clashes(self) -> list[Clash]:
        return [*self.tools.clashes, *self.prompts.clashes]

    @property
    def ttl_ms(self) -> int:
        return min((listing.ttl_ms for listing in self.listings.values()), default=0)

    @property
    def shared(self) -> bool:
        return bool(self.listings) and not self._private and all(each.shared for each in self.listings.values())

    def page(self, method: str) -> Raw:
        """The whole list for *method*, ready to send."""
        return self._pages[method]

    def page_of(self, method: str, seen: Seen) -> Raw:
        """The list for *method* as far as it is *seen*; what is hidden shadows nothing."""
        entries = self._entries[method]
        left = [entry for entry in entries if seen(method, entry.server, entry.key)]
        return self._pages[method] if len(left) == len(entries) else self._page(method, left)

    def instructions(self, opens: Callable[[str], bool]) -> str:
        """What the servers that *opens* lets through say of their use."""
        return "\n\n".join(
            f"## {name}\n{listing.instructions}"
            for name, listing in self.listings.items()
            if listing.instructions and opens(name)
        )

    def owner_of(self, uri: str, seen: Callable[[str], bool] = lambda server: True) -> str | None:
        """The server that a resource URI belongs to: listed by it, or matched by one of its templates.

        The first one at which it is *seen*: what a caller must not know of takes nothing from it.
        """
        return next((server for server in self._owners_of(uri) if seen(server)), None)

    def _owners_of(self, uri: str) -> Iterator[str]:
        yield from self._resources.get(uri, ())
        yield from self._owners.get(uri, ())
        yield from (server for template, server in self._templates if template.matches(uri))

    def readers(self) -> list[str]:
        """Servers that have resources at all, for a URI that nobody listed."""
        return [name for name, listing in self.listings.items() if "resources" in listing.capabilities]

    def _index_resources(self) -> None:
        for server, listing in self.listings.items():
            for item in listing.resources:
                servers = self._resources.setdefault(item.key, [])
                if servers and servers[0] != server:
                    self.shadowed.append(f"{item.key} of {server!r} is shadowed by {servers[0]!r}")
                servers.append(server)
            for item in listing.templates:
                self._owners.setdefault(item.key, []).append(server)
                self._templates.append((Template(item.key), server))

    def _listed(self, method: str, shown: Shown | None) -> list[Entry]:
        match method:
            case "tools/list":
                entries = self._renamed("tools", self.tools)
            case "prompts/list":
                entries = self._renamed("prompts", self.prompts)
            case "resources/list":
                entries = [
                    Entry(server, item.key, item.members)
                    for server, listing in self.listings.items()
                    for item in listing.resources
                ]
            case _:
                entries = [
                    Entry(server, item.key, item.members)
                    for server, listing in self.listings.items()
                    for item in listing.templates
                ]
        if shown is None:
            return entries
        found = ((e, shown(method, e.server, e.key, e.members)) for e in entries)
        return [Entry(entry.server, entry.key, members) for entry, members in found if members is not None]

    def _page(self, method: str, entries: Iterable[Entry]) -> Raw:
        member, _ = LISTS[method]
        if method == "resources/list":
            # Of one URI at several servers the first is meant, as a reader of it would find.
            owners: dict[str, str] = {}
            entries = [entry for entry in entries if owners.setdefault(entry.key, entry.server) == entry.server]
        listed = {member: [entry.members for entry in entries]}
        if self.era is Era.MODERN:
            return modern.complete(listed, ttl_ms=self.ttl_ms, shared=self.shared)
        return jsonrpc.encode(listed)

    def _renamed(self, kind: str, table: Table[Place]) -> list[Entry]:
        """The table's entries under their wire names; of two under one name in a list, the first."""
        found: dict[tuple[str, str], Params] = {}
        for server, listing in self.listings.items():
            for item in getattr(listing, kind):
                found.setdefault((server, item.key), item.members)
        return [
            Entry(place.server, place.name, {**found[place.server, place.name], "name": jsonrpc.encode(wire)})
            for wire, place in table.listed
        ]

    def _capabilities(self) -> dict[str, Any]:
        """What the aggregate offers: what some server offers and Bascule carries for all of them."""
        declared = [listing.capabilities for listing in self.listings.values()]
        merged: dict[str, Any] = {"tools": {"listChanged": True}}
        if any("prompts" in each for each in declared):
            merged["prompts"] = {"listChanged": True}
        if resources := [each["resources"] for each in declared if isinstance(each.get("resources"), dict)]:
            merged["resources"] = {"listChanged": True, "subscribe": any(each.get("subscribe") for each in resources)}
        for plain in ("completions", "logging"):
            if any(plain in each for each in declared):
                merged[plain] = {}
        return merged


def _table(listings: Mapping[str, Listing], aliases: Mapping[str, str], kind: str, naming: Naming) -> Table[Place]:
    return Table(
        (
            (server, item.key, Place(server, item.key, item.mirrored))
            for server, listing in listings.items()
            for item in getattr(listing, kind)
        ),
        aliases,
        naming,
    )


def resolved(uri: str) -> str:
    """*uri* as a server that decodes and resolves it reads it (RFC 3986, 6.2.2): for rules, never to be sent.

    Scheme and host in lower case, percent-encoding undone once, `.`, `..` and empty segments taken out.
    """
    scheme, found, rest = uri.partition(":")
    if not found:
        return uri
    end = next((at for at, char in enumerate(rest) if char in "?#"), len(rest))
    scheme, rest, query, host = scheme.lower(), unquote(rest[:end]), unquote(rest[end:]), ""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        host = "//" + ("" if scheme == "file" and host.lower() == "localhost" else host.lower())
        rest = slash + path
    segments: list[str] = []
    for segment in rest.split("/") if "/" in rest else ():
        if segment == "..":
            segments[1:] = segments[1:-1]
        elif segment not in ("", ".") or not segments:
            segments.append(segment)
    if segments and rest.endswith(("/", "/.", "/..")):
        segments.append("")
    return f"{scheme}:{host}{'/'.join(segments) if segments else rest}{query}"


_EXPRESSION: Final = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_MAX_EXPRESSIONS: Final = 32
_MAX_MATCHED: Final = 4096  # characters of a URI; a longer one belongs to whoever lists it


class Template:
    """What the expansions of a URI template look like (RFC 6570).

    A simple expression stays inside one path segment; `+` and `#` may cross segments. Templates come
    from servers and URIs from clients, so this is no regular expression: one with `.*.*.*` takes
    minutes to say no. Here the work is the length of the URI times the number of expressions.
    """

    def __init__(self, text: str) -> None:
        found = list(_EXPRESSION.finditer(text))
        ends = [0, *(match.end() for match in found)]
        starts = [*(match.start() for match in found), len(text)]
        self._literals = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        self._expressions = [(match[1], match[2].endswith("*")) for match in found]

    @property
    def literal_length(self) -> int:
        """How many characters of a URI it fixes."""
        return sum(map(len, self._literals))

    def matches(self, uri: str) -> bool:
        if (
            len(uri) > _MAX_MATCHED
            or len(self._expressions) > _MAX_EXPRESSIONS
            or not uri.startswith(self._literals[0])
        ):
            return False
        at = {len(self._literals[0])}  # where the rest of the template may begin
        for (operator, explode), literal in zip(self._expressions, self._literals[1:], strict=True):
            at = {end + len(literal) for end in _expand(uri, at, operator, explode) if uri.startswith(literal, end)}
        return len(uri) in at


def _expand(uri: str, at: set[int], operator: str, explode: bool) -> set[int]:
    """Where one expression can end, if it starts anywhere in *at*."""
    if operator in ("+", "#") or explode:
        return _run(uri, at, stops="")
    if operator in ("?", "&"):
        return at | _run(uri, {i + 1 for i in at if uri[i : i + 1] in ("?", "&")}, stops="#")
    if operator:
        return _run(uri, {i + 1 for i in at if uri.startswith(operator, i)}, stops="/?#")
    return _run(uri, at, stops="/?#", least=1)


def _run(uri: str, at: set[int], *, stops: str, least: int = 0) -> set[int]:
    """Every place reached from *at* without crossing one of *stops*, at least *least* (0, 1) further."""
    reached = set()
    running = False
    for i in range(min(at, default=len(uri) + 1), len(uri) + 1):
        if running or (i in at and not least):
            reached.add(i)
        running = (running or i in at) and uri[i : i + 1] not in stops if i < len(uri) else False
    return reached
