"""Whether one JSON Schema accepts all that another does, and if not, where it is narrower. PURE.

`narrowings(a, b)` is empty only if every value that *a* accepts is accepted by *b*. It errs on one side:
what it cannot decide (`unevaluatedProperties`, a reference to elsewhere) counts as narrower.
One thing is seen with the eyes of an interface: where *a* leaves open which properties there are, a value is
taken to hold none that *b* declares and *a* does not. Otherwise no property could ever be added.

How: both schemas are laid out as parts that hold together; each keyword of *b* has to follow from *a*, by the
rule in `_RULES`. Where that fails and *a* offers alternatives, each of them is tried by itself.
Source: JSON Schema 2020-12, Core 10 and 11, Validation 6.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import jsonschema_rs
import msgspec

from bascule.contract.keywords import Node, Part, SchemaTree, as_key, joined, list_of, matches, members_of, refers, same

TOO_INTRICATE: Final = "$ref"  # as a keyword: no more can be found out
MAX_DEPTH: Final = 40
MAX_STEPS: Final = 5_000

# `number` stands for numbers that are no integers, so that types are sets without overlap.
_TYPES: Final = frozenset({"null", "boolean", "object", "array", "string", "integer", "number"})
_NUMBERS: Final = frozenset({"integer", "number"})
_DECLARED: Final = "\0declared"  # our own keyword: properties that the schema declares in another of its branches
_SHUT: Final = "additionalProperties"
_PROPERTIES: Final = ("properties", "patternProperties", _SHUT)
_ITEMS: Final = ("prefixItems", "items", "additionalItems")
# What these say depends on everything beside them.
_WHOLE: Final = frozenset({"unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"})
_CONTAINS: Final = ("contains", "minContains", "maxContains")
_CONDITION: Final = ("if", "then", "else")


class Narrowing(msgspec.Struct, frozen=True):
    """One keyword of *b* that does not follow from *a*, about the value at *path*; "" is the whole value."""

    path: str
    keyword: str
    before: Any = None
    after: Any = None


Found: TypeAlias = list[Narrowing]
Rule: TypeAlias = Callable[["_Comparison", "_Step", Part], Iterable[Narrowing]]


def narrowings(a: Node, b: Node) -> Found:
    """Where *b* accepts less than *a*, each place and keyword once."""
    found = _Comparison(SchemaTree(a), SchemaTree(b)).of(_Step((a,)), b)
    return list({(each.path, each.keyword): each for each in reversed(found)}.values())[::-1]


class _Step(msgspec.Struct, frozen=True):
    """How far a comparison has come: what holds of the value in question, and where it is."""

    nodes: tuple[Node, ...]  # of *a*; once laid out, its parts
    path: str = ""
    depth: int = 0  # of our own recursion
    level: int = 0  # of the value inside the whole value

    def inside(self, nodes: Sequence[Node], name: str) -> "_Step":
        return _Step(tuple(nodes), joined(self.path, name), self.depth + 1, self.level + 1)

    def of(self, nodes: Sequence[Node]) -> "_Step":
        return _Step(tuple(nodes), self.path, self.depth + 1, self.level)

    def lacks(self, keyword: str, before: Any = None, after: Any = None) -> Narrowing:
        return Narrowing(self.path, keyword, before, after)


class _Comparison:
    def __init__(self, a: SchemaTree, b: SchemaTree) -> None:
        self.a = a
        self.b = b
        self._same_roots = same(a.root, b.root)
        self._steps = 0
        self._pending: dict[tuple[tuple[int, ...], int], int] = {}

    def of(self, step: _Step, b: Node) -> Found:
        """Where *b* is narrower than the nodes of *step*."""
        self._steps += 1
        if self._steps > MAX_STEPS or step.depth > MAX_DEPTH:
            return [step.lacks(TOO_INTRICATE)]
        if b is True or any(self.stands(node, b) for node in step.nodes):
            return []
        key = (tuple(map(id, step.nodes)), id(b))
        if key in self._pending:
            # The same question, about a value further inside: true if nothing else speaks against it.
            return [] if step.level > self._pending[key] else [step.lacks(TOO_INTRICATE)]
        self._pending[key] = step.level
        try:
            return self._compared(step, b)
        finally:
            del self._pending[key]

    def stands(self, mine: Any, theirs: Any) -> bool:
        """Whether the two are the same text with the same meaning."""
        return same(mine, theirs) and (self._same_roots or not refers(theirs))

    def _compared(self, step: _Step, b: Node) -> Found:
        parts = self.a.parts(step.nodes)
        if parts is None or not types_of(parts):
            return []  # there is no such value
        wanted = self.b.parts([b])
        if wanted is None:
            return [step.lacks("false")]
        laid = step.of(parts)
        found = [each for part in wanted for each in self._part(laid, part)]
        return self._by_cases(laid, b, found) if found else []

    def _part(self, step: _Step, part: Part) -> Iterator[Narrowing]:
        """Where one part of *b* is narrower."""
        if not part.keys() & _WHOLE and any(self.stands(mine, part) for mine in step.nodes):
            return
        values = values_of(step.nodes)
        if values is not None and not refers(part) and all(_accepts(part, value) for value in values):
            return
        types = types_of(step.nodes)
        for keyword in dict.fromkeys(_GROUPS.get(keyword, (keyword,))[0] for keyword in part):
            concerned, rule = _RULES.get(keyword, (_NONE, _as_before(keyword)))
            if concerned & types and not self._said(step, part, keyword):
                yield from rule(self, step, part)

    def _said(self, step: _Step, part: Part, keyword: str) -> bool:
        """Whether *a* says the same with this keyword and with those that it works together with."""
        if keyword in _WHOLE:
            return False
        group = _GROUPS.get(keyword, (keyword,))
        wanted = {name: part[name] for name in group if name in part}
        return any(self.stands({name: mine[name] for name in group if name in mine}, wanted) for mine in step.nodes)

    def _by_cases(self, step: _Step, b: Node, found: Found) -> Found:
        """*found*, unless *a* offers alternatives and there is less to say of each of them."""
        for number, part in enumerate(step.nodes):
            keyword, branches = _alternatives(part)
            if branches and (keyword != "type" or _vague(found)):
                rest = {name: part[name] for name in part if name != keyword}
                declared = self.declared(step.nodes)
                known = {"$ref": ""} if declared is None else {_DECLARED: list(declared)}
                others = (*step.nodes[:number], rest, *step.nodes[number + 1 :], known)
                cases = [self.of(step.of((*others, branch)), b) for branch in branches]
                by_case = [each for case in cases for each in case]
                return by_case if len(by_case) <= len(found) or _vague(found) else found
        return found

    def offers_alternatives(self, parts: Sequence[Part]) -> bool:
        """Whether a question about *parts* will be put again for each of their alternatives."""
        return any(list_of(part, keyword) for part in parts for keyword in ("anyOf", "oneOf"))

    # ---- what *a* says of a property

    def declared(self, parts: Sequence[Part]) -> frozenset[str] | None:
        """The properties that *a* declares anywhere for this value; None when that is not to be known."""
        names: set[str] = set()
        for part in self.a.spoken(parts):
            if "$ref" in part:
                return None
            names |= members_of(part, "properties").keys() | set(list_of(part, _DECLARED))
        return frozenset(names)

    def at(self, parts: Sequence[Part], name: str) -> tuple[Node, ...] | None:
        """What *a* demands of the property *name*; None when there is none of that name."""
        found = tuple(property_nodes(parts, name))
        if not found and (declared := self.declared(parts)) is not None and name not in declared:
            return None
        return found

    def absent(self, nodes: tuple[Node, ...] | None) -> bool:
        """Whether nothing can meet *nodes*."""
        return nodes is None or (parts := self.a.parts(nodes)) is None or not types_of(parts)

    def apart(self, a: Sequence[Part], b: Sequence[Part], depth: int = 0) -> bool:
        """Whether surely no value meets both."""
        common = types_of(a) & types_of(b)
        if not common:
            return True
        mine, theirs = values_of(a), values_of(b)
        if mine is not None and theirs is not None:
            return not {as_key(value) for value in mine} & {as_key(value) for value in theirs}
        if common != {"object"} or depth > 3:
            return False
        return any(self._apart_at(a, b, name, depth) for name in required_of(a) | required_of(b))

    def _apart_at(self, a: Sequence[Part], b: Sequence[Part], name: str, depth: int) -> bool:
        mine = self.a.parts(list(property_nodes(a, name)))
        theirs = self.b.parts(list(property_nodes(b, name)))
        return mine is None or theirs is None or self.apart(mine, theirs, depth + 1)


# ---- what parts say together ---------------------------------------------------------------------


def types_of(parts: Sequence[Part]) -> frozenset[str]:
    """The types that a value may have."""
    types = _TYPES
    for part in parts:
        if "type" in part:
            types &= _types(part["type"])
        if (values := _values(part)) is not None:
            types &= {_type(value) for value in values}
    return types


def _types(said: Any) -> frozenset[str]:
    names = {name for name in (said if isinstance(said, list) else [said]) if isinstance(name, str)}
    return frozenset(names | {"integer"} if "number" in names else names)


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def values_of(parts: Sequence[Part]) -> Sequence[Any] | None:
    """Values that no other value than them can be; None when they are not named."""
    for part in parts:
        if (values := _values(part)) is not None:
            return values
    types = types_of(parts)
    if types <= {"boolean", "null"}:
        return [*([True, False] if "boolean" in types else ()), *([None] if "null" in types else ())]
    return None


def _values(part: Part) -> Sequence[Any] | None:
    if "const" in part:
        return [part["const"]]
    return part["enum"] if isinstance(part.get("enum"), list) else None


def required_of(parts: Sequence[Part]) -> frozenset[str]:
    return frozenset(name for part in parts for name in list_of(part, "required") if isinstance(name, str))


def property_nodes(parts: Sequence[Part], name: str) -> Iterator[Node]:
    """Every schema that the property *name* has to meet."""
    for part in parts:
        own = members_of(part, "properties")
        here = [own[name]] if name in own else []
        here += [node for text, node in members_of(part, "patternProperties").items() if matches(text, name)]
        yield from here if here or _SHUT not in part else [part[_SHUT]]


def _numbers(parts: Sequence[Part], keyword: str) -> list[float]:
    found = [part[keyword] for part in parts if keyword in part]
    return [each for each in found if isinstance(each, int | float) and not isinstance(each, bool)]


def _accepts(part: Part, value: Any) -> bool:
    try:
        return jsonschema_rs.is_valid(dict(part), value)
    except (ValueError, OverflowError):  # a pattern that cannot be read
        return False


def _alternatives(part: Part) -> tuple[str, Sequence[Node]]:
    """A keyword of *part* that offers alternatives, and these."""
    for keyword in ("anyOf", "oneOf"):
        if branches := list_of(part, keyword):
            return keyword, branches
    types = list_of(part, "type")
    return "type", [{"type": each} for each in types] if len(types) > 1 else []


def _vague(found: Found) -> bool:
    return any(each.keyword in ("anyOf", "oneOf", TOO_INTRICATE) for each in found)


# ---- the rules: each yields what does not follow -------------------------------------------------


def _type_rule(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    have = types_of(step.nodes)
    if not have <= _types(part["type"]):
        yield step.lacks("type", _in_words(have), part["type"])


def _in_words(types: frozenset[str]) -> Any:
    names = sorted(types - {"integer"} if "number" in types else types)
    return None if types == _TYPES else names[0] if len(names) == 1 else names


def _one_of_values(keyword: str) -> Rule:
    def rule(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
        values = [part["const"]] if keyword == "const" else list_of(part, "enum")
        wanted, have = {as_key(value) for value in values}, values_of(step.nodes)
        if have is None:
            yield step.lacks(keyword, None, values)
        elif gone := [value for value in have if as_key(value) not in wanted]:
            yield step.lacks(keyword, gone, values)

    return rule


def _low(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    yield from _bound(step, part, "minimum", "exclusiveMinimum", 1)


def _high(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    yield from _bound(step, part, "maximum", "exclusiveMaximum", -1)


def _bound(step: _Step, part: Part, within: str, beyond: str, sign: int) -> Iterator[Narrowing]:
    """Bounds are compared as (bound, is it shut out) with their sign turned, so that greater is tighter."""
    have = [(sign * each, False) for each in _numbers(step.nodes, within)]
    have += [(sign * each, True) for each in _numbers(step.nodes, beyond)]
    if not types_of(step.nodes) & {"number"}:
        have += [(math.floor(each) + 1, False) for each, shut in have if shut and math.isfinite(each)]
    for keyword, shut in ((within, False), (beyond, True)):
        if keyword in part and not any(
            tightest >= (sign * bound, shut) for bound in _numbers([part], keyword) for tightest in have
        ):
            tightest_said = sign * max(have)[0] if have else None
            yield step.lacks(keyword, tightest_said, part[keyword])


def _multiple(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    wanted, have = part["multipleOf"], _numbers(step.nodes, "multipleOf")
    whole = not types_of(step.nodes) & {"number"}
    if isinstance(wanted, int) and (
        (wanted == 1 and whole) or any(isinstance(n, int) and n % wanted == 0 for n in have)
    ):
        return
    yield step.lacks("multipleOf", have[0] if have else None, wanted)


def _at_least(keyword: str) -> Rule:
    def rule(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
        have = _numbers(step.nodes, keyword)
        known = [*have, len(required_of(step.nodes))] if keyword == "minProperties" else [*have, 0]
        if max(known) < part[keyword]:
            yield step.lacks(keyword, max(have, default=None), part[keyword])

    return rule


def _at_most(keyword: str) -> Rule:
    def rule(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
        have = _numbers(step.nodes, keyword)
        if min(have, default=math.inf) > part[keyword]:
            yield step.lacks(keyword, min(have, default=None), part[keyword])

    return rule


def _as_before(keyword: str) -> Rule:
    """Only what is said in the same words follows (`_said` has looked for that)."""

    def rule(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
        if keyword != "uniqueItems" or part[keyword]:
            before = next((mine[keyword] for mine in step.nodes if keyword in mine), None)
            yield step.lacks(keyword, before, part[keyword])

    return rule


def _items(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    if isinstance(part.get("items"), list):  # as it was before 2020-12
        yield step.lacks("items")
        return
    first, rest = list_of(part, "prefixItems"), part.get("items", True)
    most = min(_numbers(step.nodes, "maxItems"), default=math.inf)
    longest = max(len(list_of(each, "prefixItems")) for each in (*step.nodes, part))
    for number in range(longest):
        if number < most:
            wanted = first[number] if number < len(first) else rest
            yield from of.of(step.inside(_item(step.nodes, number), f"[{number}]"), wanted)
    if longest < most:
        yield from of.of(step.inside(_item(step.nodes, longest), "[]"), rest)


def _item(parts: Sequence[Part], number: int) -> list[Node]:
    found = []
    for part in parts:
        first, rest = list_of(part, "prefixItems"), part.get("items")
        if number < len(first):
            found.append(first[number])
        elif isinstance(rest, dict | bool):
            found.append(rest)
    return found


def _contains(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    if "contains" in part:
        yield step.lacks("contains", None, {name: part[name] for name in _CONTAINS if name in part})


def _required(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    have = required_of(step.nodes)
    for name in list_of(part, "required"):
        if name not in have:
            yield Narrowing(joined(step.path, name), "required")


def _dependent_required(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    for name, wanted in members_of(part, "dependentRequired").items():
        have = set(required_of(step.nodes)).union(
            *(list_of(members_of(mine, "dependentRequired"), name) for mine in step.nodes)
        )
        if not have >= set(wanted) and _may_hold(of, step, part, name):
            yield step.lacks("dependentRequired", None, {name: wanted})


def _dependent_schemas(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    for name, wanted in members_of(part, "dependentSchemas").items():
        if _may_hold(of, step, part, name):
            mine = [members_of(each, "dependentSchemas").get(name, True) for each in step.nodes]
            yield from of.of(step.of((*step.nodes, *mine)), wanted)


def _may_hold(of: _Comparison, step: _Step, part: Part, name: str) -> bool:
    """Whether a value of *a* may have the property *name*; one that is new in *b* it has not."""
    new = name in members_of(part, "properties")
    return not of.absent(of.at(step.nodes, name) if new else tuple(property_nodes(step.nodes, name)))


def _property_names(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    mine: list[Node] = [{"type": "string"}, *(each.get("propertyNames", True) for each in step.nodes)]
    shut = [each for each in step.nodes if each.get(_SHUT) is False and not members_of(each, "patternProperties")]
    mine += [{"enum": list(members_of(each, "properties"))} for each in shut]
    if of.of(step.of(mine), part["propertyNames"]):
        yield step.lacks("propertyNames", None, part["propertyNames"])


def _properties(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    own, patterns = members_of(part, "properties"), members_of(part, "patternProperties")
    for name, wanted in own.items():
        if (nodes := of.at(step.nodes, name)) is not None:
            yield from of.of(step.inside(nodes, name), wanted)
    for text, wanted in patterns.items():
        said = [node for each in step.nodes if (node := members_of(each, "patternProperties").get(text)) is not None]
        if said:
            yield from of.of(step.inside(said, "*"), wanted)
        else:
            yield from _elsewhere(of, step, wanted, lambda name: not matches(text, name))  # noqa: B023  # used at once
    if part.get(_SHUT, True) is not True:
        yield from _elsewhere(
            of, step, part[_SHUT], lambda name: name in own or any(matches(text, name) for text in patterns), patterns
        )


def _elsewhere(
    of: _Comparison,
    step: _Step,
    wanted: Node,
    skipped: Callable[[str], bool],
    patterns: Mapping[str, Node] | None = None,
) -> Iterator[Narrowing]:
    """Where *wanted* is narrower for the properties that *a* names and are not *skipped*, and for all it does not."""
    for name in dict.fromkeys(name for each in step.nodes for name in members_of(each, "properties")):
        if not skipped(name) and not of.absent(nodes := of.at(step.nodes, name)):
            if wanted is False:
                yield Narrowing(joined(step.path, name), _SHUT, None, False)
            else:
                yield from of.of(step.inside(nodes or (), name), wanted)
    for each in step.nodes:
        for text, node in members_of(each, "patternProperties").items():
            if text not in (patterns or {}):
                yield from of.of(step.inside([node], "*"), wanted)
    rest = [each[_SHUT] for each in step.nodes if _SHUT in each]
    if not of.absent(tuple(rest)):
        if wanted is False:
            yield step.lacks(_SHUT, None, False)
        else:
            yield from of.of(step.inside(rest, "*"), wanted)


def _any_of(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    if of.offers_alternatives(step.nodes):
        yield step.lacks("anyOf")
        return
    found = [of.of(step.of(step.nodes), branch) for branch in list_of(part, "anyOf")]
    if all(found):
        yield from _nearest(step, "anyOf", found)


def _nearest(step: _Step, keyword: str, found: Sequence[Found]) -> Found:
    """What is lacking of the nearest alternative, if there is one at all that is about such values."""
    fit = [
        each for each in found if not any(one.keyword in ("type", "false") and one.path == step.path for one in each)
    ]
    before = [{name: part[name] for name in part if name != _DECLARED} for part in step.nodes]
    return min(fit, key=len) if fit else [step.lacks(keyword, before[-1] if before else None)]


def _one_of(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    if of.offers_alternatives(step.nodes):
        yield step.lacks("oneOf")
        return
    branches = list_of(part, "oneOf")
    found = [of.of(step.of(step.nodes), branch) for branch in branches]
    if all(found):
        yield from _nearest(step, "oneOf", found)
        return
    chosen = next(number for number, each in enumerate(found) if not each)
    for number, branch in enumerate(branches):
        theirs = of.b.parts([branch])
        if number != chosen and theirs is not None and not of.apart(step.nodes, theirs):
            yield step.lacks("oneOf", None, "more than one alternative may fit, and then none does")
            return


def _not(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    shut = of.b.parts([part["not"]])
    if shut is not None and not of.apart(step.nodes, shut):
        yield step.lacks("not", None, part["not"])


def _condition(of: _Comparison, step: _Step, part: Part) -> Iterator[Narrowing]:
    if "if" not in part:
        return
    outcomes = [part[keyword] for keyword in ("then", "else") if keyword in part]
    if any(of.of(step.of(step.nodes), outcome) for outcome in outcomes):
        yield step.lacks("if")


_ANY: Final = _TYPES
_NONE: Final[frozenset[str]] = frozenset()  # a keyword that is not among the rules only describes
_OBJECT: Final = frozenset({"object"})
_ARRAY: Final = frozenset({"array"})
_STRING: Final = frozenset({"string"})

# keyword -> (the types it is about, its rule)
_RULES: Final[Mapping[str, tuple[frozenset[str], Rule]]] = {
    "type": (_ANY, _type_rule),
    "const": (_ANY, _one_of_values("const")),
    "enum": (_ANY, _one_of_values("enum")),
    "minimum": (_NUMBERS, _low),
    "exclusiveMinimum": (_NUMBERS, _low),
    "maximum": (_NUMBERS, _high),
    "exclusiveMaximum": (_NUMBERS, _high),
    "multipleOf": (_NUMBERS, _multiple),
    "minLength": (_STRING, _at_least("minLength")),
    "maxLength": (_STRING, _at_most("maxLength")),
    "pattern": (_STRING, _as_before("pattern")),
    "format": (_STRING, _as_before("format")),
    "minItems": (_ARRAY, _at_least("minItems")),
    "maxItems": (_ARRAY, _at_most("maxItems")),
    "uniqueItems": (_ARRAY, _as_before("uniqueItems")),
    "prefixItems": (_ARRAY, _items),  # with `items`
    "contains": (_ARRAY, _contains),
    "unevaluatedItems": (_ARRAY, _as_before("unevaluatedItems")),
    "minProperties": (_OBJECT, _at_least("minProperties")),
    "maxProperties": (_OBJECT, _at_most("maxProperties")),
    "required": (_OBJECT, _required),
    "dependentRequired": (_OBJECT, _dependent_required),
    "dependentSchemas": (_OBJECT, _dependent_schemas),
    "dependencies": (_OBJECT, _as_before("dependencies")),
    "propertyNames": (_OBJECT, _property_names),
    "properties": (_OBJECT, _properties),  # with `patternProperties` and `additionalProperties`
    "unevaluatedProperties": (_OBJECT, _as_before("unevaluatedProperties")),
    "anyOf": (_ANY, _any_of),
    "oneOf": (_ANY, _one_of),
    "not": (_ANY, _not),
    "if": (_ANY, _condition),
    "$ref": (_ANY, _as_before("$ref")),
    "$dynamicRef": (_ANY, _as_before("$dynamicRef")),
    "$recursiveRef": (_ANY, _as_before("$recursiveRef")),
}

_GROUPS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(_PROPERTIES, _PROPERTIES),
    **dict.fromkeys(_ITEMS, _ITEMS),
    **dict.fromkeys(_CONTAINS, _CONTAINS),
    **dict.fromkeys(_CONDITION, _CONDITION),
}
