"""Reading JSON Schema: what holds for a value, and for each value inside it. PURE.

Knows references within one document and the keywords that combine schemas; judges nothing.
Source: JSON Schema 2020-12, Core 8 to 11.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import jsonschema_rs

Node: TypeAlias = Any  # a schema: an object or a boolean
Part: TypeAlias = Mapping[str, Any]  # keywords that hold together, `$ref` and `allOf` already followed

MAX_DEPTH: Final = 32
MAX_MEMBERS: Final = 5_000

_OLD: Final = re.compile(r"draft-0[3-7]")
_ELSEWHERE: Final = ("$anchor", "$dynamicAnchor", "$recursiveAnchor")
_BRANCHES: Final = ("anyOf", "oneOf")
_SINGLE: Final = ("if", "then", "else")


def is_schema(node: Any) -> bool:
    """Whether *node* is a JSON Schema of a dialect that is known."""
    try:
        return jsonschema_rs.meta.is_valid(node)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return False


def as_key(value: Any) -> Any:
    """Something hashable that is equal for equal JSON values: 1 is 1.0, and `true` is not 1."""
    match value:
        case bool():
            return ("boolean", value)
        case dict():
            return ("object", frozenset((name, as_key(inner)) for name, inner in value.items()))
        case list() | tuple():
            return ("array", tuple(as_key(inner) for inner in value))
        case _:
            return value


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal, in the sense of `as_key`."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(inner, b[name]) for name, inner in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def refers(node: Any) -> bool:
    """Whether there is a reference somewhere in *node*."""
    if isinstance(node, dict):
        return any(name in ("$ref", "$dynamicRef", "$recursiveRef") or refers(inner) for name, inner in node.items())
    return isinstance(node, list) and any(map(refers, node))


def joined(path: str, name: str) -> str:
    """The path of what is called *name* (`[]`: an item) inside of *path*."""
    return f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"


@lru_cache(maxsize=1024)
def _pattern(text: str) -> "re.Pattern[str] | None":
    try:
        return re.compile(text, re.ASCII)
    except re.error:
        return None


def matches(pattern: str, name: str) -> bool:
    """Whether the name of a property is one of those that *pattern* is about; a pattern we cannot read has none."""
    compiled = _pattern(pattern)
    return compiled is not None and compiled.search(name) is not None


def members_of(part: Part, keyword: str) -> Mapping[str, Any]:
    """The object under *keyword*, or nothing."""
    found = part.get(keyword)
    return found if isinstance(found, dict) else {}


def list_of(part: Part, keyword: str) -> Sequence[Any]:
    """The list under *keyword*, or nothing."""
    found = part.get(keyword)
    return found if isinstance(found, list) else ()


class SchemaTree:
    """One schema with all below it: finds what its references stand for."""

    def __init__(self, root: Node) -> None:
        self.root = root
        dialect = root.get("$schema") if isinstance(root, dict) else None
        # Before 2019-09 a reference stood alone: whatever was beside it said nothing.
        self._alone = isinstance(dialect, str) and bool(_OLD.search(dialect))
        self.readable = not _renames(root, top=True)  # its references are paths, and nothing else

    def parts(self, nodes: Sequence[Node]) -> list[Part] | None:
        """All that holds for a value which has to meet *nodes*; None when nothing can."""
        found: list[Part] = []
        return found if self._lay_out(nodes, found, set()) else None

    def _lay_out(self, nodes: Sequence[Node], found: list[Part], seen: set[int]) -> bool:
        for node in nodes:
            if node is False:
                return False
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            rest = node
            if "$ref" in node:
                target = self.resolved(node["$ref"])
                rest = {} if self._alone else {name: node[name] for name in node if name != "$ref"}
                if target is None:
                    found.append({"$ref": node["$ref"]})
                elif not self._lay_out([target], found, seen):
                    return False
            inner = list_of(rest, "allOf")
            rest = {name: rest[name] for name in rest if name != "allOf"} if inner else rest
            if rest:
                found.append(rest)
            if not self._lay_out(inner, found, seen):
                return False
        return True

    def resolved(self, reference: Any) -> Node | None:
        """What a reference such as `#/$defs/address` stands for; None when it is not in this document."""
        if not isinstance(reference, str) or not reference.startswith("#") or not self.readable:
            return None
        node = self.root
        for step in unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and step in node:
                node = node[step]
            elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
                node = node[int(step)]
            else:
                return None
        return node if isinstance(node, dict | bool) and reference[1:2] in ("", "/") else None

    def spoken(self, nodes: Sequence[Node]) -> Iterator[Part]:
        """Every part that says something of a value under *nodes*: what holds, and what may hold."""
        waiting, seen = list(nodes), set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            for part in self.parts([node]) or ():
                yield part
                for keyword in _BRANCHES:
                    waiting += list_of(part, keyword)
                waiting += [part[keyword] for keyword in _SINGLE if keyword in part]
                waiting += members_of(part, "dependentSchemas").values()

    def values(self) -> dict[str, list[Part]]:
        """Each value inside that the schema speaks of, by its path, with all that it says of it.

        `""` is the whole, `order.items[].price` a price in it, `*` any other property. Recursion is followed once.
        """
        found: dict[str, list[Part]] = {}
        waiting: list[tuple[str, list[Node], frozenset[int]]] = [("", [self.root], frozenset())]
        while waiting and len(found) < MAX_MEMBERS:
            path, nodes, above = waiting.pop(0)
            parts = found.setdefault(path, [])
            inner: dict[str, list[Node]] = {}
            for part in self.spoken([node for node in nodes if id(node) not in above]):
                parts.append(part)
                for name, node in _inside(part):
                    inner.setdefault(name, []).append(node)
            # What a reference leads back to is the same object as above it.
            here = above | {id(node) for node in nodes if isinstance(node, dict)} | {id(part) for part in parts}
            for name, each in inner.items():
                fresh = [node for node in each if not self._leads_back(node, here)]
                waiting.append((joined(path, name), fresh, here))
        return found

    def _leads_back(self, node: Node, above: frozenset[int]) -> bool:
        target = self.resolved(node["$ref"]) if isinstance(node, dict) and "$ref" in node else node
        return id(target) in above


def _inside(part: Part) -> Iterator[tuple[str, Node]]:
    """The values that a part speaks of, by name; `[]` are items, `*` are other properties."""
    yield from members_of(part, "properties").items()
    yield from (("*", node) for node in members_of(part, "patternProperties").values())
    if isinstance(part.get("additionalProperties"), dict):
        yield "*", part["additionalProperties"]
    items = part.get("items")
    for node in (*list_of(part, "prefixItems"), *list_of(part, "items"), *([items] if isinstance(items, dict) else ())):
        yield "[]", node


def _renames(node: Any, *, top: bool = False) -> bool:
    """Whether something inside gives itself a name or a base of its own, so that a path may lead elsewhere."""
    if isinstance(node, dict):
        own = any(isinstance(node.get(name), str) for name in _ELSEWHERE)
        return own or (not top and isinstance(node.get("$id"), str)) or any(map(_renames, node.values()))
    return isinstance(node, list) and any(map(_renames, node))
