"""What one schema accepts of another: against a real validator, over generated pairs; and case by case."""

import copy
import re
from collections.abc import Callable
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from bascule.contract.inclusion import narrowings
from bascule.contract.schemas import Document, joined

Json = Any
NAMES: Final = st.sampled_from(["a", "b", "c"])
SCALARS: Final = st.sampled_from([None, True, False, 0, 1, 1.0, 2, 3, 1.5, -1, "", "a", "b", "ab", "aaa"])
SMALL: Final = st.integers(0, 3)
TYPES: Final = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def values() -> st.SearchStrategy[Json]:
    return st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
    )


def schemas() -> st.SearchStrategy[Json]:
    leaf = st.booleans() | st.fixed_dictionaries({"type": TYPES})
    return st.recursive(leaf, keywords, max_leaves=5)


def keywords(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    some = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "enum": st.lists(SCALARS, min_size=1, max_size=4),
            "const": SCALARS,
            **{name: SMALL for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
            **{name: SMALL for name in ("minLength", "maxLength", "minItems", "maxItems")},
            **{name: SMALL for name in ("minProperties", "maxProperties")},
            "multipleOf": st.integers(1, 3),
            "pattern": st.sampled_from(["a", "^b"]),
            "uniqueItems": st.booleans(),
            "items": inner,
            "prefixItems": some,
            "contains": inner,
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b|c"]), inner, max_size=1),
            "additionalProperties": inner,
            "propertyNames": st.sampled_from([{"enum": ["a", "b"]}, {"maxLength": 0}, {"pattern": "a"}]),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=1), max_size=1),
            "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
            "unevaluatedProperties": st.booleans(),
            "anyOf": some,
            "oneOf": some,
            "allOf": some,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "$ref": st.sampled_from(["#/$defs/x", "#/$defs/gone"]),
        },
    )


@st.composite
def documents(draw: st.DrawFn) -> Json:
    root = draw(schemas())
    return {**root, "$defs": {"x": draw(schemas())}} if isinstance(root, dict) else root


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Json, Json]:
    """Two schemas that have much in common: the second is the first after a few edits."""
    a = draw(documents())
    b = copy.deepcopy(a)
    for _ in range(draw(st.integers(1, 3))):
        places = list(objects(b))
        if not places:
            break
        place = draw(st.sampled_from(places))
        edits = draw(keywords(schemas()))
        for name in draw(st.lists(st.sampled_from(sorted(edits)), max_size=2)) if edits else ():
            place[name] = edits[name]
        if place and draw(st.booleans()):
            place.pop(draw(st.sampled_from(sorted(place))))
    return a, b


def objects(node: Json) -> Any:
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from objects(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from objects(inner)


def accepts(schema: Json, value: Json) -> bool:
    return jsonschema_rs.is_valid(schema, value)


def is_schema(schema: Json) -> bool:
    """Also that all its references lead somewhere."""
    try:
        jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return False
    return True


def speaks_of(schema: Json, *, of_any: bool) -> Callable[[str], bool]:
    """Whether a schema says anything of the value at a path: by its name, or also (*of_any*) of any name."""
    paths = [path for path in Document(schema).values() if of_any or "*" not in path]
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


@settings(max_examples=1500, deadline=None)
@given(pairs(), st.lists(values(), min_size=1, max_size=12))
def test_what_is_not_narrower_accepts_every_value_that_was_accepted(
    pair: tuple[Json, Json], tried: list[Json]
) -> None:
    a, b = pair
    assume(is_schema(a) and is_schema(b))
    if narrowings(a, b):
        event("narrower")
        return
    event("not narrower")
    old, new = speaks_of(a, of_any=False), speaks_of(b, of_any=True)
    for value in tried:
        if accepts(a, value) and not uses_what_is_new(value, old, new):
            assert accepts(b, value), value
