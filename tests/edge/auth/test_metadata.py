"""What clients are told before they log in: MCP 2026-07-28 Authorization; RFC 9728; RFC 6750, 3."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.auth import metadata
from bascule.edge.auth.metadata import challenge, document, metadata_url, requestable, resource_of, well_known
from bascule.policy.scopes import is_scope

PUBLIC = "https://tools.example.com"
ISSUER = "https://login.example.com/realms/Main/"
ENDPOINTS = ("/mcp", "/sse", "/servers/crm/mcp", "/servers/crm/sse")
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def told(resource: str = f"{PUBLIC}/mcp", issuers: tuple[str, ...] = (ISSUER,), scopes: Any = ()) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document(resource, issuers, scopes))
    return found


def parameters(value: bytes) -> dict[str, str]:
    """The parameters of a Bearer challenge, by the grammar of RFC 9110, 11.2 and 5.6.4."""
    text = value.decode("ascii")
    assert text.startswith("Bearer ")
    one = r"([a-z_]+)=\"((?:[\t !#-\[\]-~]|\\[\t -~])*)\""
    assert re.fullmatch(rf"{one}(?:, {one})*", text.removeprefix("Bearer ")), text
    found = re.findall(one, text)
    assert len({name for name, _ in found}) == len(found), "a parameter stands twice"
    return dict(found)


# ---- resource ids: MCP 2026-07-28, "Canonical Server URI"


@pytest.mark.parametrize(
    ("public", "resource"),
    [
        ("https://tools.example.com", "https://tools.example.com/mcp"),
        ("https://tools.example.com/", "https://tools.example.com/mcp"),
        ("HTTPS://Tools.Example.COM", "https://tools.example.com/mcp"),
        ("https://tools.example.com:443", "https://tools.example.com/mcp"),
        ("http://tools.example.com:80/", "http://tools.example.com/mcp"),
        ("http://tools.example.com:443", "http://tools.example.com:443/mcp"),
        ("https://tools.example.com:8443", "https://tools.example.com:8443/mcp"),
        ("https://example.com/Tools/", "https://example.com/Tools/mcp"),
        ("http://[::1]:8777", "http://[::1]:8777/mcp"),
        ("http://127.0.0.1:8777", "http://127.0.0.1:8777/mcp"),
    ],
)
def test_a_resource_id_is_the_canonical_uri_of_the_endpoint(public: str, resource: str) -> None:
    assert resource_of(public, "/mcp") == resource


def test_each_path_is_a_resource_of_its_own() -> None:
    assert len({resource_of(PUBLIC, path) for path in ENDPOINTS}) == len(ENDPOINTS)


@pytest.mark.parametrize(
    "public",
    [
        *("", "tools.example.com", "//tools.example.com", "ftp://tools.example.com", "https://", "https:///mcp"),
        *("https://tools.example.com#x", "https://tools.example.com?x=1", "https://tools.example.com/#"),
        *("https://tools.example.com?", "https://user@tools.example.com", "https://tools.example.com:port"),
        *("https://tools.example.com:0", "https://tools.example.com:99999", "https://täglich.example"),
        *('https://tools.example.com/"', "https://tools.example.com/a b", "https://tools.example.com/a\n"),
        *("https://tools.exa\tmple.com", "https://tools.example.com/..", "https://tools.example.com/a//b", "https://["),
        *("https://a\\b", "https://-a", "https://a..", "javascript:alert(1)", "https://[v1.a]"),
    ],
)
def test_what_is_no_plain_http_url_is_refused_with_the_url_in_the_message(public: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(public))):
        resource_of(public, "/mcp")


@given(
    st.sampled_from(["http", "HTTPS", "https"]),
    st.from_regex(r"[A-Za-z0-9]{1,8}(\.[A-Za-z0-9]{1,8}){0,3}", fullmatch=True),
    st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}")),
    st.from_regex(r"(/[A-Za-z0-9_~-]{1,8}){0,3}/?", fullmatch=True),
    st.sampled_from(ENDPOINTS),
)
def test_a_resource_id_stays_what_it_is(scheme: str, host: str, port: str, path: str, endpoint: str) -> None:
    resource = resource_of(f"{scheme}://{host}{port}{path}", endpoint)
    assert resource_of(resource, "") == resource
    assert not resource.endswith("/")
    parts = urlsplit(resource)
    assert (parts.query, parts.fragment, parts.username) == ("", "", None)
    assert parts.netloc == parts.netloc.lower()


# ---- where documents lie: RFC 9728, 3.1


def test_the_document_of_an_endpoint_lies_between_host_and_path() -> None:
    assert metadata_url(f"{PUBLIC}/servers/crm/mcp") == f"{PUBLIC}{WELL_KNOWN}/servers/crm/mcp"
    assert metadata_url("https://example.com:8443/tools/mcp") == f"https://example.com:8443{WELL_KNOWN}/tools/mcp"


@pytest.mark.parametrize("public", [PUBLIC, "https://example.com/tools", "https://example.com/mcp/"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_client_that_follows_the_challenge_finds_its_endpoint(public: str, endpoint: str) -> None:
    path = urlsplit(metadata_url(resource_of(public, endpoint))).path
    assert well_known(path, public) == endpoint


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_proxy_may_have_taken_its_part_off_the_path(endpoint: str) -> None:
    assert well_known(f"{WELL_KNOWN}{endpoint}", "https://example.com/tools") == endpoint


def test_the_root_form_stands_for_the_aggregate() -> None:
    assert well_known(WELL_KNOWN) == "/mcp"
    assert well_known(f"{WELL_KNOWN}/tools", "https://example.com/tools") == "/mcp"


@pytest.mark.parametrize(
    "path",
    [
        *("/mcp", "/", "", "/.well-known", "/.well-known/oauth-authorization-server", "/.well-known/oauth-protected"),
        *(f"{WELL_KNOWN}{rest}" for rest in ("/", "x", "mcp", "/mcp/", "//mcp", "/mcp/x", "/MCP", "/status")),
        *(f"{WELL_KNOWN}{rest}" for rest in ("/servers/mcp", "/servers//mcp", "/servers/a/b/mcp", "/servers/../mcp")),
        *(f"{WELL_KNOWN}{rest}" for rest in ("/servers/a%2fb/mcp", "/servers/crm/mcp\n", f"/servers/{'a' * 33}/mcp")),
        *(f"/mcp{WELL_KNOWN}", f"/x{WELL_KNOWN}/mcp", f"{WELL_KNOWN}/tools/mcp"),
    ],
)
def test_no_other_path_is_a_place_of_documents(path: str) -> None:
    assert well_known(path) is None


@given(st.text(max_size=60))
def test_a_place_of_documents_always_names_an_endpoint(rest: str) -> None:
    found = well_known(WELL_KNOWN + rest, "https://example.com/tools")
    assert found is None or re.fullmatch(r"(/servers/[A-Za-z0-9_-]+)?/(mcp|sse)", found)


# ---- documents: RFC 9728, 2


def test_a_document_names_its_resource_and_the_issuers_character_by_character() -> None:
    found = told(issuers=(ISSUER, "https://other.example.com", ISSUER))
    assert found["resource"] == f"{PUBLIC}/mcp"
    assert found["authorization_servers"] == [ISSUER, "https://other.example.com"]
    assert found["bearer_methods_supported"] == ["header"], "a token in a query string or a body is refused"


def test_there_is_no_document_without_an_issuer() -> None:
    with pytest.raises(ValueError, match="issuer"):
        document(f"{PUBLIC}/mcp", (), ("crm:read",))


def test_scopes_that_nobody_can_ask_for_are_not_in_it() -> None:
    asked = ("crm:read", "crm:*", "*", "offline_access", "crm:*:lead", "openid", "crm:read")
    assert told(scopes=asked)["scopes_supported"] == ["crm:read", "openid"]


def test_without_scopes_to_ask_for_the_document_does_not_speak_of_them() -> None:
    assert "scopes_supported" not in told(scopes=("*", "offline_access"))


@given(st.lists(st.text(max_size=12) | st.sampled_from(["offline_access", "crm:*", "a:b:c", "a"])))
def test_what_is_requestable_is_a_scope_and_no_wildcard(scopes: list[str]) -> None:
    found = requestable(scopes)
    assert len(set(found)) == len(found)
    assert all(is_scope(s) and "*" not in s.split(":") and s != "offline_access" for s in found)
    assert requestable(found) == found


def test_any_page_may_read_a_document_before_it_can_log_in() -> None:
    headers = dict(metadata.PUBLIC)
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in headers
    assert b"mcp-protocol-version" in headers[b"access-control-allow-headers"]


# ---- challenges: RFC 6750, 3 and 3.1; MCP 2026-07-28, "Error Handling"

WHERE = metadata_url(f"{PUBLIC}/mcp")


def test_who_sent_no_credential_is_told_where_to_get_one_and_of_no_error() -> None:
    name, value = challenge(WHERE, scopes=("crm:read", "crm:write"))
    assert name == b"www-authenticate"
    assert parameters(value) == {"resource_metadata": WHERE, "scope": "crm:read crm:write"}


def test_without_a_fault_nothing_is_described() -> None:
    assert "error_description" not in parameters(challenge(WHERE, description="expired")[1])


def test_a_bad_token_is_called_one() -> None:
    _, value = challenge(WHERE, fault="invalid_token", description="the token has expired")
    assert parameters(value) == {
        "error": "invalid_token",
        "error_description": "the token has expired",
        "resource_metadata": WHERE,
    }


def test_a_step_up_names_all_scopes_at_once_and_where_to_get_them() -> None:
    _, value = challenge(WHERE, fault="insufficient_scope", scopes=("crm:read", "crm:write:lead", "crm:read"))
    assert parameters(value) == {
        "error": "insufficient_scope",
        "scope": "crm:read crm:write:lead",
        "resource_metadata": WHERE,
    }


def test_offline_access_and_wildcards_are_never_asked_for() -> None:
    _, value = challenge(WHERE, fault="insufficient_scope", scopes=("offline_access", "crm:*", "crm:read", "*"))
    assert parameters(value)["scope"] == "crm:read"


def test_without_issuers_a_challenge_still_has_a_parameter() -> None:
    assert parameters(challenge(None, scopes=("crm:read",))[1]) == {"realm": "bascule"}
    assert parameters(challenge(None, fault="invalid_token")[1]) == {"error": "invalid_token"}


def test_a_challenge_without_scopes_leaves_the_choice_to_the_document() -> None:
    assert parameters(challenge(WHERE)[1]) == {"resource_metadata": WHERE}


@given(st.text(), st.lists(st.text(max_size=20)), st.sampled_from(["", "invalid_request", "invalid_token"]))
def test_nothing_that_is_said_breaks_out_of_the_header(description: str, scopes: list[str], fault: Any) -> None:
    _, value = challenge(WHERE, scopes=scopes, fault=fault, description=description)
    assert parameters(value)["resource_metadata"] == WHERE
    assert not set(value) & set(b"\r\n\x00\\")
