"""A call stays in the trace that its client began, and its server hears of our span alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.refusals import trace_id_of
from bascule.observe import context
from bascule.observe.context import Parent
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAID = f"00-{TRACE}-{SPAN}-01"

hexes = st.text("0123456789abcdef", min_size=16, max_size=16)


def carrying(**meta: Any) -> Params:
    return {"_meta": jsonrpc.encode(meta)} if meta else {}


def sent(params: Params) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(params["_meta"]))
    return found


def test_what_stands_in_the_message_goes_before_the_header() -> None:
    other = SAID.replace(SPAN, "1" * 16)
    assert context.parent_of(carrying(traceparent=SAID), {"traceparent": other}) == Parent(TRACE, SPAN, 1)
    assert context.parent_of({}, {"traceparent": SAID, "tracestate": "a=1"}) == Parent(TRACE, SPAN, 1, "a=1")


def test_a_state_belongs_to_the_parent_that_it_came_with() -> None:
    assert context.parent_of(carrying(traceparent=SAID), {"tracestate": "a=1"}) == Parent(TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "nonsense",
        SAID.upper(),
        SAID.replace("00-", "ff-"),
        SAID.replace(TRACE, "0" * 32),
        SAID.replace(SPAN, "0" * 16),
        SAID + "x",
        SAID + "\n",
        SAID[:-1],
    ],
)
def test_what_cannot_be_read_is_nobody(said: str) -> None:
    assert context.parent_of(carrying(traceparent=said), {}) is None
    assert context.parent_of({}, {"traceparent": said}) is None


@pytest.mark.parametrize("said", [1, None, ["x"], {"a": 1}])
def test_what_is_no_text_is_nobody(said: Any) -> None:
    assert context.parent_of(carrying(traceparent=said), {}) is None


@pytest.mark.parametrize("state", ["x" * 513, "a=\n", "a=\x7f", "a=é"])
def test_a_state_that_is_none_is_left_out(state: str) -> None:
    assert context.parent_of(carrying(traceparent=SAID, tracestate=state), {}) == Parent(TRACE, SPAN, 1)


@given(st.text(max_size=80), st.text(max_size=80))
def test_it_never_disagrees_with_the_id_that_everybody_else_knows_the_call_by(inside: str, header: str) -> None:
    for params, head in ((carrying(traceparent=inside), {"traceparent": header}), ({}, {"traceparent": header})):
        parent = context.parent_of(params, head)
        assert parent is None or parent.trace_id == trace_id_of(params, head)


@given(hexes, hexes, st.booleans())
def test_what_we_say_can_be_read_by_ourselves(left: str, id: str, sampled: bool) -> None:
    if set(left + left) == {"0"} or set(id) == {"0"}:
        return
    said = context.traceparent(left + left, id, context.flags_of(None, sampled=sampled))
    assert context.parent_of(carrying(traceparent=said), {}) == Parent(left + left, id, int(sampled))


@given(hexes, st.floats(0, 1))
def test_a_call_with_a_parent_is_sampled_as_that_is(low: str, part: float) -> None:
    assert context.is_sampled("0" * 16 + low, Parent("t", "s", 1), part)
    assert not context.is_sampled("0" * 16 + low, Parent("t", "s", 0), part)


@given(hexes, st.floats(0, 1), st.floats(0, 1))
def test_whoever_takes_more_takes_what_others_take(low: str, some: float, more: float) -> None:
    some, more = sorted((some, more))
    assert context.is_sampled("0" * 16 + low, None, more) >= context.is_sampled("0" * 16 + low, None, some)
    assert context.is_sampled("0" * 16 + low, None, 1.0)
    assert not context.is_sampled("0" * 16 + low, None, 0.0)


def test_that_an_id_is_random_is_passed_on_and_nothing_else() -> None:
    flags = context.flags_of(Parent(TRACE, SPAN, 0xFF), sampled=True)
    assert context.traceparent(TRACE, SPAN, flags).endswith("-03")
    assert context.traceparent(TRACE, SPAN, 0xFF).endswith("-03")


def test_the_server_hears_of_our_span_and_of_all_the_rest() -> None:
    params = {"name": jsonrpc.encode("x"), **carrying(traceparent=SAID, tracestate="a=1", own={"n": 1})}
    gone = context.going_on(params, "ours", "a=1", trusted=False)
    assert bytes(gone["name"]) == b'"x"'
    assert sent(gone) == {"own": {"n": 1}, "tracestate": "a=1", "traceparent": "ours"}


def test_a_state_without_a_parent_goes_nowhere() -> None:
    assert sent(context.going_on(carrying(tracestate="a=1"), "ours", "", trusted=True)) == {"traceparent": "ours"}


def test_only_a_trusted_server_hears_what_a_client_says_to_its_own_services() -> None:
    params = carrying(baggage="tenant=7, bascule.depth=2")
    assert sent(context.going_on(params, "ours", "", trusted=True))["baggage"] == "tenant=7, bascule.depth=2"
    assert sent(context.going_on(params, "ours", "", trusted=False))["baggage"] == "bascule.depth=2"
    assert "baggage" not in sent(context.going_on(carrying(baggage="tenant=7"), "ours", "", trusted=False))


def test_a_baggage_that_is_no_text_goes_nowhere() -> None:
    assert "baggage" not in sent(context.going_on(carrying(baggage={"a": 1}), "ours", "", trusted=False))
