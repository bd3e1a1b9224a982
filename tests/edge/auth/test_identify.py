"""Who sends a request, decided in one place; what cannot be decided is a refusal."""

from typing import Any

import pytest

from bascule.call import ANONYMOUS, BEARER
from bascule.edge.auth.attempts import MAX_FAILURES
from bascule.edge.auth.callers import Callers, Credential
from bascule.edge.auth.identify import Identify, status_of, token_in
from bascule.edge.auth.keys import KeyBook
from bascule.errors import RateLimited, ScopeDenied, Unauthenticated, Unavailable
from bascule.policy.keys import PEPPER_BYTES, KeySnapshot
from bascule.policy.options import AuthOptions, CallerOptions, Grant

KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
OTHER = KEY[::-1]
TOKEN = "the-one-token-for-everything"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class World:
    def __init__(self, auth: AuthOptions | None = None, **more: Any) -> None:
        self.clock = Clock()
        agent = CallerOptions(keys=(KEY,), scopes=("crm",), certificate="CN=agent")
        callers = Callers(auth or AuthOptions(), {}, {"agent": agent})
        self.identify = Identify(callers, book(KEY), None, alone=False, clock=self.clock, **more)

    async def name(self, shown: str | None = None, *, subject: str | None = None, ip: str = "10.0.0.1") -> str:
        """Who it is, or what kind of refusal."""
        credential = Credential(shown and f"Bearer {shown}", subject, ip, "https://x.example/mcp")
        try:
            return (await self.identify.caller(credential)).name
        except (Unauthenticated, RateLimited, ScopeDenied) as error:
            return error.kind


def book(*keys: str) -> KeyBook:
    return KeyBook(KeySnapshot(bytes(PEPPER_BYTES)), "live", {"agent": keys})


async def test_a_key_a_certificate_and_the_one_token_are_callers() -> None:
    world = World(bearer=TOKEN)
    assert await world.name(KEY) == "agent"
    assert await world.name(subject="CN=agent") == "agent"
    assert await world.name(TOKEN) == BEARER.name
    for wrong in (OTHER, TOKEN + "x", TOKEN[:-1], KEY.upper(), "ä"):
        assert await world.name(wrong) == "unauthenticated"
    assert await world.name(subject="CN=somebody") == "unauthenticated"
    assert await world.name() == "unauthenticated"


async def test_a_wrong_credential_is_not_made_good_by_a_certificate_or_by_being_nobody() -> None:
    world = World(AuthOptions(anonymous=Grant(scopes=("open",))))
    assert await world.name(OTHER, subject="CN=agent") == "unauthenticated"
    assert await world.name(OTHER) == "unauthenticated"
    assert await world.name() == ANONYMOUS.name


async def test_a_caller_is_remembered_for_a_moment_and_then_looked_at_again() -> None:
    world = World()
    credential = Credential(f"Bearer {KEY}", None, "10.0.0.1", "x")
    assert world.identify.known(credential) is None
    caller = await world.identify.caller(credential)
    assert world.identify.known(credential) is caller
    world.clock.now_s += 1.1
    assert world.identify.known(credential) is None


async def test_keys_that_are_gone_are_refused_at_once() -> None:
    world = World()
    credential = Credential(f"Bearer {KEY}", None, "10.0.0.1", "x")
    await world.identify.caller(credential)
    world.identify.adopt_keys(book(OTHER))
    assert world.identify.known(credential) is None
    assert (await world.name(KEY), await world.name(OTHER)) == ("unauthenticated", "agent")


async def test_too_many_wrong_keys_from_one_address_have_to_wait_there_and_nowhere_else() -> None:
    world = World()
    wrong = [f"{number:x<40}" for number in range(MAX_FAILURES + 1)]
    found = [await world.name(each) for each in wrong]
    assert found == ["unauthenticated"] * MAX_FAILURES + ["rate_limited"]
    assert await world.name(wrong[0], ip="10.0.0.2") == "unauthenticated"
    assert await world.name(KEY) == "agent"
    world.clock.now_s += 61
    assert await world.name(wrong[0]) == "unauthenticated"


async def test_without_the_scopes_that_everybody_needs_nobody_comes_in() -> None:
    assert await World(required=("hr",)).name(KEY) == "scope_denied"
    assert await World(required=("crm:read",)).name(KEY) == "agent"


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer ü"])
def test_a_malformed_header_is_a_bad_request(value: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        token_in(value)
    assert (caught.value.reason, status_of(caught.value)) == ("invalid_request", 400)


@pytest.mark.parametrize("value", ["Basic YTpi", "Digest x", "", "bearerx abc"])
def test_another_scheme_is_no_credential(value: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        token_in(value)
    assert (caught.value.reason, status_of(caught.value)) == ("", 401)


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER   abc"])
def test_the_scheme_may_be_in_any_case(value: str) -> None:
    assert token_in(value) == "abc"


def test_what_nobody_can_judge_now_is_503() -> None:
    assert status_of(Unavailable("the issuer is down")) == 503
    assert status_of(RateLimited("slower", 1.0)) == 429
    assert status_of(ScopeDenied("no", ("x",))) == 403
