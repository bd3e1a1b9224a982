"""What one schema accepts of another: against a real validator over made-up pairs, and case by case."""

import copy
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.contract.diff import diff
from bascule.contract.inclusion import narrowings
from bascule.contract.keywords import SchemaTree, joined
from bascule.contract.model import Contract
from bascule.contract.semver import Step

Json = Any
NAMES: Final = ["a", "b", "c"]
SCALARS: Final = [None, True, False, 0, 1, 1.0, 2, 3, 1.5, -1, "", "a", "b", "ab", "aaa"]
TYPES: Final = ["null", "boolean", "integer", "number", "string", "array", "object"]
OFTEN: Final = ["properties", "additionalProperties", "required", "anyOf", "oneOf", "allOf", "type", "enum", "items"]


class Maker:
    """Schemas and values from one seed: a hypothesis strategy for them spends its time on drawing."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)

    def value(self, depth: int = 2) -> Json:
        dice = self.pick.random()
        if depth == 0 or dice < 0.4:
            return self.pick.choice(SCALARS)
        if dice < 0.6:
            return [self.value(depth - 1) for _ in range(self.pick.randint(0, 3))]
        return {name: self.value(depth - 1) for name in self.pick.sample(NAMES, self.pick.randint(0, 3))}

    def schema(self, depth: int) -> Json:
        dice = self.pick.random()
        if depth == 0:
            return self.pick.choice(
                [True, False, {"type": self.pick.choice(TYPES)}, {"enum": [1, "a"]}, {"minimum": 1}]
            )
        if dice < 0.1:
            return dice < 0.05
        keywords = [self.pick.choice(OFTEN if self.pick.random() < 0.5 else KEYWORDS) for _ in range(4)]
        return {keyword: self.under(keyword, depth) for keyword in keywords[: self.pick.randint(1, 4)]}

    def under(self, keyword: str, depth: int) -> Json:
        pick = self.pick

        def inner() -> Json:
            return self.schema(max(depth - 1, 0))

        match keyword:
            case "type":
                return pick.choice(TYPES) if pick.random() < 0.6 else pick.sample(TYPES, pick.randint(1, 3))
            case "enum":
                return pick.sample(SCALARS, pick.randint(1, 4))
            case "const":
                return pick.choice(SCALARS)
            case "pattern":
                return pick.choice(["a", "^b"])
            case "uniqueItems":
                return pick.random() < 0.7
            case "multipleOf":
                return pick.randint(1, 3)
            case "required":
                return pick.sample(NAMES, pick.randint(1, 2))
            case "properties":
                return {name: inner() for name in pick.sample(NAMES, pick.randint(1, 3))}
            case "patternProperties":
                return {pick.choice(["^a", "b|c"]): inner()}
            case "propertyNames":
                return pick.choice([{"enum": ["a", "b"]}, {"maxLength": 0}, {"pattern": "a"}])
            case "dependentRequired":
                return {pick.choice(NAMES): pick.sample(NAMES, 1)}
            case "dependentSchemas":
                return {pick.choice(NAMES): inner()}
            case "anyOf" | "oneOf" | "allOf" | "prefixItems":
                return [inner() for _ in range(pick.randint(1, 3))]
            case "$ref":
                return "#/$defs/x"
            case _ if keyword in COUNTS:
                return pick.randint(0, 3)
        return inner()

    def pair(self) -> tuple[Json, Json]:
        """Two schemas that have much in common: the second is the first after a few edits."""
        a: Json = {"$defs": {"x": self.schema(1)}, **{keyword: self.under(keyword, 2) for keyword in self.some()}}
        b = copy.deepcopy(a)
        for _ in range(self.pick.randint(1, 3)):
            place = self.pick.choice(list(objects(b)))
            if place and self.pick.random() < 0.4:
                place.pop(self.pick.choice(sorted(place)))
            else:
                keyword = self.pick.choice(self.some())
                place[keyword] = self.under(keyword, 1)
        return a, b

    def some(self) -> list[str]:
        return [self.pick.choice(OFTEN if self.pick.random() < 0.5 else KEYWORDS) for _ in range(3)]


COUNTS: Final = [
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "minContains"),
]
KEYWORDS: Final = [
    *COUNTS,
    *OFTEN,
    *("const", "pattern", "uniqueItems", "multipleOf", "patternProperties", "propertyNames", "dependentRequired"),
    *("dependentSchemas", "prefixItems", "contains", "unevaluatedProperties", "unevaluatedItems", "not", "$ref"),
    *("if", "then", "else"),
]


def objects(node: Json) -> Iterator[dict[str, Json]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects(inner)


def validator(schema: Json) -> "Callable[[Json], bool] | None":
    """None for what is no schema, or refers to nothing."""
    try:
        return jsonschema_rs.validator_for(schema).is_valid
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return None


def speaks_of(schema: Json, *, of_any: bool) -> Callable[[str], bool]:
    """Whether a schema says anything of the value at a path: by its name, or also (*of_any*) of any name."""
    paths = [path for path in SchemaTree(schema).values() if of_any or "*" not in path]
    said = [re.escape(path).replace(r"\*", r"[^.\[]+") for path in paths]
    pattern = re.compile("|".join(f"(?:{each})" for each in said))
    return lambda path: pattern.fullmatch(path) is not None


def uses_what_is_new(value: Json, old: Callable[[str], bool], new: Callable[[str], bool], path: str = "") -> bool:
    """Whether *value* has a property that only the *new* schema speaks of: the one liberty that is taken."""
    if isinstance(value, list):
        return any(uses_what_is_new(inner, old, new, joined(path, "[]")) for inner in value)
    if not isinstance(value, dict):
        return False
    here = {joined(path, name): inner for name, inner in value.items()}
    return any((new(at) and not old(at)) or uses_what_is_new(inner, old, new, at) for at, inner in here.items())


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_not_narrower_accepts_every_value_that_was_accepted(seed: int) -> None:
    maker = Maker(seed)
    for a, b in (maker.pair() for _ in range(3)):
        accepted, accepts = validator(a), validator(b)
        if accepted is None or accepts is None or narrowings(a, b):
            continue
        old, new = speaks_of(a, of_any=False), speaks_of(b, of_any=True)
        for value in (maker.value() for _ in range(20)):
            if accepted(value) and not uses_what_is_new(value, old, new):
                assert accepts(value), (a, b, value)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_arguments_that_were_right_are_right_after_a_change_that_is_not_major(seed: int) -> None:
    maker = Maker(seed)
    a, b = maker.pair()
    accepted, accepts = validator(a), validator(b)
    if accepted is None or accepts is None:
        return
    changes = diff(Contract(id="a/get_b", input_schema=a), Contract(id="a/get_b", input_schema=b))
    if any(change.step is Step.MAJOR for change in changes):
        return
    old, new = speaks_of(a, of_any=False), speaks_of(b, of_any=True)
    for value in (maker.value() for _ in range(20)):
        if accepted(value) and not uses_what_is_new(value, old, new):
            assert accepts(value), (a, b, value)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_is_narrower_than_itself(seed: int) -> None:
    schema = Maker(seed).pair()[0]
    assert narrowings(schema, copy.deepcopy(schema)) == []


NOTE: Final = {"type": "object", "properties": {"text": {"type": "string"}}}
TREE: Final = {
    "$ref": "#/$defs/t",
    "$defs": {
        "t": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/t"}}},
        }
    },
}
WIDER_TREE: Final = copy.deepcopy(TREE)
WIDER_TREE["$defs"]["t"]["properties"]["v"]["type"] = "number"  # type: ignore[index]  # a literal above


def kinds(*names: str) -> Json:
    """Alternatives that a property `kind` tells apart."""
    return {
        "oneOf": [{"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"]} for name in names]
    }


def properties(**each: Json) -> Json:
    return {"type": "object", "properties": each}


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ({"type": "integer"}, {"type": "number"}),
        ({"type": "string"}, {"type": ["string", "null"]}),
        ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "integer"}]}),
        ({"enum": ["a", "b"]}, {"enum": ["a", "b", "c"]}),
        ({"enum": ["a", "b"]}, {"type": "string", "maxLength": 1}),
        ({"const": 1}, {"enum": [1.0, 2]}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "number", "minimum": 1}),
        ({"type": "integer", "multipleOf": 6}, {"type": "integer", "multipleOf": 3}),
        ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 9}),
        ({"type": "array", "maxItems": 2}, {"type": "array"}),
        ({"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": {"type": "number"}}),
        ({**NOTE, "required": ["text"]}, NOTE),
        ({**NOTE, "required": ["text"]}, {**NOTE, "minProperties": 1}),
        ({**NOTE, "additionalProperties": False}, NOTE),
        ({**NOTE, "additionalProperties": False}, {**NOTE, "propertyNames": {"maxLength": 4}}),
        (TREE, WIDER_TREE),
        (kinds("a", "b"), kinds("a", "b", "c")),
        (properties(x={"$ref": "#/$defs/n"}) | {"$defs": {"n": {"minimum": 1}}}, properties(x={"minimum": 0})),
        ({"allOf": [{"type": "string"}, {"minLength": 2}]}, {"type": "string", "minLength": 1}),
        ({"type": "integer", "not": {"const": 3}}, {"type": "integer"}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "object"}),
        (
            {"type": "object", "additionalProperties": {"const": 1}},
            {"type": "object", "additionalProperties": {"type": "integer"}},
        ),
    ],
)
def test_knows_the_wider_of_two(narrow: Json, wide: Json) -> None:
    assert narrowings(narrow, wide) == []
    assert narrowings(wide, narrow) != []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"const": 1}, {"const": True}),
        ({"enum": [False]}, {"enum": [0]}),
        (
            {"type": "object", "unevaluatedProperties": False},
            {"type": "object", "unevaluatedProperties": False, "title": ""},
        ),
        ({"$ref": "https://elsewhere.example/a"}, {"$ref": "https://elsewhere.example/a", "type": "string"}),
        (
            {"$ref": "#/$defs/x", "$defs": {"x": {"type": "number"}}},
            {"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}},
        ),
        ({"oneOf": [{"minimum": 1}]}, {"oneOf": [{"minimum": 1}, {"maximum": 9}]}),
        ({"anyOf": [{"$ref": "#"}, {"type": "string"}]}, {"anyOf": [{"$ref": "#"}, {"type": "integer"}]}),
    ],
)
def test_claims_nothing_that_it_cannot_know(a: Json, b: Json) -> None:
    assert narrowings(a, b)


def test_a_property_may_be_added_where_others_were_let_pass() -> None:
    assert narrowings(NOTE, properties(text={"type": "string"}, mark={"type": "integer"})) == []
    open_by_intent = {**NOTE, "additionalProperties": True}
    assert [each.path for each in narrowings(open_by_intent, properties(mark={"type": "integer"}))] == ["mark"]


def test_says_where_and_what() -> None:
    a = properties(order=properties(items={"type": "array", "items": properties(price={"maximum": 1000})}))
    b = properties(order=properties(items={"type": "array", "items": properties(price={"maximum": 100})}))
    (found,) = narrowings(a, b)
    assert (found.path, found.keyword, found.before, found.after) == ("order.items[].price", "maximum", 1000, 100)


def test_an_intricate_schema_takes_no_longer_than_it_may() -> None:
    node: Json = {"type": "integer"}
    for number in range(12):
        node = {"anyOf": [properties(a=node), properties(b=node), {"const": number}]}
    wide = copy.deepcopy(node)
    assert narrowings(node, wide) == []
    wide["anyOf"].pop()
    assert narrowings(node, wide)
