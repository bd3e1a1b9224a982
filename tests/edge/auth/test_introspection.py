"""Opaque tokens: what their issuer says of them, for how long that is believed, and what when it says nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiohttp import web
from authority import ABSENT, AUDIENCE, MACHINE, Authority, Trouble

from bascule.edge.auth import introspection
from bascule.edge.auth.introspection import Introspection
from bascule.errors import ConfigInvalid, Unauthenticated, Unavailable
from bascule.policy.options import IntrospectionOptions, IssuerOptions


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    async with Authority(algs=["ES256"], opaque=True) as authority:
        yield authority


@pytest.fixture
async def asking(authority: Authority) -> AsyncIterator[Introspection]:
    asking = Introspection("corp", options_of(authority))
    yield asking
    await asking.close()


def options_of(authority: Authority, secret: str = MACHINE[1], **more: Any) -> IssuerOptions:
    asking = IntrospectionOptions(
        url=f"{authority.issuer}/introspect", client_id=MACHINE[0], client_secret=secret, **more
    )
    return IssuerOptions(issuer=authority.issuer, introspection=asking)


async def name_of(asking: Introspection, token: str, now_s: float | None = None, audience: str = AUDIENCE) -> str:
    claims, _ = await asking.claims(token, audience, time.time() if now_s is None else now_s)
    return claims.name


async def test_the_issuer_says_whose_a_token_is_and_what_for(authority: Authority, asking: Introspection) -> None:
    now_s = time.time()
    token = authority.opaque_token(scope="crm:read a::b", exp=now_s + 30)
    claims, until_s = await asking.claims(token, AUDIENCE, now_s)
    assert (claims.issuer, claims.name, claims.expires_at_s) == ("corp", "alice", now_s + 30)
    assert claims.scopes == {"crm:read"}
    assert until_s == now_s + 30  # not for a minute: it expires before


@pytest.mark.parametrize("token", ["unknown", "a.b", "-" * 8000])
async def test_a_token_that_is_not_active_is_refused(asking: Introspection, token: str) -> None:
    with pytest.raises(Unauthenticated, match="unknown to its issuer"):
        await name_of(asking, token)


@pytest.mark.parametrize(
    "claims",
    [
        *({"aud": AUDIENCE + "/"}, {"aud": "https://other.example.com"}, {"aud": ABSENT}, {"aud": [5]}),
        *({"iss": "https://other.example.com"}, {"sub": ""}, {"sub": ABSENT}, {"sub": "a\nb"}),
        *({"exp": "2100-01-01"}, {"nbf": 4e9}, {"token_type": "DPoP"}, {"token_type": 5}, {"cnf": {"jkt": "x"}}),
    ],
)
async def test_what_is_said_is_checked_like_a_jwt(
    authority: Authority, asking: Introspection, claims: dict[str, Any]
) -> None:
    if "exp" in claims:
        authority.now_s = lambda: 0.0  # type: ignore[method-assign]  # or it would compare the text with a number
    with pytest.raises((Unauthenticated, Unavailable)):
        await name_of(asking, authority.opaque_token(**claims))


async def test_an_answer_without_issuer_and_end_is_good_for_a_minute(
    authority: Authority, asking: Introspection
) -> None:
    now_s = time.time()
    claims, until_s = await asking.claims(authority.opaque_token(iss=ABSENT, exp=ABSENT, iat=ABSENT), AUDIENCE, now_s)
    assert claims.expires_at_s == until_s == now_s + 60


# ---- for how long


async def test_the_issuer_is_asked_once_a_minute_about_a_token(authority: Authority, asking: Introspection) -> None:
    token, now_s = authority.opaque_token(), time.time()
    assert await asyncio.gather(*(name_of(asking, token, now_s) for _ in range(50))) == ["alice"] * 50
    assert await name_of(asking, token, now_s + 59) == "alice"
    assert authority.asked["introspect"] == 1
    assert await name_of(asking, token, now_s + 60) == "alice"
    assert authority.asked["introspect"] == 2


async def test_a_revoked_token_is_refused_within_a_minute(authority: Authority, asking: Introspection) -> None:
    token, now_s = authority.opaque_token(), time.time()
    assert await name_of(asking, token, now_s) == "alice"
    authority.revoke(token)
    with pytest.raises(Unauthenticated):
        await name_of(asking, token, now_s + 60)


async def test_an_answer_is_believed_no_longer_than_the_operator_allows(authority: Authority) -> None:
    asking = Introspection("corp", options_of(authority, cache_s=0))
    token = authority.opaque_token()
    for _ in range(3):
        assert await name_of(asking, token) == "alice"
    assert authority.asked["introspect"] == 3
    await asking.close()


async def test_a_clock_that_was_set_back_does_not_make_an_answer_young_again(
    authority: Authority, asking: Introspection
) -> None:
    token, now_s = authority.opaque_token(), time.time()
    assert await name_of(asking, token, now_s) == "alice"
    authority.revoke(token)
    with pytest.raises(Unauthenticated):
        await name_of(asking, token, now_s - 30)


async def test_a_token_that_was_not_good_yet_is_asked_about_again_soon(
    authority: Authority, asking: Introspection
) -> None:
    now_s = time.time()
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await name_of(asking, "not yet", now_s)
    assert authority.asked["introspect"] == 1
    authority._tokens["not yet"] = authority.claims()
    assert await name_of(asking, "not yet", now_s + 10) == "alice"


async def test_an_answer_for_one_audience_is_not_one_for_another(authority: Authority, asking: Introspection) -> None:
    token = authority.opaque_token()
    assert await name_of(asking, token) == "alice"
    with pytest.raises(Unauthenticated):
        await name_of(asking, token, audience="https://gw.example.com/servers/crm/mcp")


async def test_no_more_answers_are_kept_than_there_is_room_for(
    authority: Authority, asking: Introspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "_MOST_KEPT", 3)
    for token in [authority.opaque_token() for _ in range(10)]:
        assert await name_of(asking, token) == "alice"
    assert len(asking._answers) == 3


# ---- outage


TROUBLES: Final[list[Trouble]] = ["500", "huge", "redirect", "html", "gzip"]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_while_the_issuer_is_out_of_order_nobody_new_is_let_in(
    authority: Authority, asking: Introspection, trouble: Trouble
) -> None:
    token, other, now_s = authority.opaque_token(), authority.opaque_token(), time.time()
    assert await name_of(asking, token, now_s) == "alice"
    authority.trouble = trouble
    assert await name_of(asking, token, now_s + 59) == "alice"
    for refused, at_s in ((token, now_s + 60), (other, now_s)):
        with pytest.raises(Unavailable) as caught:
            await name_of(asking, refused, at_s)
        assert caught.value.retry_after_s
        assert refused not in caught.value.message
    authority.trouble = ""
    assert await name_of(asking, other, now_s) == "alice"


async def test_a_server_that_is_gone_is_an_outage(authority: Authority, asking: Introspection) -> None:
    token = authority.opaque_token()
    await authority.shut()
    with pytest.raises(Unavailable):
        await name_of(asking, token)
    await authority.open()
    assert await name_of(asking, token) == "alice"


async def test_a_wrong_secret_of_ours_is_no_fault_of_the_caller(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    asking = Introspection("corp", options_of(authority, secret="wrong-secret"))
    with pytest.raises(Unavailable):
        await name_of(asking, authority.opaque_token())
    assert "401" in caplog.text
    assert "wrong-secret" not in caplog.text
    await asking.close()


async def test_secrets_with_odd_characters_arrive(authority: Authority) -> None:
    """RFC 6749, 2.3.1: both are form-encoded before they are put together."""
    authority.clients[MACHINE[0]].secret = odd = "a:b %+é&="
    asking = Introspection("corp", options_of(authority, secret=odd))
    assert await name_of(asking, authority.opaque_token()) == "alice"
    await asking.close()


async def test_no_more_questions_are_on_their_way_than_there_is_room_for(
    authority: Authority, asking: Introspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "MAX_AT_ONCE", 2)
    authority.trouble = "hang"
    waiting = [asyncio.ensure_future(name_of(asking, token)) for token in ("a", "b")]
    await authority.was_asked("introspect", 2)
    with pytest.raises(Unavailable):
        await name_of(asking, "c")
    await asking.close()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, Unavailable)


@pytest.mark.parametrize(
    "body", ["{}", "[]", '{"active":"true"}', '{"active":1}', '{"active":true,"active":false}', ""]
)
async def test_an_answer_that_does_not_say_is_none(body: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    application = web.Application()
    application.router.add_post("/introspect", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    options = IssuerOptions(
        issuer=issuer,
        introspection=IntrospectionOptions(url=f"{issuer}/introspect", client_id="a", client_secret="b"),
    )
    asking = Introspection("corp", options)
    with pytest.raises(Unavailable):
        await name_of(asking, "token")
    await asking.close()
    await runner.cleanup()


# ---- where


async def test_the_endpoint_is_found_in_the_metadata_of_the_issuer(authority: Authority) -> None:
    options = IssuerOptions(
        issuer=authority.issuer,
        introspection=IntrospectionOptions(client_id=MACHINE[0], client_secret=MACHINE[1]),
    )
    asking = Introspection("corp", options)
    assert await name_of(asking, authority.opaque_token()) == "alice"
    assert await name_of(asking, authority.opaque_token()) == "alice"
    assert authority.asked["oauth-authorization-server"] == 1
    await asking.close()


async def test_an_issuer_whose_metadata_name_no_endpoint_cannot_be_asked(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    authority.metadata_members = {"introspection_endpoint": ABSENT}
    options = IssuerOptions(
        issuer=authority.issuer, introspection=IntrospectionOptions(client_id="a", client_secret="b")
    )
    with pytest.raises(Unavailable):
        await name_of(Introspection("corp", options), "token")
    assert "introspection.url" in caplog.text


def test_without_its_options_there_is_nothing_to_ask() -> None:
    with pytest.raises(ConfigInvalid):
        Introspection("corp", IssuerOptions(issuer="https://auth.example.com"))
