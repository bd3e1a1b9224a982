"""Two tries of one call have one fingerprint, and no two calls do; a pin stands for one definition."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call, Target
from bascule.contract.model import ConfirmGate, Contract
from bascule.errors import InvalidParams
from bascule.pipeline.fingerprint import arguments_in, fingerprint_of, pin_of
from bascule.wire import jsonrpc
from pipeline.calls import call

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=4)


class _Upstream:
    def __init__(self, name: str) -> None:
        self.name = name


def made(server: str = "bank", method: str = "tools/call", **params: Any) -> Call:
    raw = {name: value if isinstance(value, Raw) else jsonrpc.encode(value) for name, value in params.items()}
    target = Target(_Upstream(server), raw)  # type: ignore[arg-type]  # no more of it is looked at
    return replace(call(method=method), params=raw, target=target)


def print_of(server: str = "bank", method: str = "tools/call", **params: Any) -> bytes:
    return fingerprint_of(made(server, method, **params))


@given(objects)
def test_the_order_of_members_and_what_each_try_carries_make_no_difference(arguments: dict[str, Any]) -> None:
    turned = dict(reversed(arguments.items()))
    tries: dict[str, Any] = {"_meta": {"a": 1}, "inputResponses": {"b": 2}, "requestState": "c"}
    assert print_of(name="pay", arguments=arguments) == print_of(name="pay", arguments=turned, **tries)


@given(objects, objects)
def test_other_arguments_make_another_call(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = jsonrpc.decode(jsonrpc.encode(one)) == jsonrpc.decode(jsonrpc.encode(other)) and repr(one) == repr(other)
    if same or one != other:
        assert (print_of(name="pay", arguments=one) == print_of(name="pay", arguments=other)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":9007199254740993}', b'{"a":9007199254740992}'),
        (b'{"a":123456789012345678901234567891}', b'{"a":123456789012345678901234567890}'),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":1}', b'{"a":true}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[]}', b'{"a":{}}'),
        (b'{"a":"\\u00e9"}', b'{"a":"e\\u0301"}'),
    ],
)
def test_what_looks_alike_is_told_apart(one: bytes, other: bytes) -> None:
    assert print_of(name="pay", arguments=Raw(one)) != print_of(name="pay", arguments=Raw(other))


def test_the_server_the_method_and_the_name_are_part_of_it() -> None:
    prints = {
        print_of(name="pay", arguments={}),
        print_of("other", name="pay", arguments={}),
        print_of(name="refund", arguments={}),
        print_of(method="prompts/get", name="pay", arguments={}),
        print_of(method="resources/read", uri="pay"),
        print_of(method="resources/read", uri="pay2"),
    }
    assert len(prints) == 6


def test_no_arguments_are_empty_arguments_and_decoded_ones_are_not_decoded_again() -> None:
    assert print_of(name="pay") == print_of(name="pay", arguments={})
    wanted = made(name="pay", arguments={"a": 1})
    assert fingerprint_of(replace(wanted, args={"a": 1})) == fingerprint_of(wanted)
    assert bytes(arguments_in(made(name="pay"))) == b"{}"
    assert bytes(arguments_in(made(method="resources/read", uri="x://a", _meta={}))) == b'{"uri":"x://a"}'


def test_numbers_that_nobody_can_read_have_no_fingerprint() -> None:
    with pytest.raises(InvalidParams):
        print_of(name="pay", arguments=Raw(b'{"a":1e999}'))


def test_a_pin_stands_for_what_holds_and_not_for_who_said_it() -> None:
    contract = Contract(id="bank/pay", input_schema={"type": "object", "properties": {"b": {}, "a": {}}})
    assert len(pin_of(contract)) == 32
    turned = {"properties": {"a": {}, "b": {}}, "type": "object"}
    assert pin_of(contract) == pin_of(replace(contract, sources={"version": "x"}, input_schema=turned))
    others = [
        replace(contract, description="Pays twice."),
        replace(contract, input_schema={"type": "object"}),
        replace(contract, version="1.0.0"),
        replace(contract, confirm_gate=ConfirmGate()),
        replace(contract, confirm_gate=ConfirmGate(four_eyes=True)),
        replace(contract, id="bank/refund"),
        replace(contract, side_effect=False),
    ]
    assert len({pin_of(each) for each in (contract, *others)}) == 8
