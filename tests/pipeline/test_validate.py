"""Arguments that do not fit the schema never get further, and what was wrong in them is not repeated."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from bascule.call import Call, Result
from bascule.contract.model import Mode
from bascule.contract.validation.schema import compile_schema
from bascule.errors import InvalidArgument
from bascule.pipeline.validate import Validate, arguments_of
from bascule.wire import jsonrpc
from pipeline.calls import ANSWER, Server, call

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def asked(**params: Any) -> Call:
    return replace(call(), params={name: jsonrpc.encode(value) for name, value in params.items()})


def stage(mode: Mode = "block") -> Validate:
    return Validate(compile_schema(SCHEMA), mode)


async def test_what_fits_goes_on_with_its_arguments_decoded_once() -> None:
    seen: list[Call] = []

    async def server(call: Call) -> Result:
        seen.append(call)
        return ANSWER

    wanted = asked(arguments={"n": 3})
    assert await stage()(wanted, server) is ANSWER
    assert seen[0].args == {"n": 3}
    assert bytes(seen[0].params["arguments"]) == bytes(wanted.params["arguments"])
    assert arguments_of(seen[0]) is seen[0].args


MISFITS: list[dict[str, Any]] = [
    {},
    *({"arguments": each} for each in ({}, None, [1], {"n": "secret"}, {"n": 1, "more": 2})),
]


@pytest.mark.parametrize("params", MISFITS)
async def test_what_does_not_fit_is_refused_without_its_values(params: dict[str, Any]) -> None:
    server = Server()
    with pytest.raises(InvalidArgument) as caught:
        await stage()(asked(**params), server)
    assert server.calls == 0
    assert caught.value.details["problems"]
    told = caught.value.message + json.dumps(caught.value.details)
    assert "secret" not in told


async def test_a_warning_lets_the_call_through_and_says_what_is_wrong() -> None:
    result = await stage("warn")(asked(arguments={"n": "x"}), Server())
    assert len(result.warnings) == 1
    assert "/n" in result.warnings[0]
    assert (await stage("warn")(asked(arguments={"n": 1}), Server())).warnings == ()


async def test_of_a_resource_the_uri_is_what_is_looked_at() -> None:
    reading = replace(asked(uri="x://1"), method="resources/read")
    assert arguments_of(reading) == {"uri": "x://1"}
    assert arguments_of(asked()) == {}
