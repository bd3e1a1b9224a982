"""Any JSON as a schema, any JSON as a value: judged, soon, and as the library judges; never a crash."""

import time
from typing import Any, Final

import jsonschema_rs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bascule.contract.validation.schema import MAX_DEPTH, Unfit, arguments_message, compile_schema, guard

SOON_S: Final = 2.0  # of a busy machine

names = st.sampled_from(["a", "b", "c", "$ref", "type", "properties", "", "/", "~", "%41", "x" * 90, "é", "\u202e"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
).filter(lambda value: "\ud800" not in str(value))

targets = st.sampled_from(
    [
        *(
            "#",
            "",
            "#/$defs/a",
            "#/$defs/b",
            "#/$defs/c",
            "#/properties/a",
            "#/items",
            "#/anyOf/0",
            "#anchor",
            "#/enum/0",
        ),
        *(
            "http://127.0.0.1:9/x",
            "file:///etc/passwd",
            "#/%24defs/a",
            "#/$defs/~1",
            "other.json",
            "#/const",
            "#/$defs",
        ),
    ]
)
patterns = st.sampled_from(
    [
        *(
            "^a+$",
            "^(a+)+$",
            "(?=a)b",
            "(a)\\1",
            "[a-",
            "a{9999}{9999}",
            "^(?!x)a*$",
            "\\p{L}{3}",
            "(",
            "",
            "a|b",
            "^$",
        ),
        *("(?:(?:a?){20}){20}", "(?<!a)(?<=b)", "[[]]", "\\", "\\u0061", "{1}", "(?i)a", "a{2,1}"),
    ]
)
types = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"])
simple = st.fixed_dictionaries(
    {},
    optional={
        "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
        "enum": st.lists(scalars, min_size=1, max_size=4),
        "const": values,
        "minimum": st.integers(-5, 5),
        "maxLength": st.integers(0, 5),
        "minItems": st.integers(0, 3),
        "required": st.lists(names, max_size=3, unique=True),
        "uniqueItems": st.booleans(),
        "multipleOf": st.sampled_from([1, 2, 0.5, 0.1, 1e-300]),
        "format": st.sampled_from(["uri", "date-time", "regex", "email", "nothing"]),
    },
)


def extended(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas around *inner*, all of them valid."""
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    around = st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
            **dict.fromkeys(("properties", "$defs", "dependentSchemas"), named),
            **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "propertyNames"), inner),
            **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "unevaluatedItems"), inner),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
        },
    )
    return st.builds(lambda a, b: {**a, **b}, simple, around)


sane = st.recursive(st.booleans() | simple, extended, max_leaves=12).filter(lambda schema: isinstance(schema, dict))
# The same, with what a stranger would put there.
wild = st.recursive(
    simple
    | st.fixed_dictionaries({"$ref": targets})
    | st.fixed_dictionaries({"$dynamicRef": targets, "$anchor": st.just("anchor")})
    | st.fixed_dictionaries({"pattern": patterns})
    | st.fixed_dictionaries({"$id": st.text(max_size=4) | st.just("http://a.test/")})
    | st.fixed_dictionaries({"$schema": st.sampled_from(["http://json-schema.org/draft-07/schema#", "x"])})
    | values,
    extended,
    max_leaves=12,
)
documents = st.builds(
    lambda schema, defs: {**schema, "$defs": defs} if isinstance(schema, dict) else schema,
    wild,
    st.fixed_dictionaries({"a": wild, "b": wild, "c": wild}),
)

fuzzed = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@fuzzed
@given(values | wild | documents, values)
def test_anything_is_judged_soon_and_nothing_crashes(schema: Any, value: Any) -> None:
    started_s = time.perf_counter()
    unfit = guard(schema)
    assert unfit is None or (str(unfit).isprintable() and len(str(unfit)) < 1_000)
    try:
        validator = compile_schema(schema)
    except Unfit as error:
        said = str(error)
    else:
        problems = validator.problems(value)
        assert unfit is None
        assert len(problems) <= 10
        said = arguments_message(problems).replace("\n", "")
    assert said.isprintable()
    assert time.perf_counter() - started_s < SOON_S


@fuzzed
@given(sane, values)
def test_a_sane_schema_is_usable_and_judges_as_the_library_does(schema: dict[str, Any], value: Any) -> None:
    assert guard(schema) is None
    known = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    assert bool(compile_schema(schema).problems(value)) is not known.is_valid(value)


@fuzzed
@given(sane)
def test_a_problem_never_holds_the_value(schema: dict[str, Any]) -> None:
    secret = "hunter2-0451"
    around = {"properties": {"a": schema}, "items": schema, "additionalProperties": schema}
    for value in ({"a": secret, "z": [secret, {"a": secret}]}, [secret, [secret]], secret):
        assert secret not in arguments_message(compile_schema(around).problems(value))


@fuzzed
@given(st.integers(0, 200), st.sampled_from(["items", "not", "default", "anyOf", "x-foo"]), wild)
def test_depth_is_bounded_wherever_it_is(levels: int, keyword: str, inner: Any) -> None:
    schema = inner
    for _ in range(levels):
        schema = {keyword: [schema] if keyword == "anyOf" else schema}
    if levels > MAX_DEPTH:
        assert guard(schema) is not None
    else:
        guard(schema)
