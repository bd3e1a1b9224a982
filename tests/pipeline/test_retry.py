"""A call that failed is made again where that does no harm, within its deadline, and not for everybody."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bascule.call import Call, Forward, Result, Trip
from bascule.contract.model import Contract
from bascule.errors import (
    BasculeError,
    CircuitOpen,
    InvalidParams,
    RateLimited,
    TimedOut,
    Transient,
    Unavailable,
    UpstreamBrokeProtocol,
)
from bascule.pipeline.breaker import Breaker
from bascule.pipeline.chain import compose
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.retry import Retry
from bascule.policy.breaker import Rules
from bascule.upstream.base import reach
from bascule.upstream.exchange import NotMcp
from pipeline.calls import ANSWER
from pipeline.somewhere import READ, UPSERT, WRITE, Somewhere, call_to, health_of, until

TOLERANT = Rules(in_a_row=1000, least=1000)
KEY = "0123456789abcdef"


def chain(upstream: Somewhere, contract: Contract, *, deduplicates: bool = False, chance: float = 0.0) -> Forward:
    health, _ = health_of(upstream, rules=TOLERANT)
    retry = Retry(contract, health, deduplicates=deduplicates, chance=lambda: chance)
    return compose([retry, Breaker(contract, health)], reach)


def refused() -> BasculeError:
    return Unavailable("connection refused").at("crm")


def broke() -> BasculeError:
    return UpstreamBrokeProtocol("the process died").at("crm")


def http(status: int) -> BasculeError:
    return NotMcp(f"HTTP {status}", status).at("crm")


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (refused, 3, 3),
        (lambda: RateLimited("HTTP 429", 0.0).at("crm"), 3, 3),
        (broke, 1, 3),
        (lambda: http(503), 1, 3),
        (lambda: TimedOut("no handshake").at("crm"), 1, 3),
        (lambda: http(404), 1, 1),
        (lambda: http(401), 1, 1),
        (lambda: InvalidParams("no"), 1, 1),
        (lambda: refused().half_way(), 1, 3),
        (lambda: TimedOut("the client did not answer"), 1, 1),
    ],
)
async def test_how_often_a_call_is_sent(error: Any, write: int, read: int) -> None:
    for contract, sent in ((WRITE, write), (READ, read), (UPSERT, read)):
        upstream = Somewhere("crm", error(), error(), error(), error(), error())
        with pytest.raises(BasculeError):
            await chain(upstream, contract)(call_to(upstream, contract))
        assert len(upstream.calls) == sent, contract.id


async def test_it_ends_with_the_first_answer_and_an_error_of_the_tool_is_one() -> None:
    upstream = Somewhere("crm", refused(), ANSWER)
    assert await chain(upstream, WRITE)(call_to(upstream)) == ANSWER
    failing = Result(Raw(b'{"isError":true,"content":[]}'))
    for answer in (failing, Result(Raw(b'{"code":-32000,"message":"no"}'), refused=True)):
        upstream = Somewhere("crm", answer)
        assert await chain(upstream, READ)(call_to(upstream, READ)) == answer
        assert len(upstream.calls) == 1


@pytest.mark.parametrize(("key", "deduplicates", "sent"), [("", True, 1), (KEY, False, 1), (KEY, True, 3)])
async def test_a_key_helps_where_the_server_itself_tells_calls_apart(key: str, deduplicates: bool, sent: int) -> None:
    upstream = Somewhere("crm", broke(), broke(), broke())
    with pytest.raises(UpstreamBrokeProtocol):
        await chain(upstream, WRITE, deduplicates=deduplicates)(call_to(upstream, key=key))
    assert len(upstream.calls) == sent


async def test_what_was_sent_once_is_not_said_to_be_unsent_because_the_last_attempt_was() -> None:
    upstream = Somewhere("crm", broke(), refused(), refused())
    with pytest.raises(Unavailable) as ended:
        await chain(upstream, READ)(call_to(upstream, READ))
    assert len(upstream.calls) == 3
    assert not ended.value.unsent
    upstream = Somewhere("crm", refused(), refused(), refused())
    with pytest.raises(Unavailable) as ended:
        await chain(upstream, READ)(call_to(upstream, READ))
    assert ended.value.unsent


async def test_a_wait_that_cannot_end_in_time_does_not_begin() -> None:
    loop = asyncio.get_running_loop()
    for asked_s, left_s, sent in ((5.0, 1.0, 1), (0.0, 5.0, 2), (0.05, 5.0, 2), (60.0, None, 1)):
        upstream = Somewhere("crm", RateLimited("HTTP 429", asked_s).at("crm"), ANSWER)
        trip = Trip()
        trip.due = None if left_s is None else loop.time() + left_s
        began = loop.time()
        sending = chain(upstream, WRITE)(call_to(upstream, trip=trip))
        if sent == 1:
            with pytest.raises(RateLimited) as ended:
                await sending
            assert ended.value.retry_after_s == asked_s
            assert loop.time() - began < 0.5
        else:
            assert await sending == ANSWER
            assert loop.time() - began >= asked_s
        assert len(upstream.calls) == sent


async def test_who_gives_up_while_it_waits_is_gone_at_once_and_gives_the_budget_back() -> None:
    upstream = Somewhere("crm", RateLimited("HTTP 429", 8.0).at("crm"), ANSWER)
    health, server = health_of(upstream, rules=TOLERANT)
    task = asyncio.ensure_future(compose([Retry(WRITE, health)], reach)(call_to(upstream)))
    await until(lambda: server.retries.retrying == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (server.retries.retrying, server.retries.active, len(upstream.calls)) == (0, 0, 1)


async def test_when_the_circuit_opens_meanwhile_the_first_error_is_told_with_the_time_to_come_back() -> None:
    async def opens(call: Call) -> Result:
        if call.trip.attempts:
            error = CircuitOpen("left alone").at("crm")
            error.retry_after_s = 12.0
            raise error
        call.trip.attempts += 1
        raise refused()

    upstream = Somewhere("crm")
    health, _ = health_of(upstream)
    with pytest.raises(Unavailable) as ended:
        await compose([Retry(WRITE, health, chance=lambda: 0.0)], opens)(call_to(upstream))
    assert (ended.value.kind, ended.value.retry_after_s) == ("unavailable", 12.0)


async def test_a_person_is_not_asked_the_same_twice() -> None:
    class Person:
        asked = 0

        def notify(self, method: str, params: Any) -> None: ...

        async def ask(self, method: str, params: Any) -> Result:
            self.asked += 1
            return ANSWER

    async def asks_and_dies(call: Call) -> Result:
        await call.client.ask("elicitation/create", {})
        raise broke()

    upstream, person = Somewhere("crm"), Person()
    health, _ = health_of(upstream, rules=TOLERANT)
    send = compose([Deadline(dict), Retry(READ, health, chance=lambda: 0.0)], asks_and_dies)
    with pytest.raises(UpstreamBrokeProtocol):
        await send(call_to(upstream, READ, client=person))
    assert person.asked == 1


async def test_a_later_round_is_not_repeated_because_its_state_works_once() -> None:
    upstream = Somewhere("crm", refused(), ANSWER)
    later = msgspec.structs.replace(call_to(upstream, READ), params={"requestState": Raw(b'"x"')})
    with pytest.raises(Unavailable):
        await chain(upstream, READ)(later)
    assert len(upstream.calls) == 1


async def test_a_server_that_fails_for_everybody_gets_a_tenth_more_calls_and_not_three_times_as_many() -> None:
    upstream = Somewhere("crm", *(refused() for _ in range(2000)))
    forward = chain(upstream, READ)
    for _ in range(500):
        with pytest.raises(Transient):
            await forward(call_to(upstream, READ))
    assert 500 + 50 <= len(upstream.calls) <= 500 + 50 + 11
