"""What a server answers is held to what its tool's output schema promises."""

import json
from typing import Any

import pytest
from msgspec import Raw

from bascule.call import Result
from bascule.contract.model import Mode
from bascule.contract.validation.schema import compile_schema
from bascule.errors import UpstreamBrokeProtocol
from bascule.pipeline.check import Check
from pipeline.calls import Server, call

SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}


async def outcome(answer: Any, mode: Mode = "block", *, refused: bool = False) -> Result:
    value = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    result = Result(Raw(value), refused=refused, warnings=("before",))
    return await Check(compile_schema(SCHEMA), mode)(call(), Server(result))


KEPT: dict[str, Any] = {
    "what was promised": {"content": [], "structuredContent": {"sum": 3}},
    "more than was promised": {"structuredContent": {"sum": 3, "of": [1, 2]}},
    "a failure": {"isError": True, "content": []},
    "a failure with content of its own": {"isError": True, "structuredContent": {"sum": "no"}},
    "a question": {"resultType": "input_required", "inputRequests": {}},
}
BROKEN: dict[str, Any] = {
    "another type": {"structuredContent": {"sum": "secret"}},
    "less than was promised": {"structuredContent": {}},
    "nothing": {"content": [{"type": "text", "text": "3"}]},
    "null": {"structuredContent": None},
    "what is no object": {"structuredContent": [3]},
    "a flag that is none": {"isError": "no", "structuredContent": {"sum": 3}},
}


@pytest.mark.parametrize("name", KEPT)
async def test_what_keeps_the_promise_or_makes_none_is_let_through(name: str) -> None:
    assert (await outcome(KEPT[name])).warnings == ("before",)


@pytest.mark.parametrize("name", BROKEN)
async def test_what_breaks_it_is_held_back_or_said(name: str) -> None:
    with pytest.raises(UpstreamBrokeProtocol) as caught:
        await outcome(BROKEN[name])
    assert not caught.value.retryable  # it has run
    warnings = (await outcome(BROKEN[name], "warn")).warnings
    assert len(warnings) == 2
    for told in (caught.value.message, *warnings):
        assert "secret" not in told
        assert "arguments" not in told


async def test_an_error_of_the_servers_promises_nothing() -> None:
    assert (await outcome({"code": 1, "message": "no"}, refused=True)).refused
