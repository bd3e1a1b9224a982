"""Schemas that would fetch, loop or explode are refused at once; problems are said so that a model can mend them."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec
import pytest

from bascule.contract.validation import graph as expansion
from bascule.contract.validation import patterns, work
from bascule.contract.validation.schema import (
    Unfit,
    Validator,
    arguments_message,
    compile_schema,
    guard,
    result_message,
)

Schema: TypeAlias = dict[str, Any]

SOON_S = 2.0  # generous: the machine of the tests may be busy; what is refused late takes minutes or never ends


def reason(schema: object) -> str:
    """Why *schema* is refused, which must be known soon."""
    started_s = time.perf_counter()
    unfit = guard(schema)
    assert time.perf_counter() - started_s < SOON_S
    assert unfit is not None
    with pytest.raises(Unfit, match=r".+"):
        compile_schema(schema)
    return str(unfit)


def said(schema: Schema, value: Any) -> list[tuple[str, str]]:
    return [(each["path"], each["problem"]) for each in compile_schema(schema).problems(value)]


def nested(levels: int, around: Callable[[Any], Any], inner: Any) -> Any:
    for _ in range(levels):
        inner = around(inner)
    return inner


def doubling(levels: int) -> Schema:
    """A few hundred bytes that expand to 2 ** levels schemas."""
    steps = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**steps, f"d{levels}": {"type": "string"}}}


def seeing(levels: int) -> Schema:
    """Schemas that ask all inner ones again what they have evaluated."""
    schema: Schema = nested(
        levels, lambda s: {"allOf": [s], "unevaluatedProperties": {"type": "integer"}}, {"properties": {"z": {}}}
    )
    return schema


TREE: Schema = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}
BRANCHING: Schema = {
    "$ref": "#/$defs/n",
    "$defs": {
        "n": {"anyOf": [{"type": ["array", "null"], "items": {"$ref": "#/$defs/n"}, "maxItems": i} for i in (8, 9)]}
    },
}


# ---- schemas that are refused


@pytest.mark.parametrize("schema", [None, True, 1, "x", [], [{}], 1e308], ids=repr)
def test_what_is_no_object_is_no_schema(schema: object) -> None:
    assert "a schema is a JSON object" in reason(schema)


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$recursiveRef"])
@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/x",
        "https://a.test/s.json#/x",
        "file:///etc/passwd",
        "other.json",
        "//a.test/x",
        "urn:x:y",
    ],
)
def test_a_reference_out_of_the_document_is_never_followed(keyword: str, target: str) -> None:
    assert "leaves the document" in reason({"type": "object", "properties": {"a": {keyword: target}}})
    assert "leaves the document" in reason({"$id": "https://b.test/root", "$defs": {"unused": {keyword: target}}})


def test_a_reference_to_the_documents_own_id_is_one_to_the_document() -> None:
    schema = {
        "$id": "https://b.test/s",
        "properties": {"a": {"$ref": "https://b.test/s#/$defs/x"}},
        "$defs": {"x": {"type": "null"}},
    }
    assert said(schema, {"a": 1}) == [("/a", "must be null, not an integer")]


def test_a_nested_id_that_changes_what_references_mean_is_refused() -> None:
    assert "nested $id" in reason({"$defs": {"a": {"$id": "http://a.test/", "items": {"$ref": "#/x"}}}})
    assert "nested $id" in reason(
        {"properties": {"p": {"$ref": "#/$defs/a/items"}}, "$defs": {"a": {"$id": "x", "items": {"$ref": "#"}}}}
    )
    assert guard({"properties": {"id": {"type": "string"}, "$id": {"$ref": "#/properties/id"}}}) is None
    assert guard({"$defs": {"a": {"$id": "http://a.test/", "type": "string"}}}) is None


@pytest.mark.parametrize(
    "target", ["#/$defs/none", "#/properties/a/0", "#nowhere", "#/items/00", "#/items/\u0660", "#/items/9"]
)
def test_a_reference_to_nothing_is_refused(target: str) -> None:
    assert "refers to" in reason({"properties": {"a": {"$ref": target}}, "items": [{"type": "null"}]})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": ""},
        {"$recursiveRef": "#"},
        {"$dynamicRef": "#me", "$dynamicAnchor": "me"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        *(
            {"$ref": "#/$defs/a", "$defs": {"a": {keyword: shape}}}
            for keyword, shape in [
                *((keyword, [{"type": "null"}, {"$ref": "#/$defs/a"}]) for keyword in ("allOf", "anyOf", "oneOf")),
                *((keyword, {"$ref": "#/$defs/a"}) for keyword in ("not", "if", "then", "else")),
                ("dependentSchemas", {"x": {"$ref": "#/$defs/a"}}),
                ("dependencies", {"x": {"$ref": "#/$defs/a"}}),
            ]
        ),
        {"properties": {"unused": {"$ref": "#/properties/unused"}}},
    ],
    ids=lambda schema: msgspec.json.encode(schema).decode()[:60],
)
def test_a_reference_that_only_leads_back_to_itself_is_refused(schema: Schema) -> None:
    assert "leads back to itself" in reason(schema)


@pytest.mark.parametrize(
    "through", [{"properties": {"x": {"$ref": "#"}}}, {"items": {"$ref": "#"}}, {"additionalProperties": {"$ref": "#"}}]
)
def test_a_reference_back_through_the_value_is_fine(through: Schema) -> None:
    assert guard(through) is None
    assert said(TREE, {"name": "a", "children": [{"name": "b"}]}) == []


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (doubling(22), "judge one value"),
        ({"anyOf": [{"anyOf": [{"anyOf": [{"type": "null"}] * 20}] * 20}] * 20}, "judge one value"),
        ({"oneOf": [{"anyOf": [{"not": {}} for _ in range(60)]} for _ in range(60)]}, "more than"),
        (seeing(30), "judge one value"),
        ({"anyOf": [{"properties": {f"p{i}": {}}} for i in range(2000)], "unevaluatedProperties": False}, "more than"),
        (nested(500, lambda s: {"items": s}, {}), "deeper than 64"),
        (nested(100_000, lambda s: {"not": s}, {}), "deeper than 64"),
        ({"default": nested(100_000, lambda v: [v], 1)}, "deeper than 64"),
        ({"enum": list(range(1_000_000))}, "more than"),
        ({"enum": list(range(10_001))}, "enum of 10,001"),
        ({"description": "x" * 300_000}, "larger than 256 KiB"),
        ({"x" * 300_000: 1}, "larger than 256 KiB"),
        ({"anyOf": [{} for _ in range(50_000)]}, "more than"),
        ({"pattern": "a" * 5_000}, "a pattern of 5,000"),
        ({"pattern": "a{1000}{1000}{1000}"}, "repeat too much"),
        ({"properties": {"a": {"pattern": "((a{100}){100}){100}"}}}, "repeat too much"),
        ({"patternProperties": {f"a{i}": {} for i in range(1_001)}}, "patterns"),
        ({"allOf": [{"pattern": "[" * 4_000} for _ in range(60)]}, "patterns"),
        ({"$ref": "#" + "/a" * 100_000}, "longer than"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, "two anchors"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_a_schema_that_explodes_is_refused_before_it_does(schema: Schema, why: str) -> None:
    assert why in reason(schema)


def test_a_long_row_of_schemas_for_one_value_is_refused_since_the_library_recurses() -> None:
    row = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(900)}
    assert "in a row" in reason({"$ref": "#/$defs/d0", "$defs": {**row, "d900": {}}})


def test_recursion_that_cannot_be_counted_soon_is_refused() -> None:
    everyone = {f"k{j}": {"$ref": f"#/$defs/d{j}", "maxItems": j} for j in range(38)}
    defs = {
        f"d{i}": {"properties": everyone if i % 2 else {"a": {"$ref": "#/$defs/d1"}}, "items": {"$ref": "#/$defs/d0"}}
        for i in range(38)
    }
    many = {
        f"e{i}": {"items": {"$ref": f"#/$defs/e{i + 1}"}, "contains": {"$ref": f"#/$defs/e{i // 2}"}}
        for i in range(800)
    }
    schema = {"$ref": "#/$defs/e0", "$defs": {**defs, **many, "e800": {"$ref": "#/$defs/e0"}}}
    started_s = time.perf_counter()
    guard(schema)
    assert time.perf_counter() - started_s < SOON_S


@pytest.mark.parametrize(
    "dialect",
    ["http://evil.test/dialect", "https://json-schema.org/draft/2099-01/schema", "", "draft-07", 7, ["x"], {}],
)
def test_an_unknown_dialect_is_refused_and_not_fetched(dialect: object) -> None:
    assert "unsupported dialect" in reason({"$schema": dialect, "type": "object"})
    assert "unsupported dialect" in reason({"properties": {"a": {"$schema": dialect}}})


@pytest.mark.parametrize(
    ("dialect", "schema", "value"),
    [
        ("https://json-schema.org/draft/2020-12/schema", {"prefixItems": [{"type": "null"}]}, [1]),
        ("https://json-schema.org/draft/2019-09/schema", {"items": [{"type": "null"}]}, [1]),
        ("http://json-schema.org/draft-07/schema#", {"if": {"type": "array"}, "then": {"maxItems": 0}}, [1]),
        ("https://json-schema.org/draft-07/schema", {"items": [{"type": "null"}]}, [1]),
        ("http://json-schema.org/draft-06/schema#", {"contains": {"type": "null"}}, [1]),
        ("http://json-schema.org/draft-04/schema#", {"items": {"minimum": 1, "exclusiveMinimum": True}}, [1]),
    ],
)
def test_a_schema_means_what_its_dialect_says(dialect: str, schema: Schema, value: Any) -> None:
    validator = compile_schema({"$schema": dialect, **schema})
    assert validator.problems(value)
    assert not validator.problems([]) or "contains" in schema


def test_without_a_dialect_a_schema_is_2020_12() -> None:
    assert said({"prefixItems": [{"type": "null"}]}, [1]) == [("/0", "must be null, not an integer")]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strin"}, "/type must be one of"),
        ({"properties": {"a": {"type": 3}}}, "/properties/a/type"),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern must be a regular expression"),
        ({"required": "a"}, "/required must be an array, not a string"),
        ({"minimum": "1"}, "/minimum must be a number"),
        ({"$ref": 5}, "/$ref must be a string"),
        ({"properties": []}, "/properties must be an object"),
    ],
)
def test_what_is_no_valid_schema_is_refused_with_the_place(schema: Schema, why: str) -> None:
    with pytest.raises(Unfit, match="not a valid schema") as caught:
        compile_schema(schema)
    assert why in str(caught.value)


def test_a_reason_shows_little_of_the_schema_and_nothing_that_a_terminal_obeys() -> None:
    text = reason({"$ref": "http://\x1b[2J\u202e" + "x" * 500})
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < 400


# ---- schemas that servers really send

FASTMCP: Schema = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What to look for", "minLength": 1},
        "limit": {"type": "integer", "default": 10, "minimum": 1, "maximum": 100, "title": "Limit"},
        "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
        "since": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "default": None},
    },
    "required": ["query"],
    "title": "searchArguments",
}
ZOD: Schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "edits": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"oldText": {"type": "string"}, "newText": {"type": "string"}},
                "required": ["oldText", "newText"],
                "additionalProperties": False,
            },
        },
        "dryRun": {"type": "boolean", "default": False},
        "mode": {"type": ["string", "null"], "enum": ["fast", "safe", None]},
        "same": {"$ref": "#/properties/path"},
    },
    "required": ["path", "edits"],
    "additionalProperties": False,
}
DISCRIMINATED: Schema = {
    "$defs": {
        "Cat": {
            "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer"}},
            "required": ["kind", "lives"],
            "type": "object",
        },
        "Dog": {
            "properties": {"kind": {"const": "dog", "type": "string"}, "name": {"type": "string"}},
            "required": ["kind", "name"],
            "type": "object",
        },
    },
    "properties": {
        "pet": {
            "discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "kind"},
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        }
    },
    "required": ["pet"],
    "type": "object",
}
FILTER: Schema = {
    "$defs": {
        "Filter": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"and": {"type": "array", "items": {"$ref": "#/$defs/Filter"}}},
                    "required": ["and"],
                },
                {
                    "type": "object",
                    "properties": {"or": {"type": "array", "items": {"$ref": "#/$defs/Filter"}}},
                    "required": ["or"],
                },
                {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "equals": {}},
                    "required": ["field", "equals"],
                },
            ]
        }
    },
    "type": "object",
    "properties": {"filter": {"$ref": "#/$defs/Filter"}, "page_size": {"type": "integer"}},
}
ANY_JSON: Schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "definitions": {
        "Json": {
            "anyOf": [
                {"type": ["string", "number", "boolean", "null"]},
                {"type": "array", "items": {"$ref": "#/definitions/Json"}},
                {"type": "object", "additionalProperties": {"$ref": "#/definitions/Json"}},
            ]
        }
    },
    "type": "object",
    "properties": {"value": {"$ref": "#/definitions/Json"}},
}
REAL: Mapping[str, tuple[Schema, Any]] = {
    "fastmcp": (FASTMCP, {"query": "x", "limit": 3, "tags": None, "since": "2026-11-20T19:00:00Z"}),
    "zod": (ZOD, {"path": "/a", "edits": [{"oldText": "a", "newText": "b"}], "mode": None, "same": "x"}),
    "pydantic, discriminated": (DISCRIMINATED, {"pet": {"kind": "dog", "name": "Rex"}}),
    "filter": (FILTER, {"filter": nested(6, lambda f: {"and": [f, {"or": [f]}]}, {"field": "a", "equals": 1})}),
    "any JSON": (ANY_JSON, {"value": nested(50, lambda v: {"a": [v]} if isinstance(v, int) else [v, None], 1)}),
    "tree": (TREE, {"name": "a", "children": [{"name": "b", "children": []}]}),
    "no arguments": ({"type": "object"}, {}),
    "no arguments, said so": ({"type": "object", "properties": {}, "additionalProperties": False}, {}),
    "no schema at all": ({}, {"anything": [1]}),
    "typescript, by hand": (
        {"type": "object", "properties": {"repo": {"pattern": "^[\\w.-]+/[\\w.-]+$"}}, "required": ["repo"]},
        {"repo": "a/b"},
    ),
    "a look-ahead": (
        {"type": "object", "properties": {"secret": {"type": "string", "pattern": "^(?=.*[A-Z])(?=.*\\d).{8,}$"}}},
        {"secret": "Abcdefg1"},
    ),
    "not blank": ({"type": "object", "properties": {"text": {"pattern": "^(?!\\s*$).+"}}}, {"text": "x" * 50_000}),
    "go struct": (
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://example.test/args",
            "$ref": "#/$defs/Args",
            "$defs": {"Args": {"properties": {"n": {}}, "additionalProperties": False, "type": "object"}},
        },
        {"n": 1},
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": "^[a-z]+$"}},
        {"a": "b"},
    ),
    "conditions": (
        {
            "type": "object",
            "properties": {"kind": {"enum": ["url", "file"]}},
            "allOf": [{"if": {"properties": {"kind": {"const": "url"}}}, "then": {"required": ["url"]}}],
            "dependentRequired": {"user": ["password"]},
            "unevaluatedProperties": True,
        },
        {"kind": "file"},
    ),
    "openapi words": (
        {"type": "object", "properties": {"a": {"nullable": True, "example": "x", "x-order": 1, "format": "int64"}}},
        {"a": "b"},
    ),
    "mirrored": ({"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "R"}}}, {"r": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_what_servers_really_send_is_usable(name: str) -> None:
    schema, value = REAL[name]
    validator = compile_schema(schema)
    assert not validator.problems(value)
    assert not validator.problems(value, len(msgspec.json.encode(value)))
    assert validator.problems([value]) or schema == {}


# ---- what is said

HOLDS_ALL: Schema = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"required": ["sku"], "properties": {"sku": {}, "n": {"type": "integer"}}}},
        "size": {"enum": ["S", "M", "L", 4, None]},
        "price": {"minimum": 1, "exclusiveMaximum": 100.5},
        "step": {"multipleOf": 0.5, "maximum": 3, "exclusiveMinimum": 0},
        "name": {"type": ["string", "null"], "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
        "when": {"format": "date-time"},
        "many": {"minItems": 1, "maxItems": 2, "uniqueItems": True},
        "bag": {"minProperties": 1, "maxProperties": 2, "propertyNames": {"maxLength": 3}},
        "fixed": {"const": {"a": [1]}},
        "never": False,
        "other": {"not": {"type": "string"}},
        "has": {"contains": {"type": "string"}},
        "held": {"contains": {"type": "string"}, "maxContains": 2},
        "pair": {"prefixItems": [{}], "unevaluatedItems": False},
        "known": {"properties": {"a": {}}, "unevaluatedProperties": False},
        "either": {"oneOf": [{"type": "integer"}, {"minimum": 2}]},
        "list": {"type": "array"},
        "unit": {},
    },
    "dependentRequired": {"size": ["unit"]},
    "additionalProperties": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], [("", "must be an object, not an array")]),
        ({"items": [{"sku": 1}, {}]}, [("/items/1/sku", "is required")]),
        ({"items": [{"sku": 1, "n": 1.5}]}, [("/items/0/n", "must be an integer, not a number with a fraction")]),
        ({"size": "XL", "unit": 1}, [("/size", 'must be one of "S", "M", "L", 4, null')]),
        ({"size": "S"}, [("/unit", "is required")]),
        ({"price": 0}, [("/price", "must be at least 1")]),
        ({"price": 100.5}, [("/price", "must be less than 100.5")]),
        ({"step": 3.5}, [("/step", "must be at most 3")]),
        ({"step": 0}, [("/step", "must be more than 0")]),
        ({"step": 0.7}, [("/step", "must be a multiple of 0.5")]),
        ({"name": "a"}, [("/name", "must have at least 2 characters")]),
        ({"name": "abcdef"}, [("/name", "must have at most 5 characters")]),
        ({"name": "AB"}, [("/name", "must match the pattern ^[a-z]+$")]),
        ({"name": True}, [("/name", "must be null or a string, not true or false")]),
        ({"when": "yesterday"}, [("/when", "must be a date and time such as 2026-11-20T19:00:00Z")]),
        ({"many": []}, [("/many", "must have at least 1 item")]),
        ({"many": [1, 1, 2]}, [("/many", "must have at most 2 items"), ("/many", "must not hold the same item twice")]),
        ({"bag": {}}, [("/bag", "must have at least 1 member")]),
        ({"bag": {"a": 1, "b": 1, "c": 1}}, [("/bag", "must have at most 2 members")]),
        ({"bag": {"long": 1}}, [("/bag", "has a member whose name must have at most 3 characters")]),
        ({"fixed": 0}, [("/fixed", 'must be {"a":[1]}')]),
        ({"never": 0}, [("/never", "is not allowed here")]),
        ({"other": "s"}, [("/other", 'must not fit {"type":"string"}')]),
        ({"has": [1]}, [("/has", "must hold an item of the kind that `contains` describes")]),
        ({"held": ["a", "b", "c"]}, [("/held", "must hold at most 2 items of the kind that `contains` describes")]),
        ({"pair": [1, 2]}, [("/pair", "holds more items than are known here")]),
        ({"known": {"a": 1, "b": 2}}, [("/known/b", "is not known here; known: a")]),
        ({"either": 3}, [("/either", "fits more than one of the alternatives, and must fit exactly one")]),
        ({"list": "[1]"}, [("/list", "must be an array, not a string; send it as JSON, not as text that holds JSON")]),
    ],
    ids=lambda each: str(each)[:40] if isinstance(each, dict) else "",
)  # fmt: skip
def test_a_problem_says_where_it_is_and_what_was_asked_for(value: Any, expected: list[tuple[str, str]]) -> None:
    assert sorted(said(HOLDS_ALL, value)) == sorted(expected)


def test_an_unknown_member_is_named_beside_those_that_are_known() -> None:
    assert said(ZOD, {"path": "a", "edits": [], "dry_run": True}) == [
        ("/dry_run", "is not known here; known: path, edits, dryRun, mode, same")
    ]


def test_of_alternatives_the_one_that_was_meant_is_explained() -> None:
    assert said(FASTMCP, {"query": "a", "tags": [1]}) == [("/tags/0", "must be a string, not an integer")]
    assert said(FASTMCP, {"query": "a", "tags": 3}) == [("/tags", "must be an array or null, not an integer")]
    assert said(DISCRIMINATED, {"pet": {"kind": "dog"}}) == [("/pet/name", "is required")]
    assert said(DISCRIMINATED, {"pet": {"kind": "cow"}}) == [("/pet/kind", 'must be one of "cat", "dog"')]
    assert said(FILTER, {"filter": {"and": [{"field": 1, "equals": 2}]}}) == [
        ("/filter/and/0/field", "must be a string, not an integer")
    ]


def test_at_most_ten_problems_are_listed_and_none_of_them_twice() -> None:
    assert len(said({"items": {"type": "string"}}, list(range(50)))) == 10
    assert said({"allOf": [{"type": "string"}, {"type": "string"}]}, 1) == [("", "must be a string, not an integer")]


SECRET = "hunter2-0451"


@pytest.mark.parametrize(
    "schema",
    [
        *({"type": "integer"}, {"enum": [1]}, {"const": 1}, {"pattern": "^x$"}, {"format": "uri"}, {"maxLength": 3}),
        *({"not": {}}, {"anyOf": [{"type": "integer"}, {"maxLength": 1}]}, {"oneOf": [{}, {}]}, {"allOf": [False]}),
        *({"if": {}, "then": {"const": 2}}, {"minLength": 99}, {"format": "regex", "maxLength": 2}),
        {"$ref": "#/$defs/a"},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_is_never_repeated(schema: Schema) -> None:
    around: Schema = {"items": schema, "properties": {"a": schema}, "unevaluatedItems": False}
    around["$defs"] = {"a": {"type": "null"}}
    for value in ([SECRET], {"a": SECRET}):
        problems = compile_schema(around).problems(value)
        assert problems
        assert SECRET not in arguments_message(problems)
    more_items = compile_schema({"prefixItems": [{}], "unevaluatedItems": False}).problems([1, SECRET])
    assert SECRET not in arguments_message(more_items)


def test_names_and_words_of_strangers_are_cleaned_and_capped() -> None:
    hostile = "\x1b[2J\u202e\n" + "x" * 5_000
    problems = compile_schema(
        {"properties": {"a": {"enum": [hostile]}}, "additionalProperties": {"const": hostile}}
    ).problems({"a": 1, hostile: 1, "~/": 1, "": {"": 1}})
    assert {each["path"] for each in problems} >= {"/a", "/~0~1"}
    assert all(each["path"].isprintable() and each["problem"].isprintable() for each in problems)
    assert all(len(each["path"]) < 500 and len(each["problem"]) < 500 for each in problems)


@pytest.mark.parametrize("number", [2**64, -(2**63), 2**80, 10**300, 1e308, -1e308, 5e-324, -0.0], ids=repr)
def test_numbers_of_any_size_are_judged(number: float) -> None:
    assert said({"type": "number"}, number) == []
    assert said({"type": "string"}, number)[0][0] == ""
    assert said({"maximum": number}, number) == []
    assert len(said({"enum": ["x"], "const": number, "not": {"minimum": -(10**400)}}, number)) == 2


def test_what_is_no_json_is_a_problem_and_no_crash() -> None:
    assert said({"type": "object"}, b"x") == [("", "holds something that is not JSON")]
    assert said({"type": "string"}, "\ud800") == [("", "holds something that is not JSON")]


def test_the_message_is_one_text_for_a_model() -> None:
    problems = compile_schema(ZOD).problems({"edits": [{"oldText": "a"}]})
    assert arguments_message(problems) == (
        "The arguments do not fit the tool's input schema. Correct them and call again:\n"
        "- /path: is required\n"
        "- /edits/0/newText: is required"
    )
    assert "- The arguments as a whole: must be an object" in arguments_message(compile_schema(ZOD).problems(None))


def test_the_message_about_a_result_is_one_line_for_a_person() -> None:
    assert (
        result_message(compile_schema(ZOD).problems({"path": 1, "edits": []}))
        == "/path: must be a string, not an integer"
    )
    assert result_message(compile_schema(ZOD).problems(None)) == "the result as a whole: must be an object, not null"


# ---- values that would take too long


def too_long(validator: Validator, value: Any) -> bool:
    started_s = time.perf_counter()
    problems = validator.problems(value, len(msgspec.json.encode(value)))
    assert problems == validator.problems(value)
    assert time.perf_counter() - started_s < SOON_S
    return [each["problem"] for each in problems] == [
        "is too large or too deeply nested to be checked; send less at a time"
    ]


def test_a_message_of_full_size_is_checked_against_an_ordinary_schema() -> None:
    schema = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    validator = compile_schema({"properties": {"rows": schema, "blob": {"type": "string"}}})
    assert validator.free_bytes > 4 << 20
    assert not validator.problems({"rows": [{"a": 1}] * 100_000, "blob": "x" * 1_000_000}, 4 << 20)


def test_recursion_is_checked_however_deep_since_the_library_remembers() -> None:
    validator = compile_schema(BRANCHING)
    assert not too_long(validator, nested(60, lambda v: [v], None))
    components = [{"properties": {"kind": {"const": i}, "in": {"items": {"$ref": "#/$defs/c"}}}} for i in range(20)]
    screen = compile_schema({"$ref": "#/$defs/c", "$defs": {"c": {"oneOf": components}}})
    value = nested(25, lambda v: {"kind": 1, "in": [v, {"kind": 2}]}, {"kind": 3})
    started_s = time.perf_counter()
    assert not screen.problems(value)
    assert time.perf_counter() - started_s < SOON_S


def test_alternatives_that_branch_at_each_level_are_checked_as_deep_as_time_allows() -> None:
    # No reference leads back, so nothing is remembered: 2 ** 50 evaluations.
    either = {f"d{i}": {"anyOf": [{"items": {"$ref": f"#/$defs/d{i + 1}"}}] * 2} for i in range(50)}
    validator = compile_schema({"$ref": "#/$defs/d0", "$defs": {**either, "d50": {"type": "null"}}})
    assert not too_long(validator, nested(15, lambda v: [v], []))
    assert too_long(validator, nested(50, lambda v: [v], 1))


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "(a*)*b", "^(a|aa)+$", "(?=(a+)+$)a*b$", "^(a+)+\\1$", "(?:(?:a?){30}){30}b", "(.*)*x"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    validator = compile_schema({"pattern": pattern})
    started_s = time.perf_counter()
    assert validator.problems("a" * 40 + "!")
    assert validator.problems("a" * 500 + "!")
    validator.problems("a" * (1 << 20) + "!")
    assert time.perf_counter() - started_s < SOON_S


def test_a_pattern_that_repeats_is_not_tried_on_what_is_long() -> None:
    validator = compile_schema({"properties": {"a": {"pattern": "(?:[01]{1,60}){60}2"}}})  # two minutes for one MiB
    assert too_long(validator, {"a": "01" * (1 << 19)})
    assert said({"properties": {"a": {"pattern": "(?:[01]{1,60}){60}2"}}}, {"a": "01"})[0][0] == "/a"


@pytest.mark.parametrize("name", ["regex", "uri", "email", "hostname", "idn-hostname", "uri-template", "date-time"])
@pytest.mark.parametrize("text", ["(", "é", "a.", "{a}", "http://a/%41"])
def test_a_mebibyte_under_a_format_is_soon_refused_or_accepted(name: str, text: str) -> None:
    validator = compile_schema({"format": name})
    started_s = time.perf_counter()
    validator.problems(text * ((1 << 20) // len(text)), 1 << 20)
    assert time.perf_counter() - started_s < SOON_S


def test_options_that_are_objects_are_not_compared_with_thousands_of_items() -> None:
    validator = compile_schema({"items": {"enum": [{"a": i} for i in range(2_000)]}})
    assert validator.problems([{"a": 5}]) == ()
    assert too_long(validator, [{"a": 1_999}] * 5_000)


def test_what_is_asked_again_what_it_saw_is_bounded_too() -> None:
    assert too_long(compile_schema({"items": seeing(7)}), [{"z": 1, "q": 1}] * 5_000)


@pytest.mark.parametrize("kind", ["items", "not"])
def test_errors_are_not_collected_where_that_takes_long(kind: str) -> None:
    # is_valid remembers what it judged, iter_errors does not: nine levels took ten seconds.
    one = {"type": "object", "required": ["k"], "properties": {"a": {"$ref": "#/$defs/n"}}}
    branches = [{**one, "properties": {**one["properties"], "k": {"const": i}}} for i in range(4)]  # type: ignore[dict-item]  # a mixed dict
    validator = compile_schema({"$ref": "#/$defs/n", "$defs": {"n": {"oneOf": branches}}})
    value = nested(9, lambda v: {"k": 1, "a": v}, {"k": 9})
    started_s = time.perf_counter()
    assert validator.problems(value, 100)
    assert time.perf_counter() - started_s < SOON_S


def test_a_large_value_that_does_not_fit_is_not_copied_into_errors() -> None:
    validator = compile_schema({"required": ["x"], "allOf": [{"required": [f"y{i}"]} for i in range(20)]})
    problems = validator.problems({"k": [{"a": 1}] * 20_000}, 200_000)
    assert [each["problem"] for each in problems] == [
        "does not fit the schema, and is too large to say where; send less at a time"
    ]


# ---- estimates


@pytest.mark.parametrize(
    ("pattern", "states", "backtracks"),
    [
        *(("abc", 3, False), ("a{10}", 10, False), ("(a{10}b){5}", 55, False), ("a{10}{10}", 100, False)),
        *(("a{,3}", 5, False), ("a{2,}", 2, False), ("[a-z]{64}", 64, False), ("\\d{64}", 64, False)),
        *(("(?:ab){3}", 6, False), ("(?=a)b", 2, True), ("(?<!a)b", 2, True), ("(a)\\1", 2, True), ("\\\\1", 2, False)),
        *(("[(?=]", 1, False), ("", 0, False), ("(((", 0, False), (")))", 3, False), ("[a", 1, False)),
        *(("a{99999}{99999}{99999}", 10**12, False), ("\\p{L}{3}", 96, False)),
    ],
)  # fmt: skip
def test_the_states_of_a_pattern_are_counted(pattern: str, states: int, backtracks: bool) -> None:
    weight = patterns.weigh(pattern)
    assert weight.backtracks is backtracks
    assert states <= weight.states <= states * 2 + 4


@pytest.mark.parametrize(
    ("pattern", "linear"),
    [
        *(("^(?=.*a)(?!b)c", True), ("^(?!\\s*$).+", True), ("(?=a)b", False), ("^a(?=b)", False)),
        *(("^(?=a)b|(?=c)d", False), ("^(?:(?=a)b)+", False), ("^(?=(?=a)b)c", False), ("^(a)\\1", False)),
        ("^(?<=a)b", False),
    ],
)  # fmt: skip
def test_only_look_ahead_at_the_start_is_linear(pattern: str, linear: bool) -> None:
    weight = patterns.weigh(pattern)
    assert weight.backtracks
    assert (weight.per_char < 1_000) is linear


def test_work_is_counted_by_level() -> None:
    def levels(schema: Schema) -> list[int]:
        return list(work.work_of(expansion.graph_of(schema)).evaluations)

    assert levels({"type": "string"}) == [1]
    assert levels({"properties": {"a": {}, "b": {"items": {}}}}) == [1, 1, 1]
    assert levels({"anyOf": [{"properties": {"a": {}}}, {"additionalProperties": {}}]}) == [3, 2]
    assert levels({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}) == [4, 3]
    # What recurs costs the same at every level, once it has begun to.
    recurring = levels({"items": {"$ref": "#"}})
    assert len(recurring) == 65
    assert set(recurring[2:]) == {recurring[2]}
    assert max(levels(BRANCHING)) < 1_000


def test_what_an_error_may_cost_is_counted_without_memory() -> None:
    costs = work.work_of(expansion.graph_of(BRANCHING)).errors
    assert costs[20] > 2**20
