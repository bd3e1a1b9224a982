"""From one era to the other and back: what both know stays as it is, what only one knows is dropped honestly."""

import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.errors import InvalidParams
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import InputRequired, Question
from bascule.wire.versions import BY_VERSION, LEGACY, Revision

META: Final = "io.modelcontextprotocol/"
STATELESS: Final = ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel")
V2024, V2025_03, V2025_06, V2025_11 = (BY_VERSION[revision.version] for revision in LEGACY)
Json: TypeAlias = dict[str, Any]

INFO: Final = Raw(b'{"name":"t","version":"1"}')


def raw(value: Any) -> Raw:
    return Raw(value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode())


def params(**members: Any) -> Params:
    return {("_meta" if name == "meta" else name): raw(value) for name, value in members.items()}


def plain(members: Params) -> dict[str, Any]:
    return {name: json.loads(bytes(value)) for name, value in members.items()}


def value(found: Raw) -> Any:
    return json.loads(bytes(found))


def warnings_of(result: Raw) -> list[str]:
    found: list[str] = value(result).get("_meta", {}).get(translate.CALL_META, {}).get("warnings", [])
    return found


# ---- JSON that a decoder would change ------------------------------------------------------------

# Texts, not values: what a value looks like is the point.
WRITTEN: Final = (
    *("1", "1.0", "1e0", "1E+2", "-0", "-0.0", "0.10", "1e400", "12345678901234567890123", "null", "true", "false"),
    *('""', '"\\u00e9"', '"é"', '"\\/"', '"💥"', "{}", "[]", '{"b":1,"a":2}', '{"a":null}', "[1,1.0]", "[ 1 , 2 ]"),
    "0.1000000000000000055511151231257827",
)
SPELLINGS = st.one_of(
    st.sampled_from(WRITTEN),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(st.characters(codec="utf-8")).map(json.dumps),
    st.lists(st.integers() | st.none()).map(lambda found: json.dumps(found, indent=1)),
)
CONCERNED: Final = frozenset({
    *("_meta", "inputResponses", "requestState", "task", "content", "structuredContent", "messages", "tools"),
    *("resultType", "ttlMs", "cacheScope", "elicitationId"),
})  # fmt: skip
NAMES: st.SearchStrategy[str] = st.text(st.characters(codec="utf-8"), max_size=8).filter(
    lambda name: name not in CONCERNED
)
MEMBERS = st.dictionaries(NAMES, SPELLINGS.map(str.encode).map(Raw), max_size=5)
VENDOR = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).map(lambda name: f"v.example/{name}")
    | st.sampled_from(["traceparent", "tracestate", "baggage", "progressToken"]),
    SPELLINGS.map(str.encode).map(Raw),
    min_size=1,
    max_size=4,
)


def verbatim(members: Params) -> list[tuple[str, bytes]]:
    """Names in their order, values in their bytes."""
    return [(name, bytes(each)) for name, each in members.items()]


def text_of(members: Params) -> Raw:
    """The object as a server may write it, with its own spacing."""
    inner = b", ".join(b"%b : %b" % (json.dumps(name).encode(), bytes(each)) for name, each in members.items())
    return Raw(b"{ %b }" % inner)


@given(MEMBERS, VENDOR)
def test_a_request_of_either_era_keeps_every_byte_that_both_know(members: Params, vendor: Params) -> None:
    stamped = {**members, "_meta": jsonrpc.encode({**vendor, **{META + key: {} for key in STATELESS}})}
    old = translate.to_legacy(stamped)
    assert verbatim({**old, "_meta": raw({})}) == verbatim({**members, "_meta": raw({})})
    assert verbatim(modern.meta_of(old)) == verbatim(vendor)
    new = translate.to_modern(old, info=INFO, capabilities={}, level=None)
    assert [each for each in verbatim(new) if each[0] != "_meta"] == verbatim(members)
    assert verbatim(modern.meta_of(new))[: len(vendor)] == verbatim(vendor)


@given(MEMBERS, VENDOR, st.sampled_from(LEGACY), st.sampled_from(["tools/call", "tools/list", "prompts/get", "x/y"]))
def test_a_result_of_either_era_keeps_every_byte_that_both_know(
    members: Params, vendor: Params, revision: Revision, method: str
) -> None:
    said = text_of({**members, "_meta": text_of(vendor)})
    new = translate.result_for_modern(method, said)
    kept = jsonrpc.members(new)
    assert verbatim(kept)[: len(members) + 1] == verbatim(jsonrpc.members(said))
    assert bytes(kept["resultType"]) == b'"complete"'
    old = jsonrpc.members(translate.result_for_legacy(method, new, revision))
    assert verbatim({k: v for k, v in old.items() if k != "_meta"}) == verbatim(members)
    assert verbatim(modern.meta_of(old)) == verbatim(vendor)


@given(MEMBERS, VENDOR)
def test_a_question_of_either_era_keeps_every_byte_that_both_know(members: Params, vendor: Params) -> None:
    vendor = {key: each for key, each in vendor.items() if key != "progressToken"} or {"v.example/x": raw(1)}
    asked = {
        **members,
        "elicitationId": raw("e"),
        "task": raw({}),
        "_meta": text_of({**vendor, "progressToken": raw(1)}),
    }
    question = translate.question_for_modern("sampling/createMessage", asked)
    assert verbatim({k: v for k, v in question.params.items() if k != "_meta"}) == verbatim(members)
    assert verbatim(modern.meta_of(question.params)) == verbatim(vendor)
    back = translate.asks_for_input(translate.input_required({"k": question}, "s"))
    assert back is not None
    assert verbatim(back.questions["k"].params) == verbatim(question.params)
    assert translate.question_for_legacy(back.questions["k"], "minted") == back.questions["k"].params


BLOCKS = st.sampled_from(["text", "image", "resource", "hologram", "x"]).flatmap(
    lambda kind: MEMBERS.map(lambda members: text_of({"type": raw(kind), **members}))
)


@given(st.lists(BLOCKS, max_size=4), st.sampled_from(LEGACY))
def test_content_that_a_revision_knows_or_nobody_does_keeps_its_bytes(blocks: list[Raw], revision: Revision) -> None:
    content = Raw(b"[ %b ]" % b" , ".join(map(bytes, blocks)))
    result = translate.result_for_legacy("tools/call", text_of({"content": content}), revision)
    assert bytes(jsonrpc.members(result)["content"]) == bytes(content)
    assert not warnings_of(result)


# ---- a stateless client's request ----------------------------------------------------------------


def test_what_only_stateless_requests_have_is_gone_for_an_old_server() -> None:
    meta = {META + key: "x" for key in STATELESS} | {f"{META}other": 1, "progressToken": "t"}
    asked = params(name="n", inputResponses={}, requestState="s", meta=meta)
    assert plain(translate.to_legacy(asked)) == {"name": "n", "_meta": {f"{META}other": 1, "progressToken": "t"}}
    assert plain(translate.to_legacy(params(name="n", meta={f"{META}protocolVersion": 1}))) == {"name": "n"}
    assert plain(translate.to_legacy({})) == {}


def test_capabilities_are_the_same_without_extensions() -> None:
    declared: Json = {
        "elicitation": {"url": {}},
        "experimental": {"x": {}},
        "roots": {},
        "extensions": {"y": {}},
        "new": {},
    }
    assert translate.capabilities_for_legacy(declared) == {k: v for k, v in declared.items() if k != "extensions"}
    assert "extensions" in declared


@pytest.mark.parametrize(
    ("method", "cacheable"),
    [
        ("server/discover", True),
        ("tools/list", True),
        ("prompts/list", True),
        ("resources/list", True),
        ("resources/templates/list", True),
        ("resources/read", True),
        ("tools/call", False),
        ("prompts/get", False),
        ("completion/complete", False),
    ],
)
def test_a_result_is_complete_and_says_that_nothing_may_be_kept(method: str, cacheable: bool) -> None:
    hints = {"ttlMs": 0, "cacheScope": "private"} if cacheable else {}
    assert value(translate.result_for_modern(method, raw({"a": 1}))) == {"a": 1, "resultType": "complete", **hints}


def test_a_result_says_which_server_it_is_from_beside_what_its_meta_says() -> None:
    result = translate.result_for_modern("tools/call", raw({"_meta": {"v.example/x": 1}}), INFO)
    assert value(result)["_meta"] == {"v.example/x": 1, f"{META}serverInfo": value(INFO)}
    assert "_meta" not in value(translate.result_for_modern("tools/call", raw({})))


@pytest.mark.parametrize(
    ("code", "becomes"),
    [
        (-32002, -32602),
        (-32602, -32602),
        (-32601, -32601),
        (-32603, -32603),
        (-32000, -32000),
        (-32019, -32019),
        (-32020, -32603),
        (-32021, -32603),
        (-32022, -32603),
        (-32042, -32603),
        (-32099, -32603),
        (-32100, -32100),
        (7, 7),
    ],
)
def test_errors_of_old_servers_have_codes_that_mean_the_same(code: int, becomes: int) -> None:
    error = {"code": code, "message": "m", "data": {"uri": "u"}, "more": None}
    assert value(translate.error_for_modern(raw(error))) == {**error, "code": becomes}


@pytest.mark.parametrize(
    ("method", "error", "becomes"),
    [
        ("resources/read", {"code": -32602, "data": {"uri": "u"}}, -32002),
        ("resources/read", {"code": -32602, "data": {}}, -32602),
        ("tools/call", {"code": -32602, "data": {"uri": "u"}}, -32602),
        ("tools/call", {"code": -32021, "data": {"requiredCapabilities": {}}}, -32602),
        ("tools/call", {"code": -32020}, -32603),
        ("tools/call", {"code": -32022}, -32603),
        ("tools/call", {"code": -32603}, -32603),
        ("tools/call", {"code": 7}, 7),
    ],
)
def test_errors_of_stateless_servers_have_codes_that_sessions_know(method: str, error: Any, becomes: int) -> None:
    assert value(translate.error_for_legacy(method, raw(error))) == {**error, "code": becomes}


def test_errors_that_mean_the_same_keep_their_bytes() -> None:
    error = Raw(b'{ "message" : "\\u00e9", "code":-32601, "data" : 1.0 }')
    assert translate.error_for_modern(error) == error
    assert translate.error_for_legacy("tools/call", error) == error


def test_a_greeting_and_a_discovery_say_the_same() -> None:
    greeting = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": True}, "logging": {}, "tasks": {}, "experimental": {"x": {}}},
        "serverInfo": {"name": "s", "version": "1", "icons": []},
        "instructions": "be kind",
    }
    found = translate.discovered(raw(greeting))
    assert value(found) == {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {"listChanged": True}, "logging": {}, "experimental": {"x": {}}},
        "instructions": "be kind",
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {f"{META}serverInfo": greeting["serverInfo"]},
    }
    for revision in LEGACY:
        back = value(translate.greeting(found, revision, "name"))
        capabilities = {k: v for k, v in greeting["capabilities"].items() if k != "tasks"}  # type: ignore[attr-defined]
        assert back == {**greeting, "capabilities": capabilities, "protocolVersion": revision.version}


def test_a_server_that_says_nothing_of_itself_has_the_name_that_it_has_here() -> None:
    for said in ({}, {"capabilities": 5, "_meta": {}}, {"_meta": {f"{META}serverInfo": "me"}}):
        assert value(translate.greeting(raw(said), V2025_11, "it")) == {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "serverInfo": {"name": "it", "version": ""},
        }
    assert value(translate.discovered(raw({})))["capabilities"] == {}
    offered: Json = {"capabilities": {"extensions": {"x": {}}, "tools": {}}}
    assert value(translate.greeting(raw(offered), V2025_11, "it"))["capabilities"] == {"tools": {}}


# ---- questions -----------------------------------------------------------------------------------


def test_a_question_loses_what_served_a_protocol_that_is_gone() -> None:
    asked = params(mode="url", url="u", elicitationId="e", task={}, meta={"progressToken": 1, "v.example/x": 2})
    question = translate.question_for_modern("elicitation/create", asked)
    assert question.method == "elicitation/create"
    assert plain(question.params) == {"mode": "url", "url": "u", "_meta": {"v.example/x": 2}}
    assert "_meta" not in translate.question_for_modern("roots/list", params(meta={"progressToken": 1})).params


def test_a_url_gets_an_id_for_a_session_and_nothing_else_does() -> None:
    for mode, minted in (("url", {"elicitationId": "minted"}), ("form", {}), (5, {})):
        question = Question("elicitation/create", params(mode=mode, message="m"))
        asked = plain(translate.question_for_legacy(question, "minted"))
        assert asked == {"mode": mode, "message": "m", **minted}
    formless = Question("elicitation/create", params(message="m"))
    assert plain(translate.question_for_legacy(formless, "minted")) == {"message": "m"}  # the mode is not added either
    sampled = Question("sampling/createMessage", params(mode="url"))
    assert plain(translate.question_for_legacy(sampled, "minted")) == {"mode": "url"}


def test_questions_go_to_a_stateless_client_by_key() -> None:
    asked = {"a-1": Question("elicitation/create", params(message="m")), "b-2": Question("roots/list", {})}
    assert value(translate.input_required(asked, "sealed")) == {
        "resultType": "input_required",
        "inputRequests": {
            "a-1": {"method": "elicitation/create", "params": {"message": "m"}},
            "b-2": {"method": "roots/list"},
        },
        "requestState": "sealed",
    }


def test_what_a_stateless_server_asks_is_read() -> None:
    asked = {"k": {"method": "roots/list"}, "l": {"method": "elicitation/create", "params": {"message": "m"}}}
    found = translate.asks_for_input(raw({"resultType": "input_required", "inputRequests": asked, "requestState": "s"}))
    assert found == InputRequired(
        {"k": Question("roots/list", {}), "l": Question("elicitation/create", params(message="m"))}, raw("s")
    )
    only = translate.asks_for_input(raw({"resultType": "input_required", "requestState": "s"}))
    assert only == InputRequired({}, raw("s"))


@pytest.mark.parametrize(
    "answer",
    [
        {"resultType": "complete", "content": []},
        {"content": [{"type": "text", "text": "input_required"}]},
        {"resultType": "input_required_not"},
        {"input_required": 1},
        {},
    ],
)
def test_an_answer_asks_for_nothing(answer: Any) -> None:
    assert translate.asks_for_input(raw(answer)) is None


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"inputRequests": {}},
        {"inputRequests": 5},
        {"inputRequests": None},
        {"inputRequests": []},
        {"inputRequests": {"k": None}},
        {"inputRequests": {"k": {}}},
        {"inputRequests": {"k": {"method": "tools/call"}}},
        {"inputRequests": {"k": {"method": 5}}},
        {"inputRequests": {"k": {"method": "roots/list", "params": []}}},
        {"inputRequests": {"k": {"method": "roots/list", "params": None}}},
    ],
)
def test_what_is_neither_an_answer_nor_a_question_is_refused(asked: Any) -> None:
    with pytest.raises(InvalidParams):
        translate.asks_for_input(raw({"resultType": "input_required", **asked}))


def test_urls_that_are_needed_first_become_questions_without_ids() -> None:
    pages = [{"mode": "url", "url": f"https://x.example/{n}", "elicitationId": f"{n}", "message": "m"} for n in (1, 2)]
    found = translate.urls_needed(raw({"code": -32042, "message": "m", "data": {"elicitations": pages}}))
    assert [(each.method, plain(each.params)) for each in found] == [
        ("elicitation/create", {key: of for key, of in page.items() if key != "elicitationId"}) for page in pages
    ]


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32041, "data": {"elicitations": [{"mode": "url"}]}},
        {"code": -32042},
        {"code": -32042, "data": None},
        {"code": -32042, "data": {"elicitations": None}},
        {"code": -32042, "data": {"elicitations": {}}},
        {"code": -32042, "data": {"elicitations": [5]}},
        {"code": -32042, "data": {"elicitations": [{"mode": "url"}, None]}},
        {"code": "-32042", "data": {"elicitations": [{"mode": "url"}]}},
        [],
        None,
    ],
)
def test_an_error_that_names_no_urls_needs_none(error: Any) -> None:
    assert translate.urls_needed(raw(error)) == []


def test_the_error_for_a_missing_capability_is_the_one_of_the_specification() -> None:
    needed: Json = {"elicitation": {"url": {}}}
    error = value(translate.capability_missing(needed))
    assert error["code"] == -32021
    assert error["data"] == {"requiredCapabilities": needed}
    assert "elicitation" in error["message"]


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        ({"isError": True}, True),
        ({"isError": False}, False),
        ({"isError": None}, False),
        ({"isError": "true"}, False),
        ({"content": [{"type": "text", "text": '"isError":true'}]}, False),
        ({"structuredContent": {"isError": True}}, False),
        ({}, False),
    ],
)
def test_a_tool_that_failed_is_told_from_one_that_says_so(result: Any, failed: bool) -> None:
    assert translate.failed(raw(result)) is failed


# ---- a session's request -------------------------------------------------------------------------


def test_a_request_in_a_session_is_stamped_with_what_the_session_said_once() -> None:
    able: Json = {"elicitation": {}}
    sent = translate.to_modern(
        params(name="n", task={"ttl": 1}, meta={"progressToken": 1}), info=INFO, capabilities=able, level="error"
    )
    assert plain(sent) == {
        "name": "n",
        "_meta": {
            "progressToken": 1,
            f"{META}protocolVersion": "2026-07-28",
            f"{META}clientInfo": value(INFO),
            f"{META}clientCapabilities": able,
            f"{META}logLevel": "error",
        },
    }
    silent = translate.to_modern({}, info=INFO, capabilities={}, level=None)
    assert f"{META}logLevel" not in plain(silent)["_meta"]


def test_a_session_cannot_forge_what_it_is_stamped_with() -> None:
    forged = params(meta={f"{META}clientCapabilities": {"sampling": {}}, f"{META}protocolVersion": "1999-01-01"})
    sent = plain(translate.to_modern(forged, info=INFO, capabilities={}, level=None))["_meta"]
    assert (sent[f"{META}clientCapabilities"], sent[f"{META}protocolVersion"]) == ({}, "2026-07-28")


@pytest.mark.parametrize(
    ("declared", "revision", "able"),
    [
        ({"elicitation": {"form": {}, "url": {}}}, V2025_11, {"elicitation": {"form": {}, "url": {}}}),
        ({"elicitation": {"form": {}, "url": {}}}, V2025_06, {"elicitation": {"form": {}}}),
        ({"elicitation": {"url": {}}}, V2025_06, {"elicitation": {}}),
        ({"elicitation": {}}, V2025_06, {"elicitation": {}}),
        ({"roots": {"listChanged": True}}, V2025_11, {"roots": {}}),
        ({"sampling": {"tools": {}}, "tasks": {}, "other": 1}, V2025_11, {"sampling": {"tools": {}}}),
        ({"experimental": {"x": {}}}, V2024, {"experimental": {"x": {}}}),
        ({}, V2024, {}),
    ],
)
def test_a_session_declares_what_its_revision_can_do(declared: Any, revision: Revision, able: Any) -> None:
    assert translate.capabilities_for_modern(declared, revision) == able


@given(st.dictionaries(st.sampled_from(["form", "url", "other"]), st.just({})), st.sampled_from(LEGACY))
def test_only_a_revision_with_urls_is_ever_said_to_support_them(modes: Any, revision: Revision) -> None:
    able = translate.capabilities_for_modern({"elicitation": modes}, revision)
    asked = params(mode="url", url="u")
    assert legacy.may_ask(able, "elicitation/create", asked) is (revision.elicits_url and "url" in modes)


def test_a_result_for_a_session_has_nothing_of_the_other_era() -> None:
    meta = {f"{META}serverInfo": {}, "v.example/x": 1}
    said = {"resultType": "complete", "ttlMs": 1, "cacheScope": "public", "contents": [], "_meta": meta}
    for method in ("resources/read", "tools/call", "server/discover"):
        found = translate.result_for_legacy(method, raw(said), V2025_11)
        assert value(found) == {"contents": [], "_meta": {"v.example/x": 1}}
    bare = {"resultType": "complete", "_meta": {f"{META}serverInfo": {}}}
    assert bytes(translate.result_for_legacy("x/y", raw(bare), V2025_11)) == b"{}"


@pytest.mark.parametrize("revision", LEGACY, ids=lambda revision: revision.version)
@pytest.mark.parametrize("structured", [None, 5, 1.0, "x", [], [1, {"a": 2}], True, 2**70])
def test_structured_content_that_is_no_object_is_dropped_with_a_warning_and_its_text_kept(
    structured: Any, revision: Revision
) -> None:
    told = {"content": [{"type": "text", "text": "told"}], "structuredContent": structured}
    found = translate.result_for_legacy("tools/call", raw(told), revision)
    assert "structuredContent" not in value(found)
    assert value(found)["content"] == told["content"]
    assert len(warnings_of(found)) == 1
    untold: Json
    for untold in ({"content": []}, {}):
        found = translate.result_for_legacy("tools/call", raw({**untold, "structuredContent": structured}), revision)
        (block,) = value(found)["content"]
        assert block["type"] == "text"
        assert json.loads(block["text"]) == structured
        assert warnings_of(found)


def test_the_text_of_dropped_structured_content_is_spelt_as_it_was() -> None:
    said = Raw(b'{"content":[],"structuredContent":[1.0, 1e400,\t12345678901234567890123]}')
    found = translate.result_for_legacy("tools/call", said, V2025_11)
    assert value(found)["content"][0]["text"] == "[1.0, 1e400,\t12345678901234567890123]"


def test_a_structured_object_stays_and_nobody_is_warned() -> None:
    said = {"content": [], "structuredContent": {"a": [None, 1]}}
    for revision in LEGACY:
        found = translate.result_for_legacy("tools/call", raw(said), revision)
        assert value(found) == said


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("audio", [V2024]),
        ("resource_link", [V2024, V2025_03]),
        ("tool_use", [V2024, V2025_03, V2025_06]),
        ("tool_result", [V2024, V2025_03, V2025_06]),
        ("text", []),
        ("image", []),
        ("resource", []),
        ("hologram", []),
    ],
)
def test_content_that_a_revision_lacks_becomes_text_with_a_warning(kind: str, lacking: list[Revision]) -> None:
    block = {"type": kind, "uri": "file:///x", "v.example/more": 1}
    other = {"type": "text", "text": "beside it"}
    for revision in LEGACY:
        results = {
            "tools/call": translate.result_for_legacy("tools/call", raw({"content": [other, block]}), revision),
            "prompts/get": translate.result_for_legacy(
                "prompts/get", raw({"messages": [{"role": "user", "content": block}]}), revision
            ),
        }
        told, prompted = value(results["tools/call"])["content"], value(results["prompts/get"])["messages"]
        assert told[0] == other
        assert prompted[0]["role"] == "user"
        for found in (told[1], prompted[0]["content"]):
            if revision in lacking:
                assert found == {"type": "text", "text": f"[{kind}: file:///x]"}
            else:
                assert found == block
        for result in results.values():
            assert len(warnings_of(result)) == (revision in lacking)


def test_content_that_becomes_text_says_what_is_known_of_it() -> None:
    blocks = [
        {"type": "audio", "mimeType": "audio/ogg", "data": "AA=="},
        {"type": "audio"},
        {"type": "audio", "uri": 5},
    ]
    found = value(translate.result_for_legacy("tools/call", raw({"content": blocks}), V2024))
    assert [block["text"] for block in found["content"]] == ["[audio: audio/ogg]", "[audio]", "[audio]"]
    assert len(found["_meta"][translate.CALL_META]["warnings"]) == 3


@pytest.mark.parametrize(
    ("schema", "stays"),
    [
        ({"type": "object", "properties": {}}, True),
        ({"type": "array"}, False),
        ({"type": ["object", "null"]}, False),
        ({"anyOf": []}, False),
        (True, False),
        (None, False),
    ],
)
def test_output_schemas_that_describe_no_object_are_left_out(schema: Any, stays: bool) -> None:
    tool = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema, "x": 1}
    other = {"name": "o", "inputSchema": {}}
    found = translate.result_for_legacy("tools/list", raw({"tools": [tool, other], "nextCursor": ""}), V2025_11)
    without = {key: each for key, each in tool.items() if key != "outputSchema"}
    assert value(found)["tools"] == [tool if stays else without, other]
    assert value(found)["nextCursor"] == ""
    assert len(warnings_of(found)) == (not stays)
    assert all(" t " in warning for warning in warnings_of(found))


# ---- hostile -------------------------------------------------------------------------------------

VALUES: Final = [
    *(b"null", b"true", b"1", b"-1.5", b'"x"', b"[]", b"{}", b"[null]", b"[[]]", b"[{}]", b'{"a":1}', b""),
    *(b"1e400", b"[1e400]", b'{"a":1e400}', b'"\\ud800"', b'"\\u0000"', b"9" * 400),
    *(b"[" * depth + b"]" * depth for depth in (70, 900, 990, 1010, 20_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (900, 990, 20_000)),
]
NAMED: Final = (
    *("_meta", "content", "structuredContent", "resultType", "inputRequests", "requestState", "tools", "messages"),
    *("type", "uri", "outputSchema", "name", "code", "message", "data", "elicitations", "method", "params", "mode"),
    *("capabilities", "serverInfo", "instructions"),
)
HOSTILE = st.recursive(
    st.sampled_from(VALUES[:18])
    | st.sampled_from([b'"url"', b'"audio"', b'"input_required"', b'"complete"', b"-32042", b"-32602", b"-32002"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: b"[%b]" % b",".join(each))
        | st.dictionaries(
            st.sampled_from(NAMED),
            inner,
            max_size=4,
        ).map(lambda members: b"{%b}" % b",".join(b'"%b":%b' % (k.encode(), v) for k, v in members.items()))
    ),
    max_leaves=12,
)
FIELDS: Final = (
    *("_meta", "content", "structuredContent", "resultType", "inputRequests", "tools", "messages", "isError"),
    *("capabilities", "serverInfo", "instructions", "code", "message", "data"),
)


def translations(found: Raw) -> list[Callable[[], object]]:
    """Every use of *found* as what it might be."""
    methods = ("tools/call", "tools/list", "prompts/get", "resources/read", "x/y")
    members: Params = {"_meta": found, "mode": found, "name": found}
    return [
        *(
            (lambda m=method, r=revision: translate.result_for_legacy(m, found, r))
            for method in methods
            for revision in (V2024, V2025_11)
        ),
        *((lambda m=method: translate.result_for_modern(m, found, found)) for method in methods),
        *((lambda m=method: translate.error_for_legacy(m, found)) for method in methods),
        lambda: translate.to_legacy(members),
        lambda: translate.to_modern(members, info=found, capabilities={}, level=None),
        lambda: translate.error_for_modern(found),
        lambda: translate.urls_needed(found),
        lambda: translate.discovered(found),
        lambda: translate.greeting(found, V2025_11, "it"),
        lambda: translate.asks_for_input(found),
        lambda: translate.failed(found),
        lambda: translate.question_for_modern("elicitation/create", members),
        lambda: translate.question_for_legacy(Question("elicitation/create", members), "minted"),
    ]


def survives(found: bytes) -> None:
    for translation in translations(Raw(found)):
        try:
            translation()
        except InvalidParams:
            continue


def deep(found: bytes) -> bool:
    return found.count(b"[") > 500 or found.count(b"{") > 500


@pytest.mark.parametrize("found", [each for each in VALUES if not deep(each)], ids=lambda found: found[:12].decode())
def test_whatever_is_said_is_translated_or_refused(found: bytes) -> None:
    survives(found)
    for field in FIELDS:
        for spelling in (
            b'{"%b":%b}',
            b'{"%b":[%b]}',
            b'{"%b":%b,"structuredContent":5,"resultType":"input_required"}',
        ):
            survives(spelling % (field.encode(), found))
        survives(b'{"%b":[{"type":"audio","content":%b,"uri":%b,"outputSchema":%b}]}' % (field.encode(), *[found] * 3))
    survives(b'{"code":-32042,"data":{"elicitations":%b}}' % found)
    survives(b'{"code":-32042,"data":{"elicitations":[{"_meta":%b}]}}' % found)
    survives(b'{"resultType":"input_required","inputRequests":{"k":{"method":%b,"params":%b}}}' % (found, found))


@pytest.mark.parametrize(
    "found", [each for each in VALUES if deep(each)], ids=lambda found: f"{found[:1]!r}-{len(found)}"
)
def test_whatever_is_nested_is_translated_or_refused(found: bytes) -> None:
    survives(found)
    for field in FIELDS:
        survives(b'{"%b":%b}' % (field.encode(), found))
    survives(b'{"code":-32042,"data":{"elicitations":[%b]}}' % found)


@given(HOSTILE)
def test_whatever_is_put_together_is_translated_or_refused(found: bytes) -> None:
    survives(found)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), st.lists, max_leaves=4))
def test_capabilities_of_any_shape_are_read(value: Any) -> None:
    for name in ("elicitation", "sampling", "roots", "experimental", "extensions"):
        for revision in LEGACY:
            able = translate.capabilities_for_modern({name: value}, revision)
            assert not legacy.may_ask(able, "elicitation/create", params(mode="url"))
        translate.capabilities_for_legacy({name: value})


def test_tools_that_run_as_tasks_only_are_left_out_and_named() -> None:
    task, plain = {"name": "slow", "execution": {"taskSupport": "required"}}, {"name": "quick", "execution": {}}
    optional = {"name": "either", "execution": {"taskSupport": "optional"}}
    listed = json.loads(bytes(translate.result_for_modern("tools/list", raw({"tools": [task, plain, optional]}))))
    assert listed["tools"] == [plain, optional]
    (warning,) = listed["_meta"][translate.CALL_META]["warnings"]
    assert "slow" in warning
