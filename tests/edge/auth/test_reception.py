"""What a request meets before it is read: resource ids, challenges, and tokens where they do not belong."""

from typing import Any

import pytest

from bascule.call import ANONYMOUS, Caller
from bascule.edge.auth.callers import Callers
from bascule.edge.auth.identify import Identify
from bascule.edge.auth.keys import KeyBook
from bascule.edge.auth.reception import Login, Reception
from bascule.errors import RateLimited, ScopeDenied, ToolNotFound, Unauthenticated
from bascule.policy.keys import PEPPER_BYTES, KeySnapshot
from bascule.policy.options import AuthOptions
from bascule.policy.scopes import OPERATORS, Authority

ISSUER = "https://as.example"
PUBLIC = "https://mcp.example.com"
METADATA = f"{PUBLIC}/.well-known/oauth-protected-resource/mcp"


def reception(**login: Any) -> Reception:
    callers = Callers(AuthOptions(), {}, {})
    keys = KeyBook(KeySnapshot(bytes(PEPPER_BYTES)), "live")
    return Reception(Identify(callers, keys, None), Login(**login))


def scope(query: bytes = b"", host: str = "localhost:8777", scheme: str = "http") -> dict[str, Any]:
    return {
        "type": "http",
        "scheme": scheme,
        "query_string": query,
        "headers": [(b"host", host.encode())],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8777),
    }


@pytest.mark.parametrize("query", [b"access_token=x", b"a=1&access_token=", b"session_id=1&access_token=x"])
async def test_a_token_in_a_query_is_a_bad_request_even_where_everybody_may_come(query: bytes) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await reception().caller(scope(query), {}, "x")
    assert caught.value.reason == "invalid_request"


async def test_a_query_without_a_token_is_none_of_its_business() -> None:
    assert await reception().caller(scope(b"session_id=1"), {}, "x") == ANONYMOUS


@pytest.mark.parametrize("path", ["/mcp", "/servers/crm/mcp", "/sse", "/servers/crm/sse"])
def test_each_endpoint_is_a_resource_of_its_own(path: str) -> None:
    assert reception(public_url=PUBLIC).resource(scope(host="elsewhere:1"), path) == PUBLIC + path
    assert reception(public_url=f"{PUBLIC}/").resource(scope(), path) == PUBLIC + path


@pytest.mark.parametrize("path", ["/status", "/nowhere", "/", "/servers/../mcp"])
def test_what_is_no_endpoint_is_part_of_the_whole(path: str) -> None:
    assert reception(public_url=PUBLIC).resource(scope(), path) == f"{PUBLIC}/mcp"


def test_without_a_public_address_it_is_the_one_that_the_client_used() -> None:
    assert reception().resource(scope(), "/mcp") == "http://localhost:8777/mcp"
    assert reception().resource(scope(host="[::1]:8777", scheme="https"), "/mcp") == "https://[::1]:8777/mcp"


def headers(error: Any, **login: Any) -> dict[str, str]:
    made = reception(public_url=PUBLIC, **login)
    return {name.decode(): value.decode() for name, value in made.headers_for(error, f"{PUBLIC}/mcp")}


def test_who_said_nothing_is_told_where_to_log_in_and_for_what() -> None:
    unsaid = Unauthenticated("say who you are", reason="")
    told = headers(unsaid, issuers=[ISSUER], entry=["crm:read"])
    assert told == {"www-authenticate": f'Bearer scope="crm:read", resource_metadata="{METADATA}"'}
    assert headers(unsaid) == {"www-authenticate": 'Bearer realm="bascule"'}


def test_a_wrong_token_is_told_so() -> None:
    told = headers(Unauthenticated('it has "expired"'), issuers=[ISSUER])
    start = f'Bearer error="invalid_token", resource_metadata="{METADATA}", error_description="'
    assert told["www-authenticate"].startswith(start)
    assert "\\" not in told["www-authenticate"]


def test_who_lacks_scopes_is_told_all_of_them_but_none_that_is_not_asked_for() -> None:
    denied = ScopeDenied("it needs more", ("crm:write", "hr", "offline_access"))
    told = headers(denied, issuers=[ISSUER], entry=["entry"])["www-authenticate"]
    assert told.startswith(f'Bearer error="insufficient_scope", scope="crm:write hr", resource_metadata="{METADATA}"')


def test_who_came_too_often_is_told_when_to_come_back() -> None:
    assert headers(RateLimited("slower", 0.2)) == {"retry-after": "1"}
    assert headers(ToolNotFound("no")) == {}
    assert headers(None) == {}


def test_the_pages_of_operators_are_for_operators() -> None:
    made = reception()
    made.check_operator(Caller("me", Authority(frozenset(OPERATORS))))
    made.check_operator(ANONYMOUS)
    with pytest.raises(ScopeDenied) as caught:
        made.check_operator(Caller("me", Authority(frozenset({"crm"}))))
    assert caught.value.scopes == OPERATORS


def test_where_nobody_logs_in_there_is_nothing_to_describe() -> None:
    assert reception().described("/mcp", scope()) is None
    assert ISSUER.encode() in (reception(public_url=PUBLIC, issuers=[ISSUER]).described("/mcp", scope()) or b"")
