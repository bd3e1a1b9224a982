"""Names on the wire when several servers share one endpoint: `namespace__tool`.

The wire name is at most 64 characters of `[A-Za-z0-9_-]`, because some clients refuse more; it is
resolved by an exact table and never taken apart again. Source: MCP 2026-07-28, "Tool Names".
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

MAX_LENGTH: Final = 64
SEPARATOR: Final = "__"

_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]+")
_DIGEST_LENGTH: Final = 8

Target = TypeVar("Target")


def slug(name: str) -> str:
    """*name* reduced to the wire's characters, for a namespace; may come out empty."""
    return _ILLEGAL.sub("_", name).strip("_")


def logical(namespace: str, name: str) -> str:
    """The id that people and contracts use."""
    return f"{namespace}/{name}"


def wire_name(namespace: str, name: str) -> str:
    """The name that clients see. Too long a name keeps its start and gets a digest of the whole,

    so that two long names that share a start stay two names.
    """
    full = f"{namespace}{SEPARATOR}{_ILLEGAL.sub('_', name)}"
    if len(full) <= MAX_LENGTH:
        return full
    digest = hashlib.sha256(logical(namespace, name).encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{full[: MAX_LENGTH - _DIGEST_LENGTH - 1]}_{digest}"


class Naming(msgspec.Struct, frozen=True):
    """What the things of servers are called: by people and contracts, and on the wire.

    The tools of the servers in *own* bring their namespaces: `document__compare` is `document/compare`, whichever of
    these servers lists it. Their names without a namespace, and everybody else's, are prefixed with the server's; so
    is a name by which a server would put itself in another's place.
    """

    own: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()  # all that there are: the name of one is no namespace for another
    packs: frozenset[str] = frozenset()  # those that bring what is promised of them, and nothing else
    promised: Mapping[str, str] = {}  # id -> the server that alone brings it

    def id(self, server: str, name: str) -> str:
        """The logical id of what *server* calls *name*; a URI never brings a namespace."""
        space, rest = self._divided(server, name)
        return logical(space, rest)

    def wire(self, server: str, name: str) -> str:
        return wire_name(*self._divided(server, name))

    def places(self, id: str, servers: Iterable[str]) -> list[tuple[str, str]]:
        """Which of *servers* could list the thing called *id*, and its own name for it."""
        space, _, rest = id.partition("/")
        return [
            (server, rest if server == space else f"{space}{SEPARATOR}{rest}")
            for server in servers
            if server == space or (server in self.own and self._may_bring(server, space, rest))
        ]

    def _divided(self, server: str, name: str) -> tuple[str, str]:
        space, found, rest = name.partition(SEPARATOR)
        brought = server in self.own and found and rest and space and slug(space) == space
        return (space, rest) if brought and self._may_bring(server, space, rest) else (server, name)

    def _may_bring(self, server: str, space: str, rest: str) -> bool:
        owner = self.promised.get(logical(space, rest))
        if owner is not None:
            return owner == server
        return server not in self.packs and (space == server or space not in self.servers)

    def is_unpromised(self, server: str, id: str) -> bool:
        """Whether *server* is of a pack, and its tool *id* is none of those that the pack has contracts of."""
        return server in self.packs and self.promised.get(id) != server


PREFIXED: Final = Naming()


def versioned(name: str) -> tuple[str, str]:
    """*name* without the version that is asked for behind its last `@`, and that version; "" for none."""
    base, found, version = name.rpartition("@")
    return (base, version) if base and found and version else (name, "")


class Clash(msgspec.Struct, frozen=True):
    """Two logical ids that claim one wire name; the second one is withheld."""

    wire: str
    kept: str
    withheld: str

    def __str__(self) -> str:
        if self.kept == self.withheld:
            return f"{self.withheld!r} is listed twice; the second one is withheld"
        return f"{self.withheld!r} is withheld: its name {self.wire!r} belongs to {self.kept!r}; give it an alias"


class Table(Generic[Target]):
    """An exact two-way table between wire names and the things they stand for."""

    def __init__(
        self, entries: Iterable[tuple[str, str, Target]], aliases: Mapping[str, str], naming: Naming = PREFIXED
    ) -> None:
        """*entries* are (server, own name, target) in order of precedence; *aliases* map logical
        ids to wire names of the operator's choice, which win over made-up ones."""
        self.clashes: list[Clash] = []
        self._by_name: dict[str, Target] = {}
        self._by_id: dict[str, Target] = {}
        self.listed: list[tuple[str, Target]] = []  # (wire name, target), in the order given
        owners: dict[str, str] = {}
        claims = [
            (place, id := naming.id(server, name), aliases.get(id), naming.wire(server, name), target)
            for place, (server, name, target) in enumerate(entries)
        ]
        kept: list[tuple[int, str, Target]] = []
        for place, id, alias, made_up, target in sorted(claims, key=lambda each: each[2] is None):
            wire = alias or made_up
            if wire in owners:
                self.clashes.append(Clash(wire, owners[wire], id))
                continue
            owners[wire] = id
            self._by_name[wire] = target
            self._by_id[id] = target
            kept.append((place, wire, target))
        self.listed = [(wire, target) for _, wire, target in sorted(kept, key=lambda each: each[0])]

    def find(self, name: str) -> Target | None:
        """What *name* stands for: a wire name, or a logical id `namespace/name`."""
        found = self._by_name.get(name)
        return found if found is not None else self._by_id.get(name)

    def find_version(self, name: str) -> tuple[Target | None, str]:
        """What *name* stands for, and the version that it asks for, if there is nothing of the whole name."""
        found = self.find(name)
        if found is not None or "@" not in name:
            return found, ""
        base, version = versioned(name)
        return self.find(base), version
