"""The depth of a chain of gateways is the one that its baggage says, and never less."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bascule.call import Call, Result, Target
from bascule.pipeline.depth import Deepen, depth_of
from bascule.wire import jsonrpc
from pipeline.calls import ANSWER, call


def carrying(baggage: str | None = None, header: str | None = None) -> Call:
    params = {} if baggage is None else {"_meta": jsonrpc.encode({"own": 1, "baggage": baggage})}
    headers = {} if header is None else {"baggage": header}
    return replace(call(), params=params, headers=headers, target=Target(None, params))  # type: ignore[arg-type]  # nobody is reached


@pytest.mark.parametrize(
    ("baggage", "depth"),
    [
        ("", 0),
        ("a=1", 0),
        ("bascule.depth=0", 0),
        ("bascule.depth=3", 3),
        (" a=1 , bascule.depth = 3 ; p=q", 3),
        ("bascule.depth=3,bascule.depth=1", 3),
        ("bascule.depth=-1", 1000),
        ("bascule.depth=", 1000),
        ("bascule.depth=x", 1000),
        ("bascule.depth=9999", 1000),
        ("bascule.depth=\u0661", 1000),
        ("bascule.depths=9", 0),
    ],
)
def test_what_a_baggage_says(baggage: str, depth: int) -> None:
    assert depth_of(carrying(baggage)) == depth
    assert depth_of(carrying(header=baggage)) == depth


def test_what_stands_in_the_message_goes_before_the_header() -> None:
    assert depth_of(carrying("bascule.depth=2", header="bascule.depth=9")) == 2


@given(st.text(max_size=40))
def test_whatever_it_says_it_has_a_depth(baggage: str) -> None:
    assert 0 <= depth_of(carrying(baggage)) <= 1000


@pytest.mark.parametrize("baggage", [None, "", "a=1;p=q, b=2", "bascule.depth=4,a=1", "bascule.depth=nonsense"])
async def test_the_server_hears_of_one_more_and_of_all_the_rest(baggage: str | None) -> None:
    sent: list[Call] = []

    async def server(call: Call) -> Result:
        sent.append(call)
        return ANSWER

    before = carrying(baggage)
    await Deepen()(before, server)
    target = sent[0].target
    assert target is not None
    meta: dict[str, Any] = jsonrpc.decode(target.params["_meta"])
    after = replace(before, params=target.params)
    assert depth_of(after) == min(depth_of(before) + 1, 999)
    assert meta.get("own") == (None if baggage is None else 1)
    others = [each.strip() for each in (baggage or "").split(",") if each.strip() and "bascule.depth" not in each]
    assert [each for each in meta["baggage"].split(",") if "bascule.depth" not in each] == others
