"""The compiled way of each tool, prompt and resource: its contract, and the stages that the contract needs.

Ways are made when a server's lists are learnt, not when a call comes. What is not listed has a way too,
made of what rules say of its name; only who may do everything at that server gets through on it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from bascule.call import Forward
from bascule.contract.derive import CONTRACT_META, Definition, Sources, definition_of, is_governed
from bascule.contract.model import Contract, Kind
from bascule.errors import ConfigInvalid
from bascule.pipeline.authorize import Authorize
from bascule.pipeline.chain import Stage, compose
from bascule.policy.scopes import Access, Authority
from bascule.registry.catalog import Item, Listing, Template, resolved
from bascule.registry.sight import KINDS
from bascule.wire.jsonrpc import NOTHING

log = logging.getLogger("bascule.policy")

Key: TypeAlias = tuple[Kind, str]  # of one server's things: the kind, and the server's own name or URI

_UNLISTED_KEPT: Final = 1024


class Way(msgspec.Struct, frozen=True):
    """What happens to the calls of one thing."""

    contract: Contract
    scopes: tuple[str, ...]  # all that are needed
    withheld: str  # why nobody may see or call it; "" if that is not so
    stages: Sequence[Stage]
    forward: Forward


class Build(Protocol):
    """Makes the stages that a contract needs. Raises ValueError for a definition that must not be served."""

    def __call__(
        self, contract: Contract, server: str, scopes: tuple[str, ...], *, unlisted: bool = False
    ) -> Sequence[Stage]: ...


class _Known(msgspec.Struct):
    """What is known of one server."""

    ways: dict[Key, tuple[Item, Way]]
    resolved: dict[str, Way]  # of resources, by what their URIs may be read as
    templates: list[tuple[Template, str]]
    plain: bool  # no contract says anything of what it lists


class Ways:
    """All ways, by server."""

    def __init__(self, sources: Sources, build: Build, last: Forward, *, private: bool) -> None:
        """*build* makes the stages, *last* is what follows all of them. *private*: callers are told apart."""
        self.private = private
        self._sources = sources
        self._build = build
        self._last = last
        self._known: dict[str, _Known] = {}
        self._unlisted: dict[tuple[str, Kind, str], Way] = {}

    def learn(self, server: str, listings: Sequence[Listing]) -> None:
        """Make the ways of what *server* lists, in any era; ways whose definitions are the same stay."""
        before = self._known.get(server)
        ways: dict[Key, tuple[Item, Way]] = {}
        for kind, item in _items(listings):
            key = (kind, item.key)
            old = before.ways.get(key) if before else None
            if key not in ways:
                same = old is not None and old[0].members == item.members
                ways[key] = old if same and old else (item, self._made(kind, server, item.key, item))
        texts = [item.key for listing in listings for item in listing.templates]
        plain = not any(way.withheld or is_governed(way.contract) or claims(item) for item, way in ways.values())
        templates = [(Template(text), text) for text in dict.fromkeys(texts)]
        templates.sort(key=lambda each: each[0].literal_length, reverse=True)  # the one that says most goes first
        read = {resolved(name): way for (kind, name), (_, way) in ways.items() if kind == "resource"}
        self._known[server] = _Known(ways, read, templates, plain)
        self._unlisted.clear()

    def forget(self, server: str) -> None:
        self._known.pop(server, None)
        self._unlisted.clear()

    def way(self, kind: Kind, server: str, name: str) -> Way:
        """The way of what *server* calls *name*."""
        known = self._known.get(server)
        if known is not None:
            found = known.ways.get((kind, name))
            if found is not None:
                return found[1]
            if kind == "resource":
                return self._of_uri(known, server, name)
        return self._of_unlisted(kind, server, name)

    def _of_uri(self, known: _Known, server: str, uri: str) -> Way:
        """The way of a *uri* that is not listed as it is spelt: it is judged by what a server may read it as."""
        meant = resolved(uri)
        found = known.resolved.get(meant)
        if found is not None:
            return found
        for template, text in known.templates:
            if template.matches(meant) or template.matches(uri):
                return self._of_templated(server, meant, *known.ways["resource", text])
        return self._of_unlisted("resource", server, meant)

    def listed(self, server: str) -> Iterator[tuple[Kind, str, Way]]:
        """All that *server* lists, as far as it is known."""
        known = self._known.get(server)
        return ((kind, name, way) for (kind, name), (_, way) in known.ways.items()) if known else iter(())

    def withheld(self, server: str) -> Mapping[str, str]:
        """What nobody may see of *server*, and why."""
        return {name: way.withheld for _, name, way in self.listed(server) if way.withheld}

    # ---- registry.sight.Sight

    def knows(self, server: str) -> bool:
        """Whether it has been heard what *server* lists."""
        return server in self._known

    def governs(self, kind: Kind, server: str, name: str) -> bool:
        """Whether anybody says anything of it, or might: what a trusted server says is in its lists."""
        return self._sources.trusts(server) or is_governed(self.way(kind, server, name).contract)

    def plain(self, server: str, authority: Authority) -> bool:
        """Whether a caller sees the lists of *server* just as the server gives them."""
        known = self._known.get(server)
        return (known is None or known.plain) and authority.covers((server,))

    def allows(self, authority: Authority, kind: Kind, server: str, name: str) -> bool:
        """Whether a caller may have it."""
        way = self.way(kind, server, name)
        return not way.withheld and way.contract.status != "gone" and authority.covers(way.scopes)

    def sees(self, authority: Authority, kind: Kind, server: str, name: str) -> bool:
        """Whether a caller may know of it: what it may call, or could if it asked for the scopes."""
        way = self.way(kind, server, name)
        return not way.withheld and authority.access(way.scopes) is not Access.HIDDEN

    def withholds(self, kind: Kind, server: str, name: str) -> bool:
        return bool(self.way(kind, server, name).withheld)

    def contract(self, kind: Kind, server: str, name: str) -> Contract:
        return self.way(kind, server, name).contract

    def opens(self, authority: Authority, server: str) -> bool:
        """Whether a caller may know that there is such a server."""
        if authority.access((server,)) is not Access.HIDDEN:
            return True
        known = self._known.get(server)
        if known is None:  # it has not been asked yet: nobody can tell what it will list
            return any(mine.split(":")[0] in ("*", server) for mine in authority.granted | authority.grantable)
        return any(not way.withheld and authority.access(way.scopes) is not Access.HIDDEN
                   for _, way in known.ways.values())  # fmt: skip

    # ---- making

    def _of_unlisted(self, kind: Kind, server: str, name: str) -> Way:
        way = self._unlisted.get((server, kind, name))
        return way or self._kept((server, kind, name), self._made(kind, server, name, None))

    def _of_templated(self, server: str, uri: str, item: Item, way: Way) -> Way:
        """The way of a *uri* that is listed by its template alone: what is said of the URI itself holds, too."""
        if not self._sources.singles_out("resource", f"{server}/{uri}", way.contract.id):
            return way
        own = self._unlisted.get((server, "resource", uri))
        return own or self._kept((server, "resource", uri), self._made("resource", server, item.key, item, uri))

    def _kept(self, key: tuple[str, Kind, str], way: Way) -> Way:
        if len(self._unlisted) >= _UNLISTED_KEPT:
            self._unlisted.clear()
        self._unlisted[key] = way
        return way

    def _made(self, kind: Kind, server: str, name: str, item: Item | None, uri: str | None = None) -> Way:
        """*uri*: what a template, *name*, has matched."""
        id = f"{server}/{name}"
        definition = definition_of(item.members) if item is not None else None
        try:
            contract = self._sources.effective(kind, id, definition, also=None if uri is None else f"{server}/{uri}")
            # Nobody knows what it does: a rule that was written for what is listed does not open it.
            scopes = (*contract.security_scope, server) if item is None else contract.security_scope
            stages = self._build(contract, server, scopes, unlisted=item is None)
        except (ValueError, ConfigInvalid) as error:
            log.warning("%r is withheld: %s", id, error)
            return self._withheld(kind, id, str(error))
        return Way(contract, scopes, "", stages, compose(stages, self._last))

    def _withheld(self, kind: Kind, id: str, reason: str) -> Way:
        contract = self._sources.effective(kind, id, Definition())
        refuse = [Authorize(contract, contract.security_scope, reason)]
        return Way(contract, contract.security_scope, reason, refuse, compose(refuse, self._last))


def claims(item: Item) -> bool:
    """Whether a server speaks in our name of what it lists."""
    return CONTRACT_META.encode() in bytes(item.members.get("_meta", NOTHING))


def _items(listings: Sequence[Listing]) -> Iterator[tuple[Kind, Item]]:
    for listing in listings:
        for member, kind in KINDS:
            for item in getattr(listing, member):
                yield kind, item
