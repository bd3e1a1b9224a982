"""A schema as a graph: what judges what, and where references lead. PURE.

Nodes are the schema objects of one document. An edge leads *in place*, to a schema that judges the same
value (`anyOf`, `$ref`), or to one that judges a member or item of it. What all that may cost is counted
in work.py, over the graph and never over its expansion. Nothing recurses: the input is hostile.
Source: JSON Schema 2020-12 core, 7.7, 8.2, 10, 11; the older dialects' keywords beside them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from bascule.contract.validation import patterns

MAX_SCHEMAS: Final = 3_000  # schema objects in one document; the largest of 2,000 published ones have 2,400
MAX_PATTERNS: Final = 1_000
MAX_PATTERN_CHARS: Final = 4_096
MAX_PATTERNS_CHARS: Final = 65_536  # of all patterns together
MAX_REFERENCE_CHARS: Final = 2_048
MAX_STATES: Final = 100_000  # of all patterns together: about half a second to compile
MAX_ENUM: Final = 10_000
MAX_CHAIN: Final = 500  # schemas in a row that judge one value: the library recurses
MOST: Final = 10**12  # counts stop here

DIALECTS: Final = {
    "json-schema.org/draft/2020-12/schema": "2020-12",
    "json-schema.org/draft/2019-09/schema": "2019-09",
    "json-schema.org/draft-07/schema": "draft-07",
    "json-schema.org/draft-06/schema": "draft-06",
    "json-schema.org/draft-04/schema": "draft-04",
}

# Keyword → the edges of a Node that its subschemas belong to; "" for what it only defines.
_ONE: Final = {
    **dict.fromkeys(("not", "if", "then", "else", "contentSchema"), "inplace"),
    "additionalProperties": "named",
    **dict.fromkeys(("propertyNames", "unevaluatedProperties"), "every"),
    "additionalItems": "positions",
    **dict.fromkeys(("contains", "unevaluatedItems"), "items"),
}
_MANY: Final = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies"), "inplace"),
    "properties": "named",
    "patternProperties": "every",
    "prefixItems": "positions",
    **dict.fromkeys(("$defs", "definitions"), ""),
}
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
# In evaluations of a cheap keyword (15 ns), as measured.
_COMPARISON: Final = 10  # of one value in an option with the one that came
_EXACT_DIVISION: Final = 2_000  # of floats, by the size of their exponents
_HASH: Final = 20  # of a value somewhere below `uniqueItems`
# Formats whose check is slower than a few nanoseconds per character.
_SLOW_FORMATS: Final = {"regex": 32, "idn-hostname": 8, "hostname": 2, "idn-email": 2, "uri-template": 2}


class Unfit(ValueError):
    """The schema cannot be used; the text says why, for the operator."""


class Node(msgspec.Struct, eq=False):
    """One schema object: where its edges lead (indices of nodes), and what it costs by itself."""

    inplace: list[int] = msgspec.field(default_factory=list)
    named: list[int] = msgspec.field(default_factory=list)  # at most one of them judges a given member
    every: list[int] = msgspec.field(default_factory=list)  # each may judge any member
    positions: list[int] = msgspec.field(default_factory=list)  # at most one judges a given item
    items: list[int] = msgspec.field(default_factory=list)  # each may judge any item
    unevaluated: bool = False
    own: int = 1  # evaluations that its own keywords are worth
    hashes: int = 0  # evaluations for every value below
    per_char: int = 0  # steps per character of a string, or of an object's names
    references: list[int] = msgspec.field(default_factory=list)  # of those in place: what `$ref` and its kin lead to
    inner: list[int] = msgspec.field(default_factory=list)  # all others, in the order in which the library compiles

    @property
    def ahead(self) -> list[int]:
        return self.references + self.inner


class Graph(msgspec.Struct, frozen=True):
    nodes: Sequence[Node]
    order: Sequence[int]  # every node after those it leads to in place
    backtracks: bool


def dialect_of(schema: Mapping[str, Any]) -> str:
    """The dialect that *schema* says it is in; 2020-12 if it says nothing (MCP). Raises Unfit for others."""
    said = schema.get("$schema")
    if said is None:
        return "2020-12"
    plain = said.removesuffix("#").removeprefix("http://").removeprefix("https://") if isinstance(said, str) else ""
    if plain not in DIALECTS:
        raise Unfit(f"unsupported dialect: $schema is {quoted(said)}; use draft 2020-12, 2019-09, 07, 06 or 04")
    return DIALECTS[plain]


def quoted(value: object) -> str:
    """A short, harmless form of something out of a schema."""
    text = value if isinstance(value, str) else f"of type {type(value).__name__}"
    return ascii(text[:80])


def graph_of(schema: Mapping[str, Any]) -> Graph:
    """The graph of *schema*, node 0 the root. Raises Unfit if it cannot be one that ends."""
    reader = _Reader(schema)
    reader.read()
    return Graph(reader.nodes, _in_place_order(reader.nodes), reader.backtracks)


class _Reader:
    """Reads one document: schemas first, references when all anchors are known."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._id_key = "id" if dialect_of(root) == "draft-04" else "$id"
        own = root.get(self._id_key)
        self._base = own.split("#")[0] if isinstance(own, str) else ""
        self._index: dict[int, int] = {}  # id() of a schema object → its node; the document keeps them alive
        self._anchors: dict[str, Mapping[str, Any]] = {}
        self._waiting: list[tuple[Mapping[str, Any], bool]] = []  # schemas to read, and whether `$id` rebased them
        self._references: list[tuple[int, str, str]] = []  # (node, keyword, target)
        self._patterns = self._pattern_chars = self._states = 0
        self.nodes: list[Node] = []
        self.backtracks = False

    def read(self) -> None:
        self._node(self._root, False)
        while self._waiting or self._references:
            while self._waiting:
                self._read(*self._waiting.pop())
            references, self._references = self._references, []
            for node, keyword, target in references:
                found, rebased = self._resolve(keyword, target)
                index = self._node(found, rebased)
                if index is not None:
                    self.nodes[node].inplace.append(index)
                    self.nodes[node].references.append(index)

    def _node(self, schema: Any, rebased: bool) -> int | None:
        """The node of *schema*; None for `true` and `false`, which cost nothing, and what is no schema."""
        if not isinstance(schema, dict):
            return None
        index = self._index.get(id(schema))
        if index is None:
            index = self._index[id(schema)] = len(self.nodes)
            if index >= MAX_SCHEMAS:
                raise Unfit(f"more than {MAX_SCHEMAS:,} schemas in one document")
            self.nodes.append(Node())
            self._waiting.append((schema, rebased))
        return index

    def _read(self, schema: Mapping[str, Any], rebased: bool) -> None:
        node = self.nodes[self._index[id(schema)]]
        rebased = rebased or (schema is not self._root and self._is_rebasing(schema))
        if "$schema" in schema:
            dialect_of(schema)
        self._learn_anchors(schema)
        self._weigh(node, schema)
        for keyword in _REFERENCES:
            target = schema.get(keyword)
            if isinstance(target, str):
                if rebased:
                    raise Unfit(f"{keyword} below a nested $id, which changes what it refers to, is not supported")
                self._references.append((self._index[id(schema)], keyword, target))
        for edges, inner in _subschemas(schema):
            index = self._node(inner, rebased)
            if index is not None and edges:
                getattr(node, edges).append(index)
                node.inner.append(index)

    def _is_rebasing(self, schema: Mapping[str, Any]) -> bool:
        own = schema.get(self._id_key)
        return isinstance(own, str) and not own.startswith("#")

    def _learn_anchors(self, schema: Mapping[str, Any]) -> None:
        names = {schema[key] for key in _ANCHORS if isinstance(schema.get(key), str)}
        own = schema.get(self._id_key)
        if isinstance(own, str) and own.startswith("#") and len(own) > 1:  # drafts 04 to 07
            names.add(own[1:])
        for name in names:
            if self._anchors.setdefault(name, schema) is not schema:
                raise Unfit(f"two anchors are called {quoted(name)}")

    def _weigh(self, node: Node, schema: Mapping[str, Any]) -> None:
        options = schema.get("enum")
        if isinstance(options, list):
            if len(options) > MAX_ENUM:
                raise Unfit(f"an enum of {len(options):,} options; at most {MAX_ENUM:,}")
            node.own += _cost_of_options(options)
        if "const" in schema:
            node.own += _COMPARISON * _size(schema["const"])
        for keyword in ("properties", "required", "dependentRequired"):
            node.own += len(schema[keyword]) // 4 if isinstance(schema.get(keyword), list | dict) else 0
        if isinstance(schema.get("multipleOf"), float):
            node.own += _EXACT_DIVISION
        node.hashes = _HASH if schema.get("uniqueItems") is True else 0
        node.unevaluated = "unevaluatedProperties" in schema or "unevaluatedItems" in schema
        node.per_char = _SLOW_FORMATS.get(schema["format"], 1) if isinstance(schema.get("format"), str) else 0
        of_names = schema.get("patternProperties")
        for pattern in [schema.get("pattern"), *(of_names if isinstance(of_names, dict) else ())]:
            if isinstance(pattern, str):
                node.per_char = min(node.per_char + self._weight_of(pattern), MOST)

    def _weight_of(self, pattern: str) -> int:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise Unfit(f"a pattern of {len(pattern):,} characters; at most {MAX_PATTERN_CHARS:,}")
        weight = patterns.weigh(pattern)
        self._patterns += 1
        self._pattern_chars += len(pattern)
        self._states += weight.states
        self.backtracks = self.backtracks or weight.backtracks
        if self._patterns > MAX_PATTERNS or self._pattern_chars > MAX_PATTERNS_CHARS:
            raise Unfit(f"more than {MAX_PATTERNS:,} patterns, or {MAX_PATTERNS_CHARS:,} characters of them")
        if self._states > MAX_STATES:
            raise Unfit(f"patterns that repeat too much, the last of them {quoted(pattern)}")
        return weight.per_char

    def _resolve(self, keyword: str, target: str) -> tuple[Any, bool]:
        """What *target* refers to, and whether a nested `$id` lies on the way. Raises Unfit if it is not in here."""
        if len(target) > MAX_REFERENCE_CHARS:
            raise Unfit(f"{keyword} {quoted(target)} is longer than {MAX_REFERENCE_CHARS:,} characters")
        document, _, fragment = target.partition("#")
        if document not in ("", self._base):
            raise Unfit(f"{keyword} {quoted(target)} leaves the document; only #/… and #anchor are followed")
        fragment = _unescaped(fragment)
        if fragment and not fragment.startswith("/"):
            if fragment not in self._anchors:
                raise Unfit(f"{keyword} {quoted(target)} refers to an anchor that is not there")
            return self._anchors[fragment], False
        found: Any = self._root
        rebased = False
        for part in fragment.split("/")[1:]:
            found = _member(found, part.replace("~1", "/").replace("~0", "~"))
            if found is None:
                raise Unfit(f"{keyword} {quoted(target)} refers to nothing")
            rebased = rebased or (isinstance(found, dict) and self._is_rebasing(found))
        if not isinstance(found, dict | bool):
            raise Unfit(f"{keyword} {quoted(target)} refers to something that is no schema")
        return found, rebased


def _unescaped(fragment: str) -> str:
    """*fragment* without percent-encoding (RFC 6901, 6). What is not UTF-8 then names nothing."""
    raw = fragment.encode("utf-8", "replace")
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), raw).decode("utf-8", "replace")


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    # Leading zeros and other scripts' digits are no index (RFC 6901, 4), though int() takes them.
    if isinstance(value, list) and len(part) < 7 and part.isascii() and part.isdigit() and str(int(part)) == part:
        return value[int(part)] if int(part) < len(value) else None
    return None


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(edges it belongs to, subschema) for each, by name, as the library goes."""
    for keyword, value in sorted(schema.items(), key=itemgetter(0)):
        if keyword == "items":
            yield from (("positions", each) for each in (value if isinstance(value, list) else (value,)))
        elif keyword in _MANY:
            yield from ((_MANY[keyword], each) for each in _values(value))
        elif keyword in _ONE:
            yield _ONE[keyword], value


def _values(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return [value[name] for name in sorted(value)]
    return value if isinstance(value, list) else ()


def _cost_of_options(options: Sequence[Any]) -> int:
    """The library looks strings and numbers up; anything else it compares one by one."""
    if all(isinstance(each, str) for each in options) or all(type(each) is int for each in options):
        return 0
    return _COMPARISON * sum(map(_size, options))


def _size(value: Any) -> int:
    """JSON values in *value*, itself included."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        count += 1
        waiting.extend(_values(each))
    return count


def _in_place_order(nodes: Sequence[Node]) -> Sequence[int]:
    """All nodes, each after those it leads to in place. Raises Unfit if one leads to itself that way."""
    order: list[int] = []
    depth = [0] * len(nodes)  # 0: not seen; -1: on the way here; else schemas in the longest row below, itself included
    for start in range(len(nodes)):
        stack = [] if depth[start] else [(start, iter(nodes[start].inplace))]
        while stack:
            index, ahead = stack[-1]
            depth[index] = -1
            following = next((each for each in ahead if depth[each] <= 0), None)
            if following is None:
                depth[index] = 1 + max((depth[each] for each in nodes[index].inplace), default=0)
                if depth[index] > MAX_CHAIN:
                    raise Unfit(f"more than {MAX_CHAIN} schemas in a row judge the same value")
                order.append(index)
                stack.pop()
            elif depth[following] == -1:
                raise Unfit("a $ref leads back to itself without a keyword in between that goes into the value")
            else:
                stack.append((following, iter(nodes[following].inplace)))
    return order
