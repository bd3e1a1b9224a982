"""A stage that makes a call wait has a span for that, and none for what comes after it."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from bascule.call import Call, Forward, Result
from bascule.errors import Overloaded
from bascule.observe.traces import CallSpan, Span, Tracing
from bascule.pipeline.chain import compose
from bascule.pipeline.trace import Begin, Waits, traced
from pipeline.calls import ANSWER, Server, call

LONG_S = 0.005


class Told:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def __call__(self, spans: Sequence[Span]) -> None:
        self.spans += spans

    def close(self) -> None: ...


class Waiting:
    """A stage that waits for *seconds*, then lets the call go, refuses it, or answers itself."""

    def __init__(self, seconds: float, then: str = "go") -> None:
        self.seconds = seconds
        self.then = then

    async def __call__(self, call: Call, forward: Forward) -> Result:
        time.sleep(self.seconds)  # noqa: ASYNC251 - the clock has to move, and nothing else runs
        if self.then == "refuse":
            raise Overloaded("no place")
        return ANSWER if self.then == "answer" else await forward(call)


async def spans_of(stage: Waiting, *, sampled: bool = True, server_s: float = 0.0) -> list[Span]:
    hears = Told()
    tracing = Tracing(hears, sample=1.0)

    async def server(call: Call) -> Result:
        time.sleep(server_s)  # noqa: ASYNC251 - the same
        return ANSWER

    made = call()
    made.trip.span = CallSpan("ab" * 16, None, sampled=sampled)
    try:
        assert await compose([Waits(stage, "queue", tracing)], server)(made) is ANSWER
    except Overloaded:
        assert stage.then == "refuse"
    tracing.close()
    return hears.spans


async def test_a_wait_is_a_span_up_to_the_moment_when_the_call_may_go() -> None:
    (span,) = await spans_of(Waiting(LONG_S), server_s=10 * LONG_S)
    assert (span.name, span.kind, span.error) == ("queue", "internal", "")
    assert LONG_S <= (span.ended_ns - span.began_ns) / 1e9 < 10 * LONG_S


@pytest.mark.parametrize(("then", "error"), [("refuse", "overloaded"), ("answer", "")])
async def test_a_call_that_goes_no_further_has_waited_too(then: str, error: str) -> None:
    (span,) = await spans_of(Waiting(LONG_S, then))
    assert span.error == error


async def test_a_call_that_did_not_wait_has_no_span_for_it() -> None:
    assert await spans_of(Waiting(0.0), server_s=LONG_S) == []


async def test_nor_has_one_that_nobody_keeps() -> None:
    assert await spans_of(Waiting(LONG_S), sampled=False) == []


async def test_a_call_that_its_client_gave_up_while_it_waited_says_so() -> None:
    hears = Told()
    tracing = Tracing(hears, sample=1.0)
    held = asyncio.Event()

    async def holding(call: Call, forward: Forward) -> Result:
        time.sleep(LONG_S)  # noqa: ASYNC251 - the same
        await held.wait()
        return ANSWER

    made = call()
    made.trip.span = CallSpan("ab" * 16, None, sampled=True)
    task = asyncio.ensure_future(compose([Waits(holding, "confirm", tracing)], Server())(made))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    tracing.close()
    assert [span.error for span in hears.spans] == ["cancelled"]


async def test_a_call_has_its_span_before_anything_happens_to_it() -> None:
    tracing = Tracing(Told(), sample=1.0)
    seen: list[object] = []

    async def look(call: Call, forward: Forward) -> Result:
        seen.append(call.trip.span)
        return await forward(call)

    await compose([Begin(tracing), look], Server())(replace(call(), trace_id="ab" * 16))
    assert isinstance(seen[0], CallSpan)
    tracing.close()


def test_stages_that_do_not_wait_stay_as_they_are() -> None:
    stage = Waiting(0)
    assert traced([stage], Tracing(Told(), sample=1.0)) == [stage]
