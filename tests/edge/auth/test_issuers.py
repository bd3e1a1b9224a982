"""Several authorization servers at once: which one judges a token, and for how long its verdict is kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from authority import ABSENT, AUDIENCE, MACHINE, Authority, SigningKey

from bascule.edge.auth import issuers as module
from bascule.edge.auth.issuers import Issuers
from bascule.edge.auth.jwks import ANEW_EVERY_S, FRESH_S, USABLE_S
from bascule.errors import ConfigInvalid, Unauthenticated, Unavailable
from bascule.policy.options import IntrospectionOptions, IssuerOptions

OTHER_AUDIENCE: Final = "https://gw.example.com/servers/crm/mcp"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def trusting(clock: Clock, **issuers: IssuerOptions) -> AsyncIterator[Issuers]:
    trusted = Issuers(issuers, clock=clock)
    try:
        yield trusted
    finally:
        await trusted.close()


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    async with Authority(algs=["ES256", "RS256", "EdDSA"]) as authority:
        yield authority


@pytest.fixture
async def issuers(authority: Authority, clock: Clock) -> AsyncIterator[Issuers]:
    async with trusting(clock, corp=IssuerOptions(issuer=authority.issuer)) as issuers:
        yield issuers


def asking(authority: Authority) -> IssuerOptions:
    endpoint = IntrospectionOptions(client_id=MACHINE[0], client_secret=MACHINE[1])
    return IssuerOptions(issuer=authority.issuer, introspection=endpoint)


async def name_of(issuers: Issuers, token: str, now_s: float | None = None, audience: str = AUDIENCE) -> str:
    return (await issuers.claims(token, audience, time.time() if now_s is None else now_s)).name


async def refused(issuers: Issuers, token: str, because: str | None = None, now_s: float | None = None) -> None:
    with pytest.raises(Unauthenticated, match=because):
        await name_of(issuers, token, now_s)


# ---- whose token it is


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
async def test_a_token_is_judged_with_the_keys_that_its_issuer_publishes(
    authority: Authority, issuers: Issuers, alg: str
) -> None:
    claims = await issuers.claims(authority.token(alg=alg, scope="crm:read"), AUDIENCE, time.time())
    assert (claims.issuer, claims.name) == ("corp", "alice")
    assert claims.scopes == {"crm:read"}


@pytest.mark.parametrize("path", ["", "/tenant1"])
async def test_an_issuer_may_have_a_path(path: str, clock: Clock) -> None:
    async with (
        Authority(algs=["ES256"], path=path) as authority,
        trusting(clock, corp=IssuerOptions(issuer=authority.issuer)) as issuers,
    ):
        assert await name_of(issuers, authority.token()) == "alice"


async def test_keys_of_one_issuer_are_good_for_its_own_tokens_only(authority: Authority, clock: Clock) -> None:
    async with (
        Authority(algs=["ES256"]) as other,
        trusting(clock, one=IssuerOptions(issuer=authority.issuer), two=IssuerOptions(issuer=other.issuer)) as issuers,
    ):
        assert await name_of(issuers, authority.token()) == "alice"
        assert (await issuers.claims(other.token(sub="bob"), AUDIENCE, time.time())).issuer == "two"
        await refused(issuers, authority.token(iss=other.issuer), "signature")
        await refused(issuers, authority.token(iss=other.issuer, signed_with=authority.keys[0]), "signature")


async def test_an_issuer_that_nobody_trusts_is_never_asked(clock: Clock, authority: Authority) -> None:
    async with Authority(algs=["ES256"]) as stranger:
        async with trusting(clock, corp=IssuerOptions(issuer=authority.issuer)) as issuers:
            await refused(issuers, stranger.token(), "not trusted")
            for near in (authority.issuer + "/", authority.issuer.replace("http", "HTTP"), authority.issuer + "@x"):
                await refused(issuers, authority.token(iss=near), "not trusted")
        assert not stranger.asked


async def test_a_token_that_cannot_be_good_makes_nobody_fetch_keys(authority: Authority, issuers: Issuers) -> None:
    for claims in ({"aud": "other"}, {"exp": 5}, {"sub": ""}, {"nbf": 4e9}):
        await refused(issuers, authority.token(**claims))
    for header in ({"alg": "HS256"}, {"alg": "none"}, {"typ": "JWT"}, {"crit": ["x"]}):
        await refused(issuers, authority.token(header=header))
    assert not authority.asked


async def test_keys_that_a_token_points_at_are_not_fetched(authority: Authority, issuers: Issuers) -> None:
    async with Authority(algs=["ES256"]) as mallory:
        header: dict[str, Any] = {"jku": f"{mallory.issuer}/jwks", "x5u": f"{mallory.issuer}/jwks"}
        header |= {"jwk": mallory.keys[0].published()}
        token = authority.token(signed_with=mallory.keys[0], header=header)
        await refused(issuers, token, "signature")
        assert not mallory.asked


async def test_the_keys_may_be_where_the_operator_says(authority: Authority, clock: Clock) -> None:
    authority.metadata_members = {"jwks_uri": ABSENT}
    options = IssuerOptions(issuer=authority.issuer, jwks_url=f"{authority.issuer}/jwks")
    async with trusting(clock, corp=options) as issuers:
        assert await name_of(issuers, authority.token()) == "alice"
    assert authority.asked["oauth-authorization-server"] == 0


@pytest.mark.parametrize(
    "members",
    [
        *({"jwks_uri": ABSENT}, {"jwks_uri": "https://10.0.0.1/jwks"}, {"jwks_uri": "file:///etc/passwd"}),
        *({"issuer": "https://honest.example.com"}, {"issuer": ABSENT}),
    ],
)
async def test_metadata_that_lead_nowhere_let_nobody_in(
    authority: Authority, issuers: Issuers, members: dict[str, Any]
) -> None:
    authority.metadata_members = members
    with pytest.raises(Unavailable):
        await name_of(issuers, authority.token())


@pytest.mark.parametrize("token", ["", "x", "\x00", "é" * 10, "\ud800", "a b", "e.", "ey.", "eyJ.", "A" * 1_000_000])
async def test_what_is_no_token_at_all_is_refused(issuers: Issuers, token: str) -> None:
    assert issuers.known(token, AUDIENCE, time.time()) is None
    await refused(issuers, token)


# ---- verdicts


async def test_a_verdict_is_given_again_without_waiting_for_anything(authority: Authority, issuers: Issuers) -> None:
    token, now_s = authority.token(), time.time()
    assert issuers.known(token, AUDIENCE, now_s) is None
    said = await issuers.claims(token, AUDIENCE, now_s)
    await authority.shut()
    assert issuers.known(token, AUDIENCE, now_s) is said
    assert await issuers.claims(token, AUDIENCE, now_s) is said
    assert issuers.known(token, AUDIENCE, now_s + 59) is said
    assert issuers.known(token, AUDIENCE, now_s + 60) is None


async def test_a_verdict_is_for_one_token_at_one_endpoint(authority: Authority, issuers: Issuers) -> None:
    token, now_s = authority.token(), time.time()
    await issuers.claims(token, AUDIENCE, now_s)
    assert issuers.known(token, OTHER_AUDIENCE, now_s) is None
    assert issuers.known(token[:-1], AUDIENCE, now_s) is None
    with pytest.raises(Unauthenticated, match="somebody else"):
        await issuers.claims(token, OTHER_AUDIENCE, now_s)


async def test_a_verdict_ends_with_the_token_and_not_after_the_skew(authority: Authority, issuers: Issuers) -> None:
    now_s = time.time()
    token = authority.token(exp=now_s + 10)
    await issuers.claims(token, AUDIENCE, now_s)
    assert issuers.known(token, AUDIENCE, now_s + 9)
    assert issuers.known(token, AUDIENCE, now_s + 10) is None
    await refused(issuers, token, "expired", now_s + 70)


async def test_a_clock_that_was_set_back_does_not_make_a_verdict_young_again(
    authority: Authority, issuers: Issuers
) -> None:
    token, now_s = authority.token(), time.time()
    await issuers.claims(token, AUDIENCE, now_s)
    assert issuers.known(token, AUDIENCE, now_s - 1) is None


async def test_a_refusal_is_no_verdict_that_is_kept(authority: Authority, issuers: Issuers) -> None:
    token, now_s = authority.token(nbf=time.time() + 90), time.time()
    await refused(issuers, token, "not good yet", now_s)
    assert await name_of(issuers, token, now_s + 30) == "alice"


async def test_a_verdict_is_void_once_its_key_is_known_to_be_gone(
    authority: Authority, issuers: Issuers, clock: Clock
) -> None:
    token, now_s = authority.token(), time.time()
    await issuers.claims(token, AUDIENCE, now_s)
    authority.rotate(keep=False)
    assert issuers.known(token, AUDIENCE, now_s)  # nobody has looked yet
    assert await name_of(issuers, authority.token()) == "alice"  # names the new key, so the old one is missed
    assert issuers.known(token, AUDIENCE, now_s) is None
    await refused(issuers, token, "signature")


async def test_a_verdict_is_void_ten_minutes_after_its_key_was_published_last(
    authority: Authority, issuers: Issuers, clock: Clock
) -> None:
    token, now_s = authority.token(), time.time()
    await issuers.warm()
    clock.now_s += FRESH_S - 10
    await authority.shut()
    await issuers.claims(token, AUDIENCE, now_s)
    assert issuers.known(token, AUDIENCE, now_s + 9)
    assert issuers.known(token, AUDIENCE, now_s + 10) is None


async def test_no_more_verdicts_are_kept_than_there_is_room_for(
    authority: Authority, issuers: Issuers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VERDICTS", 3)
    now_s = time.time()
    tokens = [authority.token() for _ in range(5)]
    for token in tokens:
        await issuers.claims(token, AUDIENCE, now_s)
    assert [issuers.known(token, AUDIENCE, now_s) is not None for token in tokens] == [False] * 2 + [True] * 3


# ---- a day in the life of an issuer


async def test_keys_are_rotated_under_load_and_nobody_is_refused(
    authority: Authority, issuers: Issuers, clock: Clock
) -> None:
    """I29. Each rotation is half a minute after the one before, by the clock; calls go on all the time."""
    done = asyncio.Event()
    calls = 0

    async def call_again_and_again() -> None:
        nonlocal calls
        while not done.is_set():
            assert await name_of(issuers, authority.token()) == "alice"
            calls += 1
            await asyncio.sleep(0)  # a token whose key is known is judged without waiting for anything

    callers = [asyncio.ensure_future(call_again_and_again()) for _ in range(8)]
    for keep in (True, False, True, False, False):
        seen = calls
        while calls < seen + 40 and not any(caller.done() for caller in callers):
            await asyncio.wait(callers, timeout=0.01)
        clock.now_s += ANEW_EVERY_S
        authority.rotate(keep=keep)
    seen = calls
    while calls < seen + 40 and not any(caller.done() for caller in callers):
        await asyncio.wait(callers, timeout=0.01)
    done.set()
    await asyncio.gather(*callers)
    assert authority.asked["jwks"] <= 7


async def test_a_new_key_without_a_name_is_found_as_well(authority: Authority, issuers: Issuers) -> None:
    assert await name_of(issuers, authority.token(header={"kid": ABSENT})) == "alice"
    authority.rotate(keep=False)
    assert await name_of(issuers, authority.token(header={"kid": ABSENT})) == "alice"


@pytest.mark.parametrize(("shift_s", "good"), [(-59, True), (59, True), (61, False), (-361, False), (86_400, False)])
async def test_a_clock_that_is_wrong_by_a_minute_is_forgiven(
    authority: Authority, issuers: Issuers, shift_s: float, good: bool
) -> None:
    now_s = float(int(time.time()))
    authority.now_s = lambda: now_s + shift_s  # type: ignore[method-assign]  # to the second
    if good:
        assert await name_of(issuers, authority.token(), now_s) == "alice"
    else:
        await refused(issuers, authority.token(), "expired|not good yet", now_s)


async def test_an_outage_is_survived_for_an_hour_and_then_nobody_gets_in_until_it_ends(
    authority: Authority, issuers: Issuers, clock: Clock
) -> None:
    assert await name_of(issuers, authority.token()) == "alice"
    await authority.shut()
    clock.now_s += FRESH_S
    assert await name_of(issuers, authority.token()) == "alice"
    clock.now_s += USABLE_S - FRESH_S - 1
    token, now_s = authority.token(), time.time()
    assert await name_of(issuers, token, now_s) == "alice"
    clock.now_s += 1
    with pytest.raises(Unavailable):
        await name_of(issuers, authority.token())
    assert issuers.known(token, AUDIENCE, now_s + 1) is None
    await authority.open()
    clock.now_s += 5
    assert await name_of(issuers, authority.token()) == "alice"


async def test_warming_up_fetches_the_keys_and_leaves_room_for_a_rotation(
    authority: Authority, issuers: Issuers
) -> None:
    await issuers.warm()
    assert authority.asked["jwks"] == 1
    assert await name_of(issuers, authority.token()) == "alice"
    assert authority.asked["jwks"] == 1
    authority.rotate()
    assert await name_of(issuers, authority.token()) == "alice"


async def test_warming_up_while_the_issuer_is_down_fails_nobody(authority: Authority, issuers: Issuers) -> None:
    await authority.shut()
    await issuers.warm()


# ---- opaque tokens


async def test_an_opaque_token_goes_to_the_issuers_that_can_be_asked(authority: Authority, clock: Clock) -> None:
    async with (
        Authority(algs=["ES256"]) as other,
        trusting(
            clock, none=IssuerOptions(issuer="https://a.test"), one=asking(authority), two=asking(other)
        ) as issuers,
    ):
        now_s = time.time()
        token = other.opaque_token(sub="bob")
        claims = await issuers.claims(token, AUDIENCE, now_s)
        assert (claims.issuer, claims.name) == ("two", "bob")
        assert issuers.known(token, AUDIENCE, now_s + 59) is claims
        assert issuers.known(token, AUDIENCE, now_s + 60) is None
        await refused(issuers, "unknown", "unknown to its issuer")


async def test_an_opaque_token_is_refused_where_nobody_can_be_asked(authority: Authority, issuers: Issuers) -> None:
    await refused(issuers, authority.opaque_token(), "not one that is taken here")


async def test_when_one_of_the_issuers_is_down_a_token_that_the_others_do_not_know_may_still_be_good(
    authority: Authority, clock: Clock
) -> None:
    async with (
        Authority(algs=["ES256"]) as other,
        trusting(clock, one=asking(authority), two=asking(other)) as issuers,
    ):
        await authority.was_asked("introspect", 0)
        await issuers.claims(other.opaque_token(), AUDIENCE, time.time())
        await authority.shut()
        with pytest.raises(Unavailable):
            await name_of(issuers, "unknown")
        assert await name_of(issuers, other.opaque_token(sub="bob")) == "bob"


async def test_a_jwt_is_never_sent_to_be_looked_up(authority: Authority, clock: Clock) -> None:
    async with trusting(clock, corp=asking(authority)) as issuers:
        await refused(issuers, authority.token(signed_with=SigningKey("ES256")), "signature")
        assert await name_of(issuers, authority.token()) == "alice"
    assert authority.asked["introspect"] == 0


# ---- configuration


@pytest.mark.parametrize(
    "url",
    [
        *("http://auth.example.com", "auth.example.com", "https://user@auth.example.com", "https://auth.example.com#x"),
        *(
            "https://auth.example.com?tenant=1",
            "",
            "file:///x",
            "https://2130706433",
            "https://metadata.google.internal",
        ),
    ],
)
def test_an_issuer_that_could_never_be_asked_is_refused_when_we_start(url: str) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be used") as caught:
        Issuers({"corp": IssuerOptions(issuer=url)})
    assert caught.value.field == "auth.issuers.corp.issuer"


def test_other_urls_of_an_issuer_are_looked_at_too() -> None:
    good = "https://auth.example.com"
    with pytest.raises(ConfigInvalid, match="jwks_url"):
        Issuers({"corp": IssuerOptions(issuer=good, jwks_url="http://auth.example.com/jwks")})
    endpoint = IntrospectionOptions(url="http://auth.example.com/introspect", client_id="a", client_secret="b")
    with pytest.raises(ConfigInvalid, match=r"introspection\.url"):
        Issuers({"corp": IssuerOptions(issuer=good, introspection=endpoint)})


def test_one_issuer_under_two_names_is_refused() -> None:
    options = IssuerOptions(issuer="https://auth.example.com")
    with pytest.raises(ConfigInvalid, match="same server"):
        Issuers({"one": options, "two": options})


@pytest.mark.parametrize(
    "url", ["https://auth.example.com/", "https://10.0.0.1:8443/realms/x", "http://localhost:8080/realms/x"]
)
def test_private_and_local_issuers_are_the_operators_to_choose(url: str) -> None:
    Issuers({"corp": IssuerOptions(issuer=url)})


async def test_nothing_of_a_token_is_in_the_log_or_in_what_is_said(
    authority: Authority, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    async with trusting(clock, corp=asking(authority)) as issuers:
        tokens = [
            authority.token(),
            authority.token(aud="x"),
            authority.opaque_token(),
            authority.opaque_token(aud="x"),
        ]
        said = []
        for trouble in (False, True):
            authority.trouble = "500" if trouble else ""
            for token in (*tokens, authority.token(header={"kid": "new"}), "opaque"):
                try:
                    await issuers.claims(token, AUDIENCE, time.time() + 120 * trouble)
                except (Unauthenticated, Unavailable) as error:
                    said.append(error.message + json.dumps(error.details))
    for token in tokens:
        for part in token.split("."):
            assert part not in caplog.text + "".join(said)
