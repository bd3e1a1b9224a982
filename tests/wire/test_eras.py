"""The tables of the revisions, and the refusals of each era."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.errors import HeaderMismatch, InvalidParams, UnsupportedVersion
from bascule.wire import jsonrpc, legacy, modern, versions
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Revision

LATEST = "2026-07-28"


def params(**members: Any) -> Params:
    return {("_meta" if name == "meta" else name): jsonrpc.encode(value) for name, value in members.items()}


# ---- versions


def test_revisions_stand_in_the_order_of_their_dates_and_eras_do_not_mix() -> None:
    dates = [revision.version for revision in versions.REVISIONS]
    assert dates == sorted(dates)
    assert versions.LEGACY + versions.MODERN == versions.REVISIONS
    assert versions.LATEST_LEGACY.version == "2025-11-25"
    assert versions.LATEST_MODERN.version == LATEST
    assert versions.LEGACY_VERSIONS == ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")


def _which(flag: str) -> set[str]:
    return {revision.version for revision in versions.REVISIONS if getattr(revision, flag)}


def test_the_table_says_what_each_revision_allows() -> None:
    assert _which("batches") == {"2025-03-26"}
    assert _which("priming") == {"2025-11-25"}
    assert _which("version_header") == {"2025-06-18", "2025-11-25", LATEST}
    assert _which("elicits_url") == {"2025-11-25", LATEST}


@given(st.one_of(st.text(), st.sampled_from(versions.REVISIONS).map(lambda revision: revision.version)))
def test_a_handshake_agrees_on_the_offered_legacy_version_or_the_latest(offered: str) -> None:
    agreed = versions.agree(offered)
    assert agreed.version == (offered if offered in versions.LEGACY_VERSIONS else "2025-11-25")


def test_the_earlier_of_two_dates_is_the_smaller_text() -> None:
    assert versions.earlier("2025-06-18", "2024-11-05") == versions.earlier("2024-11-05", "2025-06-18") == "2024-11-05"


# ---- legacy


def test_an_initialize_without_a_version_is_invalid() -> None:
    assert legacy.offered(params(protocolVersion="2025-03-26")).version == "2025-03-26"
    for bad in ({}, params(protocolVersion=20250326), params(protocolVersion=None)):
        with pytest.raises(InvalidParams, match="protocolVersion"):
            legacy.offered(bad)


def test_our_own_handshake_offers_the_latest_legacy_version() -> None:
    hello = legacy.initialize_params({"name": "b", "version": "1"}, {"roots": {}})
    assert {key: jsonrpc.decode(raw) for key, raw in hello.items()} == {
        "protocolVersion": "2025-11-25",
        "capabilities": {"roots": {}},
        "clientInfo": {"name": "b", "version": "1"},
    }


@pytest.mark.parametrize(
    ("declared", "method", "mode", "allowed"),
    [
        ({}, "elicitation/create", None, False),
        ({"elicitation": {}}, "elicitation/create", None, True),
        ({"elicitation": {}}, "elicitation/create", "form", True),
        ({"elicitation": {}}, "elicitation/create", "url", False),
        ({"elicitation": {"form": {}}}, "elicitation/create", "url", False),
        ({"elicitation": {"url": {}}}, "elicitation/create", "url", True),
        ({"elicitation": True}, "elicitation/create", "url", False),
        ({"elicitation": None}, "elicitation/create", None, False),
        ({"sampling": {}}, "sampling/createMessage", None, True),
        ({"roots": {}}, "sampling/createMessage", None, False),
        ({"roots": {}}, "roots/list", None, True),
        ({}, "vendor/ask", None, True),
    ],
)
def test_a_client_is_asked_only_what_it_declared(
    declared: dict[str, Any], method: str, mode: str | None, allowed: bool
) -> None:
    assert legacy.may_ask(declared, method, params(mode=mode) if mode else {}) is allowed


def test_every_question_of_the_protocol_has_its_capability_in_what_a_shared_process_is_told() -> None:
    assert set(legacy.ASKS.values()) == set(legacy.RELAYED_CAPABILITIES)


@given(st.lists(st.one_of(st.sampled_from(legacy.LEVELS), st.text())))
def test_the_lowest_level_is_one_of_those_wanted_and_lets_all_of_them_through(levels: list[str]) -> None:
    lowest = legacy.lowest_level(levels)
    known = [level for level in levels if level in legacy.LEVELS]
    assert (lowest is None) == (not known)
    assert lowest is None or lowest in known
    assert all(lowest is not None and legacy.reaches(jsonrpc.encode(level), lowest) for level in known)


@pytest.mark.parametrize(
    ("said", "wanted", "reaches"),
    [
        ('"debug"', "info", False),
        ('"info"', "info", True),
        ('"emergency"', "debug", True),
        ('"shout"', "emergency", True),
        ("[1]", "error", True),
        (None, "error", True),
    ],
)
def test_a_log_message_reaches_who_wants_its_level_or_is_of_no_known_level(
    said: str | None, wanted: str, reaches: bool
) -> None:
    assert legacy.reaches(Raw(said.encode()) if said else None, wanted) is reaches


# ---- modern


GOOD = {modern.PROTOCOL_VERSION: LATEST, modern.CLIENT_CAPABILITIES: {}}
HEAD = {"mcp-protocol-version": LATEST}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


def test_a_good_request_gives_its_metadata_untouched() -> None:
    meta = modern.check_request(HEAD, "m", {"_meta": Raw(json.dumps({**GOOD, "x": 1.0}).encode())})
    assert bytes(meta["x"]) == b"1.0"


@pytest.mark.parametrize(
    ("head", "meta", "expected"),
    [
        (HEAD, None, InvalidParams),
        (HEAD, [], InvalidParams),
        (HEAD, "x", InvalidParams),
        (HEAD, without(modern.PROTOCOL_VERSION), InvalidParams),
        (HEAD, without(modern.CLIENT_CAPABILITIES), InvalidParams),
        (HEAD, {**GOOD, modern.PROTOCOL_VERSION: 20260728}, InvalidParams),
        (HEAD, {**GOOD, modern.CLIENT_CAPABILITIES: []}, InvalidParams),
        (HEAD, {**GOOD, modern.CLIENT_CAPABILITIES: None}, InvalidParams),
        ({}, GOOD, HeaderMismatch),
        ({"mcp-protocol-version": "2025-11-25"}, GOOD, HeaderMismatch),
        ({"mcp-protocol-version": "2099-01-01"}, GOOD, HeaderMismatch),
        ({"mcp-protocol-version": "2099-01-01"}, {**GOOD, modern.PROTOCOL_VERSION: "2099-01-01"}, UnsupportedVersion),
        ({"mcp-protocol-version": "2025-11-25"}, {**GOOD, modern.PROTOCOL_VERSION: "2025-11-25"}, UnsupportedVersion),
        # Disagreement is found before an unknown version, and missing members before both.
        (HEAD, {**GOOD, modern.PROTOCOL_VERSION: "2099-01-01"}, HeaderMismatch),
        ({}, {**without(modern.CLIENT_CAPABILITIES), modern.PROTOCOL_VERSION: "2099-01-01"}, InvalidParams),
    ],
)
def test_requests_are_refused_in_the_order_of_the_ladder(
    head: dict[str, str], meta: Any, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        modern.check_request(head, "m", {} if meta is None else params(meta=meta))
    assert type(caught.value) is expected


def test_an_unknown_version_is_refused_with_those_that_are_spoken() -> None:
    with pytest.raises(UnsupportedVersion) as caught:
        modern.check_request(
            {"mcp-protocol-version": "2099-01-01"}, "m", params(meta={**GOOD, modern.PROTOCOL_VERSION: "2099-01-01"})
        )
    assert caught.value.details == {"requested": "2099-01-01", "supported": [LATEST]}


@pytest.mark.parametrize(
    ("meta", "claims"), [(None, False), ({}, False), (GOOD, True), ({"x": modern.PROTOCOL_VERSION}, False)]
)
def test_a_body_is_modern_if_its_metadata_names_a_version(meta: Any, claims: bool) -> None:
    assert modern.is_modern({} if meta is None else params(meta=meta)) is claims


def test_stamping_keeps_what_the_request_carried_and_sets_the_three_keys() -> None:
    stamped = modern.stamp(params(meta={"traceparent": "00", modern.CLIENT_INFO: 1}, a=1), info={}, capabilities={})
    assert jsonrpc.decode(stamped["_meta"]) == {
        "traceparent": "00",
        modern.PROTOCOL_VERSION: LATEST,
        modern.CLIENT_INFO: {},
        modern.CLIENT_CAPABILITIES: {},
    }
    modern.check_request(HEAD, "m", stamped)


@pytest.mark.parametrize("id", [b"1", b'"1"', b"9223372036854775808"])
def test_retagging_gives_the_clients_own_subscription_id_in_its_own_type(id: bytes) -> None:
    tagged = modern.retag(params(meta={modern.SUBSCRIPTION_ID: 99, "x": 1}), Raw(id))
    assert bytes(jsonrpc.members(tagged["_meta"])[modern.SUBSCRIPTION_ID]) == id
    assert bytes(jsonrpc.members(tagged["_meta"])["x"]) == b"1"


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        ('{"code":-32601,"message":""}', -32601, 404),
        ('{"code":-32602}', -32602, 400),
        ('{"code":-32020}', -32020, 400),
        ('{"code":-32022}', -32022, 400),
        ('{"code":-32603}', -32603, 200),
        ('{"code":-10001}', -10001, 200),
        ('{"code":"x"}', 0, 200),
        ('{"message":""}', 0, 200),
        ("[]", 0, 200),
        ("null", 0, 200),
    ],
)
def test_an_error_has_the_http_status_of_its_code(error: str, code: int, status: int) -> None:
    assert modern.error_code(Raw(error.encode())) == code
    assert modern.http_status(Raw(error.encode())) == status


@pytest.mark.parametrize("theirs", [None, {}, "2026-07-28", [], ["2025-11-25"], [None, 1]])
def test_versions_that_only_one_side_knows_are_not_shared(theirs: Any) -> None:
    assert modern.shared_versions(theirs) == []


def test_a_discovery_is_passed_on_with_the_versions_that_both_sides_speak() -> None:
    result = Raw(b'{"capabilities": {"x": 1.0},"supportedVersions":["2099-01-01","2026-07-28"],"y":null}')
    assert modern.discovered(result) == Raw(b'{"capabilities":{"x": 1.0},"supportedVersions":["2026-07-28"],"y":null}')
    assert modern.discovered(Raw(b"{}")) == Raw(b'{"supportedVersions":[]}')


def test_a_result_of_our_own_is_complete_and_carries_hints_only_when_asked() -> None:
    assert modern.complete({"a": 1}) == Raw(b'{"resultType":"complete","a":1}')
    assert jsonrpc.decode(modern.complete({}, ttl_ms=0)) == {
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    assert jsonrpc.decode(modern.complete({}, ttl_ms=5, shared=True))["cacheScope"] == "public"


@pytest.mark.parametrize(
    ("error", "versions_named"),
    [
        ('{"data":{"supported":["a",1,"b"]}}', ["a", "b"]),
        ('{"data":{"supported":"a"}}', []),
        ('{"data":[]}', []),
        ("{}", []),
        ("[]", []),
    ],
)
def test_an_unsupported_version_error_names_versions_and_anything_else_names_none(
    error: str, versions_named: list[str]
) -> None:
    assert modern.supported_by(Raw(error.encode())) == versions_named


def test_the_codes_that_betray_a_modern_server_are_those_of_its_revision() -> None:
    assert sorted(modern.ERROR_CODES) == sorted((HeaderMismatch.family, UnsupportedVersion.family, -32021))


@pytest.mark.parametrize("revision", versions.REVISIONS, ids=lambda revision: revision.version)
def test_a_revision_is_found_by_its_version(revision: Revision) -> None:
    assert versions.BY_VERSION[revision.version] is revision


@pytest.mark.parametrize(
    ("subscribed", "uri", "news"),
    [
        ("file:///a", "file:///a", True),
        ("file:///a", "file:///a/b", True),
        ("file:///a/", "file:///a/b", True),
        ("note://a", "note://a#1", True),
        ("file:///a", "file:///ab", False),
        ("file:///a/b", "file:///a", False),
    ],
)
def test_an_update_concerns_what_was_subscribed_to_and_its_parts(subscribed: str, uri: str, news: bool) -> None:
    assert legacy.concerns(subscribed, uri) is news
