"""A table goes into a file in TOML and out of it; the rest stays as it is."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.clients import toml_text
from bascule.clients.jsonc import Unchangeable, Unreadable

PATH = ["mcp_servers", "bascule"]
ENTRY: dict[str, Any] = {"command": "b", "args": ["bridge", 'q"\\'], "env": {"A B": "1"}}
NAMES = st.text("abc-_ .\"'ü", min_size=1, max_size=6)
LEAVES = st.booleans() | st.integers(-99, 99) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
TABLES = st.dictionaries(NAMES, LEAVES | st.lists(st.text("ab", max_size=3), max_size=3), max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(NAMES, TABLES, max_size=3), TABLES, st.sampled_from(["", "# end", "# [mcp_servers.x]\n", "\n\n"])
)
def test_a_table_goes_in_and_out_and_everything_else_stays(
    servers: dict[str, Any], above: dict[str, Any], tail: str
) -> None:
    servers.pop("bascule", None)
    above.pop("mcp_servers", None)
    lines = [f"{toml_text._key(name)} = {toml_text._value(each)} # why\n" for name, each in above.items()]
    text = "".join([*lines, *(toml_text.written(["mcp_servers", name], each) for name, each in servers.items())]) + tail
    before = tomllib.loads(text)
    after = toml_text.with_table(text, PATH, ENTRY)
    assert tomllib.loads(after) == {**before, "mcp_servers": {**before.get("mcp_servers", {}), "bascule": ENTRY}}
    assert after.startswith(text)
    assert tomllib.loads(toml_text.without_table(after, PATH)) == before
    other = toml_text.with_table(after, PATH, {"url": "x"})
    assert tomllib.loads(other)["mcp_servers"]["bascule"] == {"url": "x"}


def test_a_table_between_others_is_cut_out_with_what_is_inside() -> None:
    text = "a = 1\n\n[mcp_servers.bascule]\nurl = 'x'\n[mcp_servers.bascule.env]\nA = '1'\n\n# mine\n[z]\nb = 2\n"
    assert tomllib.loads(toml_text.without_table(text, PATH)) == {"a": 1, "z": {"b": 2}}


@pytest.mark.parametrize("text", ["mcp_servers = {a = {command = 'x'}}\n", "mcp_servers = 1\n", "[[mcp_servers]]\n"])
def test_what_leaves_no_place_for_a_table_is_left_alone(text: str) -> None:
    with pytest.raises(Unchangeable):
        toml_text.with_table(text, PATH, ENTRY)


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2\n", "[a\n", "a = " + "[" * 100_000, "a = " + "9" * 5000])
def test_what_is_no_toml_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(Unreadable, match="not TOML"):
        toml_text.value_of(text)


def test_a_line_that_looks_like_a_table_in_a_text_is_none() -> None:
    text = 'a = """\n[mcp_servers.bascule]\nurl = "x"\n"""\n'
    after = toml_text.with_table(text, PATH, {"url": "y"})
    with pytest.raises(Unchangeable):  # rather than a text cut in two
        toml_text.without_table(after, PATH)
