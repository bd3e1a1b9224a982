"""What a call names, and so the way that it goes; ways are tried on a whole gateway (tests/behaviour)."""

from typing import Any

import pytest

from bascule.errors import InvalidParams
from bascule.pipeline.govern import _named
from bascule.wire import jsonrpc

PROMPT = {"type": "ref/prompt", "name": "greet"}
TEMPLATE = {"type": "ref/resource", "uri": "x://{n}"}


def named(method: str, **params: Any) -> tuple[str, str]:
    return _named(method, {name: jsonrpc.encode(value) for name, value in params.items()})


@pytest.mark.parametrize(
    ("method", "params", "found"),
    [
        ("tools/call", {"name": "find", "uri": "x://1"}, ("tool", "find")),
        ("prompts/get", {"name": "greet"}, ("prompt", "greet")),
        ("resources/read", {"uri": "x://1", "name": "find"}, ("resource", "x://1")),
        ("resources/subscribe", {"uri": "x://1"}, ("resource", "x://1")),
        ("resources/unsubscribe", {"uri": "x://1"}, ("resource", "x://1")),
        ("completion/complete", {"ref": PROMPT}, ("prompt", "greet")),
        ("completion/complete", {"ref": {**PROMPT, "title": "Greet"}, "name": "x"}, ("prompt", "greet")),
        ("completion/complete", {"ref": TEMPLATE}, ("resource", "x://{n}")),
    ],
)
def test_a_call_names_one_thing(method: str, params: dict[str, Any], found: tuple[str, str]) -> None:
    assert named(method, **params) == found


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": 5}),
        ("tools/call", {"name": None}),
        ("resources/read", {"uri": ["x://1"]}),
        ("resources/read", {"uri": "x" * 10_000}),
        ("completion/complete", {}),
        ("completion/complete", {"ref": "greet"}),
        ("completion/complete", {"ref": {}}),
        ("completion/complete", {"ref": {"name": "greet"}}),
        ("completion/complete", {"ref": {**PROMPT, "type": "ref/resource"}}),
        ("completion/complete", {"ref": {**TEMPLATE, "type": "ref/prompt"}}),
        ("completion/complete", {"ref": {**TEMPLATE, "name": "greet"}}),
        ("completion/complete", {"ref": {**PROMPT, "uri": "x://{n}"}}),
        ("completion/complete", {"ref": {**PROMPT, "name": 7}}),
    ],
)
def test_what_names_nothing_or_two_things_is_refused(method: str, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        named(method, **params)
