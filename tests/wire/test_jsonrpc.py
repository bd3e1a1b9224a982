"""Envelopes cross byte for byte, and the strict door refuses whatever two parsers could read differently.

Cases "A…" and "D…" are those of docs/security.md.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.errors import InvalidParams, InvalidRequest, ParseFailed, ProtocolError
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Message, Notification, Request, Response

text = st.text(st.characters(exclude_categories=["Cs"]))
# Written as a client might, not as Python would: number forms, escapes and white space have to survive.
numbers = st.one_of(
    st.integers().map(str),
    st.sampled_from(["1.0", "1e2", "1E+2", "-0", "-0.0", "0.10", "1e400", "9223372036854775808", "-" + "7" * 4000]),
)
leaves = st.one_of(
    numbers, text.map(json.dumps), st.sampled_from(["null", "true", "false", '"\\u0041\\/"', "[ ]", "{}"])
)
blank = st.sampled_from(["", " ", "\n", "\t "])


def _array(items: list[str], space: str) -> str:
    return "[" + space + f"{space},{space}".join(items) + space + "]"


def _object(members: dict[str, str], space: str) -> str:
    return "{" + space + ",".join(f"{json.dumps(k)}{space}:{space}{v}" for k, v in members.items()) + space + "}"


values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(_array, st.lists(inner, max_size=4), blank),
        st.builds(_object, st.dictionaries(text, inner, max_size=4), blank),
    ),
    max_leaves=8,
)
ids = st.one_of(st.integers(-(2**70), 2**70).map(str), text.map(json.dumps))
unreserved = text.filter(lambda name: jsonrpc._folded(name) not in {*jsonrpc._MEMBERS, *jsonrpc._PARAMETERS})


def one(body: bytes, *, batches: bool = False) -> Message:
    (message,) = jsonrpc.parse(body, batches=batches)
    return message


def call(params: str = "{}", id: str = "1", method: str = '"m"') -> bytes:
    return f'{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}'.encode()


def shown(message: Message) -> Any:
    """A message with its raw parts as bytes, so that two can be compared."""
    match message:
        case Request(id, method, params):
            return "request", bytes(id), method, {key: bytes(raw) for key, raw in params.items()}
        case Notification(method, params):
            return "notification", method, {key: bytes(raw) for key, raw in params.items()}
        case Response(id, result, error):
            return "response", bytes(id), bytes(result), bytes(error)


# ---- what passes, passes untouched


@given(ids, text, st.dictionaries(unreserved, values, max_size=5), blank)
def test_a_request_keeps_every_byte_of_its_id_and_its_parameters(
    id: str, method: str, params: dict[str, str], space: str
) -> None:
    message = one(call(_object(params, space), id, json.dumps(method)))
    assert shown(message) == ("request", id.encode(), method, {k: v.encode() for k, v in params.items()})
    assert isinstance(message, Request)
    assert list(message.params) == list(params)


@given(ids, text, st.dictionaries(unreserved, values, max_size=5))
def test_what_we_write_reads_back_the_same_on_both_sides(id: str, method: str, params: dict[str, str]) -> None:
    message = one(call(_object(params, ""), id, json.dumps(method)))
    assert isinstance(message, Request)
    again = jsonrpc.request(message.id, message.method, message.params)
    assert shown(one(again)) == shown(message)
    if method:
        assert shown(jsonrpc.read(again)) == shown(message)


@given(ids, values)
def test_answers_and_refusals_carry_their_bytes(id: str, value: str) -> None:
    answer, refusal = (write(Raw(id.encode()), Raw(value.encode())) for write in (jsonrpc.answer, jsonrpc.refusal))
    nothing = b""
    for read in (one, jsonrpc.read):
        assert shown(read(answer)) == ("response", id.encode(), value.encode(), nothing)
        assert shown(read(refusal)) == ("response", id.encode(), nothing, value.encode())


@given(text, st.dictionaries(unreserved, values, max_size=3))
def test_notifications_carry_their_bytes(method: str, params: dict[str, str]) -> None:
    raw = {key: Raw(value.encode()) for key, value in params.items()}
    expected = ("notification", method, {key: value.encode() for key, value in params.items()})
    assert shown(one(jsonrpc.notification(method, raw))) == expected


def test_the_number_one_and_the_string_one_are_two_ids() -> None:
    assert shown(one(call(id="1")))[1] == b"1"
    assert shown(one(call(id='"1"')))[1] == b'"1"'


def test_an_id_of_two_to_the_63_keeps_its_digits() -> None:  # A10
    message = one(call(id=str(2**63)))
    assert isinstance(message, Request)
    assert jsonrpc.answer(message.id, Raw(b"{}")) == b'{"jsonrpc":"2.0","id":9223372036854775808,"result":{}}'


def test_unknown_members_of_the_envelope_do_no_harm() -> None:
    assert shown(one(b'{"x":[1],"jsonrpc":"2.0","method":"m","id":1,"y":null}')) == ("request", b"1", "m", {})


def test_a_request_without_parameters_is_written_without_the_member() -> None:
    assert jsonrpc.request(7, "ping") == b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
    assert jsonrpc.request(7, "m", Raw(b"")) == b'{"jsonrpc":"2.0","id":7,"method":"m"}'
    assert jsonrpc.request(7, "m", Raw(b'{"a": 1.0}')) == b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a": 1.0}}'


def test_a_refusal_of_something_unreadable_has_no_id() -> None:
    assert jsonrpc.refusal(None, Raw(b"{}")) == b'{"jsonrpc":"2.0","error":{}}'


def test_replaced_members_keep_the_order_and_the_bytes_of_the_others() -> None:
    base = jsonrpc.members(b'{"b": 1.0,"_meta":{"x":1},"a":null}')
    assert jsonrpc.encode(jsonrpc.replaced(base, meta_={"y": 2}, c=Raw(b"1e2"))) == Raw(
        b'{"b":1.0,"_meta":{"y":2},"a":null,"c":1e2}'
    )


# ---- the strict door


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="A01 empty"),
        pytest.param(b'{"jsonrpc":"2.0",', id="A02 truncated"),
        pytest.param(call('{"a":' + "9" * 5000 + "}"), id="A16 5000 digits"),
        pytest.param(b"\xef\xbb\xbf" + call(), id="A17 BOM"),
        pytest.param(call().decode().encode("utf-16"), id="A17 UTF-16"),
        pytest.param(call().decode().encode("utf-16-le"), id="A17 UTF-16 without BOM"),
        pytest.param(call().decode().encode("utf-32"), id="A17 UTF-32"),
        pytest.param(call() + b"x", id="A19 trailing bytes"),
        pytest.param(call() + call(), id="A19 two messages"),
        pytest.param(b"/*c*/" + call(), id="A19 comment"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"m",}', id="A19 trailing comma"),
        pytest.param(call('{"a":NaN}'), id="NaN"),
        pytest.param(call('{"a":Infinity}'), id="Infinity"),
        pytest.param(call('{"a":-Infinity}'), id="-Infinity"),
        pytest.param(call('{"a":01}'), id="leading zero"),
        pytest.param(call('{"a":1.}'), id="no fraction"),
        pytest.param(call("{'a':1}"), id="single quotes"),
        pytest.param(call('{"a":"\x01"}'), id="control character"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"\xc0\xaf"}', id="overlong UTF-8"),
        pytest.param(call("[" * 100_000 + "]" * 100_000), id="D02 depth 100000"),
        pytest.param(b'{"a":' * 100_000, id="D02 unclosed"),
    ],
)
def test_what_is_not_json_fails_to_parse(body: bytes) -> None:
    with pytest.raises(ParseFailed):
        jsonrpc.parse(body)


@pytest.mark.parametrize(
    "body",
    [
        *(pytest.param(scalar, id=f"A04 {scalar.decode()}") for scalar in (b"null", b"1", b'"x"', b"true")),
        pytest.param(b'{"jsonrpc":"1.0","id":1,"method":"m"}', id="A05 other version"),
        pytest.param(b'{"id":1,"method":"m"}', id="A05 no version"),
        pytest.param(b'{"jsonrpc":2.0,"id":1,"method":"m"}', id="A05 a number"),
        *(
            pytest.param(call(id=id), id=f"A07 id {id}")
            for id in ("true", "false", "1.5", "1.0", "1e2", "{}", "[]", "-0", "null")
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"Method":"m"}', id="A13 Method"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"m","PARAMS":{}}', id="A13 PARAMS"),
        pytest.param('{"jsonrpc":"2.0","id":1,"method":"m","param\u017f":{}}'.encode(), id="A13 long s"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"m","p\\u0061ram\\u017f":{}}', id="A13 long s, escaped"),
        pytest.param(b'{"jsonrpc":"2.0","\\u0069d":1,"id":1,"method":"m"}', id="A13 escaped twin of id"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"m","ID":2}', id="A13 ID"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"m","method":"n"}', id="method twice"),
        pytest.param(call('{"name":"a","name":"b"}'), id="A14 name twice"),
        pytest.param(call('{"arguments":{"a":1,"\\u0061":2}}'), id="A14 argument twice"),
        pytest.param(call('{"arguments":{"a":[{"b":{"c":1,"c":1}}]}}'), id="A14 deep"),
        *(
            pytest.param(call(f'{{"{name}":"x"}}'), id=f"A13 params.{name}")
            for name in (
                "Name",
                "NAME",
                "Arguments",
                "_Meta",
                "URI",
                "TaskId",
                "taskid",
                "requeststate",
                "progressTo\u212aen",
            )
        ),
        pytest.param(call('{"argument\\u017f":{}}'), id="A13 params, escaped long s"),
        pytest.param(b'{"jsonrpc":"2.0","id":1}', id="nothing"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":7}', id="method is a number"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":null}', id="method is null"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"m","result":{}}', id="request and result"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', id="result and error"),
        pytest.param(b'{"jsonrpc":"2.0","result":{}}', id="result without id"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"result":{}}', id="result with null id"),
        pytest.param(call('{"a":"\\ud800"}'), id="C01 lone surrogate"),
        pytest.param(call('{"a":"\\udc00\\ud800"}'), id="C01 surrogates in wrong order"),
        pytest.param(call('{"\\ud800":1}'), id="C01 in a key"),
        pytest.param(call(method='"\\ud83d"'), id="C01 in the method"),
        pytest.param(call('{"a":' + "[" * 63 + "]" * 63 + "}"), id="D01 depth 65"),
        pytest.param(call('{"a":' + '{"b":' * 63 + "1" + "}" * 63 + "}"), id="D01 depth 65 of objects"),
        pytest.param(b"[]", id="batch where none is legal"),
        pytest.param(b"[" + call() + b"]", id="batch of one where none is legal"),
    ],
)
def test_json_that_is_no_legal_message_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        jsonrpc.parse(body)


@pytest.mark.parametrize("params", ["[]", "[1]", '"x"', "null", "1", "true"])
def test_parameters_that_are_no_object_are_invalid_params(params: str) -> None:  # A25
    with pytest.raises(InvalidParams):
        jsonrpc.parse(call(params))


def test_depth_64_passes_and_brackets_in_strings_do_not_count() -> None:
    one(call('{"a":' + "[" * 62 + "]" * 62 + "}"))
    one(call('{"a":[' + ",".join(["[]"] * 200) + '],"b":"' + "[{" * 500 + '"}'))


def test_names_that_only_resemble_reserved_ones_are_the_tools_own_business_inside_arguments() -> None:
    arguments = '{"Name":1,"NAME":2,"name":3,"METHOD":4,"\u017f":5}'
    message = one(call('{"arguments":' + arguments + "}"))
    assert shown(message)[3]["arguments"] == arguments.encode()


def test_an_escaped_spelling_of_a_member_alone_is_that_member() -> None:
    assert shown(one(b'{"jsonrpc":"2.0","\\u0069d":1,"method":"m"}'))[1] == b"1"


def test_a_batch_holds_messages_in_order_where_it_is_legal() -> None:
    body = b"[" + call(id="1") + b" , " + call(id='"1"') + b',{"jsonrpc":"2.0","method":"n"}]'
    assert [shown(m)[1] for m in jsonrpc.parse(body, batches=True)] == [b"1", b'"1"', "n"]


@pytest.mark.parametrize("body", [b"[]", b"[1]", b"[[]]", b"[null]", b"[" + call() + b",2]", b'[{"jsonrpc":"2.0"}]'])
def test_a_batch_without_messages_is_refused_even_where_batches_are_legal(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        jsonrpc.parse(body, batches=True)


def test_one_message_may_stand_alone_where_batches_are_legal() -> None:
    assert shown(one(call(), batches=True))[0] == "request"


# ---- totality


messages = st.one_of(
    st.builds(lambda p, i, m: call(_object(p, ""), i, json.dumps(m)), st.dictionaries(text, values), ids, text),
    st.builds(lambda i, v: f'{{"jsonrpc":"2.0","id":{i},"result":{v}}}'.encode(), ids, values),
    st.builds(lambda v: f'[{{"jsonrpc":"2.0","method":"m"}},{v}]'.encode(), values),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message with a piece of it deleted, doubled or overwritten."""
    body = draw(messages)
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 12)))
    return body[:start] + draw(st.one_of(st.binary(max_size=6), st.just(body[start:end] * 2))) + body[end:]


@given(st.one_of(st.binary(), messages, mutated()), st.booleans())
def test_any_bytes_are_messages_or_a_protocol_error(body: bytes, batches: bool) -> None:
    try:
        found = jsonrpc.parse(body, batches=batches)
    except ProtocolError:
        return
    assert found


@given(st.one_of(st.binary(), messages, mutated()))
def test_any_line_of_a_server_is_a_message_or_a_value_error(line: bytes) -> None:
    try:
        jsonrpc.read(line)
    except ValueError:
        pass


@given(st.one_of(st.binary(), values.map(str.encode)))
def test_looking_into_raw_json_raises_nothing_but_invalid_params(raw: bytes) -> None:
    for look in (jsonrpc.members, jsonrpc.items, jsonrpc.decode):
        try:
            look(raw)
        except InvalidParams:
            pass


@given(values)
def test_text_is_a_string_or_none_for_every_value_that_the_door_lets_in(value: str) -> None:
    found = jsonrpc.text(Raw(value.encode()))
    assert found is None or found == json.loads(value)


@pytest.mark.parametrize("look", [jsonrpc.members, jsonrpc.items, jsonrpc.decode])
@pytest.mark.parametrize("raw", [b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 200_000 + b"1" + b"}" * 200_000])
def test_depth_is_never_a_recursion_error(look: Any, raw: bytes) -> None:
    with pytest.raises(InvalidParams):
        look(raw)


@pytest.mark.parametrize("raw", [None, Raw(b""), Raw(b"1e400"), Raw(b"null"), Raw(b'["a"]'), Raw(b"9" * 5000)])
def test_what_is_no_string_has_no_text(raw: Raw | None) -> None:
    assert jsonrpc.text(raw) is None


# ---- what servers send


def test_a_server_may_leave_out_what_is_not_at_stake() -> None:
    assert shown(jsonrpc.read(b'{"result":{"a":1.0},"id":7,"extra":1}')) == ("response", b"7", b'{"a":1.0}', b"")
    assert shown(jsonrpc.read(b'{"method":"n","params":null}')) == ("notification", "n", {})
    assert shown(jsonrpc.read(b'{"method":"n","id":null}')) == ("notification", "n", {})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Server listening on stdio",
        b"[]",
        b"{}",
        b'{"result":{}}',
        b'{"method":"m","params":[1]}',
        b'{"method":3,"id":1}',
        b'{"id":1,"result":NaN}',
        b'{"id":1,"result":"\xff"}',
        b'{"id":1,"result":"\xed\xa0\x80"}',
        b'{"id":1,"result":"\\ud800"}',
        b'{"id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id":1,"result":{}} trailing',
    ],
)
def test_a_line_that_is_no_message_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a JSON-RPC message|neither a method|not an object"):
        jsonrpc.read(line)


def test_a_server_may_answer_with_integers_that_python_cannot_hold() -> None:
    line = b'{"id":1,"result":{"n":' + b"9" * 5000 + b"}}"
    assert shown(jsonrpc.read(line))[2] == b'{"n":' + b"9" * 5000 + b"}"


def test_a_null_error_beside_a_result_is_no_error() -> None:
    answer = jsonrpc.read(b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}')
    assert answer == jsonrpc.Response(Raw(b"1"), Raw(b"{}"), jsonrpc.NOTHING)


@pytest.mark.parametrize("raw", [None, Raw(b"5"), Raw(b"null"), Raw(b"[]"), Raw(b'"x"')])
def test_a_value_of_another_kind_counts_as_not_said(raw: Raw | None) -> None:
    assert jsonrpc.value_of(raw, dict) is None


def test_true_is_not_an_integer() -> None:
    assert jsonrpc.value_of(Raw(b"true"), int) is None
    assert jsonrpc.value_of(Raw(b"7"), int) == 7
