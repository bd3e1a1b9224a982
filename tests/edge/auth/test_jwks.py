"""The keys of an issuer through a day: fresh, rotated, stale, gone, and asked for by people who make names up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from authority import Authority, SigningKey, Trouble

from bascule import egress
from bascule.edge.auth import jwks
from bascule.edge.auth.jwks import ANEW_EVERY_S, FRESH_S, RETRY_S, USABLE_S, KeySource
from bascule.egress import FetchFailed
from bascule.errors import Unavailable

ALG: Final = "ES256"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    async with Authority(algs=[ALG]) as authority:
        yield authority


@pytest.fixture
async def source(authority: Authority, clock: Clock) -> AsyncIterator[KeySource]:
    source = source_of(authority, clock)
    yield source
    await source.close()


def source_of(authority: Authority, clock: Clock) -> KeySource:
    async def fetch() -> bytes:
        return await egress.get(f"{authority.issuer}/jwks", origin_host="127.0.0.1", limit_bytes=jwks.MAX_BYTES)

    return KeySource("corp", fetch, clock)


async def known(source: KeySource, key: SigningKey) -> bool:
    return [found.kid for found in await source.fitting(key.kid, key.alg)] == [key.kid]


# ---- fresh


async def test_keys_are_fetched_once_however_many_ask(authority: Authority, source: KeySource) -> None:
    found = await asyncio.gather(*(known(source, authority.keys[0]) for _ in range(50)))
    assert all(found)
    assert authority.asked["jwks"] == 1


async def test_keys_are_kept_while_they_are_fresh(authority: Authority, source: KeySource, clock: Clock) -> None:
    assert await known(source, authority.keys[0])
    clock.now_s += FRESH_S - jwks.AHEAD_S - 1
    assert await known(source, authority.keys[0])
    assert authority.asked["jwks"] == 1


async def test_keys_that_are_fresh_for_a_little_longer_are_fetched_while_they_still_serve(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    assert await known(source, authority.keys[0])
    clock.now_s += FRESH_S - 1
    authority.trouble = "hang"
    assert await known(source, authority.keys[0])  # nobody waits
    await authority.was_asked("jwks", 2)


async def test_a_key_that_was_taken_back_is_good_for_no_longer_than_ten_minutes(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    old = authority.keys[0]
    assert await known(source, old)
    authority.rotate(keep=False)
    clock.now_s += FRESH_S
    assert not await known(source, old)
    assert source.revision == 1


async def test_what_was_decided_stays_decided_when_keys_are_only_added(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    assert await known(source, authority.keys[0])
    authority.rotate(keep=True)
    clock.now_s += FRESH_S
    assert await known(source, authority.keys[0])
    assert source.revision == 0


async def test_an_issuer_that_publishes_no_key_any_more_is_believed(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    old = authority.keys[0]
    assert await known(source, old)
    authority.keys = []
    clock.now_s += FRESH_S
    assert not await known(source, old)


# ---- unknown names


async def test_a_new_key_is_known_as_soon_as_a_token_names_it(authority: Authority, source: KeySource) -> None:
    assert await known(source, authority.keys[0])
    new = authority.rotate()
    assert all(await asyncio.gather(*(known(source, new) for _ in range(50))))
    assert authority.asked["jwks"] == 2


async def test_names_that_are_made_up_cost_one_fetch_in_half_a_minute(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    assert await known(source, authority.keys[0])
    for number in range(20):
        assert await source.fitting(f"made up {number}", ALG) == ()
        clock.now_s += 1
    assert authority.asked["jwks"] == 2
    clock.now_s += ANEW_EVERY_S
    assert await source.fitting("made up", ALG) == ()
    assert authority.asked["jwks"] == 3


async def test_a_known_key_of_another_kind_is_no_reason_to_fetch(authority: Authority, source: KeySource) -> None:
    assert await known(source, authority.keys[0])
    assert await source.fitting(authority.keys[0].kid, "RS256") == ()
    assert authority.asked["jwks"] == 1


async def test_a_client_that_goes_away_does_not_cancel_what_others_wait_for(
    authority: Authority, source: KeySource
) -> None:
    authority.trouble = "hang"
    impatient = asyncio.ensure_future(source.fitting(authority.keys[0].kid, ALG))
    patient = asyncio.ensure_future(source.fitting(authority.keys[0].kid, ALG))
    await authority.was_asked("jwks", 1)
    impatient.cancel()
    authority.trouble = ""
    await authority.shut()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    with pytest.raises(Unavailable):
        await patient


# ---- outage


TROUBLES: Final[list[Trouble]] = ["500", "huge", "redirect", "html", "gzip"]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_while_the_issuer_is_out_of_order_its_keys_serve_for_an_hour_and_then_nobody_is_let_in(
    authority: Authority, source: KeySource, clock: Clock, trouble: Trouble
) -> None:
    key = authority.keys[0]
    assert await known(source, key)
    authority.trouble = trouble
    clock.now_s += FRESH_S
    assert await known(source, key)
    clock.now_s += USABLE_S - FRESH_S - 1
    assert await known(source, key)
    clock.now_s += 1
    with pytest.raises(Unavailable) as caught:
        await known(source, key)
    assert caught.value.retry_after_s
    assert caught.value.retryable
    assert source.revision == 1  # what was decided before is void as well
    authority.trouble = ""
    clock.now_s += RETRY_S
    assert await known(source, key)


async def test_a_server_that_refuses_connections_is_an_outage_too(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    key = authority.keys[0]
    assert await known(source, key)
    await authority.shut()
    clock.now_s += FRESH_S
    assert await known(source, key)
    clock.now_s += USABLE_S
    with pytest.raises(Unavailable):
        await known(source, key)
    await authority.open()
    clock.now_s += RETRY_S
    assert await known(source, key)


@pytest.mark.parametrize("trouble", ["hang", "drip"])
async def test_a_server_that_does_not_come_to_an_end_holds_nobody_for_long(
    authority: Authority, source: KeySource, clock: Clock, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = authority.keys[0]
    assert await known(source, key)
    monkeypatch.setattr(jwks, "FETCH_WITHIN_S", 0.1)
    authority.trouble = trouble
    clock.now_s += FRESH_S
    async with asyncio.timeout(2):
        assert await known(source, key)


async def test_a_server_that_was_down_a_moment_ago_is_not_waited_for(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    key = authority.keys[0]
    assert await known(source, key)
    authority.trouble = "500"
    clock.now_s += FRESH_S
    assert await known(source, key)
    asked = authority.asked["jwks"]
    assert await known(source, key)
    assert authority.asked["jwks"] == asked  # not even asked, so soon
    clock.now_s += RETRY_S
    authority.trouble = "hang"
    async with asyncio.timeout(2):
        assert await known(source, key)
    await authority.was_asked("jwks", asked + 1)


async def test_without_any_keys_yet_nobody_can_be_judged_and_the_next_try_comes_soon(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    authority.trouble = "500"
    for _ in range(5):
        with pytest.raises(Unavailable):
            await known(source, authority.keys[0])
    assert authority.asked["jwks"] == 1
    authority.trouble = ""
    clock.now_s += RETRY_S
    assert await known(source, authority.keys[0])


async def test_a_new_name_during_an_outage_may_be_good_so_it_is_not_called_wrong(
    authority: Authority, source: KeySource
) -> None:
    assert await known(source, authority.keys[0])
    new = authority.rotate()
    authority.trouble = "500"
    for _ in range(2):
        with pytest.raises(Unavailable):
            await known(source, new)


async def test_too_many_keys_are_a_failed_fetch(authority: Authority, source: KeySource) -> None:
    authority.extra_keys = [authority.keys[0].published(kid=str(number)) for number in range(64)]
    with pytest.raises(Unavailable):
        await known(source, authority.keys[0])
    authority.extra_keys.pop()


# ---- verdicts


async def test_a_verdict_is_kept_for_a_minute_but_never_past_the_freshness_of_the_keys(
    authority: Authority, source: KeySource, clock: Clock
) -> None:
    assert source.verdict_s == 0
    assert await known(source, authority.keys[0])
    assert source.verdict_s == 60
    clock.now_s += FRESH_S - 10
    assert source.verdict_s == 10
    clock.now_s += USABLE_S
    assert source.verdict_s == 0


async def test_a_source_is_closed_in_the_middle_of_a_fetch(authority: Authority, clock: Clock) -> None:
    source = source_of(authority, clock)
    authority.trouble = "hang"
    waiting = asyncio.ensure_future(source.fitting("a", ALG))
    await authority.was_asked("jwks", 1)
    await source.close()
    with pytest.raises(Unavailable):
        await waiting


async def test_a_fetch_that_fails_says_why_in_the_log(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    async def fetch() -> bytes:
        raise FetchFailed("the answer is HTTP 418")

    source = KeySource("corp", fetch, clock)
    with pytest.raises(Unavailable) as caught:
        await source.fitting("a", ALG)
    assert "418" in caplog.text
    assert "corp" in caplog.text
    assert "418" not in caught.value.message
