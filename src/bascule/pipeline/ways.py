"""The compiled way of each tool, prompt and resource: its contract, and the stages that the contract needs.

Ways are made when a server's lists are learnt, not when a call comes. What is not listed has a way too,
made of what rules say of its name; only who may do everything at that server gets through on it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from bascule.call import Forward
from bascule.contract.derive import CONTRACT_META, Definition, Sources, definition_of, is_governed, listed
from bascule.contract.model import Contract, Kind
from bascule.contract.versions import Choice, Known
from bascule.errors import ConfigInvalid
from bascule.pipeline.authorize import Authorize
from bascule.pipeline.chain import Stage, compose
from bascule.policy.scopes import Access, Authority
from bascule.registry.catalog import Item, Listing, Template, resolved
from bascule.registry.judge import Judge, Unapproved
from bascule.registry.sight import KINDS
from bascule.wire.jsonrpc import NOTHING, Params
from bascule.wire.names import PREFIXED, Naming

log = logging.getLogger("bascule.policy")

Key: TypeAlias = tuple[Kind, str]  # of one server's things: the kind, and the server's own name or URI

_UNLISTED_KEPT: Final = 1024
_KINDS: Final[tuple[Kind, ...]] = ("tool", "prompt", "resource")


class Behind(msgspec.Struct, frozen=True):
    """What answers for a thing: the server, and the server's own name and entry for it."""

    server: str
    name: str
    item: Item | None  # None: it is in no list


class Way(msgspec.Struct, frozen=True):
    """What happens to the calls of one thing."""

    contract: Contract
    scopes: tuple[str, ...]  # all that are needed
    withheld: str  # why nobody may see or call it; "" if that is not so
    stages: Sequence[Stage]
    forward: Forward
    choice: Choice | None = None  # the versions that its callers can ask for, where there are several
    elsewhere: Behind | None = None  # what answers in its place
    listed: bool = True  # by its server; otherwise its callers may have made it up
    unapproved: Unapproved | None = None  # it is withheld because it is not what was approved
    unready: str = ""  # it is withheld until this server, which answers for it, has said what it lists

    def is_seen(self, authority: Authority) -> bool:
        """Whether a caller may know of it: what it may call, or could if it asked for the scopes."""
        return not self.withheld and authority.access(self.scopes) is not Access.HIDDEN


class _UnreadyError(ValueError):
    """Nobody can tell yet what answers for a thing: its *server* has to say it first."""

    def __init__(self, why: str, server: str) -> None:
        super().__init__(why)
        self.server = server


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

    def __init__(
        self,
        sources: Sources,
        build: Build,
        last: Forward,
        *,
        private: bool,
        judge: Judge | None = None,
        naming: Naming = PREFIXED,
    ) -> None:
        """*build* makes the stages, *last* is what follows all of them. *private*: callers are told apart.

        *judge* says what of the lists is approved; without it everything is.
        """
        self.private = private
        self.naming = naming
        self._sources = sources
        self._build = build
        self._last = last
        self._judge = judge
        self._known: dict[str, _Known] = {}
        self._unlisted: dict[tuple[str, Kind, str], Way] = {}
        self._versions: dict[tuple[str, Kind, str, Known], Way] = {}

    def learn(self, server: str, listings: Sequence[Listing]) -> bool:
        """Make the ways of what *server* lists, in any era; ways whose definitions are the same stay.

        Whether things of other servers, whose calls go to this one, have changed with it.
        """
        before = self._known.get(server)
        unapproved = self._judge.judge(server, listings) if self._judge is not None else {}
        ways: dict[Key, tuple[Item, Way]] = {}
        for kind, item in _items(listings):
            key = (kind, item.key)
            old = before.ways.get(key) if before else None
            if key not in ways:
                found = unapproved.get(key)
                same = old is not None and old[0].members == item.members and old[1].unapproved == found
                was = None if old is None else old[1].unapproved
                ways[key] = old if same and old else (item, self._learnt(kind, server, item, found, was))
        texts = [item.key for listing in listings for item in listing.templates]
        plain = not any(way.withheld or is_governed(way.contract) or claims(item) for item, way in ways.values())
        templates = [(Template(text), text) for text in dict.fromkeys(texts)]
        templates.sort(key=lambda each: each[0].literal_length, reverse=True)  # the one that says most goes first
        read = {resolved(name): way for (kind, name), (_, way) in ways.items() if kind == "resource"}
        self._known[server] = _Known(ways, read, templates, plain)
        self._unlisted.clear()
        self._versions.clear()
        return self._remake_those_behind_which(server)

    def _remake_those_behind_which(self, server: str) -> bool:
        """Make those ways anew of which some version is served by *server*."""
        remade = False
        for other, known in self._known.items():
            for (kind, name), (item, way) in list(known.ways.items()):
                if way.choice is not None and way.choice.needs(server):
                    known.ways[kind, name] = item, self._made(kind, other, name, item)
                    remade = True
        return remade

    def forget(self, server: str) -> None:
        self._known.pop(server, None)
        self._unlisted.clear()
        self._versions.clear()

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

    def version(self, kind: Kind, server: str, name: str, known: Known) -> Way:
        """The way of one version of what *server* calls *name*, which is listed."""
        key = (server, kind, name, known)
        way = self._versions.get(key)
        if way is None:
            item, _ = self._known[server].ways[kind, name]
            way = self._versions[key] = self._made(kind, server, name, item, version=known)
        return way

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
        if self._sources.trusts(server) or self.pins(server):
            return True
        return is_governed(self.way(kind, server, name).contract)

    def pins(self, server: str) -> bool:
        """Whether what *server* lists is only to be seen once it is approved."""
        return self._judge is not None and self._judge.pins(server)

    def plain(self, server: str, authority: Authority) -> bool:
        """Whether a caller sees the lists of *server* just as the server gives them."""
        known = self._known.get(server)
        return (known is None or known.plain) and authority.covers((server,)) and not self.pins(server)

    def allows(self, authority: Authority, kind: Kind, server: str, name: str) -> bool:
        """Whether a caller may have it."""
        way = self.way(kind, server, name)
        return not way.withheld and way.contract.status != "gone" and authority.covers(way.scopes)

    def sees(self, authority: Authority, kind: Kind, server: str, name: str) -> bool:
        """Whether a caller may know of it."""
        return self.way(kind, server, name).is_seen(authority)

    def withholds(self, kind: Kind, server: str, name: str) -> bool:
        way = self.way(kind, server, name)
        told = way.unready or (way.unapproved is not None and way.unapproved.told)
        return bool(way.withheld) and not told

    def entry(self, kind: Kind, server: str, name: str, members: Params) -> Params | None:
        """What clients see of the listed *members*; None if they see nothing of it."""
        way = self.way(kind, server, name)
        if way.withheld or way.contract.status == "gone":
            return None
        if self.is_news(kind, server, name, members):
            return None
        if way.elsewhere is not None and way.elsewhere.item is not None:
            members = {**way.elsewhere.item.members, "name": members["name"]}
        return listed(way.contract, members, way.choice.said if way.choice else ())

    def is_news(self, kind: Kind, server: str, name: str, members: Params) -> bool:
        """Whether *server* shows a client more than was judged when its lists were learnt."""
        if self._judge is None:
            return False
        known = self._known.get(server)
        item, _ = known.ways.get((kind, name), (None, None)) if known is not None else (None, None)
        return not self._judge.fits(server, kind, item, members)

    def opens(self, authority: Authority, server: str) -> bool:
        """Whether a caller may know that there is such a server."""
        if authority.access((server,)) is not Access.HIDDEN:
            return True
        known = self._known.get(server)
        if known is None:  # it has not been asked yet: nobody can tell what it will list
            known_by = {mine.split(":")[0] for mine in authority.granted | authority.grantable}
            return bool(known_by & {"*", server}) or self._is_promised(authority, server)
        return any(way.is_seen(authority) for _, way in known.ways.values())

    def _is_promised(self, authority: Authority, server: str) -> bool:
        """Whether there is a contract, for something that *server* may come to list, which concerns this caller."""
        return any(
            authority.access(self._sources.effective(kind, id, None, server=server).security_scope) is not Access.HIDDEN
            for kind in _KINDS
            for id in self._sources.ids(kind)
            if self.naming.places(id, (server,))
        )

    # ---- making

    def _of_unlisted(self, kind: Kind, server: str, name: str) -> Way:
        way = self._unlisted.get((server, kind, name))
        return way or self._kept(
            (server, kind, name), msgspec.structs.replace(self._made(kind, server, name, None), listed=False)
        )

    def _of_templated(self, server: str, uri: str, item: Item, way: Way) -> Way:
        """The way of a *uri* that is listed by its template alone: what is said of the URI itself holds, too."""
        if way.withheld or not self._sources.singles_out("resource", f"{server}/{uri}", way.contract.id):
            return way
        own = self._unlisted.get((server, "resource", uri))
        return own or self._kept((server, "resource", uri), self._made("resource", server, item.key, item, uri))

    def _kept(self, key: tuple[str, Kind, str], way: Way) -> Way:
        if len(self._unlisted) >= _UNLISTED_KEPT:
            self._unlisted.clear()
        self._unlisted[key] = way
        return way

    def _learnt(
        self, kind: Kind, server: str, item: Item, unapproved: Unapproved | None, was: Unapproved | None
    ) -> Way:
        """*was*: how it stood before; a server that changes it without an end does not fill the log."""
        if unapproved is None:
            return self._made(kind, server, item.key, item)
        id = self.naming.id(server, item.key)
        if was is None:
            log.warning("%r is withheld: %s", id, unapproved.reason)
        return self._withheld(kind, server, id, unapproved.reason, unapproved, definition_of(item.members))

    def _made(
        self,
        kind: Kind,
        server: str,
        name: str,
        item: Item | None,
        uri: str | None = None,
        version: Known | None = None,
    ) -> Way:
        """*uri*: what a template, *name*, has matched. *version*: other than the one that goes without being named."""
        id = self.naming.id(server, name)
        choice = self._sources.choice(kind, id) if item is not None else None
        picked = version or (choice.default if choice else None)
        try:
            if kind == "tool" and item is not None and self.naming.is_unpromised(server, id):
                # Its process reads what strangers wrote: what it lists of itself is not the pack's.
                raise ValueError("its pack has no contract of it, or another server of this pack brings it already")
            behind = self._behind(Behind(server, name, item), picked)
            definition = definition_of(behind.item.members) if behind.item is not None else None
            contract = self._sources.effective(
                *(kind, id, definition),
                also=None if uri is None else f"{server}/{uri}",
                version="" if picked is None else str(picked.version),
                server=behind.server,
            )
            # Nobody knows what it does: a rule that was written for what is listed does not open it.
            scopes = (*contract.security_scope, server) if item is None else contract.security_scope
            stages = self._build(contract, behind.server, scopes, unlisted=item is None)
        except _UnreadyError as error:
            withheld = self._withheld(kind, server, id, str(error), unready=error.server)
            return msgspec.structs.replace(withheld, choice=choice)
        except (ValueError, ConfigInvalid) as error:
            log.warning("%r is withheld: %s", id, error)
            return msgspec.structs.replace(self._withheld(kind, server, id, str(error)), choice=choice)
        elsewhere = None if behind.item is item else behind
        return Way(contract, scopes, "", stages, compose(stages, self._last), choice, elsewhere)

    def _behind(self, own: Behind, picked: Known | None) -> Behind:
        """What answers for a version. Raises ValueError if its server does not list it, or is not known yet."""
        if picked is None or not picked.served_by:
            return own
        server, _, name = picked.served_by.partition("/")
        known = self._known.get(server)
        item, way = known.ways.get(("tool", name), (None, None)) if known else (None, None)
        if way is not None and way.unapproved is not None:
            raise ValueError(f"{picked.version} is served by {picked.served_by}, and {way.withheld}")
        if known is None:
            raise _UnreadyError(f"version {picked.version} is served by {server}, which has not said yet what it lists",
                                server)  # fmt: skip
        if item is None:
            raise ValueError(f"{picked.version} is served by {picked.served_by}, and {server!r} lists no such tool")
        return own if (server, name) == (own.server, own.name) else Behind(server, name, item)

    def _withheld(
        self,
        kind: Kind,
        server: str,
        id: str,
        reason: str,
        unapproved: Unapproved | None = None,
        definition: Definition | None = None,
        unready: str = "",
    ) -> Way:
        """*definition*: who could call it as it is defined hears that it was changed."""
        try:
            contract = self._sources.effective(kind, id, definition or Definition(), server=server)
        except ValueError:
            contract = self._sources.effective(kind, id, Definition(), server=server)
        scopes = contract.security_scope
        refuse = [Authorize(contract, scopes, reason, unapproved, unready)]
        forward = compose(refuse, self._last)
        return Way(contract, scopes, reason, refuse, forward, unapproved=unapproved, unready=unready)


def claims(item: Item) -> bool:
    """Whether a server speaks in our name of what it lists."""
    return CONTRACT_META.encode() in bytes(item.members.get("_meta", NOTHING))


def _items(listings: Sequence[Listing]) -> Iterator[tuple[Kind, Item]]:
    for listing in listings:
        for member, kind in KINDS:
            for item in getattr(listing, member):
                yield kind, item
