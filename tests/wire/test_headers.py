"""Headers say what the body says, or the request is refused (SEP-2243; cases "B…" and "E16" of docs/security.md)."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.errors import HeaderMismatch, InvalidParams
from bascule.wire import headers, jsonrpc
from bascule.wire.headers import MirroredParam

text = st.text(st.characters(exclude_categories=["Cs"]))
REGION = MirroredParam(("region",), "mcp-param-region")
DEEP = MirroredParam(("where", "zone"), "mcp-param-zone")


def params(**members: Any) -> jsonrpc.Params:
    return {name: jsonrpc.encode(value) for name, value in members.items()}


def calling(arguments: str) -> jsonrpc.Params:
    return {"name": Raw(b'"t"'), "arguments": Raw(arguments.encode())}


# ---- values


@given(text)
def test_every_text_survives_the_way_through_a_header(value: str) -> None:
    encoded = headers.encode_value(value)
    assert headers.decode_value(encoded) == value
    assert encoded.isascii()
    assert encoded.isprintable() or "\t" in encoded
    assert encoded == encoded.strip()


@pytest.mark.parametrize("value", ["us-east-1", "a b", "a\tb", "!", "~", "=?base64?", "=?base64?x?"])
def test_what_http_can_carry_stays_as_it_is(value: str) -> None:
    assert headers.encode_value(value) == value


@pytest.mark.parametrize("value", ["", " a", "a ", "\ta", "é", "a\r\nb: c", "a\0", "\x7f", "=?base64?YQ==?="])
def test_what_http_cannot_carry_or_would_be_misread_goes_in_base64(value: str) -> None:
    assert headers.encode_value(value).startswith("=?base64?")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("=?base64?a?=", id="B10 wrong length"),
        pytest.param("=?base64?!!!!?=", id="B10 alphabet"),
        pytest.param("=?base64?YQ=?=", id="B10 padding"),
        pytest.param("=?base64?é?=", id="B10 not ASCII"),
        pytest.param("=?base64?/w==?=", id="not UTF-8"),
        pytest.param("=?base64?7aCA?=", id="surrogate"),
        pytest.param("caf\xe9", id="C10 raw bytes"),
        pytest.param(" a", id="white space at the edge"),
        pytest.param("a\nb", id="newline"),
    ],
)
def test_a_value_that_encoding_never_makes_is_a_mismatch(value: str) -> None:
    with pytest.raises(HeaderMismatch):
        headers.decode_value(value)


@given(st.text(st.characters(max_codepoint=255)))
def test_decoding_is_total(value: str) -> None:
    try:
        headers.decode_value(value)
    except HeaderMismatch:
        pass


# ---- which parameters are mirrored


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def marked(name: Any = "Region", kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, "x-mcp-header": name}


def test_annotations_are_found_at_every_depth_of_properties() -> None:
    found = headers.mirrored_params(schema(region=marked(), where=schema(zone=marked("Zone", "integer"))))
    assert found == (REGION, DEEP)


@pytest.mark.parametrize("nothing", [None, True, [], "x", {}, {"properties": []}, schema(a=True, b={"type": "string"})])
def test_a_schema_without_annotations_mirrors_nothing(nothing: Any) -> None:
    assert headers.mirrored_params(nothing) == ()


@pytest.mark.parametrize(
    "value",
    [
        schema(**{"x-mcp-header": {"type": "string"}}),
        schema(a={"type": "object", "default": marked()}),
        schema(a={"enum": [marked()]}, b={"const": marked()}, c={"examples": [marked()]}),
        {"$defs": {"x-mcp-header": {"type": "string"}}},
        {"patternProperties": {"x-mcp-header": {}}, "dependentSchemas": {"x-mcp-header": {}}},
        schema(properties=schema(**{"x-mcp-header": {"type": "string"}})),
    ],
)
def test_data_and_property_names_that_spell_the_keyword_are_no_annotations(value: Any) -> None:
    assert headers.mirrored_params(value) == ()


def test_properties_named_like_keywords_are_still_properties() -> None:
    value = schema(default=marked("A"), enum=marked("B"), properties=marked("C"))
    assert [param.path for param in headers.mirrored_params(value)] == [("default",), ("enum",), ("properties",)]


@pytest.mark.parametrize(
    "broken",
    [
        *(
            pytest.param(schema(a=marked(name)), id=f"E16 {name!r}")
            for name in ("", "a b", "a\r\nb", "é", "a:b", 7, None)
        ),
        *(
            pytest.param(schema(a=marked(kind=kind)), id=f"E16 on {kind}")
            for kind in ("number", "object", "array", "null", None, ["string", "null"])
        ),
        pytest.param(schema(a=marked("X"), b=marked("x")), id="E16 twice but for case"),
        pytest.param(schema(a={"type": "array", "items": marked()}), id="E16 under items"),
        pytest.param({"$defs": {"d": marked()}}, id="under $defs"),
        pytest.param({"anyOf": [schema(a=marked())]}, id="under anyOf"),
        pytest.param({"if": schema(a=marked())}, id="under if"),
        pytest.param({"patternProperties": {"a": marked()}}, id="under patternProperties"),
        pytest.param({"additionalProperties": marked()}, id="under additionalProperties"),
        pytest.param({**schema(a=marked()), **marked()}, id="on the root"),
        pytest.param(schema(a={**schema(), "allOf": [marked()]}), id="under allOf of a property"),
    ],
)
def test_a_broken_annotation_makes_the_whole_schema_invalid(broken: Any) -> None:
    with pytest.raises(ValueError, match="x-mcp-header"):
        headers.mirrored_params(broken)


def test_a_tool_definition_is_read_only_if_the_keyword_is_in_it() -> None:
    assert headers.mirrored_of(Raw(b'{"name":"t","inputSchema":{}}')) == ()
    assert headers.mirrored_of(jsonrpc.encode({"name": "t", "inputSchema": schema(region=marked())})) == (REGION,)
    assert headers.mirrored_of(Raw(b'{"name":"t","description":"about x-mcp-header"}')) == ()


@pytest.mark.parametrize("depth", [500, 5000])
def test_a_bottomless_schema_is_a_value_error_and_no_crash(depth: int) -> None:
    inner = json.dumps(marked())
    tool = '{"inputSchema":' + '{"properties":{"a":' * depth + inner + "}}" * depth + "}"
    with pytest.raises(ValueError, match="too deep"):
        headers.mirrored_of(Raw(tool.encode()))


# ---- made and checked


scalars = st.one_of(
    text, st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.none()
)
keys = st.sampled_from(["region", "where", "zone", "é"])
arguments = st.dictionaries(keys, st.one_of(scalars, st.dictionaries(keys, scalars)))
methods = st.sampled_from([*headers.NAMED_BY, "tools/list", "server/discover", "x"])


@given(methods, text, arguments)
def test_the_check_accepts_exactly_the_headers_that_we_make(method: str, name: str, args: dict[str, Any]) -> None:
    body = params(name=name, uri=name, taskId=name, arguments=args)
    made = headers.for_request(method, body, (REGION, DEEP))
    headers.check(made, method, body, (REGION, DEEP))
    for missing in made:
        with pytest.raises(HeaderMismatch):
            headers.check({k: v for k, v in made.items() if k != missing}, method, body, (REGION, DEEP))


@given(methods, text, arguments, text, arguments)
def test_headers_of_one_request_do_not_fit_another(
    method: str, name: str, args: dict[str, Any], other_name: str, other_args: dict[str, Any]
) -> None:
    body = params(name=name, uri=name, taskId=name, arguments=args)
    other = params(name=other_name, uri=other_name, taskId=other_name, arguments=other_args)
    made, needed = (headers.for_request(method, each, (REGION, DEEP)) for each in (body, other))
    assume(made != needed)
    # Two spellings of one number, as -0.0 and 0, may stand for each other; everything else may not.
    assume(not any(_number(made.get(key)) == _number(needed.get(key)) is not None for key in {*made, *needed}))
    with pytest.raises(HeaderMismatch):
        headers.check(made, method, other, (REGION, DEEP))


def _number(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({}, "mcp-method header is missing"),
        ({"mcp-method": "tools/list", "mcp-name": "t"}, "'tools/list'"),
        ({"mcp-method": "Tools/Call", "mcp-name": "t"}, "'Tools/Call'"),
        ({"mcp-method": "=?base64?dG9vbHMvY2FsbA==?=", "mcp-name": "t"}, "base64"),
        ({"mcp-method": "tools/call"}, "mcp-name header is missing"),
        ({"mcp-method": "tools/call", "mcp-name": "T"}, "'T'"),
        ({"mcp-method": "tools/call", "mcp-name": "=?base64?dQ==?="}, "the body 't'"),
        ({"mcp-method": "tools/call", "mcp-name": "=?base64?!?="}, "does not decode"),
    ],
    ids=["B08 none", "B08 other", "B08 case", "B08 encoded", "no name", "other name", "B11 decodes to other", "B10"],
)
def test_headers_that_disagree_with_the_body_are_a_mismatch(head: dict[str, str], why: str) -> None:
    with pytest.raises(HeaderMismatch, match=why):
        headers.check(head, "tools/call", params(name="t"))


def test_a_name_may_be_sent_in_base64_though_it_need_not_be() -> None:
    headers.check({"mcp-method": "tools/call", "mcp-name": "=?base64?dA==?="}, "tools/call", params(name="t"))


def test_a_request_without_a_name_needs_no_name_header() -> None:
    headers.check({"mcp-method": "tools/list"}, "tools/list", {})
    headers.check({"mcp-method": "tools/call"}, "tools/call", params(name=7))


def test_unknown_param_headers_are_nobodys_business() -> None:
    headers.check({"mcp-method": "x", "mcp-param-other": "1"}, "x", {}, (REGION,))


@pytest.mark.parametrize("body", ['{"region":null}', "{}", "null", '{"where":1}'])
def test_a_param_header_without_its_argument_is_a_mismatch(body: str) -> None:  # B13
    head = {"mcp-method": "tools/call", "mcp-name": "t", "mcp-param-region": "x"}
    with pytest.raises(HeaderMismatch, match="is there, but"):
        headers.check(head, "tools/call", calling(body), (REGION,))


def test_an_argument_without_its_param_header_is_a_mismatch() -> None:  # B14
    with pytest.raises(HeaderMismatch, match=r"is missing; it mirrors argument 'where\.zone'"):
        headers.check(
            {"mcp-method": "tools/call", "mcp-name": "t"}, "tools/call", calling('{"where":{"zone":1}}'), (DEEP,)
        )


def accepts(said: str, body: str) -> bool:
    head = {"mcp-method": "tools/call", "mcp-name": "t", "mcp-param-region": said}
    try:
        headers.check(head, "tools/call", calling(f'{{"region":{body}}}'), (REGION,))
    except HeaderMismatch:
        return False
    return True


@pytest.mark.parametrize(
    ("said", "body"),
    [("42", "42"), ("42.0", "42"), ("42", "42.0"), ("4.2e1", "42"), ("-0", "0"), ("true", "true"), ("42", '"42"')],
)
def test_numbers_are_compared_by_value(said: str, body: str) -> None:
    assert accepts(said, body)


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ("43", "42"),
        ("True", "true"),
        ("1", "true"),
        ("1.0", "true"),
        ("42.0", '"42"'),
        ("4_2", "42"),
        ("0x2a", "42"),
        ("+42", "42"),
        ("nan", "42"),
        ("=?base64?2YTZog==?=", "42"),
        ("=?base64?IDQy?=", "42"),
        ("9007199254740993.0", "9007199254740993"),  # beyond 2**53 - 1 only the digits themselves will do
        ("9007199254740992", "9007199254740993"),
    ],
)
def test_what_only_a_lenient_reader_takes_for_the_same_value_is_a_mismatch(said: str, body: str) -> None:
    assert not accepts(said, body)


def test_big_integers_are_compared_by_their_digits() -> None:
    assert accepts("9007199254740993", "9007199254740993")


def test_arguments_that_python_cannot_hold_are_invalid_and_no_crash() -> None:
    with pytest.raises(InvalidParams):
        accepts("1", "1e400")
