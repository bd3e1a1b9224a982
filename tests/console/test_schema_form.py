"""Forms out of JSON Schemas: what is asked for, what is read of it, and what a form cannot say."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bascule.console.schema_form import Field, Filled, filled, form_of, placed, sample, written

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text == text.strip())
WORDS = st.sampled_from(["type", "properties", "items", "enum", "anyOf", "required", "$ref", "const", "minimum"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(WORDS | st.text(max_size=3), each),
    max_leaves=20,
)


def of(**properties: Any) -> Field:
    return form_of({"type": "object", "properties": properties})


def only(schema: Any) -> Field:
    """The one field of an object with one property."""
    return of(it=schema).fields[0]


# ---- kinds


def test_each_plain_type_has_a_field_of_its_own() -> None:
    kinds = {
        "text": {"type": "string"},
        "area": {"type": "string", "maxLength": 5000},
        "date": {"type": "string", "format": "date"},
        "number": {"type": "number"},
        "integer": {"type": "integer"},
        "choice": {"enum": ["a", 1, None]},
        "lines": {"type": "array", "items": {"type": "string"}},
        "choices": {"type": "array", "items": {"enum": ["a", "b"]}},
        "group": {"type": "object", "properties": {"x": {"type": "string"}}},
    }
    assert {kind: only(schema).kind for kind, schema in kinds.items()} == {kind: kind for kind in kinds}


def test_truth_is_a_choice_that_can_be_left_open() -> None:
    assert [value for value, _ in only({"type": "boolean"}).options] == ["true", "false"]


def test_an_optional_of_pydantic_is_what_it_is_without_null() -> None:
    assert only({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None}).kind == "integer"
    assert only({"type": ["string", "null"]}).kind == "text"


def test_references_are_followed_also_where_they_lead_in_a_circle() -> None:
    schema = {"type": "object", "properties": {"at": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}}
    assert form_of(schema).fields[0].kind == "integer"
    circle = {"type": "object", "properties": {"x": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert form_of(circle).fields[0].kind == "json"
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert any(each.kind == "json" for each in form_of(tree).everything())


def test_what_no_form_can_say_is_a_field_for_json() -> None:
    assert only({"oneOf": [{"type": "string"}, {"type": "integer"}]}).kind == "json"
    assert only({"type": "object"}).kind == "json"
    assert only({"type": "array", "items": {"type": "object", "properties": {"a": {}}}}).kind == "json"
    assert only(True).kind == "json"
    assert form_of({"type": "object", "oneOf": [{}, {}]}).kind == "json"
    assert form_of(None).kind == "json"


def test_a_schema_with_very_many_properties_is_one_field_for_json() -> None:
    assert of(**{f"p{number}": {"type": "string"} for number in range(1000)}).kind == "json"


@given(ANYTHING)
def test_no_schema_whatever_is_too_much(schema: Any) -> None:
    form = form_of(schema)
    assert len({each.place for each in form.everything()}) == len(list(form.everything()))
    filled(form, {each.place: ["x"] for each in form.everything()})
    sample(form)


# ---- reading


def test_what_is_left_empty_is_left_out() -> None:
    form = of(
        a={"type": "string"}, b={"type": "integer"}, c={"type": "object", "properties": {"d": {"type": "string"}}}
    )
    assert filled(form, {"/a": [""], "/b": [" "], "/c/d": [""]}) == Filled({})


def test_what_is_required_has_to_be_there() -> None:
    form = form_of({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    assert filled(form, {"/a": [""]}).wrong == {"/a": "is required"}
    assert filled(form, {"/a": [""]}, complete=False) == Filled({})


def test_an_object_that_is_begun_has_to_be_whole() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "string"}}, "required": ["b"]}
    assert "/a/b" in filled(of(a=inner), {"/a/c": ["x"]}).wrong
    assert filled(of(a=inner), {}) == Filled({})


def test_numbers_are_read_as_json_writes_them() -> None:
    form = of(n={"type": "number"})
    assert filled(form, {"/n": ["3"]}) == Filled({"n": 3})
    assert filled(form, {"/n": ["-1.5e2"]}) == Filled({"n": -150.0})
    for text in ("1,5", "0x10", "NaN", "Infinity", "1_000", "٣", "9" * 5000):
        assert "/n" in filled(form, {"/n": [text]}).wrong, text
    assert "whole number" in filled(of(n={"type": "integer"}), {"/n": ["1.0"]}).wrong["/n"]


def test_lists_are_written_line_by_line() -> None:
    form = of(tags={"type": "array", "items": {"type": "integer"}})
    assert filled(form, {"/tags": ["1\r\n\r\n 2 "]}) == Filled({"tags": [1, 2]})
    assert "/tags" in filled(form, {"/tags": ["1\nx"]}).wrong


def test_json_that_is_none_says_on_which_line() -> None:
    form = Field(place="", kind="json", needed=True)
    assert "line 2" in filled(form, {"": ['{"a": 1,\n b}']}).wrong[""]
    assert "object" in filled(form, {"": ["[1]"]}).wrong[""]
    assert "NaN" in filled(form, {"": ['{"a": NaN}']}).wrong[""]


def test_a_name_may_hold_what_pointers_escape() -> None:
    form = form_of({"type": "object", "properties": {"a/b~c": {"type": "string"}}})
    assert filled(form, {"/a~1b~0c": ["x"]}) == Filled({"a/b~c": "x"})


# ---- there and back


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": TEXT,
            "number": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
            "whole": st.integers(),
            "truth": st.booleans(),
            "choice": st.sampled_from(["a", 1, None]),
            "lines": st.lists(TEXT, min_size=1),
            "some": st.lists(st.sampled_from(["x", "y"]), min_size=1, unique=True),
            "inner": st.fixed_dictionaries({"of": TEXT}),
            "any": st.dictionaries(st.text(), st.integers()),
        },
    )
)
def test_arguments_that_a_form_can_say_come_back_as_they_were(value: Any) -> None:
    form = of(
        text={"type": "string"},
        number={"type": "number"},
        whole={"type": "integer"},
        truth={"type": "boolean"},
        choice={"enum": ["a", 1, None]},
        lines={"type": "array", "items": {"type": "string"}},
        some={"type": "array", "items": {"enum": ["x", "y"]}},
        inner={"type": "object", "properties": {"of": {"type": "string"}}},
        any={"type": "object"},
    )
    texts = written(form, value)
    if texts is not None:
        assert filled(form, texts) == Filled(value)
    else:  # a number that JSON writes with more digits than a form takes
        assert any(len(json.dumps(each)) > 300 for each in value.values())


def test_arguments_that_a_form_cannot_say_stay_json() -> None:
    form = of(lines={"type": "array", "items": {"type": "string"}}, text={"type": "string"})
    unsayable: list[Any] = [{"lines": ["two\nlines"]}, {"lines": []}, {"text": ""}, {"text": 3}, {"unknown": 1}, [1]]
    for value in unsayable:
        assert written(form, value) is None, value


# ---- mistakes


def test_a_mistake_is_shown_at_the_field_that_it_is_in() -> None:
    form = of(tags={"type": "array", "items": {"type": "string"}}, at={"type": "object", "properties": {"zip": {}}})
    problems = [
        {"path": "/tags/2", "problem": "must have at least 1 character"},
        {"path": "/at/zip", "problem": "is required"},
        {"path": "/unknown", "problem": "is not known here"},
    ]
    assert placed(form, problems) == {
        "/tags": "/2 must have at least 1 character",
        "/at/zip": "is required",
        "": "/unknown is not known here",
    }


def test_ids_of_fields_are_plain_and_differ() -> None:
    form = of(**{"a b": {"type": "string"}, "a-b": {"type": "string"}, 'x" onclick="y': {"type": "string"}})
    ids = [each.id for each in form.fields]
    assert len(set(ids)) == 3
    assert all(id.replace("-", "").isalnum() for id in ids)
