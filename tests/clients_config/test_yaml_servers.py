"""Servers go into a configuration in YAML: comments, order and every other value stay."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.clients import yaml_text
from bascule.clients.jsonc import Unchangeable, Unreadable

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["no", "010", "1e3", "2026-11-01", "~", "- x", "a: b", "#c", "", " x ", "a\nb", "${file:/a b}", "<<", "=", "12:30"]
)
SERVERS = st.dictionaries(
    st.text("abcDEF_-09", min_size=1, max_size=8),
    st.fixed_dictionaries(
        {"command": TEXTS, "args": st.lists(TEXTS, max_size=3), "env": st.dictionaries(TEXTS, TEXTS)}
    ),
    min_size=1,
    max_size=3,
)
GOOD = [
    "",
    "# nothing yet\n",
    "servers: {}\n",
    "servers: {}  # none yet\nhttp: {port: 1}\n",
    "servers:\n",
    "servers:\n\n# below\nhttp:\n  port: 1\n",
    "servers:\n  zz:\n    command: x # tail\n    args:\n      - y\n\n  # next\nhttp:\n  port: 1\n",
    "servers:\n  zz: {command: x}\n  # last",
    "http: {port: 1}",
    "servers:\r\n    zz:\r\n        command: |\r\n          x\r\n        args: []\r\nz: 1\r\n",
    "---\nservers:\n  zz: {command: x}\n...\n",
    "servers:\n  zz:\n    command: x\n    env:\nhttp: {}\n",
    "\ufeffservers: {}\n",
    "servers:\n    'zz':\n        command: >-\n          a\n          b\n\nhttp: {}\n",
    "a: &a [1]\nservers:\n  zz: {args: *a}\n",
]


@pytest.mark.parametrize("text", GOOD)
@settings(max_examples=15, deadline=None)
@given(servers=SERVERS)
def test_servers_are_added_and_nothing_else_changes(text: str, servers: dict[str, Any]) -> None:
    servers.pop("zz", None)
    before = yaml_text.value_of(text)
    after = yaml_text.with_servers(text, servers, dict.fromkeys(servers, "from a client"))
    assert yaml_text.value_of(after) == {**before, "servers": {**(before.get("servers") or {}), **servers}}
    kept = [line for line in text.removeprefix("\ufeff").splitlines() if "{}" not in line]
    assert [line for line in kept if line not in after.splitlines()] == []
    plain = yaml.safe_load(after.removeprefix("\ufeff"))["servers"]  # other programs read the same texts
    assert {name: plain[name]["args"] for name in servers} == {name: each["args"] for name, each in servers.items()}


@pytest.mark.parametrize(
    "text",
    [
        "servers: {a: {command: x}}\n",
        "servers: {\n}\n",
        "{servers: {}}",
        "servers: &s\n  a: {command: b}\nb: *s\n",
        "s: &s {a: {command: b}}\nservers: *s\n",
        "servers: [a]\n",
        "- a\n",
        "servers:\n  <<: {a: {command: x}}\n",
    ],
)
def test_what_leaves_no_place_for_a_block_is_left_alone(text: str) -> None:
    try:
        after = yaml_text.with_servers(text, {"new": {"command": "x"}}, {})
    except Unchangeable:
        return
    assert yaml_text.value_of(after)["servers"].pop("new") == {"command": "x"}
    assert "<<" in text  # which has a place


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2\n", "a: *b\n", "a\tb: \x00", "a: 1\n---\nb: 1\n", "[" * 5000])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        yaml_text.value_of(text)
