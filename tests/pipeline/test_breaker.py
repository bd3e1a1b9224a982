"""A server that fails too often is left alone; what is no failure of its own is not held against it."""

import asyncio
from typing import Any

import pytest

from bascule import errors
from bascule.call import Call, Forward, Result, Trip
from bascule.contract.model import Contract
from bascule.errors import (
    BasculeError,
    CircuitOpen,
    Draining,
    InvalidParams,
    Overloaded,
    RateLimited,
    TimedOut,
    Unavailable,
    UpstreamBrokeProtocol,
)
from bascule.pipeline.breaker import Breaker, Look
from bascule.pipeline.chain import compose
from bascule.pipeline.health import Health, Outcome, ServerHealth, outcome_of
from bascule.policy.breaker import Rules
from bascule.upstream.base import WrongEra, reach
from bascule.upstream.exchange import Broken, NotMcp
from bascule.upstream.linked import NoHandshake
from bascule.upstream.untried import Untried
from bascule.wire.versions import Era
from pipeline.calls import ANSWER
from pipeline.somewhere import READ, WRITE, Somewhere, call_to, health_of, until


def down() -> Unavailable:
    error = Unavailable("connection refused")
    error.source = "crm"
    return error


def chain(health: Health, contract: Contract = WRITE) -> Forward:
    return compose([Look(contract, health), Breaker(contract, health)], reach)


async def fail(forward: Forward, upstream: Somewhere, times: int, contract: Contract = WRITE) -> None:
    for _ in range(times):
        upstream.outcomes = [down()]
        with pytest.raises(Unavailable):
            await forward(call_to(upstream, contract))


def state(server: ServerHealth) -> str:
    return str(server.report()["state"])


# ---- what counts


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("refused"), Outcome.FAILED),
        (TimedOut("no handshake"), Outcome.FAILED),
        (UpstreamBrokeProtocol("the process died"), Outcome.FAILED),
        (Broken("reset"), Outcome.FAILED),
        (NotMcp("HTTP 502", 502), Outcome.FAILED),
        (NotMcp("HTML", 200), Outcome.FAILED),
        (NotMcp("HTTP 403", 403), Outcome.ANSWERED),
        (NoHandshake("refused", status=200), Outcome.ANSWERED),
        (RateLimited("HTTP 429"), Outcome.ANSWERED),
        (UpstreamBrokeProtocol("larger than", too_large=1), Outcome.ANSWERED),
        (Untried("pauses after a crash"), Outcome.NOTHING),
        (WrongEra("speaks the other"), Outcome.NOTHING),
        (Overloaded("its pipe is full"), Outcome.NOTHING),
        (Draining("ends"), Outcome.NOTHING),
        (InvalidParams("the state is not ours"), Outcome.NOTHING),
    ],
)
def test_what_an_error_says_of_its_server(error: BasculeError, outcome: Outcome) -> None:
    assert outcome_of(error.at("crm"), "crm") is outcome
    # The same, met elsewhere: a client that did not answer, another server, a stage of our own.
    assert outcome_of(error.at("bascule"), "crm") is Outcome.NOTHING


def test_only_three_kinds_of_error_can_be_a_failure() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, BasculeError)]
    failing = {kind for kind in kinds if hasattr(kind, "kind") and outcome_of(made(kind), "crm") is Outcome.FAILED}
    assert failing == {Unavailable, TimedOut, UpstreamBrokeProtocol}


def made(kind: type[BasculeError]) -> BasculeError:
    more: dict[str, Any] = {"requested": "x", "supported": []} if kind is errors.UnsupportedVersion else {}
    return kind("x", **more).at("crm")


# ---- open


async def test_after_five_failures_calls_are_refused_at_once_and_told_when_to_come_back() -> None:
    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules())
    forward = chain(health)
    await fail(forward, upstream, 5)
    assert state(server) == "open"
    with pytest.raises(CircuitOpen, match="connection refused") as refused:
        await forward(call_to(upstream))
    assert refused.value.source == "crm"
    assert refused.value.unsent
    assert 29 < (refused.value.retry_after_s or 0) <= 30
    assert len(upstream.calls) == 5
    health.stop()


async def test_a_tool_that_fails_is_a_server_that_works() -> None:
    upstream = Somewhere("crm", Result(ANSWER.value, refused=True))
    health, server = health_of(upstream)
    for _ in range(30):
        await chain(health)(call_to(upstream))
    assert state(server) == "closed"


async def test_one_death_that_ends_many_calls_is_one_failure() -> None:
    upstream = Somewhere("crm", UpstreamBrokeProtocol("the process died").at("crm"))
    health, server = health_of(upstream)
    upstream.open.clear()
    calls = [asyncio.ensure_future(chain(health)(call_to(upstream))) for _ in range(20)]
    await until(lambda: len(upstream.calls) == 20)
    upstream.open.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, UpstreamBrokeProtocol) for each in ended)
    assert (state(server), server.report()["failures_in_a_row"]) == ("closed", 1)


async def test_a_client_that_leaves_is_no_failure_and_a_server_that_is_too_slow_is_one() -> None:
    upstream = Somewhere("crm")
    upstream.open.clear()
    health, server = health_of(upstream)
    for overdue in (False, True):
        for _ in range(3):
            trip = Trip()
            trip.overdue = overdue
            task = asyncio.ensure_future(chain(health)(call_to(upstream, trip=trip)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert server.report()["failures_in_a_row"] == 3 * overdue


async def test_refusals_of_our_own_never_open_it() -> None:
    upstream = Somewhere("crm", Overloaded("full").at("crm"))
    health, server = health_of(upstream)
    for _ in range(30):
        with pytest.raises(Overloaded):
            await chain(health)(call_to(upstream))
    assert state(server) == "closed"


async def test_a_share_of_failures_opens_it_although_answers_come_in_between() -> None:
    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules())
    forward = chain(health)
    for _ in range(10):
        await fail(forward, upstream, 1)
        upstream.outcomes = [ANSWER]
        if state(server) == "closed":
            await forward(call_to(upstream))
    assert state(server) == "open"
    health.stop()


async def test_many_answers_before_keep_it_closed() -> None:
    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules(in_a_row=100))
    forward = chain(health)
    for _ in range(60):
        await forward(call_to(upstream))
    await fail(forward, upstream, 50)
    assert server.report()["window"] == {"calls": 110, "failures": 50}
    assert state(server) == "closed"
    await fail(forward, upstream, 10)
    assert state(server) == "open"
    health.stop()


# ---- half open


@pytest.mark.parametrize(("era", "method"), [(Era.MODERN, "server/discover"), (Era.LEGACY, "ping")])
async def test_the_gateway_itself_asks_whether_it_is_back_and_no_write_does(era: Era, method: str) -> None:
    upstream = Somewhere("crm", era=era)
    health, server = health_of(upstream)
    forward = chain(health)
    await fail(forward, upstream, 5)
    probes = len(upstream.calls)
    with pytest.raises(CircuitOpen):
        await forward(call_to(upstream))
    await until(lambda: server.opened >= 3)  # it was asked, and was not back
    with pytest.raises(CircuitOpen):
        await forward(call_to(upstream))
    upstream.outcomes = [ANSWER]
    await until(lambda: state(server) == "closed")
    assert set(upstream.methods[probes:]) == {method}
    assert {each.caller.name for each in upstream.calls[probes:]} == {"bascule"}
    assert upstream.forgotten == (len(upstream.calls) - probes if era is Era.LEGACY else 0)
    assert await forward(call_to(upstream)) == ANSWER


async def test_a_call_that_only_reads_may_be_the_probe_one_at_a_time() -> None:
    now_s = 0.0
    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules(), clock=lambda: now_s)
    write, read = chain(health), chain(health, READ)
    await fail(write, upstream, 5)
    server.stop()  # so that no probe is sent but these
    now_s = 40.0
    with pytest.raises(CircuitOpen):
        await write(call_to(upstream))
    upstream.outcomes = [ANSWER]
    upstream.open.clear()
    first = asyncio.ensure_future(read(call_to(upstream, READ)))
    await until(lambda: len(upstream.calls) == 6)
    for forward, contract in ((read, READ), (write, WRITE)):
        with pytest.raises(CircuitOpen):
            await forward(call_to(upstream, contract))
    upstream.open.set()
    assert await first == ANSWER
    assert state(server) == "half_open"
    with pytest.raises(CircuitOpen):
        await write(call_to(upstream))
    assert await read(call_to(upstream, READ)) == ANSWER
    assert state(server) == "closed"
    assert await write(call_to(upstream)) == ANSWER
    health.stop()


async def test_a_probe_that_is_given_up_makes_room_for_the_next() -> None:
    now_s = 0.0
    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules(), clock=lambda: now_s)
    await fail(chain(health), upstream, 5)
    server.stop()
    now_s = 40.0
    upstream.outcomes = [ANSWER]
    upstream.open.clear()
    probe = asyncio.ensure_future(chain(health, READ)(call_to(upstream, READ)))
    await until(lambda: len(upstream.calls) == 6)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    upstream.open.set()
    assert state(server) == "half_open"
    assert await chain(health, READ)(call_to(upstream, READ)) == ANSWER
    health.stop()


async def test_a_late_answer_of_before_does_not_close_it() -> None:
    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules())
    upstream.open.clear()
    early = asyncio.ensure_future(chain(health)(call_to(upstream)))
    await until(lambda: len(upstream.calls) == 1)
    epoch = server.enter(harmless=False)
    for _ in range(5):
        server.leave(epoch, Outcome.FAILED)
    upstream.open.set()
    assert await early == ANSWER
    assert state(server) == "open"
    health.stop()


# ---- operators and configurations


async def test_an_operator_cuts_a_server_off_and_lets_it_be_again() -> None:
    upstream = Somewhere("crm")
    health, server = health_of(upstream)
    server.hold("open")
    with pytest.raises(CircuitOpen, match="operator") as refused:
        await chain(health, READ)(call_to(upstream, READ))
    assert refused.value.retry_after_s is None
    assert state(server) == "held_open"
    server.hold("closed")
    await fail(chain(health), upstream, 50)
    assert state(server) == "held_closed"
    server.hold(None)
    await fail(chain(health), upstream, 5)
    assert state(server) == "open"
    health.stop()


async def test_a_server_with_new_options_begins_anew_and_one_with_the_same_does_not() -> None:
    upstream, other = Somewhere("crm"), Somewhere("mail")
    health, server = health_of(upstream, other, rules=Rules())
    await fail(chain(health), upstream, 5)
    health.adopt({"crm": upstream, "mail": Somewhere("mail")})
    assert health.of(upstream) is server
    assert health.of(other) is None
    assert await chain(health)(call_to(other)) == ANSWER  # a call of a server that is leaving is let go
    again = Somewhere("crm")
    health.adopt({"crm": again})
    assert await chain(health)(call_to(again)) == ANSWER
    assert health.report()["crm"]["state"] == "closed"
    health.stop()


async def test_the_circuit_is_looked_at_before_anything_else_happens_to_the_call() -> None:
    async def asks_a_person(call: Call, forward: Forward) -> Result:
        raise AssertionError("for a call that cannot go")

    upstream = Somewhere("crm")
    health, server = health_of(upstream, rules=Rules())
    await fail(chain(health), upstream, 5)
    with pytest.raises(CircuitOpen):
        await compose([Look(WRITE, health), asks_a_person, Breaker(WRITE, health)], reach)(call_to(upstream))
    assert server.report()["refused"] == 1
    health.stop()
