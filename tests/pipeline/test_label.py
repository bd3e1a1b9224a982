"""What a result says of its call, and that the server's own bytes stay as they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Result
from bascule.contract.derive import Sources
from bascule.contract.model import Contract, Deprecation, Document
from bascule.errors import RateLimited, ToolNotFound
from bascule.pipeline.label import Label, labelled
from pipeline.calls import Server, call

KEY = "dev.bascule/call"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)


def contract(**terms: Any) -> Contract:
    document = Document(tool="crm/find", **terms)
    return Sources([("file", document)]).effective("tool", "crm/find", None)


async def label_of(stage: Label, answer: Result, **changes: Any) -> dict[str, Any]:
    result = await stage(replace(call(), trace_id="a" * 32, **changes), Server(answer))
    found: dict[str, Any] = json.loads(bytes(result.value))["_meta"][KEY]
    return found


@given(st.dictionaries(st.text(max_size=6).filter(lambda key: key != "_meta"), VALUES, max_size=4))
def test_a_result_without_meta_keeps_every_byte(result: dict[str, Any]) -> None:
    before = json.dumps(result, ensure_ascii=False).encode()
    after = bytes(labelled(Raw(before), b'{"x":1}'))
    assert after.startswith(before[:-1].rstrip())
    assert json.loads(after) == {**result, "_meta": {KEY: {"x": 1}}}


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=3), st.one_of(VALUES, st.just({KEY: "forged", "own": 1})))
def test_a_result_with_meta_keeps_what_is_in_it_but_a_forged_label(rest: dict[str, Any], meta: Any) -> None:
    before = {**rest, "_meta": meta}
    after = json.loads(bytes(labelled(Raw(json.dumps(before).encode()), b'{"x":1}')))
    kept = meta if isinstance(meta, dict) else {}
    assert after == {**rest, "_meta": {**kept, KEY: {"x": 1}}}


@pytest.mark.parametrize("before", ["{}", "{ }", '{"a":1 }', '{"content":[{"_meta":{"b":2}}]}'])
def test_the_label_is_put_in_wherever_there_is_no_meta(before: str) -> None:
    assert json.loads(bytes(labelled(Raw(before.encode()), b"1"))) == {**json.loads(before), "_meta": {KEY: 1}}


async def test_it_says_where_the_result_is_from_what_it_cost_and_what_was_noticed() -> None:
    answer = Result(Raw(b'{"content":[]}'), warnings=("odd",), cost_usd=0.5)
    label = await label_of(Label(contract(version="1.0.0"), "crm"), answer)
    took_ms = label.pop("took_ms")
    assert isinstance(took_ms, int)
    assert label == {
        "trace_id": "a" * 32,
        "source": "crm",
        "version": "1.0.0",
        "warnings": ["odd"],
        "cost_usd": 0.5,
        "cached": False,
        "replayed": False,
    }


async def test_a_version_that_nobody_has_said_is_none() -> None:
    assert (await label_of(Label(contract(description="x"), "crm"), Result(Raw(b"{}"))))["version"] is None


async def test_a_deprecated_thing_says_until_when_and_what_instead() -> None:
    said = Deprecation(sunset="2027-05-01", replaced_by="crm/find@2", migration="`q` is required")
    label = await label_of(
        Label(contract(status="deprecated", deprecation=said), "crm"), Result(Raw(b"{}"), warnings=("odd",))
    )
    first = "crm/find is deprecated and will be withdrawn on 2027-05-01; use crm/find@2: `q` is required"
    assert label["warnings"] == [first, "odd"]


@pytest.mark.parametrize("answer", [Result(Raw(b'{"code":1,"message":"no"}'), refused=True), Result(Raw(b"{}"))])
async def test_what_is_no_result_of_a_call_is_left_alone(answer: Result) -> None:
    method = "tools/call" if answer.refused else "resources/subscribe"
    assert await Label(contract(), "crm")(call(method=method), Server(answer)) is answer


async def test_an_error_says_the_version_unless_it_says_that_there_is_no_such_thing() -> None:
    async def limited(_: Any) -> Result:
        raise RateLimited("wait")

    async def hidden(_: Any) -> Result:
        raise ToolNotFound("no tool 'find'")

    with pytest.raises(RateLimited) as early:
        await Label(contract(version="1.0.0"), "crm")(call(), limited)
    assert early.value.version == "1.0.0"
    with pytest.raises(ToolNotFound) as unknown:
        await Label(contract(version="1.0.0"), "crm")(call(), hidden)
    assert unknown.value.version is None
