"""JSON as editors keep it: one member changes, and not a character besides."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.clients import jsonc
from bascule.clients.jsonc import Unchangeable, Unreadable

ENTRY = {"command": "bascule", "args": ["bridge", "http://127.0.0.1/mcp"]}
NAMES = st.text(min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
COMMENTS = st.sampled_from(["", " ", "\n", '// a: "b", {\n', '/* }, " // */', " /**/ ", "\r\n  ", "\t// ☃ */\n"])

TAILS = st.sampled_from(["", ","])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """An object with some servers, written with comments, trailing commas and white space anywhere."""

    def written(value: Any) -> str:
        space = [draw(COMMENTS) for _ in range(4)]
        if isinstance(value, dict):
            inner = [f"{draw(COMMENTS)}{json.dumps(name)}{space[0]}:{written(each)}" for name, each in value.items()]
            tail = draw(TAILS) if inner else ""
            return f"{{{space[1]}{','.join(inner)}{space[2]}{tail}{space[3]}}}{draw(COMMENTS)}"
        if isinstance(value, list):
            tail = draw(TAILS) if value else ""
            return f"{space[0]}[{','.join(map(written, value))}{tail}{space[1]}]"
        return f"{space[0]}{json.dumps(value, ensure_ascii=draw(st.booleans()))}{space[1]}"

    value = draw(st.dictionaries(NAMES, VALUES, max_size=3))
    if draw(st.booleans()):
        value["mcpServers"] = draw(st.dictionaries(NAMES, VALUES, max_size=3))
    return draw(COMMENTS) + written(value)


@settings(max_examples=60, deadline=None)
@given(documents(), NAMES)
def test_a_member_goes_in_and_out_and_everything_else_stays(text: str, name: str) -> None:
    before = jsonc.value_of(text)
    after = jsonc.with_member(text, ["mcpServers"], name, ENTRY)
    expected = {**before, "mcpServers": {**before.get("mcpServers", {}), name: ENTRY}}
    assert jsonc.value_of(after) == expected
    assert [each for each in comments(text) if each not in comments(after)] == []
    try:
        out = jsonc.without_member(after, ["mcpServers"], name)
    except Unchangeable:
        pytest.fail("what was put in could not be taken out")
    del expected["mcpServers"][name]
    assert jsonc.value_of(out) == expected


def comments(text: str) -> list[str]:
    bare = jsonc._blanked(text)
    return [text[at] for at in range(len(text)) if text[at] in "☃" and bare[at] == " "]


@settings(max_examples=60, deadline=None)
@given(documents())
def test_what_is_there_already_is_replaced_in_its_place(text: str) -> None:
    once = jsonc.with_member(text, ["mcpServers"], "bascule", ENTRY)
    twice = jsonc.with_member(once, ["mcpServers"], "bascule", {"url": "x"})
    assert jsonc.value_of(twice)["mcpServers"]["bascule"] == {"url": "x"}
    assert jsonc.with_member(once, ["mcpServers"], "bascule", ENTRY).count("\n") == once.count("\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{nope", 1),
        ('{\n "a": 1,\n "a": 2}', None),
        ('{"a": "\n"}', 1),
        ('{\n"a": NaN}', None),
        ("[" * 100_000, None),
        ('{"a": "b', 1),
        ("/* never ends", None),
        ('{"a": 1} x', 1),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text: str, line: int | None) -> None:
    if not jsonc._blanked(text).strip():
        assert jsonc.value_of(text) == {}
        return
    with pytest.raises(Unreadable) as refused:
        jsonc.value_of(text)
    assert refused.value.line == line or line is None
    assert "nope" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["[]", '"x"', "1", '{"mcpServers": []}', '{"mcpServers": null}', '{"mcpServers": "x"}']
)
def test_what_is_no_object_is_not_made_one(text: str) -> None:
    with pytest.raises(Unchangeable):
        jsonc.with_member(text, ["mcpServers"], "a", {})


def test_the_layout_of_the_file_is_kept() -> None:
    for unit in ("  ", "    ", "\t"):
        text = json.dumps({"mcpServers": {"a": {"command": "x"}}, "z": [1]}, indent=unit)
        assert jsonc.with_member(text, ["mcpServers"], "b", ENTRY) == json.dumps(
            {"mcpServers": {"a": {"command": "x"}, "b": ENTRY}, "z": [1]}, indent=unit
        )


def test_line_ends_of_windows_and_a_byte_order_mark_stay() -> None:
    text = '\ufeff{\r\n  "mcpServers": {\r\n    "a": {}\r\n  }\r\n}\r\n'
    after = jsonc.with_member(text, ["mcpServers"], "b", ENTRY)
    assert after.startswith("\ufeff{")
    assert after.count("\n") == after.count("\r\n")
    assert jsonc.without_member(after, ["mcpServers"], "b") == text


def test_hostile_texts_are_read_in_time_that_grows_with_them_alone() -> None:
    for text in ('{"a": "' + '\\"' * 500_000, "/*" * 500_000, "//" + "," * 1_000_000 + "\n{}", "{}" + "," * 300_000):
        try:
            jsonc.value_of(text)
        except Unreadable:
            pass  # which is an answer
